//! `lab compare`: compares the rows of many runs of `lab load`. The comparison itself is in `lab::load::compare`.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::LabError;
use super::output::{make_directory, print};
use super::plot::{beside, note, say_written};
use crate::cli::exit;
use crate::escape::escape_short;
use crate::lab::files::write_all;
use crate::lab::load::compare::{CompareError, Comparison, compare, table};
use crate::lab::plot::Picture;

const AFTER_HELP: &str = "\
Rows of one workload, size and number of clients are compared. Machines drift, so a ratio is the median over rounds, each with what \
both servers did in it: a column `round` says which rows those are, otherwise their order does.

Without --out, the tables are printed.";

/// The options of `lab compare`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Rows of `lab load --csv`, under one header
    #[arg(value_name = "ROWS.csv")]
    file: PathBuf,
    /// The server to compare with each of the others, as ratios
    #[arg(long, value_name = "SERVER", default_value = "sayagain")]
    subject: String,
    /// Write tables (Markdown, CSV) and plots (SVG) into this directory, which is made if need be, instead of printing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Compares, writes all files, then prints their paths.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    let shown = escape_short(args.file.as_os_str().as_encoded_bytes(), 200);
    let failed = |error: &dyn std::fmt::Display| LabError::Failed(format!("{shown}: {error}"));
    let file = File::open(&args.file).map_err(|error| failed(&error))?;
    let comparison = compare(file, &args.subject).map_err(|error| match error {
        CompareError::Subject { .. } => LabError::Usage(format!("{shown}: {error}")),
        error => failed(&error),
    })?;
    args.out.as_deref().map_or(Ok(()), make_directory)?;
    table::losses(&comparison).iter().for_each(|loss| note(loss));
    let text = table::markdown(&comparison, &args.subject);
    let Some(directory) = &args.out else {
        print(&text)?;
        return Ok(exit::OK);
    };
    let files = files(&args.file, directory, &comparison, text)?;
    write_all(&files).map_err(|error| LabError::Failed(error.to_string()))?;
    say_written(files.iter().map(|(path, _)| path.as_path()))
}

fn files(
    rows: &Path,
    directory: &Path,
    comparison: &Comparison,
    text: String,
) -> Result<Vec<(PathBuf, Vec<u8>)>, LabError> {
    let at = |ending: &str| beside(rows, Some(directory), ending);
    let mut files = vec![(at("-table.md"), text.into_bytes()), (at("-table.csv"), table::csv(comparison))];
    let pictures = Picture::of_servers(comparison).map_err(|error| LabError::Failed(error.to_string()))?;
    files.extend(
        pictures.into_iter().map(|(name, picture)| (at(&format!("-{name}.svg")), picture.svg().into_bytes())),
    );
    Ok(files)
}
