//! A lossy proxy for any UDP or TCP program, without its sockets, which are in `lab::sockets::relay`.
//!
//! ```text
//! address        addresses of proxies and upstreams, as typed
//! rule           selection of the datagrams to impair
//! datagrams      a datagram proxy: clients, and a path in each direction
//! clients        the table of clients and flows
//! datagram_path  one direction of datagrams: rules, link, counters
//! pipe           one direction of a stream: segments, stalls like retransmission timeouts
//! segment_model  the fate of each segment
//! record         every decision, written and read back
//! totals         counters, as text and JSON
//! control        the interface to running proxies
//! limits         checks of names, addresses and numbers
//! ```

pub(crate) mod address;
pub(crate) mod clients;
pub(crate) mod control;
pub(crate) mod datagram_path;
pub(crate) mod datagrams;
pub(crate) mod limits;
pub(crate) mod pipe;
pub mod record;
pub(crate) mod rule;
pub(crate) mod segment_model;
pub(crate) mod totals;
