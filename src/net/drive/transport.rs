//! The transport of a client: a connected UDP socket ([`Datagrams`]), or one stream connection after another
//! ([`Stream`]).
//!
//! The client decides when to connect and what to send. This module reports a lost connection to it, and
//! picks the address
//! to send datagrams to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_io::Async;
use futures::FutureExt as _;
use futures::future::{BoxFuture, pending};
use socket2::Socket;

use super::super::{happy_eyeballs, rt};
use crate::client::Client;

/// The longest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Most bytes per read.
const CHUNK: usize = 64 << 10;
/// Most reads per step.
const READS: usize = 16;
/// Most bytes that the messages of one read occupy where they are kept: the shortest have 20 bytes on the
/// wire, and some 130 there.
const KEPT_CHUNK: usize = 8 * CHUNK;
/// How many datagrams count as one read.
const DATAGRAMS: usize = 16;
/// With this many unsent bytes, the client is not asked for more.
const UNSENT_ENOUGH: usize = 64 << 10;
/// TCP keepalive: a vanished server is noticed after about half a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(20), Duration::from_secs(4), 3);

thread_local! {
    /// One read buffer per thread, so that an idle client holds none, and no wake-up allocates or clears one.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_DATAGRAM.next_power_of_two()]);
}
/// How long after a failed send another socket is tried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A name or an address, and a port.
type Host = (String, u16);

/// The address of a stream server.
#[derive(Clone, Debug)]
pub(in crate::net) enum StreamAddr {
    /// TCP: a name or an address, and a port.
    Tcp(Host),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// The transport of a client.
#[derive(Debug)]
pub(in crate::net) enum ClientTransport {
    Datagrams(Datagrams),
    Stream(Stream),
}

/// Datagrams to one address of the host at a time.
#[derive(Debug)]
pub(in crate::net) struct Datagrams {
    socket: Async<UdpSocket>,
    /// The other addresses of the host.
    others: VecDeque<SocketAddr>,
    /// How long one of several addresses has to answer, until the server has answered at all.
    share: Duration,
    unanswered: Option<Unanswered>,
    /// When to try another socket, after a failure of the local address or its routes.
    retry_at: Option<Instant>,
}

/// A datagram that goes to the next address too if the present one does not answer.
#[derive(Debug)]
struct Unanswered {
    bytes: Vec<u8>,
    /// When the present address has had its share of the time.
    due: Instant,
    /// How many addresses have not had it.
    left: usize,
}

/// Stream connections to a server.
pub(in crate::net) struct Stream {
    addr: StreamAddr,
    /// How many attempts ran out of time. Each begins with another address of the host, so that all are tried
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
        f.debug_struct("Stream").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl ClientTransport {
    /// Creates a UDP transport to the first address of `host`. It moves to the next address when one refuses,
    /// or does not answer within its share of `time`, the timeout of a request.
    pub(in crate::net) async fn datagrams(host: Host, time: Duration) -> io::Result<Self> {
        Ok(Self::Datagrams(Datagrams::new(resolve(&host).await?, time)?))
    }

    /// How many reads yield at most `free` bytes of kept messages; at least one if anything is free.
    pub(in crate::net) fn reads_within(free: usize) -> usize {
        if free == 0 { 0 } else { (free / KEPT_CHUNK).clamp(1, READS) }
    }

    /// Creates a stream transport, without a connection.
    pub(in crate::net) fn stream(addr: StreamAddr) -> Self {
        Self::Stream(Stream { addr, timed_out: 0, state: StreamState::Down, error: None })
    }

    /// Begins to connect, dropping the present connection.
    pub(super) fn connect(&mut self) {
        if let Self::Stream(stream) = self {
            stream.state = StreamState::Connecting(connect(stream.addr.clone(), stream.timed_out).boxed());
        }
    }

    /// Drops the connection, or the attempt to make one.
    pub(super) fn disconnect(&mut self) {
        if let Self::Stream(stream) = self {
            if let StreamState::Connecting(_) = stream.state {
                stream.error = Some(io::ErrorKind::TimedOut.into());
                stream.timed_out += 1;
            }
            stream.state = StreamState::Down;
        }
    }

    /// Why the last attempt or connection failed, if there is none now.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match self {
            Self::Stream(stream) => stream.error.take(),
            Self::Datagrams(_) => None,
        }
    }

    /// Replaces the UDP socket if the host's address has changed, or `replace` is set. Returns whether it
    /// did.
    pub(super) fn check_path(&mut self, replace: bool) -> bool {
        match self {
            Self::Datagrams(datagrams) => datagrams.check_path(replace),
            Self::Stream(_) => false,
        }
    }

    /// Whether the client may be asked for more to send.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Stream(Stream { state: StreamState::Up { unsent, written, .. }, .. }) => {
                unsent.len() - written < UNSENT_ENOUGH
            }
            _ => true,
        }
    }

    /// Sends a datagram, or queues a piece of the stream. `heard`: whether anything ever came from the
    /// server.
    pub(super) async fn send(&mut self, now: Instant, mut bytes: Vec<u8>, heard: bool) {
        match self {
            Self::Datagrams(datagrams) => datagrams.send(now, bytes, heard).await,
            Self::Stream(Stream { state: StreamState::Up { unsent, .. }, .. }) => unsent.append(&mut bytes),
            // Output for a connection that is gone.
            Self::Stream(_) => {}
        }
    }

    /// Reads input, in at most `reads` reads, and writes queued output, without waiting.
    pub(super) fn step(&mut self, now: Instant, client: &mut Client, reads: usize) {
        let reads = reads.min(READS);
        BUFFER.with_borrow_mut(|buffer| match self {
            Self::Datagrams(datagrams) => {
                datagrams.receive(now, client, reads * DATAGRAMS, buffer);
                datagrams.resend_to_next(now, client.has_heard());
                datagrams.retry(now, client);
            }
            Self::Stream(stream) => stream.step(now, client, reads, buffer),
        });
    }

    /// When [`ClientTransport::step`] is due without any input; `None` means never.
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
            Self::Datagrams(Datagrams { socket, .. }) if is_reading => drop(socket.readable().await),
            Self::Datagrams(_) => pending().await,
            Self::Stream(stream) => stream.ready(is_reading).await,
        }
    }

    /// Writes what is left.
    pub(super) async fn finish(&mut self) {
        let Self::Stream(stream) = self else { return };
        while stream.write().is_ok() {
            match &stream.state {
                StreamState::Up { socket, unsent, .. } if !unsent.is_empty() => drop(socket.writable().await),
                _ => return,
            }
        }
    }
}

/// Creates a socket that is connected to one address.
fn connected_to(server: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let unspecified = match server {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let socket = Async::<UdpSocket>::bind(unspecified)?;
    socket.get_ref().connect(server)?;
    Ok(socket)
}

/// Whether a send failed because of the local address or its routes; another socket may have better ones.
fn is_path_error(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, InvalidInput, NetworkDown, NetworkUnreachable};
    matches!(
        error.kind(),
        AddrNotAvailable | HostUnreachable | InvalidInput | NetworkDown | NetworkUnreachable
    )
}

impl Datagrams {
    fn new(addresses: Vec<SocketAddr>, time: Duration) -> io::Result<Self> {
        let share = time / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut others: VecDeque<SocketAddr> = addresses.into();
        let first = others.pop_front().ok_or_else(missing_address)?;
        Ok(Self { socket: connected_to(first)?, others, share, unanswered: None, retry_at: None })
    }

    async fn send(&mut self, now: Instant, bytes: Vec<u8>, heard: bool) {
        // Any failure counts as a loss, also an ICMP answer to an earlier datagram.
        if let Err(error) = self.socket.send(&bytes).await {
            log::debug!("a datagram was not sent: {error}");
            if is_path_error(&error) {
                self.retry_at.get_or_insert(now + RETRY_PAUSE);
            }
        }
        let left = self.others.len();
        self.unanswered = (!heard && left > 0).then(|| Unanswered { bytes, due: now + self.share, left });
    }

    /// When the present address has had its share of the time, or another socket is due.
    fn deadline(&self) -> Option<Instant> {
        let share_over = self.unanswered.as_ref().map(|unanswered| unanswered.due);
        share_over.into_iter().chain(self.retry_at).min()
    }

    /// Sends the unanswered datagram to the next address, once the present one has had its share of the time.
    fn resend_to_next(&mut self, now: Instant, heard: bool) {
        if heard {
            self.unanswered = None;
        }
        let Some(mut unanswered) = self.unanswered.take_if(|unanswered| unanswered.due <= now) else {
            return;
        };
        self.try_next();
        if let Err(error) = self.socket.get_ref().send(&unanswered.bytes) {
            log::debug!("a datagram was not sent: {error}");
        }
        unanswered.left -= 1;
        unanswered.due = now + self.share;
        self.unanswered = Some(unanswered).filter(|unanswered| unanswered.left > 0);
    }

    /// Tries another socket, if that is due.
    fn retry(&mut self, now: Instant, client: &mut Client) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            if self.check_path(true) {
                client.handle_moved(now);
            }
        }
    }

    /// Replaces the socket if the host has another address now, or `replace` is set. Without a route to the
    /// server's address, tries the others of its host. Returns whether there is a new socket.
    fn check_path(&mut self, replace: bool) -> bool {
        let here = self.socket.get_ref().local_addr().map(|addr| addr.ip()).ok();
        let Ok(server) = self.socket.get_ref().peer_addr() else { return false };
        let new = match connected_to(server) {
            Ok(socket) if !replace && socket.get_ref().local_addr().map(|addr| addr.ip()).ok() == here => {
                return false;
            }
            Ok(socket) => Some(socket),
            Err(error) => {
                log::debug!("no route to {server}: {error}");
                self.route_to_another(server)
            }
        };
        let Some(socket) = new else { return false };
        log::info!("datagrams leave from a new socket");
        self.socket = socket;
        true
    }

    /// Creates a socket connected to another address of the host, and puts this one in its place.
    fn route_to_another(&mut self, server: SocketAddr) -> Option<Async<UdpSocket>> {
        self.others.iter_mut().find_map(|other| {
            let socket = connected_to(*other).ok()?;
            *other = server;
            Some(socket)
        })
    }

    fn receive(&mut self, now: Instant, client: &mut Client, most: usize, buffer: &mut [u8]) {
        for _ in 0..most {
            match self.socket.get_ref().recv(buffer) {
                Ok(n) => client.handle_datagram(now, buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // "Connection refused" means that no server is there yet, or any more: the schedule
                // continues.
                Err(error) => {
                    log::debug!("nothing received: {error}");
                    if error.kind() == io::ErrorKind::ConnectionRefused && !client.has_heard() {
                        return self.try_next();
                    }
                }
            }
        }
    }

    /// Moves to the next address of the host. The first follows the last, as the server may be started later.
    fn try_next(&mut self) {
        let here = self.socket.get_ref().peer_addr();
        if let Some(next) = self.others.pop_front()
            && let Ok(socket) = connected_to(next)
        {
            self.socket = socket;
            self.others.extend(here);
        }
    }
}

impl Stream {
    fn step(&mut self, now: Instant, client: &mut Client, reads: usize, buffer: &mut [u8]) {
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

    fn write(&mut self) -> io::Result<()> {
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

    async fn ready(&mut self, is_reading: bool) {
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

fn missing_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

async fn resolve(host: &Host) -> io::Result<Vec<SocketAddr>> {
    rt::resolve(&host.0, host.1).await
}

async fn connect(addr: StreamAddr, timed_out: usize) -> io::Result<Async<Socket>> {
    match addr {
        StreamAddr::Tcp(host) => connect_tcp(&host, timed_out).await,
        StreamAddr::Unix(path) => connect_unix(&path).await,
    }
}

/// Tries the addresses of `host`, beginning with another one than earlier attempts.
async fn connect_tcp(host: &Host, before: usize) -> io::Result<Async<Socket>> {
    let mut addresses = resolve(host).await?;
    let first = before % addresses.len().max(1);
    addresses.rotate_left(first);
    let (socket, _) = happy_eyeballs::connect(&addresses).await?;
    prepared(socket.into_inner()?.into())
}

async fn connect_unix(path: &Path) -> io::Result<Async<Socket>> {
    let socket = Async::<UnixStream>::connect(path).await?;
    Async::new_nonblocking(socket.into_inner()?.into())
}

/// Options that only improve a connection, so errors are ignored.
fn prepared(socket: Socket) -> io::Result<Async<Socket>> {
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_nodelay(true)) {
        log::debug!("a socket option was not taken: {error}");
    }
    Async::new_nonblocking(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// How many datagrams have come.
    fn count(socket: &UdpSocket) -> usize {
        std::iter::from_fn(|| socket.recv(&mut [0; 16]).ok()).count()
    }

    /// What each address has received since the last call.
    fn counts<const N: usize>(sockets: &[UdpSocket; N]) -> [usize; N] {
        sockets.each_ref().map(count)
    }

    fn datagrams<const N: usize>(sockets: &[UdpSocket; N], time: Duration) -> Datagrams {
        Datagrams::new(sockets.iter().map(|socket| socket.local_addr().unwrap()).collect(), time).unwrap()
    }

    #[test]
    fn each_address_of_a_host_gets_its_share_of_the_time_to_answer() {
        let (sockets, now, second) = ([socket(), socket(), socket()], rt::now(), Duration::from_secs(1));
        let mut datagrams = datagrams(&sockets, 3 * second);
        rt::block_on(datagrams.send(now, b"REG".to_vec(), false));
        for (millis, expected) in
            [(0, [1, 0, 0]), (999, [0, 0, 0]), (1_000, [0, 1, 0]), (2_100, [0, 0, 1]), (9_000, [0, 0, 0])]
        {
            datagrams.resend_to_next(now + Duration::from_millis(millis), false);
            assert_eq!(counts(&sockets), expected, "after {millis} ms");
        }
        // The next datagram begins at the address of the last, and the first follows again.
        rt::block_on(datagrams.send(now + 9 * second, b"REG".to_vec(), false));
        datagrams.resend_to_next(now + 10 * second, false);
        assert_eq!(counts(&sockets), [1, 0, 1]);
        datagrams.resend_to_next(now + 10 * second, true);
        assert!(datagrams.unanswered.is_none(), "it was heard");
    }

    #[test]
    fn an_address_that_answered_and_a_single_address_are_kept() {
        let (sockets, now, time) = ([socket(), socket()], rt::now(), Duration::from_secs(1));
        let (mut heard, mut alone) = (datagrams(&sockets, time), datagrams(&[socket()], time));
        rt::block_on(heard.send(now, b"SND".to_vec(), true));
        rt::block_on(alone.send(now, b"REG".to_vec(), false));
        assert!(heard.unanswered.is_none() && alone.unanswered.is_none());
        heard.resend_to_next(now + time, true);
        assert_eq!(counts(&sockets), [1, 0]);
    }
}
