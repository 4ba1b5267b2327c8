//! A terminal with a shell, in which a test types what a page shows.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::program::Program;

/// The mark after each command, followed by the exit code. It is not in any output.
const DONE: char = '\u{1}';
/// Sources the scripts that a FIFO names, so that programs alone read standard input.
const SHELL: &str = r#"
    exec 2>&1
    trap : INT TERM
    exec 3< "$0"
    while IFS= read -r script <&3; do
        . "$script" 3<&-
        printf '\001%d\n' "$?"
    done"#;

/// A terminal: a shell and its programs.
#[derive(Debug)]
pub(super) struct Terminal {
    program: Program,
    /// The FIFO; closing it ends the shell.
    scripts: Option<File>,
    name: String,
    commands: usize,
    /// The typed lines, and the number of bytes of output before each.
    typed: Vec<(usize, String)>,
}

impl Terminal {
    /// Opens one in this directory.
    pub(super) fn open(folder: &Path, name: &str, env: &[(String, String)]) -> Self {
        let fifo = folder.join(name);
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(SHELL).arg(&fifo).current_dir(folder).process_group(0);
        shell.envs(env.iter().map(|(name, value)| (name, value)));
        let program = Program::spawn(shell.stdout(Stdio::piped()).stderr(Stdio::null()));
        let scripts = Some(OpenOptions::new().write(true).open(&fifo).unwrap());
        Self { program, scripts, name: fifo.to_str().unwrap().to_owned(), commands: 0, typed: Vec::new() }
    }

    /// Starts a command. The page shows it as `shown`.
    pub(super) fn command(&mut self, command: &str, shown: &str) {
        self.echo(format!("$ {shown}"));
        self.commands += 1;
        let script = format!("{}-{}.sh", self.name, self.commands);
        std::fs::write(&script, format!("{command}\n")).unwrap();
        writeln!(self.scripts.as_mut().unwrap(), "{script}").unwrap();
    }

    /// Types a line into the running program. The page shows it as `shown`.
    pub(super) fn line(&mut self, line: &str, shown: &str) {
        self.echo(format!("> {shown}"));
        self.program.write(format!("{line}\n").as_bytes());
    }

    /// Types Ctrl-D.
    pub(super) fn end_of_input(&mut self) {
        self.program.close_stdin();
    }

    /// Types Ctrl-C.
    pub(super) fn interrupt(&mut self) {
        self.echo("^C".to_owned());
        self.signal(Signal::SIGINT);
    }

    fn echo(&mut self, line: String) {
        self.typed.push((self.program.out().len(), line));
    }

    /// Returns the screen: input and output.
    pub(super) fn screen(&self) -> String {
        let out = self.program.out();
        let (mut screen, mut at) = (String::new(), 0);
        for (offset, line) in &self.typed {
            screen += &without_marks(&out[at..*offset]);
            if !screen.is_empty() && !screen.ends_with('\n') {
                screen.push('\n');
            }
            screen += &format!("{line}\n");
            at = *offset;
        }
        screen + &without_marks(&out[at..])
    }

    /// Whether any program has printed anything.
    pub(super) fn has_output(&self) -> bool {
        !without_marks(&self.program.out()).is_empty()
    }

    /// The exit codes of the commands that have ended, in order.
    pub(super) fn codes(&self) -> Vec<i32> {
        let out = self.program.out();
        let marks = out.split(DONE).skip(1);
        marks.filter_map(|rest| rest.split_once('\n')).map(|(code, _)| code.parse().unwrap()).collect()
    }

    /// Whether the last command has ended.
    pub(super) fn is_done(&self) -> bool {
        self.codes().len() == self.commands
    }

    fn signal(&self, signal: Signal) -> bool {
        let group = Pid::from_raw(i32::try_from(self.program.id()).unwrap());
        killpg(group, signal).is_ok()
    }

    /// Closes it: its programs get SIGTERM.
    pub(super) fn close(&mut self) {
        if self.scripts.take().is_some() {
            self.program.close_stdin();
            self.signal(Signal::SIGTERM);
            if !waited(Duration::from_secs(5), || self.program.has_closed_output()) {
                self.signal(Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether a condition holds within this time.
#[expect(clippy::disallowed_methods, reason = "a deadline needs the clock, and polling a pause")]
pub(super) fn waited(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let holds = is_so();
        if holds || Instant::now() >= deadline {
            return holds;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The output without the marks after commands, the last of which may be unfinished.
fn without_marks(out: &str) -> String {
    let mut parts = out.split(DONE);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('\n').map_or("", |(_, rest)| rest))
}
