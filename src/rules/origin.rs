//! Origins of connections in rules: addresses, networks, UNIX sockets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use super::SHOWN;
use crate::escape::escape_short;
use crate::service::Remote;

/// `(uid_t)-1`, the number of no user and no group: the credentials of a peer are unknown.
pub(crate) const UNKNOWN_ID: u32 = u32::MAX;

/// The origin of a connection: an item of `allow` and `deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// A network. A network of IPv4-mapped addresses is an IPv4 network.
    Net(IpNet),
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// Any UNIX socket.
    Unix,
    /// A UNIX socket, used by this user.
    Uid(u32),
    /// A UNIX socket, used by this group.
    Gid(u32),
}

/// The origin of a peer as rules see it: without the port.
pub(super) struct Shown<'a>(pub(super) &'a Remote);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Remote::Ip(addr) => write!(f, "{}", canonical(addr)),
            Remote::Unix { uid: UNKNOWN_ID, gid: UNKNOWN_ID } => f.write_str("unix"),
            Remote::Unix { uid: UNKNOWN_ID, gid } => write!(f, "unix gid {gid}"),
            Remote::Unix { uid, gid: UNKNOWN_ID } => write!(f, "unix uid {uid}"),
            unix @ Remote::Unix { .. } => write!(f, "{unix}"),
        }
    }
}

/// The address for rules: IPv4-mapped IPv6 becomes IPv4.
fn canonical(addr: &SocketAddr) -> IpAddr {
    addr.ip().to_canonical()
}

impl OriginPattern {
    /// Whether it matches an origin.
    pub(super) fn holds(&self, from: &Remote) -> bool {
        match (self, from) {
            (Self::Net(net), Remote::Ip(addr)) => net.contains(&canonical(addr)),
            (Self::Loopback, Remote::Ip(addr)) => canonical(addr).is_loopback(),
            (Self::Unix, Remote::Unix { .. }) => true,
            (Self::Uid(wanted), Remote::Unix { uid, .. }) => wanted == uid,
            (Self::Gid(wanted), Remote::Unix { gid, .. }) => wanted == gid,
            (Self::Net(_) | Self::Loopback, Remote::Unix { .. })
            | (Self::Unix | Self::Uid(_) | Self::Gid(_), Remote::Ip(_)) => false,
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net) => write!(f, "{net}"),
            Self::Loopback => f.write_str("loopback"),
            Self::Unix => f.write_str("unix"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Gid(gid) => write!(f, "gid:{gid}"),
        }
    }
}

/// Parses `loopback`, `unix`, `uid:1000`, `gid:100`, `10.0.0.0/8`, `2001:db8::/32` or a single address.
impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = || escape_short(text.as_bytes(), SHOWN);
        let number = |digits: &str| {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits
                .and_then(|digits| digits.parse().ok())
                .filter(|id| *id != UNKNOWN_ID)
                .ok_or_else(|| format!("`{}` names no user or group; write uid:1000 or gid:100", shown()))
        };
        match text.split_once(':') {
            _ if text == "loopback" => Ok(Self::Loopback),
            _ if text == "unix" => Ok(Self::Unix),
            Some(("uid", digits)) => number(digits).map(Self::Uid),
            Some(("gid", digits)) => number(digits).map(Self::Gid),
            _ => network(text).map(Self::Net),
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let shown = || escape_short(text.as_bytes(), SHOWN);
    if text.contains('/') && text.parse::<IpNet>().is_err() {
        return Err(format!("`{}` is not a network; write 10.0.0.0/8 or 2001:db8::/32", shown()));
    }
    let net: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        format!(
            "`{}` is not an origin; write loopback, unix, uid:1000, gid:100, 10.0.0.0/8 or 2001:db8::/32",
            shown()
        )
    })?;
    if net.trunc() != net {
        let (trunc, addr) = (net.trunc(), net.addr());
        return Err(format!("`{}` has bits set behind its prefix; write {trunc} or {addr}", shown()));
    }
    Ok(canonical_net(net))
}

/// A network of IPv4-mapped addresses is an IPv4 network.
fn canonical_net(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let (addr, prefix) = (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(96));
    let inner = addr.zip(prefix).and_then(|(addr, prefix)| Ipv4Net::new(addr, prefix).ok());
    inner.map_or(net, IpNet::V4)
}
