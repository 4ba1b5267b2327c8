//! Output helpers of the commands: printing, and creating directories.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::LabError;
use crate::escape::escape_short;

/// Prints a text. A reader may close the pipe early, which is not an error.
///
/// # Errors
///
/// The system's error, in one line.
pub(super) fn print(text: &str) -> Result<(), LabError> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(LabError::Failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Creates a directory, if it does not exist.
pub(super) fn make_directory(directory: &Path) -> Result<(), LabError> {
    let shown = escape_short(directory.as_os_str().as_encoded_bytes(), 200);
    fs::create_dir_all(directory)
        .map_err(|error| LabError::Failed(format!("cannot make the directory {shown}: {error}")))
}
