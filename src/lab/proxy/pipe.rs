//! One direction of a stream proxy: the effect of a lossy link on a TCP stream, as the application sees it.
//!
//! No byte is ever missing. The stream is cut into segments, and each transmission of a segment has a verdict. A lost
//! segment stalls everything behind it until its retransmission timeout, which doubles with each further loss of the
//! same segment. RFC 6298 and Linux do the same; the constants are Linux's. Delays keep the order, and a rate limit
//! causes back-pressure.
//!
//! The driver's contract: hand in bytes with [`Pipe::handle_bytes`], no more than [`Pipe::room`], then the end. Write
//! what [`Pipe::ready`] returns, and report the number of bytes written with [`Pipe::consume`]. Call
//! [`Pipe::handle_timeout`] once [`Pipe::poll_timeout`] is due; a spurious call is harmless.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::lab::proxy::segment_model::{Carried, SegmentModel};
use crate::units::later;

/// Bytes of a segment at most: the payload of an Ethernet frame behind the headers of IPv4 and TCP.
pub(crate) const SEGMENT: usize = 1_460;

/// Bound on the bytes that one direction of a connection holds. With a delay it is the window: no more is carried per
/// delay.
pub(crate) const BUFFER: usize = 256 << 10;

/// The least retransmission timeout of Linux (TCP_RTO_MIN), the usual one on a fast network.
pub(crate) const FIRST_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest retransmission timeout of Linux (TCP_RTO_MAX).
pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Retransmissions of a segment before the connection is given up: Linux's net.ipv4.tcp_retries2.
pub(crate) const RETRIES: u32 = 15;

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// The connection's ordinal.
    flow: u64,
    /// Bytes that have arrived and are to be written, then those in flight, then those waiting to be sent.
    bytes: VecDeque<u8>,
    /// Number of bytes that have arrived.
    arrived: usize,
    /// Number of bytes in each segment in flight, and when it arrives.
    under_way: VecDeque<(Instant, usize)>,
    /// Number of bytes that wait.
    waiting: usize,
    /// Time at which the next segment can be sent.
    next: Instant,
    /// Arrival time of the last segment in flight: no later segment overtakes it.
    last: Instant,
    /// The next segment to send, if its last transmission was lost.
    stall: Option<Stall>,
    /// The index of the next transmission.
    index: u64,
    has_ended: bool,
    is_reset: bool,
}

/// A lost segment that waits for its retransmission.
#[derive(Clone, Copy, Debug)]
struct Stall {
    size: usize,
    timeout: Duration,
    retries: u32,
}

impl Pipe {
    /// Creates an empty pipe of a connection.
    #[must_use]
    pub(crate) fn new(now: Instant, flow: u64) -> Self {
        Self {
            flow,
            bytes: VecDeque::new(),
            arrived: 0,
            under_way: VecDeque::new(),
            waiting: 0,
            next: now,
            last: now,
            stall: None,
            index: 0,
            has_ended: false,
            is_reset: false,
        }
    }

    /// Returns how many bytes it accepts: 0 once it has ended or is reset.
    #[must_use]
    pub(crate) fn room(&self) -> usize {
        if self.has_ended || self.is_reset { 0 } else { BUFFER.saturating_sub(self.bytes.len()) }
    }

    /// Accepts bytes. Verdicts are drawn when each segment's time comes.
    pub(crate) fn handle_bytes(&mut self, now: Instant, bytes: &[u8], model: &mut SegmentModel) {
        if self.waiting == 0 {
            self.next = self.next.max(now);
        }
        self.bytes.extend(bytes);
        self.waiting += bytes.len();
        self.handle_timeout(now, model);
    }

    /// Ends the input: the end follows the last byte.
    pub(crate) fn handle_end(&mut self) {
        self.has_ended = true;
    }

    /// Does everything that is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, model: &mut SegmentModel) {
        self.hurry(model.free(now));
        while self.waiting > 0 && self.next <= now && !self.is_reset {
            self.transmit(model);
        }
        while let Some((_, size)) = self.under_way.pop_front_if(|(due, _)| *due <= now) {
            self.arrived += size;
        }
    }

    /// Applies a change of the rate limit, which is now free at `free`: a segment that waits for it longer than that
    /// is sent earlier.
    fn hurry(&mut self, free: Instant) {
        let early = self.next.saturating_duration_since(free);
        if early.is_zero() || self.stall.is_some() {
            return;
        }
        self.next = free;
        if let Some((due, size)) = self.under_way.pop_back() {
            let before = self.under_way.back().map_or(free, |(due, _)| *due);
            self.last = due.checked_sub(early).unwrap_or(due).max(before);
            self.under_way.push_back((self.last, size));
        }
    }

    /// Transmits the next segment, for the first time or again.
    fn transmit(&mut self, model: &mut SegmentModel) {
        let size = self.stall.map_or_else(|| self.waiting.min(SEGMENT), |stall| stall.size);
        let carried = model.decide(self.next, self.flow, self.index, size);
        self.index += 1;
        match carried {
            Carried::Reset => self.is_reset = true,
            Carried::Lost => self.lose(size),
            Carried::Passed { delay, takes } => {
                self.next = later(self.next, takes);
                self.last = self.last.max(later(self.next, delay));
                self.under_way.push_back((self.last, size));
                self.waiting -= size;
                self.stall = None;
            }
        }
    }

    fn lose(&mut self, size: usize) {
        let stall = self.stall.unwrap_or(Stall { size, timeout: FIRST_TIMEOUT, retries: 0 });
        self.is_reset = stall.retries >= RETRIES;
        self.next = later(self.next, stall.timeout);
        let timeout = (stall.timeout * 2).min(LONGEST_TIMEOUT);
        self.stall = Some(Stall { timeout, retries: stall.retries + 1, ..stall });
    }

    /// Returns when there is something to do; `None` means never.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let sending = (self.waiting > 0 && !self.is_reset).then_some(self.next);
        let arriving = self.under_way.front().map(|(due, _)| *due);
        sending.into_iter().chain(arriving).min()
    }

    /// Returns bytes that have arrived and are to be written, possibly not all of them; empty if there are none.
    #[must_use]
    pub(crate) fn ready(&self) -> &[u8] {
        let (head, _) = self.bytes.as_slices();
        head.get(..self.arrived).unwrap_or(head)
    }

    /// Removes so many ready bytes, which were written.
    pub(crate) fn consume(&mut self, count: usize) {
        let count = count.min(self.arrived);
        self.bytes.drain(..count);
        self.arrived -= count;
    }

    /// Whether the connection is to be reset: at random, or because a segment was lost too often.
    #[must_use]
    pub(crate) const fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// Whether all bytes were written and the end is to follow.
    #[must_use]
    pub(crate) fn is_finished(&self) -> bool {
        self.has_ended && self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Direction, LinkConfig};

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn model(link: &str) -> SegmentModel {
        SegmentModel::new(link.parse::<LinkConfig>().unwrap(), 7, Direction::Up, true)
    }

    /// Feeds `bytes` as there is room. Returns the bytes that arrive and the time of each arrival since the start.
    /// Ends when all have arrived, the pipe is reset, or nothing more is due.
    fn carry(model: &mut SegmentModel, bytes: &[u8]) -> (Vec<u8>, Vec<(Duration, usize)>, Pipe) {
        let start = origin();
        let (mut now, mut pipe, mut rest) = (start, Pipe::new(start, 0), bytes);
        let (mut came, mut times) = (Vec::new(), Vec::new());
        loop {
            let (fits, later) = rest.split_at(rest.len().min(pipe.room()));
            if !fits.is_empty() {
                pipe.handle_bytes(now, fits, model);
                rest = later;
            }
            if rest.is_empty() {
                pipe.handle_end();
            }
            while !pipe.ready().is_empty() {
                let count = pipe.ready().len();
                came.extend_from_slice(pipe.ready());
                times.push((now - start, count));
                pipe.consume(count);
            }
            match pipe.poll_timeout() {
                Some(at) if !pipe.is_reset() => now = at.max(now),
                _ if rest.is_empty() || pipe.is_reset() => return (came, times, pipe),
                _ => {}
            }
            pipe.handle_timeout(now, model);
        }
    }

    fn pattern(count: usize) -> Vec<u8> {
        (0..=250).cycle().take(count).collect()
    }

    #[test]
    fn a_perfect_link_delivers_at_once() {
        let bytes = pattern(1_000_000);
        let (came, times, pipe) = carry(&mut model("none"), &bytes);
        assert_eq!(came, bytes);
        assert!(times.iter().all(|(after, _)| after.is_zero()) && pipe.is_finished());
    }

    #[test]
    fn no_byte_is_missing_whatever_is_lost() {
        let bytes = pattern(300_000);
        for link in
            ["iid:.5", "gilbert:.3,2+delay:20ms,10ms", "iid:.1+rate:10mbit", "blackhole:.1,.05+rate:10mbit"]
        {
            let mut model = model(link);
            let (came, _, pipe) = carry(&mut model, &bytes);
            assert!(came == bytes && pipe.is_finished(), "{link}");
            assert!(model.totals().lost > 0, "{link}");
        }
    }

    #[test]
    fn a_lost_segment_stalls_as_a_retransmission_timeout_doubled_for_each_further_loss() {
        // The first two transmissions are lost: 200 ms and 400 ms. Then the fifth is lost: 200 ms.
        let (came, times, _) = carry(&mut model("list:1,2,5"), &pattern(4 * SEGMENT));
        assert_eq!(came.len(), 4 * SEGMENT);
        assert_eq!(times, [(ms(600), 2 * SEGMENT), (ms(800), 2 * SEGMENT)]);
    }

    #[test]
    fn a_segment_that_is_lost_with_all_its_retransmissions_resets_the_connection() {
        let mut model = model("iid:1");
        let (came, _, pipe) = carry(&mut model, &pattern(10));
        assert!(came.is_empty() && pipe.is_reset() && !pipe.is_finished());
        assert_eq!(model.totals().segments, u64::from(RETRIES) + 1);
        // 200 ms, 400 ms, .. 102.4 s, then 120 s each: the 15 waits that Linux makes.
        let waited = pipe.next - model.take_notes().first().map_or(pipe.next, |_| pipe.last);
        assert!(waited > Duration::from_secs(204 + 5 * 120), "{waited:?}");
    }

    #[test]
    fn a_reset_happens_with_its_probability() {
        let (mut model, mut resets) = (model("reset:.2"), 0);
        for flow in 0..1_000 {
            let start = origin();
            let mut pipe = Pipe::new(start, flow);
            pipe.handle_bytes(start, b"x", &mut model);
            resets += i32::from(pipe.is_reset());
        }
        assert!((resets - 200).abs() < 38, "{resets}");
    }

    #[test]
    fn a_delay_that_varies_keeps_the_order_and_the_end_comes_after_the_bytes() {
        let (bytes, mut model) = (pattern(100 * SEGMENT), model("delay:50ms,40ms"));
        let (came, times, pipe) = carry(&mut model, &bytes);
        assert!(came == bytes && pipe.is_finished());
        assert!(times.first().is_some_and(|(after, _)| (ms(10)..=ms(90)).contains(after)));
    }

    #[test]
    fn a_rate_is_exact_and_causes_back_pressure() {
        let (start, mut model) = (origin(), model("rate:8mbit"));
        let mut pipe = Pipe::new(start, 0);
        pipe.handle_bytes(start, &pattern(BUFFER), &mut model);
        assert_eq!(pipe.room(), 0);
        let (came, times, _) = carry(&mut model, &pattern(1_000_000));
        // The connections share the rate, so the other one has a segment in flight at most.
        let took = times.last().map(|(after, _)| *after).unwrap();
        assert!(took >= ms(1_000) && took <= ms(1_003), "{took:?}");
        assert_eq!(came.len(), 1_000_000);
    }

    #[test]
    fn a_higher_or_removed_rate_releases_waiting_bytes() {
        let (start, config) = (origin(), |link: &str| link.parse::<LinkConfig>().unwrap());
        for (next, through) in [("rate:8mbit+delay:5ms", Duration::from_micros(1_460)), ("delay:5ms", ms(0))]
        {
            let (mut model, mut pipe) = (model("rate:1kbit+delay:5ms"), Pipe::new(start, 0));
            pipe.handle_bytes(start, &pattern(2 * SEGMENT), &mut model);
            assert_eq!(pipe.poll_timeout(), Some(start + ms(11_680)));
            model.set_config(start, config(next));
            pipe.handle_timeout(start, &mut model);
            let end = start + 2 * through + ms(5);
            pipe.handle_timeout(start + through, &mut model);
            pipe.handle_timeout(end, &mut model);
            assert_eq!((pipe.ready().len(), pipe.poll_timeout()), (2 * SEGMENT, None), "{next}");
        }
    }

    #[test]
    fn the_same_seed_stalls_the_same_way() {
        let times = || carry(&mut model("iid:.2"), &pattern(200_000)).1;
        assert_eq!(times(), times());
    }

    #[test]
    fn a_spurious_call_is_harmless() {
        let (start, mut model) = (origin(), model("list:1"));
        let mut pipe = Pipe::new(start, 0);
        pipe.handle_timeout(start, &mut model);
        pipe.handle_bytes(start, b"abc", &mut model);
        for _ in 0..10 {
            pipe.handle_timeout(start, &mut model);
        }
        assert_eq!(model.totals().segments, 1);
        pipe.consume(99);
        assert_eq!(pipe.poll_timeout(), Some(start + FIRST_TIMEOUT));
    }
}
