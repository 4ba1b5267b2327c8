//! The asynchronous client for chat programs, on any executor.
//!
//! [`Builder::connect`] opens a session, and returns a [`Client`] for requests and its [`Events`]. A task of this
//! crate's runtime owns the socket and drives the [state machine](crate::client), which decides about retries; the
//! handles only wait on wakers. For plain threads there is [`blocking`](super::blocking); a program with sockets of its
//! own takes the state machine.
//!
//! ```
//! use futures::StreamExt as _;
//! use futures::executor::block_on;
//! use sayagain::net::client::{Client, Event};
//! use sayagain::reliable::Outcome;
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
//! block_on(async {
//!     // `url` is "tcp://HOST:PORT"; udp:// and unix:// are as good.
//!     let (client, mut events) = Client::builder(&url).name("ada").connect().await?;
//!     client.join("#lobby").await;
//!     assert_eq!(client.send("ada", "Hello, me!").await, Outcome::Acked(Vec::new()));
//!     assert!(matches!(client.send("bob", "Hello?").await, Outcome::Rejected(404, _)));
//!     while let Some(event) = events.next().await {
//!         if let Event::Message { sender, body, .. } = event {
//!             println!("{sender}: {}", String::from_utf8_lossy(&body));
//!             break;
//!         }
//!     }
//!     let ending = client.close().await;
//!     assert_eq!(ending.closed, sayagain::client::Closed::Done);
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Requests
//!
//! Every request ends in exactly one [`Outcome`](crate::reliable::Outcome), at the latest when its policy
//! gives up. Requests are sent in the order in which their futures are first polled.
//!
//! A [`Request`] is taken once it has been polled and there is room for it ([`Builder::max_pending`]).
//! Dropped before, it is never sent. Dropped later, it continues by its policy, and its outcome is discarded.
//! All other futures here can be dropped without loss.
//!
//! # Events
//!
//! Events that were not taken are bounded ([`Builder::max_unread`]). At the limit, reading is paused. The
//! server then queues messages within its own bounds, and reports what it drops in an [`Event::Gap`]. Answers
//! are not read either, so requests wait, and may end as unknown. A program that awaits outcomes takes events
//! in another task, or drops [`Events`].
//!
//! # The end
//!
//! [`Client::close`] sends BYE once all earlier requests have ended. Once the last [`Client`], the last [`Request`] and
//! the [`Events`] are dropped, the session closes by itself. That takes at most one timeout of its policy, and happens
//! only if the program runs for that long.

pub(super) mod builder;
mod driver;
mod events;
pub(super) mod handle;
mod shared;

pub use builder::Builder;
pub use events::{Event, Events};
pub use handle::{Close, Request};
pub use shared::{Ending, Stats};

// Listed in `net`.
#[doc(hidden)]
pub use {builder::ConnectError, handle::Client};

#[cfg(test)]
mod tests;
