//! Finds places in a table by what stands there, without keeping that twice: 5 to 10 bytes for each.
//!
//! The keys stay in the table, and who asks compares them. Peers choose names and nonces, so hashes are keyed (SipHash,
//! as the standard library's maps have it). A large one is in many parts, each of which grows by itself: a million
//! entries are never moved at once. What costs much to be made again is kept with its hash ([`Costly`]), or a part would
//! grow for long.

use std::borrow::Borrow;
use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

/// In how many parts a large one is: a growth moves so small a part of everything at most. Parts double when they are seven
/// eighths full; of so many, those of a million entries are four fifths full.
const PARTS: usize = 1_200;

/// It is large from so many entries on.
const LARGE: usize = 1_024;

/// A part with room for more entries than this is made smaller when it is nearly empty.
const SMALL_PART: usize = 8;

/// Entries by their hash.
#[derive(Debug)]
struct Parts<E> {
    /// One as long as it is not large.
    parts: Vec<HashTable<E>>,
    len: usize,
}

impl<E> Default for Parts<E> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }
}

impl<E> Parts<E> {
    fn find(&self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<&E> {
        self.parts.get(part_of(hash, self.parts.len()))?.find(hash, is)
    }

    fn insert(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) {
        if self.parts.is_empty() {
            self.parts.push(HashTable::new());
        }
        if self.parts.len() == 1 && self.len >= LARGE {
            self.split(&hash_of);
        }
        let part = part_of(hash, self.parts.len());
        if let Some(part) = self.parts.get_mut(part) {
            part.insert_unique(hash, entry, hash_of);
            self.len += 1;
        }
    }

    /// Puts what is in one part into as many as a large one has.
    fn split(&mut self, hash_of: impl Fn(&E) -> u64) {
        let whole = std::mem::take(&mut self.parts);
        self.parts.resize_with(PARTS, HashTable::new);
        for entry in whole.into_iter().flatten() {
            let hash = hash_of(&entry);
            if let Some(part) = self.parts.get_mut(part_of(hash, PARTS)) {
                part.insert_unique(hash, entry, &hash_of);
            }
        }
    }

    fn find_mut(&mut self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<&mut E> {
        let part = part_of(hash, self.parts.len());
        self.parts.get_mut(part)?.find_mut(hash, is)
    }

    /// Makes the part of a hash smaller if it is nearly empty: at least seven times as many entries are gone as are moved.
    fn give_room_back(&mut self, hash: u64, hash_of: impl Fn(&E) -> u64) {
        let part = part_of(hash, self.parts.len());
        if let Some(part) = self.parts.get_mut(part)
            && part.capacity() > SMALL_PART
            && part.len() < part.capacity() / 8
        {
            part.shrink_to(2 * part.len(), hash_of);
        }
    }

    fn remove(&mut self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<E> {
        let part = part_of(hash, self.parts.len());
        let found = self.parts.get_mut(part)?.find_entry(hash, is).ok()?;
        let (entry, _) = found.remove();
        self.len -= 1;
        if self.len == 0 && self.parts.len() > 1 {
            self.parts = Vec::new();
        }
        Some(entry)
    }
}

/// Which of so many parts, 1 or [`PARTS`], a hash belongs to: by bits that the part itself does not go by first.
fn part_of(hash: u64, parts: usize) -> usize {
    (hash >> 40) as usize % parts.max(1)
}

/// Places in a table of somebody else's, by key.
#[derive(Debug, Default)]
pub(crate) struct Index {
    hasher: RandomState,
    places: Parts<u32>,
}

impl Index {
    /// How many places it finds.
    pub(crate) fn len(&self) -> usize {
        self.places.len
    }

    /// What a key becomes.
    pub(crate) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The place whose key this is, if `is` says so of it.
    pub(crate) fn find<K: Hash + ?Sized>(&self, key: &K, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.places.len == 0 {
            return None;
        }
        self.places.find(self.hash(key), |place| is(*place)).copied()
    }

    /// Adds a place that it does not find yet. `hash_of` is the hash of the key at another one.
    pub(crate) fn insert<K: Hash + ?Sized>(
        &mut self,
        key: &K,
        place: u32,
        hash_of: impl Fn(&Hasher<'_>, u32) -> u64,
    ) {
        let (hash, hasher) = (self.hash(key), Hasher(&self.hasher));
        self.places.insert(hash, place, |other| hash_of(&hasher, *other));
    }

    /// Removes a place that it finds by this key.
    pub(crate) fn remove<K: Hash + ?Sized>(&mut self, key: &K, place: u32) {
        self.places.remove(self.hash(key), |other| *other == place);
    }
}

/// An [`Index`] of keys that cost their peers little and us much, for 4 bytes more: none is made anew when it grows.
#[derive(Debug, Default)]
pub(crate) struct Costly {
    hasher: RandomState,
    /// Each place behind a part of its key's hash that stands for all of it.
    places: Parts<(u32, u32)>,
}

impl Costly {
    /// A part of the hash of a key.
    fn hash<K: Hash + ?Sized>(&self, key: &K) -> u32 {
        let [a, b, c, d, ..] = self.hasher.hash_one(key).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// The place whose key this is, if `is` says so of it.
    pub(crate) fn find<K: Hash + ?Sized>(&self, key: &K, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.places.len == 0 {
            return None;
        }
        let short = self.hash(key);
        let found = self.places.find(whole(short), |(other, place)| *other == short && is(*place));
        found.map(|(_, place)| *place)
    }

    /// Adds a place that it does not find yet.
    pub(crate) fn insert<K: Hash + ?Sized>(&mut self, key: &K, place: u32) {
        let short = self.hash(key);
        self.places.insert(whole(short), (short, place), |(other, _)| whole(*other));
    }

    /// Removes a place that it finds by this key.
    pub(crate) fn remove<K: Hash + ?Sized>(&mut self, key: &K, place: u32) {
        self.places.remove(whole(self.hash(key)), |(_, other)| *other == place);
    }
}

/// The hash that a part of one stands for: all that a table goes by is in it.
fn whole(short: u32) -> u64 {
    u64::from(short) << 32 | u64::from(short.rotate_left(16))
}

/// A map that grows part by part: no insertion moves more than a small share of its entries.
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
    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len
    }

    /// Whether a key has a value.
    pub(crate) fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The value of a key, to be changed.
    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if self.entries.len == 0 {
            return None;
        }
        self.entries
            .find_mut(self.hasher.hash_one(key), |(other, _)| other.borrow() == key)
            .map(|(_, value)| value)
    }

    /// The value of a key, to be changed; the default if it has none yet.
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
        self.entries.parts.iter().flatten().map(|(_, value)| value)
    }

    /// The value of a key.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.entries.len == 0 {
            return None;
        }
        self.entries
            .find(self.hasher.hash_one(key), |(other, _)| other.borrow() == key)
            .map(|(_, value)| value)
    }

    /// Adds an entry under a key that has none.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let (hash, hasher) = (self.hasher.hash_one(&key), &self.hasher);
        self.entries.insert(hash, (key, value), |(other, _)| hasher.hash_one(other));
    }

    /// Takes an entry out.
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (hash, hasher) = (self.hasher.hash_one(key), &self.hasher);
        let (_, value) = self.entries.remove(hash, |(other, _)| other.borrow() == key)?;
        self.entries.give_room_back(hash, |(other, _)| hasher.hash_one(other));
        Some(value)
    }
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
        assert!(index.len() == 0 && index.places.parts.is_empty(), "memory is given back");
    }

    #[test]
    fn a_parted_map_finds_what_was_put_in_and_no_part_of_it_is_large() {
        let mut map: PartedMap<String, usize> = PartedMap::default();
        for n in 0..50_000 {
            assert_eq!(map.get(format!("client{n}").as_str()), None);
            map.insert(format!("client{n}"), n);
        }
        let longest = map.entries.parts.iter().map(HashTable::len).max();
        assert!(map.entries.len == 50_000 && longest < Some(2 * 50_000 / PARTS), "{longest:?}");
        for n in 0..50_000 {
            let key = format!("client{n}");
            assert_eq!((map.get(key.as_str()).copied(), map.remove(key.as_str())), (Some(n), Some(n)));
            assert_eq!(map.remove(key.as_str()), None);
        }
        assert!(map.entries.len == 0 && map.entries.parts.is_empty(), "memory is given back");
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
        let longest = index.places.parts.iter().map(HashTable::len).max();
        assert!(longest < Some(2 * names.len() / PARTS), "they are spread over the parts: {longest:?}");
        for (place, name) in (0..).zip(&names) {
            assert_eq!(find(&index, name), Some(place));
            index.remove(name, place);
            assert_eq!(find(&index, name), None);
        }
        assert!(index.places.len == 0 && index.places.parts.is_empty(), "memory is given back");
    }
}
