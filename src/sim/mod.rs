//! A server, clients and the links between them on one virtual clock.
//!
//! Nothing here waits: the clock jumps to the next arrival or deadline. The objects are those that the programs run, so
//! what holds here holds there as far as they alone decide. Everything random comes from one seed, and two runs of a
//! seed are the same to the byte ([`Sim::trace_hash`]).
//!
//! ```
//! use sayagain::client::Event;
//! use sayagain::config::{ClientConfig, ServerConfig, Transport};
//! use sayagain::link::LinkConfig;
//! use sayagain::reliable::Backoff;
//! use sayagain::sim::Sim;
//! use std::time::{Duration, Instant};
//!
//! let mut sim = Sim::new(Instant::now(), ServerConfig::default(), LinkConfig::perfect(), LinkConfig::perfect(), 1);
//! let policy = Backoff::new(Duration::from_secs(1));
//! let ada = sim.add_client(ClientConfig::new(Transport::Datagram, Some("ada"), policy));
//! sim.client(ada).send(b"ada", b"Hello, me!");
//! sim.run_until_idle(Duration::from_secs(10));
//! let hello = Event::Message { sender: b"ada".to_vec(), body: b"Hello, me!".to_vec() };
//! assert!(sim.take_events(ada).contains(&hello));
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use siphasher::sip::SipHasher13;

use crate::client::{Client, Event};
use crate::config::{ClientConfig, ServerConfig};
use crate::link::{Decision, Direction, Link, LinkConfig, LinkStats, Payload, Start};
use crate::server::Server;
use crate::service::{CloseReason, Service};

mod traffic;

use traffic::Pipe;

/// Names a client of a [`Sim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(usize);

/// A datagram under way, and the address at the client's end of it.
#[derive(Clone, Debug)]
struct Packet {
    addr: SocketAddr,
    bytes: Vec<u8>,
}

impl Payload for Packet {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// What a filter decides about a datagram or a piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes its way through the link.
    Pass,
    /// It vanishes.
    Drop,
    /// It vanishes, and the stream connection that carried it with it.
    Cut,
    /// The client moves first. A datagram of the client's then leaves from where it is; one to it is sent to where it was.
    Move(Move),
}

/// How a client's datagrams come to have another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// A NAT on the way gives it another port.
    Port {
        /// Whether what is sent to the old one still arrives.
        old_lives: bool,
    },
    /// A NAT on the way gives it another address.
    Address {
        /// Whether what is sent to the old one still arrives.
        old_lives: bool,
    },
    /// Its own host has another address: its socket sends and receives nothing any more, until it takes a new one.
    Host,
}

/// Looks at everything that is sent, before the link does.
pub type Filter = Box<dyn FnMut(Direction, SocketAddr, &[u8]) -> Fate>;

/// What an observer sees of a datagram between a client and the server.
#[derive(Clone, Copy, Debug)]
pub enum Sighting {
    /// It was sent, and its link has decided what becomes of it.
    Sent(Decision),
    /// It arrived.
    Arrived {
        /// Messages that the server executed because of it; none at a client.
        executed: u64,
        /// Repeats that the server answered from its window because of it; none at a client.
        repeats: u64,
    },
}

/// Looks on at every datagram: when (by the virtual clock), which way, the client's address, its bytes, what happened.
pub type Observer = Box<dyn FnMut(Instant, Direction, SocketAddr, &[u8], Sighting)>;

#[derive(Debug)]
struct Node {
    client: Client,
    /// The address that its datagrams have outside.
    addr: SocketAddr,
    /// Those that they had, and under which it is still reached.
    earlier: Vec<SocketAddr>,
    /// Its socket has an address that its host has no more.
    is_stranded: bool,
    pipe: Option<Pipe>,
    /// Whether connections can be made.
    reachable: bool,
    events: VecDeque<Event>,
}

impl Node {
    fn is_at(&self, addr: SocketAddr) -> bool {
        !self.is_stranded && (self.addr == addr || self.earlier.contains(&addr))
    }

    fn relocate(&mut self, how: Move) {
        let before = self.addr;
        match how {
            Move::Port { .. } => self.addr.set_port(before.port().checked_add(1).unwrap_or(1_024)),
            Move::Address { .. } | Move::Host => self.addr = beside(before),
        }
        match how {
            Move::Port { old_lives } | Move::Address { old_lives } if old_lives => self.earlier.push(before),
            Move::Port { .. } | Move::Address { .. } => self.earlier.clear(),
            Move::Host => {
                self.earlier.clear();
                self.is_stranded = true;
            }
        }
    }
}

/// The simulator.
pub struct Sim {
    start: Instant,
    now: Instant,
    server: Server,
    nodes: Vec<Node>,
    /// Connections that their clients have dropped, and whose last input the server has not had yet.
    dropped: Vec<Pipe>,
    flows: BTreeMap<SocketAddr, u64>,
    up: Link<Packet>,
    down: Link<Packet>,
    /// What was sent to addresses that no client has.
    strays: BTreeMap<SocketAddr, Vec<Vec<u8>>>,
    stream_delay: Duration,
    /// Cuts streams into pieces.
    rng: ChaCha8Rng,
    seed: u64,
    next_conn: u64,
    restarts: u64,
    filter: Option<Filter>,
    observer: Option<Observer>,
    trace: SipHasher13,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("elapsed", &self.elapsed())
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Sim {
    /// A server and two links, to it and from it. Datagrams go through the links; streams take 10 ms, in pieces.
    pub fn new(start: Instant, server: ServerConfig, up: LinkConfig, down: LinkConfig, seed: u64) -> Self {
        let keys = ChaCha20Rng::seed_from_u64(seed ^ 0x5e55_1011);
        Self {
            start,
            now: start,
            server: Server::new(start, server, Box::new(keys)),
            nodes: Vec::new(),
            dropped: Vec::new(),
            flows: BTreeMap::new(),
            up: Link::new(up, seed, Direction::Up),
            down: Link::new(down, seed, Direction::Down),
            strays: BTreeMap::new(),
            stream_delay: Duration::from_millis(10),
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            next_conn: 1,
            restarts: 0,
            filter: None,
            observer: None,
            trace: SipHasher13::new_with_keys(0, 0),
        }
    }

    /// Adds a client, with an address of its own, that begins now.
    pub fn add_client(&mut self, config: ClientConfig) -> ClientId {
        let ordinal = self.nodes.len() as u64 + 1;
        let secrets =
            ChaCha20Rng::seed_from_u64(self.seed.wrapping_add(ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let client = Client::new(self.now, config, self.seed.wrapping_add(ordinal), Box::new(secrets));
        let addr = address(self.nodes.len(), 0);
        self.nodes.push(Node {
            client,
            addr,
            earlier: Vec::new(),
            is_stranded: false,
            pipe: None,
            reachable: true,
            events: VecDeque::new(),
        });
        ClientId(self.nodes.len() - 1)
    }

    /// A client, to ask something of it.
    pub fn client(&mut self, id: ClientId) -> &mut Client {
        &mut self.nodes[id.0].client
    }

    /// The server.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// What has happened to a client since this was last asked.
    pub fn take_events(&mut self, id: ClientId) -> Vec<Event> {
        self.nodes[id.0].events.drain(..).collect()
    }

    /// A hash of everything that was sent and when: equal for two runs of one seed.
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    /// Looks at everything that is sent from now on.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = Some(filter);
    }

    /// Shows every datagram that is sent or arrives from now on.
    pub fn set_observer(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Replaces the links, to the server and from it; what is under way on the old ones is lost.
    pub fn set_links(&mut self, up: LinkConfig, down: LinkConfig) {
        self.up = Link::new(up, self.seed, Direction::Up);
        self.down = Link::new(down, self.seed, Direction::Down);
    }

    /// The same, each at a point in the life of its loss model.
    pub(crate) fn set_links_at(
        &mut self,
        (up, from): (LinkConfig, Start),
        (down, back): (LinkConfig, Start),
    ) {
        self.up = Link::new(up, self.seed, Direction::Up).starting_at(from);
        self.down = Link::new(down, self.seed, Direction::Down).starting_at(back);
    }

    /// What the links have done so far, to the server and from it.
    pub fn link_stats(&self) -> (LinkStats, LinkStats) {
        (self.up.stats(), self.down.stats())
    }
}

/// What can be done to the network.
impl Sim {
    /// The address of a client.
    pub fn address_of(&self, id: ClientId) -> SocketAddr {
        self.nodes[id.0].addr
    }

    /// The client sends from another port from now on, and what is sent to the old one is lost.
    pub fn move_client(&mut self, id: ClientId) {
        self.relocate(id, Move::Port { old_lives: false });
    }

    /// The client's datagrams have another address from now on.
    pub fn relocate(&mut self, id: ClientId, how: Move) {
        self.nodes[id.0].relocate(how);
    }

    /// How many bytes the client has sent on its stream connection that the server has not read.
    pub fn unread(&self, id: ClientId) -> usize {
        let pipe = self.nodes[id.0].pipe.as_ref();
        pipe.map_or(0, |pipe| pipe.up.iter().map(|(_, bytes)| bytes.len()).sum())
    }

    /// Cuts the client's stream connection: what is under way is lost, and both ends learn it.
    pub fn cut(&mut self, id: ClientId) {
        if let Some(pipe) = self.nodes[id.0].pipe.take() {
            self.server.closed(self.now, pipe.conn, CloseReason::Lost);
            self.nodes[id.0].client.handle_disconnected(self.now);
        }
    }

    /// Puts another server, of this configuration, in the place of the one there is, which is lost with all it knows.
    /// Stream connections are cut.
    pub fn restart_server(&mut self, config: ServerConfig) {
        for id in 0..self.nodes.len() {
            self.cut(ClientId(id));
        }
        self.restarts += 1;
        let keys = ChaCha20Rng::seed_from_u64(self.seed ^ 0x5e55_1011 ^ (self.restarts << 32));
        self.server = Server::new(self.now, config, Box::new(keys));
    }

    /// Whether new stream connections of the client succeed.
    pub fn set_reachable(&mut self, id: ClientId, reachable: bool) {
        self.nodes[id.0].reachable = reachable;
    }

    /// Puts a datagram on the link to the server, from any address.
    pub fn inject(&mut self, addr: SocketAddr, bytes: &[u8]) {
        self.send_up(addr, bytes.to_vec());
    }

    /// Puts bytes on the client's stream connection to the server, as if the client had sent them.
    pub fn inject_stream(&mut self, id: ClientId, bytes: &[u8]) {
        let due = self.now + self.stream_delay;
        if let Some(pipe) = &mut self.nodes[id.0].pipe {
            pipe.up.push_back((due, bytes.to_vec()));
        }
    }

    /// Hands a datagram to a client as if the server had sent it.
    pub fn inject_to_client(&mut self, id: ClientId, bytes: &[u8]) {
        self.nodes[id.0].client.handle_datagram(self.now, bytes);
    }

    /// What was sent to an address that no client has, since this was last asked.
    pub fn take_strays(&mut self, addr: SocketAddr) -> Vec<Vec<u8>> {
        self.strays.remove(&addr).unwrap_or_default()
    }
}

/// Time.
impl Sim {
    /// Lets everything that is due now happen, then jumps to the next thing that is.
    ///
    /// Returns whether there was anything to jump to within `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.settle();
        match self.next_deadline() {
            Some(at) if at <= until => {
                self.now = at.max(self.now);
                self.arrive();
                self.server.timeout(self.now);
                for node in &mut self.nodes {
                    node.client.handle_timeout(self.now);
                }
                true
            }
            _ => {
                self.now = until.max(self.now);
                false
            }
        }
    }

    /// Runs for so much virtual time.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.settle();
    }

    /// Runs until `done`, for `at_most` so much virtual time. Returns whether it was done.
    pub fn run_until(&mut self, at_most: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + at_most;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            if !self.step(until) {
                return done(self);
            }
        }
    }

    /// Runs until no client waits for an answer and the server for no acknowledgement. Returns whether that came.
    pub fn run_until_idle(&mut self, at_most: Duration) -> bool {
        self.run_until(at_most, |sim| {
            let is_idle =
                |node: &Node| node.client.is_closed() || (node.client.is_ready() && node.client.is_idle());
            sim.nodes.iter().all(is_idle) && sim.server.is_settled() && sim.nothing_under_way()
        })
    }

    fn nothing_under_way(&self) -> bool {
        let quiet =
            |node: &Node| node.pipe.as_ref().is_none_or(|pipe| pipe.up.is_empty() && pipe.down.is_empty());
        self.dropped.is_empty()
            && self.up.poll_timeout().is_none()
            && self.down.poll_timeout().is_none()
            && self.nodes.iter().all(quiet)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let pipes = self.nodes.iter().filter_map(|node| node.pipe.as_ref());
        let pipes = pipes.flat_map(|pipe| [pipe.next_up(), pipe.next_down()]).flatten();
        let clients = self.nodes.iter().filter_map(|node| node.client.poll_timeout());
        let links = [self.up.poll_timeout(), self.down.poll_timeout(), self.server.poll_timeout()];
        pipes.chain(clients).chain(links.into_iter().flatten()).min()
    }
}

/// Another address of the same host.
fn beside(addr: SocketAddr) -> SocketAddr {
    let IpAddr::V4(ip) = addr.ip() else { return addr };
    let [net, high, mid, low] = ip.octets();
    SocketAddr::from((Ipv4Addr::new(net.wrapping_add(1), high, mid, low), addr.port()))
}

/// An address of a simulated host.
fn address(host: usize, port: u16) -> SocketAddr {
    let [.., high, mid, low] = (host as u64 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, high, mid, low), 40_000 + port))
}
