//! Streams, over TCP and UNIX sockets alike: one task per listener, one per connection, and what a connection shares
//! with those who write to it.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_io::Async;
use event_listener::{Event, listener};
use socket2::TcpKeepalive;

use super::engine::Core;
use super::listen::unix::{self, SocketFile};
use super::rt;
use super::shared::Work;
use crate::output::Output;
use crate::service::{ConnId, DoorId, Intake, Origin, Remote, Service};
use crate::throttle::Throttle;

/// What is read at once.
const READ_SIZE: usize = 64 << 10;

/// Most pieces of output that are written together.
const SLICES: usize = 64;

/// How much is read and discarded behind a connection's last words.
const DISCARD_SIZE: usize = 16 << 20;

/// After how much silence a peer is asked whether it is still there, how often, and how many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// How long what was sent may go unacknowledged by the peer's system, a peer that takes nothing included.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// How many bytes that were not sent yet the system takes of a TCP connection, so that those who do not read cannot fill
/// its memory; what was sent and is not acknowledged comes on top, as bulk throughput needs. Of a UNIX socket it takes
/// no more than net.core.wmem_default anyway, 208 KiB, and that is charged to who writes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 16 << 10;

/// The first and the longest pause when the system has no room for another connection.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How many connections are accepted before others get their turn.
const ACCEPTED_AT_ONCE: u32 = 64;

/// What a connection is read and written through.
pub(super) type Socket = socket2::Socket;

thread_local! {
    /// One buffer for all connections that a thread reads from: an idle connection holds none.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// Whether, and for what, a connection is read. The order is the only one in which it changes, but for the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Mode {
    /// For the service.
    Reading = 0,
    /// Not: the service has enough.
    Paused = 1,
    /// For nobody, so that the peer gets our last words.
    Discarding = 2,
    /// Not any more.
    Gone = 3,
}

/// A connection, as its reader and its writers share it. Its mode is changed under the lock only.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnId,
    socket: Async<Socket>,
    mode: AtomicU8,
    mode_changed: Event,
    /// Behind the socket, so that it is dropped after it.
    _freed: Freed,
}

/// Tells who waits for room that a socket has been closed.
#[derive(Debug)]
struct Freed(Arc<Event>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.notify(usize::MAX);
    }
}

impl Link {
    /// `freed` is told when the socket has been closed.
    pub(super) fn new(id: ConnId, socket: Async<Socket>, freed: Arc<Event>) -> Self {
        let mode = AtomicU8::new(Mode::Reading as u8);
        Self { id, socket, mode, mode_changed: Event::new(), _freed: Freed(freed) }
    }

    fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            0 => Mode::Reading,
            1 => Mode::Paused,
            2 => Mode::Discarding,
            _ => Mode::Gone,
        }
    }

    /// Goes on to a later mode.
    pub(super) fn set_mode(&self, mode: Mode) {
        if self.mode.fetch_max(mode as u8, Ordering::SeqCst) != mode as u8 {
            self.mode_changed.notify(usize::MAX);
        }
    }

    /// Pauses or resumes the reading for the service.
    pub(super) fn allow_reading(&self, allowed: bool) {
        let (from, to) = if allowed { (Mode::Paused, Mode::Reading) } else { (Mode::Reading, Mode::Paused) };
        let changed = self.mode.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst);
        if changed.is_ok() {
            self.mode_changed.notify(usize::MAX);
        }
    }

    /// Shuts down one or both directions. Whatever fails here fails because the peer was faster.
    pub(super) fn shut(&self, how: Shutdown) {
        let _ = self.socket.get_ref().shutdown(how);
    }

    async fn resumed(&self) {
        while self.mode() == Mode::Paused {
            listener!(self.mode_changed => changed);
            if self.mode() == Mode::Paused {
                changed.await;
            }
        }
    }
}

/// Output on its way to a connection. Whoever has it is the connection's only writer.
#[derive(Debug)]
pub(super) struct Write {
    link: Arc<Link>,
    bytes: Output,
    more: bool,
}

/// How far a [`Write`] has come.
pub(super) enum Progress {
    /// To its end, good or bad.
    Done(Written),
    /// The socket takes no more for now.
    Blocked,
}

/// What became of a [`Write`].
#[derive(Debug)]
pub(super) struct Written {
    pub(super) conn: ConnId,
    /// More was waiting behind it.
    pub(super) more: bool,
    /// The connection is lost.
    pub(super) failed: bool,
}

impl Write {
    pub(super) fn new(link: Arc<Link>, bytes: Output, more: bool) -> Self {
        Self { link, bytes, more }
    }

    /// Writes what the socket takes without waiting.
    pub(super) fn advance(&mut self) -> Progress {
        let mut socket = self.link.socket.get_ref();
        while !self.bytes.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.bytes.slices(&mut slices);
            match socket.write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return self.done(true),
                Ok(count) => self.bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("connection {}: {error}", self.link.id.0);
                    return self.done(true);
                }
            }
        }
        self.done(false)
    }

    fn done(&self, failed: bool) -> Progress {
        Progress::Done(Written { conn: self.link.id, more: self.more, failed })
    }

    /// Waits until the socket takes more, or has failed; what failed is seen at the next attempt.
    pub(super) async fn writable(&self) {
        let _ = self.link.socket.writable().await;
    }
}

/// Where connections come in.
#[derive(Debug)]
pub(super) struct StreamDoor {
    id: DoorId,
    listener: Async<Socket>,
    /// Removed when nobody is accepted any more.
    _file: Option<SocketFile>,
}

impl StreamDoor {
    pub(super) fn new(id: DoorId, listener: Socket, file: Option<SocketFile>) -> io::Result<Self> {
        Ok(Self { id, listener: Async::new(listener)?, _file: file })
    }

    async fn accept(&self) -> io::Result<(Async<Socket>, Origin)> {
        let (socket, addr) = self.listener.read_with(Socket::accept).await?;
        let from = addr.as_socket().map_or_else(|| unix::peer(&socket), |addr| Ok(Remote::Ip(addr)))?;
        Ok((Async::new(socket)?, Origin { door: self.id, from }))
    }
}

/// Accepts connections for as long as the server takes any.
///
/// Where there is no room for another, it waits until one of ours is closed, or for a pause, whichever is shorter.
pub(super) async fn accept<S: Service + 'static>(core: Arc<Core<S>>, door: StreamDoor) {
    let (shortest, longest) = PAUSES;
    let (mut pause, mut complaints, mut accepted, mut freed) = (shortest, Throttle::default(), 0_u32, None);
    loop {
        match door.accept().await {
            Ok((socket, origin)) => {
                (pause, freed) = (shortest, None);
                accepted = accepted.wrapping_add(1);
                welcome(&core, socket, origin);
                if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
                    rt::yield_now().await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Once more when it listens, for what was closed before it did.
                let Some(room) = freed.take() else {
                    freed = Some(core.freed.listen());
                    continue;
                };
                if let Some(times) = complaints.count(rt::now()) {
                    log::warn!(
                        "cannot accept connections ({times} attempts): {error}; if it lasts, raise the limit (ulimit -n)"
                    );
                }
                rt::before(rt::now() + pause, room).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// Whether an error is about a connection that came and went, not about the listener.
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        PermissionDenied, TimedOut,
    };
    // EPERM is a firewall's word on that connection: accept(2).
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

fn welcome<S: Service + 'static>(core: &Arc<Core<S>>, socket: Async<Socket>, origin: Origin) {
    let from = origin.from;
    if let Remote::Ip(_) = from
        && let Err(error) = prepare(socket.get_ref())
    {
        log::debug!("{from}: {error}");
    }
    let (link, intake, work) = core.with(|shared, now| shared.open(now, socket, origin));
    log::debug!("{from}: connection {}", link.id.0);
    let core = core.clone();
    core.clone().spawn(async move {
        core.drive(work).await;
        read(core, link, intake).await;
    });
}

/// Of a TCP connection: sends small frames at once, notices peers that have vanished, and bounds what the system holds.
pub(super) fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// What came of an attempt to read.
enum Input {
    /// The service has taken it, and this is what came of it; whether the buffer was full, so that there may be more.
    Taken { work: Work, full: bool },
    /// So many bytes for nobody.
    Discarded(usize),
    /// Nothing is there.
    Nothing,
    /// The peer has closed its side.
    End,
    /// The connection is lost.
    Lost,
}

/// Reads from a connection until its end.
async fn read<S: Service + 'static>(core: Arc<Core<S>>, link: Arc<Link>, mut intake: S::Conn) {
    let (mut discarded, mut ready) = (0, false);
    let is_lost = loop {
        link.resumed().await;
        if !ready && link.socket.readable().await.is_err() {
            break true;
        }
        ready = match read_some(&core, &link, &mut intake) {
            Input::Taken { work, full } => {
                core.drive(work).await;
                full
            }
            Input::Discarded(count) if discarded + count <= DISCARD_SIZE => {
                discarded += count;
                true
            }
            Input::Nothing => false,
            Input::End => break false,
            Input::Discarded(_) | Input::Lost => break true,
        };
        if ready {
            rt::yield_now().await;
        }
    };
    let work = core.with(|shared, now| shared.read_ended(now, link.id, is_lost));
    core.drive(work).await;
}

fn read_some<S: Service + 'static>(core: &Core<S>, link: &Link, intake: &mut S::Conn) -> Input {
    BUFFER.with_borrow_mut(|buffer| {
        let most = buffer.len().min(intake.appetite());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = match link.socket.get_ref().read(buffer) {
            Ok(0) => return Input::End,
            Ok(count) => count,
            Err(error) => return failed_read(&error),
        };
        match link.mode() {
            Mode::Reading | Mode::Paused => {
                let full = count == buffer.len();
                let batch = intake.received(rt::now(), buffer.get(..count).unwrap_or_default());
                let work = core.with(|shared, now| shared.received(now, link, batch));
                Input::Taken { work, full }
            }
            Mode::Discarding => Input::Discarded(count),
            Mode::Gone => Input::Lost,
        }
    })
}

fn failed_read(error: &io::Error) -> Input {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Input::Nothing,
        _ => Input::Lost,
    }
}
