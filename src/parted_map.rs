//! A hash map for large numbers of entries: no insertion moves more than a small share of them.

use std::borrow::Borrow;
use std::hash::{BuildHasher as _, Hash, RandomState};

use crate::parts::Parts;

/// A map that grows part by part. Peers choose the keys, so hashes are keyed (SipHash).
#[derive(Debug)]
pub(crate) struct PartedMap<K, V> {
    hasher: RandomState,
    entries: Parts<(K, V)>,
}

impl<K, V> Default for PartedMap<K, V> {
    fn default() -> Self {
        Self { hasher: RandomState::default(), entries: Parts::default() }
    }
}

impl<K: Hash + Eq, V> PartedMap<K, V> {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a key has a value.
    pub(crate) fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The value of a key.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.entries.len() == 0 {
            return None;
        }
        self.entries
            .find(self.hasher.hash_one(key), |(other, _)| other.borrow() == key)
            .map(|(_, value)| value)
    }

    /// The value of a key, to change.
    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if self.entries.len() == 0 {
            return None;
        }
        self.entries
            .find_mut(self.hasher.hash_one(key), |(other, _)| other.borrow() == key)
            .map(|(_, value)| value)
    }

    /// The value of a key, to change; inserts the default if there is none.
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V
    where
        K: Copy,
        V: Default,
    {
        if !self.contains_key(&key) {
            self.insert(key, V::default());
        }
        self.get_mut(&key).unwrap_or_else(|| unreachable!("it was just put in"))
    }

    /// All values, in no order.
    #[cfg(test)]
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Adds an entry under a key that has none.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let (hash, hasher) = (self.hasher.hash_one(&key), &self.hasher);
        self.entries.insert(hash, (key, value), |(other, _)| hasher.hash_one(other));
    }

    /// Removes an entry.
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (hash, hasher) = (self.hasher.hash_one(key), &self.hasher);
        let (_, value) = self.entries.remove(hash, |(other, _)| other.borrow() == key)?;
        self.entries.shrink_sparse(hash, |(other, _)| hasher.hash_one(other));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::PARTS;

    #[test]
    fn every_entry_is_found_until_it_is_removed_and_no_part_is_large() {
        let mut map: PartedMap<String, usize> = PartedMap::default();
        for n in 0..50_000 {
            assert_eq!(map.get(format!("client{n}").as_str()), None);
            map.insert(format!("client{n}"), n);
        }
        let longest = map.entries.largest_part();
        assert!(map.len() == 50_000 && longest < Some(2 * 50_000 / PARTS), "{longest:?}");
        for n in 0..50_000 {
            let key = format!("client{n}");
            assert_eq!((map.get(key.as_str()).copied(), map.remove(key.as_str())), (Some(n), Some(n)));
            assert_eq!(map.remove(key.as_str()), None);
        }
        assert!(map.len() == 0 && map.entries.largest_part().is_none(), "memory is freed");
    }
}
