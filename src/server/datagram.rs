//! Datagrams: which session each belongs to, what an unvalidated peer may do, and what is sent back.
//!
//! A datagram with a session's token, from the session's address, is executed. Any other comes from an unvalidated
//! peer: it changes nothing and gets one frame, at most 3 times what came in. The frame answers the first frame or,
//! after a token, the first request. A peer validates its address with a cookie (RFC 9175), for which the server keeps
//! no state. With the token of an open session, from another address, any client frame gets such an answer. From it a
//! client that only acknowledges learns that its address has changed. Verbs are executed in `requests`.

use std::time::Instant;

use super::requests::{Answer, encode_answer};
use super::session_end::EndReason;
use super::{Owner, Server};
use crate::error::Refusal;
use crate::hub::work::cost;
use crate::hub::{DatagramPath, Form, Path, Session, SessionKey};
use crate::service::{Origin, Peer, Remote, Transmit};
use crate::wire::{DATAGRAM_MIN_LIMIT, Datagram, Frame, RegArgs, Token, Verb, encode_args, encode_prefix};

/// The most bytes sent to an unvalidated address, as a multiple of what came from there (RFC 9000 section 8.1).
const AMPLIFICATION: usize = 3;

/// Bytes of the IP and UDP headers, counted on both sides of [`AMPLIFICATION`]: those of IPv4, the smaller.
const HEADERS: usize = 28;

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
    fn handle_session(&mut self, now: Instant, key: SessionKey, size: usize, datagram: &Datagram<'_>) {
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

    /// Handles the token of no open session: a cookie before a REG, or the token of an ended session.
    fn handle_unknown_token(
        &mut self,
        now: Instant,
        from: &UnvalidatedPeer,
        token: Token,
        datagram: &Datagram<'_>,
    ) {
        let Some(request) = request_in(datagram) else {
            self.totals.stray += 1;
            return;
        };
        if request.verb == Verb::Reg && request.id.is_some() {
            return self.handle_cookie(now, from, token, request);
        }
        self.totals.stray += 1;
        self.answer_unvalidated(from, |out| {
            encode_prefix(token, out);
            encode_args(None, Verb::Err, &[b"401"], out);
        });
    }

    /// Handles a REG after a cookie.
    fn handle_cookie(&mut self, now: Instant, from: &UnvalidatedPeer, cookie: Token, frame: &Frame<'_>) {
        let answer = match RegArgs::parse(frame.args()) {
            None => Err(Refusal::Malformed),
            Some(args) => {
                let (name, nonce) = proven_by(&args);
                if !self.secrets.proves(now, &cookie, from.peer.addr, name, nonce) {
                    return self.challenge(now, from, Some(cookie), Some(frame), name, nonce);
                }
                if !self.affords_reg(now, &from.origin(), frame) {
                    self.totals.answers_dropped += 1;
                    return;
                }
                let path = self.path_to(now, from);
                let guest = self.guest_at(&from.peer);
                let registered = self.register_over(now, guest, frame, path, from.origin());
                registered.map(|(key, _)| self.token_of(key).into())
            }
        };
        self.answer_unvalidated(from, |out| {
            encode_prefix(cookie, out);
            encode_answer(frame.id, frame.verb, &answer, out);
        });
    }

    /// Handles a datagram without a token from an address without a bare session.
    fn handle_unvalidated(&mut self, now: Instant, from: &UnvalidatedPeer, datagram: &Datagram<'_>) {
        let Some(frame) = datagram.frames.first().filter(|frame| frame.verb.is_request()) else {
            self.totals.stray += 1;
            return;
        };
        let answer = match frame.verb {
            Verb::Png => self.pong(frame, frame.id.is_some()),
            Verb::Reg if frame.id.is_some() => match RegArgs::parse(frame.args()) {
                Some(args) => {
                    let (name, nonce) = proven_by(&args);
                    return self.challenge(now, from, None, Some(frame), name, nonce);
                }
                None => Err(Refusal::Malformed),
            },
            Verb::Reg => return self.register_bare(now, from, datagram),
            Verb::Snd if frame.id.is_none() && self.config.rules.anonymous => {
                return self.handle_guest_snd(now, from, datagram);
            }
            _ if frame.id.is_some() => return self.refuse_tagged(from),
            _ => Err(Refusal::RegisterFirst),
        };
        let limit = self.datagram_limit(from);
        self.answer_unvalidated(from, |out| {
            encode_answer(frame.id, frame.verb, &answer, out);
            if out.len() > limit {
                out.clear();
                encode_answer(frame.id, frame.verb, &Err(Refusal::TooLong), out);
            }
        });
    }

    /// Answers a tagged request without a token with an untagged 401. It may be a duplicate of one that was executed
    /// before its bare session ended. A refusal under its tag would mean that it did not happen.
    fn refuse_tagged(&mut self, from: &UnvalidatedPeer) {
        self.answer_unvalidated(from, |out| encode_args(None, Verb::Err, &[b"401"], out));
    }

    /// Executes an untagged REG at once for addresses that need no proof, so that `nc -u` is enough to play.
    fn register_bare(&mut self, now: Instant, from: &UnvalidatedPeer, datagram: &Datagram<'_>) {
        let Some((frame, rest)) = datagram.frames.split_first() else { return };
        let registered = if self.needs_no_proof(from) {
            let (path, guest) = (self.path_to(now, from), self.guest_at(&from.peer));
            let charged = self.charge_bare_reg(now, &from.origin(), frame);
            charged
                .and_then(|()| self.register_over(now, guest, frame, path, from.origin()))
                .map(|(key, _)| key)
        } else {
            Err(Refusal::NotProven)
        };
        match registered {
            Ok(key) if !rest.is_empty() => {
                let rest = Datagram { token: None, frames: rest.to_vec() };
                self.handle_session(now, key, from.size, &rest);
            }
            Ok(_) => {}
            Err(refusal) => {
                self.answer_unvalidated(from, |out| encode_answer(None, Verb::Reg, &Err(refusal), out));
            }
        }
    }

    /// Opens a guest session for an untagged SND of an unregistered peer, where guests are allowed.
    fn handle_guest_snd(&mut self, now: Instant, from: &UnvalidatedPeer, datagram: &Datagram<'_>) {
        let opened = if self.needs_no_proof(from) {
            let path = self.path_to(now, from);
            self.open_guest(now, path, from.origin())
        } else {
            Err(Refusal::NotProven)
        };
        match opened {
            Ok(guest) => self.handle_session(now, guest, from.size, datagram),
            Err(refusal) => {
                self.answer_unvalidated(from, |out| encode_answer(None, Verb::Snd, &Err(refusal), out));
            }
        }
    }

    /// Whether a peer at this address may open a session without a token.
    fn needs_no_proof(&self, from: &UnvalidatedPeer) -> bool {
        let ip = from.peer.addr.ip().to_canonical();
        self.config.bare_udp.iter().any(|net| net.contains(&ip))
    }

    fn path_to(&self, now: Instant, from: &UnvalidatedPeer) -> Path {
        Path::Datagram(DatagramPath { peer: from.peer, limit: self.datagram_limit(from), heard: now })
    }

    /// Returns the largest datagram that may be sent to the address of this one.
    fn datagram_limit(&self, from: &UnvalidatedPeer) -> usize {
        DATAGRAM_MIN_LIMIT.max(from.size).min(self.config.max_datagram)
    }
}

/// A peer whose datagram does not prove its address.
struct UnvalidatedPeer {
    peer: Peer,
    size: usize,
}

impl UnvalidatedPeer {
    fn origin(&self) -> Origin {
        Origin { listener: self.peer.listener, from: Remote::Ip(self.peer.addr) }
    }
}

/// Returns the first request after a token. Acknowledgements may precede it, but a REG counts only as the first frame,
/// where clients put it.
fn request_in<'a, 'b>(datagram: &'a Datagram<'b>) -> Option<&'a Frame<'b>> {
    let first = datagram.frames.first().filter(|frame| frame.verb == Verb::Reg);
    let is_other = |frame: &&Frame<'_>| frame.verb.is_request() && frame.verb != Verb::Reg;
    first.or_else(|| datagram.frames.iter().find(is_other))
}

/// Whether only servers send such a frame.
fn is_of_a_server(frame: &Frame<'_>) -> bool {
    match frame.verb {
        Verb::Rcv | Verb::Gap | Verb::Err => true,
        Verb::Ack => frame.id.is_some(),
        _ => false,
    }
}

/// Returns what the cookie of a REG has to prove beside the address.
fn proven_by<'a>(args: &'a RegArgs<'a>) -> (&'a [u8], Option<&'a Token>) {
    match args {
        RegArgs::Name(name) => (name, None),
        RegArgs::Open { name, nonce } => (name, Some(nonce)),
        RegArgs::Resume { name, token } => (name, Some(token)),
    }
}

/// Output.
impl Server {
    /// Sends a 428 with a cookie, and with the nonce of the REG that it answers.
    fn challenge(
        &mut self,
        now: Instant,
        from: &UnvalidatedPeer,
        prefix: Option<Token>,
        frame: Option<&Frame<'_>>,
        name: &[u8],
        nonce: Option<&Token>,
    ) {
        let cookie = self.secrets.cookie(now, from.peer.addr, name, nonce);
        self.answer_unvalidated(from, |out| {
            if let Some(prefix) = prefix {
                encode_prefix(prefix, out);
            }
            let (cookie, nonce_text) = (cookie.text(), nonce.map(Token::text));
            let parts: [&[u8]; 3] = [b"428", &cookie, nonce_text.as_ref().map_or(b"", |text| text)];
            let used = if frame.is_some() && nonce.is_some() { 3 } else { 2 };
            encode_args(frame.and_then(|frame| frame.id), Verb::Err, &parts[..used], out);
        });
    }

    /// Sends one frame to an unvalidated peer, unless it would exceed the amplification limit.
    fn answer_unvalidated(&mut self, from: &UnvalidatedPeer, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        if !bytes.is_empty() && bytes.len() + HEADERS <= AMPLIFICATION * (from.size + HEADERS) {
            self.send(None, Transmit { peer: from.peer, bytes });
        }
    }

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
