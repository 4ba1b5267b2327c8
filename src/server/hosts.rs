//! [`Host`]: the unit that the limits per host count.
//!
//! A host is an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber has (RFC 6177). Loopback and
//! UNIX sockets have no host: all peers on this machine would share one.

use std::net::{IpAddr, Ipv4Addr};

use crate::service::Remote;

/// An IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Host {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6([u16; 4]),
}

impl Host {
    /// Returns the host that a peer counts for, or `None` for a peer on this machine.
    pub(super) fn of(from: Remote) -> Option<Self> {
        let Remote::Ip(addr) = from else { return None };
        // An IPv4-mapped IPv6 address is that IPv4 address.
        match addr.ip().to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => Some(Self::V4(ip)),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Some(Self::V6([a, b, c, d]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(ip: &str) -> Option<Host> {
        Host::of(Remote::Ip((ip.parse::<IpAddr>().unwrap(), 4_000).into()))
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_the_first_half_of_an_ipv6_address() {
        let same = |one: &str, other: &str| host(one) == host(other);
        assert!(same("192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1") && !same("192.0.2.1", "::192.0.2.1"));
        assert!(same("2001:db8::1", "2001:db8::ffff:0:0:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        for exempt in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(host(exempt), None, "{exempt}");
        }
        assert_eq!(Host::of(Remote::Unix { uid: 0, gid: 0 }), None);
    }
}
