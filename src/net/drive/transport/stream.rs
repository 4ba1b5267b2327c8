//! The stream transport of a client: one TCP or UNIX socket connection after another.
//!
//! The client says when to connect and when to disconnect. Here is one attempt at a time, the bytes that are not written
//! yet, and why there is no connection.

use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use async_io::Async;
use futures::FutureExt as _;
use futures::future::{BoxFuture, pending};
use socket2::Socket;

use super::{CHUNK, READS};
use crate::client::Client;
use crate::net::outgoing;
use crate::net::tcp::{self, Keepalive};
use crate::service::Target;

/// With this many unsent bytes, the client is not asked for more.
const UNSENT_ENOUGH: usize = 64 << 10;

/// Stream connections to a server.
pub(in crate::net::drive) struct Stream {
    server: Target,
    /// Number of attempts that timed out. Each begins with another address of the host, so that all are tried
    /// even if one attempt is too short for all.
    timed_out: usize,
    state: StreamState,
    /// Why there is no connection.
    error: Option<io::Error>,
}

enum StreamState {
    Down,
    Connecting(BoxFuture<'static, io::Result<Async<Socket>>>),
    Up { socket: Async<Socket>, unsent: Vec<u8>, written: usize },
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) const fn new(server: Target) -> Self {
        Self { server, timed_out: 0, state: StreamState::Down, error: None }
    }

    /// Begins to connect, dropping the present connection.
    pub(super) fn connect(&mut self) {
        self.state = StreamState::Connecting(connect(self.server.clone(), self.timed_out).boxed());
    }

    /// Drops the connection, or the attempt to make one.
    pub(super) fn disconnect(&mut self) {
        if let StreamState::Connecting(_) = self.state {
            self.error = Some(io::ErrorKind::TimedOut.into());
            self.timed_out += 1;
        }
        self.state = StreamState::Down;
    }

    /// Why the last attempt or connection failed, if there is none now.
    pub(super) const fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Whether the client may be asked for more to send.
    pub(super) fn has_room(&self) -> bool {
        match &self.state {
            StreamState::Up { unsent, written, .. } => unsent.len() - written < UNSENT_ENOUGH,
            _ => true,
        }
    }

    /// Queues a piece, or drops it if its connection is gone.
    pub(super) fn queue(&mut self, mut bytes: Vec<u8>) {
        if let StreamState::Up { unsent, .. } = &mut self.state {
            unsent.append(&mut bytes);
        }
    }

    /// Reads input, in at most `reads` reads, and writes queued output, without waiting.
    pub(super) fn step(&mut self, now: Instant, client: &mut Client, reads: usize, buffer: &mut [u8]) {
        self.finish_connecting(now, client);
        let lost = match self.write() {
            Ok(()) => self.read(now, client, reads, buffer).err(),
            // What the server sent before it closed can still be read.
            Err(error) => self.read(now, client, READS, buffer).err().or(Some(error)),
        };
        // The client may have asked to disconnect meanwhile; then this is harmless.
        if let Some(error) = lost {
            if !client.is_closed() {
                log::info!("the connection is lost: {error}");
            }
            self.state = StreamState::Down;
            self.error = Some(error);
            client.handle_disconnected(now);
        }
    }

    fn finish_connecting(&mut self, now: Instant, client: &mut Client) {
        let StreamState::Connecting(attempt) = &mut self.state else { return };
        match attempt.now_or_never() {
            None => {}
            Some(Ok(socket)) => {
                self.state = StreamState::Up { socket, unsent: Vec::new(), written: 0 };
                self.error = None;
                client.handle_connected(now);
            }
            Some(Err(error)) => {
                log::info!("no connection: {error}");
                self.state = StreamState::Down;
                self.error = Some(error);
                client.handle_disconnected(now);
            }
        }
    }

    /// Writes queued output, without waiting.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let StreamState::Up { socket, unsent, written } = &mut self.state else { return Ok(()) };
        while *written < unsent.len() {
            match socket.get_ref().write(unsent.get(*written..).unwrap_or_default()) {
                Ok(n) => *written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        unsent.clear();
        unsent.shrink_to(CHUNK);
        *written = 0;
        Ok(())
    }

    fn read(&mut self, now: Instant, client: &mut Client, reads: usize, buffer: &mut [u8]) -> io::Result<()> {
        let StreamState::Up { socket, .. } = &mut self.state else { return Ok(()) };
        for _ in 0..reads {
            match socket.get_ref().read(buffer) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(n) => client.handle_bytes(now, buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the remaining bytes.
    pub(super) async fn finish(&mut self) {
        while self.write().is_ok() {
            match &self.state {
                StreamState::Up { socket, unsent, .. } if !unsent.is_empty() => drop(socket.writable().await),
                _ => return,
            }
        }
    }

    /// Waits until [`Stream::step`] has something to do, with or without reading.
    pub(super) async fn ready(&mut self, is_reading: bool) {
        match &mut self.state {
            StreamState::Down => pending().await,
            StreamState::Connecting(attempt) => {
                // Kept as a ready future, for `step` to take.
                let result = attempt.await;
                self.state = StreamState::Connecting(std::future::ready(result).boxed());
            }
            StreamState::Up { socket, unsent, .. } => match (is_reading, unsent.is_empty()) {
                (true, true) => drop(socket.readable().await),
                (true, false) => drop(futures::future::select(socket.readable(), socket.writable()).await),
                (false, false) => drop(socket.writable().await),
                (false, true) => pending().await,
            },
        }
    }
}

/// Connects, beginning with another address of the host than earlier attempts.
async fn connect(server: Target, timed_out: usize) -> io::Result<Async<Socket>> {
    let (socket, address) = outgoing::connect(&server, timed_out).await?;
    // Options that only improve a connection.
    if address.is_some()
        && let Err(error) = tcp::set_options(&socket, Keepalive::CLIENT)
    {
        log::debug!("a socket option was not taken: {error}");
    }
    Async::new_nonblocking(socket)
}
