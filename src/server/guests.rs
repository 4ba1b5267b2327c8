//! Guests: sessions that an untagged SND opens without a REG, named `guest-1`, `guest-2`, ..
//!
//! [`Rules::anonymous`] allows them. A guest session is untagged. It ends as any untagged session does, and when a REG
//! gives its connection, or its address, a session under another name. Registered sessions are opened in `requests`.
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

/// The text before the number.
const PREFIX: &str = "guest-";

/// The most numbers that are tried for one guest: clients that take guest names must not cost the server much work.
const MAX_TRIES: usize = 64;

/// The most numbers that rules may deny before the guest is refused.
const MAX_DENIED: usize = 8;

/// The guest sessions, and the free numbers.
#[derive(Debug, Default)]
pub(super) struct Guests {
    members: PartedMap<SessionKey, ()>,
    /// The highest number that was ever tried.
    highest: u64,
    /// The free numbers below it.
    free: BTreeSet<u64>,
}

impl Guests {
    /// Takes the lowest number that is not known to be taken.
    fn take(&mut self) -> u64 {
        self.free.pop_first().unwrap_or_else(|| {
            self.highest += 1;
            self.highest
        })
    }

    /// Handles the end of any session: its name may free a guest number.
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

    /// Opens a guest session for an unregistered peer.
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

    /// Opens a session under the lowest `guest-N` that `open` accepts.
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
                // The number becomes free when the session with that name ends.
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
        log::debug!("{}: {name} begins as a guest", origin.from);
        let token = self.secrets.token();
        let rate = self.rate_of(origin.listener);
        let opening = Opening { name, form: Form::Untagged, token, nonce: None, path, origin, rate };
        let key = self.hub.open(opening)?;
        self.lookup.enter(&self.hub, key);
        self.hold_host(path, origin.from);
        self.arm(key);
        Ok(key)
    }

    /// Returns the guest session of a connection.
    pub(super) fn guest_on(&self, conn: ConnId) -> Option<SessionKey> {
        self.streams.session(conn).filter(|key| self.is_guest(*key))
    }

    /// Returns the guest session of an address.
    pub(super) fn guest_at(&self, peer: &Peer) -> Option<SessionKey> {
        self.lookup.bare_at(&self.hub, peer).filter(|key| self.is_guest(*key))
    }

    /// Calls [`Server::register`] for a peer that may have a guest session, which ends once the REG is granted.
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

    /// Whether a guest asks to keep its own name.
    fn asks_for_name_of(&self, guest: SessionKey, frame: &Frame<'_>) -> bool {
        let name = match RegArgs::parse(frame.args()) {
            Some(RegArgs::Name(name)) => name,
            Some(RegArgs::Open { name, .. }) if frame.id.is_some() => name,
            _ => return false,
        };
        self.is_name_of(guest, name)
    }
}
