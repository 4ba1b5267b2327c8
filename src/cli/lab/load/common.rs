//! The options shared by all workloads: the server, the protocol, and the output format.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use serde_json::Value;

use super::{LabError, Names};
use crate::cli::lab::output::print;
use crate::cli::{HostPort, exit};
use crate::escape::escape_short;
use crate::lab::load::outcome::{LoadOutcome, rows};
use crate::lab::load::peer::{DatagramPeer, Peer};
use crate::lab::load::peers::PeerKind;
use crate::lab::sockets::load::target_server::{ListenerKind, TargetServer, Wanted};
use crate::lab::sockets::load::{Interrupt, LoadError};
use crate::net::EngineKind;

/// The protocol, the server and the output format.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// The protocol to speak; all but our own need --host
    #[arg(long, value_name = "PEER", default_value = "sayagain")]
    peer: PeerKind,

    #[command(flatten)]
    setting: Setting,
}

/// The server and the output format.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Setting {
    /// A running server [default: one is started]
    #[arg(long, value_name = "HOST:PORT")]
    host: Option<HostPort>,

    /// The process of that server, to measure its resources
    #[arg(long, value_name = "PID", requires = "host", allow_hyphen_values = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,

    /// The server program to start [default: the one beside this program]
    #[arg(long, value_name = "FILE", conflicts_with = "host")]
    server: Option<PathBuf>,

    /// Options for the server that is started, as a shell reads them: --server-options '--idle 1h'
    #[arg(long, value_name = "OPTIONS", conflicts_with = "host", allow_hyphen_values = true)]
    server_options: Option<String>,

    /// Print the outcome as one JSON document
    #[arg(long)]
    json: bool,

    /// Print the outcome as CSV, names of the columns first
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl Common {
    /// Returns the clients' names: without a suffix if the server is started for the run, as it has no other clients.
    pub(super) fn names(&self) -> Result<Names, LabError> {
        if self.setting.host.is_some() { Names::drawn() } else { Ok(Names::default()) }
    }

    /// Returns the protocol over streams.
    pub(super) fn streams(&self, tagged: bool) -> Result<Box<dyn Peer>, LabError> {
        if tagged && self.peer != PeerKind::Sayagain {
            let why = format!("--tagged is sayagain's own; leave it out with --peer {}", self.peer.name());
            return Err(LabError::Usage(why));
        }
        self.spoken(self.peer.streams(tagged), "streams")
    }

    /// Returns the protocol over datagrams.
    pub(super) fn datagrams(&self) -> Result<Box<dyn DatagramPeer>, LabError> {
        self.spoken(self.peer.datagrams(), "datagrams")
    }

    fn spoken<P>(&self, peer: Option<P>, over: &str) -> Result<P, LabError> {
        let name = self.peer.name();
        if self.peer != PeerKind::Sayagain && self.setting.host.is_none() {
            return Err(LabError::Usage(format!(
                "--peer {name} needs --host: only our own server is started"
            )));
        }
        peer.ok_or_else(|| LabError::Usage(format!("{name} is not spoken over {over}")))
    }

    /// Provides the server while a workload runs, and prints the outcome. Returns the exit code.
    pub(super) fn measure(
        &self,
        listener: ListenerKind,
        outcome: &mut LoadOutcome,
        load: impl FnOnce(&TargetServer, &Interrupt, &mut LoadOutcome) -> Result<(), LoadError>,
    ) -> Result<u8, LabError> {
        self.setting.measure(listener, outcome, LoadOutcome::text, load)
    }
}

impl Setting {
    /// Refuses a running server, for commands that start servers in turn.
    pub(super) fn refuse_host(&self) -> Result<(), LabError> {
        let why = "servers are started one after the other here; leave out --host";
        if self.host.is_some() { Err(LabError::Usage(why.to_owned())) } else { Ok(()) }
    }

    /// Returns the wanted server, with `more` options besides the typed ones.
    pub(super) fn wanted(&self, more: &[&str]) -> Result<Wanted, LabError> {
        if let Some(host) = &self.host {
            return Ok(Wanted::Running { addr: resolve(host)?, pid: self.pid });
        }
        let typed = self.server_options.as_deref().unwrap_or_default();
        let mut options = shlex::split(typed).ok_or_else(|| {
            LabError::Usage("--server-options: a quote or a backslash is left open".to_owned())
        })?;
        options.extend(more.iter().map(|word| (*word).to_owned()));
        Ok(Wanted::Own { program: self.server.clone(), options })
    }

    /// Provides the server while a workload runs, and prints the outcome, with `text` as the text form. Returns the
    /// exit code.
    pub(super) fn measure(
        &self,
        listener: ListenerKind,
        outcome: &mut LoadOutcome,
        text: fn(&LoadOutcome) -> String,
        load: impl FnOnce(&TargetServer, &Interrupt, &mut LoadOutcome) -> Result<(), LoadError>,
    ) -> Result<u8, LabError> {
        let interrupt = interrupt()?;
        let Some(ending) = run(&self.wanted(&[])?, listener, &interrupt, outcome, load)? else {
            return Ok(exit::INTERRUPTED);
        };
        self.show(std::slice::from_ref(outcome), &outcome.json(), text(outcome))?;
        ending?;
        conclude(std::slice::from_ref(outcome))
    }

    /// Whether neither JSON nor CSV was requested.
    pub(super) fn is_text(&self) -> bool {
        !self.json && !self.csv
    }

    /// Prints outcomes in the requested format: `json`, CSV rows, or `text`.
    pub(super) fn show(&self, outcomes: &[LoadOutcome], json: &Value, text: String) -> Result<(), LabError> {
        print(&match (self.json, self.csv) {
            (true, _) => format!("{json}\n"),
            (_, true) => rows(outcomes),
            _ => text,
        })
    }
}

/// Records signals from now on.
pub(super) fn interrupt() -> Result<Interrupt, LabError> {
    Interrupt::new().map_err(|error| LabError::Failed(format!("cannot wait for signals: {error}")))
}

/// Provides a server while a workload runs. Returns the result of the server's end; `None` if the workload was
/// interrupted.
pub(super) fn run(
    wanted: &Wanted,
    listener: ListenerKind,
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
    load: impl FnOnce(&TargetServer, &Interrupt, &mut LoadOutcome) -> Result<(), LoadError>,
) -> Result<Option<Ending>, LabError> {
    outcome.engine = engine(wanted);
    let done = TargetServer::new(wanted, listener).and_then(|target| {
        load(&target, interrupt, outcome)?;
        Ok(target.end())
    });
    match done {
        Ok(ended) => Ok(Some(ended.map_err(failed))),
        Err(LoadError::Interrupted) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Returns the engine of a started server: the one in its options, or the default. That of other servers is unknown.
fn engine(wanted: &Wanted) -> Option<String> {
    let Wanted::Own { options, .. } = wanted else { return None };
    let behind = options.iter().zip(options.iter().skip(1)).filter(|(flag, _)| *flag == "--engine");
    let behind = behind.map(|(_, name)| name.as_str());
    let inside = options.iter().filter_map(|word| word.strip_prefix("--engine="));
    let named = behind.chain(inside).last().map(str::to_owned);
    Some(named.unwrap_or_else(|| EngineKind::default().to_string()))
}

/// The result of the end of a started server: reported after the measurements.
pub(super) type Ending = Result<(), LabError>;

fn failed(error: LoadError) -> LabError {
    LabError::Failed(error.to_string())
}

/// Returns the exit code; losses are an error after all results are printed.
pub(super) fn conclude(outcomes: &[LoadOutcome]) -> Result<u8, LabError> {
    let lost: u64 = outcomes.iter().map(|outcome| outcome.lost).sum();
    let failed: u64 = outcomes.iter().filter_map(|outcome| outcome.failed).sum();
    if outcomes.iter().all(LoadOutcome::is_whole) {
        return Ok(exit::OK);
    }
    let why = outcomes.iter().find_map(|outcome| outcome.cause.as_deref());
    let why =
        why.unwrap_or("the server dropped what it had taken, or was too slow for 10 s; its log says which");
    Err(LabError::Failed(format!("{lost} lost and {failed} turned away: {why}")))
}

fn resolve(host: &HostPort) -> Result<SocketAddr, LabError> {
    let shown = escape_short(host.host.as_bytes(), 80);
    let failed =
        |why: String| LabError::Failed(format!("cannot find the host `{shown}`: {why}; check its name"));
    let found = (host.host.as_str(), host.port).to_socket_addrs();
    let mut addrs: Vec<_> = found.map_err(|error| failed(error.to_string()))?.collect();
    addrs.sort_by_key(SocketAddr::is_ipv6);
    addrs.first().copied().ok_or_else(|| failed("it has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_one_in_the_options_or_the_default() {
        let engine_of = |options: &str| {
            engine(&Wanted::Own { program: None, options: shlex::split(options).unwrap() }).unwrap()
        };
        assert_eq!(engine_of(""), "poll");
        assert_eq!(engine_of("--idle 1h --engine tasks"), "tasks");
        assert_eq!(engine_of("'--engine=threads' --loops 1"), "threads");
        assert_eq!(engine_of("--engine"), "poll", "the server will complain");
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(engine(&Wanted::Running { addr, pid: None }), None);
    }
}
