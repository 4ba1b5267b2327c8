//! Compact peer addresses, because a server keeps one for each of millions of sessions.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::service::{Origin, Remote};

/// A [`Remote`] and the local address that its datagrams are sent to, in 24 bytes. An IPv6 address with a zone, a flow
/// label or a local address takes 48 bytes more on the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PackedRemote {
    /// A local address of 0.0.0.0 means none.
    V4 {
        addr: SocketAddrV4,
        local: Ipv4Addr,
    },
    V6 {
        ip: [u8; 16],
        port: u16,
    },
    Wide(Box<(SocketAddrV6, Option<IpAddr>)>),
    Unix {
        uid: u32,
        gid: u32,
    },
}

impl PackedRemote {
    /// The peer.
    pub(crate) fn unpack(&self) -> Remote {
        match self {
            Self::V4 { addr, .. } => Remote::Ip(SocketAddr::V4(*addr)),
            Self::V6 { ip, port } => Remote::Ip(SocketAddr::new(IpAddr::from(*ip), *port)),
            Self::Wide(wide) => Remote::Ip(SocketAddr::V6(wide.0)),
            Self::Unix { uid, gid } => Remote::Unix { uid: *uid, gid: *gid },
        }
    }

    /// The local address that its datagrams are sent to.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        match self {
            Self::V4 { local, .. } => (!local.is_unspecified()).then_some(IpAddr::V4(*local)),
            Self::Wide(wide) => wide.1,
            Self::V6 { .. } | Self::Unix { .. } => None,
        }
    }

    /// Stores `local`, which is of the peer's address family.
    pub(crate) fn with_local(remote: Remote, local: Option<IpAddr>) -> Self {
        match (remote, local) {
            (Remote::Ip(SocketAddr::V4(addr)), Some(IpAddr::V4(local))) => Self::V4 { addr, local },
            (Remote::Ip(SocketAddr::V6(addr)), local @ Some(IpAddr::V6(_))) => {
                Self::Wide(Box::new((addr, local)))
            }
            _ => remote.into(),
        }
    }
}

impl From<Remote> for PackedRemote {
    fn from(remote: Remote) -> Self {
        match remote {
            Remote::Ip(SocketAddr::V4(addr)) => Self::V4 { addr, local: Ipv4Addr::UNSPECIFIED },
            Remote::Ip(SocketAddr::V6(addr)) if (addr.scope_id(), addr.flowinfo()) == (0, 0) => {
                Self::V6 { ip: addr.ip().octets(), port: addr.port() }
            }
            Remote::Ip(SocketAddr::V6(addr)) => Self::Wide(Box::new((addr, None))),
            Remote::Unix { uid, gid } => Self::Unix { uid, gid },
        }
    }
}

/// An [`Origin`] in 28 bytes, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedOrigin {
    /// The peer.
    pub(crate) from: PackedRemote,
    /// The listener that accepted it.
    pub(crate) listener: u32,
}

impl From<Origin> for PackedOrigin {
    fn from(origin: Origin) -> Self {
        // No server has as many listeners.
        Self { from: origin.from.into(), listener: u32::try_from(origin.listener).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_a_round_trip() {
        assert_eq!(size_of::<PackedRemote>(), 24);
        let ips = ["192.0.2.1:4000", "[2001:db8::1]:4000", "[fe80::1%7]:4000", "[::ffff:192.0.2.1]:4000"];
        let ips = ips.map(|addr| (3, Remote::Ip(addr.parse().unwrap())));
        for (listener, from) in ips.into_iter().chain([(70_000, Remote::Unix { uid: 1, gid: u32::MAX })]) {
            let packed = PackedOrigin::from(Origin { listener, from });
            assert_eq!((packed.listener as usize, packed.from.unpack()), (listener, from));
            assert_eq!(packed.from.local(), None);
        }
    }

    #[test]
    fn a_remote_keeps_the_local_address_of_its_own_family() {
        for (addr, local) in [
            ("192.0.2.1:4000", "127.0.0.2"),
            ("[2001:db8::1]:4000", "2001:db8::2"),
            ("[fe80::1%7]:4000", "fe80::2"),
        ] {
            let (from, local) = (Remote::Ip(addr.parse().unwrap()), Some(local.parse().unwrap()));
            let packed = PackedRemote::with_local(from, local);
            assert_eq!((packed.unpack(), packed.local()), (from, local));
        }
        let other = PackedRemote::with_local(
            Remote::Ip("192.0.2.1:4000".parse().unwrap()),
            Some("2001:db8::2".parse().unwrap()),
        );
        assert_eq!(other.local(), None);
    }
}
