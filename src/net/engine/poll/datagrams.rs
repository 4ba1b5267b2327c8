//! What a loop knows of datagrams: the doors that may have some, and what waits for room in their sockets.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::log_limiter::LogLimiter;
use crate::net::rt;
use crate::net::udp::{PATIENCE, PAUSE};
use crate::service::{DoorId, Transmit};

/// Most datagrams that wait for room in their sockets; more are lost, which is what waiting for long would do to them.
const MOST_WAITING: usize = 1_024;

/// How often it is tried to send them. Those that come within such a time share an end of patience.
pub(in crate::net::engine) const RETRY: Duration = Duration::from_millis(1);

/// The datagrams of a loop.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    /// The doors that may have some, each once.
    ready: VecDeque<DoorId>,
    /// The doors where receiving has failed: it is tried again after a pause.
    failed: Vec<DoorId>,
    complaints: LogLimiter,
    pub(super) waiting: Waiting,
}

impl Datagrams {
    /// A door may have some.
    pub(super) fn notice(&mut self, id: DoorId) {
        if !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }

    /// The doors to receive from in this turn.
    pub(super) fn take_ready(&mut self) -> VecDeque<DoorId> {
        for id in std::mem::take(&mut self.failed) {
            self.notice(id);
        }
        std::mem::take(&mut self.ready)
    }

    /// Receiving has failed at a door.
    pub(super) fn fail(&mut self, id: DoorId, error: &io::Error) {
        if let Some(times) = self.complaints.count(rt::now()) {
            log::warn!("cannot receive datagrams ({times} attempts): {error}");
        }
        self.failed.push(id);
    }

    /// How long to wait at most before something is to be done.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let at_once = (!self.ready.is_empty()).then_some(Duration::ZERO);
        let pause = (!self.failed.is_empty()).then_some(PAUSE);
        let retry = (!self.waiting.is_empty()).then_some(RETRY);
        [at_once, pause, retry].into_iter().flatten().min()
    }
}

/// Datagrams that wait for room in their sockets.
#[derive(Debug, Default)]
pub(in crate::net::engine) struct Waiting {
    /// Until when each batch waits, the oldest first; none is empty.
    batches: VecDeque<(Instant, Vec<Transmit>)>,
    count: usize,
}

impl Waiting {
    pub(in crate::net::engine) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds some, at least one. Returns the oldest, as many as there are too many now.
    pub(in crate::net::engine) fn push(&mut self, now: Instant, transmits: Vec<Transmit>) -> Vec<Transmit> {
        self.count += transmits.len();
        let until = now + PATIENCE;
        match self.batches.back_mut() {
            Some((last, batch)) if until <= *last + RETRY => batch.extend(transmits),
            _ => self.batches.push_back((until, transmits)),
        }
        self.drop_oldest(self.count.saturating_sub(MOST_WAITING))
    }

    fn drop_oldest(&mut self, count: usize) -> Vec<Transmit> {
        let mut dropped = Vec::new();
        while dropped.len() < count
            && let Some((_, batch)) = self.batches.front_mut()
        {
            let part = batch.len().min(count - dropped.len());
            dropped.extend(batch.drain(..part));
            self.forget_empty();
        }
        self.count -= dropped.len();
        dropped
    }

    /// Tries again to send: `send` takes what it is done with, and returns how many that are. Returns how many those are in
    /// all, and what has waited for too long.
    pub(in crate::net::engine) fn retry(
        &mut self,
        now: Instant,
        mut send: impl FnMut(&mut Vec<Transmit>) -> usize,
    ) -> (usize, Vec<Transmit>) {
        let (mut sent, mut late) = (0, Vec::new());
        for (until, batch) in &mut self.batches {
            sent += send(batch);
            if *until <= now {
                late.append(batch);
            }
        }
        self.forget_empty();
        self.count -= sent + late.len();
        (sent, late)
    }

    fn forget_empty(&mut self) {
        self.batches.retain(|(_, batch)| !batch.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Peer;

    fn some(numbers: std::ops::Range<usize>) -> Vec<Transmit> {
        let peer = Peer::new(0, ([127, 0, 0, 1], 9).into());
        numbers.map(|number| Transmit { peer, bytes: number.to_string().into_bytes() }).collect()
    }

    fn bytes(transmits: &[Transmit]) -> Vec<&[u8]> {
        transmits.iter().map(|transmit| &transmit.bytes[..]).collect()
    }

    #[test]
    fn who_comes_later_waits_for_as_long_as_who_came_first() {
        let (start, mut waiting) = (rt::now(), Waiting::default());
        assert!(waiting.push(start, some(0..2)).is_empty());
        assert!(waiting.push(start + PATIENCE / 2, some(2..3)).is_empty());
        let (sent, late) = waiting.retry(start + PATIENCE, |_| 0);
        assert_eq!((sent, bytes(&late)), (0, vec![&b"0"[..], b"1"]));
        let (_, late) = waiting.retry(start + PATIENCE, |_| 0);
        assert!(late.is_empty() && !waiting.is_empty());
        let (_, late) = waiting.retry(start + PATIENCE / 2 + PATIENCE, |_| 0);
        assert_eq!(bytes(&late), [b"2"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn what_is_sent_waits_no_more() {
        let (start, mut waiting) = (rt::now(), Waiting::default());
        waiting.push(start, some(0..3));
        let (sent, late) = waiting.retry(start, |batch| batch.drain(..2).len());
        assert_eq!((sent, late.len()), (2, 0));
        let (sent, late) = waiting.retry(start + PATIENCE, |batch| batch.drain(..).len());
        assert_eq!((sent, late.len()), (1, 0));
        assert!(waiting.is_empty());
    }

    #[test]
    fn the_oldest_make_room_for_more_than_may_wait() {
        let (start, mut waiting) = (rt::now(), Waiting::default());
        assert!(waiting.push(start, some(0..2)).is_empty());
        let dropped = waiting.push(start + PATIENCE / 2, some(2..MOST_WAITING + 3));
        assert_eq!(bytes(&dropped), [b"0", b"1", b"2"]);
        let (_, late) = waiting.retry(start + PATIENCE, |_| 0);
        assert!(late.is_empty(), "those that were first are gone");
    }

    #[test]
    fn a_door_where_receiving_failed_is_tried_again_once_after_a_pause() {
        let mut datagrams = Datagrams::default();
        assert_eq!(datagrams.timeout(), None);
        datagrams.fail(3, &io::Error::other("no memory"));
        assert_eq!(datagrams.timeout(), Some(PAUSE));
        datagrams.notice(3);
        assert_eq!(datagrams.timeout(), Some(Duration::ZERO));
        assert_eq!(datagrams.take_ready(), [3]);
        assert_eq!(datagrams.timeout(), None);
    }
}
