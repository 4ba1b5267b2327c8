//! `lab load`: from the command line ([`Args`]) to a workload's plan, its run, and its outcome as text, JSON or CSV.
//! The runs themselves are in `lab::sockets::load`.

use std::str::FromStr;

use clap::Subcommand;

use self::common::Common;
use self::connections::{BurstArgs, IdleArgs, SerialArgs};
use self::engines::EnginesArgs;
use self::line_clients::{SlowArgs, SpamArgs};
use self::messages::{FanoutArgs, RouteArgs};
use super::LabError;
use crate::cli::server::draw_seed;
use crate::lab::load::end::End;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::sockets::load::datagrams;
use crate::lab::sockets::load::ping;
use crate::lab::sockets::load::target_server::ListenerKind;
use crate::units::{AtLeastOne, ByteSize, PositiveSeconds};

mod common;
mod connections;
mod engines;
mod line_clients;
mod messages;

const AFTER_HELP: &str = "\
Without --host, the server program that lies beside this one is started on a free port of loopback, its processor time and memory \
are measured, and it is ended. All answers are compared byte by byte with the expected ones. Any loss is exit code 1.

    lab load route --pairs 16 --size 16
    lab load ping --clients 64 --rate 50000 --json
    lab load route --peer nats --host 127.0.0.1:4222 --pid $(pidof nats-server)

Exit codes:
    0  done, and nothing was lost
    1  something was lost, or an operation failed
    2  usage error
  130  interrupted";

/// The options of `lab load`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    workload: Workload,
}

/// The workloads.
#[derive(Clone, Debug, Subcommand)]
enum Workload {
    /// Messages from P senders, each to its own receiver: the rate
    Route(RouteArgs),
    /// Messages from one sender to all members of a room
    Fanout(FanoutArgs),
    /// Pings, one at a time from each client: the rate, and the time of each
    Ping(PingArgs),
    /// Requests in datagrams, one at a time from each client; unanswered ones are retransmitted and counted
    Udp(UdpArgs),
    /// Connect N clients at once; each registers and gets one message
    Burst(BurstArgs),
    /// Connect, register, leave; N times, one after the other
    Serial(SerialArgs),
    /// Let N clients idle: memory of each, processor time of all, and the time of their pings
    Idle(IdleArgs),
    /// Send lines as fast as a line listener takes them, and print the time of each (Trio Chat's spam client)
    Spam(SpamArgs),
    /// Read slowly from a line listener (Trio Chat's slow client)
    Slow(SlowArgs),
    /// Compare the engines of the server beside this program: a table for each workload
    Engines(EnginesArgs),
}

/// The duration of a run.
#[derive(Clone, Debug, clap::Args)]
struct Length {
    /// Time for which to send; then messages in flight are awaited
    #[arg(long, value_name = "SECS", default_value = "2", allow_hyphen_values = true)]
    seconds: PositiveSeconds,

    /// Number of messages in all instead, shared evenly; the first senders send one more if need be
    #[arg(long, value_name = "N", conflicts_with = "seconds", allow_hyphen_values = true)]
    count: Option<AtLeastOne>,

    /// Messages per second of all senders together, however slow the server is; latencies count from the due time
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    rate: Option<PerSecond>,
}

impl Length {
    fn end(&self) -> End {
        end(self.seconds, self.count)
    }
}

fn end(seconds: PositiveSeconds, count: Option<AtLeastOne>) -> End {
    count.map_or(End::After(seconds.as_duration()), |count| End::Count(count.get().get() as u64))
}

/// A rate per second: more than 0, up to 10^9.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PerSecond(f64);

impl FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.parse().ok().filter(|rate| *rate >= 1e-3 && *rate <= 1e9);
        let shown = || crate::escape::escape_short(text.as_bytes(), 40).into_owned();
        wanted
            .map(Self)
            .ok_or_else(|| format!("`{}` is not a rate: it is a number from 0.001 to 1e9", shown()))
    }
}

/// The options of `ping`.
#[derive(Clone, Debug, clap::Args)]
struct PingArgs {
    /// Number of clients
    #[arg(long, value_name = "C", default_value = "64", allow_hyphen_values = true)]
    clients: AtLeastOne,
    #[command(flatten)]
    length: Length,
    #[command(flatten)]
    common: Common,
}

/// The options of `udp`.
#[derive(Clone, Debug, clap::Args)]
struct UdpArgs {
    /// Number of clients, each with a socket
    #[arg(long, value_name = "C", default_value = "64", allow_hyphen_values = true)]
    clients: AtLeastOne,

    /// Bytes in a request
    #[arg(long, value_name = "SIZE", default_value = "16", allow_hyphen_values = true)]
    size: ByteSize,

    /// Time for which to send requests
    #[arg(long, value_name = "SECS", default_value = "2", allow_hyphen_values = true)]
    seconds: PositiveSeconds,

    /// Number of requests in all instead, shared evenly; the first clients send one more if need be
    #[arg(long, value_name = "N", conflicts_with = "seconds", allow_hyphen_values = true)]
    count: Option<AtLeastOne>,

    /// Timeout before a request is retransmitted; after 20 sends it counts as lost
    #[arg(long, value_name = "SECS", default_value = ".2", allow_hyphen_values = true)]
    timeout: PositiveSeconds,

    #[command(flatten)]
    common: Common,
}

/// Largest body of a request over UDP, in bytes.
const MAX_REQUEST: usize = 1_024;

/// Bound on the clients of a run: beyond any server's capacity, and few enough for unique names.
const MAX_CLIENTS: usize = 10_000_000;

/// Checks a number of clients.
fn bounded(count: AtLeastOne) -> Result<usize, LabError> {
    let clients = Some(count.get().get()).filter(|count| *count <= MAX_CLIENTS);
    clients.ok_or_else(|| {
        LabError::Usage(format!("{} clients are too many; at most {MAX_CLIENTS}", count.get()))
    })
}

/// The characters of a run's suffix, and their number.
const MARKS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const MARK: usize = 3;

/// The names of clients and rooms in a run. At a server that is already running, they end with a suffix of the run, so
/// that runs do not share names.
#[derive(Clone, Debug, Default)]
struct Names {
    mark: String,
}

impl Names {
    /// Creates names with a random suffix.
    fn drawn() -> Result<Self, LabError> {
        let seed = draw_seed().map_err(|error| LabError::Failed(error.to_string()))?;
        let mark = seed.to_le_bytes().into_iter().take(MARK);
        let mark =
            mark.filter_map(|byte| MARKS.get(usize::from(byte) % MARKS.len())).map(|byte| char::from(*byte));
        Ok(Self { mark: mark.collect() })
    }

    /// Returns names of so many clients of a kind, all of one length.
    fn of(&self, kind: char, count: usize) -> Vec<String> {
        let (width, mark) = (count.to_string().len(), &self.mark);
        (1..=count).map(|place| format!("{kind}{place:0width$}{mark}")).collect()
    }

    /// Returns a unique name.
    fn called(&self, word: &str) -> String {
        format!("{word}{}", self.mark)
    }
}

/// Runs a workload. Returns the exit code.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    crate::net::open_files::raise_open_files();
    match &args.workload {
        Workload::Route(args) => args.run(),
        Workload::Fanout(args) => args.run(),
        Workload::Ping(args) => args.run(),
        Workload::Udp(args) => args.run(),
        Workload::Burst(args) => args.run(),
        Workload::Serial(args) => args.run(),
        Workload::Idle(args) => args.run(),
        Workload::Spam(args) => args.run(),
        Workload::Slow(args) => args.run(),
        Workload::Engines(args) => args.run(),
    }
}

impl PingArgs {
    fn run(&self) -> Result<u8, LabError> {
        let peer = self.common.streams(false)?;
        let clients = bounded(self.clients)?;
        let rate = self.length.rate.map(|rate| rate.0);
        let plan =
            ping::PingPlan { names: self.common.names()?.of('c', clients), rate, end: self.length.end() };
        let (clients, wanted_rate) = (clients as u64, rate);
        let mut outcome = LoadOutcome {
            workload: "ping",
            peer: peer.name(),
            clients,
            wanted_rate,
            ..LoadOutcome::default()
        };
        self.common.measure(ListenerKind::Tcp, &mut outcome, |target, interrupt, outcome| {
            ping::run(target, peer.as_ref(), &plan, interrupt, outcome)
        })
    }
}

impl UdpArgs {
    fn run(&self) -> Result<u8, LabError> {
        let peer = self.common.datagrams()?;
        let (clients, size) = (bounded(self.clients)?, self.size.get());
        if size > MAX_REQUEST {
            return Err(LabError::Usage(format!(
                "--size {} does not fit a datagram; at most {MAX_REQUEST}",
                self.size
            )));
        }
        let end = end(self.seconds, self.count);
        let names = self.common.names()?.of('c', clients);
        let plan = datagrams::DatagramsPlan { names, size, timeout: self.timeout.as_duration(), end };
        let mut outcome = LoadOutcome {
            workload: "udp",
            peer: peer.name(),
            clients: clients as u64,
            size: Some(size as u64),
            ..LoadOutcome::default()
        };
        self.common.measure(ListenerKind::Udp, &mut outcome, |target, interrupt, outcome| {
            datagrams::run(target, peer.as_ref(), &plan, interrupt, outcome)
        })
    }
}
