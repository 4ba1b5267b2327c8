//! The life of an open session: resumed over another path, timed out, drained, reported as a slow consumer.
//!
//! Sessions open in `requests` and end in `session_end`.

use std::time::Instant;

use super::session_end::EndReason;
use super::{Owner, Server};
use crate::hub::work::cost;
use crate::hub::{Form, Path, Session, SessionKey};
use crate::service::Origin;

impl Server {
    pub(super) fn acknowledge(&mut self, now: Instant, key: SessionKey, ranges: &[(u64, u64)]) {
        self.hub.acknowledge(now, key, ranges);
        if self.end_if_bye_done(now, key) {
            self.note_bye_acked(now);
        }
    }

    /// Lets `path` carry the session, and closes the older connection with a notice.
    pub(super) fn take_up(&mut self, now: Instant, key: SessionKey, path: Path, origin: Origin) {
        let older = self.hub.get(key).map(Session::path);
        let rate = self.rate_of(origin.listener);
        if let Some(session) =
            self.hub.get_mut(key).filter(|session| session.origin().listener != origin.listener)
        {
            session.set_rate(rate);
        }
        if let Some(session) = self.hub.get(key) {
            self.release_host(session.path(), session.origin().from);
        }
        self.hub.take_up(now, key, path, origin);
        self.hold_host(path, origin.from);
        if let Some(Path::Stream(Some(conn))) = older
            && older != Some(path)
        {
            if let Some(session) = self.hub.get(key) {
                log::debug!("{}: taken up from {}", session.name, origin.from);
            }
            self.close_superseded(conn);
        }
        self.timers.set(Owner::Session(key), None);
        self.arm(key);
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
            // The timer of a stream session is set only while it lingers.
            Path::Stream(_) => self.end_session(now, key, EndReason::LingerOver),
            Path::Datagram(path) if path.heard + self.config.idle <= now => {
                // A tagged client learns it from the 401 to its next request, and registers anew.
                if session.form != Form::Tagged {
                    self.tell_end(key, None);
                }
                self.end_session(now, key, EndReason::Idle);
            }
            Path::Datagram(_) => {
                self.pushing.push_back(key);
                self.arm_idle(key);
            }
        }
    }

    /// Sets the timer of a session to its idle time only, so that it does not fire again before the retransmit is
    /// sent.
    pub(super) fn arm_idle(&mut self, key: SessionKey) {
        if let Some(Path::Datagram(path)) = self.hub.get(key).map(Session::path) {
            self.timers.set(Owner::Session(key), Some(path.heard + self.config.idle));
        }
    }

    /// Ends slow consumers under `--slow disconnect`, as far as this hold's budget allows.
    pub(super) fn end_slow_consumers(&mut self, now: Instant) {
        while !self.is_hold_spent()
            && let Some(key) = self.hub.poll_slow_consumer()
        {
            self.end_and_tell(now, key, "you read too slowly", EndReason::SlowConsumer);
        }
    }
}
