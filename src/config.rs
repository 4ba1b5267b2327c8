//! The configuration of a server and a client: every setting with its unit, default and bounds.
//!
//! The programs parse their command lines (`cli`) into these structs; embedders fill them directly. Durations and
//! probabilities are validated types, so the core does not check them again.
//!
//! ```
//! use std::time::Duration;
//! use sayagain::config::ServerConfig;
//!
//! let config = ServerConfig { linger: Duration::from_secs(5), ..ServerConfig::default() };
//! # assert_eq!(config.linger.as_secs(), 5);
//! ```

use std::time::Duration;

use ipnet::IpNet;

pub use crate::hub_config::{HubConfig, SlowPolicy};
use crate::link::LinkConfig;
use crate::listener::Listener;
use crate::reliable::Backoff;
use crate::rules::Rules;
use crate::wire::DATAGRAM_MIN_LIMIT;

/// The configuration of a [`crate::server::Server`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Queues, and the retransmission of pushes.
    pub hub: HubConfig,
    /// The protocol of each listener, by its ordinal. A listener that is not listed carries frames, without a rate
    /// limit.
    pub listeners: Vec<Listener>,
    /// The simulated link for received datagrams. On streams, only its losses apply, to tagged requests. Default: a
    /// perfect link.
    pub link_in: LinkConfig,
    /// The simulated link for sent datagrams. On streams, only its losses apply, to answers to tagged requests.
    /// Default: a perfect link.
    pub link_out: LinkConfig,
    /// The seed of the two links. Tokens and keys do not depend on it.
    pub seed: u64,
    /// Time by which a stream session outlives its connection. Default 30 s.
    pub linger: Duration,
    /// Time that a datagram session lives after the last datagram with its token. Default 90 s.
    pub idle: Duration,
    /// The longest payload that is read, in bytes. Default 16 MiB. A connection that announces a longer one is closed.
    pub max_message: usize,
    /// The largest datagram that is sent, in bytes, to peers that have sent one of that size. Default 1,200.
    pub max_datagram: usize,
    /// The most simultaneous stream connections. Default 10,000. An idle one costs about 1 KiB here, plus the system's
    /// memory. Up to 16 KiB of unread answers and 128 KiB of an incomplete frame per connection do not count in
    /// [`HubConfig::max_memory`]. A further connection is told the reason and closed. One sixteenth, but 8 to 64 and at
    /// most a quarter, is reserved for loopback and UNIX sockets; so it is of [`HubConfig::max_sessions`].
    pub max_connections: usize,
    /// The most simultaneous stream connections, lingering sessions and datagram sessions of one host, all together. A
    /// host is an IPv4 address or the /64 of an IPv6 address; loopback and UNIX sockets do not count. Default 100; 0 is
    /// no limit. A further connection is told the reason and closed, a further session is refused (503).
    pub max_per_host: usize,
    /// The time in which a connection has to get a session. Default 60 s. A PNG restarts it, for a day at most; refused
    /// frames do not.
    pub register_timeout: Duration,
    /// The time in which a frame has to be complete once begun, plus one second per 64 KiB announced. Default 10 s.
    pub frame_timeout: Duration,
    /// The expected time until the server is back after a shutdown, for its tagged clients and line clients. Default:
    /// unknown.
    pub back_in: Option<Duration>,
    /// The addresses from which an untagged REG over UDP registers at once, without proof of address. Default:
    /// loopback.
    pub bare_udp: Vec<IpNet>,
    /// The access rules. Default: every name is open.
    pub rules: Rules,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            hub: HubConfig::default(),
            listeners: Vec::new(),
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
pub(crate) fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect()
}

/// The transport between a client and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A byte stream: TCP.
    Stream,
    /// Datagrams: UDP.
    Datagram,
}

/// The configuration of a [`crate::client::Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The transport.
    pub transport: Transport,
    /// The name to register; `None` registers no name, which is enough for pings.
    pub name: Option<String>,
    /// The retry policy of requests, and of reconnecting.
    pub policy: Backoff,
    /// Most requests in flight at once, 1 to 1,023. Default 1, which keeps messages in order.
    pub window: usize,
    /// The longest payload that is read, in bytes. Default 16 MiB and room for the sender's name.
    pub max_message: usize,
    /// The largest datagram that is sent, in bytes. Default 1,200.
    pub max_datagram: usize,
    /// Over UDP, the idle time after which a ping keeps the session alive. Default 25 s; RFC 8085 forbids less than 15
    /// s.
    pub keepalive: Duration,
    /// Over UDP, whether the client emits [`Event::CheckPath`](crate::client::Event::CheckPath) if the server does not
    /// answer. It does so after 10 s to check whether its address has changed, and after 40 s for another port. Default
    /// yes; turn it off to measure a retry policy alone.
    pub checks_path: bool,
    /// Delivers pushes in order of arrival; a fault to test the tests with.
    #[doc(hidden)]
    pub unordered: bool,
}

impl ClientConfig {
    /// Creates the configuration of a client with this name, transport and retry policy.
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
