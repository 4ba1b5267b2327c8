//! What becomes of each transmission of a segment: the part of a link that matters above TCP.

use std::time::{Duration, Instant};

use crate::lab::proxy::record::{Note, RecordedFate, Replay};
use crate::lab::proxy::totals::StreamTotals;
use crate::link::{Direction, Fate, LinkConfig, Passage, Place, Verdicts, rescale};
use crate::units::later;

/// What becomes of one transmission of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It does not arrive.
    Lost,
    /// The connection is reset.
    Reset,
    /// It arrives.
    Passed {
        /// How long until the last of it is sent, which is when the next can be: what a rate limit takes.
        takes: Duration,
        /// How long it is on its way after that.
        delay: Duration,
    },
}

impl Carried {
    /// As it is recorded.
    fn outcome(self) -> RecordedFate {
        match self {
            Self::Lost => RecordedFate::Fate(Fate::Lost),
            Self::Reset => RecordedFate::Reset,
            Self::Passed { takes, delay } => {
                let delay = takes.saturating_add(delay);
                RecordedFate::Fate(Fate::Passed(Passage { delay, ..Passage::default() }))
            }
        }
    }
}

/// Decides for all connections of a proxy in one direction. They share its rate limit.
#[derive(Debug)]
pub struct SegmentModel {
    direction: Direction,
    config: LinkConfig,
    verdicts: Verdicts,
    /// What to go by instead of chance.
    replay: Option<Replay>,
    /// When the rate limit has passed on what it was given.
    free: Option<Instant>,
    totals: StreamTotals,
    /// What was decided and not taken yet, if anybody wants it.
    notes: Option<Vec<Note>>,
}

impl SegmentModel {
    /// Decides by `config` and `seed`; `noting` is whether decisions are kept for [`SegmentModel::take_notes`].
    #[must_use]
    pub fn new(config: LinkConfig, seed: u64, direction: Direction, noting: bool) -> Self {
        let verdicts = Verdicts::new(config.loss.clone(), seed, direction);
        let (free, totals, notes) = (None, StreamTotals::default(), noting.then(Vec::new));
        Self { direction, config, verdicts, replay: None, free, totals, notes }
    }

    /// Decides what was recorded.
    #[must_use]
    pub fn with_replay(replay: Replay, direction: Direction, noting: bool) -> Self {
        Self { replay: Some(replay), ..Self::new(LinkConfig::perfect(), 0, direction, noting) }
    }

    /// Decides by another configuration from now on. What the rate limit was given and has not passed on yet, it passes on
    /// at the next rate.
    pub fn set_config(&mut self, now: Instant, config: LinkConfig) {
        if config.loss != self.config.loss {
            self.verdicts.set_model(config.loss.clone());
        }
        if config.rate != self.config.rate {
            let (old, new) = (self.config.rate, config.rate);
            self.free = self.free.and_then(|free| rescale(free, now, old, new));
        }
        self.config = config;
    }

    /// When the rate limit has passed on what it was given: `now` at the earliest.
    #[must_use]
    pub fn free(&self, now: Instant) -> Instant {
        self.free.map_or(now, |free| free.max(now))
    }

    /// What it decides by.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// What becomes of a segment that a connection sends at `now`; `index` counts its transmissions.
    pub fn decide(&mut self, now: Instant, flow: u64, index: u64, size: usize) -> Carried {
        let carried = self.draw(now, flow, index, size);
        self.totals.segments += 1;
        self.totals.lost += u64::from(carried == Carried::Lost);
        if let Some(notes) = &mut self.notes {
            let (place, outcome) = (Place { flow, index }, carried.outcome());
            notes.push(Note { direction: self.direction, size, place, outcome });
        }
        carried
    }

    fn draw(&mut self, now: Instant, flow: u64, index: u64, size: usize) -> Carried {
        if let Some(replay) = &self.replay {
            return replayed(replay, self.direction, Place { flow, index });
        }
        if self.verdicts.lost(now, flow, index) {
            return Carried::Lost;
        }
        let drawn = self.verdicts.draws().at(flow, index);
        if self.config.reset.happens(drawn.reset) {
            return Carried::Reset;
        }
        let takes = self.config.rate.map_or(Duration::ZERO, |rate| self.queue(now, rate.time(size)));
        Carried::Passed { takes, delay: self.config.delay.at(drawn.delay) }
    }

    /// How long until what takes so long is through, behind what went before it.
    fn queue(&mut self, now: Instant, takes: Duration) -> Duration {
        let through = later(self.free(now), takes);
        self.free = Some(through);
        through.saturating_duration_since(now)
    }

    /// A connection was reset.
    pub fn count_reset(&mut self) {
        self.totals.resets += 1;
    }

    /// So many bytes were passed on.
    pub fn count_bytes(&mut self, count: usize) {
        self.totals.bytes += count as u64;
    }

    /// What was decided since the last call, if that is kept.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What came of everything so far.
    #[must_use]
    pub fn totals(&self) -> StreamTotals {
        let requested = self.replay.is_none().then(|| self.config.loss.clone());
        StreamTotals { requested, ..self.totals.clone() }
    }
}

/// What became of a segment when it was recorded. What no segment can meet counts as passed.
fn replayed(replay: &Replay, direction: Direction, place: Place) -> Carried {
    if replay.resets.contains(&(direction, place)) {
        return Carried::Reset;
    }
    match replay.script.fate(direction, place) {
        Fate::Lost => Carried::Lost,
        Fate::Passed(passage) => Carried::Passed { takes: Duration::ZERO, delay: passage.delay },
        Fate::TooLarge | Fate::QueueFull => Carried::Passed { takes: Duration::ZERO, delay: Duration::ZERO },
    }
}
