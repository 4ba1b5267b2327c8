//! Load on a real server: `lab load`. Here are the sockets, one thread for all of them, and the clock.
//!
//! The bytes that are sent and expected are in [`lab::load`](crate::lab::load). The generator waits for readiness with
//! mio alone, so that it costs far less than any server.
//!
//! ```text
//! target_server  the server: started here or already running; its CPU time and memory
//! program        a server program: start, listening address, end
//! process        CPU time and memory of a process
//! sockets        connections made and greeted one after the other
//! timed_poll     a poll with a timeout in microseconds
//! groups         messages from senders to receivers: route and fanout
//! ping           pings, one at a time from each client
//! datagrams      requests in datagrams, one at a time from each socket: udp
//! burst          many connections at once
//! serial         one connection after the other
//! idle           idle connections and sessions
//! line_clients   Trio Chat's clients: spam and slow
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

pub(crate) mod burst;
pub(crate) mod datagrams;
pub(crate) mod groups;
pub(crate) mod idle;
pub(crate) mod line_clients;
pub(crate) mod ping;
mod process;
mod program;
pub(crate) mod serial;
mod sockets;
pub(crate) mod target_server;
mod timed_poll;

use crate::lab::load::group::Wrong;

/// Why a workload failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// The server could not be started, or ended with an error.
    #[error("{0}")]
    Server(String),
    /// A connection could not be made, or broke.
    #[error(
        "{doing} failed: {error}; is the server still there, and is its limit of connections high enough?"
    )]
    Connection {
        /// The failed operation.
        doing: String,
        /// The system's error.
        error: io::Error,
    },
    /// The greeting of a client failed.
    #[error("the handshake of `{who}` failed: {why}")]
    Greeting {
        /// The client's name.
        who: String,
        /// The received answer, if any, and what to do.
        why: String,
    },
    /// The server closed a connection instead of answering.
    #[error(
        "the handshake of `{0}` failed: the server closed the connection without an answer; is it of the kind that --peer names?"
    )]
    Closed(String),
    /// The server was reachable, and is no longer.
    #[error("the server at {addr} is gone: {why} after {after}")]
    Gone {
        /// Its address.
        addr: SocketAddr,
        /// The sign that it is gone.
        why: &'static str,
        /// Work done until then, or elapsed time, as text.
        after: String,
    },
    /// The server ended a session over datagrams with BYE.
    #[error("the server ended a session: it is shutting down, or its log says why")]
    Ended,
    /// Received bytes differ from the expected ones.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// The system lacks a resource.
    #[error("cannot wait for sockets: {0}; raise the limit of open files (ulimit -n)")]
    Wait(#[from] io::Error),
}

impl LoadError {
    /// Creates the error that the connection of a client broke.
    fn broken(who: &str, error: io::Error) -> Self {
        Self::Connection { doing: format!("the connection of `{who}`"), error }
    }
}

/// Whether a signal asked this program to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Records SIGINT and SIGTERM from now on instead of ending the program; a second one ends it.
    ///
    /// # Errors
    ///
    /// The system has no room to wait for signals.
    pub(crate) fn new() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let code = i32::from(crate::exit::INTERRUPTED);
            signal_hook::flag::register_conditional_shutdown(signal, code, asked.clone())?;
            signal_hook::flag::register(signal, asked.clone())?;
        }
        Ok(Self(asked))
    }

    /// Returns an error if a signal has arrived.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        if self.0.load(Ordering::Relaxed) { Err(LoadError::Interrupted) } else { Ok(()) }
    }
}
