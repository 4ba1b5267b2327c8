//! One readiness loop without a thread, for [`Core`](crate::net::Core): its owner calls [`SingleLoop::step`].
//!
//! Listeners may be added at any time.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use super::loop_handle::{Subject, handles};
use super::worker::Worker;
use super::{Loops, StreamListener};
use crate::net::engine::engine_core::EngineCore;
use crate::net::listen::{Listeners, Listening};
use crate::net::rt;
use crate::net::udp::DatagramListener;
use crate::service::{ListenerId, Service};
use crate::units::later;

/// A loop that its owner drives.
#[derive(Debug)]
pub(in crate::net) struct SingleLoop<S: Service + 'static> {
    worker: Worker<S>,
    waker: Arc<Waker>,
    /// Number of listeners.
    listeners: ListenerId,
}

impl<S: Service + 'static> SingleLoop<S> {
    /// Creates one without listeners.
    pub(in crate::net) fn new(service: S) -> io::Result<Self> {
        let polls = [Poll::new()?];
        let handles = handles(&polls)?;
        let [poll] = polls;
        let Some(wakeup) = handles.first().map(|loop_handle| loop_handle.wakeup().clone()) else {
            return Err(io::Error::other("a poll without a loop"));
        };
        let core =
            Arc::new(EngineCore::new(service, Vec::new(), Loops { handles, listeners: Mutex::default() }));
        let waker = wakeup.waker().clone();
        Ok(Self { worker: Worker::new(core, (0, wakeup), poll), waker, listeners: 0 })
    }

    /// Serves on these too. Each gets its ordinal even if it fails, as in the service.
    pub(in crate::net) fn add_all_listeners(&mut self, listeners: Listeners) -> io::Result<()> {
        let mut result = Ok(());
        for socket in listeners.into_sockets() {
            let added = result.and_then(|()| self.add_one_listener(self.listeners, socket));
            let (listener, outcome) =
                added.map_or_else(|error| (None, Err(error)), |listener| (listener, Ok(())));
            self.worker.core.add_one_listener(listener);
            self.listeners += 1;
            result = outcome;
        }
        result
    }

    /// Serves on one. Returns it if it is a datagram socket.
    fn add_one_listener(
        &self,
        id: ListenerId,
        socket: Listening,
    ) -> io::Result<Option<Arc<DatagramListener>>> {
        match socket {
            Listening::Streams(socket, file, framing) => {
                self.add_listener(StreamListener::new(id, socket, file, framing)?).map(|()| None)
            }
            Listening::Datagrams(socket) => self.add_datagrams(id, DatagramListener::new(socket)?).map(Some),
        }
    }

    fn add_listener(&self, listener: StreamListener) -> io::Result<()> {
        let backend = &self.worker.core.backend;
        if let (Some(loop_handle), Ok(mut listeners)) = (backend.handles.first(), backend.listeners.lock()) {
            loop_handle.register(listener.as_fd().as_raw_fd(), Subject::Listener(listeners.len()))?;
            listeners.push(listener);
        }
        Ok(())
    }

    fn add_datagrams(&self, id: ListenerId, listener: DatagramListener) -> io::Result<Arc<DatagramListener>> {
        if let Some(loop_handle) = self.worker.core.backend.handles.first() {
            loop_handle.register(listener.as_fd().as_raw_fd(), Subject::Datagrams(id))?;
        }
        Ok(Arc::new(listener))
    }

    /// Calls `act` on the service. The next step sends what became sendable and checks deadlines.
    pub(in crate::net) fn with<R>(&mut self, act: impl FnOnce(&mut S, Instant) -> R) -> R {
        self.worker.is_dirty = true;
        let mut shared = self.worker.core.lock();
        act(&mut shared.service, rt::now())
    }

    /// Calls `at` on the service, which must not cause output or deadlines.
    pub(in crate::net) fn look<R>(&self, at: impl FnOnce(&mut S) -> R) -> R {
        at(&mut self.worker.core.lock().service)
    }

    /// The time of the next step; `None` means once a socket is ready.
    pub(in crate::net) fn deadline(&self) -> Option<Instant> {
        let wait = if self.worker.is_dirty { Some(Duration::ZERO) } else { self.worker.timeout() };
        wait.map(|wait| later(rt::now(), wait))
    }

    /// Becomes readable when a socket is ready.
    pub(in crate::net) fn fd(&self) -> BorrowedFd<'_> {
        self.worker.fd()
    }

    /// Sends what became sendable, waits for at most `most`, and handles what happened.
    pub(in crate::net) fn step(&mut self, most: Option<Duration>) -> io::Result<()> {
        self.worker.flush();
        self.worker.step(most)
    }

    /// Stops accepting connections.
    pub(in crate::net) fn stop_accepting(&self) {
        if let Ok(mut listeners) = self.worker.core.backend.listeners.lock() {
            listeners.clear();
        }
    }

    /// Whether the service has finished and everything is sent.
    pub(in crate::net) fn is_finished(&self) -> bool {
        self.worker.core.lock().is_finished()
    }

    /// Ends a step early, from another thread.
    pub(in crate::net) const fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }
}
