//! `lab policy`: the properties of a retry policy, without sending anything. This file has the parts shared by `show`
//! and `compare`.

use clap::Subcommand;

use super::LabError;
use super::output::print;
use crate::cli::exit;
use crate::cli::policy::PolicyArgs;
use crate::reliable::send_times::{AtLoss, Sizes, Worst};
use crate::reliable::{Backoff, PolicyName};
use crate::units::{ByteSize, Probability};

mod compare;
mod show;

/// The options of `lab policy`.
#[derive(Clone, Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// A command about policies.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show one policy: its schedule, its worst case, and its results at a loss rate
    Show(show::Args),
    /// Put policies side by side, one row each
    Compare(compare::Args),
}

/// The options of both commands.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// Length of the message that a request carries, in bytes; its datagram has some 40 more
    #[arg(long, value_name = "BYTES", default_value = "64", allow_hyphen_values = true)]
    size: ByteSize,

    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Common {
    fn sizes(&self) -> Result<Sizes, LabError> {
        let too_long =
            || format!("a message of {} bytes does not fit a datagram; lower --size", self.size.get());
        Sizes::of_message(self.size.get()).ok_or_else(|| LabError::Usage(too_long()))
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    let text = match &args.command {
        Command::Show(args) => show::text(args)?,
        Command::Compare(args) => compare::text(args)?,
    };
    print(&text)?;
    Ok(exit::OK)
}

/// Applies the flags to a policy.
fn resolved(name: PolicyName, flags: &PolicyArgs) -> Result<Backoff, LabError> {
    let flags = PolicyArgs { policy: Some(name), ..flags.clone() };
    flags.resolve().map_err(LabError::Usage)
}

/// Converts loss rates to probabilities.
fn losses<const N: usize>(rates: [f64; N]) -> [Probability; N] {
    rates.map(|rate| Probability::new(rate).unwrap_or(Probability::ONE))
}

fn worst_json(worst: &Worst) -> serde_json::Value {
    serde_json::json!({
        "give_up_s": worst.give_up.as_secs_f64(),
        "sends": worst.sends,
        "datagrams": worst.datagrams,
        "bytes": worst.bytes,
    })
}

fn at_loss_json(at: &AtLoss) -> serde_json::Value {
    serde_json::json!({
        "loss_each_way": at.loss.get(),
        "success": at.success,
        "executed": at.executed,
        "sends_mean": at.sends,
        "executions_without_dedup_mean": at.executions_without_dedup,
        "bytes_mean": at.bytes,
        "ack_mean_s": at.time,
    })
}

/// Returns a mean time in seconds, or a dash if unknown.
fn time(at: &AtLoss) -> String {
    at.time.map_or_else(
        || "-".to_owned(),
        |time| if time < 100.0 { format!("{time:.3}") } else { format!("{time:.1}") },
    )
}
