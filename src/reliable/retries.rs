//! Retries of requests of any protocol: [`Retries`] sends each request until it is answered or its policy gives up.
//!
//! The caller owns the socket, the clock and the bytes; here are the schedule, the measured round-trip time and the end
//! of each request. The chat's [`Requests`](super::Requests) adds ids, frames and a queue to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;

use super::{Attempts, Backoff, RttEstimator};
use crate::units::later;

/// Extra sends of a request on new connections or addresses that do not count against its policy. The bound keeps a
/// server that cuts every connection, or challenges every datagram, from causing sends for ever.
const MAX_MOVES: u32 = 8;

/// Requests of one peer, each sent until it is answered or its [`Backoff`] gives up.
///
/// `K` identifies a request in its answer; `T` is what to send. A request ends in exactly one way: [`answered`] returns
/// it, or [`poll_unknown`] does, and then it took effect or not. The caller repeats:
///
/// 1. Send what [`poll_transmit`] returns, until it returns `None`.
/// 2. Give up what [`poll_unknown`] returns, until it returns `None`.
/// 3. Wait for an answer or the instant of [`poll_timeout`], whichever comes first. Pass an answer to [`answered`].
///
/// Round-trip times are measured as in RFC 6298, only from requests that were sent once (Karn's algorithm, section 3).
/// An [adaptive](Backoff::with_adaptive) policy takes its first timeout from them. The other policies ignore them.
///
/// ```
/// use std::time::{Duration, Instant};
/// use rand::{SeedableRng as _, rngs::StdRng};
/// use sayagain::reliable::{Backoff, Retries};
///
/// let (mut now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
/// let mut retries = Retries::new("expb+timeout:100ms+max-sends:2".parse::<Backoff>()?);
/// assert!(retries.ask(7, "what is 6 * 7?").is_ok());
/// let mut sends = 0;
/// let answered = loop {
///     while let Some(send) = retries.poll_transmit(now, &mut rng) {
///         sends = send.sends; // here: `socket.send(..)` of `send.key` and `send.request`
///     }
///     assert!(retries.poll_unknown(now).is_none());
///     // The first send is lost here, the second is answered.
///     if sends == 2 {
///         break retries.answered(now, 7).expect("it waits for an answer");
///     }
///     now = retries.poll_timeout().expect("a request is in flight");
/// };
/// assert_eq!((answered.request, answered.sends), ("what is 6 * 7?", 2));
/// assert_eq!(answered.elapsed, Duration::from_millis(100));
/// # Ok::<(), sayagain::units::UnitError>(())
/// ```
///
/// [`answered`]: Retries::answered
/// [`poll_timeout`]: Retries::poll_timeout
/// [`poll_transmit`]: Retries::poll_transmit
/// [`poll_unknown`]: Retries::poll_unknown
#[derive(Debug)]
pub struct Retries<K, T> {
    policy: Backoff,
    rtt: RttEstimator,
    /// Requests that were not sent yet, and their order. A key may be in the order without a request.
    unsent: BTreeMap<K, T>,
    order: VecDeque<K>,
    in_flight: BTreeMap<K, InFlight<T>>,
    /// The deadlines of the requests in flight.
    pub(super) agenda: Agenda<K>,
}

/// A send that is due.
#[derive(Debug)]
pub struct Transmission<'a, K, T> {
    /// The key of the request.
    pub key: K,
    /// The request.
    pub request: &'a T,
    /// The ordinal of this send, from 1.
    pub sends: u32,
    /// The instant at which this send counts as failed.
    pub due: Instant,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished<K, T> {
    /// The key of the request.
    pub key: K,
    /// The request.
    pub request: T,
    /// The number of sends.
    pub sends: u32,
    /// The time from the first send to the end: the time to ack, if it was answered.
    pub elapsed: Duration,
}

/// A request that was sent.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    pub(super) request: T,
    attempts: Attempts,
    pub(super) sent_at: Instant,
    pub(super) due: Instant,
    /// There is a new connection, on which it was not sent yet.
    pub(super) is_to_move: bool,
    /// The number of sends that were due to new connections.
    moves: u32,
}

impl<T> InFlight<T> {
    /// All sends, including those on new connections.
    pub(super) fn sends(&self) -> u32 {
        self.attempts.sends() + self.moves
    }

    /// The end of all sends that its policy allows, if any.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.attempts.deadline()
    }

    /// The only remaining event if nothing can be sent: the end of the last timeout, or the deadline.
    pub(super) fn end(&self) -> Option<Instant> {
        if self.attempts.has_sends_left() { self.attempts.deadline() } else { Some(self.due) }
    }
}

impl<K: Copy + Ord, T> Retries<K, T> {
    /// Creates an empty set of requests, each to be sent by this policy.
    #[must_use]
    pub fn new(policy: Backoff) -> Self {
        Self {
            rtt: RttEstimator::new().with_floor(policy.min_rto()),
            policy,
            unsent: BTreeMap::new(),
            order: VecDeque::new(),
            in_flight: BTreeMap::new(),
            agenda: Agenda::default(),
        }
    }

    /// Adds a request, to be sent by the next [`Retries::poll_transmit`], after those that were added before.
    ///
    /// # Errors
    ///
    /// Returns the request if another one has this key.
    pub fn ask(&mut self, key: K, request: T) -> Result<(), T> {
        if self.in_flight.contains_key(&key) || self.unsent.contains_key(&key) {
            return Err(request);
        }
        self.unsent.insert(key, request);
        self.order.push_back(key);
        Ok(())
    }

    /// Returns the next send that is due at `now`: a retransmission, the lowest key first, or else a new request.
    pub fn poll_transmit(&mut self, now: Instant, rng: &mut impl Rng) -> Option<Transmission<'_, K, T>> {
        while let Some(key) = self.agenda.first_due(now) {
            let is_over = |request: &InFlight<T>| request.end().is_some_and(|end| end <= now);
            if self.in_flight.get(&key).is_some_and(|request| !is_over(request)) {
                return self.repeat(now, key, rng).then(|| self.transmission(key))?;
            }
            // Its end stays in the agenda, until `poll_unknown` takes it.
            self.agenda.due.remove(&key);
        }
        while let Some(key) = self.order.pop_front() {
            if let Some(request) = self.unsent.remove(&key) {
                let (attempts, due) = self.attempt(now, None, rng)?;
                self.insert(now, key, request, (attempts, due));
                return self.transmission(key);
            }
        }
        None
    }

    /// Handles an answer: ends its request, and returns it. `None` if no request of this key waits for one: it has ended
    /// before, or was never sent.
    pub fn answered(&mut self, now: Instant, key: K) -> Option<Finished<K, T>> {
        self.sample(now, key);
        self.remove(key).map(|request| finished(now, key, request))
    }

    /// Returns a request that was given up by `now`: all sends were used and the last timeout is over, or the deadline
    /// has passed. It took effect or not.
    pub fn poll_unknown(&mut self, now: Instant) -> Option<Finished<K, T>> {
        let key = self.agenda.first_over(now)?;
        self.remove(key).map(|request| finished(now, key, request))
    }

    /// The next time to call [`Retries::poll_transmit`] and [`Retries::poll_unknown`]. `None` means never; an instant
    /// that has passed means now. A new request has no instant: call `poll_transmit` after [`Retries::ask`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.agenda.next_send().into_iter().chain(self.agenda.next_end()).min()
    }

    /// Sends everything in flight again at once, since the peer has a new address or connection. Such a send did not
    /// fail, so the first 8 of each request use none of the policy's sends.
    pub fn repeat_all(&mut self, now: Instant) {
        for (key, request) in &mut self.in_flight {
            if request.moves < MAX_MOVES {
                request.is_to_move = true;
                self.agenda.hurry(*key, request.due, request.sent_at);
            } else if request.attempts.has_sends_left() {
                self.agenda.hurry(*key, request.due, now);
                request.due = now;
            }
        }
    }

    /// Removes a request without an outcome, sent or not.
    pub fn cancel(&mut self, key: K) -> Option<T> {
        self.unsent.remove(&key).or_else(|| self.remove(key).map(|request| request.request))
    }

    /// The number of requests that were sent and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether no request waits to be sent or answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.in_flight.is_empty()
    }

    /// The RTT estimate.
    #[must_use]
    pub fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }
}

fn finished<K, T>(now: Instant, key: K, request: InFlight<T>) -> Finished<K, T> {
    let (sends, elapsed) = (request.sends(), now.saturating_duration_since(request.sent_at));
    Finished { key, request: request.request, sends, elapsed }
}

/// Steps, for a caller with a queue of its own.
impl<K: Copy + Ord, T> Retries<K, T> {
    /// Begins a request: its first send, and when that counts as failed. `end` is its deadline, if earlier sends set one.
    pub(super) fn attempt(
        &self,
        now: Instant,
        end: Option<Instant>,
        rng: &mut impl Rng,
    ) -> Option<(Attempts, Instant)> {
        let mut attempts = self.policy.start(rng).ending_at(end);
        let due = attempts.send(now, self.rtt.rto(), rng)?;
        Some((attempts, due))
    }

    /// Adds a request that was just sent.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        key: K,
        request: T,
        (attempts, due): (Attempts, Instant),
    ) -> &InFlight<T> {
        let request = InFlight { request, attempts, sent_at: now, due, is_to_move: false, moves: 0 };
        self.agenda.insert(key, &request);
        self.in_flight.entry(key).insert_entry(request).into_mut()
    }

    /// Records that a request in flight is sent again. Returns false if that is not allowed any more.
    pub(super) fn repeat(&mut self, now: Instant, key: K, rng: &mut impl Rng) -> bool {
        let Some(request) = self.in_flight.get_mut(&key) else { return false };
        self.agenda.remove(key, request);
        let is_sent = if std::mem::take(&mut request.is_to_move) {
            request.moves += 1;
            let wait = later(now, self.policy.ack_timeout()).max(request.due);
            request.due = request.attempts.deadline().map_or(wait, |deadline| wait.min(deadline));
            true
        } else {
            let due = request.attempts.send(now, self.rtt.rto(), rng);
            request.due = due.unwrap_or(request.due);
            due.is_some()
        };
        self.agenda.insert(key, request);
        is_sent
    }

    fn transmission(&self, key: K) -> Option<Transmission<'_, K, T>> {
        let sent = self.in_flight.get(&key)?;
        Some(Transmission { key, request: &sent.request, sends: sent.sends(), due: sent.due })
    }

    /// Takes the time of an answer as a sample of the round-trip time, unless the request was repeated. By Karn's rule,
    /// that sample would be ambiguous.
    pub(super) fn sample(&mut self, now: Instant, key: K) {
        if let Some(request) = self.in_flight.get(&key).filter(|request| request.sends() == 1) {
            self.rtt.sample(now.saturating_duration_since(request.sent_at));
        }
    }

    pub(super) fn get(&self, key: K) -> Option<&InFlight<T>> {
        self.in_flight.get(&key)
    }

    /// The requests in flight, lowest key first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &InFlight<T>)> {
        self.in_flight.iter().map(|(key, request)| (*key, request))
    }

    pub(super) fn remove(&mut self, key: K) -> Option<InFlight<T>> {
        let request = self.in_flight.remove(&key)?;
        self.agenda.remove(key, &request);
        Some(request)
    }
}

/// The deadlines of the requests in flight, in order, so that no call searches all of them.
#[derive(Debug)]
pub(super) struct Agenda<K> {
    /// The end of each last send's timeout, unless it is known to have passed.
    sends: BTreeSet<(Instant, K)>,
    /// Requests to send again now, with an instant that has passed.
    due: BTreeMap<K, Instant>,
    /// The end of each request that has no send left, or a deadline.
    ends: BTreeSet<(Instant, K)>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self { sends: BTreeSet::new(), due: BTreeMap::new(), ends: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Agenda<K> {
    /// Adds a request that was just sent.
    fn insert<T>(&mut self, key: K, request: &InFlight<T>) {
        self.sends.insert((request.due, key));
        self.ends.extend(request.end().map(|end| (end, key)));
    }

    /// Removes a request with its current deadlines.
    fn remove<T>(&mut self, key: K, request: &InFlight<T>) {
        if self.due.remove(&key).is_none() {
            self.sends.remove(&(request.due, key));
        }
        if let Some(end) = request.end() {
            self.ends.remove(&(end, key));
        }
    }

    /// Marks a request to be sent again now; it is due since this instant, which has passed.
    fn hurry(&mut self, key: K, due: Instant, since: Instant) {
        self.sends.remove(&(due, key));
        self.due.insert(key, since);
    }

    /// The lowest key to send again.
    pub(super) fn first_due(&mut self, now: Instant) -> Option<K> {
        while let Some((at, key)) = self.sends.first().copied().filter(|(at, _)| *at <= now) {
            self.sends.pop_first();
            self.due.insert(key, at);
        }
        self.due.first_key_value().map(|(key, _)| *key)
    }

    /// The first request whose time is up.
    fn first_over(&self, now: Instant) -> Option<K> {
        self.ends.first().filter(|(end, _)| *end <= now).map(|(_, key)| *key)
    }

    /// The keys whose time is up, lowest first. They stay until they are removed.
    pub(super) fn all_over(&self, now: Instant) -> Vec<K> {
        let over = self.ends.iter().take_while(|(end, _)| *end <= now);
        let mut over: Vec<K> = over.map(|(_, key)| *key).collect();
        over.sort_unstable();
        over
    }

    /// The time of the next retransmission; an instant that has passed means now.
    pub(super) fn next_send(&self) -> Option<Instant> {
        let due = self.due.first_key_value().map(|(_, since)| *since);
        due.into_iter().chain(self.sends.first().map(|(at, _)| *at)).min()
    }

    /// The number of requests with a send that fails.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sends.len() + self.due.len()
    }

    /// The time at which the next request is given up.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use crate::reliable::success;
    use crate::units::Probability;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn retries(policy: &str) -> Retries<u32, &'static str> {
        Retries::new(policy.parse().unwrap())
    }

    /// The keys of all sends that are due, with their ordinals.
    fn sends(retries: &mut Retries<u32, &'static str>, now: Instant) -> Vec<(u32, u32)> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut all = Vec::new();
        while let Some(send) = retries.poll_transmit(now, &mut rng) {
            all.push((send.key, send.sends));
        }
        all
    }

    #[test]
    fn a_request_is_sent_by_its_schedule_and_then_unknown() {
        let (now, mut retries) = (origin(), retries("expb+timeout:100ms+max-sends:3"));
        assert_eq!(retries.ask(7, "a"), Ok(()));
        assert_eq!(retries.ask(7, "b"), Err("b"), "its key is in use");
        for (at, sent) in
            [(0, vec![(7, 1)]), (99, vec![]), (100, vec![(7, 2)]), (300, vec![(7, 3)]), (699, vec![])]
        {
            assert_eq!(sends(&mut retries, now + ms(at)), sent, "at {at} ms");
            assert_eq!(retries.poll_unknown(now + ms(at)), None, "at {at} ms");
        }
        assert_eq!(retries.poll_timeout(), Some(now + ms(700)));
        assert!(sends(&mut retries, now + ms(700)).is_empty(), "a request without sends is not sent");
        assert_eq!(retries.poll_timeout(), Some(now + ms(700)), "its end still has to be taken");
        let ended = Finished { key: 7, request: "a", sends: 3, elapsed: ms(700) };
        assert_eq!(retries.poll_unknown(now + ms(700)), Some(ended));
        assert_eq!((retries.poll_timeout(), retries.is_idle()), (None, true));
        assert_eq!(retries.answered(now + ms(701), 7), None, "it has ended");
    }

    #[test]
    fn only_the_answer_to_a_single_send_is_a_sample() {
        let (now, mut retries) = (origin(), retries("rto+rto-min:1ms"));
        retries.ask(1, "repeated").unwrap();
        sends(&mut retries, now);
        sends(&mut retries, now + ms(1_000));
        let answered = retries.answered(now + ms(1_040), 1).unwrap();
        assert_eq!((answered.sends, answered.elapsed), (2, ms(1_040)));
        assert_eq!(retries.rtt().srtt(), None, "it may belong to either send");
        retries.ask(2, "sent once").unwrap();
        sends(&mut retries, now);
        retries.answered(now + ms(40), 2).unwrap();
        assert_eq!((retries.rtt().srtt(), retries.rtt().rto()), (Some(ms(40)), Some(ms(120))));
        retries.ask(3, "by the measured timeout").unwrap();
        sends(&mut retries, now);
        assert_eq!(retries.poll_timeout(), Some(now + ms(120)));
    }

    #[test]
    fn requests_are_first_sent_in_the_order_in_which_they_were_asked() {
        let (now, mut retries) = (origin(), retries("fixed+timeout:1s"));
        for key in [3, 1, 2, 9] {
            retries.ask(key, "a").unwrap();
        }
        assert_eq!(retries.answered(now, 3), None, "it was not sent");
        assert_eq!(retries.cancel(2), Some("a"));
        assert_eq!(sends(&mut retries, now), [(3, 1), (1, 1), (9, 1)]);
        assert_eq!(retries.cancel(3), Some("a"));
        retries.ask(3, "b").unwrap();
        assert_eq!(sends(&mut retries, now + ms(1_000)), [(1, 2), (9, 2), (3, 1)]);
        assert_eq!(retries.in_flight(), 3);
    }

    #[test]
    fn a_deadline_ends_a_request_whose_sends_are_not_used() {
        let (now, mut retries) = (origin(), retries("fixed+timeout:1s+deadline:2500ms"));
        retries.ask(1, "a").unwrap();
        sends(&mut retries, now);
        assert!(sends(&mut retries, now + ms(2_500)).is_empty(), "nothing is sent after it");
        assert_eq!(retries.poll_unknown(now + ms(2_500)).map(|ended| ended.sends), Some(1));
    }

    #[test]
    fn sends_to_a_new_address_use_none_of_the_sends_of_the_policy() {
        let (now, mut retries) = (origin(), retries("fixed+timeout:1s+max-sends:2"));
        retries.ask(1, "a").unwrap();
        assert_eq!(sends(&mut retries, now), [(1, 1)]);
        retries.repeat_all(now + ms(10));
        assert!(retries.poll_timeout().is_some_and(|at| at <= now + ms(10)));
        assert_eq!(sends(&mut retries, now + ms(10)), [(1, 2)]);
        assert_eq!(sends(&mut retries, now + ms(1_010)), [(1, 3)]);
        assert!(sends(&mut retries, now + ms(2_010)).is_empty());
        assert_eq!(retries.poll_unknown(now + ms(2_010)).map(|ended| ended.sends), Some(3));
    }

    #[test]
    fn a_peer_behind_30_percent_loss_answers_as_often_as_theory_says() {
        let (loss, count, most) = (0.3, 20_000, 4);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut now, mut answered, mut unknown) = (origin(), 0, 0);
        let mut retries: Retries<u32, ()> = Retries::new(Backoff::new(ms(100)).with_max_sends(most));
        (0..count).for_each(|key| retries.ask(key, ()).unwrap());
        while !retries.is_idle() {
            let mut arrived = Vec::new();
            while let Some(send) = retries.poll_transmit(now, &mut rng) {
                arrived.push(send.key);
            }
            for key in arrived {
                if rng.random_bool(1.0 - loss) && rng.random_bool(1.0 - loss) {
                    answered += u32::from(retries.answered(now + ms(20), key).is_some());
                }
            }
            unknown += std::iter::from_fn(|| retries.poll_unknown(now)).count();
            now = retries.poll_timeout().unwrap_or(now);
        }
        let loss = Probability::new(loss).unwrap();
        let expected = success(loss, loss, most) * f64::from(count);
        assert_eq!(answered as usize + unknown, count as usize);
        assert!((f64::from(answered) - expected).abs() < 200.0, "{answered} of {expected}");
    }
}
