//! What the access rules mean for sessions: who may begin one or take one up, and where.
//!
//! The verdicts themselves are in [`crate::hub::rules`].

use std::time::{Duration, Instant};

use super::Server;
use crate::error::Refusal;
use crate::hub::name::Name;
use crate::hub::rules::Verdict;
use crate::service::Origin;

/// How often a refusal is logged as a warning at most: who asks for names all the time must not fill a disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Refusals that are not logged as a warning yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    next_line: Option<Instant>,
    unsaid: u64,
}

impl Refusals {
    /// Whether this one is to be logged as a warning; then how many before it were not.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.next_line.is_some_and(|at| now < at) {
            self.unsaid += 1;
            return None;
        }
        self.next_line = Some(now + PAUSE);
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl Server {
    /// Whether a session of this name may be from there.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameNotAllowed`] when a rule denies it.
    pub fn may_use(&self, name: &Name, origin: &Origin) -> Result<(), Refusal> {
        if self.verdict(name, origin).is_denied() { Err(Refusal::NameNotAllowed) } else { Ok(()) }
    }

    fn verdict(&self, name: &Name, origin: &Origin) -> Verdict<'_> {
        let door = self.door(origin.door).map(|door| door.name.as_str());
        self.config.rules.verdict(name, &origin.from, door)
    }

    /// [`Server::may_use`] for somebody who asks: a refusal is logged.
    pub(super) fn admit(&mut self, now: Instant, name: &Name, origin: &Origin) -> Result<(), Refusal> {
        let verdict = self.verdict(name, origin);
        if !verdict.is_denied() {
            return Ok(());
        }
        let line = format!("{}: {name} refused, {}", origin.from, verdict.explain(name, &origin.from));
        match self.refusals.count(now) {
            Some(0) => log::warn!("{line}"),
            Some(unsaid) => log::warn!("{line}; before it, {unsaid} others"),
            None => log::debug!("{line}"),
        }
        Err(Refusal::NameNotAllowed)
    }
}
