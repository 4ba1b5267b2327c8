//! Serves one chat over TCP and over lossy UDP.

use std::process::ExitCode;

use clap::Parser as _;
use sayagain::cli::exit;
use sayagain::cli::server::{Args, ServeError, draw_seed, run};

fn main() -> ExitCode {
    let args = Args::parse();
    args.start_logging();
    match serve(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(exit::FAILED)
        }
    }
}

fn serve(args: Args) -> Result<u8, ServeError> {
    let plan = args.resolve(draw_seed()?).unwrap_or_else(|error| error.exit());
    run(plan)
}

#[expect(clippy::print_stderr, reason = "what ends a program is said whatever is logged")]
fn complain(error: &ServeError) {
    eprintln!("error: {error}");
}
