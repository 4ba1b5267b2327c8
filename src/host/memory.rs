//! Memory accounting of a host: bytes held by all connections together, and the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The smallest read, in bytes, even when memory is full: a read of zero bytes would look like the end of the stream.
const MIN_READ: usize = 512;

/// Bytes of input and output that are held, and their limits.
#[derive(Debug)]
pub(super) struct Memory {
    input: usize,
    output: usize,
    /// Bytes of output that were sent while input was passed to the handler.
    answers: usize,
    max_in: usize,
    max_out: usize,
    /// Bytes that may still be read, for decoders that read without the lock.
    room: Arc<AtomicUsize>,
}

impl Memory {
    pub(super) fn new(max_in: usize, max_out: usize) -> Self {
        // With a limit of 0, no input could ever arrive.
        let (max_in, max_out) = (max_in.max(1), max_out.max(1));
        Self { input: 0, output: 0, answers: 0, max_in, max_out, room: Arc::new(AtomicUsize::new(max_in)) }
    }

    /// Bytes held: of input, and of output.
    pub(super) const fn held(&self) -> (usize, usize) {
        (self.input, self.output)
    }

    /// The remaining room for input, for decoders that read without the lock.
    pub(super) fn room(&self) -> FreeMemory {
        FreeMemory(self.room.clone())
    }

    pub(super) fn take_in(&mut self, bytes: usize) {
        self.input += bytes;
        self.tell();
    }

    pub(super) fn give_in(&mut self, bytes: usize) {
        self.input -= bytes;
        self.tell();
    }

    fn tell(&self) {
        self.room.store(self.max_in.saturating_sub(self.input), Ordering::Relaxed);
    }

    pub(super) fn take_out(&mut self, bytes: usize) {
        self.output += bytes;
    }

    pub(super) fn give_out(&mut self, bytes: usize) {
        self.output -= bytes;
    }

    /// Replaces a connection's share of answers: `before` bytes by `now` bytes.
    pub(super) fn count_answers(&mut self, before: usize, now: usize) {
        self.answers = self.answers - before + now;
    }

    /// Whether input memory is full.
    pub(super) const fn is_full_in(&self) -> bool {
        self.input >= self.max_in
    }

    /// Whether answers fill so much memory that input, which may cause more, has to wait. Unsolicited output does not
    /// count: two peers that send each other much would both stop reading for ever.
    pub(super) const fn is_full_of_answers(&self) -> bool {
        self.answers >= self.max_out - self.max_out / 4
    }

    /// Whether paused connections may be read again: a quarter of the memory is free.
    pub(super) const fn has_room_again(&self) -> bool {
        self.input <= self.max_in - self.max_in / 4 && !self.is_full_of_answers()
    }

    /// Whether connections that found no room may send again. It takes a quarter of the memory, so that not every
    /// written byte wakes them.
    pub(super) const fn has_room_out_again(&self) -> bool {
        self.output <= self.max_out - self.max_out / 4
    }

    /// Whether another piece may be queued after `queued` bytes that are not counted yet.
    pub(super) const fn has_room_out(&self, queued: usize) -> bool {
        let output = self.output.saturating_add(queued);
        output == 0 || output < self.max_out
    }

    /// Whether `bytes` more may be queued. An empty memory takes one message of any size.
    pub(super) const fn takes_out(&self, bytes: usize) -> bool {
        self.output == 0 || self.output.saturating_add(bytes) <= self.max_out
    }
}

/// The remaining room for input, readable without the lock.
#[derive(Clone, Debug)]
pub(super) struct FreeMemory(Arc<AtomicUsize>);

impl FreeMemory {
    /// The size of the next read, in bytes.
    pub(super) fn max_read(&self) -> usize {
        self.0.load(Ordering::Relaxed).max(MIN_READ)
    }
}
