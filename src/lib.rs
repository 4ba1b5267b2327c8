//! Chat over TCP and lossy UDP, with a client that says it again until it is heard.
//!
//! ```text
//! socket -> link (lose) -> wire (frames) -> reliable (seen before?) -> hub (who, where) -> queues -> reliable (number,
//! repeat) -> wire (bytes) -> link (lose) -> socket
//! ```
//!
//! Everything that decides is free of sockets, clocks, threads and ambient randomness. A [`server::Server`] and a
//! [`client::Client`] are plain state machines that are handed bytes and the time, and asked what to send and when to be
//! called again. So the same objects run behind sockets ([`net`]), on a virtual clock ([`sim`]), and inside your program:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use rand::{SeedableRng, rngs::StdRng};
//! use sayagain::client::{Client, Event};
//! use sayagain::config::{ClientConfig, ServerConfig, Transport};
//! use sayagain::reliable::Backoff;
//! use sayagain::server::Server;
//! use sayagain::service::{Peer, Service};
//!
//! let mut now = Instant::now();
//! let secrets = |seed| Box::new(StdRng::seed_from_u64(seed)); // in earnest: the system's
//! let mut server = Server::new(now, ServerConfig::default(), secrets(1));
//! let policy = Backoff::new(Duration::from_secs(1)).with_max_sends(5);
//! let config = ClientConfig::new(Transport::Datagram, Some("ada"), policy);
//! let mut ada = Client::new(now, config, 1, secrets(2));
//! let peer = Peer { door: 0, addr: "192.0.2.1:4000".parse()? };
//!
//! ada.send(b"ada", b"Hello, me!");
//! let heard = 'heard: loop {
//!     // 1. Send whatever wants to be sent; here the network is a function call.
//!     while let Some(datagram) = ada.poll_transmit(now) {
//!         server.datagram(now, peer, &datagram);
//!     }
//!     while let Some(transmit) = server.poll_transmit(now) {
//!         ada.handle_datagram(now, &transmit.bytes);
//!     }
//!     // 2. Take what happened.
//!     while let Some(event) = ada.poll() {
//!         if let Event::Message { body, .. } = event {
//!             break 'heard body;
//!         }
//!     }
//!     // 3. Wait for input or the next deadline; here time is a variable.
//!     let deadlines = [ada.poll_timeout(), server.poll_timeout()];
//!     now = deadlines.into_iter().flatten().min().expect("somebody waits").max(now);
//!     ada.handle_timeout(now);
//!     server.timeout(now);
//! };
//! assert_eq!(heard, b"Hello, me!");
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! For a chat program there is a client with its sockets, for any executor and for plain threads: [`net::client`].
//!
//! The modules, in the order in which a datagram meets them: [`net`] sockets, [`service`] the seam, [`server`], [`link`]
//! loss, [`wire`] frames, [`reliable`] retransmission, [`hub`] the chat; [`client`] the other end; [`sim`] both on a virtual
//! clock; [`lab`] experiments with them; [`config`], [`door`] what they can be told; [`units`], [`error`], [`escape`], [`timers`] what all of them use.

// The command lines of the programs: public for `src/bin/` alone.
#[doc(hidden)]
pub mod cli;
pub mod client;
pub mod config;
pub mod door;
pub mod error;
pub mod escape;
pub mod host;
pub mod hub;
mod index;
pub mod lab;
pub mod link;
pub mod net;
pub mod output;
mod rare;
pub mod reliable;
mod remote;
pub mod server;
pub mod service;
pub mod sim;
pub mod table;
mod throttle;
pub mod timers;
pub mod units;
pub mod wire;
