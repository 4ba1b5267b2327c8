//! Goodbyes over datagrams when the server ends: so many at once, and again in rounds until they are acknowledged.
//!
//! A session that has nothing else on its way is told from here, not from a queue of its own: a goodbye says the same
//! every time, so nothing needs to be kept of it, and all sessions share one timer. A million queues would take four
//! times the memory that the sessions had, and a million datagrams at once mostly get lost. Whoever still has something
//! on its way is told behind that, as `reliable::Pushes` does it.

use std::time::Instant;

use super::{Draining, Owner, Server};
use crate::hub::{Path, Session};
use crate::reliable::PushTimeouts;
use crate::service::Transmit;

/// So many may be told before one of them answers, or the first timeout of a push is over: with the usual one, as many
/// sessions as there may be by default are each told within [`DRAIN_TIME`](super::DRAIN_TIME) though none answers. Behind
/// the first so many each answer lets one more be told, so that answers come no faster than they are taken in.
pub const MOST_GOODBYES: usize = 16_384;

/// Room for a goodbye: a token, a tag and the frame, in bytes.
const USUAL: usize = 64;

/// How far the goodbyes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// The slot from which on sessions come next in this round.
    next: u32,
    /// How many may be told now.
    room: usize,
    /// When somebody was told or has answered last.
    latest: Instant,
    /// When there was last room for all of [`MOST_GOODBYES`].
    since: Instant,
    /// How many were told in this round.
    told: usize,
    /// How many rounds are over.
    rounds: u32,
    /// The next round has not begun.
    rests: bool,
}

impl Farewell {
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: 0, room: MOST_GOODBYES, latest: now, since: now, told: 0, rounds: 0, rests: false }
    }
}

impl Server {
    fn farewell(&mut self) -> Option<&mut Farewell> {
        match &mut self.draining {
            Some(Draining::Underway(farewell)) => Some(farewell),
            Some(Draining::Over) | None => None,
        }
    }

    /// The next goodbye to a session that has nothing else on its way.
    pub(super) fn next_goodbye(&mut self, now: Instant) -> Option<Transmit> {
        loop {
            let next = self.farewell().filter(|farewell| !farewell.rests && farewell.room > 0)?.next;
            let Some(key) = self.hub.next_from(next) else {
                self.end_round(now);
                return None;
            };
            self.farewell()?.next = key.slot() + 1;
            let mut bytes = Vec::with_capacity(USUAL);
            if let Some(Path::Datagram(path)) = self.hub.get(key).map(Session::path)
                && self.hub.say_bye_alone(key, &mut bytes)
            {
                self.note_told(now);
                self.end_if_parted(now, key);
                return Some(Transmit { peer: path.peer, bytes });
            }
        }
    }

    fn note_told(&mut self, now: Instant) {
        let Some(farewell) = self.farewell() else { return };
        farewell.room -= 1;
        farewell.told += 1;
        farewell.latest = now;
        if farewell.room == 0 {
            self.timers.advance(Owner::Farewell, now + self.config.hub.push_timeouts.first);
        }
    }

    /// A session has acknowledged a goodbye: another may be told.
    pub(super) fn make_room_for_goodbye(&mut self, now: Instant) {
        if let Some(farewell) = self.farewell() {
            farewell.room = (farewell.room + 1).min(MOST_GOODBYES);
            farewell.latest = now;
        }
    }

    /// All were told once more. The next round is a timeout later, so that also who came last in this one has had its time.
    fn end_round(&mut self, now: Instant) {
        let timeouts = self.config.hub.push_timeouts;
        let Some(farewell) = self.farewell() else { return };
        farewell.rests = true;
        farewell.rounds += 1;
        if farewell.told > 0 {
            let pause = timeouts.after(farewell.rounds, timeouts.first);
            self.timers.set(Owner::Farewell, Some(now + pause));
        }
    }

    /// It is time for the next round, or nobody has answered for long and those who were told count as lost. They do after
    /// the longest timeout in any case: a few who answer slowly must not hold up all others.
    pub(super) fn farewell_timeout(&mut self, now: Instant) {
        let PushTimeouts { first, longest } = self.config.hub.push_timeouts;
        let Some(farewell) = self.farewell() else { return };
        let patient_until = (farewell.latest + first).min(farewell.since + longest.max(first));
        if farewell.rests {
            *farewell = Farewell { rounds: farewell.rounds, ..Farewell::new(now) };
        } else if patient_until <= now {
            (farewell.room, farewell.since) = (MOST_GOODBYES, now);
        } else {
            self.timers.set(Owner::Farewell, Some(patient_until));
        }
    }
}
