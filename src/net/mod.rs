//! Sockets: servers, clients and polling cores on a real network. Requires the feature `net`.
//!
//! This is the only code that touches sockets, clocks or threads, and the first and last step of the data path. It
//! moves bytes and knows no protocol: [`Engine`] drives any [`Service`](crate::service::Service) over TCP, UDP and UNIX
//! sockets, [`Client`] drives the client of [`crate::client`].
//!
//! ```
//! use sayagain::config::ServerConfig;
//! use sayagain::net::{Engine, blocking::Client};
//!
//! let chat = Engine::chat(&["tcp://127.0.0.1:0"], ServerConfig::default())?;
//! let (ada, _events) = Client::builder(chat.listen_addrs()[0].to_string()).name("ada").connect_blocking()?;
//! println!("{:?}", ada.send("ada", "Hello, me!"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//! listen          listeners: URLs, and the sockets bound there
//! engine          engines: run a service as tasks, readiness loops or threads
//! core            a core without threads, driven by its owner
//! signals         serving until a signal
//!
//! client          the asynchronous client, on any executor
//! client_event    its events, from those of the state machine
//! blocking        the same with methods that wait
//! drive           the loop of a client with its transport
//! program_input   standard input and signals of a client program
//! connect_url     URLs to connect to
//! outgoing        stream connections to a server
//! happy_eyeballs  TCP connections to hosts with several addresses
//! tcp             the options of TCP connections
//!
//! accept          accepted connections, and the pause without a free descriptor
//! batch           many datagrams per system call
//! udp             UDP sockets: receive loops, and the sockets of an engine
//! open_error      why a listener or a connection could not be opened
//! open_files      limits of the process
//! rt              the async runtime: tasks, timers, the clock
//! ```

#![expect(clippy::disallowed_methods, reason = "drivers own the clock")]

pub mod blocking;
pub mod client;
mod client_event;
mod connect_url;
mod core_loop;
pub mod core {
    //! The events of a `Core`, and what ends its wait from another thread.
    #[doc(hidden)]
    pub use super::core_loop::Core;
    pub use super::core_loop::{Event, Events, Waker};
}
pub(crate) mod engine;
pub(crate) mod listen;
pub(crate) mod signals;

// The programs raise their limit; a library leaves its process alone.
pub(crate) mod open_files;

pub(crate) mod accept;
pub(crate) mod batch;
pub(crate) mod drive;
pub(crate) mod happy_eyeballs;
mod open_error;
pub(crate) mod outgoing;
pub(crate) mod program_input;
pub(crate) mod rt;
pub(crate) mod tcp;
pub(crate) mod udp;

#[cfg(test)]
mod tests;

pub use client::builder::ConnectError;
pub use client::handle::Client;
pub use connect_url::ConnectUrl;
pub use core_loop::Core;
pub(crate) use engine::usual_loops;
pub use engine::{Engine, EngineHandle, EngineKind};
pub use listen::url::UrlError;
pub use listen::{ListenAddr, ListenError, ListenUrl, Listeners};
pub use open_error::OpenError;

// Hidden: not part of the public API, without a promise of stability; for the tests and benches of this project.
#[doc(hidden)]
pub use {
    connect_url::ServerAddr,
    engine::UnknownEngine,
    listen::{Address, Bound, Endpoint, Listen, Scheme, SocketFileError, url::At},
    signals::{Ended, Signals, serve},
};

/// The log target of the totals, so that they can be shown at any log level.
pub(crate) const TOTALS: &str = "sayagain::totals";
