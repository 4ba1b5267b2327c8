//! The queue of a [`Requests`](super::Requests): requests that were not sent, or are to be sent again under a new id.
//!
//! First in, first out. Requests refused with 429 are in front, in their original order, and hold back all others until
//! their wait is over. Retransmission and answers are in `requests`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::requests::{Ended, Outcome, Ticket};
use crate::units::later;
use crate::wire::Verb;

/// A request of the user.
#[derive(Debug)]
pub(super) struct QueuedRequest {
    pub(super) ticket: Ticket,
    pub(super) verb: Verb,
    pub(super) payload: Vec<u8>,
    /// Its refusals so far, with 429 or because of a shutdown.
    pub(super) slowed: Option<Box<Slowed>>,
}

/// The maximum total wait of one request because of 429s, and the maximum that one 429 can ask for.
pub(crate) const MAX_SLOWED: Duration = Duration::from_secs(60);

/// Each further 429 to the same request extends its wait at least by this. With [`MAX_SLOWED`] it bounds the sends of a
/// request: 110.
const LEAST_STEP: Duration = Duration::from_millis(10);

/// The waits that 429s to one request have asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlowedFor {
    times: u32,
    waited: Duration,
}

impl SlowedFor {
    /// Adds a 429 with this wait. Returns when to send again. `None` if that is not before the deadline, or exceeds
    /// [`MAX_SLOWED`] in total: then the 429 is final.
    pub(crate) fn again_at(
        &mut self,
        now: Instant,
        wait: Duration,
        deadline: Option<Instant>,
    ) -> Option<Instant> {
        let wait = wait.max(LEAST_STEP.saturating_mul(self.times));
        let waited = self.waited.saturating_add(wait);
        if waited > MAX_SLOWED {
            return None;
        }
        let again_at = later(now, wait);
        if deadline.is_some_and(|deadline| deadline <= again_at) {
            return None;
        }
        *self = Self { times: self.times + 1, waited };
        Some(again_at)
    }
}

/// The state kept of a request's earlier ids.
#[derive(Debug)]
pub(super) struct Slowed {
    /// The latest of them, which is its place in the queue; the highest possible id once its session is gone.
    pub(super) place: u64,
    /// The total wait that their answers asked for.
    pub(super) waits: SlowedFor,
    /// All sends under them.
    pub(super) sends: u32,
    pub(super) first_sent: Instant,
    /// The policy's deadline, counted from the first send.
    pub(super) deadline: Option<Instant>,
    /// The code of the latest answer, ..
    pub(super) code: u16,
    /// .. and its text.
    pub(super) words: Vec<u8>,
}

impl QueuedRequest {
    pub(super) fn new(ticket: Ticket, verb: Verb, payload: Vec<u8>) -> Self {
        Self { ticket, verb, payload, slowed: None }
    }

    /// Its outcome if it is not sent again: rejected if it was refused, otherwise not sent.
    fn ended(self, now: Option<Instant>) -> Ended {
        let Self { ticket, verb, slowed, .. } = self;
        let Some(slowed) = slowed else {
            return Ended { ticket, verb, outcome: Outcome::NeverSent, sends: 0, elapsed: None };
        };
        Ended {
            ticket,
            verb,
            outcome: Outcome::Rejected(slowed.code, slowed.words),
            sends: slowed.sends,
            elapsed: now.map(|now| now.saturating_duration_since(slowed.first_sent)),
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    queue: VecDeque<QueuedRequest>,
    /// The number of requests refused with 429. They are in front, after at most one that is first in a session.
    slowed: usize,
    /// Nothing is sent before this, because of a 429.
    held_until: Option<Instant>,
}

impl RequestQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether something is queued, and only requests of this verb.
    pub(super) fn has_only(&self, verb: Verb) -> bool {
        !self.is_empty() && self.queue.iter().all(|asked| asked.verb == verb)
    }

    pub(super) fn front(&self) -> Option<&QueuedRequest> {
        self.queue.front()
    }

    pub(super) fn push_back(&mut self, asked: QueuedRequest) {
        self.queue.push_back(asked);
    }

    /// Queues a request before all others.
    pub(super) fn push_front(&mut self, asked: QueuedRequest) {
        self.queue.push_front(asked);
    }

    pub(super) fn pop(&mut self) -> Option<QueuedRequest> {
        let asked = self.queue.pop_front()?;
        self.slowed -= usize::from(asked.slowed.is_some());
        Some(asked)
    }

    /// Returns a request that was refused with 429 to its place; nothing is sent before `until`.
    pub(super) fn take_back(&mut self, asked: QueuedRequest, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
        let place = asked.slowed.as_ref().map_or(0, |slowed| slowed.place);
        let is_earlier =
            |other: &&QueuedRequest| other.slowed.as_ref().is_some_and(|slowed| slowed.place < place);
        self.slowed += usize::from(asked.slowed.is_some());
        self.queue.insert(self.queue.iter().take_while(is_earlier).count(), asked);
    }

    /// Whether a 429 blocks sending. A BYE is exempt, unless it was refused itself.
    pub(super) fn is_held(&self) -> bool {
        let is_bye = |asked: &QueuedRequest| asked.verb == Verb::Bye && asked.slowed.is_none();
        self.held_until.is_some() && !self.front().is_some_and(is_bye)
    }

    /// Begins another session: its first request comes before those that the last session refused.
    pub(super) fn forget_places(&mut self) {
        self.held_until = None;
        for slowed in self.queue.iter_mut().filter_map(|asked| asked.slowed.as_mut()).take(self.slowed) {
            slowed.place = u64::MAX;
        }
    }

    /// Removes the first matching request; only for requests that were never sent.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<QueuedRequest> {
        let at = self.queue.iter().position(|asked| asked.ticket == ticket && asked.slowed.is_none())?;
        self.queue.remove(at)
    }

    /// Removes requests without an outcome.
    pub(super) fn forget(&mut self, mut is_it: impl FnMut(Ticket, Verb) -> bool) {
        self.queue.retain(|asked| !is_it(asked.ticket, asked.verb));
        self.slowed = self.queue.iter().filter(|asked| asked.slowed.is_some()).count();
    }

    /// Ends all of them.
    pub(super) fn end_all(&mut self) -> impl Iterator<Item = Ended> {
        self.slowed = 0;
        self.queue.drain(..).map(|asked| asked.ended(None))
    }
}

/// Time.
impl RequestQueue {
    /// The time at which the front may be sent, if it is blocked.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until.filter(|_| !self.is_empty())
    }

    /// The deadline of the front, if it was sent before and its policy has one.
    pub(super) fn front_deadline(&self) -> Option<Instant> {
        self.front()?.slowed.as_ref()?.deadline
    }

    /// The time at which [`RequestQueue::pop_late`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines().map(|(_, deadline)| deadline).min()
    }

    /// Ends the block once its time is over.
    pub(super) fn release(&mut self, now: Instant) {
        self.held_until = self.held_until.filter(|until| *until > now);
    }

    /// Ends a request that was sent before and has no time left to be sent again.
    pub(super) fn pop_late(&mut self, now: Instant) -> Option<Ended> {
        let late = self.deadlines().find(|(_, deadline)| *deadline <= now)?.0;
        self.slowed -= 1;
        self.queue.remove(late).map(|asked| asked.ended(Some(now)))
    }

    /// The deadlines of requests that were sent before, by place. Iterates over little else.
    fn deadlines(&self) -> impl Iterator<Item = (usize, Instant)> {
        let slowed = self.queue.iter().enumerate().filter(|(_, asked)| asked.slowed.is_some());
        slowed.take(self.slowed).filter_map(|(at, asked)| Some((at, asked.slowed.as_ref()?.deadline?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn asked(ticket: u64) -> QueuedRequest {
        QueuedRequest::new(Ticket(ticket), Verb::Snd, Vec::new())
    }

    /// A request refused under the id that is its place.
    fn slowed(ticket: u64, place: u64, first_sent: Instant, deadline: Option<Instant>) -> QueuedRequest {
        let waits = SlowedFor::default();
        let slowed = Slowed { place, waits, sends: 1, first_sent, deadline, code: 429, words: Vec::new() };
        QueuedRequest { slowed: Some(Box::new(slowed)), ..asked(ticket) }
    }

    fn order(mut waiting: RequestQueue) -> Vec<u64> {
        std::iter::from_fn(|| waiting.pop()).map(|asked| asked.ticket.0).collect()
    }

    #[test]
    fn a_refused_request_returns_to_its_place_before_unsent_ones() {
        let (now, mut waiting) = (start(), RequestQueue::default());
        waiting.push_back(asked(4));
        for place in [3, 1, 2] {
            waiting.take_back(slowed(place, place, now, None), now);
        }
        assert_eq!(order(waiting), [1, 2, 3, 4]);
    }

    #[test]
    fn the_first_request_of_a_new_session_precedes_earlier_refused_ones_even_if_refused_itself() {
        let (now, mut waiting) = (start(), RequestQueue::default());
        waiting.push_back(asked(3));
        waiting.take_back(slowed(1, 1, now, None), now);
        waiting.take_back(slowed(2, 2, now, None), now);
        waiting.forget_places();
        assert!(!waiting.is_held());
        waiting.push_front(asked(11));
        waiting.push_front(asked(10));
        let first = waiting.pop().unwrap();
        assert_eq!(first.ticket, Ticket(10));
        waiting.take_back(slowed(10, 5, now, None), now);
        assert_eq!(order(waiting), [10, 11, 1, 2, 3]);
    }

    #[test]
    fn only_refused_requests_have_deadlines_and_each_ends_at_its_own() {
        let now = start();
        let at = |secs| now + Duration::from_secs(secs);
        let mut waiting = RequestQueue::default();
        waiting.take_back(slowed(1, 1, now, Some(at(9))), at(20));
        waiting.take_back(slowed(2, 2, now, Some(at(5))), at(10));
        waiting.push_front(asked(3));
        assert_eq!((waiting.deadline(), waiting.held_until()), (Some(at(5)), Some(at(20))));
        assert_eq!(waiting.pop_late(at(4)), None);
        let late = waiting.pop_late(at(5)).unwrap();
        assert_eq!((late.ticket, late.elapsed), (Ticket(2), Some(Duration::from_secs(5))));
        assert_eq!(waiting.pop_late(at(5)), None);
        assert_eq!(waiting.pop_late(at(9)).unwrap().ticket, Ticket(1));
        assert_eq!(waiting.deadline(), None);
        waiting.release(at(20));
        assert!(!waiting.is_held());
        assert_eq!(order(waiting), [3]);
    }
}
