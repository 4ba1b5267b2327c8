//! The exit codes of all programs.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.

/// Success.
pub const OK: u8 = 0;
/// The server refused a request, or the program could not do its work.
pub const FAILED: u8 = 1;
/// Usage error: the command line is invalid, and nothing was sent.
pub const USAGE: u8 = 2;
/// An outcome is unknown, a request was not sent, or an expected message did not arrive.
pub const GAVE_UP: u8 = 3;
/// No answer arrived over TCP.
pub const NO_CONNECTION: u8 = 4;
/// An assertion about a measurement failed.
pub const ASSERTION: u8 = 6;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;
