//! The plot of the distribution of the time to ack: the rows it shows, and their steps.

use super::Made;
use super::axis::Axis;
use super::figure::{Body, Curve, Figure, Panel};
use super::kinds::{TALL, entry, log_note, short_x, spread, with_source};
use super::series::{Arranged, Series};
use super::style::Style;
use crate::lab::sweep::column::Row;

/// Bound on the curves.
const CURVES: usize = 8;
/// Bound on the steps of a curve, more than it has pixels.
const STEPS: usize = 600;
/// Bound on the markers of a curve.
const MARKS: usize = 7;

/// The figure of the distribution of the time to ack.
pub(super) fn cdf(data: &Arranged<'_>) -> Result<Made, String> {
    let all = with_steps(data);
    let chosen = choose_curves(&all, data);
    let times: Vec<f64> = chosen.iter().flat_map(|(.., row)| &row.ack_cdf_s.0).map(|step| step.0).collect();
    if times.is_empty() {
        return Err("no row has times to answer".to_owned());
    }
    let x = Axis::wide(&times);
    let mut foot: Vec<String> = log_note(&x).into_iter().collect();
    let mut left_out = Vec::new();
    if chosen.len() < all.len() {
        left_out.push(format!("{} of {} rows are shown", chosen.len(), all.len()));
        foot.extend_from_slice(&left_out);
    }
    let common = common_x(&chosen);
    let label = |series: &Series<'_>, x: f64| match common {
        Some(_) => series.name.clone(),
        None => format!("{}, {}", series.name, data.x_value(x)),
    };
    let legend = chosen.iter().enumerate().map(|(n, (series, x, _))| entry(&label(series, *x), n));
    let (_, end) = x.reach();
    let curves = chosen.iter().enumerate().map(|(n, (.., row))| steps(row, Style::of(n), end)).collect();
    let panel =
        Panel { name: "answered, % of all requests".to_owned(), y: Axis::shares(), height: TALL, curves };
    let at = common.map(|x| format!(" at {} {}", data.x_value(x), short_x(data))).unwrap_or_default();
    let figure = Figure {
        title: format!("How soon requests are answered{at}"),
        lead: "the share of all requests that were answered within a time; the rest never was".to_owned(),
        legend: legend.collect(),
        body: Body::Panels { x, x_name: "time to answer, s".to_owned(), panels: vec![panel] },
        foot: with_source(foot, data),
    };
    Ok(Made { figure, left_out })
}

/// Returns a step line from 0 to the end of the axis, with a few markers.
fn steps(row: &Row, style: Style, end: f64) -> Curve {
    let mut line = Vec::new();
    let mut share = 0.0;
    for (time, next) in spread(&row.ack_cdf_s.0, STEPS) {
        line.extend([(time, share), (time, next)]);
        share = next;
    }
    line.push((end, share));
    let marks = spread(&row.ack_cdf_s.0, MARKS);
    Curve { style, line, is_theory: false, marks, is_hollow: false, intervals: Vec::new() }
}

/// A row of a series, and its x.
type Point<'a> = (&'a Series<'a>, f64, &'a Row);

/// Returns the rows that have times to ack.
fn with_steps<'a>(data: &'a Arranged<'a>) -> Vec<Point<'a>> {
    let points =
        data.series.iter().flat_map(|series| series.points.iter().map(move |(x, row)| (series, *x, *row)));
    points.filter(|(.., row)| !row.ack_cdf_s.0.is_empty()).collect()
}

/// Chooses all rows if there are few enough; otherwise those at the middle x, or those of some x for a single series.
fn choose_curves<'a>(all: &[Point<'a>], data: &Arranged<'_>) -> Vec<Point<'a>> {
    if all.len() <= CURVES {
        return all.to_vec();
    }
    if data.series.len() == 1 {
        return spread(all, CURVES - 2);
    }
    let mut xs: Vec<f64> = all.iter().map(|(_, x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let middle = xs.get(xs.len() / 2).copied().unwrap_or_default();
    all.iter().filter(|(_, x, _)| *x == middle).take(CURVES).copied().collect()
}

/// Returns the x of all rows, if it is the same.
fn common_x(chosen: &[Point<'_>]) -> Option<f64> {
    let (_, first, _) = chosen.first()?;
    chosen.iter().all(|(_, x, _)| x == first).then_some(*first)
}
