//! Many datagrams by one call: recvmmsg and sendmmsg.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage, recvmmsg, sendmmsg,
};

use super::{COUNT, Family, Outgoing, STRIDE};

/// What the system is told of the places for datagrams. The system writes the length of an address over the room for
/// it, so that each family has its own.
pub(super) struct Receiver {
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver(..)")
    }
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { v4: MultiHeaders::preallocate(COUNT, None), v6: MultiHeaders::preallocate(COUNT, None) }
    }

    /// Receives into places of [`STRIDE`] bytes, and appends the head of each datagram.
    pub(super) fn receive(
        &mut self,
        socket: &impl AsFd,
        family: Family,
        bytes: &mut [u8],
        heads: &mut Vec<(SocketAddr, usize)>,
    ) -> io::Result<()> {
        match family {
            Family::V4 => receive(&mut self.v4, socket, bytes, |addr, len| {
                heads.push((SocketAddrV4::from(addr).into(), len));
            }),
            Family::V6 => receive(&mut self.v6, socket, bytes, |addr, len| {
                heads.push((SocketAddrV6::from(addr).into(), len));
            }),
        }
    }
}

fn receive<S: SockaddrLike + Copy>(
    headers: &mut MultiHeaders<S>,
    socket: &impl AsFd,
    bytes: &mut [u8],
    mut each: impl FnMut(S, usize),
) -> io::Result<()> {
    let mut places = bytes.chunks_exact_mut(STRIDE);
    let mut slices: [_; COUNT] =
        std::array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
    let socket = socket.as_fd().as_raw_fd();
    let received = recvmmsg(socket, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    received.for_each(|message| each_of(message.address, message.bytes, &mut each));
    Ok(())
}

fn each_of<S>(addr: Option<S>, len: usize, each: &mut impl FnMut(S, usize)) {
    if let Some(addr) = addr {
        each(addr, len);
    }
}

/// What the system is told of datagrams that are to be sent.
struct Sender {
    headers: MultiHeaders<SockaddrStorage>,
    addrs: Vec<Option<SockaddrStorage>>,
}

thread_local! {
    static SENDER: RefCell<Sender> =
        RefCell::new(Sender { headers: MultiHeaders::preallocate(COUNT, None), addrs: Vec::with_capacity(COUNT) });
}

/// Sends the first datagrams, up to [`COUNT`]. Returns how many, at least one.
///
/// # Errors
///
/// What became of the first.
pub(super) fn send(socket: &impl AsFd, datagrams: &[impl Outgoing]) -> io::Result<usize> {
    SENDER.with_borrow_mut(|Sender { headers, addrs }| {
        addrs.clear();
        addrs.extend(datagrams.iter().take(COUNT).map(|datagram| datagram.to().map(SockaddrStorage::from)));
        let mut rest = datagrams.iter();
        let slices: [_; COUNT] =
            std::array::from_fn(|_| [IoSlice::new(rest.next().map_or(&[], Outgoing::bytes))]);
        let socket = socket.as_fd().as_raw_fd();
        let sent = sendmmsg(socket, headers, slices.iter(), &addrs[..], [], MsgFlags::MSG_DONTWAIT)?;
        Ok(sent.count())
    })
}
