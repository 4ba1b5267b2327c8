//! The end of a run of `lab load`: a time or a count, and its share for each sender.

use std::time::Duration;

/// The end of sending; messages in flight are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// After this time.
    After(Duration),
    /// After so many messages or requests, shared evenly; the first senders send the remainder.
    Count(u64),
}

impl End {
    /// Returns the share of the sender with index `place`, from 0, of `senders`.
    pub(crate) fn share(self, place: usize, senders: usize) -> u64 {
        let senders = senders.max(1) as u64;
        match self {
            Self::After(_) => u64::MAX,
            Self::Count(count) => count / senders + u64::from((place as u64) < count % senders),
        }
    }

    /// Whether the time is over.
    pub(crate) fn is_over(self, since: Duration) -> bool {
        matches!(self, Self::After(limit) if since >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_shared_without_a_remainder() {
        let shares = |count, senders| -> Vec<u64> {
            (0..senders).map(|place| End::Count(count).share(place, senders)).collect()
        };
        assert_eq!(shares(10, 4), [3, 3, 2, 2]);
        assert_eq!(shares(2, 3), [1, 1, 0]);
        assert_eq!(shares(6, 3), [2, 2, 2]);
        assert_eq!(End::After(Duration::ZERO).share(1, 2), u64::MAX);
    }
}
