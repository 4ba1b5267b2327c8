//! The store of sessions: each in a slot, found by a [`SessionKey`] of slot and serial that is never reused.
//!
//! Sessions are found by name in [`super::Hub`], by token or address in the server's `lookup`.

use std::num::NonZeroU32;

use super::session::{Session, SessionKey};
use super::slot_set::SlotSet;
use crate::segmented_vec::SegmentedVec;

/// The serial of the first session in a slot; each session after it has the next.
const FIRST: NonZeroU32 = NonZeroU32::MIN;

/// The end of the list of free slots.
const NONE: u32 = u32::MAX;

/// All open sessions. The slot freed last is reused first, with the next serial. A slot whose serials are used up is
/// not reused.
#[derive(Debug)]
pub(super) struct Arena {
    slots: SegmentedVec<Slot>,
    /// The taken slots: a walk through the sessions visits no free slot.
    taken: SlotSet,
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Slot {
    Taken(Session),
    /// The serial of its next session, and the next free slot in the list.
    Free {
        serial: NonZeroU32,
        next: u32,
    },
    /// No serial is left.
    Retired,
}

impl Default for Arena {
    fn default() -> Self {
        Self { slots: SegmentedVec::default(), taken: SlotSet::default(), free: NONE, len: 0 }
    }
}

impl Arena {
    /// Returns the number of sessions.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns an open session.
    pub(super) fn get(&self, key: SessionKey) -> Option<&Session> {
        match self.slots.get(key.slot as usize) {
            Some(Slot::Taken(session)) if session.serial == key.serial => Some(session),
            _ => None,
        }
    }

    /// Returns an open session, to be changed.
    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        match self.slots.get_mut(key.slot as usize) {
            Some(Slot::Taken(session)) if session.serial == key.serial => Some(session),
            _ => None,
        }
    }

    /// Returns the session in a slot.
    pub(super) fn at(&self, slot: u32) -> Option<(SessionKey, &Session)> {
        match self.slots.get(slot as usize) {
            Some(Slot::Taken(session)) => Some((SessionKey { slot, serial: session.serial }, session)),
            _ => None,
        }
    }

    /// Puts a session into a slot; `None` if none is left.
    pub(super) fn insert(&mut self, mut session: Session) -> Option<SessionKey> {
        let fresh = u32::try_from(self.slots.len()).ok();
        let key = match self.slots.get_mut(self.free as usize) {
            Some(slot) => {
                let Slot::Free { serial, next } = *slot else { return None };
                let key = SessionKey { slot: self.free, serial };
                session.serial = serial;
                *slot = Slot::Taken(session);
                self.free = next;
                key
            }
            None => {
                let key = SessionKey { slot: fresh.filter(|slot| *slot != NONE)?, serial: FIRST };
                session.serial = FIRST;
                self.slots.push(Slot::Taken(session));
                key
            }
        };
        self.taken.insert(key.slot);
        self.len += 1;
        Some(key)
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Session> {
        self.get(key)?;
        let slot = self.slots.get_mut(key.slot as usize)?;
        let freed = match key.serial.checked_add(1) {
            Some(serial) => Slot::Free { serial, next: std::mem::replace(&mut self.free, key.slot) },
            None => Slot::Retired,
        };
        let Slot::Taken(session) = std::mem::replace(slot, freed) else { return None };
        self.taken.remove(key.slot);
        self.len -= 1;
        Some(session)
    }

    /// Returns the first session in this slot or a later one.
    pub(super) fn next_from(&self, slot: u32) -> Option<(SessionKey, &Session)> {
        #[cfg(test)]
        crate::work_probe::note(1);
        self.at(self.taken.next_from(slot)?)
    }

    /// Returns all sessions in the order of their slots. Free slots cost nothing.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        let after = |(key, _): &(SessionKey, &Session)| self.next_from(key.slot.checked_add(1)?);
        std::iter::successors(self.next_from(0), after)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Form, Opening, Path};
    use super::*;
    use crate::names::Name;
    use crate::rates::Rate;
    use crate::service::{Origin, Remote};
    use crate::wire::Token;

    fn session(name: &str) -> Session {
        let (name, token) = (Name::parse(name.as_bytes()).unwrap(), Token::from_bits(1));
        let (path, origin) =
            (Path::Stream(None), Origin { listener: 0, from: Remote::Unix { uid: 0, gid: 0 } });
        let form = Form::Untagged;
        Session::new(Opening { name, form, token, nonce: None, path, origin, rate: Rate::UNLIMITED }, false)
    }

    fn name(arena: &Arena, key: SessionKey) -> Option<&str> {
        arena.get(key).map(|session| session.name.as_str())
    }

    #[test]
    fn the_slot_that_was_freed_last_is_used_first_and_never_under_the_same_key() {
        let mut arena = Arena::default();
        let keys = ["a", "b", "c"].map(|name| arena.insert(session(name)).unwrap());
        assert_eq!(keys.map(SessionKey::slot), [0, 1, 2]);
        assert!(arena.remove(keys[0]).is_some() && arena.remove(keys[2]).is_some());
        assert!(arena.remove(keys[0]).is_none() && arena.len() == 1);
        let again = ["d", "e", "f"].map(|name| arena.insert(session(name)).unwrap());
        assert_eq!(again.map(SessionKey::slot), [2, 0, 3]);
        assert_eq!([keys[0], keys[1], keys[2]].map(|key| name(&arena, key)), [None, Some("b"), None]);
        assert_eq!(again.map(|key| name(&arena, key)), [Some("d"), Some("e"), Some("f")]);
        let all: Vec<&str> = arena.iter().map(|(_, session)| session.name.as_str()).collect();
        assert_eq!(all, ["e", "b", "d", "f"]);
    }

    #[test]
    fn a_slot_whose_serials_are_used_up_is_not_used_again() {
        let mut arena = Arena::default();
        let first = arena.insert(session("a")).unwrap();
        if let Some(Slot::Taken(session)) = arena.slots.get_mut(0) {
            session.serial = NonZeroU32::MAX;
        }
        let last = SessionKey { serial: NonZeroU32::MAX, ..first };
        assert!(arena.get(first).is_none() && arena.remove(last).is_some());
        assert_eq!(arena.insert(session("b")).map(SessionKey::slot), Some(1));
        assert!(arena.get(last).is_none() && arena.at(0).is_none());
    }
}
