//! Whose a datagram or a REG is: sessions by their token, by the nonce that opened them, and by address; and the nonces of
//! sessions that have ended.
//!
//! What they are found by is kept in the sessions alone. A session is entered here when it lives, and taken out when it
//! has ended.

use std::collections::VecDeque;
use std::time::Instant;

use crate::hub::{Form, Hub, Path, Session, SessionKey};
use crate::index::{Hasher, Index};
use crate::service::Peer;
use crate::wire::Token;

/// Slots of sessions, by what these are found by.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    by_token: Index,
    by_nonce: Index,
    /// Untagged sessions on datagrams, by address.
    bare: Index,
}

impl Lookup {
    /// The session of a token.
    pub(super) fn of_token(&self, hub: &Hub, token: &Token) -> Option<SessionKey> {
        find(&self.by_token, hub, token, |session| (session.token == *token).then_some(()))
    }

    /// The session that a nonce opened.
    pub(super) fn of_nonce(&self, hub: &Hub, nonce: &Token) -> Option<SessionKey> {
        find(&self.by_nonce, hub, nonce, |session| (session.nonce() == Some(*nonce)).then_some(()))
    }

    /// The bare session at an address.
    pub(super) fn bare_at(&self, hub: &Hub, peer: &Peer) -> Option<SessionKey> {
        find(&self.bare, hub, peer, |session| (bare_peer(session)? == *peer).then_some(()))
    }

    /// A session has begun.
    pub(super) fn enter(&mut self, hub: &Hub, key: SessionKey) {
        let Some(session) = hub.get(key) else { return };
        let slot = key.slot();
        if session.form == Form::Tagged {
            insert(&mut self.by_token, hub, slot, |session| Some(session.token));
        }
        if session.nonce().is_some() {
            insert(&mut self.by_nonce, hub, slot, Session::nonce);
        }
        if bare_peer(session).is_some() {
            insert(&mut self.bare, hub, slot, bare_peer);
        }
    }

    /// A session has ended.
    pub(super) fn leave(&mut self, key: SessionKey, session: &Session) {
        self.by_token.remove(&session.token, key.slot());
        if let Some(nonce) = session.nonce() {
            self.by_nonce.remove(&nonce, key.slot());
        }
        if let Some(peer) = bare_peer(session) {
            self.bare.remove(&peer, key.slot());
        }
    }

    /// Whether nobody is entered.
    pub(super) fn is_empty(&self) -> bool {
        [&self.by_token, &self.by_nonce, &self.bare].iter().all(|index| index.len() == 0)
    }
}

fn find<K: std::hash::Hash>(
    index: &Index,
    hub: &Hub,
    key: &K,
    is: impl Fn(&Session) -> Option<()>,
) -> Option<SessionKey> {
    let slot = index.find(key, |slot| hub.at(slot).and_then(|(_, session)| is(session)).is_some())?;
    hub.at(slot).map(|(key, _)| key)
}

fn insert<K: std::hash::Hash>(
    index: &mut Index,
    hub: &Hub,
    slot: u32,
    key_of: impl Fn(&Session) -> Option<K>,
) {
    let key_at = |slot| hub.at(slot).and_then(|(_, session)| key_of(session));
    let hash_of = |hasher: &Hasher<'_>, slot| key_at(slot).map_or(0, |key| hasher.hash(&key));
    if let Some(key) = key_at(slot) {
        index.insert(&key, slot, hash_of);
    }
}

/// The address of a session that is found by it.
fn bare_peer(session: &Session) -> Option<Peer> {
    match session.path() {
        Path::Datagram(path) if session.form == Form::Untagged => Some(path.peer),
        _ => None,
    }
}

/// The nonces of sessions that have ended, until a cookie could open no other with them.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// With when they are forgotten, the oldest first.
    queue: VecDeque<(Instant, Token)>,
    /// The ordinal of the first of these; it begins anew after 2^32.
    first: u32,
    /// Their ordinals.
    index: Index,
}

impl Spent {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether this one is.
    pub(super) fn contains(&self, nonce: &Token) -> bool {
        self.index.find(nonce, |ordinal| nth(&self.queue, self.first, ordinal) == Some(nonce)).is_some()
    }

    /// Remembers one, until then.
    pub(super) fn remember(&mut self, until: Instant, nonce: Token) {
        let Ok(place) = u32::try_from(self.queue.len()) else { return };
        self.queue.push_back((until, nonce));
        let (queue, first) = (&self.queue, self.first);
        self.index.insert(&nonce, first.wrapping_add(place), |hasher, ordinal| {
            nth(queue, first, ordinal).map_or(0, |nonce| hasher.hash(nonce))
        });
    }

    /// Forgets one whose time is over. Returns whether there was one.
    pub(super) fn forget_next(&mut self, now: Instant) -> bool {
        let Some((_, nonce)) = self.queue.pop_front_if(|(until, _)| *until <= now) else { return false };
        self.index.remove(&nonce, self.first);
        self.first = self.first.wrapping_add(1);
        true
    }

    /// When there is one to forget.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }
}

/// The nonce of that ordinal, where the first has `first`.
fn nth(queue: &VecDeque<(Instant, Token)>, first: u32, ordinal: u32) -> Option<&Token> {
    queue.get(ordinal.wrapping_sub(first) as usize).map(|(_, nonce)| nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn spent_nonces_are_remembered_for_their_time_also_when_their_ordinals_begin_anew() {
        let now = Instant::now();
        let at = |n: u32| now + Duration::from_secs(n.into());
        let nonce = |n: u32| Token::from_bits(n.into());
        let mut spent = Spent { first: u32::MAX - 500, ..Spent::default() };
        for n in 0..1_000 {
            spent.remember(at(n), nonce(n));
            if n >= 100 {
                while spent.forget_next(at(n - 100)) {}
            }
            let remembered = (0..1_000).filter(|n| spent.contains(&nonce(*n)));
            assert!(remembered.eq(n.saturating_sub(99)..=n));
        }
        while spent.forget_next(at(2_000)) {}
        assert_eq!((spent.len(), spent.index.len(), spent.next()), (0, 0, None));
    }
}
