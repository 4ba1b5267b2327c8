//! What a client does when it may not go on at once: the server shuts down, or the name's session waits for its owner.
//!
//! Both have it come back after a time that the server announced, if its policy allows a second attempt at all. Requests
//! that were not sent stay queued meanwhile.

use std::time::{Duration, Instant};

use rand::Rng as _;

use super::{Client, Closed, Event, State};
use crate::config::Transport;
use crate::error::{Refusal, parse_name_wait};
use crate::reliable::Outcome;
use crate::units::{later, uniform};
use crate::wire::{ErrArgs, Frame, Id, Verb};

/// How long answers to what was sent are awaited at most once the server has said that it shuts down.
const LONGEST_SETTLE: Duration = Duration::from_secs(1);

/// How long at most until a name is asked for again: within that time a client that lives is heard (its keepalive is 25 s),
/// and its session goes on for longer.
const NAME_CHECK: Duration = Duration::from_secs(30);

/// By how much the announced end of a session may move because it is rounded to seconds.
const NAME_SLACK: Duration = Duration::from_secs(2);

/// The longest announced time that is waited for, of a server to be back and of a name to be free.
const LONGEST_AWAY: Duration = Duration::from_secs(60 * 60);

impl Client {
    /// Whether the policy allows more than one attempt.
    pub(super) fn is_persistent(&self) -> bool {
        self.config.policy.max_sends() > 1
    }

    /// The wait before a new attempt after an announced time, with jitter so that not all clients come at once. `None` if
    /// the policy, or a constant, forbids to wait for so long.
    fn away_for(&mut self, announced: Duration) -> Option<Duration> {
        let spread = (announced / 4).max(self.config.policy.ack_timeout());
        let wait = announced.saturating_add(uniform(Duration::ZERO, spread, self.rng.next_u64()));
        let is_too_long = |limit: Duration| announced >= limit;
        let deadline = self.config.policy.deadline().is_some_and(is_too_long);
        (self.is_persistent() && !deadline && !is_too_long(LONGEST_AWAY)).then_some(wait)
    }

    /// Begins what [`State::Offline`] has waited for.
    pub(super) fn reach_out(&mut self, now: Instant) {
        match self.config.transport {
            Transport::Stream => self.connect(now),
            Transport::Datagram => self.begin(now),
        }
    }
}

/// The server shuts down.
impl Client {
    /// The server has said that it shuts down.
    pub(super) fn drain(&mut self, now: Instant, announced: Option<Duration>) {
        let settle = self.config.policy.ack_timeout().min(LONGEST_SETTLE);
        match &mut self.state {
            State::Draining { back_in, .. } => *back_in = announced.or(*back_in),
            State::Registering(_) | State::Ready => {
                self.state = State::Draining { back_in: announced, settle_by: later(now, settle) };
            }
            State::Offline { .. } | State::Connecting { .. } | State::Closed => {}
        }
    }

    /// Leaves a server that shuts down once nothing is in flight. Over datagrams a copy of its BYE may still come, and is
    /// to be acknowledged.
    pub(super) fn settle_drain(&mut self, now: Instant) {
        let hears_copies = self.config.transport == Transport::Datagram && self.is_persistent();
        if matches!(self.state, State::Draining { .. }) && !hears_copies && !self.requests.has_in_flight() {
            self.leave_drained(now);
        }
    }

    /// The session has ended with the server: comes back as announced, or by the policy's backoff.
    pub(super) fn leave_drained(&mut self, now: Instant) {
        let State::Draining { back_in, .. } = self.state else { return };
        self.forget_session(now);
        if self.is_closed() {
            return;
        }
        if self.requests.has_only_bye_left() {
            return self.closed(Closed::Done);
        }
        match self.back_at(now, back_in) {
            Some(again_at) => {
                self.rejoin_rooms();
                self.state = State::Offline { retry_at: again_at };
                self.events.push_back(Event::Draining { again_at });
            }
            None => self.closed(Closed::Draining(back_in)),
        }
    }

    fn back_at(&mut self, now: Instant, announced: Option<Duration>) -> Option<Instant> {
        self.connecting = None;
        if let Some(announced) = announced {
            return self.away_for(announced).map(|wait| later(now, wait));
        }
        // The connection that has ended counts as a first attempt that failed.
        let mut attempts = self.config.policy.start(&mut self.rng);
        let failed_at = attempts.send(now, None, &mut self.rng).filter(|_| self.is_persistent())?;
        if self.config.transport == Transport::Stream {
            self.connecting = Some((attempts, failed_at));
        }
        Some(failed_at)
    }

    /// Takes back a request that was refused because the server shuts down: it is asked anew, under a new id, in the next
    /// session. Returns whether it was.
    pub(super) fn is_put_off(&mut self, now: Instant, id: Id, frame: &Frame<'_>) -> bool {
        let err = (frame.verb == Verb::Err).then(|| ErrArgs::parse(frame.args())).flatten();
        let Some(ErrArgs { code, text }) = err else { return false };
        if !is_draining(code, text) || !self.is_persistent() {
            return false;
        }
        let is_put_off = self.requests.ask_anew(now, id, Duration::ZERO, (code, text)).is_some();
        if is_put_off {
            self.drain(now, None);
        }
        is_put_off
    }
}

/// Refused registrations.
impl Client {
    /// Whether a registration that was refused is tried again later; if so, it will be.
    pub(super) fn registers_later(&mut self, now: Instant, code: u16, text: &[u8]) -> bool {
        if is_draining(code, text) && self.is_persistent() {
            self.try_another_way(now, Outcome::Rejected(code, text.to_vec()));
            return true;
        }
        let wait = parse_name_wait(text).filter(|_| code == Refusal::NameTaken.code());
        let Some((left, wait)) = wait.and_then(|left| Some((left, self.away_for(left)?))) else {
            return false;
        };
        let free_at = later(now, left);
        if self.name_free_at.is_some_and(|before| free_at > later(before, NAME_SLACK)) {
            // Its owner was heard meanwhile, and is not gone.
            return false;
        }
        self.name_free_at = Some(free_at);
        let again_at = later(now, wait.min(NAME_CHECK));
        if self.config.transport == Transport::Stream {
            self.events.push_back(Event::Disconnect);
        }
        (self.connecting, self.nonce) = (None, None);
        self.state = State::Offline { retry_at: again_at };
        self.events.push_back(Event::NameTaken { again_at });
        true
    }

    /// The server takes nobody on this connection: that attempt has failed, and the schedule goes on.
    pub(super) fn try_another_way(&mut self, now: Instant, refused: Outcome) {
        if self.config.transport == Transport::Datagram {
            return self.register_under_new_id(now);
        }
        if self.connecting.as_ref().is_some_and(|(attempts, _)| attempts.has_sends_left()) {
            self.events.push_back(Event::Disconnect);
            return self.handle_disconnected(now);
        }
        self.requests.give_up(now);
        let words = self.last_words.take();
        self.closed(match refused {
            Outcome::Rejected(code, text) => Closed::Refused(code, crate::escape::escape(&text).into_owned()),
            Outcome::Acked(_) | Outcome::Unknown | Outcome::NeverSent => Closed::ServerBye(words),
        });
    }
}

fn is_draining(code: u16, text: &[u8]) -> bool {
    code == Refusal::Draining.code() && text == Refusal::Draining.text().as_bytes()
}
