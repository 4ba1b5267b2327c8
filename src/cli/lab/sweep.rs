//! `lab sweep`: makes a [`Sweep`] of the command line ([`Args`]) or a plan, and writes rows to a file, a table or JSON.
//! Trials are in `lab::sweep`.

#![expect(clippy::disallowed_types, reason = "programs own the system's randomness")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory as _};
use rand::CryptoRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use self::output::{CsvFile, Report};
use self::settings::SweepSettings;
use super::LabError;
use super::plot::note;
use crate::cli::server::draw_seed;
use crate::lab::sweep::assertion::Assertion;
use crate::lab::sweep::axis::{Axis, Parameter, combinations};
use crate::lab::sweep::column::Row;
use crate::lab::sweep::note::notes;
use crate::lab::sweep::plan::{self, MAX_PLAN};
use crate::lab::sweep::point::Point;
use crate::lab::sweep::real::RealServer;
use crate::lab::sweep::row::{Origin, REAL, VIRTUAL};
use crate::lab::sweep::run::{Experiment, Session};
use crate::lab::sweep::tally::Tally;
use crate::lab::sweep::trial;

mod output;
mod settings;
mod table;

/// Trials of one session in virtual time.
const VIRTUAL_SESSION: u64 = 1_000;

/// Trials of one session over sockets, and the number of concurrent sessions, which mostly wait.
const REAL_SESSION: u64 = 20;
const REAL_JOBS: usize = 64;

/// Bound on the threads.
const MAX_JOBS: i64 = 256;

/// Bound on the requests of one session, which are all queued at once.
const MAX_SESSION: u64 = 100_000;

/// Longest command line in a row, in bytes.
const MAX_COMMAND: usize = 1_000;

const AFTER_HELP: &str = "\
-P and -L vary loss, loss_up, loss_down, burst, delay, link, link_up, link_down, policy, timeout,
max_sends, max_timeout, deadline, jitter, size, interval and rto_min: each is the flag of that name.

    lab sweep -P loss 0 .5 -D .05 -L policy expb,coap,sip,rto --trials 10000 --out rows.csv
    lab sweep --loss .3 --expb --timeout .1 --assert 'success>=0.99'";

/// The options of `lab sweep`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP, args_override_self = true)]
pub(super) struct Args {
    /// A plan in TOML: the names of these flags as keys, and tables `scan` and `list`; flags override it
    #[arg(value_name = "PLAN")]
    plan: Option<PathBuf>,

    /// Vary a parameter from one number to another, both included; -D is the step
    #[arg(short = 'P', long, num_args = 3, value_names = ["VAR", "FROM", "TO"], allow_hyphen_values = true)]
    parameter_scan: Vec<String>,

    /// The step of the -P before it
    #[arg(short = 'D', long, value_name = "STEP", allow_hyphen_values = true)]
    parameter_step_size: Vec<String>,

    /// Vary a parameter over a list of values
    #[arg(short = 'L', long, num_args = 2, value_names = ["VAR", "VALUE,.."], allow_hyphen_values = true)]
    parameter_list: Vec<String>,

    /// Requests at each point
    #[arg(long, value_name = "N", default_value = "1000", allow_hyphen_values = true)]
    trials: NonZeroU64,

    /// Requests of one session, one after the other, 100000 at most [default: 1000, or 20 with --real; where losses depend
    /// on each other as many as leave 100 sessions]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_SESSION))]
    session_trials: Option<u64>,

    /// The seed, which makes the run repeatable [default: drawn, and written into every row]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<u64>,

    /// Threads; the results do not depend on them [default: one per processor; 64 with --real]
    #[arg(long, short, value_name = "N", allow_hyphen_values = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_JOBS))]
    jobs: Option<u16>,

    /// Write the rows into this file, as they come
    #[arg(long, short, value_name = "FILE.csv")]
    out: Option<PathBuf>,

    /// Print one JSON object per row instead of the table
    #[arg(long)]
    json: bool,

    /// Fail with exit code 6 unless this holds for every row: a column, a comparison, a number, as in success>=0.99
    #[arg(long = "assert", value_name = "CHECK")]
    assertions: Vec<Assertion>,

    /// Real sockets and the real clock, on loopback, instead of virtual time
    #[arg(long)]
    real: bool,

    /// Last, because the headings of its parts apply to all following flags.
    #[command(flatten)]
    settings: SweepSettings,
}

/// Flags that affect the destination and the speed of the results, not their values.
const NOT_RECORDED: [&str; 5] = ["plan", "jobs", "out", "json", "seed"];

impl Args {
    /// Returns the path of the plan, if there is one.
    pub(super) fn plan(&self) -> Option<&Path> {
        self.plan.as_deref()
    }

    /// Returns the names of the typed flags, and of the varied parameters. Assertions are not included: they add up.
    pub(super) fn typed(&self, matches: &ArgMatches) -> Vec<String> {
        let flags =
            arguments().into_iter().filter(|arg| is_typed(matches, arg) && arg.get_id() != "assertions");
        let flags = flags.filter_map(|arg| arg.get_long().map(str::to_owned));
        let scans = self.parameter_scan.iter().step_by(3);
        let varied = scans.chain(self.parameter_list.iter().step_by(2)).map(|name| name.replace('_', "-"));
        // --expb sets the policy too.
        let policy = self.settings.names_policy().then(|| ["policy", "expb"].map(str::to_owned));
        flags.chain(varied).chain(policy.into_iter().flatten()).collect()
    }
}

/// Returns the words of the command line that a plan stands for.
pub(super) fn read_plan(path: &Path, typed: &[String]) -> Result<Vec<OsString>, LabError> {
    let name = path.display();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_PLAN + 1).read_to_string(&mut text));
    read.map_err(|error| LabError::Usage(format!("cannot read the plan {name}: {error}")))?;
    if text.len() as u64 > MAX_PLAN {
        return Err(LabError::Usage(format!("the plan {name} is longer than 1 MiB")));
    }
    let words =
        plan::words(&text, &flags(), typed).map_err(|why| LabError::Usage(format!("{name}: {why}")))?;
    Ok(words.into_iter().map(OsString::from).collect())
}

/// Returns the flags that a plan may set.
fn flags() -> Vec<String> {
    let except = ["help", "version", "parameter-scan", "parameter-step-size", "parameter-list"];
    let longs = arguments().into_iter().filter_map(|arg| arg.get_long().map(str::to_owned));
    longs.filter(|long| !except.contains(&long.as_str())).collect()
}

/// Returns all flags of `lab sweep`.
fn arguments() -> Vec<Arg> {
    let command = super::Args::command();
    let sweep = command.get_subcommands().find(|command| command.get_name() == "sweep");
    sweep.into_iter().flat_map(|sweep| sweep.get_arguments()).cloned().collect()
}

fn is_typed(matches: &ArgMatches, arg: &Arg) -> bool {
    matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Returns the command line that gives the same rows: typed and planned flags, without the destination of the rows.
pub(super) fn recorded(matches: &ArgMatches, seed: u64) -> String {
    let mut words = vec!["lab".to_owned(), "sweep".to_owned()];
    let recorded = |arg: &&Arg| is_typed(matches, arg) && !NOT_RECORDED.contains(&arg.get_id().as_str());
    for arg in arguments().iter().filter(recorded) {
        let id = arg.get_id().as_str();
        for values in matches.get_raw_occurrences(id).into_iter().flatten() {
            words.push(name_of(arg));
            if arg.get_action().takes_values() {
                words.extend(values.map(quoted));
            }
        }
    }
    words.push(format!("--seed {seed}"));
    Some(words.join(" "))
        .filter(|line| line.len() <= MAX_COMMAND)
        .unwrap_or_else(|| "lab sweep (too long to tell)".to_owned())
}

/// Returns the usual form of a flag: the short one if there is one, as for varied parameters.
fn name_of(arg: &Arg) -> String {
    let long = || format!("--{}", arg.get_long().unwrap_or_default());
    arg.get_short().map_or_else(long, |short| format!("-{short}"))
}

/// Quotes a word for a shell; a comma needs no quotes without braces.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.,:=+-/".contains(&byte))
        && !word.is_empty()
    {
        return word.into_owned();
    }
    shlex::try_quote(&word).map_or_else(|_| String::from("?"), |quoted| quoted.into_owned())
}

/// The options, checked and complete.
struct Sweep {
    experiment: Experiment,
    origin: Origin,
    axes: Vec<Axis>,
    assertions: Vec<Assertion>,
    real: bool,
    notes: Vec<String>,
}

fn resolve(args: &Args, matches: &ArgMatches) -> Result<Sweep, String> {
    let axes = axes(args)?;
    for Axis { parameter, .. } in &axes {
        let flag = parameter.to_string();
        let has_flag = matches.try_get_raw(&flag).is_ok();
        let is_typed = has_flag && matches.value_source(&flag) == Some(ValueSource::CommandLine);
        if is_typed || (*parameter == Parameter::Policy && args.settings.names_policy()) {
            return Err(format!("{parameter} is varied, and set by its flag as well; leave one of them out"));
        }
    }
    let points: Vec<Point> =
        combinations(&axes)?.iter().map(|one| args.settings.point(one)).collect::<Result<_, _>>()?;
    args.settings.check_rto_min(&points)?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => draw_seed().map_err(|error| error.to_string())?,
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (session, jobs) = match args.real {
        // Requests with due times mostly wait; sessions of one request each wait concurrently.
        true if points.iter().any(Point::has_cycle) => (1, REAL_JOBS),
        true => (REAL_SESSION, REAL_JOBS),
        false => (VIRTUAL_SESSION, processors),
    };
    let experiment = Experiment {
        points,
        trials: args.trials.get(),
        session_trials: args.session_trials,
        longest_session: session,
        seed,
        jobs: args.jobs.map_or(jobs, usize::from),
    };
    let mode = if args.real { REAL } else { VIRTUAL };
    let origin = Origin { command: recorded(matches, seed), mode, seed };
    let sends_are_set =
        args.settings.sets_max_sends() || axes.iter().any(|axis| axis.parameter == Parameter::MaxSends);
    let notes = notes(&experiment, sends_are_set);
    Ok(Sweep { experiment, origin, axes, assertions: args.assertions.clone(), real: args.real, notes })
}

/// Lists before ranges, so that the table shows a range within each value of a list.
fn axes(args: &Args) -> Result<Vec<Axis>, String> {
    let scans = args.parameter_scan.chunks_exact(3);
    if scans.len() != args.parameter_step_size.len() {
        return Err("each -P needs a step of its own: -P loss 0 .5 -D .05".to_owned());
    }
    let lists = args.parameter_list.chunks_exact(2).filter_map(|words| match words {
        [parameter, values] => Some(parameter.parse().and_then(|parameter| Axis::list(parameter, values))),
        _ => None,
    });
    let scans = scans.zip(&args.parameter_step_size).filter_map(|(words, step)| match words {
        [parameter, from, to] => {
            Some(parameter.parse().and_then(|parameter| Axis::range(parameter, from, to, step)))
        }
        _ => None,
    });
    lists.chain(scans).collect()
}

/// Runs a sweep. Returns the exit code.
pub(super) fn run(args: &Args, matches: &ArgMatches) -> Result<u8, LabError> {
    let sweep = resolve(args, matches).map_err(LabError::Usage)?;
    check_out(args).map_err(LabError::Usage)?;
    let server = sweep.real.then(|| RealServer::start(secrets)).transpose();
    let server = server.map_err(|error| LabError::Failed(error.to_string()))?;
    let file = args.out.as_deref().map(CsvFile::create).transpose()?;
    let mut report = Report::new(&sweep, file, args.json);
    sweep.notes.iter().for_each(|what| note(what));
    report.begin()?;
    match &server {
        Some(server) => sweep.run_real(&mut report, server),
        None => sweep.run_virtual(&mut report),
    }
    .map_err(LabError::Failed)?;
    report.bar.finish_and_clear();
    Ok(report.conclude())
}

/// Refuses invalid paths of `--out`.
fn check_out(args: &Args) -> Result<(), String> {
    let Some(out) = &args.out else { return Ok(()) };
    if out.as_os_str() == "-" {
        return Err("--out needs a file; --json prints the rows".to_owned());
    }
    let same = |plan: &PathBuf| {
        plan.canonicalize().is_ok_and(|plan| out.canonicalize().is_ok_and(|out| out == plan))
    };
    if args.plan.as_ref().is_some_and(same) {
        return Err("the rows would take the place of the plan; name another file with --out".to_owned());
    }
    Ok(())
}

impl Sweep {
    #[expect(clippy::disallowed_methods, reason = "virtual time needs some instant to count from")]
    fn run_virtual(&self, report: &mut Report<'_>) -> Result<(), String> {
        let start = Instant::now();
        self.run_with(report, &|point, seed, trials| {
            trial::session(start, point, seed, trials)
                .map_err(|stuck| format!("{stuck}; seed {}", self.origin.seed))
        })
    }

    fn run_real(&self, report: &mut Report<'_>, server: &RealServer) -> Result<(), String> {
        self.run_with(report, &|point, seed, trials| {
            server.session(point, seed, trials).map_err(|error| error.to_string())
        })
    }

    fn run_with(&self, report: &mut Report<'_>, session: Session<'_>) -> Result<(), String> {
        let bar = report.bar.clone();
        let mut each = |point: &Point, tally: &Tally| report.row(&Row::new(&self.origin, point, tally));
        self.experiment.run(session, &mut |through| bar.set_position(through), &mut each)
    }
}

/// The source of tokens and keys; cryptographic on loopback too.
fn secrets() -> Box<dyn CryptoRng + Send> {
    Box::new(UnwrapErr(SysRng))
}
