//! The table of a sweep on the terminal: its columns, their widths, and the text of a row.

use std::collections::BTreeSet;

use crate::lab::sweep::axis::Parameter;
use crate::lab::sweep::column::{Column, Row};
use crate::lab::sweep::point::Point;
use crate::reliable::Jitter;

/// A column of the table.
#[derive(Clone, Copy, Debug)]
struct TableColumn {
    head: &'static str,
    width: usize,
    /// The results' column that it shows.
    of: Column,
    form: Form,
}

/// The format of a column.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Unchanged, to the left.
    Text,
    /// The requested loss, followed by the realised one.
    Loss { realised: Column },
    /// A share, followed by its interval.
    Success { low: Column, high: Column },
    /// A number with so many decimals.
    Decimals(usize),
    /// Seconds, to three significant digits.
    Time,
}

const fn column(head: &'static str, width: usize, of: Column, form: Form) -> TableColumn {
    TableColumn { head, width, of, form }
}

/// Columns that are always shown: requested and realised loss, and the results.
const ALWAYS: [TableColumn; 10] = [
    column("loss up (real)", 15, Column::LossUp, Form::Loss { realised: Column::RealisedLossUp }),
    column("down (real)", 15, Column::LossDown, Form::Loss { realised: Column::RealisedLossDown }),
    column(
        "success [95 %]",
        22,
        Column::Success,
        Form::Success { low: Column::SuccessLow, high: Column::SuccessHigh },
    ),
    column("theory", 6, Column::SuccessTheory, Form::Decimals(4)),
    column("sends", 6, Column::SendsMean, Form::Decimals(3)),
    column("executed", 8, Column::ExecutionsMean, Form::Decimals(3)),
    column("no dedup", 8, Column::ExecutionsWithoutDedupMean, Form::Decimals(3)),
    column("ack p50 s", 9, Column::AckP50S, Form::Time),
    column("ack p99 s", 9, Column::AckP99S, Form::Time),
    column("ack max s", 9, Column::AckMaxS, Form::Time),
];

/// Columns that are shown if varied; jitter and interval also if used.
const VARIED: [(Parameter, TableColumn); 8] = [
    (Parameter::Timeout, column("timeout s", 9, Column::TimeoutS, Form::Time)),
    (Parameter::MaxSends, column("max sends", 9, Column::MaxSends, Form::Decimals(0))),
    (Parameter::MaxTimeout, column("max timeout", 11, Column::MaxTimeoutS, Form::Time)),
    (Parameter::Deadline, column("deadline s", 10, Column::DeadlineS, Form::Time)),
    (Parameter::Jitter, column("jitter", 12, Column::Jitter, Form::Text)),
    (Parameter::Size, column("bytes", 5, Column::SizeBytes, Form::Decimals(0))),
    (Parameter::Interval, column("interval s", 10, Column::IntervalS, Form::Time)),
    (Parameter::RtoMin, column("rto min s", 9, Column::RtoMinS, Form::Time)),
];

/// The columns of one sweep's table.
#[derive(Clone, Debug)]
pub(super) struct Layout(Vec<TableColumn>);

impl Layout {
    /// Chooses the columns for the varied parameters. Losses always have columns; links get one if more than a loss is
    /// varied.
    pub(super) fn new(varied: &BTreeSet<Parameter>, points: &[Point]) -> Self {
        let widest = |text: &dyn Fn(&Point) -> usize| points.iter().map(text).max().unwrap_or(0);
        let policy = widest(&|point| point.policy_name.len()).max(6);
        let mut columns = vec![column("policy", policy, Column::Policy, Form::Text)];
        if varied.iter().any(|parameter| is_of_link(*parameter)) {
            let (up, down) =
                (widest(&|point| point.up.to_string().len()), widest(&|point| point.down.to_string().len()));
            columns.push(column("link up", up.max(7), Column::LinkUp, Form::Text));
            columns.push(column("link down", down.max(9), Column::LinkDown, Form::Text));
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

    fn joined(&self, text: impl Fn(&TableColumn) -> String) -> String {
        let padded = |column: &TableColumn| match column.form {
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

impl TableColumn {
    fn text(&self, row: &Row) -> String {
        let decimals =
            |column, digits| row.number(column).map_or_else(|| "-".to_owned(), |x| format!("{x:.digits$}"));
        match self.form {
            Form::Text => row.text(self.of).into_owned(),
            Form::Decimals(digits) => decimals(self.of, digits),
            Form::Time => row.number(self.of).map_or_else(|| "-".to_owned(), time),
            Form::Loss { realised } => {
                let asked = Some(row.text(self.of)).filter(|text| !text.is_empty());
                format!("{} ({})", asked.as_deref().unwrap_or("-"), decimals(realised, 4))
            }
            Form::Success { low, high } => {
                format!("{} [{}, {}]", decimals(self.of, 4), decimals(low, 4), decimals(high, 4))
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
