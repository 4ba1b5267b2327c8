//! Guests: clients that send messages without having registered, as `guest-1`, `guest-2`, ..
//!
//! A guest is an untagged session that its first SND opens, where [`Rules::anonymous`] allows it. It ends as any untagged
//! session does, and when a REG gives its connection, or its address, a session of another name.
//!
//! [`Rules::anonymous`]: crate::rules::Rules::anonymous

use std::collections::BTreeSet;
use std::time::Instant;

use super::Server;
use super::session_end::EndReason;
use crate::error::Refusal;
use crate::hub::work::cost;
use crate::hub::{Form, Opening, Path, SessionKey};
use crate::names::Name;
use crate::parted_map::PartedMap;
use crate::service::{ConnId, Origin, Peer};
use crate::wire::{Frame, RegArgs};

/// What stands before the number.
const PREFIX: &str = "guest-";

/// As many numbers are looked at for one guest: who takes guests' names must not keep the server busy.
const MAX_TRIES: usize = 64;

/// As many numbers may be denied by rules before a guest is.
const MAX_DENIED: usize = 8;

/// Who is a guest, and which numbers are free.
#[derive(Debug, Default)]
pub(super) struct Guests {
    members: PartedMap<SessionKey, ()>,
    /// The highest number that was ever looked at.
    highest: u64,
    /// Those below it that nobody has.
    free: BTreeSet<u64>,
}

impl Guests {
    /// The lowest number that is not known to be taken.
    fn take(&mut self) -> u64 {
        self.free.pop_first().unwrap_or_else(|| {
            self.highest += 1;
            self.highest
        })
    }

    /// A session has ended, a guest's or not: its name may be one that guests wait for.
    pub(super) fn forget(&mut self, key: SessionKey, name: &Name) {
        self.members.remove(&key);
        let fold = name.fold();
        let Some(digits) = fold.as_str().strip_prefix(PREFIX) else { return };
        let number = digits.parse().ok().filter(|number: &u64| number.to_string() == digits);
        self.free.extend(number.filter(|number| (1..=self.highest).contains(number)));
    }
}

impl Server {
    /// Whether a session is a guest's.
    pub(super) fn is_guest(&self, key: SessionKey) -> bool {
        self.guests.members.get(&key).is_some()
    }

    /// Opens a session for somebody who has not registered.
    pub(super) fn open_guest(
        &mut self,
        now: Instant,
        path: Path,
        origin: Origin,
    ) -> Result<SessionKey, Refusal> {
        if !self.config.rules.anonymous {
            return Err(Refusal::RegisterFirst);
        }
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let key = self.open_numbered(|server, name| server.open_guest_as(now, name, path, origin))?;
        self.guests.members.insert(key, ());
        Ok(key)
    }

    /// Opens a session under the lowest `guest-N` that `open` can have.
    pub(super) fn open_numbered(
        &mut self,
        mut open: impl FnMut(&mut Self, Name) -> Result<SessionKey, Refusal>,
    ) -> Result<SessionKey, Refusal> {
        let (mut unused, mut opened) = (Vec::new(), Err(Refusal::ServerFull));
        for _ in 0..MAX_TRIES {
            self.work().add(1, cost::TRIED);
            let number = self.guests.take();
            let name = Name::parse(format!("{PREFIX}{number}").as_bytes());
            opened = name.map_err(|_| Refusal::NameNotAllowed).and_then(|name| open(self, name));
            match opened {
                // It is free again when the session that has it ends.
                Err(Refusal::NameTaken) => opened = Err(Refusal::ServerFull),
                Err(Refusal::NameNotAllowed) if unused.len() < MAX_DENIED => unused.push(number),
                Err(_) => {
                    unused.push(number);
                    break;
                }
                Ok(_) => break,
            }
        }
        self.guests.free.extend(unused);
        opened
    }

    fn open_guest_as(
        &mut self,
        now: Instant,
        name: Name,
        path: Path,
        origin: Origin,
    ) -> Result<SessionKey, Refusal> {
        if self.hub.is_taken(&name) {
            return Err(Refusal::NameTaken);
        }
        self.admit(now, &name, &origin)?;
        self.has_room(now, path, origin.from)?;
        log::debug!("{}: {name} begins, who has not registered", origin.from);
        let token = self.secrets.token();
        let rate = self.rate_of(origin.door);
        let opening = Opening { name, form: Form::Untagged, token, nonce: None, path, origin, rate };
        let key = self.hub.open(opening)?;
        self.lookup.enter(&self.hub, key);
        self.hold_host(path, origin.from);
        self.arm(key);
        Ok(key)
    }

    /// The guest whom a connection carries.
    pub(super) fn guest_on(&self, conn: ConnId) -> Option<SessionKey> {
        self.conns.get(conn).and_then(|state| state.session).filter(|key| self.is_guest(*key))
    }

    /// The guest at an address.
    pub(super) fn guest_at(&self, peer: &Peer) -> Option<SessionKey> {
        self.lookup.bare_at(&self.hub, peer).filter(|key| self.is_guest(*key))
    }

    /// [`Server::register`], where a guest may have been before: the guest ends once the REG is granted.
    pub(super) fn register_over(
        &mut self,
        now: Instant,
        guest: Option<SessionKey>,
        frame: &Frame<'_>,
        path: Path,
        origin: Origin,
    ) -> Result<(SessionKey, bool), Refusal> {
        let Some(guest) = guest else { return self.register(now, frame, path, origin) };
        if !self.is_draining() && self.asks_for_name_of(guest, frame) {
            self.end_session(now, guest, EndReason::Registered);
            return self.register(now, frame, path, origin);
        }
        let (key, moved) = self.register(now, frame, path, origin)?;
        if moved {
            self.end_session(now, guest, EndReason::Registered);
        }
        Ok((key, moved))
    }

    /// Whether a guest wants to keep the name it was given.
    fn asks_for_name_of(&self, guest: SessionKey, frame: &Frame<'_>) -> bool {
        let name = match RegArgs::parse(frame.args()) {
            Some(RegArgs::Name(name)) => name,
            Some(RegArgs::Open { name, .. }) if frame.id.is_some() => name,
            _ => return false,
        };
        self.is_name_of(guest, name)
    }
}
