//! Rooms: who is in which. A room exists while it has members; it has no owner, no topic and no history.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::name::{ClashKey, ClashKeys, FoldKey, RoomName};
use super::session::SessionKey;
use crate::error::Refusal;

/// One room.
#[derive(Clone, Debug)]
pub struct Room {
    name: RoomName,
    fold: FoldKey,
    /// Ordered, so that who joins and leaves a large room all the time costs others no time.
    members: BTreeSet<SessionKey>,
}

impl Room {
    /// The name as its first member wrote it.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// The key that it is found by.
    pub fn fold(&self) -> &FoldKey {
        &self.fold
    }

    /// The members, in the order of their keys.
    pub fn members(&self) -> &BTreeSet<SessionKey> {
        &self.members
    }
}

/// All rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    /// Shared with who goes through the members of one, so that they need not be copied for it.
    by_fold: HashMap<FoldKey, Arc<Room>>,
    by_clash: HashMap<ClashKey, FoldKey>,
    /// The rooms of doors, whose names stay theirs when nobody is in them.
    reserved: HashMap<FoldKey, ClashKeys>,
}

impl Rooms {
    /// The room with this key.
    pub fn get(&self, key: &str) -> Option<&Arc<Room>> {
        self.by_fold.get(key)
    }

    /// Keeps a name for its room even while nobody is in it. Of two that look alike the first is kept.
    pub fn reserve(&mut self, name: &RoomName) {
        let (fold, clash) = (name.fold(), name.clash_keys());
        if self.claim(&clash, &fold).is_ok() {
            self.reserved.entry(fold).or_insert(clash);
        }
    }

    /// Keeps these keys for the room of that fold.
    fn claim(&mut self, clash: &ClashKeys, fold: &FoldKey) -> Result<(), Refusal> {
        if clash.iter().any(|key| self.by_clash.get(key).is_some_and(|standing| standing != fold)) {
            return Err(Refusal::NameTaken);
        }
        for key in clash.iter() {
            self.by_clash.entry(key.clone()).or_insert_with(|| fold.clone());
        }
        Ok(())
    }

    /// Gives back the keys of a room that ends, but for those that are kept for it.
    fn give_back(&mut self, room: &Room) {
        let reserved = self.reserved.get(&room.fold);
        for key in room.name.clash_keys().iter() {
            if !reserved.is_some_and(|kept| kept.holds(key)) {
                self.by_clash.remove(key);
            }
        }
    }

    /// Puts `member`, who is not in it yet, into the room of that name, and makes the room if there is none.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] when another room's name looks the same.
    pub fn join(&mut self, name: &RoomName, member: SessionKey) -> Result<(), Refusal> {
        let fold = name.fold();
        if !self.by_fold.contains_key(&fold) {
            self.claim(&name.clash_keys(), &fold)?;
        }
        let room = self
            .by_fold
            .entry(fold.clone())
            .or_insert_with(|| Arc::new(Room { name: name.clone(), fold, members: BTreeSet::new() }));
        Arc::make_mut(room).members.insert(member);
        Ok(())
    }

    /// Takes `member` out of the room with this key; the last one to leave ends the room.
    pub fn leave(&mut self, key: &FoldKey, member: SessionKey) {
        let Some(room) = self.by_fold.get_mut(key) else { return };
        Arc::make_mut(room).members.remove(&member);
        if room.members.is_empty()
            && let Some(room) = self.by_fold.remove(key)
        {
            self.give_back(&room);
        }
    }
}
