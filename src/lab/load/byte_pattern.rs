//! The bytes of one stream of messages, in order: what is to be written, or what has to be read.

use std::fmt;
use std::io::IoSlice;
use std::rc::Rc;

/// About as many bytes are made ahead, if a message is not longer.
const BLOCK: usize = 4 << 10;

/// More than any protocol needs for a message besides its body, in bytes.
const HEAD: usize = 64;

/// After how many messages of so many bytes they may repeat: the same for what is written and what has to be read.
#[must_use]
pub fn period(size: usize) -> u64 {
    (BLOCK / size.saturating_add(HEAD)).max(1) as u64
}

/// Most slices that are written at once.
const MAX_SLICES: usize = 64;

/// Appends the bytes of the message of a number, from 1.
pub type Render = Rc<dyn Fn(u64, &mut Vec<u8>)>;

/// A place in the bytes of messages 1, 2, 3, ..
///
/// Where messages repeat, a block of them is made once, and shared by clones: so a thousand receivers cost one.
#[derive(Clone)]
pub struct BytePattern {
    render: Render,
    repeats: bool,
    period: u64,
    block: Rc<[u8]>,
    /// Bytes of one message of the block, all of one length.
    each: usize,
    /// Messages before the block.
    before: u64,
    /// Bytes of the block that are done, less than all.
    at: usize,
    /// What may come between any two messages besides.
    aside: &'static [u8],
    /// Bytes of an aside that have come, less than all.
    aside_at: usize,
}

impl fmt::Debug for BytePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytePattern")
            .field("done", &self.done())
            .field("each", &self.each)
            .finish_non_exhaustive()
    }
}

impl BytePattern {
    /// At its beginning. Blocks of up to `period` messages are made; where it `repeats`, the first again and again.
    #[must_use]
    pub fn new(repeats: bool, period: u64, render: Render) -> Self {
        let (block, each) = block(&render, 1, period);
        Self { render, repeats, period, block, each, before: 0, at: 0, aside: b"", aside_at: 0 }
    }

    /// The same where this may be said between messages, and means nothing.
    #[must_use]
    pub fn with_aside(self, aside: &'static [u8]) -> Self {
        Self { aside, ..self }
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.each == 0
    }

    /// Bytes of the message that comes next; over all, they only grow, and slowly.
    #[must_use]
    pub fn each(&self) -> usize {
        self.each
    }

    /// Messages that are done to their last byte.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.before + self.at.checked_div(self.each).unwrap_or(0) as u64
    }

    /// Bytes of the next message that are done.
    #[must_use]
    pub fn within(&self) -> usize {
        self.at.checked_rem(self.each).unwrap_or(0)
    }

    /// Whether the place is between messages.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.within() == 0
    }

    /// The bytes from here on to the end of the message of this number, as far as they are made and within `limit`.
    #[must_use]
    pub fn slices(&self, through: u64, limit: usize) -> Vec<IoSlice<'_>> {
        let messages = usize::try_from(through.saturating_sub(self.before)).unwrap_or(usize::MAX);
        let mut left = messages.saturating_mul(self.each).saturating_sub(self.at).min(limit);
        let mut slices = Vec::new();
        let mut from = self.block.get(self.at..).unwrap_or_default();
        while left > 0 && slices.len() < MAX_SLICES && !from.is_empty() {
            let slice = from.get(..left).unwrap_or(from);
            left -= slice.len();
            slices.push(IoSlice::new(slice));
            from = if self.repeats { &self.block } else { &[] };
        }
        slices
    }

    /// So many more bytes are done.
    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        while self.at >= self.block.len() && self.each > 0 {
            self.at -= self.block.len();
            self.before += (self.block.len() / self.each) as u64;
            if !self.repeats {
                (self.block, self.each) = block(&self.render, self.before + 1, self.period);
            }
        }
    }

    /// Goes on over these bytes, if they are the next ones.
    ///
    /// # Errors
    ///
    /// How many of them are.
    pub fn compare(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut left = if self.aside_at > 0 { self.overhear(bytes).ok_or(0_usize)? } else { bytes };
        while !left.is_empty() {
            let expected = self.block.get(self.at..).unwrap_or_default();
            let (now, after) = left.split_at(expected.len().min(left.len()));
            if expected.get(..now.len()) != Some(now) || now.is_empty() {
                let same = expected.iter().zip(now).take_while(|(one, other)| one == other).count();
                let (_, other) = left.split_at(same);
                self.advance(same);
                left = self.begin_aside(other).ok_or(bytes.len() - other.len())?;
                continue;
            }
            self.advance(now.len());
            left = after;
        }
        Ok(())
    }

    /// Takes an aside that begins here, or before in what looked like a message. Returns what is behind it; `None` if it is none.
    fn begin_aside<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let since = self.within();
        let begun = self.block.get(self.at - since..self.at)?;
        if self.aside.len() <= since || !self.aside.starts_with(begun) {
            return None;
        }
        self.aside_at = since;
        let behind = self.overhear(bytes);
        match behind {
            Some(_) => self.at -= since,
            None => self.aside_at = 0,
        }
        behind
    }

    /// Goes on with an aside. Returns what is behind it.
    fn overhear<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let rest = self.aside.get(self.aside_at..)?;
        let (now, behind) = bytes.split_at(rest.len().min(bytes.len()));
        rest.strip_prefix(now)?;
        self.aside_at = if now.len() == rest.len() { 0 } else { self.aside_at + now.len() };
        Some(behind)
    }

    /// What comes next, for somebody to look at.
    #[must_use]
    pub fn next(&self) -> &[u8] {
        self.block.get(self.at..).unwrap_or_default()
    }
}

/// The messages from this number on, at most so many and all of one length; and that length.
fn block(render: &Render, first: u64, most: u64) -> (Rc<[u8]>, usize) {
    let mut bytes = Vec::new();
    render(first, &mut bytes);
    let each = bytes.len();
    for number in first + 1..first.saturating_add(most) {
        let end = bytes.len();
        render(number, &mut bytes);
        if bytes.len() - end != each {
            bytes.truncate(end);
            break;
        }
    }
    (bytes.into(), each)
}

/// Appends the body of the message of this number, of exactly `size` bytes: letters and digits, the number in front as far as it
/// fits.
pub fn body(number: u64, size: usize, out: &mut Vec<u8>) {
    const DIGITS: usize = 6;
    const WRAP: u64 = 1_000_000;
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    let digits = format!("{:0DIGITS$}", number % WRAP);
    let end = out.len() + size;
    out.extend(digits.bytes().skip(DIGITS.saturating_sub(size)));
    while let Some(rest) = end.checked_sub(out.len()).filter(|rest| *rest > 0) {
        out.extend_from_slice(LETTERS.get(..rest).unwrap_or(LETTERS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(repeats: bool) -> BytePattern {
        BytePattern::new(repeats, 50, Rc::new(|number, out| out.extend(format!("{number};").bytes())))
    }

    fn read(pattern: &mut BytePattern, through: u64, limit: usize) -> String {
        let bytes: Vec<u8> = pattern.slices(through, limit).iter().flat_map(|slice| slice.to_vec()).collect();
        pattern.advance(bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn messages_that_repeat_are_a_block_again_and_again() {
        let mut pattern = pattern(true);
        assert_eq!(read(&mut pattern, 20, 100), "1;2;3;4;5;6;7;8;9;1;2;3;4;5;6;7;8;9;1;2;");
        assert_eq!((pattern.done(), pattern.is_between()), (20, true));
        assert_eq!(read(&mut pattern, 23, 3), "3;4");
        assert_eq!((pattern.done(), pattern.is_between()), (21, false));
        assert_eq!(read(&mut pattern, 22, 100), ";");
        assert_eq!(read(&mut pattern, 22, 100), "");
    }

    #[test]
    fn messages_with_numbers_go_on_counting_when_the_numbers_grow() {
        let (mut pattern, mut all) = (pattern(false), String::new());
        while pattern.done() < 1_001 {
            all += &read(&mut pattern, 1_001, 64);
        }
        assert_eq!(all, (1..=1_001).map(|number| format!("{number};")).collect::<String>());
    }

    #[test]
    fn what_comes_is_compared_to_the_byte_however_it_is_cut() {
        for repeats in [true, false] {
            let (mut pattern, mut all) = (pattern(repeats), Vec::new());
            let mut written = pattern.clone();
            while written.done() < 2_000 {
                all.extend(read(&mut written, 2_000, 999).bytes());
            }
            for piece in all.chunks(7) {
                assert_eq!(pattern.compare(piece), Ok(()));
            }
            assert_eq!((pattern.done(), pattern.is_between()), (2_000, true));
        }
        assert_eq!(pattern(true).compare(b"1;2;x;"), Err(4));
    }

    #[test]
    fn an_aside_between_messages_is_nothing_however_it_is_cut_and_whatever_it_looks_like() {
        let said = b"PONGPONGPINGPONGPINGPINGPONG";
        for cut in 1..said.len() {
            let pongs = BytePattern::new(true, 1, Rc::new(|_, out| out.extend(b"PONG"))).with_aside(b"PING");
            let mut pattern = pongs.clone();
            for piece in said.chunks(cut) {
                assert_eq!(pattern.compare(piece), Ok(()), "{cut}");
            }
            assert_eq!((pattern.done(), pattern.is_between()), (4, true));
            assert_eq!(pattern.compare(b"POPING"), Err(2), "a message is not cut in two");
            assert_eq!(pongs.clone().compare(b"PONGPINK"), Err(5));
        }
        let mut silent = BytePattern::new(true, 1, Rc::new(|_, _| {})).with_aside(b"PING");
        let said = [&b"PINGPI"[..], b"NG", b"x"].map(|piece| silent.compare(piece));
        assert_eq!(said, [Ok(()), Ok(()), Err(0)]);
    }

    #[test]
    fn where_nothing_is_said_every_byte_is_wrong() {
        let mut pattern = BytePattern::new(true, 50, Rc::new(|_, _| {}));
        assert!(pattern.is_silent() && pattern.slices(9, 9).is_empty());
        assert_eq!((pattern.compare(b""), pattern.compare(b"x")), (Ok(()), Err(0)));
    }

    #[test]
    fn bodies_have_their_size_and_begin_with_their_number() {
        let shown = |number, size| {
            let mut out = Vec::new();
            body(number, size, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(12, 8), "000012ab");
        assert_eq!(shown(1_234_567, 2), "67");
        assert_eq!(shown(1, 0), "");
        assert_eq!(shown(1, 4_096).len(), 4_096);
    }
}
