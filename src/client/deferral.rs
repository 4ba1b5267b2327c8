//! A client that has to wait before a new session: the server shuts down, or another session still holds the name.
//!
//! In both cases the client retries after a time that the server announced, if its policy allows a second attempt.
//! Requests that were not sent stay queued meanwhile.

use std::time::{Duration, Instant};

use rand::Rng as _;

use super::{Client, ClientState, Closed, Event};
use crate::config::Transport;
use crate::error::{Refusal, parse_name_wait};
use crate::reliable::Outcome;
use crate::units::{later, uniform};
use crate::wire::{ErrArgs, Frame, Id, Verb};

/// The longest wait for answers to sent requests after the server has announced its shutdown.
const MAX_DRAIN_WAIT: Duration = Duration::from_secs(1);

/// The longest wait before the next REG for a taken name. A live owner sends something within this time (its keepalive
/// is 25 s), which postpones the announced end of its session.
const NAME_CHECK: Duration = Duration::from_secs(30);

/// Largest shift of the announced end of a session, because it is rounded to seconds.
const NAME_TOLERANCE: Duration = Duration::from_secs(2);

/// Announced times of this length or more are not waited for.
const MAX_RETURN_WAIT: Duration = Duration::from_secs(60 * 60);

impl Client {
    /// Whether the policy allows more than one attempt.
    pub(super) fn is_persistent(&self) -> bool {
        self.config.policy.max_sends() > 1
    }

    /// The announced time plus jitter, so that clients do not return all at once. `None` if the policy's deadline or
    /// [`MAX_RETURN_WAIT`] is not longer, or if the policy allows one send only.
    fn return_delay(&mut self, announced: Duration) -> Option<Duration> {
        let spread = (announced / 4).max(self.config.policy.ack_timeout());
        let wait = announced.saturating_add(uniform(Duration::ZERO, spread, self.rng.next_u64()));
        let is_too_long = |limit: Duration| announced >= limit;
        let deadline = self.config.policy.deadline().is_some_and(is_too_long);
        (self.is_persistent() && !deadline && !is_too_long(MAX_RETURN_WAIT)).then_some(wait)
    }

    /// Starts the attempt that [`ClientState::Offline`] has waited for.
    pub(super) fn start_attempt(&mut self, now: Instant) {
        match self.config.transport {
            Transport::Stream => self.connect(now),
            Transport::Datagram => self.begin(now),
        }
    }
}

/// Shutdown of the server.
impl Client {
    /// Starts to drain, after the server has announced its shutdown.
    pub(super) fn drain(&mut self, now: Instant, announced: Option<Duration>) {
        let settle = self.config.policy.ack_timeout().min(MAX_DRAIN_WAIT);
        match &mut self.state {
            ClientState::Draining { back_in, .. } => *back_in = announced.or(*back_in),
            ClientState::Registering(_) | ClientState::Ready => {
                self.state = ClientState::Draining { back_in: announced, drain_deadline: later(now, settle) };
            }
            ClientState::Offline { .. } | ClientState::Connecting { .. } | ClientState::Closed => {}
        }
    }

    /// Leaves a server that shuts down once nothing is in flight. Over datagrams a copy of its BYE may still arrive and
    /// has to be acknowledged, so the client waits for the drain deadline there.
    pub(super) fn leave_if_drained(&mut self, now: Instant) {
        let may_receive_copies = self.config.transport == Transport::Datagram && self.is_persistent();
        if matches!(self.state, ClientState::Draining { .. })
            && !may_receive_copies
            && !self.requests.has_in_flight()
        {
            self.leave_drained(now);
        }
    }

    /// Ends the session of a server that shuts down, and schedules the return: as announced, or by the policy's
    /// backoff.
    pub(super) fn leave_drained(&mut self, now: Instant) {
        let ClientState::Draining { back_in, .. } = self.state else { return };
        self.forget_session(now);
        if self.is_closed() {
            return;
        }
        if self.requests.has_only_bye_left() {
            return self.closed(Closed::Done);
        }
        match self.return_at(now, back_in) {
            Some(again_at) => {
                self.rejoin_rooms();
                self.state = ClientState::Offline { retry_at: again_at };
                self.events.push_back(Event::Draining { again_at });
            }
            None => self.closed(Closed::Draining(back_in)),
        }
    }

    fn return_at(&mut self, now: Instant, announced: Option<Duration>) -> Option<Instant> {
        self.connecting = None;
        if let Some(announced) = announced {
            return self.return_delay(announced).map(|wait| later(now, wait));
        }
        // The ended connection counts as the first failed attempt.
        let mut attempts = self.config.policy.start(&mut self.rng);
        let failed_at = attempts.send(now, None, &mut self.rng).filter(|_| self.is_persistent())?;
        if self.config.transport == Transport::Stream {
            self.connecting = Some((attempts, failed_at));
        }
        Some(failed_at)
    }

    /// Requeues a request that was rejected because the server shuts down: the next session sends it under a new id.
    /// Returns whether it did.
    pub(super) fn requeue_if_draining(&mut self, now: Instant, id: Id, frame: &Frame<'_>) -> bool {
        let err = (frame.verb == Verb::Err).then(|| ErrArgs::parse(frame.args())).flatten();
        let Some(ErrArgs { code, text }) = err else { return false };
        if !is_draining(code, text) || !self.is_persistent() {
            return false;
        }
        let is_requeued = self.requests.ask_anew(now, id, Duration::ZERO, (code, text)).is_some();
        if is_requeued {
            self.drain(now, None);
        }
        is_requeued
    }
}

/// Refused registrations.
impl Client {
    /// Schedules another attempt of a rejected registration, if it is worth one. Returns whether it did.
    pub(super) fn defers_registration(&mut self, now: Instant, code: u16, text: &[u8]) -> bool {
        if is_draining(code, text) && self.is_persistent() {
            self.retry_registration(now, Outcome::Rejected(code, text.to_vec()));
            return true;
        }
        let wait = parse_name_wait(text).filter(|_| code == Refusal::NameTaken.code());
        let Some((left, wait)) = wait.and_then(|left| Some((left, self.return_delay(left)?))) else {
            return false;
        };
        let free_at = later(now, left);
        if self.name_free_at.is_some_and(|before| free_at > later(before, NAME_TOLERANCE)) {
            // The end has moved, so the owner is still alive.
            return false;
        }
        self.name_free_at = Some(free_at);
        let again_at = later(now, wait.min(NAME_CHECK));
        if self.config.transport == Transport::Stream {
            self.events.push_back(Event::Disconnect);
        }
        (self.connecting, self.nonce) = (None, None);
        self.state = ClientState::Offline { retry_at: again_at };
        self.events.push_back(Event::NameTaken { again_at });
        true
    }

    /// Continues the schedule after the server has refused the registration on this connection.
    pub(super) fn retry_registration(&mut self, now: Instant, refused: Outcome) {
        if self.config.transport == Transport::Datagram {
            return self.register_under_new_id(now);
        }
        if self.connecting.as_ref().is_some_and(|(attempts, _)| attempts.has_sends_left()) {
            self.events.push_back(Event::Disconnect);
            return self.handle_disconnected(now);
        }
        self.requests.give_up(now);
        let words = self.last_error.take();
        self.closed(match refused {
            Outcome::Rejected(code, text) => Closed::Refused(code, crate::escape::escape(&text).into_owned()),
            Outcome::Acked(_) | Outcome::Unknown | Outcome::NeverSent => Closed::ServerBye(words),
        });
    }
}

fn is_draining(code: u16, text: &[u8]) -> bool {
    code == Refusal::Draining.code() && text == Refusal::Draining.text().as_bytes()
}
