//! A loss model that drops exactly the listed datagrams: a set of ordinals, as ranges.

use std::fmt;
use std::ops::RangeInclusive;

use crate::link::error::LinkError;

/// Ordinals of datagrams within a flow and direction, counted from 1. Text form: `1,3,5-8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropList {
    /// Sorted, with a gap of at least one ordinal between ranges.
    ranges: Vec<(u64, u64)>,
}

impl DropList {
    /// The ordinals in these ranges, which may overlap and be in any order.
    ///
    /// # Errors
    ///
    /// A range begins at 0 or is reversed, or there is none.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u64>>) -> Result<Self, LinkError> {
        let mut sorted: Vec<(u64, u64)> = ranges.into_iter().map(RangeInclusive::into_inner).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            if first == 0 || last < first {
                return Err(LinkError::Range { first, last });
            }
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        if merged.is_empty() {
            return Err(LinkError::Range { first: 0, last: 0 });
        }
        Ok(Self { ranges: merged })
    }

    /// Whether the set contains the datagram with this index, which is its ordinal minus one.
    #[must_use]
    pub fn holds_index(&self, index: u64) -> bool {
        let Some(ordinal) = index.checked_add(1) else { return false };
        let at = self.ranges.partition_point(|(_, last)| *last < ordinal);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= ordinal)
    }
}

impl fmt::Display for DropList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.ranges.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "," })?;
            if first == last { first.fmt(f)? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_exactly_its_ranges_and_is_written_in_order() {
        let list = DropList::new([5..=8, 1..=1, 3..=3, 7..=9]).unwrap();
        assert_eq!(list.to_string(), "1,3,5-9");
        let held: Vec<u64> =
            (0..12).filter(|index| list.holds_index(*index)).map(|index| index + 1).collect();
        assert_eq!(held, [1, 3, 5, 6, 7, 8, 9]);
        assert_eq!(DropList::new([1..=2, 3..=4]).unwrap().to_string(), "1-4");
        let all = DropList::new([1..=u64::MAX]).unwrap();
        assert!(all.holds_index(0) && all.holds_index(u64::MAX - 1) && !all.holds_index(u64::MAX));
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "what is refused")]
    fn a_range_from_0_or_backwards_or_none_at_all_is_refused() {
        for ranges in [vec![0..=3], vec![3..=2], vec![]] {
            assert!(DropList::new(ranges).is_err());
        }
    }
}
