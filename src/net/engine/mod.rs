//! Engines: run a [`Service`] on its sockets, as tasks, readiness loops or threads.
//!
//! [`Engine`] is the handle of a running server. It stands between the sockets of [`listen`](super::listen) and a
//! service, and knows no protocol. Client connections are in [`client`](super::client) and [`drive`](super::drive).
//!
//! A thread that changed the service takes what became sendable under the same lock. It writes it itself, to whatever
//! connections it is for: no other thread is woken. A connection's output has one writer at a time. A writer marks the
//! connection and takes the bytes under the lock. It writes them outside the lock, and looks for more before it clears
//! the mark. Other threads only queue. Only a socket that would block is waited for. All engines share this; they
//! differ in what waits for sockets and deadlines:
//!
//! ```text
//! tasks    one task per connection, on the threads of a runtime
//! poll     readiness loops, one for every second processor
//! threads  one thread per connection
//!
//! engine_core  the lock, and what is done under it and outside
//! shared       what is under the lock: the service, and which connections are being written to
//! ending       how connections close
//! dead_peers   TCP peers that stopped acknowledging
//! pending_io   I/O to do outside the lock, and its results
//! connection   a connection's socket, and output on its way to it
//! accept       stream listeners, and the pause when descriptors run out
//! dial         outgoing connections that the service asked for
//! handle       a handle for other threads
//! facade       starting a handler, or the chat, at URLs
//! ```
//!
//! ```
//! use std::io::{Read, Write};
//! use sayagain::host::{Context, Handler, Settings};
//! use sayagain::net::Engine;
//! use sayagain::service::ConnId;
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
//!         let _ = cx.send(conn, bytes);
//!         bytes.len()
//!     }
//! }
//!
//! let engine = Engine::host(&["raw://127.0.0.1:0"], Settings::default(), Echo)?;
//! let url = engine.listen_addrs()[0].to_string();
//! let mut peer = std::net::TcpStream::connect(url.trim_start_matches("raw://"))?;
//! peer.write_all(b"again")?;
//! let mut received = [0; 5];
//! peer.read_exact(&mut received)?;
//! assert_eq!(&received, b"again");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt::{self, Debug};
use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, Either, select};

use super::listen::{ListenAddr, Listeners, Listening};
use super::rt;
use super::udp::DatagramListener;
use crate::escape::escape_short;
use crate::service::Service;

mod accept;
mod connection;
mod dead_peers;
mod dial;
mod ending;
mod engine_core;
mod facade;
mod handle;
mod pending_io;
mod poll;
mod shared;
mod tasks;
mod threads;

use self::accept::StreamListener;
#[cfg(test)]
pub(super) use self::connection::{Connection, Port, Progress, Socket, prepare};
use self::engine_core::{Backend, End, EngineCore};
pub use self::handle::EngineHandle;
#[cfg(test)]
pub(super) use self::pending_io::IoResults;
pub(super) use self::pending_io::PendingIo;
pub(super) use self::poll::SingleLoop;
pub(crate) use self::poll::usual_loops;
#[cfg(test)]
pub(super) use self::shared::Shared;

/// Most sockets written to in one turn before other threads get the lock.
pub(super) const SOCKET_BUDGET: usize = 256;

/// Time limit for the threads and tasks of an engine to end once nothing is left to do.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The mechanism that waits for sockets and deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// A task per connection, on the threads of async-std.
    Tasks,
    /// Readiness loops: `usual_loops` of them unless told otherwise.
    #[default]
    Poll,
    /// A thread per connection.
    Threads,
}

impl EngineKind {
    /// Every kind.
    #[doc(hidden)]
    pub const ALL: [Self; 3] = [Self::Tasks, Self::Poll, Self::Threads];

    /// The name, as on the command line.
    #[doc(hidden)]
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Poll => "poll",
            Self::Threads => "threads",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[doc(hidden)]
impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| UnknownEngine(text.to_owned()))
    }
}

/// The error for a name that is not an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an engine; write {}", escape_short(.0.as_bytes(), 40), EngineKind::ALL.map(EngineKind::name).join(", "))]
pub struct UnknownEngine(String);

/// A service running on its sockets.
///
/// Dropping it stops nothing: the service continues on the engine's threads, until [`Engine::shutdown`] or the end of the
/// process. So a program keeps the engine to shut it down, or to [wait](Engine::wait) for it.
#[derive(Debug)]
pub struct Engine<S: Service> {
    driver: Box<dyn Driver<S>>,
    listen_addrs: Vec<ListenAddr>,
}

/// The sockets of a server, by kind.
#[derive(Debug)]
struct Sockets {
    streams: Vec<StreamListener>,
    /// By listener ordinal; `None` for stream listeners.
    datagrams: Vec<Option<Arc<DatagramListener>>>,
}

impl Sockets {
    fn new(listeners: Listeners) -> io::Result<Self> {
        let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
        for (id, socket) in listeners.into_sockets().enumerate() {
            datagrams.push(match socket {
                Listening::Datagrams(socket) => Some(Arc::new(DatagramListener::new(socket)?)),
                Listening::Streams(socket, file, framing) => {
                    streams.push(StreamListener::new(id, socket, file, framing)?);
                    None
                }
            });
        }
        Ok(Self { streams, datagrams })
    }
}

impl<S: Service + 'static> Engine<S> {
    /// Serves on bound sockets. `make` creates the service and is given the current time.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot wait for another socket.
    pub fn start(
        kind: EngineKind,
        listeners: impl Into<Listeners>,
        make: impl FnOnce(Instant) -> S,
    ) -> io::Result<Self> {
        Self::start_with(kind, usual_loops(), listeners, make)
    }

    /// As [`Engine::start`], with `loops` readiness loops if `kind` is [`EngineKind::Poll`].
    ///
    /// # Errors
    ///
    /// Fails if the system cannot wait for another socket, or start that many threads.
    #[doc(hidden)]
    pub fn start_with(
        kind: EngineKind,
        loops: NonZeroUsize,
        listeners: impl Into<Listeners>,
        make: impl FnOnce(Instant) -> S,
    ) -> io::Result<Self> {
        let listeners = listeners.into();
        let listen_addrs = listeners.addrs().cloned().collect();
        let sockets = Sockets::new(listeners)?;
        let service = make(rt::now());
        let driver: Box<dyn Driver<S>> = match kind {
            EngineKind::Tasks => Box::new(tasks::start(sockets, service)?),
            EngineKind::Poll => Box::new(poll::start(loops, sockets, service)?),
            EngineKind::Threads => Box::new(threads::start(sockets, service)?),
        };
        Ok(Self { driver, listen_addrs })
    }

    /// The addresses that it listens on.
    pub fn listen_addrs(&self) -> &[ListenAddr] {
        &self.listen_addrs
    }

    /// Waits until the service has finished, all sockets are closed and no thread of the engine runs.
    ///
    /// Returns false if a part of the engine has panicked.
    pub fn wait(&self) -> bool {
        rt::block_on(async {
            let finished = pin!(self.driver.end().finished(|| self.driver.is_finished()));
            let is_finished = matches!(select(finished, pin!(self.failed())).await, Either::Left(_));
            self.stop().await;
            is_finished
        })
    }

    /// Reads the service under the lock.
    ///
    /// # Panics
    ///
    /// Panics if the service has panicked before.
    pub fn look<R>(&self, at: impl FnOnce(&S) -> R) -> R {
        let (mut at, mut result) = (Some(at), None);
        self.driver.look(&mut |service| result = at.take().map(|at| at(service)));
        returned(result)
    }

    /// Changes the service under the lock, and writes what became sendable.
    ///
    /// # Panics
    ///
    /// Panics if the service has panicked before.
    pub fn change<R>(&self, act: impl FnOnce(&mut S, Instant) -> R) -> R {
        let (mut act, mut result) = (Some(act), None);
        self.driver.change(&mut |service, now| result = act.take().map(|act| act(service, now)));
        returned(result)
    }

    /// Stops accepting, lets the service send BYE to its sessions, and waits for that, at most for `limit`.
    ///
    /// Returns whether the service finished in time. Either way the engine then ends: remaining connections and all
    /// sockets are closed, and none of its threads or tasks runs. The service can still be read.
    ///
    /// # Panics
    ///
    /// Panics if the service has panicked before.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        let end = crate::units::later(rt::now(), limit);
        self.driver.stop_accepting().await;
        self.change(|service, now| service.shutdown(now));
        let finished = self.driver.end().finished(|| self.driver.is_finished());
        let is_finished = rt::before(end, finished).await.is_some();
        self.stop().await;
        is_finished
    }

    /// As [`Engine::shutdown`] for a program without an executor: blocks this thread.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sayagain::config::ServerConfig;
    /// use sayagain::net::Engine;
    ///
    /// let engine = Engine::chat(&["tcp://127.0.0.1:0"], ServerConfig::default())?;
    /// assert!(engine.shutdown_blocking(Duration::from_secs(5)), "the service finished in time");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the service has panicked before.
    pub fn shutdown_blocking(&self, limit: Duration) -> bool {
        rt::block_on(self.shutdown(limit))
    }

    /// A handle for other threads, which does not keep the engine alive.
    #[must_use]
    pub fn handle(&self) -> EngineHandle<S> {
        EngineHandle::of(self.driver.downgrade())
    }

    /// Ends everything, and waits until no thread or task of the engine is left.
    async fn stop(&self) {
        self.driver.stop();
        if rt::before(rt::now() + STOP_TIMEOUT, self.driver.end().stopped()).await.is_none() {
            log::warn!("a thread or task of the engine still runs after its end: this is a bug");
        }
        self.driver.release();
    }

    /// Waits until a part of the engine has panicked. That is a bug in the service or here; its state cannot
    /// be trusted.
    #[doc(hidden)]
    pub async fn failed(&self) {
        self.driver.end().failed().await;
    }
}

fn returned<R>(result: Option<R>) -> R {
    match result {
        Some(result) => result,
        None => unreachable!("a driver calls what it is given, once"),
    }
}

/// The interface of every engine to its owner.
trait Driver<S>: Debug + Send + Sync {
    fn downgrade(&self) -> Box<dyn WeakDriver<S>>;
    fn look(&self, at: &mut dyn FnMut(&S));
    fn change(&self, act: &mut dyn FnMut(&mut S, Instant));
    fn stop_accepting(&self) -> BoxFuture<'_, ()>;
    fn is_finished(&self) -> bool;
    fn end(&self) -> &End;
    fn stop(&self);
    fn release(&self);
}

/// A driver that may be gone.
trait WeakDriver<S>: Debug + Send + Sync {
    /// The driver, unless its engine has ended.
    fn upgrade(&self) -> Option<Box<dyn Driver<S>>>;
}

impl<S: Service + 'static, B: Backend<S>> WeakDriver<S> for Weak<EngineCore<S, B>> {
    fn upgrade(&self) -> Option<Box<dyn Driver<S>>> {
        let core = Self::upgrade(self).filter(|core| !core.end.is_over())?;
        Some(Box::new(core))
    }
}

impl<S: Service + 'static, B: Backend<S>> Driver<S> for Arc<EngineCore<S, B>> {
    fn downgrade(&self) -> Box<dyn WeakDriver<S>> {
        Box::new(Self::downgrade(self))
    }

    fn look(&self, at: &mut dyn FnMut(&S)) {
        at(&self.lock().service);
    }

    fn change(&self, act: &mut dyn FnMut(&mut S, Instant)) {
        let mut pending = PendingIo::default();
        self.collect(&mut pending, |shared, now, _| act(&mut shared.service, now));
        if !self.end.is_over() {
            B::hand_over(self, pending);
        }
    }

    fn stop_accepting(&self) -> BoxFuture<'_, ()> {
        B::stop_accepting(self)
    }

    fn is_finished(&self) -> bool {
        EngineCore::is_finished(self)
    }

    fn end(&self) -> &End {
        &self.end
    }

    fn stop(&self) {
        EngineCore::stop(self);
    }

    fn release(&self) {
        EngineCore::release(self);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::config::ServerConfig;
    use crate::server::Server;

    /// Starts an engine, then reports that a part of it did not start.
    fn fail_partial_start<B: Backend<Server>>(
        start: impl Fn(Sockets, Server) -> io::Result<Arc<EngineCore<Server, B>>>,
    ) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let listener = Arc::new(DatagramListener::new(socket).unwrap());
        let sockets = Sockets { streams: Vec::new(), datagrams: vec![Some(listener)] };
        let service =
            Server::new(rt::now(), ServerConfig::default(), Box::new(ChaCha20Rng::seed_from_u64(1)));
        let core = start(sockets, service).unwrap();
        assert!(core.clone().started(Err(io::Error::other("no room"))).is_err());
        let left = rt::before(rt::now() + Duration::from_secs(5), core.end.stopped());
        assert!(rt::block_on(left).is_some(), "a thread stays");
        assert!(UdpSocket::bind(addr).is_ok());
    }

    #[test]
    fn an_engine_that_fails_to_start_leaves_no_thread() {
        fail_partial_start(|sockets, service| poll::start(NonZeroUsize::MIN, sockets, service));
        fail_partial_start(threads::start);
    }
}
