//! A socket in the file system: made with its permissions, put in the place of a stale one, removed at the end.
//!
//! Whatever else is at its path is left alone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;
use crate::service::Remote;

/// Why there is no socket at a path, as the end of a sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketFileError {
    /// Somebody accepts connections there.
    #[error("address already in use; end the server that is there, or name another path")]
    InUse,
    /// A file, a directory, a symbolic link.
    #[error("what is there is not a socket, and stays as it is; name another path")]
    NotSocket,
    /// The system's addresses are short.
    #[error("the path is too long for a socket; name a shorter one")]
    TooLong,
    /// The directory is not there.
    #[error("there is no such directory; make it first")]
    NoDirectory,
    /// The directory, or what is there, is not ours.
    #[error("permission denied; name a path in a directory of your own")]
    Denied,
    /// Anything else.
    #[error("{0}")]
    System(io::Error),
}

impl From<io::Error> for SocketFileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse,
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NoDirectory,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::System(error),
        }
    }
}

/// The file of a socket that is ours; removed with this value, unless another has taken its place.
#[derive(Debug)]
pub(in crate::net) struct SocketFile {
    path: PathBuf,
    /// Device and inode: what it is, wherever it is.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the socket of this server: {error}; the next one replaces it");
        }
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Listens at `path`, with exactly these permissions on its file, which are never any looser.
pub(super) fn listen(path: &Path, permissions: u32) -> Result<(Socket, SocketFile), SocketFileError> {
    let address = SockAddr::unix(path).map_err(|_| SocketFileError::TooLong)?;
    remove_stale(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    restrict(&socket, permissions)?;
    socket.bind(&address)?;
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(&made) };
    // What the umask has taken away. A link that somebody has put there meanwhile is not followed.
    if made.file_type().is_socket() && made.mode() & 0o777 != permissions {
        fs::set_permissions(path, fs::Permissions::from_mode(permissions))?;
    }
    // Until now everybody was refused, whatever the permissions.
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Linux makes the file of a socket with the permissions that the socket itself has, less the umask: unix(7) does not
/// say so, `unix_bind` does. Elsewhere that it does not listen yet has to be enough.
fn restrict(socket: &Socket, permissions: u32) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    nix::sys::stat::fchmod(socket, nix::sys::stat::Mode::from_bits_truncate(permissions))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (socket, permissions);
    Ok(())
}

/// Makes room at `path`, if what is there is a socket at which nobody accepts.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), SocketFileError> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        return Err(SocketFileError::NotSocket);
    }
    if !is_stale(address)? {
        return Err(SocketFileError::InUse);
    }
    // Another server may have been as fast; its new socket is not the stale one.
    if fs::symlink_metadata(path).is_ok_and(|file| identity(&file) == identity(&there)) {
        log::info!("a server that is gone has left its socket; replaced");
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether nobody accepts connections there. Does not wait where somebody does, but slowly.
fn is_stale(address: &SockAddr) -> io::Result<bool> {
    let knock = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    knock.set_nonblocking(true)?;
    match knock.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        // Nobody can tell what is behind a door that does not open.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(false),
    }
}

/// Who is at the other end: the effective user and group when it connected.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::net) fn peer(socket: &Socket) -> io::Result<Remote> {
    use nix::sys::socket::{getsockopt, sockopt};

    let who = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(Remote::Unix { uid: who.uid(), gid: who.gid() })
}

/// Who is at the other end: the effective user and group when it connected.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in crate::net) fn peer(socket: &Socket) -> io::Result<Remote> {
    let (uid, gid) = nix::unistd::getpeereid(socket)?;
    Ok(Remote::Unix { uid: uid.as_raw(), gid: gid.as_raw() })
}
