//! Work units: the cost of one hold of the server's lock, counted where entries are walked.
//!
//! A unit is the cost of queuing a short message for one member of a room, estimated as 60 ns. Code that walks more
//! entries than a request names counts each of them here; [`WorkMeter::walk`] does it for an iterator. The
//! [server](crate::server) stops at a limit and continues in another hold.

use std::cell::Cell;

/// The cost of one step, in units: estimates, checked by `benches/hold.rs`.
pub mod cost {
    /// A message is offered to a member of a room.
    pub const MEMBER: u64 = 1;
    /// An access rule is tried for a name.
    pub const RULE: u64 = 4;
    /// A list of names is made, beside its names.
    pub const LIST: u64 = 4;
    /// A name is written to a list.
    pub const LISTED: u64 = 1;
    /// An entry is examined and passed: a member with room, an acknowledged push, a session that needs nothing.
    pub const PASSED: u64 = 1;
    /// A frame or a line is executed, beside its effect.
    pub const FRAME: u64 = 2;
    /// A datagram is parsed, and its session looked up.
    pub const DATAGRAM: u64 = 12;
    /// A name is tried for a client without one.
    pub const TRIED: u64 = 12;
    /// A byte of a name is normalised, or compared with look-alikes; ASCII names need neither.
    pub const NAME_BYTE: u64 = 4;
    /// A session joins or leaves a room, which may create or end it.
    pub const ROOM: u64 = 12;
    /// A session opens.
    pub const OPENED: u64 = 60;
    /// A session ends, beside its rooms and its queued pushes.
    pub const ENDED: u64 = 100;
    /// A connection gets a BYE, or its input is resumed.
    pub const CONNECTION: u64 = 8;
    /// A deadline fires.
    pub const TIMER: u64 = 16;
    /// A session with dropped messages is named in the log.
    pub const GAP_LOGGED: u64 = 4;
    /// A nonce is removed.
    pub const NONCE: u64 = 2;
}

/// Counts work units. It only ever grows.
#[derive(Debug, Default)]
pub struct WorkMeter(Cell<u64>);

impl WorkMeter {
    /// Returns the units counted since the meter was made.
    pub fn units(&self) -> u64 {
        self.0.get()
    }

    /// Counts `steps` steps of this cost each.
    pub fn add(&self, steps: usize, cost: u64) {
        self.0.set(self.0.get().saturating_add((steps as u64).saturating_mul(cost)));
    }

    /// Counts each entry that is taken from an iterator.
    pub fn walk<I: IntoIterator>(&self, cost: u64, entries: I) -> impl Iterator<Item = I::Item> {
        entries.into_iter().inspect(move |_| self.add(1, cost))
    }

    /// Counts `times` normalisations of a name. An ASCII name is its own normal form and costs nothing here.
    pub fn add_name(&self, name: &[u8], times: u64) {
        if !name.is_ascii() {
            self.add(name.len().min(crate::names::MAX_NAME_INPUT), times * cost::NAME_BYTE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_counts_what_is_taken_and_no_more() {
        let meter = WorkMeter::default();
        let taken: Vec<u32> = meter.walk(3, 0..1_000).take(4).collect();
        assert_eq!((taken, meter.units()), (vec![0, 1, 2, 3], 12));
    }

    #[test]
    fn an_ascii_name_costs_nothing_and_others_their_bytes_up_to_the_limit() {
        let meter = WorkMeter::default();
        meter.add_name(b"TEST01", 4);
        assert_eq!(meter.units(), 0);
        meter.add_name("Zoë".as_bytes(), 2);
        assert_eq!(meter.units(), 2 * 4 * cost::NAME_BYTE);
        meter.add_name("\u{301}".repeat(1_000).as_bytes(), 1);
        assert_eq!(meter.units(), (8 + crate::names::MAX_NAME_INPUT as u64) * cost::NAME_BYTE);
    }
}
