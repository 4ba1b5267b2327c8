//! The arrangement of a table's rows: the column of the x axis, and the rows of each series.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::escape::escape_short;
use crate::lab::sweep::column::{Column, Row};

/// Columns that can be the x axis, the common ones first.
const X: [Column; 11] = [
    Column::LossUp,
    Column::LossDown,
    Column::TimeoutS,
    Column::MaxSends,
    Column::MaxTimeoutS,
    Column::DeadlineS,
    Column::SizeBytes,
    Column::BurstUp,
    Column::BurstDown,
    Column::IntervalS,
    Column::RtoMinS,
];

/// Columns that can distinguish rows of one policy and one x, with their label in a series' name.
const APART: [(Column, &str); 14] = [
    (Column::LossUp, "loss up "),
    (Column::LossDown, "loss down "),
    (Column::TimeoutS, "timeout "),
    (Column::MaxSends, "sends "),
    (Column::MaxTimeoutS, "longest timeout "),
    (Column::DeadlineS, "deadline "),
    (Column::Jitter, "jitter "),
    (Column::SizeBytes, "bytes "),
    (Column::IntervalS, "interval "),
    (Column::RtoMinS, "least measured timeout "),
    (Column::LinkUp, "up "),
    (Column::LinkDown, "down "),
    (Column::Mode, ""),
    (Column::Seed, "seed "),
];

/// Longest part of a series' name, in characters.
const NAME: usize = 120;

/// The arrangement of the rows of a table.
#[derive(Clone, Debug)]
pub(super) struct Arranged<'a> {
    /// The x axis.
    pub(super) x: Column,
    /// Whether the losses of both directions are equal in every row, if x is a loss.
    pub(super) is_each_way: bool,
    /// The series in the order of the file.
    pub(super) series: Vec<Series<'a>>,
    /// Number of rows without an x.
    pub(super) left_out: usize,
}

/// The rows of one policy, with equal values of everything except x.
#[derive(Clone, Debug)]
pub(super) struct Series<'a> {
    /// The policy, and the values that distinguish this series; control characters are escaped.
    pub(super) name: String,
    /// Ascending in x.
    pub(super) points: Vec<(f64, &'a Row)>,
}

impl<'a> Arranged<'a> {
    /// Arranges rows.
    pub(super) fn new(rows: &'a [Row]) -> Self {
        let x = choose_x(rows);
        let used: Vec<(f64, &Row)> = rows.iter().filter_map(|row| Some((row.number(x)?, row))).collect();
        let is_each_way =
            x == Column::LossUp && used.iter().all(|(x, row)| row.number(Column::LossDown) == Some(*x));
        let left_out = rows.len() - used.len();
        let apart = choose_apart(&used, x);
        let mut series: Vec<Series<'a>> = Vec::new();
        let mut known = BTreeMap::new();
        for point in used {
            let at = *known.entry(key(point.1, &apart)).or_insert(series.len());
            if at == series.len() {
                series.push(Series { name: name(point.1, &apart), points: Vec::new() });
            }
            if let Some(series) = series.get_mut(at) {
                series.points.push(point);
            }
        }
        for series in &mut series {
            series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Self { x, is_each_way, series, left_out }
    }

    /// Returns the values of x, ascending, each once.
    pub(super) fn xs(&self) -> Vec<f64> {
        let mut xs: Vec<f64> =
            self.series.iter().flat_map(|series| &series.points).map(|(x, _)| *x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }

    /// Returns the name of the x axis, with its unit.
    pub(super) fn x_name(&self) -> &'static str {
        match self.x {
            Column::LossUp if self.is_each_way => "requested loss each way, %",
            Column::LossUp => "requested loss from client to server, %",
            Column::LossDown => "requested loss from server to client, %",
            Column::TimeoutS => "first timeout, s",
            Column::MaxSends => "most sends per request",
            Column::MaxTimeoutS => "longest timeout, s",
            Column::DeadlineS => "deadline, s",
            Column::IntervalS => "interval between requests, s",
            Column::RtoMinS => "least measured timeout, s",
            Column::SizeBytes => "size of a request, bytes",
            Column::BurstUp => "mean burst of losses, datagrams",
            other => other.name(),
        }
    }

    /// Formats an x for a caption or a column, with its unit if it is a share.
    pub(super) fn x_value(&self, x: f64) -> String {
        match self.x {
            Column::LossUp | Column::LossDown => format!("{} %", trimmed(x * 100.0)),
            Column::TimeoutS
            | Column::MaxTimeoutS
            | Column::DeadlineS
            | Column::IntervalS
            | Column::RtoMinS => format!("{} s", trimmed(x)),
            _ => trimmed(x),
        }
    }
}

/// Returns the values shared by the rows of one series.
fn key<'a>(row: &'a Row, apart: &[(Column, &str)]) -> Vec<Cow<'a, str>> {
    std::iter::once(Column::Policy)
        .chain(apart.iter().map(|(column, _)| *column))
        .map(|column| row.text(column))
        .collect()
}

/// Returns the first column that varies within a policy, or else the first that every row has.
fn choose_x(rows: &[Row]) -> Column {
    let varies = |column: &Column| {
        let mut values: Vec<_> =
            rows.iter().filter_map(|row| Some((&row.policy, row.number(*column)?))).collect();
        values.sort_by(|a, b| a.0.cmp(b.0).then(a.1.total_cmp(&b.1)));
        values.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0 && a.1 != b.1))
    };
    let is_full = |column: &Column| rows.iter().all(|row| row.number(*column).is_some());
    X.into_iter().find(varies).or_else(|| X.into_iter().find(is_full)).unwrap_or(Column::Trials)
}

/// Returns the fewest columns, tried in order, that distinguish all rows of one policy and one x.
fn choose_apart(points: &[(f64, &Row)], x: Column) -> Vec<(Column, &'static str)> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    let mut sorted: Vec<_> = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.policy.cmp(&b.1.policy)));
    for group in sorted.chunk_by(|a, b| a.0 == b.0 && a.1.policy == b.1.policy) {
        groups.push(group.iter().map(|(_, row)| *row).collect());
    }
    let mut apart = Vec::new();
    // A burst is part of its link.
    let is_x = |column: Column| {
        column == x || (x == Column::BurstUp && matches!(column, Column::LinkUp | Column::LinkDown))
    };
    for (column, label) in APART.into_iter().filter(|(column, _)| !is_x(*column)) {
        let before = groups.len();
        groups = groups.into_iter().flat_map(|group| split(group, column)).collect();
        if groups.len() > before {
            let is_each_way =
                column == Column::LinkUp && points.iter().all(|(_, row)| row.link_up == row.link_down);
            apart.push((column, if is_each_way { "" } else { label }));
        }
    }
    apart
}

/// Groups rows by their value in a column.
fn split(mut group: Vec<&Row>, column: Column) -> Vec<Vec<&Row>> {
    group.sort_by_cached_key(|row| row.text(column));
    group.chunk_by(|a, b| a.text(column) == b.text(column)).map(<[_]>::to_vec).collect()
}

fn name(row: &Row, apart: &[(Column, &str)]) -> String {
    let shown = |column| escape_short(row.text(column).as_bytes(), NAME).into_owned();
    let mut name = shown(Column::Policy);
    for (column, label) in apart {
        let value = if row.text(*column).is_empty() { "none".to_owned() } else { shown(*column) };
        name = format!("{name}, {label}{value}{}", unit(*column));
    }
    name
}

fn unit(column: Column) -> &'static str {
    match column {
        Column::TimeoutS | Column::MaxTimeoutS | Column::DeadlineS | Column::IntervalS | Column::RtoMinS => {
            " s"
        }
        _ => "",
    }
}

/// Formats four significant digits, without trailing zeros.
pub(super) fn trimmed(number: f64) -> String {
    let scientific = format!("{number:.3e}");
    let rounded: f64 = scientific.parse().unwrap_or(number);
    if rounded != 0.0 && (rounded.abs() < 1e-4 || rounded.abs() >= 1e6) {
        format!("{rounded:e}")
    } else {
        rounded.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::sweep::table::Table;

    /// Rows with a few columns set; the others are those of the fixture's first row.
    fn rows(rows: &[&[(Column, &str)]]) -> Vec<Row> {
        let fixture = include_str!("../../../tests/data/rows.csv");
        let mut reader = csv::Reader::from_reader(fixture.as_bytes());
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(reader.headers().unwrap()).unwrap();
        let first = reader.records().next().unwrap().unwrap();
        for row in rows {
            let cells = Column::ALL.iter().zip(&first).map(|(column, cell)| {
                row.iter().find(|(changed, _)| changed == column).map_or(cell, |(_, value)| *value)
            });
            writer.write_record(cells).unwrap();
        }
        Table::read(&*writer.into_inner().unwrap()).unwrap().rows().to_vec()
    }

    fn names<'a>(data: &'a Arranged<'_>) -> Vec<&'a str> {
        data.series.iter().map(|series| series.name.as_str()).collect()
    }

    #[test]
    fn loss_is_the_x_axis_if_it_varies_and_each_policy_is_a_series() {
        let table = Table::read(include_bytes!("../../../tests/data/rows.csv").as_slice()).unwrap();
        let data = Arranged::new(table.rows());
        assert_eq!((data.x, data.is_each_way), (Column::LossUp, true));
        assert_eq!(names(&data), ["expb", "once"]);
        assert_eq!(data.xs(), [0.1, 0.3, 0.5]);
        assert_eq!(data.series[0].points.len(), 3);
    }

    #[test]
    fn otherwise_the_first_column_that_varies_within_a_policy_is_the_x_axis() {
        let rows = rows(&[
            &[(Column::Policy, "a"), (Column::TimeoutS, "1"), (Column::MaxSends, "3")],
            &[(Column::Policy, "a"), (Column::TimeoutS, "1"), (Column::MaxSends, "1")],
            &[(Column::Policy, "b"), (Column::TimeoutS, "2"), (Column::MaxSends, "1")],
        ]);
        let data = Arranged::new(&rows);
        assert_eq!(data.x, Column::MaxSends);
        assert_eq!(data.xs(), [1.0, 3.0]);
        assert_eq!(data.series[0].points[0].0, 1.0, "ascending");
    }

    #[test]
    fn rows_of_one_policy_and_x_are_distinguished_by_the_fewest_columns() {
        let rows = rows(&[
            &[(Column::LossUp, "0.1"), (Column::LossDown, "0"), (Column::LinkDown, "iid:0")],
            &[(Column::LossUp, "0.1"), (Column::LossDown, "0.5"), (Column::LinkDown, "iid:0.5")],
            &[(Column::LossUp, "0.2"), (Column::LossDown, "0"), (Column::LinkDown, "iid:0")],
        ]);
        let data = Arranged::new(&rows);
        assert_eq!(names(&data), ["expb, loss down 0", "expb, loss down 0.5"], "the link says nothing more");
        assert!(!data.is_each_way);
    }

    #[test]
    fn rows_without_an_x_are_counted() {
        let rows = rows(&[&[(Column::LossUp, "0.1")], &[(Column::LossUp, "0.2")], &[(Column::LossUp, "")]]);
        let data = Arranged::new(&rows);
        assert_eq!((data.left_out, data.xs().len()), (1, 2));
    }

    #[test]
    fn one_row_is_a_series_too() {
        let rows = rows(&[&[(Column::LossUp, ""), (Column::LossDown, "")]]);
        let data = Arranged::new(&rows);
        assert_eq!((data.x, data.series.len(), data.left_out), (Column::TimeoutS, 1, 0));
    }

    #[test]
    fn a_name_contains_no_control_characters() {
        let rows = rows(&[&[(Column::Policy, "a\u{1b}[31m\u{202e}b")]]);
        assert_eq!(names(&Arranged::new(&rows)), [r"a\x1b[31m\u{202e}b"]);
    }

    #[test]
    fn numbers_are_shortened_to_four_digits() {
        for (number, text) in
            [(0.1, "0.1"), (30.0, "30"), (1.0 / 3.0, "0.3333"), (123_456.0, "123500"), (1e-9, "1e-9")]
        {
            assert_eq!(trimmed(number), text);
        }
    }
}
