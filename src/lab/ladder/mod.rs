//! Ladder diagrams of one exchange: client and server as two lines in time, with an arrow for each datagram.
//!
//! [`play()`] runs the exchange of the real client and server on the virtual clock and records it as a [`Ladder`],
//! which is plain data. [`text`] and [`svg`] draw it; nothing is decided there.

use std::fmt;
use std::time::Duration;

use crate::link::{Direction, Fate};
use crate::reliable::Outcome;
use crate::units::counted;

mod notes;
mod play;
pub(crate) mod svg;
pub(crate) mod text;

pub(crate) use play::{Exchange, play};

/// Longest label of an arrow, in characters: it fits between the lines of a drawing.
const MAX_LABEL: usize = 30;

/// The events between one client and the server, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ladder {
    /// The datagrams, in the order in which they were sent.
    pub(crate) arrows: Vec<Arrow>,
    /// The events in order; at one instant, causes come before effects.
    pub(crate) steps: Vec<Step>,
    /// The result of the request.
    pub(crate) end: End,
}

/// One datagram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arrow {
    /// Its direction.
    pub(crate) direction: Direction,
    /// Its content: `SND @2, send 3`. ASCII, 30 characters at most.
    pub(crate) label: String,
    /// Its fate on the link.
    pub(crate) fate: Fate,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// Time since the first send of the request.
    pub(crate) at: Duration,
    /// The event.
    pub(crate) what: What,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    /// A datagram was sent: its index in [`Ladder::arrows`].
    Sent(usize),
    /// A datagram arrived.
    Arrived {
        /// Its index in [`Ladder::arrows`].
        arrow: usize,
        /// Whether it is the second of two copies that the link made.
        copy: bool,
        /// Its effect.
        effect: Effect,
    },
    /// The timeout of a send of the request expired.
    TimedOut {
        /// The timeout.
        timeout: Duration,
        /// The ratio of the timeout to the one before, if there was one.
        growth: Option<f64>,
    },
    /// The client gave the request up.
    GaveUp,
}

/// The effect of a datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The server executed the request.
    Executed,
    /// The server recognised a duplicate request, and sent the cached answer.
    Repeated,
    /// The awaited answer: an ACK.
    Acked,
    /// The awaited answer: an ERR with this code.
    Rejected(u16),
    /// A further answer after the first.
    Again,
    /// An answer after the client gave up.
    TooLate,
    /// Damaged in transit, and ignored by the receiver.
    Damaged,
    /// None of these: part of a registration.
    Taken,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed => f.write_str("executed"),
            Self::Repeated => f.write_str("cached answer"),
            Self::Acked => f.write_str("acked"),
            Self::Rejected(code) => write!(f, "rejected {code}"),
            Self::Again => f.write_str("answered already"),
            Self::TooLate => f.write_str("too late"),
            Self::Damaged => f.write_str("damaged"),
            Self::Taken => Ok(()),
        }
    }
}

/// The result of the request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// The outcome at the client.
    pub(crate) outcome: Outcome,
    /// Number of sends.
    pub(crate) sends: u32,
    /// Time from the first send to the end.
    pub(crate) elapsed: Duration,
}

impl Ladder {
    /// Returns the number of arrivals with this effect.
    fn count(&self, wanted: Effect) -> usize {
        let is_it = |step: &&Step| matches!(step.what, What::Arrived { effect, .. } if effect == wanted);
        self.steps.iter().filter(is_it).count()
    }

    /// Returns the summary in three parts: outcome, executions at the server, losses on the links.
    #[must_use]
    pub(crate) fn closing(&self) -> [String; 3] {
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
            n => format!(", {} got the cached answer", counted(n, "repeat")),
        };
        let lost = self.arrows.iter().filter(|arrow| !arrow.fate.is_passed()).count();
        [ended, executed + &again, format!("{lost} of {} datagrams lost", self.arrows.len())]
    }

    /// Returns the shortest timeout that expired: the unit of a drawing's gaps.
    fn shortest_timeout(&self) -> Option<Duration> {
        let timeout = |step: &Step| match step.what {
            What::TimedOut { timeout, .. } => Some(timeout),
            _ => None,
        };
        self.steps.iter().filter_map(timeout).filter(|timeout| !timeout.is_zero()).min()
    }
}

/// Formats a duration in seconds, rounded to the millisecond if it is long, and coarser where a reader cannot see the
/// difference.
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

/// Formats the growth of a timeout: `doubled`, `x1.50`. A timeout shortened by jitter or a deadline has not grown.
fn grown(growth: Option<f64>) -> Option<String> {
    match growth? {
        g if g < 1.005 => None,
        g if (g - 2.0).abs() < 0.005 => Some("doubled".to_owned()),
        g => Some(format!("x{g:.2}")),
    }
}

/// Cuts a text to so many columns; non-ASCII characters count as two.
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

/// Returns why a link dropped a datagram, if it did.
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
    fn durations_are_shown_no_finer_than_visible() {
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
