//! The `poll` engine: readiness loops (mio: epoll, kqueue), each with its share of the connections.
//!
//! There is one loop for every second processor, or as many as configured. A turn of a loop ([`worker`]) reads from the
//! ready connections, and passes their input to the service. Then it writes once for all of it, to whatever connections
//! it is for. A loop holds only the socket and the decoder of a connection ([`loop_handle`]). Its output is in the
//! service, or under the lock while its socket is full. The first loop also accepts and keeps time.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex};
use std::thread;

use futures::future::BoxFuture;

use super::Sockets;
use super::accept::StreamListener;
use super::connection::Socket;
use super::engine_core::{Backend, EngineCore, WorkerGuard};
use super::pending_io::PendingIo;
use crate::service::{Arrival, Service};

mod datagrams;
mod loop_handle;
mod reading;
mod single_loop;
mod worker;

pub(super) use datagrams::{RETRY, Waiting};
use loop_handle::{LoopHandle, PollPort, Subject, handle_of, handles};
pub(in crate::net) use single_loop::SingleLoop;
use worker::Worker;

/// State that the loops share besides the core.
#[derive(Debug)]
pub(super) struct Loops<S: Service> {
    handles: Vec<LoopHandle<S>>,
    /// Stream listeners; empty once accepting has stopped.
    listeners: Mutex<Vec<StreamListener>>,
}

impl<S: Service> Loops<S> {
    /// The loop of the connection at this place.
    fn handle_of(&self, place: usize) -> Option<&LoopHandle<S>> {
        self.handles.get(handle_of(place, self.handles.len()).0)
    }
}

type Looped<S> = Arc<EngineCore<S, Loops<S>>>;

impl<S: Service + 'static> Backend<S> for Loops<S> {
    type Port = PollPort;

    fn wake_timer(&self) {
        if let Some(first) = self.handles.first() {
            first.wake();
        }
    }

    fn hand_over(core: &Looped<S>, pending: PendingIo<PollPort>) {
        if let Some(first) = core.backend.handles.first() {
            first.post(|inbox| inbox.pending.push(pending));
            first.wake();
        }
    }

    fn adopt(core: &Looped<S>, socket: Socket, arrival: Arrival) {
        if let Some(first) = core.backend.handles.first() {
            first.post(|inbox| inbox.made.push((socket, arrival)));
            first.wake();
        }
    }

    fn stop_accepting(core: &Looped<S>) -> BoxFuture<'_, ()> {
        if let Ok(mut listeners) = core.backend.listeners.lock() {
            listeners.clear();
        }
        Box::pin(async {})
    }

    /// Each loop closes its own connections.
    fn stop(core: &Looped<S>, _pending: PendingIo<PollPort>) {
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

/// The default number of loops: one for every second processor, at least one.
///
/// The system's share of the work, and clients on the same machine, need processors too. A loop that shares
/// one with them waits in the middle of a batch.
pub(crate) fn usual_loops() -> NonZeroUsize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors / 2).unwrap_or(NonZeroUsize::MIN)
}

/// Starts the loops.
///
/// # Errors
///
/// Fails if the system cannot start them, or wait for another socket.
pub(super) fn start<S: Service + 'static>(
    loops: NonZeroUsize,
    sockets: Sockets,
    service: S,
) -> io::Result<Looped<S>> {
    let polls = (0..loops.get()).map(|_| mio::Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let handles = handles(&polls)?;
    for ((id, listener), loop_handle) in sockets.datagrams.iter().enumerate().zip(handles.iter().cycle()) {
        if let Some(listener) = listener {
            loop_handle.register(listener.as_fd().as_raw_fd(), Subject::Datagrams(id))?;
        }
    }
    for (nth, listener) in sockets.streams.iter().enumerate() {
        if let Some(first) = handles.first() {
            first.register(listener.as_fd().as_raw_fd(), Subject::Listener(nth))?;
        }
    }
    let backend = Loops { handles, listeners: Mutex::new(sockets.streams) };
    let core = Arc::new(EngineCore::new(service, sockets.datagrams, backend));
    let started = run(&core, polls);
    core.started(started)
}

/// Starts a thread for each loop.
fn run<S: Service + 'static>(core: &Looped<S>, polls: Vec<mio::Poll>) -> io::Result<()> {
    let wakeups = core.backend.handles.iter().map(|loop_handle| loop_handle.wakeup().clone());
    for (nth, (poll, wakeup)) in polls.into_iter().zip(wakeups).enumerate() {
        let watch = WorkerGuard::new(core);
        let worker = Worker::new(core.clone(), (nth, wakeup), poll);
        thread::Builder::new().name(format!("poll-{nth}")).spawn(move || {
            let _watch = watch;
            worker.run();
        })?;
    }
    Ok(())
}
