//! What a [`Requests`](super::Requests) asker has not sent, or is to send anew: a queue, first in first out.
//!
//! In front of it stands what was refused with 429, in the order in which it was asked, and holds up all else until its
//! time has come. How a request is sent, repeated and answered is in `requests`.

use std::collections::VecDeque;
use std::time::Instant;

use super::requests::{Ended, Outcome, Ticket};
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

/// What is kept of the earlier ids of a request.
#[derive(Debug)]
pub(super) struct Slowed {
    /// The latest of them, which is its place in the queue; the highest there is once its session is gone.
    pub(super) place: u64,
    /// How many of them there were.
    pub(super) times: u32,
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
