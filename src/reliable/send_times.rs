//! The figures of a retry policy: the range of each send's time, the worst case, and the means under loss.
//!
//! The formulas are in [`theory`]; here they are combined for one policy and one message.

use std::time::Duration;

use super::theory;
use crate::reliable::backoff::SHORTEST;
use crate::reliable::{Backoff, Jitter, success};
use crate::units::{Factor, Probability};
use crate::wire::{DATAGRAM_MIN_LIMIT, Frame, Id, PREFIX_LEN, Verb, encode_args};

/// A length of time without jitter, and its range with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    /// Without jitter.
    pub plain: Duration,
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
}

impl TimeRange {
    const ZERO: Self = Self { plain: Duration::ZERO, least: Duration::ZERO, most: Duration::ZERO };

    /// The sum of two consecutive times.
    fn then(self, next: Self) -> Self {
        Self {
            plain: self.plain.saturating_add(next.plain),
            least: self.least.saturating_add(next.least),
            most: self.most.saturating_add(next.most),
        }
    }

    fn cut(self, limit: Duration) -> Self {
        Self { plain: self.plain.min(limit), least: self.least.min(limit), most: self.most.min(limit) }
    }
}

/// One send of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its time, from the first send on.
    pub at: TimeRange,
    /// Its timeout; a deadline may cut it short.
    pub timeout: TimeRange,
}

/// The sends that a policy allows at most. With a deadline and jitter, the last ones may not happen.
#[must_use]
pub(crate) fn slots(policy: &Backoff) -> Vec<Slot> {
    let mut at = TimeRange::ZERO;
    let mut slots = Vec::new();
    for timeout in timeouts(policy) {
        if policy.deadline().is_some_and(|deadline| at.least >= deadline) {
            break;
        }
        slots.push(Slot { at: policy.deadline().map_or(at, |deadline| at.cut(deadline)), timeout });
        at = at.then(timeout);
    }
    slots
}

/// The time at which a policy gives up.
#[must_use]
pub(crate) fn give_up(policy: &Backoff) -> TimeRange {
    let ends = timeouts(policy).into_iter().fold(TimeRange::ZERO, TimeRange::then);
    policy.deadline().map_or(ends, |deadline| ends.cut(deadline))
}

/// The mean time at which a policy gives up, in seconds. `None` if no exact mean is known: with jitter and a deadline,
/// or if the cap cuts timeouts depending on earlier draws.
#[must_use]
pub(crate) fn mean_give_up(policy: &Backoff) -> Option<f64> {
    if policy.jitter() == Jitter::None {
        return Some(policy.give_up().as_secs_f64());
    }
    // It gives up when one more send would be due.
    let longer = policy.clone().with_max_sends(policy.max_sends().checked_add(1)?);
    let known = longer.max_sends() > policy.max_sends();
    theory::mean_offsets(&longer).filter(|_| known)?.last().copied()
}

/// The fewest and the most sends of an unanswered request. They differ if jitter decides how many sends fit before the
/// deadline.
#[must_use]
pub(crate) fn unanswered_sends(policy: &Backoff) -> (u32, u32) {
    let Some(deadline) = policy.deadline() else { return (policy.max_sends(), policy.max_sends()) };
    let at = timeouts(policy).into_iter().scan(TimeRange::ZERO, |at, timeout| {
        let now = *at;
        *at = at.then(timeout);
        Some(now)
    });
    let count = |sends: (u32, u32), at: TimeRange| {
        (sends.0 + u32::from(at.most < deadline), sends.1 + u32::from(at.least < deadline))
    };
    at.fold((0, 0), count)
}

/// The timeout of each send, without the deadline.
fn timeouts(policy: &Backoff) -> Vec<TimeRange> {
    let plain = plain_timeouts(policy);
    match policy.jitter() {
        Jitter::Initial(factor) => {
            let most = plain_timeouts(&stretched(policy, factor));
            let span = |(plain, most): (Duration, Duration)| TimeRange { plain, least: plain, most };
            plain.into_iter().zip(most).map(span).collect()
        }
        Jitter::Decorrelated => decorrelated(policy, &plain),
        jitter => plain.into_iter().map(|plain| moved(policy, jitter, plain)).collect(),
    }
}

/// The timeouts without jitter, including the last.
fn plain_timeouts(policy: &Backoff) -> Vec<Duration> {
    let policy = policy.clone().with_deadline(None);
    let offsets = policy.schedule().chain(std::iter::once(policy.give_up()));
    let pairs = offsets.clone().zip(offsets.skip(1));
    pairs.map(|(from, to)| to.saturating_sub(from)).collect()
}

/// The policy with the longest first timeout that it can draw.
fn stretched(policy: &Backoff, factor: Factor) -> Backoff {
    let longest = policy.ack_timeout().as_secs_f64() * factor.get();
    let longest = Duration::try_from_secs_f64(longest).unwrap_or(Backoff::UNCAPPED);
    policy.clone().with_ack_timeout(longest)
}

/// A timeout whose jitter does not depend on earlier draws.
fn moved(policy: &Backoff, jitter: Jitter, plain: Duration) -> TimeRange {
    let scaled = |by: f64| Duration::try_from_secs_f64(plain.as_secs_f64() * by).unwrap_or(plain);
    let (least, most) = match jitter {
        Jitter::Full => (Duration::ZERO, plain),
        Jitter::Equal => (plain / 2, plain),
        Jitter::Ratio(ratio) => (scaled(1.0 - ratio.get()), scaled(1.0 + ratio.get())),
        Jitter::None | Jitter::Initial(_) | Jitter::Decorrelated => (plain, plain),
    };
    TimeRange { plain, least: least.max(plain.min(SHORTEST)), most: most.min(policy.max_timeout()) }
}

fn decorrelated(policy: &Backoff, plain: &[Duration]) -> Vec<TimeRange> {
    let (first, cap) = (policy.ack_timeout().min(policy.max_timeout()), policy.max_timeout());
    let step = |most: &mut Duration, plain: &Duration| {
        *most = most.saturating_mul(3).min(cap);
        Some(TimeRange { plain: *plain, least: first, most: *most })
    };
    plain.iter().scan(first, step).collect()
}

/// The sizes of the datagrams of one request, without IP and UDP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// One send, in bytes.
    pub request: usize,
    /// One answer, in bytes.
    pub answer: usize,
}

impl Sizes {
    /// The sizes of a SND with a message of this many bytes to a name of three characters, in a datagram session.
    /// `None` if it does not fit a datagram.
    #[must_use]
    pub(crate) fn of_message(bytes: usize) -> Option<Self> {
        let id = Id::FIRST.next();
        let body = (bytes <= DATAGRAM_MIN_LIMIT).then(|| vec![b'.'; bytes])?;
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        encode_args(id, Verb::Snd, &[b"bob", &body], &mut request);
        Frame { id, verb: Verb::Ack, payload: b"" }.encode(&mut answer);
        let sizes = Self { request: PREFIX_LEN + request.len(), answer: PREFIX_LEN + answer.len() };
        (sizes.request <= DATAGRAM_MIN_LIMIT).then_some(sizes)
    }
}

/// The maximum cost of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worst {
    /// The time until it is given up.
    pub give_up: Duration,
    /// Sends.
    pub sends: u32,
    /// Datagrams, each send answered.
    pub datagrams: u64,
    /// Bytes in these datagrams.
    pub bytes: u64,
}

/// The maximum cost of a request under a policy: every send arrives, and no answer does.
#[must_use]
pub(crate) fn worst(policy: &Backoff, sizes: Sizes) -> Worst {
    let sends = u32::try_from(slots(policy).len()).unwrap_or(Backoff::MAX_SENDS);
    Worst {
        give_up: give_up(policy).most,
        sends,
        datagrams: 2 * u64::from(sends),
        bytes: u64::from(sends) * (sizes.request as u64 + sizes.answer as u64),
    }
}

/// Means over many requests at one loss rate each way, without network delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AtLoss {
    /// The loss rate each way.
    pub loss: Probability,
    /// The probability of an answer.
    pub success: f64,
    /// The probability that the request is executed.
    pub executed: f64,
    /// The number of sends.
    pub sends: f64,
    /// Executions by a server without a dedup window.
    pub executions_without_dedup: f64,
    /// Bytes sent both ways, including lost ones.
    pub bytes: f64,
    /// The time to ack in seconds, of answered requests; `None` if no exact mean is known.
    pub time: Option<f64>,
}

/// The means of a policy at one loss rate each way. With a deadline, they are those of its schedule without jitter; an
/// adaptive policy counts as before any measurement.
#[must_use]
pub(crate) fn at_loss(policy: &Backoff, sizes: Sizes, loss: Probability) -> AtLoss {
    let max = u32::try_from(policy.schedule().count()).unwrap_or(Backoff::MAX_SENDS);
    let sends = theory::sends(loss, loss, max);
    // Each send that arrives is answered.
    let answers = theory::executions_without_dedup(loss, loss, max);
    AtLoss {
        loss,
        success: success(loss, loss, max),
        executed: theory::executed(loss, max),
        sends,
        executions_without_dedup: answers,
        bytes: sends * bytes(sizes.request) + answers * bytes(sizes.answer),
        time: theory::time_to_answer(&policy.clone().with_adaptive(false), loss, loss),
    }
}

/// The most bytes in a datagram, 65,535.
fn bytes(size: usize) -> f64 {
    f64::from(u16::try_from(size).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::{Growth, Preset};
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use std::time::Instant;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn drawn(policy: &Backoff, seed: u64) -> Vec<(Duration, Duration)> {
        let (start, mut rng) = (Instant::now(), ChaCha8Rng::seed_from_u64(seed));
        let (mut attempts, mut now) = (policy.start(&mut rng), start);
        let mut sends = Vec::new();
        while let Some(due) = attempts.send(now, None, &mut rng) {
            sends.push((now - start, due - now));
            now = due;
        }
        sends
    }

    #[test]
    fn real_attempts_stay_within_their_spans_and_come_near_to_both_ends() {
        let doubling = Growth::Exponential { factor: Factor::TWO };
        let base = Backoff::new(ms(100)).with_growth(doubling).with_max_timeout(ms(700)).with_max_sends(4);
        for jitter in ["none", "full", "equal", "decorrelated", "ratio:.5", "initial:1.5"] {
            let policy = base.clone().with_jitter(jitter.parse().unwrap());
            let slots = slots(&policy);
            let mut seen = vec![(Duration::MAX, Duration::ZERO); slots.len()];
            for seed in 0..2_000 {
                let sends = drawn(&policy, seed);
                assert_eq!(sends.len(), slots.len(), "{jitter}");
                for ((slot, seen), (at, timeout)) in slots.iter().zip(&mut seen).zip(sends) {
                    assert!(slot.at.least <= at && at <= slot.at.most, "{jitter}: {at:?} in {slot:?}");
                    assert!(
                        slot.timeout.least <= timeout && timeout <= slot.timeout.most,
                        "{jitter}: {timeout:?}, {slot:?}"
                    );
                    *seen = (seen.0.min(timeout), seen.1.max(timeout));
                }
            }
            for (slot, (least, most)) in slots.iter().zip(seen) {
                let near = slot.timeout.most / 10 + ms(1);
                assert!(
                    least <= slot.timeout.least + near && slot.timeout.most <= most + near,
                    "{jitter}: {slot:?}"
                );
            }
        }
    }

    /// Returns the same number for every draw.
    struct Constant(u64);

    impl rand::TryRng for Constant {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(u32::try_from(self.0 >> 32).unwrap())
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(self.0)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.fill(self.0.to_le_bytes()[0]);
            Ok(())
        }
    }

    /// Policies of each growth with each jitter, with and without a deadline.
    fn every_policy() -> Vec<Backoff> {
        let growths = [Growth::Fixed, Growth::Linear, Growth::Exponential { factor: Factor::TWO }];
        let jitters = ["none", "full", "equal", "decorrelated", "ratio:.5", "initial:1.5"];
        let bases = growths.map(|growth| Backoff::new(ms(100)).with_growth(growth).with_max_sends(8));
        let jittered = bases
            .into_iter()
            .flat_map(|base| jitters.map(|jitter| base.clone().with_jitter(jitter.parse().unwrap())));
        jittered
            .flat_map(|policy| {
                [
                    policy.clone(),
                    policy.clone().with_max_timeout(ms(1_000)),
                    policy.with_deadline(Some(ms(1_500))),
                ]
            })
            .collect()
    }

    /// The sends, and the time of giving up, as the attempts draw them.
    fn given_up(policy: &Backoff, rng: &mut impl rand::Rng) -> (u32, Duration) {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        let start = Instant::now();
        let (mut attempts, mut now) = (policy.start(rng), start);
        while let Some(due) = attempts.send(now, None, rng) {
            now = due;
        }
        (attempts.sends(), now - start)
    }

    #[test]
    fn the_bounds_of_a_policy_are_those_of_the_lowest_and_the_highest_draws() {
        for policy in every_policy() {
            let span = give_up(&policy);
            let (lowest, highest) =
                (given_up(&policy, &mut Constant(0)), given_up(&policy, &mut Constant(u64::MAX)));
            // One nanosecond of rounding per timeout.
            let near = |one: Duration, other: Duration| one.abs_diff(other) < Duration::from_nanos(50);
            assert!(near(lowest.1, span.least), "{policy:?}: {lowest:?}, {span:?}");
            assert!(near(highest.1, span.most), "{policy:?}: {highest:?}, {span:?}");
            // The longest timeouts leave room for the fewest sends.
            assert_eq!((highest.0, lowest.0), unanswered_sends(&policy), "{policy:?}");
        }
    }

    #[test]
    fn the_mean_of_giving_up_is_that_of_real_attempts() {
        let mut known = 0;
        for policy in every_policy() {
            let Some(mean) = mean_give_up(&policy) else { continue };
            known += 1;
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let drawn: Vec<f64> = (0..4_000).map(|_| given_up(&policy, &mut rng).1.as_secs_f64()).collect();
            let measured = drawn.iter().sum::<f64>() / 4_000.0;
            let variance = drawn.iter().map(|at| (at - measured).powi(2)).sum::<f64>() / 4_000.0;
            assert!(
                (measured - mean).abs() < 4.0 * (variance / 4_000.0).sqrt() + 1e-6,
                "{policy:?}: {measured}, {mean}"
            );
        }
        assert!(known >= 30, "{known}");
    }

    #[test]
    fn decorrelated_jitter_gives_up_much_later_than_the_growth_that_it_replaces() {
        let policy = Backoff::new(ms(100))
            .with_growth(Growth::Exponential { factor: Factor::TWO })
            .with_max_sends(8)
            .with_jitter(Jitter::Decorrelated);
        // 0.3, 0.9, 2.7, 8.1, 24.3 and three times 60 s.
        assert_eq!((give_up(&policy).least, give_up(&policy).most), (ms(800), ms(216_300)));
    }

    #[test]
    fn coap_at_its_slowest_takes_the_times_that_rfc_7252_derives() {
        let coap = Preset::Coap.backoff();
        let last = slots(&coap).last().unwrap().at;
        // Section 4.8.2: MAX_TRANSMIT_SPAN and MAX_TRANSMIT_WAIT.
        assert_eq!((last.plain.as_secs(), last.most.as_secs()), (30, 45));
        assert_eq!((give_up(&coap).plain.as_secs(), give_up(&coap).most.as_secs()), (62, 93));
    }

    #[test]
    fn a_deadline_cuts_the_sends_and_the_end() {
        let policy = Backoff::new(ms(100)).with_max_sends(9).with_deadline(Some(ms(250)));
        assert_eq!(slots(&policy).len(), 3);
        assert_eq!(give_up(&policy).most, ms(250));
        let jittered = policy.with_jitter("equal".parse().unwrap());
        assert_eq!(slots(&jittered).len(), 5, "0, 50, 100, 150 and 200 ms are possible");
        for preset in Preset::ALL {
            let policy = preset.backoff().with_jitter(Jitter::None);
            let plain: Vec<Duration> = slots(&policy).iter().map(|slot| slot.at.plain).collect();
            assert_eq!(plain, policy.schedule().collect::<Vec<_>>(), "{preset}");
            assert_eq!(give_up(&policy).most, policy.give_up(), "{preset}");
        }
    }

    #[test]
    fn the_worst_case_is_that_every_send_arrives_and_no_answer() {
        // `~token @2 SND 0014 bob 0123456789` and `~token @2 ACK 0000`.
        let sizes = Sizes::of_message(10).unwrap();
        assert_eq!(sizes, Sizes { request: 24 + 3 + 8 + 15, answer: 24 + 3 + 8 });
        let worst = worst(&Preset::Dns.backoff(), sizes);
        assert_eq!(worst, Worst { give_up: ms(15_000), sends: 3, datagrams: 6, bytes: 3 * 85 });
        assert_eq!(Sizes::of_message(1_160), Some(Sizes { request: 1_200, answer: 35 }));
        assert_eq!(Sizes::of_message(1_161), None);
        assert_eq!(Sizes::of_message(usize::MAX), None);
    }

    #[test]
    fn without_loss_a_request_is_one_exchange() {
        let sizes = Sizes { request: 100, answer: 35 };
        let none = at_loss(&Preset::Coap.backoff(), sizes, Probability::ZERO);
        assert_eq!(
            (none.success, none.executed, none.sends, none.bytes, none.time),
            (1.0, 1.0, 1.0, 135.0, Some(0.0))
        );
    }
}
