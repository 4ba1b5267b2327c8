//! Servers and peers of any protocol: a program writes a [`Handler`], and a [`Host`] runs it as a service.
//!
//! The host stands where the chat's [`Server`](crate::server::Server) stands: between an
//! [`Engine`](crate::net::Engine), which owns sockets, threads and the clock, and the program. The handler's callbacks
//! report connections, input and their ends; it acts through a [`Context`]: send, close, pause, connect. Nothing here
//! touches a socket or a clock.
//!
//! ```
//! use std::time::Instant;
//! use sayagain::host::{Context, Handler, Host, Settings};
//! use sayagain::output::Output;
//! use sayagain::service::{ConnId, Decoder, Origin, Remote, Service};
//!
//! /// Echoes all input.
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
//!         let _ = cx.send(conn, bytes);
//!         bytes.len()
//!     }
//! }
//!
//! // An engine does this; here the network is a function call.
//! let now = Instant::now();
//! let mut host = Host::new(Settings::default(), Vec::new(), Echo);
//! let conn = ConnId::new(0, 0);
//! let origin = Origin { listener: 0, from: Remote::Ip("192.0.2.1:4000".parse()?) };
//! let mut decoder = host.opened(now, conn, origin.into());
//! host.received(now, conn, decoder.received(now, b"again"));
//! assert_eq!(host.poll_wake(), Some(conn));
//! let mut out = Output::default();
//! host.fill(now, conn, &mut out);
//! assert_eq!(out.to_vec(), b"again");
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! # A router and two of its clients
//!
//! ```
//! use bytes::Bytes;
//! use sayagain::host::{Context, Handler, Settings};
//! use sayagain::net::Engine;
//! use sayagain::service::ConnId;
//!
//! struct Router;
//!
//! impl Handler for Router {
//!     fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
//!         let space = message.iter().position(|byte| *byte == b' ').unwrap_or(message.len());
//!         let name = std::str::from_utf8(&message[..space]).unwrap_or_default();
//!         let body = message.slice((space + 1).min(message.len())..);
//!         let sent = match cx.find(name) {
//!             Some(peer) => cx.share(peer, &body).map_err(|why| why.to_string()),
//!             None => Err(format!("no peer is called {name}")),
//!         };
//!         if let Err(why) = sent {
//!             // If the queue is full, the sender gets no error message.
//!             let _ = cx.send(conn, why.as_bytes());
//!         }
//!     }
//! }
//!
//! let settings = Settings::default().name("router")?.max_message(1 << 20).max_pending(4 << 20);
//! let engine = Engine::host(&["msg://127.0.0.1:0"], settings, Router)?;
//! let url = engine.listen_addrs()[0].to_string();
//!
//! use std::time::Duration;
//! use sayagain::net::Core;
//! use sayagain::net::core::Event;
//!
//! let mut ada = Core::new(Settings::default().name("ada")?)?;
//! let mut bob = Core::new(Settings::default().name("bob")?)?;
//! ada.connect(&url)?;
//! bob.connect(&url)?;
//! let mut heard = None;
//! while heard.is_none() {
//!     for event in bob.poll(Some(Duration::from_millis(1)))? {
//!         match event {
//!             Event::Expected(router) => bob.send(router, b"ada Hello, Ada!")?,
//!             // Ada may not have been there yet.
//!             Event::Readable(router) if bob.recv(router).is_some() => bob.send(router, b"ada Hello, Ada!")?,
//!             _ => {}
//!         }
//!     }
//!     for event in ada.poll(Some(Duration::from_millis(1)))? {
//!         if let Event::Readable(router) = event {
//!             heard = ada.recv(router);
//!         }
//!     }
//! }
//! assert_eq!(heard.as_deref(), Some(&b"Hello, Ada!"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! In the order in which a piece of input passes them:
//!
//! ```text
//! service          the host as a service: an engine's calls to a handler's callbacks
//! state            connections, queues, memory and timers
//! scheduler        which connection passes its next piece to the handler
//! memory_fairness  which connections are read, and which one continues when memory is full
//! flow             output
//! conn             the state of one connection
//! framing          bytes to pieces and back
//! handshake        names: the first message each way
//! memory           bytes held by all connections, and the limits
//! context          the actions of a handler
//! settings         configuration
//! ```

use std::io;
use std::time::Instant;

use bytes::Bytes;

use crate::service::{CloseReason, ConnId, DialId, Peer};
use scheduler::Piece;

mod conn;
mod context;
mod dials;
mod flow;
mod framing;
mod handshake;
mod memory;
mod memory_fairness;
mod scheduler;
mod service;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use context::{Context, PeerInfo};
pub use flow::SendError;
pub use service::Host;
pub use settings::Settings;

// Hidden: not part of the public API, without a promise of stability; for the tests and benches of this project.
#[doc(hidden)]
pub use {crate::listener::Framing, service::HostDecoder};

/// The callbacks of a program. Every method has a default; most programs override two or three of them.
///
/// The engine calls them one at a time, under its lock: a slow callback delays all connections. A callback need not
/// check whether a connection still exists: a [`Context`] call for a closed one returns an error or does nothing.
pub trait Handler: Send {
    /// A connection is usable: it was accepted, or an attempt of [`Context::connect`] succeeded. A connection of
    /// [messages](Framing::Messages) has completed its handshake by now ([`Context::peer`] has its name).
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// Bytes have arrived on a connection without framing ([`Framing::Bytes`]): all bytes that were not used before, at
    /// least one. Returns how many were used. It is called again at once with the rest, until it uses none or none are
    /// left. Unused bytes come again in front of the next input. The default closes the connection and logs why: this
    /// handler reads only pieces, and the listener is for bytes.
    ///
    /// Send about one answer per call: while more than [`Settings::pause_above`] bytes of answers to a connection are
    /// unsent, its input waits.
    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        cx.close_unhandled(conn, "received");
        bytes.len()
    }

    /// A whole message, line or frame has arrived on a connection with framing. Short pieces of one read share a
    /// buffer: copy a piece to keep it for long. The default closes the connection and logs why: this handler reads only
    /// bytes, and the listener is for pieces.
    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        drop(message);
        cx.close_unhandled(conn, "message");
    }

    /// Input has arrived. By default it is passed piece by piece to `received` or `message`. Override this to fetch it
    /// later with [`Context::recv`]. Input that is not fetched counts against the [memory
    /// limit](Settings::max_memory_in); at the limit the host stops reading.
    fn readable(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        loop {
            match cx.next(conn) {
                Some(Piece::Message(message)) => self.message(cx, conn, message),
                Some(Piece::Bytes(bytes)) => {
                    let used = self.received(cx, conn, &bytes);
                    if !cx.give_back(conn, bytes, used) {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    /// A datagram has arrived on a datagram listener.
    fn datagram(&mut self, cx: &mut Context<'_>, peer: Peer, bytes: &[u8]) {
        let _ = (cx, peer, bytes);
    }

    /// Everything that was sent to a connection is written, so its queue is empty. Also called for a connection with an
    /// empty queue after [`SendError::Full`], once other connections have left room.
    fn drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// The peer has closed its side, and all earlier input was passed on. The connection is closed once everything is
    /// written: to answer, send the answer here. It comes after the last [release](Context::release) of a held connection.
    fn ended(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// A connection that was opened is closed. Its id is not used again; [`Context::peer`] still has its name here.
    fn closed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: CloseReason) {
        let _ = (cx, conn, why);
    }

    /// An attempt of [`Context::connect`] failed, or the peer refused our name ([`io::ErrorKind::PermissionDenied`]).
    fn failed(&mut self, cx: &mut Context<'_>, dial: DialId, error: &io::Error) {
        let _ = (cx, dial, error);
    }

    /// The instant that `poll_timeout` returned has come. An early call is harmless.
    fn timeout(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// The time to call `timeout`; `None` means never. Queried after every callback.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The engine shuts down. By default all pending output is written, and then each connection is closed.
    fn shutdown(&mut self, cx: &mut Context<'_>) {
        cx.stop();
    }
}
