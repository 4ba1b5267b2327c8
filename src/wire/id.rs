//! The id of a tagged request or push.

use std::fmt;
use std::num::NonZeroU64;

use super::MAX_ID;

/// The number behind the `@` of a tagged frame: 1 to [`MAX_ID`], counting up from 1 (see [the grammar](super)).
///
/// Requests and pushes number independently of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(NonZeroU64);

impl Id {
    /// The first id of a session.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The id with this number; `None` for 0 and for numbers of more than 19 digits.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).filter(|number| number.get() <= MAX_ID).map(Self)
    }

    /// The number, 1 to [`MAX_ID`].
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The id after this one; `None` after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.get().checked_add(1).and_then(Self::new)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_run_from_one_to_nineteen_nines() {
        assert_eq!(Id::new(0), None);
        assert_eq!(Id::new(1), Some(Id::FIRST));
        assert_eq!(Id::new(MAX_ID).map(Id::get), Some(MAX_ID));
        assert_eq!(Id::new(MAX_ID + 1), None);
        assert_eq!(Id::new(u64::MAX), None);
    }

    #[test]
    fn the_last_id_has_no_next() {
        assert_eq!(Id::FIRST.next(), Id::new(2));
        assert_eq!(Id::new(MAX_ID).and_then(Id::next), None);
    }

    #[test]
    fn an_id_is_shown_as_its_number() {
        assert_eq!(Id::FIRST.to_string(), "1");
    }
}
