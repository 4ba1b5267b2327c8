//! What is known of a loop outside of it: how to register with it, how to wake it, and what is left for it to do.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token, Waker};

use crate::net::engine::accept::{FdSlots, wake};
use crate::net::engine::connection::{Connection, Port, Socket};
use crate::net::engine::pending_io::PendingIo;
use crate::service::{Arrival, DoorId, Service};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The connection that has this place.
    Conn(usize),
    /// A listener, by its ordinal among those.
    Listener(usize),
    /// A door for datagrams.
    Datagrams(DoorId),
    /// Somebody has left something.
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
pub(in crate::net::engine) struct Polled {
    socket: Socket,
    /// The socket has got room since somebody began to write.
    has_room: AtomicBool,
    /// A write waits for that.
    is_parked: AtomicBool,
    /// Behind the socket, so that it is dropped after it.
    loop_handle: Resident,
}

/// Tells the loop that accepts that a socket has been closed, if it waits for that.
#[derive(Debug)]
struct Resident(Arc<Wakeup>);

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.room.freed();
    }
}

impl Port for Polled {
    const OUTLIVES_READING: bool = true;

    fn socket(&self) -> &Socket {
        &self.socket
    }

    fn begin_write(&self) {
        self.has_room.store(false, Ordering::SeqCst);
    }
}

impl Polled {
    pub(super) fn new(socket: Socket, wakeup: &Arc<Wakeup>) -> Self {
        let loop_handle = Resident(wakeup.clone());
        Self { socket, has_room: AtomicBool::new(false), is_parked: AtomicBool::new(false), loop_handle }
    }

    /// The ordinal of its loop.
    pub(super) fn loop_handle(&self) -> usize {
        self.loop_handle.0.nth
    }

    /// A write is going to wait, under the lock. False if there has been room since it began: it is to go on.
    ///
    /// Whoever says that there is room looks for a write that waits afterwards, so that one of both sees the other.
    pub(super) fn park(&self) -> bool {
        self.is_parked.store(true, Ordering::SeqCst);
        let parked = !self.has_room.load(Ordering::SeqCst);
        if !parked {
            self.is_parked.store(false, Ordering::SeqCst);
        }
        parked
    }

    /// There is room. Returns whether a write waits for it, to be looked for under the lock.
    pub(super) fn give_room(&self) -> bool {
        self.has_room.store(true, Ordering::SeqCst);
        self.is_parked.load(Ordering::SeqCst) && self.is_parked.swap(false, Ordering::SeqCst)
    }
}

/// How a loop is woken.
#[derive(Debug)]
pub(super) struct Wakeup {
    /// Which loop it is.
    nth: usize,
    waker: Arc<Waker>,
    room: Arc<FdSlots>,
}

/// A loop, from outside.
#[derive(Debug)]
pub(super) struct LoopHandle<S: Service> {
    wakeup: Arc<Wakeup>,
    registry: Registry,
    has_mail: AtomicBool,
    inbox: Mutex<Inbox<S>>,
}

/// What others have left for a loop.
#[derive(Debug)]
pub(super) struct Inbox<S: Service> {
    /// Connections that were made for the service; the first loop takes them over.
    pub(super) made: Vec<(Socket, Arrival)>,
    /// Connections that it is to read from.
    pub(super) opened: Vec<(Arc<Connection<Polled>>, S::Conn)>,
    /// Connections whose reading was paused and is not any more.
    pub(super) resumed: Vec<Arc<Connection<Polled>>>,
    /// What is to be written.
    pub(super) work: Vec<PendingIo<Polled>>,
}

impl<S: Service> Default for Inbox<S> {
    fn default() -> Self {
        Self { made: Vec::new(), opened: Vec::new(), resumed: Vec::new(), work: Vec::new() }
    }
}

/// Loops from outside, one for each of these; the first accepts.
pub(super) fn handles<S: Service>(polls: &[Poll]) -> io::Result<Vec<LoopHandle<S>>> {
    let mut handles: Vec<LoopHandle<S>> = Vec::with_capacity(polls.len());
    for (nth, poll) in polls.iter().enumerate() {
        let waker = Arc::new(Waker::new(poll.registry(), Subject::Inbox.into())?);
        let room = handles.first().map(|first| first.wakeup.room.clone());
        let first = || Arc::new(FdSlots::new(waker.clone()));
        let room = room.unwrap_or_else(first);
        handles.push(LoopHandle {
            wakeup: Arc::new(Wakeup { nth, waker, room }),
            registry: poll.registry().try_clone()?,
            has_mail: AtomicBool::new(false),
            inbox: Mutex::default(),
        });
    }
    Ok(handles)
}

impl Wakeup {
    /// What wakes the loop.
    pub(super) const fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// The room for connections, which is one for all loops.
    pub(super) const fn room(&self) -> &Arc<FdSlots> {
        &self.room
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

    /// Leaves something, which is found at its next wake-up.
    pub(super) fn leave(&self, put: impl FnOnce(&mut Inbox<S>)) {
        if let Ok(mut inbox) = self.inbox.lock() {
            put(&mut inbox);
            self.has_mail.store(true, Ordering::SeqCst);
        }
    }

    /// What was left, if anything.
    pub(super) fn take_inbox(&self) -> Option<Inbox<S>> {
        if !self.has_mail.load(Ordering::SeqCst) {
            return None;
        }
        let mut inbox = self.inbox.lock().ok()?;
        self.has_mail.store(false, Ordering::SeqCst);
        Some(std::mem::take(&mut *inbox))
    }
}

/// Which loop has the connection of this place, and its place there.
///
/// Each run of as many places as there are loops is spread over all of them, in an order that differs from run to run (the
/// sum of the digits of the place, counted in loops): connections that come in turns, a sender and its receiver, do not
/// end up as all senders here and all receivers there.
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
    fn tokens_say_what_they_are_about() {
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
    fn every_loop_has_its_share_of_the_connections_and_of_every_second_one() {
        for loops in [1, 2, 3, 4, 7, 64] {
            let handles: BTreeSet<_> = (0..loops * 100).map(|place| handle_of(place, loops)).collect();
            assert_eq!(handles.len(), loops * 100, "no two have the same place");
            assert!(handles.iter().all(|(loop_handle, place)| *loop_handle < loops && *place < 100));
        }
        let of_first = (0..1_000).filter(|nth| handle_of(nth * 2, 2).0 == 0).count();
        assert_eq!(of_first, 500);
        assert_eq!(handle_of(0, 4), (0, 0), "who comes alone is with the loop that accepts");
    }

    #[test]
    fn a_write_that_waits_and_the_room_that_it_waits_for_never_miss_each_other() {
        let (one, _two) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let polls = [Poll::new().unwrap()];
        let handles = handles::<crate::server::Server>(&polls).unwrap();
        let port = Polled::new(one, handles[0].wakeup());
        port.begin_write();
        assert!(!port.give_room(), "nothing waits yet");
        assert!(!port.park(), "there has been room");
        port.begin_write();
        assert!(port.park());
        assert!(port.give_room());
        assert!(!port.give_room(), "it is told once");
    }
}
