//! Pictures of a sweep: measured points over the curves of theory, as SVG and as PNG, with no font installed.
//!
//! ```text
//! Table -> series (which rows belong together) -> kinds (what a picture shows) -> figure (plotters draws it) -> sheet
//! (shapes) -> svg, raster (PNG)
//! ```
//!
//! Reading the CSV is in [`table`](super::table), writing files in [`files`](super::files).

mod axis;
mod figure;
mod font;
mod kinds;
mod raster;
mod series;
mod sheet;
mod style;
mod svg;

use figure::Figure;
use series::Arranged;
use sheet::Sheet;
pub(super) use svg::escape_xml;

use super::table::Table;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Success against loss
    Success,
    /// Executions per request with and without dedup
    Executions,
    /// Sends per request
    Sends,
    /// Time to answer: mean, p50, p90, p99
    Time,
    /// Success by policy and loss, as colours
    Heatmap,
    /// Distribution of the time to answer
    Cdf,
}

impl Kind {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Executions, Self::Sends, Self::Time, Self::Heatmap, Self::Cdf];

    /// What it is called on the command line and in file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Executions => "executions",
            Self::Sends => "sends",
            Self::Time => "time",
            Self::Heatmap => "heatmap",
            Self::Cdf => "cdf",
        }
    }

    /// A sentence or two on how to read it.
    #[must_use]
    pub const fn how_to_read(self) -> &'static str {
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
                "Choose a time, go up to a curve: that share of all requests was answered by then. Each step is one \
                 more send; a curve that ends below 100 % has requests that were never answered."
            }
        }
    }
}

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The rows do not have what it shows.
    #[error("{0}")]
    NoData(String),
    /// The drawing library refused.
    #[error("cannot draw: {0}")]
    Draw(String),
}

/// A figure, and what of it had to be left out, a clause each.
struct Made {
    figure: Figure,
    left_out: Vec<String>,
}

/// A drawn picture.
#[derive(Clone, Debug)]
pub struct Picture {
    sheet: Sheet,
    label: String,
    left_out: Vec<String>,
}

impl Picture {
    /// Draws the rows of a table.
    ///
    /// # Errors
    ///
    /// If the rows do not have what this kind shows.
    pub fn draw(table: &Table, kind: Kind) -> Result<Self, PlotError> {
        let data = Arranged::new(table.rows());
        let made = match kind {
            Kind::Success => kinds::success(&data),
            Kind::Executions => kinds::executions(&data),
            Kind::Sends => kinds::sends(&data),
            Kind::Time => kinds::time(&data),
            Kind::Heatmap => kinds::heatmap(&data),
            Kind::Cdf => kinds::cdf(&data),
        };
        let Made { figure, left_out } = made.map_err(PlotError::NoData)?;
        let sheet = figure.draw().map_err(|error| PlotError::Draw(error.to_string()))?;
        Ok(Self { sheet, label: format!("{}: {}", figure.title, figure.lead), left_out })
    }

    /// What could not be drawn, or had to be left out: a clause each.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// As a file of its own, dark on white.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::svg(&self.sheet, &self.label, svg::Colors::Fixed)
    }

    /// As a part of a page whose CSS variables give the colours.
    #[must_use]
    pub(super) fn inline_svg(&self) -> String {
        svg::svg(&self.sheet, &self.label, svg::Colors::Page)
    }

    /// As a file of its own, dark on white, two pixels for each of the SVG's.
    ///
    /// # Errors
    ///
    /// If the encoder refuses.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        raster::png(&self.sheet).map_err(|error| PlotError::Draw(error.to_string()))
    }
}
