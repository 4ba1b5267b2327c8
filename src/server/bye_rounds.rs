//! BYEs over datagrams at a shutdown: a bounded number in flight, repeated in rounds until they are acknowledged.
//!
//! A session with nothing else in flight gets its BYE from here, not from a push queue of its own. A BYE is the same
//! every time, so nothing is stored for it, and all sessions share one timer. A million queues would take four times
//! the memory of the sessions, and most of a million datagrams at once would be lost. A session with pushes in flight
//! gets its BYE behind them, from `reliable::Pushes`.

use std::time::{Duration, Instant};

use super::{Draining, Owner, Server};
use crate::hub::{Path, Session};
use crate::service::Transmit;

/// The most BYEs in flight before an answer comes or the first push timeout passes. With the default timeouts, the
/// default maximum of sessions gets its BYEs within [`DRAIN_TIME`](super::DRAIN_TIME) even if none answers. Beyond
/// this many, each answer makes room for one more BYE, so answers come no faster than they are read.
pub const MAX_BYES: usize = 16_384;

/// The longest wait for peers that do not answer while others do. Answers come in bursts, and a socket buffer does not
/// hold all of a burst.
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);

/// Room for a BYE, in bytes: a token, a tag and the frame.
const USUAL: usize = 64;

/// The progress of the BYEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByeRounds {
    /// The slot from which the next session of this round is taken.
    next: u32,
    /// How many more BYEs may be sent now.
    room: usize,
    /// When there was last room for all of [`MAX_BYES`].
    since: Instant,
    /// When the last answer came.
    answered: Instant,
    /// How many BYEs this round has sent.
    told: usize,
    /// How many rounds are over.
    rounds: u32,
    /// The next round has not begun.
    rests: bool,
}

impl ByeRounds {
    /// Creates the round after `rounds` others.
    const fn new(now: Instant, rounds: u32) -> Self {
        Self { next: 0, room: MAX_BYES, since: now, answered: now, told: 0, rounds, rests: false }
    }

    /// Returns when BYEs without an answer count as lost: one push timeout after the last answer, and at most
    /// [`MAX_ANSWER_WAIT`] after `since`, so that a few slow answers do not delay all other sessions.
    fn patient_until(&self, first: Duration) -> Instant {
        (self.since.max(self.answered) + first).min(self.since + LONGEST_PATIENCE)
    }
}

impl Server {
    /// Begins the first round, or the next one for sessions that have not answered in `rounds` rounds.
    pub(super) fn begin_round(&mut self, now: Instant, rounds: u32) {
        self.draining = Some(Draining::Underway(ByeRounds::new(now, rounds)));
        self.timers.set(Owner::ByeRounds, Some(now + self.config.hub.push_timeouts.first));
    }

    fn farewell(&mut self) -> Option<&mut ByeRounds> {
        match &mut self.draining {
            Some(Draining::Underway(farewell)) => Some(farewell),
            Some(Draining::Ending | Draining::Over) | None => None,
        }
    }

    /// Returns the next BYE for a session with nothing else in flight.
    pub(super) fn next_goodbye(&mut self, now: Instant) -> Option<Transmit> {
        loop {
            let next = self.farewell().filter(|farewell| !farewell.rests && farewell.room > 0)?.next;
            if self.is_hold_spent() {
                self.put_off_sweep(now);
                return None;
            }
            let Some(key) = self.hub.next_from(next) else {
                self.end_round(now);
                return None;
            };
            self.farewell()?.next = key.slot() + 1;
            let mut bytes = Vec::with_capacity(USUAL);
            if let Some(Path::Datagram(path)) = self.hub.get(key).map(Session::path)
                && self.hub.say_bye_alone(key, self.draining_bye(), &mut bytes)
            {
                self.note_told();
                self.end_if_parted(now, key);
                return Some(Transmit { peer: path.peer, bytes });
            }
        }
    }

    fn note_told(&mut self) {
        if let Some(farewell) = self.farewell() {
            farewell.room -= 1;
            farewell.told += 1;
        }
    }

    /// Records that a session has acknowledged its BYE: one more may be sent.
    pub(super) fn make_room_for_goodbye(&mut self, now: Instant) {
        if let Some(farewell) = self.farewell() {
            farewell.room = (farewell.room + 1).min(MAX_BYES);
            farewell.answered = now;
        }
    }

    /// Ends a round. The next begins one timeout later, so that the last sessions of this one have had their time.
    fn end_round(&mut self, now: Instant) {
        let timeouts = self.config.hub.push_timeouts;
        let Some(farewell) = self.farewell() else { return };
        farewell.rests = true;
        farewell.rounds += 1;
        let pause = timeouts.after(farewell.rounds, timeouts.first);
        let next = (farewell.told > 0).then(|| now + pause);
        self.timers.set(Owner::ByeRounds, next);
    }

    /// Begins the next round, or counts BYEs without an answer as lost.
    pub(super) fn farewell_timeout(&mut self, now: Instant) {
        let first = self.config.hub.push_timeouts.first;
        let Some(farewell) = self.farewell() else { return };
        if farewell.rests {
            let rounds = farewell.rounds;
            return self.begin_round(now, rounds);
        }
        if farewell.patient_until(first) <= now {
            (farewell.room, farewell.since) = (MAX_BYES, now);
        }
        let until = farewell.patient_until(first);
        self.timers.set(Owner::ByeRounds, Some(until));
    }
}
