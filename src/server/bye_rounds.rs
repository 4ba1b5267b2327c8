//! BYEs over datagrams at a shutdown: a bounded number in flight, repeated in rounds until they are acknowledged.
//!
//! A session with nothing else in flight gets its BYE from here, not from a push queue of its own. A BYE is the same
//! every time, so nothing is stored for it, and all sessions share one timer. A million queues would take four times
//! the memory of the sessions, and most of a million datagrams at once would be lost. A session with pushes in flight
//! gets its BYE behind them, from `reliable::Pushes`.

use std::time::{Duration, Instant};

use super::{Owner, Server};
use crate::hub::{Path, Session};
use crate::service::Transmit;

/// The most BYEs in flight before an answer comes or the first push timeout passes. With the default timeouts, the
/// default maximum of sessions gets its BYEs within [`DRAIN_TIME`](super::DRAIN_TIME) even if none answers. Beyond
/// this many, each answer makes room for one more BYE, so answers come no faster than they are read.
pub const MAX_BYES: usize = 16_384;

/// The longest wait for peers that do not answer while others do. Answers come in bursts, and a socket buffer does not
/// hold all of a burst.
const MAX_ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Room for a BYE, in bytes: a token, a tag and the frame.
const USUAL: usize = 64;

/// The progress of the BYEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByeRounds {
    /// The slot from which the next session of this round is taken.
    next: u32,
    /// Number of BYEs that may still be sent now.
    room: usize,
    /// Last time with room for all of [`MAX_BYES`].
    since: Instant,
    /// Time of the last answer.
    answered: Instant,
    /// Number of BYEs sent in this round.
    sent: usize,
    /// Number of completed rounds.
    rounds: u32,
    /// The next round has not begun.
    is_between_rounds: bool,
}

impl ByeRounds {
    /// Creates the round after `rounds` others.
    const fn new(now: Instant, rounds: u32) -> Self {
        Self { next: 0, room: MAX_BYES, since: now, answered: now, sent: 0, rounds, is_between_rounds: false }
    }

    /// Returns the time at which BYEs without an answer count as lost. It is one push timeout after the last answer,
    /// and at most [`MAX_ANSWER_WAIT`] after `since`. So a few slow answers do not delay all other sessions.
    fn lost_at(&self, first: Duration) -> Instant {
        (self.since.max(self.answered) + first).min(self.since + MAX_ANSWER_WAIT)
    }
}

impl Server {
    /// Begins the first round, or the next one for sessions that have not answered in `rounds` rounds.
    pub(super) fn begin_round(&mut self, now: Instant, rounds: u32) {
        self.drain.begin_round(ByeRounds::new(now, rounds));
        self.timers.set(Owner::ByeRounds, Some(now + self.config.hub.push_timeouts.first));
    }

    /// Returns the next BYE for a session with nothing else in flight.
    pub(super) fn next_bye(&mut self, now: Instant) -> Option<Transmit> {
        loop {
            let next = self
                .drain
                .bye_rounds()
                .filter(|bye_rounds| !bye_rounds.is_between_rounds && bye_rounds.room > 0)?
                .next;
            if self.is_hold_spent() {
                self.defer_sweep(now);
                return None;
            }
            let Some(key) = self.hub.next_from(next) else {
                self.end_round(now);
                return None;
            };
            self.drain.bye_rounds()?.next = key.slot() + 1;
            let mut bytes = Vec::with_capacity(USUAL);
            if let Some(Path::Datagram(path)) = self.hub.get(key).map(Session::path)
                && self.hub.say_bye_alone(key, self.draining_bye(), &mut bytes)
            {
                self.note_bye_sent();
                self.end_if_bye_done(now, key);
                return Some(Transmit { peer: path.peer, bytes });
            }
        }
    }

    fn note_bye_sent(&mut self) {
        if let Some(bye_rounds) = self.drain.bye_rounds() {
            bye_rounds.room -= 1;
            bye_rounds.sent += 1;
        }
    }

    /// Records that a session has acknowledged its BYE: one more may be sent.
    pub(super) fn note_bye_acked(&mut self, now: Instant) {
        if let Some(bye_rounds) = self.drain.bye_rounds() {
            bye_rounds.room = (bye_rounds.room + 1).min(MAX_BYES);
            bye_rounds.answered = now;
        }
    }

    /// Ends a round. The next begins one timeout later, so that the last sessions of this one have had their time.
    fn end_round(&mut self, now: Instant) {
        let timeouts = self.config.hub.push_timeouts;
        let Some(bye_rounds) = self.drain.bye_rounds() else { return };
        bye_rounds.is_between_rounds = true;
        bye_rounds.rounds += 1;
        let pause = timeouts.after(bye_rounds.rounds, timeouts.first);
        let next = (bye_rounds.sent > 0).then(|| now + pause);
        self.timers.set(Owner::ByeRounds, next);
    }

    /// Begins the next round, or counts BYEs without an answer as lost.
    pub(super) fn bye_rounds_timeout(&mut self, now: Instant) {
        let first = self.config.hub.push_timeouts.first;
        let Some(bye_rounds) = self.drain.bye_rounds() else { return };
        if bye_rounds.is_between_rounds {
            let rounds = bye_rounds.rounds;
            return self.begin_round(now, rounds);
        }
        if bye_rounds.lost_at(first) <= now {
            (bye_rounds.room, bye_rounds.since) = (MAX_BYES, now);
        }
        let until = bye_rounds.lost_at(first);
        self.timers.set(Owner::ByeRounds, Some(until));
    }
}
