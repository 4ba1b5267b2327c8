//! The server under load: where it is, what it takes of the processors and of memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::LoadError;
use super::process::{Process, own_cpu};
use super::program::{Program, beside};
use crate::escape::escape_short;
use crate::lab::load::outcome::LoadOutcome;

/// Which server is loaded.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// One that runs already, and its process, if it is known.
    Running {
        /// Where it listens.
        addr: SocketAddr,
        /// Its process id.
        pid: Option<u32>,
    },
    /// One that is started for this.
    Own {
        /// The program; the one beside this one, if none is named.
        program: Option<PathBuf>,
        /// What is typed behind it.
        options: Vec<String>,
    },
}

/// What a workload knocks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Frames over TCP.
    Tcp,
    /// Datagrams.
    Udp,
    /// Lines, without an echo, as fast as anybody types.
    Line,
}

impl ListenerKind {
    /// What it is called in a URL.
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
pub struct TargetServer {
    /// Where it listens.
    pub addr: SocketAddr,
    process: Option<Process>,
    program: Option<Program>,
}

impl TargetServer {
    /// Finds it, or starts it with one door on a free port of loopback.
    ///
    /// # Errors
    ///
    /// It cannot be started, or there is no process of that id.
    pub fn new(wanted: &Wanted, listener: ListenerKind) -> Result<Self, LoadError> {
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
        let place = program.places.iter().find_map(|place| place.strip_prefix(&prefix));
        let addr = place.and_then(|place| place.parse().ok()).ok_or_else(|| {
            let said = escape_short(program.places.concat().as_bytes(), 80).into_owned();
            LoadError::Server(format!("the server listens elsewhere than it was told to: {said}"))
        })?;
        Ok(Self { addr, process: Some(Process(program.id())), program: Some(program) })
    }

    /// Whether it goes on when this is over, so that sessions must not be left to it.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.program.is_none()
    }

    /// Begins to measure.
    #[must_use]
    pub fn meter(&self) -> Meter {
        let server = self.process.and_then(Process::cpu);
        Meter { process: self.process, server, generator: own_cpu(), begun: Instant::now() }
    }

    /// Its resident memory, in bytes, where that is known.
    #[must_use]
    pub fn resident(&self) -> Option<u64> {
        self.process?.memory().map(|(resident, _)| resident)
    }

    /// How much more of it is resident than was `before`, in bytes.
    #[must_use]
    pub fn grown(&self, before: Option<u64>) -> Option<u64> {
        Some(self.resident()?.saturating_sub(before?))
    }

    /// Ends it, if it was started here.
    ///
    /// # Errors
    ///
    /// It did not end well.
    pub fn end(self) -> Result<(), LoadError> {
        self.program.map_or(Ok(()), Program::end)
    }
}

/// What is taken from a moment on.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    process: Option<Process>,
    server: Option<Duration>,
    generator: Duration,
    /// When that was.
    pub begun: Instant,
}

impl Meter {
    /// Processor time of the server since then, in seconds.
    #[must_use]
    pub fn server_cpu(&self) -> Option<f64> {
        let now = self.process?.cpu()?;
        Some(now.saturating_sub(self.server?).as_secs_f64())
    }

    /// Writes down what was taken until now.
    pub fn read_now(&self, outcome: &mut LoadOutcome) {
        self.read_into(outcome, Instant::now());
    }

    /// Writes down what was taken until now; `until` is when the last that counts happened.
    pub fn read_into(&self, outcome: &mut LoadOutcome, until: Instant) {
        outcome.seconds = until.saturating_duration_since(self.begun).as_secs_f64();
        outcome.server_cpu = self.server_cpu();
        outcome.generator_cpu = own_cpu().saturating_sub(self.generator).as_secs_f64();
        outcome.peak_memory = self.process.and_then(Process::memory).map(|(_, most)| most);
    }
}
