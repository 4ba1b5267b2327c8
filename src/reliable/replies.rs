//! The dedup window: the executed requests of a session, and their cached answers.
//!
//! A client repeats a request, with the same id and bytes, until it is answered. The window holds a hash of the frame
//! and one byte of answer for the last [`WINDOW`] ids. So a repeat gets the same answer and has no second effect, as
//! RFC 7252 section 4.5 requires. The window executes nothing and parses no frames.
//!
//! It widens with use, from [`LEAST_WIDTH`] ids to [`WINDOW`]. If memory is short it can be kept
//! [narrow](Replies::narrow_for): ids that it has forgotten are then [stale](Seen::Stale), so that none is executed
//! twice.

use crate::wire::Id;

/// The number of a session's newest ids that the window holds. A client never has a request in flight this far below
/// its newest.
pub const WINDOW: u64 = 1_024;

/// The minimum number of ids below the newest that a window holds; their memory is not charged.
pub(super) const LEAST_WIDTH: u64 = 32;

/// Bytes per id: hash and answer.
const BYTES_PER_ID: usize = size_of::<u32>() + 1;

/// The result of a look-up, before a request is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A new request: execute it and [`Replies::record`] the answer.
    New,
    /// A duplicate: send this cached answer, execute nothing.
    Repeat(u8),
    /// The id was used for another frame.
    Conflict,
    /// The id is below the window: it is unknown whether it was executed.
    Stale,
}

/// The dedup window of one session: the newest request, and 5 bytes for each earlier id, allocated with use, at most 5
/// KiB.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// The newest id that was executed; 0 for none.
    newest: u64,
    /// Its hash and answer; an answer of 0 is forgotten.
    hash: u32,
    answer: u8,
    forgetful: bool,
    /// The others.
    older: Option<Box<Ring>>,
}

/// The entries of the ids below the newest, one slot for each.
#[derive(Clone, Debug)]
struct Ring {
    hashes: Vec<u32>,
    /// 0 = not seen. As long as `hashes`, a power of two.
    answers: Vec<u8>,
    /// Ids below this one are unknown.
    floor: u64,
}

impl Replies {
    /// An empty window.
    pub const fn new() -> Self {
        Self { newest: 0, hash: 0, answer: 0, forgetful: false, older: None }
    }

    /// Whether it is in its initial state.
    pub fn is_empty(&self) -> bool {
        self.newest == 0 && !self.forgetful
    }

    /// A window that remembers nothing; a fault to test the tests with.
    #[doc(hidden)]
    pub fn forgetful() -> Self {
        Self { forgetful: true, ..Self::default() }
    }

    /// Looks up a request by its id and the hash of its frame.
    pub fn lookup(&self, id: Id, hash: u32) -> Seen {
        if self.forgetful || id.get() > self.newest {
            return Seen::New;
        }
        if self.newest - id.get() >= WINDOW || id.get() < self.floor() {
            return Seen::Stale;
        }
        match self.remembered(id.get()) {
            None | Some((_, 0)) => Seen::New,
            Some((known, answer)) if known == hash => Seen::Repeat(answer),
            Some(_) => Seen::Conflict,
        }
    }

    /// The entry of an id that is not above the newest.
    fn remembered(&self, id: u64) -> Option<(u32, u8)> {
        if id == self.newest {
            return Some((self.hash, self.answer));
        }
        self.older.as_ref().filter(|older| self.newest - id <= older.width())?.get(id)
    }

    fn is_seen(&self, id: u64) -> bool {
        self.remembered(id).is_some_and(|(_, answer)| answer != 0)
    }

    fn floor(&self) -> u64 {
        self.older.as_ref().map_or(0, |older| older.floor)
    }

    /// The number of ids below the newest that it holds.
    fn width(&self) -> u64 {
        self.older.as_ref().map_or(LEAST_WIDTH, |older| older.width())
    }

    /// Memory beyond that of the least width, in bytes: 0 to 4,960.
    pub fn cost(&self) -> usize {
        cost_of(self.width())
    }

    /// Bytes by which [`Replies::cost`] grows when this id is recorded. Not 0 only five times in the life of a window;
    /// each skipped id is looked at once.
    pub fn growth_for(&self, id: Id) -> usize {
        cost_of(self.width_for(id.get())) - self.cost()
    }

    /// The width at which nothing is forgotten when this id is recorded.
    fn width_for(&self, id: u64) -> u64 {
        let width = self.width();
        if width == WINDOW {
            return width;
        }
        let lowest = if id < self.newest { Some(id) } else { self.lowest_falling(id, width) };
        let newest = self.newest.max(id);
        lowest.map_or(width, |lowest| (newest - lowest).next_power_of_two().clamp(width, WINDOW))
    }

    /// The lowest seen id that a window of this width forgets when `newest` is recorded, and one of full width does
    /// not.
    fn lowest_falling(&self, newest: u64, width: u64) -> Option<u64> {
        let first = self.newest.saturating_sub(width).max((newest + 1).saturating_sub(WINDOW));
        let end = newest.saturating_sub(width).min(self.newest + 1);
        (first.max(1)..end).find(|falling| self.is_seen(*falling))
    }

    /// Widens the window as this id needs. [`Replies::record`] does so too.
    pub fn widen_for(&mut self, id: Id) {
        let width = self.width_for(id.get());
        if width > self.width() {
            let older = self.older.take();
            let wider = self.older.insert(Box::new(Ring::new(width)));
            if let Some(older) = older {
                wider.take_over(&older, self.newest);
            }
        }
    }

    /// Makes room for this id without more memory: entries that do not fit are forgotten, and their ids become stale.
    /// Returns whether the id itself fits; if not, it is stale and must not be executed.
    pub fn narrow_for(&mut self, id: Id) -> bool {
        let (id, width) = (id.get(), self.width());
        let older = self.older.get_or_insert_with(|| Box::new(Ring::new(width)));
        if id < self.newest {
            let is_outside = self.newest - id > width;
            if is_outside {
                older.floor = older.floor.max(id + 1);
            }
            return !is_outside;
        }
        let floor = id.saturating_sub(width);
        older.floor = older.floor.max(floor);
        let first = self.newest.saturating_sub(width);
        (first..floor.min(self.newest)).for_each(|fallen| older.forget(fallen));
        if self.newest < floor {
            self.answer = 0;
        }
        true
    }

    /// Records the answer, any byte but 0, of a request that [`Replies::lookup`] found to be new.
    pub fn record(&mut self, id: Id, hash: u32, answer: u8) {
        self.widen_for(id);
        let id = id.get();
        if id < self.newest {
            self.older.get_or_insert_with(|| Box::new(Ring::new(LEAST_WIDTH))).record(id, hash, answer);
            return;
        }
        if id > self.newest {
            self.advance(id);
        }
        (self.hash, self.answer) = (hash, answer);
    }

    /// Makes `id` the newest and forgets what leaves the window: at most [`WINDOW`] steps, whatever the jump.
    fn advance(&mut self, id: u64) {
        if id - self.newest >= WINDOW {
            self.older = None;
        } else if self.newest > 0 {
            let older = self.older.get_or_insert_with(|| Box::new(Ring::new(LEAST_WIDTH)));
            let first = id.saturating_sub(older.width());
            (first.max(self.newest + 1)..id).for_each(|skipped| older.forget(skipped));
            if self.newest >= first {
                older.record(self.newest, self.hash, self.answer);
            }
        }
        self.newest = id;
    }
}

/// Bytes of a window of this width beyond the least width.
fn cost_of(width: u64) -> usize {
    usize::try_from(width - LEAST_WIDTH).unwrap_or(0) * BYTES_PER_ID
}

impl Ring {
    /// Creates an empty window for this many ids, a power of two.
    fn new(width: u64) -> Self {
        let width = usize::try_from(width).unwrap_or(0);
        Self { hashes: vec![0; width], answers: vec![0; width], floor: 0 }
    }

    fn width(&self) -> u64 {
        self.answers.len() as u64
    }

    /// The slot of an id.
    fn slot(&self, id: u64) -> usize {
        usize::try_from(id % self.width().max(1)).unwrap_or(0)
    }

    fn get(&self, id: u64) -> Option<(u32, u8)> {
        let slot = self.slot(id);
        Some((*self.hashes.get(slot)?, *self.answers.get(slot)?))
    }

    fn record(&mut self, id: u64, hash: u32, answer: u8) {
        let slot = self.slot(id);
        if let (Some(known), Some(given)) = (self.hashes.get_mut(slot), self.answers.get_mut(slot)) {
            (*known, *given) = (hash, answer);
        }
    }

    fn forget(&mut self, id: u64) {
        let slot = self.slot(id);
        if let Some(answer) = self.answers.get_mut(slot) {
            *answer = 0;
        }
    }

    /// Copies the entries of a narrower window below this id.
    fn take_over(&mut self, narrower: &Self, newest: u64) {
        self.floor = narrower.floor;
        for id in newest.saturating_sub(narrower.width())..newest {
            if let Some((hash, answer)) = narrower.get(id) {
                self.record(id, hash, answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn id(n: u64) -> Id {
        Id::new(n).unwrap()
    }

    #[test]
    fn a_repeat_gets_the_same_answer_and_another_frame_a_conflict() {
        let mut window = Replies::new();
        assert_eq!(window.lookup(id(7), 70), Seen::New);
        window.record(id(7), 70, 3);
        assert_eq!(window.lookup(id(7), 70), Seen::Repeat(3));
        assert_eq!(window.lookup(id(7), 71), Seen::Conflict);
    }

    #[test]
    fn an_id_that_was_skipped_is_new_while_it_is_in_the_window_and_stale_below() {
        let mut window = Replies::new();
        window.record(id(2_000), 1, 1);
        assert_eq!(window.lookup(id(2_000 - WINDOW + 1), 5), Seen::New);
        assert_eq!(window.lookup(id(2_000 - WINDOW), 5), Seen::Stale);
        window.record(id(1_500), 9, 2);
        assert_eq!(window.lookup(id(1_500), 9), Seen::Repeat(2));
    }

    #[test]
    fn an_id_below_the_window_is_never_mistaken_for_the_one_in_its_slot() {
        let mut window = Replies::new();
        for n in 1..=WINDOW {
            window.record(id(n), 1, 1);
        }
        window.record(id(WINDOW + 5), 2, 1);
        assert_eq!(window.lookup(id(1), 1), Seen::Stale);
        assert_eq!(window.lookup(id(WINDOW + 1), 1), Seen::New);
        assert_eq!(window.lookup(id(WINDOW), 1), Seen::Repeat(1));
    }

    #[test]
    fn a_jump_to_the_largest_id_costs_one_window_of_steps() {
        let mut window = Replies::new();
        window.record(id(3), 1, 1);
        window.record(id(crate::wire::MAX_ID), 2, 1);
        assert_eq!(window.lookup(id(crate::wire::MAX_ID), 2), Seen::Repeat(1));
        assert_eq!(window.lookup(id(3), 1), Seen::Stale);
        window.record(id(crate::wire::MAX_ID - WINDOW + 1), 3, 1);
        let ring = window.older.unwrap();
        assert!(ring.answers.len() <= 1_024 && ring.hashes.len() == ring.answers.len());
    }

    #[test]
    fn a_window_takes_at_most_5_kib_for_any_ids() {
        let mut window = Replies::new();
        for n in [600, 601, 700, 1_000, 1_900] {
            window.record(id(n), 1, 1);
        }
        let ring = window.older.unwrap();
        assert!(ring.answers.capacity() <= 1_024 && ring.hashes.capacity() <= 1_024);
    }

    /// The reference model of a window: all recorded requests, and the lowest known id.
    #[derive(Default)]
    struct Model {
        recorded: std::collections::BTreeMap<u64, (u32, u8)>,
    }

    impl Model {
        fn lookup(&self, id: u64, hash: u32) -> Seen {
            let newest = self.recorded.keys().next_back().copied().unwrap_or(0);
            match self.recorded.get(&id) {
                _ if id + WINDOW <= newest => Seen::Stale,
                None => Seen::New,
                Some((known, answer)) if *known == hash => Seen::Repeat(*answer),
                Some(_) => Seen::Conflict,
            }
        }
    }

    fn next_id(rng: &mut ChaCha8Rng, newest: u64) -> u64 {
        match rng.random_range(0..20) {
            0..10 => newest + 1,
            10..14 => newest + rng.random_range(1..40),
            14 => newest + rng.random_range(1..1_500),
            15..18 => newest.saturating_sub(rng.random_range(0..40)).max(1),
            _ => newest.saturating_sub(rng.random_range(0..1_100)).max(1),
        }
    }

    #[test]
    fn a_window_that_widens_with_use_forgets_nothing_of_the_last_1024_ids() {
        for seed in 0..40 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut window, mut model, mut newest) = (Replies::new(), Model::default(), 0);
            for step in 0..1_500 {
                let at = next_id(&mut rng, newest);
                let hash = rng.random_range(0..2);
                let seen = window.lookup(id(at), hash);
                assert_eq!(seen, model.lookup(at, hash), "seed {seed}, step {step}, id {at}");
                if seen == Seen::New {
                    let (before, growth) = (window.cost(), window.growth_for(id(at)));
                    let answer = rng.random_range(1..=u8::MAX);
                    window.record(id(at), hash, answer);
                    assert!(at + WINDOW > newest && window.cost() <= before + growth, "seed {seed}, {step}");
                    model.recorded.insert(at, (hash, answer));
                    newest = newest.max(at);
                }
            }
        }
    }

    #[test]
    fn a_narrow_window_reports_forgotten_ids_as_stale_and_never_as_new() {
        let (mut repeats, mut stale) = (0, 0);
        for seed in 0..40 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut window, mut model, mut newest) = (Replies::new(), Model::default(), 0);
            for step in 0..1_500 {
                let at = next_id(&mut rng, newest);
                let (seen, is) = (window.lookup(id(at), 1), model.lookup(at, 1));
                repeats += usize::from(matches!(seen, Seen::Repeat(_)));
                stale += usize::from(seen == Seen::Stale && is != Seen::Stale);
                assert!(
                    seen == is || seen == Seen::Stale,
                    "seed {seed}, step {step}, id {at}: {seen:?}, {is:?}"
                );
                let near = at <= newest && at + LEAST_WIDTH >= newest;
                assert!(!near || seen == is, "seed {seed}, step {step}, id {at}");
                if seen != Seen::New {
                    continue;
                }
                let may_grow = rng.random_ratio(1, 100);
                let is_kept = may_grow || window.growth_for(id(at)) == 0 || window.narrow_for(id(at));
                if !is_kept {
                    assert_eq!(window.lookup(id(at), 1), Seen::Stale, "seed {seed}, step {step}, id {at}");
                    continue;
                }
                let before = window.cost();
                window.record(id(at), 1, 7);
                assert!(may_grow || window.cost() <= before, "seed {seed}, step {step}");
                model.recorded.insert(at, (1, 7));
                newest = newest.max(at);
            }
        }
        assert!(repeats > 1_000 && stale > 1_000, "{repeats} {stale}");
    }

    #[test]
    fn a_window_takes_the_least_until_more_ids_are_used() {
        let mut window = Replies::new();
        let mut costs = Vec::new();
        for n in 1..=2_000 {
            window.record(id(n), 1, 1);
            if costs.last() != Some(&window.cost()) {
                costs.push(window.cost());
            }
        }
        assert_eq!(costs, [0, 160, 480, 1_120, 2_400, 4_960]);
    }
}
