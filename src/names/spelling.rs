//! The rules of names: what may stand in one, and what two spellings have in common. The types that are made by them are in
//! [`name`](super).

use std::borrow::Cow;

use precis_core::profile::{Profile as _, Rules as _, stabilize};
use precis_core::{DerivedPropertyValue, IdentifierClass, StringClass as _};
use precis_profiles::UsernameCasePreserved;
use unicode_security::{MixedScript as _, skeleton};

use super::{AFTER_SENDER, MAX_NAME_CHARS, MAX_NAME_INPUT, NameError, RESERVED_FIRST, ROOM};

/// The text of the name in `bytes`, or the rule that it breaks. The one place that knows the rules.
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
    // PRECIS leaves graphic ASCII as it is, and no two scripts meet in it: both checks would be for nothing.
    let name = if text.is_ascii() { Cow::Borrowed(text) } else { enforced(text)? };
    check_shape(&name)?;
    Ok(name)
}

/// The rules for what has more than ASCII in it: PRECIS, and a single script.
///
/// Enforcing once is not enough: `<` and U+0338 are both allowed, and compose into U+226E, which is not. RFC 8264
/// section 7 wants the rules applied until nothing changes.
pub(super) fn enforced(text: &str) -> Result<Cow<'_, str>, NameError> {
    #[cfg(test)]
    crate::work_probe::note_name(text);
    let profile = UsernameCasePreserved::new();
    let name = stabilize(text, |text| profile.enforce(text)).map_err(|_| NameError::NotAllowed)?;
    if name.is_single_script() { Ok(name) } else { Err(NameError::MixedScript) }
}

/// The rules that are this protocol's own. They hold for the enforced form, in which a full-width `＠` is an `@`.
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

/// Whether a name may hold a character, wherever it stands and whatever stands beside it: those that PRECIS allows in
/// some context only (RFC 8264 section 4.2.2) count as such.
pub(super) fn may_hold(c: char) -> bool {
    use DerivedPropertyValue::{ContextJ, ContextO, PValid, SpecClassPval};
    let value = IdentifierClass::default().get_value_from_char(c);
    !matches!(c, ROOM | AFTER_SENDER)
        && !c.is_whitespace()
        && matches!(value, PValid | SpecClassPval | ContextJ | ContextO)
}

/// The text with its full- and half-width characters mapped, as PRECIS does first.
pub(super) fn with_widths_mapped(text: &str) -> String {
    // The rule fails only for what it would leave as it is.
    UsernameCasePreserved::new().width_mapping_rule(text).unwrap_or(Cow::Borrowed(text)).into_owned()
}

/// Calls `look_up` with the lower-case form of an ASCII name, and with `#` before it if it is a room's.
pub(super) fn with_ascii_lower<R>(is_room: bool, name: &str, look_up: impl FnOnce(&str) -> R) -> Option<R> {
    let mut buffer = [b'#'; 1 + MAX_NAME_CHARS];
    let end = 1 + name.len();
    buffer.get_mut(1..end)?.copy_from_slice(name.as_bytes());
    let key = std::str::from_utf8_mut(buffer.get_mut(usize::from(!is_room)..end)?).ok()?;
    key.make_ascii_lowercase();
    Some(look_up(key))
}

/// The text without its case: lower-cased, upper-cased, lower-cased again, and composed (NFC).
///
/// Lower-casing alone, as in UsernameCaseMapped (RFC 8265 section 3.3), would not let a name be found by its capitals:
/// `ΟΔΟΣ` becomes `οδοσ`, but `Οδος` stays `οδος`; and `str::to_lowercase`, which knows about the final sigma, still
/// parts `STRASSE` from `Straße`. Going through the capitals puts all of them together, as Unicode's full case folding
/// does; beyond it, the dotless `ı` meets `i`, of which it is a look-alike anyhow. Composition comes last since the
/// way there may decompose (`ǰ` has no capital of its own).
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
    // The rule hands back a borrowed text where nothing changed. It never fails; if it did, unchanged is still a key.
    if let Ok(Cow::Owned(changed)) = UsernameCasePreserved::new().normalization_rule(text.as_str()) {
        return changed;
    }
    text
}

/// What a text looks like without its case: fold(skeleton(fold(text))), which all its spellings share; and, where that is
/// another, what it looks like as it is written: fold(skeleton(text)). The outer fold takes away the capitals that stand
/// for whole classes in the skeleton, as `O` does for `0`.
///
/// Neither is enough alone. The fold makes `I` an `i` before the skeleton could make it an `l`, so only the second finds
/// `BiII` beside `Bill`; the second parts `MORTY` from `morty`, since small `m` alone is an `rn` to the skeleton.
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

/// The same for what has only ASCII in it, and in its skeleton; the tables are slow.
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
