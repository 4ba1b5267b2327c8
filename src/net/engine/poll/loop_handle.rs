//! A readiness loop as seen by other threads: registration, wakeup, and an inbox.
//!
//! [`LoopHandle`] is one per loop. [`PollPort`] is the socket of a connection with the state of its blocked write;
//! [`handle_of`] assigns connections to loops. The loop itself is in `worker`.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token, Waker};

use crate::net::engine::accept::{FdSlots, wake};
use crate::net::engine::connection::{Connection, Port, Socket};
use crate::net::engine::pending_io::PendingIo;
use crate::service::{Arrival, ListenerId, Service};

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The connection at this place.
    Conn(usize),
    /// A listener, by its ordinal among the listeners.
    Listener(usize),
    /// A datagram socket.
    Datagrams(ListenerId),
    /// The inbox has something.
    Inbox,
}

impl From<Subject> for Token {
    fn from(subject: Subject) -> Self {
        Self(match subject {
            Subject::Conn(place) => place << 2,
            Subject::Listener(nth) => nth << 2 | 1,
            Subject::Datagrams(id) => id << 2 | 2,
            Subject::Inbox => 3,
        })
    }
}

impl From<Token> for Subject {
    fn from(Token(number): Token) -> Self {
        match (number & 3, number >> 2) {
            (0, place) => Self::Conn(place),
            (1, nth) => Self::Listener(nth),
            (2, id) => Self::Datagrams(id),
            _ => Self::Inbox,
        }
    }
}

/// A socket that a loop waits for.
#[derive(Debug)]
pub(in crate::net::engine) struct PollPort {
    socket: Socket,
    /// The socket has become writable since the last write began.
    is_writable: AtomicBool,
    /// A write waits for that.
    is_parked: AtomicBool,
    /// After the socket, so that it is dropped after it.
    wakeup: FreesSlot,
}

/// Tells the accepting loop that a socket was closed, if it waits for that.
#[derive(Debug)]
struct FreesSlot(Arc<Wakeup>);

impl Drop for FreesSlot {
    fn drop(&mut self) {
        self.0.slots.freed();
    }
}

impl Port for PollPort {
    const OUTLIVES_READING: bool = true;

    fn socket(&self) -> &Socket {
        &self.socket
    }

    fn begin_write(&self) {
        self.is_writable.store(false, Ordering::SeqCst);
    }
}

impl PollPort {
    pub(super) fn new(socket: Socket, wakeup: &Arc<Wakeup>) -> Self {
        let wakeup = FreesSlot(wakeup.clone());
        Self { socket, is_writable: AtomicBool::new(false), is_parked: AtomicBool::new(false), wakeup }
    }

    /// The ordinal of its loop.
    pub(super) fn loop_index(&self) -> usize {
        self.wakeup.0.nth
    }

    /// Marks a write as waiting, under the lock. Returns false if the socket has become writable since the
    /// write began: then it continues.
    ///
    /// [`set_writable`](Self::set_writable) stores its flag before it looks for a waiting write, so that one of both
    /// sees the other.
    pub(super) fn park(&self) -> bool {
        self.is_parked.store(true, Ordering::SeqCst);
        let parked = !self.is_writable.load(Ordering::SeqCst);
        if !parked {
            self.is_parked.store(false, Ordering::SeqCst);
        }
        parked
    }

    /// Notes that the socket is writable. Returns whether a write waits, to be taken under the lock.
    pub(super) fn set_writable(&self) -> bool {
        self.is_writable.store(true, Ordering::SeqCst);
        self.is_parked.load(Ordering::SeqCst) && self.is_parked.swap(false, Ordering::SeqCst)
    }
}

/// Wakes a loop.
#[derive(Debug)]
pub(super) struct Wakeup {
    /// The loop's ordinal.
    nth: usize,
    waker: Arc<Waker>,
    slots: Arc<FdSlots>,
}

/// A loop, from outside.
#[derive(Debug)]
pub(super) struct LoopHandle<S: Service> {
    wakeup: Arc<Wakeup>,
    registry: Registry,
    is_filled: AtomicBool,
    inbox: Mutex<Inbox<S>>,
}

/// Work that other threads have queued for a loop.
#[derive(Debug)]
pub(super) struct Inbox<S: Service> {
    /// Outgoing connections; the first loop takes them over.
    pub(super) made: Vec<(Socket, Arrival)>,
    /// Connections to read from.
    pub(super) opened: Vec<(Arc<Connection<PollPort>>, S::Conn)>,
    /// Connections whose reading was paused and is resumed.
    pub(super) resumed: Vec<Arc<Connection<PollPort>>>,
    /// I/O to do.
    pub(super) pending: Vec<PendingIo<PollPort>>,
}

impl<S: Service> Default for Inbox<S> {
    fn default() -> Self {
        Self { made: Vec::new(), opened: Vec::new(), resumed: Vec::new(), pending: Vec::new() }
    }
}

/// Creates a handle for each of these polls; the first loop accepts.
pub(super) fn handles<S: Service>(polls: &[Poll]) -> io::Result<Vec<LoopHandle<S>>> {
    let mut handles: Vec<LoopHandle<S>> = Vec::with_capacity(polls.len());
    for (nth, poll) in polls.iter().enumerate() {
        let waker = Arc::new(Waker::new(poll.registry(), Subject::Inbox.into())?);
        let slots = handles.first().map(|first| first.wakeup.slots.clone());
        let first = || Arc::new(FdSlots::new(waker.clone()));
        let slots = slots.unwrap_or_else(first);
        handles.push(LoopHandle {
            wakeup: Arc::new(Wakeup { nth, waker, slots }),
            registry: poll.registry().try_clone()?,
            is_filled: AtomicBool::new(false),
            inbox: Mutex::default(),
        });
    }
    Ok(handles)
}

impl Wakeup {
    /// The waker of the loop.
    pub(super) const fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// The descriptor slots, shared by all loops.
    pub(super) const fn slots(&self) -> &Arc<FdSlots> {
        &self.slots
    }
}

impl<S: Service> LoopHandle<S> {
    pub(super) const fn wakeup(&self) -> &Arc<Wakeup> {
        &self.wakeup
    }

    pub(super) fn wake(&self) {
        wake(&self.wakeup.waker);
    }

    /// Waits for a socket from now on, for as long as it is open.
    pub(super) fn register(&self, fd: RawFd, subject: Subject) -> io::Result<()> {
        let interest = match subject {
            Subject::Conn(_) => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::READABLE,
        };
        self.registry.register(&mut SourceFd(&fd), subject.into(), interest)
    }

    /// Puts something into the inbox. Does not wake the loop.
    pub(super) fn post(&self, put: impl FnOnce(&mut Inbox<S>)) {
        if let Ok(mut inbox) = self.inbox.lock() {
            put(&mut inbox);
            self.is_filled.store(true, Ordering::SeqCst);
        }
    }

    /// Takes the inbox, if anything is in it.
    pub(super) fn take_inbox(&self) -> Option<Inbox<S>> {
        if !self.is_filled.load(Ordering::SeqCst) {
            return None;
        }
        let mut inbox = self.inbox.lock().ok()?;
        self.is_filled.store(false, Ordering::SeqCst);
        Some(std::mem::take(&mut *inbox))
    }
}

/// The loop of the connection at this place, and its place there.
///
/// Each run of as many places as there are loops is spread over all of them. The order differs from run to run: it is
/// the sum of the digits of the place, counted in loops. Connections may arrive in pairs, a sender and its receiver.
/// This order does not put all senders on one loop and all receivers on another.
pub(super) const fn handle_of(place: usize, loops: usize) -> (usize, usize) {
    if loops < 2 {
        return (0, place);
    }
    let (mut rest, mut sum) = (place, 0);
    while rest > 0 {
        sum += rest % loops;
        rest /= loops;
    }
    (sum % loops, place / loops)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_token_converts_back_to_its_subject() {
        for subject in [
            Subject::Conn(0),
            Subject::Conn(70_000),
            Subject::Listener(2),
            Subject::Datagrams(9),
            Subject::Inbox,
        ] {
            assert_eq!(Subject::from(Token::from(subject)), subject);
        }
    }

    #[test]
    fn all_connections_and_every_second_one_are_spread_evenly_over_the_loops() {
        for loops in [1, 2, 3, 4, 7, 64] {
            let handles: BTreeSet<_> = (0..loops * 100).map(|place| handle_of(place, loops)).collect();
            assert_eq!(handles.len(), loops * 100, "no two have the same place");
            assert!(handles.iter().all(|(loop_handle, place)| *loop_handle < loops && *place < 100));
        }
        let of_first = (0..1_000).filter(|nth| handle_of(nth * 2, 2).0 == 0).count();
        assert_eq!(of_first, 500);
        assert_eq!(handle_of(0, 4), (0, 0), "a single connection is on the accepting loop");
    }

    #[test]
    fn a_blocked_write_always_sees_that_its_socket_is_writable() {
        let (one, _two) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let polls = [Poll::new().unwrap()];
        let handles = handles::<crate::server::Server>(&polls).unwrap();
        let port = PollPort::new(one, handles[0].wakeup());
        port.begin_write();
        assert!(!port.set_writable(), "nothing waits yet");
        assert!(!port.park(), "there has been room");
        port.begin_write();
        assert!(port.park());
        assert!(port.set_writable());
        assert!(!port.set_writable(), "it is told once");
    }
}
