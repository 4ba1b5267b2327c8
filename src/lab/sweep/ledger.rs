//! Counts of each request of a session at the server: executions, and arrivals, each of which a server without a dedup
//! window would execute.

use std::collections::BTreeMap;

use super::tally::Tally;
use crate::wire::{Datagram, Verb};

/// The counts of one session. Its size follows from the number of requests.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    trials: u64,
    /// Executions and arrivals of each request that arrived, by its id.
    arrived: BTreeMap<u64, (u64, u64)>,
}

impl Ledger {
    /// Creates a ledger for so many requests.
    pub(crate) fn new(trials: u64) -> Self {
        Self { trials, arrived: BTreeMap::new() }
    }

    /// Counts a datagram at the server: `executed` messages and `repeats` recognised because of it.
    pub(crate) fn note_arrival(&mut self, bytes: &[u8], executed: u64, repeats: u64) {
        if executed + repeats == 0 {
            return;
        }
        let Ok(datagram) = Datagram::parse(bytes, usize::MAX) else { return };
        let message = datagram.frames.iter().find(|frame| frame.verb == Verb::Snd);
        let Some(id) = message.and_then(|frame| frame.id) else { return };
        let (executions, arrivals) = self.arrived.entry(id.get()).or_default();
        *executions += executed;
        *arrivals += executed + repeats;
    }

    /// Adds everything to a tally; a request that never arrived counts as not executed.
    pub(crate) fn count(&self, tally: &mut Tally) {
        for (executions, arrivals) in self.arrived.values() {
            tally.count_server(*executions, *arrivals);
        }
        for _ in self.arrived.len() as u64..self.trials {
            tally.count_server(0, 0);
        }
    }
}
