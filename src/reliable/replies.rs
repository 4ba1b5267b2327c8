//! The answerer: which requests of a session were executed, and with what answer.
//!
//! A client repeats a request, same id and same bytes, until it is answered. The window remembers a hash of the frame
//! and one byte of answer for the last [`WINDOW`] ids, so that a repeat gets the same answer and has no second effect
//! (RFC 7252 section 4.5 asks for the same). It executes nothing itself and knows no frames.

use crate::wire::Id;

/// How many of a session's newest ids are remembered. A client never has a request in flight this far below its newest.
pub const WINDOW: u64 = 1_024;

/// What the window says of a request before it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never seen: execute it and [`Replies::record`] the answer.
    New,
    /// A repeat: give this answer again, execute nothing.
    Repeat(u8),
    /// The id was used for another frame.
    Conflict,
    /// The id is below the window: nobody knows any more.
    Stale,
}

/// The dedup window of one session: the newest request, and of those before it 5 bytes per id, allocated with use, at
/// most 5 KiB.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// The newest id that was executed; 0 for none.
    newest: u64,
    /// What is remembered of it.
    hash: u32,
    answer: u8,
    forgetful: bool,
    /// The others.
    older: Option<Box<Ring>>,
}

/// What is remembered of the ids below the newest, each in its slot.
#[derive(Clone, Debug, Default)]
struct Ring {
    hashes: Vec<u32>,
    /// 0 = not seen.
    answers: Vec<u8>,
}

impl Replies {
    /// An empty window.
    pub const fn new() -> Self {
        Self { newest: 0, hash: 0, answer: 0, forgetful: false, older: None }
    }

    /// Whether it is as new.
    pub fn is_empty(&self) -> bool {
        self.newest == 0 && !self.forgetful
    }

    /// A window that remembers nothing, to prove that the tests notice.
    #[doc(hidden)]
    pub fn forgetful() -> Self {
        Self { forgetful: true, ..Self::default() }
    }

    /// Looks up a request by its id and the hash of its frame.
    pub fn look(&self, id: Id, hash: u32) -> Seen {
        if self.forgetful || id.get() > self.newest {
            return Seen::New;
        }
        if self.newest - id.get() >= WINDOW {
            return Seen::Stale;
        }
        let is_newest = id.get() == self.newest;
        let remembered = if is_newest { Some((self.hash, self.answer)) } else { self.look_back(id.get()) };
        match remembered {
            None | Some((_, 0)) => Seen::New,
            Some((known, answer)) if known == hash => Seen::Repeat(answer),
            Some(_) => Seen::Conflict,
        }
    }

    fn look_back(&self, id: u64) -> Option<(u32, u8)> {
        let older = self.older.as_ref()?;
        Some((*older.hashes.get(slot(id))?, *older.answers.get(slot(id))?))
    }

    /// Remembers the answer, any byte but 0, of a request that [`Replies::look`] called new.
    pub fn record(&mut self, id: Id, hash: u32, answer: u8) {
        let id = id.get();
        if id < self.newest {
            self.older.get_or_insert_default().record(id, hash, answer);
            return;
        }
        if id > self.newest {
            self.advance(id);
        }
        (self.hash, self.answer) = (hash, answer);
    }

    /// Makes `id` the newest and forgets what falls out of the window: at most [`WINDOW`] steps, whatever the jump.
    fn advance(&mut self, id: u64) {
        if id - self.newest >= WINDOW {
            self.older = None;
        } else if self.newest > 0 {
            let older = self.older.get_or_insert_default();
            older.record(self.newest, self.hash, self.answer);
            (self.newest + 1..=id).for_each(|fallen| older.forget(fallen));
        }
        self.newest = id;
    }
}

impl Ring {
    fn record(&mut self, id: u64, hash: u32, answer: u8) {
        let slot = slot(id);
        if self.answers.len() <= slot {
            // Doubled from a power of two they never have room for more than the window, whatever the ids.
            let length = (slot + 1).next_power_of_two();
            self.answers.resize(length, 0);
            self.hashes.resize(length, 0);
        }
        if let (Some(known), Some(given)) = (self.hashes.get_mut(slot), self.answers.get_mut(slot)) {
            (*known, *given) = (hash, answer);
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(answer) = self.answers.get_mut(slot(id)) {
            *answer = 0;
        }
    }
}

/// Where an id stands in the ring.
fn slot(id: u64) -> usize {
    usize::try_from(id % WINDOW).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> Id {
        Id::new(n).unwrap()
    }

    #[test]
    fn a_repeat_gets_the_same_answer_and_another_frame_a_conflict() {
        let mut window = Replies::new();
        assert_eq!(window.look(id(7), 70), Seen::New);
        window.record(id(7), 70, 3);
        assert_eq!(window.look(id(7), 70), Seen::Repeat(3));
        assert_eq!(window.look(id(7), 71), Seen::Conflict);
    }

    #[test]
    fn an_id_that_was_skipped_is_new_while_it_is_in_the_window_and_stale_below() {
        let mut window = Replies::new();
        window.record(id(2_000), 1, 1);
        assert_eq!(window.look(id(2_000 - WINDOW + 1), 5), Seen::New);
        assert_eq!(window.look(id(2_000 - WINDOW), 5), Seen::Stale);
        window.record(id(1_500), 9, 2);
        assert_eq!(window.look(id(1_500), 9), Seen::Repeat(2));
    }

    #[test]
    fn what_falls_out_of_the_window_is_never_mistaken_for_the_id_that_takes_its_place() {
        let mut window = Replies::new();
        for n in 1..=WINDOW {
            window.record(id(n), 1, 1);
        }
        window.record(id(WINDOW + 5), 2, 1);
        assert_eq!(window.look(id(1), 1), Seen::Stale);
        assert_eq!(window.look(id(WINDOW + 1), 1), Seen::New);
        assert_eq!(window.look(id(WINDOW), 1), Seen::Repeat(1));
    }

    #[test]
    fn a_jump_to_the_largest_id_costs_one_window_of_steps() {
        let mut window = Replies::new();
        window.record(id(3), 1, 1);
        window.record(id(crate::wire::MAX_ID), 2, 1);
        assert_eq!(window.look(id(crate::wire::MAX_ID), 2), Seen::Repeat(1));
        assert_eq!(window.look(id(3), 1), Seen::Stale);
        window.record(id(crate::wire::MAX_ID - WINDOW + 1), 3, 1);
        let ring = window.older.unwrap();
        assert!(ring.answers.len() <= 1_024 && ring.hashes.len() == ring.answers.len());
    }

    #[test]
    fn whatever_the_ids_a_window_takes_no_more_than_5_kib() {
        let mut window = Replies::new();
        for n in [600, 601, 700, 1_000, 1_900] {
            window.record(id(n), 1, 1);
        }
        let ring = window.older.unwrap();
        assert!(ring.answers.capacity() <= 1_024 && ring.hashes.capacity() <= 1_024);
    }
}
