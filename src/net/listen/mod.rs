//! Which addresses a server listens on, and the sockets there.
//!
//! ```text
//! url         a door as it is typed, parsed and printed
//! parameters  its options
//! inet        sockets on the addresses of a host
//! unix        a socket in the file system
//! doors       all that a server listens on, in order
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::escape::escape_short;

mod doors;
mod inet;
mod parameters;
pub(super) mod unix;
pub mod url;

pub use doors::Doors;
pub(super) use doors::Listening;
pub use inet::{Bound, Listen};
pub use unix::SocketFileError;
pub use url::ListenUrl;

/// Connections that the kernel keeps until they are accepted; it takes its own limit where that is less.
const BACKLOG: i32 = 4_096;

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host is not known.
    #[error("cannot find the host `{}`: {source}; check its name", escape_short(.host.as_bytes(), 80))]
    Resolve {
        /// As it was given.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// A socket could not be made, or could not have its address.
    #[error("cannot listen on {place}: {}", explain(.source))]
    Bind {
        /// What was asked for.
        place: ListenAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A UNIX socket could not have its path.
    #[error("cannot listen on {place}: {source}")]
    File {
        /// What was asked for.
        place: ListenAddr,
        /// What is in the way.
        source: SocketFileError,
    },
    /// No port was found that is free on all addresses.
    #[error("found no port that is free for all sockets; name one, or try again")]
    NoCommonPort,
}

/// Where a socket listens, printed as a URL without parameters: `line://127.0.0.1:50001`, `unix:///run/chat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// `tcp`, `udp`, `unix`, `line` or `line+unix`.
    pub scheme: &'static str,
    /// Which address.
    pub address: Address,
}

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An internet address and port.
    Ip(SocketAddr),
    /// A path of this machine's.
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
    /// Which protocol.
    pub scheme: Scheme,
    /// Which address.
    pub addr: SocketAddr,
}

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A stream listener.
    Tcp,
    /// A datagram socket.
    Udp,
}

impl Endpoint {
    /// Whether both are IPv4 sockets of one protocol on one port, at whatever addresses.
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

/// What the system says, and what to do about it.
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
