//! From the client's options to a [`ClientPlan`]: defaults filled in, contradictions refused. Nothing is sent here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use rand::{Rng, RngExt as _};

use super::args::{Args, CommandArgs, Mode, ServerArg};
use crate::config::ClientConfig;
use crate::escape::escape_short;
use crate::names::is_room;
use crate::net::ServerAddr;
use crate::service::Target;
use crate::units::PositiveSeconds;

/// The characters of a guest's name: no two of them look alike, nor does a pair of them look like a third.
const GUEST_CHARS: &[u8] = b"abcdefghjkpqrstuvxyz23456789";
/// The number of random characters in a guest's name.
const GUEST_LEN: usize = 8;
/// The longest payload that the client sends, in bytes: the longest that a server reads by default.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;

/// Most characters shown of a URL.
const MAX_URL_SHOWN: usize = 200;

/// Most bytes of a line that a Linux terminal keeps, without the line end; it drops the rest silently (termios(3)).
const TERMINAL_LINE: usize = 4_095;

/// The resolved command line.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// The server.
    pub server: ServerAddr,
    /// The server, as messages show it; escaped.
    pub server_name: String,
    /// The client's configuration.
    pub config: ClientConfig,
    /// The seed of the jitter; drawn if `None`.
    pub seed: Option<u64>,
    /// The longest line that is read from standard input, in bytes.
    pub max_line: usize,
    /// The command to run.
    pub command: ResolvedCommand,
    /// The form of results.
    pub style: OutputStyle,
    /// Whether to print the schedule of the policy and end.
    pub explain: bool,
}

impl ClientPlan {
    /// The plan for a standard input that is a terminal. A line of [`TERMINAL_LINE`] bytes may be the front of a longer
    /// one, so it is refused.
    #[must_use]
    pub fn for_terminal(mut self) -> Self {
        self.max_line = self.max_line.min(TERMINAL_LINE - 1);
        self
    }
}

/// The form of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputStyle {
    /// JSON on standard output.
    pub json: bool,
    /// Number of times that `-v` was given: retries on standard error, and more.
    pub verbose: u8,
    /// Errors only on standard error.
    pub quiet: bool,
}

/// A command with its arguments, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedCommand {
    /// Lines of input are messages and `/commands`.
    Chat,
    /// Send one message or many.
    Send {
        /// A name or a room.
        target: Vec<u8>,
        /// The message; `None`: one per line of standard input.
        text: Option<Vec<u8>>,
    },
    /// Print messages.
    Listen {
        /// Most to take; `None`: no limit.
        count: Option<u64>,
        /// The longest time; `None`: no limit.
        wait: Option<Duration>,
        /// Rooms to join first.
        rooms: Vec<Vec<u8>>,
    },
    /// Measure the time to ack.
    Ping {
        /// Most to take; `None`: no limit.
        count: Option<u64>,
        /// The time between the starts of two pings.
        interval: Duration,
    },
    /// Print names.
    List {
        /// The room; `None`: all sessions.
        room: Option<Vec<u8>>,
    },
}

impl Args {
    /// Checks the options and fills in defaults. `rng` draws a guest's name if none was given.
    ///
    /// # Errors
    ///
    /// One sentence that names the invalid option.
    pub fn resolve(self, rng: &mut impl Rng) -> Result<ClientPlan, String> {
        let policy = self.policy.resolve()?;
        let command = self.command.map_or(Ok(ResolvedCommand::Chat), CommandArgs::resolve)?;
        if self.json && self.explain {
            return Err("--explain prints text; leave --json out".to_owned());
        }
        let (server, server_name) = server(self.mode, self.host)?;
        let name = match (self.name, &command) {
            (_, ResolvedCommand::Ping { .. }) => None,
            (Some(name), _) => Some(checked_word(&name, "a name")?),
            (None, _) => Some(guest(rng)),
        };
        Ok(ClientPlan {
            config: ClientConfig::new(server.transport(), name.as_deref(), policy),
            server,
            server_name,
            seed: self.seed,
            max_line: MAX_PAYLOAD,
            command,
            style: OutputStyle { json: self.json, verbose: self.verbose, quiet: self.quiet },
            explain: self.explain,
        })
    }
}

/// The address of the server, and how messages show it.
fn server(mode: Option<Mode>, host: ServerArg) -> Result<(ServerAddr, String), String> {
    match host {
        ServerArg::HostPort(at) if at.port == 0 => {
            Err(format!("`{at}` has port 0, which no server listens on"))
        }
        ServerArg::HostPort(at) => {
            let (shown, host, port) = (at.to_string(), at.host, at.port);
            Ok(match mode.unwrap_or(Mode::Tcp) {
                Mode::Tcp => (ServerAddr::Stream(Target::Tcp { host, port }), shown),
                Mode::Udp => (ServerAddr::Datagrams { host, port }, shown),
            })
        }
        ServerArg::Url { typed, server } => {
            let shown = escape_short(typed.as_bytes(), MAX_URL_SHOWN).into_owned();
            match mode {
                None => Ok((server, shown)),
                Some(_) => Err(format!("`{shown}` names the transport; leave --mode out")),
            }
        }
    }
}

impl CommandArgs {
    fn resolve(self) -> Result<ResolvedCommand, String> {
        Ok(match self {
            Self::Send { target, text } => {
                let target = checked_word(&target, "a target")?.into_bytes();
                let text = joined(text);
                ResolvedCommand::Send { target, text: Some(text).filter(|text| text != b"-") }
            }
            Self::Listen { count, wait, join } => {
                let rooms = join.iter().map(|room| checked_room(room)).collect::<Result<_, _>>()?;
                ResolvedCommand::Listen { count, wait: wait.map(PositiveSeconds::as_duration), rooms }
            }
            Self::Ping { count, interval } => {
                ResolvedCommand::Ping { count, interval: interval.as_duration() }
            }
            Self::List { room } => {
                ResolvedCommand::List { room: room.map(|room| checked_room(&room)).transpose()? }
            }
        })
    }
}

/// Joins the words of a message with single spaces. They may be any bytes.
fn joined(words: Vec<OsString>) -> Vec<u8> {
    words.into_iter().map(OsString::into_vec).collect::<Vec<_>>().join(&b' ')
}

/// Checks that `word` is one word in a frame. The server decides whether it is a valid name.
fn checked_word(word: &str, what: &str) -> Result<String, String> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let shown = escape_short(word.as_bytes(), 40);
        return Err(format!("`{shown}` is not {what}: it must be one word, without spaces"));
    }
    Ok(word.to_owned())
}

fn checked_room(room: &str) -> Result<Vec<u8>, String> {
    let word = checked_word(room, "a room")?;
    if !names_room(word.as_bytes()) {
        let shown = escape_short(room.as_bytes(), 40);
        return Err(format!("`{shown}` is not a room: its name is # and at least one more character"));
    }
    Ok(word.into_bytes())
}

/// Whether `word` is `#` and at least one more character. The server decides whether that is a valid name.
pub(super) fn names_room(word: &[u8]) -> bool {
    is_room(word) && word.len() > 1
}

fn guest(rng: &mut impl Rng) -> String {
    let draw = |_| GUEST_CHARS.get(rng.random_range(0..GUEST_CHARS.len())).copied();
    let drawn: Vec<u8> = (0..GUEST_LEN).filter_map(draw).collect();
    format!("guest-{}", String::from_utf8_lossy(&drawn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;
    use clap::Parser as _;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    fn plan(words: &[&str]) -> Result<ClientPlan, String> {
        let typed =
            Args::try_parse_from(["client"].iter().chain(words)).map_err(|error| error.to_string())?;
        typed.resolve(&mut ChaCha8Rng::seed_from_u64(1))
    }

    fn tcp(host: &str, port: u16) -> ServerAddr {
        ServerAddr::Stream(Target::Tcp { host: host.to_owned(), port })
    }

    fn command(words: &[&str]) -> ResolvedCommand {
        plan(words).unwrap().command
    }

    #[test]
    fn without_arguments_the_client_chats_over_tcp_with_localhost_as_a_guest() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.command, ResolvedCommand::Chat);
        assert_eq!((plan.server, plan.server_name.as_str()), (tcp("localhost", 50_000), "localhost:50000"));
        assert_eq!(plan.config.transport, Transport::Stream);
        assert_eq!(plan.config.policy.max_sends(), 1);
        assert_eq!(plan.config.policy.ack_timeout(), Duration::from_secs(1));
        let name = plan.config.name.unwrap();
        let drawn = name.strip_prefix("guest-").unwrap();
        assert_eq!(drawn.len(), GUEST_LEN);
        assert!(drawn.bytes().all(|byte| GUEST_CHARS.contains(&byte)), "{name}");
        assert!(!(plan.explain || plan.style.json || plan.style.quiet));
    }

    #[test]
    fn the_mode_is_read_in_any_letter_case_before_and_after_the_command() {
        for words in [["--mode", "UDP", "list"], ["list", "--mode", "Udp"]] {
            assert_eq!(plan(&words).unwrap().config.transport, Transport::Datagram);
        }
    }

    #[test]
    fn the_url_of_a_server_names_the_transport() {
        for (url, server) in [
            ("tcp://h:7", tcp("h", 7)),
            ("udp://[::1]", ServerAddr::Datagrams { host: "::1".to_owned(), port: 50_000 }),
            ("unix:///run/chat", ServerAddr::Stream(Target::Unix { path: "/run/chat".into() })),
        ] {
            let plan = plan(&["--host", url, "list"]).unwrap();
            assert_eq!(plan.config.transport, server.transport(), "{url}");
            assert_eq!((plan.server, plan.server_name.as_str()), (server, url));
        }
    }

    #[test]
    fn a_given_name_and_seed_are_not_drawn() {
        let plan =
            plan(&["--name", "alice", "--seed", "7", "--host", "[::1]:1", "--timeout", "200ms"]).unwrap();
        assert_eq!(plan.config.name.as_deref(), Some("alice"));
        assert_eq!((plan.seed, plan.server), (Some(7), tcp("::1", 1)));
        assert_eq!(plan.config.policy.ack_timeout(), Duration::from_millis(200));
    }

    #[test]
    fn a_message_is_all_that_follows_its_target() {
        let send = |target: &[u8], text: Option<&[u8]>| ResolvedCommand::Send {
            target: target.to_vec(),
            text: text.map(<[u8]>::to_vec),
        };
        assert_eq!(command(&["send", "bob", "hi", "you"]), send(b"bob", Some(b"hi you")));
        assert_eq!(command(&["send", "bob", "-5", "and", "-v"]), send(b"bob", Some(b"-5 and")));
        assert_eq!(command(&["send", "bob", "--", "--mode", "-v"]), send(b"bob", Some(b"--mode -v")));
        assert_eq!(
            plan(&["send", "bob", "hi", "--mode", "udp"]).unwrap().config.transport,
            Transport::Datagram
        );
        assert_eq!(command(&["send", "#room", ""]), send(b"#room", Some(b"")));
        assert_eq!(command(&["send", "bob", "-"]), send(b"bob", None));
        assert_eq!(command(&["send", "bob", "-", "-"]), send(b"bob", Some(b"- -")));
        let odd = OsString::from_vec(b"\xff".to_vec());
        let words = ["client", "send", "bob"].map(OsString::from).into_iter().chain([odd]);
        let typed = Args::try_parse_from(words).unwrap();
        let plan = typed.resolve(&mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert_eq!(plan.command, send(b"bob", Some(b"\xff")));
    }

    #[test]
    fn the_other_commands_take_their_flags() {
        assert_eq!(
            command(&["listen", "-n", "3", "-W", ".5", "--join", "#a", "--join", "#b"]),
            ResolvedCommand::Listen {
                count: Some(3),
                wait: Some(Duration::from_millis(500)),
                rooms: vec![b"#a".to_vec(), b"#b".to_vec()],
            }
        );
        assert_eq!(
            command(&["ping", "-c", "2", "-i", "100ms"]),
            ResolvedCommand::Ping { count: Some(2), interval: Duration::from_millis(100) }
        );
        assert_eq!(plan(&["--name", "x", "ping"]).unwrap().config.name, None);
        assert_eq!(command(&["list", "#r"]), ResolvedCommand::List { room: Some(b"#r".to_vec()) });
        assert_eq!(command(&["list"]), ResolvedCommand::List { room: None });
    }

    #[test]
    fn an_invalid_option_is_refused_with_a_sentence() {
        for (words, sentence) in [
            (&["--host", "a:65536"][..], "`a:65536` has no port from 0 to 65535"),
            (&["--host", "a"], "has no port"),
            (&["--host", "a:0"], "`a:0` has port 0"),
            (&["--host", "tcp://a:0"], "no server listens on port 0"),
            (&["--host", "line://a:1"], "line:// is not a listener for this client; write tcp://HOST:PORT"),
            (&["--host", "unix:///a?mode=600"], "what follows the ? is for the server"),
            (&["--host", "unix://a"], "write unix:///PATH"),
            (&["--host", "unix:///a", "--mode", "tcp"], "`unix:///a` names the transport; leave --mode out"),
            (&["--json", "--explain"], "leave --json out"),
            (&["--mode", "sctp"], "possible values: tcp, udp"),
            (&["--name", ""], "`` is not a name"),
            (&["--name", "a b"], "`a b` is not a name: it must be one word"),
            (&["--name", "a\x1b"], "`a\\x1b` is not a name"),
            (&["send", "bob"], "required arguments were not provided"),
            (&["send", "a b", "hi"], "`a b` is not a target"),
            (&["send", "", "hi"], "`` is not a target"),
            (&["listen", "-n", "0"], "0 is not in 1.."),
            (&["listen", "-n", "-1"], "invalid digit"),
            (&["listen", "-W", "-1"], "it must not be negative"),
            (&["listen", "--join", "room"], "`room` is not a room"),
            (&["listen", "--join", "#"], "`#` is not a room"),
            (&["ping", "-c", "0"], "0 is not in 1.."),
            (&["ping", "-i", "0"], "it must be more than zero"),
            (&["ping", "-i", "nan"], "it is not a number"),
            (&["list", "room"], "`room` is not a room"),
            (&["--timeout", "2", "--expb"], "less than 2s"),
            (&["--timeout", "-1"], "it must not be negative"),
            (&["--seed", "x"], "invalid digit"),
            (&["shout"], "unrecognized subcommand"),
        ] {
            let refused = plan(words).unwrap_err();
            assert!(refused.contains(sentence), "{words:?}: {refused}");
        }
    }

    #[test]
    fn a_line_that_a_terminal_may_have_cut_is_too_long() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.clone().for_terminal().max_line, 4_094);
        assert_eq!(plan.max_line, MAX_PAYLOAD, "a pipe does not cut lines");
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
