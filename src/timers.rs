//! One deadline per owner, the earliest first: the timer queue of every object that is driven by `poll_timeout`.
//!
//! An owner has at most one deadline; whoever needs several keeps the earliest here and looks at all of them when it
//! fires. Deadlines that fire early are harmless by contract, so an owner may leave a deadline standing that has moved
//! later and set it anew when it fires (the idle timers do).

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// Deadlines keyed by owner.
#[derive(Debug)]
pub struct Timers<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_owner: HashMap<K, Instant>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_owner: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// Sets or, with `None`, clears the deadline of `owner`.
    pub fn set(&mut self, owner: K, deadline: Option<Instant>) {
        let old = match deadline {
            Some(at) => self.by_owner.insert(owner, at),
            None => self.by_owner.remove(&owner),
        };
        if old == deadline {
            return;
        }
        if let Some(old) = old {
            self.by_time.remove(&(old, owner));
        }
        if let Some(at) = deadline {
            self.by_time.insert((at, owner));
        }
    }

    /// Moves the deadline of `owner` to `deadline` if that is earlier than what stands.
    pub fn advance(&mut self, owner: K, deadline: Instant) {
        if self.by_owner.get(&owner).is_none_or(|standing| deadline < *standing) {
            self.set(owner, Some(deadline));
        }
    }

    /// The earliest deadline of all; `None` means never.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one owner whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, owner) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.set(owner, None);
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn owners_come_due_in_time_order_and_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set(1, Some(at(5)));
        timers.set(2, Some(at(3)));
        timers.advance(1, at(4));
        timers.advance(1, at(9));
        timers.set(3, Some(at(1)));
        timers.set(3, None);
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.pop_due(at(2)), None);
        assert_eq!(timers.pop_due(at(10)), Some(2));
        assert_eq!(timers.pop_due(at(10)), Some(1));
        assert_eq!(timers.pop_due(at(10)), None);
        assert_eq!(timers.next(), None);
    }
}
