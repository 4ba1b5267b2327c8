//! A vector in segments, for large tables: growth never moves its entries, so no push takes long.

/// Entries per segment.
const SEGMENT: usize = 512;

/// A vector that only grows. The first segment grows as a [`Vec`] does, so a short vector takes no more memory than
/// one.
#[derive(Clone, Debug)]
pub(crate) struct SegmentedVec<T> {
    /// All segments are full, except the last.
    segments: Vec<Vec<T>>,
}

impl<T> Default for SegmentedVec<T> {
    fn default() -> Self {
        Self { segments: Vec::new() }
    }
}

impl<T> SegmentedVec<T> {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        let last = self.segments.last().map_or(0, Vec::len);
        self.segments.len().saturating_sub(1) * SEGMENT + last
    }

    /// The entry at an index.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.segments.get(index / SEGMENT)?.get(index % SEGMENT)
    }

    /// The entry at an index, to change.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.segments.get_mut(index / SEGMENT)?.get_mut(index % SEGMENT)
    }

    /// Appends an entry.
    pub(crate) fn push(&mut self, entry: T) {
        match self.segments.last_mut().filter(|last| last.len() < SEGMENT) {
            Some(last) => last.push(entry),
            None => {
                let capacity = if self.segments.is_empty() { 0 } else { SEGMENT };
                let mut segment = Vec::with_capacity(capacity);
                segment.push(entry);
                self.segments.push(segment);
            }
        }
    }

    /// All entries, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are_and_are_found_by_index() {
        let mut vec = SegmentedVec::default();
        assert_eq!((vec.len(), vec.get(0)), (0, None));
        vec.push(0);
        (1..SEGMENT).for_each(|n| vec.push(n));
        let first: *const usize = vec.get(0).unwrap();
        (SEGMENT..5 * SEGMENT + 3).for_each(|n| vec.push(n));
        assert!(std::ptr::eq(first, vec.get(0).unwrap()));
        assert!(vec.iter().copied().eq(0..vec.len()));
        for n in 0..vec.len() {
            assert_eq!(vec.get(n), Some(&n));
            *vec.get_mut(n).unwrap() += 1;
            assert_eq!(vec.get(n), Some(&(n + 1)));
        }
        assert_eq!((vec.len(), vec.get(vec.len())), (5 * SEGMENT + 3, None));
    }
}
