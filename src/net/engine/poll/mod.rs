//! The engine of readiness loops: one for every second processor, or as many as wanted, each with its share of the connections (mio: epoll, kqueue).
//!
//! A wake-up of a loop ([`worker`]) reads from the connections that have something, lets the service have it, and then
//! writes once for all of that, to whatever connections it is for. A connection is in the table of its loop ([`home`])
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
use super::commons::{Commons, Mechanism, Watch};
use super::link::Socket;
use super::work::Work;
use crate::service::{Arrival, Service};

mod datagrams;
mod home;
mod reading;
mod solo;
mod worker;

pub(super) use datagrams::{RETRY, Waiting};
use home::{Home, Polled, Subject, home_of, homes};
pub(in crate::net) use solo::Solo;
use worker::Worker;

/// What the loops share besides the core.
#[derive(Debug)]
pub(super) struct Loops<S: Service> {
    homes: Vec<Home<S>>,
    /// Where connections come in, until they may not any more.
    listeners: Mutex<Vec<StreamDoor>>,
}

impl<S: Service> Loops<S> {
    /// The loop of the connection that has this place.
    fn home_of(&self, place: usize) -> Option<&Home<S>> {
        self.homes.get(home_of(place, self.homes.len()).0)
    }
}

type Looped<S> = Arc<Commons<S, Loops<S>>>;

impl<S: Service + 'static> Mechanism<S> for Loops<S> {
    type Port = Polled;

    fn ring(&self) {
        if let Some(first) = self.homes.first() {
            first.wake();
        }
    }

    fn hand_over(core: &Looped<S>, work: Work<Polled>) {
        if let Some(first) = core.mechanism.homes.first() {
            first.leave(|mail| mail.work.push(work));
            first.wake();
        }
    }

    fn adopt(core: &Looped<S>, socket: Socket, arrival: Arrival) {
        if let Some(first) = core.mechanism.homes.first() {
            first.leave(|mail| mail.made.push((socket, arrival)));
            first.wake();
        }
    }

    fn stop_accepting(core: &Looped<S>) -> BoxFuture<'_, ()> {
        if let Ok(mut listeners) = core.mechanism.listeners.lock() {
            listeners.clear();
        }
        Box::pin(async {})
    }

    /// A loop closes the connections that it has.
    fn stop(core: &Looped<S>, _work: Work<Polled>) {
        if let Ok(mut listeners) = core.mechanism.listeners.lock() {
            listeners.clear();
        }
        core.mechanism.homes.iter().for_each(Home::wake);
    }

    fn release(&self) {
        for home in &self.homes {
            drop(home.take_mail());
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
    let homes = homes(&polls)?;
    for ((id, door), home) in sockets.datagrams.iter().enumerate().zip(homes.iter().cycle()) {
        if let Some(door) = door {
            home.register(door.as_fd().as_raw_fd(), Subject::Datagrams(id))?;
        }
    }
    for (nth, door) in sockets.streams.iter().enumerate() {
        if let Some(first) = homes.first() {
            first.register(door.as_fd().as_raw_fd(), Subject::Listener(nth))?;
        }
    }
    let mechanism = Loops { homes, listeners: Mutex::new(sockets.streams) };
    let core = Arc::new(Commons::new(service, sockets.datagrams, mechanism));
    let started = run(&core, polls);
    core.started(started)
}

/// Starts a thread for each loop.
fn run<S: Service + 'static>(core: &Looped<S>, polls: Vec<mio::Poll>) -> io::Result<()> {
    let bells = core.mechanism.homes.iter().map(|home| home.bell().clone());
    for (nth, (poll, bell)) in polls.into_iter().zip(bells).enumerate() {
        let watch = Watch::new(core);
        let worker = Worker::new(core.clone(), (nth, bell), poll);
        thread::Builder::new().name(format!("poll-{nth}")).spawn(move || {
            let _watch = watch;
            worker.run();
        })?;
    }
    Ok(())
}
