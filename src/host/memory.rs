//! How much all connections together may hold, and what is left of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The least that is read at once, in bytes, however little room there is: a read of nothing would look like an end.
const MIN_READ: usize = 512;

/// What is held of input, what waits to be written, and the bounds of both.
#[derive(Debug)]
pub(super) struct Memory {
    input: usize,
    output: usize,
    /// How much of the output was sent while input was handed over.
    answers: usize,
    max_in: usize,
    max_out: usize,
    /// How much may still be read, for those who read without the lock.
    room: Arc<AtomicUsize>,
}

impl Memory {
    pub(super) fn new(max_in: usize, max_out: usize) -> Self {
        // Of a bound of nothing, nothing would ever come in.
        let (max_in, max_out) = (max_in.max(1), max_out.max(1));
        Self { input: 0, output: 0, answers: 0, max_in, max_out, room: Arc::new(AtomicUsize::new(max_in)) }
    }

    /// What is held: of input, and of output.
    pub(super) const fn held(&self) -> (usize, usize) {
        (self.input, self.output)
    }

    /// Tells those who read without the lock how much they may.
    pub(super) fn room(&self) -> Room {
        Room(self.room.clone())
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

    /// Of a connection, so much of the output was caused by input, instead of so much before.
    pub(super) fn count_answers(&mut self, before: usize, now: usize) {
        self.answers = self.answers - before + now;
    }

    /// Whether nothing more is to be read that has to be kept.
    pub(super) const fn is_full_in(&self) -> bool {
        self.input >= self.max_in
    }

    /// Whether nothing more is to be read that might be answered. What is sent without having been asked for does not count:
    /// two who send each other much would both stop reading, and wait for ever.
    pub(super) const fn is_full_of_answers(&self) -> bool {
        self.answers >= self.max_out - self.max_out / 4
    }

    /// Whether those who were stopped may read on: there is room for a while.
    pub(super) const fn has_room_again(&self) -> bool {
        self.input <= self.max_in - self.max_in / 4 && !self.is_full_of_answers()
    }

    /// Whether those may try again for whom there was no room: not for each byte that was written.
    pub(super) const fn has_room_out_again(&self) -> bool {
        self.output <= self.max_out - self.max_out / 4
    }

    /// Whether another piece may be queued behind so many bytes that are not counted yet.
    pub(super) const fn has_room_out(&self, queued: usize) -> bool {
        let output = self.output.saturating_add(queued);
        output == 0 || output < self.max_out
    }

    /// Whether so many bytes more may wait to be written. An empty memory takes any one message.
    pub(super) const fn takes_out(&self, bytes: usize) -> bool {
        self.output == 0 || self.output.saturating_add(bytes) <= self.max_out
    }
}

/// How much may be read, without the lock.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Room {
    /// At once.
    pub(super) fn max_read(&self) -> usize {
        self.0.load(Ordering::Relaxed).max(MIN_READ)
    }
}
