//! A ladder as SVG: arrows slope with their delay, and the distance between sends grows with their timeouts. Positions
//! are computed in `layout`.
//!
//! The SVG is self-contained: generic fonts, its own colours for light and dark, no external files. Shape and text
//! repeat the meaning of colours. Time is to scale as far as it is readable; a longer wait is shortened, with a break
//! in both lines. An arrow without delay slopes a little too, so that causes are above their effects.

mod layout;

use std::fmt::Write as _;

use layout::{Label, Layout, Spot};

use super::{Arrow, Effect, Ladder, What, cut, loss, shown};
use crate::lab::svg::{Element, Tenths, end};
use crate::link::Direction;
use crate::reliable::Outcome;

/// Width of a character in the generic monospaced fonts, rounded up, and height of a line.
const CHAR: f64 = 7.6;
const LINE: f64 = 15.0;
/// Font size.
const FONT: f64 = 12.5;
/// Margin around the drawing.
const MARGIN: f64 = 14.0;
/// Distance from the client's line to the server's.
const SPAN: f64 = 236.0;
/// The share of its span after which a lost arrow ends.
const LOST_AT: f64 = 0.56;
/// Height of an arrow without delay.
const SLOPE: f64 = 16.0;

/// Blue and vermilion are distinguishable with colour blindness (Okabe and Ito), and have enough contrast on white and
/// black.
const STYLE: &str = "\
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12.5px;fill:#1f2328;\
paint-order:stroke;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round}
.bg{fill:#ffffff}.faint{fill:#59636e}.bold{font-weight:bold}
.wait{fill:#8a5a00}.lost{fill:#b83a00}.good{fill:#0a5fa8}
text.name{stroke:none}
.axis{stroke:#8c959f;stroke-width:1.5}.head{fill:#eef1f4;stroke:#8c959f}
.go{stroke:#0a5fa8;stroke-width:1.8;fill:none}.tip{fill:#0a5fa8}
.gone{stroke:#b83a00;stroke-width:1.8;stroke-dasharray:6 4;fill:none}.cross{stroke:#b83a00;stroke-width:2.6;fill:none}
.copy{stroke-dasharray:2 4}.bar{stroke:#d9930d;stroke-width:4;fill:none}.gap{stroke:#ffffff;stroke-width:7}
.cut{stroke:#59636e;stroke-width:1.5}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3;stroke:#0d1117}.bg{fill:#0d1117}.faint{fill:#9aa4af}.wait{fill:#e3b341}.lost{fill:#ff8a57}.good{fill:#6cb6ff}
.axis{stroke:#6e7681}.head{fill:#1c2330;stroke:#6e7681}.go{stroke:#6cb6ff}.tip{fill:#6cb6ff}
.gone,.cross{stroke:#ff8a57}.bar{stroke:#bb8009}.gap{stroke:#0d1117}.cut{stroke:#9aa4af}
}";

/// Returns the drawing as an SVG document, with `heading` above it.
#[must_use]
pub(crate) fn draw(ladder: &Ladder, heading: &[String]) -> String {
    let layout = Layout::new(ladder, heading.len());
    let closing = ladder.closing();
    let foot = layout.bottom + 30.0;
    let (width, height) = (layout.width, foot + LINE * 2.0 + MARGIN);
    let mut svg = Svg::default();
    svg.open((width, height), heading, &words(ladder));
    svg.heading(heading, width);
    svg.axes(&layout);
    for (step, spot) in ladder.steps.iter().zip(&layout.spots) {
        svg.wait(&layout, spot);
        svg.arrow(ladder, &layout, &step.what, spot);
    }
    layout.breaks.iter().for_each(|y| svg.cut_axes(&layout, *y));
    layout.spots.iter().for_each(|spot| svg.labels(&layout, spot));
    let ended = if matches!(ladder.end.outcome, Outcome::Acked(_)) { "bold good" } else { "bold lost" };
    for (n, (line, class)) in closing.iter().zip([ended, "", "faint"]).enumerate() {
        svg.text(
            MARGIN,
            foot + LINE * f64::from(u8::try_from(n).unwrap_or(0)),
            class,
            "start",
            &fitted(line, width),
        );
    }
    let mut document = svg.shapes + &svg.words;
    end(&mut document, "svg");
    document
}

/// Cuts a line to the width of the picture.
fn fitted(line: &str, width: f64) -> String {
    let mut columns = 0_u16;
    while f64::from(columns + 1) * CHAR <= width - 2.0 * MARGIN {
        columns += 1;
    }
    cut(line, usize::from(columns))
}

/// Returns the text alternative of the picture.
fn words(ladder: &Ladder) -> String {
    let mut words = String::new();
    for step in &ladder.steps {
        let (at, label) =
            (shown(step.at), |arrow: usize| ladder.arrows.get(arrow).map_or("", |arrow| &arrow.label));
        let _ = match step.what {
            What::Sent(arrow) => {
                let whence = ladder.arrows.get(arrow).map_or("", sender);
                let lost = ladder.arrows.get(arrow).and_then(|arrow| loss(arrow.fate));
                let fate = lost.map(|why| format!(" ({why})")).unwrap_or_default();
                write!(words, "{at}: the {whence} sends {}{fate}. ", label(arrow))
            }
            What::Arrived { arrow, effect, .. } => {
                let effect = Some(effect.to_string()).filter(|effect| !effect.is_empty());
                let effect = effect.map(|effect| format!(": {effect}")).unwrap_or_default();
                write!(words, "{at}: {} arrives{effect}. ", label(arrow))
            }
            What::TimedOut { timeout, .. } => write!(words, "{at}: a timeout of {} ends. ", shown(timeout)),
            What::GaveUp => write!(words, "{at}: the client gives up. "),
        };
    }
    words + &ladder.closing().join("; ")
}

fn sender(arrow: &Arrow) -> &'static str {
    match arrow.direction {
        Direction::Up => "client",
        Direction::Down => "server",
    }
}

/// A document under construction. Texts come last, so that no line covers them.
#[derive(Debug, Default)]
struct Svg {
    shapes: String,
    words: String,
}

impl Svg {
    fn open(&mut self, (width, height): (f64, f64), heading: &[String], words: &str) {
        let (width, height) = (format!("{width:.0}"), format!("{height:.0}"));
        Element::root(&mut self.shapes)
            .with("viewBox", format_args!("0 0 {width} {height}"))
            .with("width", &width)
            .with("height", &height)
            .with("role", "img")
            .with("aria-labelledby", "title words")
            .open();
        self.shape("title").with("id", "title").text(&heading.join("; "));
        self.shape("desc").with("id", "words").text(words);
        self.shape("style").raw(STYLE);
        self.shape("rect")
            .with("class", "bg")
            .with("width", width)
            .with("height", height)
            .with("rx", 8)
            .empty();
    }

    fn shape(&mut self, name: &'static str) -> Element<'_> {
        Element::new(&mut self.shapes, name)
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let line = self.shape("line").with("class", class);
        line.with("x1", Tenths(x1))
            .with("y1", Tenths(y1))
            .with("x2", Tenths(x2))
            .with("y2", Tenths(y2))
            .empty();
    }

    /// Adds a text; `y` is the middle of the line.
    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        Element::new(&mut self.words, "text")
            .with("class", class)
            .with("x", Tenths(x))
            .with("y", Tenths(y + FONT * 0.34))
            .with("text-anchor", anchor)
            .text(text);
    }

    fn heading(&mut self, heading: &[String], width: f64) {
        let mut y = MARGIN + LINE / 2.0;
        for (n, line) in heading.iter().enumerate() {
            self.text(MARGIN, y, if n == 0 { "bold" } else { "faint" }, "start", &fitted(line, width));
            y += LINE + 2.0;
        }
    }

    fn axes(&mut self, layout: &Layout) {
        for (x, name) in [(layout.client, "client"), (layout.server, "server")] {
            let (left, top) = (x - 33.0, layout.top);
            self.line("axis", (x, top + 24.0), (x, layout.bottom + 10.0));
            let head =
                self.shape("rect").with("class", "head").with("x", Tenths(left)).with("y", Tenths(top));
            head.with("width", 66).with("height", 24).with("rx", 5).empty();
            self.text(x, top + 12.0, "bold name", "middle", name);
        }
    }

    /// Marks the omitted time on both lines.
    fn cut_axes(&mut self, layout: &Layout, y: f64) {
        for x in [layout.client, layout.server] {
            self.line("gap", (x - 6.0, y + 2.5), (x + 6.0, y - 2.5));
            for y in [y - 3.5, y + 3.5] {
                self.line("cut", (x - 7.0, y + 2.9), (x + 7.0, y - 2.9));
            }
        }
    }

    /// Draws the bar along the client's line that shows a timeout.
    fn wait(&mut self, layout: &Layout, spot: &Spot) {
        if let Some(until) = spot.waits_until {
            let x = layout.client;
            self.line("bar", (x, spot.y), (x, until));
            self.line("bar", (x - 6.0, until), (x, until));
        }
    }

    fn labels(&mut self, layout: &Layout, spot: &Spot) {
        let (x, anchor) = match spot.is_left {
            true => (layout.client - 12.0, "end"),
            false => (layout.server + 10.0, "start"),
        };
        let mut y = spot.y;
        for Label { text, class } in &spot.labels {
            self.text(x, y, class, anchor, text);
            y += LINE;
        }
    }

    fn arrow(&mut self, ladder: &Ladder, layout: &Layout, what: &What, spot: &Spot) {
        match *what {
            What::Sent(index) => {
                let Some(arrow) = ladder.arrows.get(index) else { return };
                let (from, to) = layout.ends(arrow.direction);
                let towards = layout.arrival(ladder, index).unwrap_or(spot.y + SLOPE);
                let flight = Flight { from: (from, spot.y), to: (to, towards) };
                self.beside(flight, &arrow.label);
                if let Some(why) = loss(arrow.fate) {
                    self.lost(flight, why);
                }
            }
            What::Arrived { arrow: index, copy, effect } => {
                let Some(arrow) = ladder.arrows.get(index) else { return };
                let (from, to) = layout.ends(arrow.direction);
                let begun = layout.departure(ladder, index).unwrap_or(spot.y - SLOPE);
                self.arrived(Flight { from: (from, begun), to: (to, spot.y) }, copy, effect);
            }
            What::TimedOut { .. } | What::GaveUp => {}
        }
    }

    fn arrived(&mut self, flight: Flight, copy: bool, effect: Effect) {
        let class = match (copy, effect) {
            (true, _) => "go copy",
            (false, Effect::Damaged) => "gone",
            _ => "go",
        };
        self.line(class, flight.from, flight.to);
        let class = if effect == Effect::Damaged { "lost" } else { "tip" };
        self.shape("path")
            .with("class", class)
            .with("d", "M0 0L-10 -4.5L-10 4.5Z")
            .with("transform", placed(flight.to, flight.angle()))
            .empty();
        if copy {
            self.along(flight.to, flight.tilt(), if flight.goes_right() { -14.0 } else { 14.0 }, "copy");
        }
    }

    fn lost(&mut self, flight: Flight, why: &str) {
        let (x, y) = flight.at(LOST_AT);
        self.line("gone", flight.from, (x, y));
        self.shape("path")
            .with("class", "cross")
            .with("d", "M-6 -6L6 6M-6 6L6 -6")
            .with("transform", format_args!("translate({x:.1} {y:.1})"))
            .empty();
        let (x, anchor) = if flight.goes_right() { (x + 12.0, "start") } else { (x - 12.0, "end") };
        self.text(x, y, "lost", anchor, why);
    }

    /// Writes a label above an arrow, beside its sender.
    fn beside(&mut self, flight: Flight, label: &str) {
        self.along(flight.from, flight.tilt(), if flight.goes_right() { 10.0 } else { -10.0 }, label);
    }

    /// Writes a text above a sloping line, `along` from `point`, at a distance of `offset`.
    fn along(&mut self, point: (f64, f64), tilt: f64, offset: f64, text: &str) {
        Element::new(&mut self.words, "text")
            .with("x", Tenths(offset))
            .with("y", -5)
            .with("text-anchor", if offset > 0.0 { "start" } else { "end" })
            .with("transform", placed(point, tilt))
            .text(text);
    }
}

/// Returns the transform of a shape at a point, turned clockwise by so many degrees.
fn placed((x, y): (f64, f64), angle: f64) -> String {
    format!("translate({x:.1} {y:.1}) rotate({angle:.1})")
}

/// The arrow of one datagram, from line to line.
#[derive(Clone, Copy, Debug)]
struct Flight {
    from: (f64, f64),
    to: (f64, f64),
}

impl Flight {
    fn goes_right(&self) -> bool {
        self.to.0 > self.from.0
    }

    /// Returns the point after a share of the arrow.
    fn at(&self, part: f64) -> (f64, f64) {
        let between = |from: f64, to: f64| from + (to - from) * part;
        (between(self.from.0, self.to.0), between(self.from.1, self.to.1))
    }

    /// Returns the arrow's direction, in degrees clockwise from the right.
    fn angle(&self) -> f64 {
        (self.to.1 - self.from.1).atan2(self.to.0 - self.from.0).to_degrees()
    }

    /// Returns the rotation of text along it, which reads from left to right.
    fn tilt(&self) -> f64 {
        let down = self.to.1 - self.from.1;
        if self.goes_right() { down.atan2(SPAN).to_degrees() } else { -down.atan2(SPAN).to_degrees() }
    }
}
