//! A hash table that grows part by part, under [`HandleIndex`](crate::handle_index::HandleIndex) and
//! [`PartedMap`](crate::parted_map::PartedMap).
//!
//! An ordinary table moves all entries when it grows. With a million entries that blocks the server for milliseconds, so
//! a large table is split into parts that grow by themselves.

use hashbrown::HashTable;

/// The number of parts of a large table: one growth moves about that share of all entries. A part doubles when it is
/// seven eighths full; with this number, the parts of a million entries are four fifths full.
pub(crate) const PARTS: usize = 1_200;

/// The number of entries from which on a table is large. Empty space in the parts of smaller tables would cost each of
/// 3,000 clients 50 bytes. The growth of a single table moves fewer entries than this.
const LARGE: usize = 16_384;

/// The capacity up to which a part is not shrunk.
const SMALL_PART: usize = 8;

/// Entries by their hash.
#[derive(Debug)]
pub(crate) struct Parts<E> {
    /// One while the table is not large.
    parts: Vec<HashTable<E>>,
    len: usize,
}

impl<E> Default for Parts<E> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }
}

impl<E> Parts<E> {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<&E> {
        self.parts.get(part_of(hash, self.parts.len()))?.find(hash, is)
    }

    /// The same, to change.
    pub(crate) fn find_mut(&mut self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<&mut E> {
        let part = part_of(hash, self.parts.len());
        self.parts.get_mut(part)?.find_mut(hash, is)
    }

    /// Adds an entry that is not in the table. `hash_of` is called for the entries that move.
    pub(crate) fn insert(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) {
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

    /// Removes the entry with this hash for which `is` holds.
    pub(crate) fn remove(&mut self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<E> {
        let part = part_of(hash, self.parts.len());
        let found = self.parts.get_mut(part)?.find_entry(hash, is).ok()?;
        let (entry, _) = found.remove();
        self.len -= 1;
        if self.len == 0 && self.parts.len() > 1 {
            self.parts = Vec::new();
        }
        Some(entry)
    }

    /// Shrinks the part of a hash if it is nearly empty: it moves at most a seventh as many entries as were removed.
    pub(crate) fn shrink_sparse(&mut self, hash: u64, hash_of: impl Fn(&E) -> u64) {
        let part = part_of(hash, self.parts.len());
        if let Some(part) = self.parts.get_mut(part)
            && part.capacity() > SMALL_PART
            && part.len() < part.capacity() / 8
        {
            part.shrink_to(2 * part.len(), hash_of);
        }
    }

    /// All entries, in no order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> {
        self.parts.iter().flatten()
    }

    /// The number of entries of the largest part, if there is a part.
    #[cfg(test)]
    pub(crate) fn largest_part(&self) -> Option<usize> {
        self.parts.iter().map(HashTable::len).max()
    }

    /// Moves the entries of the single part into [`PARTS`] parts.
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
}

/// The part, of 1 or [`PARTS`], that a hash belongs to. Uses other bits than the ones with which the part begins its search.
fn part_of(hash: u64, parts: usize) -> usize {
    (hash >> 40) as usize % parts.max(1)
}
