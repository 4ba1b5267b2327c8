//! One readiness loop without a thread: its owner turns it, and may add doors at any time.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use super::home::{Subject, homes};
use super::worker::Worker;
use super::{Loops, StreamDoor};
use crate::net::engine::commons::Commons;
use crate::net::listen::{Doors, Listening};
use crate::net::udp::DatagramDoor;
use crate::service::{DoorId, Service};

/// A loop that its owner turns.
#[derive(Debug)]
pub(in crate::net) struct Solo<S: Service + 'static> {
    worker: Worker<S>,
    waker: Arc<Waker>,
    /// How many doors there are.
    doors: DoorId,
}

impl<S: Service + 'static> Solo<S> {
    /// One without doors.
    pub(in crate::net) fn new(service: S) -> io::Result<Self> {
        let polls = [Poll::new()?];
        let homes = homes(&polls)?;
        let [poll] = polls;
        let Some(bell) = homes.first().map(|home| home.bell().clone()) else {
            return Err(io::Error::other("a poll without a loop"));
        };
        let core = Arc::new(Commons::new(service, Vec::new(), Loops { homes, listeners: Mutex::default() }));
        let waker = bell.waker().clone();
        Ok(Self { worker: Worker::new(core, (0, bell), poll), waker, doors: 0 })
    }

    /// Serves on these from now on, too.
    pub(in crate::net) fn add_doors(&mut self, doors: Doors) -> io::Result<()> {
        for socket in doors.into_sockets() {
            let id = self.doors;
            match socket {
                Listening::Streams(socket, file, framing) => {
                    self.add_listener(StreamDoor::new(id, socket, file, framing)?)?;
                }
                Listening::Datagrams(socket) => self.add_datagrams(id, DatagramDoor::new(socket)?)?,
            }
            self.doors += 1;
        }
        Ok(())
    }

    fn add_listener(&self, door: StreamDoor) -> io::Result<()> {
        let mechanism = &self.worker.core.mechanism;
        if let (Some(home), Ok(mut listeners)) = (mechanism.homes.first(), mechanism.listeners.lock()) {
            home.register(door.as_fd().as_raw_fd(), Subject::Listener(listeners.len()))?;
            listeners.push(door);
        }
        self.worker.core.add_door(None);
        Ok(())
    }

    fn add_datagrams(&self, id: DoorId, door: DatagramDoor) -> io::Result<()> {
        if let Some(home) = self.worker.core.mechanism.homes.first() {
            home.register(door.as_fd().as_raw_fd(), Subject::Datagrams(id))?;
        }
        self.worker.core.add_door(Some(Arc::new(door)));
        Ok(())
    }

    /// Does something with the service. What becomes sendable is sent at the next step.
    pub(in crate::net) fn with<R>(&mut self, act: impl FnOnce(&mut S, Instant) -> R) -> R {
        self.worker.is_dirty = true;
        self.worker.with(|shared, now, _| act(&mut shared.service, now))
    }

    /// Sends what became sendable, waits for something to do, for so long at most, and does it.
    pub(in crate::net) fn step(&mut self, most: Option<Duration>) -> io::Result<()> {
        self.worker.flush();
        self.worker.step(most)
    }

    /// Lets no more connections in.
    pub(in crate::net) fn stop_accepting(&self) {
        if let Ok(mut listeners) = self.worker.core.mechanism.listeners.lock() {
            listeners.clear();
        }
    }

    /// Whether the service has ended and everything is sent.
    pub(in crate::net) fn is_finished(&self) -> bool {
        self.worker.core.lock().is_finished()
    }

    /// Ends a step early, from another thread.
    pub(in crate::net) const fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }
}
