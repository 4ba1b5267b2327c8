//! `lab report`: a sweep as one HTML page, beside its CSV or elsewhere. The page is made in `lab::report`.

use std::path::{Path, PathBuf};

use super::LabError;
use super::plot::{beside, note, read, say_written};
use crate::escape::escape_short;
use crate::lab::files::write_all;
use crate::lab::report::Report;

/// The options of `lab report`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The CSV of a `lab sweep`
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    /// Write the page there [default: beside FILE.csv, ending in .html]
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

/// Creates the page, writes it, then prints its path.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    args.out.as_deref().map_or(Ok(()), check_extension)?;
    let table = read(&args.file)?;
    let out = args.out.clone().unwrap_or_else(|| beside(&args.file, None, ".html"));
    if is_same(&args.file, &out) {
        return Err(LabError::Usage(
            "the page would take the place of its own CSV: name it with --out".to_owned(),
        ));
    }
    let name = args.file.file_name().unwrap_or_default();
    let name = escape_short(name.as_encoded_bytes(), 100);
    let report = Report::new(&table, &name).map_err(|error| LabError::Failed(error.to_string()))?;
    write_all(&[(out.clone(), report.html.into_bytes())])
        .map_err(|error| LabError::Failed(error.to_string()))?;
    report.left_out.iter().for_each(|what| note(what));
    say_written(std::iter::once(out.as_path()))
}

/// Refuses an extension of another format; a name without an extension is accepted.
fn check_extension(out: &Path) -> Result<(), LabError> {
    let Some(extension) = out.extension() else { return Ok(()) };
    if ["html", "htm"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let shown = escape_short(extension.as_encoded_bytes(), 40);
    Err(LabError::Usage(format!(
        "--out ends in .{shown}, and a report is a page in HTML: name it .html; a browser prints it as PDF, and lab plot writes SVG and PNG"
    )))
}

/// Whether both paths are the same file.
fn is_same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}
