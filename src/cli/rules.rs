//! Access rules on the command line: reading the file, reading it again at SIGHUP, and `server rules check`.

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
    command: Command,
}

/// What to do with rules.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Say whether a name may be used from somewhere, and the rule that says so; without a name, check the file alone
    #[command(after_help = CHECK_HELP, override_usage = CHECK_USAGE)]
    Check(Check),
}

/// How NAME and --from belong together is more than clap writes.
const CHECK_USAGE: &str =
    "server rules check --rules <FILE> [--listen <URL>]... [<NAME> --from <ADDR> [--door <DOOR>]]";

const CHECK_HELP: &str = "\
A file of rules (docs/doors.md says what else can be in it):
    anonymous = true                    # who gives no name may send, as guest-N
    [[rule]]
    name = \"admin*\"
    allow = [\"loopback\", \"10.0.0.0/8\"]  # only from there
    [[rule]]
    name = \"cook\"
    deny = [\"10.0.0.13\"]                # not from there
    door = \"line\"                       # only through that door

Exit codes:
    0  allowed or open; the file is good
    1  denied
    2  the file or the command line makes no sense";

/// The options of `server rules check`.
#[derive(Clone, Debug, clap::Args)]
struct Check {
    /// The name that is asked for
    #[arg(requires = "from")]
    name: Option<String>,

    /// The file of rules
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,

    /// Where from, needed with NAME: an address, loopback, unix, or unix:uid=1000,gid=100
    #[arg(long, value_name = "ADDR", requires = "name")]
    from: Option<From>,

    /// Through the listener of this name [default: tcp, or unix from there]
    #[arg(long, value_name = "DOOR", requires = "name")]
    door: Option<String>,

    /// A listener of the server, by its URL, as often as it has some: rules and --door may name these only [default: any
    /// scheme, and what the rules name]
    #[arg(long, value_name = "URL")]
    listen: Vec<ListenUrl>,
}

/// The listeners' names that a server has where they are not given a name of their own.
const SCHEMES: [&str; 5] = ["line", "line+unix", "tcp", "udp", "unix"];

/// Where somebody comes from, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct From(Remote);

impl FromStr for From {
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
            format!("`{shown}` is no place; write an address, loopback, unix, or unix:uid=1000,gid=100")
        })
    }
}

/// `unix`, `unix:uid=1000`, `unix:gid=100`, or both.
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

/// Reads a file of rules.
///
/// # Errors
///
/// One line: what is wrong, and where.
pub(super) fn load(path: &Path) -> Result<Rules, String> {
    let shown = path.display().to_string();
    let shown = escape(shown.as_bytes());
    let bytes = read(path).map_err(|error| format!("cannot read the rules in {shown}: {error}"))?;
    Rules::parse(&bytes).map_err(|error| format!("{shown}: {error}"))
}

/// Reads what is not longer than a file of rules may be; what is longer is refused by its parser.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe might keep a server from starting, and from ending, for as long as it likes.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_RULES_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file of rules for a server with doors of these names.
///
/// # Errors
///
/// One line: what is wrong, and where.
pub(super) fn load_for(path: &Path, doors: &[String]) -> Result<Rules, String> {
    let rules = load(path)?;
    let shown = path.display().to_string();
    rules.check_doors(doors).map_err(|error| format!("{}: {error}", escape(shown.as_bytes())))?;
    Ok(rules)
}

/// Reads the file again: all of it holds from now on, or nothing does.
pub(super) fn reload(path: &Path, doors: &[String], engine: &Engine<Server>) {
    match load_for(path, doors) {
        // The server logs that they hold when it has applied them to all sessions and connections.
        Ok(rules) => drop(engine.change(|server, now| server.set_rules(now, rules))),
        Err(error) => log::error!("{error}; the rules stay as they were"),
    }
}

/// Does what was asked. Returns the exit code.
pub(super) fn run(args: &Args) -> u8 {
    let Command::Check(check) = &args.command;
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

impl Check {
    /// What is printed, and the exit code.
    fn verdict(&self) -> Result<(String, u8), String> {
        let name = self.name.as_deref().map(name).transpose()?;
        let rules = if self.listen.is_empty() {
            load(&self.rules)
        } else {
            load_for(&self.rules, &self.listeners())
        }?;
        let (Some(name), Some(From(from))) = (name, self.from) else {
            let shown = self.rules.display().to_string();
            return Ok((format!("{}: {}", escape(shown.as_bytes()), counted(rules.len(), "rule")), exit::OK));
        };
        let usual = match from {
            Remote::Ip(_) => "tcp",
            Remote::Unix { .. } => "unix",
        };
        let door = self.door.as_deref().unwrap_or(usual);
        self.check_door(door, &rules)?;
        let verdict = rules.verdict(&name, &from, Some(door));
        let code = if verdict.is_denied() { exit::FAILED } else { exit::OK };
        Ok((verdict.explain(&name, &from), code))
    }

    /// What the listeners are called that were given, in order.
    fn listeners(&self) -> Vec<String> {
        sorted(self.listen.iter().map(|url| url.door.name.clone()))
    }

    /// Refuses a listener that there is none of, as far as that is known.
    fn check_door(&self, door: &str, rules: &Rules) -> Result<(), String> {
        let known = if self.listen.is_empty() {
            sorted(SCHEMES.into_iter().chain(rules.doors()).map(str::to_owned))
        } else {
            self.listeners()
        };
        if known.iter().any(|name| name == door) {
            return Ok(());
        }
        let (shown, known) = (escape_short(door.as_bytes(), 60), known.join(", "));
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
        format!("`{shown}` is no name: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_loopback_or_a_unix_socket() {
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
            assert_eq!(text.parse(), Ok(From(place)), "{text}");
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
            assert!(text.parse::<From>().unwrap_err().contains("is no place"), "{text}");
        }
    }
}
