//! What the code walks, counted apart from its work units and in tests only: so that a walk without units is found.

use std::cell::Cell;

thread_local! {
    static WALKED: Cell<u64> = const { Cell::new(0) };
}

/// How often a byte of a name that is normalised counts: as many units as it costs.
const NAME_BYTE: usize = 4;

/// Notes that a name is normalised.
pub(crate) fn note_name(name: &str) {
    note(NAME_BYTE * name.len());
}

/// Notes that so many entries are passed.
pub(crate) fn note(steps: usize) {
    WALKED.with(|walked| walked.set(walked.get() + steps as u64));
}

/// What was noted since this was last asked.
pub(crate) fn take() -> u64 {
    WALKED.with(Cell::take)
}
