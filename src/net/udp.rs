//! UDP sockets: datagrams are received and sent in [batches](super::batch). Nothing here waits.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::batch::{self, Batch, Binding, COUNT, is_of_a_peer};
use super::rt;
use crate::log_limiter::LogLimiter;
use crate::service::Transmit;

/// How long to wait for room in a socket before datagrams are dropped: what matters is repeated anyway.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);

/// The pause after an error that no datagram explains.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// A UDP socket.
#[derive(Debug)]
pub(crate) struct DatagramDoor {
    socket: UdpSocket,
    binding: Binding,
    unsent: AtomicU64,
    complaints: Mutex<LogLimiter>,
}

impl AsFd for DatagramDoor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl DatagramDoor {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let binding = Binding::of(&socket)?;
        Ok(Self { socket, binding, unsent: AtomicU64::new(0), complaints: Mutex::default() })
    }

    /// Receives what is there, up to a full batch. Returns how many that were, and whether there may be more.
    pub(crate) fn receive(&self, batch: &mut Batch) -> io::Result<(usize, bool)> {
        let count = batch.receive(&self.socket, self.binding)?;
        Ok((count, count == COUNT))
    }

    /// Sends datagrams, and gives up those that something hinders that does not pass. Returns how many are done with: for
    /// the others there is no room for now.
    pub(crate) fn send(&self, transmits: &[Transmit]) -> usize {
        batch::send(&self.socket, transmits, |transmit, error| {
            if !is_of_a_peer(error) {
                self.complain(transmit.peer.addr, error, 1);
            }
        })
    }

    /// Datagrams are dropped because there was no room for them in time.
    pub(crate) fn drop_all(&self, transmits: &[Transmit]) {
        if let Some(first) = transmits.first() {
            let full = io::ErrorKind::WouldBlock.into();
            self.complain(first.peer.addr, &full, transmits.len());
        }
    }

    fn complain(&self, to: SocketAddr, error: &io::Error, count: usize) {
        let unsent = self.unsent.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        let due = self.complaints.lock().ok().and_then(|mut complaints| complaints.count(rt::now()));
        if let Some(times) = due {
            log::warn!("{to}: cannot send: {error} ({times} times, {unsent} datagrams since the start)");
        }
    }
}
