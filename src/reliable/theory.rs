//! Formulas for one request under a retry policy, to compare measurements with.
//!
//! Assumptions: each datagram is lost independently, with probability `up` on its way to the server and `down` on its
//! way back. An answer that is not lost takes no time. [`success`](crate::reliable::success) is the probability of an
//! answer. Nothing here draws or measures.

use std::time::Duration;

use crate::reliable::backoff::SHORTEST;
use crate::reliable::{Backoff, Growth, Jitter};
use crate::units::{Factor, Probability};

/// The probability that one send is answered: its request and its answer both arrive.
fn answered(up: Probability, down: Probability) -> f64 {
    up.complement().get() * down.complement().get()
}

/// The mean number of sends of a request, of at most `max`: each happens if no earlier one was answered.
///
/// With s = (1 - up)(1 - down) that is the sum of (1 - s)^k for k below `max`: (1 - (1 - s)^max) / s.
#[must_use]
pub(crate) fn sends(up: Probability, down: Probability, max: u32) -> f64 {
    match answered(up, down) {
        0.0 => f64::from(max),
        // 1 - (1 - s)^max without the cancellation at tiny s.
        each => -(f64::from(max) * (-each).ln_1p()).exp_m1() / each,
    }
}

/// The mean number of executions by a server without a dedup window: one for each send that arrives.
#[must_use]
pub(crate) fn executions_without_dedup(up: Probability, down: Probability, max: u32) -> f64 {
    // Whether a send happens does not depend on its own loss, so the two multiply.
    sends(up, down, max) * up.complement().get()
}

/// The probability that a request is executed, of at most `max` sends, by a server that executes none twice: 1 -
/// up^max. Nothing else prevents the execution: until a send arrives there is not an answer, and the next send happens.
#[must_use]
pub(crate) fn executed(up: Probability, max: u32) -> f64 {
    1.0 - up.get().powf(f64::from(max))
}

/// The mean time to ack of an answered request, in seconds from its first send.
///
/// The first send that survives both ways brings the answer, so this is the mean of the sends' times, weighted by that
/// probability. `None` if no exact mean is known. That is so with no chance of an answer, with jitter and a deadline,
/// and with a jitter whose timeouts the cap may cut depending on earlier draws. It is so too with an adaptive policy
/// whose measured timeout would differ from its first one.
#[must_use]
pub(crate) fn time_to_answer(policy: &Backoff, up: Probability, down: Probability) -> Option<f64> {
    let each = answered(up, down);
    if each == 0.0 || is_moved_by_measuring(policy) {
        return None;
    }
    let (mut weight, mut total, mut weighted) = (each, 0.0, 0.0);
    for at in mean_offsets(policy)? {
        total += weight;
        weighted += weight * at;
        weight *= 1.0 - each;
    }
    (total > 0.0).then(|| weighted / total)
}

/// The standard deviation of that time, in seconds. `None` if no exact value is known: as for the mean, and with any
/// jitter but `initial`.
#[must_use]
pub(crate) fn time_deviation(policy: &Backoff, up: Probability, down: Probability) -> Option<f64> {
    let mean = time_to_answer(policy, up, down)?;
    // A uniform stretch from 1 to F has the mean (1 + F) / 2 and the mean square (1 + F + F^2) / 3.
    let stretch = match policy.jitter() {
        Jitter::None => 1.0,
        Jitter::Initial(factor) => (1.0 + factor.get() + factor.get() * factor.get()) / 3.0,
        _ => return None,
    };
    let each = answered(up, down);
    let (mut weight, mut total, mut squares) = (each, 0.0, 0.0);
    for at in policy.schedule().map(|at| at.as_secs_f64()) {
        total += weight;
        squares += weight * at * at * stretch;
        weight *= 1.0 - each;
    }
    Some((squares / total - mean * mean).max(0.0).sqrt())
}

/// Whether the timeout measured without delay, which is the floor, differs from the first one.
fn is_moved_by_measuring(policy: &Backoff) -> bool {
    policy.adaptive() && policy.min_rto() != policy.ack_timeout()
}

/// The mean times of the sends in seconds from the first, if known.
pub(super) fn mean_offsets(policy: &Backoff) -> Option<Vec<f64>> {
    let plain = || policy.schedule().map(|at| at.as_secs_f64());
    match policy.jitter() {
        Jitter::None => Some(plain().collect()),
        _ if policy.deadline().is_some() => None,
        Jitter::Initial(factor) => {
            let stretch = f64::midpoint(1.0, factor.get());
            (!is_capped(policy, factor)).then(|| plain().map(|at| at * stretch).collect())
        }
        Jitter::Decorrelated => decorrelated(policy),
        Jitter::Full => Some(summed(policy, 0.0, 1.0)),
        Jitter::Equal => Some(summed(policy, 0.5, 1.0)),
        Jitter::Ratio(ratio) => Some(summed(policy, 1.0 - ratio.get(), 1.0 + ratio.get())),
    }
}

/// Whether the cap can cut a timeout before the last send, if the first one is stretched by up to `factor`.
fn is_capped(policy: &Backoff, factor: Factor) -> bool {
    let steps = f64::from(policy.max_retransmit().saturating_sub(1));
    let growth = match policy.growth() {
        Growth::Fixed => 1.0,
        Growth::Linear => 1.0 + steps,
        Growth::Exponential { factor } => factor.get().powf(steps),
    };
    let longest = policy.ack_timeout().as_secs_f64() * factor.get() * growth;
    longest > policy.max_timeout().as_secs_f64()
}

/// Timeouts drawn independently, uniform from `low` to `high` times their base.
fn summed(policy: &Backoff, low: f64, high: f64) -> Vec<f64> {
    let cap = policy.max_timeout().as_secs_f64();
    let mean =
        |timeout: f64| clamped_mean(timeout * low, timeout * high, timeout.min(SHORTEST.as_secs_f64()), cap);
    let offsets: Vec<Duration> = policy.schedule().collect();
    let timeouts = offsets.windows(2).map(|pair| match pair {
        [from, to] => (*to - *from).as_secs_f64(),
        _ => 0.0,
    });
    let later = timeouts.scan(0.0, |at, timeout| {
        *at += mean(timeout);
        Some(*at)
    });
    std::iter::once(0.0).chain(later).collect()
}

/// The mean of a uniform distribution from `low` to `high`, clamped to `least` and `most`; `low` is at most `most`, and
/// `least` at most `high`.
fn clamped_mean(low: f64, high: f64, least: f64, most: f64) -> f64 {
    if high <= low {
        return low.clamp(least, most.max(least));
    }
    let (from, to) = (low.max(least), high.min(most));
    let inside = (to - from) * f64::midpoint(from, to);
    let below = (least - low).max(0.0) * least;
    let above = (high - most).max(0.0) * most;
    (inside + below + above) / (high - low)
}

/// Each timeout is uniform between the first and three times the previous one: its mean is the midpoint, if nothing
/// cuts any of them.
fn decorrelated(policy: &Backoff) -> Option<Vec<f64>> {
    let (first, cap) = (policy.ack_timeout().as_secs_f64(), policy.max_timeout().as_secs_f64());
    let longest = first * 3_f64.powf(f64::from(policy.max_retransmit()));
    if policy.ack_timeout() < SHORTEST || longest > cap {
        return None;
    }
    let (mut at, mut timeout) = (0.0, first);
    let mut offsets = vec![at];
    for _ in 0..policy.max_retransmit() {
        timeout = f64::midpoint(first, 3.0 * timeout);
        at += timeout;
        offsets.push(at);
    }
    Some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::Preset;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use std::time::Instant;

    fn p(value: f64) -> Probability {
        Probability::new(value).unwrap()
    }

    fn secs(length: f64) -> Duration {
        Duration::from_secs_f64(length)
    }

    /// One possible course of a request: its probability and its events.
    struct Story {
        weight: f64,
        sends: u32,
        arrived: u32,
        /// The send that was answered, counted from 0.
        answered: Option<usize>,
    }

    /// All courses of `max` sends: each is lost on the way there, lost on the way back, or answered, which ends it.
    fn stories(up: f64, down: f64, max: u32) -> Vec<Story> {
        let mut ended = Vec::new();
        let mut open = vec![Story { weight: 1.0, sends: 0, arrived: 0, answered: None }];
        for send in 0..max {
            let mut next = Vec::new();
            for Story { weight, arrived, .. } in open {
                let sends = send + 1;
                let step =
                    |part: f64, arrived, answered| Story { weight: weight * part, sends, arrived, answered };
                next.push(step(up, arrived, None));
                next.push(step((1.0 - up) * down, arrived + 1, None));
                let both_ways = step((1.0 - up) * (1.0 - down), arrived + 1, Some(send as usize));
                ended.push(both_ways);
            }
            open = next;
        }
        ended.extend(open);
        ended
    }

    fn mean(stories: &[Story], of: impl Fn(&Story) -> f64) -> f64 {
        stories.iter().map(|story| story.weight * of(story)).sum()
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-12 * one.abs().max(1.0)
    }

    const LOSSES: [f64; 6] = [0.0, 0.1, 0.3, 0.5, 0.9, 1.0];

    fn every_case() -> impl Iterator<Item = (f64, f64, u32)> {
        LOSSES
            .into_iter()
            .flat_map(|up| LOSSES.map(|down| (up, down)))
            .flat_map(|(up, down)| (1..=7).map(move |max| (up, down, max)))
    }

    #[test]
    fn sends_and_executions_equal_a_full_enumeration() {
        for (up, down, max) in every_case() {
            let all = stories(up, down, max);
            assert!(close(all.iter().map(|story| story.weight).sum(), 1.0));
            let case = format!("{up} {down} {max}");
            assert!(close(sends(p(up), p(down), max), mean(&all, |story| f64::from(story.sends))), "{case}");
            let arrived = mean(&all, |story| f64::from(story.arrived));
            assert!(close(executions_without_dedup(p(up), p(down), max), arrived), "{case}");
            let once = mean(&all, |story| f64::from(story.arrived.min(1)));
            assert!(close(executed(p(up), max), once), "{case}");
        }
    }

    #[test]
    fn all_sends_happen_if_an_answer_is_nearly_impossible() {
        let almost = p(1.0 - f64::EPSILON / 2.0);
        assert!(close(sends(almost, almost, 5), 5.0));
        assert!(close(sends(almost, p(0.0), 1_000), 1_000.0));
    }

    #[test]
    fn executions_without_a_dedup_window_are_those_in_the_docs() {
        let shown =
            [0.1, 0.3, 0.5].map(|loss| format!("{:.2}", executions_without_dedup(p(loss), p(loss), 5)));
        assert_eq!(shown, ["1.11", "1.38", "1.53"]);
        let once = [0.1, 0.3, 0.5].map(|loss| format!("{:.3}", executed(p(loss), 5)));
        assert_eq!(once, ["1.000", "0.998", "0.969"]);
    }

    #[test]
    fn the_time_to_ack_without_jitter_equals_a_full_enumeration() {
        let doubling = Growth::Exponential { factor: Factor::TWO };
        for (up, down, max) in every_case() {
            let policy = Backoff::new(secs(0.1)).with_growth(doubling).with_max_sends(max);
            let offsets: Vec<f64> = policy.schedule().map(|at| at.as_secs_f64()).collect();
            let all = stories(up, down, max);
            let chance = mean(&all, |story| f64::from(u8::from(story.answered.is_some())));
            let time = mean(&all, |story| story.answered.map_or(0.0, |send| offsets[send]));
            match time_to_answer(&policy, p(up), p(down)) {
                Some(exact) => assert!(close(exact, time / chance), "{up} {down} {max}: {exact}"),
                None => assert!(chance == 0.0, "{up} {down} {max}"),
            }
        }
    }

    #[test]
    fn a_deadline_ends_the_sends_that_count() {
        let policy = Backoff::new(secs(1.0)).with_max_sends(9).with_deadline(Some(secs(1.5)));
        // Sends at 0 s and 1 s; the second is needed with (1/2)(1/2) of (1/2) + (1/2)(1/2).
        assert!(close(time_to_answer(&policy, p(0.5), p(0.0)).unwrap(), 1.0 / 3.0));
    }

    /// The mean time to ack over many draws of the real attempts, with its standard error.
    fn drawn(policy: &Backoff, up: f64, down: f64) -> (f64, f64) {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        let start = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let each = (1.0 - up) * (1.0 - down);
        let (mut times, mut squares, mut weights) = (0.0, 0.0, 0.0);
        let rounds = 40_000;
        for _ in 0..rounds {
            let (mut now, mut weight, mut attempts) = (start, each, policy.start(&mut rng));
            let (mut time, mut total) = (0.0, 0.0);
            while let Some(due) = attempts.send(now, None, &mut rng) {
                time += weight * (now - start).as_secs_f64();
                total += weight;
                weight *= 1.0 - each;
                now = due;
            }
            (times, squares, weights) =
                (times + time / total, squares + (time / total).powi(2), weights + 1.0);
        }
        let mean = times / weights;
        (mean, ((squares / weights - mean * mean).max(0.0) / weights).sqrt())
    }

    #[test]
    fn the_time_to_ack_with_jitter_is_the_mean_of_real_attempts() {
        let doubling = Backoff::new(secs(0.1)).with_growth(Growth::Exponential { factor: Factor::TWO });
        for jitter in ["initial:1.5", "full", "equal", "ratio:.2", "ratio:1", "decorrelated"] {
            for policy in [
                doubling.clone().with_jitter(jitter.parse().unwrap()),
                Backoff::new(secs(0.1)).with_growth(Growth::Linear).with_jitter(jitter.parse().unwrap()),
            ] {
                let exact = time_to_answer(&policy, p(0.5), p(0.3)).unwrap();
                let (mean, error) = drawn(&policy, 0.5, 0.3);
                assert!((exact - mean).abs() < 4.0 * error, "{jitter}: {exact}, drawn {mean} +- {error}");
            }
        }
        // The cap, or the shortest possible timeout, changes the draws.
        for (jitter, first, cap) in [("ratio:.5", 1.0, 1.2), ("full", 0.002, 60.0), ("equal", 0.0015, 60.0)] {
            let jitter = jitter.parse().unwrap();
            let policy = Backoff::new(secs(first)).with_max_timeout(secs(cap)).with_jitter(jitter);
            let exact = time_to_answer(&policy, p(0.5), p(0.3)).unwrap();
            let (mean, error) = drawn(&policy, 0.5, 0.3);
            assert!((exact - mean).abs() < 4.0 * error, "{jitter}: {exact}, drawn {mean} +- {error}");
        }
    }

    #[test]
    fn no_mean_is_returned_where_no_exact_one_is_known() {
        let half = p(0.5);
        let policy = Backoff::new(secs(1.0)).with_growth(Growth::Exponential { factor: Factor::TWO });
        assert_eq!(time_to_answer(&policy, p(1.0), half), None);
        let capped = policy.clone().with_max_timeout(secs(8.0));
        assert!(time_to_answer(&capped, half, half).is_some());
        let initial: Jitter = "initial:1.5".parse().unwrap();
        // Four timeouts, of up to 1.5 s, 3 s, 6 s and 12 s.
        assert_eq!(time_to_answer(&capped.clone().with_jitter(initial), half, half), None);
        assert!(
            time_to_answer(&capped.with_max_timeout(secs(12.0)).with_jitter(initial), half, half).is_some()
        );
        assert_eq!(
            time_to_answer(
                &policy.clone().with_max_timeout(secs(9.0)).with_jitter(Jitter::Decorrelated),
                half,
                half
            ),
            None
        );
        assert_eq!(
            time_to_answer(&policy.with_jitter(Jitter::Full).with_deadline(Some(secs(9.0))), half, half),
            None
        );
    }

    #[test]
    fn only_the_preset_whose_measured_timeout_differs_has_no_exact_mean() {
        let half = p(0.5);
        let unknown =
            Preset::ALL.into_iter().filter(|preset| time_to_answer(&preset.backoff(), half, half).is_none());
        assert_eq!(unknown.collect::<Vec<_>>(), [Preset::QuicPto]);
        let coap = time_to_answer(&Preset::Coap.backoff(), half, half).unwrap();
        let plain = time_to_answer(&Preset::Coap.backoff().with_jitter(Jitter::None), half, half).unwrap();
        assert!(close(coap, 1.25 * plain));
    }
}
