//! Input from the server: answers, pushes, and frames about the session or the connection.
//!
//! Datagrams are checked for their token here. The answer to REG is handled in `register`.

use std::time::{Duration, Instant};

use super::{Client, ClientState, Closed, Event};
use crate::config::Transport;
use crate::escape::escape;
use crate::reliable::{Outcome, Receipt};
use crate::wire::{
    ByeArgs, Datagram, ErrArgs, Frame, Id, RcvArgs, Token, Verb, encode_args, encode_ranges, parse_gap,
    parse_wait,
};

/// On a stream an acknowledgement is delayed until this many pushes,
const ACK_PUSHES: usize = 32;
/// this many bytes of them,
const ACK_BYTES: usize = 16 << 10;
/// or this time, whichever is first.
const ACK_DELAY: Duration = Duration::from_millis(100);

/// A received push, delivered in the order of ids.
#[derive(Debug)]
pub(super) enum Push {
    Message { sender: Vec<u8>, body: Vec<u8> },
    Gap(u64),
    Bye(ByeArgs),
}

/// The deadline of the next acknowledgement.
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

    /// Counts a received push. Returns whether to acknowledge at once.
    fn received(&mut self, now: Instant, bytes: usize) -> bool {
        self.pushes += 1;
        self.bytes += bytes;
        self.due.get_or_insert(now + ACK_DELAY);
        self.pushes >= ACK_PUSHES || self.bytes >= ACK_BYTES
    }
}

/// Input.
impl Client {
    /// Handles bytes from the stream. Bytes of a connection that is no longer wanted are ignored.
    pub fn handle_bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        if !self.is_connected() {
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
            // Ignore input after the end of the connection.
            if !self.is_connected() {
                break None;
            }
            match deframer.next(&mut bytes) {
                Ok(Some(frame)) => self.handle_frame(now, &frame),
                Ok(None) => break None,
                Err(malformed) => break Some(malformed),
            }
        };
        self.deframer = deframer;
        if let Some(malformed) = broken {
            log::warn!("the server sent malformed input: {malformed}");
            self.events.push_back(Event::Disconnect);
            self.handle_disconnected(now);
        }
        self.collect_ended();
        self.leave_if_drained(now);
    }

    /// Whether there is a connection or a session on which frames may arrive.
    fn is_connected(&self) -> bool {
        matches!(self.state, ClientState::Registering(_) | ClientState::Ready | ClientState::Draining { .. })
    }

    /// Handles a datagram.
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
        self.leave_if_drained(now);
    }

    fn is_cookie(&self, token: Token) -> bool {
        matches!(&self.state, ClientState::Registering(registration) if registration.cookie == Some(token))
    }

    /// Handles frames without a token, which any host could have sent: only those that repeat the client's nonce are
    /// accepted.
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

    /// Handles a frame after the cookie of the REG in flight.
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

    /// Handles a frame of this session, or of a stream without a session.
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
            (Verb::Err, None) => self.handle_untagged_err(now, frame),
            (Verb::Bye, None) => self.server_bye(now, ByeArgs::parse(frame.args())),
            _ => {}
        }
    }

    fn handle_answer(&mut self, now: Instant, id: Id, frame: &Frame<'_>) {
        if self.requeue_if_limited(now, id, frame) || self.requeue_if_draining(now, id, frame) {
            return;
        }
        let unproven = code_of(frame) == Some(428);
        if let Some(outcome) = outcome_of(frame).filter(|_| !unproven) {
            self.requests.answered(now, id, outcome);
        }
    }

    /// Requeues a request after a 429 that names a wait, as long as the limits on such waits allow. Returns whether it
    /// did.
    fn requeue_if_limited(&mut self, now: Instant, id: Id, frame: &Frame<'_>) -> bool {
        let err = Some(frame)
            .filter(|frame| frame.verb == Verb::Err)
            .and_then(|frame| ErrArgs::parse(frame.args()));
        let Some(ErrArgs { code: 429, text }) = err else { return false };
        let asked = parse_wait(text).and_then(|wait| self.requests.ask_anew(now, id, wait, (429, text)));
        self.events.extend(asked.map(Event::SlowDown));
        asked.is_some()
    }

    /// Handles an untagged ERR, which is about the session or the connection, not about a request.
    fn handle_untagged_err(&mut self, now: Instant, frame: &Frame<'_>) {
        match (code_of(frame), self.config.transport) {
            (Some(401), Transport::Datagram) => self.session_lost(now),
            (Some(428), Transport::Datagram) => self.challenged(now, frame),
            (Some(409), _) => {
                self.requests.give_up(now);
                self.closed(Closed::TakenUp);
            }
            _ => self.last_error = Some(escape(frame.args()).into_owned()),
        }
    }

    /// Handles the server's BYE, whose reason decides whether the client reconnects.
    fn server_bye(&mut self, now: Instant, bye: ByeArgs) {
        let is_stream = self.config.transport == Transport::Stream;
        match bye {
            _ if is_stream && self.registering().is_some() => self.retry_registration(now, Outcome::Unknown),
            ByeArgs::Draining(back_in) => self.drain(now, back_in),
            ByeArgs::Waiting(_) if is_stream => self.connection_ended(now),
            ByeArgs::Elsewhere => {
                self.requests.give_up(now);
                self.closed(Closed::TakenUp);
            }
            ByeArgs::Waiting(_) | ByeArgs::Ended => {
                self.requests.give_up(now);
                let words = self.last_error.take();
                self.closed(Closed::ServerBye(words));
            }
        }
    }

    /// Resumes the session on a new connection after the server has ended this one.
    fn connection_ended(&mut self, now: Instant) {
        let words = self.last_error.take().unwrap_or_default();
        log::info!("the server ended the connection, and the session is resumed on another: {words}");
        self.events.push_back(Event::Disconnect);
        self.handle_disconnected(now);
    }
}

/// Pushes.
impl Client {
    fn handle_push(&mut self, now: Instant, id: Id, frame: &Frame<'_>) {
        let Some(pushed) = parse_push(frame) else { return };
        match self.inbox.receive(id, pushed) {
            Receipt::Fresh => {}
            Receipt::Copy => self.stats.repeated_pushes += 1,
            Receipt::TooFar => return,
        }
        let at_once = self.acks.received(now, frame.payload.len());
        if at_once && self.config.transport == Transport::Stream {
            self.acknowledge();
        }
        // At once: pushes before the end of the session are delivered before it.
        self.deliver(now);
    }

    /// Delivers the pushes that are in order. The server's BYE is acknowledged before it takes effect.
    fn deliver(&mut self, now: Instant) {
        while !self.is_closed()
            && let Some(pushed) = self.inbox.pop()
        {
            match pushed {
                Push::Message { sender, body } => self.events.push_back(Event::Message { sender, body }),
                Push::Gap(count) => self.events.push_back(Event::Gap(count)),
                Push::Bye(bye) => {
                    self.acknowledge();
                    self.server_bye(now, bye);
                }
            }
        }
    }

    pub(super) fn acknowledge(&mut self) {
        let mut bytes = self.prefixed();
        self.encode_acknowledgement(&mut bytes);
        if self.config.transport == Transport::Datagram {
            // It covers every earlier acknowledgement, and nothing else is in `outgoing`.
            self.outgoing.clear();
        }
        self.outgoing.push_back(bytes);
    }

    /// Appends an acknowledgement of all received pushes.
    pub(super) fn encode_acknowledgement(&mut self, out: &mut Vec<u8>) {
        self.acks.reset();
        let mut ranges = Vec::new();
        encode_ranges(&self.inbox.received(), &mut ranges);
        encode_args(None, Verb::Ack, &[&ranges], out);
    }
}

fn parse_push(frame: &Frame<'_>) -> Option<Push> {
    match frame.verb {
        Verb::Rcv => RcvArgs::parse(frame.args())
            .map(|rcv| Push::Message { sender: rcv.sender.to_vec(), body: rcv.body.to_vec() }),
        Verb::Gap => parse_gap(frame.args()).map(Push::Gap),
        Verb::Bye => Some(Push::Bye(ByeArgs::parse(frame.args()))),
        _ => None,
    }
}

fn code_of(frame: &Frame<'_>) -> Option<u16> {
    (frame.verb == Verb::Err).then(|| ErrArgs::parse(frame.args()).map(|err| err.code)).flatten()
}

/// The outcome that an answer gives its request. 410 is unknown, not rejected: the id is below the dedup window.
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
