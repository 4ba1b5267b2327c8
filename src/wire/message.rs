//! The payload of each verb, parsed from [`Frame::args`](super::Frame::args): words and single spaces. Those of RCV and
//! BYE are in `rcv` and `bye`.
//!
//! The body of a message is everything after the last separator: any bytes, including spaces and newlines. Only the
//! form is checked here; `names` checks names.

use std::time::Duration;

use super::{MAX_ID, Token, Verb, digits, encode_args};

/// Cuts `text` at its first space: the word before it and, if there is a space, the text after it.
#[must_use]
pub fn split_word(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == b' ').and_then(|space| text.split_at_checked(space)) {
        Some((word, rest)) => (word, rest.strip_prefix(b" ")),
        None => (text, None),
    }
}

/// The arguments of a REG. The name is not empty and holds no space; it is not checked further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegArgs<'a> {
    /// `name`: open a session, not repeatable.
    Name(&'a [u8]),
    /// `name ?nonce`: open a session, repeatable.
    Open {
        /// The name of the new session.
        name: &'a [u8],
        /// Identifies repeats of this REG; drawn anew for every session.
        nonce: Token,
    },
    /// `name token`: resume a session.
    Resume {
        /// The name of the session.
        name: &'a [u8],
        /// The session's token.
        token: Token,
    },
}

impl<'a> RegArgs<'a> {
    /// Parses the payload of a REG; `None` if it has none of the three forms.
    #[must_use]
    pub fn parse(args: &'a [u8]) -> Option<Self> {
        let (name, rest) = split_word(args);
        match rest {
            _ if name.is_empty() => None,
            None => Some(Self::Name(name)),
            Some([b'?', nonce @ ..]) => Token::parse(nonce).map(|nonce| Self::Open { name, nonce }),
            Some(token) => Token::parse(token).map(|token| Self::Resume { name, token }),
        }
    }
}

/// The arguments of a SND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SndArgs<'a> {
    /// A name or a `#room`, without spaces. No client has the empty name.
    pub target: &'a [u8],
    /// The message: any bytes, may be empty.
    pub body: &'a [u8],
}

impl<'a> SndArgs<'a> {
    /// Parses the payload of a SND; `None` without a space after the target.
    #[must_use]
    pub fn parse(args: &'a [u8]) -> Option<Self> {
        let (target, body) = split_word(args);
        body.map(|body| Self { target, body })
    }
}

/// Parses the payload of a GAP, the number of dropped messages; `None` unless it is a number within 64 bits.
#[must_use]
pub fn parse_gap(args: &[u8]) -> Option<u64> {
    digits::parse(args)
}

/// Appends the whole untagged GAP for `count` dropped messages.
///
/// [`encode_tag`](super::encode_tag) before it makes it a numbered push.
pub fn encode_gap(count: u64, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    digits::push(count, 0, &mut text);
    encode_args(None, Verb::Gap, &[&text], out);
}

/// The arguments of a tagged ERR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrArgs<'a> {
    /// The code, 0 to 999.
    pub code: u16,
    /// The text after the code and its space; may be empty.
    pub text: &'a [u8],
}

impl<'a> ErrArgs<'a> {
    /// Parses the payload of an ERR that begins with a code: `404 No such client!`, or a bare `401`.
    ///
    /// `None` unless the first word is three digits; most untagged ERRs are text alone.
    #[must_use]
    pub fn parse(args: &'a [u8]) -> Option<Self> {
        let (code, text) = split_word(args);
        let code: &[u8; 3] = code.try_into().ok()?;
        let code = u16::try_from(digits::parse_padded(code)?).ok()?;
        Some(Self { code, text: text.unwrap_or_default() })
    }
}

/// Parses the delay that a 429 asks for: the whole text is a number of milliseconds, at least 1.
#[must_use]
pub fn parse_wait(text: &[u8]) -> Option<Duration> {
    digits::parse(text).filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// Parses the ids of an ACK: ids and ranges of ids, `17-42,44`, as (first, last) in the order written.
///
/// `None` if there are more than `max_ranges`, or if anything is invalid. Invalid are: no range, an id that is not 1 to
/// [`MAX_ID`] or has a leading zero, a first above its last. Ranges may overlap and span all ids: clip them to what was
/// sent, never iterate them.
#[must_use]
pub fn parse_ranges(args: &[u8], max_ranges: usize) -> Option<Vec<(u64, u64)>> {
    let mut ranges = Vec::new();
    for text in args.split(|&byte| byte == b',') {
        if ranges.len() == max_ranges {
            return None;
        }
        ranges.push(parse_range(text)?);
    }
    Some(ranges)
}

/// Parses `17-42` or `44`.
fn parse_range(text: &[u8]) -> Option<(u64, u64)> {
    let mut ends = text.splitn(2, |&byte| byte == b'-').map(digits::parse);
    let first = ends.next()??;
    let last = ends.next().unwrap_or(Some(first))?;
    (1 <= first && first <= last && last <= MAX_ID).then_some((first, last))
}

/// Appends `ranges` in the form that [`parse_ranges`] reads: the text alone, without a frame.
///
/// The caller ensures that they hold valid ids and are not reversed.
pub fn encode_ranges(ranges: &[(u64, u64)], out: &mut Vec<u8>) {
    for (place, &(first, last)) in ranges.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        digits::push(first, 0, out);
        if first != last {
            out.push(b'-');
            digits::push(last, 0, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8] = b"abcdefghijklmnopqrstuv";

    fn token() -> Token {
        Token::parse(TOKEN).unwrap()
    }

    #[test]
    fn a_word_ends_at_the_first_space() {
        assert_eq!(split_word(b""), (&b""[..], None));
        assert_eq!(split_word(b"a"), (&b"a"[..], None));
        assert_eq!(split_word(b"a "), (&b"a"[..], Some(&b""[..])));
        assert_eq!(split_word(b" a"), (&b""[..], Some(&b"a"[..])));
        assert_eq!(split_word(b"a\n b c"), (&b"a\n"[..], Some(&b"b c"[..])));
        let long = [b'x'; 65_536];
        assert_eq!(split_word(&long), (&long[..], None));
    }

    #[test]
    fn a_reg_has_three_forms() {
        assert_eq!(RegArgs::parse(b"TEST01"), Some(RegArgs::Name(b"TEST01")));
        let open = RegArgs::Open { name: b"TEST01", nonce: token() };
        assert_eq!(RegArgs::parse(b"TEST01 ?abcdefghijklmnopqrstuv"), Some(open));
        let resume = RegArgs::Resume { name: b"TEST01", token: token() };
        assert_eq!(RegArgs::parse(b"TEST01 abcdefghijklmnopqrstuv"), Some(resume));
    }

    #[test]
    fn a_reg_of_any_other_form_is_refused() {
        for wrong in [
            "",
            " ",
            " abcdefghijklmnopqrstuv",
            "TEST01 ",
            "TEST01 ?",
            "TEST01 ??bcdefghijklmnopqrstuv",
            "TEST01  abcdefghijklmnopqrstuv",
            "TEST01 abcdefghijklmnopqrstuv ",
            "TEST01 abcdefghijklmnopqrstuvw",
            "TEST01 TEST02",
        ] {
            assert_eq!(RegArgs::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_snd_has_a_target_and_whatever_follows_one_space() {
        let snd = |target, body| Some(SndArgs { target, body });
        assert_eq!(SndArgs::parse(b"TEST01 Heyyyooo!"), snd(b"TEST01", b"Heyyyooo!"));
        assert_eq!(SndArgs::parse(b"#room  two  spaces\n"), snd(b"#room", b" two  spaces\n"));
        assert_eq!(SndArgs::parse(b"TEST01 "), snd(b"TEST01", b""));
        assert_eq!(SndArgs::parse(b"TEST01"), None);
        assert_eq!(SndArgs::parse(b""), None);
        assert_eq!(SndArgs::parse(&[b'x'; 65_536]), None);
    }

    #[test]
    fn a_gap_carries_any_64_bit_count() {
        for count in [0, 1, 12, MAX_ID, u64::MAX] {
            let mut out = Vec::new();
            encode_gap(count, &mut out);
            assert_eq!(parse_gap(&out[b"GAP 0000 ".len()..]), Some(count));
        }
        let mut out = Vec::new();
        encode_gap(12, &mut out);
        assert_eq!(out, b"GAP 0003 12");
        for wrong in ["", "-1", "+1", "012", "1 ", "18446744073709551616"] {
            assert_eq!(parse_gap(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_tagged_err_begins_with_three_digits() {
        let err = |code, text| Some(ErrArgs { code, text });
        assert_eq!(ErrArgs::parse(b"404 No such client!"), err(404, b"No such client!"));
        assert_eq!(ErrArgs::parse(b"401"), err(401, b""));
        assert_eq!(ErrArgs::parse(b"429 1500"), err(429, b"1500"));
        for wrong in ["", "No such client!", "40 x", "4040 x", "4 04", "+40 x", "-01", "404\nx", "40\u{ff14}"]
        {
            assert_eq!(ErrArgs::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn ranges_are_parsed_as_written_and_never_expanded() {
        assert_eq!(parse_ranges(b"17-42,44", 8), Some(vec![(17, 42), (44, 44)]));
        assert_eq!(parse_ranges(b"44,17-42,5-5", 8), Some(vec![(44, 44), (17, 42), (5, 5)]));
        assert_eq!(parse_ranges(b"1-9999999999999999999", 1), Some(vec![(1, MAX_ID)]));
        let mut out = Vec::new();
        encode_ranges(&[(17, 42), (44, 44)], &mut out);
        assert_eq!(out, b"17-42,44");
    }

    #[test]
    fn any_invalid_range_fails_the_whole_list() {
        for wrong in [
            "",
            ",",
            "1,",
            ",1",
            "0",
            "0-3",
            "01",
            "3-2",
            "1-",
            "-1",
            "1-2-3",
            "1--2",
            "1, 2",
            "1 -2",
            "+1",
            "1;2",
            "10000000000000000000",
            "1-10000000000000000000",
            "1-99999999999999999999999",
            "1\n",
            "\u{ff11}",
        ] {
            assert_eq!(parse_ranges(wrong.as_bytes(), 8), None, "{wrong:?}");
        }
    }

    #[test]
    fn more_ranges_than_allowed_are_refused() {
        assert_eq!(parse_ranges(b"1,2,3", 3).map(|ranges| ranges.len()), Some(3));
        assert_eq!(parse_ranges(b"1,2,3,4", 3), None);
        assert_eq!(parse_ranges(b"1", 0), None);
        assert_eq!(parse_ranges("1,".repeat(32_768).as_bytes(), 64), None);
    }
}
