//! The timer queue of every state machine with a `poll_timeout`: one deadline per owner, earliest first.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! An owner has at most one deadline. An owner with several keeps the earliest here, and checks all when it fires. An
//! early timeout is harmless by contract, so a deadline that has moved later may stay and be set again when it fires.
//!
//! Implementation: a 4-ary heap of entries in a table that knows each one's heap position. A deadline takes 28 bytes
//! for an owner of 12 bytes, and about 8 in the index. Moving one later visits four others on average, regardless of
//! their number.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::handle_index::HandleIndex;
use crate::segmented_vec::SegmentedVec;

/// The children of each entry.
const WIDTH: usize = 4;

/// The end of the free list.
const NONE: u32 = u32::MAX;

/// Deadlines keyed by owner.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sayagain::timers::Timers;
///
/// let (now, mut timers) = (Instant::now(), Timers::default());
/// timers.set("ping", Some(now + Duration::from_secs(25)));
/// timers.advance("ping", now + Duration::from_secs(1));
/// assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
/// assert_eq!(timers.pop_due(now), None);
/// ```
#[derive(Debug)]
pub struct Timers<K> {
    /// The origin of the deadlines, which are in nanoseconds.
    origin: Option<Instant>,
    entries: SegmentedVec<TimerEntry<K>>,
    /// The first free entry; each names the next in its `place`.
    free: u32,
    /// Entries in heap order: none is later than its children.
    heap: Vec<u32>,
    by_owner: HandleIndex,
}

#[derive(Clone, Copy, Debug)]
struct TimerEntry<K> {
    due: i64,
    owner: K,
    /// The position in the heap.
    place: u32,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            origin: None,
            entries: SegmentedVec::default(),
            free: NONE,
            heap: Vec::new(),
            by_owner: HandleIndex::default(),
        }
    }
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// Sets the deadline of `owner` or, with `None`, clears it.
    pub fn set(&mut self, owner: K, deadline: Option<Instant>) {
        let standing = self.find(owner);
        match (standing, deadline) {
            (None, None) => {}
            (None, Some(at)) => self.insert(owner, at),
            (Some(entry), None) => self.remove(entry),
            (Some(entry), Some(at)) => self.move_to(entry, at),
        }
    }

    /// Moves the deadline of `owner` to `deadline` if that is earlier.
    pub fn advance(&mut self, owner: K, deadline: Instant) {
        let standing = self.find(owner).and_then(|entry| self.deadline(entry));
        if standing.is_none_or(|standing| deadline < standing) {
            self.set(owner, Some(deadline));
        }
    }

    /// The deadline of `owner`, if it has one.
    pub fn get(&self, owner: K) -> Option<Instant> {
        self.deadline(self.find(owner)?)
    }

    /// The earliest deadline; `None` means never.
    pub fn next(&self) -> Option<Instant> {
        self.deadline(*self.heap.first()?)
    }

    /// Removes one owner whose deadline is not after `now`, and returns it.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let first = *self.heap.first()?;
        let TimerEntry { due, owner, .. } = *self.entry(first)?;
        if due > nanos(self.origin?, now) {
            return None;
        }
        self.remove(first);
        Some(owner)
    }

    fn entry(&self, entry: u32) -> Option<&TimerEntry<K>> {
        self.entries.get(entry as usize)
    }

    fn deadline(&self, entry: u32) -> Option<Instant> {
        let (due, origin) = (self.entry(entry)?.due, self.origin?);
        let length = Duration::from_nanos(due.unsigned_abs());
        if due < 0 { origin.checked_sub(length) } else { origin.checked_add(length) }
    }

    fn find(&self, owner: K) -> Option<u32> {
        self.by_owner.find(&owner, |entry| self.entry(entry).is_some_and(|entry| entry.owner == owner))
    }
}

/// A compact instant, within 292 years of the origin, to the nanosecond.
fn nanos(origin: Instant, at: Instant) -> i64 {
    let whole = |length: Duration| i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    if at >= origin { whole(at - origin) } else { -whole(origin - at) }
}

/// Changes.
impl<K: Copy + Ord + Hash> Timers<K> {
    fn insert(&mut self, owner: K, at: Instant) {
        let due = nanos(*self.origin.get_or_insert(at), at);
        let place = self.heap.len();
        // 2^32 deadlines would take 28 bytes each: more than any memory.
        let Ok(short) = u32::try_from(place) else { return };
        let new = TimerEntry { due, owner, place: short };
        let entry = match self.entries.get_mut(self.free as usize) {
            Some(free) => {
                let entry = self.free;
                self.free = free.place;
                *free = new;
                entry
            }
            None => {
                self.entries.push(new);
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        let entries = &self.entries;
        self.by_owner.insert(&owner, entry, |index, entry| {
            entries.get(entry as usize).map_or(0, |entry| index.hash(&entry.owner))
        });
        self.heap.push(entry);
        self.sift_up(place);
    }

    fn remove(&mut self, entry: u32) {
        let Some(TimerEntry { owner, place, .. }) = self.entry(entry).copied() else { return };
        self.by_owner.remove(&owner, entry);
        let place = place as usize;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.settle(place);
        }
        let next = std::mem::replace(&mut self.free, entry);
        if let Some(entry) = self.entries.get_mut(entry as usize) {
            entry.place = next;
        }
    }

    fn move_to(&mut self, entry: u32, at: Instant) {
        let due = nanos(*self.origin.get_or_insert(at), at);
        let Some(entry) = self.entries.get_mut(entry as usize).filter(|entry| entry.due != due) else {
            return;
        };
        entry.due = due;
        let place = entry.place as usize;
        self.settle(place);
    }
}

/// The heap.
impl<K: Copy + Ord> Timers<K> {
    /// The priority at a position; the earliest deadline is the greatest, an empty entry the least.
    fn rank(&self, place: usize) -> Option<Reverse<(i64, K)>> {
        let entry = self.entries.get(*self.heap.get(place)? as usize)?;
        Some(Reverse((entry.due, entry.owner)))
    }

    /// Records the position of an entry.
    fn note(&mut self, place: usize) {
        let Some(entry) = self.heap.get(place).and_then(|entry| self.entries.get_mut(*entry as usize)) else {
            return;
        };
        entry.place = u32::try_from(place).unwrap_or(NONE);
    }

    /// Restores the heap order around a position.
    fn settle(&mut self, place: usize) {
        let place = self.sift_up(place);
        self.sift_down(place);
    }

    fn sift_up(&mut self, mut place: usize) -> usize {
        while let Some(above) = place.checked_sub(1).map(|before| before / WIDTH)
            && self.rank(above) < self.rank(place)
        {
            self.heap.swap(above, place);
            self.note(place);
            place = above;
        }
        self.note(place);
        place
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let below = place * WIDTH + 1..=place * WIDTH + WIDTH;
            let Some(first) = below.max_by_key(|below| self.rank(*below)) else { break };
            if self.rank(first) <= self.rank(place) {
                break;
            }
            self.heap.swap(first, place);
            self.note(place);
            place = first;
        }
        self.note(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha20Rng;
    use std::collections::BTreeSet;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn owners_come_due_in_time_order_and_once() {
        let start = start();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set(1, Some(at(5)));
        timers.set(2, Some(at(3)));
        timers.advance(1, at(4));
        timers.advance(1, at(9));
        timers.set(3, Some(at(1)));
        timers.set(3, None);
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.pop_due(at(2)), None);
        assert_eq!(timers.pop_due(at(10)), Some(2));
        assert_eq!(timers.pop_due(at(10)), Some(1));
        assert_eq!(timers.pop_due(at(10)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn deadlines_fire_by_time_and_then_by_owner_after_any_changes() {
        let (start, mut rng) = (start(), ChaCha20Rng::seed_from_u64(1));
        let (mut timers, mut model) = (Timers::default(), BTreeSet::new());
        let mut standing = [None; 200];
        for _ in 0..40_000 {
            let owner = rng.random_range(0..200_usize);
            let at = start + Duration::from_millis(rng.random_range(0..300));
            match rng.random_range(0..10) {
                0..=5 => {
                    standing[owner].replace(at).map(|old| model.remove(&(old, owner)));
                    model.insert((at, owner));
                    timers.set(owner, Some(at));
                }
                6 => {
                    standing[owner].take().map(|old| model.remove(&(old, owner)));
                    timers.set(owner, None);
                }
                _ => {
                    let due = model.first().copied().filter(|(due, _)| *due <= at);
                    assert_eq!(timers.pop_due(at), due.map(|(_, owner)| owner));
                    if let Some((due, owner)) = due {
                        model.remove(&(due, owner));
                        standing[owner] = None;
                    }
                }
            }
            assert_eq!(timers.next(), model.first().map(|(at, _)| *at));
            assert!(timers.entries.len() <= 200, "entries are used again");
        }
    }

    #[test]
    fn a_deadline_before_the_first_is_exact_to_the_nanosecond() {
        let start = start() + Duration::from_secs(9);
        let mut timers = Timers::default();
        timers.set(1, Some(start));
        let earlier = start - Duration::from_nanos(7_000_000_001);
        timers.set(2, Some(earlier));
        assert_eq!(timers.next(), Some(earlier));
        assert_eq!(timers.pop_due(earlier - Duration::from_nanos(1)), None);
        assert_eq!(timers.pop_due(earlier), Some(2));
        assert_eq!(timers.next(), Some(start));
    }

    #[test]
    fn a_deadline_takes_few_bytes() {
        assert_eq!(size_of::<TimerEntry<(u32, u32, u32)>>(), 24);
    }
}
