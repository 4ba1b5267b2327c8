//! `lab load`: as typed ([`Args`]) -> a workload's own plan -> its run, and the outcome as text, JSON or CSV.

use std::rc::Rc;
use std::str::FromStr;

use clap::Subcommand;

use self::common::Common;
use super::LabError;
use crate::cli::exit;
use crate::lab::load::group::Cast;
use crate::lab::load::outcome::Outcome;
use crate::lab::load::peer::Peer;
use crate::net::load::groups::{self, End};
use crate::net::load::ping;
use crate::net::load::subject::Door;
use crate::units::{AtLeastOne, ByteSize, PositiveSeconds};

mod common;

/// The room of `lab load fanout`.
const ROOM: &str = "load";

/// The most that all messages made ahead may take, in bytes.
const MAX_AHEAD: usize = 4 << 30;

const AFTER_HELP: &str = "\
Without --host, the server program that lies beside this one is started on a free port of loopback, its processor time and memory
are measured, and it is ended. All that comes back is compared byte by byte with what has to; what is lost is exit code 1.

    lab load route --pairs 16 --size 16
    lab load ping --clients 64 --rate 50000 --json
    lab load route --peer nats --host 127.0.0.1:4222 --pid $(pidof nats-server)

Exit codes:
    0  done, and nothing was lost
    1  something was lost or stands in the way
    2  the command line makes no sense
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
    /// Messages from P senders to a receiver of each: how many in a second
    Route(RouteArgs),
    /// Messages from one sender to all members of a room
    Fanout(FanoutArgs),
    /// Pings, one at a time from each client: how many in a second, and how long each takes
    Ping(PingArgs),
}

/// How long it goes on.
#[derive(Clone, Debug, clap::Args)]
struct Length {
    /// Send for so long; then wait for what is under way
    #[arg(long, value_name = "SECS", default_value = "2", allow_hyphen_values = true)]
    seconds: PositiveSeconds,

    /// Send so many in all instead, shared evenly
    #[arg(long, value_name = "N", conflicts_with = "seconds", allow_hyphen_values = true)]
    count: Option<AtLeastOne>,

    /// So many in a second, from all together, whatever the server does; latencies count from when each was due
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    rate: Option<PerSecond>,
}

impl Length {
    fn end(&self) -> End {
        let count = self.count.map(|count| End::Count(count.get().get() as u64));
        count.unwrap_or(End::After(self.seconds.as_duration()))
    }
}

/// How many in a second: more than 0, up to 10^9.
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

/// The options of `route`.
#[derive(Clone, Debug, clap::Args)]
struct RouteArgs {
    /// How many senders, each with a receiver
    #[arg(long, value_name = "P", default_value = "16", allow_hyphen_values = true)]
    pairs: AtLeastOne,
    #[command(flatten)]
    messages: Messages,
}

/// The options of `fanout`.
#[derive(Clone, Debug, clap::Args)]
struct FanoutArgs {
    /// How many are in the room besides the sender
    #[arg(long, value_name = "N", default_value = "100", allow_hyphen_values = true)]
    members: AtLeastOne,
    #[command(flatten)]
    messages: Messages,
}

/// What both say of messages.
#[derive(Clone, Debug, clap::Args)]
struct Messages {
    /// Bytes in a message
    #[arg(long, value_name = "SIZE", default_value = "16", allow_hyphen_values = true)]
    size: ByteSize,

    /// Tagged: each message is answered, numbered and acknowledged, and repeated if need be
    #[arg(long)]
    tagged: bool,

    /// Most bytes of one sender that are under way, or one message
    #[arg(long, value_name = "SIZE", default_value = "256KiB", allow_hyphen_values = true)]
    window: ByteSize,

    #[command(flatten)]
    length: Length,
    #[command(flatten)]
    common: Common,
}

/// The options of `ping`.
#[derive(Clone, Debug, clap::Args)]
struct PingArgs {
    /// How many clients
    #[arg(long, value_name = "C", default_value = "64", allow_hyphen_values = true)]
    clients: AtLeastOne,
    #[command(flatten)]
    length: Length,
    #[command(flatten)]
    common: Common,
}

/// Names of so many clients of a kind, all of one length.
fn names(kind: char, count: usize) -> Vec<String> {
    let width = count.to_string().len();
    (1..=count).map(|place| format!("{kind}{place:0width$}")).collect()
}

/// Loads a server. Returns the exit code.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    crate::net::open_files::raise_open_files();
    match &args.workload {
        Workload::Route(args) => args.run(),
        Workload::Fanout(args) => args.run(),
        Workload::Ping(args) => args.run(),
    }
}

impl RouteArgs {
    fn run(&self) -> Result<u8, LabError> {
        let pairs = self.pairs.get().get();
        let pair = |(sender, receiver)| (sender, vec![receiver]);
        let casts = names('s', pairs).into_iter().zip(names('r', pairs)).map(pair).collect();
        self.messages.run("route", pairs, casts, None)
    }
}

impl FanoutArgs {
    fn run(&self) -> Result<u8, LabError> {
        let members = self.members.get().get();
        self.messages.run("fanout", members, vec![("s".to_owned(), names('r', members))], Some(ROOM))
    }
}

impl Messages {
    fn run(
        &self,
        workload: &'static str,
        clients: usize,
        casts: Vec<(String, Vec<String>)>,
        room: Option<&str>,
    ) -> Result<u8, LabError> {
        let peer: Rc<dyn Peer> = self.common.streams(self.tagged)?.into();
        let size = self.size.get();
        if size.saturating_mul(casts.len()).saturating_mul(3) > MAX_AHEAD {
            let most = ByteSize::new(MAX_AHEAD / 3 / casts.len().max(1));
            return Err(LabError::Usage(format!(
                "--size {} is too much of so many; at most {most}",
                self.size
            )));
        }
        let cast = |(sender, receivers)| Cast { sender, receivers, room: room.map(str::to_owned), size };
        let casts = casts.into_iter().map(cast).collect();
        let rate = self.length.rate.map(|rate| rate.0);
        let plan = groups::Plan { casts, window: self.window.get(), rate, end: self.length.end() };
        let mut outcome = Outcome {
            workload,
            peer: peer.name(),
            clients: clients as u64,
            size: Some(size as u64),
            wanted_rate: rate,
            ..Outcome::default()
        };
        self.common.measure(Door::Tcp, &mut outcome, |subject, interrupt, outcome| {
            groups::run(subject, &peer, &plan, interrupt, outcome)
        })
    }
}

impl PingArgs {
    fn run(&self) -> Result<u8, LabError> {
        let peer = self.common.streams(false)?;
        let clients = self.clients.get().get();
        let rate = self.length.rate.map(|rate| rate.0);
        let plan = ping::Plan { names: names('c', clients), rate, end: self.length.end() };
        let (clients, wanted_rate) = (clients as u64, rate);
        let mut outcome =
            Outcome { workload: "ping", peer: peer.name(), clients, wanted_rate, ..Outcome::default() };
        self.common.measure(Door::Tcp, &mut outcome, |subject, interrupt, outcome| {
            ping::run(subject, peer.as_ref(), &plan, interrupt, outcome)
        })
    }
}
