//! The actions of a handler: every callback gets a context to send, close and connect with.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::conn::Conn;
use super::flow::SendError;
use super::framing;
use super::scheduler::Piece;
use super::state::HostState;
use crate::listener::{Framing, Listener};
use crate::names::Name;
use crate::service::{ConnId, DialId, ListenerId, Peer, Remote, Target, Transmit};

/// The longest payload of a datagram over IPv4, in bytes: 65,535 less the heads of IP and UDP.
const MAX_DATAGRAM: usize = 65_507;

/// Access to the host's connections during a callback.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) now: Instant,
    pub(super) state: &'a mut HostState,
}

/// Sending. Output is written after the callback returns.
impl Context<'_> {
    /// Sends a piece: bytes as they are, or a message, line or frame, depending on the framing. The piece is copied.
    ///
    /// # Errors
    ///
    /// The queue or memory is full, the connection is closed, or the piece does not fit the framing.
    pub fn send(&mut self, conn: ConnId, piece: &[u8]) -> Result<(), SendError> {
        self.state.send(conn, piece, |framing, out| framing::put(framing, piece, out))
    }

    /// Sends a piece that may be shared: 1 KiB and more are not copied.
    ///
    /// # Errors
    ///
    /// As [`Context::send`].
    pub fn share(&mut self, conn: ConnId, piece: &Bytes) -> Result<(), SendError> {
        self.state.send(conn, piece, |framing, out| framing::share(framing, piece, out))
    }

    /// Sends pieces while there is room, and returns their number; the next one of `pieces` is not consumed. The last
    /// piece may exceed [`max_pending`](super::Settings::max_pending).
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
    /// The connection is closed; or a piece does not fit the framing, and the pieces after it were not consumed.
    pub fn send_many<T: AsRef<[u8]>>(
        &mut self,
        conn: ConnId,
        pieces: &mut dyn Iterator<Item = T>,
    ) -> Result<usize, SendError> {
        self.state.send_many(conn, pieces)
    }

    /// Sends a datagram from one of our datagram listeners. It may be lost.
    ///
    /// # Errors
    ///
    /// The datagram is too long, or too many are queued.
    pub fn send_to(&mut self, peer: Peer, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > MAX_DATAGRAM {
            return Err(SendError::TooLong);
        }
        self.state.transmit(Transmit { peer, bytes: bytes.to_vec() })
    }
}

/// Connections.
impl Context<'_> {
    /// Opens a connection; a connection of messages sends our name. The result is [`opened`](super::Handler::opened),
    /// with the attempt in [`PeerInfo::dial`], or [`failed`](super::Handler::failed); neither if the engine stops
    /// first.
    pub fn connect(&mut self, to: Target, framing: Framing) -> DialId {
        self.state.dials.request(to, framing)
    }

    /// Closes a connection once everything is written. Its input is discarded from now on.
    pub fn close(&mut self, conn: ConnId) {
        self.state.close(conn);
    }

    /// Closes a connection now, and drops its pending output.
    pub fn abort(&mut self, conn: ConnId) {
        self.state.abort(conn);
    }

    /// Stops passing a connection's input to the handler, and soon stops reading it, so that its peer's writes block.
    pub fn pause(&mut self, conn: ConnId) {
        self.state.pause(conn);
    }

    /// Resumes a paused connection, beginning with unused bytes.
    pub fn resume(&mut self, conn: ConnId) {
        self.state.resume(conn);
    }

    /// Keeps a connection for an answer that comes later, such as the result of a thread. If the peer closes its side,
    /// [`ended`](super::Handler::ended) and the close wait for [`Context::release`]. Input is passed on meanwhile,
    /// unlike after [`Context::pause`]. Holds are counted: each takes one release.
    ///
    /// A hold bounds nothing by itself. Once the peer has closed its side, an engine waits a minute at most after the
    /// last output or release, and ten minutes in all.
    ///
    /// ```
    /// # use sayagain::host::{Context, Handler};
    /// # use sayagain::service::ConnId;
    /// # struct Worker;
    /// # impl Worker { fn start(&self, _: ConnId, _: &[u8]) {} }
    /// # impl Handler for Worker {
    /// fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: bytes::Bytes) {
    ///     cx.hold(conn);
    ///     self.start(conn, &message); // a thread, which calls `done` by `EngineHandle::with`
    /// }
    /// # }
    /// fn done(cx: &mut Context<'_>, conn: ConnId, answer: &[u8]) {
    ///     let _ = cx.send(conn, answer);
    ///     cx.release(conn);
    /// }
    /// ```
    pub fn hold(&mut self, conn: ConnId) {
        self.state.hold(conn);
    }

    /// Ends a [hold](Context::hold). After the last one, a connection whose peer has closed its side is closed once
    /// everything is written.
    pub fn release(&mut self, conn: ConnId) {
        self.state.release(conn);
    }

    /// Changes the framing of later input and output.
    pub fn set_framing(&mut self, conn: ConnId, framing: Framing) {
        self.state.set_framing(conn, framing);
    }

    /// Takes the first whole message, line or frame, or all unframed bytes. For handlers that override
    /// [`readable`](super::Handler::readable), and for paused connections.
    pub fn recv(&mut self, conn: ConnId) -> Option<Bytes> {
        self.state.recv(conn)
    }

    /// Shuts down: closes each connection once everything is written, and new ones at once.
    pub fn stop(&mut self) {
        self.state.is_stopping = true;
        for conn in self.conns().collect::<Vec<_>>() {
            self.state.close(conn);
        }
    }
}

/// Queries.
impl Context<'_> {
    /// The time at which the engine saw the current event.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The other end of a connection; `None` if the connection is closed. During
    /// [`closed`](super::Handler::closed), the other end of the connection that was closed.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> Option<PeerInfo<'_>> {
        self.state.peer(conn)
    }

    /// The connection of the peer with this name. Case does not matter, as in the chat.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ConnId> {
        self.state.find(name)
    }

    /// All connections, in the order of their places, including those whose handshake is not complete.
    pub fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.state.conns.iter().map(|(conn, _)| conn)
    }

    /// Memory held, in bytes: of input that was not taken, and of output that is not written.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        self.state.memory.held()
    }

    /// Closes a connection whose input has no callback in the handler.
    pub(super) fn close_unhandled(&mut self, conn: ConnId, callback: &str) {
        if let Some(peer) = self.peer(conn).filter(|peer| peer.conn.is_open()) {
            let (remote, framing) = (peer.remote(), peer.framing());
            log::warn!(
                "{remote}: closed: the handler has no `{callback}`, which input with the framing {framing:?} is passed \
                 to (write it, or listen with another scheme)"
            );
        }
        self.state.close(conn);
    }

    pub(super) fn next(&mut self, conn: ConnId) -> Option<Piece> {
        self.state.next(conn)
    }

    pub(super) fn give_back(&mut self, conn: ConnId, bytes: BytesMut, used: usize) -> bool {
        self.state.give_back(conn, bytes, used)
    }
}

/// Queries, without a context.
impl HostState {
    pub(super) fn peer(&self, id: ConnId) -> Option<PeerInfo<'_>> {
        let gone = || self.gone.as_ref().filter(|(gone, _)| *gone == id).map(|(_, conn)| conn);
        let conn = self.conns.get(id).or_else(gone)?;
        Some(PeerInfo { conn, listeners: &self.listeners })
    }

    pub(super) fn find(&self, name: &str) -> Option<ConnId> {
        let name = Name::parse(name.as_bytes()).ok()?;
        let conn = self.names.get(name.clash_keys().folded()).copied()?;
        // A look-alike shares the key, too.
        let found = self.conns.get(conn)?.name.as_ref()?;
        (found.fold() == name.fold()).then_some(conn)
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerInfo<'a> {
    conn: &'a Conn,
    listeners: &'a [Listener],
}

impl<'a> PeerInfo<'a> {
    /// Its address, or its user and group on this machine.
    #[must_use]
    pub const fn remote(&self) -> Remote {
        self.conn.remote
    }

    /// The name from the handshake.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        self.conn.name.as_ref().map(Name::as_str)
    }

    /// Whether we opened the connection, or a rule expects the name.
    #[must_use]
    pub const fn expected(&self) -> bool {
        self.conn.expected
    }

    /// The listener that accepted it; `None` if we opened it.
    #[must_use]
    pub const fn listener_id(&self) -> Option<ListenerId> {
        self.conn.listener
    }

    /// The name of that listener.
    #[must_use]
    pub fn listener(&self) -> Option<&'a str> {
        self.listeners.get(self.conn.listener?).map(|listener| listener.name.as_str())
    }

    /// The attempt that opened it; `None` if it was accepted.
    #[must_use]
    pub const fn dial(&self) -> Option<DialId> {
        self.conn.dial
    }

    /// The framing of its stream.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.conn.framing
    }

    /// Bytes of output that are queued or being written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.conn.pending()
    }

    /// Bytes of input that were not taken.
    #[must_use]
    pub fn held(&self) -> usize {
        self.conn.held.len()
    }
}
