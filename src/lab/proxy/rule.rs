//! Rules that select the datagrams a proxy impairs: by direction, size and first bytes. Their text form and their
//! check are here.

use std::fmt;
use std::str::FromStr;

use crate::escape::escape_short;
use crate::link::Direction;

/// One condition on a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The direction that it applies to; `None` means both.
    direction: Option<Direction>,
    test: Test,
    /// Its text form.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// A comparison of the payload's size in bytes.
    Size(Comparison, usize),
    /// The first bytes of the payload.
    First(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    Unequal,
}

/// Comparisons in the spelling of most languages, longer ones first where one is a prefix.
const COMPARISONS: [(&str, Comparison); 6] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("!=", Comparison::Unequal),
    (">", Comparison::Above),
    ("<", Comparison::Below),
    ("=", Comparison::Equal),
];

/// Why a text is not a rule, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rule; write size>200, size<=100, first=HEX or first=\"TEXT\", with up: or down: before it for one direction"
)]
pub(crate) struct RuleError(String);

impl Rule {
    /// Whether a datagram in `direction` satisfies the rule. A rule for the other direction always holds.
    #[must_use]
    pub(crate) fn holds(&self, direction: Direction, bytes: &[u8]) -> bool {
        if self.direction.is_some_and(|about| about != direction) {
            return true;
        }
        match &self.test {
            Test::Size(comparison, size) => comparison.holds(bytes.len(), *size),
            Test::First(first) => bytes.starts_with(first),
        }
    }
}

impl Comparison {
    const fn holds(self, left: usize, right: usize) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
            Self::Equal => left == right,
            Self::Unequal => left != right,
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let refuse = || RuleError(escape_short(text.as_bytes(), 80).into_owned());
        let (direction, rest) = match text.split_once(':') {
            Some(("up", rest)) => (Some(Direction::Up), rest),
            Some(("down", rest)) => (Some(Direction::Down), rest),
            _ => (None, text),
        };
        let test = size(rest).or_else(|| first(rest)).ok_or_else(refuse)?;
        Ok(Self { direction, test, text: text.to_owned() })
    }
}

fn size(text: &str) -> Option<Test> {
    let rest = text.strip_prefix("size")?;
    let (comparison, number) =
        COMPARISONS.iter().find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))?;
    let digits = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(Test::Size(comparison, digits.parse().ok()?))
}

fn first(text: &str) -> Option<Test> {
    let rest = text.strip_prefix("first=")?;
    let quoted = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let bytes = match quoted {
        Some(quoted) => quoted.as_bytes().to_vec(),
        None => hex(rest)?,
    };
    Some(Test::First(bytes))
}

/// Reads pairs of hexadecimal digits, at least one.
fn hex(text: &str) -> Option<Vec<u8>> {
    let is_hex =
        !text.is_empty() && text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    is_hex.then(|| text.as_bytes().chunks(2).map(pair).collect::<Option<_>>()).flatten()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Down, Up};

    fn holds(rule: &str, direction: Direction, bytes: &[u8]) -> bool {
        rule.parse::<Rule>().unwrap().holds(direction, bytes)
    }

    #[test]
    fn sizes_compare_with_the_payload() {
        let holding = |bytes: &[u8]| {
            ["size>2", "size>=2", "size<2", "size<=2", "size=2", "size!=2"].map(|rule| holds(rule, Up, bytes))
        };
        assert_eq!(holding(b"a"), [false, false, true, true, false, true]);
        assert_eq!(holding(b"ab"), [false, true, false, true, true, false]);
        assert_eq!(holding(b"abc"), [true, true, false, false, false, true]);
    }

    #[test]
    fn first_bytes_are_hexadecimal_or_quoted_text() {
        assert!(holds("first=4001", Up, b"\x40\x01rest"));
        assert!(!holds("first=4001", Up, b"\x40"));
        assert!(holds("first=fF", Up, b"\xff"));
        assert!(holds("first=\"PNG \"", Up, b"PNG 0000"));
        assert!(holds("first=\"\"", Up, b""));
    }

    #[test]
    fn a_rule_for_one_direction_always_holds_in_the_other() {
        assert!(!holds("down:size>2", Down, b"a"));
        assert!(holds("down:size>2", Up, b"a"));
        assert!(!holds("up:first=00", Up, b"a"));
    }

    #[test]
    fn anything_else_is_refused_in_one_line() {
        let wrong = [
            "",
            "size",
            "size>",
            "size>-1",
            "size>+1",
            "size~1",
            "size>1x",
            "first=",
            "first=4",
            "first=xy",
            "first=\"",
            "left:size>1",
            "up:",
            "size>99999999999999999999",
            "up:down:size>1",
            "first=\u{663}\u{663}",
            "\x1b",
        ];
        for text in wrong {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.lines().count() == 1 && !error.contains('\x1b'), "{text}: {error}");
        }
    }
}
