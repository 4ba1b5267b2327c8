//! Rooms and their members. A room exists while it has members; it has no owner, no topic and no history.
//!
//! Messages to a room are handled in `requests` and `delivery`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::memory::{MemoryLedger, MemoryUse};
use super::session::SessionKey;
use crate::error::Refusal;
use crate::names::{ClashKey, ClashKeys, FoldKey, RoomName};
use crate::parted_map::PartedMap;

/// The cost of a room in [`HubConfig::max_memory`](super::HubConfig::max_memory), beside the texts of its name and its
/// two keys. It covers their three allocations, the room, its set of members, and its entries in two tables that have
/// just grown.
pub const ROOM_COST: usize = 400;

/// The cost of each member of a room: its entry in the set, and the room's in the session's list.
pub const MEMBER_COST: usize = 64;

/// One room.
#[derive(Clone, Debug)]
pub struct Room {
    name: RoomName,
    fold: FoldKey,
    /// Ordered, so that joins and leaves of a large room do not slow down others.
    members: BTreeSet<SessionKey>,
    /// Its cost without its members.
    cost: usize,
}

impl Room {
    /// Returns the name as its first member wrote it.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// Returns its lookup key.
    pub fn fold(&self) -> &FoldKey {
        &self.fold
    }

    /// Returns the members, in the order of their keys.
    pub fn members(&self) -> &BTreeSet<SessionKey> {
        &self.members
    }
}

/// All rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    /// Shared, so that a walk over the members of a room needs no copy of them.
    by_fold: PartedMap<FoldKey, Arc<Room>>,
    by_clash: PartedMap<ClashKey, FoldKey>,
    /// The rooms of line listeners, whose names stay reserved without members.
    reserved: PartedMap<FoldKey, ClashKeys>,
}

impl Rooms {
    /// Returns the room with this key.
    pub fn get(&self, key: &str) -> Option<&Arc<Room>> {
        self.by_fold.get(key)
    }

    /// Reserves a name for its room even without members. Of two look-alikes the first is kept.
    pub fn reserve(&mut self, name: &RoomName) {
        let (fold, clash) = (name.fold(), name.clash_keys());
        if self.claim(&clash, &fold).is_ok() && !self.reserved.contains_key(&fold) {
            self.reserved.insert(fold, clash);
        }
    }

    /// Enters the look-alike keys for the room of that fold.
    fn claim(&mut self, clash: &ClashKeys, fold: &FoldKey) -> Result<(), Refusal> {
        if clash.iter().any(|key| self.by_clash.get(key).is_some_and(|standing| standing != fold)) {
            return Err(Refusal::NameTaken);
        }
        for key in clash.iter() {
            if !self.by_clash.contains_key(key) {
                self.by_clash.insert(key.clone(), fold.clone());
            }
        }
        Ok(())
    }

    /// Removes the keys of a room that ends, except reserved ones.
    fn give_back(&mut self, room: &Room) {
        let reserved = self.reserved.get(&room.fold);
        for key in room.name.clash_keys().iter() {
            if !reserved.is_some_and(|kept| kept.holds(key)) {
                self.by_clash.remove(key);
            }
        }
    }

    /// Puts `member`, which is not in it yet, into the room of that name, whose [`RoomName::fold`] is `fold`. Creates
    /// the room if there is none. Charges `memory`. Returns the key to keep.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] when another room's name is a look-alike; [`Refusal::ServerFull`] when `memory` has no
    /// room.
    pub fn join(
        &mut self,
        name: &RoomName,
        fold: FoldKey,
        member: SessionKey,
        memory: &mut MemoryLedger,
    ) -> Result<FoldKey, Refusal> {
        if !self.by_fold.contains_key(&fold) {
            self.open(name, fold.clone(), memory)?;
        } else if !memory.has_room_for(MEMBER_COST) {
            return Err(Refusal::ServerFull);
        }
        let room = self.by_fold.get_mut(&fold).ok_or(Refusal::NoSuchRoom)?;
        Arc::make_mut(room).members.insert(member);
        memory.charge(MemoryUse::Rooms, MEMBER_COST);
        // Returns the room's key, not `fold`: one allocation serves all members.
        Ok(room.fold.clone())
    }

    /// Creates a room for a first member, if there is memory for both.
    fn open(&mut self, name: &RoomName, fold: FoldKey, memory: &mut MemoryLedger) -> Result<(), Refusal> {
        let clash = name.clash_keys();
        let texts = clash.iter().map(|key| key.as_str().len()).sum::<usize>();
        let cost = ROOM_COST + name.as_str().len() + fold.as_str().len() + texts;
        if !memory.has_room_for(cost + MEMBER_COST) {
            return Err(Refusal::ServerFull);
        }
        self.claim(&clash, &fold)?;
        memory.charge(MemoryUse::Rooms, cost);
        let room = Room { name: name.clone(), fold: fold.clone(), members: BTreeSet::new(), cost };
        self.by_fold.insert(fold, Arc::new(room));
        Ok(())
    }

    /// Takes `member` out of the room with this key. The room ends with its last member.
    pub fn leave(&mut self, key: &FoldKey, member: SessionKey, memory: &mut MemoryLedger) {
        let Some(room) = self.by_fold.get_mut(key) else { return };
        if Arc::make_mut(room).members.remove(&member) {
            memory.release(MemoryUse::Rooms, MEMBER_COST);
        }
        if room.members.is_empty()
            && let Some(room) = self.by_fold.remove(key)
        {
            memory.release(MemoryUse::Rooms, room.cost);
            self.give_back(&room);
        }
    }
}

#[cfg(test)]
impl Rooms {
    /// Returns the total charge that all rooms should have.
    pub(super) fn cost(&self) -> usize {
        self.by_fold.values().map(|room| room.cost + room.members.len() * MEMBER_COST).sum()
    }
}
