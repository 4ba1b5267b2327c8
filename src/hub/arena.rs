//! Where sessions are kept: each in a slot, found by a [`SessionKey`] of slot and serial that is never given twice.

use std::num::NonZeroU32;

use super::session::{Session, SessionKey};

/// The serial of who has a slot first; each after it has the next.
const FIRST: NonZeroU32 = NonZeroU32::MIN;

/// The end of the list of free slots.
const NONE: u32 = u32::MAX;

/// All sessions that live. A slot is used again, the one that was freed last first, with the next serial; one whose
/// serials are used up is not.
#[derive(Debug)]
pub(super) struct Arena {
    slots: Vec<Slot>,
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Slot {
    Taken {
        serial: NonZeroU32,
        session: Session,
    },
    /// Who has it next has this serial; behind it in the list is that slot.
    Free {
        serial: NonZeroU32,
        next: u32,
    },
    /// No serial is left.
    Retired,
}

impl Default for Arena {
    fn default() -> Self {
        Self { slots: Vec::new(), free: NONE, len: 0 }
    }
}

impl Arena {
    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A living session.
    pub(super) fn get(&self, key: SessionKey) -> Option<&Session> {
        match self.slots.get(key.slot as usize) {
            Some(Slot::Taken { serial, session }) if *serial == key.serial => Some(session),
            _ => None,
        }
    }

    /// The same, to change.
    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        match self.slots.get_mut(key.slot as usize) {
            Some(Slot::Taken { serial, session }) if *serial == key.serial => Some(session),
            _ => None,
        }
    }

    /// Who has a slot.
    pub(super) fn at(&self, slot: u32) -> Option<(SessionKey, &Session)> {
        match self.slots.get(slot as usize) {
            Some(Slot::Taken { serial, session }) => Some((SessionKey { slot, serial: *serial }, session)),
            _ => None,
        }
    }

    /// Puts a session into a slot; `None` if there is none left.
    pub(super) fn insert(&mut self, session: Session) -> Option<SessionKey> {
        let fresh = u32::try_from(self.slots.len()).ok();
        let key = match self.slots.get_mut(self.free as usize) {
            Some(slot) => {
                let Slot::Free { serial, next } = *slot else { return None };
                let key = SessionKey { slot: self.free, serial };
                *slot = Slot::Taken { serial, session };
                self.free = next;
                key
            }
            None => {
                let key = SessionKey { slot: fresh.filter(|slot| *slot != NONE)?, serial: FIRST };
                self.slots.push(Slot::Taken { serial: FIRST, session });
                key
            }
        };
        self.len += 1;
        Some(key)
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Session> {
        self.get(key)?;
        let slot = self.slots.get_mut(key.slot as usize)?;
        let freed = match key.serial.checked_add(1) {
            Some(serial) => Slot::Free { serial, next: std::mem::replace(&mut self.free, key.slot) },
            None => Slot::Retired,
        };
        let Slot::Taken { session, .. } = std::mem::replace(slot, freed) else { return None };
        self.len -= 1;
        Some(session)
    }

    /// All sessions, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        (0..).zip(&self.slots).filter_map(|(slot, taken)| match taken {
            Slot::Taken { serial, session } => Some((SessionKey { slot, serial: *serial }, session)),
            Slot::Free { .. } | Slot::Retired => None,
        })
    }
}
