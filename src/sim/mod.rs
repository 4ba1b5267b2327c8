//! The simulator: a server, clients and the links between them on one virtual clock.
//!
//! It takes the place of sockets and engines ([`net`](crate::net)) around the same [`Server`] and [`Client`] that the
//! programs run. Nothing waits: the clock jumps to the next arrival or deadline. All randomness comes from one seed,
//! and two runs with the same seed are equal to the byte ([`Sim::trace_hash`]).
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

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use siphasher::sip::SipHasher13;

use crate::client::{Client, Event};
use crate::config::{ClientConfig, ServerConfig};
use crate::link::{Decision, Direction, Link, LinkConfig, LinkStats, Start};
use crate::server::Server;
use crate::service::{CloseReason, Service};
use crate::wire;

mod network;
mod node;
mod traffic;

#[doc(hidden)]
pub use network::Network;
pub use node::Move;
use node::{Node, Packet, address};
use traffic::Pipe;

/// Splits the sender of a message as [`wire::split_sender`] does, into text. Bytes that are not UTF-8, which no server
/// sends, become replacement characters.
///
/// ```
/// use sayagain::sim::split_sender;
///
/// assert_eq!(split_sender(b"ada#lobby"), ("ada".into(), Some("#lobby".into())));
/// assert_eq!(split_sender(b"ada"), ("ada".into(), None));
/// ```
#[must_use]
pub fn split_sender(sender: &[u8]) -> (Cow<'_, str>, Option<Cow<'_, str>>) {
    let (name, room) = wire::split_sender(sender);
    (String::from_utf8_lossy(name), room.map(String::from_utf8_lossy))
}

/// Identifies a client of a [`Sim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(usize);

/// The decision of a filter about a datagram or a piece of a stream.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAction {
    /// Passes it to the link.
    Pass,
    /// Drops it.
    Drop,
    /// Drops it, and cuts the stream connection that carries it.
    Cut,
    /// Moves the client first. A datagram of the client then leaves from the new address; one to the client goes to the
    /// old one.
    Move(Move),
}

/// Inspects everything that is sent, before the link does.
#[doc(hidden)]
pub type Filter = Box<dyn FnMut(Direction, SocketAddr, &[u8]) -> FilterAction>;

/// The events of a datagram between a client and the server, for an observer.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Sighting {
    /// It was sent, and its link has decided its fate.
    Sent(Decision),
    /// It arrived.
    Arrived {
        /// Messages that the server executed because of it; 0 at a client.
        executed: u64,
        /// Repeats that the server answered from its dedup window because of it; 0 at a client.
        repeats: u64,
    },
}

/// A callback for every datagram: the virtual time, its direction, the client's address, its bytes, the event.
#[doc(hidden)]
pub type Observer = Box<dyn FnMut(Instant, Direction, SocketAddr, &[u8], Sighting)>;

/// The simulator.
pub struct Sim {
    start: Instant,
    now: Instant,
    server: Server,
    nodes: Vec<Node>,
    /// Connections that their clients have dropped, and whose last input the server has not read.
    dropped: Vec<Pipe>,
    flows: BTreeMap<SocketAddr, u64>,
    up: Link<Packet>,
    down: Link<Packet>,
    /// Datagrams to addresses that no client has.
    strays: BTreeMap<SocketAddr, Vec<Vec<u8>>>,
    stream_delay: Duration,
    /// Splits streams into pieces.
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
    /// Creates a server and two links, to it and from it. Datagrams pass the links; streams take 10 ms, in pieces.
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

    /// Adds a client with an address of its own, which starts now.
    pub fn add_client(&mut self, config: ClientConfig) -> ClientId {
        let ordinal = self.nodes.len() as u64 + 1;
        let secrets =
            ChaCha20Rng::seed_from_u64(self.seed.wrapping_add(ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let client = Client::new(self.now, config, self.seed.wrapping_add(ordinal), Box::new(secrets));
        let addr = address(self.nodes.len(), 0);
        self.nodes.push(Node::new(client, addr));
        ClientId(self.nodes.len() - 1)
    }

    /// The client, to send requests with.
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

    /// The elapsed virtual time.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The events of a client since the last call.
    pub fn take_events(&mut self, id: ClientId) -> Vec<Event> {
        self.nodes[id.0].events.drain(..).collect()
    }

    /// A hash of everything that was sent, with the times: equal for two runs with the same seed.
    #[doc(hidden)]
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    /// Installs a filter for everything that is sent from now on.
    #[doc(hidden)]
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = Some(filter);
    }

    /// Installs an observer for every datagram that is sent or arrives from now on.
    #[doc(hidden)]
    pub fn set_observer(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Replaces the links, to the server and from it; datagrams in transit on the old ones are lost.
    pub fn set_links(&mut self, up: LinkConfig, down: LinkConfig) {
        self.up = Link::new(up, self.seed, Direction::Up);
        self.down = Link::new(down, self.seed, Direction::Down);
    }

    /// The same, with each link at a position in the life of its loss model.
    pub(crate) fn set_links_at(
        &mut self,
        (up, from): (LinkConfig, Start),
        (down, back): (LinkConfig, Start),
    ) {
        self.up = Link::new(up, self.seed, Direction::Up).starting_at(from);
        self.down = Link::new(down, self.seed, Direction::Down).starting_at(back);
    }

    /// The counters of the links, to the server and from it.
    pub fn link_stats(&self) -> (LinkStats, LinkStats) {
        (self.up.stats(), self.down.stats())
    }
}

/// Changes of the network.
impl Sim {
    /// The address of a client.
    #[doc(hidden)]
    pub fn address_of(&self, id: ClientId) -> SocketAddr {
        self.nodes[id.0].addr
    }

    /// Moves the client to another port; datagrams to the old one are lost.
    #[doc(hidden)]
    pub fn move_client(&mut self, id: ClientId) {
        self.relocate(id, Move::Port { old_lives: false });
    }

    /// Changes the address of the client's datagrams.
    #[doc(hidden)]
    pub fn relocate(&mut self, id: ClientId, how: Move) {
        self.nodes[id.0].relocate(how);
    }

    /// Bytes that the client has sent on its stream connection and the server has not read.
    #[doc(hidden)]
    pub fn unread(&self, id: ClientId) -> usize {
        let pipe = self.nodes[id.0].pipe.as_ref();
        pipe.map_or(0, |pipe| pipe.up.iter().map(|(_, bytes)| bytes.len()).sum())
    }

    /// Cuts the client's stream connection: bytes in transit are lost, and both ends are told.
    pub fn cut(&mut self, id: ClientId) {
        if let Some(pipe) = self.nodes[id.0].pipe.take() {
            self.server.closed(self.now, pipe.conn, CloseReason::Lost);
            self.nodes[id.0].client.handle_disconnected(self.now);
        }
    }

    /// Replaces the server by a new one with this configuration; all its state is lost. Stream connections are cut.
    pub fn restart_server(&mut self, config: ServerConfig) {
        for id in 0..self.nodes.len() {
            self.cut(ClientId(id));
        }
        self.restarts += 1;
        let keys = ChaCha20Rng::seed_from_u64(self.seed ^ 0x5e55_1011 ^ (self.restarts << 32));
        self.server = Server::new(self.now, config, Box::new(keys));
    }

    /// Sets whether new stream connections of the client succeed.
    pub fn set_reachable(&mut self, id: ClientId, reachable: bool) {
        self.nodes[id.0].reachable = reachable;
    }

    /// Injects a datagram on the link to the server, from any address.
    #[doc(hidden)]
    pub fn inject(&mut self, addr: SocketAddr, bytes: &[u8]) {
        self.send_up(addr, bytes.to_vec());
    }

    /// Injects bytes on the client's stream connection to the server, as if the client had sent them.
    #[doc(hidden)]
    pub fn inject_stream(&mut self, id: ClientId, bytes: &[u8]) {
        let due = self.now + self.stream_delay;
        if let Some(pipe) = &mut self.nodes[id.0].pipe {
            pipe.up.push_back((due, bytes.to_vec()));
        }
    }

    /// Delivers a datagram to a client as if the server had sent it.
    #[doc(hidden)]
    pub fn inject_to_client(&mut self, id: ClientId, bytes: &[u8]) {
        self.nodes[id.0].client.handle_datagram(self.now, bytes);
    }

    /// Datagrams to addresses that no client has, since the last call.
    #[doc(hidden)]
    pub fn take_strays(&mut self, addr: SocketAddr) -> Vec<Vec<u8>> {
        self.strays.remove(&addr).unwrap_or_default()
    }
}

/// Time.
impl Sim {
    /// Handles everything that is due now, then jumps to the next event.
    ///
    /// Returns whether there was one within `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.advance(until)
    }

    /// Runs for a virtual time.
    pub fn run_for(&mut self, time: Duration) {
        self.run(time);
    }

    /// Runs until `done`, for at most `at_most` of virtual time. Returns whether it was done.
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

    /// Runs until no client waits for an answer and the server for no acknowledgement. Returns whether that happened.
    pub fn run_until_idle(&mut self, at_most: Duration) -> bool {
        self.run_until(at_most, |sim| {
            let is_idle =
                |node: &Node| node.client.is_closed() || (node.client.is_ready() && node.client.is_idle());
            sim.nodes.iter().all(is_idle) && sim.server.is_settled() && sim.nothing_in_flight()
        })
    }

    fn nothing_in_flight(&self) -> bool {
        let quiet =
            |node: &Node| node.pipe.as_ref().is_none_or(|pipe| pipe.up.is_empty() && pipe.down.is_empty());
        self.dropped.is_empty()
            && self.up.poll_timeout().is_none()
            && self.down.poll_timeout().is_none()
            && self.nodes.iter().all(quiet)
    }
}
