//! Random draws for each datagram, addressed by position.
//!
//! The draws of a datagram are a function of (seed, direction, flow, index). They do not depend on other datagrams, nor
//! on which draws are used. So one seed gives the same fate in virtual time, on real sockets and in a replay.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Separates these streams from all other uses of the same seed. Changing it changes every verdict.
const PURPOSE: [u8; 16] = *b"sayagain link v1";

/// Words of 32 bits in a block of ChaCha; each datagram has one block.
const BLOCK_WORDS: u128 = 16;

/// The direction of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
}

impl Direction {
    /// Its part of the key.
    const fn code(self) -> u64 {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }
}

/// A random-access generator: ChaCha8 with a 64-bit block counter, which is the datagram's index, and a 64-bit stream
/// number, which is the flow. The key is the seed (8 bytes, little-endian), the direction (8 bytes: 0 up, 1 down) and
/// the 16 bytes `sayagain link v1`. Its values are the same on every platform.
///
/// A call takes about 100 ns. It computes the blocks of four datagrams at once, which sequential callers can use.
#[derive(Clone, Debug)]
pub struct Draws {
    /// Keyed once and never advanced; each call works on a copy.
    keyed: ChaCha8Rng,
    /// The copy, positioned before `next`.
    running: ChaCha8Rng,
    /// The flow and index that `running` produces next.
    next: Option<(u64, u64)>,
}

/// The draws of one datagram, each uniform over all `u64` and independent of the others.
///
/// Each is a fixed 64 bits of the datagram's block, in the order of the fields. They fill the block: a further draw
/// needs a block under another key, which shifts none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Decides whether the datagram is lost.
    pub loss: u64,
    /// Selects its delay.
    pub delay: u64,
    /// Decides whether it is duplicated.
    pub duplicate: u64,
    /// Selects the delay of the copy.
    pub duplicate_delay: u64,
    /// Selects the next state of a model with memory.
    pub state: u64,
    /// Decides whether a bit is flipped, and which.
    pub corrupt: u64,
    /// Decides whether it is truncated, and where.
    pub truncate: u64,
    /// Decides whether the connection that carries it is reset, if there is one.
    pub reset: u64,
}

impl Draws {
    /// The draws of one direction under `seed`.
    #[must_use]
    pub fn new(seed: u64, direction: Direction) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&direction.code().to_le_bytes());
        key[16..].copy_from_slice(&PURPOSE);
        let keyed = ChaCha8Rng::from_seed(key);
        Self { running: keyed.clone(), keyed, next: None }
    }

    /// The draws of datagram `index` of `flow`, both counted from 0.
    #[must_use]
    pub fn at(&self, flow: u64, index: u64) -> Drawn {
        Self::read(&mut self.positioned(flow, index))
    }

    /// The same, cheaper for consecutive indices of a flow.
    pub(super) fn in_order(&mut self, flow: u64, index: u64) -> Drawn {
        if self.next != Some((flow, index)) {
            self.running = self.positioned(flow, index);
        }
        self.next = index.checked_add(1).map(|next| (flow, next));
        Self::read(&mut self.running)
    }

    fn positioned(&self, flow: u64, index: u64) -> ChaCha8Rng {
        let mut rng = self.keyed.clone();
        // The order matters: only a new position makes an unused generator compute a block.
        rng.set_stream(flow);
        rng.set_word_pos(u128::from(index) * BLOCK_WORDS);
        rng
    }

    fn read(rng: &mut ChaCha8Rng) -> Drawn {
        Drawn {
            loss: rng.next_u64(),
            delay: rng.next_u64(),
            duplicate: rng.next_u64(),
            duplicate_delay: rng.next_u64(),
            state: rng.next_u64(),
            corrupt: rng.next_u64(),
            truncate: rng.next_u64(),
            reset: rng.next_u64(),
        }
    }
}

/// `draw` as a number in [0, 1): its upper 53 bits, which an f64 holds exactly, as in
/// [`Probability::happens`](crate::units::Probability::happens).
pub(super) fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

/// One of `choices` numbers from 0 on, uniform, from a draw that made an event of probability `p` happen; `None` if
/// `choices` is 0.
///
/// The draw is uniform below `p` of its range, so its position there is a second draw of 64 bits.
pub(super) fn choice(draw: u64, p: f64, choices: u64) -> Option<u64> {
    let last = choices.checked_sub(1)?;
    // 2^64 as a number; below 2^53 choices, the rounding of the quotient does not matter.
    let within = draw as f64 / (p * 18_446_744_073_709_551_616.0);
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the number of choices right after")]
    let chosen = (within * choices as f64) as u64;
    Some(chosen.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_pinned_so_that_results_stay_portable() {
        let up = Draws::new(1, Direction::Up);
        // From another implementation of ChaCha8, written out from the layout in the documentation of `Draws`.
        let known = Drawn {
            loss: 0x452f_d2bd_1195_43c4,
            delay: 0x82bf_1a53_f4b1_e437,
            duplicate: 0x845b_fd91_7f05_44fe,
            duplicate_delay: 0x49e1_51fa_a52b_a202,
            ..up.at(0, 0)
        };
        assert_eq!(up.at(0, 0), known);
        assert_eq!(up.at(2, 1_000_000).loss, 0x8662_53cb_16fe_61d2);
        assert_eq!(Draws::new(1, Direction::Down).at(0, 0).loss, 0x96bd_cb92_4e6f_307b);
        assert_eq!(Draws::new(u64::MAX, Direction::Down).at(u64::MAX, u64::MAX).loss, 0x49f5_8c11_9c75_6830);
    }

    #[test]
    fn draws_do_not_depend_on_query_order() {
        let draws = Draws::new(7, Direction::Up);
        let forwards: Vec<Drawn> = (0..200).map(|index| draws.at(index % 3, index)).collect();
        let mut backwards: Vec<Drawn> = (0..200).rev().map(|index| draws.at(index % 3, index)).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let mut one = Draws::new(7, Direction::Up);
        let orderly: Vec<Drawn> = (0..200).map(|index| one.in_order(index % 3, index)).collect();
        assert_eq!(orderly, forwards);
        for index in (0..50).chain(20..90).chain([u64::MAX - 1, u64::MAX, 0]) {
            assert_eq!(one.in_order(5, index), draws.at(5, index), "{index}");
        }
    }

    #[test]
    fn no_two_places_share_a_draw() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in [0, 1, u64::MAX] {
            for direction in [Direction::Up, Direction::Down] {
                let draws = Draws::new(seed, direction);
                for (flow, index) in (0..10).flat_map(|flow| (0..100).map(move |index| (flow, index))) {
                    let drawn = draws.at(flow, index);
                    let first = [drawn.loss, drawn.delay, drawn.duplicate, drawn.duplicate_delay];
                    let second = [drawn.state, drawn.corrupt, drawn.truncate, drawn.reset];
                    for draw in first.into_iter().chain(second) {
                        assert!(seen.insert(draw), "{seed} {direction:?} {flow} {index}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_draws_of_a_datagram_are_those_of_chacha8_itself() {
        let mut plain = Draws::new(5, Direction::Up).keyed;
        let drawn = Draws::new(5, Direction::Up).at(0, 0);
        assert_eq!([plain.next_u64(), plain.next_u64()], [drawn.loss, drawn.delay]);
        let rest: Vec<u64> = (2..9).map(|_| plain.next_u64()).collect();
        assert_eq!(rest[2..6], [drawn.state, drawn.corrupt, drawn.truncate, drawn.reset]);
        assert_eq!(rest[6], Draws::new(5, Direction::Up).at(0, 1).loss);
    }

    #[test]
    fn a_choice_is_even_whatever_the_probability_of_having_one() {
        let draws = Draws::new(3, Direction::Up);
        for p in [1.0, 0.5, 1e-3, 1e-12] {
            let mut counts = [0_u32; 5];
            for index in 0..20_000 {
                // A draw that made the event happen: uniform below p of the range.
                #[expect(clippy::cast_possible_truncation, reason = "p is at most 1")]
                let below = (draws.at(0, index).corrupt as f64 * p) as u64;
                counts[usize::try_from(choice(below, p, 5).unwrap()).unwrap()] += 1;
            }
            // 4,000 each, with a standard error of 57.
            assert!(counts.iter().all(|count| (3_830..=4_170).contains(count)), "{p}: {counts:?}");
        }
        assert_eq!(choice(u64::MAX, 1.0, 5), Some(4));
        assert_eq!(choice(0, 1.0, 5), Some(0));
        assert_eq!(choice(7, 0.5, 0), None);
    }
}
