//! The table of a sweep on the terminal: its columns, their widths, and the text of a row.

use std::collections::BTreeSet;

use crate::lab::sweep::axis::Parameter;
use crate::lab::sweep::point::Point;
use crate::lab::sweep::row::{Cell, Row};
use crate::reliable::Jitter;

/// A column of the table.
#[derive(Clone, Copy, Debug)]
struct Column {
    head: &'static str,
    width: usize,
    /// The results' column that it shows.
    of: &'static str,
    form: Form,
}

/// The format of a column.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Unchanged, to the left.
    Text,
    /// The requested loss, followed by the realised one.
    Loss,
    /// A share, followed by its interval.
    Success,
    /// A number with so many decimals.
    Decimals(usize),
    /// Seconds, to three significant digits.
    Time,
}

const fn column(head: &'static str, width: usize, of: &'static str, form: Form) -> Column {
    Column { head, width, of, form }
}

/// Columns that are always shown: requested and realised loss, and the results.
const ALWAYS: [Column; 10] = [
    column("loss up (real)", 15, "loss_up", Form::Loss),
    column("down (real)", 15, "loss_down", Form::Loss),
    column("success [95 %]", 22, "success", Form::Success),
    column("theory", 6, "success_theory", Form::Decimals(4)),
    column("sends", 6, "sends_mean", Form::Decimals(3)),
    column("executed", 8, "executions_mean", Form::Decimals(3)),
    column("no dedup", 8, "executions_without_dedup_mean", Form::Decimals(3)),
    column("ack p50 s", 9, "ack_p50_s", Form::Time),
    column("ack p99 s", 9, "ack_p99_s", Form::Time),
    column("ack max s", 9, "ack_max_s", Form::Time),
];

/// Columns that are shown if varied; jitter and interval also if used.
const VARIED: [(Parameter, Column); 8] = [
    (Parameter::Timeout, column("timeout s", 9, "timeout_s", Form::Time)),
    (Parameter::MaxSends, column("max sends", 9, "max_sends", Form::Decimals(0))),
    (Parameter::MaxTimeout, column("max timeout", 11, "max_timeout_s", Form::Time)),
    (Parameter::Deadline, column("deadline s", 10, "deadline_s", Form::Time)),
    (Parameter::Jitter, column("jitter", 12, "jitter", Form::Text)),
    (Parameter::Size, column("bytes", 5, "size_bytes", Form::Decimals(0))),
    (Parameter::Interval, column("interval s", 10, "interval_s", Form::Time)),
    (Parameter::RtoMin, column("rto min s", 9, "rto_min_s", Form::Time)),
];

/// The columns of one sweep's table.
#[derive(Clone, Debug)]
pub(super) struct Layout(Vec<Column>);

impl Layout {
    /// Chooses the columns for the varied parameters. Losses always have columns; links get one if more than a loss is
    /// varied.
    pub(super) fn new(varied: &BTreeSet<Parameter>, points: &[Point]) -> Self {
        let widest = |text: &dyn Fn(&Point) -> usize| points.iter().map(text).max().unwrap_or(0);
        let mut columns =
            vec![column("policy", widest(&|point| point.policy_name.len()).max(6), "policy", Form::Text)];
        if varied.iter().any(|parameter| is_of_link(*parameter)) {
            let (up, down) =
                (widest(&|point| point.up.to_string().len()), widest(&|point| point.down.to_string().len()));
            columns.push(column("link up", up.max(7), "link_up", Form::Text));
            columns.push(column("link down", down.max(9), "link_down", Form::Text));
        }
        let is_on = |parameter: Parameter| match parameter {
            Parameter::Jitter => points.iter().any(|point| point.policy.jitter() != Jitter::None),
            Parameter::Interval => points.iter().any(|point| !point.interval.is_zero()),
            _ => false,
        };
        let shown = |parameter: Parameter| varied.contains(&parameter) || is_on(parameter);
        columns.extend(VARIED.iter().filter(|(parameter, _)| shown(*parameter)).map(|(_, column)| *column));
        columns.extend(ALWAYS);
        Self(columns)
    }

    /// Returns the header line.
    pub(super) fn header(&self) -> String {
        self.joined(|column| column.head.to_owned())
    }

    /// Returns the line of a row.
    pub(super) fn line(&self, row: &Row) -> String {
        self.joined(|column| column.text(row))
    }

    fn joined(&self, text: impl Fn(&Column) -> String) -> String {
        let padded = |column: &Column| match column.form {
            Form::Text => format!("{:<width$}", text(column), width = column.width),
            _ => format!("{:>width$}", text(column), width = column.width),
        };
        let cells: Vec<String> = self.0.iter().map(padded).collect();
        cells.join("  ").trim_end().to_owned()
    }
}

/// Whether a varied parameter changes more of a link than the rates, which are always shown.
fn is_of_link(parameter: Parameter) -> bool {
    use Parameter::{Burst, Delay, Link, LinkDown, LinkUp};
    matches!(parameter, Burst | Delay | Link | LinkUp | LinkDown)
}

impl Column {
    fn text(&self, row: &Row) -> String {
        let number = |name: &str| row.cell(name).and_then(Cell::number);
        let decimals =
            |number: Option<f64>, digits| number.map_or_else(|| "-".to_owned(), |x| format!("{x:.digits$}"));
        match self.form {
            Form::Text => row.cell(self.of).map(Cell::text).unwrap_or_default(),
            Form::Decimals(digits) => decimals(number(self.of), digits),
            Form::Time => number(self.of).map_or_else(|| "-".to_owned(), time),
            Form::Loss => {
                let asked = row.cell(self.of).map(Cell::text).filter(|text| !text.is_empty());
                let realised = decimals(number(&format!("realised_{}", self.of)), 4);
                format!("{} ({realised})", asked.unwrap_or_else(|| "-".to_owned()))
            }
            Form::Success => {
                let [low, high] =
                    ["low", "high"].map(|end| decimals(number(&format!("{}_{end}", self.of)), 4));
                format!("{} [{low}, {high}]", decimals(number(self.of), 4))
            }
        }
    }
}

/// Formats seconds to three significant digits, without trailing zeros.
fn time(seconds: f64) -> String {
    let rounded: f64 = format!("{seconds:.2e}").parse().unwrap_or(seconds);
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_whatever_their_size() {
        for (seconds, text) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (93.0, "93"),
            (0.000_123_456, "0.000123"),
            (12.345, "12.3"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }
}
