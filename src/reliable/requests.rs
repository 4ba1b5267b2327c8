//! The sender of requests: retransmits each until it is answered or the policy gives up.
//!
//! Every request ends in exactly one [`Outcome`]. A request gets its id when it is first sent, and is repeated under
//! that id with the same bytes. At most `window` requests are in flight, and none [`super::WINDOW`] or more below the
//! newest id. So the server's dedup window still holds each of them. The client decides what a connection is and when
//! to send.
//!
//! A 429 does not end a request. It returns to its place in the queue and is sent under a new id after the wait; see
//! [`Requests::ask_anew`]. So does a request that was refused because the server shuts down.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;

use super::request_queue::{QueuedRequest, RequestQueue, Slowed, SlowedFor};
use super::retries::{InFlight, Retries};
use super::{Backoff, RttEstimator, WINDOW};
use crate::wire::{Frame, Id, Verb};

/// Identifies a request from the moment it is queued; its wire id is known only at the first send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, exactly once. Holds the payload of the answer.
    Acked(Vec<u8>),
    /// It did not take effect. Holds the code and the server's text.
    Rejected(u16, Vec<u8>),
    /// It took effect once or not at all.
    Unknown,
    /// It was never sent, so it did not take effect.
    NeverSent,
}

/// A finished request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The request.
    pub ticket: Ticket,
    /// Its verb and payload.
    pub verb: Verb,
    /// Its outcome.
    pub outcome: Outcome,
    /// The number of sends.
    pub sends: u32,
    /// From the first send to the end; `None` when it was never sent.
    pub elapsed: Option<Duration>,
}

/// A send of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The request.
    pub ticket: Ticket,
    /// Its id on the wire.
    #[doc(hidden)]
    pub id: Id,
    /// Its verb.
    pub verb: Verb,
    /// The ordinal of this send, from 1.
    pub sends: u32,
    /// The instant at which this send counts as failed.
    pub due: Instant,
}

/// A request that will be sent under a new id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedToWait {
    /// The request.
    pub ticket: Ticket,
    /// The id that was refused.
    #[doc(hidden)]
    pub id: Id,
    /// Its verb.
    pub verb: Verb,
    /// The time of the next send, under another id.
    pub again_at: Instant,
}

type RequestInFlight = InFlight<QueuedRequest>;

impl RequestInFlight {
    /// All sends, including those on new connections and under earlier ids.
    fn all_sends(&self) -> u32 {
        let earlier = self.request.slowed.as_ref().map_or(0, |slowed| slowed.sends);
        earlier.saturating_add(self.sends())
    }

    /// The first send of the request, under any of its ids.
    fn first_sent(&self) -> Instant {
        self.request.slowed.as_ref().map_or(self.sent_at, |slowed| slowed.first_sent)
    }

    fn encode(&self, id: Id, out: &mut Vec<u8>) -> Sent {
        let QueuedRequest { ticket, verb, ref payload, .. } = self.request;
        Frame { id: Some(id), verb, payload }.encode(out);
        Sent { ticket, id, verb, sends: self.all_sends(), due: self.due }
    }
}

/// Counters of a [`Requests`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestStats {
    /// Sends beyond the first of each request.
    pub retries: u64,
    /// Answers to requests that had already ended.
    pub repeated_answers: u64,
}

/// The requests of one client, across sessions and connections.
#[derive(Debug)]
pub(crate) struct Requests {
    window: usize,
    next_ticket: u64,
    next_id: u64,
    waiting: RequestQueue,
    in_flight: Retries<Id, QueuedRequest>,
    ended: VecDeque<Ended>,
    stats: RequestStats,
}

impl Requests {
    /// Creates an empty queue; `window` requests may be in flight, at least 1.
    pub(crate) fn new(policy: Backoff, window: usize) -> Self {
        Self {
            window: window.max(1),
            next_ticket: 1,
            next_id: 1,
            waiting: RequestQueue::default(),
            in_flight: Retries::new(policy),
            ended: VecDeque::new(),
            stats: RequestStats::default(),
        }
    }

    /// Queues a request, first in first out; `payload` includes its leading space.
    pub(crate) fn ask(&mut self, verb: Verb, payload: Vec<u8>) -> Ticket {
        let ticket = self.take_ticket();
        self.waiting.push_back(QueuedRequest::new(ticket, verb, payload));
        ticket
    }

    /// Queues a request before all others.
    pub(crate) fn ask_first(&mut self, verb: Verb, payload: Vec<u8>) -> Ticket {
        let ticket = self.take_ticket();
        self.waiting.push_front(QueuedRequest::new(ticket, verb, payload));
        ticket
    }

    fn take_ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// An id for a request that is not queued here: a REG.
    pub(crate) fn take_id(&mut self, now: Instant) -> Option<Id> {
        let id = Id::new(self.next_id)?;
        self.next_id += 1;
        // No request may stay in flight below the server's dedup window.
        let lowest = id.get().saturating_sub(WINDOW - 1);
        while let Some(old) = self.oldest().filter(|old| old.get() < lowest) {
            self.finish(now, old, Outcome::Unknown);
        }
        Some(id)
    }

    /// Whether nothing is queued or in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_idle()
    }

    /// Whether anything is in flight.
    pub(crate) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_idle()
    }

    /// The lowest id in flight.
    fn oldest(&self) -> Option<Id> {
        self.in_flight.iter().next().map(|(id, _)| id)
    }

    /// Whether only a BYE is left, and was not sent.
    pub(crate) fn has_only_bye_left(&self) -> bool {
        self.in_flight.is_idle() && self.waiting.has_only(Verb::Bye)
    }

    /// The counters so far.
    pub(crate) fn stats(&self) -> RequestStats {
        self.stats
    }

    /// The RTT estimate.
    pub(crate) fn rtt(&self) -> &RttEstimator {
        self.in_flight.rtt()
    }

    /// The next finished request.
    pub(crate) fn poll_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// The next time to call [`Requests::handle_timeout`] or, if sending is possible (`may_send`),
    /// `Requests::poll_transmit`.
    pub(crate) fn poll_timeout(&self, may_send: bool) -> Option<Instant> {
        let next =
            if may_send { self.in_flight.agenda.next_send() } else { self.in_flight.agenda.next_end() };
        let held = self.waiting.held_until().filter(|_| may_send);
        next.into_iter().chain(self.waiting.deadline()).chain(held).min()
    }

    /// Ends requests without a send left whose time is up as unknown, and refused ones that wait too long as rejected.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.waiting.release(now);
        while let Some(ended) = self.waiting.pop_late(now) {
            self.ended.push_back(ended);
        }
        for id in self.in_flight.agenda.all_over(now) {
            self.finish(now, id, Outcome::Unknown);
        }
    }
}

/// Sending.
impl Requests {
    /// Encodes into `out` the next frame to send at `now`: a due retransmission, or a new request.
    #[cfg(test)]
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Option<Sent> {
        self.poll_transmit_within(now, usize::MAX, rng, out)
    }

    /// The same, unless the frame's payload exceeds `most` bytes: it waits for a datagram of its own.
    pub(crate) fn poll_transmit_within(
        &mut self,
        now: Instant,
        most: usize,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Option<Sent> {
        self.handle_timeout(now);
        let fits = |asked: &QueuedRequest| asked.payload.len() <= most;
        match self.in_flight.agenda.first_due(now) {
            Some(id) if self.in_flight.get(id).is_some_and(|sent| fits(&sent.request)) => {
                self.repeat(now, id, rng, out)
            }
            None if self.waiting.front().is_some_and(fits) => self.send_new(now, rng, out),
            Some(_) | None => None,
        }
    }

    /// Retransmits everything in flight at once on a new connection. The send did not fail, so it uses none of the
    /// policy's sends, until the extra sends are used up.
    pub(crate) fn repeat_all(&mut self, now: Instant) {
        self.in_flight.repeat_all(now);
    }

    fn repeat(&mut self, now: Instant, id: Id, rng: &mut impl Rng, out: &mut Vec<u8>) -> Option<Sent> {
        if !self.in_flight.repeat(now, id, rng) {
            return None;
        }
        self.stats.retries += 1;
        self.in_flight.get(id).map(|request| request.encode(id, out))
    }

    fn send_new(&mut self, now: Instant, rng: &mut impl Rng, out: &mut Vec<u8>) -> Option<Sent> {
        let is_full = self.in_flight.in_flight() >= self.window || self.is_window_held_up();
        if is_full || self.is_bye_next() || self.waiting.is_held() {
            return None;
        }
        let id = Id::new(self.next_id)?;
        let attempt = self.in_flight.attempt(now, self.waiting.front_deadline(), rng)?;
        let asked = self.waiting.pop()?;
        self.next_id += 1;
        let sent = self.in_flight.insert(now, id, asked, attempt).encode(id, out);
        self.stats.retries += u64::from(sent.sends > 1);
        Some(sent)
    }

    /// Whether a BYE waits for earlier answers, or was sent, so that nothing may follow. If it overtook a request, the
    /// outcome of that request would stay unknown.
    fn is_bye_next(&self) -> bool {
        let is_waiting = self.waiting.front().is_some_and(|asked| asked.verb == Verb::Bye);
        let newest = self.in_flight.iter().next_back();
        newest.is_some_and(|(_, sent)| is_waiting || sent.request.verb == Verb::Bye)
    }

    /// Whether the next id would move the oldest request in flight out of the server's dedup window.
    fn is_window_held_up(&self) -> bool {
        self.oldest().is_some_and(|oldest| self.next_id - oldest.get() >= WINDOW)
    }
}

/// Answers and other outcomes.
impl Requests {
    /// Handles an answer. Returns whether its request was in flight; if not, it had ended before.
    pub(crate) fn answered(&mut self, now: Instant, id: Id, outcome: Outcome) -> bool {
        if self.in_flight.get(id).is_none() {
            self.stats.repeated_answers += u64::from(id.get() < self.next_id);
            return false;
        }
        self.in_flight.sample(now, id);
        self.finish(now, id, outcome);
        true
    }

    /// Handles a refusal that allows a retry after `wait`. The request returns to its place in the queue, before
    /// everything that was queued after it. Nothing new is sent until then, and requests in flight continue. The code
    /// and text become its outcome if it is not sent again.
    ///
    /// `None` if there is no such request, or if the retry would exceed its policy's deadline or a total wait of
    /// `MAX_SLOWED`. Then the refusal is its [answer](Requests::answered).
    pub(crate) fn ask_anew(
        &mut self,
        now: Instant,
        id: Id,
        wait: Duration,
        (code, words): (u16, &[u8]),
    ) -> Option<AskedToWait> {
        let sent = self.in_flight.get(id)?;
        let earlier = sent.request.slowed.as_ref();
        let mut waits = earlier.map_or_else(SlowedFor::default, |slowed| slowed.waits);
        let deadline = sent.deadline();
        let again_at = waits.again_at(now, wait, deadline)?;
        let slowed = Slowed {
            place: id.get(),
            waits,
            sends: sent.all_sends(),
            first_sent: sent.first_sent(),
            deadline,
            code,
            words: words.to_vec(),
        };
        let InFlight { request: mut asked, .. } = self.in_flight.remove(id)?;
        let (ticket, verb) = (asked.ticket, asked.verb);
        asked.slowed = Some(Box::new(slowed));
        self.waiting.take_back(asked, again_at);
        Some(AskedToWait { ticket, id, verb, again_at })
    }

    /// Whether the request in flight under this id has this payload: an answer that repeats it comes from a peer that
    /// has read it.
    pub(crate) fn is_asked_with(&self, id: Id, payload: &[u8]) -> bool {
        self.in_flight.get(id).is_some_and(|sent| sent.request.payload == payload)
    }

    /// Ends the session: everything in flight is unknown. Queued requests stay.
    pub(crate) fn session_lost(&mut self, now: Instant) {
        while let Some(id) = self.oldest() {
            self.finish(now, id, Outcome::Unknown);
        }
        self.waiting.forget_places();
    }

    /// Ends everything: requests in flight are unknown, queued ones not sent.
    pub(crate) fn give_up(&mut self, now: Instant) {
        self.session_lost(now);
        self.give_up_waiting();
    }

    /// Ends all queued requests, which are not sent, or not again.
    pub(crate) fn give_up_waiting(&mut self) {
        self.ended.extend(self.waiting.end_all());
    }

    /// Removes queued requests without an outcome.
    pub(crate) fn forget_waiting(&mut self, is_it: impl FnMut(Ticket, Verb) -> bool) {
        self.waiting.forget(is_it);
    }

    /// Rejects a queued request on the client's side: it did not take effect.
    pub(crate) fn refuse_waiting(&mut self, ticket: Ticket, code: u16, why: &str) {
        let Some(QueuedRequest { ticket, verb, .. }) = self.waiting.remove(ticket) else { return };
        let outcome = Outcome::Rejected(code, why.as_bytes().to_vec());
        self.ended.push_back(Ended { ticket, verb, outcome, sends: 0, elapsed: None });
    }

    fn finish(&mut self, now: Instant, id: Id, outcome: Outcome) {
        let Some(sent) = self.in_flight.remove(id) else { return };
        self.ended.push_back(Ended {
            ticket: sent.request.ticket,
            verb: sent.request.verb,
            outcome,
            sends: sent.all_sends(),
            elapsed: Some(now.saturating_duration_since(sent.first_sent())),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    /// A reference: searches all requests in flight.
    fn looked_for(requests: &Requests, now: Instant) -> (Option<Id>, Vec<Id>, Option<Instant>) {
        let is_due = |request: &RequestInFlight| request.is_to_move || request.due <= now;
        let is_over = |request: &RequestInFlight| request.end().is_some_and(|end| end <= now);
        let all = || requests.in_flight.iter();
        let due = all().find(|(_, request)| is_due(request)).map(|(id, _)| id);
        let over = all().filter(|(_, request)| is_over(request)).map(|(id, _)| id).collect();
        (due, over, all().filter_map(|(_, request)| request.end()).min())
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn due_requests_equal_those_of_a_search_over_all() {
        let start = Instant::now();
        for seed in 0..200 {
            let (mut rng, mut now) = (ChaCha8Rng::seed_from_u64(seed), start);
            let mut policy = Backoff::new(Duration::from_millis(100)).with_max_sends(3);
            if seed % 2 == 0 {
                policy = policy.with_deadline(Some(Duration::from_millis(900)));
            }
            let (mut requests, mut out) = (Requests::new(policy, 40), Vec::new());
            for step in 0..400 {
                let id = Id::new(rng.random_range(1..=requests.next_id)).unwrap();
                match rng.random_range(0..100) {
                    0..40 => drop(requests.ask(Verb::Snd, b" bob hi".to_vec())),
                    40..70 => drop(requests.poll_transmit(now, &mut rng, &mut out)),
                    70..80 => drop(requests.answered(now, id, Outcome::Acked(Vec::new()))),
                    80..84 => drop(requests.ask_anew(now, id, Duration::from_millis(50), (429, b"50"))),
                    84..86 => requests.repeat_all(now),
                    86 => requests.session_lost(now),
                    _ => now += Duration::from_millis(rng.random_range(0..60)),
                }
                let (due, over, end) = looked_for(&requests, now);
                let context = format!("seed {seed}, step {step}");
                let next = requests.in_flight.iter().map(|(_, request)| request.due).min();
                let (count, agenda) = (requests.in_flight.in_flight(), &mut requests.in_flight.agenda);
                assert_eq!(agenda.all_over(now), over, "{context}");
                assert_eq!(agenda.next_end(), end, "{context}");
                assert_eq!(agenda.next_send().is_some_and(|at| at <= now), due.is_some(), "{context}");
                assert_eq!(agenda.first_due(now), due, "{context}");
                assert!(due.is_some() || agenda.next_send() == next, "{context}");
                assert_eq!(agenda.len(), count, "{context}");
            }
        }
    }
}
