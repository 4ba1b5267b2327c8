//! The server of `lab baseline`, which only moves bytes: the least cost of a server on this kernel. Another server's
//! cost beyond it is its own.
//!
//! One thread moves bytes and interprets none of them.
//!
//! ```text
//! streams    connections that receive their own bytes, or another connection's
//! datagrams  datagrams echoed to their sender, in batches
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;

use crate::lab::baseline::Pattern;
use crate::net::listen::{Bound, Endpoint, Listen, ListenError};
use crate::net::open_files::raise_open_files;

mod datagrams;
mod streams;

/// A baseline server that listens and does not serve yet.
#[derive(Debug)]
pub(crate) struct Baseline {
    pattern: Pattern,
    sockets: Bound,
}

impl Baseline {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub(crate) fn bind(pattern: Pattern, addr: SocketAddr) -> Result<Self, ListenError> {
        let udp = pattern == Pattern::EchoUdp;
        let listen = Listen { host: addr.ip().to_string(), port: addr.port(), tcp: !udp, udp };
        Ok(Self { pattern, sockets: listen.bind()? })
    }

    /// Returns the addresses that it listens on.
    #[must_use]
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        self.sockets.endpoints()
    }

    /// Serves until SIGINT, SIGTERM or SIGHUP, which end the program at once with exit code 0: there are no sessions
    /// to end.
    ///
    /// # Errors
    ///
    /// The system refuses a resource that every server needs.
    pub(crate) fn run(self) -> io::Result<()> {
        end_at_signals()?;
        raise_open_files();
        let Bound { tcp, udp, .. } = self.sockets;
        match (tcp.into_iter().next(), udp.into_iter().next()) {
            (Some(listener), _) => streams::serve(self.pattern, listener),
            (None, Some(socket)) => datagrams::serve(&socket),
            (None, None) => Ok(()),
        }
    }
}

/// Makes the signals end the program at once, with success.
fn end_at_signals() -> io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}
