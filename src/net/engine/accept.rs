//! Where connections come in: a listening socket, and what its errors mean.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::link::{Socket, prepare};
use crate::net::listen::unix::{self, SocketFile};
use crate::service::{DoorId, Origin, Remote};
use crate::throttle::Throttle;

/// The first and the longest pause when the system has no room for another connection.
pub(in crate::net) const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How many connections are accepted before others get their turn.
pub(super) const ACCEPTED_AT_ONCE: usize = 64;

/// A socket that listens for streams.
#[derive(Debug)]
pub(super) struct StreamDoor {
    id: DoorId,
    listener: Socket,
    /// Removed when nobody is accepted any more.
    _file: Option<SocketFile>,
}

impl AsFd for StreamDoor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl StreamDoor {
    /// What the connections of a TCP listener are to have, it hands down to them where the system is Linux.
    pub(super) fn new(id: DoorId, listener: Socket, file: Option<SocketFile>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        if cfg!(target_os = "linux") && file.is_none() {
            prepare(&listener)?;
        }
        Ok(Self { id, listener, _file: file })
    }

    /// Accepts the next connection without waiting for one.
    pub(super) fn accept(&self) -> io::Result<(Socket, Origin)> {
        let (socket, addr) = self.listener.accept()?;
        let from = addr.as_socket().map_or_else(|| unix::peer(&socket), |addr| Ok(Remote::Ip(addr)))?;
        if !cfg!(target_os = "linux") {
            socket.set_nonblocking(false)?;
            if let Remote::Ip(_) = from
                && let Err(error) = prepare(&socket)
            {
                log::debug!("{from}: {error}");
            }
        }
        Ok((socket, Origin { door: self.id, from }))
    }
}

/// How long to wait when there is no room for another connection.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
    complaints: Throttle,
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: PAUSES.0, complaints: Throttle::default() }
    }
}

impl Pause {
    /// Connections are accepted again.
    pub(super) const fn over(&mut self) {
        self.next = PAUSES.0;
    }

    /// They are not: until when to wait, unless one of ours is closed before.
    pub(super) fn begin(&mut self, now: Instant, error: &io::Error) -> Instant {
        if let Some(times) = self.complaints.count(now) {
            log::warn!(
                "cannot accept connections ({times} attempts): {error}; if it lasts, raise the limit (ulimit -n)"
            );
        }
        let pause = self.next;
        self.next = (pause * 2).min(PAUSES.1);
        now + pause
    }
}

/// Whether an error is about a connection that came and went, not about the listener.
pub(in crate::net) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        PermissionDenied, TimedOut,
    };
    // EPERM is a firewall's word on that connection: accept(2).
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}
