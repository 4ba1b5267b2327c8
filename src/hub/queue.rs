//! What waits for a session: a queue bounded in bytes and messages that never loses in silence.
//!
//! What does not fit, or has to make room, becomes a [`Push::Gap`] in its place. A gap goes on counting until it is sent, and takes no room.
//! What was sent and is not acknowledged yet is not here: `reliable::Pushes`.

use std::collections::VecDeque;
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use super::Form;
use crate::wire::{Id, Verb, encode_args, encode_gap, encode_rcv, encode_tag};

/// What a queued frame costs beside its bytes: its place in the queue and the allocation's own head. Counting it keeps
/// a queue of tiny messages inside the memory that the bound promises.
pub const FRAME_OVERHEAD: usize = 64;

/// The longest gap in words, rounded up.
const GAP_MAX: usize = 64;

/// What is counted against the bounds of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes, [`FRAME_OVERHEAD`] per message included.
    pub bytes: usize,
    /// Messages.
    pub messages: usize,
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.messages += other.messages;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.messages -= other.messages;
    }
}

/// Something that the server has to tell a session on its own initiative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A message, encoded once without a tag and shared by all receivers of the same [`Form`].
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
        self.load().bytes
    }

    /// What this push is counted as: a message, or nothing.
    pub fn load(&self) -> Load {
        match self {
            Self::Message { bytes, .. } => Load { bytes: bytes.len() + FRAME_OVERHEAD, messages: 1 },
            Self::Gap(_) | Self::Bye => Load::default(),
        }
    }

    /// The most bytes that [`Push::encode`] appends without a tag, whatever the form.
    pub fn max_len(&self) -> usize {
        match self {
            Self::Message { bytes, .. } => bytes.len(),
            Self::Gap(_) | Self::Bye => GAP_MAX,
        }
    }

    /// Whether it may still become part of a gap: a message to a room.
    fn is_droppable(&self) -> bool {
        matches!(self, Self::Message { is_direct: false, .. })
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
            (Self::Bye, Form::Lines) => out.extend_from_slice(line(GOODBYE).as_bytes()),
        }
    }
}

/// A gap in words, for those whose protocol has no GAP: four words, as the word count of RCV says.
fn missed(count: u64) -> String {
    let messages = if count == 1 { "message" } else { "messages" };
    format!("you missed {count} {messages}")
}

/// The last word to a person.
pub const GOODBYE: &str = "goodbye";

/// What the server itself tells a person: no name begins with `*`.
pub fn line(text: &str) -> String {
    format!("* {text}\n")
}

/// Pushes that have not been sent yet, first in first out.
#[derive(Debug, Default)]
pub struct SendQueue {
    items: VecDeque<Push>,
    load: Load,
    /// The part of `load` that is messages to rooms.
    droppable: Load,
    /// How many messages the gaps stand for.
    missed: u64,
    /// No message to a room is before this place.
    oldest: usize,
    /// How many of the items are empty: gaps that went on into the gap behind them. Never the last one.
    holes: usize,
}

impl SendQueue {
    /// What the queue is counted as.
    pub fn load(&self) -> Load {
        self.load
    }

    /// What [`SendQueue::drop_oldest`] could free at most.
    pub fn droppable(&self) -> Load {
        self.droppable
    }

    /// How many dropped messages the gaps in it stand for.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether a gap waits, and nothing else.
    pub fn is_only_a_gap(&self) -> bool {
        matches!((self.items.front(), self.items.len()), (Some(Push::Gap(_)), 1))
    }

    /// Appends a push. Whether there is room is the hub's to decide.
    pub fn push(&mut self, push: Push) {
        self.load += push.load();
        if push.is_droppable() {
            self.droppable += push.load();
        }
        self.items.push_back(push);
    }

    /// Counts one dropped message: in the gap that is last and unsent, or in a new one.
    pub fn push_gap(&mut self) {
        self.missed += 1;
        match self.items.back_mut() {
            Some(Push::Gap(count)) => *count += 1,
            _ => self.items.push_back(Push::Gap(1)),
        }
    }

    /// The push that is to be sent next.
    pub fn first(&self) -> Option<&Push> {
        self.items.front()
    }

    /// Takes the push that is to be sent next.
    pub fn pop(&mut self) -> Option<Push> {
        let push = self.items.pop_front()?;
        self.oldest = self.oldest.saturating_sub(1);
        self.forget(&push);
        self.tidy();
        Some(push)
    }

    /// Makes the oldest message to a room part of a gap in its place; `None` when there is none. Returns the bytes that
    /// this freed.
    ///
    /// It costs the same on average however much is queued: no place is looked at twice, but for the rare rounds that
    /// take the empty ones out.
    pub fn drop_oldest(&mut self) -> Option<usize> {
        while !self.items.get(self.oldest)?.is_droppable() {
            self.oldest += 1;
        }
        let message = std::mem::replace(self.items.get_mut(self.oldest)?, Push::Gap(1));
        self.forget(&message);
        self.missed += 1;
        if let Some(before) = self.oldest.checked_sub(1) {
            self.join_gaps(before);
        }
        self.join_gaps(self.oldest);
        self.tidy();
        Some(message.cost())
    }

    fn forget(&mut self, push: &Push) {
        self.load -= push.load();
        match push {
            Push::Message { is_direct: false, .. } => self.droppable -= push.load(),
            Push::Message { .. } | Push::Bye => {}
            Push::Gap(count) => self.missed -= count,
        }
    }

    /// If there are gaps at this place and the next, the later one stands for both.
    fn join_gaps(&mut self, at: usize) {
        let Some(&Push::Gap(earlier)) = self.items.get(at) else { return };
        if let Some(Push::Gap(later)) = self.items.get_mut(at + 1) {
            *later += earlier;
            if let Some(place) = self.items.get_mut(at) {
                *place = HOLE;
                self.holes += 1;
            }
        }
    }

    /// Takes out empty places: at the front always, all of them once they are more than the others.
    fn tidy(&mut self) {
        while self.items.pop_front_if(|push| *push == HOLE).is_some() {
            self.holes -= 1;
            self.oldest = self.oldest.saturating_sub(1);
        }
        if self.holes > self.items.len() / 2 {
            self.items.retain(|push| *push != HOLE);
            (self.holes, self.oldest) = (0, 0);
        }
    }
}

/// An empty place.
const HOLE: Push = Push::Gap(0);

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha20Rng;

    fn message(text: &str) -> Push {
        Push::Message { bytes: Arc::new(text.as_bytes().to_vec()), is_direct: false }
    }

    #[test]
    fn a_gap_counts_on_until_it_is_sent_and_takes_no_room() {
        let mut queue = SendQueue::default();
        queue.push(message("a"));
        let full = queue.load();
        queue.push_gap();
        queue.push_gap();
        assert_eq!(queue.load(), full);
        queue.push(message("b"));
        queue.push_gap();
        let order: Vec<Push> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [message("a"), Push::Gap(2), message("b"), Push::Gap(1)]);
        assert_eq!((queue.load(), queue.droppable(), queue.missed()), Default::default());
    }

    /// What a queue is to hold, kept the slow way.
    #[derive(Default)]
    struct Model(Vec<Push>);

    impl Model {
        fn drop_oldest(&mut self) -> bool {
            let Some(at) = self.0.iter().position(Push::is_droppable) else { return false };
            self.0[at] = Push::Gap(1);
            while let Some(at) = self.0.windows(2).position(|two| matches!(two, [Push::Gap(_), Push::Gap(_)]))
            {
                if let (Push::Gap(later), Push::Gap(sum)) = (self.0.remove(at + 1), &mut self.0[at]) {
                    *sum += later;
                }
            }
            true
        }

        fn push_gap(&mut self) {
            match self.0.last_mut() {
                Some(Push::Gap(count)) => *count += 1,
                _ => self.0.push(Push::Gap(1)),
            }
        }
    }

    #[test]
    fn the_oldest_messages_to_rooms_become_gaps_in_their_place_whatever_else_happens() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for _ in 0..300 {
            let (mut queue, mut model) = (SendQueue::default(), Model::default());
            let share: f64 = rng.random();
            for n in 0..200 {
                match rng.random_range(0..10) {
                    0..=4 => {
                        let bytes = Arc::new(format!("{n}").into_bytes());
                        let push = Push::Message { bytes, is_direct: rng.random_bool(share) };
                        queue.push(push.clone());
                        model.0.push(push);
                    }
                    5..=7 => assert_eq!(queue.drop_oldest().is_some(), model.drop_oldest()),
                    8 => {
                        queue.push_gap();
                        model.push_gap();
                    }
                    _ => {
                        let front = (!model.0.is_empty()).then(|| model.0.remove(0));
                        assert_eq!(queue.pop(), front);
                    }
                }
                assert_eq!(queue.is_empty(), model.0.is_empty());
                assert_eq!(queue.is_only_a_gap(), matches!(model.0[..], [Push::Gap(_)]));
                assert!(queue.items.len() <= 2 * model.0.len(), "empty places are taken out");
                let (mut load, mut missed) = (Load::default(), 0);
                for push in &model.0 {
                    load += push.load();
                    missed += if let Push::Gap(count) = push { *count } else { 0 };
                }
                assert_eq!((queue.load(), queue.missed()), (load, missed));
            }
            assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), model.0);
        }
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
            (
                Push::Gap(u64::MAX),
                "RCV 0048 * 0004 you missed 18446744073709551615 messages",
                "@3 GAP 0021 18446744073709551615",
                "* you missed 18446744073709551615 messages\n",
            ),
            (Push::Bye, "BYE 0000", "@3 BYE 0000", "* goodbye\n"),
        ] {
            assert_eq!(told(push.clone(), Form::Untagged, None), untagged);
            assert!(untagged.len() <= push.max_len());
            assert_eq!(told(push.clone(), Form::Tagged, Id::new(3)), tagged);
            assert_eq!(told(push, Form::Lines, None), line);
        }
    }
}
