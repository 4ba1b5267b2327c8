//! What `lab load` says to a server, what has to come back, and what that came to.
//!
//! Nothing here touches a socket or a clock; those are in [`net::load`](crate::net::load).
//!
//! ```text
//! peer     what a workload needs of a protocol: greeting, message and delivery, ping and pong, goodbye
//! peers    the protocols
//! compare  what the rows of many runs come to: medians, ratios of the same rounds
//! ```

pub mod compare;
pub mod peer;
pub mod peers;
