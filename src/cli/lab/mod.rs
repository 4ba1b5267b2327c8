//! The command line of the lab: from [`Args`] to a command's plan and its run, one file per command. The work is done
//! in `crate::lab`.

use std::ffi::OsString;
use std::io::{self, Write as _};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use super::exit;

mod baseline;
mod choice;
mod compare;
mod ladder;
mod load;
mod output;
mod plot;
mod policy;
mod proxy;
mod report;
mod sweep;

const AFTER_HELP: &str = "\
Exit codes:
    0  done
    1  an operation on a file, a socket or the system failed
    2  usage error, or an invalid plan; no file was made
    6  an --assert does not hold
  130  interrupted";

/// The options on the command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "lab", version, about = "Measures retry policies under loss", after_help = AFTER_HELP)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Measure a retry policy over a range of losses, in virtual time or over sockets: a row per point
    Sweep(Box<sweep::Args>),
    /// Draw a sweep: success, executions, sends, times, as SVG and PNG
    Plot(plot::Args),
    /// Make one HTML page of a sweep: plots, table, data
    Report(report::Args),
    /// Draw one exchange under loss: every datagram and every timeout
    Ladder(Box<ladder::Args>),
    /// Describe a retry policy: its schedule, its cost and its probability of success
    Policy(policy::Args),
    /// Relay for any UDP or TCP program, over a link that loses, delays and damages
    Proxy(Box<proxy::Args>),
    /// Run the baseline, which only moves bytes: the limit of this machine, with which servers are compared
    #[command(alias = "bare")]
    Baseline(baseline::Args),
    /// Compare servers: medians and ratios of results of `lab load`
    Compare(compare::Args),
    /// Load a server, ours or another, and measure it: messages, pings, connections, idle clients
    Load(load::Args),
}

/// Why a command of the lab failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The command line or a plan is invalid; nothing was done: exit code 2.
    #[error("{0}; try --help")]
    Usage(String),
    /// The system, a file or a peer failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The command line is inconsistent, as reported by clap: exit code 2.
    #[error(transparent)]
    Clap(#[from] clap::Error),
}

/// Runs the command line, which begins with the program's name. Returns the exit code.
pub fn run(words: Vec<OsString>) -> u8 {
    let result = parse(words).and_then(|(args, matches)| match &args.command {
        Command::Sweep(args) => sweep::run(args, &matches),
        Command::Policy(args) => policy::run(args),
        Command::Ladder(args) => ladder::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Report(args) => report::run(args),
        Command::Proxy(args) => proxy::run(args),
        Command::Baseline(args) => baseline::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Load(args) => load::run(args),
    });
    result.unwrap_or_else(|error| complain(&error))
}

/// Parses the command line. The flags of a plan are inserted before the typed flags, which therefore override them.
/// Also returns the matches of the subcommand.
fn parse(mut words: Vec<OsString>) -> Result<(Args, ArgMatches), LabError> {
    let (args, matches) = matched(&words)?;
    let Command::Sweep(sweep) = &args.command else { return Ok((args, matches)) };
    let Some(path) = sweep.plan() else { return Ok((args, matches)) };
    let planned = sweep::read_plan(path, &sweep.typed(&matches))?;
    let at = words.iter().position(|word| word == "sweep").map_or(words.len(), |at| at + 1);
    words.splice(at..at, planned);
    matched(&words)
}

fn matched(words: &[OsString]) -> Result<(Args, ArgMatches), LabError> {
    let mut matches = Args::command().try_get_matches_from(words)?;
    let args = Args::from_arg_matches(&matches)?;
    let after = matches.remove_subcommand().map(|(_, matches)| matches);
    Ok((args, after.unwrap_or_default()))
}

/// Prints an error in one line on standard error.
fn complain(error: &LabError) -> u8 {
    if let LabError::Clap(error) = error {
        return super::refuse(error);
    }
    super::finish_logging();
    let _ = writeln!(io::stderr(), "error: {error}");
    if matches!(error, LabError::Usage(_)) { exit::USAGE } else { exit::FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
