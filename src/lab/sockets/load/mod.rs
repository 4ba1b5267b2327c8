//! Load on a real server: `lab load`.
//!
//! What is said, and what has to come back, is in [`lab::load`](crate::lab::load); here are the sockets, one thread for all of them, and
//! the clock. The generator waits for readiness with mio alone, so that it costs far less than any server.
//!
//! ```text
//! subject    the server: started here or running already; its processor time and memory
//! program    a server program that is started, asked where it listens, and ended
//! process    what the system knows of a process: processor time, memory
//! sockets    connections that are made and greeted one after the other
//! alarm      waiting for sockets until a moment, to the microsecond
//! groups     messages from senders to receivers: route and fanout
//! ping       pings, one at a time from each client
//! datagrams  requests in datagrams, one at a time from each socket: udp
//! crowd      many connections at once: burst
//! turns      one connection after the other: serial
//! idle       connections and sessions that do nothing
//! people     Trio Chat's clients: spam and slow
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

pub mod burst;
pub mod datagrams;
pub mod groups;
pub mod idle;
pub mod line_clients;
pub mod ping;
mod process;
mod program;
pub mod serial;
mod sockets;
pub mod target_server;
mod timed_poll;

use crate::lab::load::group::Wrong;

/// Why a workload came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// The server was not to be started, or ended badly.
    #[error("{0}")]
    Server(String),
    /// A connection could not be made, or broke.
    #[error(
        "{doing} failed: {error}; is the server still there, and is its limit of connections high enough?"
    )]
    Connection {
        /// What was tried.
        doing: String,
        /// What the system said.
        error: io::Error,
    },
    /// A client was not greeted as it has to be.
    #[error("`{who}` was not let in: {why}")]
    Greeting {
        /// The client's name.
        who: String,
        /// What came instead, or that nothing did, and what to do.
        why: String,
    },
    /// The server closed a connection instead of an answer.
    #[error(
        "`{0}` was not let in: the server closed the connection without a word; is it of the kind that --peer names?"
    )]
    Closed(String),
    /// The server was there, and is not any more.
    #[error("the server at {addr} is gone: {why} after {after}")]
    Gone {
        /// Where it was.
        addr: SocketAddr,
        /// What happened instead.
        why: &'static str,
        /// How much it had done until then, or how long it was there, to people.
        after: String,
    },
    /// The server said goodbye to a session over datagrams.
    #[error("the server ended a session: it is shutting down, or its log says why")]
    Ended,
    /// What came back was something else.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// The system has no room for what is needed.
    #[error("cannot wait for sockets: {0}; raise the limit of open files (ulimit -n)")]
    Wait(#[from] io::Error),
}

/// Whether this program was asked to end.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// SIGINT and SIGTERM are noted from now on, instead of ending the program; a second one ends it.
    ///
    /// # Errors
    ///
    /// The system has no room to wait for signals.
    pub fn new() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let code = i32::from(crate::exit::INTERRUPTED);
            signal_hook::flag::register_conditional_shutdown(signal, code, asked.clone())?;
            signal_hook::flag::register(signal, asked.clone())?;
        }
        Ok(Self(asked))
    }

    /// An error, if it was.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        if self.0.load(Ordering::Relaxed) { Err(LoadError::Interrupted) } else { Ok(()) }
    }
}
