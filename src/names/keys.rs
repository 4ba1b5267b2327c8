//! The keys of names: by which a target is found, and by which look-alikes are kept apart.

use std::borrow::Borrow;
use std::iter;
use std::sync::Arc;

use super::ROOM;
use super::room::split_room;
use super::spelling::{folded, looks, spelling, with_ascii_lower};

/// The case-insensitive key by which a target is found: a folded name, or `#` and a folded name.
///
/// A map with this key can be queried with the `&str` that [`FoldKey::with`] passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FoldKey(Arc<str>);

impl FoldKey {
    /// The key with this text, which is [`folded`] already.
    pub(super) fn from_folded(text: &str) -> Self {
        Self(text.into())
    }

    /// The key of a target in a peer's bytes: a name, or `#` and a name. `None` if it is neither.
    ///
    /// Equals the `fold()` of [`Name`](super::Name) or [`RoomName`](super::RoomName) parsed from the same bytes.
    ///
    /// ```
    /// use sayagain::names::FoldKey;
    ///
    /// assert_eq!(FoldKey::of(b"TEST01").unwrap().as_str(), "test01");
    /// assert_eq!(FoldKey::of(b"#Lobby").unwrap().as_str(), "#lobby");
    /// assert_eq!(FoldKey::of(b"*"), None);
    /// ```
    #[must_use]
    pub fn of(target: &[u8]) -> Option<Self> {
        Self::with(target, |key| Self(key.into()))
    }

    /// Calls `look_up` with the text of [`FoldKey::of`]`(target)`, or returns `None` if the target has no key.
    ///
    /// Every message calls this: for an ASCII target it allocates nothing and consults no Unicode table.
    ///
    /// ```
    /// use sayagain::names::FoldKey;
    /// use std::collections::HashMap;
    ///
    /// let mut sessions = HashMap::new();
    /// sessions.insert(FoldKey::of(b"TEST01").unwrap(), 7);
    /// let found = FoldKey::with(b"Test01", |key| sessions.get(key).copied()).flatten();
    /// assert_eq!(found, Some(7));
    /// ```
    pub fn with<R>(target: &[u8], look_up: impl FnOnce(&str) -> R) -> Option<R> {
        let (is_room, name) = split_room(target);
        let name = spelling(name).ok()?;
        if name.is_ascii() {
            return with_ascii_lower(is_room, &name, look_up);
        }
        let key = folded(&name);
        Some(if is_room { look_up(&format!("{ROOM}{key}")) } else { look_up(&key) })
    }

    /// The key as text, with its `#` if it is a room's. It is not necessarily a valid name.
    ///
    /// ```
    /// # use sayagain::names::FoldKey;
    /// assert_eq!(FoldKey::of("Straße".as_bytes()).unwrap().as_str(), "strasse");
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for FoldKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The one or two keys of a name's appearance. Two names are too alike if they share a key.
///
/// Names with the same [`FoldKey`] share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClashKeys {
    /// From the folded name.
    folded: ClashKey,
    /// From the name as written, if that key differs.
    written: Option<ClashKey>,
}

impl ClashKeys {
    /// The keys of a name, or of `#` and a name.
    pub(super) fn of(text: &str) -> Self {
        let (folded, written) = looks(text);
        Self { folded: ClashKey(folded.into()), written: written.map(|written| ClashKey(written.into())) }
    }

    /// The key that all names with the same fold share.
    #[must_use]
    pub fn folded(&self) -> &ClashKey {
        &self.folded
    }

    /// All keys, each once.
    pub fn iter(&self) -> impl Iterator<Item = &ClashKey> {
        iter::once(&self.folded).chain(&self.written)
    }

    /// Whether both share a key, which means that the names are too alike.
    ///
    /// ```
    /// # use sayagain::names::Name;
    /// let [ian, lan, jan] = ["Ian", "lan", "Jan"].map(|name| Name::parse(name.as_bytes()).unwrap().clash_keys());
    /// assert!(ian.clash(&lan) && !ian.clash(&jan));
    /// ```
    #[must_use]
    pub fn clash(&self, other: &Self) -> bool {
        self.iter().any(|key| other.holds(key))
    }

    /// Whether this key is one of them.
    pub(crate) fn holds(&self, key: &ClashKey) -> bool {
        self.iter().any(|own| own == key)
    }
}

/// A key that all names of one appearance share. While it is in use, none of those names can be registered.
///
/// Only for comparison; the text is not meant for display. The key of `TEST01` is `testol`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClashKey(Arc<str>);

impl ClashKey {
    /// The key as text, with its `#` if it is a room's.
    ///
    /// ```
    /// # use sayagain::names::{Name, NameError};
    /// assert_eq!(Name::parse(b"TEST01")?.clash_keys().folded().as_str(), "testol");
    /// # Ok::<(), NameError>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ClashKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}
