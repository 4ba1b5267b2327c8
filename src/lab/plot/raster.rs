//! Rasterises a sheet as PNG, antialiased: every shape becomes outlines, and a pixel is coloured by the covered area.

use std::f32::consts::TAU;

use ab_glyph::OutlineCurve;
use ab_glyph_rasterizer::{Point, Rasterizer, point};

use super::font;
use super::sheet::{PX, Rgb, Shape, Sheet, single};
use super::style::PAPER;

/// Image pixels per sheet pixel, for high-resolution displays.
const SCALE: f32 = 2.0;
/// Corners of a circle.
const CORNERS: u8 = 32;

/// Draws a sheet and encodes it as PNG.
///
/// # Errors
///
/// The encoder fails, which it has no reason to.
pub(super) fn png(sheet: &Sheet) -> Result<Vec<u8>, png::EncodingError> {
    let mut image = Image::new(pixels(sheet.size.0), pixels(sheet.size.1));
    for shape in &sheet.shapes {
        image.draw(shape);
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width, image.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(&image.bytes)?;
    Ok(bytes)
}

/// Converts units of the sheet to pixels of the image.
fn pixels(units: u32) -> u32 {
    units.div_ceil(PX.unsigned_abs()) * 2
}

fn scaled(units: i32) -> f32 {
    single(f64::from(units)) * SCALE / single(f64::from(PX))
}

fn place((x, y): (i32, i32)) -> Point {
    point(scaled(x), scaled(y))
}

struct Image {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

/// A closed outline.
type Ring = Vec<Point>;

impl Image {
    fn new(width: u32, height: u32) -> Self {
        let pixel = [PAPER.0, PAPER.1, PAPER.2];
        let count = u64::from(width) * u64::from(height);
        let bytes = pixel.repeat(usize::try_from(count).unwrap_or_default());
        Self { width, height, bytes }
    }

    fn draw(&mut self, shape: &Shape) {
        match shape {
            Shape::Path { points, width, color } => {
                let points: Vec<_> = points.iter().copied().map(place).collect();
                self.fill(&stroke(&points, length(*width)), *color);
            }
            Shape::Fill { points, color } => {
                self.fill(&[points.iter().copied().map(place).collect()], *color);
            }
            Shape::Circle { center, radius, outline: None, color } => {
                self.fill(&[circle(place(*center), length(*radius))], *color);
            }
            Shape::Circle { center, radius, outline: Some(width), color } => {
                let (center, radius, half) = (place(*center), length(*radius), length(*width) / 2.0);
                let mut inner = circle(center, radius - half);
                inner.reverse();
                self.fill(&[circle(center, radius + half), inner], *color);
            }
            Shape::Text { at, anchor, em, text, color } => {
                let em = em * SCALE / single(f64::from(PX));
                let at = place(*at);
                let begin = point(at.x - anchor.shift(font::width(text, em)), at.y);
                self.fill(&letters(text, em, begin), *color);
            }
        }
    }

    /// Fills the area enclosed by rings of one direction; overlaps count once, and a ring of the other direction cuts
    /// a hole.
    fn fill(&mut self, rings: &[Ring], color: Rgb) {
        let Some((low, high)) = bounds(rings) else { return };
        let (left, top) = (low.x.floor().max(0.0), low.y.floor().max(0.0));
        let right = high.x.ceil().min(single(f64::from(self.width)));
        let bottom = high.y.ceil().min(single(f64::from(self.height)));
        if right <= left || bottom <= top {
            return;
        }
        let mut raster = Rasterizer::new(count(right - left) + 1, count(bottom - top) + 1);
        let inside = |p: &Point| point(p.x.clamp(left, right) - left, p.y.clamp(top, bottom) - top);
        for ring in rings {
            for (from, to) in ring.iter().zip(ring.iter().cycle().skip(1)) {
                raster.draw_line(inside(from), inside(to));
            }
        }
        let (left, top) = (count(left), count(top));
        raster.for_each_pixel_2d(|x, y, cover| self.blend(left + x as usize, top + y as usize, cover, color));
    }

    fn blend(&mut self, x: usize, y: usize, cover: f32, color: Rgb) {
        let at = (y * self.width as usize + x) * 3;
        let is_inside = x < self.width as usize && y < self.height as usize;
        let Some(pixel) = self.bytes.get_mut(at..at + 3).filter(|_| is_inside && cover > 0.0) else { return };
        for (old, new) in pixel.iter_mut().zip([color.0, color.1, color.2]) {
            let mixed = f32::from(*old) + (f32::from(new) - f32::from(*old)) * cover.min(1.0);
            *old = level(mixed);
        }
    }
}

fn length(units: u32) -> f32 {
    scaled(i32::try_from(units).unwrap_or_default())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 on")]
fn count(length: f32) -> usize {
    length as usize
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounds, and saturates")]
fn level(level: f32) -> u8 {
    level.round() as u8
}

fn bounds(rings: &[Ring]) -> Option<(Point, Point)> {
    rings.iter().flatten().fold(None, |bounds, at| {
        let (low, high) = bounds.unwrap_or((*at, *at));
        Some((point(low.x.min(at.x), low.y.min(at.y)), point(high.x.max(at.x), high.y.max(at.y))))
    })
}

fn circle(center: Point, radius: f32) -> Ring {
    let corner = |n: u8| {
        let angle = TAU * f32::from(n) / f32::from(CORNERS);
        point(center.x + radius * angle.cos(), center.y + radius * angle.sin())
    };
    (0..CORNERS).map(corner).collect()
}

/// Returns the outlines of connected lines: a box around each line, a circle around each joint, all in one direction.
fn stroke(points: &[Point], width: f32) -> Vec<Ring> {
    let mut rings: Vec<Ring> = Vec::new();
    for (from, to) in points.iter().zip(points.iter().skip(1)) {
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        let half = width / 2.0 / dx.hypot(dy);
        if half.is_finite() {
            let side = point(-dy * half, dx * half);
            rings.push(vec![*from - side, *to - side, *to + side, *from + side]);
        }
    }
    let joints = points.get(1..points.len().saturating_sub(1)).unwrap_or_default();
    rings.extend(joints.iter().map(|joint| circle(*joint, width / 2.0)));
    rings
}

fn letters(text: &str, em: f32, begin: Point) -> Vec<Ring> {
    let glyphs = font::outlines(text, em).into_iter();
    glyphs
        .flat_map(|(shift, per_unit, outline)| {
            let at = move |p: Point| point(begin.x + shift + p.x * per_unit, begin.y - p.y * per_unit);
            contours(&outline.curves).into_iter().map(move |ring| ring.into_iter().map(at).collect())
        })
        .collect()
}

/// Returns the closed outlines of a glyph, in its own units. A curve that does not continue the last one begins
/// another outline.
fn contours(curves: &[OutlineCurve]) -> Vec<Ring> {
    let mut rings: Vec<Ring> = Vec::new();
    for points in curves.iter().map(flattened) {
        match rings.last_mut() {
            Some(ring) if ring.last() == points.first() => ring.extend(points.iter().skip(1)),
            _ => rings.push(points.to_vec()),
        }
    }
    rings
}

/// Approximates a curve by four lines.
fn flattened(curve: &OutlineCurve) -> [Point; 5] {
    [0.0, 0.25, 0.5, 0.75, 1.0].map(|t| match *curve {
        OutlineCurve::Line(a, b) => mix(a, b, t),
        OutlineCurve::Quad(a, b, c) => mix(mix(a, b, t), mix(b, c, t), t),
        OutlineCurve::Cubic(a, b, c, d) => {
            let (ab, bc, cd) = (mix(a, b, t), mix(b, c, t), mix(c, d, t));
            mix(mix(ab, bc, t), mix(bc, cd, t), t)
        }
    })
}

/// Interpolates: exactly `a` at 0 and `b` at 1, because rings are separated by comparing curve ends.
fn mix(a: Point, b: Point, t: f32) -> Point {
    point(a.x * (1.0 - t) + b.x * t, a.y * (1.0 - t) + b.y * t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plot::sheet::Anchor;

    /// Returns the darkness of each pixel of a sheet, 0 to 255, by rows.
    fn darkness(shape: Shape) -> Vec<Vec<u8>> {
        let mut image = Image::new(200, 40);
        image.draw(&shape);
        let row = |row: &[u8]| row.chunks(3).map(|pixel| 255 - pixel[0]).collect();
        image.bytes.chunks(600).map(row).collect()
    }

    #[test]
    fn a_shape_covers_its_pixels_and_parts_of_those_at_its_edges() {
        let points = vec![(20, 20), (40, 20), (40, 41), (20, 41)];
        let dark = darkness(Shape::Fill { points, color: (0, 0, 0) });
        assert_eq!((dark[10][9], dark[10][10], dark[19][19], dark[19][20]), (0, 255, 255, 0));
        assert_eq!((dark[20][15], dark[21][15]), (127, 0), "half of a pixel");
    }

    #[test]
    fn crossing_and_joining_lines_are_not_darker() {
        let points = vec![(10, 40), (200, 40), (200, 60), (100, 20), (100, 70)];
        let dark = darkness(Shape::Path { points, width: 8, color: (100, 0, 0) });
        assert_eq!(dark.iter().flatten().max(), Some(&155));
        assert_eq!(dark[20][50], 155);
    }

    #[test]
    fn every_letter_has_its_own_outline() {
        // An outline across two letters would leave a line between them.
        for text in ["ss", "bb", "pbqd", "%%", "oOo"] {
            let shape = |text: &str, x| Shape::Text {
                at: (x, 60),
                anchor: Anchor::Start,
                em: 40.0,
                text: text.to_owned(),
                color: (0, 0, 0),
            };
            let together = darkness(shape(text, 0));
            let mut apart = Image::new(200, 40);
            let mut before = String::new();
            for letter in text.chars() {
                let shift = font::width(&before, 20.0);
                apart.fill(&letters(&letter.to_string(), 20.0, point(shift, 30.0)), (0, 0, 0));
                before.push(letter);
            }
            let apart: Vec<u8> = apart.bytes.chunks(3).map(|pixel| 255 - pixel[0]).collect();
            let differ = together.concat().iter().zip(&apart).filter(|(a, b)| a.abs_diff(**b) > 8).count();
            assert!(differ == 0, "{text}: {differ} pixels");
        }
    }

    #[test]
    fn shapes_outside_the_sheet_are_clipped() {
        let points = vec![(-1_000, -1_000), (4_000, -1_000), (4_000, 4_000)];
        let dark = darkness(Shape::Fill { points, color: (0, 0, 0) });
        assert_eq!((dark.len(), dark[0].len()), (40, 200));
        darkness(Shape::Circle { center: (i32::MAX, 0), radius: 9, outline: Some(4), color: (0, 0, 0) });
    }
}
