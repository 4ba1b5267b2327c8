//! The layout of a ladder's SVG: the vertical position of each step, then the width of the margins. Drawing is in
//! `svg`.

use std::time::Duration;

use super::{CHAR, LINE, LOST_AT, MARGIN, SLOPE, SPAN};
use crate::lab::ladder::{Effect, Ladder, Step, What, grown, shown};
use crate::link::Direction;

/// Candidates for the length of the shortest timeout, in pixels. The first is taken at which no text makes a timeout
/// longer than its scale.
const UNITS: [f64; 4] = [52.0, 64.0, 76.0, 92.0];
/// Up to so many units the scale is linear; beyond, each doubling adds [`DOUBLING`].
const TO_SCALE: f64 = 4.0;
const DOUBLING: f64 = 26.0;
/// Least space above an arrow's start, for its label.
const ABOVE: f64 = 24.0;
/// Columns of a note at the server before it wraps.
const NOTE_COLUMNS: usize = 13;

/// One line of text beside an axis.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) text: String,
    pub(super) class: &'static str,
}

/// The position of a step, and the text beside it.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) y: f64,
    /// Whether the text is beside the client's line, rather than the server's.
    pub(super) is_left: bool,
    pub(super) labels: Vec<Label>,
    /// The end of the timeout that begins here.
    pub(super) waits_until: Option<f64>,
}

/// The layout of the drawing.
#[derive(Debug)]
pub(super) struct Layout {
    /// One spot for each step.
    pub(super) spots: Vec<Spot>,
    /// The positions at which time is omitted.
    pub(super) breaks: Vec<f64>,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) client: f64,
    pub(super) server: f64,
    pub(super) width: f64,
}

impl Layout {
    pub(super) fn new(ladder: &Ladder, heading_lines: usize) -> Self {
        let mut top = MARGIN;
        for _ in 0..heading_lines {
            top += LINE + 2.0;
        }
        let Placer { mut spots, breaks, free_left, free_right, .. } = placed(ladder, top + 4.0);
        bind_waits(ladder, &mut spots);
        let last = spots.last().map_or(top, |spot| spot.y + SLOPE);
        let client = MARGIN + 12.0 + widest(&spots, true).max(3.0 * CHAR);
        let server = client + SPAN;
        let width = (server + 10.0 + widest(&spots, false).max(3.0 * CHAR) + MARGIN).ceil();
        Self {
            spots,
            breaks,
            top: top + 4.0,
            bottom: last.max(free_left).max(free_right),
            client,
            server,
            width,
        }
    }

    /// Returns the horizontal start and end of an arrow.
    pub(super) const fn ends(&self, direction: Direction) -> (f64, f64) {
        match direction {
            Direction::Up => (self.client, self.server),
            Direction::Down => (self.server, self.client),
        }
    }

    /// Returns the vertical position of a datagram's first arrival.
    pub(super) fn arrival(&self, ladder: &Ladder, index: usize) -> Option<f64> {
        self.find(ladder, |what| matches!(what, What::Arrived { arrow, .. } if *arrow == index))
    }

    /// Returns the vertical position of a datagram's send.
    pub(super) fn departure(&self, ladder: &Ladder, index: usize) -> Option<f64> {
        self.find(ladder, |what| *what == What::Sent(index))
    }

    fn find(&self, ladder: &Ladder, is_it: impl Fn(&What) -> bool) -> Option<f64> {
        let place = ladder.steps.iter().position(|step| is_it(&step.what))?;
        self.spots.get(place).map(|spot| spot.y)
    }
}

/// Lays out all steps with the smallest unit that leaves room for the texts, or else the largest.
fn placed(ladder: &Ladder, top: f64) -> Placer<'_> {
    let run = |unit: f64| {
        let mut placer = Placer::new(ladder, top, unit);
        ladder.steps.iter().for_each(|step| placer.place(step));
        placer
    };
    let [first, others @ ..] = UNITS;
    others.into_iter().fold(run(first), |best, unit| if best.is_pushed { run(unit) } else { best })
}

/// Returns the width of the widest label on one side.
fn widest(spots: &[Spot], left: bool) -> f64 {
    let labels = spots.iter().filter(|spot| spot.is_left == left).flat_map(|spot| &spot.labels);
    labels.map(|label| label.text.chars().map(|_| CHAR).sum()).fold(0.0, f64::max)
}

/// Sets the end of each send's expired timeout, and its label.
fn bind_waits(ladder: &Ladder, spots: &mut [Spot]) {
    let mut sent = None;
    for (place, step) in ladder.steps.iter().enumerate() {
        match step.what {
            What::Sent(index) if is_request(ladder, index) => sent = Some(place),
            What::TimedOut { .. } => {
                let until = spots.get(place).map(|spot| spot.y);
                if let Some(spot) = sent.and_then(|sent| spots.get_mut(sent)) {
                    spot.waits_until = until;
                }
            }
            _ => {}
        }
    }
}

/// Whether a datagram is a send of the request: only these have timeouts.
fn is_request(ladder: &Ladder, index: usize) -> bool {
    ladder.arrows.get(index).is_some_and(|arrow| arrow.direction == Direction::Up)
}

/// Lays out one step below the other.
struct Placer<'a> {
    ladder: &'a Ladder,
    /// Pixels for the shortest timeout, and for a second.
    unit: f64,
    scale: f64,
    y: f64,
    /// The lowest end of a lost arrow.
    lost: f64,
    at: Duration,
    /// The position of the first step of this instant.
    instant: f64,
    is_after_timeout: bool,
    /// Whether a text above moved a timeout or its effect down.
    is_pushed: bool,
    /// The first free position below the labels of each side.
    free_left: f64,
    free_right: f64,
    /// The last time that was written, on either side.
    written: Option<Duration>,
    spots: Vec<Spot>,
    breaks: Vec<f64>,
}

impl<'a> Placer<'a> {
    fn new(ladder: &'a Ladder, top: f64, unit: f64) -> Self {
        let y = top + 24.0 + ABOVE + 4.0;
        Self {
            ladder,
            unit,
            scale: unit / shortest(ladder).as_secs_f64(),
            y,
            lost: y - ABOVE,
            at: Duration::ZERO,
            instant: y,
            is_after_timeout: false,
            is_pushed: false,
            free_left: y,
            free_right: y,
            written: None,
            spots: Vec::new(),
            breaks: Vec::new(),
        }
    }

    fn place(&mut self, step: &Step) {
        let is_left = self.is_left(&step.what);
        let labels = self.labels(step, is_left);
        let mut least = if self.spots.is_empty() { self.y } else { self.lowest(&step.what) };
        if !labels.is_empty() {
            least = least.max(if is_left { self.free_left } else { self.free_right });
        }
        let y = self.in_time(step, least);
        if matches!(step.what, What::Sent(index) if self.ladder.arrows.get(index).is_some_and(|arrow| !arrow.fate.is_passed()))
        {
            self.lost = y + SLOPE * LOST_AT;
        }
        let mut below = y;
        labels.iter().for_each(|_| below += LINE);
        if !labels.is_empty() && is_left {
            self.free_left = below + 3.0;
        } else if !labels.is_empty() {
            self.free_right = below + 3.0;
        }
        (self.y, self.at) = (y, step.at);
        self.is_after_timeout = matches!(step.what, What::TimedOut { .. });
        self.spots.push(Spot { y, is_left, labels, waits_until: None });
    }

    /// Returns the position of a step by its time, but not above `least`.
    fn in_time(&mut self, step: &Step, least: f64) -> f64 {
        let is_timed = self.is_after_timeout || matches!(step.what, What::TimedOut { .. });
        if step.at == self.at {
            self.is_pushed |= is_timed && least > self.y;
            return least;
        }
        let to_scale = TO_SCALE * self.unit;
        let (length, is_cut) =
            stretch(self.scale * (step.at.saturating_sub(self.at)).as_secs_f64(), to_scale);
        self.is_pushed |= is_timed && least > self.instant + length;
        let y = least.max(self.instant + length);
        if is_cut {
            self.breaks.push(f64::midpoint(self.y, y));
        }
        self.instant = y;
        y
    }

    fn is_left(&self, what: &What) -> bool {
        let is_up = |index: usize| is_request(self.ladder, index);
        match *what {
            What::Sent(index) => is_up(index),
            What::Arrived { arrow, .. } => !is_up(arrow),
            What::TimedOut { .. } | What::GaveUp => true,
        }
    }

    /// Returns the least position of a step after the one before. The effect of a timeout is at the end of the
    /// timeout.
    fn lowest(&self, what: &What) -> f64 {
        match what {
            _ if self.is_after_timeout => self.y,
            What::Sent(_) | What::TimedOut { .. } => self.y.max(self.lost) + ABOVE,
            What::Arrived { .. } | What::GaveUp => self.y + SLOPE,
        }
    }

    /// Returns the labels of a step: its time if it is new, and its effect.
    fn labels(&mut self, step: &Step, is_left: bool) -> Vec<Label> {
        let (mut notes, is_timed) = match step.what {
            What::Sent(_) => (self.timeout_of(step), is_left || self.written != Some(step.at)),
            What::Arrived { effect, .. } => (effect_labels(effect), true),
            What::TimedOut { .. } => (Vec::new(), false),
            What::GaveUp => (vec![Label { text: "gives up".to_owned(), class: "bold lost" }], true),
        };
        if is_timed && self.written != Some(step.at) {
            self.written = Some(step.at);
            notes.insert(0, Label { text: shown(step.at), class: "bold" });
        }
        notes
    }

    /// Returns the label of the timeout that begins with this send, if it expired.
    fn timeout_of(&self, step: &Step) -> Vec<Label> {
        let later = self.ladder.steps.iter().skip(self.spots.len() + 1);
        let is_next = |other: &&Step| match other.what {
            What::Sent(index) => is_request(self.ladder, index),
            What::TimedOut { .. } => true,
            _ => false,
        };
        let is_mine = matches!(step.what, What::Sent(index) if is_request(self.ladder, index));
        let next = later.clone().find(is_next).filter(|_| is_mine);
        let Some(What::TimedOut { timeout, growth }) = next.map(|step| step.what) else { return Vec::new() };
        let text = [Some("timeout".to_owned()), Some(shown(timeout)), grown(growth)];
        text.into_iter().flatten().map(|text| Label { text, class: "wait" }).collect()
    }
}

/// Returns the effect of an arrival, in short lines.
fn effect_labels(effect: Effect) -> Vec<Label> {
    let class = match effect {
        Effect::Executed | Effect::Acked => "bold good",
        Effect::Rejected(_) | Effect::Damaged => "bold lost",
        Effect::Repeated | Effect::Again | Effect::TooLate | Effect::Taken => "faint",
    };
    let mut lines: Vec<String> = Vec::new();
    for word in effect.to_string().split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= NOTE_COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|text| Label { text, class }).collect()
}

/// Returns the time of one unit: the shortest timeout, or else the shortest time between two steps.
fn shortest(ladder: &Ladder) -> Duration {
    let gaps = ladder.steps.windows(2).filter_map(|pair| match pair {
        [one, other] => Some(other.at.saturating_sub(one.at)),
        _ => None,
    });
    let shortest = || gaps.filter(|gap| !gap.is_zero()).min();
    ladder.shortest_timeout().or_else(shortest).unwrap_or(Duration::from_secs(1))
}

/// Returns the pixels drawn for a distance whose linear length is `to_scale`, and whether they are fewer.
fn stretch(distance: f64, to_scale: f64) -> (f64, bool) {
    match distance {
        // Tolerance for rounding to nanoseconds.
        d if d <= to_scale * 1.001 => (d, false),
        d => (to_scale + DOUBLING * (d / to_scale).log2(), true),
    }
}
