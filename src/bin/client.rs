//! The program `client`: parses and resolves its command line, runs it and returns the exit code. The code is in
//! `sayagain::cli::client`.

#![expect(clippy::disallowed_types, reason = "programs own the system's randomness")]

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use log::LevelFilter;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use sayagain::cli::client::{Args, run};
use sayagain::cli::{exit, refuse, start_logging};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return ExitCode::from(refuse(&error)),
    };
    let plan = match args.resolve(&mut UnwrapErr(SysRng)) {
        Ok(plan) => plan,
        Err(sentence) => {
            let _ = writeln!(io::stderr(), "error: {sentence}; try --help");
            return ExitCode::from(exit::USAGE);
        }
    };
    let plan = if io::stdin().is_terminal() { plan.for_terminal() } else { plan };
    start_logging(LevelFilter::Warn, plan.style.verbose, plan.style.quiet);
    let mut out = BufWriter::new(io::stdout());
    ExitCode::from(run(&plan, Box::new(io::stdin()), &mut out, &mut io::stderr()))
}
