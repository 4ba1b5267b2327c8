//! Standard output and standard error of the client, and the failures of writing to them.

use std::io::{self, Write};

use serde_json::Value;

use crate::escape::escape;

/// The two outputs. After the first failed write to standard output, nothing more is written there.
pub(super) struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    broken: Option<io::Error>,
    quiet: bool,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("broken", &self.broken)
            .field("quiet", &self.quiet)
            .finish_non_exhaustive()
    }
}

impl<'a> Console<'a> {
    pub(super) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, quiet: bool) -> Self {
        Self { out, err, broken: None, quiet }
    }

    /// Prints a line on standard output. It must be escaped.
    pub(super) fn print(&mut self, line: &str) {
        if self.broken.is_none() {
            self.broken = writeln!(self.out, "{line}").err();
        }
    }

    /// Prints an object as a line of JSON on standard output.
    pub(super) fn print_json(&mut self, object: &Value) {
        self.print(&escaped_json(object));
    }

    /// Prints a line on standard error, unless `--quiet` is set. It must be escaped.
    pub(super) fn note(&mut self, line: &str) {
        if !self.quiet {
            self.error(line);
        }
    }

    /// Prints an error on standard error. It must be escaped.
    pub(super) fn error(&mut self, line: &str) {
        // One write, so that lines of programs that share standard error do not mix. A failure has nowhere to go.
        let _ = self.err.write_all(format!("{line}\n").as_bytes());
    }

    /// Flushes standard output.
    pub(super) fn flush(&mut self) {
        if self.broken.is_none() {
            self.broken = self.out.flush().err();
        }
    }

    /// Whether writing to standard output has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether the reader of standard output has closed it, which is not a failure.
    pub(super) fn is_closed(&self) -> bool {
        self.broken.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Why writing to standard output failed, unless its reader closed it.
    pub(super) fn failure(&self) -> Option<String> {
        self.broken.as_ref().filter(|_| !self.is_closed()).map(io::Error::to_string)
    }
}

/// JSON in which everything is escaped that is not plain text on a terminal: `serde_json` escapes only up to U+001F.
fn escaped_json(object: &Value) -> String {
    let json = object.to_string();
    if matches!(escape(json.as_bytes()), std::borrow::Cow::Borrowed(_)) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // Such characters occur only inside JSON strings.
        if is_plain(c) { out.push(c) } else { push_escape(c, &mut out) }
    }
    out
}

fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || escape(c.encode_utf8(&mut [0; 4]).as_bytes()).chars().eq([c])
}

fn push_escape(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_plain_text_and_reads_back() {
        let odd = "a\u{1b}[2J\"\\\n\u{9b}1m\u{202e}\u{2028}\u{e000}\u{10ffff} \u{e4}\u{1f600}\u{7f}";
        let object = json!({ "text": odd });
        let line = escaped_json(&object);
        assert!(
            line.chars().all(|c| !c.is_control() && !"\u{202e}\u{2028}\u{e000}\u{10ffff}".contains(c)),
            "{line}"
        );
        assert!(line.contains("\u{e4}\u{1f600}"), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), object);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
        struct Failing(io::ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, closed) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let (mut out, mut err) = (Failing(kind), Vec::new());
            let mut console = Console::new(&mut out, &mut err, false);
            assert!(!console.is_broken());
            console.print("x");
            console.print("y");
            console.flush();
            assert_eq!(
                (console.is_broken(), console.is_closed(), console.failure().is_none()),
                (true, closed, closed)
            );
        }
    }

    #[test]
    fn quiet_suppresses_notes_but_not_errors() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err, true);
        console.note("a note");
        console.error("an error");
        assert_eq!((out, err), (Vec::new(), b"an error\n".to_vec()));
    }
}
