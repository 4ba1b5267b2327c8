//! What a session may ask of the hub: to send, to join and leave rooms, and who is there.

use std::sync::Arc;

use super::name::{FoldKey, Name, RoomName};
use super::queue::Push;
use super::{Hub, MAX_ROOMS, Session, SessionKey};
use crate::error::Refusal;
use crate::wire::encode_rcv;

impl Hub {
    /// Queues `body` for the client, or for all other members of the `#room`, that `target` names.
    ///
    /// # Errors
    ///
    /// What was refused has not happened: no such client or room, too long for a direct receiver, or no room for it.
    pub fn send(&mut self, from: SessionKey, target: &[u8], body: &[u8]) -> Result<(), Refusal> {
        if target.first() == Some(&b'#') {
            self.send_to_room(from, target, body)?;
        } else {
            self.send_direct(from, target, body)?;
        }
        self.stats.messages += 1;
        Ok(())
    }

    fn send_direct(&mut self, from: SessionKey, target: &[u8], body: &[u8]) -> Result<(), Refusal> {
        let to = FoldKey::with(target, |key| self.by_fold.get(key).copied())
            .flatten()
            .ok_or(Refusal::NoSuchClient)?;
        let sender = self.get(from).ok_or(Refusal::RegisterFirst)?;
        let message = encode_message(sender.name.as_str().as_bytes(), body);
        if !self.get(to).is_some_and(|session| message.fits(session)) {
            return Err(Refusal::TooLong);
        }
        if !self.has_room(to, &message.push) {
            return Err(Refusal::QueueFull);
        }
        self.enqueue(to, message.push);
        Ok(())
    }

    fn send_to_room(&mut self, from: SessionKey, target: &[u8], body: &[u8]) -> Result<(), Refusal> {
        let sender = self.get(from).ok_or(Refusal::RegisterFirst)?;
        let room = FoldKey::with(target, |key| self.rooms.get(key)).flatten();
        let room = room.filter(|room| room.members().contains(&from)).ok_or(Refusal::NoSuchRoom)?;
        let from_room = format!("{}{}", sender.name.as_str(), room.name().as_str());
        let message = encode_message(from_room.as_bytes(), body);
        let others: Vec<SessionKey> =
            room.members().iter().copied().filter(|member| *member != from).collect();
        for member in others {
            let fits = self.get(member).is_some_and(|session| message.fits(session));
            if fits && self.has_room(member, &message.push) {
                self.enqueue(member, message.push.clone());
            } else {
                self.drop_into_gap(member);
            }
        }
        Ok(())
    }

    /// Puts a session into a room, which is made if there is none. To be in it already is no error.
    ///
    /// # Errors
    ///
    /// Not a room's name, a name that looks like another room's, or [`MAX_ROOMS`] reached.
    pub fn join(&mut self, key: SessionKey, room: &[u8]) -> Result<(), Refusal> {
        let name = RoomName::parse(room).map_err(|_| Refusal::NotARoomName)?;
        let session = self.get(key).ok_or(Refusal::RegisterFirst)?;
        if session.rooms.contains(&name.fold()) {
            return Ok(());
        }
        if session.rooms.len() >= MAX_ROOMS {
            return Err(Refusal::ServerFull);
        }
        self.rooms.join(&name, key)?;
        self.get_mut(key).ok_or(Refusal::RegisterFirst)?.rooms.push(name.fold());
        Ok(())
    }

    /// Takes a session out of a room. What is queued from that room stays queued.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchRoom`] when it is not in a room of that name.
    pub fn leave(&mut self, key: SessionKey, room: &[u8]) -> Result<(), Refusal> {
        let fold = FoldKey::of(room).ok_or(Refusal::NoSuchRoom)?;
        let session = self.get_mut(key).ok_or(Refusal::RegisterFirst)?;
        let at = session.rooms.iter().position(|joined| *joined == fold).ok_or(Refusal::NoSuchRoom)?;
        let joined = session.rooms.remove(at);
        self.rooms.leave(&joined, key);
        Ok(())
    }

    /// The names of all sessions, or of a room's members, space-separated in at most `limit` bytes; what does not fit
    /// is counted in a last word `+n`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchRoom`] when nobody is in a room of that name.
    pub fn list(&self, room: Option<&[u8]>, limit: usize) -> Result<Vec<u8>, Refusal> {
        let Some(room) = room else {
            return Ok(list_within(self.sessions.iter().map(|(_, (_, session))| &session.name), limit));
        };
        let room = FoldKey::with(room, |key| self.rooms.get(key)).flatten().ok_or(Refusal::NoSuchRoom)?;
        let names = room.members().iter().filter_map(|key| self.get(*key)).map(|session| &session.name);
        Ok(list_within(names, limit))
    }
}

/// A message, encoded once for all its receivers.
struct Message {
    push: Push,
    frame_len: usize,
    payload_len: usize,
}

impl Message {
    fn fits(&self, session: &Session) -> bool {
        session.fits(self.frame_len, self.payload_len)
    }
}

fn encode_message(sender: &[u8], body: &[u8]) -> Message {
    let mut frame = Vec::with_capacity(sender.len() + body.len() + 32);
    encode_rcv(sender, body, &mut frame);
    // " sender 0001 body"
    let payload_len = sender.len() + body.len() + 7;
    Message { frame_len: frame.len(), payload_len, push: Push::Message(Arc::new(frame)) }
}

/// Joins names with spaces within `limit` bytes; the names that do not fit are counted in a last word `+n`.
fn list_within<'a>(names: impl Iterator<Item = &'a Name>, limit: usize) -> Vec<u8> {
    let names: Vec<&str> = names.map(Name::as_str).collect();
    let whole = names.iter().map(|name| name.len() + 1).sum::<usize>();
    if whole <= limit + 1 {
        return names.join(" ").into_bytes();
    }
    let rest = |listed: usize| format!("+{}", names.len() - listed);
    let mut list = String::new();
    let mut listed = 0;
    for name in &names {
        if list.len() + name.len() + 1 + rest(listed).len() > limit {
            break;
        }
        list.push_str(name);
        list.push(' ');
        listed += 1;
    }
    (list + &rest(listed)).into_bytes()
}
