//! Applies a loss model, datagram by datagram, and counts the losses.

use std::time::{Duration, Instant};

use crate::link::flows::MAX_FLOWS;
use crate::link::loss::LossModel;
use crate::link::markov::{Chain, ChainState};
use crate::link::recent::Recent;
use crate::link::rng::{Direction, Drawn, Draws};
use crate::units::Seconds;

/// The loss decisions of one direction, and their counters, for code that drops datagrams.
///
/// The caller passes flow and index, for instance from [`Flows`](super::Flows). A verdict is a function of seed,
/// direction, flow and index; only a blackhole depends on the time. For a model with memory, the state of the last
/// `MAX_FLOWS` flows is kept, which makes sequential queries fast and changes no verdict.
#[derive(Clone, Debug)]
pub struct Verdicts {
    draws: Draws,
    model: LossModel,
    chain: Option<Chain>,
    /// The last queried index, and its state, by flow.
    states: Recent<u64, Option<(u64, ChainState)>>,
    /// Start of a blackhole.
    origin: Option<Instant>,
    /// The elapsed part of a blackhole's cycle at that time.
    phase: Duration,
    seen: u64,
    lost: u64,
}

impl Verdicts {
    /// Creates the verdicts of `model` in one direction under `seed`.
    #[must_use]
    pub fn new(model: LossModel, seed: u64, direction: Direction) -> Self {
        Self::with_draws(model, Draws::new(seed, direction))
    }

    fn with_draws(model: LossModel, draws: Draws) -> Self {
        Self {
            draws,
            chain: model.chain(),
            model,
            states: Recent::with_limit(MAX_FLOWS),
            origin: None,
            phase: Duration::ZERO,
            seen: 0,
            lost: 0,
        }
    }

    /// Whether datagram `index` of `flow`, sent at `now`, is lost; counts it.
    pub fn lost(&mut self, now: Instant, flow: u64, index: u64) -> bool {
        let drawn = self.model.draws().then(|| self.draws.in_order(flow, index));
        self.judge(now, flow, index, drawn)
    }

    /// The same with existing draws; without draws, a model that needs them loses nothing.
    pub(super) fn judge(&mut self, now: Instant, flow: u64, index: u64, drawn: Option<Drawn>) -> bool {
        let lost = match (&self.model, drawn) {
            (LossModel::None, _) => false,
            (LossModel::Bernoulli(p), Some(drawn)) => p.happens(drawn.loss),
            (LossModel::List(list), _) => list.holds_index(index),
            (LossModel::Blackhole { on, off }, _) => {
                let elapsed = now.saturating_duration_since(*self.origin.get_or_insert(now));
                is_off(elapsed.as_nanos() + self.phase.as_nanos(), *on, *off)
            }
            (_, Some(drawn)) => self.is_lost_in_chain(flow, index, &drawn),
            (_, None) => false,
        };
        self.seen += 1;
        self.lost += u64::from(lost);
        lost
    }

    fn is_lost_in_chain(&mut self, flow: u64, index: u64, drawn: &Drawn) -> bool {
        let Some(chain) = &self.chain else { return false };
        let known = self.states.touch(&flow, || None);
        let state = match *known {
            Some((last, state)) if last.checked_add(1) == Some(index) => chain.after(state, drawn.state),
            None if index == 0 => chain.first(drawn.state),
            earlier => {
                let earlier = earlier.filter(|(last, _)| *last <= index);
                chain.state_at(index, earlier, |index| self.draws.at(flow, index).state)
            }
        };
        *known = Some((index, state));
        chain.loses(state, drawn.loss)
    }

    /// Starts a blackhole's cycle at `now`, unless it has started; by default the first datagram does.
    pub fn begin(&mut self, now: Instant) {
        self.origin.get_or_insert(now);
    }

    /// Sets the elapsed part of a blackhole's cycle at its start; 0 by default.
    pub(super) fn set_phase(&mut self, phase: Duration) {
        self.phase = phase;
    }

    /// Changes the model. It judges as if it had been in force from the beginning of each flow; a blackhole starts with
    /// the next datagram. The counters stay.
    pub fn set_model(&mut self, model: LossModel) {
        let fresh = Self::with_draws(model, self.draws.clone());
        *self = Self { seen: self.seen, lost: self.lost, ..fresh };
    }

    /// The same model and draws with separate counters, for code that judges elsewhere and reports with
    /// [`Verdicts::count`].
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self {
            origin: self.origin,
            phase: self.phase,
            ..Self::with_draws(self.model.clone(), self.draws.clone())
        }
    }

    /// Adds the counters of a [`sibling`](Verdicts::sibling).
    pub fn count(&mut self, seen: u64, lost: u64) {
        self.seen += seen;
        self.lost += lost;
    }

    #[cfg(test)]
    pub(super) fn states_kept(&self) -> usize {
        self.states.len()
    }

    /// The loss model.
    #[must_use]
    pub fn model(&self) -> &LossModel {
        &self.model
    }

    /// The source of the draws.
    #[must_use]
    pub fn draws(&self) -> &Draws {
        &self.draws
    }

    /// The draws of a datagram; fastest in order.
    pub(super) fn draw(&mut self, flow: u64, index: u64) -> Drawn {
        self.draws.in_order(flow, index)
    }

    /// The number of datagrams judged.
    #[must_use]
    pub fn seen_count(&self) -> u64 {
        self.seen
    }

    /// The number of datagrams lost.
    #[must_use]
    pub fn lost_count(&self) -> u64 {
        self.lost
    }

    /// The realised loss, to show beside [`LossModel::rate`]; `None` if there were no datagrams.
    #[must_use]
    pub fn realised_loss(&self) -> Option<f64> {
        (self.seen > 0).then(|| self.lost as f64 / self.seen as f64)
    }
}

/// Whether a blackhole drops a datagram this many nanoseconds after its start.
fn is_off(elapsed: u128, on: Seconds, off: Seconds) -> bool {
    let (on, off) = (on.as_duration().as_nanos(), off.as_duration().as_nanos());
    elapsed.checked_rem(on + off).is_some_and(|phase| phase >= on)
}
