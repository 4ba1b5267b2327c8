//! How much a peer may say: a token bucket for each stream connection, and for each session on datagrams; where a listener
//! asks for it, also one for each host (`host_rates`). A frame takes its tokens out of both.
//!
//! Whatever comes costs: requests, refused ones, pings, verbs that nobody knows. Who has emptied its bucket on a stream
//! is not read for a while, and what was read already waits in the connection's backlog. Datagrams cannot be stopped:
//! they are refused (429), or where nobody waits for an answer looked at in vain; a repeat of what was done is dropped.
//!
//! Over UDP, what comes from an address that has proven nothing is free: it is answered without any state, and anybody could
//! send it in the name of another host, whose tokens it would take.

use std::time::{Duration, Instant};

use super::Server;
use super::conn::{ReadPause, StreamConn};
use super::host_rates::HostTokens;
use crate::error::Refusal;
use crate::hub::{Path, SessionKey};
use crate::rates::Rate;
use crate::service::{ConnId, DoorId, Origin, Peer};
use crate::units::later;
use crate::wire::{Frame, RegArgs, Verb, prefix_of};

impl Server {
    /// How much each peer at a door may say.
    pub(super) fn rate_of(&self, door: DoorId) -> Rate {
        self.door(door).map_or(Rate::UNLIMITED, |door| door.rate)
    }
}

/// Streams.
impl Server {
    /// Takes the tokens for one frame, or line, of so many bytes that a stream connection has said. When its own bucket is
    /// empty after it, nothing more is executed or read until there is a token again.
    pub(super) fn charge(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        let origin = state.origin();
        let Some(limits) = state.limits.get_mut() else { return };
        limits.bucket.take(now, bytes);
        // How much comes next is not known, but it is a message, and not an empty one.
        if let Some(at) = limits.bucket.conforms_at(now, 1) {
            state.held = Some(ReadPause::Until(at));
        }
        match limits.host_tokens {
            HostTokens::Unlimited => {}
            HostTokens::Reserved => limits.host_tokens = HostTokens::PerFrame,
            HostTokens::PerFrame => self.take_of_host(now, &origin, bytes),
        }
    }

    /// Whether a frame costs tokens. An acknowledgement is an answer to what we have sent. A repeat was made because its
    /// request waited here for tokens: if it cost one as well, everything would wait the longer for it.
    pub(super) fn is_charged(&self, conn: ConnId, frame: &Frame<'_>) -> bool {
        let Some(state) = self.conns.get(conn).filter(|state| state.is_limited()) else {
            return false;
        };
        let is_acknowledgement = frame.verb == Verb::Ack && frame.id.is_none();
        !is_acknowledgement && !state.session.is_some_and(|key| self.is_repeat(key, frame))
    }

    /// Whether the buckets hold the tokens for so many bytes of a frame, or a line; if not, the connection waits until they
    /// do. None is executed when enough was done in this turn.
    pub(super) fn affords_bytes(&mut self, now: Instant, conn: ConnId, bytes: usize) -> bool {
        if self.puts_off(now, conn) {
            return false;
        }
        let Some(state) = self.conns.get(conn) else { return true };
        let own = state.limits.get().bucket.conforms_at(now, bytes);
        let at = own.or_else(|| self.reserve_frame(now, conn, bytes));
        if let Some(state) = self.conns.get_mut(conn).filter(|_| at.is_some()) {
            state.held = at.map(ReadPause::Until);
        }
        at.is_none()
    }

    /// Reserves the tokens of a connection's next frame in its host's bucket, if it has to wait for them, and returns until
    /// when. All connections of a host wait for one bucket: with a reservation each of them is woken once per frame, in the
    /// order in which they began to wait.
    fn reserve_frame(&mut self, now: Instant, conn: ConnId, bytes: usize) -> Option<Instant> {
        let is_charged = |state: &&StreamConn| state.limits.get().host_tokens == HostTokens::PerFrame;
        let origin = self.conns.get(conn).filter(is_charged)?.origin();
        let wait = self.reserve_of_host(now, &origin, bytes)?;
        self.conns.get_mut(conn)?.limits.get_mut()?.host_tokens = HostTokens::Reserved;
        Some(later(now, wait))
    }
}

/// Sessions on datagrams.
impl Server {
    /// Takes the tokens for a frame, if it came in a datagram.
    pub(super) fn charge_datagram(
        &mut self,
        now: Instant,
        key: SessionKey,
        frame: &Frame<'_>,
    ) -> Result<(), Refusal> {
        self.take_for_datagram(now, key, frame.encoded_len()).map_err(Refusal::slow_down)
    }

    fn take_for_datagram(&mut self, now: Instant, key: SessionKey, bytes: usize) -> Result<(), Duration> {
        let Some(session) = self.hub.get(key).filter(|session| !session.is_on_streams()) else {
            return Ok(());
        };
        let origin = session.origin();
        if session.bucket.get().is_unlimited() && self.host_rate(&origin).is_none() {
            return Ok(());
        }
        self.take_both(now, Some(key), &origin, bytes)
    }

    /// Takes the tokens for so many bytes out of the bucket of a session, if there is one, and of the host that they came
    /// from: out of both or, if one of them lacks some, out of neither.
    fn take_both(
        &mut self,
        now: Instant,
        key: Option<SessionKey>,
        origin: &Origin,
        bytes: usize,
    ) -> Result<(), Duration> {
        let wait = self.wait_for_both(now, key, origin, bytes);
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(bucket) = key.and_then(|key| self.hub.get_mut(key)).and_then(|s| s.bucket.get_mut()) {
            bucket.take(now, bytes);
        }
        self.take_of_host(now, origin, bytes);
        Ok(())
    }

    fn wait_for_both(
        &self,
        now: Instant,
        key: Option<SessionKey>,
        origin: &Origin,
        bytes: usize,
    ) -> Duration {
        let session = key.and_then(|key| self.hub.get(key));
        let own = session.map_or(Duration::ZERO, |session| session.bucket.get().wait(now, bytes));
        own.max(self.host_wait(now, origin, bytes))
    }

    /// How long until there are tokens for this frame.
    pub(super) fn wait_of(&self, now: Instant, key: SessionKey, frame: &Frame<'_>) -> Duration {
        self.hub.get(key).map_or(Duration::ZERO, |session| {
            self.wait_for_both(now, Some(key), &session.origin(), frame.encoded_len())
        })
    }

    /// Takes the tokens for a REG from a proven address: out of the bucket of its host and, if it is of a session that
    /// lives, of that one's. Without them it is to be dropped: a client takes a refusal of its REG for final.
    pub(super) fn affords_reg(&mut self, now: Instant, origin: &Origin, frame: &Frame<'_>) -> bool {
        let session = match RegArgs::parse(frame.args()) {
            Some(RegArgs::Open { nonce, .. }) => self.lookup.of_nonce(&self.hub, &nonce),
            Some(RegArgs::Resume { token, .. }) => self.lookup.of_token(&self.hub, &token),
            Some(RegArgs::Name(_)) | None => None,
        };
        let on_datagrams = |key: &SessionKey| self.hub.get(*key).is_some_and(|s| !s.is_on_streams());
        let session = session.filter(on_datagrams);
        self.take_both(now, session, origin, frame.encoded_len()).is_ok()
    }

    /// Takes the tokens for the REG of a peer that needs no proof and has no session, out of the bucket of its host.
    pub(super) fn charge_bare_reg(
        &mut self,
        now: Instant,
        origin: &Origin,
        frame: &Frame<'_>,
    ) -> Result<(), Refusal> {
        self.take_both(now, None, origin, frame.encoded_len()).map_err(Refusal::slow_down)
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
