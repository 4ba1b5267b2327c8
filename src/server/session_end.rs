//! The end of sessions: what is sent to the peer, counted and logged.
//!
//! The wire form of a BYE is in [`ByeArgs`]. The BYEs to all sessions at a shutdown are in `bye_rounds`, the end of a
//! connection in `connection_end`.

use std::time::Instant;

use super::hosts::Host;
use super::{COOKIE_LIFETIME, Owner, Server};
use crate::allocator::merge_freed;
use crate::error::Refusal;
use crate::hub::{Form, Path, Session, SessionKey};
use crate::names::Name;
use crate::service::Transmit;
use crate::wire::{ByeArgs, Verb, encode_args, encode_prefix};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EndReason {
    /// The client sent BYE, or a line client `/quit`.
    Asked,
    /// A guest registered under a name.
    Registered,
    /// An access rule, or the operator, no longer allows it.
    NotAllowed,
    /// It was a slow consumer, under `--slow disconnect`.
    SlowConsumer,
    /// The server closed its connection for broken input or a missed deadline, and it cannot linger.
    CutOff,
    /// Its connection ended without a BYE, and it cannot linger.
    ConnectionLost,
    /// It was not resumed within `--linger`.
    LingerOver,
    /// No datagram with its token came within `--idle`.
    Idle,
    /// The server shut down.
    Draining,
}

impl EndReason {
    /// All reasons, in the order in which they are counted.
    pub const ALL: [Self; 9] = [
        Self::Asked,
        Self::Registered,
        Self::NotAllowed,
        Self::SlowConsumer,
        Self::CutOff,
        Self::ConnectionLost,
        Self::LingerOver,
        Self::Idle,
        Self::Draining,
    ];

    /// Returns the reason in words, for the log and the totals.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Asked => "the client said BYE",
            Self::Registered => "the guest registered",
            Self::NotAllowed => "not allowed any more",
            Self::SlowConsumer => "slow consumer",
            Self::CutOff => "connection cut off",
            Self::ConnectionLost => "connection lost",
            Self::LingerOver => "not resumed in time",
            Self::Idle => "idle",
            Self::Draining => "shutdown",
        }
    }
}

/// After how many ended sessions the allocator merges what they freed.
const MERGED: u64 = 64;

/// Counts of ended sessions, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionEnds([u64; EndReason::ALL.len()]);

impl SessionEnds {
    pub(super) fn count(&mut self, reason: EndReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// Returns how many ended, for any reason.
    pub(super) fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns how many ended for this reason.
    #[must_use]
    pub fn of(&self, reason: EndReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
}

impl Server {
    /// Returns the BYE for a tagged session while the server shuts down.
    pub(super) fn draining_bye(&self) -> ByeArgs {
        ByeArgs::Draining(self.config.back_in)
    }

    /// Returns why a taken name is refused: if its session waits for its owner, with the time that is left.
    pub(super) fn name_taken(&self, now: Instant, name: &Name) -> Refusal {
        let owner = self.hub.owner_of(name);
        let until = owner.and_then(|key| match self.hub.get(key)?.path() {
            Path::Stream(None) => self.timers.get(Owner::Session(key)),
            Path::Datagram(path) => Some(path.heard + self.config.idle),
            Path::Stream(Some(_)) => None,
        });
        until.map_or(Refusal::NameTaken, |at| Refusal::name_waits(at.saturating_duration_since(now)))
    }

    /// Ends a session and removes all references to it, except its nonce. Sends nothing to the peer.
    pub(super) fn end_session(&mut self, now: Instant, key: SessionKey, reason: EndReason) {
        let Some(session) = self.hub.end(key) else { return };
        self.report_end(now, key, &session, reason);
        self.guests.forget(key, &session.name);
        // While draining, stale timers are harmless, and removing a million of them takes long.
        if !self.is_draining() {
            self.timers.set(Owner::Session(key), None);
        }
        self.lookup.leave(key, &session);
        self.release_host(session.path(), session.origin().from);
        match session.path() {
            Path::Stream(conn) => {
                // Streams have no cookies, so no late REG can open a second session: the nonce need not be kept.
                if let Some(conn) = conn {
                    self.detach(conn, session.has_said_bye());
                }
            }
            Path::Datagram(_) => {
                if let Some(nonce) = session.nonce() {
                    self.spent.remember(now + COOKIE_LIFETIME, nonce, Host::of(session.origin().from));
                    self.timers.set(Owner::Spent, self.spent.next());
                }
            }
        }
    }

    /// Ends a session at once, without waiting for its queue, and tells its peer why. On a stream this closes the
    /// connection. Over datagrams the peer gets one datagram, and a 401 to its next request.
    pub(super) fn end_and_tell(&mut self, now: Instant, key: SessionKey, why: &str, reason: EndReason) {
        match self.hub.get(key).map(Session::path) {
            Some(Path::Stream(Some(conn))) => self.close_with(conn, why, ByeArgs::Ended),
            Some(Path::Datagram(_)) => self.tell_end(key, Some(why)),
            Some(Path::Stream(None)) | None => {}
        }
        self.end_session(now, key, reason);
    }

    /// Tells the peer of a session on datagrams, in one datagram, that the session ends.
    pub(super) fn tell_end(&mut self, key: SessionKey, why: Option<&str>) {
        let Some(session) = self.hub.get(key) else { return };
        let Path::Datagram(path) = session.path() else { return };
        let is_tagged = session.form == Form::Tagged;
        let mut bytes = Vec::new();
        if is_tagged {
            encode_prefix(session.token, &mut bytes);
        }
        if let Some(why) = why {
            encode_args(None, Verb::Err, &[why.as_bytes()], &mut bytes);
        }
        encode_bye(is_tagged, ByeArgs::Ended, &mut bytes);
        self.send(None, Transmit { peer: path.peer, bytes });
    }

    /// Counts and logs the end of a session, and the messages that it leaves undelivered.
    pub(super) fn report_end(&mut self, now: Instant, key: SessionKey, session: &Session, reason: EndReason) {
        self.totals.ends.count(reason);
        if self.totals.ends.sum().is_multiple_of(MERGED) {
            merge_freed();
        }
        log::debug!("{}: {}: the session ends: {}", session.origin().from, session.name, reason.text());
        self.log_undelivered(now, key, session);
    }
}

/// Appends an untagged BYE: with its reason for a tagged session, bare for any other.
pub(super) fn encode_bye(is_tagged: bool, bye: ByeArgs, out: &mut Vec<u8>) {
    if is_tagged {
        bye.encode(None, out);
    } else {
        encode_args(None, Verb::Bye, &[], out);
    }
}
