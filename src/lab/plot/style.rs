//! Colours, markers and dashes of series. Neighbouring series differ in all three, so that none is distinguished by
//! colour alone.

use plotters::element::{Drawable, PointCollection};
use plotters::style::{Color as _, RGBColor, ShapeStyle};
use plotters_backend::{BackendCoord, DrawingBackend, DrawingErrorKind};

use super::sheet::PX;

/// Colour of text and axes.
pub(super) const INK: RGBColor = RGBColor(27, 27, 31);
/// Colour of secondary text.
pub(super) const MUTED: RGBColor = RGBColor(90, 96, 105);
/// Colour of grid lines.
pub(super) const GRID: RGBColor = RGBColor(221, 224, 229);
/// Background colour.
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);

/// Colours that follow the reader's light or dark scheme where possible, under the names of their CSS variables. The
/// series' colours are those of Okabe and Ito, which are distinguishable with colour blindness; yellow is omitted, as
/// it is invisible on white.
pub(super) const PALETTE: [(&str, RGBColor); 11] = [
    ("ink", INK),
    ("muted", MUTED),
    ("grid", GRID),
    ("paper", PAPER),
    ("s0", RGBColor(0, 114, 178)),
    ("s1", RGBColor(213, 94, 0)),
    ("s2", RGBColor(0, 158, 115)),
    ("s3", RGBColor(204, 121, 167)),
    ("s4", RGBColor(230, 159, 0)),
    ("s5", RGBColor(86, 180, 233)),
    ("s6", RGBColor(0, 0, 0)),
];
const SERIES: [RGBColor; 7] =
    [PALETTE[4].1, PALETTE[5].1, PALETTE[6].1, PALETTE[7].1, PALETTE[8].1, PALETTE[9].1, PALETTE[10].1];

/// Lengths of dash and gap, in pixels; `None` is a solid line.
const DASHES: [Option<(i32, i32)>; 4] = [None, Some((8, 4)), Some((2, 4)), Some((14, 4))];

/// Radii of markers, in units of the sheet. Later markers are drawn over earlier ones, so they are smaller.
const RADII: [i32; 4] = [22, 19, 16, 14];

/// Shapes of markers: corners in quarters of the radius, or a circle.
const SHAPES: [Option<&[(i32, i32)]>; 5] = [
    None,
    Some(&[(-4, -4), (4, -4), (4, 4), (-4, 4)]),
    Some(&[(0, -5), (5, 4), (-5, 4)]),
    Some(&[(0, -6), (6, 0), (0, 6), (-6, 0)]),
    Some(&[(0, 5), (5, -4), (-5, -4)]),
];

/// The style of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Colour of line and markers.
    pub(super) color: RGBColor,
    /// Lengths of dash and gap in pixels; `None` is a solid line.
    pub(super) dash: Option<(i32, i32)>,
    shape: Option<&'static [(i32, i32)]>,
    /// Radius of markers, in units of the sheet.
    radius: i32,
}

impl Style {
    /// Returns the style of the n-th series, from 0; the first 35 differ in at least two properties.
    pub(super) fn of(n: usize) -> Self {
        let pick = |length: usize| n % length;
        Self {
            color: SERIES.get(pick(SERIES.len())).copied().unwrap_or(INK),
            dash: DASHES.get(pick(DASHES.len())).copied().flatten(),
            shape: SHAPES.get(pick(SHAPES.len())).copied().flatten(),
            radius: RADII.get(pick(RADII.len())).copied().unwrap_or(4 * PX),
        }
    }

    /// Returns circles and solid lines in the text colour: for a legend common to all series.
    pub(super) const fn plain() -> Self {
        Self { color: MUTED, dash: None, shape: None, radius: 4 * PX }
    }

    /// Returns a line style with this width in pixels.
    pub(super) fn line(&self, width: i32) -> ShapeStyle {
        self.color.stroke_width(u32::try_from(width * PX).unwrap_or(1))
    }
}

/// A marker at a point, filled or hollow.
#[derive(Clone, Debug)]
pub(super) struct Mark<C> {
    /// The position.
    pub(super) at: C,
    /// The style of its series.
    pub(super) style: Style,
    /// Whether only the outline is drawn.
    pub(super) is_hollow: bool,
}

impl<'a, C> PointCollection<'a, C> for &'a Mark<C> {
    type Point = &'a C;
    type IntoIter = std::iter::Once<&'a C>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.at)
    }
}

impl<C, DB: DrawingBackend> Drawable<DB> for Mark<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut points: I,
        backend: &mut DB,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<DB::ErrorType>> {
        let Some((x, y)) = points.next() else { return Ok(()) };
        let (radius, outline) = (self.style.radius, self.style.line(2));
        let fill = if self.is_hollow { PAPER.filled() } else { self.style.color.filled() };
        let Some(corners) = self.style.shape else {
            backend.draw_circle((x, y), radius.unsigned_abs(), &fill, true)?;
            return backend.draw_circle((x, y), radius.unsigned_abs(), &outline, false);
        };
        let corners: Vec<_> =
            corners.iter().map(|(dx, dy)| (x + dx * radius / 4, y + dy * radius / 4)).collect();
        backend.fill_polygon(corners.iter().copied(), &fill)?;
        backend.draw_path(corners.iter().copied().chain(corners.iter().take(2).copied()), &outline)
    }
}

/// An interval around a measured value: a bar with caps.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    /// Lower and upper end, in data coordinates.
    pub(super) ends: [(f64, f64); 2],
    /// The style of its series.
    pub(super) style: Style,
}

impl<'a> PointCollection<'a, (f64, f64)> for &'a Interval {
    type Point = &'a (f64, f64);
    type IntoIter = std::slice::Iter<'a, (f64, f64)>;

    fn point_iter(self) -> Self::IntoIter {
        self.ends.iter()
    }
}

impl<DB: DrawingBackend> Drawable<DB> for Interval {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        points: I,
        backend: &mut DB,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<DB::ErrorType>> {
        let (ends, line) = (points.collect::<Vec<_>>(), self.style.line(1));
        backend.draw_path(ends.iter().copied(), &line)?;
        for (x, y) in ends {
            backend.draw_path([(x - 4 * PX, y), (x + 4 * PX, y)], &line)?;
        }
        Ok(())
    }
}

/// A theoretical value at a single point without a line: a bar through it.
#[derive(Clone, Debug)]
pub(super) struct Level {
    /// The position, in data coordinates.
    pub(super) at: (f64, f64),
    /// The style of its series.
    pub(super) style: Style,
}

impl<'a> PointCollection<'a, (f64, f64)> for &'a Level {
    type Point = &'a (f64, f64);
    type IntoIter = std::iter::Once<&'a (f64, f64)>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.at)
    }
}

impl<DB: DrawingBackend> Drawable<DB> for Level {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut points: I,
        backend: &mut DB,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<DB::ErrorType>> {
        let Some((x, y)) = points.next() else { return Ok(()) };
        backend.draw_path([(x - 16 * PX, y), (x + 16 * PX, y)], &self.style.line(2))
    }
}
