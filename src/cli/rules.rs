//! Access rules on the command line: loading the file, reloading it at SIGHUP, and `server rules check`.
//!
//! The rules themselves are in [`crate::rules`].

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Subcommand;

use super::exit;
use crate::escape::{escape, escape_short};
use crate::names::Name;
use crate::net::{Engine, ListenUrl};
use crate::rules::{MAX_RULES_FILE, Rules, UNKNOWN_ID};
use crate::server::Server;
use crate::service::Remote;
use crate::units::counted;

/// The options of `server rules`.
#[derive(Clone, Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(super) struct Args {
    #[command(subcommand)]
    command: RulesCommand,
}

/// The commands of `server rules`.
#[derive(Clone, Debug, Subcommand)]
enum RulesCommand {
    /// Print whether a name may be used from an address, and the rule that decides; without a name, check the file
    /// alone
    #[command(after_help = CHECK_HELP, override_usage = CHECK_USAGE)]
    Check(CheckArgs),
}

/// Shows that NAME and --from need each other, which clap's own usage does not.
const CHECK_USAGE: &str =
    "server rules check --rules <FILE> [--listen <URL>]... [<NAME> --from <ADDR> [--listener <LISTENER>]]";

const CHECK_HELP: &str = "\
A file of rules (docs/listeners.md has all its keys):
    anonymous = true                    # a client without a name may send, as guest-N
    [[rule]]
    name = \"admin*\"
    allow = [\"loopback\", \"10.0.0.0/8\"]  # only from there
    [[rule]]
    name = \"cook\"
    deny = [\"10.0.0.13\"]                # not from there
    listener = \"line\"                       # only on that listener

Exit codes:
    0  allowed or open; the file is valid
    1  denied
    2  usage error, or an invalid file";

/// The options of `server rules check`.
#[derive(Clone, Debug, clap::Args)]
struct CheckArgs {
    /// The name to check
    #[arg(requires = "from")]
    name: Option<String>,

    /// The file of rules
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,

    /// The peer's address, required with NAME: an address, loopback, unix, or unix:uid=1000,gid=100
    #[arg(long, value_name = "ADDR", requires = "name")]
    from: Option<Origin>,

    /// The name of the listener [default: tcp, or unix for a peer on a UNIX socket]
    #[arg(long, alias = "door", value_name = "LISTENER", requires = "name")]
    listener: Option<String>,

    /// The URL of a listener of the server; may be given several times. Rules and --listener may then name these only
    /// [default: any scheme, and the listeners that the rules name]
    #[arg(long, value_name = "URL")]
    listen: Vec<ListenUrl>,
}

/// The names of listeners without a name of their own: their schemes.
const SCHEMES: [&str; 5] = ["line", "line+unix", "tcp", "udp", "unix"];

/// The peer's address, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin(Remote);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = |ip: IpAddr| Remote::Ip(SocketAddr::new(ip, 0));
        let found = match text {
            "loopback" => Some(at(Ipv4Addr::LOCALHOST.into())),
            _ if text == "unix" || text.starts_with("unix:") => unix(text),
            _ => text.parse().map(at).or_else(|_| text.parse().map(Remote::Ip)).ok(),
        };
        found.map(Self).ok_or_else(|| {
            let shown = escape_short(text.as_bytes(), 60);
            format!("`{shown}` is not an origin; write an address, loopback, unix, or unix:uid=1000,gid=100")
        })
    }
}

/// Parses `unix`, `unix:uid=1000`, `unix:gid=100`, or both ids.
fn unix(text: &str) -> Option<Remote> {
    let (mut user, mut group) = (None, None);
    let words = text.strip_prefix("unix:").map(|words| words.split(','));
    for (key, value) in words.into_iter().flatten().map(|word| word.split_once('=').unwrap_or((word, ""))) {
        let slot = match key {
            "uid" => &mut user,
            "gid" => &mut group,
            _ => return None,
        };
        let number = Some(value).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))?;
        if slot.replace(number.parse().ok()?).is_some() {
            return None;
        }
    }
    Some(Remote::Unix { uid: user.unwrap_or(UNKNOWN_ID), gid: group.unwrap_or(UNKNOWN_ID) })
}

/// Loads a file of rules.
///
/// # Errors
///
/// One line: what is wrong, and in which line of the file.
pub(super) fn load(path: &Path) -> Result<Rules, String> {
    let shown = path.display().to_string();
    let shown = escape(shown.as_bytes());
    let bytes = read(path).map_err(|error| format!("cannot read the rules in {shown}: {error}"))?;
    Rules::parse(&bytes).map_err(|error| format!("{shown}: {error}"))
}

/// Reads at most one byte more than a file of rules may have; the parser refuses a longer one.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Reading from a pipe could block the start or the end of a server.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_RULES_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Loads a file of rules for a server with listeners of these names.
///
/// # Errors
///
/// One line: what is wrong, and in which line of the file.
pub(super) fn load_for(path: &Path, listeners: &[String]) -> Result<Rules, String> {
    let rules = load(path)?;
    let shown = path.display().to_string();
    rules.check_listeners(listeners).map_err(|error| format!("{}: {error}", escape(shown.as_bytes())))?;
    Ok(rules)
}

/// Reloads the file and applies it as a whole, or not at all if it is invalid.
pub(super) fn reload(path: &Path, listeners: &[String], engine: &Engine<Server>) {
    match load_for(path, listeners) {
        // The server logs when it has applied them to all sessions and connections.
        Ok(rules) => drop(engine.change(|server, now| server.set_rules(now, rules))),
        Err(error) => log::error!("{error}; the rules stay as they were"),
    }
}

/// Runs the command. Returns the exit code.
pub(super) fn run(args: &Args) -> u8 {
    let RulesCommand::Check(check) = &args.command;
    let (line, code) = match check.verdict() {
        Ok(verdict) => verdict,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            return exit::USAGE;
        }
    };
    let mut out = io::stdout();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
            exit::FAILED
        }
        _ => code,
    }
}

impl CheckArgs {
    /// The line to print, and the exit code.
    fn verdict(&self) -> Result<(String, u8), String> {
        let name = self.name.as_deref().map(name).transpose()?;
        let rules = if self.listen.is_empty() {
            load(&self.rules)
        } else {
            load_for(&self.rules, &self.listeners())
        }?;
        let (Some(name), Some(Origin(from))) = (name, self.from) else {
            let shown = self.rules.display().to_string();
            return Ok((format!("{}: {}", escape(shown.as_bytes()), counted(rules.len(), "rule")), exit::OK));
        };
        let default = match from {
            Remote::Ip(_) => "tcp",
            Remote::Unix { .. } => "unix",
        };
        let listener = self.listener.as_deref().unwrap_or(default);
        self.check_listener(listener, &rules)?;
        let verdict = rules.verdict(&name, &from, Some(listener));
        let code = if verdict.is_denied() { exit::FAILED } else { exit::OK };
        Ok((verdict.explain(&name, &from), code))
    }

    /// The names of the given listeners, sorted.
    fn listeners(&self) -> Vec<String> {
        sorted(self.listen.iter().map(|url| url.listener.name.clone()))
    }

    /// Refuses the name of a listener that the server does not have, as far as that is known.
    fn check_listener(&self, listener: &str, rules: &Rules) -> Result<(), String> {
        let known = if self.listen.is_empty() {
            sorted(SCHEMES.into_iter().chain(rules.listeners()).map(str::to_owned))
        } else {
            self.listeners()
        };
        if known.iter().any(|name| name == listener) {
            return Ok(());
        }
        let (shown, known) = (escape_short(listener.as_bytes(), 60), known.join(", "));
        Err(format!(
            "no listener is called `{shown}`; here are {}; write --listen URL for others",
            escape(known.as_bytes())
        ))
    }
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn name(text: &str) -> Result<Name, String> {
    Name::parse(text.as_bytes()).map_err(|error| {
        let shown = escape_short(text.as_bytes(), 60);
        format!("`{shown}` is not a name: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_address_is_an_ip_address_loopback_or_a_unix_socket() {
        let ip = |text: &str| Remote::Ip(text.parse().unwrap());
        for (text, place) in [
            ("192.0.2.1", ip("192.0.2.1:0")),
            ("192.0.2.1:7", ip("192.0.2.1:7")),
            ("::1", ip("[::1]:0")),
            ("[2001:db8::1]:7", ip("[2001:db8::1]:7")),
            ("loopback", ip("127.0.0.1:0")),
            ("unix", Remote::Unix { uid: UNKNOWN_ID, gid: UNKNOWN_ID }),
            ("unix:uid=7", Remote::Unix { uid: 7, gid: UNKNOWN_ID }),
            ("unix:gid=8,uid=7", Remote::Unix { uid: 7, gid: 8 }),
        ] {
            assert_eq!(text.parse(), Ok(Origin(place)), "{text}");
        }
        for text in [
            "",
            "home",
            "unix:",
            "unix:uid",
            "unix:uid=-1",
            "unix:uid=1,uid=2",
            "unixx",
            "1.2.3",
            "unix:uid=+1",
        ] {
            assert!(text.parse::<Origin>().unwrap_err().contains("is not an origin"), "{text}");
        }
    }
}
