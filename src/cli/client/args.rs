//! The client's command line as it is typed.

use std::ffi::OsString;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::cli::policy::PolicyArgs;
use crate::cli::{DEFAULT_HOST, HostPort};
use crate::units::PositiveSeconds;

const AFTER_HELP: &str = "\
Exit codes:
  0    done; also when whoever reads the output has had enough of it
  1    the server refused something, a request or the registration, or ended the session; or input or output failed here
  2    the command line makes no sense; nothing was sent
  3    something is unknown (sent, never answered) or was never sent, or fewer than N messages came; or the server
       shut down, and no retry policy (--expb, --max-sends, --policy) has the client come back
  4    no answer of any kind ever came over TCP
  130  interrupted

Every command ends with a goodbye to the server, which frees the name at once. An interrupted one
waits for its answer no longer than one --timeout; a second interrupt ends it at once, also while nobody
reads what it prints: it waits for its reader, and the server keeps what it does not take.

A terminal cuts a typed line at 4,095 bytes without a word, so a line of that length is refused there. A pipe may bring longer ones.";

/// Chat over TCP or lossy UDP, and say it again until it is heard.
///
/// Without a command: chat. Each line typed or piped is `TARGET message`, or one of /join #room, /leave #room,
/// /list [#room], /quit, /help. TARGET is a name or a #room.
#[derive(Clone, Debug, Parser)]
#[command(name = "client", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(subcommand_help_heading = "Commands", subcommand_value_name = "COMMAND")]
pub struct Args {
    /// What to talk over
    #[arg(long, value_enum, ignore_case = true, default_value_t = Mode::Tcp, global = true)]
    pub mode: Mode,

    /// The server; an IPv6 address in brackets
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_HOST, global = true)]
    pub host: HostPort,

    /// The name to be known by [default: guest- and 8 random characters]
    #[arg(long, global = true)]
    pub name: Option<String>,

    /// The seed of the jitter, and of nothing else [default: drawn]
    #[arg(long, value_name = "N", global = true)]
    pub seed: Option<u64>,

    /// One JSON object per line on standard output, and nothing else
    #[arg(long, global = true)]
    pub json: bool,

    /// Tell of each retry on standard error; twice and thrice for more
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Errors only on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// The retry flags; last, because their heading holds for all that follows.
    #[command(flatten)]
    pub policy: PolicyArgs,

    /// Print when a request is sent and given up and how likely it is to succeed; send nothing
    #[arg(long, global = true)]
    pub explain: bool,

    /// What to do; chat without it.
    #[command(subcommand)]
    pub command: Option<CommandArgs>,
}

/// What to talk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// A connection, made again when it is lost
    Tcp,
    /// Datagrams, each of which may be lost
    Udp,
}

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum CommandArgs {
    /// Send one message, or one per line of standard input
    Send {
        /// A name, or a #room, which is joined first
        target: String,
        /// The words of the message, behind `--` if one begins with `-`; `-` alone: one message per line of input
        #[arg(required = true, allow_negative_numbers = true)]
        text: Vec<OsString>,
    },
    /// Print messages as `sender> text`, those to a room as `sender#room> text`
    Listen {
        /// End after so many messages
        #[arg(short = 'n', value_name = "N", allow_hyphen_values = true)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// End so many seconds after the start
        #[arg(short = 'W', value_name = "SECS", allow_hyphen_values = true)]
        wait: Option<PositiveSeconds>,
        /// Join a room first; may be given several times
        #[arg(long, value_name = "#ROOM")]
        join: Vec<String>,
    },
    /// Measure round trips, one at a time: `seq=3 tries=2 time=214.1 ms`; registers nothing
    Ping {
        /// End after so many pings [default: when interrupted]
        #[arg(short = 'c', value_name = "N", allow_hyphen_values = true)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Seconds from the start of a ping to that of the next, unless its answer takes longer
        #[arg(short = 'i', value_name = "SECS", default_value = "1", allow_hyphen_values = true)]
        interval: PositiveSeconds,
    },
    /// Print the names of everybody, this client among them, or of a room's members, one per line
    List {
        /// The room; what does not fit the answer is counted in a last line, `+n`
        room: Option<String>,
    },
}
