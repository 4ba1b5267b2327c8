//! The plots with an x axis: which columns become which points and lines. Plots of other shapes are in
//! [`cdf`](super::cdf) and [`heatmap`](super::heatmap).

use std::collections::BTreeSet;

use super::Made;
use super::axis::Axis;
use super::figure::{Body, Curve, Figure, LegendEntry, Panel, Swatch};
use super::series::{Arranged, Series};
use super::style::Style;
use crate::escape::escape_short;
use crate::lab::numbers::grouped;
use crate::lab::sweep::column::{Column, Row};

/// Bound on the series of a chart: more are not distinguishable.
const SERIES: usize = 12;

/// Heights of a chart that stands alone and of one among others, in pixels.
pub(super) const TALL: i32 = 330;
const LOW: i32 = 190;

/// A measured column, its theory, and its interval.
#[derive(Clone, Copy)]
struct Measure {
    value: Column,
    theory: Option<Column>,
    interval: Option<(Column, Column)>,
}

impl Measure {
    const fn of(value: Column, theory: Option<Column>) -> Self {
        Self { value, theory, interval: None }
    }
}

/// The figure of success against x, with intervals.
pub(super) fn success(data: &Arranged<'_>) -> Result<Made, String> {
    let measure = Measure {
        interval: Some((Column::SuccessLow, Column::SuccessHigh)),
        ..Measure::of(Column::Success, Some(Column::SuccessTheory))
    };
    let panel = Panel {
        name: "success, % of all requests".to_owned(),
        y: Axis::shares(),
        height: TALL,
        curves: curves(data, measure, false),
    };
    let foot = z_note(data, Column::SuccessZ);
    charts(data, "Success", "points: measured, with 95 % intervals", vec![panel], Vec::new(), foot)
}

/// The figure of executions per request, with and without dedup.
pub(super) fn executions(data: &Arranged<'_>) -> Result<Made, String> {
    let without = Measure::of(Column::ExecutionsWithoutDedupMean, Some(Column::ExecutionsWithoutDedupTheory));
    let with = Measure::of(Column::ExecutionsMean, Some(Column::ExecutionsTheory));
    let mut drawn = curves(data, without, true);
    drawn.extend(curves(data, with, false));
    let panel = from_zero("executions per request", TALL, drawn);
    let plain = |label: &str, swatch| LegendEntry { label: label.to_owned(), style: Style::plain(), swatch };
    let legend = vec![plain("without dedup", Swatch::Hollow), plain("with dedup", Swatch::Filled)];
    let mut made =
        charts(data, "Executions per request", "points: measured", vec![panel], legend, Vec::new())?;
    let lacks = |column| {
        data.series.iter().flat_map(|series| &series.points).all(|(_, row)| row.number(column).is_none())
    };
    for (column, what) in [(without.value, "executions without dedup"), (with.value, "executions with dedup")]
    {
        if lacks(column) {
            made.left_out.push(format!("no {what} in the file"));
        }
    }
    Ok(made)
}

/// The figure of sends per request.
pub(super) fn sends(data: &Arranged<'_>) -> Result<Made, String> {
    let measure = Measure::of(Column::SendsMean, Some(Column::SendsTheory));
    let panel = from_zero("sends per request", TALL, curves(data, measure, false));
    let foot = z_note(data, Column::SendsZ);
    charts(data, "Sends per request", "points: measured means", vec![panel], Vec::new(), foot)
}

/// The figure of the time to ack: mean over theory, and percentiles.
pub(super) fn time(data: &Arranged<'_>) -> Result<Made, String> {
    let measures = [
        ("mean time to ack, s", Measure::of(Column::AckMeanS, Some(Column::AckTheoryS))),
        ("p50: half are acked within, s", Measure::of(Column::AckP50S, None)),
        ("p90: 90 % are acked within, s", Measure::of(Column::AckP90S, None)),
        ("p99: 99 % are acked within, s", Measure::of(Column::AckP99S, None)),
    ];
    let drawn = measures.map(|(name, measure)| (name, curves(data, measure, false)));
    let values: Vec<f64> = drawn.iter().flat_map(|(_, curves)| ys(curves)).collect();
    let y = Axis::wide(&values);
    let foot: Vec<_> = log_note(&y).into_iter().chain(z_note(data, Column::AckZ)).collect();
    let panels = drawn.into_iter().filter(|(_, curves)| !ys(curves).is_empty());
    let panels =
        panels.map(|(name, curves)| Panel { name: name.to_owned(), y: y.clone(), height: LOW, curves });
    let lead = "of the acked requests; points: measured";
    charts(data, "Time to ack", lead, panels.collect(), Vec::new(), foot)
}

/// Returns the curves of a column, one for every series.
fn curves(data: &Arranged<'_>, measure: Measure, is_hollow: bool) -> Vec<Curve> {
    let curve = |(n, series): (usize, &Series<'_>)| {
        let marks = values(series, measure.value);
        let theory = measure.theory.map(|column| values(series, column)).unwrap_or_default();
        let interval = |(x, row): &(f64, &Row)| {
            let (low, high) = measure.interval?;
            Some((*x, row.number(low)?, row.number(high)?))
        };
        let intervals = series.points.iter().filter_map(interval).collect();
        let is_theory = !theory.is_empty();
        let line = if is_theory { theory } else { marks.clone() };
        Curve { style: Style::of(n), line, is_theory, marks, is_hollow, intervals }
    };
    data.series.iter().take(SERIES).enumerate().map(curve).collect()
}

fn values(series: &Series<'_>, column: Column) -> Vec<(f64, f64)> {
    series.points.iter().filter_map(|(x, row)| Some((*x, row.number(column)?))).collect()
}

fn ys(curves: &[Curve]) -> Vec<f64> {
    curves.iter().flat_map(|curve| curve.line.iter().chain(&curve.marks)).map(|(_, y)| *y).collect()
}

fn from_zero(name: &str, height: i32, curves: Vec<Curve>) -> Panel {
    Panel { name: name.to_owned(), y: Axis::from_zero(&ys(&curves)), height, curves }
}

/// Returns the legend entry of the n-th series.
pub(super) fn entry(label: &str, n: usize) -> LegendEntry {
    LegendEntry { label: label.to_owned(), style: Style::of(n), swatch: Swatch::Both }
}

/// Arranges charts over a common x axis, with notes on lines and omissions.
fn charts(
    data: &Arranged<'_>,
    title: &str,
    lead: &str,
    panels: Vec<Panel>,
    legend: Vec<LegendEntry>,
    mut foot: Vec<String>,
) -> Result<Made, String> {
    if panels.iter().all(|panel| ys(&panel.curves).is_empty()) {
        return Err("no row has a value for it".to_owned());
    }
    let mut left_out = Vec::new();
    let with_theory = panels.iter().filter(|panel| panel.curves.iter().any(|curve| curve.is_theory)).count();
    let lines = match with_theory {
        0 => "lines only join the points",
        some if some < panels.len() => "lines: theory for the mean; else they only join the points",
        _ => "lines: theory",
    };
    if with_theory == 0 {
        left_out.push("no theory in the file, so none is drawn".to_owned());
    }
    if data.series.len() > SERIES {
        let note = format!("{SERIES} of {} series are shown", data.series.len());
        foot.push(note.clone());
        left_out.push(note);
    }
    let entries = data.series.iter().take(SERIES).enumerate().map(|(n, series)| entry(&series.name, n));
    let figure = Figure {
        title: format!("{title} against {}", short_x(data)),
        lead: format!("{lead}; {lines}"),
        legend: entries.chain(legend).collect(),
        body: Body::Panels { x: x_axis(data), x_name: data.x_name().to_owned(), panels },
        foot: with_source(foot, data),
    };
    Ok(Made { figure, left_out })
}

fn x_axis(data: &Arranged<'_>) -> Axis {
    let xs = data.xs();
    match data.x {
        Column::LossUp | Column::LossDown => Axis::percent(&xs),
        Column::MaxSends | Column::Trials => Axis::from_zero(&xs),
        _ => Axis::wide(&xs),
    }
}

/// Returns a short name of the x axis.
pub(super) fn short_x(data: &Arranged<'_>) -> &'static str {
    match data.x {
        Column::LossUp | Column::LossDown => "loss",
        Column::TimeoutS => "first timeout",
        Column::MaxSends => "number of sends",
        Column::MaxTimeoutS => "longest timeout",
        Column::DeadlineS => "deadline",
        Column::SizeBytes => "size",
        Column::BurstUp | Column::BurstDown => "bursts",
        other => other.name(),
    }
}

/// Returns at most so many elements, evenly spread, including the first and the last.
pub(super) fn spread<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    if all.len() <= most || most < 2 {
        return all.to_vec();
    }
    (0..most).filter_map(|n| all.get(n * (all.len() - 1) / (most - 1)).cloned()).collect()
}

/// Returns a note if an axis is logarithmic.
pub(super) fn log_note(axis: &Axis) -> Option<String> {
    let note = |with_zero| {
        if with_zero { "logarithmic time axis, with a place for 0" } else { "logarithmic time axis" }
    };
    axis.log_with_zero().map(|with_zero| note(with_zero).to_owned())
}

/// Returns a note on the difference between measurement and theory.
fn z_note(data: &Arranged<'_>, column: Column) -> Vec<String> {
    let all = data.series.iter().flat_map(|series| &series.points);
    let worst = all.filter_map(|(_, row)| row.number(column)).map(f64::abs).reduce(f64::max);
    worst
        .map(|worst| format!("largest difference to theory: {worst:.1} standard errors"))
        .into_iter()
        .collect()
}

/// Adds the note on the source of the data.
pub(super) fn with_source(mut notes: Vec<String>, data: &Arranged<'_>) -> Vec<String> {
    if data.left_out > 0 {
        notes.push(format!("{} rows without {} are left out", data.left_out, data.x.name()));
    }
    let rows: Vec<&Row> = data.series.iter().flat_map(|series| &series.points).map(|(_, row)| *row).collect();
    let mode = |mode: &str| if mode == "real" { "real sockets" } else { "virtual time" };
    let modes: BTreeSet<_> = rows.iter().map(|row| row.mode.as_str()).collect();
    let modes = modes.into_iter().map(mode).collect::<Vec<_>>().join(" and ");
    let trials: Vec<f64> = rows.iter().filter_map(|row| row.number(Column::Trials)).collect();
    let (least, most) = trials.iter().fold((f64::MAX, 0.0), |(a, b), n| (n.min(a), n.max(b)));
    let [from, to] = [least, most].map(|trials| grouped(&format!("{trials:.0}")));
    let trials = if least < most { format!("{from} to {to}") } else { to };
    let seeds: BTreeSet<_> = rows.iter().map(|row| row.text(Column::Seed)).collect();
    let seeds = match seeds.len() {
        1 => format!("seed {}", seeds.into_iter().collect::<String>()),
        several => format!("{several} seeds"),
    };
    let versions: BTreeSet<_> = rows.iter().map(|row| row.version.as_bytes()).collect();
    let versions: Vec<_> = versions.into_iter().take(3).map(|version| escape_short(version, 20)).collect();
    let versions = versions.join(", ");
    notes.push(format!("{modes}, {trials} trials per point, {seeds}, sayagain {versions}"));
    vec![notes.join("; ")]
}
