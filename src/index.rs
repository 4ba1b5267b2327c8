//! Finds places in a table by what stands there, without keeping that twice: 5 to 10 bytes for each.
//!
//! The keys stay in the table, and who asks compares them. Peers choose names and nonces, so hashes are keyed (SipHash,
//! as the standard library's maps have it). It is in many parts, each of which grows by itself: a million entries are
//! never moved at once. What costs much to be made again is kept with its hash ([`Costly`]), or a part would grow for long.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

/// In how many parts it is: a growth moves so small a part of everything at most.
const PARTS: usize = 256;

/// Places in a table of somebody else's, by key.
#[derive(Debug, Default)]
pub(crate) struct Index {
    hasher: RandomState,
    /// None while it is empty.
    parts: Vec<HashTable<u32>>,
    len: usize,
}

impl Index {
    /// How many places it finds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What a key becomes.
    pub(crate) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The place whose key this is, if `is` says so of it.
    pub(crate) fn find<K: Hash + ?Sized>(&self, key: &K, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let hash = self.hash(key);
        self.parts.get(part(hash))?.find(hash, |place| is(*place)).copied()
    }

    /// Adds a place that it does not find yet. `hash_of` is the hash of the key at another one.
    pub(crate) fn insert<K: Hash + ?Sized>(
        &mut self,
        key: &K,
        place: u32,
        hash_of: impl Fn(&Hasher<'_>, u32) -> u64,
    ) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let hash = self.hash(key);
        let hasher = Hasher(&self.hasher);
        if let Some(part) = self.parts.get_mut(part(hash)) {
            part.insert_unique(hash, place, |other| hash_of(&hasher, *other));
            self.len += 1;
        }
    }

    /// Removes a place that it finds by this key.
    pub(crate) fn remove<K: Hash + ?Sized>(&mut self, key: &K, place: u32) {
        let hash = self.hash(key);
        let part = self.parts.get_mut(part(hash));
        if let Some(entry) = part.and_then(|part| part.find_entry(hash, |other| *other == place).ok()) {
            entry.remove();
            self.len -= 1;
        }
        if self.len == 0 {
            self.parts = Vec::new();
        }
    }
}

/// An [`Index`] of keys that cost their peers little and us much, for 4 bytes more: none is made anew when it grows.
#[derive(Debug, Default)]
pub(crate) struct Costly {
    hasher: RandomState,
    /// None while it is empty. Places, each behind a part of its key's hash that stands for all of it.
    parts: Vec<HashTable<(u32, u32)>>,
    len: usize,
}

impl Costly {
    /// A part of the hash of a key, and what that stands for.
    fn hash<K: Hash + ?Sized>(&self, key: &K) -> (u32, u64) {
        let [a, b, c, d, ..] = self.hasher.hash_one(key).to_be_bytes();
        let short = u32::from_be_bytes([a, b, c, d]);
        (short, whole(short))
    }

    /// The place whose key this is, if `is` says so of it.
    pub(crate) fn find<K: Hash + ?Sized>(&self, key: &K, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let (short, hash) = self.hash(key);
        let found = self.parts.get(part(hash))?.find(hash, |(other, place)| *other == short && is(*place));
        found.map(|(_, place)| *place)
    }

    /// Adds a place that it does not find yet.
    pub(crate) fn insert<K: Hash + ?Sized>(&mut self, key: &K, place: u32) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let (short, hash) = self.hash(key);
        if let Some(part) = self.parts.get_mut(part(hash)) {
            part.insert_unique(hash, (short, place), |(other, _)| whole(*other));
            self.len += 1;
        }
    }

    /// Removes a place that it finds by this key.
    pub(crate) fn remove<K: Hash + ?Sized>(&mut self, key: &K, place: u32) {
        let (_, hash) = self.hash(key);
        let part = self.parts.get_mut(part(hash));
        if let Some(entry) = part.and_then(|part| part.find_entry(hash, |(_, other)| *other == place).ok()) {
            entry.remove();
            self.len -= 1;
        }
        if self.len == 0 {
            self.parts = Vec::new();
        }
    }
}

/// The hash that a part of one stands for: all that a table goes by is in it.
fn whole(short: u32) -> u64 {
    u64::from(short) << 32 | u64::from(short.rotate_left(16))
}

/// What an [`Index`] hashes with.
pub(crate) struct Hasher<'a>(&'a RandomState);

impl Hasher<'_> {
    /// What a key becomes.
    pub(crate) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.0.hash_one(key)
    }
}

/// The part that a hash belongs to, by bits that the part itself does not go by first.
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found_by_its_key_until_it_is_removed() {
        let names: Vec<String> = (0..50_000).map(|n| format!("client{n}")).collect();
        let mut index = Index::default();
        let find = |index: &Index, name: &String| index.find(name, |place| names[place as usize] == *name);
        for (place, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), None);
            index.insert(name, place, |hasher, other| hasher.hash(&names[other as usize]));
        }
        assert_eq!(index.len(), names.len());
        for (place, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), Some(place));
            index.remove(name, place);
            assert_eq!(find(&index, name), None);
        }
        assert!(index.len() == 0 && index.parts.is_empty(), "memory is given back");
    }

    #[test]
    fn what_is_costly_is_found_likewise() {
        let names: Vec<String> = (0..50_000).map(|n| format!("client{n}")).collect();
        let mut index = Costly::default();
        let find = |index: &Costly, name: &String| index.find(name, |place| names[place as usize] == *name);
        for (place, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), None);
            index.insert(name, place);
        }
        let longest = index.parts.iter().map(HashTable::len).max();
        assert!(longest < Some(2 * names.len() / PARTS), "they are spread over the parts: {longest:?}");
        for (place, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), Some(place));
            index.remove(name, place);
            assert_eq!(find(&index, name), None);
        }
        assert!(index.len == 0 && index.parts.is_empty(), "memory is given back");
    }
}
