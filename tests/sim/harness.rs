//! [`ServerHarness`]: a server without sockets, driven one call at a time, for tests of the bytes on the wire.
//!
//! Tests with clients and lossy links use the simulator instead ([`sayagain::sim`]); `support` has what both share. Both
//! run the loop of [`Network`]. Connections are not shared: the tests need each byte at once and uncut, and sockets that
//! are full or unread, while those of the simulator are cut, delayed and read by a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::output::Output;
use sayagain::rules::Rules;
use sayagain::server::{Server, StreamIntake, Totals};
use sayagain::service::{
    CloseReason, ConnId, Decoder, Flow, ListenerId, Origin, Peer, Remote, Service, Transmit,
};
use sayagain::sim::Network;

/// One simulated stream connection, named by the test.
pub(crate) type Conn = u64;

/// A server with its simulated connections and its clock.
pub(crate) struct ServerHarness {
    pub(crate) now: Instant,
    pub(crate) server: Server,
    intakes: BTreeMap<Conn, StreamIntake>,
    written: BTreeMap<Conn, Vec<u8>>,
    closed: BTreeMap<Conn, bool>,
    busy: BTreeMap<Conn, bool>,
    /// Connections whose peer does not read: their output stays at the server.
    stalled: Vec<Conn>,
    /// Connections whose socket is full, with the output being written and whether the server has more.
    clogged: BTreeMap<Conn, Option<(Output, bool)>>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    next: Conn,
}

impl ServerHarness {
    pub(crate) fn new(config: ServerConfig) -> Self {
        let now = Instant::now();
        Self {
            now,
            server: Server::new(now, config, Box::new(ChaCha20Rng::seed_from_u64(1))),
            intakes: BTreeMap::new(),
            written: BTreeMap::new(),
            closed: BTreeMap::new(),
            busy: BTreeMap::new(),
            stalled: Vec::new(),
            clogged: BTreeMap::new(),
            sent: Vec::new(),
            next: 1,
        }
    }

    pub(crate) fn open() -> Self {
        Self::new(ServerConfig::default())
    }

    /// Opens a stream connection from a new host.
    pub(crate) fn connect(&mut self) -> Conn {
        let [.., high, mid, low] = self.next.to_be_bytes();
        self.connect_at(0, Remote::Ip(SocketAddr::from(([10, high, mid, low], 1_000))))
    }

    /// Opens a stream connection from this peer at a listener.
    pub(crate) fn connect_at(&mut self, listener: usize, from: Remote) -> Conn {
        self.connect_from(Origin { listener, from })
    }

    /// Opens a stream connection with this origin.
    pub(crate) fn connect_from(&mut self, origin: Origin) -> Conn {
        let conn = self.next;
        self.next += 1;
        let intake = self.server.opened(self.now, ConnId(conn), origin.into());
        self.intakes.insert(conn, intake);
        self.written.insert(conn, Vec::new());
        self.settle();
        conn
    }

    /// Opens a stream connection and sends these bytes, a REG.
    pub(crate) fn connect_as(&mut self, reg: &str) -> Conn {
        let conn = self.connect();
        self.say(conn, reg);
        conn
    }

    /// Sends bytes on a connection and returns the output since the last call.
    pub(crate) fn say(&mut self, conn: Conn, bytes: impl AsRef<[u8]>) -> String {
        self.put(conn, bytes);
        self.heard(conn)
    }

    /// The output on a connection since the last call, as text.
    pub(crate) fn heard(&mut self, conn: Conn) -> String {
        String::from_utf8_lossy(&self.written_to(conn)).into_owned()
    }

    /// The output on a connection since the last call, as bytes.
    pub(crate) fn written_to(&mut self, conn: Conn) -> Vec<u8> {
        self.settle();
        self.written.get_mut(&conn).map(std::mem::take).unwrap_or_default()
    }

    /// Sends bytes on a connection.
    pub(crate) fn put(&mut self, conn: Conn, bytes: impl AsRef<[u8]>) {
        if let Some(intake) = self.intakes.get_mut(&conn) {
            let batch = intake.received(self.now, bytes.as_ref());
            self.server.received(self.now, ConnId(conn), batch);
        }
        self.settle();
    }

    /// Whether the server closes this connection.
    pub(crate) fn is_closed(&self, conn: Conn) -> bool {
        self.closed.get(&conn).copied().unwrap_or(false)
    }

    /// Whether the server has input of this connection that is not executed yet.
    pub(crate) fn is_busy(&self, conn: Conn) -> bool {
        self.busy.get(&conn).copied().unwrap_or(false)
    }

    /// Closes the peer's side, and the connection once all its input is executed, as an engine does. Returns the
    /// output, and how long the connection stayed open.
    pub(crate) fn half_close(&mut self, conn: Conn) -> (String, Duration) {
        let since = self.now;
        self.server.ended(self.now, ConnId(conn));
        self.settle();
        while self.is_busy(conn) && self.now < since + Duration::from_secs(600) {
            self.pass(Duration::from_millis(100));
        }
        let heard = self.heard(conn);
        self.hang_up(conn);
        (heard, self.now - since)
    }

    /// Whether the server reads from this connection.
    pub(crate) fn is_reading(&self, conn: Conn) -> bool {
        self.server.is_reading(ConnId(conn))
    }

    /// Most bytes read from this connection at once.
    pub(crate) fn max_read(&self, conn: Conn) -> usize {
        self.intakes[&conn].max_read()
    }

    /// Resets the connection from the peer's side.
    pub(crate) fn hang_up(&mut self, conn: Conn) {
        self.lose(conn, CloseReason::Lost);
    }

    /// Closes the connection for this reason.
    pub(crate) fn lose(&mut self, conn: Conn, why: CloseReason) {
        self.intakes.remove(&conn);
        self.server.closed(self.now, ConnId(conn), why);
        self.settle();
    }

    /// Makes the peer stop reading, or read again.
    pub(crate) fn stall(&mut self, conn: Conn, stalled: bool) {
        self.stalled.retain(|other| *other != conn);
        if stalled {
            self.stalled.push(conn);
        } else {
            self.take_output(conn);
        }
        self.settle();
    }

    /// Fills the connection's socket: output is not reported to the server as written.
    pub(crate) fn clog(&mut self, conn: Conn) {
        self.clogged.insert(conn, None);
    }

    /// Reports the pending output as written, and takes the next, which is not written.
    pub(crate) fn trickle(&mut self, conn: Conn) {
        if let Some(Some((out, more))) = self.clogged.insert(conn, None) {
            self.written.entry(conn).or_default().append(&mut out.to_vec());
            drop(out);
            self.server.drained(self.now, ConnId(conn));
            if more {
                self.take_output(conn);
            }
        }
        self.settle();
    }

    /// Makes the socket accept all output again.
    pub(crate) fn unclog(&mut self, conn: Conn) {
        self.trickle(conn);
        while matches!(self.clogged.get(&conn), Some(Some(_))) {
            self.trickle(conn);
        }
        self.clogged.remove(&conn);
        self.take_output(conn);
        self.settle();
    }

    /// Sends a datagram and returns the datagrams to its sender since the last call.
    pub(crate) fn datagram(&mut self, from: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<String> {
        self.datagram_through(0, from, bytes)
    }

    /// The same through another listener.
    pub(crate) fn datagram_through(
        &mut self,
        listener: ListenerId,
        from: SocketAddr,
        bytes: impl AsRef<[u8]>,
    ) -> Vec<String> {
        self.server.datagram(self.now, Peer::new(listener, from), bytes.as_ref());
        self.datagrams_to(from)
    }

    /// Sends a datagram without taking the answers.
    pub(crate) fn server_datagram(&mut self, from: SocketAddr, bytes: impl AsRef<[u8]>) {
        self.server.datagram(self.now, Peer::new(0, from), bytes.as_ref());
        self.settle();
    }

    /// Starts the shutdown.
    pub(crate) fn shut_down(&mut self) {
        self.server.shutdown(self.now);
        self.settle();
    }

    /// Replaces the access rules. Returns how many sessions that ended.
    pub(crate) fn set_rules(&mut self, rules: Rules) -> usize {
        let before = self.server.sessions();
        self.server.set_rules(self.now, rules);
        before - self.server.sessions()
    }

    /// Whether the shutdown is complete.
    pub(crate) fn is_finished(&self) -> bool {
        self.server.is_finished()
    }

    /// Whether the server has no state and no deadline left.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.server.is_stateless() && self.server.poll_timeout().is_none()
    }

    /// The datagrams to an address since the last call.
    pub(crate) fn datagrams_to(&mut self, to: SocketAddr) -> Vec<String> {
        self.settle();
        let (theirs, others) = std::mem::take(&mut self.sent).into_iter().partition(|(addr, _)| *addr == to);
        self.sent = others;
        let theirs: Vec<(SocketAddr, Vec<u8>)> = theirs;
        theirs.into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    /// All datagrams since the last call, with their destinations.
    pub(crate) fn sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.settle();
        std::mem::take(&mut self.sent)
    }

    /// Advances the clock, deadline by deadline.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.run(time);
    }

    pub(crate) fn totals(&self) -> Totals {
        self.server.totals()
    }

    /// Takes output, unless a write is in progress; `trickle` continues after that.
    fn take_output(&mut self, conn: Conn) {
        match self.clogged.get_mut(&conn) {
            Some(Some((_, more))) => {
                *more = true;
                let closing = self.server.is_closing(ConnId(conn));
                self.closed.insert(conn, closing);
            }
            _ => {
                self.fill(ConnId(conn));
            }
        }
    }
}

impl Network for ServerHarness {
    fn parts(&mut self) -> (&mut Server, Instant) {
        (&mut self.server, self.now)
    }

    fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    fn send(&mut self, transmit: Transmit) {
        self.sent.push((transmit.peer.addr, transmit.bytes));
    }

    fn write(&mut self, ConnId(conn): ConnId, out: Output, flow: Flow) -> bool {
        self.closed.insert(conn, flow.closing);
        self.busy.insert(conn, flow.busy);
        if let Some(place) = self.clogged.get_mut(&conn) {
            *place = Some((out, flow.more)).filter(|(out, _)| !out.is_empty());
            return false;
        }
        self.written.entry(conn).or_default().append(&mut out.to_vec());
        true
    }

    fn wake(&mut self, ConnId(conn): ConnId) {
        if !self.stalled.contains(&conn) {
            self.take_output(conn);
        }
    }
}

/// An address that has to be proven.
pub(crate) fn addr(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

/// An address from which an untagged REG is enough.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Registers over datagrams as the client does, and returns the session's token.
pub(crate) fn register(harness: &mut ServerHarness, from: SocketAddr, name: &str, nonce: &str) -> String {
    let cookie = cookie(harness, from, name, nonce);
    let reg = reg(1, name, &format!("?{nonce}"));
    let answer = harness.datagram(from, format!("~{cookie} {reg}"));
    assert_eq!(answer.len(), 1, "{answer:?}");
    let token =
        answer[0].strip_prefix(&format!("~{cookie} @1 ACK 0023 ")).unwrap_or_else(|| panic!("{answer:?}"));
    token.to_owned()
}

/// Requests a cookie and returns it.
pub(crate) fn cookie(harness: &mut ServerHarness, from: SocketAddr, name: &str, nonce: &str) -> String {
    let answer = harness.datagram(from, reg(1, name, &format!("?{nonce}")));
    assert_eq!(answer.len(), 1, "{answer:?}");
    let rest = answer[0].strip_prefix("@1 ERR 0050 428 ").unwrap_or_else(|| panic!("{answer:?}"));
    let (cookie, echoed) = rest.split_once(' ').unwrap();
    assert_eq!(echoed, nonce);
    cookie.to_owned()
}

/// A tagged REG.
pub(crate) fn reg(id: u64, name: &str, proof: &str) -> String {
    format!("@{id} REG {:04} {name} {proof}", name.len() + proof.len() + 2)
}

/// A tagged SND.
pub(crate) fn snd(id: u64, target: &str, text: &str) -> String {
    format!("@{id} SND {:04} {target} {text}", target.len() + text.len() + 2)
}

/// A nonce made from a number.
pub(crate) fn nonce(n: u8) -> String {
    format!("{n:A>22}")
}
