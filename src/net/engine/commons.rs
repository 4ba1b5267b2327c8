//! What all engines have in common: the lock, what is done under it and outside, and who is told of the end.

use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use event_listener::{Event, listener};
use futures::future::BoxFuture;
use nix::sys::socket::MsgFlags;

use super::dial;
use super::link::{Link, Mode, Port, Progress, Socket, Write};
use super::shared::Shared;
use super::work::{Outcome, Work};
use crate::net::batch::Batch;
use crate::net::rt;
use crate::net::udp::DatagramDoor;
use crate::service::{Arrival, Decoder, Dial, DialId, DoorId, Peer, Remote, Service, Transmit};

/// How much is read and discarded behind a connection's last words.
const DISCARD_SIZE: u32 = 16 << 20;

/// What is particular to an engine: who waits for sockets and deadlines, and how.
pub(super) trait Mechanism<S: Service>: Sized + Debug + Send + Sync + 'static {
    /// What a connection is read and written through.
    type Port: Port;

    /// A deadline is earlier than what is waited for.
    fn ring(&self);

    /// Has what became sendable written, without waiting for that.
    fn hand_over(core: &Arc<Commons<S, Self>>, work: Work<Self::Port>);

    /// Takes over a connection that was made, as one that was accepted.
    fn adopt(core: &Arc<Commons<S, Self>>, socket: Socket, arrival: Arrival);

    /// Lets no more connections in. What comes out of it has to be awaited.
    fn stop_accepting(core: &Arc<Commons<S, Self>>) -> BoxFuture<'_, ()>;

    /// Has everybody who works for the engine end: [`End::is_over`] says so already, and all connections are given up.
    /// What is left to be done about those comes with it.
    fn stop(core: &Arc<Commons<S, Self>>, work: Work<Self::Port>);

    /// Lets go of what was left for those who have ended.
    fn release(&self);
}

/// What all who work for an engine share.
#[derive(Debug)]
pub(super) struct Commons<S: Service, M: Mechanism<S>> {
    shared: Mutex<Shared<S, M::Port>>,
    /// By their ordinal among all doors; nothing where connections come in.
    /// None of them once the engine has ended, so that their ports are free.
    doors: RwLock<Vec<Option<Arc<DatagramDoor>>>>,
    pub(super) mechanism: M,
    pub(super) end: End,
}

/// Who waits for the end of an engine, good or bad.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The service has ended, and everything is written.
    finished: Event,
    failure: Event,
    has_failed: AtomicBool,
    /// Everybody who works for the engine is to end.
    is_over: AtomicBool,
    /// How many work for it.
    workers: AtomicUsize,
    /// None of them is left.
    left: Event,
}

impl End {
    /// Nothing of the engine can be trusted any more.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::SeqCst);
        self.failure.notify(usize::MAX);
    }

    /// Waits until somebody who works for the engine has panicked.
    pub(super) async fn failed(&self) {
        while !self.has_failed.load(Ordering::SeqCst) {
            listener!(self.failure => failure);
            if !self.has_failed.load(Ordering::SeqCst) {
                failure.await;
            }
        }
    }

    /// Whether who works for the engine is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits until nobody works for the engine.
    pub(super) async fn left(&self) {
        loop {
            listener!(self.left => left);
            if self.workers.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }

    /// Waits until `is_finished` says so, which is asked whenever it may.
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

/// What came of an attempt to read.
pub(super) enum Input {
    /// The service has taken it; whether the buffer was full, so that there may be more.
    Taken { count: usize, full: bool },
    /// It was for nobody.
    Discarded { count: usize, full: bool },
    /// Nothing is there.
    Nothing,
    /// The peer has closed its side.
    End,
    /// The connection is lost.
    Lost,
}

impl<S: Service + 'static, M: Mechanism<S>> Commons<S, M> {
    pub(super) fn new(service: S, doors: Vec<Option<Arc<DatagramDoor>>>, mechanism: M) -> Self {
        let (shared, doors) = (Mutex::new(Shared::new(service)), RwLock::new(doors));
        Self { shared, doors, mechanism, end: End::default() }
    }

    /// What became of the start of those who are to work for the engine. If it failed, those who have begun end.
    pub(super) fn started(self: Arc<Self>, result: io::Result<()>) -> io::Result<Arc<Self>> {
        if let Err(error) = result {
            self.stop();
            return Err(error);
        }
        Ok(self)
    }

    /// Gives up all connections and doors, and has everybody who works for the engine end.
    pub(super) fn stop(self: &Arc<Self>) {
        self.end.is_over.store(true, Ordering::SeqCst);
        let mut work = Work::default();
        self.give_up(&mut work);
        if let Ok(mut doors) = self.doors.write() {
            doors.clear();
        }
        M::stop(self, work);
    }

    /// Lets go of what nobody is left to look after.
    pub(super) fn release(&self) {
        self.give_up(&mut Work::default());
        self.mechanism.release();
    }

    /// Gives up all connections, unless the service has panicked: it is not asked anything any more.
    fn give_up(&self, work: &mut Work<M::Port>) {
        if !self.shared.is_poisoned() {
            self.with(|shared, now| shared.give_up(now, work));
        }
    }

    /// Does something under the lock, and wakes who waits for what came of it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Shared<S, M::Port>, Instant) -> R) -> R {
        let mut shared = self.lock();
        shared.service.begin_hold();
        // The clock is read under the lock, so that time never goes back for the service.
        let result = act(&mut shared, rt::now());
        let (alarm, finished) = (shared.needs_alarm(), shared.is_finished());
        drop(shared);
        if alarm {
            self.mechanism.ring();
        }
        if finished {
            self.end.finished.notify(usize::MAX);
        }
        result
    }

    /// Does something under the lock, and takes what became sendable.
    pub(super) fn collect<R>(
        &self,
        work: &mut Work<M::Port>,
        act: impl FnOnce(&mut Shared<S, M::Port>, Instant, &mut Work<M::Port>) -> R,
    ) -> R {
        self.with(|shared, now| {
            let result = act(shared, now, work);
            shared.collect(now, work);
            result
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared<S, M::Port>> {
        match self.shared.lock() {
            Ok(shared) => shared,
            Err(_) => panic!("the service has panicked before: nothing in it can be trusted"),
        }
    }

    /// Whether the service has come to its end, which one that has panicked does not.
    pub(super) fn is_finished(&self) -> bool {
        self.shared.lock().is_ok_and(|shared| shared.is_finished())
    }

    /// Reads from a connection once, and lets the service have what was read.
    pub(super) fn read(
        &self,
        link: &Arc<Link<M::Port>>,
        intake: &mut S::Conn,
        (buffer, how): (&mut [u8], MsgFlags),
        take: impl FnOnce(&Self, <S::Conn as Decoder>::Batch<'_>),
    ) -> Input {
        let most = buffer.len().min(intake.max_read());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = match link.read(buffer, how) {
            Ok(0) => return Input::End,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
            Err(_) => return Input::Lost,
        };
        let full = count == most;
        match link.mode() {
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

    /// Writes and sends what can be without waiting, shuts what is to be shut, and begins to connect. Returns what would have
    /// to wait.
    pub(super) fn perform(
        self: &Arc<Self>,
        work: &mut Work<M::Port>,
        outcome: &mut Outcome,
    ) -> Blocked<M::Port> {
        let mut blocked = Blocked { writes: Vec::new(), transmits: Vec::new() };
        for mut write in work.writes.drain(..) {
            match write.advance(MsgFlags::MSG_DONTWAIT) {
                Progress::Done(written) => outcome.written.push(written),
                Progress::Blocked => blocked.writes.push(write),
            }
        }
        for (link, how) in work.shuts.drain(..) {
            link.shut(how);
        }
        for dial in work.dials.drain(..) {
            self.dial(dial);
        }
        outcome.sent += self.send(&mut work.transmits);
        blocked.transmits.append(&mut work.transmits);
        blocked
    }

    /// Begins to make a connection. The attempt keeps nothing of the engine alive.
    fn dial(self: &Arc<Self>, dial: Dial) {
        let core = Arc::downgrade(self);
        rt::spawn(async move {
            let result = dial::connect(dial.to).await;
            if let Some(core) = core.upgrade().filter(|core| !core.end.is_over()) {
                core.dialed(dial.id, result);
            }
        });
    }

    /// What came of an attempt.
    fn dialed(self: &Arc<Self>, id: DialId, result: io::Result<(Socket, Remote)>) {
        match result {
            Ok((socket, remote)) => M::adopt(self, socket, Arrival::Dialed(id, remote)),
            Err(error) => {
                let mut work = Work::default();
                self.collect(&mut work, |shared, now, _| shared.service.dial_failed(now, id, &error));
                M::hand_over(self, work);
            }
        }
    }

    /// There is nobody to look after a connection, whose end that is.
    pub(super) fn turn_away(self: &Arc<Self>, arrival: Arrival, error: io::Error) {
        log::warn!("{arrival}: cannot wait for a connection: {error}");
        if let Arrival::Dialed(id, _) = arrival {
            self.dialed(id, Err(error));
        }
    }

    /// Sends datagrams, or gives them up; what is left is what sockets have no room for, which holds up no other door.
    /// Returns how many are done with.
    pub(super) fn send(&self, transmits: &mut Vec<Transmit>) -> usize {
        let (mut passed, mut left) = (0, Vec::new());
        for run in transmits.chunk_by(|a, b| a.peer.door == b.peer.door) {
            let door = run.first().and_then(|first| self.door(first.peer.door));
            let done = door.map_or(run.len(), |door| door.send(run));
            if done < run.len() {
                left.push(passed + done..passed + run.len());
            }
            passed += run.len();
        }
        let mut places = 0..passed;
        transmits.retain(|_| places.next().is_some_and(|place| left.iter().any(|run| run.contains(&place))));
        passed - transmits.len()
    }

    /// Adds a door behind those that there are: one for datagrams, or nothing where connections come in.
    pub(super) fn add_door(&self, door: Option<Arc<DatagramDoor>>) {
        if let Ok(mut doors) = self.doors.write() {
            doors.push(door);
        }
    }

    /// The door for datagrams of that ordinal, if it is one and still open.
    fn door(&self, id: DoorId) -> Option<Arc<DatagramDoor>> {
        self.doors.read().ok()?.get(id)?.clone()
    }

    /// Receives a batch at the door of that ordinal, and takes it in. Returns whether there may be more.
    pub(super) fn receive(
        &self,
        id: DoorId,
        take: impl FnOnce(&Self, &mut dyn Iterator<Item = (Peer, &[u8])>),
    ) -> io::Result<bool> {
        let Some(door) = self.door(id) else { return Ok(false) };
        Batch::with(|batch| {
            let (count, more) = door.receive(batch)?;
            if count > 0 {
                take(self, &mut batch.datagrams().map(|(from, bytes)| (from.peer(id), bytes)));
            }
            Ok(more)
        })
    }

    /// Gives up datagrams for which there was no room in time.
    pub(super) fn drop_all(&self, transmits: &[Transmit]) {
        for run in transmits.chunk_by(|a, b| a.peer.door == b.peer.door) {
            if let Some(door) = run.first().and_then(|first| self.door(first.peer.door)) {
                door.drop_all(run);
            }
        }
    }
}

/// What sockets have no room for.
#[derive(Debug)]
pub(super) struct Blocked<P> {
    pub(super) writes: Vec<Write<P>>,
    pub(super) transmits: Vec<Transmit>,
}

/// Counts what is read and discarded. Returns whether it is too much.
pub(super) fn is_too_much(discarded: &mut u32, count: usize) -> bool {
    *discarded = discarded.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    *discarded > DISCARD_SIZE
}

/// Who holds it works for the engine: notices that they panic, and when the last of them has ended.
#[derive(Debug)]
pub(super) struct Watch<S: Service + 'static, M: Mechanism<S>>(Arc<Commons<S, M>>);

impl<S: Service, M: Mechanism<S>> Watch<S, M> {
    pub(super) fn new(core: &Arc<Commons<S, M>>) -> Self {
        core.end.workers.fetch_add(1, Ordering::SeqCst);
        Self(core.clone())
    }

    pub(super) const fn core(&self) -> &Arc<Commons<S, M>> {
        &self.0
    }
}

impl<S: Service, M: Mechanism<S>> Drop for Watch<S, M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end.fail();
        }
        if self.0.end.workers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.end.left.notify(usize::MAX);
        }
    }
}
