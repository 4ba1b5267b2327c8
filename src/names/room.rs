//! The name of a room: a name behind a `#`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::keys::{ClashKeys, FoldKey};
use super::spelling::{folded, spelling};
use super::{NameError, ROOM};

/// The name of a room: `#` and a [`Name`](super::Name).
///
/// Cheap to clone. Its keys begin with `#` too, so a room and a client of the same name have different keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// Parses a room's name with its `#` from a peer's bytes. The part after the `#` is bounded and normalised as in
    /// [`Name::parse`](super::Name::parse).
    ///
    /// # Errors
    ///
    /// [`NameError::NotRoom`] if the `#` is missing, else the first rule of [`NameError`] that the rest breaks.
    ///
    /// ```
    /// use sayagain::names::{NameError, RoomName};
    ///
    /// assert_eq!(RoomName::parse(b"#Lobby")?.as_str(), "#Lobby");
    /// assert_eq!(RoomName::parse(b"Lobby"), Err(NameError::NotRoom));
    /// assert_eq!(RoomName::parse(b"#"), Err(NameError::Empty));
    /// # Ok::<(), NameError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        let (true, rest) = split_room(bytes) else { return Err(NameError::NotRoom) };
        spelling(rest).map(|name| Self(format!("{ROOM}{name}").into()))
    }

    /// The room's name as text, with its `#`.
    ///
    /// ```
    /// # use sayagain::names::{NameError, RoomName};
    /// assert_eq!(RoomName::parse("#Zoe\u{308}".as_bytes())?.as_str(), "#Zoë");
    /// # Ok::<(), NameError>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The room's name without its `#`.
    #[must_use]
    pub fn without_hash(&self) -> &str {
        self.0.strip_prefix(ROOM).unwrap_or(&self.0)
    }

    /// The key by which a target finds this room. It begins with `#`.
    ///
    /// ```
    /// # use sayagain::names::{NameError, RoomName};
    /// assert_eq!(RoomName::parse(b"#Lobby")?.fold().as_str(), "#lobby");
    /// # Ok::<(), NameError>(())
    /// ```
    #[doc(hidden)]
    #[must_use]
    pub fn fold(&self) -> FoldKey {
        FoldKey::from_folded(&folded(&self.0))
    }

    /// The keys for detecting look-alikes of this room. They begin with `#`; see
    /// [`Name::clash_keys`](super::Name::clash_keys).
    ///
    /// ```
    /// # use sayagain::names::RoomName;
    /// let [zero, lobby] = ["#L0BBY", "#lobby"].map(|room| RoomName::parse(room.as_bytes()).unwrap());
    /// assert!(zero.clash_keys().clash(&lobby.clash_keys()));
    /// ```
    #[doc(hidden)]
    #[must_use]
    pub fn clash_keys(&self) -> ClashKeys {
        ClashKeys::of(&self.0)
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether a target is meant as a room: it begins with `#`. Its name may still be invalid.
#[must_use]
#[inline]
pub fn is_room(target: &[u8]) -> bool {
    split_room(target).0
}

/// Adds the `#` of a room's name where the user may leave it out.
#[must_use]
pub fn with_hash(room: &[u8]) -> Cow<'_, [u8]> {
    if is_room(room) { Cow::Borrowed(room) } else { Cow::Owned([b"#", room].concat()) }
}

/// Whether a target names a room, and its bytes without the `#`. A full-width `＃` does not: the protocol defines the
/// byte.
pub(super) fn split_room(target: &[u8]) -> (bool, &[u8]) {
    match target {
        [b'#', rest @ ..] => (true, rest),
        _ => (false, target),
    }
}
