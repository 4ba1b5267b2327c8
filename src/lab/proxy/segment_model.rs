//! The fate of each transmission of a segment: the part of a link that is visible above TCP. Stalls follow from it in
//! `pipe`.

use std::time::{Duration, Instant};

use crate::lab::proxy::record::{Note, RecordedFate, Replay};
use crate::lab::proxy::totals::StreamTotals;
use crate::link::{Direction, Fate, LinkConfig, Passage, Place, Verdicts, rescale};
use crate::units::later;

/// The fate of one transmission of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It does not arrive.
    Lost,
    /// The connection is reset.
    Reset,
    /// It arrives.
    Passed {
        /// The time until its last byte is sent, and the next segment can be: the effect of a rate limit.
        takes: Duration,
        /// The delay after that.
        delay: Duration,
    },
}

impl Carried {
    /// Returns the form in which the fate is recorded.
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

/// Decides the fates of the segments of all connections of a proxy in one direction. The connections share its rate
/// limit.
#[derive(Debug)]
pub(crate) struct SegmentModel {
    direction: Direction,
    config: LinkConfig,
    verdicts: Verdicts,
    /// Recorded decisions, which replace random draws.
    replay: Option<Replay>,
    /// Time at which the rate limit has passed on everything that it holds.
    free: Option<Instant>,
    totals: StreamTotals,
    /// Decisions not yet taken by [`Self::take_notes`], if they are recorded.
    notes: Option<Vec<Note>>,
}

impl SegmentModel {
    /// Creates a model from `config` and `seed`; `noting` is whether decisions are kept for
    /// [`SegmentModel::take_notes`].
    #[must_use]
    pub(crate) fn new(config: LinkConfig, seed: u64, direction: Direction, noting: bool) -> Self {
        let verdicts = Verdicts::new(config.loss.clone(), seed, direction);
        let (free, totals, notes) = (None, StreamTotals::default(), noting.then(Vec::new));
        Self { direction, config, verdicts, replay: None, free, totals, notes }
    }

    /// Creates a model that repeats recorded decisions.
    #[must_use]
    pub(crate) fn with_replay(replay: Replay, direction: Direction, noting: bool) -> Self {
        Self { replay: Some(replay), ..Self::new(LinkConfig::perfect(), 0, direction, noting) }
    }

    /// Changes the configuration. Bytes that the rate limit still holds pass at the new rate.
    pub(crate) fn set_config(&mut self, now: Instant, config: LinkConfig) {
        if config.loss != self.config.loss {
            self.verdicts.set_model(config.loss.clone());
        }
        if config.rate != self.config.rate {
            let (old, new) = (self.config.rate, config.rate);
            self.free = self.free.and_then(|free| rescale(free, now, old, new));
        }
        self.config = config;
    }

    /// Returns when the rate limit has passed on everything that it holds: `now` at the earliest.
    #[must_use]
    pub(crate) fn free(&self, now: Instant) -> Instant {
        self.free.map_or(now, |free| free.max(now))
    }

    /// Decides the fate of a segment that a connection sends at `now`; `index` counts the connection's transmissions.
    pub(crate) fn decide(&mut self, now: Instant, flow: u64, index: u64, size: usize) -> Carried {
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

    /// Adds a segment that takes `takes` to the rate limit's queue. Returns the time until it has passed.
    fn queue(&mut self, now: Instant, takes: Duration) -> Duration {
        let through = later(self.free(now), takes);
        self.free = Some(through);
        through.saturating_duration_since(now)
    }

    /// Counts a reset connection.
    pub(crate) fn count_reset(&mut self) {
        self.totals.resets += 1;
    }

    /// Counts bytes that were passed on.
    pub(crate) fn count_bytes(&mut self, count: usize) {
        self.totals.bytes += count as u64;
    }

    /// Returns the decisions since the last call, if they are kept.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns the counters so far.
    #[must_use]
    pub(crate) fn totals(&self) -> StreamTotals {
        let requested = self.replay.is_none().then(|| self.config.loss.clone());
        StreamTotals { requested, ..self.totals.clone() }
    }
}

/// Returns the recorded fate of a segment. Fates that only a datagram can have count as passed.
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
