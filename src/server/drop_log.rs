//! Logs the messages that clients lost: at most one line a second per kind of loss, which counts the losses since the
//! last line.
//!
//! The loss itself is decided in [`crate::hub`] (gaps) and `session_end` (undelivered).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Owner, Server};
use crate::hub::work::cost;
use crate::hub::{Session, SessionKey};
use crate::names::Name;
use crate::units::{counted, later};

/// The least time between two lines: neither repeated sessions nor slow consumers may fill a disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Delay of the report of gaps that exceeded the budget of a hold.
const DEFERRED: Duration = Duration::from_millis(10);

/// The cause of lost messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// A session ended and left them in its queue.
    Undelivered,
    /// A room member was a slow consumer.
    Gap,
}

/// The losses of one kind that are not logged yet.
#[derive(Debug)]
pub(super) struct DropLog {
    loss: Loss,
    /// No line before this.
    pause: Option<Instant>,
    /// The client that the next line names.
    latest: Option<(SessionKey, Name)>,
    /// Messages lost, by client.
    clients: BTreeMap<SessionKey, u64>,
    /// The sum over all clients.
    messages: u64,
}

impl DropLog {
    pub(super) fn new(loss: Loss) -> Self {
        Self { loss, pause: None, latest: None, clients: BTreeMap::new(), messages: 0 }
    }

    /// Records the loss of `messages` messages by a client.
    pub(super) fn report(&mut self, now: Instant, key: SessionKey, name: &Name, messages: u64) {
        if messages == 0 {
            return;
        }
        *self.clients.entry(key).or_default() += messages;
        self.messages += messages;
        if self.latest.as_ref().is_none_or(|(latest, _)| *latest != key) {
            self.latest = Some((key, name.clone()));
        }
        self.write(now);
    }

    /// Whether a line waits to be written.
    pub(super) fn has_line(&self) -> bool {
        self.latest.is_some()
    }

    /// Returns when [`DropLog::write`] has a line to write; `None` means never. `more` says that there will be more to
    /// report.
    pub(super) fn next_line(&self, more: bool) -> Option<Instant> {
        (more || self.has_line()).then_some(self.pause).flatten()
    }

    /// Whether a line may be written.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.pause.is_none_or(|until| until <= now)
    }

    /// Writes the next line, if there is one and it is due.
    pub(super) fn write(&mut self, now: Instant) {
        if self.is_due(now) {
            self.flush(now);
        }
    }

    /// Writes the next line now, if there is one.
    pub(super) fn flush(&mut self, now: Instant) {
        if let Some(line) = self.take_line() {
            log::warn!("{line}");
            self.pause = Some(now + PAUSE);
        }
    }

    fn take_line(&mut self) -> Option<String> {
        let (key, name) = self.latest.take()?;
        let own = self.clients.remove(&key)?;
        let others = std::mem::take(&mut self.clients);
        let before = (others.len() as u64, std::mem::take(&mut self.messages) - own);
        Some(line(self.loss, &name, own, before))
    }
}

/// The logs of both kinds of loss.
#[derive(Debug)]
pub(super) struct DropLogs {
    undelivered: DropLog,
    gaps: DropLog,
    /// Due time of the next line of either.
    at: Option<Instant>,
}

impl Default for DropLogs {
    fn default() -> Self {
        Self { undelivered: DropLog::new(Loss::Undelivered), gaps: DropLog::new(Loss::Gap), at: None }
    }
}

impl DropLogs {
    /// Whether a line waits, or a deadline is set for one.
    pub(super) fn is_active(&self) -> bool {
        self.at.is_some() || self.undelivered.has_line() || self.gaps.has_line()
    }

    /// Writes all lines now.
    pub(super) fn flush(&mut self, now: Instant) {
        self.gaps.flush(now);
        self.undelivered.flush(now);
    }

    /// Sets the deadline of the next line, and returns it if it has changed. `has_more` says that the hub has gaps which
    /// are not reported yet.
    fn next_line(&mut self, now: Instant, has_more: bool) -> Option<Option<Instant>> {
        let lines =
            [self.undelivered.next_line(false), self.gaps.next_line(has_more), self.deferred(now, has_more)];
        let at = lines.into_iter().flatten().min();
        (std::mem::replace(&mut self.at, at) != at).then_some(at)
    }

    /// Returns when to report gaps that are due now, but for which this hold has no budget.
    fn deferred(&self, now: Instant, has_more: bool) -> Option<Instant> {
        let standing = self.at.filter(|at| *at > now);
        (has_more && self.gaps.is_due(now)).then(|| standing.unwrap_or_else(|| later(now, DEFERRED)))
    }
}

impl Server {
    /// Records what a session that ends had missed, and leaves undelivered.
    pub(super) fn log_undelivered(&mut self, now: Instant, key: SessionKey, session: &Session) {
        self.drop_logs.gaps.report(now, key, &session.name, session.unlogged());
        self.drop_logs.undelivered.report(now, key, &session.name, session.undelivered() as u64);
    }

    /// Takes the gaps of slow consumers from the hub, as far as this hold's budget allows, if a line about them is due.
    pub(super) fn log_gaps(&mut self, now: Instant) {
        if !self.drop_logs.gaps.is_due(now) {
            return;
        }
        while !self.is_hold_spent()
            && let Some((key, count)) = self.hub.poll_gap()
        {
            self.work().add(1, cost::GAP_LOGGED);
            if let Some(session) = self.hub.get(key) {
                self.drop_logs.gaps.report(now, key, &session.name, count);
            }
        }
    }

    /// Writes the lines that are due.
    pub(super) fn log_timeout(&mut self, now: Instant) {
        self.drop_logs.at = None;
        self.drop_logs.undelivered.write(now);
        self.log_gaps(now);
        self.drop_logs.gaps.write(now);
    }

    /// Sets the timer of the next line.
    pub(super) fn arm_log(&mut self, now: Instant) {
        if let Some(at) = self.drop_logs.next_line(now, self.hub.has_gap()) {
            self.timers.set(Owner::Log, at);
        }
    }
}

/// Formats a line. `before` is the number of other clients, and of their messages, that the line also counts.
fn line(loss: Loss, name: &Name, own: u64, before: (u64, u64)) -> String {
    let (clients, theirs) = before;
    let own = counted(own, "message");
    let (what, others) = match loss {
        Loss::Undelivered => (
            format!("{name} is gone, {own} for it undelivered"),
            format!("{} left {theirs} behind", counted(clients, "other session")),
        ),
        Loss::Gap => (
            format!("slow consumer {name}: {own} dropped"),
            format!("{} lost {theirs}", counted(clients, "other client")),
        ),
    };
    if clients == 0 { what } else { format!("{what}; before it, {others}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn losses_within_a_second_are_counted_in_the_next_line() {
        let now = Instant::now();
        let mut log = DropLog::new(Loss::Gap);
        log.report(now, SessionKey::nth(0), &name("ada"), 0);
        assert_eq!((log.pause, log.next_line(false)), (None, None));
        log.report(now, SessionKey::nth(0), &name("ada"), 2);
        assert_eq!(
            (log.pause, log.next_line(false)),
            (Some(now + PAUSE), None),
            "the first line is written at once"
        );
        for n in [1, 2, 3, 1, 4, 4] {
            log.report(now + PAUSE / 2, SessionKey::nth(n), &name(&format!("ada-{n}")), 6);
        }
        assert_eq!(log.next_line(false), Some(now + PAUSE));
        log.write(now + PAUSE / 2);
        assert_eq!(log.next_line(false), Some(now + PAUSE), "not before its time");
        let line = log.take_line();
        assert_eq!(
            line.as_deref(),
            Some("slow consumer ada-4: 12 messages dropped; before it, 3 other clients lost 24")
        );
        log.write(now + PAUSE);
        assert_eq!(log.next_line(false), None);
    }

    #[test]
    fn a_line_counts_in_words() {
        let text = |loss, own, before| line(loss, &name("frida"), own, before);
        assert_eq!(text(Loss::Gap, 1, (0, 0)), "slow consumer frida: 1 message dropped");
        assert_eq!(
            text(Loss::Gap, 12, (1, 40)),
            "slow consumer frida: 12 messages dropped; before it, 1 other client lost 40"
        );
        assert_eq!(text(Loss::Undelivered, 2, (0, 0)), "frida is gone, 2 messages for it undelivered");
        assert_eq!(
            text(Loss::Undelivered, 1, (3, 6)),
            "frida is gone, 1 message for it undelivered; before it, 3 other sessions left 6 behind"
        );
    }
}
