//! The way to the server: a connected datagram socket, or one stream connection after the other.
//!
//! Nothing here decides anything: a lost connection is told to the client, who says when to make another.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use async_io::Async;
use futures::FutureExt as _;
use futures::future::{BoxFuture, pending};

use super::super::rt;
use crate::client::Client;

/// The longest datagram there is.
const MAX_DATAGRAM: usize = 65_535;
/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// How often is read before others get their turn.
const READS: usize = 16;
/// While so much is unwritten, the client is not asked for more.
const UNSENT_ENOUGH: usize = 64 << 10;
/// A server that is gone without a word is noticed after about half a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(20), Duration::from_secs(4), 3);

/// Where the server is: a name or an address, and a port.
pub(super) type Host = (String, u16);

/// The way to the server.
#[derive(Debug)]
pub(super) enum Way {
    Datagrams(Datagrams),
    Stream(Stream),
}

/// Datagrams to one address at a time.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: Async<UdpSocket>,
    /// The other addresses of the host.
    others: VecDeque<SocketAddr>,
}

/// Stream connections.
pub(super) struct Stream {
    host: Host,
    link: Link,
    /// Why there is no connection.
    trouble: Option<io::Error>,
}

enum Link {
    Down,
    Connecting(BoxFuture<'static, io::Result<Async<TcpStream>>>),
    Up { socket: Async<TcpStream>, unsent: Vec<u8>, written: usize },
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Way {
    /// A socket that talks to the first address of `host`, and to the next where nobody is.
    pub(super) async fn datagrams(host: Host) -> io::Result<Self> {
        let mut others: VecDeque<SocketAddr> = resolve(&host).await?.into();
        let first = others.pop_front().ok_or_else(no_address)?;
        Ok(Self::Datagrams(Datagrams { socket: talk_to(first)?, others }))
    }

    /// No connection yet.
    pub(super) fn stream(host: Host) -> Self {
        Self::Stream(Stream { host, link: Link::Down, trouble: None })
    }

    /// Begins to connect; what there was is dropped.
    pub(super) fn connect(&mut self) {
        if let Self::Stream(stream) = self {
            stream.link = Link::Connecting(connect(stream.host.clone()).boxed());
        }
    }

    /// Drops the connection, or the attempt to make one.
    pub(super) fn disconnect(&mut self) {
        if let Self::Stream(stream) = self {
            if let Link::Connecting(_) = stream.link {
                stream.trouble = Some(io::ErrorKind::TimedOut.into());
            }
            stream.link = Link::Down;
        }
    }

    /// Why there was no connection the last time, if there is none.
    pub(super) fn into_trouble(self) -> Option<io::Error> {
        match self {
            Self::Stream(stream) => stream.trouble,
            Self::Datagrams(_) => None,
        }
    }

    /// Whether the client may be asked for more to send.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Stream(Stream { link: Link::Up { unsent, written, .. }, .. }) => {
                unsent.len() - written < UNSENT_ENOUGH
            }
            _ => true,
        }
    }

    /// Sends a datagram, or queues a piece of the stream.
    pub(super) async fn send(&mut self, mut bytes: Vec<u8>) {
        match self {
            // Whatever goes wrong with a datagram, an ICMP answer to an earlier one too, is a loss.
            Self::Datagrams(Datagrams { socket, .. }) => {
                if let Err(error) = socket.send(&bytes).await {
                    log::debug!("a datagram was not sent: {error}");
                }
            }
            Self::Stream(Stream { link: Link::Up { unsent, .. }, .. }) => unsent.append(&mut bytes),
            // What was meant for a connection that is gone.
            Self::Stream(_) => {}
        }
    }

    /// Takes in whatever is there and writes whatever can be written, without waiting.
    pub(super) fn work(&mut self, now: Instant, client: &mut Client) {
        match self {
            Self::Datagrams(datagrams) => datagrams.receive(now, client),
            Self::Stream(stream) => stream.work(now, client),
        }
    }

    /// Writes whatever can be written, without waiting, and takes nothing in.
    pub(super) fn write(&mut self) {
        if let Self::Stream(stream) = self {
            // An error is still there when `work` comes across it.
            let _ = stream.write();
        }
    }

    /// Waits until [`Way::work`] has something to do.
    pub(super) async fn ready(&mut self) {
        match self {
            Self::Datagrams(Datagrams { socket, .. }) => drop(socket.readable().await),
            Self::Stream(stream) => stream.ready().await,
        }
    }

    /// Writes what is left, for the last time.
    pub(super) async fn finish(&mut self) {
        let Self::Stream(stream) = self else { return };
        while stream.write().is_ok() {
            match &stream.link {
                Link::Up { socket, unsent, .. } if !unsent.is_empty() => drop(socket.writable().await),
                _ => return,
            }
        }
    }
}

/// A socket that talks to one address alone.
fn talk_to(server: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let unspecified = match server {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let socket = Async::<UdpSocket>::bind(unspecified)?;
    socket.get_ref().connect(server)?;
    Ok(socket)
}

impl Datagrams {
    fn receive(&mut self, now: Instant, client: &mut Client) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        for _ in 0..READS * READS {
            match self.socket.get_ref().recv(&mut buffer) {
                Ok(n) => client.handle_datagram(now, buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // "Connection refused" says that nobody is there yet, or no more: the schedule goes on.
                Err(error) => {
                    log::debug!("nothing received: {error}");
                    if error.kind() == io::ErrorKind::ConnectionRefused && !client.has_heard() {
                        return self.try_next();
                    }
                }
            }
        }
    }

    /// Where nobody is at an address of the host, and nobody was heard yet, its next address may be the one; the first has
    /// its turn again after the last, as the server may be started later.
    fn try_next(&mut self) {
        let here = self.socket.get_ref().peer_addr();
        if let Some(next) = self.others.pop_front()
            && let Ok(socket) = talk_to(next)
        {
            self.socket = socket;
            self.others.extend(here);
        }
    }
}

impl Stream {
    fn work(&mut self, now: Instant, client: &mut Client) {
        self.finish_connecting(now, client);
        let lost = match self.write() {
            Ok(()) => self.read(now, client).err(),
            // What the server said before it closed is there to be read all the same.
            Err(error) => self.read(now, client).err().or(Some(error)),
        };
        // The client may have asked to drop the connection meanwhile; then this is harmless.
        if let Some(error) = lost {
            if !client.is_closed() {
                log::info!("the connection is lost: {error}");
            }
            self.link = Link::Down;
            self.trouble = Some(error);
            client.handle_disconnected(now);
        }
    }

    fn finish_connecting(&mut self, now: Instant, client: &mut Client) {
        let Link::Connecting(attempt) = &mut self.link else { return };
        match attempt.now_or_never() {
            None => {}
            Some(Ok(socket)) => {
                self.link = Link::Up { socket, unsent: Vec::new(), written: 0 };
                self.trouble = None;
                client.handle_connected(now);
            }
            Some(Err(error)) => {
                log::info!("no connection: {error}");
                self.link = Link::Down;
                self.trouble = Some(error);
                client.handle_disconnected(now);
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Link::Up { socket, unsent, written } = &mut self.link else { return Ok(()) };
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

    fn read(&mut self, now: Instant, client: &mut Client) -> io::Result<()> {
        let Link::Up { socket, .. } = &mut self.link else { return Ok(()) };
        let mut buffer = vec![0; CHUNK];
        for _ in 0..READS {
            match socket.get_ref().read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(n) => client.handle_bytes(now, buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn ready(&mut self) {
        match &mut self.link {
            Link::Down => pending().await,
            Link::Connecting(attempt) => {
                // Kept as a future that is ready, for `work` to take.
                let result = attempt.await;
                self.link = Link::Connecting(std::future::ready(result).boxed());
            }
            Link::Up { socket, unsent, .. } if unsent.is_empty() => drop(socket.readable().await),
            Link::Up { socket, .. } => {
                futures::future::select(socket.readable(), socket.writable()).await;
            }
        }
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

async fn resolve(host: &Host) -> io::Result<Vec<SocketAddr>> {
    rt::resolve(&host.0, host.1).await
}

/// Tries the addresses of `host` in turn. The error is that of the last.
async fn connect(host: Host) -> io::Result<Async<TcpStream>> {
    let mut last = no_address();
    for address in resolve(&host).await? {
        match Async::<TcpStream>::connect(address).await {
            Ok(socket) => {
                prepare(socket.get_ref());
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection works without these options as well, only less well.
fn prepare(socket: &TcpStream) {
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    let options = socket2::SockRef::from(socket);
    if let Err(error) = options.set_tcp_keepalive(&keepalive).and_then(|()| options.set_tcp_nodelay(true)) {
        log::debug!("a socket option was not taken: {error}");
    }
}
