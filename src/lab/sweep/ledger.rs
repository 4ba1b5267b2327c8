//! What reached the server of each request of a session: executions, and what a server without a window would execute.

use std::collections::BTreeMap;

use super::tally::Tally;
use crate::wire::{Datagram, Verb};

/// Notes of one session. Its size follows from the number of its requests.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    trials: u64,
    /// Executions and arrivals of each request that arrived, by its id.
    arrived: BTreeMap<u64, (u64, u64)>,
}

impl Ledger {
    /// For so many requests.
    pub(crate) fn new(trials: u64) -> Self {
        Self { trials, arrived: BTreeMap::new() }
    }

    /// A datagram arrived at the server, which executed so many messages because of it, and recognised so many repeats.
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

    /// Adds everything to a tally: what never arrived was not executed.
    pub(crate) fn count(&self, tally: &mut Tally) {
        for (executions, arrivals) in self.arrived.values() {
            tally.count_server(*executions, *arrivals);
        }
        for _ in self.arrived.len() as u64..self.trials {
            tally.count_server(0, 0);
        }
    }
}
