//! What a command prints: all of it, or as much as somebody reads.

use std::io::{self, Write as _};

use super::LabError;

/// Prints; whoever has read enough may close the pipe.
///
/// # Errors
///
/// One line on what the system said.
pub(super) fn print(text: &str) -> Result<(), LabError> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(LabError::Failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
