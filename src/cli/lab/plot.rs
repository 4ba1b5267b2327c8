//! `lab plot`: plots of a sweep, beside its CSV or elsewhere. Drawing is in `lab::plot`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::LabError;
use super::choice::{Choice, one_of};
use super::output::make_directory;
use crate::cli::exit;
use crate::escape::escape_short;
use crate::lab::files::write_all;
use crate::lab::plot::{Kind, Picture, PlotError};
use crate::lab::sweep::table::Table;

/// The options of `lab plot`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The CSV of a `lab sweep`
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    /// Put the pictures into this directory, which is made if need be [default: that of FILE.csv]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The file formats to write
    #[arg(long, value_enum, default_value_t = Format::Both)]
    format: Format,
    /// The pictures to draw [default: all that the rows have the data for]
    #[arg(long, value_parser = one_of(&KINDS), value_name = "NAME,..", value_delimiter = ',')]
    kind: Vec<Kind>,
}

/// The kinds of plots.
const KINDS: [Choice<Kind>; 6] = [
    (Kind::Success.name(), "Success against loss", Kind::Success),
    (Kind::Executions.name(), "Executions per request with and without dedup", Kind::Executions),
    (Kind::Sends.name(), "Sends per request", Kind::Sends),
    (Kind::Time.name(), "Time to answer: mean, p50, p90, p99", Kind::Time),
    (Kind::Heatmap.name(), "Success by policy and loss, as colours", Kind::Heatmap),
    (Kind::Cdf.name(), "Distribution of the time to answer", Kind::Cdf),
];

/// The file format of a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines and text, sharp at any size
    Svg,
    /// Pixels, shown everywhere
    Png,
    /// Both
    Both,
}

/// Draws all plots, writes all files, then prints their paths.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    let table = read(&args.file)?;
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    for kind in kinds(&args.kind) {
        if let Some(picture) = draw(&table, kind, &mut notes)? {
            add(&mut files, args, kind, &picture)?;
        }
    }
    if files.is_empty() {
        return Err(LabError::Failed("nothing could be drawn from these rows".to_owned()));
    }
    args.out.as_deref().map_or(Ok(()), make_directory)?;
    write_all(&files).map_err(|error| LabError::Failed(error.to_string()))?;
    notes.iter().for_each(|what| note(what));
    say_written(files.iter().map(|(path, _)| path.as_path()))
}

/// Returns the requested kinds, each once.
fn kinds(asked: &[Kind]) -> Vec<Kind> {
    Kind::ALL.into_iter().filter(|kind| asked.is_empty() || asked.contains(kind)).collect()
}

/// Draws one plot, and adds notes on its omissions.
fn draw(table: &Table, kind: Kind, notes: &mut Vec<String>) -> Result<Option<Picture>, LabError> {
    match Picture::draw(table, kind) {
        Ok(picture) => {
            notes.extend(picture.left_out().iter().map(|what| format!("{}: {what}", kind.name())));
            Ok(Some(picture))
        }
        Err(PlotError::NoData(why)) => {
            notes.push(format!("{}: not drawn: {why}", kind.name()));
            Ok(None)
        }
        Err(error) => Err(LabError::Failed(error.to_string())),
    }
}

fn add(
    files: &mut Vec<(PathBuf, Vec<u8>)>,
    args: &Args,
    kind: Kind,
    picture: &Picture,
) -> Result<(), LabError> {
    let path =
        |extension: &str| beside(&args.file, args.out.as_deref(), &format!("-{}.{extension}", kind.name()));
    if args.format != Format::Png {
        files.push((path("svg"), picture.svg().into_bytes()));
    }
    if args.format != Format::Svg {
        let png = picture.png().map_err(|error| LabError::Failed(error.to_string()))?;
        files.push((path("png"), png));
    }
    Ok(())
}

/// Reads the CSV of a sweep.
pub(super) fn read(path: &Path) -> Result<Table, LabError> {
    let shown = escape_short(path.as_os_str().as_encoded_bytes(), 200);
    let failed = |error: &dyn std::fmt::Display| LabError::Failed(format!("{shown}: {error}"));
    let file = File::open(path).map_err(|error| failed(&error))?;
    Table::read(file).map_err(|error| failed(&error))
}

/// Returns a path like `file`, with `ending` in place of the extension.
pub(super) fn beside(file: &Path, directory: Option<&Path>, ending: &str) -> PathBuf {
    let mut name: OsString = file.file_stem().unwrap_or_default().to_owned();
    name.push(ending);
    match directory {
        Some(directory) => directory.join(name),
        None => file.with_file_name(name),
    }
}

/// Prints a line on standard error.
pub(super) fn note(text: &str) {
    // A closed standard error is not a failure.
    let _ = writeln!(io::stderr(), "note: {text}");
}

/// Prints paths on standard output, unescaped, one per line. A closed pipe is not a failure.
pub(super) fn say_written<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<u8, LabError> {
    let mut out = io::stdout();
    for path in paths {
        let line = [path.as_os_str().as_encoded_bytes(), b"\n"].concat();
        match out.write_all(&line).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(LabError::Failed(error.to_string()));
            }
            _ => {}
        }
    }
    Ok(exit::OK)
}
