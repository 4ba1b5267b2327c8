//! Logging to standard error, time-stamped in UTC: directly, or in programs that serve clients through a queue.
//!
//! The reader of standard error may stop reading: a pager, a pipe to a process that hangs, a paused terminal. A server
//! must not block on that. Its lines go into a bounded queue, and a separate thread writes them. Lines that find the
//! queue full are dropped and counted, and the count is logged in their place.

#![expect(
    clippy::disallowed_methods,
    reason = "the thread of the log, and the time at which a line was logged"
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

/// Most bytes in the queue, counting [`OVERHEAD`] for each line.
const MAX_QUEUED: usize = 1 << 20;

/// The cost of a line in the queue besides its text, in bytes.
const OVERHEAD: usize = 128;

/// The longest wait for the log at the end of a program, and for standard output at its start.
const MAX_WRITE_WAIT: Duration = Duration::from_secs(1);

/// A line written this much later than it was logged says so, because its time stamp is the time of writing.
const LATE: Duration = Duration::from_secs(1);

/// The queue of this process, if any.
static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// Starts logging without a queue: each line is written before the program continues.
///
/// `base` is the least severe level logged. Each `verbose` adds a level; `quiet` leaves errors only.
pub fn start_logging(base: LevelFilter, verbose: u8, quiet: bool) {
    let logger = logger(base, verbose, quiet);
    let most = logger.max_level();
    install(Box::new(PanicSafeLogger(logger)), most);
}

/// Starts logging as [`start_logging`] does, but through a queue, so that logging never blocks on standard error.
///
/// Call [`finish_logging`] at the end of the program.
pub fn start_queued_logging(base: LevelFilter, verbose: u8, quiet: bool) {
    let logger = logger(base, verbose, quiet);
    let most = logger.max_level();
    let queue = Arc::new(LogQueue {
        logger: PanicSafeLogger(logger),
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let writer = Arc::clone(&queue);
    match Builder::new().name("log".to_owned()).spawn(move || writer.write_all()) {
        Ok(_) => {
            install(Box::new(QueuedLogger(Arc::clone(&queue))), most);
            // Set once per process; a second queue would not be used.
            let _ = QUEUE.set(queue);
        }
        // Without a thread the log may block the program, but it serves.
        Err(_) => start_logging(base, verbose, quiet),
    }
}

/// Waits until all logged lines are written, for 1 s at most.
pub fn finish_logging() {
    log::logger().flush();
}

/// Shows text that the next text overwrites, without blocking on standard error. It is dropped if the queue is not
/// empty.
pub(super) fn show_on_stderr(text: String) {
    match QUEUE.get() {
        Some(queue) => queue.show(text),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Writes unchanged text on standard error, in order with the lines of the log and without blocking.
pub(super) fn write_on_stderr(text: String) {
    match QUEUE.get() {
        Some(queue) => queue.push(QueueEntry { at: Instant::now(), content: EntryContent::Text(text) }),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Prints on standard output, waiting 1 s at most, so that a server starts even if its output is not read.
///
/// A closed pipe is not an error.
///
/// # Errors
///
/// Standard output cannot be written, or was not read in time.
pub(super) fn print_unless_stuck(text: String) -> io::Result<()> {
    let (done, printed) = mpsc::channel();
    let print = move || {
        let mut out = io::stdout().lock();
        // The receiver may have timed out.
        let _ = done.send(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    };
    Builder::new().name("stdout".to_owned()).spawn(print)?;
    match printed.recv_timeout(MAX_WRITE_WAIT) {
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(printed) => printed,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "nothing reads standard output"))
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
    // The only error is that another logger is set already, which then stays.
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(most);
    }
}

/// A logger that catches panics while writing.
///
/// simple_logger panics when standard error is a closed pipe (`server 2>&1 | head -1`) or a full disk. That must not
/// end a server: the line is lost, and so is the message of the panic.
struct PanicSafeLogger<L>(L);

impl<L: Log> Log for PanicSafeLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.log(record)));
    }

    fn flush(&self) {}
}

/// A logger whose lines another thread writes.
struct QueuedLogger<L>(Arc<LogQueue<L>>);

impl<L: Log> Log for QueuedLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let target = record.target().to_owned();
            let line = LogLine { level: record.level(), target, text: record.args().to_string() };
            self.0.push(QueueEntry { at: Instant::now(), content: EntryContent::Line(line) });
        }
    }

    fn flush(&self) {
        self.0.wait_until_written(MAX_WRITE_WAIT);
    }
}

/// The lines to be written, and their writer.
struct LogQueue<L = SimpleLogger> {
    logger: PanicSafeLogger<L>,
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    entries: VecDeque<QueueEntry>,
    /// The size of `entries` in bytes, overhead included.
    size: usize,
    /// Lines dropped since the queue was full. Until the count is written, no other line is accepted, so it stands
    /// where they are missing.
    dropped: u64,
    /// Whether the thread is writing an entry.
    is_writing: bool,
}

impl QueueState {
    fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0 && !self.is_writing
    }

    /// The next entry to write.
    fn next(&mut self) -> Option<QueueEntry> {
        if let Some(entry) = self.entries.pop_front() {
            self.size -= entry.size();
            return Some(entry);
        }
        let dropped = std::mem::take(&mut self.dropped);
        let lines = if dropped == 1 { "line was" } else { "lines were" };
        let text = format!("{dropped} {lines} dropped here: standard error was not read in time");
        let line = LogLine { level: Level::Warn, target: module_path!().to_owned(), text };
        (dropped > 0).then(|| QueueEntry { at: Instant::now(), content: EntryContent::Line(line) })
    }
}

struct QueueEntry {
    /// Time of the entry.
    at: Instant,
    content: EntryContent,
}

enum EntryContent {
    Line(LogLine),
    /// Text written unchanged, without a time stamp.
    Text(String),
}

struct LogLine {
    level: Level,
    target: String,
    text: String,
}

impl QueueEntry {
    fn size(&self) -> usize {
        OVERHEAD
            + match &self.content {
                EntryContent::Line(line) => line.target.len() + line.text.len(),
                EntryContent::Text(text) => text.len(),
            }
    }
}

impl<L: Log> LogQueue<L> {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: QueueEntry) {
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
            self.push(QueueEntry { at: Instant::now(), content: EntryContent::Text(text) });
        }
    }

    /// Writes entries until the process ends.
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

    fn write(&self, QueueEntry { at, content }: QueueEntry) {
        match content {
            EntryContent::Line(line) => self.write_line(&line, at.elapsed()),
            EntryContent::Text(text) => drop(io::stderr().write_all(text.as_bytes())),
        }
    }

    fn write_line(&self, LogLine { level, target, text }: &LogLine, waited: Duration) {
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
        // A timeout cannot be reported: the log is what is stuck.
        drop(self.changed.wait_timeout_while(state, limit, |state| !state.is_idle()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A logger that blocks until its line is received.
    struct SlowLogger(SyncSender<String>);

    impl Log for SlowLogger {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= Level::Info
        }

        fn log(&self, record: &Record<'_>) {
            self.0.send(format!("{} [{}] {}", record.level(), record.target(), record.args())).unwrap();
        }

        fn flush(&self) {}
    }

    fn queued() -> (QueuedLogger<SlowLogger>, Receiver<String>) {
        let (sender, receiver) = sync_channel(0);
        let logger = PanicSafeLogger(SlowLogger(sender));
        let queue = Arc::new(LogQueue { logger, state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&queue);
        std::thread::spawn(move || writer.write_all());
        (QueuedLogger(queue), receiver)
    }

    fn log(to: &impl Log, level: Level, text: &str) {
        to.log(&Record::builder().level(level).target("here").args(format_args!("{text}")).build());
    }

    #[test]
    fn logging_never_blocks_and_dropped_lines_are_counted_in_their_place() {
        let (logger, reader) = queued();
        let text = "x".repeat(MAX_QUEUED / 8 - OVERHEAD - "here".len());
        log(&logger, Level::Info, "first");
        // Nothing is read: the first line is being written, eight are queued, and three are dropped.
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
    fn the_end_waits_for_all_logged_lines_but_not_for_a_stuck_reader() {
        let (logger, reader) = queued();
        log(&logger, Level::Info, "one");
        log(&logger, Level::Info, "two");
        let begun = Instant::now();
        logger.0.wait_until_written(Duration::from_millis(50));
        assert!(begun.elapsed() >= Duration::from_millis(50), "nothing is read");
        let read = std::thread::spawn(move || reader.iter().take(2).collect::<Vec<_>>());
        logger.0.wait_until_written(Duration::from_secs(60));
        assert!(logger.0.lock().is_idle());
        assert_eq!(read.join().unwrap(), ["INFO [here] one", "INFO [here] two"]);
    }

    #[test]
    fn a_line_that_is_written_late_shows_the_delay() {
        let (logger, reader) = queued();
        let at = Instant::now().checked_sub(Duration::from_millis(3_250)).unwrap();
        let line = LogLine { level: Level::Info, target: "here".to_owned(), text: "text".to_owned() };
        logger.0.push(QueueEntry { at, content: EntryContent::Line(line) });
        let line = reader.recv().unwrap();
        assert!(line.starts_with("INFO [here] (3.") && line.ends_with(" s ago) text"), "{line}");
    }
}
