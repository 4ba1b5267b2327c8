//! A client for chat programs: asynchronous, on whatever executor they have.
//!
//! [`Client::builder`] says where to and how, [`Builder::connect`] gives a [`Client`], which asks, and its [`Events`],
//! which tell what happens. The socket belongs to a task of this crate's own runtime; what is handed out waits on wakers
//! alone. For plain threads there is [`blocking`](super::blocking), for a program with sockets of its own the
//! [state machine](crate::client).
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
//! # What is asked
//!
//! Every request ends in exactly one [`Outcome`](crate::reliable::Outcome), at the latest when its policy gives up; see
//! there for what each of them promises. Requests go out in the order in which their futures are first polled.
//!
//! A [`Request`] that is dropped before it was taken leaves nothing sent. It is taken as soon as it has been polled and
//! there is room for it ([`Builder::max_pending`]). Dropped after that, it goes on by its policy, and nobody hears of its
//! outcome. All other futures here lose nothing when they are dropped.
//!
//! # What is heard
//!
//! Events that nobody has taken are bounded ([`Builder::max_unread`]). While they are full, nothing is read: the
//! server keeps what comes until there is room again, within its own bounds, and tells of what it had to drop in an
//! [`Event::Gap`]. The answers to requests are not read either, so requests wait, and may end as unknown. Who waits
//! for outcomes takes events in another task, or drops [`Events`] when there is nothing to be heard.
//!
//! # How it ends
//!
//! [`Client::close`] says goodbye once everything asked so far has ended. Once the last [`Client`], the last [`Request`]
//! and the [`Events`] are dropped, the session does so by itself: within one timeout of its policy, and only if the
//! program goes on for so long.

mod builder;
mod driver;
mod events;
mod handle;
mod shared;

pub use builder::{Builder, ConnectError};
pub use events::{Event, Events};
pub use handle::{Client, Close, Request};
pub use shared::{Ending, Stats};

#[cfg(test)]
mod tests;
