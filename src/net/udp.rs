//! UDP: one task per socket receives in batches; whoever has something to send sends it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::Async;

use super::engine::Core;
use super::rt;
use crate::service::{DoorId, Peer, Service, Transmit};
use crate::throttle::Throttle;

/// More than any datagram has, so that none is cut.
pub(super) const LARGEST: usize = 64 << 10;

/// Most datagrams that are taken in under one lock.
const BATCH: usize = 64;

/// How long to wait for room in a socket before datagrams are dropped: what matters is repeated anyway.
const PATIENCE: Duration = Duration::from_millis(20);

/// The pause after an error that no datagram explains.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// A UDP socket.
#[derive(Debug)]
pub(super) struct DatagramDoor {
    socket: Async<UdpSocket>,
    unsent: AtomicU64,
    complaints: Mutex<Throttle>,
}

impl DatagramDoor {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let socket = Async::new(socket)?;
        Ok(Self { socket, unsent: AtomicU64::new(0), complaints: Mutex::default() })
    }

    /// Sends a datagram, or drops it if the socket has no room until `patience` ends, which begins with the first that
    /// has to wait.
    pub(super) async fn send(&self, transmit: &Transmit, patience: &mut Option<Instant>) {
        let sent = match self.try_send(transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let end = *patience.get_or_insert_with(|| rt::now() + PATIENCE);
                rt::before(end, self.socket.writable()).await;
                self.try_send(transmit)
            }
            sent => sent,
        };
        if let Err(error) = sent
            && !is_of_a_peer(&error)
        {
            self.complain(transmit.peer.addr, &error);
        }
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<usize> {
        self.socket.get_ref().send_to(&transmit.bytes, transmit.peer.addr)
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
#[derive(Debug)]
struct Batch {
    scratch: Vec<u8>,
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, Range<usize>)>,
}

impl Batch {
    fn new() -> Self {
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

    fn datagrams(&self, door: DoorId) -> impl Iterator<Item = (Peer, &[u8])> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.datagrams.iter().map(move |(addr, range)| (Peer { door, addr: *addr }, bytes(range)))
    }
}

/// Receives at the door of that ordinal, if it is one for datagrams, for as long as the server runs.
pub(super) async fn serve<S: Service + 'static>(core: Arc<Core<S>>, id: DoorId) {
    let Some(door) = core.datagram_door(id) else { return };
    let (mut batch, mut complaints) = (Batch::new(), Throttle::default());
    loop {
        match batch.receive(door.socket.get_ref()) {
            Ok(more) => {
                let work = core.with(|shared, now| shared.datagrams(now, batch.datagrams(id)));
                core.drive(work).await;
                if more {
                    rt::yield_now().await;
                } else {
                    let _ = door.socket.readable().await;
                }
            }
            Err(error) => {
                if let Some(times) = complaints.count(rt::now()) {
                    log::warn!("cannot receive datagrams ({times} attempts): {error}");
                }
                rt::sleep(PAUSE).await;
            }
        }
    }
}
