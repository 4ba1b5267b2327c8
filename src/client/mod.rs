//! The protocol client as a state machine, without sockets or clocks: registers, sends requests, retries, acknowledges,
//! resumes.
//!
//! It is for programs with sockets of their own, and for simulations. It stands at the client's end of the data path:
//! frames of [`wire`](crate::wire) and [`reliable`](crate::reliable) requests in, datagrams or bytes of a stream out.
//! [`net::Client`](crate::net::Client) is the same with sockets.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use rand::{SeedableRng as _, rngs::StdRng};
//! use sayagain::client::Client;
//! use sayagain::config::{ClientConfig, Transport};
//! use sayagain::reliable::Backoff;
//!
//! let (now, policy) = (Instant::now(), Backoff::new(Duration::from_secs(1)));
//! let config = ClientConfig::new(Transport::Datagram, Some("ada"), policy);
//! let mut ada = Client::new(now, config, 1, Box::new(StdRng::seed_from_u64(2)));
//! ada.send(b"bob", b"Hello, Bob!"); // is sent once the session is open
//! let datagram = ada.poll_transmit(now).expect("the registration comes first");
//! assert!(datagram.starts_with(b"@1 REG "));
//! assert_eq!(ada.poll_timeout(), Some(now + Duration::from_secs(1)));
//! ```
//!
//! This file holds the state and the requests of the user. `register` opens, resumes and moves a session; `connection`
//! makes stream connections; `deferral` waits out shutdowns and taken names; `incoming` handles input, `transmit`
//! output, `timeouts` deadlines. Sockets are in [`crate::net`].
//!
//! The contract for the driver:
//!
//! 1. Call `handle_datagram`, or for a stream `handle_connected`, `handle_bytes`, `handle_disconnected`; and
//!    `handle_timeout` at the instant of `poll_timeout`. A spurious call is harmless.
//! 2. Then send everything that `poll_transmit` returns, and take every [`Event`] from `poll`. [`Event::Connect`] asks for a
//!    new stream connection, [`Event::Disconnect`] to drop it. [`Event::CheckPath`] asks whether datagrams still leave from
//!    an address of this host; call `handle_moved` if not. [`Event::Closed`] is the last event.
//! 3. Wait for input or the deadline.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::{CryptoRng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{ClientConfig, Transport};
use crate::reliable::{Attempts, Inbox, Outcome, RequestStats, Requests, RttEstimator, Ticket};
use crate::wire::{Deframer, MAX_HEAD, Token, Verb};

mod connection;
mod deferral;
mod event;
mod incoming;
mod register;
mod silence;
mod timeouts;
mod transmit;

pub use event::{ClientStats, Closed, Event, Names};
use incoming::{AckTimer, Push};
use register::Registration;
use silence::Silence;

#[derive(Debug)]
enum ClientState {
    /// No connection, or over datagrams no session, until the next attempt.
    Offline { retry_at: Instant },
    /// A connection was asked for; it counts as failed at `due`.
    Connecting { due: Instant },
    /// REG is in flight; nothing else is sent.
    Registering(Box<Registration>),
    /// Requests may be sent.
    Ready,
    /// The server shuts down: nothing new is sent, and answers are awaited until the deadline. `back_in` is the
    /// announced time until the server is back, if any.
    Draining { back_in: Option<Duration>, drain_deadline: Instant },
    /// The client has ended.
    Closed,
}

/// A client of the chat: one session, its requests and its pushes.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rng: ChaCha8Rng,
    secrets: Secrets,
    state: ClientState,
    /// The session's token, while there is a session.
    token: Option<Token>,
    /// The nonce of the REG that opens a session, and the number of connections on which it was sent.
    nonce: Option<(Token, u32)>,
    /// The connection attempts since a connection was last useful, and when the latest counts as failed.
    connecting: Option<(Attempts, Instant)>,
    /// Start of the last attempt to connect.
    connect_at: Option<Instant>,
    deframer: Deframer,
    requests: Requests,
    inbox: Inbox<Push>,
    acks: AckTimer,
    /// Requests of the client itself, hidden from its user.
    internal: BTreeSet<Ticket>,
    /// Joined rooms, rejoined in a new session.
    rooms: Vec<Vec<u8>>,
    /// The text of the last untagged ERR, which explains a BYE after it.
    last_error: Option<String>,
    /// End of the session that holds the name, by the server's last answer.
    name_free_at: Option<Instant>,
    keepalive_at: Option<Instant>,
    /// Detects a silent server, over datagrams.
    silence: Silence,
    /// Whether to close once all requests have ended: without a name there is no session to end with BYE.
    closes_when_idle: bool,
    /// Time at which an aborted client stops waiting for the answer to its BYE.
    abort_at: Option<Instant>,
    heard: bool,
    outgoing: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    stats: ClientStats,
}

/// The source of nonces; separate from the seeded jitter.
struct Secrets(Box<dyn CryptoRng + Send>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Client {
    /// Creates a client that starts at `now`. `seed` is for the jitter only; nonces are drawn from `secrets`.
    pub fn new(now: Instant, config: ClientConfig, seed: u64, secrets: Box<dyn CryptoRng + Send>) -> Self {
        let mut client = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            secrets: Secrets(secrets),
            state: ClientState::Closed,
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
            last_error: None,
            name_free_at: None,
            keepalive_at: None,
            silence: Silence::default(),
            closes_when_idle: false,
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

    /// Returns the counters.
    pub fn stats(&self) -> ClientStats {
        let RequestStats { retries, repeated_answers } = self.requests.stats();
        ClientStats { retries: self.stats.retries + retries, repeated_answers, ..self.stats }
    }

    /// Returns the transport.
    pub fn transport(&self) -> Transport {
        self.config.transport
    }

    /// Returns the RTT estimator.
    pub fn rtt(&self) -> &RttEstimator {
        self.requests.rtt()
    }

    /// Whether any input has arrived from the server.
    #[doc(hidden)]
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// Whether requests are sent at once: a session is open, or none is wanted.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, ClientState::Ready)
    }

    /// Whether every request has ended.
    pub fn is_idle(&self) -> bool {
        self.requests.is_idle()
    }

    /// Whether the client has closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, ClientState::Closed)
    }
}

/// Requests of the user. Each ends in exactly one [`Event::Ended`] with its ticket.
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

    /// Lists the names of all sessions, or of a room's members.
    pub fn list(&mut self, room: Option<&[u8]>) -> Ticket {
        match room {
            Some(room) => self.ask(Verb::Lst, &[room]),
            None => self.ask(Verb::Lst, &[]),
        }
    }

    /// Sends a ping. It carries a nonce, so that only a host that received it can answer.
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

    /// The longest payload that fits a datagram with any id.
    fn payload_limit(&self) -> usize {
        self.config.max_datagram.saturating_sub(crate::wire::PREFIX_LEN + MAX_HEAD)
    }

    /// Ends the session with BYE, after all requests so far have ended.
    pub fn close(&mut self) {
        match self.config.name {
            Some(_) if !self.is_closed() => self.ask_internally(Verb::Bye, Vec::new()),
            Some(_) => {}
            None => {
                self.closes_when_idle = true;
                self.collect_ended();
            }
        }
    }

    /// Ends the session with BYE at once, and waits for the answer for `timeout` at most. Requests in flight are
    /// unknown; queued requests were never sent.
    pub fn abort(&mut self, now: Instant, timeout: Duration) {
        self.requests.give_up(now);
        self.collect_ended();
        if self.token.is_some() && self.is_ready() {
            self.abort_at = Some(now + timeout);
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

/// The ends of requests, and of the client.
impl Client {
    /// Reports ended requests to the user. The end of BYE closes the client.
    fn collect_ended(&mut self) {
        while let Some(ended) = self.requests.poll_ended() {
            if !self.internal.remove(&ended.ticket) {
                self.events.push_back(Event::Ended(ended));
            } else if ended.verb == Verb::Bye && ended.outcome != Outcome::NeverSent {
                self.closed(Closed::Done);
            }
        }
        if self.closes_when_idle && self.is_idle() {
            self.closed(Closed::Done);
        }
    }

    /// Closes the client and ends all remaining requests.
    fn closed(&mut self, why: Closed) {
        if self.is_closed() {
            return;
        }
        self.state = ClientState::Closed;
        self.requests.give_up_waiting();
        self.collect_ended();
        self.events.push_back(Event::Closed(why));
    }

    /// Closes the client because the policy allows no further attempt.
    fn give_up(&mut self, now: Instant) {
        self.requests.give_up(now);
        self.closed(Closed::GaveUp);
    }
}
