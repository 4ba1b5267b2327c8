//! Hash indexes into a table that another module owns: a key finds its handle, in 5 to 10 bytes per entry.
//!
//! A handle is the position of an entry in that table. The keys stay in the table, and the caller compares them. Peers
//! choose names and nonces, so hashes are keyed (SipHash, as in the standard library's maps). [`CachedHashIndex`] keeps
//! the hashes of keys whose hash is expensive to recompute; with [`HandleIndex`], each growth recomputes them.

use std::hash::{BuildHasher as _, Hash, RandomState};

use crate::parts::Parts;

/// Handles by key, without the hashes.
#[derive(Debug, Default)]
pub(crate) struct HandleIndex {
    hasher: RandomState,
    handles: Parts<u32>,
}

impl HandleIndex {
    /// The number of handles.
    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    /// The hash of a key.
    pub(crate) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The handle under this key for which `is` holds.
    pub(crate) fn find<K: Hash + ?Sized>(&self, key: &K, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.handles.len() == 0 {
            return None;
        }
        self.handles.find(self.hash(key), |handle| is(*handle)).copied()
    }

    /// Adds a handle that is not in the index. `hash_of` returns the hash of the key of another handle.
    pub(crate) fn insert<K: Hash + ?Sized>(
        &mut self,
        key: &K,
        handle: u32,
        hash_of: impl Fn(&Hasher<'_>, u32) -> u64,
    ) {
        let (hash, hasher) = (self.hash(key), Hasher(&self.hasher));
        self.handles.insert(hash, handle, |other| hash_of(&hasher, *other));
    }

    /// Removes a handle under its key.
    pub(crate) fn remove<K: Hash + ?Sized>(&mut self, key: &K, handle: u32) {
        self.handles.remove(self.hash(key), |other| *other == handle);
    }
}

/// The hash function of a [`HandleIndex`].
pub(crate) struct Hasher<'a>(&'a RandomState);

impl Hasher<'_> {
    /// The hash of a key.
    pub(crate) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.0.hash_one(key)
    }
}

/// Handles by key, each with 32 bits of its key's hash: 4 bytes more than in a [`HandleIndex`].
///
/// For keys that are cheap for a peer to make and expensive for the server to derive again.
#[derive(Debug, Default)]
pub(crate) struct CachedHashIndex {
    hasher: RandomState,
    /// The short hash of each key, and its handle.
    handles: Parts<(u32, u32)>,
}

impl CachedHashIndex {
    /// The short hash of a key.
    fn hash<K: Hash + ?Sized>(&self, key: &K) -> u32 {
        let [a, b, c, d, ..] = self.hasher.hash_one(key).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// The handle under this key for which `is` holds.
    pub(crate) fn find<K: Hash + ?Sized>(&self, key: &K, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.handles.len() == 0 {
            return None;
        }
        let short = self.hash(key);
        let found = self.handles.find(widen(short), |(other, handle)| *other == short && is(*handle));
        found.map(|(_, handle)| *handle)
    }

    /// Adds a handle that is not in the index.
    pub(crate) fn insert<K: Hash + ?Sized>(&mut self, key: &K, handle: u32) {
        let short = self.hash(key);
        self.handles.insert(widen(short), (short, handle), |(other, _)| widen(*other));
    }

    /// Removes a handle under its key.
    pub(crate) fn remove<K: Hash + ?Sized>(&mut self, key: &K, handle: u32) {
        self.handles.remove(widen(self.hash(key)), |(_, other)| *other == handle);
    }
}

/// A 64-bit hash from a short one, with entropy in the bits that select the part and in those that the part uses.
fn widen(short: u32) -> u64 {
    u64::from(short) << 32 | u64::from(short.rotate_left(16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::PARTS;

    #[test]
    fn every_handle_is_found_by_its_key_until_it_is_removed() {
        let names: Vec<String> = (0..50_000).map(|n| format!("client{n}")).collect();
        let mut index = HandleIndex::default();
        let find =
            |index: &HandleIndex, name: &String| index.find(name, |handle| names[handle as usize] == *name);
        for (handle, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), None);
            assert_eq!(find(&index, &names[0]), (handle > 0).then_some(0));
            index.insert(name, handle, |hasher, other| hasher.hash(&names[other as usize]));
        }
        assert_eq!(index.len(), names.len());
        for (handle, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), Some(handle));
            index.remove(name, handle);
            assert_eq!(find(&index, name), None);
        }
        assert!(index.len() == 0 && index.handles.largest_part().is_none(), "memory is freed");
    }

    #[test]
    fn every_handle_is_found_by_its_cached_hash_until_it_is_removed() {
        let names: Vec<String> = (0..50_000).map(|n| format!("client{n}")).collect();
        let mut index = CachedHashIndex::default();
        let find = |index: &CachedHashIndex, name: &String| {
            index.find(name, |handle| names[handle as usize] == *name)
        };
        for (handle, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), None);
            index.insert(name, handle);
        }
        let longest = index.handles.largest_part();
        assert!(longest < Some(2 * names.len() / PARTS), "they are spread over the parts: {longest:?}");
        for (handle, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), Some(handle));
            index.remove(name, handle);
            assert_eq!(find(&index, name), None);
        }
        assert!(index.handles.len() == 0 && index.handles.largest_part().is_none(), "memory is freed");
    }
}
