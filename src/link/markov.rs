//! Markov chains for loss models with memory.
//!
//! The state at an index is a pure function of the draws. At index 0 it is drawn from the stationary distribution, so
//! that the formulas hold from the first datagram on. At every other index, the `state` draw maps each state to its
//! successor. To find a state without computing all earlier ones, these maps are composed backwards (coupling from the
//! past, Propp and Wilson 1996). That ends when all states lead to the same one, or at index 0, a multiple of 2^20, or
//! an index with a known state.

use crate::link::rng::unit;
use crate::units::Probability;

/// The most states of a chain.
const STATES: usize = 4;

/// The chain restarts from its stationary distribution at multiples of this index, which bounds the search backwards.
/// Realistic models have no longer runs.
const RESTART: u64 = 1 << 20;

/// The remaining influence of the initial state, in total variation, at which it counts as forgotten.
const FORGOTTEN: f64 = 0.01;

/// The number of a state, below [`STATES`].
pub(super) type ChainState = u8;

/// The successor of each state.
type Map = [ChainState; STATES];

/// A Markov chain with up to four states, and the loss probability in each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chain {
    /// For each state, the probabilities that the next one is at most 0, 1, 2, 3. Unused states repeat a used one.
    next: [[f64; STATES]; STATES],
    /// The same for the state at index 0.
    first: [f64; STATES],
    /// The loss probability in each state.
    loss: [Probability; STATES],
}

impl Chain {
    /// A bad state 0 and a good state 1. It changes from good to bad with probability `p`, and back with `r`. At index
    /// 0 it is bad with probability `bad`.
    pub(super) fn two(p: f64, r: f64, bad: f64, loss_bad: Probability, loss_good: Probability) -> Self {
        // Ordered so that one draw takes both states to the same successor as often as possible.
        let row = |to_bad: f64| [to_bad, 1.0, 1.0, 1.0];
        Self {
            next: [row(1.0 - r), row(p), row(p), row(p)],
            first: row(bad),
            loss: [loss_bad, loss_good, loss_good, loss_good],
        }
    }

    /// Creates a chain of four states from cumulated rows; see the fields.
    pub(super) fn four(next: [[f64; STATES]; STATES], first: [f64; STATES], lossy: [bool; STATES]) -> Self {
        let loss = lossy.map(|lossy| if lossy { Probability::ONE } else { Probability::ZERO });
        Self { next, first, loss }
    }

    /// The number of datagrams after which the initial state no longer matters. It is the least power of two after
    /// which the distributions of any two states differ by at most 1 % in total variation. `None` beyond [`RESTART`],
    /// as for a chain that alternates or never moves.
    pub(super) fn memory(&self) -> Option<u64> {
        let mut after: [[f64; STATES]; STATES] = self.next.each_ref().map(|row| {
            let [zero, one, two, three] = *row;
            [zero, one - zero, two - one, three - two]
        });
        let mut datagrams = 1;
        while spread(&after) > FORGOTTEN {
            datagrams *= 2;
            if datagrams > RESTART {
                return None;
            }
            after = squared(&after);
        }
        Some(datagrams)
    }

    /// The state at index 0.
    pub(super) fn first(&self, draw: u64) -> ChainState {
        pick(&self.first, draw)
    }

    /// The successor of `state`, by the `state` draw of the new index.
    pub(super) fn after(&self, state: ChainState, draw: u64) -> ChainState {
        self.next.get(usize::from(state)).map_or(state, |row| pick(row, draw))
    }

    /// Whether a datagram in this state is lost.
    pub(super) fn loses(&self, state: ChainState, draw: u64) -> bool {
        self.loss.get(usize::from(state)).is_some_and(|p| p.happens(draw))
    }

    /// The state at `index`. `draw` returns the `state` draw of each index, and `known` is an index at or before this
    /// one with its state.
    pub(super) fn state_at(
        &self,
        index: u64,
        known: Option<(u64, ChainState)>,
        draw: impl Fn(u64) -> u64,
    ) -> ChainState {
        let mut onwards: Map = [0, 1, 2, 3];
        let mut at = index;
        loop {
            if let Some((_, state)) = known.filter(|(known, _)| *known == at) {
                return apply(&onwards, state);
            }
            if at.is_multiple_of(RESTART) {
                return apply(&onwards, self.first(draw(at)));
            }
            let drawn = draw(at);
            onwards = self.next.each_ref().map(|row| apply(&onwards, pick(row, drawn)));
            let [one, others @ ..] = onwards;
            if others.iter().all(|other| *other == one) {
                return one;
            }
            at -= 1;
        }
    }
}

/// The largest distance between two rows of a transition matrix, in total variation.
fn spread(rows: &[[f64; STATES]; STATES]) -> f64 {
    let apart = |one: &[f64; STATES], other: &[f64; STATES]| -> f64 {
        one.iter().zip(other).map(|(one, other)| (one - other).abs()).sum::<f64>() / 2.0
    };
    rows.iter().flat_map(|one| rows.iter().map(move |other| apart(one, other))).fold(0.0, f64::max)
}

/// The transition matrix of twice as many steps.
fn squared(rows: &[[f64; STATES]; STATES]) -> [[f64; STATES]; STATES] {
    rows.each_ref().map(|row| {
        let mut sums = [0.0; STATES];
        for (part, through) in row.iter().zip(rows) {
            sums.iter_mut().zip(through).for_each(|(sum, to)| *sum += part * to);
        }
        sums
    })
}

fn apply(map: &Map, state: ChainState) -> ChainState {
    map.get(usize::from(state)).copied().unwrap_or(state)
}

/// The first state whose cumulated probability exceeds the draw.
fn pick(cumulated: &[f64; STATES], draw: u64) -> ChainState {
    let at = unit(draw);
    let [zero, one, two, _] = cumulated;
    ChainState::from(at >= *zero) + ChainState::from(at >= *one) + ChainState::from(at >= *two)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::rng::{Direction, Draws};

    #[test]
    fn a_state_found_by_looking_back_is_the_one_reached_by_walking() {
        let zero = Probability::ZERO;
        let draws = Draws::new(4, Direction::Up);
        let draw = |index| draws.at(0, index).state;
        let alternating = Chain::two(1.0, 1.0, 0.5, zero, zero);
        let frozen = Chain::two(0.0, 0.0, 0.5, zero, zero);
        let slow = Chain::two(0.002, 0.001, 2.0 / 3.0, zero, zero);
        let rows = [[0.7, 0.7, 0.8, 1.0], [0.2, 0.5, 0.5, 1.0], [0.3, 0.3, 1.0, 1.0], [0.1, 0.2, 0.2, 1.0]];
        let four = Chain::four(rows, [0.4, 0.5, 0.7, 1.0], [true, false, false, true]);
        for chain in [alternating, frozen, slow, four] {
            let mut walked = chain.first(draw(0));
            for index in 1..600 {
                let before = walked;
                walked = chain.after(walked, draw(index));
                assert_eq!(chain.state_at(index, None, draw), walked, "{chain:?} at {index}");
                assert_eq!(chain.state_at(index, Some((index - 1, before)), draw), walked);
                assert_eq!(chain.state_at(index, Some((index, walked)), draw), walked);
            }
        }
    }

    #[test]
    fn a_chain_forgets_where_it_began_as_its_second_eigenvalue_says() {
        let (zero, one) = (Probability::ZERO, Probability::ONE);
        // The rows of n steps differ by |1 - p - r|^n.
        for (p, r, memory) in [(0.1, 0.9, 1), (0.02, 0.2, 32), (0.003, 1.0 / 32.0, 256), (0.5, 0.1, 8)] {
            let chain = Chain::two(p, r, p / (p + r), one, zero);
            assert_eq!(chain.memory(), Some(memory), "{p} {r}");
        }
        for (p, r) in [(1.0, 1.0), (0.0, 0.0)] {
            assert_eq!(Chain::two(p, r, 0.5, one, zero).memory(), None, "{p} {r}");
        }
    }

    #[test]
    fn looking_back_ends_where_all_states_have_met() {
        let looked = std::cell::Cell::new(0);
        let draws = Draws::new(4, Direction::Up);
        let chain = Chain::two(0.1, 0.5, 1.0 / 6.0, Probability::ONE, Probability::ZERO);
        for index in 0..1_000 {
            chain.state_at(1_000_000 + index, None, |index| {
                looked.set(looked.get() + 1);
                draws.at(0, index).state
            });
        }
        // One draw separates the states with probability 1 - r - p = .4, so 1/.6 draws are needed on average, with a
        // standard deviation of sqrt(.4)/.6.
        assert!((f64::from(looked.get()) - 1_000.0 / 0.6).abs() < 3.0 * 33.4, "{}", looked.get());
    }
}
