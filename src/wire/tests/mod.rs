//! Tests that involve several files of this module.

mod hostile;
mod round_trip;
mod splits;
