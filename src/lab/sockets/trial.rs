//! One client on a real UDP socket, with a simulated link in each direction: a session of the lab over loopback.
//!
//! The links are between client and socket, so they drop the same datagrams as in virtual time. One thread waits for
//! the next datagram or deadline.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::client::{Client, Event};
use crate::link::{Direction, Link, LinkConfig};
use crate::net::batch::is_of_a_peer;
use crate::net::rt;

/// Larger than any datagram of the lab.
const LARGEST: usize = 64 << 10;

/// The longest single wait without a deadline.
const LONG: Duration = Duration::from_secs(60);

/// The shortest timeout that a socket accepts.
const SHORT: Duration = Duration::from_micros(1);

/// A client, its socket and its links.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: UdpSocket,
    pub(crate) client: Client,
    pub(crate) up: Link<Vec<u8>>,
    pub(crate) down: Link<Vec<u8>>,
    pub(crate) events: Vec<Event>,
    /// Bytes handed to the links, up and down.
    pub(crate) bytes: (u64, u64),
    began: Instant,
    buffer: Vec<u8>,
}

impl Wire {
    /// Creates a client on a free port of loopback, over perfect links. `client` receives the time and the port.
    pub(crate) fn open(server: SocketAddr, client: impl FnOnce(Instant, u16) -> Client) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        let (now, port) = (rt::now(), socket.local_addr()?.port());
        let perfect = |direction| Link::new(LinkConfig::perfect(), 0, direction);
        Ok(Self {
            socket,
            client: client(now, port),
            up: perfect(Direction::Up),
            down: perfect(Direction::Down),
            events: Vec::new(),
            bytes: (0, 0),
            began: now,
            buffer: vec![0; LARGEST],
        })
    }

    /// Returns the address that the server sees.
    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Restarts the counters, with new links.
    pub(crate) fn begin(&mut self, up: Link<Vec<u8>>, down: Link<Vec<u8>>) {
        (self.up, self.down) = (up, down);
        self.events.clear();
        self.bytes = (0, 0);
        self.began = rt::now();
    }

    /// Returns when it began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Returns the time since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        rt::now() - self.began
    }

    /// Runs until the client is `done` and no datagram is in flight on the links.
    ///
    /// # Errors
    ///
    /// The system provides no socket, or the client has given up its session before it was done.
    pub(crate) fn run(&mut self, done: impl Fn(&Client) -> bool) -> io::Result<()> {
        loop {
            let now = rt::now();
            self.exchange(now);
            if done(&self.client) && self.up.poll_timeout().is_none() && self.down.poll_timeout().is_none() {
                return Ok(());
            }
            self.wait(now, None)?;
        }
    }

    /// Runs until `at`, and then until the client is `done`, even if datagrams are in flight.
    ///
    /// # Errors
    ///
    /// As [`Wire::run`].
    pub(crate) fn run_to(&mut self, at: Instant, done: impl Fn(&Client) -> bool) -> io::Result<()> {
        loop {
            let now = rt::now();
            self.exchange(now);
            if now >= at && done(&self.client) {
                return Ok(());
            }
            self.wait(now, Some(at).filter(|at| *at > now))?;
        }
    }

    /// Does everything that is due at `now`.
    fn exchange(&mut self, now: Instant) {
        while let Some(bytes) = self.down.recv(now) {
            self.client.handle_datagram(now, &bytes);
        }
        self.client.handle_timeout(now);
        self.events.extend(std::iter::from_fn(|| self.client.poll()));
        while let Some(bytes) = self.client.poll_transmit(now) {
            self.bytes.0 += bytes.len() as u64;
            self.up.send(now, 0, bytes);
        }
        while let Some(bytes) = self.up.recv(now) {
            // A datagram that the system does not accept is lost, as in every network.
            let _ = self.socket.send(&bytes);
        }
        self.events.extend(std::iter::from_fn(|| self.client.poll()));
    }

    /// Waits for a datagram or the next deadline, until `until` at most.
    fn wait(&mut self, now: Instant, until: Option<Instant>) -> io::Result<()> {
        if self.client.is_closed() {
            return Err(io::Error::other("the server did not answer in time"));
        }
        let deadlines = [self.client.poll_timeout(), self.up.poll_timeout(), self.down.poll_timeout(), until];
        let until = deadlines.into_iter().flatten().min();
        let timeout = until.map_or(LONG, |until| until.saturating_duration_since(now));
        self.socket.set_read_timeout(Some(timeout.clamp(SHORT, LONG)))?;
        match self.socket.recv(&mut self.buffer) {
            Ok(count) => {
                self.bytes.1 += count as u64;
                let bytes = self.buffer.get(..count).unwrap_or_default().to_vec();
                self.down.send(rt::now(), 0, bytes);
                Ok(())
            }
            Err(error) if is_no_news(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether the error means a timeout, or that a peer's system refused an earlier datagram, which counts as a loss.
fn is_no_news(error: &io::Error) -> bool {
    is_of_a_peer(error) || matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
