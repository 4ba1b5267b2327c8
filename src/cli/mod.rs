//! The command lines of the programs: as typed -> resolved -> run. What all programs share is here.

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

/// The port and host used when none is named.
pub const DEFAULT_HOST: &str = "localhost:50000";

/// Says what is wrong with a command line, in one line, and returns the exit code; or prints the help or version that
/// was asked for: success, unless standard output cannot be written. A reader that closed the pipe has what it wanted.
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

/// What clap says, without the usage that it repeats: paragraphs become one line.
fn one_line(text: &str) -> String {
    let paragraphs =
        text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let lines = paragraphs.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("; ")
}

/// The line with everything escaped in it that clap repeats as it was typed; what is escaped already stays so.
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
    fn what_was_typed_is_repeated_without_its_controls_and_never_escaped_twice() {
        assert_eq!(
            shown("invalid value '\u{1b}[2J': `\\x1b[2J` is no URL"),
            r"invalid value '\x1b[2J': `\x1b[2J` is no URL"
        );
    }
}
