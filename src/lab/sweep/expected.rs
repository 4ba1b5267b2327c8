//! The theory's prediction for a point, where its assumptions hold. Losses that follow a clock are integrated in
//! `cyclic`.

use std::time::Duration;

use super::cyclic;
use super::point::Point;
use crate::link::{Delay, LinkConfig, LossModel};
use crate::reliable::theory;
use crate::reliable::{Backoff, Jitter, success};
use crate::units::Probability;

/// The expected results of requests at a [`Point`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Expected {
    /// The share of requests that is acked.
    pub(crate) success: f64,
    /// Sends per request.
    pub(crate) sends: f64,
    /// Executions per request where duplicates are recognised.
    pub(crate) executions: f64,
    /// Executions per request where they are not.
    pub(crate) executions_without_dedup: f64,
    /// The time to ack, if an exact value is known.
    pub(crate) time: Option<Time>,
    /// The share of the datagrams to the server that is lost.
    pub(crate) loss_up: f64,
    /// The share of the datagrams from it that is lost; `None` if there are none.
    pub(crate) loss_down: Option<f64>,
}

/// A time to ack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Time {
    /// In seconds.
    pub(crate) mean: f64,
    /// The standard deviation, in seconds, if an exact value is known.
    pub(crate) deviation: Option<f64>,
}

impl Expected {
    /// Returns the prediction for `point`. `None` unless the following holds: each datagram is lost independently or
    /// by a blackhole and is not impaired otherwise. The answer arrives before the next send is due, and the number of
    /// sends is not random. With a blackhole the times of the sends must not be random either. Each request must be due
    /// after the end of the one before.
    #[must_use]
    pub(crate) fn at(point: &Point) -> Option<Self> {
        if point.has_cycle() { Self::in_cycles(point) } else { Self::independent(point) }
    }

    /// Returns the share of datagrams, up and down, that the loss models are expected to drop. For a model that does
    /// not depend on the clock it is the model's rate, whatever the policy.
    #[must_use]
    pub(crate) fn losses(point: &Point) -> (Option<f64>, Option<f64>) {
        let of = |link: &LinkConfig| link.loss.rate().map(|rate| rate.get());
        match point.has_cycle() {
            false => (of(&point.up), of(&point.down)),
            true => Self::at(point)
                .map(|expected| (Some(expected.loss_up), expected.loss_down))
                .unwrap_or_default(),
        }
    }

    fn in_cycles(point: &Point) -> Option<Self> {
        let policy = &point.policy;
        let (up, down) = (only_loss(&point.up)?, only_loss(&point.down)?);
        let round_trip = round_trip(point)?;
        let is_fixed = policy.jitter() == Jitter::None && !policy.adaptive();
        if !is_fixed || point.interval < point.longest() {
            return None;
        }
        let offsets: Vec<Duration> = policy.schedule().collect();
        let means = cyclic::means(up, down, &offsets)?;
        let time = means
            .time()
            .map(|(mean, deviation)| Time { mean: mean + round_trip, deviation: Some(deviation) });
        Some(Self {
            success: means.success,
            sends: means.sends,
            executions: means.executed,
            executions_without_dedup: means.arrivals,
            time,
            loss_up: means.loss_up(),
            loss_down: means.loss_down(),
        })
    }

    fn independent(point: &Point) -> Option<Self> {
        let (up, down) = (independent_loss(&point.up)?, independent_loss(&point.down)?);
        let round_trip = round_trip(point)?;
        let sends = sends_if_certain(&point.policy)?;
        Some(Self {
            success: success(up, down, sends),
            sends: theory::sends(up, down, sends),
            executions: theory::executed(up, sends),
            executions_without_dedup: theory::executions_without_dedup(up, down, sends),
            time: expected_time(point, up, down, round_trip),
            loss_up: up.get(),
            loss_down: (up < Probability::ONE).then_some(down.get()),
        })
    }
}

/// Returns the loss model of a link whose only other impairment is delay.
fn only_loss(link: &LinkConfig) -> Option<&LossModel> {
    let only_loses = LinkConfig {
        loss: link.loss.clone(),
        delay: link.delay,
        reorder: link.reorder,
        ..LinkConfig::perfect()
    };
    (*link == only_loses).then_some(&link.loss)
}

/// Returns the loss of such a link, if it is independent.
fn independent_loss(link: &LinkConfig) -> Option<Probability> {
    match only_loss(link)? {
        LossModel::None => Some(Probability::ZERO),
        LossModel::Bernoulli(p) => Some(*p),
        _ => None,
    }
}

/// Returns the round trip in seconds, if it is constant and shorter than every timeout.
fn round_trip(point: &Point) -> Option<f64> {
    let whole = constant(point.up.delay)? + constant(point.down.delay)?;
    let shortest = match point.policy.jitter() {
        Jitter::None | Jitter::Initial(_) => point.policy.ack_timeout().min(point.policy.max_timeout()),
        _ if whole.is_zero() => return Some(0.0),
        _ => return None,
    };
    let last = point
        .policy
        .deadline()
        .is_none_or(|deadline| point.policy.schedule().last().is_none_or(|last| last + whole < deadline));
    // A measured timeout is never shorter than the measured round trip, but may equal it.
    (whole < shortest && last && !(point.policy.adaptive() && whole >= point.policy.min_rto()))
        .then_some(whole.as_secs_f64())
}

fn constant(delay: Delay) -> Option<Duration> {
    (!delay.varies()).then(|| delay.mean().as_duration())
}

/// Returns the number of sends of a request without an answer, if it is not random.
fn sends_if_certain(policy: &Backoff) -> Option<u32> {
    let is_certain = policy.deadline().is_none() || policy.jitter() == Jitter::None;
    let sends = u32::try_from(policy.schedule().count()).ok()?;
    is_certain.then_some(sends)
}

fn expected_time(point: &Point, up: Probability, down: Probability, round_trip: f64) -> Option<Time> {
    if point.policy.adaptive() && round_trip > 0.0 {
        return None;
    }
    let mean = theory::time_to_answer(&point.policy, up, down)? + round_trip;
    Some(Time { mean, deviation: theory::time_deviation(&point.policy, up, down) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::Preset;

    fn point(policy: Backoff, up: &str, down: &str) -> Point {
        let (up, down) = (up.parse().unwrap(), down.parse().unwrap());
        let point = Point { policy_name: "", policy, up, down, size: 1, interval: Duration::ZERO };
        Point { interval: point.default_interval(), ..point }
    }

    fn at(up: &str, down: &str) -> Option<Expected> {
        Expected::at(&point(Backoff::new(Duration::from_millis(100)).with_max_sends(5), up, down))
    }

    #[test]
    fn independent_losses_have_a_theory_also_behind_a_constant_delay() {
        let plain = at("iid:.5", "iid:.5").unwrap();
        assert!((plain.success - 0.7627).abs() < 1e-4);
        assert!((plain.executions_without_dedup - 1.5254).abs() < 1e-4);
        assert_eq!(plain.executions, 1.0 - 0.5_f64.powi(5));
        let delayed = at("iid:.5+delay:20ms", "iid:.5+delay:30ms").unwrap();
        assert_eq!((delayed.success, delayed.sends), (plain.success, plain.sends));
        assert!((delayed.time.unwrap().mean - plain.time.unwrap().mean - 0.05).abs() < 1e-12);
        assert_eq!(delayed.time.unwrap().deviation, plain.time.unwrap().deviation);
        assert_eq!(at("none", "none").unwrap().success, 1.0);
    }

    #[test]
    fn a_point_that_breaks_an_assumption_has_no_theory() {
        for up in [
            "gilbert:.1,5",
            "list:1",
            "blackhole:1,1+duplicate:.1",
            "iid:.1+delay:50ms,10ms",
            "iid:.1+duplicate:.1",
            "iid:.1+corrupt:.1",
            "iid:.1+mtu:500",
            "iid:.1+rate:1mbit",
            "delay:100ms",
        ] {
            assert_eq!(at(up, "none"), None, "{up}");
            assert_eq!(at("none", up), None, "{up}");
        }
    }

    #[test]
    fn a_blackhole_has_a_theory_where_sends_are_at_fixed_times_and_requests_apart() {
        let policy = Backoff::new(Duration::from_millis(500)).with_max_sends(5);
        let hole = point(policy.clone(), "blackhole:1,.5", "blackhole:1,.5+delay:100ms");
        let expected = Expected::at(&hole).unwrap();
        // A lost request is repeated after half a second, and so is one with a lost answer.
        assert!(expected.success > 0.99 && expected.loss_up < 1.0 / 3.0, "{expected:?}");
        assert_eq!(Expected::losses(&hole), (Some(expected.loss_up), expected.loss_down));
        let back_to_back = Point { interval: Duration::from_millis(500), ..hole.clone() };
        assert_eq!(Expected::at(&back_to_back), None);
        let jittered = Point { policy: policy.with_jitter(Jitter::Full), ..hole };
        assert_eq!((Expected::at(&jittered), Expected::losses(&jittered)), (None, (None, None)));
    }

    #[test]
    fn the_expected_loss_of_a_model_with_states_is_its_rate_and_a_list_has_none() {
        let policy = Backoff::new(Duration::from_secs(1));
        assert_eq!(
            Expected::losses(&point(policy.clone(), "gilbert:.1,5", "ge:.5,.5")),
            (Some(0.1), Some(0.5))
        );
        assert_eq!(Expected::losses(&point(policy, "list:1", "none")), (None, Some(0.0)));
    }

    #[test]
    fn a_number_of_sends_that_depends_on_chance_has_no_theory() {
        let sip = Preset::Sip.backoff();
        assert!(Expected::at(&point(sip.clone(), "iid:.1", "none")).is_some());
        let jittered = sip.with_jitter(Jitter::Full);
        assert_eq!(Expected::at(&point(jittered, "iid:.1", "none")), None);
    }

    #[test]
    fn a_measured_timeout_leaves_the_number_of_sends_but_not_their_times() {
        let expected = Expected::at(&point(Preset::Rto.backoff(), "iid:.1+delay:10ms", "none")).unwrap();
        assert_eq!(expected.time, None);
        assert!(expected.sends > 1.0);
    }
}
