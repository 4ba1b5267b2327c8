//! A drawing as a list of shapes, recorded from plotters once, then written as SVG or rasterised as PNG.
//!
//! The unit is a quarter of a pixel ([`PX`]), because plotters passes whole numbers.

use std::convert::Infallible;

use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

use super::font;

/// A pixel, in units of the sheet.
pub(super) const PX: i32 = 4;

/// The ratio of plotters' font size to the em.
pub(super) const SIZE_PER_EM: f64 = 1.24;

/// An opaque colour: red, green, blue.
pub(super) type Rgb = (u8, u8, u8);

/// A shape, in units of the sheet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Connected lines with round joints and flat ends.
    Path {
        /// The points, at least two.
        points: Vec<BackendCoord>,
        /// Line width.
        width: u32,
        /// Line colour.
        color: Rgb,
    },
    /// A filled polygon.
    Fill {
        /// The corners.
        points: Vec<BackendCoord>,
        /// Fill colour.
        color: Rgb,
    },
    /// A circle.
    Circle {
        /// The centre.
        center: BackendCoord,
        /// The radius.
        radius: u32,
        /// The width of the outline; `None` for a filled circle.
        outline: Option<u32>,
        /// Colour of the fill or the outline.
        color: Rgb,
    },
    /// A line of text.
    Text {
        /// The anchor point, on the base line.
        at: BackendCoord,
        /// The part of the text at the anchor point.
        anchor: Anchor,
        /// The em size.
        em: f32,
        /// The text.
        text: String,
        /// The text colour.
        color: Rgb,
    },
}

/// The part of a text at its anchor point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

impl Anchor {
    /// Returns the distance from the left end to the anchor point, for a text of this width.
    pub(super) fn shift(self, width: f32) -> f32 {
        match self {
            Self::Start => 0.0,
            Self::Middle => width / 2.0,
            Self::End => width,
        }
    }
}

/// A finished drawing.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    /// Width and height, in units.
    pub(super) size: (u32, u32),
    /// The shapes, from back to front.
    pub(super) shapes: Vec<Shape>,
}

/// The plotters backend that records shapes.
#[derive(Debug)]
pub(super) struct Recorder<'a>(&'a mut Sheet);

impl Sheet {
    /// Creates an empty sheet of this size in pixels.
    pub(super) fn new(width: i32, height: i32) -> Self {
        Self { size: ((width * PX).unsigned_abs(), (height * PX).unsigned_abs()), shapes: Vec::new() }
    }

    /// Returns a backend that draws on this sheet.
    pub(super) fn recorder(&mut self) -> Recorder<'_> {
        Recorder(self)
    }
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Recorder<'_> {
    /// Adds a shape, unless it is invisible.
    #[expect(clippy::unnecessary_wraps, reason = "the result of every method that calls it")]
    fn push(&mut self, color: BackendColor, shape: Shape) -> Drawn {
        if color.alpha > 0.0 {
            self.0.shapes.push(shape);
        }
        Ok(())
    }
}

impl DrawingBackend for Recorder<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        let points = vec![(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)];
        self.push(color, Shape::Fill { points, color: color.rgb })
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (x0, y0): BackendCoord,
        (x1, y1): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)];
        if fill {
            self.fill_polygon(corners, style)
        } else {
            self.draw_path(corners.into_iter().chain([(x0, y0)]), style)
        }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let (points, color) = (path.into_iter().collect(), style.color());
        self.push(color, Shape::Path { points, width: style.stroke_width(), color: color.rgb })
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let outline = (!fill).then(|| style.stroke_width());
        self.push(style.color(), Shape::Circle { center, radius, outline, color: style.color().rgb })
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let (points, color) = (path.into_iter().collect(), style.color());
        self.push(color, Shape::Fill { points, color: color.rgb })
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let em = style.size() / SIZE_PER_EM;
        let drop = match style.anchor().v_pos {
            VPos::Top => 0.78,
            VPos::Center => 0.36,
            VPos::Bottom => -0.22,
        };
        let anchor = match style.anchor().h_pos {
            HPos::Left => Anchor::Start,
            HPos::Center => Anchor::Middle,
            HPos::Right => Anchor::End,
        };
        let (at, color) = ((x, y + whole(em * drop)), style.color());
        self.push(color, Shape::Text { at, anchor, em: single(em), text: text.to_owned(), color: color.rgb })
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let em = style.size() / SIZE_PER_EM;
        Ok((whole(f64::from(font::width(text, single(em)))).unsigned_abs(), whole(em).unsigned_abs()))
    }
}

/// Rounds to a whole number; saturates at the limits of `i32`.
#[expect(clippy::cast_possible_truncation, reason = "rounds and saturates")]
pub(super) fn whole(number: f64) -> i32 {
    number.round() as i32
}

/// Converts to single precision, rounded to a hundredth.
#[expect(clippy::cast_possible_truncation, reason = "rounds")]
pub(super) fn single(number: f64) -> f32 {
    ((number * 100.0).round() / 100.0) as f32
}
