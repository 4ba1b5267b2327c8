//! A connection's socket, as its reader and its writers share it, and output on its way through it.
//!
//! Nothing here waits; how one waits is the engines' affair. Sockets are read and written with MSG_DONTWAIT where that
//! is meant, so that none has to be made non-blocking: that would be two more calls for each connection.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use socket2::TcpKeepalive;

use crate::door::Framing;
use crate::output::Output;
use crate::service::ConnId;

/// Most pieces of output that are written together.
const SLICES: usize = 64;

/// After how much silence a peer is asked whether it is still there, how often, and how many times. While something is on
/// its way to it, that is the affair of `dead_peers`.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// How many bytes that were not sent yet the system takes of a TCP connection, so that those who do not read cannot fill
/// its memory; what was sent and is not acknowledged comes on top, as bulk throughput needs. Of a UNIX socket it takes
/// no more than net.core.wmem_default anyway, 208 KiB, and that is charged to who writes. Of bytes and messages it takes
/// more, as large answers want fewer and longer writes, but not all it would: what it copies and sends soon is still in
/// the processor's cache, which for 100 answers of 8 MB at once is worth a third.
#[cfg(any(target_os = "linux", target_os = "android"))]
const fn unsent(framing: Framing) -> u32 {
    match framing {
        Framing::Frames | Framing::Lines => 16 << 10,
        Framing::Bytes | Framing::Messages => 128 << 10,
    }
}

/// Says to the system that what is written goes along with what follows it at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
const HOLD_BACK: MsgFlags = MsgFlags::from_bits_retain(nix::libc::MSG_MORE);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const HOLD_BACK: MsgFlags = MsgFlags::empty();

/// What a connection is read and written through.
pub(in crate::net) type Socket = socket2::Socket;

/// A socket, and what its engine needs besides to wait for it.
pub(in crate::net) trait Port: Debug + Send + Sync + 'static {
    /// Whether the engine has to be told of the end of a connection whose reading has ended before.
    const OUTLIVES_READING: bool = false;

    /// The socket.
    fn socket(&self) -> &Socket;

    /// Somebody begins to write.
    fn begin_write(&self) {}
}

/// Whether, and for what, a connection is read. The order is the only one in which it changes, but for the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::net) enum Mode {
    /// For the service.
    Reading = 0,
    /// Not: the service has enough.
    Paused = 1,
    /// For nobody, so that the peer gets our last words.
    Discarding = 2,
    /// Not any more.
    Gone = 3,
}

/// A connection. Its mode is changed under the lock only.
#[derive(Debug)]
pub(in crate::net) struct Connection<P> {
    pub(in crate::net) id: ConnId,
    pub(super) port: P,
    mode: AtomicU8,
}

impl<P: Port> Connection<P> {
    pub(super) const fn new(id: ConnId, port: P) -> Self {
        Self { id, port, mode: AtomicU8::new(Mode::Reading as u8) }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            0 => Mode::Reading,
            1 => Mode::Paused,
            2 => Mode::Discarding,
            _ => Mode::Gone,
        }
    }

    /// Goes on to a later mode. Returns whether its reader waits to be told.
    #[must_use]
    pub(super) fn set_mode(&self, mode: Mode) -> bool {
        self.mode.fetch_max(mode as u8, Ordering::SeqCst) == Mode::Paused as u8
    }

    /// Pauses or resumes the reading for the service. Returns whether its reader waits to be told.
    #[must_use]
    pub(super) fn allow_reading(&self, allowed: bool) -> bool {
        let (from, to) = if allowed { (Mode::Paused, Mode::Reading) } else { (Mode::Reading, Mode::Paused) };
        if self.mode.load(Ordering::SeqCst) != from as u8 {
            return false;
        }
        let changed = self.mode.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst);
        changed.is_ok() && allowed
    }

    /// Shuts down one or both directions. Whatever fails here fails because the peer was faster.
    pub(in crate::net) fn shut(&self, how: Shutdown) {
        let _ = self.port.socket().shutdown(how);
    }

    /// Reads what there is, up to a full buffer; `how` says whether to wait for something.
    pub(super) fn read(&self, buffer: &mut [u8], how: MsgFlags) -> io::Result<usize> {
        loop {
            match recv(self.port.socket().as_raw_fd(), buffer, how) {
                Err(Errno::EINTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

/// Output on its way to a connection. Whoever has it is the connection's only writer.
#[derive(Debug)]
pub(in crate::net) struct Write<P> {
    pub(super) link: Arc<Connection<P>>,
    bytes: Output,
    more: bool,
    /// These are our last words: the end of the connection is told right behind them.
    is_last: bool,
}

/// How far a [`Write`] has come.
pub(in crate::net) enum Progress {
    /// To its end, good or bad.
    Done(Written),
    /// The socket takes no more for now.
    Blocked,
}

/// What became of a [`Write`].
#[derive(Debug)]
pub(in crate::net) struct Written {
    pub(super) conn: ConnId,
    /// More was waiting behind it.
    pub(super) more: bool,
    /// The connection is lost.
    pub(super) failed: bool,
    /// What it was written from, if that is large.
    pub(super) buffer: Vec<u8>,
}

/// The least room in a buffer that is worth giving back to who fills it, in bytes.
const WORTH_REUSING: usize = 16 << 10;

impl<P: Port> Write<P> {
    pub(super) const fn new(link: Arc<Connection<P>>, bytes: Output, more: bool) -> Self {
        Self { link, bytes, more, is_last: false }
    }

    /// The same, with the end of our side to be told right behind it: in the same segment, if it fits.
    pub(super) const fn before_the_end(mut self) -> Self {
        self.is_last = true;
        self
    }

    /// Writes what the socket takes; `how` says whether to wait for it to take all.
    pub(in crate::net) fn advance(&mut self, how: MsgFlags) -> Progress {
        self.link.port.begin_write();
        while !self.bytes.is_empty() {
            match self.send(how) {
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

    fn send(&self, how: MsgFlags) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.bytes.slices(&mut slices);
        let how = if self.is_last { how | HOLD_BACK } else { how };
        let (socket, how) = (self.link.port.socket(), how.bits());
        match slices.get(..count).unwrap_or_default() {
            [one] => socket.send_with_flags(one, how),
            many => socket.send_vectored_with_flags(many, how),
        }
    }

    fn done(&mut self, failed: bool) -> Progress {
        let buffer = Some(std::mem::take(&mut self.bytes).into_buffer());
        let buffer = buffer.filter(|buffer| buffer.capacity() >= WORTH_REUSING).unwrap_or_default();
        Progress::Done(Written { conn: self.link.id, more: self.more, failed, buffer })
    }
}

/// Of a TCP connection: sends small frames at once, notices peers that have vanished, and bounds what the system holds.
pub(in crate::net) fn prepare(socket: &Socket, framing: Framing) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(unsent(framing))?;
    Ok(())
}
