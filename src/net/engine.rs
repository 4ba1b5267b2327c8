//! The engine: one lock around the service, and many tasks that take turns behind it.
//!
//! Whoever has changed the service takes what became sendable under the same lock and writes it itself, to whatever
//! connections it is for: nobody else is woken for it. A connection's output has one writer at a time; who finds it
//! free under the lock marks it, takes the bytes, writes them outside, and looks again before freeing it; all others
//! only queue. Only a socket that would block gets a task of its own, which waits for it.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use event_listener::{Event, listener};

use super::listen::{Doors, Listening};
use super::rt::{self, Task};
use super::shared::{Outcome, Shared, Work};
use super::stream::{self, Progress, StreamDoor, Write, Written};
use super::udp::{self, DatagramDoor};
use crate::service::{DoorId, Service, Transmit};

/// How many sockets one wake-up writes to before others get their turn.
pub(super) const TURN: usize = 256;

/// A service at work on its sockets. It goes on, whether this handle is kept or not, until [`Engine::shutdown`].
#[derive(Debug)]
pub struct Engine<S: Service> {
    core: Arc<Core<S>>,
    accepting: Mutex<Vec<Task>>,
}

/// What all tasks share.
#[derive(Debug)]
pub(super) struct Core<S: Service> {
    shared: Mutex<Shared<S>>,
    /// By their ordinal among all doors; nothing where connections come in.
    doors: Vec<Option<DatagramDoor>>,
    /// A deadline is earlier than what the timer task sleeps until.
    alarm: Event,
    /// A connection was closed: there may be room for another.
    pub(super) freed: Arc<Event>,
    /// The service has ended, and everything is written.
    finished: Event,
    failure: Event,
    has_failed: AtomicBool,
}

impl<S: Service + 'static> Engine<S> {
    /// Serves on sockets that were bound. `make` is told what time it is.
    ///
    /// # Errors
    ///
    /// The system has no room to wait for another socket.
    pub fn start(doors: impl Into<Doors>, make: impl FnOnce(Instant) -> S) -> io::Result<Self> {
        let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
        for (id, socket) in doors.into().into_sockets().enumerate() {
            datagrams.push(match socket {
                Listening::Datagrams(socket) => Some(DatagramDoor::new(socket)?),
                Listening::Streams(socket, file) => {
                    streams.push(StreamDoor::new(id, socket, file)?);
                    None
                }
            });
        }
        let shared = Shared::new(make(rt::now()));
        let core = Arc::new(Core {
            freed: shared.freed(),
            shared: Mutex::new(shared),
            doors: datagrams,
            alarm: Event::new(),
            finished: Event::new(),
            failure: Event::new(),
            has_failed: AtomicBool::new(false),
        });
        core.spawn(keep_time(core.clone()));
        for id in 0..core.doors.len() {
            core.spawn(udp::serve(core.clone(), id));
        }
        let accept = |door| core.spawn(stream::accept(core.clone(), door));
        let accepting = Mutex::new(streams.into_iter().map(accept).collect());
        Ok(Self { core, accepting })
    }

    /// Looks at the service, which stands still meanwhile.
    ///
    /// # Panics
    ///
    /// The service has panicked before.
    pub fn look<R>(&self, at: impl FnOnce(&S) -> R) -> R {
        at(&self.core.lock().service)
    }

    /// Changes the service, and lets what became sendable be written.
    ///
    /// # Panics
    ///
    /// The service has panicked before.
    pub fn change<R>(&self, act: impl FnOnce(&mut S, Instant) -> R) -> R {
        let (result, work) = self.core.with(|shared, now| {
            let result = act(&mut shared.service, now);
            (result, shared.collect(now))
        });
        self.core.hand_over(work);
        result
    }

    /// Stops accepting, lets the service say goodbye to everybody, and waits until it has, or for `limit` at most.
    ///
    /// Returns whether it came to its end.
    ///
    /// # Panics
    ///
    /// The service has panicked before.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        let end = crate::units::later(rt::now(), limit);
        let accepting =
            self.accepting.lock().map(|mut tasks| std::mem::take(&mut *tasks)).unwrap_or_default();
        for task in accepting {
            task.cancel().await;
        }
        self.change(|service, now| service.shutdown(now));
        rt::before(end, self.core.finished()).await.is_some()
    }

    /// Waits until a task has panicked. That is a bug, in the service or here; nothing can be trusted after it.
    pub async fn failed(&self) {
        let core = &self.core;
        while !core.has_failed.load(Ordering::SeqCst) {
            listener!(core.failure => failure);
            if !core.has_failed.load(Ordering::SeqCst) {
                failure.await;
            }
        }
    }
}

impl<S: Service + 'static> Core<S> {
    /// The door for datagrams of that ordinal, if it is one.
    pub(super) fn datagram_door(&self, id: DoorId) -> Option<&DatagramDoor> {
        self.doors.get(id)?.as_ref()
    }

    /// Starts a task whose panic is noticed.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) -> Task {
        let watch = Watch(self.clone());
        rt::spawn(async move {
            let _watch = watch;
            task.await;
        })
    }

    /// Does something under the lock, and wakes who waits for what came of it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Shared<S>, Instant) -> R) -> R {
        let mut shared = self.lock();
        // The clock is read under the lock, so that time never goes back for the service.
        let result = act(&mut shared, rt::now());
        let (alarm, finished) = (shared.needs_alarm(), shared.is_finished());
        drop(shared);
        if alarm {
            self.alarm.notify(1);
        }
        if finished {
            self.finished.notify(usize::MAX);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shared<S>> {
        match self.shared.lock() {
            Ok(shared) => shared,
            Err(_) => panic!("the service has panicked before: nothing in it can be trusted"),
        }
    }

    /// Writes what became sendable, and what becomes sendable meanwhile, for one turn. What is left then is for another
    /// task: under load there is always more, and this one has its own connection or clock to attend to.
    pub(super) async fn drive(self: &Arc<Self>, mut work: Work) {
        let mut sockets = 0;
        while !work.is_empty() {
            if sockets >= TURN {
                return self.hand_over(work);
            }
            sockets += work.len();
            work = self.perform(work).await;
        }
    }

    fn hand_over(self: &Arc<Self>, work: Work) {
        let core = self.clone();
        self.spawn(async move { core.drive_on(work).await });
    }

    /// Writes what became sendable until there is nothing left, turn by turn.
    async fn drive_on(self: &Arc<Self>, mut work: Work) {
        let mut sockets = 0;
        while !work.is_empty() {
            if sockets >= TURN {
                sockets = 0;
                rt::yield_now().await;
            }
            sockets += work.len();
            work = self.perform(work).await;
        }
    }

    /// Writes, sends and shuts. Returns what became sendable meanwhile.
    async fn perform(self: &Arc<Self>, work: Work) -> Work {
        let (sent, written) = (work.transmits.len(), self.write_all(work.writes));
        for (link, how) in work.shuts {
            link.shut(how);
        }
        self.send_all(work.transmits).await;
        self.with(|shared, now| shared.settle(now, Outcome { written, sent }))
    }

    /// Writes without waiting. What would have to wait gets a task of its own.
    fn write_all(self: &Arc<Self>, writes: Vec<Write>) -> Vec<Written> {
        let mut done = Vec::with_capacity(writes.len());
        for mut write in writes {
            match write.advance() {
                Progress::Done(written) => done.push(written),
                Progress::Blocked => drop(self.spawn(self.clone().write_slowly(write))),
            }
        }
        done
    }

    async fn send_all(&self, transmits: Vec<Transmit>) {
        let mut patience = None;
        for run in transmits.chunk_by(|a, b| a.peer.door == b.peer.door) {
            let door = run.first().and_then(|first| self.datagram_door(first.peer.door));
            if let Some(door) = door {
                door.send(run, &mut patience).await;
            }
        }
    }

    /// Writes to a socket that would block.
    async fn write_slowly(self: Arc<Self>, mut write: Write) {
        let written: Written = loop {
            write.writable().await;
            if let Progress::Done(written) = write.advance() {
                break written;
            }
        };
        let work = self.with(|shared, now| shared.settle(now, Outcome { written: vec![written], sent: 0 }));
        self.drive(work).await;
    }

    async fn finished(&self) {
        loop {
            listener!(self.finished => finished);
            if self.lock().is_finished() {
                return;
            }
            finished.await;
        }
    }
}

/// How long the timer task rests at least, so that others get the lock in between, however much is due.
const BREATH: Duration = Duration::from_micros(100);

/// Sleeps until the next deadline, over and over.
async fn keep_time<S: Service + 'static>(core: Arc<Core<S>>) {
    loop {
        let earlier = core.alarm.listen();
        let (work, deadline) = core.with(|shared, now| {
            let work = shared.tick(now);
            (work, shared.set_alarm())
        });
        core.drive(work).await;
        match deadline {
            Some(at) => drop(rt::before(at.max(rt::now() + BREATH), earlier).await),
            None => earlier.await,
        }
    }
}

/// Notices that the task it belongs to panics.
struct Watch<S: Service>(Arc<Core<S>>);

impl<S: Service> Drop for Watch<S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.has_failed.store(true, Ordering::SeqCst);
            self.0.failure.notify(usize::MAX);
        }
    }
}
