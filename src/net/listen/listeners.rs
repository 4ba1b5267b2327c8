//! All listeners of a server, in order: [`Listeners`] binds URLs, and hands the sockets to an engine.
//!
//! Binding itself is in `inet` and `unix`.

use std::net::UdpSocket;

use socket2::Socket;

use super::inet::Inet;
use super::unix::{self, SocketFile};
use super::url::At;
use super::{Address, Bound, Endpoint, ListenAddr, ListenError, ListenUrl, Scheme};
use crate::listener::{Framing, Listener, Speaks};

/// Receive buffer of line connections, in bytes: room for the longest line, but so small that back-pressure
/// reaches a sender over its rate soon.
const LINE_RECV_BUFFER: usize = 16 << 10;

/// Bound sockets that are not served yet, in the order of [`ServerConfig::listeners`](crate::config::ServerConfig::listeners).
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: Vec<ListenerSocket>,
    /// Number of URLs and short forms they came from.
    urls: usize,
}

/// One listener.
#[derive(Debug)]
struct ListenerSocket {
    /// The ordinal of its URL.
    url: usize,
    addr: ListenAddr,
    listener: Listener,
    socket: Listening,
    /// It is at the IPv4 wildcard address only because the IPv6 one was asked for.
    is_implied: bool,
}

impl ListenerSocket {
    /// Its address, unless it is a UNIX socket.
    fn endpoint(&self) -> Option<Endpoint> {
        let Address::Ip(addr) = self.addr.address else { return None };
        let scheme = match self.socket {
            Listening::Streams(..) => Scheme::Tcp,
            Listening::Datagrams(_) => Scheme::Udp,
        };
        Some(Endpoint { scheme, addr })
    }
}

/// A listening socket.
#[derive(Debug)]
pub(in crate::net) enum Listening {
    /// For stream connections with this framing; with its file if it is a UNIX socket.
    Streams(Socket, Option<SocketFile>, Framing),
    /// For datagrams.
    Datagrams(UdpSocket),
}

impl Listeners {
    /// Binds all addresses of a URL, or none.
    ///
    /// # Errors
    ///
    /// Fails as [`Listen::bind`](super::Listen::bind), or if a UNIX socket cannot be created.
    pub fn add(&mut self, url: &ListenUrl) -> Result<(), ListenError> {
        self.urls += 1;
        let scheme = url.scheme();
        match &url.at {
            At::Tcp { host, port, reuse_port, only_v6 } => {
                self.add_inet(url, (host, *port), &[Scheme::Tcp], (*reuse_port, *only_v6))?;
            }
            At::Udp { host, port, only_v6 } => {
                self.add_inet(url, (host, *port), &[Scheme::Udp], (false, *only_v6))?;
            }
            At::Unix { path, permissions } => {
                let addr = ListenAddr { scheme, address: Address::File(path.clone()) };
                let (socket, file) = unix::listen(path, *permissions)
                    .map_err(|source| ListenError::File { addr: addr.clone(), source })?;
                let socket = Listening::Streams(socket, Some(file), url.listener.speaks.framing());
                let (url, listener) = (self.urls, url.listener.clone());
                self.sockets.push(ListenerSocket { url, addr, listener, socket, is_implied: false });
            }
        }
        Ok(())
    }

    fn add_inet(
        &mut self,
        url: &ListenUrl,
        (host, port): (&str, u16),
        kinds: &[Scheme],
        (reuse_port, only_v6): (bool, bool),
    ) -> Result<(), ListenError> {
        let scheme = url.scheme();
        let others: Vec<Endpoint> = self.sockets.iter().filter_map(ListenerSocket::endpoint).collect();
        let inet = Inet { host, port, kinds, scheme: Some(scheme), reuse_port, only_v6, others: &others };
        let addrs = inet.resolve()?;
        let named = addrs.iter().flat_map(|&addr| kinds.iter().map(move |&scheme| Endpoint { scheme, addr }));
        self.close_implied(&named.collect::<Vec<_>>());
        self.extend(inet.bind_at(&addrs)?, |_| (scheme, url.listener.clone()));
        Ok(())
    }

    /// Closes implied sockets on the port of an IPv4 address that is named: the named one has it alone.
    fn close_implied(&mut self, named: &[Endpoint]) {
        self.sockets.retain(|socket| {
            let is_beside = |own: Endpoint| named.iter().any(|named| own.is_beside(named));
            !socket.is_implied || !socket.endpoint().is_some_and(is_beside)
        });
    }

    /// Adds bound sockets for frames.
    #[doc(hidden)]
    pub fn add_bound(&mut self, bound: Bound) {
        self.urls += 1;
        self.extend(bound, |kind| {
            let scheme = kind.name();
            (scheme, Listener::frames(scheme))
        });
    }

    fn extend(&mut self, bound: Bound, listener: impl Fn(Scheme) -> (&'static str, Listener)) {
        let any = |endpoint: &Endpoint| endpoint.addr.ip().is_unspecified();
        let has_any_v6 = bound.endpoints().iter().any(|endpoint| any(endpoint) && endpoint.addr.is_ipv6());
        for (endpoint, socket) in bound.into_sockets() {
            let (scheme, listener) = listener(endpoint.scheme);
            let socket = match socket {
                Listening::Streams(socket, file, _) => {
                    Listening::Streams(socket, file, listener.speaks.framing())
                }
                datagrams @ Listening::Datagrams(_) => datagrams,
            };
            let addr = ListenAddr { scheme, address: Address::Ip(endpoint.addr) };
            if let (Listening::Streams(socket, ..), Speaks::Lines(_)) = (&socket, &listener.speaks) {
                // Connections inherit it. A smaller buffer than asked for does no harm.
                let _ = socket.set_recv_buffer_size(LINE_RECV_BUFFER);
            }
            let is_implied = has_any_v6 && any(&endpoint) && endpoint.addr.is_ipv4();
            self.sockets.push(ListenerSocket { url: self.urls, addr, listener, socket, is_implied });
        }
    }

    /// The addresses.
    pub fn addrs(&self) -> impl Iterator<Item = &ListenAddr> {
        self.sockets.iter().map(|socket| &socket.addr)
    }

    /// The addresses, grouped by URL: several addresses of one URL are one listener. The short form counts as
    /// one URL per scheme.
    #[doc(hidden)]
    pub fn addrs_by_url(&self) -> Vec<Vec<&ListenAddr>> {
        let mut found: Vec<((usize, &str), Vec<&ListenAddr>)> = Vec::new();
        for socket in &self.sockets {
            let key = (socket.url, socket.addr.scheme);
            match found.iter_mut().find(|(other, _)| *other == key) {
                Some((_, addrs)) => addrs.push(&socket.addr),
                None => found.push((key, vec![&socket.addr])),
            }
        }
        found.into_iter().map(|(_, addrs)| addrs).collect()
    }

    /// The settings of each, for the server.
    pub fn list(&self) -> Vec<Listener> {
        self.sockets.iter().map(|socket| socket.listener.clone()).collect()
    }

    /// The sockets, in the same order.
    pub(in crate::net) fn into_sockets(self) -> impl Iterator<Item = Listening> {
        self.sockets.into_iter().map(|socket| socket.socket)
    }

    /// Whether any of them takes stream connections.
    #[doc(hidden)]
    pub fn has_streams(&self) -> bool {
        self.sockets.iter().any(|socket| matches!(socket.socket, Listening::Streams(..)))
    }
}

#[doc(hidden)]
impl From<Bound> for Listeners {
    fn from(bound: Bound) -> Self {
        let mut listeners = Self::default();
        listeners.add_bound(bound);
        listeners
    }
}
