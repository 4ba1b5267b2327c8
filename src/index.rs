//! Finds places in a table by what stands there, without keeping that twice: 5 to 10 bytes for each.
//!
//! The keys stay in the table, and who asks compares them. Peers choose names and nonces, so hashes are keyed (SipHash, as
//! the standard library's maps have it). A large one is in many parts, each of which grows by itself: a million entries are
//! never moved at once.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

/// In how many parts a large one is: a growth moves so small a part of everything at most.
const PARTS: usize = 1_024;

/// It is large from so many entries on.
const LARGE: usize = 1_024;

/// Places in a table of somebody else's, by key.
#[derive(Debug, Default)]
pub(crate) struct Index {
    hasher: RandomState,
    /// One as long as it is not large.
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
        self.parts.get(self.part(hash))?.find(hash, |place| is(*place)).copied()
    }

    /// Adds a place that it does not find yet. `hash_of` is the hash of the key at another one.
    pub(crate) fn insert<K: Hash + ?Sized>(
        &mut self,
        key: &K,
        place: u32,
        hash_of: impl Fn(&Hasher<'_>, u32) -> u64,
    ) {
        let hash = self.hash(key);
        let hasher = Hasher(&self.hasher);
        let hash_of = |other: &u32| hash_of(&hasher, *other);
        if self.parts.is_empty() {
            self.parts.push(HashTable::new());
        }
        if self.parts.len() == 1 && self.len >= LARGE {
            self.parts = split(&self.parts, hash_of);
        }
        let part = self.part(hash);
        if let Some(part) = self.parts.get_mut(part) {
            part.insert_unique(hash, place, hash_of);
            self.len += 1;
        }
    }

    /// Removes a place that it finds by this key.
    pub(crate) fn remove<K: Hash + ?Sized>(&mut self, key: &K, place: u32) {
        let hash = self.hash(key);
        let part = self.part(hash);
        let part = self.parts.get_mut(part);
        if let Some(entry) = part.and_then(|part| part.find_entry(hash, |other| *other == place).ok()) {
            entry.remove();
            self.len -= 1;
        }
        if self.len == 0 && self.parts.len() > 1 {
            self.parts = Vec::new();
        }
    }

    fn part(&self, hash: u64) -> usize {
        part_of(hash, self.parts.len())
    }
}

/// Which of so many parts, 1 or [`PARTS`], a hash belongs to: by bits that the part itself does not go by first.
fn part_of(hash: u64, parts: usize) -> usize {
    (hash >> 40) as usize & parts.saturating_sub(1)
}

/// The same places in as many parts as a large index has.
fn split(whole: &[HashTable<u32>], hash_of: impl Fn(&u32) -> u64) -> Vec<HashTable<u32>> {
    let mut parts = Vec::new();
    parts.resize_with(PARTS, HashTable::new);
    for place in whole.iter().flatten() {
        let hash = hash_of(place);
        if let Some(part) = parts.get_mut(part_of(hash, PARTS)) {
            part.insert_unique(hash, *place, &hash_of);
        }
    }
    parts
}

/// What an [`Index`] hashes with.
pub(crate) struct Hasher<'a>(&'a RandomState);

impl Hasher<'_> {
    /// What a key becomes.
    pub(crate) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.0.hash_one(key)
    }
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
            assert_eq!(find(&index, &names[0]), (place > 0).then_some(0));
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
}
