//! Where connections come in: a listening socket, and what its errors mean.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::Waker;

use super::link::{Socket, prepare};
use crate::door::Framing;
use crate::log_limiter::LogLimiter;
use crate::net::listen::unix::{self, SocketFile};
use crate::net::rt;
use crate::service::{DoorId, Origin, Remote};

/// The first and the longest pause when the system has no room for another connection.
pub(crate) const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How many connections are accepted before others get their turn.
pub(super) const ACCEPTED_AT_ONCE: usize = 64;

/// A socket that listens for streams.
#[derive(Debug)]
pub(super) struct StreamDoor {
    id: DoorId,
    listener: Socket,
    framing: Framing,
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
    pub(super) fn new(
        id: DoorId,
        listener: Socket,
        file: Option<SocketFile>,
        framing: Framing,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        if cfg!(target_os = "linux") && file.is_none() {
            prepare(&listener, framing)?;
        }
        Ok(Self { id, listener, framing, _file: file })
    }

    /// Accepts the next connection without waiting for one.
    pub(super) fn accept(&self) -> io::Result<(Socket, Origin)> {
        let (socket, addr) = self.listener.accept()?;
        let from = addr.as_socket().map_or_else(|| unix::peer(&socket), |addr| Ok(Remote::Ip(addr)))?;
        if !cfg!(target_os = "linux") {
            socket.set_nonblocking(false)?;
            if let Remote::Ip(_) = from
                && let Err(error) = prepare(&socket, self.framing)
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
    complaints: LogLimiter,
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: PAUSES.0, complaints: LogLimiter::default() }
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

/// Whether who accepts waits for room for another connection, and how to wake it when there is some.
#[derive(Debug)]
pub(super) struct Room {
    is_wanted: AtomicBool,
    waker: Arc<Waker>,
}

impl Room {
    pub(super) const fn new(waker: Arc<Waker>) -> Self {
        Self { is_wanted: AtomicBool::new(false), waker }
    }

    /// A connection was closed.
    pub(super) fn freed(&self) {
        if self.is_wanted.load(Ordering::SeqCst) && self.is_wanted.swap(false, Ordering::SeqCst) {
            wake(&self.waker);
        }
    }
}

/// Wakes who waits for events. What may go wrong here is a full counter: then it is going to wake anyway.
pub(super) fn wake(waker: &Waker) {
    if let Err(error) = waker.wake() {
        log::debug!("cannot wake a loop: {error}");
    }
}

/// Accepts connections at listeners whose events come once.
#[derive(Debug)]
pub(super) struct Acceptor {
    room: Arc<Room>,
    /// There may be some.
    is_busy: bool,
    /// There was no room for another: until when to wait, unless one of ours is closed before.
    no_room_until: Option<Instant>,
    pause: Pause,
}

impl Acceptor {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { room, is_busy: false, no_room_until: None, pause: Pause::default() }
    }

    /// An event says that there are some.
    pub(super) const fn notice(&mut self) {
        self.is_busy = true;
    }

    /// Whether to go on at once.
    pub(super) const fn is_busy(&self) -> bool {
        self.is_busy && self.no_room_until.is_none()
    }

    /// When to try again.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.no_room_until
    }

    /// Accepts some, as many as may be before others get their turn.
    pub(super) fn accept(&mut self, listeners: &[StreamDoor], mut welcome: impl FnMut(Socket, Origin)) {
        if !self.is_busy || self.has_no_room() {
            return;
        }
        self.is_busy = false;
        for door in listeners {
            self.accept_at(door, &mut welcome);
        }
    }

    fn has_no_room(&mut self) -> bool {
        let is_wanted = self.room.is_wanted.load(Ordering::SeqCst);
        self.no_room_until = self.no_room_until.filter(|until| is_wanted && rt::now() < *until);
        self.no_room_until.is_some()
    }

    fn accept_at(&mut self, door: &StreamDoor, welcome: &mut impl FnMut(Socket, Origin)) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match door.accept() {
                Ok((socket, origin)) => {
                    self.pause.over();
                    welcome(socket, origin);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_connection(&error) => {}
                // Once more when it is told of what is closed, for what was closed before it was.
                Err(_) if !self.room.is_wanted.swap(true, Ordering::SeqCst) => {}
                Err(error) => {
                    self.no_room_until = Some(self.pause.begin(rt::now(), &error));
                    break;
                }
            }
        }
        self.is_busy = true;
    }
}

/// Whether an error is about a connection that came and went, not about the listener.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
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
