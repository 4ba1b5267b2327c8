//! Executes requests of any transport, verb by verb, and encodes their answers.
//!
//! A request with an effect is looked up in its session's dedup window first: a duplicate gets the same answer and has
//! no second effect. Sessions move and time out in `sessions`, and end in `session_end`.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Server;
use super::backpressure::RETRY_AFTER;
use super::hosts::Host;
use super::session_end::EndReason;
use crate::error::Refusal;
use crate::hub::work::cost;
use crate::hub::{Body, Form, Opening, Path, SessionKey};
use crate::reliable::Seen;
use crate::service::Origin;
use crate::wire::{Frame, Id, RegArgs, SHORT_LENGTH_MAX, SndArgs, Token, Verb, encode_args, parse_ranges};

/// The outcome of a request: the payload of its ACK, leading space included, or why it was refused.
pub(super) type Answer<'a> = Result<Cow<'a, [u8]>, Refusal>;

/// Success with an empty payload.
pub(super) const DONE: Answer<'static> = Ok(Cow::Borrowed(&[]));

/// The byte that stands for an ACK in the dedup window; refusals have the others.
const ACKED: u8 = u8::MAX;

/// The most ranges in one ACK of pushes: a client that holds every second push of the largest window has fewer.
const MAX_ACK_RANGES: usize = 64;

/// The longest payload of a PNG, in bytes: its answer is as long, and is kept until it is written.
const MAX_PING: usize = 64 << 10;

/// Appends the answer to a request. Untagged success is silent, except for PNG and LST.
pub(super) fn encode_answer(id: Option<Id>, verb: Verb, answer: &Answer<'_>, out: &mut Vec<u8>) {
    match (answer, id) {
        (Ok(payload), Some(_)) => Frame { id, verb: Verb::Ack, payload }.encode(out),
        (Ok(payload), None) if matches!(verb, Verb::Png | Verb::Lst) => {
            Frame { id, verb: Verb::Ack, payload }.encode(out);
        }
        (Ok(_), None) => {}
        (Err(refusal), Some(_)) => encode_refusal(id, *refusal, out),
        (Err(refusal), None) => encode_args(None, Verb::Err, &[refusal.words().as_bytes()], out),
    }
}

/// Appends `ERR len code text`, tagged or not.
pub(super) fn encode_refusal(id: Option<Id>, refusal: Refusal, out: &mut Vec<u8>) {
    encode_args(id, Verb::Err, &[refusal.to_string().as_bytes()], out);
}

/// Returns a payload of one word.
pub(super) fn one_word(word: &[u8]) -> Vec<u8> {
    [b" ", word].concat()
}

impl Server {
    /// Executes a frame of an open session. Returns `None` for a frame that gets no answer.
    ///
    /// `kept` is the payload in shared form, if there is one; it can be queued without a copy.
    pub(super) fn execute<'a>(
        &mut self,
        now: Instant,
        key: SessionKey,
        frame: &Frame<'a>,
        kept: Option<&Bytes>,
    ) -> Option<Answer<'a>> {
        self.work().add(1, cost::FRAME);
        match frame.verb {
            Verb::Ack if frame.id.is_none() => {
                self.acknowledged(now, key, frame);
                None
            }
            Verb::Ack | Verb::Err | Verb::Rcv | Verb::Gap => {
                // The peer waits for no answer, so there is nothing to refuse.
                let _ = self.charge_datagram(now, key, frame);
                None
            }
            Verb::Other(_) | Verb::Png | Verb::Lst => {
                let charged = self.charge_datagram(now, key, frame);
                Some(charged.and_then(|()| self.answer_query(key, frame)))
            }
            Verb::Bye => {
                self.end_session(now, key, EndReason::Asked);
                Some(DONE)
            }
            Verb::Reg | Verb::Snd | Verb::Jon | Verb::Lev => self.execute_once(now, key, frame, kept),
        }
    }

    /// Handles an acknowledgement of pushes.
    pub(super) fn acknowledged(&mut self, now: Instant, key: SessionKey, ack: &Frame<'_>) {
        if let Some(ranges) = parse_ranges(ack.args(), MAX_ACK_RANGES) {
            self.acknowledge(now, key, &ranges);
        }
    }

    /// Executes a request with an effect, unless its session has a cached answer.
    fn execute_once<'a>(
        &mut self,
        now: Instant,
        key: SessionKey,
        frame: &Frame<'a>,
        kept: Option<&Bytes>,
    ) -> Option<Answer<'a>> {
        let Some(id) = frame.id else {
            let charged = self.charge_datagram(now, key, frame);
            return Some(charged.and_then(|()| self.effect(now, key, frame, kept)));
        };
        let hash = self.secrets.frame_hash(frame);
        let seen = self.hub.get(key).map_or(Seen::Stale, |session| session.replies().lookup(id, hash));
        // A request that could not be remembered is not executed.
        let has_place = seen != Seen::New || self.hub.prepare_reply(key, id);
        let seen = if has_place { seen } else { Seen::Stale };
        Some(match seen {
            Seen::New => {
                let charged = self.charge_datagram(now, key, frame);
                let answer = charged.and_then(|()| self.effect(now, key, frame, kept));
                self.remember(key, id, hash, &answer);
                answer
            }
            Seen::Repeat(answer) => {
                self.totals.repeats += 1;
                if !self.affords_repeat(now, key, frame, answer) {
                    self.totals.answers_dropped += 1;
                    return None;
                }
                self.same_answer(now, key, frame, answer)
            }
            Seen::Conflict | Seen::Stale => {
                // Answer 409 and 410 even when rate-limited: a 429 would mean "not done".
                let _ = self.charge_datagram(now, key, frame);
                Err(if seen == Seen::Stale { Refusal::Stale } else { Refusal::IdReused })
            }
        })
    }

    /// Whether a duplicate request may be answered. Without a token it is dropped: a 429 would mean "not done". A
    /// duplicate of a rate-limited request costs nothing, as the request itself cost nothing.
    fn affords_repeat(&mut self, now: Instant, key: SessionKey, frame: &Frame<'_>, answer: u8) -> bool {
        matches!(Refusal::from_byte(answer), Some(Refusal::SlowDown(_)))
            || self.charge_datagram(now, key, frame).is_ok()
    }

    fn remember(&mut self, key: SessionKey, id: Id, hash: u32, answer: &Answer<'_>) {
        let answer = answer.as_ref().err().map_or(ACKED, |refusal| refusal.to_byte());
        self.hub.remember(key, id, hash, answer);
    }

    fn same_answer(&self, now: Instant, key: SessionKey, frame: &Frame<'_>, answer: u8) -> Answer<'static> {
        match Refusal::from_byte(answer) {
            Some(Refusal::SlowDown(_)) => {
                let least = if self.hub.holds_senders() { RETRY_AFTER } else { Duration::ZERO };
                Err(Refusal::slow_down(self.wait_of(now, key, frame).max(least)))
            }
            Some(refusal) => Err(refusal),
            None if frame.verb == Verb::Reg => Ok(self.token_of(key).into()),
            None => DONE,
        }
    }

    fn effect(
        &mut self,
        now: Instant,
        key: SessionKey,
        frame: &Frame<'_>,
        kept: Option<&Bytes>,
    ) -> Answer<'static> {
        if frame.verb == Verb::Reg {
            return self.register_again(now, key, frame);
        }
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let args = frame.args();
        match frame.verb {
            Verb::Snd => {
                let SndArgs { target, body } = SndArgs::parse(args).ok_or(Refusal::Malformed)?;
                self.refuse_to_wait(key, target, body.len())?;
                self.hub.send(key, target, Body::new(body, kept))?;
            }
            Verb::Jon => self.hub.join(key, args)?,
            _ => self.hub.leave(key, args)?,
        }
        DONE
    }

    /// Answers a request without an effect.
    fn answer_query<'a>(&self, key: SessionKey, frame: &Frame<'a>) -> Answer<'a> {
        match frame.verb {
            Verb::Png => {
                self.pong(frame, self.hub.get(key).is_some_and(|session| session.form == Form::Tagged))
            }
            Verb::Lst => self.list(key, frame),
            _ => Err(Refusal::UnknownVerb),
        }
    }

    /// Returns the answer to a PNG. A peer that may not know the long form of a length gets at most 9,999 bytes. A
    /// long answer is refused while memory is scarce: it may never be read.
    pub(super) fn pong<'a>(&self, ping: &Frame<'a>, knows_long_form: bool) -> Answer<'a> {
        let most = if knows_long_form { MAX_PING } else { SHORT_LENGTH_MAX };
        match ping.payload.len() {
            length if length > most => Err(Refusal::TooLong),
            length if length > self.longest_answer() => Err(Refusal::ServerFull),
            _ => Ok(ping.payload.into()),
        }
    }

    fn list(&self, key: SessionKey, frame: &Frame<'_>) -> Answer<'static> {
        let limit = self.hub.get(key).map_or(SHORT_LENGTH_MAX, |session| session.answer_limit());
        let limit = limit.min(self.longest_answer());
        let room = Some(frame.args()).filter(|args| !args.is_empty());
        Ok(one_word(&self.hub.list(room, limit.saturating_sub(1))?).into())
    }

    /// Returns the payload of the ACK to a granted REG: the session's token.
    pub(super) fn token_of(&self, key: SessionKey) -> Vec<u8> {
        self.hub.get(key).map_or_else(Vec::new, |session| one_word(&session.token.text()))
    }
}

/// REG.
impl Server {
    /// Executes a REG of a connection or address without a session: opens or resumes one.
    ///
    /// Returns the session and whether `path` carries it now.
    pub(super) fn register(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        path: Path,
        origin: Origin,
    ) -> Result<(SessionKey, bool), Refusal> {
        let tagged = frame.id.is_some();
        match RegArgs::parse(frame.args()).ok_or(Refusal::Malformed)? {
            RegArgs::Name(name) => self.open(now, frame, name, None, path, origin).map(|key| (key, true)),
            RegArgs::Open { name, nonce } if tagged => match self.lookup.of_nonce(&self.hub, &nonce) {
                Some(key) => self.opened_before(now, key, name),
                None if self.spent.contains(&nonce) => Err(Refusal::SessionGone),
                None => self.open(now, frame, name, Some(nonce), path, origin).map(|key| (key, true)),
            },
            RegArgs::Resume { name, token } if tagged => self.resume(now, frame, name, token, path, origin),
            RegArgs::Open { .. } | RegArgs::Resume { .. } => Err(Refusal::Malformed),
        }
    }

    fn open(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        name: &[u8],
        nonce: Option<Token>,
        path: Path,
        origin: Origin,
    ) -> Result<SessionKey, Refusal> {
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let name = self.hub.read_name(name).map_err(|_| Refusal::NameNotAllowed)?;
        // A denied name is logged even if it is in use.
        self.admit(now, &name, &origin)?;
        if self.hub.is_taken(&name) {
            return Err(self.name_taken(now, &name));
        }
        self.has_room(now, path, origin.from)?;
        if matches!(path, Path::Datagram(_)) && !self.spent.admits(Host::of(origin.from)) {
            return Err(Refusal::ServerFull);
        }
        let (token, tagged) = (self.secrets.token(), frame.id.is_some());
        let form = if tagged { Form::Tagged } else { Form::Untagged };
        let rate = self.rate_of(origin.listener);
        let key = self.hub.open(Opening { name, form, token, nonce, path, origin, rate })?;
        self.lookup.enter(&self.hub, key);
        self.hold_host(path, origin.from);
        if let Some(session) = self.hub.get(key) {
            log::debug!("{}: a session begins", session.name);
        }
        self.registered(key, frame);
        self.arm(key);
        Ok(key)
    }

    /// Records an executed REG: its id is the session's newest, and a duplicate gets the same answer.
    fn registered(&mut self, key: SessionKey, frame: &Frame<'_>) {
        let Some(id) = frame.id else { return };
        let hash = self.secrets.frame_hash(frame);
        if let Some(session) = self.hub.get_mut(key) {
            session.set_newest_reg(id.get());
        }
        self.hub.prepare_reply(key, id);
        self.hub.remember(key, id, hash, ACKED);
    }

    /// Answers a REG with the nonce of an open session: the same answer, without a reset or a move.
    fn opened_before(
        &mut self,
        now: Instant,
        key: SessionKey,
        name: &[u8],
    ) -> Result<(SessionKey, bool), Refusal> {
        self.totals.repeats += 1;
        if !self.is_name_of(key, name) {
            return Err(Refusal::IdReused);
        }
        // The answers so far were lost, and the client still waits for one.
        if let Some(session) = self.hub.get_mut(key) {
            session.hear_from_elsewhere(now);
        }
        Ok((key, false))
    }

    fn resume(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        name: &[u8],
        token: Token,
        path: Path,
        origin: Origin,
    ) -> Result<(SessionKey, bool), Refusal> {
        let key = self.lookup.of_token(&self.hub, &token).ok_or(Refusal::SessionGone)?;
        let session = self.hub.get(key).ok_or(Refusal::SessionGone)?;
        let same_kind = session.is_on_streams() == matches!(path, Path::Stream(_));
        if !same_kind || !self.is_name_of(key, name) {
            return Err(Refusal::SessionGone);
        }
        let id = frame.id.ok_or(Refusal::Malformed)?;
        let hash = self.secrets.frame_hash(frame);
        match session.replies().lookup(id, hash) {
            Seen::Conflict => return Err(Refusal::IdReused),
            Seen::Stale => return Err(Refusal::Stale),
            Seen::Repeat(answer) => {
                self.totals.repeats += 1;
                if let Some(refusal) = Refusal::from_byte(answer) {
                    return Err(refusal);
                }
            }
            Seen::New if id.get() > session.newest_reg() => {
                let name = session.name.clone();
                if let Err(refusal) = self.admit(now, &name, &origin) {
                    // Other rules may hold when this request is retransmitted.
                    self.hub.prepare_reply(key, id);
                    self.remember(key, id, hash, &Err(refusal));
                    return Err(refusal);
                }
                self.registered(key, frame);
                self.take_up(now, key, path, origin);
                return Ok((key, true));
            }
            Seen::New => {}
        }
        Ok((key, false))
    }

    /// Executes a REG on a path that carries a session already.
    fn register_again(&mut self, now: Instant, key: SessionKey, frame: &Frame<'_>) -> Answer<'static> {
        match RegArgs::parse(frame.args()).ok_or(Refusal::Malformed)? {
            RegArgs::Name(name) if frame.id.is_none() && self.is_name_of(key, name) => DONE,
            RegArgs::Name(_) => Err(Refusal::AlreadyRegistered),
            RegArgs::Open { name, nonce } => {
                let same = self.hub.get(key).is_some_and(|session| session.nonce() == Some(nonce));
                if same && self.is_name_of(key, name) {
                    Ok(self.token_of(key).into())
                } else {
                    Err(Refusal::AlreadyRegistered)
                }
            }
            RegArgs::Resume { name, token } => {
                let same = self
                    .hub
                    .get(key)
                    .is_some_and(|session| session.form == Form::Tagged && session.token == token);
                if !same || !self.is_name_of(key, name) {
                    return Err(Refusal::AlreadyRegistered);
                }
                let newest = frame.id.map_or(0, Id::get);
                if let Some(session) = self.hub.get_mut(key).filter(|session| newest > session.newest_reg()) {
                    session.set_newest_reg(newest);
                    let (path, origin) = (session.path(), session.origin());
                    self.hub.take_up(now, key, path, origin);
                }
                Ok(self.token_of(key).into())
            }
        }
    }

    pub(super) fn is_name_of(&self, key: SessionKey, name: &[u8]) -> bool {
        self.work().add_name(name, 2);
        let name = self.hub.read_name(name).ok();
        self.hub.get(key).zip(name).is_some_and(|(session, name)| session.name.fold() == name.fold())
    }
}
