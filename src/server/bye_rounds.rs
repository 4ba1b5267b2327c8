//! Goodbyes over datagrams when the server ends: so many at once, and again in rounds until they are acknowledged.
//!
//! A session that has nothing else on its way is told from here, not from a queue of its own: a goodbye says the same
//! every time, so nothing needs to be kept of it, and all sessions share one timer. A million queues would take four
//! times the memory that the sessions had, and a million datagrams at once mostly get lost. Whoever still has something
//! on its way is told behind that, as `reliable::Pushes` does it.

use std::time::{Duration, Instant};

use super::{Draining, Owner, Server};
use crate::hub::{Path, Session};
use crate::service::Transmit;

/// So many may be told before one of them answers, or the first timeout of a push is over: with the usual one, as many
/// sessions as there may be by default are each told within [`DRAIN_TIME`](super::DRAIN_TIME) though none answers. Behind
/// the first so many each answer lets one more be told, so that answers come no faster than they are taken in.
pub const MAX_BYES: usize = 16_384;

/// How long those who do not answer may hold up others while some do: each time, most of the answers come at once, and
/// a socket does not hold so many.
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);

/// Room for a goodbye: a token, a tag and the frame, in bytes.
const USUAL: usize = 64;

/// How far the goodbyes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByeRounds {
    /// The slot from which on sessions come next in this round.
    next: u32,
    /// How many may be told now.
    room: usize,
    /// When there was last room for all of [`MAX_BYES`].
    since: Instant,
    /// When somebody has answered last.
    answered: Instant,
    /// How many were told in this round.
    told: usize,
    /// How many rounds are over.
    rounds: u32,
    /// The next round has not begun.
    rests: bool,
}

impl ByeRounds {
    /// The round behind so many.
    const fn new(now: Instant, rounds: u32) -> Self {
        Self { next: 0, room: MAX_BYES, since: now, answered: now, told: 0, rounds, rests: false }
    }

    /// When those who were told and have not answered count as lost: once nobody has for so long. They do after a while in
    /// any case, or a few who answer slowly could hold up all others.
    fn patient_until(&self, first: Duration) -> Instant {
        (self.since.max(self.answered) + first).min(self.since + LONGEST_PATIENCE)
    }
}

impl Server {
    /// Begins to tell everybody, or those who have not answered in so many rounds.
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

    /// The next goodbye to a session that has nothing else on its way.
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

    /// A session has acknowledged a goodbye: another may be told.
    pub(super) fn make_room_for_goodbye(&mut self, now: Instant) {
        if let Some(farewell) = self.farewell() {
            farewell.room = (farewell.room + 1).min(MAX_BYES);
            farewell.answered = now;
        }
    }

    /// All were told once more. The next round is a timeout later, so that also who came last in this one has had its time.
    fn end_round(&mut self, now: Instant) {
        let timeouts = self.config.hub.push_timeouts;
        let Some(farewell) = self.farewell() else { return };
        farewell.rests = true;
        farewell.rounds += 1;
        let pause = timeouts.after(farewell.rounds, timeouts.first);
        let next = (farewell.told > 0).then(|| now + pause);
        self.timers.set(Owner::ByeRounds, next);
    }

    /// It is time for the next round, or to look for who counts as lost.
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
