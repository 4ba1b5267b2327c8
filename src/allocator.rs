//! Keeps the allocator from deferring its work to a bad moment.
//!
//! glibc keeps small freed chunks until a request of 1,024 bytes or more, and then merges all of them
//! (`malloc_consolidate`). After a million sessions that takes half a second while the lock is held. An occasional
//! request makes it merge few at a time. Other allocators are unaffected.

use std::hint::black_box;

/// The size of a request that makes glibc merge freed chunks, in bytes: larger than the chunks in its per-thread cache.
const LARGE: usize = 4_096;

/// Makes the allocator merge the chunks that were freed since the last call.
pub(crate) fn merge_freed() {
    drop(black_box(Vec::<u8>::with_capacity(LARGE)));
}
