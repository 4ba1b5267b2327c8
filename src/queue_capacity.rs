//! Growth and shrinking of long-lived queues, so that their capacity stays near their length.
//!
//! The memory limits count what is in a queue, not its capacity. A peer decides how long its queue once was, so unused
//! capacity has to be bounded here.

use std::collections::VecDeque;

/// Capacity in entries that a queue may always keep.
const KEPT: usize = 32;

/// Shrinks a queue that is less than a quarter full. Call it after each removal: on average it moves each entry once.
pub(crate) fn shrink_sparse<T>(queue: &mut VecDeque<T>) {
    if queue.len() < queue.capacity() / 4 && queue.capacity() > 2 * KEPT {
        queue.shrink_to((2 * queue.len()).max(KEPT));
    }
}

/// Reserves room for one more entry. A full queue of at least 32 entries grows by a quarter instead of doubling.
pub(crate) fn grow_by_quarter<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() && queue.len() >= KEPT {
        queue.reserve_exact(queue.len() / 4);
    }
}
