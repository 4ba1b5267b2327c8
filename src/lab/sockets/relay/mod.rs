//! Lossy proxies over real sockets: `lab proxy`.
//!
//! What decides is in [`lab::proxy`](crate::lab::proxy); here are the sockets, the tasks and the clock.
//!
//! ```text
//! proxies    the running ones, and what can be asked of them while they run
//! proxy      one of them: its sockets and links come and go, its counters stay
//! sockets    what each needs from the system before it relays
//! datagrams  the sockets of a datagram proxy
//! outbox     what they are to send, until there are enough for a batch
//! streams    the sockets of a stream proxy
//! tcp        what is done to one of them: connect, keep alive, reset, close
//! recorder   the record of every decision, on its way to the disk
//! run        from the first datagram to SIGTERM: live counters, totals
//! ```

mod datagrams;
mod outbox;
mod proxies;
mod proxy;
mod recorder;
mod run;
mod sockets;
mod streams;
mod tcp;

pub use proxies::{Prepared, ProxySettings, Relays};
pub use recorder::{Recorded, Recorder};
pub use run::{begin, prepare, run};

use crate::net::rt;

/// What the kernel is asked to buffer of a flow's datagrams, each way; it takes its own limit where that is less.
const BUFFER: usize = 1 << 20;
