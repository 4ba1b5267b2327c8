//! TCP and UDP listeners: one socket for every address of a host, all on one port.
//!
//! A socket serves one family. `::`, the IPv6 wildcard, gets a second socket at the IPv4 wildcard unless IPv6 alone is
//! wanted, so that no IPv4-mapped address is ever seen.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::listener::Framing;

use super::{Address, BACKLOG, Endpoint, ListenAddr, ListenError, Listening, Scheme};

/// Requested kernel buffer for datagrams, each way, in bytes; the system's limit applies. In the kernel's
/// accounting this holds ten thousand datagrams. More would keep some for longer than their senders wait.
const DATAGRAM_BUFFER: usize = 4 << 20;

/// Most free ports to try until all sockets can share one.
const PORT_ATTEMPTS: usize = 32;

/// The address to listen on, for the frame protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// A name or an address. All of its addresses are listened on.
    pub host: String,
    /// 0 takes a free port, the same for all sockets.
    pub port: u16,
    /// Whether to listen on TCP.
    pub tcp: bool,
    /// Whether to listen on UDP.
    pub udp: bool,
}

/// Bound sockets that are not served yet.
#[derive(Debug, Default)]
pub struct Bound {
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) udp: Vec<UdpSocket>,
    endpoints: Vec<Endpoint>,
}

impl Bound {
    /// The bound addresses, in the order in which the host's addresses came.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The sockets, in the same order.
    pub(super) fn into_sockets(self) -> impl Iterator<Item = (Endpoint, Listening)> {
        let (mut tcp, mut udp) = (self.tcp.into_iter(), self.udp.into_iter());
        self.endpoints.into_iter().filter_map(move |endpoint| {
            let socket = match endpoint.scheme {
                Scheme::Tcp => Listening::Streams(tcp.next()?.into(), None, Framing::Frames),
                Scheme::Udp => Listening::Datagrams(udp.next()?),
            };
            Some((endpoint, socket))
        })
    }
}

impl Listen {
    /// Binds every address of the host, or none.
    ///
    /// An address that this machine does not have is skipped with a warning, if there is another.
    ///
    /// # Errors
    ///
    /// Fails if the host is unknown, or an address cannot be bound: in use, forbidden, or none of them on this machine.
    pub fn bind(&self) -> Result<Bound, ListenError> {
        self.inet().bind()
    }

    fn inet(&self) -> Inet<'_> {
        let kinds: &[Scheme] = match (self.tcp, self.udp) {
            (true, true) => &[Scheme::Tcp, Scheme::Udp],
            (true, false) => &[Scheme::Tcp],
            (false, true) => &[Scheme::Udp],
            (false, false) => &[],
        };
        Inet {
            host: &self.host,
            port: self.port,
            kinds,
            scheme: None,
            reuse_port: false,
            only_v6: false,
            others: &[],
        }
    }
}

/// The sockets that are wanted at every address of a host.
pub(super) struct Inet<'a> {
    pub(super) host: &'a str,
    /// 0 takes a free port, the same for all sockets.
    pub(super) port: u16,
    /// The protocols to bind at each address.
    pub(super) kinds: &'a [Scheme],
    /// The scheme in error messages, if not the protocol.
    pub(super) scheme: Option<&'static str>,
    /// Whether other processes may listen on the same TCP port.
    pub(super) reuse_port: bool,
    /// Whether only IPv6 addresses are wanted.
    pub(super) only_v6: bool,
    /// Existing sockets: if one has an IPv4 address on this port, `::` means IPv6 alone.
    pub(super) others: &'a [Endpoint],
}

impl Inet<'_> {
    /// As [`Listen::bind`].
    pub(super) fn bind(&self) -> Result<Bound, ListenError> {
        self.bind_at(&self.resolve()?)
    }

    /// Binds these addresses of the host.
    pub(super) fn bind_at(&self, addrs: &[SocketAddr]) -> Result<Bound, ListenError> {
        for _ in 0..PORT_ATTEMPTS {
            match self.bind_all(addrs) {
                // The port that is free for the first socket is not free for another.
                Err(ListenError::Bind { source, .. })
                    if self.port == 0 && source.kind() == io::ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
        Err(ListenError::NoCommonPort)
    }

    /// The addresses of the host, each once.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, ListenError> {
        let failed = |source| ListenError::Resolve { host: self.host.to_owned(), source };
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for addr in (self.host, self.port).to_socket_addrs().map_err(failed)?.map(canonical) {
            if !addrs.contains(&addr) && (addr.is_ipv6() || !self.only_v6) {
                addrs.push(addr);
            }
        }
        if addrs.is_empty() {
            let family = if self.only_v6 { "IPv6 " } else { "" };
            return Err(failed(io::Error::other(format!("it has no {family}address"))));
        }
        Ok(addrs)
    }

    /// The sockets to bind: every protocol at every address. The IPv6 wildcard implies the IPv4 one, unless IPv6
    /// alone is wanted or this port has a named IPv4 address.
    fn wanted(&self, addrs: &[SocketAddr]) -> Vec<Endpoint> {
        let at = |addr| self.kinds.iter().map(move |&scheme| Endpoint { scheme, addr });
        let mut wanted: Vec<Endpoint> = addrs.iter().copied().flat_map(at).collect();
        let is_any_v6 = |addr: &SocketAddr| addr.is_ipv6() && addr.ip().is_unspecified();
        if !self.only_v6 && addrs.iter().any(is_any_v6) && !addrs.iter().any(SocketAddr::is_ipv4) {
            let implied = at((Ipv4Addr::UNSPECIFIED, self.port).into());
            wanted
                .extend(implied.filter(|implied| !self.others.iter().any(|other| implied.is_beside(other))));
        }
        wanted
    }

    fn bind_all(&self, addrs: &[SocketAddr]) -> Result<Bound, ListenError> {
        let mut bound = Bound::default();
        let mut skipped = Vec::new();
        for Endpoint { scheme, mut addr } in self.wanted(addrs) {
            addr.set_port(bound.endpoints.first().map_or(self.port, |first| first.addr.port()));
            match bound.add(Endpoint { scheme, addr }, self.reuse_port) {
                Ok(()) => {}
                Err(Failure::Absent(source)) => skipped.push(self.failed(scheme, addr, source)),
                Err(Failure::Refused(source)) => return Err(self.failed(scheme, addr, source)),
            }
        }
        let mut skipped = skipped.into_iter();
        if bound.endpoints.is_empty()
            && let Some(first) = skipped.next()
        {
            return Err(first);
        }
        skipped.for_each(|error| log::warn!("{error}; skipped"));
        Ok(bound)
    }

    fn failed(&self, kind: Scheme, addr: SocketAddr, source: io::Error) -> ListenError {
        let scheme = self.scheme.unwrap_or_else(|| kind.name());
        ListenError::Bind { addr: ListenAddr { scheme, address: Address::Ip(addr) }, source }
    }
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// Why a socket could not be bound.
enum Failure {
    /// This machine has no such address, or no such family.
    Absent(io::Error),
    /// Anything else.
    Refused(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrNotAvailable => Self::Absent(error),
            _ => Self::Refused(error),
        }
    }
}

impl Bound {
    fn add(&mut self, endpoint: Endpoint, reuse_port: bool) -> Result<(), Failure> {
        let addr = match endpoint.scheme {
            Scheme::Tcp => {
                let listener = listen_tcp(endpoint.addr, reuse_port)?;
                let addr = listener.local_addr()?;
                self.tcp.push(listener);
                addr
            }
            Scheme::Udp => {
                let socket = bind_udp(endpoint.addr)?;
                let addr = socket.local_addr()?;
                self.udp.push(socket);
                addr
            }
        };
        self.endpoints.push(Endpoint { addr, ..endpoint });
        Ok(())
    }
}

fn listen_tcp(addr: SocketAddr, reuse_port: bool) -> Result<TcpListener, Failure> {
    let socket = open(addr.ip(), Type::STREAM, Protocol::TCP)?;
    // A restarted server must not wait for the connections of the last one to expire.
    socket.set_reuse_address(true)?;
    // The kernel distributes connections among the processes. They share nothing else: each is a chat of its
    // own.
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Enlarges the buffers of a datagram socket. The forced form needs CAP_NET_ADMIN, and exceeds the system's limit.
fn buffer_datagrams(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER);
    let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use nix::sys::socket::{setsockopt, sockopt};
        let _ = setsockopt(socket, sockopt::RcvBufForce, &DATAGRAM_BUFFER);
        let _ = setsockopt(socket, sockopt::SndBufForce, &DATAGRAM_BUFFER);
    }
}

fn bind_udp(addr: SocketAddr) -> Result<UdpSocket, Failure> {
    let socket = open(addr.ip(), Type::DGRAM, Protocol::UDP)?;
    // Bursts wait in the kernel; with smaller buffers, more of them are lost and retransmitted.
    buffer_datagrams(&socket);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn open(ip: IpAddr, kind: Type, protocol: Protocol) -> Result<Socket, Failure> {
    let domain = if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    // Sockets of a disabled family cannot be created. IPv4 is always there.
    let absent = |error| if ip.is_ipv6() { Failure::Absent(error) } else { Failure::Refused(error) };
    let socket = Socket::new(domain, kind, Some(protocol)).map_err(absent)?;
    if ip.is_ipv6() {
        // Both families may have the same port, each with its own socket.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(host: &str, port: u16) -> Listen {
        Listen { host: host.to_owned(), port, tcp: true, udp: true }
    }

    #[test]
    fn a_free_port_is_the_same_for_tcp_and_udp_on_all_addresses() {
        let bound = listen("localhost", 0).bind().unwrap();
        let port = bound.endpoints()[0].addr.port();
        assert_ne!(port, 0);
        assert!(bound.endpoints().iter().all(|endpoint| endpoint.addr.port() == port));
        assert_eq!(bound.tcp.len(), bound.udp.len());
    }

    /// Whether this machine has IPv6; some containers do not.
    fn has_ipv6() -> bool {
        UdpSocket::bind("[::1]:0").is_ok()
    }

    #[test]
    fn every_address_is_bound_and_one_of_another_machine_is_skipped() {
        let addrs =
            ["192.0.2.1:0", "127.0.0.1:0", "127.0.0.2:0", "[::1]:0"].map(|addr| addr.parse().unwrap());
        let bound = listen("several", 0).inet().bind_all(&addrs).unwrap();
        let port = bound.endpoints()[0].addr.port();
        let listed: Vec<String> = bound.endpoints().iter().map(Endpoint::to_string).collect();
        let hosts = ["127.0.0.1", "127.0.0.2", "[::1]"];
        let hosts = &hosts[..if has_ipv6() { 3 } else { 2 }];
        let both = |host| ["tcp", "udp"].map(|scheme| format!("{scheme}://{host}:{port}"));
        assert_eq!(listed, hosts.iter().flat_map(both).collect::<Vec<_>>());
    }

    #[test]
    fn both_families_may_have_the_same_port_on_all_addresses() {
        let addrs = ["0.0.0.0:0", "[::]:0"].map(|addr| addr.parse().unwrap());
        let expected = if has_ipv6() { 4 } else { 2 };
        assert_eq!(listen("all", 0).inet().bind_all(&addrs).unwrap().endpoints().len(), expected);
    }

    /// The bound addresses, without ports.
    fn hosts(inet: &Inet<'_>) -> Vec<String> {
        let bound = inet.bind().unwrap();
        let ports: Vec<u16> = bound.endpoints().iter().map(|endpoint| endpoint.addr.port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
        bound.endpoints().iter().map(|at| format!("{}://{}", at.scheme, at.addr.ip())).collect()
    }

    #[test]
    fn the_ipv6_wildcard_means_both_families_unless_ipv6_alone_is_wanted() {
        if !has_ipv6() {
            return;
        }
        let all = listen("::", 0);
        assert_eq!(hosts(&all.inet()), ["tcp://::", "udp://::", "tcp://0.0.0.0", "udp://0.0.0.0"]);
        assert_eq!(hosts(&Inet { only_v6: true, ..all.inet() }), ["tcp://::", "udp://::"]);
        assert_eq!(hosts(&listen("0.0.0.0", 0).inet()), ["tcp://0.0.0.0", "udp://0.0.0.0"]);
        assert_eq!(hosts(&listen("::1", 0).inet()), ["tcp://::1", "udp://::1"]);
        let error = Inet { only_v6: true, ..listen("127.0.0.1", 0).inet() }.bind().unwrap_err();
        assert!(error.to_string().contains("it has no IPv6 address"), "{error}");
    }

    #[test]
    fn a_mapped_address_becomes_its_ipv4_address() {
        assert_eq!(hosts(&listen("::ffff:127.0.0.1", 0).inet()), ["tcp://127.0.0.1", "udp://127.0.0.1"]);
    }

    #[test]
    fn a_port_in_use_is_reported_in_one_line() {
        let first = listen("127.0.0.1", 0).bind().unwrap();
        let port = first.endpoints()[0].addr.port();
        let error = listen("127.0.0.1", port).bind().unwrap_err().to_string();
        let expected = format!(
            "cannot listen on tcp://127.0.0.1:{port}: address already in use; is another server running?"
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn a_failed_bind_leaves_nothing_bound() {
        // Another process may have taken the port meanwhile, but not every time.
        let is_free = (0..5).any(|_| {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = udp.local_addr().unwrap().port();
            assert!(listen("127.0.0.1", port).bind().is_err());
            TcpListener::bind(("127.0.0.1", port)).is_ok()
        });
        assert!(is_free);
    }

    #[test]
    fn an_address_of_another_machine_and_a_name_of_none_are_refused_in_one_line() {
        // TEST-NET-1, RFC 5737: on no machine.
        let error = listen("192.0.2.1", 50_000).bind().unwrap_err().to_string();
        assert_eq!(error, "cannot listen on tcp://192.0.2.1:50000: this machine has no such address");
        let error = listen("no-such-host.invalid", 50_000).bind().unwrap_err().to_string();
        assert!(error.starts_with("cannot find the host `no-such-host.invalid`: "), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}
