//! What the server says: answers, pushes, and words about the session itself.

use std::time::{Duration, Instant};

use super::{Client, Closed, Event, State};
use crate::config::Transport;
use crate::escape::escape;
use crate::reliable::{Outcome, Receipt};
use crate::wire::{
    Datagram, ErrArgs, Frame, Id, RcvArgs, Token, Verb, encode_args, encode_ranges, parse_gap, parse_wait,
};

/// On a stream an acknowledgement waits for this many pushes ..
const ACK_PUSHES: usize = 32;
/// .. or this many bytes of them ..
const ACK_BYTES: usize = 16 << 10;
/// .. or this long.
const ACK_DELAY: Duration = Duration::from_millis(100);

/// A push as it waits for its turn.
#[derive(Debug)]
pub(super) enum Pushed {
    Message { sender: Vec<u8>, body: Vec<u8> },
    Gap(u64),
    Bye,
}

/// When the next acknowledgement is due.
#[derive(Debug, Default)]
pub(super) struct AckTimer {
    due: Option<Instant>,
    pushes: usize,
    bytes: usize,
}

impl AckTimer {
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A push came in. Returns whether to acknowledge at once.
    fn received(&mut self, now: Instant, bytes: usize) -> bool {
        self.pushes += 1;
        self.bytes += bytes;
        self.due.get_or_insert(now + ACK_DELAY);
        self.pushes >= ACK_PUSHES || self.bytes >= ACK_BYTES
    }
}

/// Input.
impl Client {
    /// Bytes came in on the stream. Those of a connection that is no longer wanted do nothing.
    pub fn handle_bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        if !matches!(self.state, State::Registering(_) | State::Ready) {
            return;
        }
        self.heard = true;
        if self.is_ready() {
            self.connecting = None;
        }
        // Taken out, so that a frame may be borrowed from it while the client changes.
        let mut deframer =
            std::mem::replace(&mut self.deframer, crate::wire::Deframer::new(self.config.max_message));
        let broken = loop {
            match deframer.next(&mut bytes) {
                Ok(Some(frame)) => self.handle_frame(now, &frame),
                Ok(None) => break None,
                Err(malformed) => break Some(malformed),
            }
        };
        self.deframer = deframer;
        if let Some(malformed) = broken {
            log::warn!("the server sent what is no frame: {malformed}");
            self.events.push_back(Event::Disconnect);
            self.handle_disconnected(now);
        }
        self.collect_ended();
    }

    /// A datagram came in.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) {
        if self.is_closed() {
            return;
        }
        let Ok(datagram) = Datagram::parse(bytes, self.config.max_message) else {
            self.stats.malformed += 1;
            return;
        };
        self.heard = true;
        match datagram.token {
            Some(token) if self.token == Some(token) => {
                self.silence.ended();
                for frame in &datagram.frames {
                    self.handle_frame(now, frame);
                }
                if self.acks.due().is_some() {
                    self.acknowledge();
                }
            }
            Some(token) if self.is_cookie(token) => {
                self.silence.ended();
                for frame in &datagram.frames {
                    self.handle_registration_frame(now, frame);
                }
            }
            None => self.handle_bare(now, &datagram),
            Some(_) => self.stats.stray += 1,
        }
        self.collect_ended();
    }

    fn is_cookie(&self, token: Token) -> bool {
        matches!(&self.state, State::Registering(registration) if registration.cookie == Some(token))
    }

    /// What comes without a token could be from anybody: only what repeats our own nonce is believed.
    fn handle_bare(&mut self, now: Instant, datagram: &Datagram<'_>) {
        for frame in &datagram.frames {
            match (frame.verb, frame.id) {
                (Verb::Err, Some(id)) if self.registering() == Some(id) && code_of(frame) == Some(428) => {
                    self.silence.ended();
                    self.challenged(now, frame);
                }
                (Verb::Ack, Some(id))
                    if self.config.name.is_none() && self.requests.is_asked_with(id, frame.payload) =>
                {
                    self.silence.ended();
                    self.requests.answered(now, id, Outcome::Acked(frame.payload.to_vec()));
                }
                _ => self.stats.stray += 1,
            }
        }
    }

    /// A frame behind the cookie of the REG that is under way.
    fn handle_registration_frame(&mut self, now: Instant, frame: &Frame<'_>) {
        if frame.id.is_none() || self.registering() != frame.id {
            return;
        }
        if code_of(frame) == Some(428) {
            self.challenged(now, frame);
        } else if let Some(outcome) = outcome_of(frame) {
            self.registration_answered(now, outcome);
        }
    }

    /// A frame of this session, or of a stream that has none yet.
    fn handle_frame(&mut self, now: Instant, frame: &Frame<'_>) {
        if self.is_closed() {
            return;
        }
        match (frame.verb, frame.id) {
            (Verb::Ack | Verb::Err, Some(id)) if self.registering() == Some(id) => {
                self.handle_registration_frame(now, frame);
            }
            (Verb::Ack | Verb::Err, Some(id)) => self.handle_answer(now, id, frame),
            (Verb::Rcv | Verb::Gap | Verb::Bye, Some(id)) => self.handle_push(now, id, frame),
            (Verb::Err, None) => self.handle_words(now, frame),
            (Verb::Bye, None) if self.config.transport == Transport::Stream => self.server_bye(now),
            _ => {}
        }
    }

    fn handle_answer(&mut self, now: Instant, id: Id, frame: &Frame<'_>) {
        if self.is_asked_to_wait(now, id, frame) {
            return;
        }
        let unproven = code_of(frame) == Some(428);
        if let Some(outcome) = outcome_of(frame).filter(|_| !unproven) {
            self.requests.answered(now, id, outcome);
        }
    }

    /// Obeys a 429 that says how long to wait, for as long as that may go on.
    fn is_asked_to_wait(&mut self, now: Instant, id: Id, frame: &Frame<'_>) -> bool {
        let err = Some(frame)
            .filter(|frame| frame.verb == Verb::Err)
            .and_then(|frame| ErrArgs::parse(frame.args()));
        let Some(ErrArgs { code: 429, text }) = err else { return false };
        let asked = parse_wait(text).and_then(|wait| self.requests.slow_down(now, id, wait, text));
        self.events.extend(asked.map(Event::SlowDown));
        asked.is_some()
    }

    /// An untagged ERR is about the session or the connection, not about a request.
    fn handle_words(&mut self, now: Instant, frame: &Frame<'_>) {
        match (code_of(frame), self.config.transport) {
            (Some(401), Transport::Datagram) => self.session_lost(now),
            (Some(428), Transport::Datagram) => self.challenged(now, frame),
            (Some(409), _) => {
                self.requests.give_up(now);
                self.closed(Closed::TakenUp);
            }
            _ => self.last_words = Some(escape(frame.args()).into_owned()),
        }
    }

    fn server_bye(&mut self, now: Instant) {
        self.requests.give_up(now);
        let words = self.last_words.take();
        self.closed(Closed::ServerBye(words));
    }
}

/// Pushes.
impl Client {
    fn handle_push(&mut self, now: Instant, id: Id, frame: &Frame<'_>) {
        let Some(pushed) = pushed(frame) else { return };
        match self.inbox.receive(id, pushed) {
            Receipt::Fresh => {}
            Receipt::Copy => self.stats.repeated_pushes += 1,
            Receipt::TooFar => return,
        }
        let at_once = self.acks.received(now, frame.payload.len());
        if at_once && self.config.transport == Transport::Stream {
            self.acknowledge();
        }
        // At once: what came before the end of the session is to be handed on before it.
        self.hand_on(now);
    }

    /// Hands on what is in order. The server's goodbye is acknowledged before it takes effect.
    fn hand_on(&mut self, now: Instant) {
        while !self.is_closed()
            && let Some(pushed) = self.inbox.pop()
        {
            match pushed {
                Pushed::Message { sender, body } => self.events.push_back(Event::Message { sender, body }),
                Pushed::Gap(count) => self.events.push_back(Event::Gap(count)),
                Pushed::Bye => {
                    self.acknowledge();
                    self.server_bye(now);
                }
            }
        }
    }

    pub(super) fn acknowledge(&mut self) {
        let mut bytes = self.prefixed();
        self.encode_acknowledgement(&mut bytes);
        if self.config.transport == Transport::Datagram {
            // It names everything that one before it does, and nothing else waits here.
            self.outgoing.clear();
        }
        self.outgoing.push_back(bytes);
    }

    /// Appends an acknowledgement of everything that has come in.
    pub(super) fn encode_acknowledgement(&mut self, out: &mut Vec<u8>) {
        self.acks.reset();
        let mut ranges = Vec::new();
        encode_ranges(&self.inbox.received(), &mut ranges);
        encode_args(None, Verb::Ack, &[&ranges], out);
    }
}

fn pushed(frame: &Frame<'_>) -> Option<Pushed> {
    match frame.verb {
        Verb::Rcv => RcvArgs::parse(frame.args())
            .map(|rcv| Pushed::Message { sender: rcv.sender.to_vec(), body: rcv.body.to_vec() }),
        Verb::Gap => parse_gap(frame.args()).map(Pushed::Gap),
        Verb::Bye => Some(Pushed::Bye),
        _ => None,
    }
}

fn code_of(frame: &Frame<'_>) -> Option<u16> {
    (frame.verb == Verb::Err).then(|| ErrArgs::parse(frame.args()).map(|err| err.code)).flatten()
}

/// What an answer says of its request. 410 is no refusal: the id is too old to know.
fn outcome_of(frame: &Frame<'_>) -> Option<Outcome> {
    match frame.verb {
        Verb::Ack => Some(Outcome::Acked(frame.payload.to_vec())),
        Verb::Err => ErrArgs::parse(frame.args()).map(|err| match err.code {
            410 => Outcome::Unknown,
            code => Outcome::Rejected(code, err.text.to_vec()),
        }),
        _ => None,
    }
}
