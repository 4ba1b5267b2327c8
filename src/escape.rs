//! Escaping of peers' text for terminals and logs.
//!
//! A peer's bytes may hold sequences that move the cursor, change colours, change the reading direction or begin a new
//! line in a log. All peers' text that is displayed or logged goes through [`escape`] or [`escape_short`].
//!
//! Unescaped are: printable text of any script, its combining marks, spaces of any width, and the two joiners U+200C
//! and U+200D. The spelling of Persian, Indian scripts and emoji needs the joiners. All else is escaped:
//!
//! | what | shown as |
//! |---|---|
//! | C0 controls and DEL, line feeds and tabs too | `\x1b`, `\x0a` |
//! | C1 controls, U+2028, U+2029, bidi controls and all other format characters | `\u{9b}`, `\u{202e}` |
//! | characters unassigned or private to this build's Unicode tables, noncharacters | `\u{e000}` |
//! | bytes that are not UTF-8 | `\xff` |
//!
//! A backslash stays as it was typed: `C:\dir` is `C:\dir`. It is doubled only where it would begin an escape: before
//! `x` and two hexadecimal digits, before `u{`, and before a character that is itself escaped. So the typed text `\x1b`
//! is shown as `\\x1b`, and different input never looks the same.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::iter::repeat_n;

/// The end of a shortened text.
const CUT: &str = "..";

/// Escapes `bytes` for display. See the [module](self) for the rules.
///
/// Borrows if nothing needs escaping. The result has at most four times the bytes of the input; for a short line, use
/// [`escape_short`].
///
/// ```
/// use sayagain::escape::escape;
///
/// assert_eq!(escape(b"Heyyyooo!"), "Heyyyooo!");
/// assert_eq!(escape(b"\x1b[2J\xff"), r"\x1b[2J\xff");
/// assert_eq!(escape("a\u{202e}b".as_bytes()), r"a\u{202e}b");
/// assert_eq!(escape(br"C:\dir"), r"C:\dir");
/// ```
#[must_use]
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| c != '\\' && is_shown(c)) => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(bytes, |_| ())),
    }
}

/// [`escape`], shortened to at most `max_chars` characters: a longer text ends with `..`, which count.
///
/// An escape is never split. The work is bounded by `max_chars`, whatever the length of `bytes`.
///
/// ```
/// use sayagain::escape::escape_short;
///
/// assert_eq!(escape_short(b"Heyyyooo!", 9), "Heyyyooo!");
/// assert_eq!(escape_short(b"Heyyyooo!", 8), "Heyyyo..");
/// assert_eq!(escape_short(b"Hey\x1b[2J", 8), "Hey..");
/// ```
#[doc(hidden)]
#[must_use]
pub fn escape_short(bytes: &[u8], max_chars: usize) -> Cow<'_, str> {
    // Four bytes make at least one character of output. A character that is split here is beyond the limit, and cut off
    // below.
    let enough = max_chars.saturating_add(2).saturating_mul(4);
    let start = bytes.get(..enough).unwrap_or(bytes);
    let whole = escape(start);
    if whole.chars().nth(max_chars).is_none() {
        return whole;
    }
    Cow::Owned(cut(start, max_chars))
}

/// Escapes `bytes`, whose text is too long, and cuts it to `max_chars` characters.
fn cut(bytes: &[u8], max_chars: usize) -> String {
    let mut joints = Vec::new();
    let mut text = escaped(bytes, |joint| joints.push(joint));
    let room = text.char_indices().nth(max_chars.saturating_sub(CUT.len())).map_or(0, |(at, _)| at);
    text.truncate(joints.into_iter().rev().find(|joint| *joint <= room).unwrap_or(0));
    text.extend(CUT.chars().take(max_chars));
    text
}

/// Escapes `bytes`. Calls `mark` with the length of the text before every unit that must not be split.
fn escaped(bytes: &[u8], mut mark: impl FnMut(usize)) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push_text(&mut out, chunk.valid(), !chunk.invalid().is_empty(), &mut mark);
        for byte in chunk.invalid() {
            mark(out.len());
            push_escape(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out
}

/// Appends a text; `escape_follows` says whether an escape follows it.
fn push_text(out: &mut String, text: &str, escape_follows: bool, mark: &mut impl FnMut(usize)) {
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\\' {
            let after = rest.as_str().trim_start_matches('\\');
            let run = 1 + rest.as_str().len() - after.len();
            let shown = if is_misleading(after, escape_follows) { r"\\" } else { r"\" };
            for shown in repeat_n(shown, run) {
                mark(out.len());
                out.push_str(shown);
            }
            rest = after.chars();
        } else {
            mark(out.len());
            push_char(out, c);
        }
    }
}

/// Appends a character other than a backslash.
fn push_char(out: &mut String, c: char) {
    match c {
        _ if is_shown(c) => out.push(c),
        '\0'..='\x7f' => push_escape(out, format_args!("\\x{:02x}", u32::from(c))),
        _ => push_escape(out, format_args!("\\u{{{:x}}}", u32::from(c))),
    }
}

fn push_escape(out: &mut String, escape: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(escape);
}

/// Whether a backslash before `after` could be read as the beginning of an escape; `escape_follows` refers to the text
/// after `after`.
fn is_misleading(after: &str, escape_follows: bool) -> bool {
    match (after.as_bytes(), after.chars().next()) {
        (_, None) => escape_follows,
        ([b'x', high, low, ..], _) => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        ([b'u', b'{', ..], _) => true,
        (_, Some(c)) => !is_shown(c),
    }
}

/// Whether a character is displayed unescaped.
fn is_shown(c: char) -> bool {
    match c {
        ' '..='~' | '\u{200c}' | '\u{200d}' => true,
        '\u{2028}' | '\u{2029}' => false,
        _ if c.is_control() => false,
        _ => c.is_whitespace() || is_printable(c),
    }
}

/// Whether a character other than a space is printable, by the tables of the standard library.
///
/// They are accessible only through `escape_debug`, which escapes all unprintable characters, and combining marks that
/// follow nothing.
fn is_printable(c: char) -> bool {
    let mut after_x = [b'x'; 5];
    let length = c.encode_utf8(&mut after_x[1..]).len();
    std::str::from_utf8(&after_x[..=length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// Escapes text for content or attribute values of XML 1.0 and HTML. Characters that XML cannot represent become
/// U+FFFD.
///
/// ```
/// assert_eq!(sayagain::escape::escape_xml("<a & \"b\">\u{1b}"), "&lt;a &amp; &quot;b&quot;&gt;\u{fffd}");
/// ```
#[doc(hidden)]
#[must_use]
pub fn escape_xml(text: &str) -> Cow<'_, str> {
    let special = |c: char| {
        matches!(c, '<' | '>' | '&' | '"' | '\'' | '\u{fffe}' | '\u{ffff}')
            || (c.is_control() && !matches!(c, '\t' | '\n'))
    };
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if special(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    fn shown(text: &str) -> String {
        escape(text.as_bytes()).into_owned()
    }

    /// Parses an escaped text, by the rules of the module's documentation alone.
    fn unescape(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = rest.trim_start_matches('\\');
            let run = rest.len() - after.len();
            let (kept, escape) = match read_escape(after) {
                Some(_) if run.is_multiple_of(2) => (run / 2, None),
                Some(escape) => (run / 2, Some(escape)),
                None => (run, None),
            };
            out.extend(repeat_n(b'\\', kept));
            rest = match escape {
                Some((bytes, rest)) => {
                    out.extend(bytes);
                    rest
                }
                None if run > 0 => after,
                None => {
                    out.extend(c.to_string().bytes());
                    &rest[c.len_utf8()..]
                }
            };
        }
        out
    }

    /// The meaning of an escape without its backslash, and the text after it.
    fn read_escape(text: &str) -> Option<(Vec<u8>, &str)> {
        if let Some(digits) = text.strip_prefix("u{") {
            let (digits, rest) = digits.split_once('}').unwrap_or((digits, ""));
            let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
            return Some((c.map(String::from).unwrap_or_default().into_bytes(), rest));
        }
        let digits = text.strip_prefix('x')?.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        Some((vec![u8::from_str_radix(digits, 16).unwrap()], &text[3..]))
    }

    /// Whether a terminal or a log would do anything but display it.
    fn is_dangerous(c: char) -> bool {
        matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..)
    }

    /// Bytes that exercise the rules: escapes, things that look like escapes, controls, broken UTF-8.
    fn awkward(rng: &mut ChaCha8Rng) -> Vec<u8> {
        const PIECES: [&[u8]; 18] = [
            b"\\",
            b"\\\\",
            b"x1b",
            b"u{202e}",
            b"u{",
            b"}",
            b"xf",
            b"f",
            b"hello ",
            b"\x1b[2J",
            b"\r\n",
            b"\x7f",
            b"\xff",
            b"\xe2\x80",
            b"\xc2\x9b",
            b"\xe2\x80\xae",
            b"\xe2\x81\xa6",
            "\u{e9}\u{301}山".as_bytes(),
        ];
        let mut bytes = Vec::new();
        for _ in 0..rng.random_range(0..8) {
            match rng.random_range(0..4) {
                0 => bytes.push(rng.random()),
                1 => bytes.extend(rng.random::<char>().to_string().bytes()),
                _ => bytes.extend(PIECES[rng.random_range(0..PIECES.len())]),
            }
        }
        bytes
    }

    #[test]
    fn printable_text_of_any_script_passes_without_a_copy() {
        for text in [
            "",
            "Heyyyooo!",
            "\"it's\"",
            "Zoë Zoe\u{308}",
            "Здравствуйте",
            "नमस्ते",
            "می\u{200c}خواهم",
            "שלום",
            "山\u{3000}川",
            "a\u{a0}b",
            "👩\u{200d}🚀 ❤\u{fe0f}",
        ] {
            assert!(matches!(escape(text.as_bytes()), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        for (text, expected) in [
            ("\0\t\n\r\x1b[31m\x7f", r"\x00\x09\x0a\x0d\x1b[31m\x7f"),
            ("\u{9b}2J\u{85}", r"\u{9b}2J\u{85}"),
            ("a\u{2028}b\u{2029}c", r"a\u{2028}b\u{2029}c"),
            (
                "\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}",
                r"\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}",
            ),
            (
                "\u{ad}\u{200b}\u{2060}\u{feff}\u{fff9}\u{e0041}",
                r"\u{ad}\u{200b}\u{2060}\u{feff}\u{fff9}\u{e0041}",
            ),
            ("\u{378}\u{e000}\u{ffff}\u{10ffff}", r"\u{378}\u{e000}\u{ffff}\u{10ffff}"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_one_by_one() {
        assert_eq!(escape(b"a\xffb\xe2\x80"), r"a\xffb\xe2\x80");
        assert_eq!(escape(b"\xed\xa0\x80\xc0\xaf"), r"\xed\xa0\x80\xc0\xaf");
    }

    #[test]
    fn a_typed_backslash_stays_unless_it_would_read_as_an_escape() {
        for text in [r"C:\dir", r"\", r"\\server\share", r"C:\x", r"\xq1", r"\u0041", r"\n"] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown(r"\x1b"), r"\\x1b");
        assert_eq!(shown(r"\\x1b"), r"\\\\x1b");
        assert_eq!(shown(r"\u{202e}"), r"\\u{202e}");
        assert_eq!(shown("C:\\\x1b"), r"C:\\\x1b");
        assert_eq!(escape(b"\\\xff"), r"\\\xff");
    }

    #[test]
    fn no_dangerous_character_is_ever_displayed_and_no_two_inputs_look_the_same() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..100_000 {
            let bytes = awkward(&mut rng);
            let text = escape(&bytes);
            assert!(!text.contains(is_dangerous), "{bytes:?}");
            assert!(text.len() <= bytes.len() * 4);
            assert_eq!(unescape(&text), bytes, "{text}");

            let max = rng.random_range(0..12);
            let short = escape_short(&bytes, max);
            assert!(!short.contains(is_dangerous), "{bytes:?}");
            assert!(short.chars().count() <= max);
            assert_eq!(short == text, text.chars().count() <= max);
        }
    }

    #[test]
    fn every_character_is_either_shown_or_escaped_and_none_dangerous_is_shown() {
        for c in char::MIN..=char::MAX {
            assert!(!(is_shown(c) && is_dangerous(c)), "{c:?}");
            assert_eq!(unescape(&shown(&c.to_string())), c.to_string().as_bytes());
        }
    }

    #[test]
    fn a_cut_text_ends_with_dots_and_splits_no_escape() {
        let cuts: Vec<_> = (0..=9).map(|max| escape_short(b"ab\x1bcd", max).into_owned()).collect();
        assert_eq!(cuts, ["", ".", "..", "a..", "ab..", "ab..", "ab..", "ab..", r"ab\x1bcd", r"ab\x1bcd"]);
        assert_eq!(escape_short("山川山川".as_bytes(), 3), "山..");
        assert_eq!(escape_short(&[b'\\'; 99], 5), r"\\\..");
        assert_eq!(escape_short(b"abc", usize::MAX), "abc");
    }

    #[test]
    fn a_short_text_of_a_long_message_costs_little_and_is_cut_in_whole_characters() {
        for piece in ["x", "山", "😀", "\x1b", "\u{10ffff}", "\\"] {
            let long = piece.repeat(1 << 20);
            let short = escape_short(long.as_bytes(), 20);
            assert!(short.ends_with(CUT) && !short.contains("\\xf"), "{short}");
            let (start, _) = short.split_at(short.len() - CUT.len());
            assert!(shown(&long[..piece.len() * 20]).starts_with(start));
        }
    }
}
