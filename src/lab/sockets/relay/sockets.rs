//! The system resources of a proxy: listening sockets, and the upstream's addresses. Relaying is elsewhere.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use super::rt;
use crate::escape::escape_short;
use crate::lab::proxy::address::Address;
use crate::lab::proxy::control::ControlError;
use crate::net::listen::{Bound, Endpoint, Listen, Scheme};

/// Listening sockets of one scheme.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) endpoints: Vec<Endpoint>,
}

impl Sockets {
    /// Binds every address of the host, or none.
    pub(super) fn bind(address: &Address) -> Result<Self, ControlError> {
        let (host, port) = (address.at.host.clone(), address.at.port);
        let listen =
            Listen { host, port, tcp: address.scheme == Scheme::Tcp, udp: address.scheme == Scheme::Udp };
        let bound = listen.bind().map_err(|error| ControlError::Failed(error.to_string()))?;
        let endpoints = bound.endpoints().to_vec();
        let Bound { udp, tcp, .. } = bound;
        Ok(Self { udp, tcp, endpoints })
    }

    /// Duplicates the sockets.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let udp = self.udp.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?;
        let tcp = self.tcp.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { udp, tcp, endpoints: self.endpoints.clone() })
    }
}

/// Resolves an upstream to addresses, IPv4 first. Over UDP an unreachable address is not detected soon, so the first
/// is used; most servers with a single family use IPv4.
pub(super) async fn resolve(upstream: &Address) -> Result<Arc<[SocketAddr]>, ControlError> {
    let (host, port) = (&upstream.at.host, upstream.at.port);
    let failed = |why: String| {
        let host = escape_short(host.as_bytes(), 80);
        ControlError::Failed(format!("cannot find the host `{host}`: {why}; check its name"))
    };
    if port == 0 {
        return Err(ControlError::Invalid(format!("cannot relay to {upstream}: its port is 0; name one")));
    }
    let mut addrs = rt::resolve(host, port).await.map_err(|error| failed(reason(&error)))?;
    addrs.sort_by_key(SocketAddr::is_ipv6);
    addrs.dedup();
    if addrs.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addrs.into()) }
}

/// Returns the system's error without the runtime's context.
fn reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|error| error.source());
    inner.map_or_else(|| error.to_string(), ToString::to_string)
}

/// Refuses a proxy that would relay to itself.
pub(super) fn check_loop(sockets: &Sockets, upstream: &[SocketAddr]) -> Result<(), ControlError> {
    let is_own = |own: SocketAddr, to: SocketAddr| {
        let is_local = own.ip().is_unspecified() && (to.ip().is_loopback() || to.ip().is_unspecified());
        own.port() == to.port() && (own.ip() == to.ip() || is_local)
    };
    let own = |at: &&Endpoint| upstream.iter().any(|to| is_own(at.addr, *to));
    sockets.endpoints.iter().find(own).map_or(Ok(()), |at| {
        Err(ControlError::Invalid(format!("cannot relay from {at} to itself; name another upstream")))
    })
}
