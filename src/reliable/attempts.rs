//! The sends of one message: applies a retry policy step by step.

use std::time::{Duration, Instant};

use rand::Rng;

use super::backoff::{Backoff, Jitter, SHORTEST, Steps, in_range};
use crate::units::{later, scale, uniform};

/// The sends of one message under a [`Backoff`].
///
/// Before each send, [`Attempts::send`] returns whether it is allowed, and the instant at which it counts as failed. At
/// that instant, unless the answer has arrived, call it again. `None` means to give up: the deadline or the last
/// timeout has just passed.
#[derive(Clone, Debug)]
pub struct Attempts {
    policy: Backoff,
    /// The draw of [`Jitter::Initial`], kept because a measured timeout is known only later.
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

    /// The same, with this deadline, if any, in place of the policy's: the request had earlier sends.
    pub(crate) fn ending_at(mut self, end: Option<Instant>) -> Self {
        self.end = end;
        self
    }

    /// Records a send at `now`. Returns the instant at which it counts as failed, or `None` if no further send is
    /// allowed: all are used, or the deadline has passed.
    ///
    /// `rto` is the measurement of an [`RttEstimator`](super::RttEstimator), if any; only the first send of an
    /// [adaptive](Backoff::with_adaptive) policy uses it. The deadline counts from the first send. All jitters except
    /// [`Jitter::None`] and [`Jitter::Initial`] draw from `rng` once per send.
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

    /// The number of sends so far.
    #[must_use]
    pub fn sends(&self) -> u32 {
        self.sends
    }

    /// Whether [`Attempts::send`] would allow another send at `now`.
    #[must_use]
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        self.has_sends_left() && self.end.is_none_or(|end| now < end)
    }

    /// Whether sends are left; the deadline may have passed all the same.
    #[must_use]
    pub(crate) fn has_sends_left(&self) -> bool {
        self.sends < self.policy.max_sends()
    }

    /// The policy's deadline, counted from the first send; `None` without a deadline, or before the first send.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
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
