//! What a server and a client can be told: every knob with its unit, default and bound.
//!
//! Values are resolved here, not parsed: the command line is in `cli`. Durations and probabilities come as validated
//! types, so nothing in the core has to doubt them.

use std::time::Duration;

use ipnet::IpNet;

use crate::door::Door;
use crate::hub::HubConfig;
use crate::link::LinkConfig;
use crate::reliable::Backoff;
use crate::rules::Rules;
use crate::wire::DATAGRAM_MIN_LIMIT;

/// How a [`crate::server::Server`] behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Queues, and the retransmission of pushes.
    pub hub: HubConfig,
    /// What is spoken at which door, by the door's ordinal; one that is not listed speaks frames, without a limit.
    pub doors: Vec<Door>,
    /// The simulated network that datagrams come in through; on streams only its losses hold, of tagged requests. Default:
    /// a perfect one.
    pub link_in: LinkConfig,
    /// The simulated network that datagrams go out through; on streams only its losses hold, of answers to tagged requests.
    /// Default: a perfect one.
    pub link_out: LinkConfig,
    /// The seed of what these two do. It reaches nothing else: no token, no key.
    pub seed: u64,
    /// How long a stream session outlives its connection. Default 30 s.
    pub linger: Duration,
    /// How long a datagram session lives after the last datagram with its token. Default 90 s.
    pub idle: Duration,
    /// The longest payload that is read, in bytes. Default 16 MiB. A connection that announces more is closed.
    pub max_message: usize,
    /// The largest datagram that is ever sent, in bytes, to peers that have sent one as large. Default 1,200.
    pub max_datagram: usize,
    /// Most stream connections at once. Default 10,000; each idle one costs about 1 KiB here, and what the system keeps
    /// for it; up to 16 KiB of answers that are not read and 128 KiB of a frame that is not complete do not count in
    /// [`HubConfig::max_memory`]. One more is told so and closed. A sixteenth, 8 to 64 and a quarter at most, is kept for
    /// loopback and UNIX sockets, of these as of [`HubConfig::max_sessions`].
    pub max_connections: usize,
    /// Most stream connections, sessions that linger and sessions on datagrams at once, all together, from one host: an
    /// IPv4 address or the /64 of an IPv6 address; loopback and UNIX sockets do not count. Default 100; 0 is no limit. One
    /// more connection is told so and closed, one more session is refused (503).
    pub max_per_host: usize,
    /// How long a connection may take to get a session. Default 60 s. Only a PNG gives it as long again, and for a day at
    /// most; frames that are refused do not.
    pub register_timeout: Duration,
    /// How long a frame may take once begun, plus one second per 64 KiB announced. Default 10 s.
    pub frame_timeout: Duration,
    /// After how long a server that shuts down expects to be back, for its tagged clients and for people. Default: it does
    /// not know.
    pub back_in: Option<Duration>,
    /// Where an untagged REG over UDP registers at once, without proof of address. Default: loopback.
    pub bare_udp: Vec<IpNet>,
    /// Who may use which name from where. Default: every name is open.
    pub rules: Rules,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            hub: HubConfig::default(),
            doors: Vec::new(),
            link_in: LinkConfig::perfect(),
            link_out: LinkConfig::perfect(),
            seed: 0,
            linger: Duration::from_secs(30),
            idle: Duration::from_secs(90),
            max_message: 16 << 20,
            max_datagram: DATAGRAM_MIN_LIMIT,
            max_connections: 10_000,
            max_per_host: 100,
            register_timeout: Duration::from_secs(60),
            frame_timeout: Duration::from_secs(10),
            back_in: None,
            bare_udp: loopback(),
            rules: Rules::default(),
        }
    }
}

/// 127.0.0.0/8 and ::1.
pub fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect()
}

/// Over what a client talks to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A byte stream: TCP.
    Stream,
    /// Datagrams: UDP.
    Datagram,
}

/// How a [`crate::client::Client`] behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Over what it talks.
    pub transport: Transport,
    /// The name to register under; `None` registers nothing, which is enough for pings.
    pub name: Option<String>,
    /// When requests are repeated, and when they are given up; lost connections are made again by the same policy.
    pub policy: Backoff,
    /// How many requests may be in flight at once, 1 to 1,023. Default 1, which keeps messages in order.
    pub window: usize,
    /// The longest payload that is read, in bytes. Default 16 MiB and room for the sender's name.
    pub max_message: usize,
    /// The largest datagram that is sent, in bytes. Default 1,200.
    pub max_datagram: usize,
    /// Over UDP, how long to be silent before a ping keeps the session. Default 25 s; RFC 8085 forbids less than 15 s.
    pub keepalive: Duration,
    /// Over UDP, whether a server that does not answer has the client ask for a look at its path
    /// ([`Event::CheckPath`](crate::client::Event::CheckPath)): after 10 s whether its address has changed, after 40 s for
    /// another port. Default yes; an experiment that is to measure a retry policy alone says no.
    pub checks_path: bool,
    /// Pushes are handed on as they arrive, to prove that the tests notice.
    #[doc(hidden)]
    pub unordered: bool,
}

impl ClientConfig {
    /// A client of the given name over the given transport, with this policy.
    pub fn new(transport: Transport, name: Option<&str>, policy: Backoff) -> Self {
        Self {
            transport,
            name: name.map(str::to_owned),
            policy,
            window: 1,
            max_message: (16 << 20) + 1_024,
            max_datagram: DATAGRAM_MIN_LIMIT,
            keepalive: Duration::from_secs(25),
            checks_path: true,
            unordered: false,
        }
    }
}
