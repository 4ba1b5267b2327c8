//! Lossy proxies over real sockets: `lab proxy`. Here are the sockets, the tasks and the clock; the logic is in
//! [`lab::proxy`](crate::lab::proxy).
//!
//! ```text
//! proxies    the running proxies, and the operations on them
//! proxy      one proxy: its sockets and links can change, its counters stay
//! sockets    the system resources of a proxy
//! datagrams  the sockets of a datagram proxy
//! outbox     datagrams collected into a batch
//! streams    the sockets of a stream proxy
//! tcp        one TCP connection: connect, keep alive, reset, close
//! recorder   writes the record of every decision
//! run        the run from start to SIGTERM: live counters, totals
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

pub(crate) use proxies::{Prepared, ProxySettings};
pub(crate) use recorder::{Recorded, Recorder};
pub(crate) use run::{begin, prepare, run};

use std::sync::{Mutex, MutexGuard};

use crate::net::rt;

/// The kernel buffer requested for a flow's datagrams, in each direction; the kernel may grant less.
const BUFFER: usize = 1 << 20;

/// Locks a proxy's state.
///
/// # Panics
///
/// A thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(_) => panic!("the relay has panicked before: nothing in it can be trusted"),
    }
}
