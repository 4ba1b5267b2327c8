//! UNIX socket listeners: created with their permissions, replacing a stale socket, removed at the end.
//!
//! Anything else at the path is left alone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;
use crate::service::Remote;

/// Why there is no socket at a path, as the end of a sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketFileError {
    /// A server accepts connections there.
    #[error("address already in use; end the server that is there, or name another path")]
    InUse,
    /// A file, a directory or a symbolic link is there.
    #[error("the file there is not a socket and was not changed; name another path")]
    NotSocket,
    /// The path is longer than a socket address allows.
    #[error("the path is too long for a socket; name a shorter one")]
    TooLong,
    /// The directory does not exist.
    #[error("there is no such directory; make it first")]
    NoDirectory,
    /// The directory, or what is at the path, belongs to another user.
    #[error("permission denied; name a path in a directory of your own")]
    Denied,
    /// Any other error.
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

/// The file of a socket of this process. Removed on drop, unless another file has taken its path.
#[derive(Debug)]
pub(in crate::net) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
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

/// Listens at `path`. The file has exactly these permissions, and never looser ones.
pub(super) fn listen(path: &Path, permissions: u32) -> Result<(Socket, SocketFile), SocketFileError> {
    let address = SockAddr::unix(path).map_err(|_| SocketFileError::TooLong)?;
    remove_stale(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    restrict(&socket, permissions)?;
    socket.bind(&address)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(&permit(path, permissions)?) };
    // Until now connections were refused, whatever the permissions.
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Sets the permissions before the bind. Linux creates the file with those of the socket, less the umask: unix(7) does
/// not say so, `unix_bind` does. Elsewhere it has to suffice that the socket does not listen yet.
fn restrict(socket: &Socket, permissions: u32) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    nix::sys::stat::fchmod(socket, nix::sys::stat::Mode::from_bits_truncate(permissions))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (socket, permissions);
    Ok(())
}

/// Restores the permissions that the umask removed, and returns the file's metadata. The file that is checked
/// is the one that is changed, and no link is followed. So a file put there since the bind stays as it is.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn permit(path: &Path, permissions: u32) -> Result<fs::Metadata, SocketFileError> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

    use nix::libc::{O_NOFOLLOW, O_PATH};

    let handle = fs::OpenOptions::new().read(true).custom_flags(O_PATH | O_NOFOLLOW).open(path)?;
    let made = handle.metadata()?;
    if !made.file_type().is_socket() {
        return Err(SocketFileError::NotSocket);
    }
    if made.mode() & 0o777 != permissions {
        // The only way to change the file behind an O_PATH handle, open(2).
        let file = format!("/proc/self/fd/{}", handle.as_raw_fd());
        fs::set_permissions(file, fs::Permissions::from_mode(permissions))?;
    }
    Ok(made)
}

/// The same for systems without O_PATH: no link is followed.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn permit(path: &Path, permissions: u32) -> Result<fs::Metadata, SocketFileError> {
    use nix::fcntl::AT_FDCWD;
    use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

    let made = fs::symlink_metadata(path)?;
    if !made.file_type().is_socket() {
        return Err(SocketFileError::NotSocket);
    }
    let mode = Mode::from_bits_truncate(permissions.try_into().unwrap_or_default());
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink).map_err(io::Error::from)?;
    Ok(made)
}

/// Removes a stale socket at `path`.
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
    // Another server may have replaced it meanwhile; its new socket is not stale.
    if fs::symlink_metadata(path).is_ok_and(|file| identity(&file) == identity(&there)) {
        log::info!("replaced the socket file of a server that no longer runs");
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether no process accepts connections there. Does not wait for a slow one.
fn is_stale(address: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        // Without permission to connect, nothing is known about the other side.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(false),
    }
}

/// The peer: its effective user and group when it connected.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::net) fn peer(socket: &Socket) -> io::Result<Remote> {
    use nix::sys::socket::{getsockopt, sockopt};

    let peer = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(Remote::Unix { uid: peer.uid(), gid: peer.gid() })
}

/// The peer: its effective user and group when it connected.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in crate::net) fn peer(socket: &Socket) -> io::Result<Remote> {
    let (uid, gid) = nix::unistd::getpeereid(socket)?;
    Ok(Remote::Unix { uid: uid.as_raw(), gid: gid.as_raw() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use tempfile::TempDir;

    use super::*;

    fn directory() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chat");
        (directory, path)
    }

    fn permissions(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_has_the_requested_permissions_whatever_the_umask() {
        for asked in [0o600, 0o660, 0o777, 0o000, 0o606] {
            let (_directory, path) = directory();
            let _listening = listen(&path, asked).unwrap();
            assert_eq!(permissions(&path), asked);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_file_of_a_socket_is_created_with_no_more_than_its_permissions() {
        let (_directory, path) = directory();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        restrict(&socket, 0o200).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert_eq!(permissions(&path) & !0o200, 0);
    }

    /// A file that only its owner may read, in the directory of a socket.
    fn secret(directory: &TempDir) -> PathBuf {
        let path = directory.path().join("secret");
        fs::write(&path, "mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_file_that_replaces_a_new_socket_keeps_its_permissions() {
        let (directory, path) = directory();
        let secret = secret(&directory);
        symlink(&secret, &path).unwrap();
        assert!(permit(&path, 0o660).is_err());
        fs::remove_file(&path).unwrap();
        fs::hard_link(&secret, &path).unwrap();
        assert!(matches!(permit(&path, 0o660), Err(SocketFileError::NotSocket)));
        assert_eq!((permissions(&secret), permissions(&path)), (0o600, 0o600));
    }

    #[test]
    fn a_link_that_replaces_a_socket_at_any_moment_changes_no_other_file() {
        let (directory, path) = directory();
        let secret = secret(&directory);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let is_over = || stop.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let link = path.with_extension("link");
                while !is_over() {
                    let _ = symlink(&secret, &link);
                    let _ = fs::rename(&link, &path);
                    let _ = fs::remove_file(&path);
                }
            });
            for _ in 0..500 {
                let _ = listen(&path, 0o666);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(permissions(&secret), 0o600);
    }

    #[test]
    fn a_peer_is_the_user_and_group_that_connected() {
        let (_directory, path) = directory();
        let (socket, _file) = listen(&path, 0o600).unwrap();
        let _peer = UnixStream::connect(&path).unwrap();
        let ours = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let Remote::Unix { uid, gid } = peer(&socket.accept().unwrap().0).unwrap() else {
            panic!("no user and group");
        };
        assert_eq!((uid, gid), ours);
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let (_directory, path) = directory();
        drop(UnixListener::bind(&path).unwrap());
        let _listening = listen(&path, 0o600).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_live_socket_is_refused_even_if_it_accepts_nothing_now_and_still_works() {
        let (_directory, path) = directory();
        let (_socket, _file) = listen(&path, 0o600).unwrap();
        assert!(matches!(listen(&path, 0o600), Err(SocketFileError::InUse)));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_with_a_full_backlog_is_refused_without_waiting() {
        let (_directory, path) = directory();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        assert!(matches!(listen(&path, 0o600), Err(SocketFileError::InUse)));
    }

    #[test]
    fn a_datagram_socket_is_in_use() {
        let (_directory, path) = directory();
        let _other = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(listen(&path, 0o600), Err(SocketFileError::InUse)));
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_never_touched() {
        let (directory, path) = directory();
        let refused = |path: &Path| matches!(listen(path, 0o777), Err(SocketFileError::NotSocket));
        fs::write(&path, "mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused(&path) && refused(directory.path()));
        assert_eq!((fs::read_to_string(&path).unwrap(), permissions(&path)), ("mine".to_owned(), 0o640));
        for to in [path.clone(), directory.path().join("nowhere")] {
            let link = directory.path().join("link");
            symlink(&to, &link).unwrap();
            assert!(refused(&link));
            assert_eq!(fs::read_link(&link).unwrap(), to);
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_link_to_a_stale_socket_is_no_socket() {
        let (directory, path) = directory();
        let stale = directory.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        symlink(&stale, &path).unwrap();
        assert!(matches!(listen(&path, 0o600), Err(SocketFileError::NotSocket)));
        assert!(fs::symlink_metadata(&stale).is_ok());
    }

    #[test]
    fn the_file_is_removed_with_the_server_unless_another_has_replaced_it() {
        let (_directory, path) = directory();
        drop(listen(&path, 0o600).unwrap());
        assert!(fs::symlink_metadata(&path).is_err());
        let first = listen(&path, 0o600).unwrap();
        // Keeps the inode of the first in use, so that the second cannot have the same.
        let kept = path.with_extension("kept");
        fs::rename(&path, &kept).unwrap();
        let _second = listen(&path, 0o600).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        fs::remove_file(kept).unwrap();
    }

    #[test]
    fn an_impossible_path_is_refused_and_nothing_is_left() {
        let (directory, path) = directory();
        let long = directory.path().join("x".repeat(200));
        assert!(matches!(listen(&long, 0o600), Err(SocketFileError::TooLong)));
        let nowhere = path.join("deeper");
        assert!(matches!(listen(&nowhere, 0o600), Err(SocketFileError::NoDirectory)));
        fs::write(&path, "").unwrap();
        assert!(matches!(listen(&nowhere, 0o600), Err(SocketFileError::NoDirectory)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
