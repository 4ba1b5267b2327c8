//! Pending output of one connection: short pieces joined in one buffer, long ones shared with other receivers.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! A frame for many receivers is encoded once and [shared](Output::share), not copied per receiver. An engine writes
//! the pieces with one vectored write ([`Output::slices`]) and then [removes](Output::advance) the bytes that the
//! socket took.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

/// Shorter shared pieces, in bytes, are copied: a slice of its own in a vectored write costs more.
pub const WORTH_SHARING: usize = 1 << 10;

/// Bytes for one connection, in order.
///
/// ```
/// use sayagain::output::Output;
///
/// let mut out = Output::default();
/// out.tail().extend_from_slice(b"BYE ");
/// out.tail().extend_from_slice(b"0000");
/// assert_eq!(out.len(), 8);
/// out.advance(4);
/// assert_eq!(out.to_vec(), b"0000");
/// ```
#[derive(Debug, Default)]
pub struct Output {
    /// The pieces before the tail.
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    before: usize,
    tail: Vec<u8>,
    /// Bytes of the tail that are written already.
    cut: usize,
}

impl Output {
    /// Bytes still to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.before + self.tail.len() - self.cut
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer for short pieces. Only append to it.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a whole buffer: without a copy, if it is long or there is no tail buffer.
    pub fn append(&mut self, bytes: Vec<u8>) {
        if bytes.len() >= WORTH_SHARING {
            self.close_tail();
        }
        if self.tail.is_empty() && (bytes.len() >= WORTH_SHARING || self.tail.capacity() == 0) {
            self.tail = bytes;
        } else {
            self.tail.extend_from_slice(&bytes);
        }
    }

    /// Appends the bytes of another output.
    pub(crate) fn join(&mut self, mut other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        other.close_tail();
        self.close_tail();
        self.before += other.before;
        self.pieces.append(&mut other.pieces);
    }

    /// All bytes in one buffer: without a copy, if they are in one.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        if self.pieces.is_empty() && self.cut == 0 { self.tail } else { self.to_vec() }
    }

    /// Appends bytes that may be shared; short ones are copied.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < WORTH_SHARING {
            return self.tail.extend_from_slice(bytes);
        }
        self.close_tail();
        self.before += bytes.len();
        self.pieces.push_back(bytes.clone());
    }

    /// Removes the first `most` bytes, or all if there are fewer. Long pieces are split without a copy.
    #[must_use]
    pub fn take(&mut self, most: usize) -> Self {
        if self.len() <= most {
            return std::mem::take(self);
        }
        self.close_tail();
        let mut taken = Self::default();
        while taken.before < most
            && let Some(mut first) = self.pieces.pop_front()
        {
            let piece = first.split_to(first.len().min(most - taken.before));
            taken.before += piece.len();
            taken.pieces.push_back(piece);
            if !first.is_empty() {
                self.pieces.push_front(first);
            }
        }
        self.before -= taken.before;
        taken
    }

    /// Turns a long tail into a piece, so that it need not grow further.
    pub fn close_long_tail(&mut self, length: usize) {
        if self.tail.len() >= length {
            self.close_tail();
        }
    }

    /// Turns the tail into a piece, so that another can follow.
    fn close_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut tail = Bytes::from(std::mem::take(&mut self.tail));
        tail.advance(std::mem::take(&mut self.cut));
        self.before += tail.len();
        self.pieces.push_back(tail);
    }

    /// Fills `slices` with the first pieces; returns their number.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = self.tail.get(self.cut..).filter(|tail| !tail.is_empty());
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Removes the first `count` written bytes, or all if there are fewer.
    pub fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.pieces.front_mut() {
            let cut = first.len().min(count);
            first.advance(cut);
            self.before -= cut;
            count -= cut;
            if !first.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.cut += count;
        if self.cut >= self.tail.len() {
            // The written bytes are obsolete, but their buffer may be the next tail.
            self.tail.clear();
            self.cut = 0;
        }
    }

    /// Takes the buffer of short pieces for reuse; its content is meaningless.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.tail
    }

    /// All bytes in one piece, for callers without sockets.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        self.pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        all.extend_from_slice(self.tail.get(self.cut..).unwrap_or_default());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a..` in the tail, 2,000 shared `b`, then `c..`.
    fn mixed() -> Output {
        let mut out = Output::default();
        out.tail().extend_from_slice(b"aaa");
        out.share(&Bytes::from(vec![b'b'; 2_000]));
        out.tail().extend_from_slice(b"c");
        out.share(&Bytes::from_static(b"cc"));
        out
    }

    #[test]
    fn advancing_by_any_count_leaves_the_rest_in_order() {
        let all = mixed().to_vec();
        assert_eq!(all.len(), 2_006);
        for first in 0..=all.len() + 1 {
            let mut out = mixed();
            out.advance(first);
            let rest = all.get(first..).unwrap_or_default();
            assert_eq!(out.to_vec(), rest, "{first}");
            assert_eq!(out.len(), rest.len(), "{first}");
            let mut slices = [IoSlice::new(&[]); 8];
            let count = out.slices(&mut slices);
            assert_eq!(
                slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>(),
                rest,
                "{first}"
            );
        }
    }

    #[test]
    fn a_taken_part_and_the_rest_are_the_whole_in_order() {
        let all = mixed().to_vec();
        for most in 0..=all.len() + 1 {
            let mut left = mixed();
            let taken = left.take(most);
            assert_eq!((taken.len(), left.len()), (most.min(all.len()), all.len().saturating_sub(most)));
            assert_eq!([taken.to_vec(), left.to_vec()].concat(), all, "{most}");
        }
    }

    #[test]
    fn a_long_piece_is_shared_and_short_ones_are_joined() {
        let out = mixed();
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(out.slices(&mut slices), 3);
        let mut two = [IoSlice::new(&[]); 2];
        assert_eq!(out.slices(&mut two), 2);
    }

    #[test]
    fn appending_after_a_part_was_written_keeps_the_order() {
        let mut out = mixed();
        out.advance(2_004);
        out.share(&Bytes::from(vec![b'd'; 1_500]));
        out.append(b"e".to_vec());
        assert_eq!(out.to_vec(), [&b"cc"[..], &[b'd'; 1_500], b"e"].concat());
    }

    #[test]
    fn a_buffer_appended_to_an_empty_output_is_not_copied() {
        let bytes = vec![b'x'; 100];
        let place = bytes.as_ptr();
        let mut out = Output::default();
        out.append(bytes);
        assert_eq!(out.tail().as_ptr(), place);
    }
}
