//! Datagrams: which session each belongs to, and what is sent back.
//!
//! A datagram with a session's token, from the session's address, is executed. Any other comes from an unvalidated
//! peer, which `unvalidated` handles. With the token of an open session, from another address, any client frame gets
//! an answer. From it a client that only acknowledges learns that its address has changed. Verbs are executed in
//! `requests`.

use std::time::Instant;

use super::requests::{Answer, encode_answer};
use super::session_end::EndReason;
use super::unvalidated::UnvalidatedPeer;
use super::{Owner, Server};
use crate::error::Refusal;
use crate::hub::work::cost;
use crate::hub::{DatagramPath, Form, Path, Session, SessionKey};
use crate::service::{Peer, Transmit};
use crate::wire::{Datagram, Frame, Token, Verb, encode_prefix};

/// The usual size of a token and a short answer, in bytes.
const USUAL: usize = 96;

/// The most answers that wait to be sent. Further ones are dropped; the retransmitted request asks again.
const MAX_OUTGOING: usize = 4_096;

/// The most datagrams of answers to one incoming datagram. Further ones are dropped likewise.
const MAX_ANSWERS: usize = 32;

/// Input.
impl Server {
    /// Handles a datagram that has passed the simulated link.
    pub(super) fn handle_datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        let Ok(datagram) = Datagram::parse(bytes, self.config.max_message) else {
            self.totals.malformed += 1;
            return self.charge_malformed(now, peer, bytes);
        };
        let unvalidated = UnvalidatedPeer { peer, size: bytes.len() };
        match datagram.token {
            Some(token) => match self.lookup.of_token(&self.hub, &token) {
                Some(key) => self.handle_token(now, &unvalidated, key, &datagram),
                None => self.handle_unknown_token(now, &unvalidated, token, &datagram),
            },
            None => match self.lookup.bare_at(&self.hub, &peer) {
                Some(key) => self.handle_session(now, key, bytes.len(), &datagram),
                None => self.handle_unvalidated(now, &unvalidated, &datagram),
            },
        }
    }

    fn handle_token(
        &mut self,
        now: Instant,
        from: &UnvalidatedPeer,
        key: SessionKey,
        datagram: &Datagram<'_>,
    ) {
        let Some(session) = self.hub.get(key) else { return };
        match session.path() {
            Path::Datagram(path) if path.peer == from.peer => {
                self.handle_session(now, key, from.size, datagram)
            }
            Path::Datagram(_) => self.handle_elsewhere(now, from, key, datagram),
            // The token of a stream session is not valid here.
            Path::Stream(_) => self.totals.stray += 1,
        }
    }

    /// Challenges the sender of a session's datagram from another address, and executes nothing in it. A datagram of
    /// server frames is not answered, so two servers cannot keep each other busy.
    fn handle_elsewhere(
        &mut self,
        now: Instant,
        from: &UnvalidatedPeer,
        key: SessionKey,
        datagram: &Datagram<'_>,
    ) {
        let is_of_a_client = datagram.frames.iter().any(|frame| !is_of_a_server(frame));
        let Some(session) = self.hub.get_mut(key).filter(|_| is_of_a_client) else {
            self.totals.stray += 1;
            return;
        };
        session.hear_from_elsewhere(now);
        if !session.may_challenge(now, from.peer) {
            self.totals.stray += 1;
            return;
        }
        let (token, name) = (session.token, session.name.clone());
        log::debug!("{}: {name} sends from an address that it has not proven", from.peer.addr);
        self.challenge(now, from, Some(token), None, name.as_str().as_bytes(), Some(&token));
    }

    /// Executes every frame in a datagram of a session.
    pub(super) fn handle_session(
        &mut self,
        now: Instant,
        key: SessionKey,
        size: usize,
        datagram: &Datagram<'_>,
    ) {
        let Some(session) = self.hub.get_mut(key) else { return };
        let token = (session.form == Form::Tagged).then_some(session.token);
        session.hear(now, size, self.config.max_datagram);
        let Path::Datagram(DatagramPath { peer, limit, .. }) = session.path() else { return };
        let open = self.take_answers(key, peer);
        let mut packer = Packer { token, limit, full: Vec::new(), open, dropped: 0 };
        let mut leaving = None;
        for (n, frame) in datagram.frames.iter().enumerate() {
            if self.is_hold_spent() {
                // The rest counts as lost on the network.
                self.totals.answers_dropped += (datagram.frames.len() - n) as u64;
                break;
            }
            if frame.verb == Verb::Reg && self.is_guest(key) {
                leaving = datagram.frames.get(n..);
                break;
            }
            if let Some(answer) = self.execute(now, key, frame, None) {
                packer.add(frame, &answer);
            }
            // Frames after a BYE are neither executed nor refused: they may be duplicates of executed requests.
            if self.hub.get(key).is_none() {
                break;
            }
        }
        let (answers, dropped) = packer.finish();
        self.totals.answers_dropped += dropped;
        for bytes in answers {
            self.send(Some(key), Transmit { peer, bytes });
        }
        self.arm(key);
        if let Some(rest) = leaving {
            // A guest that registers is treated as any unvalidated peer.
            let rest = Datagram { token: None, frames: rest.to_vec() };
            self.handle_unvalidated(now, &UnvalidatedPeer { peer, size }, &rest);
        }
    }
}

/// Whether only servers send such a frame.
fn is_of_a_server(frame: &Frame<'_>) -> bool {
    match frame.verb {
        Verb::Rcv | Verb::Gap | Verb::Err => true,
        Verb::Ack => frame.id.is_some(),
        _ => false,
    }
}

/// Output.
impl Server {
    pub(super) fn send(&mut self, key: Option<SessionKey>, transmit: Transmit) {
        if self.outgoing.len() < MAX_OUTGOING {
            self.outgoing.push_back((key, transmit));
        } else {
            self.totals.answers_dropped += 1;
        }
    }

    /// Takes back the answers to this session's last datagram if they are the last in the queue: more may fit into
    /// them.
    fn take_answers(&mut self, key: SessionKey, peer: Peer) -> Vec<u8> {
        let same =
            |(of, transmit): &mut (Option<SessionKey>, Transmit)| *of == Some(key) && transmit.peer == peer;
        self.outgoing.pop_back_if(same).map_or_else(Vec::new, |(_, transmit)| transmit.bytes)
    }

    /// Returns the next datagram to send: answers with pushes appended, or pushes alone, session by session.
    pub(super) fn next_datagram(&mut self, now: Instant) -> Option<Transmit> {
        let Some((of, mut transmit)) = self.outgoing.pop_front() else { return self.next_push(now) };
        if let Some(key) = of
            && self.is_at(key, transmit.peer)
        {
            self.hub.next_datagram(now, key, &mut transmit.bytes);
        }
        Some(transmit)
    }

    fn is_at(&self, key: SessionKey, peer: Peer) -> bool {
        let path = self.hub.get(key).map(Session::path);
        matches!(path, Some(Path::Datagram(path)) if path.peer == peer)
    }

    fn next_push(&mut self, now: Instant) -> Option<Transmit> {
        while let Some(key) = self.pushing.pop_front() {
            let Some(Path::Datagram(path)) = self.hub.get(key).map(Session::path) else { continue };
            let mut bytes = Vec::new();
            if self.hub.next_datagram(now, key, &mut bytes) {
                self.pushing.push_back(key);
                return Some(Transmit { peer: path.peer, bytes });
            }
            self.arm(key);
            self.end_if_bye_done(now, key);
            self.work().add(1, cost::CONNECTION);
            if self.is_hold_spent() {
                self.defer_sweep(now);
                return None;
            }
        }
        self.next_bye(now)
    }

    /// Ends a session on datagrams whose BYE is acknowledged; an untagged session ends as soon as its BYE is sent.
    /// Returns whether it has ended.
    pub(super) fn end_if_bye_done(&mut self, now: Instant, key: SessionKey) -> bool {
        let over = self.hub.get(key).is_some_and(|session| !session.is_on_streams() && session.is_parted());
        if over {
            self.end_session(now, key, EndReason::Draining);
        }
        over
    }

    /// Sets the timer of a session on datagrams: the next retransmit of a push, or the end of its idle time.
    pub(super) fn arm(&mut self, key: SessionKey) {
        let Some(Path::Datagram(path)) = self.hub.get(key).map(Session::path) else { return };
        let idle = path.heard + self.config.idle;
        let next = self.hub.push_timeout(key).map_or(idle, |push| push.min(idle));
        // A later deadline is not set until the earlier one fires: a move with every datagram would cost more.
        self.timers.advance(Owner::Session(key), next);
    }
}

/// Packs the answers to one datagram into as few datagrams as possible, each within the limit, at most
/// [`MAX_ANSWERS`].
struct Packer {
    token: Option<Token>,
    limit: usize,
    full: Vec<Vec<u8>>,
    /// The last datagram, which may have room for more.
    open: Vec<u8>,
    /// Datagrams beyond [`MAX_ANSWERS`].
    dropped: u64,
}

impl Packer {
    /// Adds the answer to a frame. One that fits no datagram is replaced by a refusal.
    fn add(&mut self, frame: &Frame<'_>, answer: &Answer<'_>) {
        if self.try_add(frame, answer) {
            return;
        }
        if !self.open.is_empty() {
            self.close();
        }
        if !self.try_add(frame, answer) {
            self.try_add(frame, &Err(Refusal::TooLong));
        }
    }

    /// Adds an answer to the open datagram if it fits. Returns whether it did.
    fn try_add(&mut self, frame: &Frame<'_>, answer: &Answer<'_>) -> bool {
        let before = self.open.len();
        if before == 0 {
            self.open.reserve(USUAL);
            if let Some(token) = self.token {
                encode_prefix(token, &mut self.open);
            }
        }
        let start = self.open.len();
        encode_answer(frame.id, frame.verb, answer, &mut self.open);
        let fits = self.open.len() <= self.limit;
        if !fits || self.open.len() == start {
            self.open.truncate(before);
        }
        fits
    }

    fn close(&mut self) {
        let bytes = std::mem::take(&mut self.open);
        if self.full.len() < MAX_ANSWERS {
            self.full.push(bytes);
        } else {
            self.dropped += 1;
        }
    }

    /// Returns the datagrams and how many were dropped. The usual single datagram needs no list.
    fn finish(self) -> (impl Iterator<Item = Vec<u8>>, u64) {
        let has_room = self.full.len() < MAX_ANSWERS;
        let last = Some(self.open).filter(|bytes| !bytes.is_empty());
        let dropped = self.dropped + u64::from(last.is_some() && !has_room);
        (self.full.into_iter().chain(last.filter(|_| has_room)), dropped)
    }
}
