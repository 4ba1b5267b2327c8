//! How much a peer may say: a token bucket for each stream connection, and for each session on datagrams.
//!
//! Whatever comes costs: requests, refused ones, pings, verbs that nobody knows. Who has emptied its bucket on a stream
//! is not read for a while, and what was read already waits in the connection's backlog. Datagrams cannot be stopped:
//! they are refused (429), or where nobody waits for an answer looked at in vain; a repeat of what was done is dropped.

use std::time::{Duration, Instant};

use super::Server;
use super::conn::Held;
use crate::error::Refusal;
use crate::hub::rate::Rate;
use crate::hub::{Path, SessionKey};
use crate::service::{ConnId, DoorId, Peer};
use crate::wire::{Frame, Verb, prefix_of};

impl Server {
    /// How much each peer at a door may say.
    pub(super) fn rate_of(&self, door: DoorId) -> Rate {
        self.door(door).map_or(Rate::UNLIMITED, |door| door.rate)
    }
}

/// Streams.
impl Server {
    /// Takes the tokens for one frame, or line, of so many bytes that a stream connection has said. When the bucket is
    /// empty after it, nothing more is executed or read until there is a token again.
    pub(super) fn charge(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        let Some(bucket) = state.bucket.get_mut() else { return };
        bucket.take(now, bytes);
        // How much comes next is not known, but it is a message, and not an empty one.
        if let Some(at) = bucket.conforms_at(now, 1) {
            state.held = Some(Held::Until(at));
        }
    }

    /// Whether a frame costs tokens. An acknowledgement is an answer to what we have sent. A repeat was made because its
    /// request waited here for tokens: if it cost one as well, everything would wait the longer for it.
    pub(super) fn is_charged(&self, conn: ConnId, frame: &Frame<'_>) -> bool {
        let Some(state) = self.conns.get(conn).filter(|state| !state.bucket.get().is_unlimited()) else {
            return false;
        };
        let is_acknowledgement = frame.verb == Verb::Ack && frame.id.is_none();
        !is_acknowledgement && !state.session.is_some_and(|key| self.is_repeat(key, frame))
    }

    /// Whether the bucket holds the tokens for so many bytes of a frame, or a line; if not, the connection waits until it
    /// does. None is executed when enough was done in this turn.
    pub(super) fn affords_bytes(&mut self, now: Instant, conn: ConnId, bytes: usize) -> bool {
        if self.puts_off(now, conn) {
            return false;
        }
        let Some(state) = self.conns.get_mut(conn) else { return true };
        match state.bucket.get().conforms_at(now, bytes) {
            Some(at) => {
                state.held = Some(Held::Until(at));
                false
            }
            None => true,
        }
    }
}

/// Sessions on datagrams.
impl Server {
    /// Takes the tokens for a frame, if it came in a datagram. REG costs nothing: without it nothing else goes on.
    pub(super) fn charge_datagram(
        &mut self,
        now: Instant,
        key: SessionKey,
        frame: &Frame<'_>,
    ) -> Result<(), Refusal> {
        if frame.verb == Verb::Reg {
            return Ok(());
        }
        self.take_for_datagram(now, key, frame.encoded_len()).map_err(Refusal::slow_down)
    }

    fn take_for_datagram(&mut self, now: Instant, key: SessionKey, bytes: usize) -> Result<(), Duration> {
        match self.hub.get_mut(key) {
            Some(session) if !session.is_on_streams() => {
                session.bucket.get_mut().map_or(Ok(()), |bucket| bucket.take_conforming(now, bytes))
            }
            _ => Ok(()),
        }
    }

    /// How long until there are tokens for this frame.
    pub(super) fn wait_of(&self, now: Instant, key: SessionKey, frame: &Frame<'_>) -> Duration {
        self.hub
            .get(key)
            .map_or(Duration::ZERO, |session| session.bucket.get().wait(now, frame.encoded_len()))
    }

    /// A datagram that cannot be read costs the session that it is of, too: the one of its token, if it comes from that
    /// one's address, or the bare one of its address.
    pub(super) fn charge_malformed(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        let key = match prefix_of(bytes) {
            Some(token) => self.lookup.of_token(&self.hub, &token),
            None => self.lookup.bare_at(&self.hub, &peer),
        };
        let is_theirs = |key: &SessionKey| {
            self.hub
                .get(*key)
                .is_some_and(|session| matches!(session.path(), Path::Datagram(path) if path.peer == peer))
        };
        if let Some(key) = key.filter(is_theirs) {
            // Without a token there is nothing to take, and nobody to tell.
            let _ = self.take_for_datagram(now, key, bytes.len());
        }
    }
}
