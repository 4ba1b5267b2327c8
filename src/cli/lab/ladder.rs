//! `lab ladder`: draws one exchange under loss. The exchange and the drawing are in `lab::ladder`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::LabError;
use super::output::print;
use crate::cli::exit;
use crate::cli::link::LinkArgs;
use crate::cli::policy::PolicyArgs;
use crate::escape::escape_short;
use crate::lab::files::write_all;
use crate::lab::ladder::text::{self, Style};
use crate::lab::ladder::{Exchange, play, svg};

const AFTER_HELP: &str = "\
Lost twice, its answer once, and then heard:
  lab ladder --link-up list:1,2 --link-down list:1 --timeout .1 --expb
The picture of the README:
  lab ladder --link iid:.5 --timeout .1 --expb --seed 189 --out docs/ladder.svg";

/// The options of `lab ladder`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The message from alice to bob
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

    #[command(flatten)]
    link: LinkArgs,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// Runs the exchange and draws it.
pub(super) fn run(args: &Args) -> Result<u8, LabError> {
    check_out(args)?;
    let policy = args.policy.resolve().map_err(LabError::Usage)?;
    let (up, down) = args.link.resolve().map_err(LabError::Usage)?;
    let exchange = Exchange {
        policy,
        up,
        down,
        message: args.message.clone().into_bytes(),
        seed: args.seed,
        register: args.register,
    };
    let ladder = play(origin(), &exchange).map_err(|error| LabError::Usage(error.to_string()))?;
    let heading = heading(args, &exchange);
    match &args.out {
        Some(path) if path.as_os_str() == "-" => print(&svg::draw(&ladder, &heading))?,
        Some(path) => {
            let file = (path.clone(), svg::draw(&ladder, &heading).into_bytes());
            write_all(&[file]).map_err(|error| LabError::Failed(error.to_string()))?;
        }
        None => print(&text::draw(&ladder, &heading, style(args)))?,
    }
    Ok(exit::OK)
}

/// Refuses another extension than that of an SVG, which programs would not recognise.
fn check_out(args: &Args) -> Result<(), LabError> {
    let is_svg = |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("svg"));
    match &args.out {
        Some(path) if path.as_os_str() != "-" && !is_svg(path) => {
            Err(LabError::Usage("--out writes SVG: let the file's name end with .svg".to_owned()))
        }
        _ => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "a virtual clock counts from some instant")]
fn origin() -> Instant {
    Instant::now()
}

/// Returns the heading: two lines, or three if the links are long.
fn heading(args: &Args, exchange: &Exchange) -> Vec<String> {
    let message = escape_short(&exchange.message, 60);
    let (up, down) = (exchange.up.to_string(), exchange.down.to_string());
    let link = if up == down { format!("link {up} each way") } else { format!("link up {up}, down {down}") };
    let policy = format!("policy {}, seed {}", args.policy.name(), exchange.seed);
    let mut lines = vec![format!("alice to bob: \"{message}\"")];
    if link.len() + policy.len() <= 48 {
        lines.push(format!("{policy}, {link}"));
    } else {
        lines.extend([policy, link]);
    }
    lines
}

fn style(args: &Args) -> Style {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let utf8 = ["utf-8", "utf8"].iter().any(|name| locale.to_lowercase().contains(name));
    let dumb = set("TERM").is_some_and(|term| term == "dumb");
    let colour = io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb;
    Style { ascii: args.ascii || !utf8, colour }
}
