//! Applies the access rules to sessions: which names may be registered or resumed, and from where.
//!
//! Rules are matched in [`crate::rules`].

use std::time::Instant;

use super::Server;
use super::session_end::EndReason;
use crate::error::Refusal;
use crate::hub::SessionKey;
use crate::hub::work::cost;
use crate::names::Name;
use crate::rules::{MAX_TRIED_FOR_ALL, Rules, Verdict};
use crate::service::Origin;
use crate::units::counted;
use crate::wire::ByeArgs;

impl Server {
    /// Checks that the rules allow a session of this name from this origin.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameNotAllowed`] when a rule denies it.
    #[doc(hidden)]
    pub fn may_use(&self, name: &Name, origin: &Origin) -> Result<(), Refusal> {
        if self.verdict(name, origin).is_denied() { Err(Refusal::NameNotAllowed) } else { Ok(()) }
    }

    fn verdict(&self, name: &Name, origin: &Origin) -> Verdict<'_> {
        self.count_rules(name.as_str());
        let listener = self.listener(origin.listener).map(|listener| listener.name.as_str());
        self.config.rules.verdict(name, &origin.from, listener)
    }

    /// Calls [`Server::may_use`] for a request, and logs a refusal.
    pub(super) fn admit(&mut self, now: Instant, name: &Name, origin: &Origin) -> Result<(), Refusal> {
        let verdict = self.verdict(name, origin);
        if !verdict.is_denied() {
            return Ok(());
        }
        let line = format!("{}: {name} refused, {}", origin.from, verdict.explain(name, &origin.from));
        match self.refusals.count(now) {
            Some(1) => log::warn!("{line}"),
            Some(times) => log::warn!("{line}; before it, {}", counted(times - 1, "other")),
            None => log::debug!("{line}"),
        }
        Err(Refusal::NameNotAllowed)
    }
}

/// New rules.
impl Server {
    /// Replaces the access rules and returns the old ones.
    ///
    /// From now on no peer registers, resumes or renames against the new rules. Sessions that they deny end, lingering
    /// ones too, and connections that could register under no name close. One hold of the lock does as much of this as
    /// it may; [`Service::timeout`](crate::service::Service::timeout) does the rest. A log line says how many sessions
    /// have ended. Drop the old rules outside a lock: many of them take milliseconds.
    pub fn set_rules(&mut self, now: Instant, rules: Rules) -> Rules {
        self.begin_call();
        let old = std::mem::replace(&mut self.config.rules, rules);
        self.begin_rules_sweep();
        self.sweep(now);
        self.finish_call(now);
        old
    }

    /// Ends a session that the rules deny. Returns whether they do.
    pub(super) fn apply_rules(&mut self, now: Instant, key: SessionKey) -> bool {
        let is_denied = !self.is_allowed(key);
        if is_denied {
            self.end_disallowed(now, key);
        }
        is_denied
    }

    /// Closes the connection in this slot if it has not registered and rules for every name (`*`) deny its address.
    /// Returns whether it did.
    pub(super) fn apply_rules_to_place(&mut self, place: usize) -> bool {
        self.work().add(1, cost::PASSED);
        let unregistered = self.streams.unregistered_at(place);
        let Some((conn, state)) = unregistered else { return false };
        let origin = state.origin();
        let listener = self.listener(origin.listener).map(|listener| listener.name.as_str());
        self.work().add(self.config.rules.len().min(MAX_TRIED_FOR_ALL), cost::RULE);
        let is_denied = self.config.rules.deny_all_names(&origin.from, listener);
        if is_denied {
            self.work().add(1, cost::CONNECTION);
            self.close_with(conn, Refusal::NameNotAllowed.text(), ByeArgs::Ended);
        }
        is_denied
    }

    fn is_allowed(&self, key: SessionKey) -> bool {
        let allowed =
            self.hub.get(key).is_some_and(|session| self.may_use(&session.name, &session.origin()).is_ok());
        allowed && (self.config.rules.anonymous || !self.is_guest(key))
    }

    /// Ends a session at once, and tells its peer why.
    fn end_disallowed(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.hub.get(key) else { return };
        log::debug!("{}: {} is not allowed any more", session.origin().from, session.name);
        self.end_and_tell(now, key, Refusal::NameNotAllowed.text(), EndReason::NotAllowed);
    }
}
