//! Recorded decisions that a link repeats instead of drawing new ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::link::decision::{Decision, Fate, Passage};
use crate::link::flows::Place;
use crate::link::rng::Direction;

/// The fate of each datagram, for [`Link::with_script`](super::Link::with_script). Clones share one copy.
///
/// Built from decisions; of several about one datagram, the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    fates: Arc<BTreeMap<(Direction, Place), Fate>>,
}

impl Script {
    /// The fate of a datagram; one that is not in the script passes at once.
    #[must_use]
    pub(crate) fn fate(&self, direction: Direction, place: Place) -> Fate {
        self.fates.get(&(direction, place)).copied().unwrap_or_else(|| Fate::Passed(Passage::default()))
    }

    /// The number of datagrams in the script.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.fates.len()
    }
}

impl FromIterator<(Direction, Decision)> for Script {
    fn from_iter<I: IntoIterator<Item = (Direction, Decision)>>(decisions: I) -> Self {
        let keyed = decisions.into_iter().map(|(direction, made)| ((direction, made.place), made.fate));
        Self { fates: Arc::new(keyed.collect()) }
    }
}
