//! The sends of one message: a retry policy at work.

use std::time::{Duration, Instant};

use rand::Rng;

use super::backoff::{Backoff, Jitter, SHORTEST, Steps, in_range};
use crate::units::{later, scale, uniform};

/// The sends of one message under a [`Backoff`].
///
/// Ask before each send: [`Attempts::send`] says whether it may happen, and when it counts as failed. At that instant,
/// unless the answer has come, ask again; `None` is giving up, and then the deadline or the last timeout has just ended.
#[derive(Clone, Debug)]
pub struct Attempts {
    policy: Backoff,
    /// The draw of [`Jitter::Initial`], kept because a measured timeout arrives after it.
    draw: u64,
    steps: Steps,
    previous: Duration,
    sends: u32,
    end: Option<Instant>,
}

impl Attempts {
    pub(super) fn new(policy: Backoff, draw: u64) -> Self {
        let steps = policy.steps(policy.first_timeout(policy.ack_timeout(), draw));
        Self { draw, previous: steps.first, steps, sends: 0, end: None, policy }
    }

    /// The same, but with this deadline, if it is one, in place of the policy's: its sends go on from earlier ones.
    pub(crate) fn ending_at(mut self, end: Option<Instant>) -> Self {
        self.end = end;
        self
    }

    /// A send happens at `now`; returns the instant at which it counts as failed, or `None` when the policy allows no
    /// further send (all used, or the deadline has passed) and nothing may be sent.
    ///
    /// `rto` is what an [`RttEstimator`](super::RttEstimator) has measured, if anything; only the first send of an
    /// [adaptive](Backoff::with_adaptive) policy looks at it. The deadline counts from the first send. `rng` is drawn
    /// from once per send by all jitters but [`Jitter::None`] and [`Jitter::Initial`].
    pub fn send<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        rto: Option<Duration>,
        rng: &mut R,
    ) -> Option<Instant> {
        if !self.may_send(now) {
            return None;
        }
        if self.sends == 0 {
            self.begin(now, rto);
        }
        self.sends += 1;
        let failed_at = later(now, self.next_timeout(rng));
        Some(self.end.map_or(failed_at, |end| failed_at.min(end)))
    }

    /// The sends so far.
    #[must_use]
    pub fn sends(&self) -> u32 {
        self.sends
    }

    /// Whether [`Attempts::send`] would allow another send at `now`.
    #[must_use]
    pub fn may_send(&self, now: Instant) -> bool {
        self.has_sends_left() && self.end.is_none_or(|end| now < end)
    }

    /// Whether the number of sends is not used up; the deadline may have passed all the same.
    #[must_use]
    pub fn has_sends_left(&self) -> bool {
        self.sends < self.policy.max_sends()
    }

    /// When the policy's deadline passes, counted from the first send; `None` without one, or before the first send of all.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.end
    }

    fn begin(&mut self, now: Instant, rto: Option<Duration>) {
        self.end = self.end.or_else(|| self.policy.deadline().map(|deadline| later(now, deadline)));
        if let Some(rto) = rto.filter(|_| self.policy.adaptive()) {
            self.steps = self.policy.steps(self.policy.first_timeout(in_range(rto), self.draw));
            self.previous = self.steps.first;
        }
    }

    fn next_timeout<R: Rng + ?Sized>(&mut self, rng: &mut R) -> Duration {
        let timeout = self.steps.advance();
        let moved = match self.policy.jitter() {
            Jitter::None | Jitter::Initial(_) => timeout,
            Jitter::Full => uniform(Duration::ZERO, timeout, rng.next_u64()),
            Jitter::Equal => uniform(timeout / 2, timeout, rng.next_u64()),
            Jitter::Decorrelated => uniform(self.steps.first, self.previous * 3, rng.next_u64()),
            Jitter::Ratio(ratio) => {
                let reach = ratio.get();
                uniform(scale(timeout, 1.0 - reach), scale(timeout, 1.0 + reach), rng.next_u64())
            }
        };
        self.previous = moved.max(timeout.min(SHORTEST)).min(self.policy.max_timeout());
        self.previous
    }
}
