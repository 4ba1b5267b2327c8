//! The datagram echo of the baseline: datagrams go back to their sender, in batches where the system supports them.
//!
//! It has batches of its own: those of `net` never block, and would take a second system call to wait.

use std::io;
use std::net::UdpSocket;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::AsRawFd as _,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use crate::net::batch::{LARGEST, is_of_a_peer};

/// Bound on the datagrams that one call receives or sends.
#[cfg(any(target_os = "linux", target_os = "android"))]
const BATCH: usize = 64;

/// Echoes all datagrams, up to 64 with one call; blocks in the receiving call.
///
/// # Errors
///
/// The socket cannot be received from.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut bytes = vec![0; BATCH * LARGEST];
    let mut batch = Batch {
        received: MultiHeaders::preallocate(BATCH, None),
        sent: MultiHeaders::preallocate(BATCH, None),
        lengths: [0; BATCH],
        addrs: [None; BATCH],
    };
    loop {
        let mut count = 0;
        match batch.receive(socket, &mut bytes) {
            Ok(received) => {
                while count < received {
                    count += batch.send(socket, &bytes, count..received);
                }
            }
            Err(error) if is_of_a_peer(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Headers and addresses of one call.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Debug)]
struct Batch {
    received: MultiHeaders<SockaddrStorage>,
    sent: MultiHeaders<SockaddrStorage>,
    lengths: [usize; BATCH],
    addrs: [Option<SockaddrStorage>; BATCH],
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Batch {
    /// Waits for the first datagram and receives all available ones. Returns their number.
    fn receive(&mut self, socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<usize> {
        let mut rooms = bytes.chunks_exact_mut(LARGEST);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let mut count = 0;
        for message in recvmmsg(socket.as_raw_fd(), &mut self.received, &mut slices, flags, None)? {
            if let (Some(length), Some(addr)) = (self.lengths.get_mut(count), self.addrs.get_mut(count)) {
                (*length, *addr) = (message.bytes, message.address);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Sends datagrams back. Returns how many are done: one that cannot be sent counts as lost.
    fn send(&mut self, socket: &UdpSocket, bytes: &[u8], which: std::ops::Range<usize>) -> usize {
        let rooms = bytes.chunks_exact(LARGEST).zip(&self.lengths).skip(which.start);
        let mut bodies = rooms.map(|(room, length)| room.get(..*length).unwrap_or_default());
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSlice::new(bodies.next().unwrap_or_default())]);
        let addrs = self.addrs.get(which).unwrap_or_default();
        let sent = sendmmsg(socket.as_raw_fd(), &mut self.sent, &slices, addrs, [], MsgFlags::empty());
        sent.map_or(1, |sent| sent.count().max(1))
    }
}

/// Echoes datagrams one by one, on systems without batches.
///
/// # Errors
///
/// The socket cannot be received from.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut bytes = vec![0; LARGEST];
    loop {
        match socket.recv_from(&mut bytes) {
            // A datagram that cannot be sent counts as lost.
            Ok((length, addr)) => drop(socket.send_to(bytes.get(..length).unwrap_or_default(), addr)),
            Err(error) if is_of_a_peer(&error) => {}
            Err(error) => return Err(error),
        }
    }
}
