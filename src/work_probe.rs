//! Test instrumentation: counts work apart from the work budget, so that work without units is found.

use std::cell::Cell;

thread_local! {
    static WALKED: Cell<u64> = const { Cell::new(0) };
}

/// Units for each byte of a name that is normalised, equal to its cost.
const NAME_BYTE: usize = 4;

/// Records the normalisation of a name.
pub(crate) fn note_name(name: &str) {
    note(NAME_BYTE * name.len());
}

/// Records that entries are passed.
pub(crate) fn note(steps: usize) {
    WALKED.with(|walked| walked.set(walked.get() + steps as u64));
}

/// The units recorded since the last call.
pub(crate) fn take() -> u64 {
    WALKED.with(Cell::take)
}
