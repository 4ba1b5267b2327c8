//! One direction of a stream proxy: what a lossy link does to a TCP stream, as it looks above TCP.
//!
//! No byte is ever missing there. The stream is cut into segments, and each transmission of a segment has a verdict. A
//! segment that is lost stalls everything behind it until its retransmission timeout, which doubles with each further loss
//! of the same segment; so do RFC 6298 and Linux, whose constants these are. Delays keep the order, a rate limit is felt as
//! back-pressure.
//!
//! The contract for whoever drives it: hand in bytes with [`Pipe::handle_bytes`], no more than [`Pipe::room`], then the
//! end. Write what [`Pipe::ready`] gives and say how much of it went with [`Pipe::consume`]. Call [`Pipe::handle_timeout`]
//! once [`Pipe::poll_timeout`] is due; a spurious call is harmless.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::lab::proxy::verdict::{Carried, Judge};
use crate::units::later;

/// Most bytes of one segment: what fits into an Ethernet frame behind the headers of IPv4 and TCP.
pub const SEGMENT: usize = 1_460;

/// Most bytes that a direction of one connection holds. With a delay, that is the window: no more is carried per delay.
pub const BUFFER: usize = 256 << 10;

/// The least retransmission timeout of Linux (TCP_RTO_MIN), which on a fast network is the usual one.
pub const FIRST_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest retransmission timeout of Linux (TCP_RTO_MAX).
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a segment is sent again before the connection is given up: Linux's net.ipv4.tcp_retries2.
pub const RETRIES: u32 = 15;

/// One direction of a connection.
#[derive(Debug)]
pub struct Pipe {
    /// Which connection it is.
    flow: u64,
    /// What has arrived and is to be written, then what is under way, then what waits to be sent.
    bytes: VecDeque<u8>,
    /// How much of that has arrived.
    arrived: usize,
    /// How much after that is under way, and when it arrives.
    under_way: VecDeque<(Instant, usize)>,
    /// How much after that waits.
    waiting: usize,
    /// When the next segment can be sent.
    next: Instant,
    /// When the last segment under way arrives: none behind it is faster.
    last: Instant,
    /// The segment at the head of what waits, if it has been sent in vain.
    stall: Option<Stall>,
    /// The index of the next transmission.
    index: u64,
    has_ended: bool,
    is_reset: bool,
}

/// A segment that was lost.
#[derive(Clone, Copy, Debug)]
struct Stall {
    size: usize,
    timeout: Duration,
    retries: u32,
}

impl Pipe {
    /// An empty pipe of a connection.
    #[must_use]
    pub fn new(now: Instant, flow: u64) -> Self {
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

    /// How many bytes it can take; none once it has ended or is reset.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.has_ended || self.is_reset { 0 } else { BUFFER.saturating_sub(self.bytes.len()) }
    }

    /// Bytes enter. The link's verdicts are asked for as their time comes.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8], judge: &mut Judge) {
        if self.waiting == 0 {
            self.next = self.next.max(now);
        }
        self.bytes.extend(bytes);
        self.waiting += bytes.len();
        self.handle_timeout(now, judge);
    }

    /// Nothing more enters: the end follows the last byte.
    pub fn handle_end(&mut self) {
        self.has_ended = true;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, judge: &mut Judge) {
        while self.waiting > 0 && self.next <= now && !self.is_reset {
            self.transmit(judge);
        }
        while let Some((_, size)) = self.under_way.pop_front_if(|(due, _)| *due <= now) {
            self.arrived += size;
        }
    }

    /// Sends the head of what waits, once more or for the first time.
    fn transmit(&mut self, judge: &mut Judge) {
        let size = self.stall.map_or_else(|| self.waiting.min(SEGMENT), |stall| stall.size);
        let carried = judge.judge(self.next, self.flow, self.index, size);
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

    /// When there is something to do; `None` means never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sending = (self.waiting > 0 && !self.is_reset).then_some(self.next);
        let arriving = self.under_way.front().map(|(due, _)| *due);
        sending.into_iter().chain(arriving).min()
    }

    /// Bytes that have arrived and are to be written, perhaps not all of them; empty when there are none.
    #[must_use]
    pub fn ready(&self) -> &[u8] {
        let (head, _) = self.bytes.as_slices();
        head.get(..self.arrived).unwrap_or(head)
    }

    /// So many of the ready bytes were written.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.arrived);
        self.bytes.drain(..count);
        self.arrived -= count;
    }

    /// Whether the connection is to be reset: by chance, or because a segment was lost too often.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// Whether all bytes were written and the end is to follow.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.has_ended && self.bytes.is_empty()
    }
}
