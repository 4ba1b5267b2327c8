//! The part that all engines share: the lock, I/O under it and outside it, and the end of an engine.
//!
//! [`EngineCore`] holds the service ([`Shared`]) behind one lock. A [`Backend`] adds what differs between engines: how
//! sockets and deadlines are waited for. Nothing here waits for a socket.

use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use event_listener::{Event, listener};
use futures::future::BoxFuture;
use nix::sys::socket::MsgFlags;

use super::connection::{Connection, Mode, Port, Progress, Socket, Write};
use super::dial;
use super::pending_io::{IoResults, PendingIo};
use super::shared::Shared;
use crate::net::batch::Batch;
use crate::net::rt;
use crate::net::udp::DatagramListener;
use crate::service::{Arrival, Decoder, Dial, DialId, ListenerId, Peer, Remote, Service, Transmit};

/// Most bytes that are read and discarded after a connection's final output.
const DISCARD_SIZE: u32 = 16 << 20;

/// The part that differs between engines: waiting for sockets and deadlines.
pub(super) trait Backend<S: Service>: Sized + Debug + Send + Sync + 'static {
    /// The handle through which a connection is read and written.
    type Port: Port;

    /// Wakes the timer: a deadline is earlier than the one it waits for.
    fn wake_timer(&self);

    /// Writes what became sendable, without making the caller wait.
    fn hand_over(core: &Arc<EngineCore<S, Self>>, pending: PendingIo<Self::Port>);

    /// Takes over an outgoing connection, as an accepted one.
    fn adopt(core: &Arc<EngineCore<S, Self>>, socket: Socket, arrival: Arrival);

    /// Stops accepting connections. The future has to be awaited.
    fn stop_accepting(core: &Arc<EngineCore<S, Self>>) -> BoxFuture<'_, ()>;

    /// Ends all threads and tasks of the engine. [`End::is_over`] is set already, and all connections are
    /// given up; `pending` is the I/O that remains for them.
    fn stop(core: &Arc<EngineCore<S, Self>>, pending: PendingIo<Self::Port>);

    /// Drops what was queued for threads and tasks that have ended.
    fn release(&self);
}

/// State shared by all threads and tasks of an engine.
#[derive(Debug)]
pub(super) struct EngineCore<S: Service, B: Backend<S>> {
    shared: Mutex<Shared<S, B::Port>>,
    /// By listener ordinal; `None` for stream listeners. Empty once the engine has ended, so that the ports are free.
    listeners: RwLock<Vec<Option<Arc<DatagramListener>>>>,
    pub(super) backend: B,
    pub(super) end: End,
}

/// The end of an engine: finished, failed, or stopped.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The service has finished, and everything is written.
    finished: Event,
    failure: Event,
    has_failed: AtomicBool,
    /// All threads and tasks of the engine have to end.
    is_over: AtomicBool,
    /// Number of threads and tasks of the engine.
    workers: AtomicUsize,
    /// None of them is left.
    stopped: Event,
}

impl End {
    /// Reports a panic: the engine's state cannot be trusted.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::SeqCst);
        self.failure.notify(usize::MAX);
    }

    /// Waits until a thread or task of the engine has panicked.
    pub(super) async fn failed(&self) {
        while !self.has_failed.load(Ordering::SeqCst) {
            listener!(self.failure => failure);
            if !self.has_failed.load(Ordering::SeqCst) {
                failure.await;
            }
        }
    }

    /// Whether the threads and tasks of the engine have to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits until no thread or task of the engine is left.
    pub(super) async fn stopped(&self) {
        loop {
            listener!(self.stopped => stopped);
            if self.workers.load(Ordering::SeqCst) == 0 {
                return;
            }
            stopped.await;
        }
    }

    /// Waits until `is_finished` holds; it is checked whenever that may have changed.
    pub(super) async fn finished(&self, is_finished: impl Fn() -> bool) {
        loop {
            listener!(self.finished => finished);
            if is_finished() {
                return;
            }
            finished.await;
        }
    }
}

/// The result of one read.
pub(super) enum Input {
    /// The service has taken it. `full`: the buffer was full, so there may be more.
    Taken { count: usize, full: bool },
    /// It was discarded.
    Discarded { count: usize, full: bool },
    /// Nothing to read.
    Nothing,
    /// The peer has closed its side.
    End,
    /// The connection is lost.
    Lost,
}

impl<S: Service + 'static, B: Backend<S>> EngineCore<S, B> {
    pub(super) fn new(service: S, listeners: Vec<Option<Arc<DatagramListener>>>, backend: B) -> Self {
        let (shared, listeners) = (Mutex::new(Shared::new(service)), RwLock::new(listeners));
        Self { shared, listeners, backend, end: End::default() }
    }

    /// Passes on the result of starting the threads and tasks. On failure, ends those that started.
    pub(super) fn started(self: Arc<Self>, result: io::Result<()>) -> io::Result<Arc<Self>> {
        if let Err(error) = result {
            self.stop();
            return Err(error);
        }
        Ok(self)
    }

    /// Gives up all connections and listeners, and ends all threads and tasks.
    pub(super) fn stop(self: &Arc<Self>) {
        self.end.is_over.store(true, Ordering::SeqCst);
        let mut pending = PendingIo::default();
        self.give_up(&mut pending);
        if let Ok(mut listeners) = self.listeners.write() {
            listeners.clear();
        }
        B::stop(self, pending);
    }

    /// Drops what no thread is left to handle.
    pub(super) fn release(&self) {
        self.give_up(&mut PendingIo::default());
        self.backend.release();
    }

    /// Gives up all connections, unless the service has panicked: then it is not called any more.
    fn give_up(&self, pending: &mut PendingIo<B::Port>) {
        if !self.shared.is_poisoned() {
            self.with(|shared, now| shared.give_up(now, pending));
        }
    }

    /// Calls `act` under the lock, and wakes what waits for its effects.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Shared<S, B::Port>, Instant) -> R) -> R {
        let mut shared = self.lock();
        shared.service.begin_hold();
        // The clock is read under the lock, so that time never goes back for the service.
        let result = act(&mut shared, rt::now());
        let (alarm, finished) = (shared.needs_alarm(), shared.is_finished());
        drop(shared);
        if alarm {
            self.backend.wake_timer();
        }
        if finished {
            self.end.finished.notify(usize::MAX);
        }
        result
    }

    /// Calls `act` under the lock, and takes what became sendable.
    pub(super) fn collect<R>(
        &self,
        pending: &mut PendingIo<B::Port>,
        act: impl FnOnce(&mut Shared<S, B::Port>, Instant, &mut PendingIo<B::Port>) -> R,
    ) -> R {
        self.with(|shared, now| {
            let result = act(shared, now, pending);
            shared.collect(now, pending);
            result
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared<S, B::Port>> {
        match self.shared.lock() {
            Ok(shared) => shared,
            Err(_) => panic!("the service has panicked before: nothing in it can be trusted"),
        }
    }

    /// Whether the service has finished; false if it has panicked.
    pub(super) fn is_finished(&self) -> bool {
        self.shared.lock().is_ok_and(|shared| shared.is_finished())
    }

    /// Reads once from a connection, and passes the bytes to the service.
    pub(super) fn read(
        &self,
        connection: &Arc<Connection<B::Port>>,
        intake: &mut S::Conn,
        (buffer, how): (&mut [u8], MsgFlags),
        take: impl FnOnce(&Self, <S::Conn as Decoder>::Batch<'_>),
    ) -> Input {
        let most = buffer.len().min(intake.max_read());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = match connection.read(buffer, how) {
            Ok(0) => return Input::End,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
            Err(_) => return Input::Lost,
        };
        let full = count == most;
        match connection.mode() {
            Mode::Reading | Mode::Paused => {
                take(self, intake.received(rt::now(), buffer.get(..count).unwrap_or_default()));
                Input::Taken { count, full }
            }
            Mode::Discarding => {
                intake.abandon();
                Input::Discarded { count, full }
            }
            Mode::Gone => Input::Lost,
        }
    }

    /// Writes and sends what needs no waiting, shuts down what is to be shut, and starts dialling. Returns
    /// what would block.
    pub(super) fn perform(
        self: &Arc<Self>,
        pending: &mut PendingIo<B::Port>,
        results: &mut IoResults,
    ) -> Blocked<B::Port> {
        let mut blocked = Blocked { writes: Vec::new(), transmits: Vec::new() };
        for mut write in pending.writes.drain(..) {
            match write.advance(MsgFlags::MSG_DONTWAIT) {
                Progress::Done(written) => results.written.push(written),
                Progress::Blocked => blocked.writes.push(write),
            }
        }
        for (connection, how) in pending.shuts.drain(..) {
            connection.shut(how);
        }
        for dial in pending.dials.drain(..) {
            self.dial(dial);
        }
        results.sent += self.send(&mut pending.transmits);
        blocked.transmits.append(&mut pending.transmits);
        blocked
    }

    /// Starts an outgoing connection. The attempt does not keep the engine alive.
    fn dial(self: &Arc<Self>, dial: Dial) {
        let core = Arc::downgrade(self);
        rt::spawn(async move {
            let result = dial::connect(dial.to).await;
            if let Some(core) = core.upgrade().filter(|core| !core.end.is_over()) {
                core.dialed(dial.id, result);
            }
        });
    }

    /// Takes the result of an attempt.
    fn dialed(self: &Arc<Self>, id: DialId, result: io::Result<(Socket, Remote)>) {
        match result {
            Ok((socket, remote)) => B::adopt(self, socket, Arrival::Dialed(id, remote)),
            Err(error) => {
                let mut pending = PendingIo::default();
                self.collect(&mut pending, |shared, now, _| shared.service.dial_failed(now, id, &error));
                B::hand_over(self, pending);
            }
        }
    }

    /// Closes a connection that the engine cannot wait for.
    pub(super) fn refuse(self: &Arc<Self>, arrival: Arrival, error: io::Error) {
        log::warn!("{arrival}: cannot wait for a connection: {error}");
        if let Arrival::Dialed(id, _) = arrival {
            self.dialed(id, Err(error));
        }
    }

    /// Sends datagrams or gives them up, and leaves those whose socket is full: they delay no other socket.
    /// Returns how many are done.
    pub(super) fn send(&self, transmits: &mut Vec<Transmit>) -> usize {
        let (mut passed, mut left) = (0, Vec::new());
        for run in transmits.chunk_by(|a, b| a.peer.listener == b.peer.listener) {
            let listener = run.first().and_then(|first| self.listener(first.peer.listener));
            let done = listener.map_or(run.len(), |listener| listener.send(run));
            if done < run.len() {
                left.push(passed + done..passed + run.len());
            }
            passed += run.len();
        }
        let mut places = 0..passed;
        transmits.retain(|_| places.next().is_some_and(|place| left.iter().any(|run| run.contains(&place))));
        passed - transmits.len()
    }

    /// Adds a listener after the existing ones: a datagram socket, or `None` for a stream listener.
    pub(super) fn add_one_listener(&self, listener: Option<Arc<DatagramListener>>) {
        if let Ok(mut listeners) = self.listeners.write() {
            listeners.push(listener);
        }
    }

    /// The datagram socket of that ordinal, if it is one and still open.
    fn listener(&self, id: ListenerId) -> Option<Arc<DatagramListener>> {
        self.listeners.read().ok()?.get(id)?.clone()
    }

    /// Receives a batch from the socket of that ordinal, and passes it to `take`. Returns whether there may be more.
    pub(super) fn receive(
        &self,
        id: ListenerId,
        take: impl FnOnce(&Self, &mut dyn Iterator<Item = (Peer, &[u8])>),
    ) -> io::Result<bool> {
        let Some(listener) = self.listener(id) else { return Ok(false) };
        Batch::with(|batch| {
            let (count, more) = listener.receive(batch)?;
            if count > 0 {
                take(self, &mut batch.datagrams().map(|(from, bytes)| (from.peer(id), bytes)));
            }
            Ok(more)
        })
    }

    /// Gives up datagrams whose socket stayed full for too long.
    pub(super) fn drop_all(&self, transmits: &[Transmit]) {
        for run in transmits.chunk_by(|a, b| a.peer.listener == b.peer.listener) {
            if let Some(listener) = run.first().and_then(|first| self.listener(first.peer.listener)) {
                listener.drop_all(run);
            }
        }
    }
}

/// I/O that would block.
#[derive(Debug)]
pub(super) struct Blocked<P> {
    pub(super) writes: Vec<Write<P>>,
    pub(super) transmits: Vec<Transmit>,
}

/// Counts discarded bytes. Returns whether they exceed the limit.
pub(super) fn exceeds_discard_limit(discarded: &mut u32, count: usize) -> bool {
    *discarded = discarded.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    *discarded > DISCARD_SIZE
}

/// Counts a thread or task of the engine; on drop, reports a panic and the end of the last one.
#[derive(Debug)]
pub(super) struct WorkerGuard<S: Service + 'static, B: Backend<S>>(Arc<EngineCore<S, B>>);

impl<S: Service, B: Backend<S>> WorkerGuard<S, B> {
    pub(super) fn new(core: &Arc<EngineCore<S, B>>) -> Self {
        core.end.workers.fetch_add(1, Ordering::SeqCst);
        Self(core.clone())
    }

    pub(super) const fn core(&self) -> &Arc<EngineCore<S, B>> {
        &self.0
    }
}

impl<S: Service, B: Backend<S>> Drop for WorkerGuard<S, B> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end.fail();
        }
        if self.0.end.workers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.end.stopped.notify(usize::MAX);
        }
    }
}
