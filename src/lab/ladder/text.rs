//! A ladder in characters, for a terminal: one row for each event, at most 80 columns.
//!
//! A datagram without delay is one row. One with a delay has a number and two rows, for its send and its arrival.
//! Empty rows between two instants show the time between them: one more for each doubling.

use std::time::Duration;

use super::{Arrow, Effect, Ladder, Step, What, cut, grown, loss, shown};
use crate::link::{Direction, Fate};

/// Total columns.
const WIDTH: usize = 80;
/// Columns to the right of the server's line.
const NOTES: usize = 26;
/// Columns of an arrow beyond its label, at least.
const LEAST: usize = 7;
/// Bound on consecutive empty rows.
const MAX_GAP: u8 = 5;

/// The style of a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether to use ASCII alone, instead of box-drawing characters.
    pub(crate) ascii: bool,
    /// Whether to colour with the escape sequences of terminals.
    pub(crate) colour: bool,
}

/// The characters of a drawing.
#[derive(Debug)]
struct Pens {
    axis: char,
    from_client: char,
    from_server: char,
    line: char,
    right: char,
    left: char,
    lost: char,
    under_way: char,
}

const BOX: Pens = Pens {
    axis: '│',
    from_client: '├',
    from_server: '┤',
    line: '─',
    right: '▶',
    left: '◀',
    lost: '×',
    under_way: '┄',
};

const ASCII: Pens = Pens {
    axis: '|',
    from_client: '+',
    from_server: '+',
    line: '-',
    right: '>',
    left: '<',
    lost: 'x',
    under_way: '.',
};

/// The meaning of a colour.
#[derive(Clone, Copy, Debug)]
enum Ink {
    Plain,
    Faint,
    Lost,
    Waiting,
    Good,
}

impl Ink {
    /// Returns its number in an SGR sequence (ECMA-48 section 8.3.117).
    const fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint => "2",
            Self::Lost => "31",
            Self::Waiting => "33",
            Self::Good => "1;32",
        }
    }
}

/// One row, from line to line, and the text beside it.
#[derive(Debug)]
struct Row {
    at: Duration,
    left: char,
    inner: String,
    right: char,
    note: String,
    ink: Ink,
}

/// Returns the drawing, with `heading` above it; each line ends with a newline.
#[must_use]
pub(crate) fn draw(ladder: &Ladder, heading: &[String], style: Style) -> String {
    let drawing = Drawing::new(ladder, style);
    let mut out: String = heading.iter().map(|line| cut(line, WIDTH) + "\n").collect();
    out.push_str(&drawing.head());
    let (mut last, step) = (None, ladder.shortest_timeout());
    for row in ladder.steps.iter().flat_map(|step| drawing.rows(step)) {
        for _ in 0..last.map_or(0, |last| gap(row.at.saturating_sub(last), step)) {
            out.push_str(&drawing.empty());
        }
        out.push_str(&drawing.lay_out(&row, last != Some(row.at)));
        last = Some(row.at);
    }
    let [ended, executed, lost] = ladder.closing();
    out + "\n" + &cut(&ended, WIDTH) + "\n" + &cut(&format!("{executed}; {lost}"), WIDTH) + "\n"
}

/// Returns the number of empty rows for a time, of which a `unit` is one.
fn gap(time: Duration, unit: Option<Duration>) -> usize {
    let Some(unit) = unit else { return 0 };
    let doublings = (time.as_secs_f64() / unit.as_secs_f64()).log2();
    (1..=MAX_GAP).take_while(|n| f64::from(*n) <= (1.0 + doublings).round()).count()
}

/// The properties shared by all rows.
struct Drawing<'a> {
    ladder: &'a Ladder,
    pens: &'static Pens,
    colour: bool,
    /// Columns of the time.
    time: usize,
    /// Columns between the lines.
    inner: usize,
}

impl<'a> Drawing<'a> {
    fn new(ladder: &'a Ladder, style: Style) -> Self {
        let time = ladder.steps.iter().map(|step| shown(step.at).len()).max().unwrap_or(0).max(7);
        let pens = if style.ascii { &ASCII } else { &BOX };
        // The two lines, and a space on both sides of each.
        let inner = WIDTH.saturating_sub(time + NOTES + 4);
        Self { ladder, pens, colour: style.colour, time, inner }
    }

    fn head(&self) -> String {
        let time = self.time;
        let gap = (self.inner + 2).saturating_sub("client".len() + "server".len() / 2);
        format!("\n{:>time$} client{}server\n", "", " ".repeat(gap))
    }

    fn empty(&self) -> String {
        let (time, inner, axis) = (self.time, self.inner, self.pens.axis);
        let axis = self.paint(Ink::Faint, &axis.to_string());
        format!("{:>time$} {axis}{:inner$}{axis}\n", "", "")
    }

    fn lay_out(&self, row: &Row, is_new: bool) -> String {
        let time = self.time;
        let at = if is_new { shown(row.at) } else { String::new() };
        let Row { left, inner, right, note, ink, .. } = row;
        let pad = self.inner.saturating_sub(inner.chars().count());
        let [left, right] = [left, right].map(|axis| self.paint(Ink::Faint, &axis.to_string()));
        let inner = self.paint(*ink, inner) + &" ".repeat(pad);
        let note = if note.is_empty() { String::new() } else { format!(" {note}") };
        format!("{at:>time$} {left}{inner}{right}{note}\n")
    }

    fn paint(&self, ink: Ink, text: &str) -> String {
        match ink.sgr() {
            sgr if self.colour && !sgr.is_empty() && !text.is_empty() => format!("\x1b[{sgr}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    /// Returns the rows of a step; none for an arrival that is drawn with its send.
    fn rows(&self, step: &Step) -> Vec<Row> {
        match step.what {
            What::Sent(arrow) => self.sent(step.at, arrow),
            What::Arrived { arrow, copy, effect } => self.arrived(step.at, arrow, copy, effect),
            What::TimedOut { timeout, growth } => {
                let grown = grown(growth).map(|grown| format!(", {grown}")).unwrap_or_default();
                vec![self.remark(step.at, Ink::Waiting, &format!("timeout of {}{grown}", shown(timeout)))]
            }
            What::GaveUp => vec![self.remark(step.at, Ink::Lost, "gives up: outcome unknown")],
        }
    }

    /// Returns the row of an event at the client.
    fn remark(&self, at: Duration, ink: Ink, text: &str) -> Row {
        let axis = self.pens.axis;
        Row { at, left: axis, inner: format!(" {text}"), right: axis, note: String::new(), ink }
    }

    fn sent(&self, at: Duration, index: usize) -> Vec<Row> {
        let Some(arrow) = self.ladder.arrows.get(index) else { return Vec::new() };
        if let Some(effect) = self.at_once(index) {
            return self.arrow(at, arrow, &self.label(index, false), true, effect);
        }
        let tail = match loss(arrow.fate) {
            Some(why) => (format!("{} {why}", self.pens.lost), Ink::Lost),
            None => (self.pens.under_way.to_string().repeat(2), Ink::Plain),
        };
        let flight = self.half(arrow.direction, &self.label(index, false), &tail.0);
        let (left, right) = self.ends(arrow.direction);
        vec![Row { at, left, inner: flight, right, note: String::new(), ink: tail.1 }]
    }

    fn arrived(&self, at: Duration, index: usize, copy: bool, effect: Effect) -> Vec<Row> {
        match self.ladder.arrows.get(index) {
            Some(arrow) if copy || self.at_once(index).is_none() => {
                self.arrow(at, arrow, &self.label(index, copy), false, effect)
            }
            _ => Vec::new(),
        }
    }

    /// Returns the effect of a datagram, if it has no delay.
    fn at_once(&self, index: usize) -> Option<Effect> {
        let Fate::Passed(passage) = self.ladder.arrows.get(index)?.fate else { return None };
        let effect = |step: &Step| match step.what {
            What::Arrived { arrow, copy: false, effect } if arrow == index => Some(effect),
            _ => None,
        };
        self.ladder.steps.iter().find_map(effect).filter(|_| passage.delay.is_zero())
    }

    /// Returns the label of a datagram, with its number if it takes two rows.
    fn label(&self, index: usize, copy: bool) -> String {
        let is_split = |arrow: &Arrow| match arrow.fate {
            Fate::Passed(passage) => !passage.delay.is_zero() || passage.duplicate.is_some(),
            _ => false,
        };
        let split = self.ladder.arrows.iter().take(index + 1).filter(|arrow| is_split(arrow)).count();
        let Some(arrow) = self.ladder.arrows.get(index) else { return String::new() };
        let number = if is_split(arrow) { format!("({split}) ") } else { String::new() };
        let label = format!("{number}{}{}", arrow.label, if copy { ", copy" } else { "" });
        cut(&label, self.inner.saturating_sub(LEAST))
    }

    /// Returns the row of an arrow that arrives: the whole arrow, or its second half.
    fn arrow(&self, at: Duration, arrow: &Arrow, label: &str, is_whole: bool, effect: Effect) -> Vec<Row> {
        let pens = self.pens;
        let inner =
            if is_whole { self.whole(arrow.direction, label) } else { self.rest(arrow.direction, label) };
        let (left, right) = if is_whole { self.ends(arrow.direction) } else { (pens.axis, pens.axis) };
        let row = Row { at, left, inner, right, note: String::new(), ink: Ink::Plain };
        match (arrow.direction, effect.to_string()) {
            (Direction::Up, note) => vec![Row { note, ..row }],
            (Direction::Down, note) if note.is_empty() => vec![row],
            (Direction::Down, note) => {
                let ink = if effect == Effect::Acked { Ink::Good } else { Ink::Faint };
                vec![row, self.remark(at, ink, &note)]
            }
        }
    }

    /// Returns the characters of the lines where a datagram is sent.
    const fn ends(&self, direction: Direction) -> (char, char) {
        match direction {
            Direction::Up => (self.pens.from_client, self.pens.axis),
            Direction::Down => (self.pens.axis, self.pens.from_server),
        }
    }

    fn whole(&self, direction: Direction, label: &str) -> String {
        let Pens { line, left, right, .. } = self.pens;
        let rest = line.to_string().repeat(self.inner.saturating_sub(label.chars().count() + 4));
        match direction {
            Direction::Up => format!("{line} {label} {rest}{right}"),
            Direction::Down => format!("{left}{rest} {label} {line}"),
        }
    }

    /// Returns the second half of an arrow.
    fn rest(&self, direction: Direction, label: &str) -> String {
        let Pens { line, left, right, under_way, .. } = self.pens;
        let room = self.inner.saturating_sub(label.chars().count() + 5);
        let (gap, rest) = (" ".repeat(room / 2), line.to_string().repeat(room - room / 2));
        match direction {
            Direction::Up => format!("{gap}{under_way}{under_way} {label} {rest}{right}"),
            Direction::Down => format!("{left}{rest} {label} {under_way}{under_way}"),
        }
    }

    /// Returns the first half of an arrow, which ends with `tail`.
    fn half(&self, direction: Direction, label: &str, tail: &str) -> String {
        let (pens, width) = (self.pens, label.chars().count() + tail.chars().count() + 3);
        let line = (self.inner * 2 / 3).saturating_sub(width).max(2);
        let line = pens.line.to_string().repeat(line);
        match direction {
            Direction::Up => format!("{} {label} {line}{tail}", pens.line),
            Direction::Down => {
                let turned: String = match tail.split_once(' ') {
                    Some((cross, why)) => format!("{why} {cross}"),
                    None => tail.to_owned(),
                };
                let flight = format!("{turned}{line} {label} {}", pens.line);
                let pad = self.inner.saturating_sub(flight.chars().count());
                " ".repeat(pad) + &flight
            }
        }
    }
}
