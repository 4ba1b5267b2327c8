//! How a client comes to a session: connections, REG, cookies, resume.
//!
//! A connection or address that the server does not know yet begins with REG, and nothing else is sent before it is
//! answered. REG has its own schedule, of the same policy as all requests.

use std::time::{Duration, Instant};

use super::{Client, Closed, Event, State};
use crate::config::Transport;
use crate::reliable::{AskedToWait, Attempts, Inbox, Outcome, Sent, SlowedFor, Ticket};
use crate::wire::{Deframer, Frame, Id, Token, Verb, encode_args, encode_prefix, parse_wait, split_word};

/// A connection that is lost is made again at once, but not more often than this: a server that drops everybody as
/// soon as they have registered is not to be hammered.
const RECONNECT_GAP: Duration = Duration::from_millis(100);

/// How often the client sends REG at once because a 428 brought a new cookie: once in this time.
const OBEY_GAP: Duration = Duration::from_secs(1);

/// For how long a server takes a cookie at least. One that is refused when it is older has expired, which is no failure of a
/// send: the schedule begins anew.
const COOKIE_LIFE: Duration = Duration::from_secs(30);

/// How often that may be, in one registration.
const MAX_RENEWALS: u32 = 16;

/// A REG that is under way.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) id: Id,
    kind: Kind,
    /// Over datagrams: what proves this address.
    pub(super) cookie: Option<Token>,
    attempts: Attempts,
    /// When it is to be sent, or the last send counts as failed.
    pub(super) due: Instant,
    /// When the cookie came.
    cookie_at: Instant,
    /// When a 428 was last obeyed at once.
    obeyed_at: Option<Instant>,
    /// How many cookies have expired.
    renewals: u32,
    /// What 429s have asked for so far.
    slowed: SlowedFor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Opens a session; the nonce makes it repeatable.
    Open(Token),
    /// Takes up the session of this token.
    Resume(Token),
}

impl Registration {
    /// Whether the last send that the policy allows has failed.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.due <= now && !self.attempts.may_send(now)
    }

    /// Whether it opens a session; if not, it takes one up.
    fn opens(&self) -> bool {
        matches!(self.kind, Kind::Open(_))
    }

    /// The 428 of this cookie came. A cookie that the client has not got yet is sent back at once, though not more often than
    /// [`OBEY_GAP`] says: with a timeout that has grown to a minute, it would have expired before the next send.
    fn take_cookie(&mut self, now: Instant, cookie: Token, fresh: impl FnOnce() -> Attempts) {
        let earlier = self.cookie.replace(cookie);
        if earlier == Some(cookie) {
            return;
        }
        let has_expired = now >= self.cookie_at + COOKIE_LIFE && self.renewals < MAX_RENEWALS;
        if earlier.is_none() {
            // What follows is another datagram, with a schedule of its own.
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

    /// The nonce is another one, for which no cookie is good: the schedule begins anew without one, as if it had expired.
    fn begin_anew(&mut self, now: Instant, fresh: Attempts) {
        if self.renewals < MAX_RENEWALS {
            self.renewals += 1;
            self.cookie = None;
            self.attempts = fresh.ending_at(self.attempts.deadline());
            self.due = self.obey(now);
        }
    }

    /// When to send, if not more often than [`OBEY_GAP`] says.
    fn obey(&mut self, now: Instant) -> Instant {
        let at = self.obeyed_at.map_or(now, |obeyed| now.max(obeyed + OBEY_GAP));
        self.obeyed_at = Some(at);
        at
    }
}

/// Connections.
impl Client {
    /// Asks for a connection, if the policy allows another one.
    pub(super) fn connect(&mut self, now: Instant) {
        let rto = self.requests.rtt().rto();
        let (attempts, failed_at) =
            self.connecting.get_or_insert_with(|| (self.config.policy.start(&mut self.rng), now));
        match attempts.send(now, rto, &mut self.rng) {
            Some(due) => {
                *failed_at = due;
                self.connect_at = Some(now);
                self.state = State::Connecting { due };
                self.events.push_back(Event::Connect);
            }
            None => self.give_up(now),
        }
    }

    /// The connection that [`Event::Connect`] asked for is there.
    pub fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.state, State::Connecting { .. }) {
            return;
        }
        self.deframer = Deframer::new(self.config.max_message);
        self.begin(now);
    }

    /// The connection is gone, or could not be made.
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.outgoing.clear();
        // What is not acknowledged comes again on the next connection, where nothing may be sent before REG.
        self.acks.reset();
        match self.state {
            State::Closed | State::Offline { .. } => {}
            State::Registering(_) | State::Ready if self.is_parting() => self.closed(Closed::Done),
            // The next attempt keeps to the schedule: a server that refuses at once is not to be hammered.
            State::Connecting { due } => self.connect_again(now, due),
            State::Registering(_) | State::Ready => match self.connecting {
                // A connection that was of no use was a failed attempt, even if it could be made.
                Some((_, failed_at)) => self.connect_again(now, failed_at),
                None => match self.connect_at.map(|at| at + RECONNECT_GAP).filter(|earliest| *earliest > now)
                {
                    Some(retry_at) => self.state = State::Offline { retry_at },
                    None => self.connect(now),
                },
            },
        }
    }

    /// Waits until the failed attempt would have timed out, or gives up at once when there is no other.
    fn connect_again(&mut self, now: Instant, due: Instant) {
        if self.connecting.as_ref().is_some_and(|(attempts, _)| attempts.has_sends_left()) {
            self.state = State::Offline { retry_at: due.max(now) };
        } else {
            self.give_up(now);
        }
    }

    /// Whether the only thing left is the answer to an interrupted client's goodbye.
    fn is_parting(&self) -> bool {
        self.abort_at.is_some()
    }
}

/// REG.
impl Client {
    /// Begins what has to come first on a new way to the server.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.config.name.is_none() {
            return self.ready(now, false);
        }
        let kind = match self.token {
            Some(token) => Kind::Resume(token),
            None => Kind::Open(self.opening_nonce()),
        };
        self.register(now, kind, None);
    }

    /// The nonce of the session that is to be opened: drawn new for every session, kept until there is an answer.
    fn opening_nonce(&mut self) -> Token {
        let (nonce, ways) = match self.nonce {
            Some((nonce, ways)) => (nonce, ways),
            None => (self.draw_token(), 0),
        };
        self.nonce = Some((nonce, ways + 1));
        nonce
    }

    fn register(&mut self, now: Instant, kind: Kind, cookie: Option<Token>) {
        let Some(id) = self.requests.take_id(now) else { return self.give_up(now) };
        self.state = State::Registering(Box::new(Registration {
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

    /// The next REG to send, if it is time.
    pub(super) fn next_registration(&mut self, now: Instant) -> Option<Vec<u8>> {
        let rto = self.requests.rtt().rto();
        let State::Registering(registration) = &mut self.state else { return None };
        if registration.due > now {
            return None;
        }
        registration.due = registration.attempts.send(now, rto, &mut self.rng)?;
        let (id, due, sends) = (registration.id, registration.due, registration.attempts.sends());
        if sends > 1 {
            self.stats.retries += 1;
            self.events.push_back(Event::Retry(Sent { ticket: Ticket(0), id, verb: Verb::Reg, sends, due }));
        }
        self.asked(now);
        Some(self.encode_registration())
    }

    fn encode_registration(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let State::Registering(registration) = &self.state else { return bytes };
        if let Some(cookie) = registration.cookie {
            encode_prefix(cookie, &mut bytes);
        }
        let name = self.config.name.as_deref().unwrap_or_default().as_bytes();
        let proof = match registration.kind {
            Kind::Open(nonce) => [b"?", &nonce.text()[..]].concat(),
            Kind::Resume(token) => token.text().to_vec(),
        };
        encode_args(Some(registration.id), Verb::Reg, &[name, &proof], &mut bytes);
        bytes
    }

    /// The id of the REG that is under way.
    pub(super) fn registering(&self) -> Option<Id> {
        match &self.state {
            State::Registering(registration) => Some(registration.id),
            _ => None,
        }
    }

    /// The server has answered REG.
    pub(super) fn registration_answered(&mut self, now: Instant, outcome: Outcome) {
        let State::Registering(registration) = &self.state else { return };
        let kind = registration.kind;
        match outcome {
            Outcome::Acked(payload) => self.granted(now, kind, &payload),
            Outcome::Rejected(401, _) => self.session_gone(now, kind),
            Outcome::Rejected(429, text) if self.puts_registration_off(now, &text) => {}
            Outcome::Rejected(code, text) => {
                self.requests.give_up(now);
                self.closed(Closed::Refused(code, crate::escape::escape(&text).into_owned()));
            }
            Outcome::Unknown | Outcome::NeverSent => self.give_up(now),
        }
    }

    /// Obeys a 429 to REG, for as long as requests obey one. REG is sent again under a new id, with a schedule of its own.
    fn puts_registration_off(&mut self, now: Instant, text: &[u8]) -> bool {
        let Some(wait) = parse_wait(text) else { return false };
        let State::Registering(registration) = &mut self.state else { return false };
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

    /// The policy allows no more sends of REG. A session that could not be moved may still be there: the next request that
    /// is sent is challenged again.
    pub(super) fn registration_over(&mut self, now: Instant) {
        match &self.state {
            State::Registering(registration)
                if !registration.opens() && self.config.transport == Transport::Datagram =>
            {
                self.state = State::Ready;
                self.postpone_keepalive(now);
            }
            _ => self.give_up(now),
        }
    }

    fn granted(&mut self, now: Instant, kind: Kind, payload: &[u8]) {
        let Some(token) = payload.strip_prefix(b" ").and_then(Token::parse) else { return };
        self.token = Some(token);
        let ways = self.nonce.map_or(0, |(_, ways)| ways);
        match kind {
            // Another connection opened it, and is gone: a repeated nonce moves nothing, a resume does.
            Kind::Open(_) if ways > 1 && self.config.transport == Transport::Stream => {
                self.nonce = None;
                self.register(now, Kind::Resume(token), None);
            }
            Kind::Open(_) => {
                self.nonce = None;
                self.ready(now, false);
            }
            Kind::Resume(_) => self.ready(now, true),
        }
    }

    /// Requests may go out.
    fn ready(&mut self, now: Instant, resumed: bool) {
        self.state = State::Ready;
        if self.config.name.is_some() {
            self.connecting = None;
        }
        self.requests.repeat_all(now);
        self.postpone_keepalive(now);
        if self.config.name.is_some() {
            self.events.push_back(Event::Registered { resumed });
        }
    }

    /// The session of this REG is gone: what was in flight is unknown, and a new one is opened.
    fn session_gone(&mut self, now: Instant, kind: Kind) {
        match kind {
            Kind::Resume(_) => self.session_lost(now),
            Kind::Open(_) => {
                // A nonce that is spent: its session was opened, and has ended before any answer came.
                self.nonce = None;
                let nonce = self.opening_nonce();
                let Some(id) = self.requests.take_id(now) else { return self.give_up(now) };
                let fresh = self.config.policy.start(&mut self.rng);
                if let State::Registering(registration) = &mut self.state {
                    (registration.id, registration.kind) = (id, Kind::Open(nonce));
                    if self.config.transport == Transport::Datagram {
                        registration.begin_anew(now, fresh);
                    }
                }
            }
        }
    }

    /// The server no longer knows the session.
    pub(super) fn session_lost(&mut self, now: Instant) {
        self.requests.session_lost(now);
        (self.token, self.nonce) = (None, None);
        self.inbox = if self.config.unordered { Inbox::unordered() } else { Inbox::new() };
        self.acks.reset();
        self.collect_ended();
        if self.is_closed() {
            return;
        }
        self.events.push_back(Event::SessionLost);
        // What still waits from the session before was never sent; it would only be asked twice.
        let internal = &mut self.internal;
        self.requests.forget_waiting(|ticket, verb| verb == Verb::Jon && internal.remove(&ticket));
        // Before the messages to these rooms that wait already.
        for room in self.rooms.iter().rev() {
            let ticket = self.requests.ask_first(Verb::Jon, [b" ", &room[..]].concat());
            self.internal.insert(ticket);
        }
        self.begin(now);
    }

    /// A 428: the cookie that proves this address, and before there is a session the nonce that it answers.
    pub(super) fn challenged(&mut self, now: Instant, frame: &Frame<'_>) {
        let (_, rest) = split_word(frame.args());
        let (cookie, nonce) = split_word(rest.unwrap_or_default());
        let Some(cookie) = Token::parse(cookie) else { return };
        let policy = &self.config.policy;
        match (&mut self.state, frame.id) {
            (State::Registering(registration), Some(id)) if id == registration.id => {
                let ours = match registration.kind {
                    Kind::Open(nonce) | Kind::Resume(nonce) => nonce,
                };
                if nonce.and_then(Token::parse) != Some(ours) {
                    return;
                }
                registration.take_cookie(now, cookie, || policy.start(&mut self.rng));
            }
            (State::Ready, None) => {
                if let Some(token) = self.token {
                    self.register(now, Kind::Resume(token), Some(cookie));
                }
            }
            _ => {}
        }
    }
}
