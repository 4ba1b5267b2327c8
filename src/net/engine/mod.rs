//! The engines: one lock around the service, and many who take turns behind it.
//!
//! Whoever has changed the service takes what became sendable under the same lock and writes it itself, to whatever
//! connections it is for: nobody else is woken for it. A connection's output has one writer at a time; who finds it
//! free under the lock marks it, takes the bytes, writes them outside, and looks again before freeing it; all others
//! only queue. Only a socket that would block is waited for. All this is the same for every engine; they differ in who
//! waits for sockets and deadlines, and how:
//!
//! ```text
//! tasks    a task per connection, on the threads of a runtime
//! poll     readiness loops, one for every second processor
//! threads  a thread per connection
//!
//! engine_core  what they share: the lock, and what is done under it and outside
//! shared   what is under the lock: the service, and who writes to which connection
//! ending   the same, as connections end
//! work     what is to be done outside the lock, and what became of it
//! link     a connection's socket, and output on its way through it
//! accept   where connections come in
//! dial     connections that the service wants to be made
//! ```

use std::fmt::{self, Debug};
use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, Either, select};

use super::listen::{Doors, ListenAddr, Listening};
use super::open_error::OpenError;
use super::rt;
use super::udp::DatagramDoor;
use crate::escape::escape_short;
use crate::host::{Handler, Host, Settings};
use crate::service::Service;

mod accept;
mod connection;
mod dead_peers;
mod dial;
mod ending;
mod engine_core;
mod pending_io;
mod poll;
mod shared;
mod tasks;
mod threads;

use self::accept::StreamDoor;
pub(crate) use self::accept::{PAUSES, is_of_one_connection};
#[cfg(test)]
pub(super) use self::connection::{Connection, Port, Progress, Socket, prepare};
use self::engine_core::{Backend, End, EngineCore};
#[cfg(test)]
pub(super) use self::pending_io::IoResults;
pub(super) use self::pending_io::PendingIo;
pub(super) use self::poll::SingleLoop;
pub use self::poll::usual_loops;
#[cfg(test)]
pub(super) use self::shared::Shared;

/// How many sockets one wake-up writes to before others get their turn.
pub(super) const TURN: usize = 256;

/// How long those who work for an engine have to end when nothing is left for them to do.
const LEAVING: Duration = Duration::from_secs(2);

/// Who waits for sockets and deadlines, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// A task per connection, on the threads of async-std.
    Tasks,
    /// Readiness loops, as many as [`usual_loops`] or as wanted.
    #[default]
    Poll,
    /// A thread per connection.
    Threads,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tasks, Self::Poll, Self::Threads];

    /// Its name.
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

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| UnknownEngine(text.to_owned()))
    }
}

/// There is no such engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no engine; write {}", escape_short(.0.as_bytes(), 40), EngineKind::ALL.map(EngineKind::name).join(", "))]
pub struct UnknownEngine(String);

/// A service at work on its sockets. It goes on, whether this handle is kept or not, until [`Engine::shutdown`].
#[derive(Debug)]
pub struct Engine<S: Service> {
    driver: Box<dyn Driver<S>>,
    places: Vec<ListenAddr>,
}

/// The sockets of a server, by what they are.
#[derive(Debug)]
struct Sockets {
    streams: Vec<StreamDoor>,
    /// By their ordinal among all doors; nothing where connections come in.
    datagrams: Vec<Option<Arc<DatagramDoor>>>,
}

impl Sockets {
    fn new(doors: Doors) -> io::Result<Self> {
        let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
        for (id, socket) in doors.into_sockets().enumerate() {
            datagrams.push(match socket {
                Listening::Datagrams(socket) => Some(Arc::new(DatagramDoor::new(socket)?)),
                Listening::Streams(socket, file, framing) => {
                    streams.push(StreamDoor::new(id, socket, file, framing)?);
                    None
                }
            });
        }
        Ok(Self { streams, datagrams })
    }
}

impl<S: Service + 'static> Engine<S> {
    /// Serves on sockets that were bound. `make` is told what time it is.
    ///
    /// # Errors
    ///
    /// The system has no room to wait for another socket.
    pub fn start(
        kind: EngineKind,
        doors: impl Into<Doors>,
        make: impl FnOnce(Instant) -> S,
    ) -> io::Result<Self> {
        Self::start_with(kind, usual_loops(), doors, make)
    }

    /// The same with so many readiness loops, if it is an engine of those.
    ///
    /// # Errors
    ///
    /// The system has no room to wait for another socket, or for so many threads.
    pub fn start_with(
        kind: EngineKind,
        loops: NonZeroUsize,
        doors: impl Into<Doors>,
        make: impl FnOnce(Instant) -> S,
    ) -> io::Result<Self> {
        let doors = doors.into();
        let places = doors.places().cloned().collect();
        let sockets = Sockets::new(doors)?;
        let service = make(rt::now());
        let driver: Box<dyn Driver<S>> = match kind {
            EngineKind::Tasks => Box::new(tasks::start(sockets, service)?),
            EngineKind::Poll => Box::new(poll::start(loops, sockets, service)?),
            EngineKind::Threads => Box::new(threads::start(sockets, service)?),
        };
        Ok(Self { driver, places })
    }

    /// Where it listens.
    pub fn places(&self) -> &[ListenAddr] {
        &self.places
    }

    /// Waits until the service has come to an end of its own, all sockets are closed and no thread of the engine goes on.
    ///
    /// Returns whether it has; if not, a part of the engine has panicked.
    pub fn wait(&self) -> bool {
        rt::block_on(async {
            let finished = pin!(self.driver.end().finished(|| self.driver.is_finished()));
            let is_finished = matches!(select(finished, pin!(self.failed())).await, Either::Left(_));
            self.stop().await;
            is_finished
        })
    }

    /// Looks at the service, which stands still meanwhile.
    ///
    /// # Panics
    ///
    /// The service has panicked before.
    pub fn look<R>(&self, at: impl FnOnce(&S) -> R) -> R {
        let (mut at, mut result) = (Some(at), None);
        self.driver.look(&mut |service| result = at.take().map(|at| at(service)));
        returned(result)
    }

    /// Changes the service, and lets what became sendable be written.
    ///
    /// # Panics
    ///
    /// The service has panicked before.
    pub fn change<R>(&self, act: impl FnOnce(&mut S, Instant) -> R) -> R {
        let (mut act, mut result) = (Some(act), None);
        self.driver.change(&mut |service, now| result = act.take().map(|act| act(service, now)));
        returned(result)
    }

    /// Stops accepting, lets the service say goodbye to everybody, and waits until it has, or for `limit` at most.
    ///
    /// Returns whether it came to its end. Whether or not, the engine then ends: whoever is still connected is given up, all
    /// sockets are closed, and no thread or task of it goes on. The service can still be looked at.
    ///
    /// # Panics
    ///
    /// The service has panicked before.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        let end = crate::units::later(rt::now(), limit);
        self.driver.stop_accepting().await;
        self.change(|service, now| service.shutdown(now));
        let finished = self.driver.end().finished(|| self.driver.is_finished());
        let is_finished = rt::before(end, finished).await.is_some();
        self.stop().await;
        is_finished
    }

    /// Ends everything, and waits until nobody works for the engine.
    async fn stop(&self) {
        self.driver.stop();
        if rt::before(rt::now() + LEAVING, self.driver.end().left()).await.is_none() {
            log::warn!("a part of the engine goes on after its end: that is a bug");
        }
        self.driver.release();
    }

    /// Waits until a part of the engine has panicked. That is a bug, in the service or here; nothing can be trusted after
    /// it.
    pub async fn failed(&self) {
        self.driver.end().failed().await;
    }
}

impl<H: Handler + 'static> Engine<Host<H>> {
    /// Serves a handler at these URLs (`raw://127.0.0.1:7000`, `msg+unix:///run/jobs`, ..), on readiness loops.
    ///
    /// # Errors
    ///
    /// One of them is no URL, or cannot be listened at; or the system has no room to wait for another socket.
    pub fn host(urls: &[&str], settings: Settings, handler: H) -> Result<Self, OpenError> {
        let mut doors = Doors::default();
        for url in urls {
            let parsed = url.parse().map_err(|source| OpenError::Url { url: (*url).to_owned(), source })?;
            doors.add(&parsed)?;
        }
        let list = doors.list();
        Ok(Self::start(EngineKind::Poll, doors, |_| Host::new(settings, list, handler))?)
    }
}

fn returned<R>(result: Option<R>) -> R {
    match result {
        Some(result) => result,
        None => unreachable!("a driver calls what it is given, once"),
    }
}

/// What every engine can do for who started it.
trait Driver<S>: Debug + Send + Sync {
    fn look(&self, at: &mut dyn FnMut(&S));
    fn change(&self, act: &mut dyn FnMut(&mut S, Instant));
    fn stop_accepting(&self) -> BoxFuture<'_, ()>;
    fn is_finished(&self) -> bool;
    fn end(&self) -> &End;
    fn stop(&self);
    fn release(&self);
}

impl<S: Service + 'static, M: Backend<S>> Driver<S> for Arc<EngineCore<S, M>> {
    fn look(&self, at: &mut dyn FnMut(&S)) {
        at(&self.lock().service);
    }

    fn change(&self, act: &mut dyn FnMut(&mut S, Instant)) {
        let mut work = PendingIo::default();
        self.collect(&mut work, |shared, now, _| act(&mut shared.service, now));
        if !self.end.is_over() {
            M::hand_over(self, work);
        }
    }

    fn stop_accepting(&self) -> BoxFuture<'_, ()> {
        M::stop_accepting(self)
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

    /// What has begun, and then hears that it could not begin as a whole.
    fn fail_half_way<M: Backend<Server>>(
        start: impl Fn(Sockets, Server) -> io::Result<Arc<EngineCore<Server, M>>>,
    ) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let door = Arc::new(DatagramDoor::new(socket).unwrap());
        let sockets = Sockets { streams: Vec::new(), datagrams: vec![Some(door)] };
        let service =
            Server::new(rt::now(), ServerConfig::default(), Box::new(ChaCha20Rng::seed_from_u64(1)));
        let core = start(sockets, service).unwrap();
        assert!(core.clone().started(Err(io::Error::other("no room"))).is_err());
        let left = rt::before(rt::now() + Duration::from_secs(5), core.end.left());
        assert!(rt::block_on(left).is_some(), "a thread stays");
        assert!(UdpSocket::bind(addr).is_ok());
    }

    #[test]
    fn an_engine_that_cannot_start_as_a_whole_leaves_no_thread() {
        fail_half_way(|sockets, service| poll::start(NonZeroUsize::MIN, sockets, service));
        fail_half_way(threads::start);
    }
}
