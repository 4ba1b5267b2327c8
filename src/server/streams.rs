//! The stream connections of a server, and which of them have output.
//!
//! The state of one connection is in `conn`; its input is executed in `stream`, its output is written in `fill`.

use std::collections::VecDeque;

use super::conn::StreamConn;
use crate::conn_map::ConnMap;
use crate::hub::SessionKey;
use crate::service::{ConnId, Origin};

/// All stream connections.
#[derive(Debug, Default)]
pub(super) struct Streams {
    conns: ConnMap<StreamConn>,
    /// Connections that have output, in the order in which they got it. Each is marked, and so listed once.
    woken: VecDeque<ConnId>,
}

impl Streams {
    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&StreamConn> {
        self.conns.get(conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut StreamConn> {
        self.conns.get_mut(conn)
    }

    /// Returns a connection that is not closing.
    pub(super) fn open(&self, conn: ConnId) -> Option<&StreamConn> {
        self.conns.get(conn).filter(|state| !state.is_closing())
    }

    /// Returns a connection that is not closing, to change.
    pub(super) fn open_mut(&mut self, conn: ConnId) -> Option<&mut StreamConn> {
        self.conns.get_mut(conn).filter(|state| !state.is_closing())
    }

    /// Returns the session that a connection carries.
    pub(super) fn session(&self, conn: ConnId) -> Option<SessionKey> {
        self.conns.get(conn)?.session()
    }

    /// Returns a connection's peer and listener.
    pub(super) fn origin(&self, conn: ConnId) -> Option<Origin> {
        self.conns.get(conn).map(StreamConn::origin)
    }

    pub(super) fn insert(&mut self, conn: ConnId, state: StreamConn) {
        self.conns.insert(conn, state);
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<StreamConn> {
        self.conns.remove(conn)
    }

    /// The number of slots: the slot of each connection is below it.
    pub(super) fn slots(&self) -> usize {
        self.conns.slots()
    }

    /// Returns the connection in a slot, if it carries no session and is not closing.
    pub(super) fn unregistered_at(&self, slot: usize) -> Option<(ConnId, &StreamConn)> {
        self.conns.at(slot).filter(|(_, state)| state.session().is_none() && !state.is_closing())
    }

    /// Records that a connection has output.
    pub(super) fn wake(&mut self, conn: ConnId) {
        if self.conns.get_mut(conn).is_some_and(StreamConn::mark_woken) {
            self.woken.push_back(conn);
        }
    }

    /// Takes the next connection that has output.
    pub(super) fn pop_woken(&mut self) -> Option<ConnId> {
        let conn = self.woken.pop_front()?;
        if let Some(state) = self.conns.get_mut(conn) {
            state.unmark_woken();
        }
        Some(conn)
    }

    /// Whether a connection has output that [`Streams::pop_woken`] has not returned yet.
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }
}
