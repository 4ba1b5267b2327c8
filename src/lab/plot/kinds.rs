//! What each picture shows: which columns become which points, lines and cells.

use std::collections::BTreeSet;

use plotters::style::RGBColor;

use super::Made;
use super::axis::Axis;
use super::figure::{Body, Cell, Curve, Entry, Figure, Grid, Panel, Swatch};
use super::series::{Arranged, Series};
use super::style::Style;
use crate::escape::escape_short;
use crate::lab::table::{Column, Row};

/// The most series of a chart: beyond that nobody tells them apart.
const SERIES: usize = 12;
/// The most curves of a distribution.
const CURVES: usize = 8;
/// The most columns and rows of a heat map.
const COLUMNS: usize = 12;
const ROWS: usize = 40;

/// The heights of a chart that stands alone and of one among others, in pixels.
const TALL: i32 = 330;
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

/// Success against x, with its intervals.
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

/// Executions per request, with and without dedup.
pub(super) fn executions(data: &Arranged<'_>) -> Result<Made, String> {
    let without = Measure::of(Column::ExecutionsWithoutDedupMean, Some(Column::ExecutionsWithoutDedupTheory));
    let with = Measure::of(Column::ExecutionsMean, Some(Column::ExecutionsTheory));
    let mut drawn = curves(data, without, true);
    drawn.extend(curves(data, with, false));
    let panel = from_zero("executions per request", TALL, drawn);
    let plain = |label: &str, swatch| Entry { label: label.to_owned(), style: Style::plain(), swatch };
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

/// Sends per request.
pub(super) fn sends(data: &Arranged<'_>) -> Result<Made, String> {
    let measure = Measure::of(Column::SendsMean, Some(Column::SendsTheory));
    let panel = from_zero("sends per request", TALL, curves(data, measure, false));
    let foot = z_note(data, Column::SendsZ);
    charts(data, "Sends per request", "points: measured means", vec![panel], Vec::new(), foot)
}

/// Time to answer: its mean over theory, and its percentiles.
pub(super) fn time(data: &Arranged<'_>) -> Result<Made, String> {
    let measures = [
        ("mean time to answer, s", Measure::of(Column::TimeMeanS, Some(Column::TimeTheoryS))),
        ("p50: half are answered within, s", Measure::of(Column::TimeP50S, None)),
        ("p90: 90 % are answered within, s", Measure::of(Column::TimeP90S, None)),
        ("p99: 99 % are answered within, s", Measure::of(Column::TimeP99S, None)),
    ];
    let drawn = measures.map(|(name, measure)| (name, curves(data, measure, false)));
    let values: Vec<f64> = drawn.iter().flat_map(|(_, curves)| ys(curves)).collect();
    let y = Axis::wide(&values);
    let foot: Vec<_> = log_note(&y).into_iter().chain(z_note(data, Column::TimeZ)).collect();
    let panels = drawn.into_iter().filter(|(_, curves)| !ys(curves).is_empty());
    let panels =
        panels.map(|(name, curves)| Panel { name: name.to_owned(), y: y.clone(), height: LOW, curves });
    let lead = "of the answered requests; points: measured";
    charts(data, "Time to answer", lead, panels.collect(), Vec::new(), foot)
}

/// The distribution of the time to answer.
pub(super) fn cdf(data: &Arranged<'_>) -> Result<Made, String> {
    let all = with_steps(data);
    let chosen = choose_curves(&all, data);
    let times: Vec<f64> = chosen.iter().flat_map(|(.., row)| row.steps()).map(|step| step.0).collect();
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

/// Success as colours: series by x.
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

/// The cell of a series at an x. Of several rows there, the first.
fn cell(series: &Series<'_>, x: f64) -> Option<Cell> {
    let (_, row) = series.points.iter().find(|(at, _)| *at == x)?;
    let success = row.number(Column::Success)?;
    let (fill, ink) = heat(success);
    Some(Cell { text: percent(success), fill, ink })
}

/// A share in percent, of at most four characters. 100 and 0 are exact; what is almost there is 99.9 or 0.1.
fn percent(share: f64) -> String {
    match format!("{:.1}", share * 100.0).as_str() {
        "100.0" if share < 1.0 => "99.9".to_owned(),
        "0.0" if share > 0.0 => "0.1".to_owned(),
        "100.0" => "100".to_owned(),
        "0.0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// The colour of a share, of the cividis scale, which looks alike to the colour-blind; and a colour for text on it, both
/// the same on light and dark pages.
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
    let mut stops = STOPS.iter().skip(super::sheet::whole(below).unsigned_abs() as usize);
    let (Some(a), Some(b)) = (stops.next(), stops.next()) else { return (RGBColor(0, 34, 78), LIGHT) };
    let mix =
        |a: f64, b: f64| u8::try_from(super::sheet::whole(a + (b - a) * (at - below))).unwrap_or(u8::MAX);
    let fill = RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2));
    (fill, if share > 0.5 { DARK } else { LIGHT })
}

/// Text on bright and on dark cells; not quite black and white, which follow the page.
const DARK: RGBColor = RGBColor(1, 1, 1);
const LIGHT: RGBColor = RGBColor(254, 254, 254);

/// The curves of a column: one for every series.
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

/// A step line that begins at nothing and goes on to the end of the axis, with a few markers.
fn steps(row: &Row, style: Style, end: f64) -> Curve {
    let mut line = Vec::new();
    let mut share = 0.0;
    for (time, next) in row.steps() {
        line.extend([(*time, share), (*time, *next)]);
        share = *next;
    }
    line.push((end, share));
    let marks = spread(row.steps(), 7);
    Curve { style, line, is_theory: false, marks, is_hollow: false, intervals: Vec::new() }
}

fn entry(label: &str, n: usize) -> Entry {
    Entry { label: label.to_owned(), style: Style::of(n), swatch: Swatch::Both }
}

/// Puts charts over the x of the data; says what lines are, and what is missing.
fn charts(
    data: &Arranged<'_>,
    title: &str,
    lead: &str,
    panels: Vec<Panel>,
    legend: Vec<Entry>,
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

fn short_x(data: &Arranged<'_>) -> &'static str {
    match data.x {
        Column::LossUp | Column::LossDown => "loss",
        Column::TimeoutS => "first timeout",
        Column::MaxSends => "number of sends",
        Column::MaxTimeoutS => "longest timeout",
        Column::DeadlineS => "deadline",
        Column::SizeBytes => "size",
        other => other.name(),
    }
}

/// A row of a series, and its x.
type Point<'a> = (&'a Series<'a>, f64, &'a Row);

/// The rows that have times to answer.
fn with_steps<'a>(data: &'a Arranged<'a>) -> Vec<Point<'a>> {
    let points =
        data.series.iter().flat_map(|series| series.points.iter().map(move |(x, row)| (series, *x, *row)));
    points.filter(|(.., row)| !row.steps().is_empty()).collect()
}

/// Few enough rows: all of them; else those at the x in the middle; of a single series, those at some x.
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

/// The x of all of them, if it is the same.
fn common_x(chosen: &[Point<'_>]) -> Option<f64> {
    let (_, first, _) = chosen.first()?;
    chosen.iter().all(|(_, x, _)| x == first).then_some(*first)
}

/// At most this many of them, evenly spread, the first and the last among them.
fn spread<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    if all.len() <= most || most < 2 {
        return all.to_vec();
    }
    (0..most).filter_map(|n| all.get(n * (all.len() - 1) / (most - 1)).cloned()).collect()
}

fn log_note(axis: &Axis) -> Option<String> {
    let note = |with_zero| {
        if with_zero { "logarithmic time axis, with a place for 0" } else { "logarithmic time axis" }
    };
    axis.log_with_zero().map(|with_zero| note(with_zero).to_owned())
}

/// How far measurement and theory are apart.
fn z_note(data: &Arranged<'_>, column: Column) -> Vec<String> {
    let all = data.series.iter().flat_map(|series| &series.points);
    let worst = all.filter_map(|(_, row)| row.number(column)).map(f64::abs).reduce(f64::max);
    worst
        .map(|worst| format!("largest difference to theory: {worst:.1} standard errors"))
        .into_iter()
        .collect()
}

/// The notes, and one that says where the data comes from.
fn with_source(mut notes: Vec<String>, data: &Arranged<'_>) -> Vec<String> {
    if data.left_out > 0 {
        notes.push(format!("{} rows without {} are left out", data.left_out, data.x.name()));
    }
    let rows: Vec<&Row> = data.series.iter().flat_map(|series| &series.points).map(|(_, row)| *row).collect();
    let texts = |column| rows.iter().map(|row| row.text(column)).collect::<BTreeSet<_>>();
    let mode = if texts(Column::Mode).contains("real") { "real sockets" } else { "virtual time" };
    let trials: Vec<f64> = rows.iter().filter_map(|row| row.number(Column::Trials)).collect();
    let (least, most) = trials.iter().fold((f64::MAX, 0.0), |(a, b), n| (n.min(a), n.max(b)));
    let trials =
        if least < most { format!("{} to {}", grouped(least), grouped(most)) } else { grouped(most) };
    let seeds = match texts(Column::Seed) {
        seeds if seeds.len() == 1 => format!("seed {}", seeds.into_iter().collect::<String>()),
        seeds => format!("{} seeds", seeds.len()),
    };
    let versions: Vec<_> =
        texts(Column::Version).into_iter().map(|text| escape_short(text.as_bytes(), 20)).collect();
    let versions = versions.iter().take(3).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    notes.push(format!("{mode}, {trials} trials per point, {seeds}, sayagain {versions}"));
    vec![notes.join("; ")]
}

/// A whole number in groups of three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
