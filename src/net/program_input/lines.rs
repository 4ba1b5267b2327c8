//! Lines of standard input, read ahead by a bounded amount.
//!
//! A read of a terminal or a pipe may block for ever. It has a thread of its own, which is not joined at the end. Lines
//! wait in batches of at most [`BATCH_LINES`], a few batches at a time, so that a huge file takes constant memory.

use std::io::{self, Read};

use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};

/// Most lines per batch. One batch is being read, one waits to be sent, one is in the channel and one in use. So about
/// a thousand lines are read ahead.
const BATCH_LINES: usize = 256;
/// Most bytes per read. The rest of it is a batch too, so that a typed line waits for no other.
const CHUNK: usize = 64 << 10;
/// Most bytes of an overlong line that are kept, to identify it in errors.
const KEPT: usize = 256;

/// One item of standard input.
#[derive(Debug)]
pub(crate) enum Line {
    /// A line, without its LF or CR LF.
    Text(Vec<u8>),
    /// A line that is too long to send, and was not kept.
    TooLong {
        /// Its first bytes.
        start: Vec<u8>,
        /// Its length in bytes.
        length: u64,
    },
    /// Reading failed; nothing follows.
    Failed(io::Error),
    /// The end of input.
    End,
}

impl Line {
    /// Whether nothing follows it.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::End)
    }
}

/// Batches of lines.
#[derive(Debug)]
pub(super) struct Lines(mpsc::Receiver<Vec<Line>>);

impl Lines {
    /// Reads `input` on a thread. A line over `max_line` bytes is reported, not kept.
    pub(super) fn read(input: Box<dyn Read + Send>, max_line: usize) -> Self {
        let (to, from) = mpsc::channel(0);
        std::thread::spawn(move || read_all(input, &mut Cutter::new(max_line), to));
        Self(from)
    }

    /// The next lines: at least one, or `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Vec<Line>> {
        self.0.next().await
    }
}

/// Reads to the end, or until the receiver is dropped.
fn read_all(mut input: Box<dyn Read + Send>, cutter: &mut Cutter, mut to: mpsc::Sender<Vec<Line>>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut batch = match input.read(&mut chunk) {
            Ok(0) => cutter.finish(Line::End),
            Ok(n) => cutter.cut(chunk.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => cutter.finish(Line::Failed(error)),
        };
        let last = batch.last().is_some_and(Line::is_last);
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH_LINES));
            if futures::executor::block_on(to.send(std::mem::replace(&mut batch, rest))).is_err() {
                return;
            }
        }
        if last {
            return;
        }
    }
}

/// Cuts bytes into lines.
#[derive(Debug)]
struct Cutter {
    max_line: usize,
    /// The unfinished line, as far as it is kept.
    line: Vec<u8>,
    /// Its length so far.
    length: u64,
    /// Whether its last byte so far is a carriage return.
    returned: bool,
}

impl Cutter {
    fn new(max_line: usize) -> Self {
        Self { max_line, line: Vec::new(), length: 0, returned: false }
    }

    fn cut(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.push(end);
                    lines.push(self.take());
                }
                None => self.push(piece),
            }
        }
        lines
    }

    /// The last line, if it has no LF, and then `end`.
    fn finish(&mut self, end: Line) -> Vec<Line> {
        let unfinished = (self.length > 0).then(|| self.take());
        unfinished.into_iter().chain([end]).collect()
    }

    fn push(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.returned = *last == b'\r';
        self.length += bytes.len() as u64;
        // One byte over the limit may be the CR of the line's end.
        let room = (self.max_line + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn take(&mut self) -> Line {
        let (mut line, mut length) = (std::mem::take(&mut self.line), std::mem::take(&mut self.length));
        if std::mem::take(&mut self.returned) {
            length -= 1;
            line.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        if length > self.max_line as u64 {
            line.truncate(KEPT);
            return Line::TooLong { start: line, length };
        }
        Line::Text(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of an input that is read in pieces of `size` bytes.
    fn cut(bytes: &[u8], size: usize, max_line: usize) -> Vec<String> {
        let mut cutter = Cutter::new(max_line);
        let mut lines: Vec<Line> = bytes.chunks(size).flat_map(|piece| cutter.cut(piece)).collect();
        lines.extend(cutter.finish(Line::End));
        lines.iter().map(shown).collect()
    }

    fn shown(line: &Line) -> String {
        match line {
            Line::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Line::TooLong { start, length } => format!("{}..{length}", String::from_utf8_lossy(start)),
            Line::Failed(error) => error.to_string(),
            Line::End => "END".to_owned(),
        }
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_the_last_one_with_nothing() {
        let input = b"one\ntwo\r\n\n\r\nthr\0ee\rx\nlast";
        for size in 1..=input.len() {
            assert_eq!(cut(input, size, 100), ["one", "two", "", "", "thr\0ee\rx", "last", "END"], "{size}");
        }
        assert_eq!(cut(b"", 1, 100), ["END"]);
        assert_eq!(cut(b"a\n", 1, 100), ["a", "END"]);
    }

    #[test]
    fn a_line_at_the_limit_passes_and_a_longer_one_is_reported_with_its_length() {
        for size in [1, 2, 3, 100] {
            assert_eq!(
                cut(b"abcd\r\nabcde\nabcdefgh\r\nok", size, 4),
                ["abcd", "abcde..5", "abcde..8", "ok", "END"]
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn each_line_is_whole_or_reported_as_too_long_however_it_is_read(
            input in "([ab/ ]{0,9}(\n|\r\n|\r|))*",
            size in 1..20_usize,
            max_line in 1..8_usize,
        ) {
            let mut expected: Vec<String> = input
                .split_inclusive('\n')
                .map(|line| line.strip_suffix('\n').unwrap_or(line))
                .map(|line| line.strip_suffix('\r').unwrap_or(line))
                .map(|line| if line.len() > max_line { format!("{line}..{}", line.len()) } else { line.to_owned() })
                .collect();
            expected.push("END".to_owned());
            // Only the first bytes of an overlong line are kept.
            let front = |line: String| match line.split_once("..") {
                Some((start, length)) => format!("{}..{length}", &start[..start.len().min(max_line)]),
                None => line,
            };
            let cut: Vec<String> = cut(input.as_bytes(), size, max_line).into_iter().map(front).collect();
            proptest::prop_assert_eq!(cut, expected.into_iter().map(front).collect::<Vec<_>>());
        }
    }

    #[test]
    fn input_is_read_ahead_by_a_bounded_amount() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};

        struct Counted(Arc<AtomicUsize>);
        impl Read for Counted {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0.fetch_add(buf.len() / 64, Ordering::SeqCst);
                buf.iter_mut().zip([b'x'; 63].iter().chain(b"\n").cycle()).for_each(|(to, from)| *to = *from);
                Ok(buf.len())
            }
        }
        let read = Arc::new(AtomicUsize::new(0));
        let mut lines = Lines::read(Box::new(Counted(Arc::clone(&read))), 100);
        let mut taken = 0;
        for _ in 0..200 {
            taken += futures::executor::block_on(lines.next()).unwrap().len();
            // Two chunks of 1,024 lines each.
            assert!(read.load(Ordering::SeqCst) <= taken + 2 * 1024);
        }
    }
}
