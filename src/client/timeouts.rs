//! Deadlines of a client: failed attempts, delayed acknowledgements, keepalives, the check of a silent path.

use std::time::Instant;

use super::{Client, ClientState, Closed, Event};
use crate::config::Transport;
use crate::wire::Verb;

impl Client {
    /// Handles deadlines up to `now`. A spurious call is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            ClientState::Offline { retry_at } if *retry_at <= now => self.start_attempt(now),
            ClientState::Draining { drain_deadline, .. } if *drain_deadline <= now => self.leave_drained(now),
            ClientState::Connecting { due } if *due <= now => {
                self.events.push_back(Event::Disconnect);
                self.connect(now);
            }
            ClientState::Registering(registration) if registration.is_over(now) => {
                self.registration_over(now)
            }
            _ => {}
        }
        self.requests.handle_timeout(now);
        if self.acks.is_due(now) {
            self.acknowledge();
        }
        if self.keepalive_at.is_some_and(|at| at <= now) && self.is_ready() {
            self.keep_alive(now);
        }
        if !self.is_closed() {
            // A cookie is valid for the present address, so a registration does not take a new socket.
            self.events.extend(self.silence.check(now, self.is_ready()));
        }
        self.collect_ended();
        if self.abort_at.is_some_and(|at| at <= now) {
            self.closed(Closed::Done);
        }
    }

    /// Handles a change of the address that datagrams are sent from. A keepalive at once makes the server challenge the
    /// new address, which moves the session.
    pub fn handle_moved(&mut self, now: Instant) {
        if self.config.transport == Transport::Datagram && self.token.is_some() {
            self.keepalive_at = Some(now);
        }
    }

    /// The time to call `handle_timeout` and `poll_transmit`; `None` means never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = match &self.state {
            ClientState::Offline { retry_at } => Some(*retry_at),
            ClientState::Connecting { due } => Some(*due),
            ClientState::Registering(registration) => Some(registration.due),
            ClientState::Draining { drain_deadline, .. } => Some(*drain_deadline),
            ClientState::Ready => None,
            ClientState::Closed => return None,
        };
        let keepalive = self.keepalive_at.filter(|_| self.is_ready());
        let requests = self.requests.poll_timeout(self.is_ready());
        let silence = self.silence.due();
        [state, requests, self.acks.due(), keepalive, silence, self.abort_at].into_iter().flatten().min()
    }

    /// Sends a ping that keeps the session of a datagram client alive when no request was sent for a while.
    /// Acknowledgements do not count as requests: they are not answered, so they do not reveal a changed address.
    fn keep_alive(&mut self, now: Instant) {
        if self.token.is_some() && self.requests.is_idle() {
            let nonce = self.draw_token();
            self.ask_internally(Verb::Png, [b" ", &nonce.text()[..]].concat());
        } else if self.token.is_some() {
            // A ping would have to wait for the request in flight. An acknowledgement keeps the session too, and is
            // challenged at a new address.
            self.acknowledge();
        }
        self.postpone_keepalive(now);
    }

    /// Restarts the keepalive and the check for silence after a request was sent.
    pub(super) fn note_request_sent(&mut self, now: Instant) {
        if self.config.transport == Transport::Datagram {
            if self.config.checks_path {
                self.silence.asked(now);
            }
            self.postpone_keepalive(now);
        }
    }

    pub(super) fn postpone_keepalive(&mut self, now: Instant) {
        if self.config.transport == Transport::Datagram {
            // RFC 8085 section 3.5: jitter keeps the keepalives of many clients from synchronising.
            let tenths = rand::RngExt::random_range(&mut self.rng, 800..=1000u32);
            self.keepalive_at = Some(now + self.config.keepalive * tenths / 1000);
        }
    }
}
