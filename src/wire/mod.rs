//! Bytes to frames and back, for both ends: no socket, no clock, no state beyond an unfinished frame.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! Input passes it after the simulated link and before sessions; output passes it before the link. The grammar:
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
//! In the order of the data path: [`deframe`] cuts a stream and [`datagram`] a datagram into [`frame`]s, whose heads
//! carry an [`id`] and a [`verb`]; [`message`] and [`rcv`] parse and write the payload of each verb. A line
//! listener carries no frames: [`line`](mod@line) cuts its input.
//!
//! ```
//! use sayagain::wire::{Verb, encode_args};
//!
//! let mut bytes = Vec::new();
//! encode_args(None, Verb::Rcv, &[&b"TEST02"[..], b"0001", b"Heyyyooo!"], &mut bytes);
//! assert_eq!(bytes, b"RCV 0022 TEST02 0001 Heyyyooo!");
//! ```

use std::ops::RangeInclusive;

mod bye;
pub mod datagram;
pub mod deframe;
mod digits;
pub mod frame;
pub mod id;
pub mod line;
pub mod message;
pub mod rcv;
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
    ErrArgs, RegArgs, SndArgs, encode_gap, encode_ranges, parse_gap, parse_ranges, parse_wait, split_word,
};
pub use rcv::{RcvArgs, RcvHead, encode_rcv, split_sender, words};
pub use token::Token;
pub use verb::Verb;

/// The most digits of an id. All numbers with 19 digits fit 64 unsigned bits.
pub const ID_DIGITS: usize = 19;

/// Highest id, 10^19-1: the highest number of [`ID_DIGITS`] digits.
pub const MAX_ID: u64 = 9_999_999_999_999_999_999;

/// The longest payload, in bytes, with a length of four digits; asio_chatserver supports no longer ones.
pub const SHORT_LENGTH_MAX: usize = 9_999;

/// The permitted numbers of digits in the long form of a length: fewer fit the short form, more do not fit 64 bits.
pub const LONG_LENGTH_DIGITS: RangeInclusive<usize> = 5..=19;

/// The longest head in bytes (49): `@` id SP, verb SP, `+` 3DIGIT SP and the longest length.
///
/// This many bytes always decide whether a head is complete or malformed, which bounds how often a reader parses it
/// again.
pub const MAX_HEAD: usize = (1 + ID_DIGITS + 1) + (VERB_LEN + 1) + (1 + 3 + 1) + *LONG_LENGTH_DIGITS.end();

/// Bytes in a verb.
pub const VERB_LEN: usize = 3;

/// Characters in a token, nonce or cookie: 128 bits in unpadded base64url (RFC 4648 section 5).
pub const TOKEN_CHARS: usize = 22;

/// The highest word count in an RCV, which has four digits; it means "that many or more".
pub const WORDS_MAX: u16 = 9_999;

/// Bytes that every datagram may hold: RFC 9000 section 14 expects every path to carry them without probing.
pub const DATAGRAM_MIN_LIMIT: usize = 1_200;

/// Cuts leading CRs and LFs, which a reader skips between frames.
fn skip_newlines(bytes: &[u8]) -> &[u8] {
    let newlines = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.get(newlines..).unwrap_or_default()
}
