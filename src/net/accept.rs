//! Accepting connections: errors that concern one connection only, and the pause while the system has no free
//! descriptor.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use async_io::Async;
use futures::Stream;

use super::rt;
use crate::log_limiter::LogLimiter;

/// The first and the longest pause when no descriptor is free.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Pause after an error of a listener, usually because no descriptor is free. It doubles each time.
#[derive(Debug)]
pub(crate) struct AcceptPause {
    /// The beginning of its warnings.
    prefix: String,
    next: Duration,
    warnings: LogLimiter,
}

impl Default for AcceptPause {
    fn default() -> Self {
        Self::new("")
    }
}

impl AcceptPause {
    /// The warnings of one listener among others begin with `prefix`.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), next: PAUSES.0, warnings: LogLimiter::default() }
    }

    /// Ends the pause: a connection was accepted.
    pub(crate) const fn over(&mut self) {
        self.next = PAUSES.0;
    }

    /// Begins or prolongs the pause. Returns when it ends.
    pub(crate) fn begin(&mut self, now: Instant, error: &io::Error) -> Instant {
        if let Some(times) = self.warnings.count(now) {
            log::warn!(
                "{}cannot accept connections ({times} attempts): {error}; if it lasts, raise the limit (ulimit -n)",
                self.prefix
            );
        }
        let pause = self.next;
        self.next = (pause * 2).min(PAUSES.1);
        now + pause
    }
}

/// The connections of a listener, without end. After an error of the listener, it pauses.
pub(crate) fn connections(
    prefix: &str,
    listener: Async<TcpListener>,
) -> impl Stream<Item = (Async<TcpStream>, SocketAddr)> + use<> {
    let state = (listener, AcceptPause::new(prefix));
    futures::stream::unfold(state, |(listener, mut pause)| async move {
        loop {
            match listener.accept().await {
                Ok(accepted) => {
                    pause.over();
                    return Some((accepted, (listener, pause)));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => rt::until(Some(pause.begin(rt::now(), &error))).await,
            }
        }
    })
}

/// Whether an error concerns one connection, not the listener.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        PermissionDenied, TimedOut,
    };
    // EPERM means that a firewall refused this connection, accept(2).
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}
