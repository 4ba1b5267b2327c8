//! Loss experiments: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;

use sayagain::cli::lab::{Args, run};
use sayagain::cli::refuse;

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => ExitCode::from(run(args)),
        Err(error) => ExitCode::from(refuse(&error)),
    }
}
