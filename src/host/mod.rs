//! A program of its own on sockets: callbacks, and a context to act through.
//!
//! Who writes a [`Handler`] is told of connections, of what comes in on them, of their ends, and does through a [`Context`]
//! what is to be done: send, close, pause, connect. A [`Host`] makes a [`Service`](crate::service::Service) of it, which any
//! [`Engine`](crate::net::Engine) drives, as it drives the chat. Nothing here touches a socket or a clock.
//!
//! ```
//! use std::time::Instant;
//! use sayagain::host::{Context, Handler, Host, Settings};
//! use sayagain::output::Output;
//! use sayagain::service::{ConnId, Decoder, Origin, Remote, Service};
//!
//! /// Says everything again.
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
//! let origin = Origin { door: 0, from: Remote::Ip("192.0.2.1:4000".parse()?) };
//! let mut decoder = host.opened(now, conn, origin.into());
//! host.received(now, conn, decoder.received(now, b"again"));
//! assert_eq!(host.poll_wake(), Some(conn));
//! let mut out = Output::default();
//! host.fill(now, conn, &mut out);
//! assert_eq!(out.to_vec(), b"again");
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! # A router, and two who talk through it
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
//!             None => Err(format!("nobody is called {name}")),
//!         };
//!         if let Err(why) = sent {
//!             // Who does not read this either is not told.
//!             let _ = cx.send(conn, why.as_bytes());
//!         }
//!     }
//! }
//!
//! let settings = Settings::default().name("router")?.max_message(1 << 20).max_pending(4 << 20);
//! let engine = Engine::host(&["msg://127.0.0.1:0"], settings, Router)?;
//! let url = engine.places()[0].to_string();
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
//! # Where what is
//!
//! In the order in which a piece of input meets them:
//!
//! ```text
//! service   a handler as a service: what the engine hands in and asks for
//! state     all that is known besides the handler: who is there, and who comes and goes
//! turns     what is there to be taken, and whose turn it is
//! sharing   who is read, and who goes on when the memory is full
//! flow      what is to be written
//! conn      one connection: what was read and is not taken, what is to be written
//! framing   bytes to pieces and back
//! greeting  who says its name, and who may: the first message each way
//! memory    how much all of them may hold, and who may go on when that is full
//! context   what a handler does
//! settings  what it can be told
//! ```

use std::io;
use std::time::Instant;

use bytes::Bytes;

use crate::service::{CloseReason, ConnId, DialId, Peer};
use scheduler::Piece;

mod conn;
mod context;
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

pub use crate::door::Framing;
pub use context::{Context, PeerInfo};
pub use flow::SendError;
pub use handshake::MAX_GREETING;
pub use service::{Host, HostDecoder};
pub use settings::Settings;

/// What a program does when something happens. Every method has a default; most programs want two or three of them.
///
/// They are called one at a time, under the engine's lock: what takes long holds everybody up. None of them has to be
/// prepared for a connection that is gone: what a [`Context`] is asked for such a one comes back as an error or does nothing.
pub trait Handler: Send {
    /// A connection can be talked to: it was accepted, or one that [`Context::connect`] asked for is there. Of
    /// [messages](Framing::Messages), it has told its name by now ([`Context::peer`]).
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// Bytes are there, where they are not cut ([`Framing::Bytes`]): all that came and was not used before, at least one.
    /// Returns how many were used. It is called again at once with the rest, until it uses none or there is none; what
    /// stays is there again, in front of what comes next. By default they are used up unread.
    ///
    /// One answer per call is a good measure: while more than [`Settings::pause_above`] of answers is unsent to a connection,
    /// its input waits.
    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        let _ = (cx, conn);
        bytes.len()
    }

    /// A whole message, line or frame is there, where a stream is cut into those. Short ones that came together share one
    /// buffer: to keep one for long, copy it.
    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        let _ = (cx, conn, message);
    }

    /// Something is there to be taken. By default it is handed over piece by piece, to `received` or `message`. Who would
    /// rather fetch it later ([`Context::recv`]) overrides this; what is not fetched fills the [memory](Settings::max_memory_in),
    /// and is then left to the system and to the peer.
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

    /// A datagram came in at a door for those.
    fn datagram(&mut self, cx: &mut Context<'_>, peer: Peer, bytes: &[u8]) {
        let _ = (cx, peer, bytes);
    }

    /// Everything that was sent to a connection is written: its queue is empty again. Also told where it was empty and what was
    /// to be sent had no room because of others ([`SendError::Full`]): there is some now.
    fn drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// The peer has closed its side, and all that came before was handed over. The connection is closed once everything
    /// is written: one that is to stay open for an answer needs that answer here.
    fn ended(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// A connection that was opened is gone. It is not named again.
    fn closed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: CloseReason) {
        let _ = (cx, conn, why);
    }

    /// A connection that [`Context::connect`] asked for could not be made, or the peer refused our name
    /// ([`io::ErrorKind::PermissionDenied`]).
    fn failed(&mut self, cx: &mut Context<'_>, dial: DialId, error: &io::Error) {
        let _ = (cx, dial, error);
    }

    /// The instant that `poll_timeout` named has come. One that comes early is harmless.
    fn timeout(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// When to call `timeout`; `None` means never. It is asked after every callback.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The engine is told to end. By default everybody gets what is still to be written, and is closed.
    fn shutdown(&mut self, cx: &mut Context<'_>) {
        cx.stop();
    }
}
