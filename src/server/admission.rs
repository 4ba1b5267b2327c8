//! Who may connect: so many connections in total, and so many from one host.
//!
//! A host is an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber has (RFC 6177). Loopback and
//! UNIX sockets have no host: there everybody would be the same one. Sessions on datagrams need no connection and do not
//! count here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use crate::config::ServerConfig;
use crate::error::Refusal;
use crate::service::Remote;
use crate::throttle::Throttle;
use crate::units::counted;

/// What those who are over their host's limit are told.
const TOO_MANY: &str = "too many connections from your address";

/// Where connections come from, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Host {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6([u16; 4]),
}

/// The right to a connection, until it is [given back](Admission::leave).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// It counts for its host.
    Counted,
    /// It has none, or hosts are not counted.
    Free,
}

/// Who is connected: as many hosts as there are connections at most.
#[derive(Debug, Default)]
pub(super) struct Admission {
    taken: usize,
    by_host: HashMap<Host, usize>,
    complaints: Throttle,
}

impl Admission {
    /// Takes a seat for a connection.
    ///
    /// # Errors
    ///
    /// There is none left: why, in words for its peer.
    pub(super) fn enter(&mut self, config: &ServerConfig, from: Remote) -> Result<Seat, &'static str> {
        if self.taken >= config.max_connections {
            return Err(Refusal::ServerFull.text());
        }
        let host = host_of(from).filter(|_| config.max_per_host > 0);
        if let Some(host) = host {
            let count = self.by_host.get(&host).copied().unwrap_or(0);
            if count >= config.max_per_host {
                return Err(TOO_MANY);
            }
            self.by_host.insert(host, count + 1);
        }
        self.taken += 1;
        Ok(if host.is_some() { Seat::Counted } else { Seat::Free })
    }

    /// Gives back the seat of who came from there.
    pub(super) fn leave(&mut self, seat: Seat, from: Remote) {
        self.taken -= 1;
        let Some(host) = host_of(from).filter(|_| seat == Seat::Counted) else { return };
        let left = self.by_host.get(&host).map_or(0, |count| count - 1);
        if left > 0 {
            self.by_host.insert(host, left);
        } else {
            self.by_host.remove(&host);
        }
    }

    /// Says in the log that a connection was refused: a line a second at most.
    pub(super) fn log_refused(&mut self, now: Instant, from: Remote, why: &str) {
        let Some(times) = self.complaints.count(now) else { return };
        let others = match times - 1 {
            0 => String::new(),
            others => format!("; before it, {}", counted(others, "other")),
        };
        log::warn!("refused a connection from {from}: {why}{others}");
    }

    /// How many hosts are remembered.
    pub(super) fn hosts(&self) -> usize {
        self.by_host.len()
    }
}

/// The host that a connection counts for.
pub(super) fn host_of(from: Remote) -> Option<Host> {
    let Remote::Ip(addr) = from else { return None };
    // An IPv4 address that comes in through an IPv6 socket is that IPv4 address.
    match addr.ip().to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(Host::V4(ip)),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Some(Host::V6([a, b, c, d]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str) -> Remote {
        Remote::Ip((ip.parse::<IpAddr>().unwrap(), 4_000).into())
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_the_first_half_of_an_ipv6_address() {
        let same = |one: &str, other: &str| host_of(from(one)) == host_of(from(other));
        assert!(same("192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1") && !same("192.0.2.1", "::192.0.2.1"));
        assert!(same("2001:db8::1", "2001:db8::ffff:0:0:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        for exempt in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(host_of(from(exempt)), None, "{exempt}");
        }
        assert_eq!(host_of(Remote::Unix { uid: 0, gid: 0 }), None);
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let (config, mut admission) = (ServerConfig::default(), Admission::default());
        let enter = |admission: &mut Admission, ip| admission.enter(&config, from(ip)).unwrap();
        let ips = ["192.0.2.1", "192.0.2.1", "::1", "2001:db8::1"];
        let seats = ips.map(|ip| (enter(&mut admission, ip), from(ip)));
        assert_eq!((admission.taken, admission.hosts()), (4, 2));
        seats.into_iter().for_each(|(seat, from)| admission.leave(seat, from));
        assert_eq!((admission.taken, admission.hosts()), (0, 0));
    }
}
