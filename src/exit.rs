//! Exit codes, the same meaning in every program.

/// Done.
pub const OK: u8 = 0;
/// The server refused something, or the program could not do its work.
pub const FAILED: u8 = 1;
/// The command line makes no sense; nothing was sent.
pub const USAGE: u8 = 2;
/// Something is unknown, was never sent, or did not come.
pub const GAVE_UP: u8 = 3;
/// No answer of any kind ever came over TCP.
pub const NO_CONNECTION: u8 = 4;
/// What was asserted of a measurement does not hold.
pub const ASSERTION: u8 = 6;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;
