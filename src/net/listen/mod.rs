//! Listeners: the URLs that a server listens on, and the sockets bound there.
//!
//! This is the first step of the data path: [`Listeners`] binds [`ListenUrl`]s, and an [`Engine`](super::Engine) or a
//! [`Core`](super::Core) serves the sockets. Nothing here accepts or reads.
//!
//! ```text
//! url         a listener URL: its parts, and how it is printed
//! url/parse   reading a URL, and what is wrong with one
//! parameters  its options
//! inet        TCP and UDP sockets on the addresses of a host
//! unix        UNIX sockets
//! listeners       all listeners of a server, in order
//! ```
//!
//! ```
//! use sayagain::net::{Listeners, ListenUrl};
//!
//! let url: ListenUrl = "line://127.0.0.1:0?room=tea".parse()?;
//! let mut listeners = Listeners::default();
//! listeners.add(&url)?;
//! assert!(listeners.has_streams());
//! assert_eq!(listeners.addrs().next().expect("one listener").scheme, "line");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::escape::escape_short;

mod inet;
mod listeners;
mod parameters;
pub(super) mod unix;
pub(crate) mod url;

pub use inet::{Bound, Listen};
pub use listeners::Listeners;
pub(super) use listeners::Listening;
pub use unix::SocketFileError;
pub use url::ListenUrl;

/// Length of the accept queue; the system's limit applies.
const BACKLOG: i32 = 4_096;

/// Why a server cannot listen: one sentence. The variants are not part of the public API.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host is unknown.
    #[error("cannot find the host `{}`: {source}; check its name", escape_short(.host.as_bytes(), 80))]
    #[doc(hidden)]
    Resolve {
        /// As it was given.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// A socket could not be created or bound.
    #[error("cannot listen on {addr}: {}", explain(.source))]
    #[doc(hidden)]
    Bind {
        /// The requested address.
        addr: ListenAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A UNIX socket could not be created.
    #[error("cannot listen on {addr}: {source}")]
    #[doc(hidden)]
    File {
        /// The requested address.
        addr: ListenAddr,
        /// Why not.
        source: SocketFileError,
    },
    /// No port was found that is free on all addresses.
    #[error("found no port that is free for all sockets; name one, or try again")]
    #[doc(hidden)]
    NoCommonPort,
}

/// The address of a listening socket, printed as a URL without parameters: `line://127.0.0.1:50001`, `unix:///run/chat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// The scheme, such as `tcp`, `udp`, `unix`, `line` or `line+unix`.
    #[doc(hidden)]
    pub scheme: &'static str,
    /// The address.
    #[doc(hidden)]
    pub address: Address,
}

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Ip(SocketAddr),
    /// The path of a UNIX socket.
    File(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Ip(addr) => write!(f, "{}://{addr}", self.scheme),
            Address::File(path) => url::write_path(f, self.scheme, path),
        }
    }
}

/// A protocol and an address: `tcp://127.0.0.1:50000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The protocol.
    pub scheme: Scheme,
    /// The address.
    pub addr: SocketAddr,
}

/// The protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Endpoint {
    /// Whether both are IPv4 sockets of one protocol on one port, at any addresses.
    fn is_beside(&self, other: &Self) -> bool {
        let are_ipv4 = self.addr.is_ipv4() && other.addr.is_ipv4();
        are_ipv4 && self.scheme == other.scheme && self.addr.port() == other.addr.port()
    }
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.addr)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The system's error, and what to do about it.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use; is another server running?".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 are for privileged programs, take a higher one".to_owned()
        }
        _ => error.to_string(),
    }
}
