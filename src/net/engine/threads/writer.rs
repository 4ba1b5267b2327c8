//! Output that sockets have no room for. One thread waits for all of them, so that peers that do not read take no threads.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::sys::socket::MsgFlags;
use slab::Slab;

use super::{Blocking, Threaded, drive};
use crate::log_limiter::LogLimiter;
use crate::net::engine::accept::wake;
use crate::net::engine::link::{Progress, Write, Written};
use crate::net::engine::poll::{RETRY, Waiting};
use crate::net::engine::work::{Outcome, Work};
use crate::net::rt;
use crate::service::{Service, Transmit};

/// What says that something was left, or that the engine has ended. No connection has it: a process has not as many.
const CALLED: Token = Token(usize::MAX);

/// How many sockets are written to before what they gave is settled.
const EVENTS: usize = 256;

/// What is left for the thread that waits for room.
#[derive(Debug)]
pub(super) struct Blocked {
    registry: Registry,
    waker: Waker,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    /// By the token of their socket.
    writes: Slab<Write<Blocking>>,
    transmits: Vec<Transmit>,
    /// The engine has ended: nothing more may be left.
    is_over: bool,
    complaints: LogLimiter,
}

impl Blocked {
    /// Nothing yet, and what the thread is to wait with.
    pub(super) fn new() -> io::Result<(Self, Poll)> {
        let poll = Poll::new()?;
        let (registry, waker) = (poll.registry().try_clone()?, Waker::new(poll.registry(), CALLED)?);
        Ok((Self { registry, waker, left: Mutex::default() }, poll))
    }

    /// What is left is whole at any moment, whoever panics.
    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves what a socket has no room for.
    ///
    /// # Errors
    ///
    /// The system cannot wait for that socket, or the engine has ended: the connection is lost.
    pub(super) fn leave(&self, write: Write<Blocking>) -> Result<(), Written> {
        let (conn, fd) = (write.link.id, write.link.port.socket.as_raw_fd());
        let mut left = self.lock();
        let key = left.writes.insert(write);
        let registered = self.registry.register(&mut SourceFd(&fd), Token(key), Interest::WRITABLE);
        if registered.is_ok() && !left.is_over {
            return Ok(());
        }
        left.writes.try_remove(key);
        if let Err(error) = registered
            && let Some(times) = left.complaints.count(rt::now())
        {
            log::warn!("cannot wait for room in a socket ({times} times): {error}");
        }
        Err(Written { conn, more: false, failed: true, buffer: Vec::new() })
    }

    /// Leaves datagrams that a socket has no room for. Returns how many are given up instead.
    pub(super) fn leave_datagrams(&self, transmits: Vec<Transmit>) -> usize {
        let mut left = self.lock();
        if left.is_over {
            return transmits.len();
        }
        left.transmits.extend(transmits);
        drop(left);
        wake(&self.waker);
        0
    }

    /// The socket behind an event may have room: what was left for it, if it still is.
    fn take(&self, event: &Event) -> Option<Write<Blocking>> {
        let write = self.lock().writes.try_remove(event.token().0)?;
        // One that was closed meanwhile is registered no more.
        let _ = self.registry.deregister(&mut SourceFd(&write.link.port.socket.as_raw_fd()));
        Some(write)
    }

    /// The engine has ended: gives up what is left.
    pub(super) fn stop(&self) {
        let mut left = self.lock();
        left.is_over = true;
        left.writes.clear();
        left.transmits.clear();
        drop(left);
        wake(&self.waker);
    }
}

/// Writes and sends what was left as sockets have room for it, until the engine ends.
pub(super) fn write<S: Service + 'static>(core: &Threaded<S>, mut poll: Poll) {
    let (mut events, mut waiting) = (Events::with_capacity(EVENTS), Waiting::default());
    while !core.end.is_over() {
        let timeout: Option<Duration> = (!waiting.is_empty()).then_some(RETRY);
        if let Err(error) = poll.poll(&mut events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("cannot wait for room in sockets: {error}");
            return core.end.fail();
        }
        let mut outcome = Outcome::default();
        for event in &events {
            if let Some(write) = core.mechanism.blocked.take(event) {
                outcome.written.extend(advance(core, write));
            }
        }
        outcome.sent += send(core, &mut waiting);
        let mut work = Work::default();
        core.collect(&mut work, |shared, now, work| shared.settle(now, &mut outcome, work));
        drive(core, work);
    }
}

/// Writes what there is room for. Returns what became of the write if that was all.
fn advance<S: Service + 'static>(core: &Threaded<S>, mut write: Write<Blocking>) -> Option<Written> {
    match write.advance(MsgFlags::MSG_DONTWAIT) {
        Progress::Done(written) => Some(written),
        Progress::Blocked => core.mechanism.blocked.leave(write).err(),
    }
}

/// Sends datagrams that were left, and gives up those that have waited for too long. Returns how many are done with.
fn send<S: Service + 'static>(core: &Threaded<S>, waiting: &mut Waiting) -> usize {
    let left = std::mem::take(&mut core.mechanism.blocked.lock().transmits);
    let too_many = if left.is_empty() { Vec::new() } else { waiting.push(rt::now(), left) };
    let (sent, late) = waiting.retry(rt::now(), |batch| core.send(batch));
    core.drop_all(&too_many);
    core.drop_all(&late);
    sent + too_many.len() + late.len()
}
