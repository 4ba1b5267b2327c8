//! UDP: one task per socket receives in [batches](super::batch); whoever has something to send sends it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::Async;

use super::batch::{self, Batch, Family, is_of_a_peer};
use super::engine::Core;
use super::rt;
use super::shared::Work;
use crate::service::{DoorId, Peer, Service, Transmit};
use crate::throttle::Throttle;

/// How long to wait for room in a socket before datagrams are dropped: what matters is repeated anyway.
const PATIENCE: Duration = Duration::from_millis(20);

/// The pause after an error that no datagram explains.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// A UDP socket.
#[derive(Debug)]
pub(super) struct DatagramDoor {
    socket: Async<UdpSocket>,
    family: Family,
    unsent: AtomicU64,
    complaints: Mutex<Throttle>,
}

impl DatagramDoor {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let family = Family::of(socket.local_addr()?);
        let socket = Async::new(socket)?;
        Ok(Self { socket, family, unsent: AtomicU64::new(0), complaints: Mutex::default() })
    }

    /// Sends datagrams, and drops those that the socket has no room for until `patience` ends, which begins with the first
    /// that has to wait.
    pub(super) async fn send(&self, mut transmits: &[Transmit], patience: &mut Option<Instant>) {
        loop {
            let done = batch::send(self.socket.get_ref(), transmits, |transmit, error| {
                if !is_of_a_peer(error) {
                    self.complain(transmit.peer.addr, error, 1);
                }
            });
            transmits = transmits.get(done..).unwrap_or_default();
            let Some(first) = transmits.first() else { return };
            let end = *patience.get_or_insert_with(|| rt::now() + PATIENCE);
            if rt::before(end, self.socket.writable()).await.is_none() {
                let full = io::ErrorKind::WouldBlock.into();
                return self.complain(first.peer.addr, &full, transmits.len());
            }
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

/// Receives at the door of that ordinal, if it is one for datagrams, for as long as the server runs.
pub(super) async fn serve<S: Service + 'static>(core: Arc<Core<S>>, id: DoorId) {
    let Some(door) = core.datagram_door(id) else { return };
    let mut complaints = Throttle::default();
    loop {
        match receive(&core, id, door) {
            Ok(Some(work)) => {
                core.drive(work).await;
                rt::yield_now().await;
            }
            Ok(None) => drop(door.socket.readable().await),
            Err(error) => {
                if let Some(times) = complaints.count(rt::now()) {
                    log::warn!("cannot receive datagrams ({times} attempts): {error}");
                }
                rt::sleep(PAUSE).await;
            }
        }
    }
}

/// Receives a batch and takes it in, if there is one.
fn receive<S: Service + 'static>(
    core: &Core<S>,
    id: DoorId,
    door: &DatagramDoor,
) -> io::Result<Option<Work>> {
    Batch::with(|batch| {
        if batch.receive(door.socket.get_ref(), door.family)? == 0 {
            return Ok(None);
        }
        let datagrams = batch.datagrams().map(|(addr, bytes)| (Peer { door: id, addr }, bytes));
        Ok(Some(core.with(|shared, now| shared.datagrams(now, datagrams))))
    })
}
