//! The program `server`: parses and resolves its command line, serves and returns the exit code. The code is in
//! `sayagain::cli::server`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use sayagain::cli::server::{Args, ServeError, draw_seed, run};
use sayagain::cli::{exit, finish_logging, refuse};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return ExitCode::from(refuse(&error)),
    };
    if let Some(code) = args.run_command() {
        return ExitCode::from(code);
    }
    args.start_logging();
    let code = serve(args).unwrap_or_else(|error| {
        finish_logging();
        print_error(&error);
        exit::FAILED
    });
    finish_logging();
    ExitCode::from(code)
}

fn serve(args: Args) -> Result<u8, ServeError> {
    match args.resolve(draw_seed()?) {
        Ok(plan) => run(plan),
        Err(error) => Ok(refuse(&error)),
    }
}

/// Prints the error that ends the program, also with `--quiet`.
fn print_error(error: &ServeError) {
    let _ = writeln!(io::stderr(), "error: {error}");
}
