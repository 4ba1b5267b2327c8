//! The command line of the server.
//!
//! This file holds the options as typed ([`Args`]). `resolve` turns them into a [`ServerPlan`], and [`run`] serves it.
//! `listeners` reads `--listen` and its short form; `connection_limit` asks the system how many connections it allows.
//! The chat itself is in [`crate::server`], its sockets in [`crate::net`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use log::LevelFilter;

use super::link::LinkArgs;
use super::rules;
use crate::escape::escape_short;
use crate::hub::SlowPolicy;
use crate::net::EngineKind;
use crate::units::{AtLeastOne, ByteSize, Count, PositiveSeconds, Probability, Seconds};

mod connection_limit;
mod listeners;
mod resolve;
mod serve;
#[cfg(test)]
mod tests;

use listeners::ListenArgs;
pub use listeners::ListenPlan;
pub use resolve::ServerPlan;
pub use serve::{ServeError, draw_seed, run};

const AFTER_HELP: &str = "\
Times are seconds, or a number with ms, s, m or h; sizes are bytes, or a number with KiB, MiB or GiB.

SIGINT or SIGTERM shuts the server down: it sends BYE to all clients, for 10 seconds at most, with
the time of --back-in if given. SIGUSR1 logs the totals.
SIGHUP reloads --rules as a whole or not at all. It ends the sessions that the new rules deny, and the connections that could not
register under any name. Without --rules, SIGHUP shuts the server down too.

A log that is not read never blocks the server: 1 MiB of it is queued, further lines are dropped, and their count is logged instead.

Exit codes:
    0  shut down by a signal
    1  cannot serve
    2  usage error
  130  interrupted twice";

fn after_help() -> String {
    format!("{}\n\n{AFTER_HELP}", listeners::HELP)
}

/// The options as typed.
#[derive(Clone, Debug, Parser)]
#[command(name = "server", version, about = "Serves one chat over TCP, lossy UDP and UNIX sockets, and to line clients such as netcat", after_help = after_help())]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<ServerCommand>,

    #[command(flatten)]
    listen: ListenArgs,

    /// Probability that input is accepted, 0 to 1: each datagram, and on streams each tagged request
    #[arg(long, value_name = "P", default_value = "1", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["link", "link_up", "profile"])]
    success: Probability,

    /// Probability that output is dropped, 0 to 1: each datagram, and on streams each answer to a tagged request
    #[arg(long, value_name = "P", default_value = "0", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["link", "link_down", "profile"])]
    loss_out: Probability,

    #[command(flatten)]
    link: LinkArgs,

    /// The seed of the simulated links, which makes losses repeatable [default: drawn, and logged]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<u64>,

    /// First retransmission timeout of a message over UDP
    #[arg(long, value_name = "SECS", default_value = ".1", allow_hyphen_values = true)]
    timeout: PositiveSeconds,

    /// Longest retransmission timeout, which doubling does not exceed [default: 1, or --timeout if that is more]
    #[arg(long, value_name = "SECS", allow_hyphen_values = true)]
    max_timeout: Option<PositiveSeconds>,

    /// Time by which a session on a stream outlives its connection
    #[arg(long, value_name = "SECS", default_value = "30", allow_hyphen_values = true)]
    linger: Seconds,

    /// Time that a session over UDP lives after its last datagram
    #[arg(long, value_name = "SECS", default_value = "90", allow_hyphen_values = true)]
    idle: PositiveSeconds,

    /// Longest payload of a received frame
    #[arg(long, value_name = "SIZE", default_value = "16MiB", allow_hyphen_values = true)]
    max_message: ByteSize,

    /// Most bytes pending for one session: queued, not written yet, or sent and not acknowledged
    #[arg(long, value_name = "SIZE", default_value = "16MiB", allow_hyphen_values = true)]
    max_pending: ByteSize,

    /// Most messages pending for one session, 1 or more
    #[arg(long, value_name = "N", default_value = "65536", allow_hyphen_values = true)]
    max_pending_messages: AtLeastOne,

    /// Policy when the queue of a room's member is full: drop-new (the message), drop-old (the oldest queued
    /// messages), disconnect (end the member's session) or block (pause reading from the sender)
    #[arg(long, value_name = "POLICY", default_value_t)]
    slow: SlowPolicy,

    /// Most memory for all clients together: messages (a long one to many receivers counts once), rooms, unread answers
    /// and incomplete frames. See docs/limits.md for the behaviour at the limit
    #[arg(long, value_name = "SIZE", default_value = "1GiB", allow_hyphen_values = true)]
    max_memory: ByteSize,

    /// Largest datagram sent, in bytes, 576 to 65507
    #[arg(long, value_name = "SIZE", default_value = "1200", allow_hyphen_values = true)]
    max_datagram: ByteSize,

    /// Networks from which a bare REG over UDP needs no proof of address; empty: none
    #[arg(long, value_name = "CIDR,..", default_value = "127.0.0.0/8,::1/128")]
    bare_udp: Networks,

    /// Most stream connections at once [default: the limit of open files, raised to its hard limit, less an eighth, at
    /// most 64]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_connections: Option<AtLeastOne>,

    /// Most sessions at once, over streams and UDP. A sixteenth of the sessions and of the connections (8 to 64, a
    /// quarter at most) is reserved for loopback and UNIX sockets
    #[arg(long, value_name = "N", default_value = "1048576", allow_hyphen_values = true)]
    max_sessions: AtLeastOne,

    /// Most stream connections, lingering sessions and UDP sessions at once, together, from one IPv4 address or IPv6
    /// /64; loopback is exempt; 0 is no limit
    #[arg(long, value_name = "N", default_value = "100", allow_hyphen_values = true)]
    max_per_host: Count,

    /// Time limit for a connection to register; only a ping restarts this time, for a day at most
    #[arg(long, value_name = "SECS", default_value = "60", allow_hyphen_values = true)]
    register_timeout: PositiveSeconds,

    /// Time limit for a frame from its first byte, plus a second per 64 KiB
    #[arg(long, value_name = "SECS", default_value = "10", allow_hyphen_values = true)]
    frame_timeout: PositiveSeconds,

    /// Expected duration of a shutdown, sent to clients. Clients with a retry policy reconnect after that time,
    /// and without this option by their backoff
    #[arg(long, value_name = "SECS", allow_hyphen_values = true)]
    back_in: Option<Seconds>,

    /// Access rules for names, in TOML; `server rules check --help` shows such a file [default: every name is open]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Mechanism that waits for sockets: poll (readiness loops), tasks (a task per connection) or threads (a thread per
    /// connection)
    #[arg(long, value_name = "ENGINE", default_value_t)]
    engine: EngineKind,

    /// Number of readiness loops of --engine poll [default: one per two processors, at least one]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    loops: Option<AtLeastOne>,

    /// Log more: the start and end of each session and connection
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Log only errors and the totals
    #[arg(short, long)]
    quiet: bool,
}

/// A command that runs instead of serving.
#[derive(Clone, Debug, Subcommand)]
enum ServerCommand {
    /// Access rules for names
    Rules(rules::Args),
}

/// A comma-separated list of networks; an address is a network of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Networks(Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(word: &str) -> Result<IpNet, String> {
    let net = word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| {
        format!("`{}` is not a network; write 10.0.0.0/8 or ::1", escape_short(word.as_bytes(), 40))
    })
}

impl Args {
    /// Starts logging at the level of `-v` and `-q`.
    pub fn start_logging(&self) {
        super::start_queued_logging(LevelFilter::Info, self.verbose, self.quiet);
    }

    /// Runs the command given instead of serving, if any. Returns its exit code.
    #[must_use]
    pub fn run_command(&self) -> Option<u8> {
        match self.command.as_ref()? {
            ServerCommand::Rules(args) => Some(rules::run(args)),
        }
    }
}
