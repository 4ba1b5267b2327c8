//! What waits for a session: a queue bounded in bytes that never loses in silence.
//!
//! What does not fit becomes a [`Push::Gap`] in its place. A gap goes on counting until it is sent, and takes no room.
//! What was sent and is not acknowledged yet is not here: `reliable::Pushes`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::wire::{Id, Verb, encode_args, encode_gap, encode_rcv, encode_tag};

/// What a queued frame costs beside its bytes: its place in the queue and the allocation's own head. Counting it keeps
/// a queue of tiny messages inside the memory that the bound promises.
pub const FRAME_OVERHEAD: usize = 64;

/// Something that the server has to tell a session on its own initiative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A message, encoded once without a tag and shared by all receivers of the same [`Form`](super::Form).
    Message {
        /// An RCV, or a line of text with its end.
        bytes: Arc<Vec<u8>>,
        /// Its sender was told that it is kept; one to a room may still become part of a gap.
        is_direct: bool,
    },
    /// So many messages were dropped here.
    Gap(u64),
    /// The session ends; the last push.
    Bye,
}

impl Push {
    /// The bytes that this push is counted as.
    pub fn cost(&self) -> usize {
        match self {
            Self::Message { bytes, .. } => bytes.len() + FRAME_OVERHEAD,
            Self::Gap(_) | Self::Bye => 0,
        }
    }

    /// Appends the frame, tagged with `id` or as asio_chatserver's clients know it.
    pub fn encode(&self, id: Option<Id>, out: &mut Vec<u8>) {
        match (self, id) {
            (Self::Message { bytes, .. }, None) => out.extend_from_slice(bytes),
            (Self::Message { bytes, .. }, Some(id)) => {
                encode_tag(id, out);
                out.extend_from_slice(bytes);
            }
            (Self::Gap(count), None) => encode_rcv(b"*", missed(*count).as_bytes(), out),
            (Self::Gap(count), Some(id)) => {
                encode_tag(id, out);
                encode_gap(*count, out);
            }
            (Self::Bye, id) => encode_args(id, Verb::Bye, &[], out),
        }
    }

    /// Appends it as people are told it.
    pub fn encode_line(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message { bytes, .. } => out.extend_from_slice(bytes),
            Self::Gap(1) => out.extend_from_slice(b"* you missed 1 message\n"),
            Self::Gap(count) => out.extend_from_slice(format!("* {}\n", missed(*count)).as_bytes()),
            Self::Bye => out.extend_from_slice(GOODBYE),
        }
    }
}

/// The server's goodbye in words.
pub const GOODBYE: &[u8] = b"* goodbye\n";

/// A gap in words, for those whose protocol has no GAP: four words, as the word count of RCV says.
fn missed(count: u64) -> String {
    format!("you missed {count} messages")
}

/// Pushes that have not been sent yet, first in first out.
#[derive(Debug, Default)]
pub struct SendQueue {
    items: VecDeque<Push>,
    cost: usize,
}

impl SendQueue {
    /// The bytes that the queue is counted as.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether a gap waits, and nothing else.
    pub fn is_only_a_gap(&self) -> bool {
        matches!((self.items.front(), self.items.len()), (Some(Push::Gap(_)), 1))
    }

    /// The messages that wait.
    pub fn messages(&self) -> usize {
        self.items.iter().filter(|push| matches!(push, Push::Message { .. })).count()
    }

    /// Appends a push. Whether there is room is the hub's to decide.
    pub fn push(&mut self, push: Push) {
        self.cost += push.cost();
        self.items.push_back(push);
    }

    /// Counts one dropped message: in the gap that is last and unsent, or in a new one.
    pub fn push_gap(&mut self) {
        match self.items.back_mut() {
            Some(Push::Gap(count)) => *count += 1,
            _ => self.items.push_back(Push::Gap(1)),
        }
    }

    /// Takes the push that is to be sent next.
    pub fn pop(&mut self) -> Option<Push> {
        let push = self.items.pop_front()?;
        self.cost -= push.cost();
        Some(push)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Push {
        Push::Message { bytes: Arc::new(text.as_bytes().to_vec()), is_direct: false }
    }

    #[test]
    fn a_gap_counts_on_until_it_is_sent_and_takes_no_room() {
        let mut queue = SendQueue::default();
        queue.push(message("a"));
        let full = queue.cost();
        queue.push_gap();
        queue.push_gap();
        assert_eq!(queue.cost(), full);
        queue.push(message("b"));
        queue.push_gap();
        let order: Vec<Push> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [message("a"), Push::Gap(2), message("b"), Push::Gap(1)]);
        assert_eq!(queue.cost(), 0);
    }

    #[test]
    fn an_untagged_reader_is_told_of_a_gap_in_a_frame_that_it_knows() {
        let mut out = Vec::new();
        Push::Gap(12).encode(None, &mut out);
        assert_eq!(out, b"RCV 0030 * 0004 you missed 12 messages");
        out.clear();
        Push::Gap(12).encode(Id::new(3), &mut out);
        assert_eq!(out, b"@3 GAP 0003 12");
    }

    #[test]
    fn people_are_told_of_gaps_and_goodbyes_in_words() {
        let mut out = Vec::new();
        for push in [Push::Gap(12), Push::Gap(1), message("bob> hi\n"), Push::Bye] {
            push.encode_line(&mut out);
        }
        assert_eq!(out, b"* you missed 12 messages\n* you missed 1 message\nbob> hi\n* goodbye\n");
    }
}
