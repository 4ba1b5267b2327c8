//! Chat and message routing over TCP and lossy UDP, with retries that end in a known outcome.
//!
//! The crate holds the server and the client of the chat, and the sockets under them for programs of any protocol. A lab
//! measures retry policies under loss. A request passes through these modules, and its answer back through them:
//!
//! ```text
//! net (socket) -> link (simulated loss) -> wire (frames) -> reliable (dedup window) -> hub (sessions, rooms, queues)
//! ```
//!
//! # Which API to take
//!
//! | you want | take | it is |
//! |---|---|---|
//! | a server, router or bridge of your own protocol | a [`host::Handler`] on a [`net::Engine`] | callbacks, on threads of the engine |
//! | the same in a loop of your own | a [`net::Core`] | polling and events, without threads or a runtime |
//! | a client of the chat | a [`net::Client`], or the [blocking](net::blocking) one | futures for any executor, or blocking calls |
//! | sockets of your own | [`service::Service`], [`server::Server`], [`client::Client`], [`reliable`], [`link`] | state machines that are given bytes and the time |
//!
//! Callbacks: a server that sends all input back.
//!
//! ```
//! use std::io::{Read, Write};
//! use sayagain::host::{Context, Handler, Settings};
//! use sayagain::net::Engine;
//! use sayagain::service::ConnId;
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
//!         let _ = cx.send(conn, bytes);
//!         bytes.len() // all of them were used
//!     }
//! }
//!
//! let engine = Engine::host(&["raw://127.0.0.1:0"], Settings::default(), Echo)?;
//! let url = engine.listen_addrs()[0].to_string();
//! let mut peer = std::net::TcpStream::connect(url.trim_start_matches("raw://"))?;
//! peer.write_all(b"again")?;
//! let mut received = [0; 5];
//! peer.read_exact(&mut received)?;
//! assert_eq!(&received, b"again");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Polling: peers with names that exchange messages.
//!
//! ```
//! use std::time::Duration;
//! use sayagain::host::Settings;
//! use sayagain::net::Core;
//! use sayagain::net::core::Event;
//!
//! let mut boss = Core::new(Settings::default().expect("worker-*")?)?;
//! let url = boss.listen("msg://127.0.0.1:0")?[0].to_string();
//! let mut worker = Core::new(Settings::default().name("worker-1")?)?;
//! worker.connect(&url)?;
//! let mut job = None;
//! while job.is_none() {
//!     for event in boss.poll(Some(Duration::from_millis(1)))? {
//!         if let Event::Expected(id) = event {
//!             boss.send(id, b"6 * 7")?;
//!         }
//!     }
//!     for event in worker.poll(Some(Duration::from_millis(1)))? {
//!         if let Event::Readable(id) = event {
//!             job = worker.recv(id);
//!         }
//!     }
//! }
//! assert_eq!(job.as_deref(), Some(&b"6 * 7"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A client of the chat, on any executor:
//!
//! ```
//! # use rand::{SeedableRng as _, rngs::StdRng};
//! # use sayagain::{config::ServerConfig, net::{Engine, EngineKind, Listen}, server::Server};
//! use futures::executor::block_on;
//! use sayagain::net::Client;
//! use sayagain::reliable::Outcome;
//!
//! # let bound = Listen { host: "127.0.0.1".into(), port: 0, tcp: true, udp: true }.bind()?;
//! # let url = bound.endpoints()[1].to_string();
//! # let _engine = Engine::start(EngineKind::default(), bound, |now| {
//! #     Server::new(now, ServerConfig::default(), Box::new(StdRng::seed_from_u64(1)))
//! # })?;
//! // `url` is "udp://HOST:PORT"; tcp:// and unix:// work too.
//! block_on(async {
//!     let (client, _events) = Client::builder(&url).name("ada").connect().await?;
//!     assert_eq!(client.send("ada", "Hello, me!").await, Outcome::Acked(Vec::new()));
//!     client.close().await;
//!     Ok::<(), sayagain::net::ConnectError>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `docs/embedding.md` continues from here.
//!
//! # Without sockets
//!
//! All decisions are made without sockets, clocks, threads and ambient randomness. A [`server::Server`] and a
//! [`client::Client`] are state machines. They are given bytes and the time. They return bytes to send and the time of
//! the next call. So the same objects run behind sockets ([`net`]), on a virtual clock ([`sim`]), and inside your
//! program:
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
//! let secrets = |seed| Box::new(StdRng::seed_from_u64(seed)); // in production: from the system
//! let mut server = Server::new(now, ServerConfig::default(), secrets(1));
//! let policy = Backoff::new(Duration::from_secs(1)).with_max_sends(5);
//! let config = ClientConfig::new(Transport::Datagram, Some("ada"), policy);
//! let mut ada = Client::new(now, config, 1, secrets(2));
//! let peer = Peer::new(0, "192.0.2.1:4000".parse()?);
//!
//! ada.send(b"ada", b"Hello, me!");
//! let body = 'received: loop {
//!     // 1. Send what is ready; here the network is a function call.
//!     while let Some(datagram) = ada.poll_transmit(now) {
//!         server.datagram(now, peer, &datagram);
//!     }
//!     while let Some(transmit) = server.poll_transmit(now) {
//!         ada.handle_datagram(now, &transmit.bytes);
//!     }
//!     // 2. Handle events.
//!     while let Some(event) = ada.poll() {
//!         if let Event::Message { body, .. } = event {
//!             break 'received body;
//!         }
//!     }
//!     // 3. Wait for input or the next deadline; here time is a variable.
//!     let deadlines = [ada.poll_timeout(), server.poll_timeout()];
//!     now = deadlines.into_iter().flatten().min().expect("a deadline is set").max(now);
//!     ada.handle_timeout(now);
//!     server.timeout(now);
//! };
//! assert_eq!(body, b"Hello, me!");
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! # Modules
//!
//! In the order of the data path:
//!
//! - [`net`]: sockets; [`service`]: the interface between sockets and state machines;
//! - [`host`]: protocols other than the chat; [`server`]: the chat server;
//! - [`link`]: simulated loss; [`wire`]: frames; [`reliable`]: retransmission and deduplication;
//! - [`hub`]: sessions, rooms and queues; [`client`]: the chat client;
//! - [`sim`]: server and client on a virtual clock; [`lab`]: experiments.
//!
//! Settings are in [`config`] and [`listener`]. All of them use [`units`], [`error`], [`escape`] and [`timers`].

// Code for a higher feature is unused without it; only the build with all features finds dead code.
#![cfg_attr(not(feature = "lab"), allow(dead_code, unused_imports, reason = "used by higher features"))]

mod allocator;
// The command lines of the programs; public for `src/bin/` only.
#[cfg(feature = "programs")]
#[doc(hidden)]
pub mod cli;
pub mod client;
pub mod config;
#[doc(hidden)]
pub mod conn_map;
#[doc(hidden)]
pub mod error;
pub mod escape;
#[cfg(feature = "programs")]
#[doc(hidden)]
pub mod exit;
mod handle_index;
pub mod host;
#[cfg(feature = "programs")]
mod host_port;
#[doc(hidden)]
pub mod hub;
mod hub_config;
#[cfg(feature = "lab")]
#[doc(hidden)]
pub mod lab;
mod lazy_box;
pub mod link;
pub mod listener;
mod log_limiter;
pub mod names;
#[cfg(feature = "net")]
pub mod net;
#[doc(hidden)]
pub mod output;
mod parted_map;
mod parts;
mod queue_capacity;
#[doc(hidden)]
pub mod rates;
pub mod reliable;
mod remote;
pub mod rules;
mod segmented_vec;
pub mod server;
pub mod service;
pub mod sim;
#[doc(hidden)]
pub mod timers;
pub mod units;
#[doc(hidden)]
pub mod wire;
#[cfg(test)]
mod work_probe;
