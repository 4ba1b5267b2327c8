//! Tests that cross the files of this module.

mod hostile;
mod round_trip;
mod splits;
