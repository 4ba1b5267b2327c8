//! Plots of a sweep: measured points over the theory's curves, as SVG and PNG, without an installed font.
//!
//! ```text
//! Table -> series (rows that belong together) -> kinds (content of a plot) -> figure (drawn by plotters) -> sheet
//! (shapes) -> svg, raster (PNG)
//! ```
//!
//! Reading the CSV is in [`table`](crate::lab::sweep::table), writing files in [`files`](super::files).

mod axis;
mod cdf;
mod figure;
mod font;
mod grid;
mod heatmap;
mod kinds;
mod raster;
mod series;
mod servers;
mod sheet;
mod style;
mod svg;

use figure::Figure;
use series::Arranged;
use sheet::Sheet;

use crate::lab::sweep::table::Table;

/// The kind of a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Success against loss.
    Success,
    /// Executions per request with and without dedup.
    Executions,
    /// Sends per request.
    Sends,
    /// Time to answer: mean, p50, p90, p99.
    Time,
    /// Success by policy and loss, as colours.
    Heatmap,
    /// Distribution of the time to answer.
    Cdf,
}

impl Kind {
    /// All kinds, in the order of a report.
    pub(crate) const ALL: [Self; 6] =
        [Self::Success, Self::Executions, Self::Sends, Self::Time, Self::Heatmap, Self::Cdf];

    /// Returns its name on the command line and in file names.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Executions => "executions",
            Self::Sends => "sends",
            Self::Time => "time",
            Self::Heatmap => "heatmap",
            Self::Cdf => "cdf",
        }
    }

    /// Returns a sentence or two on how to read it.
    #[must_use]
    pub(crate) const fn how_to_read(self) -> &'static str {
        match self {
            Self::Success => {
                "The higher, the more requests were acked. A bar around a point is where the true rate lies with 95 % \
                 confidence; a line that passes through the bars says that measurement and theory agree."
            }
            Self::Executions => {
                "Hollow points: how often a request would execute if every copy that arrives did. Filled points: how \
                 often it did, with dedup. Filled points below 1 are requests of which no copy arrived."
            }
            Self::Sends => {
                "How many times a request is sent until it is answered or given up: the price of success."
            }
            Self::Time => {
                "How long the answered requests waited. The mean stands over its theory; p99 is what the unluckiest \
                 of a hundred waits. Requests that were given up are not in it."
            }
            Self::Heatmap => {
                "One row per policy, one column per loss: where a row turns dark, its policy gives up."
            }
            Self::Cdf => {
                "Choose a time, go up to a curve: that share of all requests was answered by then. A step up is \
                 one more send; a curve that ends below 100 % has requests that were never answered."
            }
        }
    }
}

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlotError {
    /// The rows lack its data.
    #[error("{0}")]
    NoData(String),
    /// The drawing library failed.
    #[error("cannot draw: {0}")]
    Draw(String),
}

/// A figure, and its omissions, a clause each.
struct Made {
    figure: Figure,
    left_out: Vec<String>,
}

/// A drawn plot.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    sheet: Sheet,
    label: String,
    left_out: Vec<String>,
}

impl Picture {
    /// Draws the rows of a table.
    ///
    /// # Errors
    ///
    /// The rows lack the data of this kind.
    pub(crate) fn draw(table: &Table, kind: Kind) -> Result<Self, PlotError> {
        let data = Arranged::new(table.rows());
        let made = match kind {
            Kind::Success => kinds::success(&data),
            Kind::Executions => kinds::executions(&data),
            Kind::Sends => kinds::sends(&data),
            Kind::Time => kinds::time(&data),
            Kind::Heatmap => heatmap::heatmap(&data),
            Kind::Cdf => cdf::cdf(&data),
        };
        let Made { figure, left_out } = made.map_err(PlotError::NoData)?;
        let sheet = figure.draw().map_err(|error| PlotError::Draw(error.to_string()))?;
        Ok(Self { sheet, label: format!("{}: {}", figure.title, figure.lead), left_out })
    }

    /// Returns what was omitted, a clause each.
    #[must_use]
    pub(crate) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Returns an SVG file, dark on white.
    #[must_use]
    pub(crate) fn svg(&self) -> String {
        svg::svg(&self.sheet, &self.label, svg::Colors::Fixed)
    }

    /// Returns an SVG element for a page whose CSS variables give the colours.
    #[must_use]
    pub(super) fn inline_svg(&self) -> String {
        svg::svg(&self.sheet, &self.label, svg::Colors::Page)
    }

    /// Returns a PNG file, dark on white, with two pixels for each of the SVG's.
    ///
    /// # Errors
    ///
    /// The encoder fails.
    pub(crate) fn png(&self) -> Result<Vec<u8>, PlotError> {
        raster::png(&self.sheet).map_err(|error| PlotError::Draw(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::sweep::cell::Kind as CellKind;
    use crate::lab::sweep::column::Column;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    /// A random cell that its column allows.
    fn cell(rng: &mut ChaCha8Rng, column: Column) -> String {
        let amounts = ["0", "5e-324", "1e-9", "0.1", "1", "7.5", "1e9", "1e300", "1.7976931348623157e308"];
        let pick = |rng: &mut ChaCha8Rng, from: &[&str]| from[rng.random_range(0..from.len())].to_owned();
        match (column, column.kind()) {
            (Column::Mode, _) => pick(rng, &["virtual", "real"]),
            (Column::Policy, _) => {
                pick(rng, &["a", "b", "<&>", "\u{1b}\u{fffe}", "山", " ", &"x y".repeat(99)])
            }
            (Column::Trials, _) => pick(rng, &["1", "1000", "18446744073709551615"]),
            (Column::SuccessLow, _) => pick(rng, &["", "0", "0.2"]),
            (Column::SuccessHigh, _) => pick(rng, &["0.2", "1"]),
            (_, _) if rng.random_bool(0.1) => String::new(),
            (_, CellKind::Share) => {
                pick(rng, &["0", "1e-300", "0.3333333333333333", "0.9999999999999999", "1"])
            }
            (_, CellKind::Amount) => pick(rng, &amounts),
            (_, CellKind::Signed) => pick(rng, &["-1.7976931348623157e308", "-1", "0", "1e300"]),
            (_, CellKind::Count) => pick(rng, &["0", "1", "5", "18446744073709551615"]),
            (_, CellKind::Steps) => pick(rng, &["0:0", "0:0.5;1e-9:0.5;1e308:1", "3:1"]),
            (_, CellKind::Text) => pick(rng, &["", "iid:0.1", "\u{0}", "a,b\"c\n"]),
        }
    }

    fn table(rng: &mut ChaCha8Rng) -> Table {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(Column::ALL.iter().map(|column| column.name())).unwrap();
        for _ in 0..rng.random_range(1..40) {
            let cells: Vec<String> = Column::ALL.iter().map(|column| cell(rng, *column)).collect();
            writer.write_record(cells).unwrap();
        }
        Table::read(&*writer.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn all_allowed_values_are_drawn_inside_the_plot() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for turn in 0..25 {
            let table = table(&mut rng);
            for kind in Kind::ALL {
                let Ok(picture) = Picture::draw(&table, kind) else { continue };
                let svg = picture.svg();
                let document =
                    roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{turn}: {error}"));
                let root = document.root_element();
                let side = |name| root.attribute(name).unwrap().parse::<f64>().unwrap();
                for circle in document.descendants().filter(|node| node.has_tag_name("circle")) {
                    let at = |name| circle.attribute(name).unwrap().parse::<f64>().unwrap();
                    assert!((0.0..=side("width")).contains(&at("cx")), "{turn} {kind:?}");
                    assert!((0.0..=side("height")).contains(&at("cy")), "{turn} {kind:?}");
                }
                assert!(turn > 2 || picture.png().is_ok());
            }
        }
    }
}
