//! What can be asked of running proxies: the seam between them and whoever steers them, an HTTP API for instance.
//!
//! Nothing here listens or relays; the proxies themselves are in `lab::sockets::relay`.

use futures::future::BoxFuture;

use super::totals::ProxyTotals;
use crate::link::LinkConfig;

/// What a proxy is, as it can be shown and changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyState {
    /// Its name, of which there is one: `udp1`, `tcp1`, or what was asked for.
    pub name: String,
    /// Where it listens, or did before it was switched off, with the port really bound: `udp://127.0.0.1:6000`.
    pub listen: String,
    /// Where it relays to, as it was asked for: `udp://localhost:5683`.
    pub upstream: String,
    /// Whether it listens and relays.
    pub enabled: bool,
    /// What happens to what goes from clients to the upstream.
    pub up: LinkConfig,
    /// What happens to what comes back.
    pub down: LinkConfig,
}

/// A proxy that is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewProxy {
    /// Its name; `None` takes the next of `udp1`, `udp2`, .. or `tcp1`, `tcp2`, .. that is free.
    pub name: Option<String>,
    /// Where to listen: `SCHEME://HOST:PORT`. Without a scheme it is TCP; without a host, loopback; port 0 takes a free
    /// one.
    pub listen: String,
    /// Where to relay to, of the same scheme.
    pub upstream: String,
    /// Whether it listens from the beginning; if not, its addresses are checked all the same.
    pub enabled: bool,
    /// What happens to what goes from clients to the upstream.
    pub up: LinkConfig,
    /// What happens to what comes back.
    pub down: LinkConfig,
}

/// What is to be different about a proxy; `None` leaves it as it is.
///
/// Other links alone keep flows and counters. Another `listen`, `upstream` or `enabled` closes the flows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Where to listen; a change binds anew.
    pub listen: Option<String>,
    /// Where to relay to.
    pub upstream: Option<String>,
    /// Whether it listens and relays.
    pub enabled: Option<bool>,
    /// What happens to what goes from clients to the upstream.
    pub up: Option<LinkConfig>,
    /// What happens to what comes back.
    pub down: Option<LinkConfig>,
}

/// Why nothing was done. Each is one sentence, safe on a terminal and in an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Another proxy has that name.
    #[error("there is a proxy named `{0}` already")]
    Conflict(String),
    /// No proxy has that name.
    #[error("there is no proxy named `{0}`")]
    NotFound(String),
    /// What was asked for makes no sense: whoever asked has to ask for something else.
    #[error("{0}")]
    Invalid(String),
    /// The system stands in the way: an address in use, a host that is not known.
    #[error("{0}")]
    Failed(String),
}

/// What can be done to the running proxies. Every call is atomic: it happens whole or not at all.
pub trait Proxies: Send + Sync {
    /// All of them, in the order in which they were made.
    fn list(&self) -> Vec<ProxyState>;

    /// What one has done so far, if that is counted.
    fn totals(&self, _name: &str) -> Option<ProxyTotals> {
        None
    }

    /// Makes one: it listens, or nothing happens.
    fn create(&self, wanted: NewProxy) -> BoxFuture<'_, Result<ProxyState, ControlError>>;

    /// Changes one: all that was asked for, or nothing.
    fn update<'a>(&'a self, name: &'a str, change: Change)
    -> BoxFuture<'a, Result<ProxyState, ControlError>>;

    /// Ends one and closes its flows.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
}
