//! Trials over real sockets on loopback: one real server for all sessions, and the sessions of [`super::trial`] with
//! the real clock.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rand::CryptoRng;

use super::ledger::Ledger;
use super::point::Point;
use super::start::starts;
use super::tally::Tally;
use super::trial::{self, EVER};
use crate::client::{Client, Event};
use crate::config::ServerConfig;
use crate::lab::sockets::trial::Wire;
use crate::link::{Direction, Link, LinkConfig};
use crate::net::{Engine, EngineKind, Listen, ListenError};
use crate::output::Output;
use crate::reliable::{Ended, Outcome};
use crate::server::{Server, StreamIntake};
use crate::service::{Arrival, CloseReason, ConnId, Decoder, Flow, Peer, Service, Transmit};
use crate::units::later;
use crate::wire::Verb;

/// Bound on attempts to open a session that the policy gives up before it begins.
const ATTEMPTS: u32 = 100;

/// Creates the source of tokens and keys.
pub(crate) type Secrets = fn() -> Box<dyn CryptoRng + Send>;

/// Ledgers by client address.
type Ledgers = Arc<Mutex<BTreeMap<SocketAddr, Ledger>>>;

/// A server on loopback that records its executions.
#[derive(Debug)]
pub(crate) struct RealServer {
    addr: SocketAddr,
    ledgers: Ledgers,
    secrets: Secrets,
    _engine: Engine<Watched>,
}

/// Why there is no server to measure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RealError {
    /// The server cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system provides no socket.
    #[error("cannot open a socket: {0}; raise the limit of open files (ulimit -n), or take fewer --jobs")]
    Socket(#[from] io::Error),
}

impl RealServer {
    /// Starts a server on a free port.
    ///
    /// # Errors
    ///
    /// The system provides no socket.
    pub(crate) fn start(secrets: Secrets) -> Result<Self, RealError> {
        let listen = Listen { host: "127.0.0.1".to_owned(), port: 0, tcp: false, udp: true };
        let bound = listen.bind()?;
        let no_addr = || io::Error::other("it has no address");
        let addr = bound.endpoints().first().ok_or_else(no_addr)?.addr;
        let ledgers = Ledgers::default();
        let noted = Arc::clone(&ledgers);
        let config = ServerConfig { idle: EVER, ..ServerConfig::default() };
        let engine = Engine::start(EngineKind::default(), bound, |now| Watched {
            server: Server::new(now, config, secrets()),
            ledgers: noted,
        })?;
        Ok(Self { addr, ledgers, secrets, _engine: engine })
    }

    /// Runs `trials` requests in one session at `point`, under `seed`.
    ///
    /// # Errors
    ///
    /// The system provides no socket.
    pub(crate) fn session(&self, point: &Point, seed: u64, trials: u64) -> Result<Tally, RealError> {
        let (mut wire, room) = self.open(point, seed)?;
        let addr = wire.addr()?;
        let before = wire.client.stats();
        self.ledgers().insert(addr, Ledger::new(trials));
        let (up, down) = starts(wire.began(), point, seed);
        wire.begin(
            Link::new(point.up.clone(), seed, Direction::Up).starting_at(up),
            Link::new(point.down.clone(), seed, Direction::Down).starting_at(down),
        );
        ask(&mut wire, &room, point, trials)?;
        wire.run(|client| client.is_idle())?;
        let mut tally = Tally { elapsed: wire.elapsed().as_nanos(), ..Tally::default() };
        trial::count_events(std::mem::take(&mut wire.events), &mut tally);
        tally.spurious = wire.client.stats().repeated_answers - before.repeated_answers;
        tally.up.count(wire.up.stats(), wire.bytes.0);
        tally.down.count(wire.down.stats(), wire.bytes.1);
        if let Some(ledger) = self.ledgers().remove(&addr) {
            ledger.count(&mut tally);
        }
        tally.end_session();
        leave(&mut wire)?;
        Ok(tally)
    }

    /// Opens a session: registered, and joined to its room. A busy machine may answer later than a policy with short timeouts
    /// waits; then a new session is opened.
    fn open(&self, point: &Point, seed: u64) -> Result<(Wire, String), RealError> {
        let mut attempts = 1;
        loop {
            let mut room = String::new();
            let mut wire = Wire::open(self.addr, |now, port| {
                room = format!("#lab-{port}");
                let config = trial::client_config(&format!("lab-{port}"), &point.policy);
                Client::new(now, config, seed, (self.secrets)())
            })?;
            let link = |config, direction| Link::new(trial::delaying(config), seed, direction);
            wire.begin(link(&point.up, Direction::Up), link(&point.down, Direction::Down));
            wire.client.join(room.as_bytes());
            match wire.run(|client| client.is_ready() && client.is_idle()) {
                Ok(()) if has_joined(&wire) => return Ok((wire, room)),
                Err(error) if attempts >= ATTEMPTS => return Err(error.into()),
                Ok(()) if attempts >= ATTEMPTS => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                _ => attempts += 1,
            }
        }
    }

    fn ledgers(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, Ledger>> {
        // Plain counters stay consistent after a panic.
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Submits the requests. Without an interval all are submitted at once, and the client sends them one after the other.
/// Otherwise each is submitted when it is due and the one before has ended.
fn ask(wire: &mut Wire, room: &str, point: &Point, trials: u64) -> io::Result<()> {
    let body = trial::body(point);
    let mut due = wire.began();
    for _ in 0..trials {
        if !point.interval.is_zero() {
            wire.run_to(due, Client::is_idle)?;
            due = later(due, point.interval);
        }
        wire.client.send(room.as_bytes(), &body);
    }
    Ok(())
}

/// Whether the join was acknowledged.
fn has_joined(wire: &Wire) -> bool {
    let is_ack = |event: &Event| {
        matches!(event, Event::Ended(Ended { verb: Verb::Jon, outcome: Outcome::Acked(_), .. }))
    };
    wire.events.iter().any(is_ack)
}

/// Ends the session over perfect links, so that the server keeps no state of it.
fn leave(wire: &mut Wire) -> Result<(), RealError> {
    let perfect = |direction| Link::new(LinkConfig::perfect(), 0, direction);
    wire.begin(perfect(Direction::Up), perfect(Direction::Down));
    wire.client.close();
    Ok(wire.run(|client| client.is_closed())?)
}

/// A server that records its executions.
#[derive(Debug)]
struct Watched {
    server: Server,
    ledgers: Ledgers,
}

impl Service for Watched {
    type Conn = StreamIntake;

    fn begin_hold(&mut self) {
        self.server.begin_hold();
    }

    fn is_spent(&self) -> bool {
        self.server.is_spent()
    }

    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        let before = self.server.executions();
        self.server.datagram(now, peer, bytes);
        let made = self.server.executions().since(before);
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = ledgers.get_mut(&peer.addr) {
            ledger.note_arrival(bytes, made.executed, made.repeats);
        }
    }

    fn opened(&mut self, now: Instant, conn: ConnId, arrival: Arrival) -> StreamIntake {
        self.server.opened(now, conn, arrival)
    }

    fn received(&mut self, now: Instant, conn: ConnId, batch: <StreamIntake as Decoder>::Batch<'_>) {
        self.server.received(now, conn, batch);
    }

    fn ended(&mut self, now: Instant, conn: ConnId) {
        self.server.ended(now, conn);
    }

    fn drained(&mut self, now: Instant, conn: ConnId) {
        self.server.drained(now, conn);
    }

    fn closed(&mut self, now: Instant, conn: ConnId, why: CloseReason) {
        self.server.closed(now, conn, why);
    }

    fn timeout(&mut self, now: Instant) {
        self.server.timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.server.poll_timeout()
    }

    fn poll_wake(&mut self) -> Option<ConnId> {
        self.server.poll_wake()
    }

    fn fill(&mut self, now: Instant, conn: ConnId, out: &mut Output) -> Flow {
        self.server.fill(now, conn, out)
    }

    fn is_reading(&self, conn: ConnId) -> bool {
        self.server.is_reading(conn)
    }

    fn is_closing(&self, conn: ConnId) -> bool {
        self.server.is_closing(conn)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.server.poll_transmit(now)
    }

    fn shutdown(&mut self, now: Instant) {
        self.server.shutdown(now);
    }

    fn is_finished(&self) -> bool {
        self.server.is_finished()
    }
}
