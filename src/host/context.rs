//! What a handler does: it is handed a context with everything that happens.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::conn::Conn;
use super::flow::SendError;
use super::framing;
use super::scheduler::Piece;
use super::state::State;
use crate::door::{Door, Framing};
use crate::names::Name;
use crate::service::{ConnId, DialId, DoorId, Peer, Remote, Target, Transmit};

/// The longest payload of a datagram over IPv4, in bytes: 65,535 less the heads of IP and UDP.
const MAX_DATAGRAM: usize = 65_507;

/// What can be done, and looked at, when something happens.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) now: Instant,
    pub(super) state: &'a mut State,
}

/// Sending. What is sent is written once the callback has returned.
impl Context<'_> {
    /// Sends a piece: bytes as they are, or a message, line or frame, as the connection is cut. It is copied.
    ///
    /// # Errors
    ///
    /// There is no room for it, the connection is closed, or it would come out as something else.
    pub fn send(&mut self, conn: ConnId, piece: &[u8]) -> Result<(), SendError> {
        self.state.send(conn, piece, |framing, out| framing::put(framing, piece, out))
    }

    /// The same for bytes that others may hold, too: long ones (1 KiB and more) are not copied.
    ///
    /// # Errors
    ///
    /// As [`Context::send`].
    pub fn share(&mut self, conn: ConnId, piece: &Bytes) -> Result<(), SendError> {
        self.state.send(conn, piece, |framing, out| framing::share(framing, piece, out))
    }

    /// Sends pieces while there is room for another, and returns how many those were: the next of `pieces` was not taken.
    /// By one piece [`max_pending`](super::Settings::max_pending) may be exceeded.
    ///
    /// ```
    /// # use sayagain::host::{Context, SendError};
    /// # use sayagain::service::ConnId;
    /// # fn example(cx: &mut Context<'_>, conn: ConnId) -> Result<(), SendError> {
    /// let mut jobs = (0..1_000_000).map(|n: u32| n.to_be_bytes());
    /// let sent = cx.send_many(conn, &mut jobs)?; // and, once it has drained, again
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The connection is closed; or a piece would come out as something else, and those behind it were not taken.
    pub fn send_many<T: AsRef<[u8]>>(
        &mut self,
        conn: ConnId,
        pieces: &mut dyn Iterator<Item = T>,
    ) -> Result<usize, SendError> {
        self.state.send_many(conn, pieces)
    }

    /// Sends a datagram from one of our doors for those. It may be lost, here as anywhere.
    ///
    /// # Errors
    ///
    /// It is too long, or too many wait.
    pub fn send_to(&mut self, peer: Peer, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > MAX_DATAGRAM {
            return Err(SendError::TooLong);
        }
        self.state.transmit(Transmit { peer, bytes: bytes.to_vec() })
    }
}

/// Connections.
impl Context<'_> {
    /// Connects to somebody, who is told our name where it is a connection of messages. What comes of it is
    /// [`opened`](super::Handler::opened), where [`PeerInfo::dial`] says which it is, or [`failed`](super::Handler::failed);
    /// neither, if the engine ends before.
    pub fn connect(&mut self, to: Target, framing: Framing) -> DialId {
        self.state.dial(to, framing)
    }

    /// Closes a connection once everything is written to it. Nothing more of it is handed over.
    pub fn close(&mut self, conn: ConnId) {
        self.state.close(conn);
    }

    /// Closes a connection now, and drops what was to be written.
    pub fn abort(&mut self, conn: ConnId) {
        self.state.abort(conn);
    }

    /// Hands nothing more over from a connection, and soon reads nothing more from it, so that its peer has to wait.
    pub fn pause(&mut self, conn: ConnId) {
        self.state.pause(conn);
    }

    /// Goes on handing over, beginning with what was not used before.
    pub fn resume(&mut self, conn: ConnId) {
        self.state.resume(conn);
    }

    /// Cuts a connection in another way from now on: what comes next, and what is sent.
    pub fn set_framing(&mut self, conn: ConnId, framing: Framing) {
        self.state.set_framing(conn, framing);
    }

    /// Takes the first whole message, line or frame that is there, or all bytes that are not cut: for who overrides
    /// [`readable`](super::Handler::readable), or has paused the connection.
    pub fn recv(&mut self, conn: ConnId) -> Option<Bytes> {
        self.state.recv(conn)
    }

    /// Begins to end: connections are closed once everything is written, new ones at once.
    pub fn stop(&mut self) {
        self.state.is_stopping = true;
        for conn in self.conns().collect::<Vec<_>>() {
            self.state.close(conn);
        }
    }
}

/// What is known.
impl Context<'_> {
    /// What time it is: when whatever happened was seen.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Who the other end of a connection is; `None` if it is gone.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> Option<PeerInfo<'_>> {
        self.state.conns.get(conn).map(|conn| PeerInfo { conn, doors: &self.state.doors })
    }

    /// The connection of the peer that has this name. Names are found whatever their case, as in the chat.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ConnId> {
        let name = Name::parse(name.as_bytes()).ok()?;
        let conn = self.state.names.get(name.clash_keys().folded()).copied()?;
        // One that only looks like it has a key in common, too.
        let found = self.state.conns.get(conn)?.name.as_ref()?;
        (found.fold() == name.fold()).then_some(conn)
    }

    /// All connections, in the order of their places; those that have not said their name yet are among them.
    pub fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.state.conns.iter().map(|(conn, _)| conn)
    }

    /// How much is held, in bytes: of what was read and is not taken, and of what waits to be written.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        self.state.memory.held()
    }

    pub(super) fn next(&mut self, conn: ConnId) -> Option<Piece> {
        self.state.next(conn)
    }

    pub(super) fn give_back(&mut self, conn: ConnId, bytes: BytesMut, used: usize) -> bool {
        self.state.give_back(conn, bytes, used)
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerInfo<'a> {
    conn: &'a Conn,
    doors: &'a [Door],
}

impl<'a> PeerInfo<'a> {
    /// Its address, or its user and group on this machine.
    #[must_use]
    pub const fn remote(&self) -> Remote {
        self.conn.remote
    }

    /// The name that it has told and was let in under.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        self.conn.name.as_ref().map(Name::as_str)
    }

    /// Whether we have called it, or a rule expects its name.
    #[must_use]
    pub const fn expected(&self) -> bool {
        self.conn.expected
    }

    /// The door it knocked on; `None` if we have called it.
    #[must_use]
    pub const fn door_id(&self) -> Option<DoorId> {
        self.conn.door
    }

    /// What that door is called.
    #[must_use]
    pub fn door(&self) -> Option<&'a str> {
        self.doors.get(self.conn.door?).map(|door| door.name.as_str())
    }

    /// Which of our calls it has answered.
    #[must_use]
    pub const fn dial(&self) -> Option<DialId> {
        self.conn.dial
    }

    /// How the connection is cut.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.conn.framing
    }

    /// How many bytes wait to be written to it, or are being written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.conn.pending()
    }

    /// How many bytes were read of it and are not taken.
    #[must_use]
    pub fn held(&self) -> usize {
        self.conn.held.len()
    }
}
