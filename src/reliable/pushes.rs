//! The sender of pushes: retransmits each numbered push until it is acknowledged.
//!
//! A push is numbered when it is first sent, and a numbered push is never dropped. Over datagrams, each has a
//! retransmission timer (RFC 6298 with the configured first timeout as floor). The number in flight is bounded by a
//! window that grows by one per window acknowledged and halves on a timeout (RFC 8085 section 3.1). On a stream, each
//! is sent once per connection and kept until acknowledged. Pushes without a number wait in `hub::queue`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::RttEstimator;
use crate::queue_capacity::{grow_by_quarter, shrink_sparse};
use crate::wire::Id;

/// The initial window over datagrams, in pushes.
pub(super) const INITIAL_WINDOW: usize = 4;
/// The largest window over datagrams, in pushes.
pub const MAX_WINDOW: usize = 32;

/// The retransmission timeouts of pushes over datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushTimeouts {
    /// The first timeout, and the floor of a measured one; 0.1 s by default.
    pub first: Duration,
    /// The cap of doubled timeouts; 1 s by default.
    pub longest: Duration,
}

impl Default for PushTimeouts {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(1) }
    }
}

impl PushTimeouts {
    /// The timeout of the `sends`-th send if the first is this one: doubled each time, capped.
    pub(crate) fn after(self, sends: u32, first: Duration) -> Duration {
        let doublings = sends.saturating_sub(1).min(31);
        first.saturating_mul(1 << doublings).min(self.longest.max(self.first))
    }
}

#[derive(Debug)]
struct PushInFlight<T> {
    id: u64,
    /// `None` once it is acknowledged, while it stands between unacknowledged ones.
    item: Option<T>,
    sends: u32,
    sent_at: Instant,
    due: Instant,
}

/// The unacknowledged numbered pushes of one session.
#[derive(Debug)]
pub struct Pushes<T> {
    timeouts: PushTimeouts,
    rtt: RttEstimator,
    next: u64,
    /// Ordered by id. The first and the last are not acknowledged.
    in_flight: VecDeque<PushInFlight<T>>,
    /// The number of acknowledged entries among them.
    holes: usize,
    /// Acknowledged entries passed since the last compaction.
    in_vain: usize,
    /// On a stream: the lowest id that this connection has not carried.
    resend_from: u64,
    window: usize,
    /// Pushes acknowledged since the window last changed.
    acked_in_window: usize,
    /// The window does not halve again before this: one round trip is one congestion event.
    halved_until: Option<Instant>,
    never_repeat: bool,
}

impl<T> Pushes<T> {
    /// Creates an empty sender; ids count up from 1.
    pub fn new(timeouts: PushTimeouts) -> Self {
        Self {
            timeouts,
            rtt: RttEstimator::new()
                .with_floor(timeouts.first)
                .with_ceiling(timeouts.longest.max(timeouts.first)),
            next: 1,
            in_flight: VecDeque::new(),
            holes: 0,
            in_vain: 0,
            resend_from: 1,
            window: INITIAL_WINDOW,
            acked_in_window: 0,
            halved_until: None,
            never_repeat: false,
        }
    }

    /// Sends pushes once only; a fault to test the tests with.
    #[doc(hidden)]
    pub fn never_repeat(mut self) -> Self {
        self.never_repeat = true;
        self
    }

    /// Continues after this many pushes that were numbered and acknowledged before.
    #[must_use]
    pub fn behind(mut self, numbered: u64) -> Self {
        self.next = numbered.saturating_add(1);
        self.resend_from = self.next;
        self
    }

    /// The number of pushes numbered so far.
    pub fn numbered(&self) -> u64 {
        self.next - 1
    }

    /// The number of pushes in flight.
    pub fn len(&self) -> usize {
        self.in_flight.len() - self.holes
    }

    /// Whether everything that was sent is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The unacknowledged pushes, oldest first.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &T> {
        self.in_flight.iter().filter_map(|push| push.item.as_ref())
    }

    /// The newest of the unacknowledged pushes.
    pub fn newest(&self) -> Option<&T> {
        self.in_flight.back()?.item.as_ref()
    }

    /// Numbers `item`, and records it as sent at `now`.
    ///
    /// Returns `None`, and keeps nothing, once 10^19-1 ids are used up.
    pub fn send(&mut self, now: Instant, item: T) -> Option<(Id, &T)> {
        let id = Id::new(self.next)?;
        let due = now + self.timeout(1);
        self.next += 1;
        self.resend_from = self.next;
        let push = PushInFlight { id: id.get(), item: Some(item), sends: 1, sent_at: now, due };
        grow_by_quarter(&mut self.in_flight);
        self.in_flight.push_back(push);
        Some((id, self.newest()?))
    }

    /// Acknowledges these ranges of ids, lowest and highest of each. Ranges beyond what was sent are clipped.
    ///
    /// `let_go` is called with each push that is freed, and its id. Returns the number of entries visited.
    pub fn acknowledge(
        &mut self,
        now: Instant,
        ranges: &[(u64, u64)],
        mut let_go: impl FnMut(u64, T),
    ) -> usize {
        let mut newest: Option<(u64, Instant)> = None;
        let mut passed = 0;
        for &(low, high) in ranges {
            let mut at = self.place_of(low);
            while let Some(push) = self.in_flight.get_mut(at).filter(|push| push.id <= high) {
                let id = push.id;
                let sent_at = self.acknowledge_at(at, &mut let_go);
                newest = newest.max(sent_at.map(|at| (id, at)));
                at += 1;
                passed += 1;
            }
        }
        self.tidy();
        // Only the newest gives an RTT sample: older ones may be named late, after a lost acknowledgement.
        if let Some((_, sent_at)) = newest {
            self.rtt.sample(now.saturating_duration_since(sent_at));
        }
        passed
    }

    /// The position of the push with this id, or where it would be.
    fn place_of(&self, id: u64) -> usize {
        match self.in_flight.front() {
            Some(first) if first.id < id => self.in_flight.partition_point(|push| push.id < id),
            _ => 0,
        }
    }

    /// Returns when the push was sent, unless it was retransmitted: Karn's rule, such a sample would be ambiguous.
    fn acknowledge_at(&mut self, at: usize, let_go: &mut impl FnMut(u64, T)) -> Option<Instant> {
        let push = self.in_flight.get_mut(at)?;
        let Some(item) = push.item.take() else {
            self.in_vain += 1;
            return None;
        };
        let_go(push.id, item);
        self.holes += 1;
        self.acked_in_window += 1;
        if self.acked_in_window >= self.window {
            self.acked_in_window = 0;
            self.window = (self.window + 1).min(MAX_WINDOW);
        }
        (push.sends == 1).then_some(push.sent_at)
    }

    /// Frees unused memory once everything is acknowledged.
    pub fn give_back(&mut self) {
        if self.in_flight.is_empty() {
            self.in_flight = VecDeque::new();
        }
    }

    /// Removes acknowledged entries: at the ends always, elsewhere once they outnumber the rest or were passed too
    /// often. So an unusual order of acknowledgements costs no more time or memory.
    fn tidy(&mut self) {
        while self.in_flight.pop_front_if(|push| push.item.is_none()).is_some() {
            self.holes -= 1;
        }
        while self.in_flight.pop_back_if(|push| push.item.is_none()).is_some() {
            self.holes -= 1;
        }
        if self.holes > self.len() || self.in_vain > self.in_flight.len() {
            self.in_flight.retain(|push| push.item.is_some());
            self.holes = 0;
        }
        if self.holes == 0 {
            self.in_vain = 0;
        }
        shrink_sparse(&mut self.in_flight);
    }

    /// The timeout after the `sends`-th send.
    fn timeout(&self, sends: u32) -> Duration {
        let first = self.rtt.rto().unwrap_or(self.timeouts.first).max(self.timeouts.first);
        self.timeouts.after(sends, first)
    }
}

/// Over datagrams.
impl<T> Pushes<T> {
    /// Whether the window has room for a new push.
    pub fn has_room(&self) -> bool {
        self.len() < self.window
    }

    /// Whether [`Pushes::poll_repeat`] would return something.
    pub fn next_repeat(&self, now: Instant) -> Option<&T> {
        self.find_repeat(now)?.item.as_ref()
    }

    fn find_repeat(&self, now: Instant) -> Option<&PushInFlight<T>> {
        self.candidates().find(|push| push.due <= now)
    }

    /// The next push whose timeout has passed, retransmitted at `now`; the window bounds these as well.
    pub fn poll_repeat(&mut self, now: Instant) -> Option<(Id, &T)> {
        let id = self.find_repeat(now)?.id;
        self.halve_window(now);
        let at = self.place_of(id);
        let sends = self.in_flight.get(at)?.sends.saturating_add(1);
        let due = now + self.timeout(sends);
        let push = self.in_flight.get_mut(at)?;
        (push.sends, push.due) = (sends, due);
        Some((Id::new(id)?, push.item.as_ref()?))
    }

    /// The time at which [`Pushes::poll_repeat`] has something; `None` means never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.candidates().map(|push| push.due).min()
    }

    /// The peer has moved or was silent: all unacknowledged pushes are due now.
    pub fn repeat_all(&mut self, now: Instant) {
        for push in &mut self.in_flight {
            push.due = now;
        }
    }

    /// The pushes that may be retransmitted: the oldest, as many as the window holds.
    fn candidates(&self) -> impl Iterator<Item = &PushInFlight<T>> {
        let most = if self.never_repeat { 0 } else { self.window };
        self.in_flight.iter().filter(|push| push.item.is_some()).take(most)
    }

    fn halve_window(&mut self, now: Instant) {
        if self.halved_until.is_some_and(|until| now < until) {
            return;
        }
        self.window = (self.window / 2).max(1);
        self.acked_in_window = 0;
        self.halved_until = Some(now + self.rtt.srtt().unwrap_or(self.timeouts.first));
    }
}

/// On a stream.
impl<T> Pushes<T> {
    /// A new connection carries the session: all unacknowledged pushes are to be sent again, from the lowest.
    pub fn reattach(&mut self) {
        self.resend_from = self.in_flight.front().map_or(self.next, |push| push.id);
    }

    /// The next unacknowledged push that this connection has not carried.
    pub fn poll_resend(&mut self) -> Option<(Id, &T)> {
        let at = self.next_resend()?;
        let push = self.in_flight.get(at)?;
        self.resend_from = push.id + 1;
        Some((Id::new(push.id)?, push.item.as_ref()?))
    }

    /// Whether [`Pushes::poll_resend`] would return something.
    pub fn has_resend(&self) -> bool {
        self.next_resend().is_some()
    }

    fn next_resend(&self) -> Option<usize> {
        if self.resend_from == self.next {
            return None;
        }
        let from = self.place_of(self.resend_from);
        (from..self.in_flight.len())
            .find(|at| self.in_flight.get(*at).is_some_and(|push| push.item.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn sent(now: Instant, count: u32) -> Pushes<u32> {
        let mut pushes = Pushes::new(PushTimeouts::default());
        for n in 1..=count {
            pushes.send(now, n);
        }
        pushes
    }

    /// Acknowledges, and returns the freed ids.
    fn ack(pushes: &mut Pushes<u32>, now: Instant, ranges: &[(u64, u64)]) -> Vec<u64> {
        let mut ids = Vec::new();
        pushes.acknowledge(now, ranges, |id, item| {
            assert_eq!(u64::from(item), id);
            ids.push(id);
        });
        ids
    }

    #[test]
    fn an_unacknowledged_push_is_retransmitted_with_doubling_up_to_the_longest_timeout() {
        let now = start();
        let mut pushes = sent(now, 1);
        let mut at = now;
        let mut waits = Vec::new();
        for _ in 0..6 {
            let due = pushes.poll_timeout().unwrap();
            assert!(pushes.poll_repeat(due - ms(1)).is_none());
            assert_eq!(pushes.poll_repeat(due).map(|(id, item)| (id.get(), *item)), Some((1, 1)));
            waits.push((due - at).as_millis());
            at = due;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn acknowledgements_beyond_what_was_sent_are_clipped() {
        let now = start();
        let mut pushes = sent(now, 4);
        assert_eq!(ack(&mut pushes, now, &[(2, crate::wire::MAX_ID), (9, 9), (5, 3)]), [2, 3, 4]);
        assert_eq!(pushes.unacknowledged().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(ack(&mut pushes, now, &[(1, 1), (1, 1)]), [1]);
        assert!(pushes.is_empty() && pushes.poll_timeout().is_none());
    }

    #[test]
    fn acknowledgements_in_any_order_are_accepted_and_take_no_more_memory() {
        let now = start();
        let mut pushes = sent(now, 1_000);
        let mut left: Vec<u64> = (1..=1_000).collect();
        for n in 0..1_000_u64 {
            let id = n * 7_919 % 1_000 + 1;
            let named = left.extract_if(.., |left| (id..=id + n % 3).contains(left)).collect::<Vec<_>>();
            assert_eq!(ack(&mut pushes, now, &[(id, id + n % 3)]), named);
            assert_eq!(pushes.len(), left.len());
            assert!(pushes.in_flight.len() <= 2 * pushes.len() + 1);
            pushes.reattach();
            let again = std::iter::from_fn(|| pushes.poll_resend().map(|(id, _)| id.get()));
            assert!(again.take(3).eq(left.iter().copied().take(3)));
        }
    }

    #[test]
    fn acknowledged_pushes_free_their_memory_even_while_one_is_outstanding() {
        let now = start();
        let mut pushes = sent(now, 50_000);
        ack(&mut pushes, now, &[(1, 49_999)]);
        assert_eq!(pushes.len(), 1);
        assert!(pushes.in_flight.capacity() <= 256, "room for {}", pushes.in_flight.capacity());
    }

    #[test]
    fn repeated_acknowledgements_do_not_cost_repeated_work() {
        let now = start();
        let mut pushes = sent(now, 1_000);
        ack(&mut pushes, now, &[(2, 400)]);
        assert_eq!(pushes.in_flight.len(), 1_000);
        for _ in 0..3 {
            ack(&mut pushes, now, &[(2, 400)]);
        }
        assert_eq!(pushes.in_flight.len(), 601);
    }

    #[test]
    fn the_window_starts_at_4_grows_by_one_per_window_and_halves_once_per_round_trip() {
        let now = start();
        let mut pushes = sent(now, 4);
        assert!(!pushes.has_room());
        ack(&mut pushes, now + ms(10), &[(1, 4)]);
        assert_eq!(pushes.window, 5);
        for n in 0..5 {
            pushes.send(now + ms(10), n);
        }
        let late = now + ms(500);
        while pushes.poll_repeat(late).is_some() {}
        assert_eq!(pushes.window, 2, "two timeouts at one instant are one congestion event");
    }

    #[test]
    fn a_resumed_stream_resends_only_unacknowledged_pushes_from_the_lowest() {
        let now = start();
        let mut pushes = sent(now, 4);
        assert!(!pushes.has_resend(), "the connection that sent them needs no repeat");
        ack(&mut pushes, now, &[(1, 1), (3, 3)]);
        pushes.reattach();
        let again: Vec<u64> = std::iter::from_fn(|| pushes.poll_resend().map(|(id, _)| id.get())).collect();
        assert_eq!(again, [2, 4]);
        assert_eq!(pushes.send(now, 5).map(|(id, _)| id.get()), Some(5));
        assert!(!pushes.has_resend());
    }

    #[test]
    fn a_round_trip_time_replaces_the_first_timeout_but_never_goes_below_it() {
        let now = start();
        let mut pushes = sent(now, 1);
        ack(&mut pushes, now + ms(200), &[(1, 1)]);
        pushes.send(now + ms(200), 2);
        let wait = pushes.poll_timeout().unwrap() - (now + ms(200));
        assert_eq!(wait, ms(600), "SRTT 200 ms + 4 x RTTVAR 100 ms");
    }
}
