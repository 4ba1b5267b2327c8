//! Datagrams of one loop: sockets that may have some to receive, and datagrams that wait for a full socket.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::net::udp::{PAUSE, ReceivePause, SEND_TIMEOUT};
use crate::service::{ListenerId, Transmit};

/// Most datagrams that wait for their sockets. The oldest are dropped beyond that, as waiting for long would
/// drop them too.
const MAX_WAITING: usize = 1_024;

/// The pause between two attempts to send them. Datagrams queued within it share a deadline.
pub(in crate::net::engine) const RETRY: Duration = Duration::from_millis(1);

/// The datagrams of a loop.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    /// Sockets that may have some, each once.
    ready: VecDeque<ListenerId>,
    /// Sockets where receiving failed, tried again after a pause.
    failed: Vec<ListenerId>,
    pause: ReceivePause,
    pub(super) waiting: Waiting,
}

impl Datagrams {
    /// A socket may have some.
    pub(super) fn notice(&mut self, id: ListenerId) {
        if !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }

    /// The sockets to receive from in this turn.
    pub(super) fn take_ready(&mut self) -> VecDeque<ListenerId> {
        for id in std::mem::take(&mut self.failed) {
            self.notice(id);
        }
        std::mem::take(&mut self.ready)
    }

    /// Receiving failed at a socket.
    pub(super) fn fail(&mut self, id: ListenerId, error: &io::Error) {
        self.pause.warn(error);
        self.failed.push(id);
    }

    /// The longest time to wait before there is something to do.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let at_once = (!self.ready.is_empty()).then_some(Duration::ZERO);
        let pause = (!self.failed.is_empty()).then_some(PAUSE);
        let retry = (!self.waiting.is_empty()).then_some(RETRY);
        [at_once, pause, retry].into_iter().flatten().min()
    }
}

/// Datagrams that wait for their sockets.
#[derive(Debug, Default)]
pub(in crate::net::engine) struct Waiting {
    /// Each batch with its deadline, the oldest first; none is empty.
    batches: VecDeque<(Instant, Vec<Transmit>)>,
    count: usize,
}

impl Waiting {
    pub(in crate::net::engine) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Queues datagrams, at least one. Returns the oldest beyond the limit, which are to be dropped.
    pub(in crate::net::engine) fn push(&mut self, now: Instant, transmits: Vec<Transmit>) -> Vec<Transmit> {
        self.count += transmits.len();
        let until = now + SEND_TIMEOUT;
        match self.batches.back_mut() {
            Some((last, batch)) if until <= *last + RETRY => batch.extend(transmits),
            _ => self.batches.push_back((until, transmits)),
        }
        self.drop_oldest(self.count.saturating_sub(MAX_WAITING))
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

    /// Tries again to send. `send` removes what is done and returns how many. Returns how many are done in
    /// all, and those that waited too long.
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
    use crate::net::rt;
    use crate::service::Peer;

    fn some(numbers: std::ops::Range<usize>) -> Vec<Transmit> {
        let peer = Peer::new(0, ([127, 0, 0, 1], 9).into());
        numbers.map(|number| Transmit { peer, bytes: number.to_string().into_bytes() }).collect()
    }

    fn bytes(transmits: &[Transmit]) -> Vec<&[u8]> {
        transmits.iter().map(|transmit| &transmit.bytes[..]).collect()
    }

    #[test]
    fn later_datagrams_wait_for_as_long_as_earlier_ones() {
        let (start, mut waiting) = (rt::now(), Waiting::default());
        assert!(waiting.push(start, some(0..2)).is_empty());
        assert!(waiting.push(start + SEND_TIMEOUT / 2, some(2..3)).is_empty());
        let (sent, late) = waiting.retry(start + SEND_TIMEOUT, |_| 0);
        assert_eq!((sent, bytes(&late)), (0, vec![&b"0"[..], b"1"]));
        let (_, late) = waiting.retry(start + SEND_TIMEOUT, |_| 0);
        assert!(late.is_empty() && !waiting.is_empty());
        let (_, late) = waiting.retry(start + SEND_TIMEOUT / 2 + SEND_TIMEOUT, |_| 0);
        assert_eq!(bytes(&late), [b"2"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn sent_datagrams_are_not_kept() {
        let (start, mut waiting) = (rt::now(), Waiting::default());
        waiting.push(start, some(0..3));
        let (sent, late) = waiting.retry(start, |batch| batch.drain(..2).len());
        assert_eq!((sent, late.len()), (2, 0));
        let (sent, late) = waiting.retry(start + SEND_TIMEOUT, |batch| batch.drain(..).len());
        assert_eq!((sent, late.len()), (1, 0));
        assert!(waiting.is_empty());
    }

    #[test]
    fn the_oldest_are_dropped_beyond_the_limit() {
        let (start, mut waiting) = (rt::now(), Waiting::default());
        assert!(waiting.push(start, some(0..2)).is_empty());
        let dropped = waiting.push(start + SEND_TIMEOUT / 2, some(2..MAX_WAITING + 3));
        assert_eq!(bytes(&dropped), [b"0", b"1", b"2"]);
        let (_, late) = waiting.retry(start + SEND_TIMEOUT, |_| 0);
        assert!(late.is_empty(), "those that were first are gone");
    }

    #[test]
    fn a_socket_where_receiving_failed_is_tried_once_after_a_pause() {
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
