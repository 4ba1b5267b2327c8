//! `lab policy compare`: one row for each policy. A single policy is in `show`.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::json;

use super::{Common, at_loss_json, losses, resolved, time, worst_json};
use crate::cli::lab::LabError;
use crate::cli::policy::{PolicyArgs, seconds};
use crate::reliable::send_times::{AtLoss, Worst, at_loss, slots, worst};
use crate::reliable::{Backoff, PolicyName};

/// The loss rates of the columns.
const LOSSES: [f64; 3] = [0.1, 0.3, 0.5];

/// The options of `lab policy compare`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The policies: any names that --policy takes; the flags below override the values of each [default: all]
    #[arg(value_name = "NAME", conflicts_with_all = ["policy", "expb"])]
    names: Vec<PolicyName>,

    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// The row of a policy.
struct Row {
    name: PolicyName,
    policy: Backoff,
    /// The latest time of the last send.
    last: Duration,
    worst: Worst,
    at: [AtLoss; LOSSES.len()],
}

/// Returns the output.
pub(super) fn text(args: &Args) -> Result<String, LabError> {
    if args.policy.policy.is_some() || args.policy.expb {
        return Err(LabError::Usage(
            "compare takes the names of policies as they are: compare expb coap".to_owned(),
        ));
    }
    let sizes = args.common.sizes()?;
    let names = if args.names.is_empty() { PolicyName::all().collect() } else { args.names.clone() };
    let row = |name: PolicyName| {
        // In a comparison the flag applies only to policies that measure.
        let rto_min = args.policy.rto_min.filter(|_| name.backoff().adaptive());
        let policy = resolved(name, &PolicyArgs { rto_min, ..args.policy.clone() })
            .map_err(|error| LabError::Usage(format!("{name}: {}", without_hint(&error))))?;
        let last = slots(&policy).last().map(|slot| slot.at.most).unwrap_or_default();
        let worst = worst(&policy, sizes);
        Ok(Row { name, last, worst, at: losses(LOSSES).map(|loss| at_loss(&policy, sizes, loss)), policy })
    };
    let rows = names.into_iter().map(row).collect::<Result<Vec<Row>, LabError>>()?;
    if args.common.json {
        return Ok(format!("{:#}\n", rows.iter().map(Row::json).collect::<serde_json::Value>()));
    }
    table(&rows).map_err(|error| LabError::Failed(error.to_string()))
}

/// Returns an error's message, without the hint at its end.
fn without_hint(error: &LabError) -> String {
    match error {
        LabError::Usage(why) | LabError::Failed(why) => why.clone(),
        LabError::Clap(error) => error.to_string(),
    }
}

fn table(rows: &[Row]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    writeln!(
        out,
        "{:10} {:>5} {:>7} {:>7} {:>7} {:>6}  {:^20}  {:^14}     time to ack, s",
        "", "", "first", "last", "gives", "worst", "answered, %", "sends"
    )?;
    let [low, middle, high] = LOSSES.map(|loss| format!("{:.0} %", 100.0 * loss));
    writeln!(
        out,
        "{:10} {:>5} {:>7} {:>7} {:>7} {:>6}  {low:>6} {middle:>6} {high:>6}  {low:>4} {middle:>4} {high:>4}  {low:>6} {middle:>6} {high:>6}",
        "policy", "sends", "timeout", "send, s", "up, s", "bytes"
    )?;
    rows.iter().try_for_each(|row| row.write(&mut out))?;
    writeln!(
        out,
        "last send, giving up and bytes: at the latest and worst; the rest are means at that loss each way, without"
    )?;
    writeln!(out, "network delay, before any round trip is measured; - where no exact mean is known")?;
    Ok(out)
}

impl Row {
    fn write(&self, out: &mut String) -> fmt::Result {
        write!(
            out,
            "{:10} {:>5} {:>7} {:>7} {:>7} {:>6} ",
            self.name.as_str(),
            self.worst.sends,
            seconds(self.policy.ack_timeout()),
            seconds(self.last),
            seconds(self.worst.give_up),
            self.worst.bytes
        )?;
        self.at.iter().try_for_each(|at| write!(out, " {:>6}", chance(at.success)))?;
        write!(out, " ")?;
        self.at.iter().try_for_each(|at| write!(out, " {:>4.2}", at.sends))?;
        write!(out, " ")?;
        self.at.iter().try_for_each(|at| write!(out, " {:>6}", time(at)))?;
        writeln!(out)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "policy": self.name.as_str(),
            "sends": self.worst.sends,
            "first_timeout_s": self.policy.ack_timeout().as_secs_f64(),
            "last_send_most_s": self.last.as_secs_f64(),
            "jitter": self.policy.jitter().to_string(),
            "adaptive": self.policy.adaptive(),
            "worst": worst_json(&self.worst),
            "at_loss": self.at.iter().map(at_loss_json).collect::<Vec<_>>(),
        })
    }
}

/// Formats a probability in percent; 100 only if failure is impossible.
fn chance(p: f64) -> String {
    if p < 1.0 && 100.0 * p >= 99.995 { ">99.99".to_owned() } else { format!("{:.2}", 100.0 * p) }
}
