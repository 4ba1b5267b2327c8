//! How much a peer may say in a second: the amounts, how they are written, and the [`Bucket`] that keeps count.
//!
//! The door that a rate belongs to is a [`Door`](crate::door::Door); what happens to who says more is up to the server.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::escape::escape_short;
use crate::units::{ByteSize, later};

/// Most messages, and most bytes, that one client may send in a second; the default is as many as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Messages per second.
    pub messages: Option<NonZeroU32>,
    /// Bytes per second.
    pub bytes: Option<NonZeroU32>,
}

impl Rate {
    /// Without a limit.
    pub const UNLIMITED: Self = Self { messages: None, bytes: None };

    /// So many messages per second, of any size; 0 is no limit.
    pub const fn messages(per_second: u32) -> Self {
        Self { messages: NonZeroU32::new(per_second), bytes: None }
    }
}

/// Reads `5/s`, `64KiB/s`, both as `5/s,64KiB/s`, or `none`.
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

/// A token bucket for messages and one for bytes, each of which holds one second's worth and begins full.
///
/// It is the continuous-state leaky bucket of ITU-T I.371 Annex A (the generic cell rate algorithm, GCRA), with an
/// increment of one second divided by the rate and a limit of one second less that; in the terms of RFC 2697 and 2698,
/// one rate with a burst size of one second of it. Only what conforms should be [taken](Bucket::take): then no window of
/// time `t` sees more than `rate * t` and one second's worth. What is larger than the bucket conforms when the bucket is
/// full, and leaves a debt.
///
/// It counts in whole units of a nanosecond of one token, so nothing is ever rounded away.
///
/// ```
/// use sayagain::hub::rate::{Bucket, Rate};
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
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    messages: Option<Meter>,
    bytes: Option<Meter>,
    /// When something was last taken.
    taken_at: Option<Instant>,
}

/// One token bucket: how much of it is used.
#[derive(Clone, Copy, Debug)]
struct Meter {
    /// Tokens that come back in a second, and the most that there are.
    rate: NonZeroU32,
    /// What was taken and has not come back, in [`TOKEN`]s.
    used: u64,
}

/// One token: it comes back in so many nanoseconds at a rate of 1 per second.
const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// Two full buckets; an unlimited one costs and stops nothing.
    pub const fn new(rate: Rate) -> Self {
        Self { messages: Meter::new(rate.messages), bytes: Meter::new(rate.bytes), taken_at: None }
    }

    /// How long from `now` until a message of so many bytes conforms; zero if it does.
    pub fn wait(&self, now: Instant, bytes: usize) -> Duration {
        let past = self.past(now);
        let wait = |meter: &Option<Meter>, tokens| meter.map_or(Duration::ZERO, |m| m.wait(past, tokens));
        wait(&self.messages, 1).max(wait(&self.bytes, bytes as u64))
    }

    /// The instant at which a message of so many bytes conforms, if that is after `now`.
    pub fn conforms_at(&self, now: Instant, bytes: usize) -> Option<Instant> {
        Some(self.wait(now, bytes)).filter(|wait| !wait.is_zero()).map(|wait| later(now, wait))
    }

    /// Takes the tokens of a message of so many bytes if it conforms.
    ///
    /// # Errors
    ///
    /// It does not: how long until it would. Nothing is taken.
    pub fn take_conforming(&mut self, now: Instant, bytes: usize) -> Result<(), Duration> {
        let wait = self.wait(now, bytes);
        if wait.is_zero() {
            self.take(now, bytes);
            return Ok(());
        }
        Err(wait)
    }

    /// Takes the tokens of a message of so many bytes, whether they are there or not: what is lacking is a debt.
    pub fn take(&mut self, now: Instant, bytes: usize) {
        let past = self.past(now);
        self.taken_at = self.taken_at.max(Some(now));
        for (meter, tokens) in [(&mut self.messages, 1), (&mut self.bytes, bytes as u64)] {
            if let Some(meter) = meter {
                meter.used = meter.used_after(past).saturating_add(tokens.saturating_mul(TOKEN));
            }
        }
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

    /// What is used after so much time without another message.
    fn used_after(&self, past: Duration) -> u64 {
        let back = past.as_nanos().saturating_mul(u128::from(self.rate.get()));
        self.used.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
    }

    fn wait(&self, past: Duration, tokens: u64) -> Duration {
        let rate = u64::from(self.rate.get());
        // Of more than the bucket holds, only that it is full.
        let free_enough = (rate * TOKEN).saturating_sub(tokens.saturating_mul(TOKEN));
        Duration::from_nanos(self.used_after(past).saturating_sub(free_enough).div_ceil(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_no_rate_is_refused_in_one_line() {
        for text in ["", "5", "0/s", "-1/s", "5/s,6/s", "5/min", "x/s", "4294967296/s", "5/s,", "\x1b/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.starts_with('`') && !error.contains('\x1b'), "{error}");
        }
    }
}
