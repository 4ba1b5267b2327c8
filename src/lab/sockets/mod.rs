//! The I/O of the lab: the sockets and the clock of its commands. The logic without I/O is in [`lab`](crate::lab).
//!
//! ```text
//! load      load generators
//! relay     lossy proxies for other programs
//! api       the HTTP listener of their API
//! baseline  a server that only moves bytes
//! trial     a client on a socket behind simulated links
//! ```

#![expect(clippy::disallowed_methods, reason = "experiments over sockets own the clock")]

pub(crate) mod api;
pub(crate) mod baseline;
pub(crate) mod load;
pub(crate) mod relay;
pub(crate) mod trial;
