//! Writes a sheet as SVG: text in a generic family, colours fixed or following the page.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::sheet::{Anchor, PX, Rgb, Shape, Sheet};
use super::style::PALETTE;
use crate::escape::escape_xml;

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
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{}\" font-family=\"sans-serif\" stroke-linejoin=\"round\">\n",
        escape_xml(label)
    );
    if colors == Colors::Fixed {
        out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
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
    out.push_str("</svg>\n");
    out
}

/// Whether a shape is a path that can share an element with others.
fn is_like(shape: &Shape, of_width: u32, of_color: Rgb) -> bool {
    matches!(shape, Shape::Path { width, color, .. } if *width == of_width && *color == of_color)
}

fn write_paths(out: &mut String, paths: &[Shape], width: f64, stroke: &str) {
    out.push_str("<path d=\"");
    for path in paths {
        if let Shape::Path { points, .. } = path {
            write_points(out, "ML", points);
        }
    }
    // Writing to a String cannot fail; nor can it below.
    let _ = writeln!(out, "\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width}\"/>");
}

/// Writes the points of a path; `commands` are the letter before the first and the one before all others.
fn write_points(out: &mut String, commands: &str, points: &[(i32, i32)]) {
    let letters = commands.chars().chain(std::iter::repeat('L'));
    for ((x, y), letter) in points.iter().zip(letters) {
        let _ = write!(out, "{letter}{} {}", px(*x), px(*y));
    }
}

fn write_shape(out: &mut String, shape: &Shape, colors: Colors) {
    let _ = match shape {
        Shape::Path { .. } => Ok(()),
        Shape::Fill { points, color } => {
            out.push_str("<path d=\"");
            write_points(out, "ML", points);
            writeln!(out, "Z\" fill=\"{}\"/>", paint(*color, colors))
        }
        Shape::Circle { center: (x, y), radius, outline, color } => {
            let (x, y, r, paint) = (px(*x), px(*y), px(signed(*radius)), paint(*color, colors));
            let look = match outline {
                Some(width) => {
                    format!("fill=\"none\" stroke=\"{paint}\" stroke-width=\"{}\"", px(signed(*width)))
                }
                None => format!("fill=\"{paint}\""),
            };
            writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\" {look}/>")
        }
        Shape::Text { at: (x, y), anchor, em, text, color } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let (x, y, size, fill) = (px(*x), px(*y), f64::from(*em) / f64::from(PX), paint(*color, colors));
            let text = escape_xml(text);
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor} fill=\"{fill}\">{text}</text>"
            )
        }
    };
}

fn paint(rgb: Rgb, colors: Colors) -> Cow<'static, str> {
    let named = PALETTE.iter().find(|(_, color)| (color.0, color.1, color.2) == rgb);
    match named {
        Some((name, _)) if colors == Colors::Page => Cow::Owned(format!("var(--{name})")),
        _ => Cow::Owned(format!("#{:02x}{:02x}{:02x}", rgb.0, rgb.1, rgb.2)),
    }
}

fn px(units: i32) -> f64 {
    f64::from(units) / f64::from(PX)
}

fn signed(units: u32) -> i32 {
    i32::try_from(units).unwrap_or(i32::MAX)
}
