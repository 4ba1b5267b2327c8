//! A lossy relay for programs nobody here wrote, without its sockets.
//!
//! ```text
//! address    where a proxy listens and what it relays to, as it is typed
//! rule       which datagrams are impaired
//! datagrams  a datagram proxy: clients, and a way in each direction
//! clients    which client is which flow
//! way        one direction of datagrams: rules, link, counters
//! pipe       one direction of a stream: segments, stalls like retransmission timeouts
//! verdict    what becomes of each segment
//! record     every decision, written and read back
//! totals     what came of it
//! control    what can be asked of running proxies
//! limits     what a proxy has to be: name, addresses, how many
//! ```
//!
//! The sockets are in `lab::sockets::relay`.

pub mod address;
pub mod clients;
pub mod control;
pub mod datagram_path;
pub mod datagrams;
pub(crate) mod limits;
pub mod pipe;
pub mod record;
pub mod rule;
pub mod segment_model;
pub mod totals;
