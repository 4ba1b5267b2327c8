//! The client's options and commands as typed, and the text of its help. `resolve` checks them.

use std::ffi::OsString;
use std::str::FromStr;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::cli::policy::PolicyArgs;
use crate::cli::{DEFAULT_HOST, HostPort};
use crate::net::ServerAddr;
use crate::units::PositiveSeconds;

const AFTER_HELP: &str = "\
Exit codes:
  0    success (also when the output pipe was closed)
  1    the server refused something, a request or the registration, or ended the session; or input or output failed here
  2    usage error; nothing was sent
  3    a request is unknown (sent, never answered) or was never sent, or fewer than N messages arrived; or the
       server shut down, and no retry policy (--expb, --max-sends, --policy) makes the client reconnect
  4    over TCP or a UNIX socket, no answer of any kind was received
  130  interrupted

Every command ends with BYE to the server, which frees the name at once. An interrupted command
waits for the answer for one --timeout at most. A second interrupt ends it at once, also while it is
blocked because its output is not read; the server keeps the messages that are not received.

A terminal silently cuts a typed line at 4,095 bytes, so a line of that length is refused there. A pipe may carry longer lines.";

/// Chats over TCP or lossy UDP, and retries each request until it is answered.
///
/// Without a command: chat. Each line typed or piped is `TARGET message`, or one of /join #room, /leave #room,
/// /list [#room], /quit, /help. TARGET is a name or a #room.
#[derive(Clone, Debug, Parser)]
#[command(name = "client", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(subcommand_help_heading = "Commands", subcommand_value_name = "COMMAND")]
pub struct Args {
    /// The transport to HOST:PORT; a URL has its own [default: tcp]
    #[arg(long, value_enum, ignore_case = true, global = true)]
    pub mode: Option<Mode>,

    /// The server: HOST:PORT, an IPv6 address in brackets, or tcp://HOST:PORT, udp://HOST:PORT, unix:///PATH
    #[arg(long, value_name = "HOST:PORT|URL", default_value = DEFAULT_HOST, global = true)]
    pub host: ServerArg,

    /// The name to register [default: guest- and 8 random characters]
    #[arg(long, global = true)]
    pub name: Option<String>,

    /// The seed of the jitter only [default: drawn]
    #[arg(long, value_name = "N", global = true)]
    pub seed: Option<u64>,

    /// One JSON object per line on standard output, and nothing else
    #[arg(long, global = true)]
    pub json: bool,

    /// Print each retry on standard error; twice or three times for more
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Errors only on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// The retry flags; last, because their heading applies to all options that follow.
    #[command(flatten)]
    pub policy: PolicyArgs,

    /// Print the schedule of the retry policy and its probability of success; send nothing
    #[arg(long, global = true)]
    pub explain: bool,

    /// The command; chat without one.
    #[command(subcommand)]
    pub command: Option<CommandArgs>,
}

/// The value of `--host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerArg {
    /// A host and a port, over the transport of `--mode`.
    HostPort(HostPort),
    /// A URL, which names the transport.
    Url {
        /// As it was typed.
        typed: String,
        /// The address.
        server: ServerAddr,
    },
}

impl FromStr for ServerArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let server = text.parse().map_err(|error| format!("{error}"))?;
            return Ok(Self::Url { typed: text.to_owned(), server });
        }
        text.parse().map(Self::HostPort)
    }
}

/// The transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// A connection; the client reconnects when it is lost
    Tcp,
    /// Datagrams; each may be lost
    Udp,
}

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum CommandArgs {
    /// Send one message, or one per line of standard input
    Send {
        /// A name, or a #room, which is joined first
        target: String,
        /// The words of the message, after `--` if one begins with `-`; `-` alone: one message per line of input
        #[arg(required = true, allow_negative_numbers = true)]
        text: Vec<OsString>,
    },
    /// Print messages as `sender> text`, messages to a room as `sender#room> text`
    Listen {
        /// End after N messages
        #[arg(short = 'n', value_name = "N", allow_hyphen_values = true)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// End SECS seconds after the start
        #[arg(short = 'W', value_name = "SECS", allow_hyphen_values = true)]
        wait: Option<PositiveSeconds>,
        /// Join a room first; may be given several times
        #[arg(long, value_name = "#ROOM")]
        join: Vec<String>,
    },
    /// Measure the time to ack, one ping at a time: `seq=3 tries=2 time=214.1 ms`; registers nothing
    Ping {
        /// End after N pings [default: when interrupted]
        #[arg(short = 'c', value_name = "N", allow_hyphen_values = true)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Seconds between the starts of two pings, unless an answer takes longer
        #[arg(short = 'i', value_name = "SECS", default_value = "1", allow_hyphen_values = true)]
        interval: PositiveSeconds,
    },
    /// Print all names, this client's included, or the names of a room's members, one per line
    List {
        /// The room; names that do not fit the answer are counted in a last line, `+n`
        room: Option<String>,
    },
}
