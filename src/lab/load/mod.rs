//! What `lab load` says to a server, what has to come back, and what that came to.
//!
//! Nothing here touches a socket or a clock; those are in [`lab::sockets::load`](crate::lab::sockets::load).
//!
//! ```text
//! peer       what a workload needs of a protocol: greeting, message and delivery, ping and pong, goodbye
//! peers      the protocols
//! tape       the bytes of one stream of messages
//! group      one sender and those who hear it: how much may be sent, and whether exactly that was heard
//! people     what is said at line doors
//! schedule   when messages are due
//! latencies  how long things took
//! outcome    one row: text, JSON, CSV
//! engines    rows of several engines beside each other
//! compare    what the rows of many runs come to: medians, ratios of the same rounds
//! ```

pub mod byte_pattern;
pub mod compare;
pub mod engines;
pub mod group;
pub mod latencies;
pub mod line_clients;
pub mod outcome;
pub mod peer;
pub mod peers;
pub mod schedule;
