//! Loss experiments: parse, run, exit code.

use std::process::ExitCode;

use sayagain::cli::finish_logging;
use sayagain::cli::lab::run;

fn main() -> ExitCode {
    let code = run(std::env::args_os().collect());
    finish_logging();
    ExitCode::from(code)
}
