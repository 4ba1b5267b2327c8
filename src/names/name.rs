//! The name of a client.

use std::fmt;

use ecow::EcoString;
use unicode_normalization::char::is_combining_mark;

use super::keys::{ClashKeys, FoldKey};
use super::spelling::{composed, folded, may_hold, spelling, with_ascii_lower, with_widths_mapped};
use super::{MAX_NAME_INPUT, NameError, RESERVED_FIRST};

/// The name of a client, normalised, with its case preserved: 1 to [`MAX_NAME_CHARS`](super::MAX_NAME_CHARS)
/// characters.
///
/// Cheap to clone; up to 15 bytes need no allocation. Equality compares the spelling. [`Name::fold`] finds a client,
/// [`Name::clash_keys`] detects look-alikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(EcoString);

impl Name {
    /// Parses a name from a peer's bytes.
    ///
    /// The result is the form that PRECIS UsernameCasePreserved enforces (RFC 8265 section 3.4): full- and half-width
    /// characters are mapped, then the text is composed (NFC). Parsing `as_str()` returns the same name. At most
    /// `MAX_NAME_INPUT` bytes are read.
    ///
    /// # Errors
    ///
    /// The first rule of [`NameError`] that the input breaks.
    ///
    /// ```
    /// use sayagain::names::{Name, NameError};
    ///
    /// assert_eq!(Name::parse(b"TEST01")?.as_str(), "TEST01");
    /// assert_eq!(Name::parse("Zoe\u{308}".as_bytes())?.as_str(), "Zoë");
    /// assert_eq!(Name::parse(b"two words"), Err(NameError::Blank));
    /// assert_eq!(Name::parse("аdmin".as_bytes()), Err(NameError::MixedScript)); // a Cyrillic а
    /// # Ok::<(), NameError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        spelling(bytes).map(|text| Self(EcoString::from(&*text)))
    }

    /// Derives a valid name from typed text. Surrounding white space is dropped, and each character that a name cannot
    /// hold, inner white space too, becomes a `-`. So do combining marks at the beginning, which would attach to the text
    /// before the name.
    ///
    /// # Errors
    ///
    /// The input is empty, too long or mixes scripts; or nothing but `-` is left ([`NameError::OnlyDashes`]).
    ///
    /// ```
    /// # use sayagain::names::{Name, NameError};
    /// assert_eq!(Name::nearest(b" Guard #1\r")?.as_str(), "Guard--1");
    /// assert_eq!(Name::nearest(b"SlowBot 0.0.1a")?.as_str(), "SlowBot-0.0.1a");
    /// assert_eq!(Name::nearest("*Zoe\u{308} \u{1f680}\u{1b}".as_bytes())?.as_str(), "-Zoë---");
    /// assert_eq!(Name::nearest(b"  "), Err(NameError::Empty));
    /// assert_eq!(Name::nearest("\u{1f680}".as_bytes()), Err(NameError::OnlyDashes));
    /// # Ok::<(), NameError>(())
    /// ```
    pub fn nearest(bytes: &[u8]) -> Result<Self, NameError> {
        let bytes = bytes.trim_ascii();
        if bytes.len() > MAX_NAME_INPUT {
            return Err(NameError::TooLong);
        }
        let text = String::from_utf8_lossy(bytes);
        let text = with_widths_mapped(text.trim());
        let mut is_beginning = true;
        let nearest = |c| {
            is_beginning &= is_combining_mark(c);
            if may_hold(c) && !is_beginning { c } else { '-' }
        };
        let mut name: String = composed(text).chars().map(nearest).collect();
        if name.starts_with(RESERVED_FIRST) {
            name.replace_range(..1, "-");
        }
        if !name.is_empty() && name.chars().all(|c| c == '-') {
            return Err(NameError::OnlyDashes);
        }
        Self::parse(name.as_bytes())
    }

    /// The name as text, as other clients see it.
    ///
    /// ```
    /// # use sayagain::names::{Name, NameError};
    /// assert_eq!(Name::parse("Ｔｅｓｔ".as_bytes())?.as_str(), "Test"); // it came full-width
    /// # Ok::<(), NameError>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key by which a target finds this name.
    ///
    /// ```
    /// # use sayagain::names::{Name, NameError};
    /// assert_eq!(Name::parse(b"TEST01")?.fold(), Name::parse(b"test01")?.fold());
    /// # Ok::<(), NameError>(())
    /// ```
    #[doc(hidden)]
    #[must_use]
    pub fn fold(&self) -> FoldKey {
        FoldKey::from_folded(&folded(&self.0))
    }

    /// Calls `look_up` with the text of [`Name::fold`]. Does not allocate for an ASCII name.
    pub(crate) fn with_fold<R>(&self, mut look_up: impl FnMut(&str) -> R) -> R {
        if self.0.is_ascii()
            && let Some(found) = with_ascii_lower(false, &self.0, &mut look_up)
        {
            return found;
        }
        look_up(&folded(&self.0))
    }

    /// The keys for detecting look-alikes: fold(skeleton(fold(name))) and fold(skeleton(name)), UTS 39 section 4. Names
    /// that look alike share at least one of them.
    ///
    /// ```
    /// # use sayagain::names::{Name, NameError};
    /// let [cyrillic, latin] = ["ѕсоре", "Scope"].map(|name| Name::parse(name.as_bytes()).unwrap());
    /// assert!(cyrillic.clash_keys().clash(&latin.clash_keys()));
    /// assert_ne!(cyrillic.fold(), latin.fold());
    /// let [bill, two_capitals] = ["Bill", "BiII"].map(|name| Name::parse(name.as_bytes()).unwrap());
    /// assert!(bill.clash_keys().clash(&two_capitals.clash_keys()));
    /// ```
    #[doc(hidden)]
    #[must_use]
    pub fn clash_keys(&self) -> ClashKeys {
        ClashKeys::of(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
