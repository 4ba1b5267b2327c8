//! `lab baseline`: the command line of the server that only moves bytes. The server is in `lab::sockets::baseline`.

use std::net::SocketAddr;

use super::LabError;
use super::choice::{Choice, one_of};
use super::output::print;
use crate::lab::baseline::Pattern;
use crate::lab::sockets::baseline::Baseline;

const AFTER_HELP: &str = "\
It reads no message, knows no name and keeps no promise: it moves bytes, with one thread and as few system calls as will do. So it \
shows what this machine's kernel allows; a real server can come near it, and what it stays behind is its own cost. Measure both in \
the same run, with `lab load --peer baseline`: machines drift.

Streams: epoll, edge-triggered; each wake-up reads up to 64 KiB once from every connection that is ready and writes it on at once. \
Reading from a connection is paused while its target is slower: no byte is dropped. Datagrams: recvmmsg and sendmmsg, up to 64 \
in one call; one that finds no room in the socket is lost, as on any network.

SIGINT or SIGTERM ends it with exit code 0.";

/// The options of `lab baseline`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The pattern by which received bytes are passed on
    #[arg(value_name = "PATTERN", value_parser = one_of(&PATTERNS))]
    pattern: Pattern,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// The connection patterns.
const PATTERNS: [Choice<Pattern>; 4] = [
    ("echo", "TCP: every connection gets its own bytes back", Pattern::Echo),
    ("echo-udp", "UDP: every datagram goes back to where it came from", Pattern::EchoUdp),
    (
        "relay",
        "TCP: the first and the second connection get each other's bytes, so do the third and the fourth, and so on",
        Pattern::Relay,
    ),
    (
        "fan",
        "TCP: all others get what the first connection sends; what they send is thrown away",
        Pattern::Fan,
    ),
];

/// Serves until a signal ends the program.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    let failed = |error: String| LabError::Failed(error);
    let baseline = Baseline::bind(args.pattern, args.listen).map_err(|error| failed(error.to_string()))?;
    let lines: String = baseline.endpoints().iter().map(|at| format!("listening on {at}\n")).collect();
    print(&lines)?;
    baseline.run().map_err(|error| failed(format!("cannot serve: {error}")))?;
    Ok(crate::cli::exit::OK)
}
