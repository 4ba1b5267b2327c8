//! Control messages for the local address of a datagram: IP_PKTINFO, ip(7), and IPV6_PKTINFO, RFC 3542 section 6.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessageOwned, RecvMsg, setsockopt, sockopt};

/// Makes the system report the destination of each received datagram.
pub(crate) fn request(socket: &impl AsFd, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    Ok(())
}

/// The local address that a datagram was sent to, if an answer can leave from it.
pub(crate) fn local_of<S>(message: &RecvMsg<'_, '_, S>) -> Option<IpAddr> {
    let local = message.cmsgs().ok()?.find_map(|control| match control {
        // For a broadcast, this is the address to answer from.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    })?;
    (!local.is_unspecified() && !local.is_multicast()).then_some(local)
}

/// The source address that datagrams leave from.
pub(crate) enum Leaving {
    /// The system chooses.
    FromAny,
    FromV4(in_pktinfo),
    FromV6(in6_pktinfo),
}

impl From<Option<IpAddr>> for Leaving {
    /// The interface stays 0: routing decides, or the zone of the destination.
    fn from(local: Option<IpAddr>) -> Self {
        match local {
            None => Self::FromAny,
            Some(IpAddr::V4(local)) => {
                let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
                Self::FromV4(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } })
            }
            Some(IpAddr::V6(local)) => {
                let ipi6_addr = in6_addr { s6_addr: local.octets() };
                Self::FromV6(in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 })
            }
        }
    }
}
