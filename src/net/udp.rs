//! UDP sockets: those of an engine, which receive and send in [batches](super::batch) and count what was dropped; and what
//! all receive loops share.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_io::Async;

use super::batch::{self, Batch, Binding, COUNT, is_of_a_peer};
use super::rt;
use crate::log_limiter::LogLimiter;
use crate::service::Transmit;

/// Longest wait of a datagram for a full socket before it is dropped. Retransmission covers those that matter.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_millis(20);

/// The pause after an error that no datagram explains.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Creates a socket that sends to one address, and receives from no other.
pub(crate) fn connected_to(peer: SocketAddr) -> io::Result<UdpSocket> {
    let own = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(own)?;
    socket.connect(peer)?;
    Ok(socket)
}

/// Handles an error of a receive loop that no datagram explains: a warning, and a pause of [`PAUSE`].
#[derive(Debug, Default)]
pub(crate) struct ReceivePause {
    /// The beginning of its warnings.
    prefix: String,
    warnings: LogLimiter,
}

impl ReceivePause {
    /// The warnings of one socket among others begin with `prefix`.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..Self::default() }
    }

    /// Logs that receiving failed, at most once a second.
    pub(crate) fn warn(&mut self, error: &io::Error) {
        if let Some(times) = self.warnings.count(rt::now()) {
            log::warn!("{}cannot receive datagrams ({times} attempts): {error}", self.prefix);
        }
    }

    /// Waits until there may be more to receive: by the last result, whether there may be more at once.
    pub(crate) async fn wait<T>(&mut self, socket: &Async<T>, received: io::Result<bool>) {
        match received {
            Ok(true) => rt::yield_now().await,
            // The next receive reports an error.
            Ok(false) => drop(socket.readable().await),
            Err(error) => {
                self.warn(&error);
                rt::sleep(PAUSE).await;
            }
        }
    }
}

/// A UDP socket.
#[derive(Debug)]
pub(crate) struct DatagramListener {
    socket: UdpSocket,
    binding: Binding,
    unsent: AtomicU64,
    warnings: Mutex<LogLimiter>,
}

impl AsFd for DatagramListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl DatagramListener {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let binding = Binding::of(&socket)?;
        Ok(Self { socket, binding, unsent: AtomicU64::new(0), warnings: Mutex::default() })
    }

    /// Receives the available datagrams, up to a full batch. Returns the number, and whether there may be more.
    pub(crate) fn receive(&self, batch: &mut Batch) -> io::Result<(usize, bool)> {
        let count = batch.receive(&self.socket, self.binding)?;
        Ok((count, count == COUNT))
    }

    /// Sends datagrams, and drops those with a lasting error. Returns how many are done; the rest found the
    /// socket full.
    pub(crate) fn send(&self, transmits: &[Transmit]) -> usize {
        batch::send(&self.socket, transmits, |transmit, error| {
            if !is_of_a_peer(error) {
                self.warn(transmit.peer.addr, error, 1);
            }
        })
    }

    /// Counts datagrams that were dropped because the socket stayed full.
    pub(crate) fn drop_all(&self, transmits: &[Transmit]) {
        if let Some(first) = transmits.first() {
            let full = io::ErrorKind::WouldBlock.into();
            self.warn(first.peer.addr, &full, transmits.len());
        }
    }

    fn warn(&self, to: SocketAddr, error: &io::Error, count: usize) {
        let unsent = self.unsent.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        let due = self.warnings.lock().ok().and_then(|mut warnings| warnings.count(rt::now()));
        if let Some(times) = due {
            log::warn!("{to}: cannot send: {error} ({times} times, {unsent} datagrams since the start)");
        }
    }
}
