//! The heatmap of success: one row per series, one column per x, drawn as a grid.

use plotters::style::RGBColor;

use super::Made;
use super::figure::{Body, Figure};
use super::grid::{Cell, Grid};
use super::kinds::{short_x, spread, with_source};
use super::series::{Arranged, Series};
use super::sheet::whole;
use crate::lab::sweep::column::Column;

/// Bounds on the columns and rows.
const COLUMNS: usize = 12;
const ROWS: usize = 40;

/// The figure of success as colours: series by x.
pub(super) fn heatmap(data: &Arranged<'_>) -> Result<Made, String> {
    let xs = data.xs();
    if data.series.len() < 2 || xs.len() < 2 {
        return Err("it takes two policies (or series) and two values on the x axis".to_owned());
    }
    let columns = spread(&xs, COLUMNS);
    let (mut foot, mut left_out) = (Vec::new(), Vec::new());
    for (shown, all, what) in
        [(columns.len(), xs.len(), "columns"), (data.series.len().min(ROWS), data.series.len(), "series")]
    {
        if shown < all {
            foot.push(format!("{shown} of {all} {what} are shown"));
            left_out.push(format!("{shown} of {all} {what} are shown"));
        }
    }
    let row = |series: &Series<'_>| (series.name.clone(), columns.iter().map(|x| cell(series, *x)).collect());
    let bare = |x: &f64| data.x_value(*x).split(' ').next().unwrap_or_default().to_owned();
    let grid = Grid {
        x_name: data.x_name().to_owned(),
        columns: columns.iter().map(bare).collect(),
        rows: data.series.iter().take(ROWS).map(row).collect(),
    };
    let figure = Figure {
        title: format!("Success by policy and {}", short_x(data)),
        lead: "in each cell: success, % of all requests; 100 and 0 are exact".to_owned(),
        legend: Vec::new(),
        body: Body::Grid(grid),
        foot: with_source(foot, data),
    };
    Ok(Made { figure, left_out })
}

/// Returns the cell of a series at an x: the first of several rows.
fn cell(series: &Series<'_>, x: f64) -> Option<Cell> {
    let (_, row) = series.points.iter().find(|(at, _)| *at == x)?;
    let success = row.number(Column::Success)?;
    let (fill, ink) = heat(success);
    Some(Cell { text: percent(success), fill, ink })
}

/// Formats a share in percent, in at most four characters. 100 and 0 are exact; a share close to them is 99.9 or 0.1.
fn percent(share: f64) -> String {
    match format!("{:.1}", share * 100.0).as_str() {
        "100.0" if share < 1.0 => "99.9".to_owned(),
        "0.0" if share > 0.0 => "0.1".to_owned(),
        "100.0" => "100".to_owned(),
        "0.0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// Returns the colour of a share on the cividis scale, which is uniform also with colour blindness, and a text colour
/// for it. Both are the same on light and dark pages.
fn heat(share: f64) -> (RGBColor, RGBColor) {
    const STOPS: [(f64, f64, f64); 6] = [
        (0.0, 34.0, 78.0),
        (53.0, 69.0, 108.0),
        (102.0, 105.0, 112.0),
        (148.0, 142.0, 119.0),
        (200.0, 184.0, 102.0),
        (254.0, 232.0, 56.0),
    ];
    let at = share.clamp(0.0, 1.0) * 5.0;
    let below = at.floor().min(4.0);
    let mut stops = STOPS.iter().skip(whole(below).unsigned_abs() as usize);
    let (Some(a), Some(b)) = (stops.next(), stops.next()) else { return (RGBColor(0, 34, 78), LIGHT) };
    let mix = |a: f64, b: f64| u8::try_from(whole(a + (b - a) * (at - below))).unwrap_or(u8::MAX);
    let fill = RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2));
    (fill, if share > 0.5 { DARK } else { LIGHT })
}

/// Text colours on bright and dark cells: not exactly black and white, which follow the page.
const DARK: RGBColor = RGBColor(1, 1, 1);
const LIGHT: RGBColor = RGBColor(254, 254, 254);
