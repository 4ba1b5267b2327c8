//! The interface between an engine, which moves bytes (`net`, the simulator), and a service, which decides (`server`,
//! `host`).
//!
//! Write a [`Service`] to run another server on the engines, or call one to run the chat without them. A service has
//! two halves. [`Service::Conn`] belongs to one connection and is called without a lock: it turns bytes into a batch.
//! The service itself is one `&mut` state machine behind one lock, called once per batch. Neither uses sockets, clocks
//! or threads. The contract of the caller:
//!
//! 1. Report each event: `opened`, `received`, `ended` if a peer has closed only its own side, `datagram`, `drained`,
//!    `closed`, and `timeout` once the instant of `poll_timeout` has come. A spurious `timeout` is harmless.
//! 2. Then, until all return `None`: send the datagram of `poll_transmit`, open the connection of `poll_dial`, and for
//!    each connection of `poll_wake` call `fill` and write the appended output. If it `is_aborted`, close it instead.
//! 3. Each time that output is written, call `drained`, and then `fill` again if [`Flow::more`] was set. Read from the
//!    connection only while [`Flow::reading`] is set. If [`Flow::closing`] is set and all is written, shut the connection
//!    down for writing, discard its input for a bounded time, and close it. While a write is pending and `fill` cannot be
//!    called, check `is_reading` after `received`, and both `is_reading` and `is_closing` after `poll_wake`.
//! 4. Wait for the next byte, datagram or deadline, whichever comes first.

use std::fmt::{self, Debug};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use crate::output::Output;

/// The id of a stream connection, given by the engine and never reused. Its low half is a place, which is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The `serial`-th connection at a place.
    #[must_use]
    pub const fn new(place: u32, serial: u32) -> Self {
        Self((serial as u64) << 32 | place as u64)
    }

    /// Its place among the open connections.
    #[must_use]
    pub const fn place(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// Place and serial.
    #[must_use]
    pub const fn halves(self) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.0.to_be_bytes();
        (u32::from_be_bytes([e, f, g, h]), u32::from_be_bytes([a, b, c, d]))
    }

    /// The number of earlier connections at this place.
    #[must_use]
    pub const fn serial(self) -> u64 {
        self.0 >> 32
    }
}

/// The ordinal of a listener among all listeners of a server. Its protocol is in
/// [`ServerConfig::doors`](crate::config::ServerConfig::doors).
pub type DoorId = usize;

/// The origin of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The listener that accepted it.
    pub door: DoorId,
    /// The peer.
    pub from: Remote,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remote {
    /// An internet address and port.
    Ip(SocketAddr),
    /// A process of this machine, through a UNIX socket: its effective user and group when it connected (SO_PEERCRED).
    Unix {
        /// The user's number.
        uid: u32,
        /// The group's number.
        gid: u32,
    },
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => write!(f, "{addr}"),
            Self::Unix { uid, gid } => write!(f, "unix uid {uid} gid {gid}"),
        }
    }
}

/// A peer that sends datagrams: the listener that receives them, and the addresses of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The listener that receives the datagrams.
    pub door: DoorId,
    /// The address that the datagrams come from.
    pub addr: SocketAddr,
    /// The local address that they are sent to and that answers leave from. `None` if the listener has one address
    /// only, or the system does not tell.
    pub local: Option<IpAddr>,
}

impl Peer {
    /// A peer of a listener that has one address only.
    #[must_use]
    pub const fn new(door: DoorId, addr: SocketAddr) -> Self {
        Self { door, addr, local: None }
    }
}

/// The id of an attempt to connect, given by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// A request of a service to open a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The id of the attempt.
    pub id: DialId,
    /// The address to connect to.
    pub to: Target,
}

/// The address of a stream listener to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A TCP port.
    Tcp {
        /// A name or an address. All addresses of a name are tried in turn.
        host: String,
        /// The port.
        port: u16,
    },
    /// A UNIX socket of this machine.
    Unix {
        /// Its path.
        path: PathBuf,
    },
}

/// How a connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The peer connected to one of our listeners.
    Accepted(Origin),
    /// The service requested it; with the peer that answered.
    Dialed(DialId, Remote),
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(Origin { from, .. }) | Self::Dialed(_, from) => write!(f, "{from}"),
        }
    }
}

impl From<Origin> for Arrival {
    fn from(origin: Origin) -> Self {
        Self::Accepted(origin)
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The service closed it.
    Asked,
    /// The peer closed its side, and all output was written.
    Peer,
    /// It was reset, or a read or write failed.
    Lost,
    /// The peer did not take the output, or did not close, in time.
    TimedOut,
    /// The peer's system has not answered for too long.
    Unreachable,
    /// The peer broke the framing, or a limit of the service.
    Broken,
    /// The engine has stopped.
    Ended,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "closed by us",
            Self::Peer => "closed by the peer",
            Self::Lost => "lost",
            Self::TimedOut => "the peer took too long",
            Self::Unreachable => "the peer does not answer",
            Self::Broken => "the peer broke the framing or a limit",
            Self::Ended => "the engine has ended",
        })
    }
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The destination, and the socket to send from.
    pub peer: Peer,
    /// The payload.
    pub bytes: Vec<u8>,
}

/// The state of a connection after [`Service::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// More output is waiting: call `fill` again once the appended output is written.
    pub more: bool,
    /// Whether to read from the connection.
    pub reading: bool,
    /// Nothing will follow: close the connection once everything is written.
    pub closing: bool,
    /// Input is waiting in the service: a connection whose peer has ended its side stays open until the service has
    /// handled it.
    pub busy: bool,
}

/// The per-connection half of a service, called without the lock.
pub trait Decoder: Send + Debug {
    /// The result of decoding a piece of input. It may borrow from it, so that a batch that is executed at once is not
    /// copied.
    type Batch<'a>
    where
        Self: 'a;

    /// The most bytes to read at once. Input that was read and has to wait takes memory here; unread input stays with
    /// the sender.
    fn max_read(&self) -> usize {
        usize::MAX
    }

    /// Decodes bytes that arrived at `now`, in order.
    fn received<'a>(&'a mut self, now: Instant, bytes: &'a [u8]) -> Self::Batch<'a>;

    /// Frees everything: the connection is closing, and later input is discarded.
    fn abandon(&mut self) {}
}

/// A server, or anything else with connections, without sockets.
pub trait Service: Send + Debug {
    /// The per-connection half.
    type Conn: Decoder;

    /// The caller has taken the lock around the service. All calls until the next one of this are one hold, and the
    /// service bounds its work for all of them together. Without it, each call is bounded by itself.
    fn begin_hold(&mut self) {}

    /// Whether this hold has used up its work budget. A caller with more datagrams passes them in another hold.
    fn is_spent(&self) -> bool {
        false
    }

    /// A stream connection is open: it was accepted, or `poll_dial` requested it.
    fn opened(&mut self, now: Instant, conn: ConnId, arrival: Arrival) -> Self::Conn;

    /// A requested connection could not be opened.
    fn dial_failed(&mut self, _now: Instant, _dial: DialId, _error: &io::Error) {}

    /// A connection's [`Decoder`] has made a batch.
    fn received(&mut self, now: Instant, conn: ConnId, batch: <Self::Conn as Decoder>::Batch<'_>);

    /// The peer will send no more but may still read. Called after the last `received`, and before the `fill` whose
    /// [`Flow::busy`] says whether to keep the connection. Most services ignore it.
    fn ended(&mut self, _now: Instant, _conn: ConnId) {}

    /// A datagram has arrived.
    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]);

    /// All output that `fill` appended for this connection is written.
    fn drained(&mut self, now: Instant, conn: ConnId);

    /// The connection is closed. Its id is not used again.
    fn closed(&mut self, now: Instant, conn: ConnId, why: CloseReason);

    /// A deadline has passed.
    fn timeout(&mut self, now: Instant);

    /// The latest time to call `timeout`; `None` means never.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next connection that has output, or whose [`Flow`] changed.
    fn poll_wake(&mut self) -> Option<ConnId>;

    /// Appends output for a connection: about 64 KiB, more only if a single frame is longer.
    fn fill(&mut self, now: Instant, conn: ConnId, out: &mut Output) -> Flow;

    /// Takes back a buffer of [`Service::fill`] that is written, for reuse.
    fn reuse(&mut self, buffer: Vec<u8>) {
        drop(buffer);
    }

    /// Whether to read from a connection, for a caller that cannot call `fill` while it is still writing. Answers
    /// accumulate in the service meanwhile, so it bounds them with this.
    fn is_reading(&self, conn: ConnId) -> bool;

    /// Whether nothing will follow the pending output, for a caller that cannot call `fill`. The peer may never read
    /// that output, so it gets a bounded time.
    fn is_closing(&self, conn: ConnId) -> bool;

    /// Whether to close a connection at once, and drop its pending output.
    fn is_aborted(&self, _conn: ConnId) -> bool {
        false
    }

    /// The next connection to open.
    fn poll_dial(&mut self) -> Option<Dial> {
        None
    }

    /// The next datagram to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit>;

    /// Begins the shutdown: accepts nothing new, writes what is queued, and sends each session a BYE.
    fn shutdown(&mut self, now: Instant);

    /// Whether the [shutdown](Service::shutdown) is complete.
    fn is_finished(&self) -> bool;
}
