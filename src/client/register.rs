//! Registration: how a client opens, resumes and moves its session with REG, and answers 428 with cookies.
//!
//! REG is the first request of every connection, and of every address that the server does not know. Nothing else is
//! sent before it is answered. REG has its own schedule, of the same policy as all requests.

use std::time::{Duration, Instant};

use super::{Client, ClientState, Closed, Event};
use crate::config::Transport;
use crate::reliable::{AskedToWait, Attempts, Inbox, Outcome, Sent, SlowedFor, Ticket};
use crate::wire::{Frame, Id, Token, Verb, encode_args, encode_prefix, parse_wait, split_word};

/// The least time between two sends of REG that a 428 with a new cookie causes.
const OBEY_GAP: Duration = Duration::from_secs(1);

/// The shortest lifetime of a cookie. A cookie refused after that time has expired, which is no lost send: the schedule
/// restarts.
const COOKIE_LIFE: Duration = Duration::from_secs(30);

/// Most restarts of the schedule in one registration.
const MAX_RENEWALS: u32 = 16;

/// The REG in flight.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) id: Id,
    kind: RegistrationKind,
    /// Over datagrams: the cookie that proves this address.
    pub(super) cookie: Option<Token>,
    attempts: Attempts,
    /// Time of the next send, at which the last send counts as lost.
    pub(super) due: Instant,
    /// Time at which the cookie was received.
    cookie_at: Instant,
    /// Time at which a 428 last caused a send.
    obeyed_at: Option<Instant>,
    /// The number of restarts of the schedule.
    renewals: u32,
    /// The waits that 429s have asked for so far.
    slowed: SlowedFor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RegistrationKind {
    /// Opens a session; the nonce makes it repeatable.
    Open(Token),
    /// Resumes the session of this token.
    Resume(Token),
}

impl Registration {
    /// Whether the last send that the policy allows was lost.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.due <= now && !self.attempts.may_send(now)
    }

    /// Whether it opens a session; otherwise it resumes one.
    fn opens(&self) -> bool {
        matches!(self.kind, RegistrationKind::Open(_))
    }

    /// Handles the cookie of a 428. A new cookie is sent back at once, at most once per [`OBEY_GAP`]. After a timeout
    /// that has grown to a minute, it would have expired.
    fn take_cookie(&mut self, now: Instant, cookie: Token, fresh: impl FnOnce() -> Attempts) {
        let earlier = self.cookie.replace(cookie);
        if earlier == Some(cookie) {
            return;
        }
        let has_expired = now >= self.cookie_at + COOKIE_LIFE && self.renewals < MAX_RENEWALS;
        if earlier.is_none() {
            // A REG with a cookie is another datagram, with its own schedule.
            self.attempts = fresh();
        } else if has_expired {
            self.renewals += 1;
            self.attempts = fresh().ending_at(self.attempts.deadline());
        }
        self.cookie_at = now;
        if self.attempts.has_sends_left() {
            let at = self.obey(now);
            self.due = if earlier.is_none() || has_expired { at } else { self.due.min(at) };
        }
    }

    /// Restarts the schedule without a cookie, because a cookie is not valid for another nonce.
    fn restart(&mut self, now: Instant, fresh: Attempts) {
        if self.renewals < MAX_RENEWALS {
            self.renewals += 1;
            self.cookie = None;
            self.attempts = fresh.ending_at(self.attempts.deadline());
            self.due = self.obey(now);
        }
    }

    /// The time to send, at most once per [`OBEY_GAP`].
    fn obey(&mut self, now: Instant) -> Instant {
        let at = self.obeyed_at.map_or(now, |obeyed| now.max(obeyed + OBEY_GAP));
        self.obeyed_at = Some(at);
        at
    }
}

/// REG.
impl Client {
    /// Starts a registration on a new connection or address; a client without a name is ready at once.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.config.name.is_none() {
            return self.ready(now, false);
        }
        let kind = match self.token {
            Some(token) => RegistrationKind::Resume(token),
            None => RegistrationKind::Open(self.opening_nonce()),
        };
        self.register(now, kind, None);
    }

    /// The nonce of the session to open: drawn for each session, kept until REG is answered.
    fn opening_nonce(&mut self) -> Token {
        let (nonce, connections) = match self.nonce {
            Some((nonce, connections)) => (nonce, connections),
            None => (self.draw_token(), 0),
        };
        self.nonce = Some((nonce, connections + 1));
        nonce
    }

    fn register(&mut self, now: Instant, kind: RegistrationKind, cookie: Option<Token>) {
        let Some(id) = self.requests.take_id(now) else { return self.give_up(now) };
        self.state = ClientState::Registering(Box::new(Registration {
            id,
            kind,
            cookie,
            attempts: self.config.policy.start(&mut self.rng),
            due: now,
            cookie_at: now,
            obeyed_at: cookie.map(|_| now),
            renewals: 0,
            slowed: SlowedFor::default(),
        }));
    }

    /// The next REG to send, if it is due.
    pub(super) fn next_registration(&mut self, now: Instant) -> Option<Vec<u8>> {
        let rto = self.requests.rtt().rto();
        let ClientState::Registering(registration) = &mut self.state else { return None };
        if registration.due > now {
            return None;
        }
        registration.due = registration.attempts.send(now, rto, &mut self.rng)?;
        let (id, due, sends) = (registration.id, registration.due, registration.attempts.sends());
        if sends > 1 {
            self.stats.retries += 1;
            self.events.push_back(Event::Retry(Sent { ticket: Ticket(0), id, verb: Verb::Reg, sends, due }));
        }
        self.note_request_sent(now);
        Some(self.encode_registration())
    }

    fn encode_registration(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ClientState::Registering(registration) = &self.state else { return bytes };
        if let Some(cookie) = registration.cookie {
            encode_prefix(cookie, &mut bytes);
        }
        let name = self.config.name.as_deref().unwrap_or_default().as_bytes();
        let proof = match registration.kind {
            RegistrationKind::Open(nonce) => [b"?", &nonce.text()[..]].concat(),
            RegistrationKind::Resume(token) => token.text().to_vec(),
        };
        encode_args(Some(registration.id), Verb::Reg, &[name, &proof], &mut bytes);
        bytes
    }

    /// The id of the REG in flight.
    pub(super) fn registering(&self) -> Option<Id> {
        match &self.state {
            ClientState::Registering(registration) => Some(registration.id),
            _ => None,
        }
    }

    /// Handles the answer to REG.
    pub(super) fn registration_answered(&mut self, now: Instant, outcome: Outcome) {
        let ClientState::Registering(registration) = &self.state else { return };
        let kind = registration.kind;
        match outcome {
            Outcome::Acked(payload) => self.granted(now, kind, &payload),
            Outcome::Rejected(401, _) => self.session_gone(now, kind),
            Outcome::Rejected(429, text) if self.delays_registration(now, &text) => {}
            Outcome::Rejected(code, text) if self.defers_registration(now, code, &text) => {}
            Outcome::Rejected(code, text) => {
                self.requests.give_up(now);
                self.closed(Closed::Refused(code, crate::escape::escape(&text).into_owned()));
            }
            Outcome::Unknown | Outcome::NeverSent => self.give_up(now),
        }
    }

    /// Delays REG after a 429, under the same limits as other requests. REG gets a new id and a new schedule. Returns
    /// whether it did.
    fn delays_registration(&mut self, now: Instant, text: &[u8]) -> bool {
        let Some(wait) = parse_wait(text) else { return false };
        let ClientState::Registering(registration) = &mut self.state else { return false };
        let deadline = registration.attempts.deadline();
        let Some(again_at) = registration.slowed.again_at(now, wait, deadline) else { return false };
        let Some(id) = self.requests.take_id(now) else { return false };
        let old = std::mem::replace(&mut registration.id, id);
        registration.attempts = self.config.policy.start(&mut self.rng).ending_at(deadline);
        registration.due = again_at;
        self.events.push_back(Event::SlowDown(AskedToWait {
            ticket: Ticket(0),
            id: old,
            verb: Verb::Reg,
            again_at,
        }));
        true
    }

    /// Handles a REG without an answer to its last send. A session that could not be moved may still exist: the server
    /// challenges the next request again.
    pub(super) fn registration_over(&mut self, now: Instant) {
        match &self.state {
            ClientState::Registering(registration)
                if !registration.opens() && self.config.transport == Transport::Datagram =>
            {
                self.state = ClientState::Ready;
                self.postpone_keepalive(now);
            }
            _ => self.give_up(now),
        }
    }

    fn granted(&mut self, now: Instant, kind: RegistrationKind, payload: &[u8]) {
        let Some(token) = payload.strip_prefix(b" ").and_then(Token::parse) else { return };
        self.token = Some(token);
        let connections = self.nonce.map_or(0, |(_, connections)| connections);
        match kind {
            // An earlier connection opened the session: a repeated nonce does not move it, a resume does.
            RegistrationKind::Open(_) if connections > 1 && self.config.transport == Transport::Stream => {
                self.nonce = None;
                self.register(now, RegistrationKind::Resume(token), None);
            }
            RegistrationKind::Open(_) => {
                self.nonce = None;
                self.ready(now, false);
            }
            RegistrationKind::Resume(_) => self.ready(now, true),
        }
    }

    /// Makes the client ready to send requests.
    fn ready(&mut self, now: Instant, resumed: bool) {
        self.state = ClientState::Ready;
        self.name_free_at = None;
        if self.config.name.is_some() {
            self.connecting = None;
        }
        self.requests.repeat_all(now);
        self.postpone_keepalive(now);
        if self.config.name.is_some() {
            self.events.push_back(Event::Registered { resumed });
        }
    }

    /// Handles a 401 to REG: the session has ended, and a new one is opened.
    fn session_gone(&mut self, now: Instant, kind: RegistrationKind) {
        match kind {
            RegistrationKind::Resume(_) => self.session_lost(now),
            RegistrationKind::Open(_) => {
                // The nonce is spent: its session was opened and ended before any answer arrived.
                self.nonce = None;
                let nonce = self.opening_nonce();
                let fresh = self.config.policy.start(&mut self.rng);
                if let ClientState::Registering(registration) = &mut self.state {
                    registration.kind = RegistrationKind::Open(nonce);
                    if self.config.transport == Transport::Datagram {
                        registration.restart(now, fresh);
                    }
                }
                self.register_under_new_id(now);
            }
        }
    }

    /// Gives the next REG a new id, since an answer is final for its id. The schedule continues.
    pub(super) fn register_under_new_id(&mut self, now: Instant) {
        let Some(id) = self.requests.take_id(now) else { return self.give_up(now) };
        if let ClientState::Registering(registration) = &mut self.state {
            registration.id = id;
        }
    }

    /// Handles a session that the server no longer has.
    pub(super) fn session_lost(&mut self, now: Instant) {
        if matches!(self.state, ClientState::Draining { .. }) {
            return self.leave_drained(now);
        }
        self.forget_session(now);
        if self.is_closed() {
            return;
        }
        self.events.push_back(Event::SessionLost);
        self.rejoin_rooms();
        self.begin(now);
    }

    /// Drops all state of the session: requests in flight are unknown.
    pub(super) fn forget_session(&mut self, now: Instant) {
        self.requests.session_lost(now);
        (self.token, self.nonce) = (None, None);
        self.inbox = if self.config.unordered { Inbox::unordered() } else { Inbox::new() };
        self.acks.reset();
        self.collect_ended();
    }

    /// Queues the JON of each joined room, as the first requests of a new session.
    pub(super) fn rejoin_rooms(&mut self) {
        // A JON still queued from the previous session would be sent twice.
        let internal = &mut self.internal;
        self.requests.forget_waiting(|ticket, verb| verb == Verb::Jon && internal.remove(&ticket));
        // Ahead of queued messages to these rooms.
        for room in self.rooms.iter().rev() {
            let ticket = self.requests.ask_first(Verb::Jon, [b" ", &room[..]].concat());
            self.internal.insert(ticket);
        }
    }

    /// Handles a 428: the cookie that proves this address, and in answer to REG its nonce or token.
    pub(super) fn challenged(&mut self, now: Instant, frame: &Frame<'_>) {
        let (_, rest) = split_word(frame.args());
        let (cookie, nonce) = split_word(rest.unwrap_or_default());
        let Some(cookie) = Token::parse(cookie) else { return };
        let policy = &self.config.policy;
        match (&mut self.state, frame.id) {
            (ClientState::Registering(registration), Some(id)) if id == registration.id => {
                let ours = match registration.kind {
                    RegistrationKind::Open(nonce) | RegistrationKind::Resume(nonce) => nonce,
                };
                if nonce.and_then(Token::parse) != Some(ours) {
                    return;
                }
                registration.take_cookie(now, cookie, || policy.start(&mut self.rng));
            }
            (ClientState::Ready, None) => {
                if let Some(token) = self.token {
                    self.register(now, RegistrationKind::Resume(token), Some(cookie));
                }
            }
            _ => {}
        }
    }
}
