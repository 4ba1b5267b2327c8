//! The functions of the fuzz targets are with the tests, which run them too.

#[path = "../../tests/fuzz_harness/mod.rs"]
mod fuzz_harness;

pub use fuzz_harness::*;
