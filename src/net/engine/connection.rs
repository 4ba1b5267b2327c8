//! A stream connection: its socket, its read mode, and a write in progress.
//!
//! [`Connection`] is shared by its reader and its writers. Nothing here waits; each engine has its own way. Reads and
//! writes pass MSG_DONTWAIT where they must not block. No socket has to be made non-blocking: that would be two more
//! calls per connection.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::listener::Framing;
use crate::net::tcp::{self, Keepalive};
use crate::output::Output;
use crate::service::ConnId;

/// Most slices per write call.
const SLICES: usize = 64;

/// Most unsent bytes that the system buffers for a TCP connection (TCP_NOTSENT_LOWAT), so that slow consumers
/// cannot fill its memory. Bytes sent and not acknowledged come on top, as bulk throughput needs. A UNIX
/// socket takes at most net.core.wmem_default, 208 KiB, which is charged to the writer.
///
/// Bytes and messages get more, as large answers want fewer and longer writes. They do not get all: what is copied and
/// sent soon is still in the processor's cache. For 100 answers of 8 MB at once, that is worth a third.
#[cfg(any(target_os = "linux", target_os = "android"))]
const fn unsent(framing: Framing) -> u32 {
    match framing {
        Framing::Frames | Framing::Lines => 16 << 10,
        Framing::Bytes | Framing::Messages => 128 << 10,
    }
}

/// Tells the system that more follows at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
const HOLD_BACK: MsgFlags = MsgFlags::from_bits_retain(nix::libc::MSG_MORE);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const HOLD_BACK: MsgFlags = MsgFlags::empty();

/// The socket of a connection.
pub(in crate::net) type Socket = socket2::Socket;

/// A socket, and what its engine needs to wait for it.
pub(in crate::net) trait Port: Debug + Send + Sync + 'static {
    /// Whether the engine must be told that a connection ended after its reading did.
    const OUTLIVES_READING: bool = false;

    /// The socket.
    fn socket(&self) -> &Socket;

    /// A write begins.
    fn begin_write(&self) {}
}

/// Whether a connection is read, and what for. Modes change only in this order, except that the first two alternate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::net) enum Mode {
    /// Read for the service.
    Reading = 0,
    /// Not read: back-pressure.
    Paused = 1,
    /// Read and discarded, so that the peer receives the final output.
    Discarding = 2,
    /// Closed.
    Gone = 3,
}

/// A stream connection. Its mode changes only under the lock.
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

    /// Moves on to a later mode. Returns whether the reader has to be woken.
    #[must_use]
    pub(super) fn set_mode(&self, mode: Mode) -> bool {
        self.mode.fetch_max(mode as u8, Ordering::SeqCst) == Mode::Paused as u8
    }

    /// Pauses or resumes reading. Returns whether the reader has to be woken.
    #[must_use]
    pub(super) fn allow_reading(&self, allowed: bool) -> bool {
        let (from, to) = if allowed { (Mode::Paused, Mode::Reading) } else { (Mode::Reading, Mode::Paused) };
        if self.mode.load(Ordering::SeqCst) != from as u8 {
            return false;
        }
        let changed = self.mode.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst);
        changed.is_ok() && allowed
    }

    /// Shuts down one or both directions. An error means that the peer was first.
    pub(in crate::net) fn shut(&self, how: Shutdown) {
        let _ = self.port.socket().shutdown(how);
    }

    /// Reads the available bytes, up to a full buffer. `how` says whether to wait.
    pub(super) fn read(&self, buffer: &mut [u8], how: MsgFlags) -> io::Result<usize> {
        loop {
            match recv(self.port.socket().as_raw_fd(), buffer, how) {
                Err(Errno::EINTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

/// Output on its way to a connection. Its owner is the connection's only writer.
#[derive(Debug)]
pub(in crate::net) struct Write<P> {
    pub(super) connection: Arc<Connection<P>>,
    bytes: Output,
    more: bool,
    /// The final output: the connection is shut down right after it.
    is_last: bool,
}

/// The state of a [`Write`] after a call.
pub(in crate::net) enum Progress {
    /// Done: all written, or failed.
    Done(Written),
    /// The socket's buffer is full.
    Blocked,
}

/// The result of a [`Write`].
#[derive(Debug)]
pub(in crate::net) struct Written {
    pub(super) conn: ConnId,
    /// The service has more output for the connection.
    pub(super) more: bool,
    /// The connection is lost.
    pub(super) failed: bool,
    /// The buffer that was written from, if it is large.
    pub(super) buffer: Vec<u8>,
}

/// The least capacity, in bytes, of a buffer that is worth returning to the service.
const WORTH_REUSING: usize = 16 << 10;

impl<P: Port> Write<P> {
    pub(super) const fn new(connection: Arc<Connection<P>>, bytes: Output, more: bool) -> Self {
        Self { connection, bytes, more, is_last: false }
    }

    /// Marks it as final output, so that the FIN goes into the same segment if it fits.
    pub(super) const fn with_shutdown(mut self) -> Self {
        self.is_last = true;
        self
    }

    /// Writes what the socket takes. `how` says whether to wait until it takes all.
    pub(in crate::net) fn advance(&mut self, how: MsgFlags) -> Progress {
        self.connection.port.begin_write();
        while !self.bytes.is_empty() {
            match self.send(how) {
                Ok(0) => return self.done(true),
                Ok(count) => self.bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("connection {}: {error}", self.connection.id.0);
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
        let (socket, how) = (self.connection.port.socket(), how.bits());
        match slices.get(..count).unwrap_or_default() {
            [one] => socket.send_with_flags(one, how),
            many => socket.send_vectored_with_flags(many, how),
        }
    }

    fn done(&mut self, failed: bool) -> Progress {
        let buffer = Some(std::mem::take(&mut self.bytes).into_buffer());
        let buffer = buffer.filter(|buffer| buffer.capacity() >= WORTH_REUSING).unwrap_or_default();
        Progress::Done(Written { conn: self.connection.id, more: self.more, failed, buffer })
    }
}

/// Sets the options of a TCP connection: no delay, keepalive, and the bound on unsent bytes. Keepalive ends idle
/// connections only: while output is unacknowledged, `dead_peers` decides.
pub(in crate::net) fn prepare(socket: &Socket, framing: Framing) -> io::Result<()> {
    tcp::set_options(socket, Keepalive::SERVER)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(unsent(framing))?;
    Ok(())
}
