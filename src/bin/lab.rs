//! Loss experiments: parse, run, exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use sayagain::cli::finish_logging;
use sayagain::cli::lab::run;

/// The system's allocator (glibc) takes half a second at once to put together what a million small ones have left.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let code = run(std::env::args_os().collect());
    finish_logging();
    ExitCode::from(code)
}
