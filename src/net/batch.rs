//! Datagrams in batches: many received, and many sent, by one call of the system where it has such a call.
//!
//! Plain functions on a socket that does not block; who waits for a socket, and what for, is in the engines and in
//! `relay`. The calls themselves are in `many` (Linux, FreeBSD, NetBSD) and `single` (elsewhere).

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use crate::service::Transmit;

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
mod many;
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

/// Most datagrams of one batch.
pub(super) const COUNT: usize = 64;

/// More bytes than any datagram has, so that none is cut.
pub(super) const LARGEST: usize = 64 << 10;

/// From the beginning of one datagram to that of the next: no power of two, or the short ones would all contend for the
/// same few lines of the cache.
const STRIDE: usize = LARGEST + (4 << 10) + 192;

thread_local! {
    /// One for all sockets that a thread receives from: an idle socket holds none. The system gives only those of its pages
    /// that datagrams have filled.
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// The addresses that a socket receives from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// Of a socket that is bound to this address.
    pub(super) const fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Datagrams that were received together.
#[derive(Debug)]
pub(super) struct Batch {
    /// A [`STRIDE`] for each.
    bytes: Vec<u8>,
    /// Where each came from, and its length.
    heads: Vec<(SocketAddr, usize)>,
    receiver: system::Receiver,
}

impl Batch {
    fn new() -> Self {
        let heads = Vec::with_capacity(COUNT);
        Self { bytes: vec![0; COUNT * STRIDE], heads, receiver: system::Receiver::new() }
    }

    /// Lends this thread's batch; it must not be asked for again meanwhile.
    pub(super) fn with<R>(act: impl FnOnce(&mut Self) -> R) -> R {
        BATCH.with_borrow_mut(act)
    }

    /// Receives what is there, up to a full batch. Returns how many that were: fewer than [`COUNT`] if there was no more.
    ///
    /// # Errors
    ///
    /// What the system says, if nothing was received before it said so.
    pub(super) fn receive(&mut self, socket: &impl AsFd, family: Family) -> io::Result<usize> {
        loop {
            self.heads.clear();
            match self.receiver.receive(socket, family, &mut self.bytes, &mut self.heads) {
                Ok(()) => return Ok(self.heads.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if is_of_a_peer(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What was received last.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.bytes.chunks(STRIDE);
        self.heads.iter().zip(slots).map(|((addr, len), slot)| (*addr, slot.get(..*len).unwrap_or_default()))
    }
}

/// Whether an error is what a peer's system answered (ICMP): it is no news, and says nothing about this socket.
pub(super) fn is_of_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | Interrupted)
}

/// A datagram that is to be sent.
pub(super) trait Outgoing {
    /// Where to; `None` through a socket that is connected.
    fn to(&self) -> Option<SocketAddr>;

    /// All of it.
    fn bytes(&self) -> &[u8];
}

impl Outgoing for Transmit {
    fn to(&self) -> Option<SocketAddr> {
        Some(self.peer.addr)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Sends datagrams in order until the socket has no room. Returns how many are done with: sent, or failed.
///
/// What fails is told and left out. It is tried once more if the system only says what became of an earlier one
/// ([`is_of_a_peer`]).
pub(super) fn send<T: Outgoing>(
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
    use std::net::UdpSocket;

    use super::*;
    use crate::service::Peer;

    fn socket(host: &str) -> UdpSocket {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn transmit(to: &UdpSocket, bytes: Vec<u8>) -> Transmit {
        Transmit { peer: Peer { door: 0, addr: to.local_addr().unwrap() }, bytes }
    }

    /// Lengths that are told apart, the shortest and the longest among them.
    fn of_all_lengths(to: &UdpSocket) -> Vec<Transmit> {
        let lengths = (0..100usize).chain([65_507]);
        lengths.map(|len| transmit(to, vec![len.to_le_bytes()[0]; len])).collect()
    }

    fn received(socket: &UdpSocket) -> Vec<(SocketAddr, Vec<u8>)> {
        let family = Family::of(socket.local_addr().unwrap());
        let mut all = Vec::new();
        Batch::with(|batch| {
            while batch.receive(socket, family).unwrap() > 0 {
                all.extend(batch.datagrams().map(|(addr, bytes)| (addr, bytes.to_vec())));
            }
        });
        all
    }

    #[test]
    fn what_is_sent_in_batches_is_received_whole_in_order_and_with_its_address() {
        // Over both by turns, as their addresses are of different lengths.
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
    fn where_there_is_no_call_for_many_one_at_a_time_does_the_same() {
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
                single::Receiver::new().receive(&to, Family::V4, &mut bytes, &mut heads).unwrap();
                let got = heads.iter().zip(bytes.chunks(STRIDE)).map(|((addr, len), slot)| {
                    assert_eq!(*addr, from.local_addr().unwrap());
                    slot[..*len].to_vec()
                });
                assert_eq!(
                    got.collect::<Vec<_>>(),
                    expected.iter().map(|t| t.bytes.clone()).collect::<Vec<_>>()
                );
            }
            let nothing = single::Receiver::new().receive(&to, Family::V4, &mut bytes, &mut Vec::new());
            assert_eq!(nothing.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        }
    }

    #[test]
    fn what_cannot_be_sent_is_told_and_left_out_wherever_it_is() {
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

    /// A datagram through a socket that is connected.
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
    fn that_nobody_was_there_before_neither_stops_a_datagram_nor_what_is_received() {
        let (from, to) = (socket("127.0.0.1"), socket("127.0.0.1"));
        let addr = to.local_addr().unwrap();
        from.connect(addr).unwrap();
        drop(to);
        assert_eq!(send(&from, &[Onward(b"to nobody")], |_, error| panic!("{error}")), 1);
        let to = UdpSocket::bind(addr).unwrap();
        to.set_nonblocking(true).unwrap();
        // The system answers this call with what became of the datagram before.
        assert_eq!(send(&from, &[Onward(b"a"), Onward(b"b")], |_, error| panic!("{error}")), 2);
        let texts: Vec<_> = received(&to).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(texts, [b"a", b"b"]);
        assert_eq!(received(&from), []);
    }
}
