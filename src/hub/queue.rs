//! What waits for a session: a queue bounded in bytes that never loses in silence.
//!
//! What does not fit becomes a [`Push::Gap`] in its place. A gap goes on counting until it is sent, and takes no room.
//! What was sent and is not acknowledged yet is not here: `reliable::Pushes`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Form;
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

    /// Appends the push as a session of this form is told it: a frame, tagged with `id` if there is one, or a line.
    pub fn encode(&self, form: Form, id: Option<Id>, out: &mut Vec<u8>) {
        if let (Some(id), Self::Message { .. } | Self::Gap(_)) = (id, self) {
            encode_tag(id, out);
        }
        match (self, form) {
            (Self::Message { bytes, .. }, _) => out.extend_from_slice(bytes),
            (Self::Gap(count), Form::Tagged) => encode_gap(*count, out),
            (Self::Gap(count), Form::Untagged) => encode_rcv(b"*", missed(*count).as_bytes(), out),
            (Self::Gap(count), Form::Lines) => out.extend_from_slice(line(&missed(*count)).as_bytes()),
            (Self::Bye, Form::Tagged | Form::Untagged) => encode_args(id, Verb::Bye, &[], out),
            (Self::Bye, Form::Lines) => out.extend_from_slice(line("goodbye").as_bytes()),
        }
    }
}

/// A gap in words, for those whose protocol has no GAP: four words, as the word count of RCV says.
fn missed(count: u64) -> String {
    let messages = if count == 1 { "message" } else { "messages" };
    format!("you missed {count} {messages}")
}

/// What the server itself tells a person: no name begins with `*`.
pub fn line(text: &str) -> String {
    format!("* {text}\n")
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
    fn every_reader_is_told_of_a_gap_and_of_the_end_in_what_it_knows() {
        let told = |push: Push, form, id| {
            let mut out = Vec::new();
            push.encode(form, id, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (push, untagged, tagged, line) in [
            (
                Push::Gap(12),
                "RCV 0030 * 0004 you missed 12 messages",
                "@3 GAP 0003 12",
                "* you missed 12 messages\n",
            ),
            (
                Push::Gap(1),
                "RCV 0028 * 0004 you missed 1 message",
                "@3 GAP 0002 1",
                "* you missed 1 message\n",
            ),
            (Push::Bye, "BYE 0000", "@3 BYE 0000", "* goodbye\n"),
        ] {
            assert_eq!(told(push.clone(), Form::Untagged, None), untagged);
            assert_eq!(told(push.clone(), Form::Tagged, Id::new(3)), tagged);
            assert_eq!(told(push, Form::Lines, None), line);
        }
    }
}
