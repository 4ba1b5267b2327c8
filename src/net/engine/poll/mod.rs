//! The engine of readiness loops: one for every second processor, or as many as wanted, each with its share of the connections (mio: epoll, kqueue).
//!
//! A wake-up of a loop ([`worker`]) reads from the connections that have something, lets the service have it, and then
//! writes once for all of that, to whatever connections it is for. A connection is in the table of its loop ([`loop_handle`])
//! with nothing but its socket and its intake; what waits for it is in the service, or, where its socket is full, under
//! the lock. The first loop also accepts and keeps the time.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex};
use std::thread;

use futures::future::BoxFuture;

use super::Sockets;
use super::accept::StreamDoor;
use super::connection::Socket;
use super::engine_core::{Backend, EngineCore, Watch};
use super::pending_io::PendingIo;
use crate::service::{Arrival, Service};

mod datagrams;
mod loop_handle;
mod reading;
mod single_loop;
mod worker;

pub(super) use datagrams::{RETRY, Waiting};
use loop_handle::{LoopHandle, Polled, Subject, handle_of, handles};
pub(in crate::net) use single_loop::SingleLoop;
use worker::Worker;

/// What the loops share besides the core.
#[derive(Debug)]
pub(super) struct Loops<S: Service> {
    handles: Vec<LoopHandle<S>>,
    /// Where connections come in, until they may not any more.
    listeners: Mutex<Vec<StreamDoor>>,
}

impl<S: Service> Loops<S> {
    /// The loop of the connection that has this place.
    fn handle_of(&self, place: usize) -> Option<&LoopHandle<S>> {
        self.handles.get(handle_of(place, self.handles.len()).0)
    }
}

type Looped<S> = Arc<EngineCore<S, Loops<S>>>;

impl<S: Service + 'static> Backend<S> for Loops<S> {
    type Port = Polled;

    fn ring(&self) {
        if let Some(first) = self.handles.first() {
            first.wake();
        }
    }

    fn hand_over(core: &Looped<S>, work: PendingIo<Polled>) {
        if let Some(first) = core.backend.handles.first() {
            first.leave(|inbox| inbox.work.push(work));
            first.wake();
        }
    }

    fn adopt(core: &Looped<S>, socket: Socket, arrival: Arrival) {
        if let Some(first) = core.backend.handles.first() {
            first.leave(|inbox| inbox.made.push((socket, arrival)));
            first.wake();
        }
    }

    fn stop_accepting(core: &Looped<S>) -> BoxFuture<'_, ()> {
        if let Ok(mut listeners) = core.backend.listeners.lock() {
            listeners.clear();
        }
        Box::pin(async {})
    }

    /// A loop closes the connections that it has.
    fn stop(core: &Looped<S>, _work: PendingIo<Polled>) {
        if let Ok(mut listeners) = core.backend.listeners.lock() {
            listeners.clear();
        }
        core.backend.handles.iter().for_each(LoopHandle::wake);
    }

    fn release(&self) {
        for loop_handle in &self.handles {
            drop(loop_handle.take_inbox());
        }
    }
}

/// How many loops there are if nobody says: one for every second processor, at least one.
///
/// The system's own share of the work, and that of clients on the same machine, needs processors, too; a loop that has to
/// share one with them comes to wait with half a batch.
pub fn usual_loops() -> NonZeroUsize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors / 2).unwrap_or(NonZeroUsize::MIN)
}

/// Starts the loops.
///
/// # Errors
///
/// The system has no room for them, or to wait for another socket.
pub(super) fn start<S: Service + 'static>(
    loops: NonZeroUsize,
    sockets: Sockets,
    service: S,
) -> io::Result<Looped<S>> {
    let polls = (0..loops.get()).map(|_| mio::Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let handles = handles(&polls)?;
    for ((id, door), loop_handle) in sockets.datagrams.iter().enumerate().zip(handles.iter().cycle()) {
        if let Some(door) = door {
            loop_handle.register(door.as_fd().as_raw_fd(), Subject::Datagrams(id))?;
        }
    }
    for (nth, door) in sockets.streams.iter().enumerate() {
        if let Some(first) = handles.first() {
            first.register(door.as_fd().as_raw_fd(), Subject::Listener(nth))?;
        }
    }
    let backend = Loops { handles, listeners: Mutex::new(sockets.streams) };
    let core = Arc::new(EngineCore::new(service, sockets.datagrams, backend));
    let started = run(&core, polls);
    core.started(started)
}

/// Starts a thread for each loop.
fn run<S: Service + 'static>(core: &Looped<S>, polls: Vec<mio::Poll>) -> io::Result<()> {
    let bells = core.backend.handles.iter().map(|loop_handle| loop_handle.wakeup().clone());
    for (nth, (poll, wakeup)) in polls.into_iter().zip(bells).enumerate() {
        let watch = Watch::new(core);
        let worker = Worker::new(core.clone(), (nth, wakeup), poll);
        thread::Builder::new().name(format!("poll-{nth}")).spawn(move || {
            let _watch = watch;
            worker.run();
        })?;
    }
    Ok(())
}
