//! The set of slots that hold a session, as a bitmap in levels. Finding the next one takes a few steps, however many
//! slots were ever used.
//!
//! The sessions themselves are in `arena`.

/// Slots per word.
const BITS: u32 = u64::BITS;

/// Enough levels for any 32-bit slot: each word of a level stands for 64 of the level below.
const LEVELS: usize = 6;

/// A set of slots, walked in ascending order. It takes about one bit per slot.
#[derive(Debug, Default)]
pub(super) struct SlotSet {
    /// The slots, then one bit per non-zero word of the level below. A level's length never shrinks.
    levels: [Vec<u64>; LEVELS],
}

/// Returns the word of a bit position, and the bit in it.
fn split(place: u32) -> (usize, u64) {
    ((place / BITS) as usize, 1 << (place % BITS))
}

impl SlotSet {
    /// Adds a slot.
    pub(super) fn insert(&mut self, slot: u32) {
        let mut place = slot;
        for level in &mut self.levels {
            let (at, bit) = split(place);
            if at >= level.len() {
                level.resize(at + 1, 0);
            }
            let Some(word) = level.get_mut(at) else { return };
            let was_empty = *word == 0;
            *word |= bit;
            if !was_empty {
                return;
            }
            place /= BITS;
        }
    }

    /// Removes a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let mut place = slot;
        for level in &mut self.levels {
            let (at, bit) = split(place);
            let Some(word) = level.get_mut(at) else { return };
            *word &= !bit;
            if *word != 0 {
                return;
            }
            place /= BITS;
        }
    }

    /// Returns the first slot of the set that is not below this one. Examines at most two words per level.
    pub(super) fn next_from(&self, slot: u32) -> Option<u32> {
        self.next_in(0, slot)
    }

    /// Returns the first set bit position of a level that is not below this one.
    fn next_in(&self, level: usize, place: u32) -> Option<u32> {
        let words = self.levels.get(level)?;
        let at = place / BITS;
        let rest = words.get(at as usize)? & (u64::MAX << (place % BITS));
        if rest != 0 {
            return Some(at * BITS + rest.trailing_zeros());
        }
        let at = self.next_in(level + 1, at.checked_add(1)?)?;
        Some(at * BITS + words.get(at as usize)?.trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeSet;

    #[test]
    fn the_next_slot_is_that_of_an_ordered_set() {
        let seed = 1;
        let (mut rng, mut set, mut model) =
            (ChaCha8Rng::seed_from_u64(seed), SlotSet::default(), BTreeSet::new());
        for round in 0..20_000 {
            // Some close together, some far apart.
            let slot = if rng.random() { rng.random_range(0..300) } else { rng.random_range(0..2_000_000) };
            if rng.random() {
                set.insert(slot);
                model.insert(slot);
            } else {
                set.remove(slot);
                model.remove(&slot);
            }
            let from = rng.random_range(0..2_100_000);
            assert_eq!(
                set.next_from(from),
                model.range(from..).next().copied(),
                "seed {seed}, round {round}"
            );
            assert_eq!(set.next_from(0), model.first().copied(), "seed {seed}, round {round}");
        }
    }

    #[test]
    fn a_set_that_was_large_once_is_empty_when_all_its_slots_are_out() {
        let mut set = SlotSet::default();
        (0..100_000).for_each(|slot| set.insert(slot));
        (0..100_000).filter(|slot| *slot != 99_999).for_each(|slot| set.remove(slot));
        assert_eq!((set.next_from(0), set.next_from(100_000)), (Some(99_999), None));
        set.remove(99_999);
        assert_eq!(set.next_from(0), None);
        assert!(set.levels.iter().flatten().all(|word| *word == 0));
    }
}
