//! Stream listeners: accepting connections, and pausing while the system has no free descriptor.
//!
//! [`StreamListener`] is one listener, [`Acceptor`] accepts at several, [`FdSlots`] ends the pause when a connection
//! closes. Waiting for a listener is in the engines.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mio::Waker;

use super::connection::{Socket, prepare};
use crate::listener::Framing;
use crate::net::accept::{AcceptPause, is_of_one_connection};
use crate::net::listen::unix::{self, SocketFile};
use crate::net::rt;
use crate::service::{ListenerId, Origin, Remote};

/// Most connections accepted in one turn.
pub(super) const ACCEPTED_AT_ONCE: usize = 64;

/// A stream listener.
#[derive(Debug)]
pub(super) struct StreamListener {
    id: ListenerId,
    listener: Socket,
    framing: Framing,
    /// The file of a UNIX socket; removed on drop.
    _file: Option<SocketFile>,
}

impl AsFd for StreamListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl StreamListener {
    /// On Linux, connections inherit the options of their TCP listener.
    pub(super) fn new(
        id: ListenerId,
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

    /// Accepts the next connection, without waiting.
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
        Ok((socket, Origin { listener: self.id, from }))
    }
}

/// Wakes an acceptor that waits for a free descriptor.
#[derive(Debug)]
pub(super) struct FdSlots {
    is_wanted: AtomicBool,
    waker: Arc<Waker>,
}

impl FdSlots {
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

/// Wakes a loop. The only possible error is a full counter, and then the loop wakes anyway.
pub(super) fn wake(waker: &Waker) {
    if let Err(error) = waker.wake() {
        log::debug!("cannot wake a loop: {error}");
    }
}

/// Accepts connections at listeners with edge-triggered events.
#[derive(Debug)]
pub(super) struct Acceptor {
    slots: Arc<FdSlots>,
    /// A connection may be waiting.
    is_busy: bool,
    /// No descriptor was free: when to try again, unless a connection closes before.
    wait_until: Option<Instant>,
    pause: AcceptPause,
}

impl Acceptor {
    pub(super) fn new(slots: Arc<FdSlots>) -> Self {
        Self { slots, is_busy: false, wait_until: None, pause: AcceptPause::default() }
    }

    /// An event: a connection may be waiting.
    pub(super) const fn notice(&mut self) {
        self.is_busy = true;
    }

    /// Whether to go on at once.
    pub(super) const fn is_busy(&self) -> bool {
        self.is_busy && self.wait_until.is_none()
    }

    /// Time of the next try.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.wait_until
    }

    /// Accepts waiting connections, at most [`ACCEPTED_AT_ONCE`] per listener.
    pub(super) fn accept(&mut self, listeners: &[StreamListener], mut open: impl FnMut(Socket, Origin)) {
        if !self.is_busy || self.is_waiting() {
            return;
        }
        self.is_busy = false;
        for listener in listeners {
            self.accept_at(listener, &mut open);
        }
    }

    fn is_waiting(&mut self) -> bool {
        let is_wanted = self.slots.is_wanted.load(Ordering::SeqCst);
        self.wait_until = self.wait_until.filter(|until| is_wanted && rt::now() < *until);
        self.wait_until.is_some()
    }

    fn accept_at(&mut self, listener: &StreamListener, open: &mut impl FnMut(Socket, Origin)) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match listener.accept() {
                Ok((socket, origin)) => {
                    self.pause.over();
                    open(socket, origin);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_connection(&error) => {}
                // Once more after registering, as a connection may have closed just before.
                Err(_) if !self.slots.is_wanted.swap(true, Ordering::SeqCst) => {}
                Err(error) => {
                    self.wait_until = Some(self.pause.begin(rt::now(), &error));
                    break;
                }
            }
        }
        self.is_busy = true;
    }
}
