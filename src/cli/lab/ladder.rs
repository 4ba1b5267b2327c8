//! `lab ladder`: one exchange under loss, drawn.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Instant;

use super::LabError;
use super::output::{print, write_whole};
use crate::cli::exit;
use crate::cli::policy::PolicyArgs;
use crate::escape::escape_short;
use crate::lab::ladder::text::{self, Style};
use crate::lab::ladder::{Exchange, play, svg};
use crate::link::{LinkConfig, LossModel};
use crate::units::Probability;

/// The options of `lab ladder`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// What alice says to bob
    #[arg(long, value_name = "TEXT", default_value = "Can you hear me?", allow_hyphen_values = true)]
    message: String,

    /// The seed of losses and jitter: the same command draws the same picture
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Show alice's registration as well; it is never lost
    #[arg(long)]
    register: bool,

    /// Draw with ASCII alone [default: where the locale is not UTF-8]
    #[arg(long)]
    ascii: bool,

    /// Write the picture as SVG to this file, which ends with .svg, or with `-` to standard output
    #[arg(long, value_name = "FILE.svg")]
    out: Option<PathBuf>,

    #[arg(long, default_value = "0")]
    loss: Probability,
    #[arg(long, num_args = 2)]
    delay: Option<Vec<crate::units::Seconds>>,
    #[arg(long, default_value = "0")]
    dup: Probability,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// Plays the exchange and draws it.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    let policy = args.policy.resolve().map_err(LabError::Usage)?;
    let link = LinkConfig {
        loss: LossModel::from(args.loss),
        duplicate: args.dup,
        delay: args
            .delay
            .as_ref()
            .map_or_else(Default::default, |d| (d[0].as_duration(), d[1].as_duration())),
    };
    let exchange = Exchange {
        policy,
        up: link.clone(),
        down: link,
        message: args.message.clone().into_bytes(),
        seed: args.seed,
        register: args.register,
    };
    let ladder = play(origin(), &exchange).map_err(|error| LabError::Usage(error.to_string()))?;
    match &args.out {
        Some(path) if path.as_os_str() == "-" => print(&svg::draw(&ladder, &heading(args)))?,
        Some(path) => write_whole(path, svg::draw(&ladder, &heading(args)).as_bytes())?,
        None => print(&text::draw(&ladder, &heading(args), style(args)))?,
    }
    Ok(exit::OK)
}

#[expect(clippy::disallowed_methods, reason = "a virtual clock counts from some instant")]
fn origin() -> Instant {
    Instant::now()
}

fn heading(args: &Args) -> Vec<String> {
    let message = escape_short(args.message.as_bytes(), 60);
    vec![format!("alice to bob: \"{message}\""), format!("policy {}, seed {}", args.policy.name(), args.seed)]
}

fn style(args: &Args) -> Style {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let utf8 = ["utf-8", "utf8"].iter().any(|name| locale.to_lowercase().contains(name));
    let dumb = set("TERM").is_some_and(|term| term == "dumb");
    let colour = io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb;
    Style { ascii: args.ascii || !utf8, colour }
}
