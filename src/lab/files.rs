//! Atomic writing of files: each is written under a temporary name in its directory, then renamed.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// The error of a file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", crate::escape::escape_short(path.as_os_str().as_encoded_bytes(), 200))]
pub(crate) struct WriteError {
    path: PathBuf,
    error: io::Error,
}

/// Writes files. No file takes its name, or replaces an older one, before all are written.
///
/// # Errors
///
/// If one of them cannot be written; then none is, unless the directory breaks between two renames.
pub(crate) fn write_all(files: &[(PathBuf, Vec<u8>)]) -> Result<(), WriteError> {
    let fault = |path: &Path, error| WriteError { path: path.to_owned(), error };
    let written: Result<Vec<_>, _> = files
        .iter()
        .map(|(path, bytes)| Written::new(path, bytes).map_err(|error| fault(path, error)))
        .collect();
    for (written, (path, bytes)) in written?.into_iter().zip(files) {
        written.finish(bytes).map_err(|error| fault(path, error))?;
    }
    Ok(())
}

/// A file that is written but does not have its name yet.
enum Written {
    /// A temporary file, and the path that it takes.
    Aside(NamedTempFile, PathBuf),
    /// A pipe or a device at the path: it is written to and never replaced.
    Special(PathBuf),
}

impl Written {
    fn new(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        // The target of a symbolic link takes the new content, and the link stays.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            return Ok(Self::Special(path));
        }
        Ok(Self::Aside(temporary(&path, bytes)?, path))
    }

    fn finish(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Aside(file, path) => file.persist(path).map(drop).map_err(|error| error.error),
            Self::Special(path) => OpenOptions::new().write(true).open(path)?.write_all(bytes),
        }
    }
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
    // Report the error without the temporary name, which would only confuse.
    let made = builder.prefix(".sayagain-").tempfile_in(directory);
    let mut file = made.map_err(|error| io::Error::from(error.kind()))?;
    file.write_all(bytes)?;
    Ok(file)
}
