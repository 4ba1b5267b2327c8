//! The memory that peers make the server keep, by use, against one limit.
//!
//! Code that keeps something for a peer charges it here and releases it when it is gone. The owner of the data states
//! its cost ([`super::push::FRAME_OVERHEAD`], [`super::rooms::ROOM_COST`], ..), so that the sum of all charges is not
//! below what is allocated. Existing data is not dropped at the limit. A request that needs more is refused (503), and
//! elastic uses (unread answers, dedup windows, unfinished input) shrink.
//!
//! Not charged, because other limits bound them: a session's own fields and its table entries (`max_sessions`), and a
//! connection's (`max_connections`).

use bytes::Bytes;

use super::HubConfig;
use super::shared_bodies::SharedBodies;

/// A use of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryUse {
    /// Messages queued, or sent and not acknowledged, without the shared bodies of long ones.
    Queues,
    /// Rooms and their members.
    Rooms,
    /// Dedup windows, beyond their least width.
    Windows,
    /// Answers on streams that their peers have not read.
    Answers,
    /// Frames and lines on streams that are incomplete or not executed yet.
    Input,
}

/// The bytes kept for each use.
#[derive(Debug)]
pub struct MemoryLedger {
    bound: usize,
    queues: usize,
    rooms: usize,
    windows: usize,
    answers: usize,
    input: usize,
    shared_bodies: SharedBodies,
}

/// An empty ledger with the default limit.
impl Default for MemoryLedger {
    fn default() -> Self {
        Self::new(HubConfig::default().max_memory)
    }
}

impl MemoryLedger {
    /// Creates an empty ledger.
    pub(super) fn new(bound: usize) -> Self {
        let shared_bodies = SharedBodies::default();
        Self { bound, queues: 0, rooms: 0, windows: 0, answers: 0, input: 0, shared_bodies }
    }

    /// Returns the most that all uses together may take.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// Returns what all uses together take.
    pub fn total(&self) -> usize {
        self.pending() + self.rooms + self.windows + self.answers + self.input
    }

    /// Returns what one use takes; shared bodies are in none.
    pub fn used(&self, by: MemoryUse) -> usize {
        match by {
            MemoryUse::Queues => self.queues,
            MemoryUse::Rooms => self.rooms,
            MemoryUse::Windows => self.windows,
            MemoryUse::Answers => self.answers,
            MemoryUse::Input => self.input,
        }
    }

    /// Returns what queues take, shared bodies included.
    pub fn pending(&self) -> usize {
        self.queues + self.shared_bodies.bytes()
    }

    /// Returns how much may still be charged.
    pub fn room(&self) -> usize {
        self.bound.saturating_sub(self.total())
    }

    /// Whether `bytes` more may be charged.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.total() + bytes <= self.bound
    }

    /// Whether three quarters are taken: uses that can shrink do so then, and leave the rest to those that cannot.
    pub fn is_scarce(&self) -> bool {
        self.total() > self.bound / 4 * 3
    }

    fn count_of(&mut self, by: MemoryUse) -> &mut usize {
        match by {
            MemoryUse::Queues => &mut self.queues,
            MemoryUse::Rooms => &mut self.rooms,
            MemoryUse::Windows => &mut self.windows,
            MemoryUse::Answers => &mut self.answers,
            MemoryUse::Input => &mut self.input,
        }
    }

    /// Adds a charge. The caller has checked that there is room.
    pub fn charge(&mut self, by: MemoryUse, bytes: usize) {
        *self.count_of(by) += bytes;
    }

    /// Removes a charge for data that is gone.
    pub fn release(&mut self, by: MemoryUse, bytes: usize) {
        let count = self.count_of(by);
        debug_assert!(*count >= bytes, "{by:?}: {bytes} bytes of {count} are released");
        *count = count.saturating_sub(bytes);
    }

    /// Replaces the charge `before` by `after`.
    pub fn recharge(&mut self, by: MemoryUse, before: usize, after: usize) {
        self.release(by, before);
        self.charge(by, after);
    }

    /// Returns the same bytes, counted until the last holder of any of them is gone.
    pub(super) fn share(&self, body: Bytes) -> Bytes {
        self.shared_bodies.count(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_and_shared_bodies_count_against_the_limit_until_they_are_released() {
        let mut ledger = MemoryLedger::new(1_000);
        let uses =
            [MemoryUse::Queues, MemoryUse::Rooms, MemoryUse::Windows, MemoryUse::Answers, MemoryUse::Input];
        uses.iter().for_each(|by| ledger.charge(*by, 100));
        let body = ledger.share(Bytes::from(vec![b'x'; 300]));
        assert_eq!((ledger.total(), ledger.pending(), ledger.room()), (800, 400, 200));
        assert!(ledger.is_scarce() && ledger.has_room_for(200) && !ledger.has_room_for(201));
        drop(body);
        ledger.recharge(MemoryUse::Answers, 100, 600);
        assert_eq!((ledger.total(), ledger.room()), (1_000, 0));
        ledger.release(MemoryUse::Answers, 600);
        assert!(uses.iter().all(|by| ledger.used(*by) == if *by == MemoryUse::Answers { 0 } else { 100 }));
    }
}
