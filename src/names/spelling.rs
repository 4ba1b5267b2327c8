//! The rules for the text of a name: what it may contain, its fold and its skeleton. No types; those are in the sibling
//! modules.

use std::borrow::Cow;

use precis_core::profile::{Profile as _, Rules as _, stabilize};
use precis_core::{DerivedPropertyValue, IdentifierClass, StringClass as _};
use precis_profiles::UsernameCasePreserved;
use unicode_security::{MixedScript as _, skeleton};

use super::{AFTER_SENDER, MAX_NAME_CHARS, MAX_NAME_INPUT, NameError, RESERVED_FIRST, ROOM};

/// Returns the normalised text of the name in `bytes`, or the rule that it breaks. All rules are applied here.
pub(super) fn spelling(bytes: &[u8]) -> Result<Cow<'_, str>, NameError> {
    if bytes.len() > MAX_NAME_INPUT {
        return Err(NameError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(NameError::Blank);
    }
    // PRECIS leaves graphic ASCII unchanged, and ASCII has one script: both checks can be skipped.
    let name = if text.is_ascii() { Cow::Borrowed(text) } else { enforced(text)? };
    check_shape(&name)?;
    Ok(name)
}

/// Applies the rules for text beyond ASCII: PRECIS, and a single script.
///
/// Enforcing once is not enough: `<` and U+0338 are both allowed, and compose into U+226E, which is not. RFC 8264
/// section 7 requires the rules to be applied until the text is stable.
pub(super) fn enforced(text: &str) -> Result<Cow<'_, str>, NameError> {
    #[cfg(test)]
    crate::work_probe::note_name(text);
    let profile = UsernameCasePreserved::new();
    let name = stabilize(text, |text| profile.enforce(text)).map_err(|_| NameError::NotAllowed)?;
    if name.is_single_script() { Ok(name) } else { Err(NameError::MixedScript) }
}

/// Checks the rules of this protocol. They apply to the enforced form, in which a full-width `＠` is an `@`.
pub(super) fn check_shape(name: &str) -> Result<(), NameError> {
    if name.chars().nth(MAX_NAME_CHARS).is_some() {
        Err(NameError::TooLong)
    } else if name.starts_with(RESERVED_FIRST) {
        Err(NameError::ReservedFirst)
    } else if name.contains(ROOM) {
        Err(NameError::HoldsHash)
    } else if name.contains(AFTER_SENDER) {
        Err(NameError::HoldsAngle)
    } else {
        Ok(())
    }
}

/// Whether a name may hold a character, at any position and in any context. Includes the characters that PRECIS allows
/// only in some contexts (RFC 8264 section 4.2.2).
pub(super) fn may_hold(c: char) -> bool {
    use DerivedPropertyValue::{ContextJ, ContextO, PValid, SpecClassPval};
    let value = IdentifierClass::default().get_value_from_char(c);
    !matches!(c, ROOM | AFTER_SENDER)
        && !c.is_whitespace()
        && matches!(value, PValid | SpecClassPval | ContextJ | ContextO)
}

/// The text after the first step of PRECIS: full- and half-width characters are mapped.
pub(super) fn with_widths_mapped(text: &str) -> String {
    // The rule fails only for text that it would not change.
    UsernameCasePreserved::new().width_mapping_rule(text).unwrap_or(Cow::Borrowed(text)).into_owned()
}

/// Calls `look_up` with the lower-case form of an ASCII name, behind `#` if it is a room's.
pub(super) fn with_ascii_lower<R>(is_room: bool, name: &str, look_up: impl FnOnce(&str) -> R) -> Option<R> {
    let mut buffer = [b'#'; 1 + MAX_NAME_CHARS];
    let end = 1 + name.len();
    buffer.get_mut(1..end)?.copy_from_slice(name.as_bytes());
    let key = std::str::from_utf8_mut(buffer.get_mut(usize::from(!is_room)..end)?).ok()?;
    key.make_ascii_lowercase();
    Some(look_up(key))
}

/// The fold of a text: lower-cased, upper-cased, lower-cased again, and composed (NFC).
///
/// Lower-casing alone, as in UsernameCaseMapped (RFC 8265 section 3.3), does not find a name by its capitals: `ΟΔΟΣ`
/// becomes `οδοσ`, but `Οδος` becomes `οδος`. `str::to_lowercase` handles the final sigma, but still separates `STRASSE`
/// from `Straße`. The upper-case step unites all of them, as Unicode's full case folding does. It also unites the dotless
/// `ı` with its look-alike `i`. Composition comes last because upper-casing may decompose (`ǰ` has no single capital).
pub(crate) fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    #[cfg(test)]
    crate::work_probe::note_name(text);
    let lower = text.chars().flat_map(char::to_lowercase);
    composed(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect())
}

/// The text in normalisation form C.
pub(super) fn composed(text: String) -> String {
    // The rule returns borrowed text if nothing changed. It never fails; if it did, the unchanged text is still a key.
    if let Ok(Cow::Owned(changed)) = UsernameCasePreserved::new().normalization_rule(text.as_str()) {
        return changed;
    }
    text
}

/// The two look-alike keys of a text: fold(skeleton(fold(text))), which does not depend on case, and, if it differs,
/// fold(skeleton(text)). The outer fold removes the capitals that represent classes in the skeleton, as `O` does for `0`.
///
/// Both are needed. The inner fold turns `I` into `i` before the skeleton can turn it into `l`, so only the second key
/// matches `BiII` with `Bill`. Only the first matches `MORTY` with `morty`, because the skeleton of a small `m` is `rn`.
pub(crate) fn looks(text: &str) -> (String, Option<String>) {
    let fold = folded(text);
    let look = folded_skeleton(&fold);
    let as_written = (fold != text).then(|| folded_skeleton(text));
    let other = as_written.filter(|written| *written != look);
    (look, other)
}

/// fold(skeleton(text)).
fn folded_skeleton(text: &str) -> String {
    ascii_skeleton(text).unwrap_or_else(|| folded(&skeleton(text).collect::<String>()))
}

/// The same for text whose skeleton is ASCII too; the Unicode tables are slow.
pub(super) fn ascii_skeleton(text: &str) -> Option<String> {
    let mut look = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b'%' | 128.. => return None,
            b'm' => look.push_str("rn"),
            b'"' => look.push_str("''"),
            b'0' => look.push('o'),
            b'1' | b'I' | b'|' => look.push('l'),
            b'`' => look.push('\''),
            _ => look.push(char::from(byte.to_ascii_lowercase())),
        }
    }
    Some(look)
}
