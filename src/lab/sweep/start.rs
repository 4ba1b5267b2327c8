//! Initial states of a session's loss models, so that sessions of any length meet the requested loss.
//!
//! A blackhole begins at a random phase. A model with states begins in the state of a long-running session at the
//! start of a request. That is not the model's stationary distribution: requests end with an answer, so most of them
//! begin in a state of low loss. A session of one request that began in the stationary distribution would send most of
//! its datagrams during bursts. Therefore uncounted requests are first played on the verdicts alone, until the models
//! have forgotten their initial state. The session's datagrams have the indices after those.

use std::hash::Hasher as _;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::point::Point;
use crate::link::{Direction, LossModel, Start, Verdicts};
use crate::units::uniform;

/// Bound on the requests played before a session.
pub(super) const MAX_PLAYED: u64 = 8_192;

/// Bound on their datagrams to the server.
const MAX_DATAGRAMS: u64 = 4 * MAX_PLAYED;

/// Returns where the links to and from the server begin in a session at `point` under `seed`.
#[must_use]
pub(super) fn starts(now: Instant, point: &Point, seed: u64) -> (Start, Start) {
    let (up, down) = played(now, point, seed);
    (
        Start { index: up, phase: phase(&point.up.loss, seed, Direction::Up) },
        Start { index: down, phase: phase(&point.down.loss, seed, Direction::Down) },
    )
}

/// Returns the elapsed part of a blackhole's cycle: evenly distributed over the seeds.
fn phase(model: &LossModel, seed: u64, direction: Direction) -> Duration {
    let Some(cycle) = model.cycle() else { return Duration::ZERO };
    let mut hasher = SipHasher13::new_with_keys(seed, direction as u64);
    hasher.write(b"sayagain phase v1");
    uniform(Duration::ZERO, cycle.saturating_sub(Duration::from_nanos(1)), hasher.finish())
}

/// Returns the number of requests to play before a session at this point. It may exceed [`MAX_PLAYED`], which is
/// applied later.
#[must_use]
pub(super) fn wanted(point: &Point) -> u64 {
    let memory =
        |model: &LossModel| model.memory().unwrap_or_else(|| u64::from(model.has_states()) * MAX_PLAYED);
    let (up, down) = (memory(&point.up.loss), memory(&point.down.loss));
    // A lost request gets no answer.
    let arriving = point.up.loss.rate().map_or(1.0, |rate| rate.complement().get());
    let answers = down.saturating_mul(rounded_up(1.0 / arriving));
    up.max(answers)
}

/// Rounds a factor up to a whole number, from 1 to [`MAX_PLAYED`].
fn rounded_up(factor: f64) -> u64 {
    (1..=MAX_PLAYED).find(|whole| *whole as f64 >= factor).unwrap_or(MAX_PLAYED)
}

/// Plays requests on the verdicts. Returns the number of datagrams up and down for models with states, and 0 for
/// others.
fn played(now: Instant, point: &Point, seed: u64) -> (u64, u64) {
    let requests = wanted(point).min(MAX_PLAYED);
    if requests == 0 {
        return (0, 0);
    }
    let sends = point.policy.schedule().count();
    let [mut up, mut down] = [(&point.up.loss, Direction::Up), (&point.down.loss, Direction::Down)]
        .map(|(model, direction)| DirectionLosses::new(model, seed, direction));
    for _ in 0..requests {
        for _ in 0..sends {
            if !up.loses(now) && !down.loses(now) {
                break;
            }
        }
        if up.index >= MAX_DATAGRAMS {
            break;
        }
    }
    (up.begin(), down.begin())
}

/// The losses of one direction while requests are played.
struct DirectionLosses {
    verdicts: Verdicts,
    index: u64,
    has_states: bool,
}

impl DirectionLosses {
    fn new(model: &LossModel, seed: u64, direction: Direction) -> Self {
        // Lists and blackholes begin with the session, so they lose nothing before it.
        let is_timeless = !matches!(model, LossModel::List(_) | LossModel::Blackhole { .. });
        let played = if is_timeless { model.clone() } else { LossModel::None };
        Self { has_states: model.has_states(), verdicts: Verdicts::new(played, seed, direction), index: 0 }
    }

    fn loses(&mut self, now: Instant) -> bool {
        self.index += 1;
        self.verdicts.lost(now, 0, self.index - 1)
    }

    fn begin(&self) -> u64 {
        if self.has_states { self.index } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::Backoff;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn point(up: &str, down: &str) -> Point {
        let policy = Backoff::new(Duration::from_millis(100));
        let (up, down) = (up.parse().unwrap(), down.parse().unwrap());
        Point { policy_name: "fixed", policy, up, down, size: 1, interval: Duration::ZERO }
    }

    #[test]
    fn only_models_with_states_begin_later_and_only_blackholes_at_a_phase() {
        for (up, down) in [("iid:.5", "none"), ("list:1,2", "iid:.1"), ("none", "list:3")] {
            assert_eq!(
                starts(origin(), &point(up, down), 5),
                (Start::default(), Start::default()),
                "{up} {down}"
            );
        }
        let (up, down) = starts(origin(), &point("gilbert:.1,5", "list:1"), 5);
        assert!(up.index > 16 && down.index == 0, "{up:?} {down:?}");
        let (up, down) = starts(origin(), &point("blackhole:2,1", "blackhole:2,1"), 5);
        assert!(up.phase < Duration::from_secs(3) && up.phase != down.phase && up.index == 0);
    }

    #[test]
    fn phases_are_evenly_distributed_over_the_cycle() {
        let model = point("blackhole:3,1", "none").up.loss;
        let phases = (0..4_000).map(|seed| phase(&model, seed, Direction::Up));
        let last = phases.filter(|phase| *phase >= Duration::from_secs(3)).count();
        // A quarter, with a standard error of 27.4.
        assert!((918..=1_082).contains(&last), "{last}");
    }

    #[test]
    fn the_number_of_played_requests_is_bounded_for_every_model() {
        for model in ["gilbert:.5,1", "gilbert:.5,1000000", "gilbert:1,5", "ge:0,0", "gilbert:.000001,1000"] {
            let point = point(model, "gilbert:.9,20");
            let begun = starts(origin(), &point, 1).0.index;
            assert!(begun <= MAX_DATAGRAMS + 5, "{model}: {begun}");
        }
    }
}
