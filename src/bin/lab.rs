//! Loss experiments: parse, run, exit code.

use std::process::ExitCode;

use sayagain::cli::lab::run;

fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os().collect()))
}
