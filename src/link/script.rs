//! Decisions that were made before: a link that goes by them instead of by models.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::link::decision::{Decision, Fate, Passage};
use crate::link::flows::Place;
use crate::link::rng::Direction;

/// What became of each datagram, for [`Link::with_script`](super::Link::with_script). Clones share one copy.
///
/// Built from decisions; of several about one datagram the last holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    fates: Arc<BTreeMap<(Direction, Place), Fate>>,
}

impl Script {
    /// What becomes of a datagram: one that the script does not know passes at once.
    #[must_use]
    pub fn fate(&self, direction: Direction, place: Place) -> Fate {
        self.fates.get(&(direction, place)).copied().unwrap_or_else(|| Fate::Passed(Passage::default()))
    }

    /// How many datagrams it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fates.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }
}

impl FromIterator<(Direction, Decision)> for Script {
    fn from_iter<I: IntoIterator<Item = (Direction, Decision)>>(decisions: I) -> Self {
        let keyed = decisions.into_iter().map(|(direction, made)| ((direction, made.place), made.fate));
        Self { fates: Arc::new(keyed.collect()) }
    }
}
