//! The command line of the lab: as typed ([`Args`]) -> a command's own plan -> its run. One file per command.

use std::io::{self, Write as _};

use clap::{Parser, Subcommand};

use super::exit;

mod policy;
mod proxy;

const AFTER_HELP: &str = "\
Exit codes:
    0  done
    1  a file, a socket or the system stands in the way
    2  the command line or the plan makes no sense; no file was made
    6  an --assert does not hold
  130  interrupted";

/// The options as they are typed.
#[derive(Clone, Debug, Parser)]
#[command(name = "lab", version, about = "Measures what a retry policy does under loss", after_help = AFTER_HELP)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Tell what a retry policy does: when it sends, when it gives up, how likely it succeeds
    Policy(policy::Args),
    /// Relay for any UDP or TCP program, over a link that loses, delays and damages
    Proxy(Box<proxy::Args>),
}

/// Why a command of the lab did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// What was typed, or a plan, makes no sense; nothing was done: exit code 2.
    #[error("{0}; try --help")]
    Usage(String),
    /// The system, a file or a peer stands in the way: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The command line does not fit together, as clap reports it: exit code 2.
    #[error(transparent)]
    Clap(#[from] clap::Error),
}

/// Does what was typed. Returns the exit code.
pub fn run(args: Args) -> u8 {
    let result = match args.command {
        Command::Policy(args) => policy::run(&args),
        Command::Proxy(args) => proxy::run(&args),
    };
    result.unwrap_or_else(|error| complain(&error))
}

/// One line on standard error.
fn complain(error: &LabError) -> u8 {
    if let LabError::Clap(error) = error {
        return super::refuse(error);
    }
    let _ = writeln!(io::stderr(), "error: {error}");
    if matches!(error, LabError::Usage(_)) { exit::USAGE } else { exit::FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
