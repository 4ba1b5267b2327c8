//! The only code that touches a socket, a clock or a thread.
//!
//! It moves bytes and knows no chat: [`Engine`] drives any [`Service`](crate::service::Service) over TCP, UDP and UNIX sockets,
//! [`client`] and [`connect`] a client.
//!
//! ```text
//! blocking clients for programs without a runtime
//! client   clients for chat programs, on any executor
//! drive    what every loop that drives a client is made of
//! connect  a client with its sockets, for whoever uses it
//! connect_url  whom to connect to, as it is typed
//! core     the polling way: a core that its owner turns
//! happy_eyeballs  a TCP connection to a host of several addresses
//! open_error  why there is no door, or no connection
//! listen   which addresses, and the sockets on them
//! engine   the tasks, and how they take turns behind one lock
//! shared   what is under the lock: the service, and who writes to which connection
//! stream   one task per connection, over TCP or a UNIX socket, and what it shares with its writers
//! udp      one task per UDP socket
//! batch    many datagrams received, and many sent, at once
//! open_files  how many there may be, and so how many connections
//! signals  what the terminal and the service manager ask for
//! rt       the runtime: tasks, timers, the clock
//! ```

#![expect(clippy::disallowed_methods, reason = "drivers own the clock")]

pub mod blocking;
pub mod client;
pub mod connect;
mod connect_url;
pub mod core;
pub mod engine;
pub mod listen;
pub mod signals;

// How the programs raise their own limit: a library leaves its process alone.
#[doc(hidden)]
pub mod open_files;

pub(crate) mod batch;
mod drive;
pub(crate) mod happy_eyeballs;
mod open_error;
pub(crate) mod rt;
pub(crate) mod udp;

#[cfg(test)]
mod tests;

pub use client::{Client, ConnectError};
pub use connect_url::ConnectUrl;
pub use core::Core;
pub use engine::{Engine, EngineKind, UnknownEngine, usual_loops};
pub use listen::{Bound, Doors, Listen, ListenError, ListenUrl};
pub use open_error::OpenError;
pub use signals::{Ended, Signals, serve};

/// What the totals are logged under: they are wanted however quiet the rest is.
pub const TOTALS: &str = "sayagain::totals";
