//! UDP sockets: datagrams are received in batches; whoever has something to send sends it. Nothing here waits.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::rt;
use crate::service::{DoorId, Peer, Transmit};
use crate::throttle::Throttle;

/// More than any datagram has, so that none is cut.
pub(super) const LARGEST: usize = 64 << 10;

/// Most datagrams that are taken in under one lock.
const BATCH: usize = 64;

/// How long to wait for room in a socket before datagrams are dropped: what matters is repeated anyway.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// The pause after an error that no datagram explains.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// A UDP socket.
#[derive(Debug)]
pub(super) struct DatagramDoor {
    socket: UdpSocket,
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
        Ok(Self { socket, unsent: AtomicU64::new(0), complaints: Mutex::default() })
    }

    /// Receives what is there, up to a full batch. Returns whether there may be more.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<bool> {
        batch.receive(&self.socket)
    }

    /// Sends a datagram, or gives it up, if what hinders it does not pass; false if there is no room for now.
    pub(super) fn send(&self, transmit: &Transmit) -> bool {
        match self.socket.send_to(&transmit.bytes, transmit.peer.addr) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if !is_of_a_peer(&error) => self.complain(transmit.peer.addr, &error),
            _ => {}
        }
        true
    }

    fn complain(&self, to: SocketAddr, error: &io::Error) {
        let unsent = self.unsent.fetch_add(1, Ordering::Relaxed) + 1;
        let due = self.complaints.lock().ok().and_then(|mut complaints| complaints.count(rt::now()));
        if let Some(times) = due {
            log::warn!("{to}: cannot send: {error} ({times} datagrams, {unsent} since the start)");
        }
    }
}

/// Whether an error is what a peer's system answered (ICMP): it is no news, and says nothing about this socket.
pub(super) fn is_of_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | Interrupted)
}

/// Datagrams that were received together, without gaps in one buffer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    scratch: Vec<u8>,
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, Range<usize>)>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { scratch: vec![0; LARGEST], bytes: Vec::new(), datagrams: Vec::new() }
    }

    /// Receives what is there, up to a full batch. Returns whether there may be more.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.bytes.clear();
        self.datagrams.clear();
        while self.datagrams.len() < BATCH {
            match socket.recv_from(&mut self.scratch) {
                Ok((count, addr)) => self.push(count, addr),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if is_of_a_peer(&error) => {}
                // What was received before the error comes first; an error that lasts comes again.
                Err(_) if !self.datagrams.is_empty() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn push(&mut self, count: usize, addr: SocketAddr) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(self.scratch.get(..count).unwrap_or_default());
        self.datagrams.push((addr, start..self.bytes.len()));
    }

    pub(super) fn datagrams(&self, door: DoorId) -> impl Iterator<Item = (Peer, &[u8])> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.datagrams.iter().map(move |(addr, range)| (Peer { door, addr: *addr }, bytes(range)))
    }
}
