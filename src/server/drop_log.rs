//! Logs the messages that clients lost: at most one line a second per kind of loss, which counts the losses since the
//! last line.
//!
//! The loss itself is decided in [`crate::hub`] (gaps) and `session_end` (undelivered).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::hub::SessionKey;
use crate::names::Name;
use crate::units::counted;

/// The least time between two lines: neither repeated sessions nor slow consumers may fill a disk.
const PAUSE: Duration = Duration::from_secs(1);

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
