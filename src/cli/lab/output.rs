//! What a command leaves behind: text on standard output, and files that are written whole or not at all.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

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

/// Writes a file under another name beside it, then gives it its own, so that nobody ever finds half of it.
///
/// # Errors
///
/// One line on what the system said; then nothing has changed.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LabError> {
    let beside = beside(path);
    let result = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    result.map_err(|error| {
        // Whether it was there at all does not matter.
        let _ = fs::remove_file(&beside);
        let shown = path.display().to_string();
        LabError::Failed(format!("cannot write {}: {error}", escape_short(shown.as_bytes(), 200)))
    })
}

/// A name in the same directory, which another run does not take.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
