//! The output of a sweep: a CSV, the table or JSON on standard output, the progress bar, and failed assertions.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{LabError, Sweep, table};
use crate::cli::exit;
use crate::lab::sweep::column::{Column, Row};
use crate::lab::sweep::run::Experiment;

/// Bound on the failed assertions that are printed one by one; the rest is counted.
const FAILURES_TOLD: usize = 5;

/// A CSV that is written row by row.
pub(super) struct CsvFile {
    writer: csv::Writer<File>,
    name: String,
}

impl CsvFile {
    pub(super) fn create(path: &Path) -> Result<Self, LabError> {
        let name = path.display().to_string();
        let failed = |error| LabError::Failed(format!("cannot write {name}: {error}"));
        let file = File::create(path).map_err(failed)?;
        // The header is there before the first row is.
        let writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        let mut file = Self { writer, name };
        let header = file.writer.write_record(Column::ALL.iter().map(|column| column.name()));
        file.finish(header).map_err(LabError::Failed)?;
        Ok(file)
    }

    /// Writes a row, which is in the file before the next one is measured.
    fn write(&mut self, row: &Row) -> Result<(), String> {
        let written = self.writer.serialize(row);
        self.finish(written)
    }

    fn finish(&mut self, written: csv::Result<()>) -> Result<(), String> {
        let flushed = written.map_err(io::Error::from).and_then(|()| self.writer.flush());
        flushed.map_err(|error| format!("cannot write {}: {error}", self.name))
    }
}

/// The destinations of rows.
pub(super) struct Report<'a> {
    sweep: &'a Sweep,
    file: Option<CsvFile>,
    json: bool,
    pub(super) bar: ProgressBar,
    table: table::Layout,
    failures: Vec<String>,
    failed: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(sweep: &'a Sweep, file: Option<CsvFile>, json: bool) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(sweep.experiment.sessions()), target);
        let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let varied: BTreeSet<_> = sweep.axes.iter().map(|axis| axis.parameter).collect();
        let table = table::Layout::new(&varied, &sweep.experiment.points);
        Self { sweep, file, json, bar, table, failures: Vec::new(), failed: 0 }
    }

    pub(super) fn begin(&self) -> Result<(), LabError> {
        if self.json {
            return Ok(());
        }
        let Experiment { trials, seed, .. } = self.sweep.experiment;
        let mode = if self.sweep.real { "over sockets on loopback" } else { "in virtual time" };
        let heading = format!("{trials} requests per row {mode}, seed {seed}\n{}", self.table.header());
        self.print(&heading).map_err(LabError::Failed)
    }

    pub(super) fn row(&mut self, row: &Row) -> Result<(), String> {
        if let Some(file) = &mut self.file {
            file.write(row)?;
        }
        for assertion in &self.sweep.assertions {
            if let Err(failure) = assertion.check(row) {
                self.failed += 1;
                if self.failures.len() < FAILURES_TOLD {
                    self.failures.push(failure);
                }
            }
        }
        let line = if self.json { row.json().to_string() } else { self.table.line(row) };
        self.print(&line)
    }

    /// Prints a line; a closed pipe is not a failure.
    fn print(&self, line: &str) -> Result<(), String> {
        let printed = self.bar.suspend(|| writeln!(io::stdout(), "{line}"));
        match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
            _ => Ok(()),
        }
    }

    /// Prints failed assertions. Returns the exit code.
    pub(super) fn conclude(&self) -> u8 {
        for failure in &self.failures {
            let _ = writeln!(io::stderr(), "assertion failed: {failure}");
        }
        let more = self.failed - self.failures.len();
        if more > 0 {
            let _ = writeln!(io::stderr(), "assertion failed: {more} times more");
        }
        if self.failed > 0 { exit::ASSERTION } else { exit::OK }
    }
}
