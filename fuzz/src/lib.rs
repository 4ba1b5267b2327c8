//! What the targets call is where the tests are, which run it too.

#[path = "../../tests/fuzz_harness/mod.rs"]
mod fuzz_harness;

pub use fuzz_harness::*;
