//! A server program for a workload: its start, its listening addresses, and its end. Its use of resources is measured
//! in `process`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LoadError;
use crate::escape::escape_short;

/// Limit on the time of the server's shutdown: its own drain takes up to 10 seconds, and a million sessions take time
/// to free.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval of the checks for that.
const LOOK: Duration = Duration::from_millis(2);

/// Bytes read from the end of its log.
const LOG: u64 = 4 << 10;

/// Bound on the lines printed before the server listens.
const MAX_LINES: usize = 100;

/// A running server program, which is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    log: File,
    /// Kept open, so that the server can print.
    _out: BufReader<ChildStdout>,
    /// The addresses it printed after `listening on `: `tcp://127.0.0.1:50000`.
    pub(super) addresses: Vec<String>,
}

/// Returns the path of the program `server` beside this one.
///
/// # Errors
///
/// The path of this program is unknown, or there is no `server` beside it.
pub(super) fn beside() -> Result<PathBuf, LoadError> {
    let own = std::env::current_exe().map_err(|error| {
        LoadError::Server(format!("cannot find this program's own file: {error}; name a server with --host"))
    })?;
    let server = own.with_file_name("server");
    if server.is_file() {
        return Ok(server);
    }
    let shown = escape_short(server.as_os_str().as_encoded_bytes(), 200).into_owned();
    Err(LoadError::Server(format!("there is no program {shown}; build it, or name a server with --host")))
}

impl Program {
    /// Starts a program with these arguments, and waits until it has printed `count` listening addresses.
    ///
    /// # Errors
    ///
    /// It cannot be started, or ends at once.
    pub(super) fn start(path: &Path, words: &[String], count: usize) -> Result<Self, LoadError> {
        let failed = |error: io::Error| LoadError::Server(format!("cannot start the server: {error}"));
        let log = tempfile::tempfile().map_err(failed)?;
        let mut command = Command::new(path);
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().map_err(failed)?);
        // A process group of its own: signals from the terminal must not reach the server, which is ended here.
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        let Some(out) = child.stdout.take() else {
            return Err(LoadError::Server("the server has no output".to_owned()));
        };
        let mut program = Self { child, log, _out: BufReader::new(out), addresses: Vec::new() };
        program.read_addresses(count).map_err(failed)?;
        if program.addresses.len() < count {
            let _ = program.child.wait();
            let said = program.last_log_line();
            return Err(LoadError::Server(format!(
                "the server does not serve: {said}; see --server-options"
            )));
        }
        Ok(program)
    }

    fn read_addresses(&mut self, count: usize) -> io::Result<()> {
        let mut line = String::new();
        for _ in 0..MAX_LINES {
            line.clear();
            if self.addresses.len() == count || self._out.by_ref().take(LOG).read_line(&mut line)? == 0 {
                break;
            }
            self.addresses.extend(line.trim_end().strip_prefix("listening on ").map(str::to_owned));
        }
        Ok(())
    }

    /// Returns its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the program with SIGTERM, and waits for it.
    ///
    /// # Errors
    ///
    /// It does not end in time, or not with success.
    pub(super) fn end(mut self) -> Result<(), LoadError> {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // A program that has already ended is detected below.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let ended =
            self.wait().map_err(|error| LoadError::Server(format!("cannot wait for the server: {error}")))?;
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(LoadError::Server(format!(
                "the server ended badly, with {status}: {}",
                self.last_log_line()
            ))),
            None => Err(LoadError::Server("the server did not end when asked to; it was killed".to_owned())),
        }
    }

    fn wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        while begun.elapsed() < END_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(LOOK);
        }
        Ok(None)
    }

    /// Returns the last line of its log, escaped.
    fn last_log_line(&mut self) -> String {
        let mut text = Vec::new();
        let length = self.log.metadata().map_or(0, |log| log.len());
        let read = self.log.seek(SeekFrom::Start(length.saturating_sub(LOG)));
        let _ = read.and_then(|_| self.log.by_ref().take(LOG).read_to_end(&mut text));
        let last = text.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        last.map_or_else(|| "it said nothing".to_owned(), |line| escape_short(line, 200).into_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
