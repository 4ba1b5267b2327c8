//! The bound on threads of connections: [`ThreadSlots`] counts them, a [`ThreadSlot`] is one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Slots for the threads of connections: how many are taken, and how many there are.
#[derive(Debug)]
pub(super) struct ThreadSlots {
    taken: AtomicUsize,
    limit: usize,
}

impl ThreadSlots {
    pub(super) const fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    /// Number of taken slots.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// Occupies a slot for as long as its thread runs.
#[derive(Debug)]
pub(super) struct ThreadSlot(Arc<ThreadSlots>);

impl ThreadSlot {
    /// Takes a slot, if one is free.
    pub(super) fn take(thread_slots: &Arc<ThreadSlots>) -> io::Result<Self> {
        let more = |taken: usize| (taken < thread_slots.limit).then_some(taken + 1);
        match thread_slots.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more) {
            Ok(_) => Ok(Self(thread_slots.clone())),
            Err(limit) => Err(io::Error::other(format!("all {limit} are taken"))),
        }
    }
}

impl Drop for ThreadSlot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}
