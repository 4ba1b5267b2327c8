//! Lengths of time, parsed and bounded, and arithmetic that keeps them so. The other quantities are in `units`.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::{UnitError, number};

/// Ten years of 365 days: beyond any use, and far below the overflow of an addition.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A length of time from 0 to ten years, to the nanosecond.
///
/// Parsed from decimal seconds (`.1`, `30`, `1e-3`), or from a number with a unit: `200ms`, `5s`, `2m`, `1h`. Displayed
/// in seconds with their unit, `0.1s`; parsing that returns the same length.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(Duration);

impl Seconds {
    /// Zero.
    pub const ZERO: Self = Self(Duration::ZERO);
    /// Ten years of 365 days.
    pub const MAX: Self = Self(TEN_YEARS);

    /// Creates a length of time of up to [`Seconds::MAX`].
    ///
    /// # Errors
    ///
    /// Lengths over ten years.
    pub fn new(length: Duration) -> Result<Self, UnitError> {
        if length > TEN_YEARS {
            return Err(too_long(&format!("{length:?}")));
        }
        Ok(Self(length))
    }

    /// As a [`Duration`].
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Seconds {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (digits, unit) = split_time(text);
        let seconds = number(digits) * unit;
        if seconds.is_nan() {
            return Err(UnitError::new(
                text,
                "a duration",
                "it is not a number of seconds, nor one with ms, s, m or h",
            ));
        }
        if seconds < 0.0 {
            return Err(UnitError::new(text, "a duration", "it must not be negative"));
        }
        // Longer than a `Duration` can hold is too long as well.
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|d| *d <= TEN_YEARS)
            .map(Self)
            .ok_or_else(|| too_long(text))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            return write!(f, "{whole}s");
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{whole}.{}s", fraction.trim_end_matches('0'))
    }
}

/// The error for more than ten years.
fn too_long(text: &str) -> UnitError {
    UnitError::new(text, "a duration", "it must not be longer than ten years")
}

/// The number in `text`, and the length of its unit in seconds.
fn split_time(text: &str) -> (&str, f64) {
    // "ms" comes first, because it ends with "s" too.
    const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = UNITS.iter().find_map(|(suffix, seconds)| Some((text.strip_suffix(suffix)?, *seconds)));
    unit.unwrap_or((text, 1.0))
}

/// A length of time from a nanosecond to ten years, as timeouts and intervals need.
///
/// Parsed and displayed as [`Seconds`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PositiveSeconds(Seconds);

impl PositiveSeconds {
    /// Creates a length of time above 0 and up to [`Seconds::MAX`].
    ///
    /// # Errors
    ///
    /// 0, and lengths over ten years.
    pub fn new(length: Duration) -> Result<Self, UnitError> {
        Self::checked(Seconds::new(length)?, &format!("{length:?}"))
    }

    /// As a [`Duration`].
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0.as_duration()
    }

    fn checked(seconds: Seconds, text: &str) -> Result<Self, UnitError> {
        if seconds == Seconds::ZERO {
            return Err(UnitError::new(text, "a duration", "it must be more than zero"));
        }
        Ok(Self(seconds))
    }
}

impl FromStr for PositiveSeconds {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::checked(text.parse()?, text)
    }
}

impl fmt::Display for PositiveSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `now + wait`, with `wait` clamped to ten years; `now` itself if the clock cannot represent the sum.
pub(crate) fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait.min(TEN_YEARS)).unwrap_or(now)
}

/// `length` times `by`, at most ten years; `by` must not be negative or NaN.
pub(crate) fn scale(length: Duration, by: f64) -> Duration {
    Duration::try_from_secs_f64(length.as_secs_f64() * by).unwrap_or(TEN_YEARS).min(TEN_YEARS)
}

/// A uniform length between two bounds, both included, to the nanosecond, from a `draw` that is uniform over all `u64`.
/// The bounds may be in any order, and are clamped to ten years.
pub(crate) fn uniform(one: Duration, other: Duration, draw: u64) -> Duration {
    let (low, high) = (one.min(other).min(TEN_YEARS), one.max(other).min(TEN_YEARS));
    // Below 2^59 choices: neither the product nor the quotient can overflow.
    let choices = (high - low).as_nanos() + 1;
    let picked = (choices * u128::from(draw)) >> 64;
    low + Duration::from_nanos(u64::try_from(picked).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Duration {
        text.parse::<Seconds>().unwrap().as_duration()
    }

    #[test]
    fn seconds_are_read_exactly_with_and_without_units() {
        for (text, millis) in [
            (".1", 100),
            ("0.5", 500),
            ("1e-3", 1),
            ("30", 30_000),
            ("200ms", 200),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
            ("-0", 0),
            ("315360000", 315_360_000_000),
        ] {
            assert_eq!(seconds(text), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn seconds_refuse_everything_that_is_no_length_of_time() {
        let wrong = [
            "",
            "s",
            "ms",
            "NaN",
            "NaNs",
            "inf",
            "-inf",
            "1e300",
            "1e400",
            "-1",
            "-1e-300",
            "315360001",
            "5 s",
            "1d",
            "1_0",
        ];
        for text in wrong {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
        assert!(Seconds::new(Duration::MAX).is_err());
        assert!(Seconds::new(TEN_YEARS).is_ok());
    }

    #[test]
    fn positive_seconds_refuse_zero_and_what_rounds_to_zero() {
        for text in ["0", "0ms", "-0", "1e-12"] {
            assert_eq!(
                text.parse::<PositiveSeconds>().unwrap_err().to_string(),
                format!("`{text}` is not a duration: it must be more than zero")
            );
        }
        assert_eq!("1e-9".parse::<PositiveSeconds>().unwrap().as_duration(), Duration::from_nanos(1));
        assert!(PositiveSeconds::new(Duration::ZERO).is_err());
        assert!(PositiveSeconds::new(Duration::MAX).is_err());
    }

    #[test]
    fn uniform_lengths_reach_both_ends_and_nothing_beyond() {
        let (low, high) = (Duration::from_millis(5), Duration::from_millis(50));
        assert_eq!(uniform(low, high, 0), low);
        assert_eq!(uniform(low, high, u64::MAX), high);
        assert_eq!(uniform(high, low, 0), low);
        assert_eq!(uniform(low, low, u64::MAX), low);
        assert_eq!(uniform(Duration::ZERO, Duration::MAX, u64::MAX), TEN_YEARS);
    }

    #[test]
    fn a_length_scaled_or_added_beyond_ten_years_stays_at_ten_years() {
        assert_eq!(scale(Duration::from_millis(100), 2.0), Duration::from_millis(200));
        assert_eq!(scale(TEN_YEARS, 1000.0), TEN_YEARS);
        assert_eq!(scale(Duration::MAX, f64::INFINITY), TEN_YEARS);
    }
}
