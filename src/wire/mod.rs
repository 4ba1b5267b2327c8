//! Bytes to frames and back: no socket, no clock, no state beyond an unfinished frame.
//!
//! ```text
//! frame    = [ "@" id SP ] verb SP length payload
//! id       = 1*19DIGIT                1 to 10^19-1, no leading zeros; counts up from 1
//! verb     = 3 upper-case ASCII letters
//! length   = 4DIGIT                   bytes in payload, its leading space included
//!          / "+" 3DIGIT SP n DIGIT    only for more than 9999 bytes: "+007 1048583" means that the next
//!                                     7 digits are the length; n is 5 to 19, no leading zeros
//! payload  = that many bytes; the first is a space (an empty payload has length 0000)
//! datagram = [ "~" token SP ] 1*frame
//! token    = 22 characters of [A-Za-z0-9_-]
//! ```
//!
//! `REG 0007 TEST01`, `SND 0017 TEST01 Heyyyooo!`, `RCV 0022 TEST02 0001 Heyyyooo!`, `BYE 0000` and
//! `ERR 0016 No such client!` are complete frames. Nothing separates frames on a stream; a reader skips CR and LF
//! between them, so that the protocol can be typed into netcat. Digits are ASCII digits, nothing else. Separators
//! are single spaces; the body of a message is everything after the last one: any bytes, spaces and newlines too.
//!
//! In path order: [`deframe`] cuts a stream and [`datagram`] a datagram into [`frame`]s, whose heads carry an
//! [`id`] and a [`verb`]; [`message`] reads and writes what each verb's payload holds. A door for people speaks no frames:
//! [`line`](mod@line) cuts what comes in there.

use std::ops::RangeInclusive;

mod bye;
pub mod datagram;
pub mod deframe;
mod digits;
pub mod frame;
pub mod id;
pub mod line;
pub mod message;
pub mod token;
pub mod verb;

#[cfg(test)]
mod tests;

pub use bye::ByeArgs;
pub use datagram::{Datagram, PREFIX_LEN, encode_prefix, prefix_of};
pub use deframe::{Cut, Deframer, Joined, Partial};
pub use frame::{Frame, Head, Malformed, encode_args, encode_tag, parse_head};
pub use id::Id;
pub use line::{Found, Lines, MAX_LINE, NO_TIMING_MARK};
pub use message::{
    ErrArgs, RcvArgs, RcvHead, RegArgs, SndArgs, encode_gap, encode_ranges, encode_rcv, encode_rcv_head,
    parse_gap, parse_ranges, parse_wait, split_word, words,
};
pub use token::Token;
pub use verb::Verb;

/// Most digits in an id: the most nines that 64 unsigned bits hold, so that any 19 digits are a valid number.
pub const ID_DIGITS: usize = 19;

/// Highest id, 10^19-1: the highest number of [`ID_DIGITS`] digits.
pub const MAX_ID: u64 = 9_999_999_999_999_999_999;

/// Longest payload, in bytes, whose length is written in the plain four digits; asio_chatserver knows no more.
pub const SHORT_LENGTH_MAX: usize = 9_999;

/// How many digits the long form of a length may have: fewer would fit the short form, more would not fit 64 bits.
pub const LONG_LENGTH_DIGITS: RangeInclusive<usize> = 5..=19;

/// Longest head in bytes (49): `@` id SP, verb SP, `+` 3DIGIT SP and the longest length.
///
/// So many bytes always decide whether a head is complete or malformed, which bounds what a reader looks at again.
pub const MAX_HEAD: usize = (1 + ID_DIGITS + 1) + (VERB_LEN + 1) + (1 + 3 + 1) + *LONG_LENGTH_DIGITS.end();

/// Bytes in a verb.
pub const VERB_LEN: usize = 3;

/// Characters in a token, nonce or cookie: 128 bits in unpadded base64url (RFC 4648 section 5).
pub const TOKEN_CHARS: usize = 22;

/// Highest word count that an RCV states: four digits' worth; it then means "that many or more".
pub const WORDS_MAX: u16 = 9_999;

/// Bytes that a datagram may always hold: what RFC 9000 section 14 expects of every path without probing it.
pub const DATAGRAM_MIN_LIMIT: usize = 1_200;

/// Cuts the CRs and LFs off the front, which a reader skips between frames.
fn skip_newlines(bytes: &[u8]) -> &[u8] {
    let newlines = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.get(newlines..).unwrap_or_default()
}
