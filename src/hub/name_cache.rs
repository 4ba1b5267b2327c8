//! A cache of recent message targets: a name is parsed and looked up once, not for every message.
//!
//! The lookup itself is [`Hub::find`].

use super::{Hub, SessionKey};

/// The number of entries.
const PLACES: usize = 64;

/// The longest cached name, in bytes.
const LONGEST: usize = 23;

/// Names as they were written, and the sessions that they name. Two names with the same entry replace each other.
#[derive(Debug, Default)]
pub(super) struct NameCache(Vec<Option<Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    name: [u8; LONGEST],
    length: u8,
    key: SessionKey,
}

impl NameCache {
    /// Returns the session that this target named when it was entered; it may have ended.
    fn get(&self, target: &[u8]) -> Option<SessionKey> {
        let known = self.0.get(place(target))?.as_ref()?;
        (known.name.get(..usize::from(known.length)) == Some(target)).then_some(known.key)
    }

    fn note(&mut self, target: &[u8], key: SessionKey) {
        let mut name = [0; LONGEST];
        let (Some(front), Ok(length)) = (name.get_mut(..target.len()), u8::try_from(target.len())) else {
            return;
        };
        front.copy_from_slice(target);
        self.0.resize(PLACES, None);
        if let Some(known) = self.0.get_mut(place(target)) {
            *known = Some(Known { name, length, key });
        }
    }

    /// Clears the cache: a session has another name now.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Returns the entry of a target: by its last bytes, in which numbered names differ.
fn place(target: &[u8]) -> usize {
    let last = target.iter().rev().take(3);
    last.fold(target.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % PLACES
}

impl Hub {
    /// Returns the session that a target names, as [`Hub::find`] does.
    pub(super) fn find_target(&mut self, target: &[u8]) -> Option<SessionKey> {
        // While that session lives and keeps its name, no other can have it.
        if let Some(key) = self.name_cache.get(target).filter(|key| self.sessions.get(*key).is_some()) {
            return Some(key);
        }
        let key = self.find(target)?;
        self.name_cache.note(target, key);
        Some(key)
    }
}
