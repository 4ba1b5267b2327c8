//! [`Service`]: the interface between what moves bytes (`net/`, the simulator) and what decides (`server`, `host`).
//!
//! It is for programs with an engine of their own, or a protocol that needs more than a
//! [`Handler`](crate::host::Handler). It is the step between the sockets and all state machines of the data path.
//!
//! A service has two halves. [`Service::Conn`] belongs to one connection and is called without a lock: it turns bytes
//! into a batch. The service itself is one plain `&mut` state machine behind one lock, called once per batch. Neither
//! knows sockets, clocks or threads. The contract of a driver:
//!
//! 1. Hand in what happened: `opened`, `received`, `ended` when a peer has closed its own side only, `datagram`,
//!    `drained`, `closed`, and `timeout` once the instant that `poll_timeout` named has come. A spurious `timeout` is
//!    harmless.
//! 2. Then, until all return `None`: send what `poll_transmit` returns, and begin to make the connections that
//!    `poll_dial` asks for. For each connection that `poll_wake` names, call `fill` and write what it appended. A
//!    connection that `is_aborted` is closed instead.
//! 3. Call `drained` when that is written, each time, and then `fill` again if [`Flow::more`] was set. Read from the
//!    connection only while [`Flow::reading`] is set. When [`Flow::closing`] is set and all is written, shut the
//!    connection down for writing, discard further input for a bounded time, and close it. Where a write still waits
//!    and `fill` cannot be called, ask `is_reading` after `received`, and both `is_reading` and `is_closing` when
//!    `poll_wake` names the connection.
//! 4. Wait for the next byte, datagram or the deadline of `poll_timeout`, whichever comes first.
//!
//! A driver's part for datagrams, of any service:
//!
//! ```
//! use std::time::Instant;
//! use sayagain::service::{Peer, Service, Transmit};
//!
//! fn pass(service: &mut impl Service, now: Instant, peer: Peer, datagram: &[u8]) -> Vec<Transmit> {
//!     service.datagram(now, peer, datagram); // 1
//!     std::iter::from_fn(|| service.poll_transmit(now)).collect() // 2
//! }
//! # use rand::{SeedableRng as _, rngs::StdRng};
//! # let now = Instant::now();
//! # let keys = Box::new(StdRng::seed_from_u64(1));
//! # let mut server = sayagain::server::Server::new(now, sayagain::config::ServerConfig::default(), keys);
//! # let peer = Peer::new(0, "192.0.2.1:4000".parse()?);
//! # assert_eq!(pass(&mut server, now, peer, b"@1 PNG 0000").len(), 1);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

use std::fmt::{self, Debug};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use crate::output::Output;

/// Identifies a stream connection; assigned by the engine, never reused. Its low half is a slot, which is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// Makes the id of the `serial`-th connection in this slot.
    #[must_use]
    pub const fn new(place: u32, serial: u32) -> Self {
        Self((serial as u64) << 32 | place as u64)
    }

    /// Returns its slot among the open connections.
    #[doc(hidden)]
    #[must_use]
    pub const fn place(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// Returns slot and serial.
    #[doc(hidden)]
    #[must_use]
    pub const fn halves(self) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.0.to_be_bytes();
        (u32::from_be_bytes([e, f, g, h]), u32::from_be_bytes([a, b, c, d]))
    }

    /// Returns how many connections had the slot before it.
    #[doc(hidden)]
    #[must_use]
    pub const fn serial(self) -> u64 {
        self.0 >> 32
    }
}

/// Identifies one of a server's listening sockets, by its ordinal among all of them. Its protocol is in
/// [`ServerConfig::listeners`](crate::config::ServerConfig::listeners).
pub type ListenerId = usize;

/// The origin of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// The peer's address.
    pub from: Remote,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A peer that sends datagrams: the server's socket that receives them, and the addresses of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The listener that receives the datagrams.
    pub listener: ListenerId,
    /// The address that the datagrams come from.
    pub addr: SocketAddr,
    /// The address that they are sent to, and that answers leave from. `None` where the listener has one address only,
    /// or the system does not report it.
    pub local: Option<IpAddr>,
}

impl Peer {
    /// Makes a peer of a listener that has one address only.
    #[must_use]
    pub const fn new(listener: ListenerId, addr: SocketAddr) -> Self {
        Self { listener, addr, local: None }
    }
}

/// Identifies an attempt to connect that a service asked for; assigned by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// A connection that a service asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The service's id of the attempt.
    pub id: DialId,
    /// The address to connect to.
    pub to: Target,
}

/// The address of a listener for stream connections.
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

/// The origin of a connection: accepted, or dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The peer connected to one of the server's listeners.
    Accepted(Origin),
    /// The service asked for it; this is the address that answered.
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

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The service closed it.
    Asked,
    /// The peer closed its side after it was sent everything.
    Peer,
    /// It was reset, or a read or write failed.
    Lost,
    /// The peer did not read, or did not end, in time.
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

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The destination, and the socket to send from.
    pub peer: Peer,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The next step for a connection after [`Service::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// More output is waiting: call `fill` again once the appended output is written.
    pub more: bool,
    /// Whether to read from the connection.
    pub reading: bool,
    /// Nothing follows: close it once everything is written.
    pub closing: bool,
    /// Input waits for execution: a connection whose peer has ended its side is kept until it is done.
    pub busy: bool,
}

/// The half of a service that belongs to one connection and is called without the lock.
pub trait Decoder: Send + Debug {
    /// A decoded piece of input. It may borrow from the input, so that what is executed at once is not copied.
    type Batch<'a>
    where
        Self: 'a;

    /// Returns the most bytes to read at once. Input that was read and has to wait takes memory here; unread input
    /// waits at its sender.
    fn max_read(&self) -> usize {
        usize::MAX
    }

    /// Takes bytes that arrived at `now`, in order.
    fn received<'a>(&'a mut self, now: Instant, bytes: &'a [u8]) -> Self::Batch<'a>;

    /// Frees what it keeps: the connection is about to be closed, and further input is discarded.
    fn abandon(&mut self) {}
}

/// A server, or any other user of connections, without a socket.
pub trait Service: Send + Debug {
    /// The per-connection half.
    type Conn: Decoder;

    /// The driver has taken the lock of the service. Its calls until the next one of this are one hold, and the service
    /// bounds its work over all of them. Without any call of this, each call is bounded by itself.
    #[doc(hidden)]
    fn begin_hold(&mut self) {}

    /// Whether this hold has done as much work as it may. A driver hands further datagrams in in another hold.
    #[doc(hidden)]
    fn is_spent(&self) -> bool {
        false
    }

    /// A stream connection was accepted, or made as the service asked by `poll_dial`.
    fn opened(&mut self, now: Instant, conn: ConnId, arrival: Arrival) -> Self::Conn;

    /// A connection that the service asked for could not be made.
    fn dial_failed(&mut self, _now: Instant, _dial: DialId, _error: &io::Error) {}

    /// A connection's [`Decoder`] has made a batch.
    fn received(&mut self, now: Instant, conn: ConnId, batch: <Self::Conn as Decoder>::Batch<'_>);

    /// A connection's input has ended, but its peer may still read. Comes after the last `received`, and before the
    /// `fill` whose [`Flow::busy`] says whether to keep the connection. Most services ignore it.
    fn ended(&mut self, _now: Instant, _conn: ConnId) {}

    /// A datagram has arrived.
    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]);

    /// All output of `fill` for this connection is written.
    fn drained(&mut self, now: Instant, conn: ConnId);

    /// The connection is gone. Its id is not used again.
    fn closed(&mut self, now: Instant, conn: ConnId, why: CloseReason);

    /// A deadline has passed.
    fn timeout(&mut self, now: Instant);

    /// Returns when `timeout` is to be called at the latest; `None` means never.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Returns the next connection that has output, or whose [`Flow`] changed.
    fn poll_wake(&mut self) -> Option<ConnId>;

    /// Appends output for a connection: about 64 KiB, more only if a single frame is longer.
    fn fill(&mut self, now: Instant, conn: ConnId, out: &mut Output) -> Flow;

    /// Takes back a written buffer of [`Service::fill`], which may be filled again.
    #[doc(hidden)]
    fn reuse(&mut self, buffer: Vec<u8>) {
        drop(buffer);
    }

    /// Whether to read from a connection, for a driver that is still writing and cannot call `fill`. The service bounds
    /// the answers that it holds meanwhile.
    fn is_reading(&self, conn: ConnId) -> bool;

    /// Whether nothing follows the output that is still to be written, for a driver that cannot call `fill`. The peer
    /// may never read it, and gets a bounded time.
    fn is_closing(&self, conn: ConnId) -> bool;

    /// Whether to close a connection at once, and drop the output that is still to be written.
    fn is_aborted(&self, _conn: ConnId) -> bool {
        false
    }

    /// Returns the next connection to make.
    fn poll_dial(&mut self) -> Option<Dial> {
        None
    }

    /// Returns the next datagram to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit>;

    /// Begins to drain: takes nothing new, sends what is queued, and sends BYE to every session.
    fn shutdown(&mut self, now: Instant);

    /// Whether the shutdown is complete.
    fn is_finished(&self) -> bool;
}
