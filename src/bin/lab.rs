//! The program `lab` for loss experiments: runs its command line and returns the exit code. The code is in
//! `sayagain::cli::lab`.

use std::process::ExitCode;

use sayagain::cli::finish_logging;
use sayagain::cli::lab::run;

fn main() -> ExitCode {
    let code = run(std::env::args_os().collect());
    finish_logging();
    ExitCode::from(code)
}
