//! The thread that writes to full sockets and sends delayed datagrams, for the `threads` engine.
//!
//! One thread waits for all of them, so that slow peers occupy no threads.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::sys::socket::MsgFlags;
use slab::Slab;

use super::{ThreadPort, Threaded, drive};
use crate::log_limiter::LogLimiter;
use crate::net::engine::accept::wake;
use crate::net::engine::connection::{Progress, Write, Written};
use crate::net::engine::pending_io::{IoResults, PendingIo};
use crate::net::engine::poll::{RETRY, Waiting};
use crate::net::rt;
use crate::service::{Service, Transmit};

/// The token of the waker. No connection has it: a process has fewer.
const CALLED: Token = Token(usize::MAX);

/// Number of sockets written to before the results are taken.
const EVENTS: usize = 256;

/// Writes that wait for full sockets.
#[derive(Debug)]
pub(super) struct WriteQueue {
    registry: Registry,
    waker: Waker,
    queued: Mutex<Queued>,
}

#[derive(Debug, Default)]
struct Queued {
    /// By the token of their socket.
    writes: Slab<Write<ThreadPort>>,
    transmits: Vec<Transmit>,
    /// The engine has ended: nothing more is taken.
    is_over: bool,
    warnings: LogLimiter,
}

impl WriteQueue {
    /// Returns it empty, with the poll that its thread waits with.
    pub(super) fn new() -> io::Result<(Self, Poll)> {
        let poll = Poll::new()?;
        let (registry, waker) = (poll.registry().try_clone()?, Waker::new(poll.registry(), CALLED)?);
        Ok((Self { registry, waker, queued: Mutex::default() }, poll))
    }

    /// `Queued` is consistent at any moment, so a poisoned lock does no harm.
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a write whose socket is full.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot wait for that socket, or the engine has ended: the connection is lost.
    pub(super) fn add(&self, write: Write<ThreadPort>) -> Result<(), Written> {
        let (conn, fd) = (write.connection.id, write.connection.port.socket.as_raw_fd());
        let mut queued = self.lock();
        let key = queued.writes.insert(write);
        let registered = self.registry.register(&mut SourceFd(&fd), Token(key), Interest::WRITABLE);
        if registered.is_ok() && !queued.is_over {
            return Ok(());
        }
        queued.writes.try_remove(key);
        if let Err(error) = registered
            && let Some(times) = queued.warnings.count(rt::now())
        {
            log::warn!("cannot wait for room in a socket ({times} times): {error}");
        }
        Err(Written { conn, more: false, failed: true, buffer: Vec::new() })
    }

    /// Queues datagrams whose socket is full. Returns how many are given up instead.
    pub(super) fn add_datagrams(&self, transmits: Vec<Transmit>) -> usize {
        let mut queued = self.lock();
        if queued.is_over {
            return transmits.len();
        }
        queued.transmits.extend(transmits);
        drop(queued);
        wake(&self.waker);
        0
    }

    /// Takes the write that waits for the socket of an event, if it still does.
    fn take(&self, event: &Event) -> Option<Write<ThreadPort>> {
        let write = self.lock().writes.try_remove(event.token().0)?;
        // A socket closed meanwhile is not registered any more.
        let _ = self.registry.deregister(&mut SourceFd(&write.connection.port.socket.as_raw_fd()));
        Some(write)
    }

    /// Ends the queue: gives up what is in it.
    pub(super) fn stop(&self) {
        let mut queued = self.lock();
        queued.is_over = true;
        queued.writes.clear();
        queued.transmits.clear();
        drop(queued);
        wake(&self.waker);
    }
}

/// Writes and sends what is queued as sockets become writable, until the engine ends.
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
        let mut results = IoResults::default();
        for event in &events {
            if let Some(write) = core.backend.write_queue.take(event) {
                results.written.extend(advance(core, write));
            }
        }
        results.sent += send(core, &mut waiting);
        let mut pending = PendingIo::default();
        core.collect(&mut pending, |shared, now, pending| shared.apply_results(now, &mut results, pending));
        drive(core, pending);
    }
}

/// Writes what the socket takes. Returns the result once the write is done.
fn advance<S: Service + 'static>(core: &Threaded<S>, mut write: Write<ThreadPort>) -> Option<Written> {
    match write.advance(MsgFlags::MSG_DONTWAIT) {
        Progress::Done(written) => Some(written),
        Progress::Blocked => core.backend.write_queue.add(write).err(),
    }
}

/// Sends queued datagrams, and gives up those that waited too long. Returns how many are done.
fn send<S: Service + 'static>(core: &Threaded<S>, waiting: &mut Waiting) -> usize {
    let queued = std::mem::take(&mut core.backend.write_queue.lock().transmits);
    let too_many = if queued.is_empty() { Vec::new() } else { waiting.push(rt::now(), queued) };
    let (sent, late) = waiting.retry(rt::now(), |batch| core.send(batch));
    core.drop_all(&too_many);
    core.drop_all(&late);
    sent + too_many.len() + late.len()
}
