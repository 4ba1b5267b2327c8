//! The requests of sessions to the hub: send, join, leave, list, and the answers cached in the dedup window.
//!
//! Messages are queued in `delivery`, the set of rooms is in `rooms`; the wire form of requests is in
//! [`crate::server`].

use super::delivery::Misfit;
use super::memory::MemoryUse;
use super::message::{Body, Cost, Message};
use super::push::Push;
use super::work::{WorkMeter, cost};
use super::{Hub, MAX_ROOMS, SessionKey};
use crate::error::Refusal;
use crate::names::{FoldKey, Name, RoomName, is_room};
use crate::wire::Id;

impl Hub {
    /// Queues `body` for the client, or for all other members of the `#room`, that `target` names.
    ///
    /// # Errors
    ///
    /// The message was not queued: no such client or room, too long for a direct receiver, or no room for it.
    pub fn send<'a>(
        &mut self,
        from: SessionKey,
        target: &[u8],
        body: impl Into<Body<'a>>,
    ) -> Result<(), Refusal> {
        if is_room(target) {
            self.send_to_room(from, target, body.into())?;
        } else {
            self.send_direct(from, target, body.into())?;
        }
        self.stats.messages += 1;
        Ok(())
    }

    fn send_direct(&mut self, from: SessionKey, target: &[u8], body: Body<'_>) -> Result<(), Refusal> {
        let to = self.find_target(target).ok_or(Refusal::NoSuchClient)?;
        let sender = self.sessions.get(from).ok_or(Refusal::RegisterFirst)?;
        let message = Message::new(&sender.name, None, body, std::mem::take(&mut self.buffer));
        let echo =
            sender.echo.then(|| self.get(to).map(|receiver| message.echo_to(&receiver.name))).flatten();
        let sent = self.deliver(to, &message);
        self.buffer = message.into_buffer();
        sent.map_err(|misfit| match misfit {
            Misfit::Gone => Refusal::NoSuchClient,
            Misfit::TooLong => Refusal::TooLong,
            Misfit::NoRoom => Refusal::QueueFull,
        })?;
        if let Some(echo) = echo {
            self.offer(from, echo);
        }
        Ok(())
    }

    fn send_to_room(&mut self, from: SessionKey, target: &[u8], body: Body<'_>) -> Result<(), Refusal> {
        let sender = self.sessions.get(from).ok_or(Refusal::RegisterFirst)?;
        let room = self.with_fold(target, |key| self.rooms.get(key)).flatten();
        let room = room.filter(|room| room.members().contains(&from)).ok_or(Refusal::NoSuchRoom)?.clone();
        let message = Message::new(&sender.name, Some(&room), body, std::mem::take(&mut self.buffer));
        let left_out = (!sender.echo).then_some(from);
        self.work.add(room.members().len(), cost::MEMBER);
        for member in room.members().iter().copied().filter(|member| Some(*member) != left_out) {
            self.deliver_or_drop(member, &message);
        }
        self.buffer = message.into_buffer();
        Ok(())
    }

    /// Queues a message for a member of a room. One that is too long for it becomes part of its gap.
    fn deliver_or_drop(&mut self, to: SessionKey, message: &Message<'_>) {
        match self.deliver(to, message) {
            Ok(()) => {}
            Err(Misfit::NoRoom) => {
                let Some(cost) = self.cost_of(to, message) else { return };
                if self.overflow(to, cost)
                    && let Err(_) = self.deliver(to, message)
                {
                    self.drop_into_gap(to);
                }
            }
            Err(Misfit::TooLong | Misfit::Gone) => self.drop_into_gap(to),
        }
    }

    /// Does the same for a push to one receiver alone.
    fn offer(&mut self, to: SessionKey, push: Push) {
        let cost = Cost::from(&push);
        if self.has_room(to, cost) || self.overflow(to, cost) {
            self.enqueue(to, push);
        }
    }

    /// Puts a session into a room, which is created if there is none. Joining a room twice is not an error.
    ///
    /// # Errors
    ///
    /// Not a room's name, a look-alike of another room's name, [`MAX_ROOMS`] reached, or no memory for it within
    /// [`HubConfig::max_memory`](super::HubConfig::max_memory).
    pub fn join(&mut self, key: SessionKey, room: &[u8]) -> Result<(), Refusal> {
        self.work.add(1, cost::ROOM);
        // Parsing, the lookup key and the look-alike keys, here and in `rooms`.
        self.work.add_name(room, 8);
        let name = RoomName::parse(room).map_err(|_| Refusal::NotARoomName)?;
        let session = self.sessions.get_mut(key).ok_or(Refusal::RegisterFirst)?;
        let fold = name.fold();
        if session.rooms().contains(&fold) {
            return Ok(());
        }
        if session.rooms().len() >= MAX_ROOMS {
            return Err(Refusal::ServerFull);
        }
        let fold = self.rooms.join(&name, fold, key, &mut self.memory)?;
        session.change_rooms(|rooms| rooms.push(fold));
        Ok(())
    }

    /// Takes a session out of a room. What is queued from that room stays queued.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchRoom`] when it is not in a room of that name.
    pub fn leave(&mut self, key: SessionKey, room: &[u8]) -> Result<(), Refusal> {
        self.work.add(1, cost::ROOM);
        self.work.add_name(room, 3);
        let fold = self.fold_of(room).ok_or(Refusal::NoSuchRoom)?;
        let session = self.get_mut(key).ok_or(Refusal::RegisterFirst)?;
        let at = session.rooms().iter().position(|joined| *joined == fold).ok_or(Refusal::NoSuchRoom)?;
        session.change_rooms(|rooms| drop(rooms.remove(at)));
        self.rooms.leave(&fold, key, &mut self.memory);
        self.mark_resumable(key, true);
        Ok(())
    }

    /// Returns the name of an existing room, as its first member wrote it.
    pub fn room_name(&self, room: &FoldKey) -> Option<&RoomName> {
        self.rooms.get(room.as_str()).map(|room| room.name())
    }

    /// Reserves a room's name, with or without members: no look-alike may be created.
    pub fn reserve_room(&mut self, name: &RoomName) {
        self.rooms.reserve(name);
    }

    /// Reserves an entry in a session's dedup window for a new request, before that is executed. Without memory for a
    /// wider window, the oldest entries are dropped. Returns whether there is one; if not, the request must not be
    /// executed, and [`Session::replies`](super::Session::replies) calls it stale.
    pub fn prepare_reply(&mut self, key: SessionKey, id: Id) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let growth = session.replies().growth_for(id);
        if growth == 0 {
            return true;
        }
        let replies = session.replies_mut();
        if !self.memory.has_room_for(growth) {
            return replies.narrow_for(id);
        }
        replies.widen_for(id);
        self.memory.charge(MemoryUse::Windows, growth);
        true
    }

    /// Stores the answer to an executed request.
    pub fn remember(&mut self, key: SessionKey, id: Id, hash: u32, answer: u8) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let replies = session.replies_mut();
        let before = replies.cost();
        replies.record(id, hash, answer);
        self.memory.recharge(MemoryUse::Windows, before, replies.cost());
    }

    /// Returns the names of all sessions, or of a room's members, space-separated in at most `limit` bytes. Names that
    /// do not fit are counted in a last word `+n`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchRoom`] when the room has no members.
    pub fn list(&self, room: Option<&[u8]>, limit: usize) -> Result<Vec<u8>, Refusal> {
        self.work.add(1, cost::LIST);
        let Some(room) = room else {
            let names = self.sessions.iter().map(|(_, session)| &session.name);
            return Ok(list_within(&self.work, names, self.sessions.len(), limit));
        };
        let room = self.with_fold(room, |key| self.rooms.get(key)).flatten().ok_or(Refusal::NoSuchRoom)?;
        let names = room.members().iter().filter_map(|key| self.get(*key)).map(|session| &session.name);
        Ok(list_within(&self.work, names, room.members().len(), limit))
    }
}

/// Joins `total` names with spaces within `limit` bytes; the names that do not fit are counted in a last word `+n`.
///
/// Examines no more names than fit: the cost depends on the length of the answer, not on the number of sessions.
fn list_within<'a>(
    work: &WorkMeter,
    names: impl Iterator<Item = &'a Name>,
    total: usize,
    limit: usize,
) -> Vec<u8> {
    let mut list = Vec::new();
    // The length of the list, and the number of its names, that leave room for the last word.
    let mut cut = (0, 0);
    // After the last name there is nothing to search for.
    for (place, name) in work.walk(cost::LISTED, names.take(total)).enumerate() {
        let separator: &[u8] = if place == 0 { b"" } else { b" " };
        let name = name.as_str().as_bytes();
        if list.len() + separator.len() + name.len() > limit {
            let (length, listed) = cut;
            list.truncate(length);
            let separator = if listed == 0 { "" } else { " " };
            list.extend_from_slice(format!("{separator}+{}", total - listed).as_bytes());
            return list;
        }
        list.extend_from_slice(separator);
        list.extend_from_slice(name);
        if list.len() + " +".len() + digits(total - place - 1) <= limit {
            cut = (list.len(), place + 1);
        }
    }
    list
}

/// Returns the number of decimal digits of `count`.
fn digits(count: usize) -> usize {
    count.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str], limit: usize) -> String {
        let names: Vec<Name> = names.iter().map(|name| Name::parse(name.as_bytes()).unwrap()).collect();
        String::from_utf8(list_within(&WorkMeter::default(), names.iter(), names.len(), limit)).unwrap()
    }

    #[test]
    fn names_are_listed_as_far_as_they_fit_and_the_others_counted() {
        let names = ["ada", "bob", "cyd"];
        for (limit, list) in [
            (100, "ada bob cyd"),
            (11, "ada bob cyd"),
            (10, "ada bob +1"),
            (9, "ada +2"),
            (6, "ada +2"),
            (5, "+3"),
            (0, "+3"),
        ] {
            assert_eq!(listed(&names, limit), list, "{limit}");
        }
        assert_eq!(listed(&[], 10), "");
        let eleven = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        assert_eq!(listed(&eleven, 5), "a +10");
        assert_eq!(listed(&eleven, 6), "a b +9");
    }

    #[test]
    fn a_list_looks_at_no_more_names_than_fit() {
        let name = Name::parse(b"ada_love").unwrap();
        let work = WorkMeter::default();
        let names = std::iter::repeat_n(&name, 1_000_000);
        assert!(list_within(&work, names, 1_000_000, 99).ends_with(b" +999990"));
        assert!((10..20).contains(&work.units()), "{}", work.units());
    }
}
