//! The sockets of experiments: what the commands of `lab` do over the network, and with the clock.
//!
//! What decides is beside it, in [`lab`](crate::lab), without any I/O.
//!
//! ```text
//! load   load on a server
//! relay  lossy proxies for other programs
//! api    the HTTP listener of their API
//! bare   the least of servers, for comparison
//! trial  a client behind links on a socket
//! ```

#![expect(clippy::disallowed_methods, reason = "experiments over sockets own the clock")]

pub mod api;
pub mod baseline;
pub mod load;
pub mod relay;
pub(crate) mod trial;
