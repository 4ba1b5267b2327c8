//! Cuts a stream of bytes into lines of text, resumable at any byte: the input of netcat and telnet users.
//!
//! A line ends with LF, CR LF, or CR NUL, which is telnet's Enter (RFC 854). Telnet commands are skipped wherever they
//! stand; a subnegotiation of any length is not kept. They get no answer, so that two ends cannot negotiate for ever.
//! The one exception is a question with exactly one answer: see [`Found::TimingMark`].

use std::mem;

/// The most bytes in a line. A longer line is returned in pieces: [`Found::Front`] and [`Found::Rest`].
pub const MAX_LINE: usize = 2_500;

/// The smallest limit of [`Lines::with_limit`]: no character is longer.
const MIN_LIMIT: usize = 4;

/// The whole answer to [`Found::TimingMark`]: IAC WONT TIMING-MARK (RFC 860).
pub const NO_TIMING_MARK: [u8; 3] = [IAC, WONT, TIMING_MARK];

/// Interpret as command (RFC 854); doubled, it is the byte itself.
const IAC: u8 = 255;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
/// Begins a subnegotiation.
const SB: u8 = 250;
/// Ends it, after an IAC.
const SE: u8 = 240;
const TIMING_MARK: u8 = 6;

/// Cuts one direction of one stream into lines of at most [`MAX_LINE`] bytes.
///
/// It keeps one unfinished line, or one piece of it, and nothing else. A line of more than [`MAX_LINE`] bytes is
/// returned in pieces. Only the first piece may be interpreted as a line; the others belong to it. No cut splits a
/// UTF-8 character: up to 3 bytes stay for the next piece. The result does not depend on how the stream was split.
///
/// ```
/// use sayagain::wire::{Found, Lines};
///
/// let mut lines = Lines::default();
/// let mut found = Vec::new();
/// for mut input in [&b"Rick\r"[..], b"\nhello\nunfini"] {
///     found.extend(std::iter::from_fn(|| lines.next(&mut input)));
/// }
/// assert_eq!(found, [Found::Line(b"Rick".to_vec()), Found::Line(b"hello".to_vec())]);
/// assert_eq!(lines.flush(), Some(Found::Line(b"unfini".to_vec())));
/// ```
#[derive(Debug)]
pub struct Lines {
    /// The beginning of the unfinished line.
    buf: Vec<u8>,
    limit: usize,
    /// A CR has arrived, and the next byte decides its meaning.
    cr: bool,
    /// The beginning of the unfinished line was returned.
    continued: bool,
    /// The last line was returned before its end: a line end right after it belongs to it.
    open_end: bool,
    telnet: Telnet,
    heard: bool,
    begun: bool,
}

/// The position in a telnet command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telnet {
    /// In none.
    Text,
    /// After its IAC.
    Command,
    /// After WILL, WONT, DO or DONT: the option follows.
    Option { is_do: bool },
    /// In a subnegotiation.
    Sub,
    /// In a subnegotiation, after an IAC.
    SubCommand,
}

/// The result of [`Lines::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A line, without its end.
    Line(Vec<u8>),
    /// The first piece of a line that exceeds the limit.
    Front(Vec<u8>),
    /// The next piece of that line. It is not a line, whatever it looks like.
    Rest(Vec<u8>),
    /// The peer sent DO TIMING-MARK and waits for the answer: telnet does so after an interrupt, and discards output
    /// until then. One answer per question cannot loop.
    TimingMark,
}

impl Found {
    /// Its text; empty if it has none.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        match self {
            Self::Line(text) | Self::Front(text) | Self::Rest(text) => text,
            Self::TimingMark => &[],
        }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_limit(MAX_LINE)
    }
}

impl Lines {
    /// Creates a cutter for lines of at most `limit` bytes, clamped to 4 to [`MAX_LINE`].
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            buf: Vec::new(),
            limit: limit.clamp(MIN_LIMIT, MAX_LINE),
            cr: false,
            continued: false,
            open_end: false,
            telnet: Telnet::Text,
            heard: false,
            begun: false,
        }
    }

    /// Changes the limit of [`Lines::with_limit`]; an unfinished line that is too long for it is cut at its next byte.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(MIN_LIMIT, MAX_LINE);
    }

    /// Returns the next element of the stream, which continues with `input`, and cuts the used bytes off the front of
    /// `input`.
    ///
    /// `None` means that all of it is used.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Found> {
        while let [byte, rest @ ..] = *input {
            if self.is_stray_cr(*byte)
                && let Some(line) = self.push(b'\r')
            {
                return Some(line);
            }
            *input = rest;
            if let Some(found) = self.take(*byte) {
                return Some(found);
            }
        }
        None
    }

    /// Returns the unfinished line, or the last piece of one, as if it were finished; `None` if there is none. A line
    /// end right after it does not begin another line.
    pub fn flush(&mut self) -> Option<Found> {
        if self.buf.is_empty() {
            return None;
        }
        self.open_end = true;
        Some(self.finish())
    }

    /// Bytes of the unfinished line that were not returned; 0 between lines.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.buf.len()
    }

    /// Whether text has arrived since the last call. Telnet commands and line ends do not count.
    pub fn take_heard(&mut self) -> bool {
        mem::take(&mut self.heard)
    }

    /// Whether the unfinished line, or piece of one, is another one than at the last call.
    pub fn take_begun(&mut self) -> bool {
        mem::take(&mut self.begun) && !self.buf.is_empty()
    }

    /// Whether a CR is held that the next byte shows to be text.
    fn is_stray_cr(&mut self, next: u8) -> bool {
        let is_text = match self.telnet {
            Telnet::Text => !matches!(next, b'\n' | 0 | IAC),
            Telnet::Command => next == IAC,
            Telnet::Option { .. } | Telnet::Sub | Telnet::SubCommand => false,
        };
        // Right after a line that was returned early, a CR alone ends that line.
        is_text && mem::take(&mut self.cr) && !mem::take(&mut self.open_end)
    }

    fn take(&mut self, byte: u8) -> Option<Found> {
        match (self.telnet, byte) {
            (Telnet::Text, IAC) => self.telnet = Telnet::Command,
            (Telnet::Text, _) => return self.take_text(byte),
            (Telnet::Command, IAC) => {
                self.telnet = Telnet::Text;
                return self.push(IAC);
            }
            (Telnet::Command, WILL | WONT | DO | DONT) => {
                self.telnet = Telnet::Option { is_do: byte == DO };
            }
            (Telnet::Command | Telnet::SubCommand, SB) | (Telnet::Sub, 0..IAC) => self.telnet = Telnet::Sub,
            (Telnet::Sub, IAC) => self.telnet = Telnet::SubCommand,
            (Telnet::SubCommand, SE) | (Telnet::Command, _) => self.telnet = Telnet::Text,
            (Telnet::SubCommand, _) => self.telnet = Telnet::Sub,
            (Telnet::Option { is_do }, option) => {
                self.telnet = Telnet::Text;
                return (is_do && option == TIMING_MARK).then_some(Found::TimingMark);
            }
        }
        None
    }

    fn take_text(&mut self, byte: u8) -> Option<Found> {
        match byte {
            b'\r' => self.cr = true,
            b'\n' => return self.end(),
            0 if self.cr => return self.end(),
            _ => return self.push(byte),
        }
        None
    }

    fn end(&mut self) -> Option<Found> {
        self.cr = false;
        if mem::take(&mut self.open_end) {
            return None;
        }
        Some(self.finish())
    }

    /// Only an extra byte shows that a line is too long; its line end does not count.
    fn push(&mut self, byte: u8) -> Option<Found> {
        let piece = (self.buf.len() >= self.limit).then(|| self.cut());
        self.begun |= self.buf.is_empty();
        self.buf.push(byte);
        self.heard = true;
        self.open_end = false;
        piece
    }

    /// Takes the bytes of a line that is too long, except for a partial character at its end.
    fn cut(&mut self) -> Found {
        let whole = self.buf.len() - begun_character(&self.buf);
        let next = self.buf.split_off(whole);
        let piece = mem::replace(&mut self.buf, next);
        self.begun = true;
        if mem::replace(&mut self.continued, true) { Found::Rest(piece) } else { Found::Front(piece) }
    }

    /// Takes the line, or its last piece.
    fn finish(&mut self) -> Found {
        let text = mem::take(&mut self.buf);
        if mem::take(&mut self.continued) { Found::Rest(text) } else { Found::Line(text) }
    }
}

/// Bytes at the end that begin an incomplete UTF-8 character, 0 to 3.
fn begun_character(bytes: &[u8]) -> usize {
    let is_begun = |tail: &[u8]| {
        std::str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    let tail = |count: usize| bytes.len().checked_sub(count).and_then(|from| bytes.get(from..));
    (1..=3).find(|count| tail(*count).is_some_and(is_begun)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(pieces: &[&[u8]]) -> (Vec<Found>, Option<Found>) {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(found) = lines.next(&mut input) {
                assert!(found == Found::TimingMark || lines.buf.len() <= 4);
                all.push(found);
            }
            assert!(input.is_empty() && lines.buf.len() <= MAX_LINE);
        }
        (all, lines.flush())
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let (found, rest) = found(&[bytes]);
        let shown = |found: Found| match found {
            Found::Line(line) => String::from_utf8_lossy(&line).into_owned(),
            Found::Front(piece) => format!("[{}", String::from_utf8_lossy(&piece)),
            Found::Rest(piece) => format!("]{}", String::from_utf8_lossy(&piece)),
            Found::TimingMark => "<mark>".to_owned(),
        };
        found.into_iter().chain(rest).map(shown).collect()
    }

    /// A telnet command, or a byte of text, and its length.
    fn first(bytes: &[u8]) -> (Option<Result<u8, Found>>, usize) {
        match bytes {
            [255, 255, ..] => (Some(Ok(255)), 2),
            [255, 253, 6, ..] => (Some(Err(Found::TimingMark)), 3),
            [255, 251..=254, _, ..] => (None, 3),
            [255, 250, rest @ ..] => {
                let mut at = 0;
                while at < rest.len() && !rest[at..].starts_with(&[255, 240]) {
                    at += if rest[at] == 255 { 2 } else { 1 };
                }
                (None, (at + 4).min(bytes.len()))
            }
            [255, 251..=254] => (None, 2),
            [255, _, ..] => (None, 2),
            [255] => (None, 1),
            [byte, ..] => (Some(Ok(*byte)), 1),
            [] => (None, 0),
        }
    }

    /// A reference implementation of the module's documentation, with the whole stream at hand.
    fn reference(mut bytes: &[u8]) -> (Vec<Found>, Option<Found>) {
        let mut stream = Vec::new();
        while !bytes.is_empty() {
            let (first, length) = first(bytes);
            stream.extend(first);
            bytes = &bytes[length..];
        }
        let (mut all, mut line, mut continued, mut at) = (Vec::new(), Vec::new(), false, 0);
        let finished = |line: &mut Vec<u8>, continued: &mut bool| {
            let text = mem::take(line);
            if mem::take(continued) { Found::Rest(text) } else { Found::Line(text) }
        };
        while at < stream.len() {
            // The next byte of text decides the meaning of a CR, regardless of commands in between.
            let next = (at + 1..stream.len()).find(|next| stream[*next].is_ok());
            let pair = (stream[at].clone(), next.and_then(|next| stream[next].clone().ok()));
            at += 1;
            let marks_to = |end: usize| stream[at..end].iter().cloned().filter_map(Result::err);
            match pair {
                (Err(mark), _) => all.push(mark),
                (Ok(b'\r'), Some(b'\n' | 0)) => {
                    let end = next.unwrap();
                    all.extend(marks_to(end));
                    at = end + 1;
                    all.push(finished(&mut line, &mut continued));
                }
                (Ok(b'\r'), None) => {}
                (Ok(b'\n'), _) => all.push(finished(&mut line, &mut continued)),
                (Ok(byte), _) => {
                    // A stray CR is known to be text only with the next byte.
                    if byte == b'\r' {
                        let end = next.unwrap();
                        all.extend(marks_to(end));
                        at = end;
                    }
                    if line.len() >= MAX_LINE {
                        let keep = line.utf8_chunks().last().map_or(0, |chunk| {
                            let is_begun = std::str::from_utf8(chunk.invalid())
                                .is_err_and(|error| error.error_len().is_none());
                            if is_begun { chunk.invalid().len() } else { 0 }
                        });
                        let rest = line.split_off(line.len() - keep);
                        let piece = mem::replace(&mut line, rest);
                        let is_front = !mem::replace(&mut continued, true);
                        all.push(if is_front { Found::Front(piece) } else { Found::Rest(piece) });
                    }
                    line.push(byte);
                }
            }
        }
        let rest = (!line.is_empty()).then(|| finished(&mut line, &mut continued));
        (all, rest)
    }

    /// Telnet commands, line ends and text in any order.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "[a-z ]{0,9}".prop_map(String::into_bytes),
            2 => "\\PC{0,3}".prop_map(String::into_bytes),
            4 => prop::sample::select(vec![
                &b"\n"[..], b"\r\n", b"\r\0", b"\r", b"\0", b"\xff", b"\xff\xff", b"\xff\xfd\x06", b"\xff\xfb\x01",
                b"\xff\xfa\x18\0xterm\xff\xf0", b"\xff\xfa", b"\xff\xf0", b"\xff\xf4", b"\x80", b"\xe2\x82", b"\xf0",
            ]).prop_map(<[u8]>::to_vec),
            1 => (2_480..2_520_usize, "[x山😀ß\r]").prop_map(|(n, c)| c.repeat(n / c.len()).into_bytes()),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn lines_are_what_the_reference_says_however_the_stream_is_split(
            bytes in stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let whole = found(&[&bytes]);
            prop_assert_eq!(&whole, &reference(&bytes));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&whole, &found(&pieces));
        }
    }

    #[test]
    fn a_stream_may_be_split_at_any_byte() {
        let script = b"\xff\xfd\x06Ri\xff\xfb\x01ck\r\n\xff\xfa\x18\0x\n\xff\xffy\xff\xf0hello\r\0a\xff\xffb\nc\rd\xff\xf4\n..";
        let whole = found(&[script]);
        let lines = [&b"Rick"[..], b"hello", b"a\xffb", b"c\rd"].map(|line| Found::Line(line.to_vec()));
        assert_eq!(whole.0[0], Found::TimingMark);
        assert_eq!(whole.0[1..], lines);
        assert_eq!(whole.1, Some(Found::Line(b"..".to_vec())));
        for one in 0..=script.len() {
            for two in one..=script.len() {
                assert_eq!(found(&[&script[..one], &script[one..two], &script[two..]]), whole, "{one} {two}");
            }
        }
    }

    #[test]
    fn a_line_ends_in_each_of_three_ways_and_empty_ones_are_lines() {
        assert_eq!(texts(b"a\nb\r\nc\r\0\n\r\nd"), ["a", "b", "c", "", "", "d"]);
        assert_eq!(texts(b"a\0b\r"), ["a\0b"], "a NUL alone is text, and a CR at the end may become an end");
        assert_eq!(texts(b"a\r\r\nb\rc\n"), ["a\r", "b\rc"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_without_parting_a_character_and_only_a_byte_too_many_makes_it_long() {
        let spam = "SPAM ".repeat(1_000);
        let (front, rest) = (format!("[{}", &spam[..MAX_LINE]), format!("]{}", &spam[MAX_LINE..]));
        assert_eq!(texts(spam.as_bytes()), [front.clone(), rest.clone()]);
        assert_eq!(texts(format!("{spam}\r\n/x\n").as_bytes()), [&front, &rest, "/x"]);
        assert_eq!(texts(format!("{}\r\nx\n", &spam[..MAX_LINE]).as_bytes()), [&spam[..MAX_LINE], "x"]);
        assert_eq!(texts(format!("{}\n\n", &spam[..MAX_LINE]).as_bytes()), [&spam[..MAX_LINE], ""]);
        let cr = format!("{}\r/nick x\n", &spam[..MAX_LINE]);
        assert_eq!(texts(cr.as_bytes()), [&front, "]\r/nick x"]);
        let text = "x".to_owned() + &"😀".repeat(1_000);
        let lines = texts(text.as_bytes());
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [2_498, 1_505]);
        assert_eq!(lines.concat(), format!("[{}]{}", &text[..2_497], &text[2_497..]));
    }

    #[test]
    fn a_limit_may_be_lower_and_change() {
        let mut lines = Lines::with_limit(0);
        let mut input = &b"abcdefghijk\nl\n"[..];
        assert_eq!(lines.next(&mut input), Some(Found::Front(b"abcd".to_vec())));
        lines.set_limit(1 << 20);
        assert_eq!(lines.next(&mut input), Some(Found::Rest(b"efghijk".to_vec())));
        assert_eq!(lines.next(&mut input), Some(Found::Line(b"l".to_vec())));
        assert_eq!(texts(&[b'x'; MAX_LINE + 1]).len(), 2);
    }

    #[test]
    fn a_flush_ends_a_long_line_too() {
        let mut lines = Lines::with_limit(4);
        let mut input = &b"/pm a secret"[..];
        assert_eq!(lines.next(&mut input), Some(Found::Front(b"/pm ".to_vec())));
        assert_eq!(lines.next(&mut input), Some(Found::Rest(b"a se".to_vec())));
        assert_eq!((lines.next(&mut input), lines.flush()), (None, Some(Found::Rest(b"cret".to_vec()))));
        assert_eq!(lines.next(&mut &b"\r\n"[..]), None);
        assert_eq!(lines.next(&mut &b"hi\n"[..]), Some(Found::Line(b"hi".to_vec())));
    }

    #[test]
    fn a_flushed_line_takes_its_late_end_with_it() {
        for end in [&b"\n"[..], b"\r\n", b"\r\0"] {
            for at in 0..end.len() {
                let mut lines = Lines::default();
                assert_eq!(lines.next(&mut &b"Rick"[..]), None);
                assert_eq!(lines.next(&mut &end[..at]), None);
                assert_eq!(lines.flush(), Some(Found::Line(b"Rick".to_vec())));
                assert_eq!(lines.flush(), None);
                assert_eq!(lines.next(&mut &end[at..]), None, "{end:?} {at}");
                assert_eq!(lines.next(&mut &b"\n"[..]), Some(Found::Line(Vec::new())));
            }
        }
        let mut lines = Lines::default();
        assert_eq!(lines.next(&mut &b"Rick\r"[..]), None);
        assert_eq!(lines.flush(), Some(Found::Line(b"Rick".to_vec())));
        assert_eq!(lines.next(&mut &b"hi\n"[..]), Some(Found::Line(b"hi".to_vec())));
    }

    #[test]
    fn negotiation_is_neither_text_nor_kept() {
        let mut lines = Lines::default();
        let endless = [&[IAC, SB][..], &vec![b'x'; 1 << 20], &[IAC, IAC, b'\n']].concat();
        assert_eq!(lines.next(&mut &endless[..]), None);
        assert_eq!((lines.buf.capacity(), lines.take_heard()), (0, false));
        assert_eq!(lines.next(&mut &[IAC, SE, b'a'][..]), None);
        assert!(lines.take_heard() && lines.take_begun());
        assert_eq!(lines.next(&mut &[IAC, WILL, b'a', IAC, 241][..]), None);
        assert!(!lines.take_heard() && !lines.take_begun());
        assert_eq!(lines.unfinished(), 1);
    }
}
