//! Names of clients and rooms: validation, lookup and look-alikes.
//!
//! The hub and the hosts take names from here, after a frame is parsed and before a session is looked up. Each type
//! answers one question:
//!
//! - [`Name`] and [`RoomName`]: is this a valid name? Their text is what other clients see.
//! - [`FoldKey`]: which client or room does this target mean? Spellings that differ only in case have the same key.
//! - [`ClashKeys`]: may this name be registered beside that one? Names that look alike share a key.
//!
//! Equal fold keys imply a common clash key, so a hub that refuses a clash key in use holds each fold key once.
//!
//! ```
//! use sayagain::names::{FoldKey, Name, NameError};
//!
//! let name = Name::parse("Zo\u{eb}".as_bytes())?;
//! assert_eq!(FoldKey::of("ZO\u{cb}".as_bytes()), Some(name.fold()));
//! assert_eq!(Name::parse(b"two words"), Err(NameError::Blank));
//! # Ok::<(), NameError>(())
//! ```

use thiserror::Error;

mod keys;
mod name;
mod room;
mod spelling;
#[cfg(test)]
mod tests;

pub(super) use spelling::{folded, looks};

// Hidden: not part of the public API, without a promise of stability; for the tests and benches of this project.
#[doc(hidden)]
pub use {
    keys::{ClashKey, ClashKeys, FoldKey},
    name::Name,
    room::{RoomName, is_room, with_hash},
};

/// The maximum length of a name in characters (Unicode scalar values) after normalisation, without the `#` of a room.
#[doc(hidden)]
pub const MAX_NAME_CHARS: usize = 32;

/// The maximum length of input for a name, in bytes. Longer input is refused before any work is done.
///
/// A decomposed name shrinks when it is normalised. The longest canonical decomposition of a permitted character has
/// 9 bytes (U+0CCB and U+0DDD are three marks of 3 bytes each).
pub(crate) const MAX_NAME_INPUT: usize = MAX_NAME_CHARS * 9;

/// The characters that no name begins with: each has another meaning in a frame or on a chat line.
const RESERVED_FIRST: [char; 7] = ['@', '#', '~', '*', '/', '+', '?'];

/// The first character of a room's name. Names of clients do not contain it.
const ROOM: char = '#';

/// The separator behind the sender where messages are shown as lines. Inside a name it would forge a sender.
const AFTER_SENDER: char = '>';

/// The reason why input is not a name. The messages quote no input, so they are safe to send and to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// No bytes, or none after the `#` of a room.
    #[error("a name is empty")]
    Empty,
    /// More than [`MAX_NAME_CHARS`] characters, or more than `MAX_NAME_INPUT` bytes of input.
    #[error("a name is longer than 32 characters")]
    TooLong,
    /// The bytes are not UTF-8 (RFC 3629).
    #[error("a name is not valid UTF-8")]
    NotUtf8,
    /// White space or a control character at any position.
    #[error("a name holds white space or a control character")]
    Blank,
    /// One of `@ # ~ * / + ?` at the beginning, possibly full-width.
    #[error("a name begins with one of @ # ~ * / + ?")]
    ReservedFirst,
    /// A `#` after the first character, which would read as a room's name.
    #[error("a name holds a #")]
    HoldsHash,
    /// A `>`, which separates the sender from the text where messages are shown.
    #[error("a name holds a >")]
    HoldsAngle,
    /// Input that PRECIS does not allow (RFC 8265 section 3.4): a symbol, an unassigned character, ...
    #[error("a name holds something else than letters, digits and plain signs such as . _ -")]
    NotAllowed,
    /// Characters of scripts that are not used together (UTS 39 section 5.1), such as Latin and Cyrillic.
    #[error("a name mixes scripts")]
    MixedScript,
    /// Nothing but `-` is left of the input to [`Name::nearest`]. [`Name::parse`] accepts such a name.
    #[error("a name needs letters or digits")]
    OnlyDashes,
    /// A room's name without `#`.
    #[error("a room's name does not begin with #")]
    NotRoom,
}
