//! A figure as blocks from top to bottom, and their drawing: text, a legend, panels with axes. Grids of cells are in
//! [`grid`](super::grid).

use std::convert::Infallible;

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::{DashedPathElement, PathElement, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontTransform, IntoFont as _, RGBColor, TRANSPARENT, TextStyle};

use super::axis::Axis;
use super::font;
use super::grid::Grid;
use super::sheet::{PX, Recorder, SIZE_PER_EM, Sheet, single, whole};
use super::style::{GRID, INK, Interval, Level, MUTED, Mark, Style};

/// Width of every figure, in pixels: narrow enough for its text to be readable on a phone.
const WIDTH: i32 = 560;
/// Margin around it.
const EDGE: i32 = 14;
/// Width between the margins.
pub(super) const INSIDE: i32 = WIDTH - 2 * EDGE;
/// Font size of the title, in pixels.
const TITLE: i32 = 22;
/// Font size of all other text.
pub(super) const BODY: i32 = 16;
/// Width of a sample in the legend.
const SWATCH: i32 = 34;

/// A part of the figure.
pub(super) type Area<'a> = DrawingArea<Recorder<'a>, Shift>;
/// The result of drawing with plotters.
pub(super) type Drawn = Result<(), DrawError>;
/// The error of drawing with plotters.
pub(super) type DrawError = DrawingAreaErrorKind<Infallible>;

/// A figure.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// Its title.
    pub(super) title: String,
    /// Reading instructions and caveats.
    pub(super) lead: String,
    /// The legend.
    pub(super) legend: Vec<LegendEntry>,
    /// The data.
    pub(super) body: Body,
    /// Source and omissions, one paragraph each.
    pub(super) foot: Vec<String>,
}

/// The data of a figure.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Charts above each other, with a common x axis.
    Panels {
        /// The common x axis.
        x: Axis,
        /// Its name and unit.
        x_name: String,
        /// From top to bottom.
        panels: Vec<Panel>,
    },
    /// Coloured cells.
    Grid(Grid),
}

/// A line of the legend.
#[derive(Clone, Debug)]
pub(super) struct LegendEntry {
    /// The name of the series.
    pub(super) label: String,
    /// Its style.
    pub(super) style: Style,
    /// The sample.
    pub(super) swatch: Swatch,
}

/// The sample of a style in a legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swatch {
    /// A line with a filled marker on it.
    Both,
    /// A filled marker.
    Filled,
    /// A hollow marker.
    Hollow,
}

/// A chart.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// The name and unit of its y axis.
    pub(super) name: String,
    /// Its y axis.
    pub(super) y: Axis,
    /// Its height with the name above and the numbers below, in pixels.
    pub(super) height: i32,
    /// The curves, in drawing order.
    pub(super) curves: Vec<Curve>,
}

/// The data drawn in one style.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// The style.
    pub(super) style: Style,
    /// A connected line.
    pub(super) line: Vec<(f64, f64)>,
    /// Whether the line is theory.
    pub(super) is_theory: bool,
    /// Markers.
    pub(super) marks: Vec<(f64, f64)>,
    /// Whether the markers are hollow.
    pub(super) is_hollow: bool,
    /// Intervals: x, lower end, upper end.
    pub(super) intervals: Vec<(f64, f64, f64)>,
}

/// A block of a figure.
enum Block<'a> {
    Lines { lines: Vec<String>, size: i32, color: RGBColor },
    Legend(Vec<Vec<&'a LegendEntry>>),
    Panel { panel: &'a Panel, x: &'a Axis, left: i32 },
    XName(&'a str),
    Grid(&'a Grid),
}

impl Figure {
    /// Draws it.
    ///
    /// # Errors
    ///
    /// plotters fails.
    pub(super) fn draw(&self) -> Result<Sheet, DrawError> {
        let blocks = self.blocks();
        let height: i32 = blocks.iter().map(Block::height).sum();
        let mut sheet = Sheet::new(WIDTH, height + 2 * EDGE);
        let root = sheet.recorder().into_drawing_area();
        let mut y = EDGE;
        for block in &blocks {
            let area = root.clone().shrink((EDGE * PX, y * PX), (INSIDE * PX, block.height() * PX));
            block.draw(&area)?;
            y += block.height();
        }
        drop(root);
        Ok(sheet)
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = vec![lines(&self.title, TITLE, INK), lines(&self.lead, BODY, MUTED)];
        if !self.legend.is_empty() {
            blocks.push(Block::Legend(legend_rows(&self.legend)));
        }
        match &self.body {
            Body::Panels { x, x_name, panels } => {
                let left = panels.iter().map(|panel| labels_width(&panel.y)).max().unwrap_or_default() + 8;
                blocks.extend(panels.iter().map(|panel| Block::Panel { panel, x, left }));
                blocks.push(Block::XName(x_name));
            }
            Body::Grid(grid) => blocks.push(Block::Grid(grid)),
        }
        blocks.extend(self.foot.iter().map(|paragraph| lines(paragraph, BODY, MUTED)));
        blocks
    }
}

impl Block<'_> {
    /// Returns the height in pixels, with the gap below.
    fn height(&self) -> i32 {
        match self {
            Self::Lines { lines, size, .. } => rows(lines.len()) * line_height(*size) + 6,
            Self::Legend(legend) => rows(legend.len()) * 22 + 10,
            Self::Panel { panel, .. } => panel.height,
            Self::XName(_) => 28,
            Self::Grid(grid) => grid.height() + 30,
        }
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        match self {
            Self::Lines { lines, size, color } => {
                for (n, line) in lines.iter().enumerate() {
                    write(area, line, (0, rows(n) * line_height(*size)), *size, *color, Pos::default())?;
                }
                Ok(())
            }
            Self::Legend(rows) => draw_legend(area, rows),
            Self::Panel { panel, x, left } => panel.draw(area, x, *left),
            Self::XName(name) => write(area, name, (INSIDE, 0), BODY, INK, Pos::new(HPos::Right, VPos::Top)),
            Self::Grid(grid) => grid.draw(area),
        }
    }
}

/// Converts a count of rows or columns.
pub(super) fn rows(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn line_height(size: i32) -> i32 {
    size * 4 / 3
}

fn lines(text: &str, size: i32, color: RGBColor) -> Block<'static> {
    let (em, limit) = (single(f64::from(size)), single(f64::from(INSIDE)));
    Block::Lines { lines: font::wrap(text, em, limit), size, color }
}

/// Returns the width of a text in the body size, in pixels.
pub(super) fn text_width(text: &str) -> i32 {
    whole(f64::from(font::width(text, single(f64::from(BODY)))).ceil())
}

fn labels_width(axis: &Axis) -> i32 {
    axis.ticks().iter().map(|tick| text_width(&tick.label)).max().unwrap_or_default()
}

fn style(size: i32, color: RGBColor, pos: Pos) -> TextStyle<'static> {
    let font = ("sans-serif", f64::from(size * PX) * SIZE_PER_EM).into_font().transform(FontTransform::None);
    TextStyle { font, color: color.to_backend_color(), pos }
}

/// Writes a text at a position, in pixels of the area.
pub(super) fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    color: RGBColor,
    pos: Pos,
) -> Drawn {
    area.draw(&Text::new(text, (at.0 * PX, at.1 * PX), style(size, color, pos)))
}

/// Returns the label of an entry, cut to one line.
fn entry_text(entry: &LegendEntry) -> String {
    font::fit(&entry.label, single(f64::from(BODY)), single(f64::from(INSIDE - SWATCH - 8)))
}

fn entry_width(entry: &LegendEntry) -> i32 {
    SWATCH + 8 + text_width(&entry_text(entry))
}

/// Arranges entries side by side as long as they fit.
fn legend_rows(legend: &[LegendEntry]) -> Vec<Vec<&LegendEntry>> {
    let mut rows: Vec<(i32, Vec<&LegendEntry>)> = Vec::new();
    for entry in legend {
        let width = entry_width(entry) + 20;
        match rows.last_mut() {
            Some((used, row)) if *used + width <= INSIDE + 20 => {
                *used += width;
                row.push(entry);
            }
            _ => rows.push((width, vec![entry])),
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

fn draw_legend(area: &Area<'_>, legend: &[Vec<&LegendEntry>]) -> Drawn {
    for (n, row) in legend.iter().enumerate() {
        let (mut x, y) = (0, rows(n) * 22 + 11);
        for entry in row {
            draw_swatch(area, entry, x, y)?;
            let pos = Pos::new(HPos::Left, VPos::Center);
            write(area, &entry_text(entry), (x + SWATCH + 8, y), BODY, INK, pos)?;
            x += entry_width(entry) + 20;
        }
    }
    Ok(())
}

fn draw_swatch(area: &Area<'_>, entry: &LegendEntry, x: i32, y: i32) -> Drawn {
    if entry.swatch == Swatch::Both {
        let points = [(x * PX, y * PX), ((x + SWATCH) * PX, y * PX)];
        draw_line(area, &points, entry.style)?;
    }
    let at = ((x + SWATCH / 2) * PX, y * PX);
    area.draw(&Mark { at, style: entry.style, is_hollow: entry.swatch == Swatch::Hollow })
}

fn draw_line(area: &Area<'_>, points: &[(i32, i32)], style: Style) -> Drawn {
    match style.dash {
        None => area.draw(&PathElement::new(points.to_vec(), style.line(2))),
        Some((dash, gap)) => {
            area.draw(&DashedPathElement::new(points.iter().copied(), dash * PX, gap * PX, style.line(2)))
        }
    }
}

impl Panel {
    fn draw(&self, area: &Area<'_>, x: &Axis, left: i32) -> Drawn {
        write(area, &self.name, (0, 2), BODY, INK, Pos::default())?;
        let last = x.ticks().last().map_or(0, |tick| text_width(&tick.label));
        let mut chart = ChartBuilder::on(area)
            .margin_top(28 * PX)
            .margin_bottom(6 * PX)
            .margin_right((last / 2 + 2) * PX)
            .x_label_area_size(26 * PX)
            .y_label_area_size(left * PX)
            .build_cartesian_2d(x.clone(), self.y.clone())?;
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(PX.unsigned_abs()))
            .light_line_style(TRANSPARENT)
            .axis_style(MUTED.stroke_width(PX.unsigned_abs()))
            .set_all_tick_mark_size(4 * PX)
            .label_style(style(BODY, INK, Pos::default()))
            .draw()?;
        for curve in &self.curves {
            curve.draw(&mut chart)?;
        }
        Ok(())
    }
}

type Chart<'a, 'b> =
    plotters::chart::ChartContext<'a, Recorder<'b>, plotters::coord::cartesian::Cartesian2d<Axis, Axis>>;

impl Curve {
    fn draw(&self, chart: &mut Chart<'_, '_>) -> Drawn {
        let line = self.style.line(2);
        match self.style.dash {
            _ if self.line.len() < 2 => {
                let theory = self.line.iter().filter(|_| self.is_theory);
                chart.draw_series(theory.map(|at| Level { at: *at, style: self.style }))?;
            }
            None => drop(chart.draw_series([PathElement::new(self.line.clone(), line)])?),
            Some((dash, gap)) => {
                let points = self.line.iter().copied();
                chart.draw_series([DashedPathElement::new(points, dash * PX, gap * PX, line)])?;
            }
        }
        let style = self.style;
        let bars =
            self.intervals.iter().map(|(x, low, high)| Interval { ends: [(*x, *low), (*x, *high)], style });
        chart.draw_series(bars)?;
        let marks = self.marks.iter().map(|at| Mark { at: *at, style, is_hollow: self.is_hollow });
        chart.draw_series(marks)?;
        Ok(())
    }
}
