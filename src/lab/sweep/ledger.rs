//! What reached the server of each request of a session: executions, and what a server without a window would execute.

use super::tally::Tally;
use crate::wire::{Datagram, Verb};

/// Notes of one session. Its size follows from the number of its requests.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The id of the first request.
    first: Option<u64>,
    /// Executions and arrivals of each request, by its id.
    requests: Vec<(u64, u64)>,
}

impl Ledger {
    /// For so many requests.
    pub(crate) fn new(requests: u64) -> Self {
        Self { requests: vec![(0, 0); usize::try_from(requests).unwrap_or(0)], ..Self::default() }
    }

    /// A datagram arrived at the server, which executed so many messages because of it, and recognised so many repeats.
    pub(crate) fn note_arrival(&mut self, bytes: &[u8], executed: u64, repeats: u64) {
        if executed + repeats == 0 {
            return;
        }
        let Ok(datagram) = Datagram::parse(bytes, usize::MAX) else { return };
        let message = datagram.frames.iter().find(|frame| frame.verb == Verb::Snd);
        let Some(id) = message.and_then(|frame| frame.id) else { return };
        let first = *self.first.get_or_insert_with(|| id.get());
        let nth = id.get().checked_sub(first).and_then(|nth| usize::try_from(nth).ok());
        if let Some((executions, arrivals)) = nth.and_then(|nth| self.requests.get_mut(nth)) {
            *executions += executed;
            *arrivals += executed + repeats;
        }
    }

    /// Adds everything to a tally.
    pub(crate) fn count(&self, tally: &mut Tally) {
        for (executions, arrivals) in &self.requests {
            tally.count_server(*executions, *arrivals);
        }
    }
}
