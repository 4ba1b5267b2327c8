//! The options of TCP connections: Nagle's algorithm and keepalive.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// The schedule of TCP keepalive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    /// The idle time before the first probe.
    idle: Duration,
    /// The time between two probes.
    interval: Duration,
    /// Number of unanswered probes that end the connection.
    probes: u32,
}

impl Keepalive {
    /// For a client: detects a dead server after about half a minute.
    pub(crate) const CLIENT: Self =
        Self { idle: Duration::from_secs(20), interval: Duration::from_secs(4), probes: 3 };
    /// For servers and proxies: detects a dead peer after about two minutes.
    pub(crate) const SERVER: Self =
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 };
}

/// Disables Nagle's algorithm, and enables keepalive.
pub(crate) fn set_options(socket: &impl AsFd, keepalive: Keepalive) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let Keepalive { idle, interval, probes } = keepalive;
    socket
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes))
}
