//! Validated quantities: probabilities, factors, times, sizes and counts, parsed from text or numbers.
//!
//! Command lines, link specifications and configurations are parsed into these types before the core sees them. Code
//! that takes one may rely on its bounds: no NaN, no negative time, no time that overflows a clock. Invalid input
//! becomes one sentence, a [`UnitError`].
//!
//! ```
//! use sayagain::units::{Probability, Seconds};
//!
//! assert_eq!("200ms".parse::<Seconds>()?.to_string(), "0.2s");
//! assert!("1.5".parse::<Probability>().is_err());
//! # Ok::<(), sayagain::units::UnitError>(())
//! ```

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

mod time;

pub use time::{PositiveSeconds, Seconds};
pub(crate) use time::{later, scale, uniform};

/// `1 rule`, `2 rules`.
pub(crate) fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// The most characters of an offending text in an error, after escaping.
const SHOWN: usize = 40;

/// The reason why a text or a number is not the required quantity, as one sentence.
///
/// The offending text is shown escaped and cut to 40 characters, so the sentence is safe on a terminal and in a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}: {why}")]
pub struct UnitError {
    text: String,
    wanted: &'static str,
    why: &'static str,
}

impl UnitError {
    /// `wanted` with its article ("a probability"), `why` as the rest of the sentence ("it must not be negative").
    pub(crate) fn new(text: &str, wanted: &'static str, why: &'static str) -> Self {
        Self { text: shown(text), wanted, why }
    }
}

/// `text`, escaped and cut to [`SHOWN`] characters with an ellipsis.
fn shown(text: &str) -> String {
    let mut escaped = text.chars().flat_map(char::escape_debug);
    let mut shown: String = escaped.by_ref().take(SHOWN).collect();
    if escaped.next().is_some() {
        shown.push('…');
    }
    shown
}

/// A probability: a number from 0 to 1, both included, never NaN.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f64);

impl Probability {
    /// Probability 0.
    #[doc(hidden)]
    pub const ZERO: Self = Self(0.0);
    /// Probability 1.
    #[doc(hidden)]
    pub const ONE: Self = Self(1.0);

    /// Creates a probability from a number from 0 to 1.
    ///
    /// # Errors
    ///
    /// NaN, and numbers below 0 or above 1.
    pub fn new(value: f64) -> Result<Self, UnitError> {
        Self::checked(value, &value.to_string())
    }

    /// The number, 0 to 1.
    #[doc(hidden)]
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The probability of the opposite.
    #[must_use]
    pub(crate) const fn complement(self) -> Self {
        Self(1.0 - self.0)
    }

    /// Whether the event happens, for a `draw` that is uniform over all `u64`. Exact for 0, 1 and all multiples of
    /// 2^-53 between them.
    #[must_use]
    pub(crate) const fn happens(self, draw: u64) -> bool {
        // The 53 bits that an f64 holds exactly, as a number in [0, 1): always below 1, never below 0.
        let unit = (draw >> 11) as f64 / (1_u64 << 53) as f64;
        unit < self.0
    }

    fn checked(value: f64, text: &str) -> Result<Self, UnitError> {
        let refuse = |why| Err(UnitError::new(text, "a probability", why));
        match value {
            v if v.is_nan() => refuse("it is not a number"),
            v if v < 0.0 => refuse("it must not be below 0"),
            v if v > 1.0 => refuse("it must not be above 1"),
            v => Ok(Self(v.abs())), // so that -0 is 0
        }
    }
}

impl FromStr for Probability {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::checked(number(text), text)
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A growth factor of timeouts: a number from 1 to 1,000.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Factor(f64);

impl Factor {
    /// No growth.
    #[doc(hidden)]
    pub const ONE: Self = Self(1.0);
    /// RFC 7252 section 4.8: ACK_RANDOM_FACTOR.
    pub(crate) const THREE_HALVES: Self = Self(1.5);
    /// Doubling.
    pub const TWO: Self = Self(2.0);

    /// Creates a factor from a number from 1 to 1,000.
    ///
    /// # Errors
    ///
    /// NaN, and numbers below 1 or above 1,000.
    pub fn new(value: f64) -> Result<Self, UnitError> {
        Self::checked(value, &value.to_string())
    }

    /// The number, 1 to 1,000.
    #[doc(hidden)]
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    fn checked(value: f64, text: &str) -> Result<Self, UnitError> {
        let refuse = |why| Err(UnitError::new(text, "a factor", why));
        match value {
            v if v.is_nan() => refuse("it is not a number"),
            v if v < 1.0 => refuse("it must not be below 1"),
            v if v > 1000.0 => refuse("it must not be above 1000"),
            v => Ok(Self(v)),
        }
    }
}

impl FromStr for Factor {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::checked(number(text), text)
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `text` as a decimal number, NaN if it is none.
fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// A number of bytes that fits the address range.
///
/// Parsed from digits (`1200`), or digits with a binary unit: `64KiB` or `64K`, `16MiB` or `16M`, `1GiB` or `1G`.
/// Displayed with the largest unit that divides it; parsing that returns the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ByteSize(usize);

/// Suffixes of [`ByteSize`] with their powers of two; the first of one power is displayed.
const BYTE_UNITS: [(&str, u32); 6] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("G", 30), ("M", 20), ("K", 10)];

impl ByteSize {
    /// Creates a size from any number of bytes.
    #[must_use]
    pub(crate) const fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub(crate) const fn get(self) -> usize {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = |why| UnitError::new(text, "a number of bytes", why);
        let unit = BYTE_UNITS.iter().find_map(|(suffix, power)| Some((text.strip_suffix(suffix)?, *power)));
        let (digits, power) = unit.unwrap_or((text, 0));
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("it must be digits, or digits with KiB, MiB or GiB"));
        }
        // The only remaining error is too many digits.
        let count: Option<usize> = digits.parse().ok();
        count.and_then(|n| n.checked_mul(1 << power)).map(Self).ok_or_else(|| refuse("it is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |power: u32| self.0 != 0 && self.0.trailing_zeros() >= power;
        match BYTE_UNITS.iter().find(|(_, power)| exact(*power)) {
            Some((suffix, power)) => write!(f, "{}{suffix}", self.0 >> power),
            None => self.0.fmt(f),
        }
    }
}

/// A count, from 0: digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(usize);

impl Count {
    /// The number.
    #[must_use]
    pub(crate) const fn get(self) -> usize {
        self.0
    }
}

impl FromStr for Count {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = |why| UnitError::new(text, "a number", why);
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse("it must be digits"));
        }
        if digits.len() < text.len() {
            return Err(refuse("it must not be negative"));
        }
        // The only remaining error is too many digits.
        text.parse().map(Self).map_err(|_| refuse("it is too large"))
    }
}

/// A count of at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtLeastOne(NonZeroUsize);

impl AtLeastOne {
    /// The number.
    #[must_use]
    pub(crate) const fn get(self) -> NonZeroUsize {
        self.0
    }
}

impl FromStr for AtLeastOne {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let count = text.parse::<Count>()?.get();
        let refuse = || UnitError::new(text, "enough", "it must be at least 1");
        NonZeroUsize::new(count).map(Self).ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refusal<T: FromStr<Err = UnitError> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().to_string()
    }

    #[test]
    fn a_probability_is_a_number_from_0_to_1() {
        for (text, value) in [("0", 0.0), ("1", 1.0), (".5", 0.5), ("1e-3", 0.001), ("-0", 0.0)] {
            let p: Probability = text.parse().unwrap();
            assert_eq!(p.get(), value, "{text}");
            assert!(p.get().is_sign_positive(), "{text}");
        }
        for text in ["", "NaN", "nan", "inf", "-inf", "-0.1", "1.0001", "1e300", "half", "0,5", " 1", "5%"] {
            assert!(text.parse::<Probability>().is_err(), "{text}");
        }
        assert!(Probability::new(f64::NAN).is_err());
        assert_eq!(Probability::new(0.25).unwrap().complement().get(), 0.75);
    }

    #[test]
    fn a_probability_of_0_never_and_of_1_always_happens() {
        for draw in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert!(!Probability::ZERO.happens(draw));
            assert!(Probability::ONE.happens(draw));
        }
    }

    #[test]
    fn a_probability_just_under_1_fails_for_one_draw_in_2_to_the_53rd() {
        let almost = Probability::new(1.0 - f64::EPSILON / 2.0).unwrap();
        assert!(almost.get() < 1.0);
        assert!(!almost.happens(u64::MAX));
        assert!(!almost.happens(u64::MAX - 2047));
        assert!(almost.happens(u64::MAX - 2048));
        assert!(almost.happens(0));
    }

    #[test]
    fn a_probability_of_one_half_happens_for_exactly_the_lower_half() {
        let half = Probability::new(0.5).unwrap();
        assert!(half.happens((1 << 63) - 1));
        assert!(!half.happens(1 << 63));
    }

    #[test]
    fn a_factor_is_a_number_from_1_to_1000() {
        assert_eq!("1.5".parse::<Factor>().unwrap(), Factor::THREE_HALVES);
        assert_eq!("1000".parse::<Factor>().unwrap().get(), 1000.0);
        for text in ["", "0", "0.99", "1001", "inf", "NaN", "-2"] {
            assert!(text.parse::<Factor>().is_err(), "{text}");
        }
        assert!(Factor::new(f64::NAN).is_err());
    }

    #[test]
    fn displayed_quantities_parse_to_the_same_value() {
        for nanos in [0, 1, 100_000_000, 1_500_000_000, 60_000_000_000, 123_456_789_012] {
            let length = Seconds::new(Duration::from_nanos(nanos)).unwrap();
            assert_eq!(length.to_string().parse::<Seconds>().unwrap(), length);
        }
        for bytes in [0, 1, 1000, 1024, 1536, 1 << 20, 16 << 20, 3 << 30, usize::MAX] {
            let size = ByteSize::new(bytes);
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
        assert_eq!(".1".parse::<Seconds>().unwrap().to_string(), "0.1s");
        assert_eq!("1G".parse::<ByteSize>().unwrap().to_string(), "1GiB");
    }

    #[test]
    fn bytes_take_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1200", 1200),
            ("64KiB", 65_536),
            ("64K", 65_536),
            ("16MiB", 16 << 20),
            ("16M", 16 << 20),
            ("1GiB", 1 << 30),
            ("1G", 1 << 30),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes, "{text}");
        }
        for text in ["", "K", "-1", "+1", "1.5M", "1 K", "1kB", "18446744073709551616", "99999999999G", "٣"]
        {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_is_one_sentence_that_shows_the_text_escaped_and_cut() {
        assert_eq!(refusal::<Probability>("1.5"), "`1.5` is not a probability: it must not be above 1");
        assert_eq!(
            refusal::<Seconds>("1e300"),
            "`1e300` is not a duration: it must not be longer than ten years"
        );
        assert_eq!(refusal::<Count>("-2"), "`-2` is not a number: it must not be negative");
        assert_eq!(refusal::<Count>("2x"), "`2x` is not a number: it must be digits");
        assert_eq!(refusal::<AtLeastOne>("0"), "`0` is not enough: it must be at least 1");
        assert_eq!(refusal::<Seconds>("-2"), "`-2` is not a duration: it must not be negative");
        assert_eq!(refusal::<ByteSize>("1\u{1b}[2J"), {
            "`1\\u{1b}[2J` is not a number of bytes: it must be digits, or digits with KiB, MiB or GiB"
        });
        assert!(refusal::<ByteSize>(&"\n".repeat(1_000_000)).chars().count() < 150);
        assert!(refusal::<Seconds>("x\ny").lines().count() == 1);
    }
}
