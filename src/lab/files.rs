//! Files that are there whole or not at all: written under a temporary name in their directory, then renamed.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A file that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", crate::escape::escape_short(path.as_os_str().as_encoded_bytes(), 200))]
pub struct WriteError {
    path: PathBuf,
    error: io::Error,
}

/// Writes files. None takes its name, or the place of an older one, before all are written.
///
/// # Errors
///
/// If one of them cannot be made; then none is, unless the directory breaks between two renames.
pub fn write_all(files: &[(PathBuf, Vec<u8>)]) -> Result<(), WriteError> {
    let fault = |path: &Path, error| WriteError { path: path.to_owned(), error };
    let written: Result<Vec<_>, _> = files
        .iter()
        .map(|(path, bytes)| temporary(path, bytes).map_err(|error| fault(path, error)))
        .collect();
    for (file, (path, _)) in written?.into_iter().zip(files) {
        file.persist(path).map_err(|error| fault(path, error.error))?;
    }
    Ok(())
}

fn temporary(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".sayagain-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    Ok(file)
}
