//! The whole client without a socket: registers, asks, repeats, acknowledges, resumes.
//!
//! Driven by five verbs like everything in the core. In files: here what a user asks and what is due when;
//! [`register`](self) how a session is opened, resumed and moved; `incoming` what the server says.
//!
//! The contract for whoever drives it:
//!
//! 1. Hand in `handle_datagram`, or for a stream `handle_connected`, `handle_bytes`, `handle_disconnected`; and
//!    `handle_timeout` once the instant of `poll_timeout` has come. A spurious one is harmless.
//! 2. Then send everything that `poll_transmit` gives, and take every [`Event`] from `poll`: [`Event::Connect`] asks for
//!    a new stream connection, [`Event::Disconnect`] to drop it, [`Event::CheckPath`] whether datagrams still leave from
//!    an address of this host (call `handle_moved` where they leave from another one), [`Event::Closed`] is the last.
//! 3. Wait for input or the deadline.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::{CryptoRng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{ClientConfig, Transport};
use crate::reliable::{Attempts, Inbox, Outcome, RequestStats, Requests, RttEstimator, Sent, Ticket};
use crate::wire::{Deframer, MAX_HEAD, Token, Verb, encode_prefix, prefix_of};

mod drained;
mod event;
mod incoming;
mod register;
mod silence;

pub use event::{ClientStats, Closed, Event, Names};
use incoming::{AckTimer, Pushed};
use register::Registration;
use silence::Silence;

#[derive(Debug)]
enum State {
    /// No connection, or over datagrams no session; the next one is tried then.
    Offline { retry_at: Instant },
    /// A connection was asked for; it counts as failed then.
    Connecting { due: Instant },
    /// REG is under way; nothing else is sent.
    Registering(Box<Registration>),
    /// Requests may be sent.
    Ready,
    /// The server shuts down: nothing new is sent, and answers to what was sent are awaited for so long. After how long the
    /// server expects to be back, if it has said so.
    Draining { back_in: Option<Duration>, settle_by: Instant },
    /// The end.
    Closed,
}

/// The client.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rng: ChaCha8Rng,
    secrets: Secrets,
    state: State,
    /// The session's token, while there is a session.
    token: Option<Token>,
    /// The nonce of the REG that opens a session and on how many connections it was sent.
    nonce: Option<(Token, u32)>,
    /// The attempts to connect since a connection last was of use, and when the latest counts as failed.
    connecting: Option<(Attempts, Instant)>,
    /// When the last attempt to connect began.
    connect_at: Option<Instant>,
    deframer: Deframer,
    requests: Requests,
    inbox: Inbox<Pushed>,
    acks: AckTimer,
    /// Requests of the client itself, of which its user hears nothing.
    internal: BTreeSet<Ticket>,
    /// Rooms that were joined, to be joined again in a new session.
    rooms: Vec<Vec<u8>>,
    /// What the server said before it said goodbye.
    last_words: Option<String>,
    /// When the session that has the name was to end, as far as the server knew when it was last asked.
    name_free_at: Option<Instant>,
    keepalive_at: Option<Instant>,
    /// How long the server has been silent, over datagrams.
    silence: Silence,
    /// A client without a name has nobody to say goodbye to: it ends once everything asked has.
    leaving: bool,
    /// When an interrupted client stops waiting for the answer to its BYE.
    abort_at: Option<Instant>,
    heard: bool,
    outgoing: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    stats: ClientStats,
}

/// The source of nonces; apart from the jitter, which is seeded.
struct Secrets(Box<dyn CryptoRng + Send>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Client {
    /// A client that begins at `now`. `seed` reaches the jitter only; nonces are drawn from `secrets`.
    pub fn new(now: Instant, config: ClientConfig, seed: u64, secrets: Box<dyn CryptoRng + Send>) -> Self {
        let mut client = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            secrets: Secrets(secrets),
            state: State::Closed,
            token: None,
            nonce: None,
            connecting: None,
            connect_at: None,
            deframer: Deframer::new(config.max_message),
            requests: Requests::new(config.policy.clone(), config.window),
            inbox: if config.unordered { Inbox::unordered() } else { Inbox::new() },
            acks: AckTimer::default(),
            internal: BTreeSet::new(),
            rooms: Vec::new(),
            last_words: None,
            name_free_at: None,
            keepalive_at: None,
            silence: Silence::default(),
            leaving: false,
            abort_at: None,
            heard: false,
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
            stats: ClientStats::default(),
            config,
        };
        match client.config.transport {
            Transport::Stream => client.connect(now),
            Transport::Datagram => client.begin(now),
        }
        client
    }

    /// The counters so far.
    pub fn stats(&self) -> ClientStats {
        let RequestStats { retries, repeated_answers } = self.requests.stats();
        ClientStats { retries: self.stats.retries + retries, repeated_answers, ..self.stats }
    }

    /// Over what it talks.
    pub fn transport(&self) -> Transport {
        self.config.transport
    }

    /// What is known of the round trip.
    pub fn rtt(&self) -> &RttEstimator {
        self.requests.rtt()
    }

    /// Whether anything at all has come from the server.
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// Whether a session is open, or none is wanted, so that requests go out at once.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether every request has ended.
    pub fn is_idle(&self) -> bool {
        self.requests.is_idle()
    }

    /// Whether [`Event::Closed`] has come.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

/// What a user asks. Each ends in exactly one [`Event::Ended`] that carries the ticket.
impl Client {
    /// Sends a message to a client or a `#room`.
    pub fn send(&mut self, target: &[u8], body: &[u8]) -> Ticket {
        self.ask(Verb::Snd, &[target, body])
    }

    /// Joins a `#room`.
    pub fn join(&mut self, room: &[u8]) -> Ticket {
        let ticket = self.ask(Verb::Jon, &[room]);
        if !self.rooms.iter().any(|joined| joined == room) {
            self.rooms.push(room.to_vec());
        }
        ticket
    }

    /// Leaves a `#room`.
    pub fn leave(&mut self, room: &[u8]) -> Ticket {
        self.rooms.retain(|joined| joined != room);
        self.ask(Verb::Lev, &[room])
    }

    /// Asks for the names of everybody, or of a room's members.
    pub fn list(&mut self, room: Option<&[u8]>) -> Ticket {
        match room {
            Some(room) => self.ask(Verb::Lst, &[room]),
            None => self.ask(Verb::Lst, &[]),
        }
    }

    /// Asks for an echo. It carries a nonce, so that nobody who has not seen it can answer.
    pub fn ping(&mut self) -> Ticket {
        let nonce = self.draw_token();
        self.ask(Verb::Png, &[&nonce.text()])
    }

    fn ask(&mut self, verb: Verb, words: &[&[u8]]) -> Ticket {
        let payload = words.iter().fold(Vec::new(), |mut payload, word| {
            payload.push(b' ');
            payload.extend_from_slice(word);
            payload
        });
        let length = payload.len();
        let ticket = self.requests.ask(verb, payload);
        if self.is_closed() {
            self.requests.give_up_waiting();
        } else if self.config.transport == Transport::Datagram && length > self.payload_limit() {
            self.requests.refuse_waiting(ticket, 413, "Too long!");
        }
        self.collect_ended();
        ticket
    }

    /// The longest payload that fits a datagram whatever its id.
    fn payload_limit(&self) -> usize {
        self.config.max_datagram.saturating_sub(crate::wire::PREFIX_LEN + MAX_HEAD)
    }

    /// Says goodbye once everything asked so far has ended.
    pub fn close(&mut self) {
        match self.config.name {
            Some(_) if !self.is_closed() => self.ask_internally(Verb::Bye, Vec::new()),
            Some(_) => {}
            None => {
                self.leaving = true;
                self.collect_ended();
            }
        }
    }

    /// Says goodbye at once and waits for the answer no longer than `patience`: what is in flight is unknown, what is
    /// queued was never sent.
    pub fn abort(&mut self, now: Instant, patience: Duration) {
        self.requests.give_up(now);
        self.collect_ended();
        if self.token.is_some() && self.is_ready() {
            self.abort_at = Some(now + patience);
            self.ask_internally(Verb::Bye, Vec::new());
        } else {
            self.closed(Closed::Done);
        }
    }

    fn ask_internally(&mut self, verb: Verb, payload: Vec<u8>) {
        let ticket = self.requests.ask(verb, payload);
        self.internal.insert(ticket);
    }

    fn draw_token(&mut self) -> Token {
        let mut bits = [0; 16];
        self.secrets.0.fill_bytes(&mut bits);
        Token::from_bits(u128::from_le_bytes(bits))
    }
}

/// Time.
impl Client {
    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Offline { retry_at } if *retry_at <= now => self.reach_out(now),
            State::Draining { settle_by, .. } if *settle_by <= now => self.leave_drained(now),
            State::Connecting { due } if *due <= now => {
                self.events.push_back(Event::Disconnect);
                self.connect(now);
            }
            State::Registering(registration) if registration.is_over(now) => self.registration_over(now),
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
            // A cookie proves the present address: a registration stays there.
            self.events.extend(self.silence.check(now, self.is_ready()));
        }
        self.collect_ended();
        if self.abort_at.is_some_and(|at| at <= now) {
            self.closed(Closed::Done);
        }
    }

    /// Datagrams leave from another address from now on. What is sent at once lets the server know: it challenges the new
    /// address, and the session follows.
    pub fn handle_moved(&mut self, now: Instant) {
        if self.config.transport == Transport::Datagram && self.token.is_some() {
            self.keepalive_at = Some(now);
        }
    }

    /// When `handle_timeout` or `poll_transmit` has something to do; `None` means never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Offline { retry_at } => Some(*retry_at),
            State::Connecting { due } => Some(*due),
            State::Registering(registration) => Some(registration.due),
            State::Draining { settle_by, .. } => Some(*settle_by),
            State::Ready => None,
            State::Closed => return None,
        };
        let keepalive = self.keepalive_at.filter(|_| self.is_ready());
        let requests = self.requests.poll_timeout(self.is_ready());
        let silence = self.silence.due();
        [state, requests, self.acks.due(), keepalive, silence, self.abort_at].into_iter().flatten().min()
    }

    /// A ping keeps the session of a datagram client when no request was sent for a while. Acknowledgements do not count:
    /// they are not answered, so a client that sends nothing else would not notice that its address has changed.
    fn keep_alive(&mut self, now: Instant) {
        if self.token.is_some() && self.requests.is_idle() {
            let nonce = self.draw_token();
            self.ask_internally(Verb::Png, [b" ", &nonce.text()[..]].concat());
        } else if self.token.is_some() {
            // A ping would have to wait for the request that is under way. An acknowledgement keeps the session as well, and
            // is challenged from another address.
            self.acknowledge();
        }
        self.postpone_keepalive(now);
    }

    /// Something that is answered was sent.
    fn asked(&mut self, now: Instant) {
        if self.config.transport == Transport::Datagram {
            if self.config.checks_path {
                self.silence.asked(now);
            }
            self.postpone_keepalive(now);
        }
    }

    fn postpone_keepalive(&mut self, now: Instant) {
        if self.config.transport == Transport::Datagram {
            // RFC 8085 section 3.5: keepalives want jitter, so that many clients do not fall into step.
            let tenths = rand::RngExt::random_range(&mut self.rng, 800..=1000u32);
            self.keepalive_at = Some(now + self.config.keepalive * tenths / 1000);
        }
    }
}

/// Output.
impl Client {
    /// The next datagram, or piece of the stream, to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let bytes = match self.outgoing.pop_front() {
            Some(bytes) => self.joined_by_requests(now, bytes),
            None if self.is_ready() => {
                let request = self.next_request(now)?;
                self.joined_by_requests(now, request)
            }
            None => self.next_registration(now)?,
        };
        self.stats.transmits += 1;
        Some(bytes)
    }

    /// The next event.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends the requests that are due, as many as fit, to a datagram of this session. Without a token there is none: of
    /// a datagram that proves nothing, the first frame alone counts.
    fn joined_by_requests(&mut self, now: Instant, mut bytes: Vec<u8>) -> Vec<u8> {
        let is_ours = self.token.is_some_and(|token| prefix_of(&bytes) == Some(token));
        if !self.is_ready() || !is_ours || self.config.transport == Transport::Stream {
            return bytes;
        }
        while let Some(most) = self.config.max_datagram.checked_sub(bytes.len() + MAX_HEAD)
            && self.add_request(now, most, &mut bytes).is_some()
        {}
        bytes
    }

    /// Appends the next request that is due, if its payload is no longer than that.
    fn add_request(&mut self, now: Instant, most: usize, out: &mut Vec<u8>) -> Option<Sent> {
        let sent = self.requests.poll_transmit_within(now, most, &mut self.rng, out);
        self.collect_ended();
        let sent = sent?;
        self.asked(now);
        if sent.sends > 1 {
            self.events.push_back(Event::Retry(sent));
        }
        Some(sent)
    }

    fn next_request(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut bytes = self.prefixed();
        let sent = self.add_request(now, usize::MAX, &mut bytes)?;
        if sent.verb == Verb::Bye && !self.inbox.is_unused() {
            // What has arrived is to be known before the session ends, or it would count as undelivered.
            let goodbye = bytes.split_off(self.prefixed().len());
            self.encode_acknowledgement(&mut bytes);
            bytes.extend_from_slice(&goodbye);
        }
        Some(bytes)
    }

    /// What a frame of this session begins with.
    fn prefixed(&self) -> Vec<u8> {
        // Room for the frame of a short message as well.
        let mut bytes = Vec::with_capacity(128);
        if let (Transport::Datagram, Some(token)) = (self.config.transport, self.token) {
            encode_prefix(token, &mut bytes);
        }
        bytes
    }

    /// Hands on the ends of requests; the end of BYE is the end of the client.
    fn collect_ended(&mut self) {
        while let Some(ended) = self.requests.poll_ended() {
            if !self.internal.remove(&ended.ticket) {
                self.events.push_back(Event::Ended(ended));
            } else if ended.verb == Verb::Bye && ended.outcome != Outcome::NeverSent {
                self.closed(Closed::Done);
            }
        }
        if self.leaving && self.is_idle() {
            self.closed(Closed::Done);
        }
    }

    /// The end of everything: whatever has not ended by itself ends now.
    fn closed(&mut self, why: Closed) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.requests.give_up_waiting();
        self.collect_ended();
        self.events.push_back(Event::Closed(why));
    }

    /// The policy allows no more.
    fn give_up(&mut self, now: Instant) {
        self.requests.give_up(now);
        self.closed(Closed::GaveUp);
    }
}
