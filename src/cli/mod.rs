//! The command lines of the programs `server`, `client` and `lab`.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! Each is parsed, resolved into a plan and run. This file holds the parts that all programs share: usage errors and
//! the default address.

use std::io::{self, Write as _};

pub use crate::exit;
pub use crate::host_port::HostPort;
pub(crate) use crate::net::TOTALS;
use clap::error::ErrorKind;
pub use logging::{finish_logging, start_logging, start_queued_logging};

pub mod client;
#[cfg(feature = "lab")]
pub mod lab;
pub mod link;
mod logging;
pub mod policy;
mod rules;
pub mod server;

/// The server's host and port if none is given.
pub const DEFAULT_HOST: &str = "localhost:50000";

/// Prints a usage error in one line, or the help or version, and returns the exit code.
///
/// Help and version succeed unless standard output cannot be written; a closed pipe is a success.
pub fn refuse(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return match error.print().and_then(|()| io::stdout().flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let _ = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
                exit::FAILED
            }
            _ => exit::OK,
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        let _ = writeln!(io::stderr(), "{}; try --help", shown(&one_line(&error.to_string())));
    }
    exit::USAGE
}

/// clap's error message as one line, without the usage that it repeats.
fn one_line(text: &str) -> String {
    let paragraphs =
        text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let lines = paragraphs.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("; ")
}

/// Escapes the parts of a line that clap repeats as typed. Existing escapes stay as they are.
fn shown(line: &str) -> String {
    let parts: Vec<_> = line.split('\\').map(|part| crate::escape::escape(part.as_bytes())).collect();
    parts.join("\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_is_one_line() {
        let text = "error: the following required arguments were not provided:\n  <TARGET>\n  <TEXT>...\n\n\
                    Usage: client send <TARGET> <TEXT>...\n\nFor more information, try '--help'.\n";
        let line = "error: the following required arguments were not provided: <TARGET> <TEXT>...";
        assert_eq!(one_line(text), line);
    }

    #[test]
    fn typed_text_is_repeated_with_control_characters_escaped_once() {
        assert_eq!(
            shown("invalid value '\u{1b}[2J': `\\x1b[2J` is no URL"),
            r"invalid value '\x1b[2J': `\x1b[2J` is no URL"
        );
    }
}
