//! Rate limits: messages and bytes per second, their text form, and the token [`Bucket`] that enforces them.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! A listener has a rate in its [`Listener`](crate::listener::Listener). The server takes from a client's bucket before it executes
//! a request; over the limit it pauses reading a stream, and answers 429 on UDP.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::escape::escape_short;
use crate::lazy_box::IsEmpty;
use crate::units::{ByteSize, later};

/// The maximum messages and bytes per second of one client; unlimited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Messages per second.
    pub messages: Option<NonZeroU32>,
    /// Bytes per second.
    pub bytes: Option<NonZeroU32>,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { messages: None, bytes: None };

    /// This many messages per second, of any size; 0 is no limit.
    pub const fn messages(per_second: u32) -> Self {
        Self { messages: NonZeroU32::new(per_second), bytes: None }
    }
}

/// Parses `5/s`, `64KiB/s`, both as `5/s,64KiB/s`, or `none`.
impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::UNLIMITED);
        }
        let shown = || escape_short(text.as_bytes(), 40).into_owned();
        let wrong = || format!("`{}` is not a rate; write 5/s, 64KiB/s, 5/s,64KiB/s or none", shown());
        let mut rate = Self::UNLIMITED;
        for part in text.split(',') {
            let amount = part.strip_suffix("/s").ok_or_else(wrong)?;
            let is_count = amount.bytes().all(|byte| byte.is_ascii_digit());
            let (slot, number) = if is_count {
                (&mut rate.messages, amount.parse().ok())
            } else {
                (&mut rate.bytes, bytes(amount))
            };
            let number = number.and_then(NonZeroU32::new).ok_or_else(wrong)?;
            if slot.replace(number).is_some() {
                return Err(wrong());
            }
        }
        Ok(rate)
    }
}

/// `100B`, or a size with a larger unit.
fn bytes(amount: &str) -> Option<u32> {
    let plain = amount.strip_suffix('B').filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let size: ByteSize = plain.unwrap_or(amount).parse().ok()?;
    u32::try_from(size.get()).ok()
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.messages, self.bytes) {
            (None, None) => f.write_str("none"),
            (Some(messages), None) => write!(f, "{messages}/s"),
            (None, Some(bytes)) => write!(f, "{bytes}B/s"),
            (Some(messages), Some(bytes)) => write!(f, "{messages}/s,{bytes}B/s"),
        }
    }
}

/// A token bucket for messages and one for bytes, each with a capacity of one second's worth and full at first.
///
/// It is the continuous-state leaky bucket of ITU-T I.371 Annex A (the generic cell rate algorithm, GCRA). It has an
/// increment of one second divided by the rate and a limit of one second less that. In the terms of RFC 2697 and 2698,
/// it is one rate with a burst size of one second of it. [Take](Bucket::take) only what conforms: then no window of
/// time `t` sees more than `rate * t` plus one second's worth. A message larger than the bucket conforms when the
/// bucket is full, and leaves a debt.
///
/// It counts in nanoseconds of one token, so nothing is rounded.
///
/// ```
/// use sayagain::rates::{Bucket, Rate};
/// use std::time::{Duration, Instant};
///
/// let now = Instant::now();
/// let mut bucket = Bucket::new(Rate::messages(5));
/// for _ in 0..5 {
///     assert_eq!(bucket.wait(now, 100), Duration::ZERO);
///     bucket.take(now, 100);
/// }
/// assert_eq!(bucket.wait(now, 100), Duration::from_millis(200));
/// ```
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    messages: Option<Meter>,
    bytes: Option<Meter>,
    /// The time of the last take.
    taken_at: Option<Instant>,
}

/// One token bucket, as the amount that is used.
#[derive(Clone, Copy, Debug)]
struct Meter {
    /// Tokens that return per second, and the capacity.
    rate: NonZeroU32,
    /// The tokens taken that have not returned, in [`TOKEN`]s.
    used: u64,
}

/// One token: it returns in this many nanoseconds at a rate of 1 per second.
const TOKEN: u64 = 1_000_000_000;

impl IsEmpty for Bucket {
    const EMPTY: &'static Self = &Self::new(Rate::UNLIMITED);

    /// Whether it limits nothing.
    fn is_empty(&self) -> bool {
        self.is_unlimited()
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new(Rate::UNLIMITED)
    }
}

impl Bucket {
    /// Creates two full buckets; an unlimited one takes no memory and limits nothing.
    pub const fn new(rate: Rate) -> Self {
        Self { messages: Meter::new(rate.messages), bytes: Meter::new(rate.bytes), taken_at: None }
    }

    /// Whether there is no limit.
    pub const fn is_unlimited(&self) -> bool {
        self.messages.is_none() && self.bytes.is_none()
    }

    /// The wait from `now` until a message of this many bytes conforms; zero if it does.
    pub fn wait(&self, now: Instant, bytes: usize) -> Duration {
        let past = self.past(now);
        let wait = |meter: &Option<Meter>, tokens| meter.map_or(Duration::ZERO, |m| m.wait(past, tokens));
        wait(&self.messages, 1).max(wait(&self.bytes, bytes as u64))
    }

    /// The instant at which a message of this many bytes conforms, if that is after `now`.
    pub fn conforms_at(&self, now: Instant, bytes: usize) -> Option<Instant> {
        Some(self.wait(now, bytes)).filter(|wait| !wait.is_zero()).map(|wait| later(now, wait))
    }

    /// Takes the tokens for a message of this many bytes if it conforms.
    ///
    /// # Errors
    ///
    /// It does not conform. Holds the wait until it would; nothing is taken.
    pub fn take_conforming(&mut self, now: Instant, bytes: usize) -> Result<(), Duration> {
        let wait = self.wait(now, bytes);
        if wait.is_zero() {
            self.take(now, bytes);
            return Ok(());
        }
        Err(wait)
    }

    /// Takes the tokens for a message of this many bytes, even if they are missing: the rest is a debt.
    pub fn take(&mut self, now: Instant, bytes: usize) {
        let past = self.past(now);
        self.taken_at = self.taken_at.max(Some(now));
        for (meter, tokens) in [(&mut self.messages, 1), (&mut self.bytes, bytes as u64)] {
            if let Some(meter) = meter {
                meter.used = meter.used_after(past).saturating_add(tokens.saturating_mul(TOKEN));
            }
        }
    }

    /// Whether the buckets are full.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        let past = self.past(now);
        [self.messages, self.bytes].into_iter().flatten().all(|meter| meter.used_after(past) == 0)
    }

    fn past(&self, now: Instant) -> Duration {
        self.taken_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }
}

impl Meter {
    const fn new(rate: Option<NonZeroU32>) -> Option<Self> {
        match rate {
            Some(rate) => Some(Self { rate, used: 0 }),
            None => None,
        }
    }

    /// The amount used after this much time without another message.
    fn used_after(&self, past: Duration) -> u64 {
        let back = past.as_nanos().saturating_mul(u128::from(self.rate.get()));
        self.used.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
    }

    fn wait(&self, past: Duration, tokens: u64) -> Duration {
        let rate = u64::from(self.rate.get());
        // Above the capacity, only a full bucket matters.
        let free_enough = (rate * TOKEN).saturating_sub(tokens.saturating_mul(TOKEN));
        Duration::from_nanos(self.used_after(past).saturating_sub(free_enough).div_ceil(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_rate_is_messages_bytes_both_or_none() {
        for (text, shown) in [
            ("5/s", "5/s"),
            ("none", "none"),
            ("64KiB/s", "65536B/s"),
            ("5/s,1KiB/s", "5/s,1024B/s"),
            ("1KiB/s,5/s", "5/s,1024B/s"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rate));
        }
    }

    #[test]
    fn an_invalid_rate_is_refused_in_one_line() {
        for text in ["", "5", "0/s", "-1/s", "5/s,6/s", "5/min", "x/s", "4294967296/s", "5/s,", "\x1b/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.starts_with('`') && !error.contains('\x1b'), "{error}");
        }
    }
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn bucket(rate: &str) -> Bucket {
        Bucket::new(rate.parse().unwrap())
    }

    #[test]
    fn a_full_bucket_lasts_for_a_second_and_then_gives_one_token_at_a_time() {
        let (start, mut bucket) = (start(), bucket("3/s"));
        let at = |nanos| start + Duration::from_nanos(nanos);
        (0..3).for_each(|_| assert_eq!(bucket.take_conforming(start, 9), Ok(())));
        // A third of a second is not a whole number of nanoseconds: never early, and no rounding loss.
        assert_eq!(bucket.take_conforming(start, 9), Err(Duration::from_nanos(333_333_334)));
        assert_eq!(bucket.take_conforming(at(333_333_333), 9), Err(Duration::from_nanos(1)));
        assert_eq!(bucket.conforms_at(at(333_333_333), 9), Some(at(333_333_334)));
        assert_eq!(bucket.take_conforming(at(333_333_334), 9), Ok(()));
        assert_eq!(bucket.take_conforming(at(666_666_667), 9), Ok(()));
        assert_eq!(bucket.take_conforming(at(1_000_000_000), 9), Ok(()));
        assert_eq!(bucket.wait(at(1_000_000_000), 9), Duration::from_nanos(333_333_334));
        assert_eq!(bucket.wait(at(2_000_000_000), 9), Duration::ZERO);
    }

    #[test]
    fn a_message_larger_than_the_bucket_waits_until_it_is_full_and_leaves_a_debt() {
        let (start, mut bucket) = (start(), bucket("100B/s"));
        assert_eq!(bucket.take_conforming(start, 250), Ok(()));
        assert_eq!(bucket.wait(start, 1), Duration::from_millis(1_510));
        assert_eq!(bucket.wait(start, 100), Duration::from_millis(2_500));
        assert_eq!(bucket.wait(start, 250), Duration::from_millis(2_500));
        bucket.take(start, 50);
        assert_eq!(bucket.wait(start, 1), Duration::from_millis(2_010));
        assert_eq!(bucket.take_conforming(start + Duration::from_secs(3), 1_000), Ok(()));
    }

    #[test]
    fn the_scarcer_of_messages_and_bytes_decides() {
        let (start, mut bucket) = (start(), bucket("10/s,100B/s"));
        bucket.take(start, 100);
        assert_eq!(bucket.wait(start, 10), Duration::from_millis(100));
        (0..9).for_each(|_| bucket.take(start, 0));
        assert_eq!(bucket.wait(start, 1), Duration::from_millis(100));
        assert_eq!(bucket.wait(start, 50), Duration::from_millis(500));
    }

    #[test]
    fn without_a_limit_everything_conforms_and_nothing_overflows() {
        let (start, far) = (start(), start() + Duration::from_secs(1 << 32));
        let mut unlimited = bucket("none");
        assert!(unlimited.is_unlimited() && !bucket("1/s").is_unlimited() && !bucket("1B/s").is_unlimited());
        unlimited.take(start, usize::MAX);
        assert_eq!(unlimited.conforms_at(start, usize::MAX), None);
        for rate in ["1/s,1B/s", "4294967295/s,4294967295B/s"] {
            let mut bucket = bucket(rate);
            (0..3).for_each(|_| bucket.take(start, usize::MAX));
            assert!(bucket.wait(start, usize::MAX) > Duration::ZERO);
            bucket.take(far, 1);
            // A clock that goes back counts as one that stands still.
            assert_eq!(bucket.wait(start, 1), bucket.wait(far, 1));
        }
    }

    /// The messages that passed, with times: by definition a message conforms if no window that ends with it exceeds
    /// its share.
    struct Naive {
        rate: u128,
        passed: Vec<(u128, u128)>,
    }

    impl Naive {
        fn takes(&mut self, at: u128, cost: u128) -> bool {
            let mut sum = cost;
            let share = |from: u128| self.rate * (at - from) + self.rate * 1_000_000_000;
            let too_much = self.passed.iter().rev().any(|(from, earlier)| {
                sum += earlier;
                sum * 1_000_000_000 > share(*from)
            });
            if !too_much {
                self.passed.push((at, cost));
            }
            !too_much
        }
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_its_share_and_nothing_that_fits_is_refused(
            (rate, said) in (1..40_u32).prop_flat_map(|rate| {
                (Just(rate), vec((0..400_000_000_u64, 1..=rate as usize), 1..80))
            })
        ) {
            let (start, mut now, mut naive) = (start(), 0, Naive { rate: u128::from(rate), passed: Vec::new() });
            let mut bucket = Bucket::new(Rate { messages: None, bytes: NonZeroU32::new(rate) });
            for (pause, bytes) in said {
                now += pause;
                let at = |nanos| start + Duration::from_nanos(nanos);
                let refused = bucket.take_conforming(at(now), bytes).err();
                prop_assert_eq!(refused.is_none(), naive.takes(now.into(), bytes as u128));
                if let Some(wait) = refused {
                    // Exact to the nanosecond in both directions.
                    let nanos = u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert!(!bucket.wait(at(now + nanos - 1), bytes).is_zero());
                    prop_assert!(bucket.wait(at(now + nanos), bytes).is_zero());
                }
            }
        }
    }
}
