//! Where peers are, in few bytes: a server keeps it for each of very many.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::service::{Origin, Remote};

/// A [`Remote`] in 24 bytes; an IPv6 address that has a zone or a flow has 32 more elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PackedRemote {
    V4(SocketAddrV4),
    V6 { ip: [u8; 16], port: u16 },
    Zoned(Box<SocketAddrV6>),
    Unix { uid: u32, gid: u32 },
}

impl PackedRemote {
    /// Who it is.
    pub(crate) fn unpack(&self) -> Remote {
        match self {
            Self::V4(addr) => Remote::Ip(SocketAddr::V4(*addr)),
            Self::V6 { ip, port } => Remote::Ip(SocketAddr::new(IpAddr::from(*ip), *port)),
            Self::Zoned(addr) => Remote::Ip(SocketAddr::V6(**addr)),
            Self::Unix { uid, gid } => Remote::Unix { uid: *uid, gid: *gid },
        }
    }
}

impl From<Remote> for PackedRemote {
    fn from(remote: Remote) -> Self {
        match remote {
            Remote::Ip(SocketAddr::V4(addr)) => Self::V4(addr),
            Remote::Ip(SocketAddr::V6(addr)) if (addr.scope_id(), addr.flowinfo()) == (0, 0) => {
                Self::V6 { ip: addr.ip().octets(), port: addr.port() }
            }
            Remote::Ip(SocketAddr::V6(addr)) => Self::Zoned(Box::new(addr)),
            Remote::Unix { uid, gid } => Self::Unix { uid, gid },
        }
    }
}

/// An [`Origin`] in 28 bytes; who has both in fields of its own loses none to padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedOrigin {
    /// Who knocked.
    pub(crate) from: PackedRemote,
    /// The door it knocked on.
    pub(crate) door: u32,
}

impl From<Origin> for PackedOrigin {
    fn from(origin: Origin) -> Self {
        // Nobody has as many doors.
        Self { from: origin.from.into(), door: u32::try_from(origin.door).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_unpacked_as_it_was_packed() {
        assert_eq!(size_of::<PackedRemote>(), 24);
        let ips = ["192.0.2.1:4000", "[2001:db8::1]:4000", "[fe80::1%7]:4000", "[::ffff:192.0.2.1]:4000"];
        let ips = ips.map(|addr| (3, Remote::Ip(addr.parse().unwrap())));
        for (door, from) in ips.into_iter().chain([(70_000, Remote::Unix { uid: 1, gid: u32::MAX })]) {
            let packed = PackedOrigin::from(Origin { door, from });
            assert_eq!((packed.door as usize, packed.from.unpack()), (door, from));
        }
    }
}
