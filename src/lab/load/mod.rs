//! The workloads of `lab load` without I/O: bytes to send, expected bytes, and results.
//!
//! Nothing here uses a socket or a clock; those are in [`lab::sockets::load`](crate::lab::sockets::load).
//!
//! ```text
//! peer          the interface to a protocol: greeting, message and delivery, ping and pong, end
//! peers         the protocols
//! byte_pattern  the bytes of one stream of messages
//! end           when a run ends, and the share of each sender
//! group         one sender and its receivers: window, and check of the received bytes
//! line_clients  the dialogue with a line listener
//! schedule      when messages are due
//! latencies     a histogram
//! outcome       one row of results: text, JSON, CSV
//! engines       rows of several engines compared
//! compare       rows of many runs compared: medians, ratios within rounds
//! ```

pub(crate) mod byte_pattern;
pub(crate) mod compare;
pub(crate) mod end;
pub(crate) mod engines;
pub(crate) mod group;
pub(crate) mod latencies;
pub(crate) mod line_clients;
pub(crate) mod outcome;
pub(crate) mod peer;
pub(crate) mod peers;
pub(crate) mod schedule;
