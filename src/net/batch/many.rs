//! Many datagrams per system call: recvmmsg and sendmmsg.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage,
    recvmmsg, sendmmsg,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::packet_info::{Leaving, local_of};
use super::{Binding, COUNT, Outgoing, STRIDE, Source, Waiting};

/// The message headers for receiving, one set per kind of socket: the system overwrites the lengths of
/// addresses and of control messages.
pub(crate) struct Receiver {
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    wildcard_v4: MultiHeaders<SockaddrIn>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    wildcard_v6: MultiHeaders<SockaddrIn6>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver(..)")
    }
}

/// Headers without room for control messages.
fn plain<S: SockaddrLike + Copy>() -> MultiHeaders<S> {
    MultiHeaders::preallocate(COUNT, None)
}

/// Headers with room for the local address of each datagram.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn with_v4_info<S: SockaddrLike + Copy>() -> MultiHeaders<S> {
    MultiHeaders::preallocate(COUNT, Some(nix::cmsg_space!(nix::libc::in_pktinfo)))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn with_v6_info<S: SockaddrLike + Copy>() -> MultiHeaders<S> {
    MultiHeaders::preallocate(COUNT, Some(nix::cmsg_space!(nix::libc::in6_pktinfo)))
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            v4: plain(),
            v6: plain(),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            wildcard_v4: with_v4_info(),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            wildcard_v6: with_v6_info(),
        }
    }

    /// Receives into slots of [`STRIDE`] bytes, and appends the head of each datagram.
    pub(crate) fn receive(
        &mut self,
        waiting: Waiting,
        socket: &impl AsFd,
        binding: Binding,
        bytes: &mut [u8],
        heads: &mut Vec<(Source, usize)>,
    ) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if binding.is_wildcard {
            return self.receive_with_local(waiting, socket, binding, bytes, heads);
        }
        if binding.is_v6 {
            receive(&mut self.v6, waiting, socket, bytes, |message| heads.extend(head_v6(message)))
        } else {
            receive(&mut self.v4, waiting, socket, bytes, |message| heads.extend(head_v4(message)))
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn receive_with_local(
        &mut self,
        waiting: Waiting,
        socket: &impl AsFd,
        binding: Binding,
        bytes: &mut [u8],
        heads: &mut Vec<(Source, usize)>,
    ) -> io::Result<()> {
        if binding.is_v6 {
            receive(&mut self.wildcard_v6, waiting, socket, bytes, |message| {
                let local = local_of(message);
                heads.extend(head_v6(message).map(|(source, len)| (Source { local, ..source }, len)));
            })
        } else {
            receive(&mut self.wildcard_v4, waiting, socket, bytes, |message| {
                let local = local_of(message);
                heads.extend(head_v4(message).map(|(source, len)| (Source { local, ..source }, len)));
            })
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const fn flags_of(waiting: Waiting) -> MsgFlags {
    match waiting {
        Waiting::Never => MsgFlags::MSG_DONTWAIT,
        Waiting::ForOne => MsgFlags::MSG_WAITFORONE,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
const fn flags_of(_waiting: Waiting) -> MsgFlags {
    MsgFlags::MSG_DONTWAIT
}

fn head_v4(message: &RecvMsg<'_, '_, SockaddrIn>) -> Option<(Source, usize)> {
    let addr = SocketAddrV4::from(message.address?).into();
    Some((Source { addr, local: None }, message.bytes))
}

fn head_v6(message: &RecvMsg<'_, '_, SockaddrIn6>) -> Option<(Source, usize)> {
    let addr = SocketAddrV6::from(message.address?).into();
    Some((Source { addr, local: None }, message.bytes))
}

fn receive<S: SockaddrLike + Copy>(
    headers: &mut MultiHeaders<S>,
    waiting: Waiting,
    socket: &impl AsFd,
    bytes: &mut [u8],
    mut each: impl FnMut(&RecvMsg<'_, '_, S>),
) -> io::Result<()> {
    let mut slots = bytes.chunks_exact_mut(STRIDE);
    let mut slices: [_; COUNT] = std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
    let socket = socket.as_fd().as_raw_fd();
    let received = recvmmsg(socket, headers, slices.iter_mut(), flags_of(waiting), None)?;
    received.for_each(|message| each(&message));
    Ok(())
}

/// The message headers for sending. Those with a source address are created on demand: many threads never need them.
struct Sender {
    plain: MultiHeaders<SockaddrStorage>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    from_v4: Option<MultiHeaders<SockaddrStorage>>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    from_v6: Option<MultiHeaders<SockaddrStorage>>,
    addrs: Vec<Option<SockaddrStorage>>,
}

thread_local! {
    static SENDER: RefCell<Sender> = RefCell::new(Sender {
        plain: plain(),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        from_v4: None,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        from_v6: None,
        addrs: Vec::with_capacity(COUNT),
    });
}

/// Sends the first datagrams, up to [`COUNT`] with the same source address. Returns how many, at least one.
///
/// # Errors
///
/// Returns the error of the first datagram.
pub(crate) fn send(socket: &impl AsFd, datagrams: &[impl Outgoing]) -> io::Result<usize> {
    let local = datagrams.first().and_then(Outgoing::local);
    SENDER.with_borrow_mut(|sender| {
        let Sender { plain, addrs, .. } = sender;
        let run = datagrams.iter().take(COUNT).take_while(|datagram| datagram.local() == local);
        addrs.clear();
        addrs.extend(run.map(|datagram| datagram.to().map(SockaddrStorage::from)));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match Leaving::from(local) {
            Leaving::FromAny => {}
            Leaving::FromV4(info) => {
                let info = [ControlMessage::Ipv4PacketInfo(&info)];
                let headers = sender.from_v4.get_or_insert_with(with_v4_info);
                return send_with(socket, headers, addrs, &info, datagrams);
            }
            Leaving::FromV6(info) => {
                let info = [ControlMessage::Ipv6PacketInfo(&info)];
                let headers = sender.from_v6.get_or_insert_with(with_v6_info);
                return send_with(socket, headers, addrs, &info, datagrams);
            }
        }
        send_with(socket, plain, addrs, &[], datagrams)
    })
}

/// Sends the first datagrams, one to each address.
fn send_with(
    socket: &impl AsFd,
    headers: &mut MultiHeaders<SockaddrStorage>,
    addrs: &[Option<SockaddrStorage>],
    control: &[ControlMessage<'_>],
    datagrams: &[impl Outgoing],
) -> io::Result<usize> {
    let mut rest = datagrams.iter();
    let slices: [_; COUNT] =
        std::array::from_fn(|_| [IoSlice::new(rest.next().map_or(&[], Outgoing::bytes))]);
    let socket = socket.as_fd().as_raw_fd();
    let sent = sendmmsg(socket, headers, slices.iter(), addrs, control, MsgFlags::MSG_DONTWAIT)?;
    Ok(sent.count())
}
