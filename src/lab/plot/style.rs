//! Colours, markers and dashes: a series differs from its neighbours in all three, so that no eye depends on colour.

use plotters::element::{Drawable, PointCollection};
use plotters::style::{Color as _, RGBColor, ShapeStyle};
use plotters_backend::{BackendCoord, DrawingBackend, DrawingErrorKind};

use super::sheet::PX;

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(27, 27, 31);
/// Text that is read second.
pub(super) const MUTED: RGBColor = RGBColor(90, 96, 105);
/// Lines behind the data.
pub(super) const GRID: RGBColor = RGBColor(221, 224, 229);
/// What everything stands on.
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);

/// The colours that follow the reader's light or dark scheme where they can, under the names of their CSS variables. The
/// series' are those of Okabe and Ito, told apart by the colour-blind; yellow is left out, it is lost on white.
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

/// Lengths of dash and gap, in pixels; none: a whole line.
const DASHES: [Option<(i32, i32)>; 4] = [None, Some((8, 4)), Some((2, 4)), Some((14, 4))];

/// The radii of markers, in units of the sheet: the later is drawn over the earlier, and hides less of it if it is smaller.
const RADII: [i32; 4] = [22, 19, 16, 14];

/// The shape of a marker: its corners in quarters of its radius, or a circle.
const SHAPES: [Option<&[(i32, i32)]>; 5] = [
    None,
    Some(&[(-4, -4), (4, -4), (4, 4), (-4, 4)]),
    Some(&[(0, -5), (5, 4), (-5, 4)]),
    Some(&[(0, -6), (6, 0), (0, 6), (-6, 0)]),
    Some(&[(0, 5), (5, -4), (-5, -4)]),
];

/// How a series looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Of its line and its markers.
    pub(super) color: RGBColor,
    /// Lengths of dash and gap in pixels; none: a whole line.
    pub(super) dash: Option<(i32, i32)>,
    shape: Option<&'static [(i32, i32)]>,
    /// Of its markers, in units of the sheet.
    radius: i32,
}

impl Style {
    /// The style of the n-th series, counted from 0; the first 35 differ in two things or more.
    pub(super) fn of(n: usize) -> Self {
        let pick = |length: usize| n % length;
        Self {
            color: SERIES.get(pick(SERIES.len())).copied().unwrap_or(INK),
            dash: DASHES.get(pick(DASHES.len())).copied().flatten(),
            shape: SHAPES.get(pick(SHAPES.len())).copied().flatten(),
            radius: RADII.get(pick(RADII.len())).copied().unwrap_or(4 * PX),
        }
    }

    /// Circles and whole lines in ink: for a legend that explains what all series share.
    pub(super) const fn plain() -> Self {
        Self { color: MUTED, dash: None, shape: None, radius: 4 * PX }
    }

    /// A line of this width in pixels.
    pub(super) fn line(&self, width: i32) -> ShapeStyle {
        self.color.stroke_width(u32::try_from(width * PX).unwrap_or(1))
    }
}

/// A marker on a point, filled or hollow.
#[derive(Clone, Debug)]
pub(super) struct Mark<C> {
    /// Where.
    pub(super) at: C,
    /// Whose.
    pub(super) style: Style,
    /// Whether only its outline is drawn.
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

/// An interval around a measured value: a bar with an end at both ends.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    /// Its lower and its upper end, in data coordinates.
    pub(super) ends: [(f64, f64); 2],
    /// Whose.
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

/// A level that theory gives for a single point, to which no line leads: a bar through it.
#[derive(Clone, Debug)]
pub(super) struct Level {
    /// Where, in data coordinates.
    pub(super) at: (f64, f64),
    /// Whose.
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
