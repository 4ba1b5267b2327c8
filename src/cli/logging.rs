//! Logging to standard error, time-stamped in UTC: directly, or for programs that serve others through a queue.
//!
//! Whoever reads standard error may stop reading: a pager, a pipe to a process that hangs, a terminal that is paused. A
//! program that serves others must not wait for that. Its lines go into a bounded queue, and a thread of their own writes
//! them. Lines that find the queue full are dropped and counted, and the count is logged in the place of the lines.

#![expect(
    clippy::disallowed_methods,
    reason = "the log's own thread, and the time at which a line was logged"
)]

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use crate::net::TOTALS;

/// Most bytes that wait to be written, with [`OVERHEAD`] for each line.
const MAX_QUEUED: usize = 1 << 20;

/// What a line in the queue takes besides its text, in bytes.
const OVERHEAD: usize = 128;

/// How long a program waits at its end for its log to be written, and at its start for its standard output.
const PATIENCE: Duration = Duration::from_secs(1);

/// A line that is written so much later than it was logged says so: its time stamp is that of the writing.
const LATE: Duration = Duration::from_secs(1);

/// The queue of this process, if it has one.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Starts logging: from `base` on, with each `verbose` more, and when `quiet` errors only. Each line is written before the
/// program goes on.
pub fn start_logging(base: LevelFilter, verbose: u8, quiet: bool) {
    let logger = logger(base, verbose, quiet);
    let most = logger.max_level();
    install(Box::new(Unbreakable(logger)), most);
}

/// Starts logging as [`start_logging`] does, for a program that serves others: whoever logs never waits for standard
/// error. [`finish_logging`] belongs at the end of such a program.
pub fn start_queued_logging(base: LevelFilter, verbose: u8, quiet: bool) {
    let logger = logger(base, verbose, quiet);
    let most = logger.max_level();
    let queue =
        Arc::new(Queue { logger: Unbreakable(logger), state: Mutex::default(), changed: Condvar::new() });
    let writer = Arc::clone(&queue);
    match Builder::new().name("log".to_owned()).spawn(move || writer.write_all()) {
        Ok(_) => {
            install(Box::new(Queued(Arc::clone(&queue))), most);
            // Once per process; a second queue would write nothing.
            let _ = QUEUE.set(queue);
        }
        // It serves without a thread for its log, as long as its log is read.
        Err(_) => start_logging(base, verbose, quiet),
    }
}

/// Waits until all that was logged is written: for a second at most, as nobody may be reading it.
pub fn finish_logging() {
    log::logger().flush();
}

/// Shows text that the next text overwrites, without waiting for standard error: dropped where anything waits already.
pub(super) fn show_on_stderr(text: String) {
    match QUEUE.get() {
        Some(queue) => queue.show(text),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Writes text as it is on standard error, in its turn among the lines of the log and without waiting for it.
pub(super) fn write_on_stderr(text: String) {
    match QUEUE.get() {
        Some(queue) => queue.push(Entry { at: Instant::now(), what: What::Text(text) }),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Prints on standard output, and waits a second at most for that: a program that serves others goes on serving if nobody
/// reads what it prints. A reader that is gone is no error.
///
/// # Errors
///
/// It cannot be written, or was not taken in time.
pub(super) fn print_unless_stuck(text: String) -> io::Result<()> {
    let (done, printed) = mpsc::channel();
    let print = move || {
        let mut out = io::stdout().lock();
        // Nobody may be waiting any more.
        let _ = done.send(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    };
    Builder::new().name("stdout".to_owned()).spawn(print)?;
    match printed.recv_timeout(PATIENCE) {
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(printed) => printed,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads standard output"))
        }
    }
}

fn logger(base: LevelFilter, verbose: u8, quiet: bool) -> SimpleLogger {
    let levels =
        [LevelFilter::Error, LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace];
    let start = levels.iter().position(|level| *level == base).unwrap_or_default();
    let chosen = if quiet { 0 } else { (start + usize::from(verbose)).min(levels.len() - 1) };
    SimpleLogger::new()
        .with_level(LevelFilter::Warn)
        .with_module_level("sayagain", levels[chosen])
        .with_module_level(TOTALS, LevelFilter::Info)
        .with_utc_timestamps()
}

fn install(logger: Box<dyn Log>, most: LevelFilter) {
    // The only error is that somebody else has set a logger; then that one is used.
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(most);
    }
}

/// A logger that outlives its reader.
///
/// simple_logger panics when standard error is a pipe that nobody reads any more (`server 2>&1 | head -1`) or a full disk.
/// That is no reason for a server to end: what it has to say is lost, as is what the panic itself would have printed.
struct Unbreakable<L>(L);

impl<L: Log> Log for Unbreakable<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.log(record)));
    }

    fn flush(&self) {}
}

/// A logger whose lines are written by another thread.
struct Queued<L>(Arc<Queue<L>>);

impl<L: Log> Log for Queued<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let target = record.target().to_owned();
            let line = Line { level: record.level(), target, text: record.args().to_string() };
            self.0.push(Entry { at: Instant::now(), what: What::Line(line) });
        }
    }

    fn flush(&self) {
        self.0.wait_until_written(PATIENCE);
    }
}

/// Lines that wait to be written.
struct Queue<L = SimpleLogger> {
    logger: Unbreakable<L>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// What they count, in bytes.
    size: usize,
    /// Lines that found no room. While there are any, no other is taken: the count stands where they are missing.
    dropped: u64,
    /// The thread is writing one.
    is_writing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0 && !self.is_writing
    }

    /// What is to be written next.
    fn next(&mut self) -> Option<Entry> {
        if let Some(entry) = self.entries.pop_front() {
            self.size -= entry.size();
            return Some(entry);
        }
        let dropped = std::mem::take(&mut self.dropped);
        let lines = if dropped == 1 { "line was" } else { "lines were" };
        let text = format!("{dropped} {lines} dropped here: standard error was not read in time");
        let line = Line { level: Level::Warn, target: module_path!().to_owned(), text };
        (dropped > 0).then(|| Entry { at: Instant::now(), what: What::Line(line) })
    }
}

struct Entry {
    /// When it was logged.
    at: Instant,
    what: What,
}

enum What {
    Line(Line),
    /// Text as it is, without a time stamp.
    Text(String),
}

struct Line {
    level: Level,
    target: String,
    text: String,
}

impl Entry {
    fn size(&self) -> usize {
        OVERHEAD
            + match &self.what {
                What::Line(line) => line.target.len() + line.text.len(),
                What::Text(text) => text.len(),
            }
    }
}

impl<L: Log> Queue<L> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: Entry) {
        let mut state = self.lock();
        let size = entry.size();
        if state.dropped == 0 && state.size + size <= MAX_QUEUED {
            state.size += size;
            state.entries.push_back(entry);
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn show(&self, text: String) {
        if self.lock().is_idle() {
            self.push(Entry { at: Instant::now(), what: What::Text(text) });
        }
    }

    /// Writes what comes, for as long as the process lives.
    fn write_all(&self) {
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            self.changed.notify_all();
            let entry = loop {
                match state.next() {
                    Some(entry) => break entry,
                    None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            state.is_writing = true;
            drop(state);
            self.write(entry);
        }
    }

    fn write(&self, Entry { at, what }: Entry) {
        match what {
            What::Line(line) => self.write_line(&line, at.elapsed()),
            // Whoever shows it has no use for the error.
            What::Text(text) => drop(io::stderr().write_all(text.as_bytes())),
        }
    }

    fn write_line(&self, Line { level, target, text }: &Line, waited: Duration) {
        let mut record = Record::builder();
        record.level(*level).target(target);
        if waited < LATE {
            self.logger.log(&record.args(format_args!("{text}")).build());
        } else {
            let waited = waited.as_secs_f64();
            self.logger.log(&record.args(format_args!("({waited:.1} s ago) {text}")).build());
        }
    }

    fn wait_until_written(&self, limit: Duration) {
        let state = self.lock();
        // Nobody can be told that it took too long.
        drop(self.changed.wait_timeout_while(state, limit, |state| !state.is_idle()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A logger that is as slow as whoever reads from it.
    struct Slow(SyncSender<String>);

    impl Log for Slow {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= Level::Info
        }

        fn log(&self, record: &Record<'_>) {
            self.0.send(format!("{} [{}] {}", record.level(), record.target(), record.args())).unwrap();
        }

        fn flush(&self) {}
    }

    fn queued() -> (Queued<Slow>, Receiver<String>) {
        let (sender, receiver) = sync_channel(0);
        let logger = Unbreakable(Slow(sender));
        let queue = Arc::new(Queue { logger, state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&queue);
        std::thread::spawn(move || writer.write_all());
        (Queued(queue), receiver)
    }

    fn log(to: &impl Log, level: Level, text: &str) {
        to.log(&Record::builder().level(level).target("here").args(format_args!("{text}")).build());
    }

    #[test]
    fn whoever_logs_never_waits_and_what_does_not_fit_is_counted_where_it_is_missing() {
        let (logger, reader) = queued();
        let text = "x".repeat(MAX_QUEUED / 8 - OVERHEAD - "here".len());
        log(&logger, Level::Info, "first");
        // Nothing is read: the first is being written, eight fit behind it, and three are dropped.
        while !logger.0.lock().is_writing {
            std::thread::yield_now();
        }
        (0..11).for_each(|_| log(&logger, Level::Info, &text));
        let (waiting, dropped) = {
            let state = logger.0.lock();
            (state.entries.len(), state.dropped)
        };
        assert_eq!((waiting, dropped), (8, 3));
        assert_eq!(reader.recv().unwrap(), "INFO [here] first");
        for _ in 0..8 {
            assert!(reader.recv().unwrap().ends_with(&text));
        }
        let notice = reader.recv().unwrap();
        assert!(notice.starts_with("WARN [sayagain::cli::logging] 3 lines were dropped here"), "{notice}");
        log(&logger, Level::Debug, "not wanted");
        log(&logger, Level::Error, "last");
        assert_eq!(reader.recv().unwrap(), "ERROR [here] last");
    }

    #[test]
    fn the_end_waits_for_all_that_was_logged_but_not_for_a_reader_that_is_stuck() {
        let (logger, reader) = queued();
        log(&logger, Level::Info, "one");
        log(&logger, Level::Info, "two");
        let begun = Instant::now();
        logger.0.wait_until_written(Duration::from_millis(50));
        assert!(begun.elapsed() >= Duration::from_millis(50), "nobody reads");
        let read = std::thread::spawn(move || reader.iter().take(2).collect::<Vec<_>>());
        logger.0.wait_until_written(Duration::from_secs(60));
        assert!(logger.0.lock().is_idle());
        assert_eq!(read.join().unwrap(), ["INFO [here] one", "INFO [here] two"]);
    }

    #[test]
    fn a_line_that_is_written_late_says_how_late() {
        let (logger, reader) = queued();
        let at = Instant::now().checked_sub(Duration::from_millis(3_250)).unwrap();
        let line = Line { level: Level::Info, target: "here".to_owned(), text: "text".to_owned() };
        logger.0.push(Entry { at, what: What::Line(line) });
        let line = reader.recv().unwrap();
        assert!(line.starts_with("INFO [here] (3.") && line.ends_with(" s ago) text"), "{line}");
    }
}
