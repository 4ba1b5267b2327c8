//! The interface to running proxies: what an HTTP API, for instance, can ask of them.
//!
//! Nothing here listens or relays; the proxies themselves are in `lab::sockets::relay`.

use futures::future::BoxFuture;

use super::totals::ProxyTotals;
use crate::link::LinkConfig;

/// The state of a proxy: everything that can be shown and changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProxyState {
    /// Its unique name: `udp1`, `tcp1`, or the one requested.
    pub(crate) name: String,
    /// The listening address with the bound port, or the last one if the proxy is disabled: `udp://127.0.0.1:6000`.
    pub(crate) listen: String,
    /// The upstream's address as requested: `udp://localhost:5683`.
    pub(crate) upstream: String,
    /// Whether the proxy listens and relays.
    pub(crate) enabled: bool,
    /// The link from clients to the upstream.
    pub(crate) up: LinkConfig,
    /// The link from the upstream to clients.
    pub(crate) down: LinkConfig,
}

/// A request to create a proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewProxy {
    /// The name; `None` takes the next free one of `udp1`, `udp2`, .. or `tcp1`, `tcp2`, ..
    pub(crate) name: Option<String>,
    /// The listening address, `SCHEME://HOST:PORT`. The default scheme is TCP, the default host loopback; port 0 takes
    /// a free one.
    pub(crate) listen: String,
    /// The upstream's address, of the same scheme.
    pub(crate) upstream: String,
    /// Whether it listens from the beginning; if not, its addresses are still checked.
    pub(crate) enabled: bool,
    /// The link from clients to the upstream.
    pub(crate) up: LinkConfig,
    /// The link from the upstream to clients.
    pub(crate) down: LinkConfig,
}

/// A change of a proxy; `None` leaves a property as it is.
///
/// A change of links keeps flows and counters. A change of `listen`, `upstream` or `enabled` closes the flows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Change {
    /// The listening address; a change binds again.
    pub(crate) listen: Option<String>,
    /// The upstream's address.
    pub(crate) upstream: Option<String>,
    /// Whether the proxy listens and relays.
    pub(crate) enabled: Option<bool>,
    /// The link from clients to the upstream.
    pub(crate) up: Option<LinkConfig>,
    /// The link from the upstream to clients.
    pub(crate) down: Option<LinkConfig>,
}

/// Why a request was not executed. Each is one sentence, safe on a terminal and in an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlError {
    /// Another proxy has that name.
    #[error("there is a proxy named `{0}` already")]
    Conflict(String),
    /// No proxy has that name.
    #[error("there is no proxy named `{0}`")]
    NotFound(String),
    /// The request is invalid; a repeat fails too.
    #[error("{0}")]
    Invalid(String),
    /// The system refuses: an address in use, an unknown host.
    #[error("{0}")]
    Failed(String),
}

/// Operations on the running proxies. Every call is atomic.
pub(crate) trait Proxies: Send + Sync {
    /// Returns all proxies, in the order of their creation.
    fn list(&self) -> Vec<ProxyState>;

    /// Returns the counters of a proxy, if there are any.
    fn totals(&self, _name: &str) -> Option<ProxyTotals> {
        None
    }

    /// Creates a proxy: it listens, or nothing happens.
    fn create(&self, wanted: NewProxy) -> BoxFuture<'_, Result<ProxyState, ControlError>>;

    /// Changes a proxy: all that was requested, or nothing.
    fn update<'a>(&'a self, name: &'a str, change: Change)
    -> BoxFuture<'a, Result<ProxyState, ControlError>>;

    /// Removes a proxy and closes its flows.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
}
