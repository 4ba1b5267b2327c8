//! UDP sockets: datagrams are received and sent in [batches](super::batch); whoever has something to send sends it. Nothing
//! here waits.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::batch::{self, Batch, COUNT, Family, is_of_a_peer};
use super::rt;
use crate::service::Transmit;
use crate::throttle::Throttle;

/// How long to wait for room in a socket before datagrams are dropped: what matters is repeated anyway.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// The pause after an error that no datagram explains.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// A UDP socket.
#[derive(Debug)]
pub(super) struct DatagramDoor {
    socket: UdpSocket,
    family: Family,
    unsent: AtomicU64,
    complaints: Mutex<Throttle>,
}

impl AsFd for DatagramDoor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl DatagramDoor {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let family = Family::of(socket.local_addr()?);
        Ok(Self { socket, family, unsent: AtomicU64::new(0), complaints: Mutex::default() })
    }

    /// Receives what is there, up to a full batch. Returns whether there may be more.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<bool> {
        Ok(batch.receive(&self.socket, self.family)? == COUNT)
    }

    /// Sends datagrams until there is no room for more, but for those that something else hinders: these are given up.
    /// Returns how many are done with.
    pub(super) fn send(&self, transmits: &[Transmit]) -> usize {
        batch::send(&self.socket, transmits, |transmit, error| {
            if !is_of_a_peer(error) {
                self.complain(transmit.peer.addr, error);
            }
        })
    }

    fn complain(&self, to: SocketAddr, error: &io::Error) {
        let unsent = self.unsent.fetch_add(1, Ordering::Relaxed) + 1;
        let due = self.complaints.lock().ok().and_then(|mut complaints| complaints.count(rt::now()));
        if let Some(times) = due {
            log::warn!("{to}: cannot send: {error} ({times} datagrams, {unsent} since the start)");
        }
    }
}
