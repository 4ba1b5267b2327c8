//! Output of a client: on a stream one frame at a time, in a datagram as many requests as fit.

use std::time::Instant;

use super::{Client, Event};
use crate::config::Transport;
use crate::reliable::Sent;
use crate::wire::{MAX_HEAD, Verb, encode_prefix, prefix_of};

impl Client {
    /// Returns the next datagram, or part of the stream, to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let bytes = match self.outgoing.pop_front() {
            Some(bytes) => self.with_requests(now, bytes),
            None if self.is_ready() => {
                let request = self.next_request(now)?;
                self.with_requests(now, request)
            }
            None => self.next_registration(now)?,
        };
        self.stats.transmits += 1;
        Some(bytes)
    }

    /// Returns the next event.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends due requests, as many as fit, to a datagram of this session. Without its token nothing is appended: the
    /// server executes only the first frame of a datagram from an unproven address.
    fn with_requests(&mut self, now: Instant, mut bytes: Vec<u8>) -> Vec<u8> {
        let has_token = self.token.is_some_and(|token| prefix_of(&bytes) == Some(token));
        if !self.is_ready() || !has_token || self.config.transport == Transport::Stream {
            return bytes;
        }
        while let Some(most) = self.config.max_datagram.checked_sub(bytes.len() + MAX_HEAD)
            && self.add_request(now, most, &mut bytes).is_some()
        {}
        bytes
    }

    /// Appends the next due request, if its payload is at most `most` bytes.
    fn add_request(&mut self, now: Instant, most: usize, out: &mut Vec<u8>) -> Option<Sent> {
        let sent = self.requests.poll_transmit_within(now, most, &mut self.rng, out);
        self.collect_ended();
        let sent = sent?;
        self.note_request_sent(now);
        if sent.sends > 1 {
            self.events.push_back(Event::Retry(sent));
        }
        Some(sent)
    }

    fn next_request(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut bytes = self.prefixed();
        let sent = self.add_request(now, usize::MAX, &mut bytes)?;
        if sent.verb == Verb::Bye && !self.inbox.is_unused() {
            // Acknowledge received pushes first, or the server counts them as undelivered when the session ends.
            let bye = bytes.split_off(self.prefixed().len());
            self.encode_acknowledgement(&mut bytes);
            bytes.extend_from_slice(&bye);
        }
        Some(bytes)
    }

    /// The prefix of a datagram of this session; empty on a stream.
    pub(super) fn prefixed(&self) -> Vec<u8> {
        // With capacity for the frame of a short message.
        let mut bytes = Vec::with_capacity(128);
        if let (Transport::Datagram, Some(token)) = (self.config.transport, self.token) {
            encode_prefix(token, &mut bytes);
        }
        bytes
    }
}
