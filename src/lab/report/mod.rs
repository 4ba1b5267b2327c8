//! A sweep as one self-contained HTML page: plots, a table, and the data itself.
//!
//! The same CSV gives the same bytes: the page contains no date. All text from the CSV is escaped, and the page's
//! policy forbids scripts and network access. Plots are drawn in [`plot`](super::plot).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::plot::{Kind, Picture, PlotError};
use crate::escape::escape_short;
use crate::escape::escape_xml;
use crate::lab::sweep::cell::Kind as CellKind;
use crate::lab::sweep::column::{Column, Row};
use crate::lab::sweep::table::Table;

const STYLE: &str = include_str!("page.css");

/// Largest CSV that is embedded in the page as a download, in bytes.
const EMBEDDED: usize = 1 << 20;
/// Bound on the rows of a table.
const ROWS: usize = 1_000;
/// Bound on the characters of a text from the CSV outside tables.
const TEXT: usize = 2_000;

/// The columns of the first table, with short titles.
const SHORT: [(Column, &str); 24] = [
    (Column::Policy, "policy"),
    (Column::LossUp, "loss up"),
    (Column::LossDown, "loss down"),
    (Column::RealisedLossUp, "realised up"),
    (Column::RealisedLossDown, "realised down"),
    (Column::TimeoutS, "timeout, s"),
    (Column::MaxSends, "max sends"),
    (Column::Trials, "trials"),
    (Column::Success, "success"),
    (Column::SuccessLow, "95 % from"),
    (Column::SuccessHigh, "to"),
    (Column::SuccessTheory, "theory"),
    (Column::SuccessZ, "diff., SE"),
    (Column::SendsMean, "sends"),
    (Column::SendsTheory, "theory"),
    (Column::ExecutionsMean, "executions"),
    (Column::ExecutionsMax, "max"),
    (Column::ExecutionsWithoutDedupMean, "without dedup"),
    (Column::AckMeanS, "time to ack, s: mean"),
    (Column::AckP50S, "p50"),
    (Column::AckP99S, "p99"),
    (Column::AckMaxS, "max"),
    (Column::GoodputBytesPerS, "goodput, B/s"),
    (Column::BytesMean, "bytes"),
];

/// Policy parameters that are shown behind the policy where they differ between rows.
const ASKED: [(Column, &str); 9] = [
    (Column::LinkUp, "link up"),
    (Column::LinkDown, "link down"),
    (Column::MaxSends, "sends at most"),
    (Column::MaxTimeoutS, "timeout at most, s"),
    (Column::DeadlineS, "deadline, s"),
    (Column::Jitter, "jitter"),
    (Column::RtoMinS, "measured timeout at least, s"),
    (Column::SizeBytes, "size, bytes"),
    (Column::IntervalS, "interval, s"),
];

/// A page, and what it omits.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The page.
    pub(crate) html: String,
    /// Omissions of the page: a clause each, which begins with the kind of the plot concerned.
    pub(crate) left_out: Vec<String>,
}

impl Report {
    /// Creates the page of a table; `name` is the name of its file.
    ///
    /// # Errors
    ///
    /// The drawing library fails.
    pub(crate) fn new(table: &Table, name: &str) -> Result<Self, PlotError> {
        let mut left_out = Vec::new();
        let pictures = pictures(table, &mut left_out)?;
        let mut html = head(name);
        let _ = write!(html, "<h1>Loss sweep: {}</h1>\n{}", escape_xml(name), facts(table));
        let _ = write!(html, "<h2>Plots</h2>\n<div class=\"plots\">\n{pictures}</div>\n");
        html.push_str(&missing(&left_out));
        html.push_str("<h2>Rows</h2>\n");
        html.push_str(&summary(table));
        html.push_str(&details(table));
        html.push_str(&download(table, name));
        html.push_str("</body>\n</html>\n");
        Ok(Self { html, left_out })
    }
}

fn head(name: &str) -> String {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>Loss sweep: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape_xml(name)
    )
}

/// Returns the values that all rows have in common.
fn facts(table: &Table) -> String {
    let mut html = String::from("<dl>\n");
    let columns = [
        ("command", Column::Command),
        ("version", Column::Version),
        ("mode", Column::Mode),
        ("seed", Column::Seed),
    ];
    for (name, column) in columns {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", fact(table, column));
    }
    let _ = writeln!(html, "<dt>rows</dt><dd>{}</dd>\n</dl>", table.row_count());
    html
}

/// Returns the value of a column if it is the same in all rows; otherwise the first value, and how many rows differ.
fn fact(table: &Table, column: Column) -> String {
    let mut texts: Vec<_> = table.rows().iter().map(|row| row.text(column)).collect();
    let first = texts.first().cloned().unwrap_or_default();
    texts.sort_unstable();
    texts.dedup();
    let shown = escape_short(first.as_bytes(), TEXT);
    let shown = format!("<code>{}</code>", escape_xml(&shown));
    match texts.len() {
        0 | 1 => shown,
        2 => format!("{shown} and one other"),
        more => format!("{shown} and {} others", more - 1),
    }
}

fn pictures(table: &Table, left_out: &mut Vec<String>) -> Result<String, PlotError> {
    let mut html = String::new();
    for kind in Kind::ALL {
        match Picture::draw(table, kind) {
            Ok(picture) => {
                left_out.extend(picture.left_out().iter().map(|what| format!("{}: {what}", kind.name())));
                let (svg, caption) = (picture.inline_svg(), kind.how_to_read());
                let _ = write!(
                    html,
                    "<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n",
                    escape_xml(caption)
                );
            }
            Err(PlotError::NoData(why)) => left_out.push(format!("{}: not drawn: {why}", kind.name())),
            Err(error) => return Err(error),
        }
    }
    Ok(html)
}

fn missing(left_out: &[String]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let items: String = left_out.iter().map(|what| format!("<li>{}</li>\n", escape_xml(what))).collect();
    format!("<p>What is not in the plots:</p>\n<ul>\n{items}</ul>\n")
}

/// Returns the table of the main columns; columns without a value are omitted.
fn summary(table: &Table) -> String {
    let is_used = |column: &Column| table.rows().iter().any(|row| !row.text(*column).is_empty());
    let varies = |column: &Column| {
        table.rows().windows(2).any(|pair| matches!(pair, [a, b] if a.text(*column) != b.text(*column)))
    };
    let asked = ASKED.into_iter().filter(|(column, _)| varies(column));
    let mut columns: Vec<_> = SHORT.into_iter().filter(|(column, _)| is_used(column)).collect();
    columns.splice(1..1, asked);
    self::table(table, &columns, short)
}

/// Returns the table of all columns.
fn details(table: &Table) -> String {
    let columns: Vec<_> = Column::ALL.iter().map(|column| (*column, column.name())).collect();
    let rows = self::table(table, &columns, |row, column| {
        escape_short(row.text(column).as_bytes(), TEXT).into_owned()
    });
    format!("<details><summary>All columns</summary>\n{rows}</details>\n")
}

fn table(table: &Table, columns: &[(Column, &str)], cell: impl Fn(&Row, Column) -> String) -> String {
    let mut html = String::from("<div class=\"table\" tabindex=\"0\"><table>\n<thead><tr>");
    for (column, name) in columns {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(*column), escape_xml(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in table.rows().iter().take(ROWS) {
        html.push_str("<tr>");
        for (column, _) in columns {
            let _ = write!(html, "<td{}>{}</td>", class(*column), escape_xml(&cell(row, *column)));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    if table.row_count() > ROWS {
        let _ = writeln!(html, "<p>The first {ROWS} of {} rows.</p>", table.row_count());
    }
    html
}

/// Aligns numbers to the right.
fn class(column: Column) -> &'static str {
    if matches!(column.kind(), CellKind::Text | CellKind::Steps) { "" } else { " class=\"n\"" }
}

/// Returns a cell of the first table: measured values are rounded, parameters are not.
fn short(row: &Row, column: Column) -> String {
    let text = || escape_short(row.text(column).as_bytes(), 60).into_owned();
    let is_asked = matches!(column, Column::LossUp | Column::LossDown | Column::TimeoutS);
    match (row.number(column), column.kind()) {
        (Some(number), CellKind::Share) if !is_asked => rounded_share(number),
        (Some(number), CellKind::Amount) if !is_asked => rounded(number),
        (Some(number), CellKind::Signed) => format!("{number:.2}"),
        _ => text(),
    }
}

/// Rounds to four decimal places; an inexact share never becomes 1 or 0.
fn rounded_share(share: f64) -> String {
    match format!("{share:.4}").as_str() {
        "1.0000" if share < 1.0 => ">0.9999".to_owned(),
        "0.0000" if share > 0.0 => "<0.0001".to_owned(),
        text => text.to_owned(),
    }
}

/// Rounds to four places if small, to fewer if large.
fn rounded(number: f64) -> String {
    match number {
        1e9.. => format!("{number:.3e}"),
        100.0.. => format!("{number:.1}"),
        10.0.. => format!("{number:.2}"),
        0.001.. | 0.0 => format!("{number:.4}"),
        _ => format!("{number:.3e}"),
    }
}

fn download(table: &Table, name: &str) -> String {
    if table.text().len() > EMBEDDED {
        return format!("<p>The data is in {}; it is too large for this page.</p>\n", escape_xml(name));
    }
    let data = STANDARD.encode(table.text());
    let name = escape_xml(name);
    format!(
        "<p><a download=\"{name}\" href=\"data:text/csv;base64,{data}\">Save the data as {name}</a></p>\n"
    )
}
