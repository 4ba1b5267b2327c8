//! One datagram per system call, for systems without recvmmsg and sendmmsg. Compiled everywhere for tests.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, send as send_connected, sendto};

use super::{Binding, COUNT, Outgoing, STRIDE, Source, Waiting};

/// Receives without any state.
#[derive(Debug)]
pub(crate) struct Receiver;

impl Receiver {
    pub(crate) const fn new() -> Self {
        Self
    }

    /// Receives into slots of [`STRIDE`] bytes, and appends the head of each datagram.
    pub(crate) fn receive(
        &mut self,
        _waiting: Waiting,
        socket: &impl AsFd,
        _binding: Binding,
        bytes: &mut [u8],
        heads: &mut Vec<(Source, usize)>,
    ) -> io::Result<()> {
        for slot in bytes.chunks_exact_mut(STRIDE).take(COUNT) {
            match recvfrom::<SockaddrStorage>(socket.as_fd().as_raw_fd(), slot) {
                Ok((len, addr)) => {
                    let addr = addr.as_ref().and_then(plain);
                    heads.extend(addr.map(|addr| (Source { addr, local: None }, len)));
                }
                // What was received before the error comes first; an error that lasts comes again.
                Err(_) if !heads.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn plain(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|addr| SocketAddrV4::from(*addr).into());
    v4.or_else(|| addr.as_sockaddr_in6().map(|addr| SocketAddrV6::from(*addr).into()))
}

/// Sends the first datagram. Returns 1.
///
/// # Errors
///
/// Returns the error of that datagram.
pub(crate) fn send(socket: &impl AsFd, datagrams: &[impl Outgoing]) -> io::Result<usize> {
    let Some(first) = datagrams.first() else { return Ok(0) };
    let socket = socket.as_fd().as_raw_fd();
    match first.to() {
        Some(to) => sendto(socket, first.bytes(), &SockaddrStorage::from(to), MsgFlags::MSG_DONTWAIT)?,
        None => send_connected(socket, first.bytes(), MsgFlags::MSG_DONTWAIT)?,
    };
    Ok(1)
}
