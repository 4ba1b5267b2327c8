//! Keeps the allocator from putting off its work.
//!
//! glibc keeps small freed chunks as they are until a request of 1,024 bytes or more comes, and merges all of them then
//! (`malloc_consolidate`): half a second for what a million sessions leave, in the middle of a hold of the lock. A request
//! now and then has it merge few at a time. Other allocators do not mind.

use std::hint::black_box;

/// A request that has glibc merge what was freed, in bytes: more than its cache per thread has chunks of.
const LARGE: usize = 4_096;

/// Has the allocator merge what was freed since the last call.
pub(crate) fn merge_freed() {
    drop(black_box(Vec::<u8>::with_capacity(LARGE)));
}
