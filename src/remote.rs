//! Where peers are, in few bytes: a server keeps it for each of very many.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::service::{DoorId, Origin, Peer, Remote};

/// A [`Remote`] in 16 bytes; an IPv6 address has 32 more elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Packed {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Unix { uid: u32, gid: u32 },
}

/// An [`Origin`] in 24 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedOrigin {
    from: Packed,
    door: u32,
}

impl PackedOrigin {
    /// Where it is.
    pub(crate) fn unpack(&self) -> Origin {
        let from = match &self.from {
            Packed::V4(addr) => Remote::Ip(SocketAddr::V4(*addr)),
            Packed::V6(addr) => Remote::Ip(SocketAddr::V6(**addr)),
            Packed::Unix { uid, gid } => Remote::Unix { uid: *uid, gid: *gid },
        };
        Origin { door: self.door(), from }
    }

    /// The door it knocked on.
    pub(crate) fn door(&self) -> DoorId {
        self.door as usize
    }

    /// The same for a peer on datagrams; `None` for a process of this machine.
    pub(crate) fn peer(&self) -> Option<Peer> {
        let Origin { door, from } = self.unpack();
        let Remote::Ip(addr) = from else { return None };
        Some(Peer { door, addr })
    }
}

impl From<Origin> for PackedOrigin {
    fn from(origin: Origin) -> Self {
        let from = match origin.from {
            Remote::Ip(SocketAddr::V4(addr)) => Packed::V4(addr),
            Remote::Ip(SocketAddr::V6(addr)) => Packed::V6(Box::new(addr)),
            Remote::Unix { uid, gid } => Packed::Unix { uid, gid },
        };
        // Nobody has as many doors.
        Self { from, door: u32::try_from(origin.door).unwrap_or(u32::MAX) }
    }
}

impl From<Peer> for PackedOrigin {
    fn from(peer: Peer) -> Self {
        Origin { door: peer.door, from: Remote::Ip(peer.addr) }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_unpacked_as_it_was_packed() {
        assert!(size_of::<PackedOrigin>() <= 24);
        let [v4, v6] = ["192.0.2.1:4000", "[fe80::1%7]:4000"].map(|addr| Remote::Ip(addr.parse().unwrap()));
        for (door, from) in [(0, v4), (3, v6), (70_000, Remote::Unix { uid: 1, gid: u32::MAX })] {
            let origin = Origin { door, from };
            assert_eq!(PackedOrigin::from(origin).unpack(), origin);
        }
    }
}
