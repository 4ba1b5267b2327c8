//! The CSV of a sweep, read back: one checked row per point. The columns are in `column`.

use std::cell::Cell;
use std::io::Read;

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde::Deserialize as _;
use serde::de::value::{BorrowedStrDeserializer, Error as ValueError, MapDeserializer};

use super::cell::Count;
use super::column::{Column, Row};
use crate::escape::escape_short;

/// Largest file that is read, in bytes. A row of a sweep has up to 3 KiB, 1,000 bytes of them for the command line.
pub(crate) const MAX_BYTES: u64 = 64 << 20;
/// Bound on the rows that are read: a row takes a few KiB of memory, whatever its size in the file.
pub(crate) const MAX_ROWS: usize = 20_000;

/// Why a file is not the CSV of a sweep.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// The file has more than `MAX_BYTES` or `MAX_ROWS`.
    #[error("more than {MAX_ROWS} rows or {} MiB: plot it in parts", MAX_BYTES >> 20)]
    TooLarge,
    /// The header lacks a column.
    #[error("line 1: no column `{0}`, so it is not the CSV of a `lab sweep`")]
    Missing(&'static str),
    /// The header names a column twice.
    #[error("line 1: column `{0}` appears twice")]
    Twice(&'static str),
    /// The file ends after the header.
    #[error("line 1: a header, but no rows")]
    NoRows,
    /// A row has too many or too few cells.
    #[error("line {line}: {cells} cells under {columns} columns")]
    Ragged {
        /// The line in the file, from 1.
        line: u64,
        /// Cells of the row.
        cells: u64,
        /// Cells of the header.
        columns: u64,
    },
    /// A line is not UTF-8.
    #[error("line {0}: not UTF-8 text")]
    NoText(u64),
    /// A cell does not fit its column.
    #[error("line {line}, column {column}: `{value}` is not {expected}")]
    Cell {
        /// The line in the file, from 1.
        line: u64,
        /// The column's name.
        column: String,
        /// The cell, escaped and cut.
        value: String,
        /// The expected kind of value.
        expected: String,
    },
}

/// The rows of a CSV, at least one.
#[derive(Clone, Debug)]
pub struct Table {
    text: String,
    rows: Vec<Row>,
}

impl Table {
    /// Reads a whole CSV. Columns may be in any order; others are ignored.
    ///
    /// # Errors
    ///
    /// The text is not the CSV of a sweep, or too large.
    pub fn read(from: impl Read) -> Result<Self, TableError> {
        let mut bytes = Vec::new();
        from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(TableError::TooLarge);
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            TableError::NoText(1 + before.filter(|byte| **byte == b'\n').count() as u64)
        })?;
        let rows = read_rows(&text)?;
        Ok(Self { text, rows })
    }

    /// Returns the file as it was read.
    #[must_use]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the number of rows.
    #[must_use]
    pub const fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the rows in the order of the file.
    #[must_use]
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

fn read_rows(text: &str) -> Result<Vec<Row>, TableError> {
    // Editors and spreadsheets leave blank lines at the end.
    let mut reader = ReaderBuilder::new().from_reader(text.trim_end().as_bytes());
    let header = reader.headers().map_err(|error| refusal(&error))?.clone();
    check_header(&header)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| refusal(&error))?;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if rows.len() == MAX_ROWS {
            return Err(TableError::TooLarge);
        }
        rows.push(row(&header, &record)?);
    }
    if rows.is_empty() { Err(TableError::NoRows) } else { Ok(rows) }
}

/// Checks that the header has each column once.
fn check_header(header: &StringRecord) -> Result<(), TableError> {
    for column in Column::ALL.iter().map(|column| column.name()) {
        match header.iter().filter(|name| *name == column).count() {
            0 => return Err(TableError::Missing(column)),
            1 => {}
            _ => return Err(TableError::Twice(column)),
        }
    }
    Ok(())
}

fn refusal(error: &csv::Error) -> TableError {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            TableError::Ragged { line, cells: *len, columns: *expected_len }
        }
        _ => TableError::NoText(line),
    }
}

fn row(header: &StringRecord, record: &StringRecord) -> Result<Row, TableError> {
    let bad = |column: &str, expected: String| {
        let text = header.iter().zip(record).find(|(name, _)| *name == column).map_or("", |(_, text)| text);
        TableError::Cell {
            line: record.position().map_or(1, csv::Position::line),
            column: column.to_owned(),
            value: escape_short(text.as_bytes(), 40).into_owned(),
            expected,
        }
    };
    // serde's error does not say in which field it is: in the last one that was taken.
    let last = Cell::new("");
    let cells = header.iter().zip(record).inspect(|(column, _)| last.set(*column));
    let cells = cells.map(|(column, text)| (column, BorrowedStrDeserializer::<ValueError>::new(text)));
    let row = Row::deserialize(MapDeserializer::new(cells));
    let row = row.map_err(|error| bad(last.get(), error.to_string()))?;
    check(&row).map_err(|(column, expected)| bad(column.name(), expected.to_owned()))?;
    Ok(row)
}

/// Checks cells that every row must have, and cells that must be consistent.
fn check(row: &Row) -> Result<(), (Column, &'static str)> {
    if !matches!(row.mode.as_str(), "virtual" | "real") {
        return Err((Column::Mode, "`virtual` or `real`"));
    }
    if row.policy.is_empty() {
        return Err((Column::Policy, "the name of a policy"));
    }
    if row.trials < Count(Some(1)) {
        return Err((Column::Trials, "a number of trials from 1 on"));
    }
    if row.success_low > row.success_high {
        return Err((Column::SuccessLow, "at most success_high"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../tests/data/rows.csv");

    fn read(text: &str) -> Result<Table, TableError> {
        Table::read(text.as_bytes())
    }

    /// Returns the valid file with one cell of its third line changed.
    fn with(column: Column, value: &str) -> String {
        let mut reader = csv::Reader::from_reader(GOOD.as_bytes());
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(reader.headers().unwrap()).unwrap();
        for (n, record) in reader.records().enumerate() {
            let record = record.unwrap();
            let cells = record.iter().enumerate();
            let changed = cells.map(|(at, cell)| if (n, at) == (1, column as usize) { value } else { cell });
            writer.write_record(changed).unwrap();
        }
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn the_rows_of_a_sweep_are_read_with_their_units() {
        let table = read(GOOD).unwrap();
        assert_eq!(table.rows().len(), 6);
        let row = &table.rows()[0];
        assert_eq!(row.text(Column::Policy), "expb");
        assert!(row.text(Column::Command).contains("-L loss .1,.3,.5"), "commas inside of quotes");
        assert_eq!(row.number(Column::LossUp), Some(0.1));
        assert_eq!(row.number(Column::Trials), Some(2_000.0));
        assert_eq!(row.number(Column::DeadlineS), None, "empty is not 0");
        assert_eq!(row.ack_cdf_s.0.first(), Some(&(0.0, 0.816)));
        assert_eq!(table.text(), GOOD);
    }

    #[test]
    fn the_header_of_the_fixture_is_that_of_the_columns() {
        let names: Vec<_> = Column::ALL.iter().map(|column| column.name()).collect();
        assert_eq!(GOOD.lines().next(), Some(names.join(",").as_str()));
    }

    #[test]
    fn columns_may_be_in_any_order_and_others_are_ignored() {
        let mut lines = GOOD.lines();
        let extended = format!("extra,{}", lines.next().unwrap());
        let rows: String = lines.map(|line| format!("-,{line}\n")).collect();
        let table = read(&format!("{extended}\n{rows}")).unwrap();
        assert_eq!(table.rows()[0].text(Column::Policy), "expb");
    }

    #[test]
    fn blank_lines_at_the_end_are_ignored() {
        let commas = ",".repeat(Column::ALL.len() - 1);
        for end in ["\n", "\r\n", "\n\n", "  \n", "\t", &format!("{commas}\n"), &format!("{commas}\n\n")] {
            let table = read(&format!("{GOOD}{end}")).unwrap_or_else(|error| panic!("{end:?}: {error}"));
            assert_eq!(table.rows().len(), 6, "{end:?}");
        }
        let only = format!("{}\n{commas}\n", GOOD.lines().next().unwrap());
        assert!(matches!(read(&only), Err(TableError::NoRows)));
    }

    #[test]
    fn an_invalid_cell_is_reported_with_its_line_and_column() {
        let refused = [
            (Column::Success, "nan"),
            (Column::Success, "1.01"),
            (Column::LossUp, "-0.1"),
            (Column::SendsMean, "inf"),
            (Column::SendsMean, "1e999"),
            (Column::SendsMean, "many"),
            (Column::Trials, "0"),
            (Column::Trials, ""),
            (Column::Trials, "1.5"),
            (Column::Seed, "-1"),
            (Column::Mode, "imaginary"),
            (Column::Policy, ""),
            (Column::SuccessLow, "0.999"),
            (Column::AckCdfS, "0:0.5;1"),
            (Column::AckCdfS, "1:0.5;0:0.6"),
            (Column::AckCdfS, "0:0.5;1:0.4"),
        ];
        for (column, value) in refused {
            let error = read(&with(column, value)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line 3, column {}: `{value}`", column.name())), "{error}");
        }
        let hostile = read(&with(Column::Success, "\u{1b}[2J\n")).unwrap_err().to_string();
        assert!(!hostile.contains(['\u{1b}', '\n']), "{hostile:?}");
    }

    #[test]
    fn a_file_that_is_no_sweep_is_refused() {
        let header = GOOD.lines().next().unwrap();
        assert!(matches!(read(""), Err(TableError::Missing("version"))));
        assert!(matches!(read("a,b\n1,2\n"), Err(TableError::Missing("version"))));
        assert!(matches!(read(&header.replace("jitter,", "")), Err(TableError::Missing("jitter"))));
        assert!(matches!(read(&format!("{header},seed")), Err(TableError::Twice("seed"))));
        assert!(matches!(read(header), Err(TableError::NoRows)));
        let cut = &GOOD[..GOOD.len() - 60];
        assert!(matches!(read(cut), Err(TableError::Ragged { line: 7, .. })), "{:?}", read(cut));
        let binary = [header.as_bytes(), b"\n\xff\n"].concat();
        assert!(matches!(Table::read(&*binary), Err(TableError::NoText(2))));
    }

    #[test]
    fn a_file_over_the_bound_is_refused() {
        let endless = std::io::repeat(b'x');
        assert!(matches!(Table::read(endless), Err(TableError::TooLarge)));
        let row = GOOD.lines().nth(1).unwrap();
        let many = format!("{}\n{}", GOOD.lines().next().unwrap(), format!("{row}\n").repeat(MAX_ROWS + 1));
        assert!(matches!(read(&many), Err(TableError::TooLarge)));
    }

    #[test]
    fn every_prefix_of_a_csv_is_read_or_refused_with_one_line() {
        for end in (0..GOOD.len()).step_by(7) {
            if let Err(error) = read(&GOOD[..end]) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}
