//! The server under load: its address, CPU time and memory. It is found or started here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::LoadError;
use super::process::{Process, own_cpu};
use super::program::{Program, beside};
use crate::escape::escape_short;
use crate::lab::load::outcome::LoadOutcome;

/// The server to load.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// A running server, and its process id if known.
    Running {
        /// Its listening address.
        addr: SocketAddr,
        /// Its process id.
        pid: Option<u32>,
    },
    /// A server to start.
    Own {
        /// The program; `None` means the `server` beside this program.
        program: Option<PathBuf>,
        /// Its arguments.
        options: Vec<String>,
    },
}

/// The kind of listener that a workload uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// Frames over TCP.
    Tcp,
    /// Datagrams.
    Udp,
    /// The line protocol, without echo and without a rate limit.
    Line,
}

impl ListenerKind {
    /// Returns the scheme of its URL.
    fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Line => "line",
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct TargetServer {
    /// Its listening address.
    pub(crate) addr: SocketAddr,
    process: Option<Process>,
    program: Option<Program>,
}

impl TargetServer {
    /// Finds the server, or starts it with one listener on a free port of loopback.
    ///
    /// # Errors
    ///
    /// It cannot be started, or there is no process with that id.
    pub(crate) fn new(wanted: &Wanted, listener: ListenerKind) -> Result<Self, LoadError> {
        match wanted {
            Wanted::Running { addr, pid } => {
                if let Some(pid) = pid.filter(|pid| !Process(*pid).exists()) {
                    let why =
                        format!("there is no process {pid}; --pid is that of the server, as pidof tells");
                    return Err(LoadError::Server(why));
                }
                Ok(Self { addr: *addr, process: pid.map(Process), program: None })
            }
            Wanted::Own { program, options } => Self::start(program.clone(), options, listener),
        }
    }

    fn start(
        program: Option<PathBuf>,
        options: &[String],
        listener: ListenerKind,
    ) -> Result<Self, LoadError> {
        let path = program.map_or_else(beside, Ok)?;
        let listen = format!("{}://127.0.0.1:0", listener.scheme());
        let words = [&["--listen".to_owned(), listen], options].concat();
        let program = Program::start(&path, &words, 1)?;
        let prefix = format!("{}://", listener.scheme());
        let found = program.addresses.iter().find_map(|address| address.strip_prefix(&prefix));
        let addr = found.and_then(|address| address.parse().ok()).ok_or_else(|| {
            let said = escape_short(program.addresses.concat().as_bytes(), 80).into_owned();
            LoadError::Server(format!("the server listens elsewhere than it was told to: {said}"))
        })?;
        Ok(Self { addr, process: Some(Process(program.id())), program: Some(program) })
    }

    /// Whether the server continues after the run, so that its sessions must be ended.
    #[must_use]
    pub(crate) fn goes_on(&self) -> bool {
        self.program.is_none()
    }

    /// Starts a measurement.
    #[must_use]
    pub(crate) fn meter(&self) -> Meter {
        let server = self.process.and_then(Process::cpu);
        Meter { process: self.process, server, generator: own_cpu(), begun: Instant::now() }
    }

    /// Returns its resident memory, in bytes, if known.
    #[must_use]
    pub(crate) fn resident(&self) -> Option<u64> {
        self.process?.memory().map(|(resident, _)| resident)
    }

    /// Returns the growth of its resident memory since `before`, in bytes.
    #[must_use]
    pub(crate) fn grown(&self, before: Option<u64>) -> Option<u64> {
        Some(self.resident()?.saturating_sub(before?))
    }

    /// Ends the server, if it was started here.
    ///
    /// # Errors
    ///
    /// It did not end with success.
    pub(crate) fn end(self) -> Result<(), LoadError> {
        self.program.map_or(Ok(()), Program::end)
    }
}

/// A measurement of CPU time and duration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    process: Option<Process>,
    server: Option<Duration>,
    generator: Duration,
    /// Time of its start.
    pub(crate) begun: Instant,
}

impl Meter {
    /// Returns the CPU time of the server since the start, in seconds.
    #[must_use]
    pub(crate) fn server_cpu(&self) -> Option<f64> {
        let now = self.process?.cpu()?;
        Some(now.saturating_sub(self.server?).as_secs_f64())
    }

    /// Records everything until now.
    pub(crate) fn read_now(&self, outcome: &mut LoadOutcome) {
        self.read_into(outcome, Instant::now());
    }

    /// Records CPU time and memory until now, and the duration until `until`, the time of the last counted event.
    pub(crate) fn read_into(&self, outcome: &mut LoadOutcome, until: Instant) {
        outcome.seconds = until.saturating_duration_since(self.begun).as_secs_f64();
        outcome.server_cpu = self.server_cpu();
        outcome.generator_cpu = own_cpu().saturating_sub(self.generator).as_secs_f64();
        outcome.peak_memory = self.process.and_then(Process::memory).map(|(_, most)| most);
    }
}
