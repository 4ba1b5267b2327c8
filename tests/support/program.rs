//! A program under test as a process: its input, its output and its exit code. It is killed when its test ends.

use std::io::{PipeReader, Read, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use super::{STEP_TIMEOUT, within};

type Shared = Arc<Mutex<Vec<u8>>>;

/// A running program.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    out: Shared,
    err: Shared,
    open: Arc<()>,
}

/// The end of a program.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The last line on standard error.
    pub(crate) fn closing_line(&self) -> &str {
        self.err.lines().last().unwrap_or_default()
    }
}

impl Program {
    pub(crate) fn start(path: &str, args: &[&str]) -> Self {
        Self::spawn(Command::new(path).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Its standard output is not read.
    pub(crate) fn start_unread(path: &str, args: &[&str]) -> Self {
        let mut command = Command::new(path);
        Self::spawn_unread(command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts a command, and reads its pipes.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut program = Self::spawn_unread(command);
        if let Some(stdout) = program.stdout.take() {
            program.out = collect(stdout, &program.open);
        }
        program
    }

    fn spawn_unread(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let open = Arc::new(());
        let err = child.stderr.take().map(|stderr| collect(stderr, &open)).unwrap_or_default();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Self { child, stdin, stdout, out: Shared::default(), err, open }
    }

    /// Writes to its standard input, which it need not read.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.stdin.as_mut().unwrap().write_all(bytes);
    }

    /// Writes the same input repeatedly until the pipe stays full. Returns the number of bytes written.
    #[expect(clippy::disallowed_methods, reason = "only time tells that nothing happens")]
    pub(crate) fn write_until_stuck(&mut self, bytes: &[u8]) -> usize {
        let taken = Arc::new(AtomicUsize::new(0));
        let (mut stdin, count, bytes) = (self.stdin.take().unwrap(), Arc::clone(&taken), bytes.to_vec());
        std::thread::spawn(move || {
            while let Ok(n) = stdin.write(&bytes) {
                count.fetch_add(n, Ordering::SeqCst);
            }
        });
        let (mut last, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_millis(300) {
            let now = taken.load(Ordering::SeqCst);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            std::thread::yield_now();
        }
        last
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its standard output so far.
    pub(crate) fn out(&self) -> String {
        text(&self.out)
    }

    pub(crate) fn err(&self) -> String {
        text(&self.err)
    }

    /// Whether nothing can write to its output any more.
    pub(crate) fn has_closed_output(&self) -> bool {
        Arc::strong_count(&self.open) == 1
    }

    /// Waits for its end; standard input stays as it is.
    pub(crate) fn wait(self) -> Ended {
        self.wait_within(STEP_TIMEOUT)
    }

    /// Waits for its end, for this time at most.
    pub(crate) fn wait_within(mut self, limit: Duration) -> Ended {
        let mut status = None;
        within(limit, "the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        within(STEP_TIMEOUT, "its output ends", || self.has_closed_output());
        let code = status.and_then(|status| status.code()).expect("the program was killed");
        Ended { code, out: self.out(), err: self.err() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, or its test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A full pipe, unread while its reader is kept.
pub(crate) fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let capacity = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap();
    writer.write_all(&vec![b'\n'; usize::try_from(capacity).unwrap()]).unwrap();
    (reader, writer.into())
}

#[expect(clippy::disallowed_methods, reason = "an unread pipe would block the program")]
fn collect(mut from: impl Read + Send + 'static, open: &Arc<()>) -> Shared {
    let (shared, open) = (Shared::default(), Arc::clone(open));
    let to = Arc::clone(&shared);
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            to.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
        drop(open);
    });
    shared
}

fn text(bytes: &Shared) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned()
}
