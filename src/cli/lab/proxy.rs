//! `lab proxy`: a lossy relay in front of any UDP or TCP program. The proxies are in `lab::sockets::relay`.

#![expect(clippy::disallowed_types, reason = "programs own the system's randomness")]

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::LevelFilter;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::json;

use super::LabError;
use crate::cli::link::LinkArgs;
use crate::cli::logging::{print_unless_stuck, show_on_stderr, write_on_stderr};
use crate::cli::{HostPort, TOTALS, exit};
use crate::escape::escape_short;
use crate::lab::proxy::address::Address;
use crate::lab::proxy::control::{ControlError, NewProxy};
use crate::lab::proxy::record::{self, Header, Replay};
use crate::lab::proxy::rule::Rule;
use crate::lab::proxy::totals::{Kind, ProxyTotals, requested};
use crate::lab::sockets::api::ApiListener;
use crate::lab::sockets::relay::{self, Prepared, ProxySettings, Recorder};
use crate::link::LinkConfig;
use crate::net::Signals;
use crate::net::listen::Scheme;
use crate::units::{PositiveSeconds, Probability};

const AFTER_HELP: &str = "\
Datagrams: each client address is a flow, with its own socket towards the upstream. Streams: a lost segment is a stall as long \
as TCP's retransmission timeout (200 ms, doubled for each further loss); no byte is ever missing.

SIGINT or SIGTERM ends it with its totals and exit code 0. SIGUSR1 logs the totals.";

/// The options of `lab proxy`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The address to listen on: udp://HOST:PORT or tcp://HOST:PORT; no host is loopback, `0.0.0.0` or `[::]` (both families) lets others in, port 0
    /// takes a free one; may repeat
    #[arg(long, value_name = "ADDRESS", required_unless_present = "api")]
    listen: Vec<Address>,

    /// The address to relay to, of the same scheme: the first --listen to the first --to, and so on
    #[arg(long, value_name = "ADDRESS", required_unless_present = "api")]
    to: Vec<Address>,

    #[command(flatten)]
    links: LinkArgs,

    /// The seed, which makes the impairments the same in every run [default: drawn, and logged]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<u64>,

    /// Impair only datagrams that match: size>200, size<=100, first=4001 (hex), first="TEXT"; up: or down:
    /// before it is about one direction; may repeat, then all must hold
    #[arg(long = "match", value_name = "RULE")]
    rules: Vec<Rule>,

    /// Write every decision to a file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Replay the decisions recorded in that file, instead of --link and --seed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "api"])]
    replay: Option<PathBuf>,

    /// The address of an HTTP API with toxiproxy's shapes, for changes while it runs
    #[arg(long, value_name = "HOST:PORT")]
    api: Option<HostPort>,

    /// Most clients, or connections, of each proxy at once
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    max_flows: u32,

    /// Time for which a client over UDP is remembered when nothing passes either way
    #[arg(long, value_name = "SECS", default_value = "60", allow_hyphen_values = true)]
    idle: PositiveSeconds,

    /// Print the totals as one JSON object on standard output, at the end
    #[arg(long)]
    json: bool,

    /// Log more: each client as it comes
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Log errors only, and the totals
    #[arg(short, long)]
    quiet: bool,
}

/// The options, checked and complete.
#[derive(Debug)]
struct ProxyPlan {
    wanted: Vec<NewProxy>,
    up: LinkConfig,
    down: LinkConfig,
    seed: u64,
}

impl Args {
    fn resolve(&self) -> Result<ProxyPlan, LabError> {
        let (up, down) = self.links.resolve().map_err(LabError::Usage)?;
        if self.listen.len() != self.to.len() {
            let (listen, to) = (self.listen.len(), self.to.len());
            return Err(LabError::Usage(format!(
                "--listen and --to come in pairs, and there are {listen} and {to} of them"
            )));
        }
        if self.replay.is_some() && (&up, &down) != (&LinkConfig::perfect(), &LinkConfig::perfect()) {
            return Err(LabError::Usage(
                "--replay decides all by itself: leave out --link and --profile".to_owned(),
            ));
        }
        if let (Some(replay), Some(record)) = (&self.replay, &self.record)
            && is_same(replay, record)
        {
            return Err(LabError::Usage("--record would overwrite what --replay is to read".to_owned()));
        }
        let pair = |(listen, to): (&Address, &Address)| NewProxy {
            name: None,
            listen: listen.to_string(),
            upstream: to.to_string(),
            enabled: true,
            up: up.clone(),
            down: down.clone(),
        };
        let wanted = self.listen.iter().zip(&self.to).map(pair).collect();
        let seed = self.seed.map_or_else(draw_seed, Ok)?;
        Ok(ProxyPlan { wanted, up, down, seed })
    }

    fn settings(
        &self,
        seed: u64,
        recorder: Option<Arc<Recorder>>,
        replay: Option<BTreeMap<String, Replay>>,
    ) -> ProxySettings {
        ProxySettings {
            seed,
            max_flows: usize::try_from(self.max_flows).unwrap_or(usize::MAX),
            idle: self.idle.as_duration(),
            rules: self.rules.clone(),
            recorder,
            replay,
        }
    }

    /// Logs the links, and their parts without effect here.
    fn log(&self, plan: &ProxyPlan) {
        match &self.replay {
            Some(path) => log::info!("replaying {}", shown(path)),
            None => log::info!("seed {}, up {}, down {}", plan.seed, plan.up, plan.down),
        }
        if self.listen.iter().any(|listen| listen.scheme == Scheme::Tcp) {
            let mut ignored = ignored_above_tcp([&plan.up, &plan.down]);
            ignored.extend((!self.rules.is_empty()).then_some("--match"));
            if !ignored.is_empty() {
                log::warn!(
                    "above TCP there are no datagrams: {} has no effect on tcp://",
                    ignored.join(", ")
                );
            }
        }
        let is_reset = [&plan.up, &plan.down].iter().any(|link| link.reset != Probability::ZERO);
        if is_reset && self.listen.iter().any(|listen| listen.scheme == Scheme::Udp) {
            log::warn!("only connections are reset: reset has no effect on udp://");
        }
    }
}

/// Whether both paths are the same existing file.
fn is_same(one: &Path, other: &Path) -> bool {
    let found = |path: &Path| path.canonicalize().ok();
    found(one).is_some_and(|one| found(other).as_ref() == Some(&one))
}

/// Returns the parts of links that have no effect on a stream.
fn ignored_above_tcp(links: [&LinkConfig; 2]) -> Vec<&'static str> {
    let any = |is_there: fn(&LinkConfig) -> bool| links.into_iter().any(is_there);
    let parts = [
        ("duplicate", any(|link| link.duplicate != Probability::ZERO)),
        ("corrupt", any(|link| link.corrupt != Probability::ZERO)),
        ("truncate", any(|link| link.truncate != Probability::ZERO)),
        ("mtu", any(|link| link.mtu.is_some())),
        ("reorder", any(|link| !link.reorder)),
    ];
    parts.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
}

/// Relays until a signal ends it.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    crate::cli::start_queued_logging(LevelFilter::Info, args.verbose, args.quiet);
    let plan = args.resolve()?;
    let replay = args.replay.as_deref().map(read_replay).transpose()?;
    let prepared = relay::prepare(plan.wanted.clone()).map_err(refused)?;
    let api = args.api.as_ref().map(|at| ApiListener::bind(&at.host, at.port)).transpose().map_err(failed)?;
    let signals = Signals::new().map_err(failed)?;
    // Last of the steps that can fail, so that no file is created after a failure.
    let recorder = args.record.as_deref().map(|path| create_record(path, &plan)).transpose()?;
    let lines = announcement(&prepared, api.as_ref());
    let relays =
        relay::begin(args.settings(plan.seed, recorder.clone(), replay), prepared).map_err(failed)?;
    if let Some(api) = api {
        api.start(relays.clone());
    }
    args.log(&plan);
    if let Err(error) = print_unless_stuck(lines) {
        log::warn!("cannot print: {error}");
    }
    let is_live = io::stderr().is_terminal() && !args.quiet;
    relay::run(&relays, signals, report, is_live.then_some(show));
    let record = recorder.map(|recorder| recorder.finish());
    let told = record.as_ref().map_or(Ok(exit::OK), tell_record);
    if args.json {
        let totals = format!("{}\n", to_json(plan.seed, &relays.totals(), record.as_ref()));
        print(&totals).map_err(|error| LabError::Failed(format!("cannot print the totals: {error}")))?;
    }
    told
}

/// An invalid request is a usage error.
fn refused(error: ControlError) -> LabError {
    match error {
        ControlError::Invalid(why) => LabError::Usage(why),
        other => failed(other),
    }
}

fn failed(error: impl ToString) -> LabError {
    LabError::Failed(error.to_string())
}

fn draw_seed() -> Result<u64, LabError> {
    SysRng.try_next_u64().map_err(|error| LabError::Failed(format!("the system has no randomness: {error}")))
}

fn shown(path: &Path) -> String {
    escape_short(path.as_os_str().as_encoded_bytes(), 200).into_owned()
}

fn read_replay(path: &Path) -> Result<BTreeMap<String, Replay>, LabError> {
    let cannot = |why: String| LabError::Failed(format!("cannot replay {}: {why}", shown(path)));
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot("it is not text".to_owned()))?;
    let recorded = record::read(&text).map_err(|error| cannot(error.to_string()))?;
    Ok(recorded.into_iter().map(|(proxy, notes)| (proxy, notes.into_iter().collect())).collect())
}

fn create_record(path: &Path, plan: &ProxyPlan) -> Result<Arc<Recorder>, LabError> {
    let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let (link_up, link_down) = (plan.up.to_string(), plan.down.to_string());
    let header = Header { command, seed: plan.seed, link_up, link_down };
    let cannot = |error: io::Error| LabError::Failed(format!("cannot write {}: {error}", shown(path)));
    Recorder::create(path, &header).map(Arc::new).map_err(cannot)
}

/// Returns a line per socket.
fn announcement(prepared: &[Prepared], api: Option<&ApiListener>) -> String {
    let listening = prepared.iter().flat_map(Prepared::endpoints).map(|at| format!("listening on {at}\n"));
    let api =
        api.into_iter().flat_map(ApiListener::endpoints).map(|at| format!("api on http://{}\n", at.addr));
    listening.chain(api).collect()
}

/// Prints on standard output. A closed pipe is not a failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

fn report(totals: &[ProxyTotals]) {
    if io::stderr().is_terminal() {
        // Clears the live counters.
        write_on_stderr("\x1b[2K".to_owned());
    }
    for proxy in totals {
        log::info!(target: TOTALS, "{proxy}");
    }
}

/// Shows one line on a terminal, which the next one overwrites; a wrapped line would stay.
fn show(totals: &[ProxyTotals]) {
    let shown: Vec<String> = totals.iter().map(brief).collect();
    let width = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0);
    show_on_stderr(format!("\x1b[2K{}\r", cut(&shown.join(" | "), usize::from(width))));
}

/// Cuts a line to so many columns, without the last one: there some terminals wrap.
fn cut(line: &str, width: usize) -> String {
    line.chars().take(width.saturating_sub(1)).collect()
}

fn brief(proxy: &ProxyTotals) -> String {
    let percent =
        |part: Option<f64>| part.map_or_else(|| "-".to_owned(), |part| format!("{:.1} %", part * 100.0));
    match &proxy.kind {
        Kind::Datagrams { open, up, down, .. } => format!(
            "{}: {open} flows, up {} (lost {}, requested {}), down {} (lost {}, requested {})",
            proxy.name,
            up.datagrams,
            percent(up.realised()),
            requested(up.requested.as_ref()),
            down.datagrams,
            percent(down.realised()),
            requested(down.requested.as_ref())
        ),
        Kind::Streams { open, up, down, .. } => format!(
            "{}: {open} connections, up {} bytes, {} stalls, down {} bytes, {} stalls",
            proxy.name, up.bytes, up.lost, down.bytes, down.lost
        ),
    }
}

fn to_json(seed: u64, totals: &[ProxyTotals], record: Option<&relay::Recorded>) -> serde_json::Value {
    let proxies: Vec<_> = totals.iter().map(ProxyTotals::to_json).collect();
    let record = record.map(|record| json!({ "written": record.written, "dropped": record.dropped }));
    json!({ "version": env!("CARGO_PKG_VERSION"), "seed": seed, "proxies": proxies, "record": record })
}

/// Reports the decisions missing from the record.
fn tell_record(record: &relay::Recorded) -> Result<u8, LabError> {
    if let Some(error) = &record.failure {
        return Err(LabError::Failed(format!(
            "the record is incomplete, {} decisions are missing: {error}",
            record.dropped
        )));
    }
    if record.dropped > 0 {
        log::warn!("the record is incomplete: {} decisions came too fast for the disk", record.dropped);
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_counters_fit_into_a_line() {
        assert_eq!(cut("udp1: 1 flows", 6), "udp1:");
        assert_eq!(cut("udp1", 80), "udp1");
        assert_eq!(cut("udp1", 0), "");
    }
}
