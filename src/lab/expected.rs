//! What the theory expects at a point: only where its assumptions hold, otherwise nothing.

use std::time::Duration;

use super::point::Point;
use super::theory;
use crate::link::{Delay, LinkConfig, LossModel};
use crate::reliable::{Backoff, Jitter, success};
use crate::units::Probability;

/// What the mathematics expect of the requests at a [`Point`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The share that is acked.
    pub success: f64,
    /// Sends per request.
    pub sends: f64,
    /// Executions per request where repeats are recognised.
    pub executions: f64,
    /// Executions per request where they are not.
    pub executions_without_dedup: f64,
    /// The mean time to an answer, in seconds, if there is an exact one.
    pub time: Option<f64>,
}

impl Expected {
    /// What is expected at `point`. `None` unless every datagram is lost on its own account and nothing else happens to
    /// it, the answer comes before the next send is due, and the number of sends does not depend on chance.
    #[must_use]
    pub fn at(point: &Point) -> Option<Self> {
        let (up, down) = (independent_loss(&point.up)?, independent_loss(&point.down)?);
        let round_trip = round_trip(point)?;
        let sends = sends_if_certain(&point.policy)?;
        Some(Self {
            success: success(up, down, sends),
            sends: theory::sends(up, down, sends),
            executions: theory::executed(up, sends),
            executions_without_dedup: theory::executions_without_dedup(up, down, sends),
            time: expected_time(point, up, down, round_trip),
        })
    }
}

/// The loss of a link that does nothing else but delay.
fn independent_loss(link: &LinkConfig) -> Option<Probability> {
    let only_loses = LinkConfig {
        loss: link.loss.clone(),
        delay: link.delay,
        reorder: link.reorder,
        ..LinkConfig::perfect()
    };
    match link.loss {
        _ if *link != only_loses => None,
        LossModel::None => Some(Probability::ZERO),
        LossModel::Bernoulli(p) => Some(p),
        _ => None,
    }
}

/// The constant round trip in seconds, if it is constant and shorter than every timeout.
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
    // A measured timeout is never shorter than the round trip that it measured, but may be as short.
    (whole < shortest && last && !(point.policy.adaptive() && whole >= point.policy.min_rto()))
        .then_some(whole.as_secs_f64())
}

fn constant(delay: Delay) -> Option<Duration> {
    (!delay.varies()).then(|| delay.mean().as_duration())
}

/// How many sends the policy allows, if that is always the same number.
fn sends_if_certain(policy: &Backoff) -> Option<u32> {
    let is_certain = policy.deadline().is_none() || policy.jitter() == Jitter::None;
    let sends = u32::try_from(policy.schedule().count()).ok()?;
    is_certain.then_some(sends)
}

fn expected_time(point: &Point, up: Probability, down: Probability, round_trip: f64) -> Option<f64> {
    if point.policy.adaptive() && round_trip > 0.0 {
        return None;
    }
    Some(theory::time_to_answer(&point.policy, up, down)? + round_trip)
}
