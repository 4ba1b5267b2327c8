//! A blocking client for programs without an executor: the [asynchronous client](super::client), with methods
//! that wait.
//!
//! Outcomes, bounds and the end of a session are described [there](super::client).
//!
//! ```
//! use std::time::Duration;
//! use sayagain::net::blocking::Client;
//! use sayagain::net::client::Event;
//! # use rand::{SeedableRng as _, rngs::StdRng};
//! # use sayagain::config::ServerConfig;
//! # use sayagain::net::{Engine, EngineKind, Listen};
//! # use sayagain::server::Server;
//! # let bound = Listen { host: "127.0.0.1".into(), port: 0, tcp: true, udp: false }.bind()?;
//! # let url = bound.endpoints()[0].to_string();
//! # let _engine = Engine::start(EngineKind::default(), bound, |now| {
//! #     Server::new(now, ServerConfig::default(), Box::new(StdRng::seed_from_u64(1)))
//! # })?;
//!
//! let (client, mut events) = Client::builder(&url).name("ada").connect_blocking()?;
//! client.send("ada", "Hello, me!");
//! match events.next_timeout(Duration::from_secs(10)) {
//!     Some(Event::Message { sender, body, .. }) => assert_eq!((sender.as_str(), &*body), ("ada", &b"Hello, me!"[..])),
//!     other => panic!("{other:?}"),
//! }
//! client.close();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::Duration;

use futures::StreamExt as _;

use super::client::{self, Builder, Ending, Event, Stats};
use super::rt;
use crate::reliable::Outcome;
use crate::units::later;

/// A handle of a session, with methods that wait for their result. Clones share the session, on any thread.
///
/// Not for tasks of an executor, as it blocks their thread.
#[derive(Clone, Debug)]
pub struct Client(client::Client);

impl Client {
    /// As [`client::Client::builder`]; ends with [`Builder::connect_blocking`].
    pub fn builder(url: impl Into<String>) -> Builder {
        client::Client::builder(url)
    }

    /// As [`client::Client::send`].
    pub fn send(&self, target: &str, body: impl Into<Vec<u8>>) -> Outcome {
        rt::block_on(self.0.send(target, body))
    }

    /// As [`client::Client::join`].
    pub fn join(&self, room: &str) -> Outcome {
        rt::block_on(self.0.join(room))
    }

    /// As [`client::Client::leave`].
    pub fn leave(&self, room: &str) -> Outcome {
        rt::block_on(self.0.leave(room))
    }

    /// As [`client::Client::list`].
    pub fn list(&self, room: Option<&str>) -> Outcome {
        rt::block_on(self.0.list(room))
    }

    /// As [`client::Client::ping`].
    pub fn ping(&self) -> Outcome {
        rt::block_on(self.0.ping())
    }

    /// As [`client::Client::close`].
    pub fn close(&self) -> Ending {
        rt::block_on(self.0.close())
    }

    /// As [`client::Client::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}

impl From<client::Client> for Client {
    fn from(client: client::Client) -> Self {
        Self(client)
    }
}

impl From<Client> for client::Client {
    fn from(client: Client) -> Self {
        client.0
    }
}

/// The events of a session: an iterator that waits for the next [`Event`] and ends after [`Event::Closed`].
#[derive(Debug)]
pub struct Events(client::Events);

impl Events {
    /// The next event, if one comes within `timeout`. After [`Event::Closed`] returns `None` without waiting.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        rt::block_on(rt::before(later(rt::now(), timeout), self.0.next())).flatten()
    }

    /// Returns an event that is there already, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.try_next()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        rt::block_on(self.0.next())
    }
}

impl std::iter::FusedIterator for Events {}

impl From<client::Events> for Events {
    fn from(events: client::Events) -> Self {
        Self(events)
    }
}
