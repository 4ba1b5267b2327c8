//! The transport of a client: a connected UDP socket ([`Datagrams`]), or one stream connection after another
//! ([`Stream`]).
//!
//! The client decides when to connect and what to send; the transport reports a lost connection to it.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use futures::future::pending;

use crate::client::Client;
use crate::net::{ServerAddr, rt};

mod datagrams;
mod stream;

use datagrams::Datagrams;
use stream::Stream;

/// The longest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Most bytes per read.
const CHUNK: usize = 64 << 10;
/// Most reads per step.
const READS: usize = 16;
/// Most bytes that the messages of one read occupy where they are kept: the shortest have 20 bytes on the
/// wire, and some 130 there.
const KEPT_CHUNK: usize = 8 * CHUNK;
/// Number of datagrams that count as one read.
const DATAGRAMS: usize = 16;

thread_local! {
    /// One read buffer per thread, so that an idle client holds none, and no wake-up allocates or clears one.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_DATAGRAM.next_power_of_two()]);
}

/// The transport of a client.
#[derive(Debug)]
pub(super) enum ClientTransport {
    Datagrams(Datagrams),
    Stream(Stream),
}

impl ClientTransport {
    /// Creates the transport to `server`: a stream without a connection, or a UDP socket for the first address of the
    /// host. That moves to the next address when one refuses, or does not answer within its share of `time`, the
    /// timeout of a request.
    pub(super) async fn to(server: &ServerAddr, time: Duration) -> io::Result<Self> {
        Ok(match server {
            ServerAddr::Stream(target) => Self::Stream(Stream::new(target.clone())),
            ServerAddr::Datagrams { host, port } => {
                Self::Datagrams(Datagrams::new(rt::resolve(host, *port).await?, time)?)
            }
        })
    }

    /// Begins to connect, dropping the present connection.
    pub(super) fn connect(&mut self) {
        if let Self::Stream(stream) = self {
            stream.connect();
        }
    }

    /// Drops the connection, or the attempt to make one.
    pub(super) fn disconnect(&mut self) {
        if let Self::Stream(stream) = self {
            stream.disconnect();
        }
    }

    /// Why the last attempt or connection failed, if there is none now.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match self {
            Self::Stream(stream) => stream.take_error(),
            Self::Datagrams(_) => None,
        }
    }

    /// Replaces the UDP socket if the host's address has changed, or `replace` is set. Returns whether it did.
    pub(super) fn check_path(&mut self, replace: bool) -> bool {
        match self {
            Self::Datagrams(datagrams) => datagrams.check_path(replace),
            Self::Stream(_) => false,
        }
    }

    /// Whether the client may be asked for more to send.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.has_room(),
            Self::Datagrams(_) => true,
        }
    }

    /// Sends a datagram, or queues a piece of the stream. `heard`: whether anything ever came from the server.
    pub(super) async fn send(&mut self, now: Instant, bytes: Vec<u8>, heard: bool) {
        match self {
            Self::Datagrams(datagrams) => datagrams.send(now, bytes, heard).await,
            Self::Stream(stream) => stream.queue(bytes),
        }
    }

    /// Reads input, and writes queued output, without waiting. Kept messages exceed `free` bytes by one read at most.
    pub(super) fn step(&mut self, now: Instant, client: &mut Client, free: usize) {
        let reads = if free == 0 { 0 } else { (free / KEPT_CHUNK).clamp(1, READS) };
        BUFFER.with_borrow_mut(|buffer| match self {
            Self::Datagrams(datagrams) => {
                datagrams.receive(now, client, reads * DATAGRAMS, buffer);
                datagrams.resend_to_next(now, client.has_heard());
                datagrams.retry(now, client);
            }
            Self::Stream(stream) => stream.step(now, client, reads, buffer),
        });
    }

    /// The time at which [`ClientTransport::step`] is due without any input; `None` means never.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Datagrams(datagrams) => datagrams.deadline(),
            Self::Stream(_) => None,
        }
    }

    /// Writes queued output, without waiting, and reads nothing.
    pub(super) fn write(&mut self) {
        if let Self::Stream(stream) = self {
            // `step` will see the same error.
            let _ = stream.write();
        }
    }

    /// Waits until [`ClientTransport::step`] has something to do, with or without reading.
    pub(super) async fn ready(&mut self, is_reading: bool) {
        match self {
            Self::Datagrams(datagrams) if is_reading => datagrams.readable().await,
            Self::Datagrams(_) => pending().await,
            Self::Stream(stream) => stream.ready(is_reading).await,
        }
    }

    /// Writes the remaining bytes.
    pub(super) async fn finish(&mut self) {
        if let Self::Stream(stream) = self {
            stream.finish().await;
        }
    }
}

fn missing_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}
