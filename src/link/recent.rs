//! A map of bounded size that evicts the least recently used entry.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Values by key, up to a limit. Its content depends on the calls alone.
#[derive(Clone, Debug)]
pub(super) struct Recent<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    /// By last use, oldest first.
    by_use: BTreeMap<u64, K>,
    limit: usize,
    /// The number of the next use.
    uses: u64,
}

#[derive(Clone, Debug)]
struct Slot<V> {
    value: V,
    used: u64,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    /// Holds `limit` values, at least one.
    pub(super) fn with_limit(limit: usize) -> Self {
        Self { slots: BTreeMap::new(), by_use: BTreeMap::new(), limit: limit.max(1), uses: 0 }
    }

    /// The value of `key`, created if there is none; it becomes the most recent one.
    pub(super) fn touch(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room_for(key);
        let used = self.uses;
        let slot = match self.slots.entry(key.clone()) {
            Entry::Occupied(known) => {
                let slot = known.into_mut();
                // Repeated use of one key costs one look-up only.
                if slot.used + 1 == used {
                    return &mut slot.value;
                }
                self.by_use.remove(&slot.used);
                slot.used = used;
                slot
            }
            Entry::Vacant(new) => new.insert(Slot { value: make(), used }),
        };
        self.by_use.insert(used, key.clone());
        self.uses += 1;
        &mut slot.value
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn make_room_for(&mut self, key: &K) {
        if self.slots.len() >= self.limit
            && !self.slots.contains_key(key)
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.slots.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_is_evicted_first() {
        let mut recent = Recent::with_limit(2);
        *recent.touch(&'a', || 0) += 1;
        *recent.touch(&'b', || 0) += 1;
        *recent.touch(&'a', || 0) += 1;
        *recent.touch(&'a', || 0) += 1;
        assert_eq!(*recent.touch(&'c', || 7), 7);
        assert_eq!(*recent.touch(&'a', || 0), 3);
        assert_eq!(*recent.touch(&'b', || 0), 0, "forgotten for c");
        assert_eq!((recent.len(), recent.by_use.len()), (2, 2));
    }
}
