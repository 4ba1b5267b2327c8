//! Batches of datagrams: many received or sent per system call, where there is such a call.
//!
//! Plain functions on non-blocking sockets; the engines and `relay` wait. The system calls are in `many` (Linux,
//! FreeBSD, NetBSD) and `single` (elsewhere).

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use crate::service::{ListenerId, Peer, Transmit};

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
mod many;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod packet_info;
#[cfg(any(
    test,
    not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))
))]
mod single;

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
use many as system;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd"
)))]
use single as system;

/// Most datagrams per batch.
pub(crate) const COUNT: usize = 64;

/// More bytes than any datagram has, so that none is cut.
pub(crate) const LARGEST: usize = 64 << 10;

/// The distance between two datagrams in a batch. Not a power of two, as short datagrams would then contend
/// for a few cache lines.
const STRIDE: usize = LARGEST + (4 << 10) + 192;

thread_local! {
    /// One per thread, so that an idle socket holds none. Only pages that datagrams have filled occupy memory.
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// The binding of a socket, as far as receiving and sending depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    /// The family is IPv6, and no other.
    is_v6: bool,
    /// It has all addresses of this machine, and the system reports the destination of each datagram.
    is_wildcard: bool,
}

impl Binding {
    /// The binding of an unconnected socket. On a wildcard address, the system reports the destination of each datagram
    /// from now on, where it can. An answer has to leave from there (IP_PKTINFO, ip(7); IPV6_RECVPKTINFO, RFC 3542
    /// section 6.1).
    pub(crate) fn of(socket: &UdpSocket) -> io::Result<Self> {
        let addr = socket.local_addr()?;
        let is_wildcard = addr.ip().is_unspecified();
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if is_wildcard {
            packet_info::request(socket, addr.is_ipv6())?;
        }
        Ok(Self {
            is_v6: addr.is_ipv6(),
            is_wildcard: is_wildcard && cfg!(any(target_os = "linux", target_os = "android")),
        })
    }

    /// The binding of a socket that is connected to this address.
    pub(crate) const fn to(addr: SocketAddr) -> Self {
        Self { is_v6: addr.is_ipv6(), is_wildcard: false }
    }
}

/// The source of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    addr: SocketAddr,
    /// Its destination address, where the socket has several.
    local: Option<IpAddr>,
}

impl Source {
    /// The peer, at the listener of that ordinal.
    pub(crate) const fn peer(self, listener: ListenerId) -> Peer {
        let Self { addr, local } = self;
        Peer { listener, addr, local }
    }
}

/// Datagrams that were received together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// A [`STRIDE`] for each.
    bytes: Vec<u8>,
    /// The source and length of each.
    heads: Vec<(Source, usize)>,
    receiver: system::Receiver,
}

impl Batch {
    fn new() -> Self {
        let heads = Vec::with_capacity(COUNT);
        Self { bytes: vec![0; COUNT * STRIDE], heads, receiver: system::Receiver::new() }
    }

    /// Lends this thread's batch. Must not be nested.
    pub(crate) fn with<R>(act: impl FnOnce(&mut Self) -> R) -> R {
        BATCH.with_borrow_mut(act)
    }

    /// Receives the available datagrams, up to a full batch. Returns the number: fewer than [`COUNT`] if no more came.
    ///
    /// # Errors
    ///
    /// Returns the system's error, if nothing was received before it.
    pub(crate) fn receive(&mut self, socket: &impl AsFd, binding: Binding) -> io::Result<usize> {
        loop {
            self.heads.clear();
            match self.receiver.receive(socket, binding, &mut self.bytes, &mut self.heads) {
                Ok(()) => return Ok(self.heads.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if is_of_a_peer(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The datagrams of the last call.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Source, &[u8])> {
        let slots = self.bytes.chunks(STRIDE);
        self.heads.iter().zip(slots).map(|((from, len), slot)| (*from, slot.get(..*len).unwrap_or_default()))
    }
}

/// Whether an error is an ICMP answer of a peer's system, which says nothing about this socket.
pub(crate) fn is_of_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | Interrupted)
}

/// A datagram to send.
pub(crate) trait Outgoing {
    /// The destination; `None` on a connected socket.
    fn to(&self) -> Option<SocketAddr>;

    /// The local source address; `None` lets the system choose.
    fn local(&self) -> Option<IpAddr> {
        None
    }

    /// The datagram.
    fn bytes(&self) -> &[u8];
}

impl Outgoing for Transmit {
    fn to(&self) -> Option<SocketAddr> {
        Some(self.peer.addr)
    }

    fn local(&self) -> Option<IpAddr> {
        self.peer.local
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Sends datagrams in order until the socket is full. Returns how many are done: sent or failed.
///
/// `failed` is called for each that failed. An error that concerns an earlier datagram ([`is_of_a_peer`]) is
/// retried once.
pub(crate) fn send<T: Outgoing>(
    socket: &impl AsFd,
    datagrams: &[T],
    mut failed: impl FnMut(&T, &io::Error),
) -> usize {
    let (mut done, mut tried_again) = (0, false);
    while let Some(rest) = datagrams.get(done..)
        && let Some(first) = rest.first()
    {
        match system::send(socket, rest) {
            Ok(sent) => done += sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if is_of_a_peer(&error) && !tried_again => {
                tried_again = true;
                continue;
            }
            Err(error) => {
                failed(first, &error);
                done += 1;
            }
        }
        tried_again = false;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matters only to sockets on wildcard addresses.
    const V4: Binding = Binding { is_v6: false, is_wildcard: false };

    fn socket(host: &str) -> UdpSocket {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn transmit(to: &UdpSocket, bytes: Vec<u8>) -> Transmit {
        Transmit { peer: Peer::new(0, to.local_addr().unwrap()), bytes }
    }

    /// Datagrams of distinct lengths, the shortest and the longest among them.
    fn of_all_lengths(to: &UdpSocket) -> Vec<Transmit> {
        let lengths = (0..100usize).chain([65_507]);
        lengths.map(|len| transmit(to, vec![len.to_le_bytes()[0]; len])).collect()
    }

    fn received(socket: &UdpSocket) -> Vec<(SocketAddr, Vec<u8>)> {
        let binding = Binding::of(socket).unwrap();
        let mut all = Vec::new();
        Batch::with(|batch| {
            while batch.receive(socket, binding).unwrap() > 0 {
                all.extend(batch.datagrams().map(|(from, bytes)| (from.addr, bytes.to_vec())));
            }
        });
        all
    }

    #[test]
    fn datagrams_sent_in_batches_arrive_whole_in_order_and_with_their_source() {
        // Alternating, as the addresses have different lengths.
        for host in ["127.0.0.1", "::1", "127.0.0.1"] {
            if UdpSocket::bind((host, 0)).is_err() {
                continue;
            }
            let (from, to) = (socket(host), socket(host));
            let datagrams = of_all_lengths(&to);
            assert_eq!(send(&from, &datagrams, |_, error| panic!("{error}")), datagrams.len());
            let addr = from.local_addr().unwrap();
            let sent: Vec<_> = datagrams.into_iter().map(|transmit| (addr, transmit.bytes)).collect();
            assert_eq!(received(&to), sent, "{host}");
        }
    }

    #[test]
    fn one_call_per_datagram_does_the_same() {
        for host in ["127.0.0.1", "::1"] {
            if UdpSocket::bind((host, 0)).is_err() {
                continue;
            }
            let (from, to) = (socket(host), socket(host));
            let (mut bytes, mut heads) = (vec![0; COUNT * STRIDE], Vec::new());
            for datagram in of_all_lengths(&to) {
                assert_eq!(single::send(&from, std::slice::from_ref(&datagram)).unwrap(), 1);
            }
            for expected in of_all_lengths(&to).chunks(COUNT) {
                heads.clear();
                single::Receiver::new().receive(&to, V4, &mut bytes, &mut heads).unwrap();
                let got = heads.iter().zip(bytes.chunks(STRIDE)).map(|((source, len), slot)| {
                    assert_eq!(source.addr, from.local_addr().unwrap());
                    slot[..*len].to_vec()
                });
                assert_eq!(
                    got.collect::<Vec<_>>(),
                    expected.iter().map(|t| t.bytes.clone()).collect::<Vec<_>>()
                );
            }
            let nothing = single::Receiver::new().receive(&to, V4, &mut bytes, &mut Vec::new());
            assert_eq!(nothing.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        }
    }

    #[test]
    fn a_datagram_that_cannot_be_sent_is_reported_and_left_out_wherever_it_is() {
        let (from, to) = (socket("127.0.0.1"), socket("127.0.0.1"));
        let too_long = || transmit(&to, vec![0; LARGEST]);
        let fine = |text: &[u8]| transmit(&to, text.to_vec());
        let datagrams = [too_long(), fine(b"a"), fine(b"b"), too_long(), too_long(), fine(b"c"), too_long()];
        let mut failed = 0;
        assert_eq!(send(&from, &datagrams, |_, _| failed += 1), datagrams.len());
        assert_eq!(failed, 4);
        let texts: Vec<_> = received(&to).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(texts, [b"a", b"b", b"c"]);
    }

    /// A datagram for a connected socket.
    struct Onward(&'static [u8]);

    impl Outgoing for Onward {
        fn to(&self) -> Option<SocketAddr> {
            None
        }

        fn bytes(&self) -> &[u8] {
            self.0
        }
    }

    #[test]
    fn an_icmp_error_of_an_earlier_datagram_stops_neither_sending_nor_receiving() {
        let (from, to) = (socket("127.0.0.1"), socket("127.0.0.1"));
        let addr = to.local_addr().unwrap();
        from.connect(addr).unwrap();
        drop(to);
        assert_eq!(send(&from, &[Onward(b"refused")], |_, error| panic!("{error}")), 1);
        let to = UdpSocket::bind(addr).unwrap();
        to.set_nonblocking(true).unwrap();
        // The system reports the failure of the earlier datagram here.
        assert_eq!(send(&from, &[Onward(b"a"), Onward(b"b")], |_, error| panic!("{error}")), 2);
        let texts: Vec<_> = received(&to).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(texts, [b"a", b"b"]);
        assert_eq!(received(&from), []);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn a_datagram_to_a_wildcard_socket_is_answered_from_its_destination_address() {
        for (any, asked) in [("0.0.0.0", "127.0.0.2"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")] {
            if UdpSocket::bind((asked, 0)).is_err() {
                continue;
            }
            let server = socket(any);
            let (binding, port) = (Binding::of(&server).unwrap(), server.local_addr().unwrap().port());
            let asked: IpAddr = asked.parse().unwrap();
            let client = socket(if asked.is_ipv4() { "127.0.0.1" } else { "::1" });
            client.connect((asked, port)).unwrap();
            for round in 0..3 {
                client.send(b"question").unwrap();
                let sources: Vec<Source> = Batch::with(|batch| {
                    assert_eq!(batch.receive(&server, binding).unwrap(), 1);
                    batch.datagrams().map(|(from, _)| from).collect()
                });
                let expected = Source { addr: client.local_addr().unwrap(), local: Some(asked) };
                assert_eq!(sources, [expected], "{any}, round {round}");
                let peer = sources[0].peer(0);
                let answers = [b"one", b"two"].map(|text| Transmit { peer, bytes: text.to_vec() });
                assert_eq!(send(&server, &answers, |_, error| panic!("{error}")), 2);
                // The client's socket is connected, and receives from no other address.
                let texts: Vec<_> = received(&client).into_iter().map(|(_, bytes)| bytes).collect();
                assert_eq!(texts, [b"one", b"two"], "{any} asked at {asked}");
            }
        }
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn answers_from_several_addresses_leave_in_order_each_from_its_own() {
        let server = socket("0.0.0.0");
        let port = server.local_addr().unwrap().port();
        let clients: Vec<UdpSocket> = (1..=3u8).map(|_| socket("127.0.0.1")).collect();
        for (n, client) in (1..).zip(&clients) {
            client.connect(SocketAddr::from(([127, 0, 0, n], port))).unwrap();
        }
        let local = |n: u8| (n > 0).then(|| IpAddr::from([127, 0, 0, n]));
        let answers: Vec<Transmit> = [1, 2, 2, 3, 1, 0]
            .into_iter()
            .map(|n: u8| {
                let addr = clients[usize::from(n.max(1)) - 1].local_addr().unwrap();
                Transmit { peer: Peer { listener: 0, addr, local: local(n) }, bytes: vec![n] }
            })
            .collect();
        assert_eq!(send(&server, &answers, |_, error| panic!("{error}")), answers.len());
        let texts: Vec<Vec<u8>> = clients
            .iter()
            .map(|client| received(client).into_iter().flat_map(|(_, bytes)| bytes).collect())
            .collect();
        // The last one leaves from the address that the system chooses, which is that of the first.
        assert_eq!(texts, [vec![1, 1, 0], vec![2, 2], vec![3]]);
    }
}
