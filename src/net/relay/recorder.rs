//! Writes the record of every decision from a thread of its own: a slow disk delays no datagram.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::rt;
use crate::lab::proxy::record::{Header, Note};

/// Most decisions that wait for the disk; what comes beyond them is not recorded, and counted. About 10 MiB.
const MAX_WAITING: usize = 65_536;

/// A record that is being written.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

/// What became of a record.
#[derive(Debug)]
pub struct Recorded {
    /// Decisions that were written.
    pub written: u64,
    /// Decisions that came too fast for the disk.
    pub dropped: u64,
    /// What the system says, if writing failed.
    pub failure: Option<io::Error>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    entries: Vec<Entry>,
    written: u64,
    dropped: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    proxy: Arc<str>,
    at: Instant,
    note: Note,
}

impl Recorder {
    /// Creates the file, or empties it, and writes its first line.
    ///
    /// # Errors
    ///
    /// The system does not let it.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{}", header.to_line())?;
        file.flush()?;
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared { start: rt::now(), queue, filled: Condvar::new() });
        let writing = shared.clone();
        let writer =
            std::thread::Builder::new().name("record".to_owned()).spawn(move || writing.write(file))?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)) })
    }

    /// Takes decisions about `proxy` that were made at `at`.
    pub(super) fn add(&self, proxy: &Arc<str>, at: Instant, notes: impl IntoIterator<Item = Note>) {
        let mut queue = self.shared.lock();
        for note in notes {
            if queue.entries.len() < MAX_WAITING && !queue.is_closed {
                queue.entries.push(Entry { proxy: proxy.clone(), at, note });
            } else {
                queue.dropped += 1;
            }
        }
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Writes what is left and ends. What is added after that is dropped.
    pub fn finish(&self) -> Recorded {
        self.shared.lock().is_closed = true;
        self.shared.filled.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let panicked = |_| Err(io::Error::other("the writer has panicked"));
        let failure = writer.and_then(|writer| writer.join().unwrap_or_else(panicked).err());
        let queue = self.shared.lock();
        Recorded { written: queue.written, dropped: queue.dropped, failure }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in it can be half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the record is closed and empty.
    fn write(&self, mut file: BufWriter<File>) -> io::Result<()> {
        loop {
            let entries = self.take(&mut file)?;
            if entries.is_empty() {
                return file.flush();
            }
            let count = entries.len() as u64;
            let result = entries.iter().try_for_each(|entry| self.write_entry(&mut file, entry));
            if let Err(error) = result {
                let mut queue = self.lock();
                queue.is_closed = true;
                queue.dropped += count;
                return Err(error);
            }
            self.lock().written += count;
        }
    }

    fn write_entry(&self, file: &mut BufWriter<File>, entry: &Entry) -> io::Result<()> {
        let after = entry.at.saturating_duration_since(self.start);
        writeln!(file, "{}", entry.note.to_line(&entry.proxy, after))
    }

    /// What waits, once there is something; nothing once there never will be. Before a wait, what was written is flushed.
    fn take(&self, file: &mut BufWriter<File>) -> io::Result<Vec<Entry>> {
        let mut queue = self.lock();
        if queue.entries.is_empty() && !queue.is_closed {
            drop(queue);
            file.flush()?;
            queue = self.lock();
        }
        while queue.entries.is_empty() && !queue.is_closed {
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(std::mem::take(&mut queue.entries))
    }
}
