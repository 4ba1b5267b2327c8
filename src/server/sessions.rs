//! The life of a session after it was opened: taken up elsewhere, timed out, ended, and what is said in the log of what
//! it leaves behind. How one is opened is in `requests`.

use std::time::{Duration, Instant};

use super::{COOKIE_LIFETIME, Draining, Owner, Server};
use crate::hub::work::cost;
use crate::hub::{Path, Session, SessionKey};
use crate::service::Origin;
use crate::units::later;

/// How much later gaps are logged that a hold of the lock had no budget for.
const LOG_DELAY: Duration = Duration::from_millis(10);

impl Server {
    pub(super) fn acknowledge(&mut self, now: Instant, key: SessionKey, ranges: &[(u64, u64)]) {
        self.hub.acknowledge(now, key, ranges);
        if self.end_if_parted(now, key) {
            self.make_room_for_goodbye(now);
        }
    }

    /// `path` carries the session from now on; an older connection is told so.
    pub(super) fn take_up(&mut self, now: Instant, key: SessionKey, path: Path, origin: Origin) {
        let older = self.hub.get(key).map(Session::path);
        let rate = self.rate_of(origin.door);
        if let Some(session) = self.hub.get_mut(key).filter(|session| session.origin().door != origin.door) {
            session.set_rate(rate);
        }
        self.hub.take_up(now, key, path, origin);
        if let Some(Path::Stream(Some(conn))) = older
            && older != Some(path)
        {
            self.cut_off(conn);
        }
        self.timers.set(Owner::Session(key), None);
        self.arm(key);
    }

    /// Ends a session and forgets everything that pointed to it, but for its nonce.
    pub(super) fn end_session(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.hub.end(key) else { return };
        self.report_end(now, key, &session);
        self.guests.forget(key, &session.name);
        // Of a server that ends, a deadline of nobody may stand: to look for a million of them takes long.
        if !self.is_draining() {
            self.timers.set(Owner::Session(key), None);
        }
        self.lookup.leave(key, &session);
        match session.path() {
            Path::Stream(conn) => {
                // Streams have no cookies, so nothing that opens a session can come late: its nonce is forgotten.
                if let Some(conn) = conn {
                    self.detach(conn, session.has_said_bye());
                }
            }
            Path::Datagram(_) => {
                if let Some(nonce) = session.nonce() {
                    self.spent.remember(now + COOKIE_LIFETIME, nonce);
                    self.timers.set(Owner::Spent, self.spent.next());
                }
            }
        }
    }

    /// What a session that has ended leaves behind.
    fn report_end(&mut self, now: Instant, key: SessionKey, session: &Session) {
        log::debug!("{}: the session ends", session.name);
        self.missed.report(now, key, &session.name, session.unlogged());
        self.undelivered.report(now, key, &session.name, session.undelivered() as u64);
    }

    pub(super) fn forget_spent(&mut self, now: Instant) {
        while !self.is_hold_spent() && self.spent.forget_next(now) {
            self.work().add(1, cost::NONCE);
        }
        self.timers.set(Owner::Spent, self.spent.next());
    }

    pub(super) fn session_timeout(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.hub.get(key) else { return };
        match session.path() {
            // The timer of a stream session is set while it lingers only.
            Path::Stream(_) => self.end_session(now, key),
            Path::Datagram(path) if path.heard + self.config.idle <= now => {
                log::debug!("{}: nothing heard, session ends", session.name);
                self.end_session(now, key);
            }
            Path::Datagram(_) => {
                self.pushing.push_back(key);
                self.arm_idle(key);
            }
        }
    }

    /// Until its repeat is sent, a session that is due must not be due again at once.
    pub(super) fn arm_idle(&mut self, key: SessionKey) {
        if let Some(Path::Datagram(path)) = self.hub.get(key).map(Session::path) {
            self.timers.set(Owner::Session(key), Some(path.heard + self.config.idle));
        }
    }

    /// The time to drain is over.
    pub(super) fn end_drain(&mut self, now: Instant) {
        self.draining = Some(Draining::Ending);
        // One by one a million would take long. Nothing opens a session any more, so no nonce has to be known.
        (self.lookup, self.spent, self.guests) = Default::default();
        self.sweep(now);
    }

    /// Ends the sessions that are left when the time to drain is over, as far as this hold's budget allows.
    pub(super) fn end_all(&mut self, now: Instant) {
        while !self.is_hold_spent() {
            let Some((key, session)) = self.hub.next_from(0).and_then(|key| Some((key, self.hub.end(key)?)))
            else {
                self.missed.flush(now);
                self.undelivered.flush(now);
                self.draining = Some(Draining::Over);
                return;
            };
            self.report_end(now, key, &session);
            if let Path::Stream(Some(conn)) = session.path() {
                self.detach(conn, session.has_said_bye());
            }
        }
    }

    /// Ends the sessions that read too slowly, as far as this hold's budget allows.
    pub(super) fn end_condemned(&mut self, now: Instant) {
        while !self.is_hold_spent()
            && let Some(key) = self.hub.poll_condemned()
        {
            if let Some(Path::Stream(Some(conn))) = self.hub.get(key).map(Session::path) {
                self.break_stream(conn, "you read too slowly");
            }
            self.end_session(now, key);
        }
    }

    /// When to look again for `more` gaps that could be logged now, as this hold of the lock had no budget for it.
    pub(super) fn late_line(&self, now: Instant, more: bool) -> Option<Instant> {
        let standing = self.log_at.filter(|at| *at > now);
        (more && self.missed.is_due(now)).then(|| standing.unwrap_or_else(|| later(now, LOG_DELAY)))
    }

    /// Says in the log who has missed what, as often as there may be a line about it.
    pub(super) fn note_missed(&mut self, now: Instant) {
        if !self.missed.is_due(now) {
            return;
        }
        while !self.is_hold_spent()
            && let Some((key, count)) = self.hub.poll_missed()
        {
            self.work().add(1, cost::MISSED);
            if let Some(session) = self.hub.get(key) {
                self.missed.report(now, key, &session.name, count);
            }
        }
    }
}
