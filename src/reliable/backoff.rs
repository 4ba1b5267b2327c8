//! Retry policies as plain data: timeouts, their growth, jitter and limits.
//!
//! A *send* is one transmission of a message, including the first. Each send has a *timeout*, after which it counts as
//! failed. Timeouts grow from send to send up to a cap, and jitter varies them. The number of sends and the total time
//! are bounded.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;

use super::Attempts;
use crate::units::{Factor, Probability, Seconds, UnitError, scale, uniform};

/// Jitter shortens no timeout below this, or below the timeout itself if that is shorter. RFC 9002 section 6.1.2 calls
/// 1 ms the granularity of timers; a send that fails at once would cause a burst.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);

/// The smallest time of a setter; zero counts as this.
const TICK: Duration = Duration::from_nanos(1);

/// The growth of the timeout from one send to the next, before cap and jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// The first timeout, always.
    Fixed,
    /// The first timeout times 1, 2, 3, ..
    Linear,
    /// The previous timeout times `factor`. A factor of 2 is RFC 6298 section 5.5 and RFC 7252 section 4.2.
    Exponential {
        /// The ratio of a timeout to the previous one.
        factor: Factor,
    },
}

/// The random variation of a timeout. "Jitter" has many meanings in the literature; each variant states its own.
///
/// No jitter takes a timeout to zero or above [`Backoff::max_timeout`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// No variation.
    None,
    /// Uniform from 0 to the timeout.
    Full,
    /// Uniform from half the timeout to the timeout.
    Equal,
    /// Uniform from the first timeout to three times the previous one; replaces [`Growth`].
    Decorrelated,
    /// Uniform within this fraction below and above the timeout: 0.2 is plus or minus 20 %, as in gRPC.
    Ratio(Probability),
    /// The first timeout is drawn once per message, from `ack_timeout` to `ack_timeout` times this, and grows from
    /// there: ACK_RANDOM_FACTOR of RFC 7252 section 4.2.
    Initial(Factor),
}

impl FromStr for Jitter {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "full" => Ok(Self::Full),
            None if text == "equal" => Ok(Self::Equal),
            None if text == "decorrelated" => Ok(Self::Decorrelated),
            Some(("ratio", ratio)) => ratio.parse().map(Self::Ratio),
            Some(("initial", factor)) => factor.parse().map(Self::Initial),
            _ => Err(UnitError::new(
                text,
                "a jitter",
                "it must be none, full, equal, decorrelated, ratio:R or initial:F",
            )),
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Full => f.write_str("full"),
            Self::Equal => f.write_str("equal"),
            Self::Decorrelated => f.write_str("decorrelated"),
            Self::Ratio(ratio) => write!(f, "ratio:{ratio}"),
            Self::Initial(factor) => write!(f, "initial:{factor}"),
        }
    }
}

/// A retry policy.
///
/// Its parameters have the names of their RFCs. Every time is clamped to between a nanosecond and [`Seconds::MAX`], so
/// that no growth can overflow.
///
/// ```
/// use std::time::Duration;
/// use sayagain::reliable::{Backoff, Growth};
/// use sayagain::units::Factor;
///
/// let expb = Backoff::new(Duration::from_millis(100))
///     .with_growth(Growth::Exponential { factor: Factor::TWO })
///     .with_max_sends(4);
/// let offsets: Vec<u128> = expb.schedule().map(|at| at.as_millis()).collect();
/// assert_eq!(offsets, [0, 100, 300, 700]);
/// assert_eq!(expb.give_up(), Duration::from_millis(1500));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Backoff {
    ack_timeout: Duration,
    max_timeout: Duration,
    growth: Growth,
    jitter: Jitter,
    max_sends: u32,
    deadline: Option<Duration>,
    adaptive: bool,
    min_rto: Duration,
}

impl Backoff {
    /// The most sends of a policy; bounds the work of [`Backoff::give_up`].
    pub(crate) const MAX_SENDS: u32 = 1_000_000;
    /// A `max_timeout` that no practical timeout reaches, for policies whose RFC has no cap.
    pub const UNCAPPED: Duration = Seconds::MAX.as_duration();

    /// Creates a policy with this first timeout, without growth, jitter or deadline, and with 5 sends (RFC 7252 section
    /// 4.8: MAX_RETRANSMIT 4). The cap is 60 s (RFC 6298 section 2.5), or `ack_timeout` if that is longer.
    pub fn new(ack_timeout: Duration) -> Self {
        Self {
            ack_timeout: in_range(ack_timeout),
            max_timeout: in_range(ack_timeout.max(Duration::from_secs(60))),
            growth: Growth::Fixed,
            jitter: Jitter::None,
            max_sends: 5,
            deadline: None,
            adaptive: false,
            min_rto: Duration::from_secs(1),
        }
    }

    /// Sets the first timeout (ACK_TIMEOUT of RFC 7252 section 4.8, T1 of RFC 3261 section 17).
    pub fn with_ack_timeout(self, ack_timeout: Duration) -> Self {
        Self { ack_timeout: in_range(ack_timeout), ..self }
    }

    /// Sets the cap of all timeouts, including the first.
    pub fn with_max_timeout(self, max_timeout: Duration) -> Self {
        Self { max_timeout: in_range(max_timeout), ..self }
    }

    /// Sets the growth of timeouts.
    pub fn with_growth(self, growth: Growth) -> Self {
        Self { growth, ..self }
    }

    /// Sets the jitter.
    pub fn with_jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    /// Sets the number of sends, including the first, clamped to 1 to `Backoff::MAX_SENDS`.
    pub fn with_max_sends(self, max_sends: u32) -> Self {
        Self { max_sends: max_sends.clamp(1, Self::MAX_SENDS), ..self }
    }

    /// Sets the number of sends after the first (MAX_RETRANSMIT of RFC 7252 section 4.8), one less than
    /// [`Backoff::max_sends`].
    pub fn with_max_retransmit(self, max_retransmit: u32) -> Self {
        self.with_max_sends(max_retransmit.saturating_add(1))
    }

    /// Sets the total time from the first send. At its end the last timeout is cut short and nothing is sent any more.
    /// `None` removes the limit.
    pub fn with_deadline(self, deadline: Option<Duration>) -> Self {
        Self { deadline: deadline.map(in_range), ..self }
    }

    /// Sets whether an [`RttEstimator`](super::RttEstimator) with a sample determines the first timeout.
    pub fn with_adaptive(self, adaptive: bool) -> Self {
        Self { adaptive, ..self }
    }

    /// Sets the minimum of a measured retransmission timeout (RFC 6298 section 2.4); 1 s by default.
    pub fn with_min_rto(self, min_rto: Duration) -> Self {
        Self { min_rto: in_range(min_rto), ..self }
    }

    /// The first timeout, before cap and jitter.
    #[doc(hidden)]
    #[must_use]
    pub fn ack_timeout(&self) -> Duration {
        self.ack_timeout
    }

    /// The cap of every timeout.
    #[doc(hidden)]
    #[must_use]
    pub fn max_timeout(&self) -> Duration {
        self.max_timeout
    }

    /// The growth of timeouts.
    #[must_use]
    pub(crate) fn growth(&self) -> Growth {
        self.growth
    }

    /// The jitter.
    #[must_use]
    pub(crate) fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// The number of sends, including the first; a deadline may allow fewer.
    #[doc(hidden)]
    #[must_use]
    pub fn max_sends(&self) -> u32 {
        self.max_sends
    }

    /// The number of sends after the first: MAX_RETRANSMIT of RFC 7252 section 4.8.
    #[must_use]
    pub(crate) fn max_retransmit(&self) -> u32 {
        self.max_sends.saturating_sub(1)
    }

    /// The limit of the total time from the first send, if any.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Whether a measured retransmission timeout replaces `ack_timeout`.
    #[must_use]
    pub(crate) fn adaptive(&self) -> bool {
        self.adaptive
    }

    /// The minimum of a measured retransmission timeout.
    #[must_use]
    pub(crate) fn min_rto(&self) -> Duration {
        self.min_rto
    }

    /// Begins one message. Only [`Jitter::Initial`] draws from `rng`, once.
    pub fn start<R: Rng + ?Sized>(&self, rng: &mut R) -> Attempts {
        let draw = if matches!(self.jitter, Jitter::Initial(_)) { rng.next_u64() } else { 0 };
        Attempts::new(self.clone(), draw)
    }

    /// The offsets of the sends from the first, without jitter: at most [`Backoff::max_sends`], as far as the deadline
    /// allows. For [`Jitter::Decorrelated`], which replaces the growth, they follow the growth.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule {
            steps: self.steps(self.ack_timeout),
            left: self.max_sends,
            at: Duration::ZERO,
            deadline: self.deadline,
        }
    }

    /// The end of the last timeout without jitter, as an offset from the first send.
    #[must_use]
    pub fn give_up(&self) -> Duration {
        let mut schedule = self.schedule();
        schedule.by_ref().for_each(drop);
        self.deadline.map_or(schedule.at, |deadline| schedule.at.min(deadline))
    }

    pub(super) fn first_timeout(&self, ack_timeout: Duration, draw: u64) -> Duration {
        match self.jitter {
            Jitter::Initial(factor) => uniform(ack_timeout, scale(ack_timeout, factor.get()), draw),
            _ => ack_timeout,
        }
    }

    pub(super) fn steps(&self, first: Duration) -> Steps {
        let first = first.min(self.max_timeout);
        Steps { growth: self.growth, cap: self.max_timeout, first, next: first }
    }
}

pub(super) fn in_range(length: Duration) -> Duration {
    length.clamp(TICK, Backoff::UNCAPPED)
}

/// The timeouts without jitter, without end.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    growth: Growth,
    cap: Duration,
    pub(super) first: Duration,
    next: Duration,
}

impl Steps {
    pub(super) fn advance(&mut self) -> Duration {
        let timeout = self.next;
        // Both operands are at most ten years, so this cannot overflow.
        let grown = match self.growth {
            Growth::Fixed => timeout,
            Growth::Linear => timeout + self.first,
            Growth::Exponential { factor } => scale(timeout, factor.get()),
        };
        self.next = grown.min(self.cap);
        timeout
    }
}

/// The iterator of [`Backoff::schedule`].
#[derive(Clone, Debug)]
pub struct Schedule {
    steps: Steps,
    left: u32,
    at: Duration,
    deadline: Option<Duration>,
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.left == 0 || self.deadline.is_some_and(|deadline| self.at >= deadline) {
            return None;
        }
        self.left -= 1;
        let at = self.at;
        self.at = at.saturating_add(self.steps.advance());
        Some(at)
    }
}

/// The probability that a request is answered within `sends` sends: 1 - (1 - (1 - up)(1 - down))^sends.
///
/// Each datagram is lost independently, with probability `up` on its way to the server and `down` on its way back. Every
/// answer that arrives counts as in time.
#[must_use]
pub fn success(up: Probability, down: Probability, sends: u32) -> f64 {
    let round_trip = up.complement().get() * down.complement().get();
    1.0 - (1.0 - round_trip).powf(f64::from(sends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::time::Instant;

    const ALL_JITTERS: [&str; 7] =
        ["none", "full", "equal", "decorrelated", "ratio:0.2", "ratio:1", "initial:1.5"];

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn doubling(first: Duration) -> Backoff {
        Backoff::new(first).with_growth(Growth::Exponential { factor: Factor::TWO })
    }

    fn offsets(policy: &Backoff) -> Vec<u64> {
        policy.schedule().map(|at| u64::try_from(at.as_millis()).unwrap()).collect()
    }

    /// All timeouts of one message that is never answered.
    fn timeouts(policy: &Backoff, rto: Option<Duration>, seed: u64) -> Vec<Duration> {
        let (mut rng, mut now, mut all) = (rng(seed), origin(), Vec::new());
        let mut attempts = policy.start(&mut rng);
        while let Some(failed_at) = attempts.send(now, rto, &mut rng) {
            all.push(failed_at - now);
            now = failed_at;
        }
        assert_eq!(attempts.sends() as usize, all.len());
        all
    }

    #[test]
    fn a_tenth_of_a_second_doubled_eight_times_gives_up_at_25_and_a_half() {
        let policy = doubling(ms(100)).with_max_sends(8).with_max_timeout(ms(60_000));
        assert_eq!(offsets(&policy), [0, 100, 300, 700, 1500, 3100, 6300, 12700]);
        assert_eq!(policy.give_up(), ms(25_500));
        assert_eq!(policy.max_retransmit(), 7);
    }

    #[test]
    fn fixed_and_linear_and_factor_growth_follow_their_names() {
        let fixed = Backoff::new(ms(500)).with_max_retransmit(3);
        assert_eq!(offsets(&fixed), [0, 500, 1000, 1500]);
        assert_eq!(fixed.give_up(), ms(2000));
        let linear = fixed.clone().with_growth(Growth::Linear);
        assert_eq!(offsets(&linear), [0, 500, 1500, 3000]);
        assert_eq!(linear.give_up(), ms(5000));
        let fping = fixed.with_growth(Growth::Exponential { factor: Factor::THREE_HALVES });
        assert_eq!(offsets(&fping), [0, 500, 1250, 2375]);
        assert_eq!(fping.give_up(), Duration::from_micros(4_062_500));
    }

    #[test]
    fn no_timeout_is_above_the_cap_not_even_the_first() {
        let policy = doubling(ms(100)).with_max_timeout(ms(250)).with_max_sends(5);
        assert_eq!(timeouts(&policy, None, 1), [100, 200, 250, 250, 250].map(ms));
        assert_eq!(timeouts(&policy.with_max_timeout(ms(30)), None, 1), [30; 5].map(ms));
        assert_eq!(Backoff::new(ms(90_000)).max_timeout(), ms(90_000));
    }

    #[test]
    fn the_last_timeout_is_cut_at_the_deadline_and_nothing_is_sent_after_it() {
        let policy = doubling(ms(100)).with_deadline(Some(ms(1000))).with_max_sends(50);
        assert_eq!(timeouts(&policy, None, 1), [100, 200, 400, 300].map(ms));
        assert_eq!(offsets(&policy), [0, 100, 300, 700]);
        assert_eq!(policy.give_up(), ms(1000));
    }

    #[test]
    fn a_late_send_is_refused_after_the_deadline() {
        let policy = Backoff::new(ms(100)).with_deadline(Some(ms(250)));
        let (now, mut rng) = (origin(), rng(1));
        let mut attempts = policy.start(&mut rng);
        assert_eq!(attempts.send(now, None, &mut rng), Some(now + ms(100)));
        assert_eq!(attempts.send(now + ms(240), None, &mut rng), Some(now + ms(250)));
        assert_eq!(attempts.send(now + ms(250), None, &mut rng), None);
        assert_eq!(attempts.sends(), 2);
    }

    #[test]
    fn used_up_sends_stay_used_up() {
        let policy = Backoff::new(ms(100)).with_max_sends(1);
        let (now, mut rng) = (origin(), rng(1));
        let mut attempts = policy.start(&mut rng);
        assert!(attempts.send(now, None, &mut rng).is_some());
        assert!((0..10).all(|_| attempts.send(now, None, &mut rng).is_none()));
    }

    #[test]
    fn attempts_without_jitter_follow_the_schedule() {
        for growth in [Growth::Fixed, Growth::Linear, Growth::Exponential { factor: Factor::TWO }] {
            let policy =
                Backoff::new(ms(100)).with_growth(growth).with_max_sends(9).with_max_timeout(ms(700));
            let (mut at, mut sent) = (Duration::ZERO, Vec::new());
            for timeout in timeouts(&policy, None, 1) {
                sent.push(at);
                at += timeout;
            }
            assert_eq!(policy.schedule().collect::<Vec<_>>(), sent);
            assert_eq!(policy.give_up(), at);
        }
    }

    #[test]
    fn growth_saturates_and_never_overflows() {
        let steepest = Growth::Exponential { factor: Factor::new(1000.0).unwrap() };
        for growth in [steepest, Growth::Linear, Growth::Fixed] {
            let policy = Backoff::new(Duration::MAX).with_growth(growth).with_max_sends(u32::MAX);
            assert_eq!(policy.schedule().count(), 1_000_000);
            assert_eq!(policy.give_up(), Backoff::UNCAPPED * 1_000_000);
        }
        for jitter in ALL_JITTERS {
            let policy = doubling(Duration::MAX).with_jitter(jitter.parse().unwrap()).with_max_sends(10);
            assert!(timeouts(&policy, Some(Duration::MAX), 3).len() <= 10);
        }
    }

    #[test]
    fn no_jitter_takes_a_timeout_to_zero_or_above_the_cap() {
        for jitter in ALL_JITTERS {
            let policy = doubling(ms(10)).with_jitter(jitter.parse().unwrap()).with_max_timeout(ms(200));
            for seed in 0..300 {
                for timeout in timeouts(&policy.clone().with_max_sends(12), None, seed) {
                    assert!((SHORTEST..=ms(200)).contains(&timeout), "{jitter}: {timeout:?}");
                }
            }
        }
    }

    #[test]
    fn a_timeout_of_zero_counts_as_the_smallest_time() {
        let policy =
            Backoff::new(Duration::ZERO).with_jitter(Jitter::Full).with_deadline(Some(Duration::ZERO));
        assert_eq!(timeouts(&policy, None, 1), [TICK]);
        assert_eq!(Backoff::new(ms(1)).with_max_sends(0).max_sends(), 1);
    }

    /// The smallest, mean and largest of the `nth` timeout over many messages, in units of `unit`.
    fn spread(jitter: &str, nth: usize, unit: Duration) -> (f64, f64, f64) {
        let policy = doubling(ms(1000)).with_jitter(jitter.parse().unwrap());
        let drawn = |seed| timeouts(&policy, None, seed)[nth].as_secs_f64() / unit.as_secs_f64();
        let all: Vec<f64> = (0..4000).map(drawn).collect();
        let (low, high) = all.iter().fold((f64::MAX, 0.0_f64), |(l, h), x| (l.min(*x), h.max(*x)));
        (low, all.iter().sum::<f64>() / 4000.0, high)
    }

    #[test]
    fn each_jitter_covers_its_range_evenly() {
        for (jitter, nth, from, to) in [
            ("full", 2, 0.0, 4.0),
            ("equal", 2, 2.0, 4.0),
            ("decorrelated", 0, 1.0, 3.0),
            ("ratio:0.25", 1, 1.5, 2.5),
            ("initial:1.5", 0, 1.0, 1.5),
            ("initial:1.5", 3, 8.0, 12.0),
        ] {
            let (low, mean, high) = spread(jitter, nth, ms(1000));
            let slack = (to - from) * 0.02;
            assert!(low >= from - 1e-6 && low < from + slack, "{jitter} {nth}: from {low}");
            assert!(high <= to + 1e-6 && high > to - slack, "{jitter} {nth}: to {high}");
            assert!((mean - f64::midpoint(from, to)).abs() < slack, "{jitter} {nth}: mean {mean}");
        }
    }

    #[test]
    fn initial_jitter_is_drawn_once_per_message() {
        let policy = doubling(ms(2000)).with_jitter(Jitter::Initial(Factor::THREE_HALVES));
        let drawn = timeouts(&policy, None, 7);
        assert!(drawn[0] > ms(2000) && drawn[0] < ms(3000));
        for pair in drawn.windows(2) {
            assert_eq!(pair[1], pair[0] * 2);
        }
    }

    #[test]
    fn decorrelated_jitter_stays_within_three_times_the_timeout_before() {
        let policy = Backoff::new(ms(100)).with_jitter(Jitter::Decorrelated).with_max_sends(20);
        for seed in 0..100 {
            for pair in timeouts(&policy, None, seed).windows(2) {
                assert!(pair[1] >= ms(100) && pair[1] <= pair[0] * 3);
            }
        }
    }

    #[test]
    fn only_an_adaptive_policy_takes_its_first_timeout_from_the_measured_one() {
        let fixed = doubling(ms(1000)).with_max_sends(3);
        let adaptive = fixed.clone().with_adaptive(true);
        assert_eq!(timeouts(&fixed, Some(ms(30)), 1), [1000, 2000, 4000].map(ms));
        assert_eq!(timeouts(&adaptive, Some(ms(30)), 1), [30, 60, 120].map(ms));
        assert_eq!(timeouts(&adaptive, None, 1), [1000, 2000, 4000].map(ms));
        assert_eq!(timeouts(&adaptive.with_max_timeout(ms(50)), Some(ms(70)), 1), [50, 50, 50].map(ms));
    }

    #[test]
    fn the_same_seed_gives_the_same_timeouts() {
        for jitter in ALL_JITTERS {
            let policy = doubling(ms(100)).with_jitter(jitter.parse().unwrap());
            assert_eq!(timeouts(&policy, None, 42), timeouts(&policy, None, 42));
        }
    }

    #[test]
    fn jitters_survive_a_round_trip() {
        for text in ALL_JITTERS {
            assert_eq!(text.parse::<Jitter>().unwrap().to_string(), text);
        }
        for text in
            ["", "Full", "ratio", "ratio:", "ratio:1.1", "ratio:NaN", "initial:0.5", "initial:inf", "full:1"]
        {
            assert!(text.parse::<Jitter>().is_err(), "{text}");
        }
        assert_eq!(
            "ful\n".parse::<Jitter>().unwrap_err().to_string(),
            "`ful\\n` is not a jitter: it must be none, full, equal, decorrelated, ratio:R or initial:F"
        );
    }

    #[test]
    fn success_is_certain_without_loss_and_impossible_with_nothing_but_loss() {
        let (zero, one) = (Probability::ZERO, Probability::ONE);
        assert_eq!(success(zero, zero, 1), 1.0);
        assert_eq!(success(one, zero, u32::MAX), 0.0);
        assert_eq!(success(zero, one, 5), 0.0);
        assert_eq!(success(zero, zero, 0), 0.0);
        let half = Probability::new(0.5).unwrap();
        assert!((success(half, zero, 2) - 0.75).abs() < 1e-12);
    }
}
