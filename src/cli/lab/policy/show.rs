//! `lab policy show`: the properties of one policy. Several policies are in `compare`.

use std::fmt::{self, Write as _};

use serde_json::json;

use super::{Common, at_loss_json, losses, resolved, time, worst_json};
use crate::cli::lab::LabError;
use crate::cli::policy::{PolicyArgs, explain, percent, range, seconds};
use crate::reliable::send_times::{AtLoss, Sizes, Slot, TimeRange, Worst, at_loss, give_up, slots, worst};
use crate::reliable::{Backoff, Jitter, PolicyName};

/// The loss rates of the table.
const LOSSES: [f64; 6] = [0.01, 0.1, 0.3, 0.5, 0.7, 0.9];

/// The options of `lab policy show`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The policy: any name that --policy takes; the flags below override its values [default: once]
    #[arg(conflicts_with_all = ["policy", "expb"])]
    name: Option<PolicyName>,

    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// The shown properties of a policy.
struct Shown {
    name: &'static str,
    source: &'static str,
    policy: Backoff,
    slots: Vec<Slot>,
    sizes: Sizes,
    size: usize,
    worst: Worst,
    at: [AtLoss; LOSSES.len()],
}

/// Returns the output.
pub(super) fn text(args: &Args) -> Result<String, LabError> {
    let sizes = args.common.sizes()?;
    let chosen = args.name.unwrap_or_else(|| args.policy.chosen());
    let typed = PolicyArgs { policy: Some(chosen), ..args.policy.clone() };
    // An error must name the flag that was used, `--expb` or `--policy expb`.
    let policy = if args.name.is_some() {
        resolved(chosen, &args.policy)?
    } else {
        args.policy.resolve().map_err(LabError::Usage)?
    };
    let shown = Shown {
        name: typed.name(),
        source: chosen.source(),
        slots: slots(&policy),
        sizes,
        size: args.common.size.get(),
        worst: worst(&policy, sizes),
        at: losses(LOSSES).map(|loss| at_loss(&policy, sizes, loss)),
        policy,
    };
    if args.common.json {
        return Ok(format!("{:#}\n", shown.json()));
    }
    shown.text().map_err(|error| LabError::Failed(error.to_string()))
}

impl Shown {
    fn text(&self) -> Result<String, fmt::Error> {
        let mut out = format!("{}: {}\n", self.name, self.source);
        let mut explained = Vec::new();
        // Writing into a vector cannot fail.
        let _ = explain(&self.policy, &mut explained);
        out.push_str(&String::from_utf8_lossy(&explained));
        self.sends(&mut out)?;
        self.worst_case(&mut out)?;
        self.means(&mut out)?;
        Ok(out)
    }

    fn sends(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n{:>5}  {:>24}  {:>24}", "send", "at, s", "waits for an answer, s")?;
        for (n, Slot { at, timeout }) in self.slots.iter().enumerate() {
            writeln!(out, "{:>5}  {:>24}  {:>24}", n + 1, range(at), range(timeout))?;
        }
        if self.policy.deadline().is_some() {
            writeln!(out, "  the deadline cuts what is waited at its end")?;
        }
        Ok(())
    }

    fn worst_case(&self, out: &mut String) -> fmt::Result {
        let Worst { give_up, sends, datagrams, bytes } = self.worst;
        let Sizes { request, answer } = self.sizes;
        writeln!(
            out,
            "\nat worst {sends} sends, all answered, no answer heard: {datagrams} datagrams, {bytes} bytes, given up at {} s",
            seconds(give_up)
        )?;
        let size = self.size;
        writeln!(
            out,
            "with a message of {size} bytes a send is {request} and an answer {answer}, and IPv4 and UDP add 28 to each"
        )
    }

    fn means(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "\nloss each way  answered, %  executed, %  sends  executions*  bytes  time to ack, s"
        )?;
        for at in &self.at {
            writeln!(
                out,
                "{:>11.0} %  {:>11}  {:>11}  {:>5.2}  {:>11.2}  {:>5.0}  {:>14}",
                100.0 * at.loss.get(),
                percent(at.success),
                percent(at.executed),
                at.sends,
                at.executions_without_dedup,
                at.bytes,
                time(at)
            )?;
        }
        writeln!(out, "* by a server that remembers nothing; this one executes a request once at most")?;
        writeln!(
            out,
            "means, without network delay; the time is that of answered requests, - where none is known"
        )?;
        if self.policy.adaptive() {
            writeln!(out, "all of this before a round trip is measured")?;
        }
        if self.policy.deadline().is_some() && self.policy.jitter() != Jitter::None {
            writeln!(
                out,
                "the means are those of the sends without jitter; with it, the deadline allows more or fewer"
            )?;
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let span = |span: &TimeRange| {
            json!({
                "without_jitter_s": span.plain.as_secs_f64(),
                "least_s": span.least.as_secs_f64(),
                "most_s": span.most.as_secs_f64(),
            })
        };
        let send = |slot: &Slot| json!({ "at": span(&slot.at), "timeout": span(&slot.timeout) });
        json!({
            "policy": self.name,
            "source": self.source,
            "jitter": self.policy.jitter().to_string(),
            "adaptive": self.policy.adaptive(),
            "sends": self.slots.iter().map(send).collect::<Vec<_>>(),
            "give_up": span(&give_up(&self.policy)),
            "message_bytes": self.size,
            "request_bytes": self.sizes.request,
            "answer_bytes": self.sizes.answer,
            "worst": worst_json(&self.worst),
            "at_loss": self.at.iter().map(at_loss_json).collect::<Vec<_>>(),
        })
    }
}
