//! What a [`Requests`](super::Requests) asker has not sent, or is to send anew: a queue, first in first out.
//!
//! In front of it stands what was refused with 429, in the order in which it was asked, and holds up all else until its
//! time has come. How a request is sent, repeated and answered is in `requests`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::requests::{Ended, Outcome, Ticket};
use crate::units::later;
use crate::wire::Verb;

/// The code of a refusal that says: slow down.
const SLOW_DOWN: u16 = 429;

/// A request of the user's.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    pub(super) verb: Verb,
    pub(super) payload: Vec<u8>,
    /// That it was refused with 429 before.
    pub(super) slowed: Option<Box<Slowed>>,
}

/// The longest that one request waits because of 429s, all of them together. It is also the longest that one of them can ask
/// for.
pub const MAX_SLOWED: Duration = Duration::from_secs(60);

/// After each 429, the next one to the same request makes it wait so much longer at least. It bounds the sends of a request
/// within [`MAX_SLOWED`]: 110.
const LEAST_STEP: Duration = Duration::from_millis(10);

/// What the 429s to one request have asked for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlowedFor {
    times: u32,
    waited: Duration,
}

impl SlowedFor {
    /// Another 429 asks to wait so long. Returns when to send again, or `None` where that would be at the deadline or later, or
    /// longer than [`MAX_SLOWED`] in all: then the 429 is a refusal like any other.
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

/// What is kept of the earlier ids of a request.
#[derive(Debug)]
pub(super) struct Slowed {
    /// The latest of them, which is its place in the queue; the highest there is once its session is gone.
    pub(super) place: u64,
    /// How long the answers to them asked to wait.
    pub(super) waits: SlowedFor,
    /// All sends under them.
    pub(super) sends: u32,
    pub(super) first_sent: Instant,
    /// That of the policy, counted from the first send of all.
    pub(super) deadline: Option<Instant>,
    /// What the answer said.
    pub(super) words: Vec<u8>,
}

impl Asked {
    pub(super) fn new(ticket: Ticket, verb: Verb, payload: Vec<u8>) -> Self {
        Self { ticket, verb, payload, slowed: None }
    }

    /// How it ends when it is not sent any more: what was sent before was refused.
    fn ended(self, now: Option<Instant>) -> Ended {
        let Self { ticket, verb, slowed, .. } = self;
        let Some(slowed) = slowed else {
            return Ended { ticket, verb, outcome: Outcome::NeverSent, sends: 0, elapsed: None };
        };
        Ended {
            ticket,
            verb,
            outcome: Outcome::Rejected(SLOW_DOWN, slowed.words),
            sends: slowed.sends,
            elapsed: now.map(|now| now.saturating_duration_since(slowed.first_sent)),
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Asked>,
    /// How many of these were refused with 429. They are in front, behind what is to come first in a session at most.
    slowed: usize,
    /// Nothing is sent before, because a 429 said so.
    held_until: Option<Instant>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn front(&self) -> Option<&Asked> {
        self.queue.front()
    }

    pub(super) fn push_back(&mut self, asked: Asked) {
        self.queue.push_back(asked);
    }

    /// Before all that waits.
    pub(super) fn push_front(&mut self, asked: Asked) {
        self.queue.push_front(asked);
    }

    pub(super) fn pop(&mut self) -> Option<Asked> {
        let asked = self.queue.pop_front()?;
        self.slowed -= usize::from(asked.slowed.is_some());
        Some(asked)
    }

    /// Takes back, to its place, what was refused with 429; nothing is sent before `until`.
    pub(super) fn take_back(&mut self, asked: Asked, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
        let place = asked.slowed.as_ref().map_or(0, |slowed| slowed.place);
        let is_earlier = |other: &&Asked| other.slowed.as_ref().is_some_and(|slowed| slowed.place < place);
        self.slowed += usize::from(asked.slowed.is_some());
        self.queue.insert(self.queue.iter().take_while(is_earlier).count(), asked);
    }

    /// Whether the answerer wants nothing for now. A goodbye is always welcome, unless it was told otherwise itself.
    pub(super) fn is_held(&self) -> bool {
        let is_goodbye = |asked: &Asked| asked.verb == Verb::Bye && asked.slowed.is_none();
        self.held_until.is_some() && !self.front().is_some_and(is_goodbye)
    }

    /// There is another session: whatever is asked first in it comes before what the last one refused.
    pub(super) fn forget_places(&mut self) {
        self.held_until = None;
        for slowed in self.queue.iter_mut().filter_map(|asked| asked.slowed.as_mut()).take(self.slowed) {
            slowed.place = u64::MAX;
        }
    }

    /// Removes the first request that is the one looked for; only for what was never sent.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Asked> {
        let at = self.queue.iter().position(|asked| asked.ticket == ticket && asked.slowed.is_none())?;
        self.queue.remove(at)
    }

    /// Forgets requests as if they had never been asked.
    pub(super) fn forget(&mut self, mut is_it: impl FnMut(Ticket, Verb) -> bool) {
        self.queue.retain(|asked| !is_it(asked.ticket, asked.verb));
        self.slowed = self.queue.iter().filter(|asked| asked.slowed.is_some()).count();
    }

    /// Ends all of it.
    pub(super) fn end_all(&mut self) -> impl Iterator<Item = Ended> {
        self.slowed = 0;
        self.queue.drain(..).map(|asked| asked.ended(None))
    }
}

/// Time.
impl Waiting {
    /// When the front may be sent, if something holds it up.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until.filter(|_| !self.is_empty())
    }

    /// By when the front has to be through, if it was sent before and its policy has a deadline.
    pub(super) fn front_deadline(&self) -> Option<Instant> {
        self.front()?.slowed.as_ref()?.deadline
    }

    /// When [`Waiting::pop_late`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines().map(|(_, deadline)| deadline).min()
    }

    /// What held it up does not after its time.
    pub(super) fn release(&mut self, now: Instant) {
        self.held_until = self.held_until.filter(|until| *until > now);
    }

    /// Ends a request that was sent before and has no time left to be sent again.
    pub(super) fn pop_late(&mut self, now: Instant) -> Option<Ended> {
        let late = self.deadlines().find(|(_, deadline)| *deadline <= now)?.0;
        self.slowed -= 1;
        self.queue.remove(late).map(|asked| asked.ended(Some(now)))
    }

    /// The deadlines of what was sent before, by its place. This looks at hardly more than these.
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

    fn asked(ticket: u64) -> Asked {
        Asked::new(Ticket(ticket), Verb::Snd, Vec::new())
    }

    /// Refused under the id that is its place.
    fn slowed(ticket: u64, place: u64, first_sent: Instant, deadline: Option<Instant>) -> Asked {
        let slowed =
            Slowed { place, waits: SlowedFor::default(), sends: 1, first_sent, deadline, words: Vec::new() };
        Asked { slowed: Some(Box::new(slowed)), ..asked(ticket) }
    }

    fn order(mut waiting: Waiting) -> Vec<u64> {
        std::iter::from_fn(|| waiting.pop()).map(|asked| asked.ticket.0).collect()
    }

    #[test]
    fn what_was_refused_goes_back_to_its_place_before_all_that_was_not_sent() {
        let (now, mut waiting) = (start(), Waiting::default());
        waiting.push_back(asked(4));
        for place in [3, 1, 2] {
            waiting.take_back(slowed(place, place, now, None), now);
        }
        assert_eq!(order(waiting), [1, 2, 3, 4]);
    }

    #[test]
    fn what_a_new_session_begins_with_comes_before_what_the_last_one_refused_also_if_it_is_refused_itself() {
        let (now, mut waiting) = (start(), Waiting::default());
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
    fn only_what_was_refused_is_looked_at_for_deadlines_and_each_ends_at_its_own() {
        let now = start();
        let at = |secs| now + Duration::from_secs(secs);
        let mut waiting = Waiting::default();
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
