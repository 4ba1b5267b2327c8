//! I/O that is decided under the lock and done outside it ([`PendingIo`]), and its results ([`IoResults`]).
//!
//! Plain data: `shared` and `ending` fill the one and take the other, `engine_core` does the I/O.

use std::net::Shutdown;
use std::sync::Arc;

use super::connection::{Connection, Write, Written};
use crate::service::{Dial, Transmit};

/// I/O to do outside the lock.
#[derive(Debug)]
pub(in crate::net) struct PendingIo<P> {
    pub(in crate::net) writes: Vec<Write<P>>,
    pub(in crate::net) shuts: Vec<(Arc<Connection<P>>, Shutdown)>,
    /// Connections whose reading was paused and is resumed.
    pub(in crate::net) resumed: Vec<Arc<Connection<P>>>,
    pub(in crate::net) transmits: Vec<Transmit>,
    /// Outgoing connections to make.
    pub(super) dials: Vec<Dial>,
}

impl<P> Default for PendingIo<P> {
    fn default() -> Self {
        Self {
            writes: Vec::new(),
            shuts: Vec::new(),
            resumed: Vec::new(),
            transmits: Vec::new(),
            dials: Vec::new(),
        }
    }
}

impl<P> PendingIo<P> {
    pub(in crate::net) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves all of `other` to the end of this.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.writes.append(&mut other.writes);
        self.shuts.append(&mut other.shuts);
        self.resumed.append(&mut other.resumed);
        self.transmits.append(&mut other.transmits);
        self.dials.append(&mut other.dials);
    }

    /// Number of sockets it concerns.
    pub(in crate::net) const fn len(&self) -> usize {
        self.writes.len() + self.shuts.len() + self.resumed.len() + self.transmits.len() + self.dials.len()
    }
}

/// The results of a [`PendingIo`], without writes that would block.
#[derive(Debug, Default)]
pub(in crate::net) struct IoResults {
    pub(in crate::net) written: Vec<Written>,
    pub(in crate::net) sent: usize,
}
