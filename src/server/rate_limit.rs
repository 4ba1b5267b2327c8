//! Rate limits: a token bucket for each stream connection, and for each session on datagrams.
//!
//! A listener may also have a limit per host (`host_rates`); a frame then takes its tokens from both buckets. Every
//! frame costs tokens: requests, refused ones, pings, unknown verbs. When its bucket is empty, a stream connection is
//! paused for a while, and input already read waits in its backlog. Datagrams cannot be paused: a request gets 429,
//! a frame that expects no answer costs tokens only, and a duplicate request is dropped.
//!
//! Over UDP, frames from an unvalidated address are free. Their answers need no state. Any host could forge another
//! host's address on them, and take its tokens.

use std::time::{Duration, Instant};

use super::Server;
use super::conn::StreamConn;
use super::host_rates::HostTokens;
use crate::error::Refusal;
use crate::hub::{Path, SessionKey};
use crate::rates::Rate;
use crate::service::{ConnId, ListenerId, Origin, Peer};
use crate::units::later;
use crate::wire::{Frame, RegArgs, Verb, prefix_of};

impl Server {
    /// Returns the rate limit of each peer on a listener.
    pub(super) fn rate_of(&self, listener: ListenerId) -> Rate {
        self.listener(listener).map_or(Rate::UNLIMITED, |listener| listener.rate)
    }
}

/// Streams.
impl Server {
    /// Takes the tokens for one executed frame, or line, of `bytes` bytes. If its own bucket is empty then, the
    /// connection is paused until there is a token again.
    pub(super) fn charge(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        let origin = state.origin();
        let Some(limits) = state.limits.get_mut() else { return };
        limits.bucket.take(now, bytes);
        // The next frame's size is not known, but it has at least one byte.
        if let Some(at) = limits.bucket.conforms_at(now, 1) {
            state.gate.pause_until(at);
        }
        match limits.host_tokens {
            HostTokens::Unlimited => {}
            HostTokens::Reserved => limits.host_tokens = HostTokens::PerFrame,
            HostTokens::PerFrame => self.take_of_host(now, &origin, bytes),
        }
    }

    /// Whether a frame costs tokens. An acknowledgement answers what the server sent. A duplicate request was sent
    /// because the original waits here for tokens: if it cost one too, everything would wait longer.
    pub(super) fn is_charged(&self, conn: ConnId, frame: &Frame<'_>) -> bool {
        let Some(state) = self.streams.get(conn).filter(|state| state.is_limited()) else {
            return false;
        };
        let is_acknowledgement = frame.verb == Verb::Ack && frame.id.is_none();
        !is_acknowledgement && !state.session().is_some_and(|key| self.is_repeat(key, frame))
    }

    /// Returns when the buckets hold the tokens for a frame, or line, of `bytes` bytes, if not now.
    pub(super) fn tokens_at(&mut self, now: Instant, conn: ConnId, bytes: usize) -> Option<Instant> {
        let own = self.streams.get(conn)?.limits.get().bucket.conforms_at(now, bytes);
        own.or_else(|| self.reserve_frame(now, conn, bytes))
    }

    /// Reserves the tokens of a connection's next frame in its host's bucket, if it has to wait for them, and returns
    /// until when. All connections of a host share the bucket: reservations wake each of them once per frame, in the
    /// order in which they began to wait.
    fn reserve_frame(&mut self, now: Instant, conn: ConnId, bytes: usize) -> Option<Instant> {
        let is_charged = |state: &&StreamConn| state.limits.get().host_tokens == HostTokens::PerFrame;
        let origin = self.streams.get(conn).filter(is_charged)?.origin();
        let wait = self.reserve_of_host(now, &origin, bytes)?;
        self.streams.get_mut(conn)?.limits.get_mut()?.host_tokens = HostTokens::Reserved;
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

    /// Takes the tokens for `bytes` bytes from the bucket of the session, if there is one, and of the origin's host.
    /// Takes from both, or from neither if one of them lacks some.
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

    /// Returns how long until there are tokens for this frame.
    pub(super) fn wait_of(&self, now: Instant, key: SessionKey, frame: &Frame<'_>) -> Duration {
        self.hub.get(key).map_or(Duration::ZERO, |session| {
            self.wait_for_both(now, Some(key), &session.origin(), frame.encoded_len())
        })
    }

    /// Takes the tokens for a REG from a validated address. They come from the bucket of its host and, if it names a
    /// open session, of that session. Without tokens the REG has to be dropped: a client takes a refusal of its REG
    /// as final.
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

    /// Takes the tokens for the REG of a peer that needs no proof and has no session from the bucket of its host.
    pub(super) fn charge_bare_reg(
        &mut self,
        now: Instant,
        origin: &Origin,
        frame: &Frame<'_>,
    ) -> Result<(), Refusal> {
        self.take_both(now, None, origin, frame.encoded_len()).map_err(Refusal::slow_down)
    }

    /// Charges a malformed datagram to its session: that of its token, if it comes from the session's address, or the
    /// bare one at its address.
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
            // Without tokens there is nothing to take, and no answer to send.
            let _ = self.take_for_datagram(now, key, bytes.len());
        }
    }
}
