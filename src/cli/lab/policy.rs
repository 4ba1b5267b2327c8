//! `lab policy`: what a retry policy does, without sending anything.

use std::io;

use super::LabError;
use crate::cli::exit;
use crate::cli::policy::{PolicyArgs, explain};

/// The options of `lab policy`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Prints the policy.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    let policy = args.policy.resolve().map_err(LabError::Usage)?;
    explain(&policy, &mut io::stdout()).map_err(|error| LabError::Failed(error.to_string()))?;
    Ok(exit::OK)
}
