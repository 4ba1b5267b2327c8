//! The names of the living sessions: found by name, or by a look-alike.
//!
//! It keeps no names, only the slots of sessions; a lookup compares with the names in the sessions. Rooms have an index
//! of their own, in `rooms`.

use super::arena::Arena;
use crate::handle_index::CachedHashIndex;
use crate::names::{ClashKeys, Name};

/// Sessions by their names.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    /// Slots by the fold of their names, ..
    by_fold: CachedHashIndex,
    /// .. and by the look-alike keys of these.
    by_clash: CachedHashIndex,
    /// Names are not entered and not found any more.
    is_closed: bool,
}

impl NameIndex {
    /// Whether [`NameIndex::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Forgets all names, for ever. Freeing each name is most of the work of ending a session, and would be for nothing
    /// in a shutdown.
    pub(super) fn close(&mut self) {
        *self = Self { is_closed: true, ..Self::default() };
    }

    /// Enters the session in a slot.
    pub(super) fn insert(&mut self, slot: u32, name: &Name, clash: &ClashKeys) {
        self.by_fold.insert(name.fold().as_str(), slot);
        clash.iter().for_each(|clash| self.by_clash.insert(clash, slot));
    }

    /// Removes the session in a slot.
    pub(super) fn remove(&mut self, slot: u32, name: &Name) {
        name.with_fold(|fold| self.by_fold.remove(fold, slot));
        name.clash_keys().iter().for_each(|clash| self.by_clash.remove(clash, slot));
    }

    /// Returns the slot of the session whose name has this fold.
    pub(super) fn find(&self, sessions: &Arena, fold: &str) -> Option<u32> {
        let is = |slot| {
            sessions.at(slot).is_some_and(|(_, session)| session.name.with_fold(|other| other == fold))
        };
        self.by_fold.find(fold, is)
    }

    /// Returns the slot of a session that has the same name or a look-alike, other than `except`.
    pub(super) fn find_like(&self, sessions: &Arena, clash: &ClashKeys, except: Option<u32>) -> Option<u32> {
        clash.iter().find_map(|key| {
            let is = |slot| {
                Some(slot) != except
                    && sessions.at(slot).is_some_and(|(_, session)| session.name.clash_keys().holds(key))
            };
            self.by_clash.find(key, is)
        })
    }
}
