//! One exchange as a ladder: client and server as two lines in time, an arrow for each datagram between them.
//!
//! Data first: [`play()`] lets the real client and server have the exchange on the virtual clock and notes what happened
//! as a [`Ladder`], plain data; [`text`] and [`svg`] draw that, and neither decides anything.

use std::fmt;
use std::time::Duration;

use crate::link::{Direction, Fate};
use crate::reliable::Outcome;
use crate::units::counted;

mod notes;
mod play;
pub mod svg;
pub mod text;

pub use play::{Exchange, MAX_SENDS, PlayError, play};

/// The longest label of an arrow, in characters: what fits between the lines of a drawing.
const MAX_LABEL: usize = 30;

/// What happened between one client and the server, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    /// The datagrams, in the order in which they were sent.
    pub arrows: Vec<Arrow>,
    /// What happened when, in the order in which it happened: of what happens at one instant, causes come first.
    pub steps: Vec<Step>,
    /// How the request ended.
    pub end: End,
}

/// One datagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrow {
    /// Which way it goes.
    pub direction: Direction,
    /// What is in it: `SND @2, send 3`. ASCII, 30 characters at most.
    pub label: String,
    /// What the link did to it.
    pub fate: Fate,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// When, from the first send of the request on.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A datagram was sent: its index in [`Ladder::arrows`].
    Sent(usize),
    /// A datagram arrived.
    Arrived {
        /// Its index in [`Ladder::arrows`].
        arrow: usize,
        /// Whether it is the second of two copies that the link made.
        copy: bool,
        /// What came of it.
        effect: Effect,
    },
    /// A send of the request counts as failed, or the last one's wait is over.
    TimedOut {
        /// How long was waited for its answer.
        timeout: Duration,
        /// How many times the timeout before that is, if there was one.
        growth: Option<f64>,
    },
    /// The client gave the request up.
    GaveUp,
}

/// What came of a datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The server did what it asks.
    Executed,
    /// The server had done that before, and answers from its window of remembered answers.
    Repeated,
    /// It is the answer that the client waits for, and says that the request took effect.
    Acked,
    /// It is the answer that the client waits for, and refuses the request with this code.
    Rejected(u16),
    /// It is an answer, and the client has had one.
    Again,
    /// It is an answer, and the client has given up.
    TooLate,
    /// It was damaged on its way, and is not what its receiver waits for.
    Damaged,
    /// None of these: part of a registration.
    Taken,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed => f.write_str("executed"),
            Self::Repeated => f.write_str("answered from the window"),
            Self::Acked => f.write_str("acked"),
            Self::Rejected(code) => write!(f, "rejected {code}"),
            Self::Again => f.write_str("answered already"),
            Self::TooLate => f.write_str("too late"),
            Self::Damaged => f.write_str("damaged"),
            Self::Taken => Ok(()),
        }
    }
}

/// How the request ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// What the client knows.
    pub outcome: Outcome,
    /// How often it was sent.
    pub sends: u32,
    /// From its first send on.
    pub elapsed: Duration,
}

impl Ladder {
    /// How many arrivals had this effect.
    fn count(&self, wanted: Effect) -> usize {
        let is_it = |step: &&Step| matches!(step.what, What::Arrived { effect, .. } if effect == wanted);
        self.steps.iter().filter(is_it).count()
    }

    /// What came of it, in three parts: how the request ended, what the server did, what the links did.
    #[must_use]
    pub fn closing(&self) -> [String; 3] {
        let End { outcome, sends, elapsed } = &self.end;
        let how = match outcome {
            Outcome::Acked(_) => "acked".to_owned(),
            Outcome::Rejected(code, _) => format!("rejected with {code}"),
            Outcome::Unknown => "unknown: given up".to_owned(),
            Outcome::NeverSent => "never sent".to_owned(),
        };
        let ended = format!("{how} after {}, {}", shown(*elapsed), counted(*sends, "send"));
        let executed = match self.count(Effect::Executed) {
            0 => "never executed".to_owned(),
            1 => "executed once".to_owned(),
            n => format!("executed {n} times"),
        };
        let again = match self.count(Effect::Repeated) {
            0 => String::new(),
            n => format!(", {} answered from the window", counted(n, "repeat")),
        };
        let lost = self.arrows.iter().filter(|arrow| !arrow.fate.is_passed()).count();
        [ended, executed + &again, format!("{lost} of {} datagrams lost", self.arrows.len())]
    }

    /// The shortest timeout that ended, if one did: what the gaps of a drawing are measured by.
    fn shortest_timeout(&self) -> Option<Duration> {
        let timeout = |step: &Step| match step.what {
            What::TimedOut { timeout, .. } => Some(timeout),
            _ => None,
        };
        self.steps.iter().filter_map(timeout).filter(|timeout| !timeout.is_zero()).min()
    }
}

/// A length of time for a picture: seconds, rounded to the millisecond where it is longer than a few of these, to less
/// where it is so long that nobody would see.
fn shown(length: Duration) -> String {
    let seconds = length.as_secs_f64();
    let decimals = match seconds {
        s if s < 0.01 => 6,
        s if s < 100.0 => 3,
        s if s < 10_000.0 => 1,
        _ => 0,
    };
    let text = format!("{seconds:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} s")
}

/// How a timeout compares to the one before, if it is longer: `doubled`, `x1.50`. What jitter or a deadline made shorter
/// has not grown.
fn grown(growth: Option<f64>) -> Option<String> {
    match growth? {
        g if g < 1.005 => None,
        g if (g - 2.0).abs() < 0.005 => Some("doubled".to_owned()),
        g => Some(format!("x{g:.2}")),
    }
}

/// As much of a text as fits so many columns; what is not ASCII is taken to fill two.
fn cut(text: &str, columns: usize) -> String {
    let width = |c: char| if c.is_ascii() { 1 } else { 2 };
    if text.chars().map(width).sum::<usize>() <= columns {
        return text.to_owned();
    }
    let fits = text.chars().scan(0, |used, c| {
        *used += width(c);
        (*used + 2 <= columns).then_some(c)
    });
    fits.chain("..".chars()).collect()
}

/// What a link did to a datagram that does not arrive.
fn loss(fate: Fate) -> Option<&'static str> {
    match fate {
        Fate::Lost => Some("lost"),
        Fate::TooLarge => Some("too large"),
        Fate::QueueFull => Some("queue full"),
        Fate::Passed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_shown_no_finer_than_one_can_see() {
        for (nanos, text) in [
            (0, "0 s"),
            (1_234, "0.000001 s"),
            (1_234_567, "0.001235 s"),
            (237_499_999, "0.237 s"),
            (100_000_000, "0.1 s"),
            (93_000_000_000, "93 s"),
            (123_456_000_000, "123.5 s"),
            (12_345_678_000_000, "12346 s"),
            (100_000_000_000_000, "100000 s"),
        ] {
            assert_eq!(shown(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn a_text_that_is_too_wide_is_cut() {
        assert_eq!(cut("eight ch", 8), "eight ch");
        assert_eq!(cut("nine char", 8), "nine c..");
        assert_eq!(cut("\u{4e16}\u{754c}\u{4e16}", 5), "\u{4e16}..");
    }

    #[test]
    fn a_timeout_says_how_it_grew() {
        assert_eq!(grown(None), None);
        assert_eq!(grown(Some(1.0)), None);
        assert_eq!(grown(Some(2.0)).as_deref(), Some("doubled"));
        assert_eq!(grown(Some(1.5)).as_deref(), Some("x1.50"));
        assert_eq!(grown(Some(0.25)), None);
    }
}
