//! Writes the record of every decision in its own thread, so that a slow disk delays no datagram. The format is in
//! `lab::proxy::record`.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rt;
use crate::lab::proxy::record::{Header, Note};

/// Bound on the decisions that wait for the disk, about 10 MiB; further ones are dropped and counted.
const MAX_WAITING: usize = 65_536;

/// Limit on the time to write the remaining decisions at the end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// A record that is being written.
#[derive(Debug)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
}

/// The result of a record.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Decisions written.
    pub(crate) written: u64,
    /// Decisions dropped because the disk was too slow or had failed.
    pub(crate) dropped: u64,
    /// The system's error, if writing failed.
    pub(crate) failure: Option<io::Error>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    queue: Mutex<Queue>,
    /// Signals new entries, or a change of the flags.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    entries: Vec<QueuedNote>,
    /// Entries taken by the writer, not yet known to be written.
    writing: u64,
    written: u64,
    dropped: u64,
    /// Accepts no more entries.
    is_closed: bool,
    /// The writer has ended, or is no longer waited for.
    is_done: bool,
    failure: Option<io::Error>,
}

#[derive(Debug)]
struct QueuedNote {
    proxy: Arc<str>,
    at: Instant,
    note: Note,
}

impl Recorder {
    /// Creates or truncates the file, and writes its first line.
    ///
    /// # Errors
    ///
    /// The system refuses, or the path is not a file.
    pub(crate) fn create(path: &Path, header: &Header) -> io::Result<Self> {
        check(path)?;
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{}", header.to_line())?;
        file.flush()?;
        Self::start(file)
    }

    /// Starts the writer thread.
    fn start(file: BufWriter<File>) -> io::Result<Self> {
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared { start: rt::now(), queue, changed: Condvar::new() });
        let writing = shared.clone();
        // Never joined: `finish` waits for a bounded time only.
        drop(std::thread::Builder::new().name("record".to_owned()).spawn(move || writing.write(file))?);
        Ok(Self { shared })
    }

    /// Adds decisions about `proxy` that were made at `at`.
    pub(super) fn add(&self, proxy: &Arc<str>, at: Instant, notes: impl IntoIterator<Item = Note>) {
        let mut queue = self.shared.lock();
        for note in notes {
            if queue.entries.len() < MAX_WAITING && !queue.is_closed {
                queue.entries.push(QueuedNote { proxy: proxy.clone(), at, note });
            } else {
                queue.dropped += 1;
            }
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Writes the remaining entries and ends, within a few seconds however slow the disk is. Later entries are
    /// dropped.
    pub(crate) fn finish(&self) -> Recorded {
        let mut queue = self.shared.lock();
        queue.is_closed = true;
        self.shared.changed.notify_all();
        let is_busy = |queue: &mut Queue| !queue.is_done;
        let waited = self.shared.changed.wait_timeout_while(queue, FINISH_TIMEOUT, is_busy);
        let (mut queue, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            let why = format!("the disk has not taken it within {FINISH_TIMEOUT:?}");
            queue.fail(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Recorded { written: queue.written, dropped: queue.dropped, failure: queue.failure.take() }
    }
}

impl Queue {
    /// Drops all waiting entries, because writing failed.
    fn fail(&mut self, error: io::Error) {
        self.is_closed = true;
        self.is_done = true;
        self.dropped += self.writing + self.entries.len() as u64;
        self.writing = 0;
        self.entries.clear();
        self.failure = Some(error);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue stays consistent after a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the record is closed and empty, or the disk fails.
    fn write(&self, mut file: BufWriter<File>) {
        loop {
            let entries = self.take();
            let result = entries.iter().try_for_each(|entry| self.write_entry(&mut file, entry));
            let result = result.and_then(|()| file.flush());
            if let Err(error) = &result {
                log::error!("the record ends here: {error}");
            }
            let mut queue = self.lock();
            match result {
                // Given up meanwhile.
                _ if queue.is_done => {}
                Ok(()) => {
                    queue.written += std::mem::take(&mut queue.writing);
                    queue.is_done = entries.is_empty();
                }
                Err(error) => queue.fail(error),
            }
            if queue.is_done {
                self.changed.notify_all();
                // Dropping the writer would try to write its buffer again.
                drop(file.into_parts());
                return;
            }
        }
    }

    fn write_entry(&self, file: &mut BufWriter<File>, entry: &QueuedNote) -> io::Result<()> {
        let after = entry.at.saturating_duration_since(self.start);
        writeln!(file, "{}", entry.note.to_line(&entry.proxy, after))
    }

    /// Waits for entries and takes them; empty once the record is closed.
    fn take(&self) -> Vec<QueuedNote> {
        let is_idle = |queue: &mut Queue| queue.entries.is_empty() && !queue.is_closed;
        let mut queue = self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let entries = std::mem::take(&mut queue.entries);
        queue.writing = entries.len() as u64;
        entries
    }
}

/// Refuses files on which opening or writing may block: pipes, sockets.
fn check(path: &Path) -> io::Result<()> {
    let Ok(there) = std::fs::metadata(path) else { return Ok(()) };
    let kind = there.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return Err(io::Error::other("it is a pipe or a socket; name a file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::proxy::record::RecordedFate;
    use crate::link::{Direction, Fate, Place};

    fn header() -> Header {
        Header { command: Vec::new(), seed: 1, link_up: String::new(), link_down: String::new() }
    }

    fn notes(count: u64) -> Vec<Note> {
        let place = |index| Place { flow: 0, index };
        let note = |index| Note {
            direction: Direction::Up,
            size: 1,
            place: place(index),
            outcome: RecordedFate::Fate(Fate::Lost),
        };
        (0..count).map(note).collect()
    }

    #[test]
    fn a_record_counts_the_decisions_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let recorder = Recorder::create(&path, &header()).unwrap();
        recorder.add(&"udp1".into(), rt::now(), notes(1_000));
        let recorded = recorder.finish();
        assert_eq!((recorded.written, recorded.dropped), (1_000, 0));
        assert!(recorded.failure.is_none());
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1_001);
        recorder.add(&"udp1".into(), rt::now(), notes(2));
        assert_eq!(recorder.finish().dropped, 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_ends_the_record_and_all_that_is_missing_is_counted() {
        // Every write fails.
        let file = File::options().write(true).open("/dev/full").unwrap();
        let recorder = Recorder::start(BufWriter::new(file)).unwrap();
        recorder.add(&"udp1".into(), rt::now(), notes(10));
        let recorded = recorder.finish();
        assert_eq!((recorded.written, recorded.dropped), (0, 10));
        assert!(recorded.failure.is_some());
    }
}
