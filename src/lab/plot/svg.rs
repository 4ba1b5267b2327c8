//! Writes a sheet as SVG: text in a generic family, colours fixed or following the page.

use std::fmt::Write as _;

use super::sheet::{Anchor, PX, Rgb, Shape, Sheet};
use super::style::PALETTE;
use crate::lab::svg::{self, Element};

/// The source of the colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    /// Fixed in the file: a light background everywhere.
    Fixed,
    /// The CSS variables of the page that contains the SVG; the page is the background.
    Page,
}

/// Returns a sheet as one `svg` element. `label` is its text alternative.
pub(super) fn svg(sheet: &Sheet, label: &str, colors: Colors) -> String {
    let (width, height) = (px(signed(sheet.size.0)), px(signed(sheet.size.1)));
    let mut out = String::new();
    Element::root(&mut out)
        .with("width", width)
        .with("height", height)
        .with("viewBox", format_args!("0 0 {width} {height}"))
        .with("role", "img")
        .with("aria-label", label)
        .with("font-family", "sans-serif")
        .with("stroke-linejoin", "round")
        .open();
    if colors == Colors::Fixed {
        Element::new(&mut out, "rect")
            .with("width", "100%")
            .with("height", "100%")
            .with("fill", "#ffffff")
            .empty();
    }
    let mut shapes = sheet.shapes.as_slice();
    while let Some((first, rest)) = shapes.split_first() {
        shapes = match first {
            Shape::Path { width, color, .. } => {
                let (same, rest) =
                    shapes.split_at(shapes.iter().take_while(|shape| is_like(shape, *width, *color)).count());
                write_paths(&mut out, same, px(signed(*width)), &paint(*color, colors));
                rest
            }
            other => {
                write_shape(&mut out, other, colors);
                rest
            }
        };
    }
    svg::end(&mut out, "svg");
    out
}

/// Whether a shape is a path that can share an element with others.
fn is_like(shape: &Shape, of_width: u32, of_color: Rgb) -> bool {
    matches!(shape, Shape::Path { width, color, .. } if *width == of_width && *color == of_color)
}

fn write_paths(out: &mut String, paths: &[Shape], width: f64, stroke: &str) {
    let mut lines = String::new();
    for path in paths {
        if let Shape::Path { points, .. } = path {
            write_points(&mut lines, points);
        }
    }
    Element::new(out, "path")
        .with("d", lines)
        .with("fill", "none")
        .with("stroke", stroke)
        .with("stroke-width", width)
        .empty();
}

/// Writes the points of a line as the commands of a path.
fn write_points(out: &mut String, points: &[(i32, i32)]) {
    let letters = std::iter::once('M').chain(std::iter::repeat('L'));
    for ((x, y), letter) in points.iter().zip(letters) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{letter}{} {}", px(*x), px(*y));
    }
}

fn write_shape(out: &mut String, shape: &Shape, colors: Colors) {
    match shape {
        Shape::Path { .. } => {}
        Shape::Fill { points, color } => {
            let mut corners = String::new();
            write_points(&mut corners, points);
            corners.push('Z');
            Element::new(out, "path").with("d", corners).with("fill", paint(*color, colors)).empty();
        }
        Shape::Circle { center: (x, y), radius, outline, color } => {
            let circle = Element::new(out, "circle").with("cx", px(*x)).with("cy", px(*y));
            let (circle, paint) = (circle.with("r", px(signed(*radius))), paint(*color, colors));
            match outline {
                Some(width) => circle
                    .with("fill", "none")
                    .with("stroke", paint)
                    .with("stroke-width", px(signed(*width)))
                    .empty(),
                None => circle.with("fill", paint).empty(),
            }
        }
        Shape::Text { at: (x, y), anchor, em, text, color } => {
            let size = f64::from(*em) / f64::from(PX);
            let line = Element::new(out, "text").with("x", px(*x)).with("y", px(*y)).with("font-size", size);
            let line = match anchor {
                Anchor::Start => line,
                Anchor::Middle => line.with("text-anchor", "middle"),
                Anchor::End => line.with("text-anchor", "end"),
            };
            line.with("fill", paint(*color, colors)).text(text);
        }
    }
}

fn paint(rgb: Rgb, colors: Colors) -> String {
    let named = PALETTE.iter().find(|(_, color)| (color.0, color.1, color.2) == rgb);
    match named {
        Some((name, _)) if colors == Colors::Page => format!("var(--{name})"),
        _ => format!("#{:02x}{:02x}{:02x}", rgb.0, rgb.1, rgb.2),
    }
}

fn px(units: i32) -> f64 {
    f64::from(units) / f64::from(PX)
}

fn signed(units: u32) -> i32 {
    i32::try_from(units).unwrap_or(i32::MAX)
}
