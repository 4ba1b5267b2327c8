//! Shared support of tests over sockets: the programs as processes ([`program`], [`proxy`], [`server`]), and
//! [`TestServer`], a server inside the test process.
//!
//! [`TestServer`] listens on loopback, with UDP and TCP on one port: one thread, all sockets non-blocking. It drives
//! [`sayagain::server::Server`] by the contract of [`Service`], reports its counters, and can misbehave on request.

#![allow(dead_code, reason = "each test uses its part of this")]
#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod server;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::link::{LinkConfig, LossModel};
use sayagain::output::Output;
use sayagain::reliable::PushTimeouts;
use sayagain::server::{Server, Totals};
use sayagain::service::{CloseReason, ConnId, Decoder as _, Origin, Peer, Remote, Service};
use sayagain::units::Probability;

/// The longest turn without input, and so the longest delay of the server.
const TURN: Duration = Duration::from_millis(1);
/// Repeats a system call that a signal has interrupted, as after a stop and continue.
pub(crate) fn uninterrupted<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// The time after which a step of a test counts as hanging.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server inside the test; it ends on drop.
#[derive(Debug)]
pub(crate) struct TestServer {
    /// Its address, over UDP and TCP.
    pub(crate) addr: SocketAddr,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    /// Send BYE to all clients, and end.
    Shutdown,
    /// Reset all connections; their sessions linger.
    Cut,
    Report(Sender<Report>),
    Stop,
}

/// A report of a server.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Its counters.
    pub(crate) totals: Totals,
    /// The number of sessions.
    pub(crate) sessions: usize,
}

impl TestServer {
    /// Starts on a free port.
    pub(crate) fn start(config: ServerConfig) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), config)
    }

    /// Starts a server with this loss probability of input and of output.
    pub(crate) fn lossy(rate: f64, seed: u64) -> Self {
        let loss = LossModel::from(Probability::new(rate).unwrap());
        let link = LinkConfig { loss, ..LinkConfig::perfect() };
        let mut config =
            ServerConfig { link_in: link.clone(), link_out: link, seed, ..ServerConfig::default() };
        // Short timeouts, as those of the test clients, which would otherwise wait for minutes.
        config.hub.push_timeouts =
            PushTimeouts { first: Duration::from_millis(20), longest: Duration::from_millis(50) };
        Self::start(config)
    }

    /// Starts at this address, with port 0 on a free port.
    #[expect(clippy::disallowed_methods, reason = "a server of its own needs a thread of its own")]
    pub(crate) fn at(addr: SocketAddr, config: ServerConfig) -> Self {
        let (listener, socket) = bind(addr);
        let addr = listener.local_addr().unwrap();
        let (orders, from) = mpsc::channel();
        let thread = std::thread::spawn(move || Engine::new(config, listener, socket, from).run());
        Self { addr, orders, thread: Some(thread) }
    }

    /// Starts the shutdown, as SIGTERM does.
    pub(crate) fn shutdown(&self) {
        self.orders.send(Order::Shutdown).unwrap();
    }

    /// Drops all connections.
    pub(crate) fn cut(&self) {
        self.orders.send(Order::Cut).unwrap();
    }

    /// The present report.
    pub(crate) fn report(&self) -> Report {
        let (to, from) = mpsc::channel();
        self.orders.send(Order::Report(to)).unwrap();
        from.recv().unwrap()
    }

    /// Waits until the report satisfies a condition.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&Report) -> bool) {
        eventually(what, || is_so(&self.report()));
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.orders.send(Order::Stop);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(!matches!(ended, Some(Err(_))) || std::thread::panicking(), "the server has panicked");
    }
}

/// Waits until a condition holds. Panics if that takes too long.
pub(crate) fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    within(STEP_TIMEOUT, what, is_so);
}

/// Waits until a condition holds. Panics after `limit`.
#[expect(clippy::disallowed_methods, reason = "a deadline needs the clock, and polling a pause")]
pub(crate) fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {limit:?}: {what}");
        std::thread::sleep(TURN);
    }
}

/// Both sockets on one port; with port 0 this may take several attempts.
fn bind(addr: SocketAddr) -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let listener = TcpListener::bind(addr).unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            return (listener, socket);
        }
    }
    panic!("no port is free for both");
}

#[derive(Debug)]
struct Engine {
    server: Server,
    listener: TcpListener,
    socket: UdpSocket,
    orders: Receiver<Order>,
    conns: BTreeMap<ConnId, Conn>,
    next: u64,
    shutting_down: bool,
}

#[derive(Debug)]
struct Conn {
    stream: TcpStream,
    intake: <Server as Service>::Conn,
    unsent: Vec<u8>,
    more: bool,
    reading: bool,
    closing: bool,
    shut: bool,
}

impl Engine {
    #[expect(clippy::disallowed_methods, reason = "drivers own the clock")]
    fn new(config: ServerConfig, listener: TcpListener, socket: UdpSocket, orders: Receiver<Order>) -> Self {
        listener.set_nonblocking(true).unwrap();
        let rng = ChaCha20Rng::seed_from_u64(config.seed);
        let server = Server::new(Instant::now(), config, Box::new(rng));
        Self { server, listener, socket, orders, conns: BTreeMap::new(), next: 1, shutting_down: false }
    }

    #[expect(clippy::disallowed_methods, reason = "drivers own the clock")]
    fn run(&mut self) {
        let mut busy = false;
        while !(self.shutting_down && self.server.is_finished()) {
            let now = Instant::now();
            match self.orders.try_recv() {
                Ok(Order::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                Ok(order) => self.obey(now, order),
                Err(mpsc::TryRecvError::Empty) => {}
            }
            busy = self.turn(now, busy);
        }
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match order {
            Order::Shutdown => {
                self.shutting_down = true;
                self.server.shutdown(now);
            }
            Order::Cut => {
                let conns = std::mem::take(&mut self.conns);
                conns.keys().for_each(|id| self.server.closed(now, *id, CloseReason::Lost));
            }
            Order::Report(to) => {
                let report = Report { totals: self.server.totals(), sessions: self.server.sessions() };
                // The receiver may have given up.
                let _ = to.send(report);
            }
            Order::Stop => {}
        }
    }

    /// Handles all sockets once, and waits shortly for a datagram if the last turn was idle. Returns whether this turn
    /// handled anything.
    fn turn(&mut self, now: Instant, busy: bool) -> bool {
        let mut worked = self.receive(now, busy);
        while let Ok((stream, addr)) = self.listener.accept() {
            self.accept(now, stream, addr);
            worked = true;
        }
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        worked |= ids.iter().fold(false, |worked, id| self.read(now, *id) | worked);
        self.server.timeout(now);
        while let Some(transmit) = self.server.poll_transmit(now) {
            // A datagram that cannot be sent is lost.
            let _ = self.socket.send_to(&transmit.bytes, transmit.peer.addr);
        }
        while let Some(id) = self.server.poll_wake() {
            self.fill(now, id);
        }
        ids.into_iter().for_each(|id| self.write(now, id));
        worked
    }

    fn receive(&mut self, now: Instant, busy: bool) -> bool {
        self.socket.set_nonblocking(busy).unwrap();
        self.socket.set_read_timeout(Some(TURN)).unwrap();
        let (mut buffer, mut worked) = ([0; 65_536], false);
        // An error may be an ICMP answer to an earlier datagram: not fatal, and not retried in this turn.
        while let Ok((n, addr)) = self.socket.recv_from(&mut buffer) {
            self.server.datagram(now, Peer::new(0, addr), &buffer[..n]);
            self.socket.set_nonblocking(true).unwrap();
            worked = true;
        }
        worked
    }

    fn accept(&mut self, now: Instant, stream: TcpStream, addr: SocketAddr) {
        stream.set_nonblocking(true).unwrap();
        let id = ConnId(self.next);
        self.next += 1;
        let intake = self.server.opened(now, id, Origin { listener: 0, from: Remote::Ip(addr) }.into());
        let (more, reading, closing, shut) = (false, true, false, false);
        self.conns.insert(id, Conn { stream, intake, unsent: Vec::new(), more, reading, closing, shut });
        self.fill(now, id);
    }

    fn read(&mut self, now: Instant, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.reading || conn.shut) else {
            return false;
        };
        let mut buffer = [0; 65_536];
        match conn.stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Ok(n) if n > 0 && !conn.shut => {
                let batch = conn.intake.received(now, &buffer[..n]);
                self.server.received(now, id, batch);
                true
            }
            Ok(n) if n > 0 => true,
            _ => {
                self.conns.remove(&id);
                self.server.closed(now, id, CloseReason::Lost);
                true
            }
        }
    }

    fn fill(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut out = Output::default();
        let flow = self.server.fill(now, id, &mut out);
        conn.unsent.append(&mut out.to_vec());
        (conn.more, conn.reading, conn.closing) = (flow.more, flow.reading, flow.closing);
    }

    fn write(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.shut) else { return };
        while !conn.unsent.is_empty() {
            match conn.stream.write(&conn.unsent) {
                Ok(n) => drop(conn.unsent.drain(..n)),
                // The next read reports a broken connection.
                Err(_) => return,
            }
        }
        if conn.closing {
            conn.shut = true;
            // The client may have closed first.
            let _ = conn.stream.shutdown(Shutdown::Write);
        } else if conn.more {
            self.server.drained(now, id);
            self.fill(now, id);
        } else {
            self.server.drained(now, id);
        }
    }
}
