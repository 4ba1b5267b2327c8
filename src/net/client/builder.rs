//! [`Builder`]: the server, settings and bounds of a session; and [`ConnectError`], why a session could not
//! be opened.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;

use super::driver::{self, ConnectPlan};
use super::handle::is_word;
use super::shared::SessionShared;
use super::{Client, Events};
use crate::config::{ClientConfig, Transport};
use crate::escape::escape_short;
use crate::net::{ServerAddr, blocking, rt};
use crate::reliable::{Backoff, Growth, Jitter, WINDOW};
use crate::units::Factor;

/// Most bytes that names and digits of a frame add to the longest message.
const HEAD_ROOM: usize = 1_024;
/// The datagram that every host must accept (RFC 791), and the largest that UDP over IPv4 carries, in bytes.
const DATAGRAM_BOUNDS: (usize, usize) = (576, 65_507);
/// RFC 8085 section 3.5.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(15);
/// Most characters of a text shown in an error.
const SHOWN: usize = 80;

/// The server of a session, and its settings; created by [`Client::builder`].
///
/// A value outside the bounds of its setter is replaced by the nearest one inside.
///
/// ```no_run
/// use std::time::Duration;
/// use sayagain::net::client::Client;
/// use sayagain::reliable::Backoff;
///
/// # async fn connect() -> Result<(), sayagain::net::client::ConnectError> {
/// let policy = Backoff::new(Duration::from_millis(200)).with_max_sends(20);
/// let (client, events) = Client::builder("udp://chat.example.org:50000").name("bot").policy(policy).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `connect`"]
pub struct Builder {
    url: String,
    config: ClientConfig,
    max_message: usize,
    max_pending: usize,
    max_unread: usize,
    seed: Option<u64>,
}

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one for a client.
    #[error("cannot connect to `{}`: {why}", escape_short(.url.as_bytes(), SHOWN))]
    Url {
        /// As it was given.
        url: String,
        /// The error in it, and what to write instead.
        why: String,
    },
    /// The name is not one word.
    #[error("`{}` is not a name: it must be one word, without spaces; choose another", escape_short(.0.as_bytes(), SHOWN))]
    Name(String),
    /// The server's host has no address, or no socket could be created.
    #[error("cannot reach {server}: {source}; check the host's name")]
    Unreachable {
        /// The server.
        server: String,
        /// The system's error.
        source: io::Error,
    },
    /// The server refused the registration: the name is taken (409) or not allowed (403), or the server is full (503).
    #[error("{server} refuses the name: {code} {text}; {}", advice(*.code))]
    Refused {
        /// The server.
        server: String,
        /// The code of the refusal.
        code: u16,
        /// The server's text, escaped.
        text: String,
    },
    /// The server sent BYE before there was a session.
    #[error("{server} takes no more clients: {}; try again later", .reason.as_deref().unwrap_or("it sent BYE"))]
    Bye {
        /// The server.
        server: String,
        /// The text of the ERR before it, escaped.
        reason: Option<String>,
    },
    /// No answer came until the policy gave up.
    #[error("no answer from {server}{}; is a server running there?", because(.source.as_ref()))]
    GaveUp {
        /// The server.
        server: String,
        /// Why there was no connection, if that was the reason.
        source: Option<io::Error>,
    },
}

fn advice(code: u16) -> &'static str {
    match code {
        409 => "choose another, or wait until its session has ended",
        503 => "try again later",
        _ => "choose another",
    }
}

fn because(source: Option<&io::Error>) -> String {
    source.map_or_else(String::new, |source| format!(": {source}"))
}

impl Builder {
    pub(super) fn new(url: String) -> Self {
        // The transport is replaced by that of the URL.
        let config = ClientConfig::new(Transport::Stream, None, usual_policy());
        let size = 16 << 20;
        Self { url, config, max_message: size, max_pending: size, max_unread: size, seed: None }
    }

    /// The name to register: 1 to 32 characters, as the server allows. Default: none, so no session; a server
    /// then answers nothing but pings.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// The policy by which requests are retransmitted and given up; reconnects follow it too. Default: five sends,
    /// a first timeout of 1 s that doubles each time, half of it drawn at random.
    pub fn policy(mut self, policy: Backoff) -> Self {
        self.config.policy = policy;
        self
    }

    /// Most requests in flight at once, 1 to 1,023. Default 1, which keeps messages in order.
    pub fn window(mut self, window: usize) -> Self {
        let most = usize::try_from(WINDOW - 1).unwrap_or(usize::MAX);
        self.config.window = window.clamp(1, most);
        self
    }

    /// The longest message to send or receive, its target included, in bytes. Default 16 MiB, as for servers. A longer
    /// request is rejected with 413; a server that sends more is considered broken, and its connection is closed.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// The largest datagram to send, in bytes: 576 to 65,507, default 1,200. Use more only if server and
    /// network are known to take it.
    pub fn max_datagram(mut self, bytes: usize) -> Self {
        let (least, most) = DATAGRAM_BOUNDS;
        self.config.max_datagram = bytes.clamp(least, most);
        self
    }

    /// Over UDP, the silence after which a ping keeps the session: at least 15 s (RFC 8085), default 25 s. A
    /// server ends a session after 90 s of silence by default.
    pub fn keepalive(mut self, silence: Duration) -> Self {
        self.config.keepalive = silence.max(SHORTEST_KEEPALIVE);
        self
    }

    /// The seed of the jitter, and of nothing else. Default: drawn by the system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Most bytes of unfinished requests, counting 128 more for each. Default 16 MiB; one request of any size
    /// always fits. Others wait in the order in which they were first polled.
    pub fn max_pending(mut self, bytes: usize) -> Self {
        self.max_pending = bytes;
        self
    }

    /// Most bytes of events that were not taken, counting 128 more for each. Default 16 MiB; one event of any
    /// size always fits.
    ///
    /// At the limit, reading is paused until some are taken. The last read may exceed it by half a MiB (over UDP, by
    /// sixteen datagrams) or one message.
    pub fn max_unread(mut self, bytes: usize) -> Self {
        self.max_unread = bytes.max(1);
        self
    }

    /// Connects and registers. If the future is dropped early, no session is left.
    ///
    /// # Errors
    ///
    /// Fails if the URL or the name is unusable, the host has no address, the server refuses, or the policy gives up.
    pub async fn connect(self) -> Result<(Client, Events), ConnectError> {
        let (shared, max_message) = (Arc::new(SessionShared::new(self.max_unread)), self.max_message);
        let plan = self.plan()?;
        let server = plan.server_name.clone();
        let handles = Client::new(&shared, max_message);
        let (started, begun) = oneshot::channel();
        drop(rt::spawn(driver::drive(plan, shared, started)));
        begun.await.unwrap_or(Err(ConnectError::GaveUp { server, source: None }))?;
        Ok(handles)
    }

    /// As [`Builder::connect`] for a program without an executor: blocks this thread.
    ///
    /// # Errors
    ///
    /// Fails as [`Builder::connect`].
    pub fn connect_blocking(self) -> Result<(blocking::Client, blocking::Events), ConnectError> {
        let (client, events) = rt::block_on(self.connect())?;
        Ok((client.into(), events.into()))
    }

    fn plan(mut self) -> Result<ConnectPlan, ConnectError> {
        if let Some(name) = self.config.name.as_ref().filter(|name| !is_word(name)) {
            return Err(ConnectError::Name(name.clone()));
        }
        let url = if self.url.contains("://") { self.url } else { format!("tcp://{}", self.url) };
        let server: ServerAddr =
            url.parse().map_err(|error| ConnectError::Url { url: url.clone(), why: format!("{error}") })?;
        self.config.max_message = self.max_message.saturating_add(HEAD_ROOM);
        Ok(ConnectPlan {
            server,
            server_name: escape_short(url.as_bytes(), SHOWN).into_owned(),
            config: self.config,
            seed: self.seed,
            max_pending: self.max_pending,
        })
    }
}

fn usual_policy() -> Backoff {
    Backoff::new(Duration::from_secs(1))
        .with_growth(Growth::Exponential { factor: Factor::TWO })
        .with_jitter(Jitter::Equal)
}
