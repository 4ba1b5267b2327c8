//! What a command prints: all of it, or as much as somebody reads.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::LabError;
use crate::escape::escape_short;

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

/// Makes a directory, if it is not there.
pub(super) fn make_directory(directory: &Path) -> Result<(), LabError> {
    let shown = escape_short(directory.as_os_str().as_encoded_bytes(), 200);
    fs::create_dir_all(directory)
        .map_err(|error| LabError::Failed(format!("cannot make the directory {shown}: {error}")))
}
