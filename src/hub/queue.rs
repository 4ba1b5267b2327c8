//! The send queue of one session: bounded in bytes and messages, and lossless or counted in a gap.
//!
//! A message that does not fit, or is dropped to make room, becomes a [`Push::Gap`] in its place. A gap continues
//! counting until it is sent, and takes no room. What was sent and is not acknowledged yet is in `reliable::Pushes`;
//! what happens when a queue is full is in `slow_consumer`. The entries and their encoding are in `push`.

use std::collections::VecDeque;

use super::buffer_pool::BufferPool;
use super::push::{FRAME_OVERHEAD, Load, Push};
use crate::queue_capacity::{grow_by_quarter, shrink_sparse};

/// The size in bytes up to which messages are joined: enough for one write.
const RUN_ENOUGH: usize = 64 << 10;

/// The size in bytes from which more messages are likely to follow.
const RUN_MANY: usize = 2 << 10;

/// The initial capacity for joined messages, in bytes.
const RUN_FIRST: usize = 256;

/// Pushes that have not been sent yet, first in first out.
#[derive(Debug, Default)]
pub struct SendQueue {
    items: VecDeque<Push>,
    /// The messages after these, joined in one buffer, ..
    run: Vec<u8>,
    /// .. and their number.
    run_messages: usize,
    load: Load,
    /// The part of `load` that is messages to rooms.
    droppable: Load,
    /// Number of dropped messages that the gaps stand for.
    gap_messages: u64,
    /// No message to a room is before this index.
    oldest: usize,
    /// Number of empty items: gaps that were merged into the next one. Never the last item.
    holes: usize,
}

impl SendQueue {
    /// Returns the load of the queue.
    pub fn load(&self) -> Load {
        self.load
    }

    /// Returns the most that [`SendQueue::drop_oldest`] could free.
    pub fn droppable(&self) -> Load {
        self.droppable
    }

    /// Returns how many dropped messages its gaps stand for.
    pub fn gap_messages(&self) -> u64 {
        self.gap_messages
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.run_messages == 0
    }

    /// Whether a single gap waits, and nothing else.
    pub fn is_only_a_gap(&self) -> bool {
        self.run_messages == 0 && matches!((self.items.front(), self.items.len()), (Some(Push::Gap(_)), 1))
    }

    /// Appends a push. The caller has checked that there is room.
    pub fn push(&mut self, push: Push) {
        self.end_run();
        self.load += push.load();
        if push.is_droppable() {
            self.droppable += push.load();
        }
        grow_by_quarter(&mut self.items);
        self.items.push_back(push);
    }

    /// Appends a message to those that are sent as one; `write` appends its bytes to the buffer.
    pub fn join(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.run.len() >= RUN_ENOUGH {
            self.end_run();
        }
        if self.run_messages == 0 {
            self.run = Vec::with_capacity(RUN_FIRST);
        }
        let before = self.run.len();
        write(&mut self.run);
        self.run_messages += 1;
        self.load += Load { bytes: self.run.len() - before + FRAME_OVERHEAD, shared: 0, messages: 1 };
    }

    /// Takes a larger buffer from the pool once many messages are joined.
    pub(super) fn widen(&mut self, pool: &mut BufferPool) {
        if self.run.len() >= RUN_MANY
            && self.run.capacity() < RUN_ENOUGH
            && let Some(mut buffer) = pool.take()
        {
            buffer.extend_from_slice(&self.run);
            self.run = buffer;
        }
    }

    /// Frees the memory of an empty queue.
    pub fn give_back(&mut self) {
        if self.is_empty() {
            self.items = VecDeque::new();
        }
    }

    /// Ends the joined messages, because another push follows.
    fn end_run(&mut self) {
        if self.run_messages > 0 {
            // It may wait for long, and only its contents are counted.
            if self.run.capacity() / 2 > self.run.len() {
                self.run.shrink_to_fit();
            }
            let run = self.take_run();
            self.items.push_back(run);
        }
    }

    fn take_run(&mut self) -> Push {
        let (bytes, messages) = (std::mem::take(&mut self.run), std::mem::take(&mut self.run_messages));
        Push::Run { bytes, messages }
    }

    /// Counts one dropped message: in the last gap if that is unsent, or in a new one.
    pub fn push_gap(&mut self) {
        self.gap_messages += 1;
        self.end_run();
        match self.items.back_mut() {
            Some(Push::Gap(count)) => *count += 1,
            _ => self.items.push_back(Push::Gap(1)),
        }
    }

    /// Returns the next push, unless it is joined messages; datagrams have none.
    pub fn first(&self) -> Option<&Push> {
        self.items.front()
    }

    /// Takes the next push.
    pub fn pop(&mut self) -> Option<Push> {
        let Some(push) = self.items.pop_front() else {
            if self.run_messages == 0 {
                return None;
            }
            self.load = Load::default();
            return Some(self.take_run());
        };
        self.oldest = self.oldest.saturating_sub(1);
        self.forget(&push);
        self.tidy();
        Some(push)
    }

    /// Turns the oldest message to a room into a gap in its place, and returns its load; `None` when there is none.
    ///
    /// The average cost does not depend on the length of the queue: no item is examined twice, except when the empty
    /// ones are removed.
    pub fn drop_oldest(&mut self) -> Option<Load> {
        while !self.items.get(self.oldest)?.is_droppable() {
            self.oldest += 1;
        }
        let message = std::mem::replace(self.items.get_mut(self.oldest)?, Push::Gap(1));
        self.forget(&message);
        self.gap_messages += 1;
        if let Some(before) = self.oldest.checked_sub(1) {
            self.join_gaps(before);
        }
        self.join_gaps(self.oldest);
        self.tidy();
        Some(message.load())
    }

    fn forget(&mut self, push: &Push) {
        self.load -= push.load();
        match push {
            Push::Message { is_direct: false, .. } => self.droppable -= push.load(),
            Push::Message { .. } | Push::Run { .. } | Push::Bye(_) => {}
            Push::Gap(count) => self.gap_messages -= count,
        }
    }

    /// Merges the gaps at this index and the next into the later one, if both are gaps.
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

    /// Removes empty items: at the front always, all of them once they outnumber the others.
    fn tidy(&mut self) {
        while self.items.pop_front_if(|push| push.is_hole()).is_some() {
            self.holes -= 1;
            self.oldest = self.oldest.saturating_sub(1);
        }
        if self.holes > self.items.len() / 2 {
            self.items.retain(|push| !push.is_hole());
            (self.holes, self.oldest) = (0, 0);
        }
        shrink_sparse(&mut self.items);
    }
}

/// An empty item.
const HOLE: Push = Push::Gap(0);

#[cfg(test)]
impl SendQueue {
    /// Returns all that waits, without joined messages.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Push> {
        self.items.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::push::Text;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha20Rng;

    fn message(text: &str) -> Push {
        Push::Message { text: Text::Short(text.as_bytes().into()), is_direct: false }
    }

    #[test]
    fn a_gap_goes_on_counting_until_it_is_sent_and_takes_no_room() {
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
        assert_eq!((queue.load(), queue.droppable(), queue.gap_messages()), Default::default());
    }

    /// The expected content of a queue, computed the slow way.
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
                        let text = Text::Short(format!("{n}").into_bytes().into());
                        let push = Push::Message { text, is_direct: rng.random_bool(share) };
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
                assert!(queue.items.len() <= 2 * model.0.len(), "empty items are removed");
                let (mut load, mut missed) = (Load::default(), 0);
                for push in &model.0 {
                    load += push.load();
                    missed += if let Push::Gap(count) = push { *count } else { 0 };
                }
                assert_eq!((queue.load(), queue.gap_messages()), (load, missed));
            }
            assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), model.0);
        }
    }

    #[test]
    fn messages_that_are_joined_are_sent_together_in_their_place_and_count_as_themselves() {
        let mut queue = SendQueue::default();
        for text in ["a", "bb"] {
            queue.join(|out| out.extend_from_slice(text.as_bytes()));
        }
        assert_eq!(queue.load(), Load { bytes: 3 + 2 * FRAME_OVERHEAD, shared: 0, messages: 2 });
        queue.push_gap();
        assert!(!queue.is_only_a_gap() && queue.drop_oldest().is_none());
        queue.join(|out| out.push(b'c'));
        queue.push(message("d"));
        queue.join(|out| out.push(b'e'));
        let run = |text: &[u8], messages| Push::Run { bytes: text.to_vec(), messages };
        let order: Vec<Push> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [run(b"abb", 2), Push::Gap(1), run(b"c", 1), message("d"), run(b"e", 1)]);
        assert!(queue.is_empty() && queue.load() == Load::default());
    }

    #[test]
    fn joined_messages_end_where_they_are_enough_for_one_write() {
        let mut queue = SendQueue::default();
        for _ in 0..10 {
            queue.join(|out| out.extend_from_slice(&[b'x'; 30_000]));
        }
        let lengths: Vec<usize> =
            std::iter::from_fn(|| queue.pop()).map(|push| push.load().messages).collect();
        assert_eq!(lengths, [3, 3, 3, 1]);
    }

    #[test]
    fn a_long_queue_frees_its_memory_when_it_shrinks() {
        let mut queue = SendQueue::default();
        (0..50_000).for_each(|_| queue.push(message("a")));
        while queue.load().messages > 1 {
            queue.pop();
        }
        assert!(queue.items.capacity() <= 256, "room for {}", queue.items.capacity());
    }

    #[test]
    fn joined_short_messages_take_no_more_memory_than_they_count() {
        let mut queue = SendQueue::default();
        for _ in 0..1_000 {
            queue.join(|out| out.extend_from_slice(b"RCV 0008 a 0001 b"));
            queue.push_gap();
        }
        let room = |push: &Push| if let Push::Run { bytes, .. } = push { bytes.capacity() } else { 0 };
        let room: usize = queue.items.iter().map(room).sum();
        assert!(room <= queue.load().bytes, "{room} bytes are counted as {}", queue.load().bytes);
    }
}
