//! The command lines of the programs: as typed -> resolved -> run. What all programs share is here.

use std::fmt;
use std::io::{self, Write as _};
use std::str::FromStr;

pub(crate) use crate::net::TOTALS;
use clap::error::ErrorKind;
pub use logging::{finish_logging, start_logging, start_queued_logging};

pub mod client;
pub mod lab;
pub mod link;
mod logging;
pub mod policy;
mod rules;
pub mod server;

/// Exit codes, the same meaning in every program.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// The server refused something, or the program could not do its work.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense; nothing was sent.
    pub const USAGE: u8 = 2;
    /// Something is unknown, was never sent, or did not come.
    pub const GAVE_UP: u8 = 3;
    /// No answer of any kind ever came over TCP.
    pub const NO_CONNECTION: u8 = 4;
    /// What was asserted of a measurement does not hold.
    pub const ASSERTION: u8 = 6;
    /// Interrupted.
    pub const INTERRUPTED: u8 = 130;
}

/// The port and host used when none is named.
pub const DEFAULT_HOST: &str = "localhost:50000";

/// `HOST:PORT`, checked as far as it can be without asking anybody. An IPv6 address stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// 0 lets a server take a free one.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = crate::escape::escape_short(text.as_bytes(), 80);
        let no_port = || format!("`{shown}` has no port from 0 to 65535; write HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            _ if host.contains(['[', ']', ':']) => {
                return Err(format!(
                    "`{shown}` is ambiguous; write an IPv6 address in brackets: [::1]:50000"
                ));
            }
            _ => host,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{shown}` has no host; write HOST:PORT"));
        }
        let digits = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = digits.and_then(|port| port.parse().ok()).ok_or_else(no_port)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

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

    #[test]
    fn a_host_needs_a_port_and_an_ipv6_address_its_brackets() {
        let good = [
            ("localhost:50000", "localhost", 50000),
            ("[::1]:0", "::1", 0),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
        ];
        for (text, host, port) in good {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), text);
        }
        let bad = [
            "localhost",
            "::1:50000",
            "[::1]",
            "[foo]:1",
            ":50000",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:",
            "a b:1",
            "a:1 ",
            "a:\u{663}",
        ];
        for text in bad {
            let error = text.parse::<HostPort>().unwrap_err();
            assert!(error.starts_with('`') && !error.contains('\n'), "{error}");
        }
    }
}
