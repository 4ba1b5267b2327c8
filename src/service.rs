//! What an engine drives: the seam between what moves bytes (`net/`, the simulator) and what decides (`server`).
//!
//! A [`Service`] has two halves. [`Service::Conn`] belongs to one connection and is called without a lock: it turns
//! bytes into a batch. The service itself is one plain `&mut` state machine behind one lock, called once per batch.
//! Neither knows sockets, clocks or threads. The contract for whoever drives it:
//!
//! 1. Hand in what happened: `opened`, `received`, `ended` when a peer has closed its own side only, `datagram`,
//!    `drained`, `closed`, and `timeout` once the instant that `poll_timeout` named has come. A spurious `timeout` is
//!    harmless.
//! 2. Then, until all say `None`: send what `poll_transmit` gives, begin to make the connections that `poll_dial` asks
//!    for, and for each connection that `poll_wake` names call `fill` and write what it appended. One that `is_aborted`
//!    is closed instead.
//! 3. Call `drained` when that is written, each time, and then `fill` again if [`Flow::more`] was set. Read from the
//!    connection only while [`Flow::reading`] is set. When [`Flow::closing`] is set and all is written, shut the
//!    connection down for writing, discard what still comes for a bounded time, and close it. Where a write still waits
//!    and `fill` cannot be called, ask `is_reading` after `received`, and both `is_reading` and `is_closing` when
//!    `poll_wake` names the connection.
//! 4. Wait for the next byte, datagram or the deadline of `poll_timeout`, whichever comes first.

use std::fmt::{self, Debug};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use crate::output::Output;

/// Names a stream connection; given by the engine, never given twice. Its low half is a place, which is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The connection that is the `serial`-th to have this place.
    #[must_use]
    pub const fn new(place: u32, serial: u32) -> Self {
        Self((serial as u64) << 32 | place as u64)
    }

    /// Its place among the connections that live now.
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

    /// How many had the place before it.
    #[must_use]
    pub const fn serial(self) -> u64 {
        self.0 >> 32
    }
}

/// Which of a server's listening sockets, by its ordinal among all of them: what it speaks is in
/// [`ServerConfig::doors`](crate::config::ServerConfig::doors).
pub type DoorId = usize;

/// Where a stream connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The door it knocked on.
    pub door: DoorId,
    /// Who knocked.
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

/// A peer that sends datagrams: which of the server's sockets receives them, and the addresses of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The listener that receives them.
    pub door: DoorId,
    /// The address that the datagrams come from.
    pub addr: SocketAddr,
    /// The address that they are sent to, and that answers leave from. `None` where the listener has one address only, or
    /// the system does not tell.
    pub local: Option<IpAddr>,
}

impl Peer {
    /// A peer of a listener that has one address only.
    #[must_use]
    pub const fn new(door: DoorId, addr: SocketAddr) -> Self {
        Self { door, addr, local: None }
    }
}

/// Names an attempt to connect that a service asked for; given by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// A connection that a service wants to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// What the service calls the attempt.
    pub id: DialId,
    /// Where to.
    pub to: Target,
}

/// Where somebody listens for stream connections.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A TCP port.
    Tcp {
        /// A name or an address; the addresses of a name are tried in turn.
        host: String,
        /// Which port.
        port: u16,
    },
    /// A UNIX socket of this machine.
    Unix {
        /// Its file.
        path: PathBuf,
    },
}

/// How a connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The peer has made it, at one of our doors.
    Accepted(Origin),
    /// The service has asked for it, and this is who was there.
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

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The service has closed it.
    Asked,
    /// The peer has closed its side, and has got what was due to it.
    Peer,
    /// It was reset, or could not be read or written any more.
    Lost,
    /// The peer did not take what was to be written, or not end, in time.
    TimedOut,
    /// The peer's system has not answered for so long that it counts as gone.
    Unreachable,
    /// The peer broke the framing, or a limit that the service has set.
    Broken,
    /// The engine has ended.
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

/// A datagram that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to, and from which socket.
    pub peer: Peer,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// How a connection goes on after [`Service::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// More is waiting: call `fill` again once what it appended is written.
    pub more: bool,
    /// Whether to read from the connection.
    pub reading: bool,
    /// Nothing will follow: close it once everything is written.
    pub closing: bool,
    /// Input that came in waits for its turn: a connection whose peer has ended its side is kept until it had it.
    pub busy: bool,
}

/// The half of a service that belongs to one connection and is called without the lock.
pub trait Decoder: Send + Debug {
    /// What a piece of input becomes. It may borrow from that, so that what is executed at once is not copied.
    type Batch<'a>
    where
        Self: 'a;

    /// Most bytes to read at once. What was read and has to wait takes memory here; what was not, its sender keeps.
    fn max_read(&self) -> usize {
        usize::MAX
    }

    /// Takes in bytes that arrived at `now`, in order.
    fn received<'a>(&'a mut self, now: Instant, bytes: &'a [u8]) -> Self::Batch<'a>;

    /// Lets go of what it keeps: the connection is about to be closed, and what still comes is discarded.
    fn abandon(&mut self) {}
}

/// A server, or anything else with connections, without a socket.
pub trait Service: Send + Debug {
    /// The half of it that belongs to one connection.
    type Conn: Decoder;

    /// The driver has taken the lock that the service is behind: what it hands in until the next call of this is one hold,
    /// and the service bounds its work for all of that together. A driver that never calls this has each call bounded by
    /// itself.
    fn begin_hold(&mut self) {}

    /// Whether this hold has done as much as it should. A driver that has more datagrams hands them in in another hold.
    fn is_spent(&self) -> bool {
        false
    }

    /// There is a stream connection: it was accepted, or the service has asked for it by `poll_dial`.
    fn opened(&mut self, now: Instant, conn: ConnId, arrival: Arrival) -> Self::Conn;

    /// A connection that the service has asked for could not be made.
    fn dial_failed(&mut self, _now: Instant, _dial: DialId, _error: &io::Error) {}

    /// A connection's [`Decoder`] has made a batch.
    fn received(&mut self, now: Instant, conn: ConnId, batch: <Self::Conn as Decoder>::Batch<'_>);

    /// Nothing more comes from a connection whose peer may still read: behind the last `received`, and before the `fill`
    /// whose [`Flow::busy`] says whether to keep the connection. To most services it makes no difference.
    fn ended(&mut self, _now: Instant, _conn: ConnId) {}

    /// A datagram came in.
    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]);

    /// Everything that `fill` gave for this connection is written.
    fn drained(&mut self, now: Instant, conn: ConnId);

    /// The connection is gone. It is not named again.
    fn closed(&mut self, now: Instant, conn: ConnId, why: CloseReason);

    /// Time has passed.
    fn timeout(&mut self, now: Instant);

    /// When `timeout` is to be called at the latest; `None` means never.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next connection that has output, or whose [`Flow`] changed.
    fn poll_wake(&mut self) -> Option<ConnId>;

    /// Appends output for a connection: about 64 KiB, more only if a single frame is longer.
    fn fill(&mut self, now: Instant, conn: ConnId, out: &mut Output) -> Flow;

    /// A buffer that [`Service::fill`] gave is written, and may be filled again.
    fn reuse(&mut self, buffer: Vec<u8>) {
        drop(buffer);
    }

    /// Whether to read from a connection, for a driver that cannot call `fill` because it is still writing what the
    /// last call gave: the service holds answers meanwhile, and is to hold no more than it can bear.
    fn is_reading(&self, conn: ConnId) -> bool;

    /// Whether nothing will follow what is still to be written, for a driver that cannot call `fill`: the peer may never
    /// read it, and is given a bounded time.
    fn is_closing(&self, conn: ConnId) -> bool;

    /// Whether to close a connection at once, with what is still to be written.
    fn is_aborted(&self, _conn: ConnId) -> bool {
        false
    }

    /// The next connection to make.
    fn poll_dial(&mut self) -> Option<Dial> {
        None
    }

    /// The next datagram to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit>;

    /// Begins to end: nothing new is taken, what is queued goes out, everybody is told goodbye.
    fn shutdown(&mut self, now: Instant);

    /// Whether the end that [`Service::shutdown`] began is complete.
    fn is_finished(&self) -> bool;
}
