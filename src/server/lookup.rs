//! Finds the session of a datagram or a REG: by token, by the nonce that opened it, or by address. Also keeps the
//! nonces of ended sessions.
//!
//! The keys themselves are stored in the sessions only. A session is entered here when it opens and removed when it
//! has ended. Names are looked up in [`crate::hub`].

use std::collections::VecDeque;
use std::time::Instant;

use super::hosts::Host;
use crate::handle_index::{HandleIndex, Hasher};
use crate::hub::{Form, Hub, Path, Session, SessionKey};
use crate::parted_map::PartedMap;
use crate::queue_capacity::shrink_sparse;
use crate::service::Peer;
use crate::wire::Token;

/// Slots of sessions, by token, nonce and address.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    by_token: HandleIndex,
    by_nonce: HandleIndex,
    /// Untagged sessions on datagrams, by address.
    bare: HandleIndex,
}

impl Lookup {
    /// Returns the session of a token.
    pub(super) fn of_token(&self, hub: &Hub, token: &Token) -> Option<SessionKey> {
        find(&self.by_token, hub, token, |session| (session.token == *token).then_some(()))
    }

    /// Returns the session that a nonce opened.
    pub(super) fn of_nonce(&self, hub: &Hub, nonce: &Token) -> Option<SessionKey> {
        find(&self.by_nonce, hub, nonce, |session| (session.nonce() == Some(*nonce)).then_some(()))
    }

    /// Returns the bare session at an address.
    pub(super) fn bare_at(&self, hub: &Hub, peer: &Peer) -> Option<SessionKey> {
        find(&self.bare, hub, peer, |session| (bare_peer(session)? == *peer).then_some(()))
    }

    /// Enters a new session.
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

    /// Removes an ended session.
    pub(super) fn leave(&mut self, key: SessionKey, session: &Session) {
        self.by_token.remove(&session.token, key.slot());
        if let Some(nonce) = session.nonce() {
            self.by_nonce.remove(&nonce, key.slot());
        }
        if let Some(peer) = bare_peer(session) {
            self.bare.remove(&peer, key.slot());
        }
    }

    /// Whether no session is entered.
    pub(super) fn is_empty(&self) -> bool {
        [&self.by_token, &self.by_nonce, &self.bare].iter().all(|index| index.len() == 0)
    }
}

fn find<K: std::hash::Hash>(
    index: &HandleIndex,
    hub: &Hub,
    key: &K,
    is: impl Fn(&Session) -> Option<()>,
) -> Option<SessionKey> {
    let slot = index.find(key, |slot| hub.at(slot).and_then(|(_, session)| is(session)).is_some())?;
    hub.at(slot).map(|(key, _)| key)
}

fn insert<K: std::hash::Hash>(
    index: &mut HandleIndex,
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

/// Returns the address of a session that is found by it.
fn bare_peer(session: &Session) -> Option<Peer> {
    match session.path() {
        Path::Datagram(path) if session.form == Form::Untagged => Some(path.peer),
        _ => None,
    }
}

/// The nonces of ended sessions, until no valid cookie could open another session with them.
///
/// No nonce is removed early, so their number is bounded where sessions are opened. The bound falls on the hosts that
/// fill it. A host may open no further session once it has a 32nd as many nonces here as there is room left. One host
/// takes a 33rd of all; a hundred hosts, one after the other, leave room for one in twenty.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// The oldest first.
    queue: VecDeque<SpentNonce>,
    /// The ordinal of the first nonce; wraps after 2^32.
    first: u32,
    /// The ordinals of the nonces.
    index: HandleIndex,
    /// The number of nonces per host.
    by_host: PartedMap<Host, usize>,
    /// The number of nonces at which sessions are refused.
    most: usize,
}

#[derive(Debug)]
struct SpentNonce {
    nonce: Token,
    /// Time of its removal.
    until: Instant,
    /// The host of the ended session; `None` for hosts that are not counted.
    host: Option<Host>,
}

/// The least and the most that [`Spent`] has room for. With its table entries each nonce takes at most 160 bytes.
const SPENT_ROOM: (usize, usize) = (1 << 12, 1 << 20);

/// A host has its share when it has this fraction of the remaining room.
const SHARE: usize = 32;

impl Spent {
    /// Creates a store with room for as many nonces as there may be sessions.
    pub(super) fn with_room_for(max_sessions: usize) -> Self {
        let (least, most) = SPENT_ROOM;
        Self { most: max_sessions.clamp(least, most), ..Self::default() }
    }

    /// Returns how many nonces are stored.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether this host may open a session, whose nonce will have to be stored.
    pub(super) fn admits(&self, host: Option<Host>) -> bool {
        let room = self.most.saturating_sub(self.queue.len());
        let of_host = host.and_then(|host| self.by_host.get(&host)).copied().unwrap_or(0);
        room > 0 && of_host * SHARE < room
    }

    /// Whether this nonce is stored.
    pub(super) fn contains(&self, nonce: &Token) -> bool {
        self.index.find(nonce, |ordinal| nth(&self.queue, self.first, ordinal) == Some(nonce)).is_some()
    }

    /// Stores a nonce until then.
    pub(super) fn remember(&mut self, until: Instant, nonce: Token, host: Option<Host>) {
        let Ok(place) = u32::try_from(self.queue.len()) else { return };
        self.queue.push_back(SpentNonce { nonce, until, host });
        if let Some(host) = host {
            *self.by_host.get_or_default(host) += 1;
        }
        let (queue, first) = (&self.queue, self.first);
        self.index.insert(&nonce, first.wrapping_add(place), |hasher, ordinal| {
            nth(queue, first, ordinal).map_or(0, |nonce| hasher.hash(nonce))
        });
    }

    /// Removes a nonce whose time is over. Returns whether there was one.
    pub(super) fn forget_next(&mut self, now: Instant) -> bool {
        let Some(spent) = self.queue.pop_front_if(|spent| spent.until <= now) else {
            shrink_sparse(&mut self.queue);
            return false;
        };
        self.index.remove(&spent.nonce, self.first);
        self.first = self.first.wrapping_add(1);
        self.forget_one_of(spent.host);
        true
    }

    fn forget_one_of(&mut self, host: Option<Host>) {
        let Some(host) = host else { return };
        match self.by_host.get_mut(&host) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.by_host.remove(&host)),
        }
    }

    /// Returns when the next nonce is to be removed.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|spent| spent.until)
    }
}

/// Returns the nonce of that ordinal, where the first has `first`.
fn nth(queue: &VecDeque<SpentNonce>, first: u32, ordinal: u32) -> Option<&Token> {
    queue.get(ordinal.wrapping_sub(first) as usize).map(|spent| &spent.nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn spent_nonces_are_kept_for_their_time_across_a_wrap_of_their_ordinals() {
        let now = Instant::now();
        let at = |n: u32| now + Duration::from_secs(n.into());
        let nonce = |n: u32| Token::from_bits(n.into());
        let mut spent = Spent { first: u32::MAX - 500, ..Spent::default() };
        for n in 0..1_000 {
            spent.remember(at(n), nonce(n), None);
            if n >= 100 {
                while spent.forget_next(at(n - 100)) {}
            }
            let remembered = (0..1_000).filter(|n| spent.contains(&nonce(*n)));
            assert!(remembered.eq(n.saturating_sub(99)..=n));
        }
        while spent.forget_next(at(2_000)) {}
        assert_eq!((spent.len(), spent.index.len(), spent.next()), (0, 0, None));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn a_host_that_floods_spent_nonces_is_refused_and_others_are_not() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let host = |n: u8| Some(Host::V4([192, 0, 2, n].into()));
        let mut spent = Spent::with_room_for(100_000);
        let mut nonces = 0..;
        let mut flood = |spent: &mut Spent, host: Option<Host>| {
            let before = spent.len();
            while spent.admits(host) {
                spent.remember(now + minute, Token::from_bits(nonces.next().unwrap()), host);
            }
            spent.len() - before
        };
        assert_eq!(flood(&mut spent, host(1)), 3_031, "a 33rd");
        assert!(!spent.admits(host(1)) && spent.admits(host(2)) && spent.admits(None));
        for n in 2..=100 {
            assert!(flood(&mut spent, host(n)) > 0, "{n}");
        }
        assert!(
            spent.admits(host(200)),
            "a hundred hosts leave room for newcomers: {} of 100000",
            spent.len()
        );
        while spent.forget_next(now + minute) {}
        assert!(spent.admits(host(1)) && spent.by_host.len() == 0 && spent.queue.capacity() < 100);
    }
}
