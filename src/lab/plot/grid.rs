//! A grid of coloured cells with text, and its drawing. The values come from `heatmap`.

use plotters::element::Rectangle;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, RGBColor};

use super::figure::{Area, BODY, Drawn, INSIDE, rows, text_width, write};
use super::font;
use super::sheet::{PX, single, whole};
use super::style::INK;

/// A table of coloured cells.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// The name of the columns' parameter.
    pub(super) x_name: String,
    /// The name of every column.
    pub(super) columns: Vec<String>,
    /// The name and the cells of every row; `None` for an empty cell.
    pub(super) rows: Vec<(String, Vec<Option<Cell>>)>,
}

/// A cell of a [`Grid`].
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Its text.
    pub(super) text: String,
    /// Its colour.
    pub(super) fill: RGBColor,
    /// The colour of its text.
    pub(super) ink: RGBColor,
}

impl Grid {
    /// The height of a row, in pixels.
    const ROW: i32 = 34;
    /// Bound on the width of the rows' names.
    const NAMES: i32 = 150;

    /// Returns its height in pixels.
    pub(super) fn height(&self) -> i32 {
        rows(self.rows.len()) * Self::ROW + 28
    }

    fn names_width(&self) -> i32 {
        let widest = self.rows.iter().map(|(name, _)| text_width(name)).max().unwrap_or_default();
        widest.min(Self::NAMES) + 8
    }

    /// Draws the rows' names, the cells and the columns' names.
    pub(super) fn draw(&self, area: &Area<'_>) -> Drawn {
        let left = self.names_width();
        let count = rows(self.columns.len()).max(1);
        let edge = |column: i32| left + (INSIDE - left) * column / count;
        for (n, (name, cells)) in self.rows.iter().enumerate() {
            let top = rows(n) * Self::ROW;
            let name = font::fit(name, single(f64::from(BODY)), single(f64::from(Self::NAMES)));
            write(
                area,
                &name,
                (left - 8, top + Self::ROW / 2),
                BODY,
                INK,
                Pos::new(HPos::Right, VPos::Center),
            )?;
            for (column, cell) in cells.iter().enumerate() {
                let (from, to) = (edge(rows(column)), edge(rows(column + 1)));
                if let Some(cell) = cell {
                    cell.draw(area, (from, top), (to, top + Self::ROW))?;
                }
            }
        }
        let bottom = rows(self.rows.len()) * Self::ROW;
        for (column, name) in self.columns.iter().enumerate() {
            let middle = (edge(rows(column)) + edge(rows(column + 1))) / 2;
            let room = edge(rows(column + 1)) - edge(rows(column)) - 4;
            let name = font::fit(name, single(f64::from(BODY)), single(f64::from(room)));
            write(area, &name, (middle, bottom + 6), BODY, INK, Pos::new(HPos::Center, VPos::Top))?;
        }
        write(area, &self.x_name, (INSIDE, bottom + 30), BODY, INK, Pos::new(HPos::Right, VPos::Top))
    }
}

impl Cell {
    fn draw(&self, area: &Area<'_>, (x0, y0): (i32, i32), (x1, y1): (i32, i32)) -> Drawn {
        let inner = [((x0 + 1) * PX, (y0 + 1) * PX), ((x1 - 1) * PX, (y1 - 1) * PX)];
        area.draw(&Rectangle::new(inner, self.fill.filled()))?;
        let middle = ((x0 + x1) / 2, (y0 + y1) / 2);
        let room = single(f64::from(x1 - x0 - 4));
        let widest = single(f64::from(text_width(&self.text)));
        let size =
            if widest > room { whole(f64::from(BODY) * f64::from(room / widest)).max(10) } else { BODY };
        write(area, &self.text, middle, size, self.ink, Pos::new(HPos::Center, VPos::Center))
    }
}
