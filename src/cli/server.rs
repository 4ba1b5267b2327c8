//! The command line of the server: as typed ([`Args`]) -> resolved ([`Plan`]) -> [`run`].

#![expect(clippy::disallowed_types, reason = "programs own the system's randomness")]

use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use ipnet::IpNet;
use log::LevelFilter;
use rand::rngs::SysRng;
use rand::{SeedableRng as _, TryRng as _};
use rand_chacha::ChaCha20Rng;

use super::link::LinkArgs;
use super::logging::print_unless_stuck;
use super::{TOTALS, exit, rules};
use crate::config::ServerConfig;
use crate::escape::escape_short;
use crate::hub::{HubConfig, SlowPolicy};
use crate::link::{LinkConfig, LossModel};
use crate::net::{self, Doors, Ended, Engine, EngineKind, ListenError, Signals, open_files};
use crate::reliable::PushTimeouts;
use crate::server::Server;
use crate::units::{AtLeastOne, ByteSize, Count, PositiveSeconds, Probability, Seconds};

mod doors;

use doors::DoorArgs;
pub use doors::Listening;

/// The bounds of `--max-datagram`: what every IPv4 host can take, and what fits into an IPv4 datagram, in bytes.
const MAX_DATAGRAM: (usize, usize) = (576, 65_507);

const AFTER_HELP: &str = "\
Times are seconds, or a number with ms, s, m or h; sizes are bytes, or a number with KiB, MiB or GiB.

SIGINT or SIGTERM ends the server: it says BYE to everybody, for 10 seconds at most, and
says when it will be back if --back-in does. SIGUSR1 logs the totals.
SIGHUP reads the --rules again, all or nothing, and ends the sessions that they do not allow any more, and the connections that could
not register under any name; without --rules it ends the server, too.

A log that is not read never stops the server: 1 MiB of it waits, what does not fit is dropped, and its place says how many lines.

Exit codes:
    0  ended when asked to
    1  cannot serve
    2  the command line makes no sense
  130  asked to end twice";

fn after_help() -> String {
    format!("{}\n\n{AFTER_HELP}", doors::HELP)
}

/// The options as they are typed.
#[derive(Clone, Debug, Parser)]
#[command(name = "server", version, about = "Serves one chat over TCP, over lossy UDP, over UNIX sockets, and to people with netcat", after_help = after_help())]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    doors: DoorArgs,

    /// Share of what comes in that is accepted, 0 to 1: of datagrams, and on streams of tagged requests
    #[arg(long, value_name = "P", default_value = "1", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["link", "link_up", "profile"])]
    success: Probability,

    /// Share of what goes out that is lost on purpose, 0 to 1: of datagrams, and on streams of answers to tagged requests
    #[arg(long, value_name = "P", default_value = "0", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["link", "link_down", "profile"])]
    loss_out: Probability,

    #[command(flatten)]
    link: LinkArgs,

    /// Makes the losses the same in every run [default: drawn, and logged]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<u64>,

    /// First retransmission timeout of a message over UDP
    #[arg(long, value_name = "SECS", default_value = ".1", allow_hyphen_values = true)]
    timeout: PositiveSeconds,

    /// Longest retransmission timeout that doubling reaches [default: 1, or --timeout if that is more]
    #[arg(long, value_name = "SECS", allow_hyphen_values = true)]
    max_timeout: Option<PositiveSeconds>,

    /// How long a session on a stream outlives its connection
    #[arg(long, value_name = "SECS", default_value = "30", allow_hyphen_values = true)]
    linger: Seconds,

    /// How long a session over UDP lives after the last datagram from it
    #[arg(long, value_name = "SECS", default_value = "90", allow_hyphen_values = true)]
    idle: PositiveSeconds,

    /// Longest payload of a frame that is read
    #[arg(long, value_name = "SIZE", default_value = "16MiB", allow_hyphen_values = true)]
    max_message: ByteSize,

    /// Most that waits for one session: queued, not written yet, or sent and not acknowledged
    #[arg(long, value_name = "SIZE", default_value = "16MiB", allow_hyphen_values = true)]
    max_pending: ByteSize,

    /// Most messages that wait for one session, 1 or more
    #[arg(long, value_name = "N", default_value = "65536", allow_hyphen_values = true)]
    max_pending_messages: AtLeastOne,

    /// When a member of a room has no room for a message: drop-new (it misses it), drop-old (it misses the oldest that
    /// wait), disconnect (its session ends) or block (the sender is not read until there is room)
    #[arg(long, value_name = "POLICY", default_value_t)]
    slow: SlowPolicy,

    /// Most that all clients together make the server keep: messages (a long one to many counts once), rooms, answers that
    /// are not read, and frames that are not complete; docs/limits.md says what happens then
    #[arg(long, value_name = "SIZE", default_value = "1GiB", allow_hyphen_values = true)]
    max_memory: ByteSize,

    /// Largest datagram that is sent, 576 to 65507
    #[arg(long, value_name = "SIZE", default_value = "1200", allow_hyphen_values = true)]
    max_datagram: ByteSize,

    /// Networks from which a plain REG over UDP needs no proof of address; an empty text means none
    #[arg(long, value_name = "CIDR,..", default_value = "127.0.0.0/8,::1/128")]
    bare_udp: Networks,

    /// Most stream connections at once [default: the limit of open files, which is raised as far as it may be, less 64 or
    /// an eighth of it, whichever is less]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_connections: Option<AtLeastOne>,

    /// Most sessions at once, over streams and UDP. Of these and of the connections a sixteenth (8 to 64, a quarter at most)
    /// is kept for loopback and UNIX sockets
    #[arg(long, value_name = "N", default_value = "1048576", allow_hyphen_values = true)]
    max_sessions: AtLeastOne,

    /// Most stream connections, sessions that linger and sessions over UDP at once from one IPv4 address or IPv6 /64, all
    /// together, but for loopback; 0 is no limit
    #[arg(long, value_name = "N", default_value = "100", allow_hyphen_values = true)]
    max_per_host: Count,

    /// How long a connection may take to register; only pings give it as long again, for a day at most
    #[arg(long, value_name = "SECS", default_value = "60", allow_hyphen_values = true)]
    register_timeout: PositiveSeconds,

    /// How long a frame may take once begun, and a second more per 64 KiB of it
    #[arg(long, value_name = "SECS", default_value = "10", allow_hyphen_values = true)]
    frame_timeout: PositiveSeconds,

    /// What a server that shuts down tells its clients: how long until it expects to be back. Clients with a retry policy come
    /// back after that time; without it, by their backoff
    #[arg(long, value_name = "SECS", allow_hyphen_values = true)]
    back_in: Option<Seconds>,

    /// Who may use which name from where, in TOML; `server rules check --help` shows such a file [default: every name is
    /// open]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Who waits for sockets: poll (readiness loops), tasks (a task per connection) or threads (a thread per
    /// connection)
    #[arg(long, value_name = "ENGINE", default_value_t)]
    engine: EngineKind,

    /// How many readiness loops --engine poll has [default: one for every second processor, at least one]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    loops: Option<AtLeastOne>,

    /// Log more: each session and connection as it comes and goes
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Log errors only, and the totals
    #[arg(short, long)]
    quiet: bool,
}

/// What to do instead of serving.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Access rules for names
    Rules(rules::Args),
}

/// A list of networks, separated by commas; an address is a network of one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Networks(Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(word: &str) -> Result<IpNet, String> {
    let net = word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| {
        format!("`{}` is not a network; write 10.0.0.0/8 or ::1", escape_short(word.as_bytes(), 40))
    })
}

/// What was typed, checked and complete.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to listen.
    pub listen: Listening,
    /// How to serve.
    pub config: ServerConfig,
    /// The file that the rules came from, to be read again.
    pub rules: Option<PathBuf>,
    /// Most connections, if that was said; otherwise it is for the system to say.
    pub max_connections: Option<NonZeroUsize>,
    /// Who waits for sockets.
    pub engine: EngineKind,
    /// How many readiness loops it has, if it has such.
    pub loops: NonZeroUsize,
}

impl Args {
    /// Starts logging as loudly as was asked for.
    pub fn start_logging(&self) {
        super::start_queued_logging(LevelFilter::Info, self.verbose, self.quiet);
    }

    /// Does what was asked for instead of serving, if that was. Returns the exit code.
    #[must_use]
    pub fn run_command(&self) -> Option<u8> {
        match self.command.as_ref()? {
            Command::Rules(args) => Some(rules::run(args)),
        }
    }

    /// Resolves what was typed; `drawn` is the seed if none was named.
    ///
    /// # Errors
    ///
    /// Options that are fine one by one and make no sense together, as clap reports them: exit code 2.
    pub fn resolve(self, drawn: u64) -> Result<Plan, clap::Error> {
        let (link_in, link_out) = self.links()?;
        let first = self.timeout.as_duration();
        let usual = PushTimeouts::default().longest.max(first);
        let longest = self.max_timeout.map_or(usual, PositiveSeconds::as_duration);
        if longest < first {
            return Err(usage(format!("--max-timeout must not be below --timeout ({})", self.timeout)));
        }
        let push_timeouts = PushTimeouts { first, longest };
        let max_datagram = self.max_datagram.get();
        let (least, most) = MAX_DATAGRAM;
        if !(least..=most).contains(&max_datagram) {
            return Err(usage(format!("--max-datagram must be {least} to {most} bytes, not {max_datagram}")));
        }
        let hub = HubConfig {
            max_pending: self.max_pending.get(),
            max_pending_messages: self.max_pending_messages.get().get(),
            slow: self.slow,
            max_memory: self.max_memory.get(),
            max_sessions: self.max_sessions.get().get(),
            push_timeouts,
            ..HubConfig::default()
        };
        let listen = self.doors.resolve().map_err(usage)?;
        let read = |path: &PathBuf| rules::load_for(path, &doors_of(&listen)).map_err(usage);
        let rules = self.rules.as_ref().map(read).transpose()?.unwrap_or_default();
        let usual = ServerConfig::default();
        let config = ServerConfig {
            hub,
            doors: Vec::new(),
            link_in,
            link_out,
            seed: self.seed.unwrap_or(drawn),
            linger: self.linger.as_duration(),
            idle: self.idle.as_duration(),
            max_message: self.max_message.get(),
            max_datagram,
            max_connections: usual.max_connections,
            max_per_host: self.max_per_host.get(),
            register_timeout: self.register_timeout.as_duration(),
            frame_timeout: self.frame_timeout.as_duration(),
            back_in: self.back_in.map(Seconds::as_duration),
            bare_udp: self.bare_udp.0,
            rules,
        };
        Ok(Plan {
            listen,
            config,
            rules: self.rules,
            max_connections: self.max_connections.map(AtLeastOne::get),
            engine: self.engine,
            loops: self.loops.map_or_else(net::usual_loops, AtLeastOne::get),
        })
    }

    /// The simulated network, to the server and from it. The short forms stand where no other names that direction.
    fn links(&self) -> Result<(LinkConfig, LinkConfig), clap::Error> {
        let (mut link_in, mut link_out) = self.link.resolve().map_err(usage)?;
        let short = |link: &mut LinkConfig, loss: Probability| {
            if loss != Probability::ZERO {
                link.loss = LossModel::from(loss);
            }
        };
        short(&mut link_in, self.success.complement());
        short(&mut link_out, self.loss_out);
        Ok((link_in, link_out))
    }
}

/// What access rules call the doors of a server.
fn doors_of(listen: &Listening) -> Vec<String> {
    let pair = listen.pair.as_ref().into_iter();
    let pair = pair.flat_map(|pair| [(pair.tcp, "tcp"), (pair.udp, "udp")]);
    let short = pair.filter(|(is_open, _)| *is_open).map(|(_, name)| name.to_owned());
    let mut names: Vec<String> = short.chain(listen.urls.iter().map(|url| url.door.name.clone())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn usage(message: String) -> clap::Error {
    Args::command().error(ErrorKind::ValueValidation, message)
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// It cannot wait for what comes.
    #[error("cannot wait for sockets and signals: {0}; raise the limit of open files (ulimit -n)")]
    Wait(#[from] io::Error),
    /// It has nothing to draw tokens and keys from.
    #[error("the system has no randomness: {0}")]
    Randomness(#[from] rand::rngs::SysError),
    /// A part of it has panicked.
    #[error("the server has a bug and stopped; please report the panic above")]
    Panicked,
}

/// A seed from the system's randomness.
///
/// # Errors
///
/// The system has none.
pub fn draw_seed() -> Result<u64, ServeError> {
    Ok(SysRng.try_next_u64()?)
}

/// Serves until asked to end. Returns the exit code.
///
/// # Errors
///
/// It could not begin, or a bug ended it: exit code 1.
pub fn run(plan: Plan) -> Result<u8, ServeError> {
    let Plan { listen, mut config, rules, max_connections, engine, loops } = plan;
    config.max_connections = room_for_connections(max_connections, engine);
    let door_names = doors_of(&listen);
    let secrets = ChaCha20Rng::try_from_rng(&mut SysRng)?;
    let doors = listen.bind()?;
    config.doors = doors.list();
    let signals = Signals::new()?;
    announce(&doors);
    log_losses(&config, doors.has_streams());
    let engine = Engine::start_with(engine, loops, doors, |now| Server::new(now, config, Box::new(secrets)))?;
    let report = |server: &Server| log::info!(target: TOTALS, "{}", server.totals());
    let reload = rules.map(|path| move |engine: &Engine<Server>| rules::reload(&path, &door_names, engine));
    match net::serve(engine, signals, report, reload) {
        Ended::Drained | Ended::Late => Ok(exit::OK),
        Ended::Interrupted => Ok(exit::INTERRUPTED),
        Ended::Failed => Err(ServeError::Panicked),
    }
}

/// Most connections that there may be: as many as was said, or else as there is room for in the limit of open files. For
/// more threads than the system allows there is none, whatever was said.
fn room_for_connections(wanted: Option<NonZeroUsize>, engine: EngineKind) -> usize {
    let by_files = room_by_files(wanted);
    let by_threads = match engine {
        EngineKind::Threads => open_files::connections_by_threads(),
        EngineKind::Poll | EngineKind::Tasks => usize::MAX,
    };
    if by_threads < by_files {
        log::warn!(
            "--engine threads: the system has threads for {by_threads} connections (vm.max_map_count), not more"
        );
    }
    by_files.min(by_threads)
}

fn room_by_files(wanted: Option<NonZeroUsize>) -> usize {
    let open_files = open_files::raise_open_files();
    let room = open_files::connections_within(open_files);
    let Some(wanted) = wanted.map(NonZeroUsize::get) else { return room };
    if wanted > room {
        log::warn!(
            "--max-connections {wanted}: the limit of open files is {open_files} (ulimit -n), enough for {room}"
        );
    }
    wanted
}

/// Says on standard output where it listens. Nobody has to be reading it.
fn announce(doors: &Doors) {
    if let Err(error) = print_unless_stuck(doors::announcement(doors)) {
        log::warn!("cannot print where it listens: {error}");
    }
}

fn log_losses(config: &ServerConfig, has_streams: bool) {
    let (link_in, link_out) = (shown(&config.link_in), shown(&config.link_out));
    log::info!("simulated loss: {link_in} in, {link_out} out, seed {}", config.seed);
    if has_streams && !(config.link_in.only_loses() && config.link_out.only_loses()) {
        log::info!("over streams nothing is simulated but loss, of tagged requests and the answers to them");
    }
}

/// A plain loss as a share, all else as it is typed.
fn shown(link: &LinkConfig) -> String {
    match &link.loss {
        loss @ (LossModel::None | LossModel::Bernoulli(_)) if link.only_loses() => {
            let rate = loss.rate().map_or(0.0, Probability::get);
            format!("{:.1} %", rate * 100.0)
        }
        _ => link.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(words: &[&str]) -> Result<Plan, clap::Error> {
        Args::try_parse_from([&["server"], words].concat())?.resolve(77)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn nothing_typed_is_the_librarys_own_defaults() {
        let Plan { config, max_connections, engine, .. } = resolve(&[]).unwrap();
        assert_eq!((max_connections, engine), (None, EngineKind::default()));
        assert_eq!(
            format!("{config:?}"),
            format!("{:?}", ServerConfig { seed: 77, ..ServerConfig::default() })
        );
    }

    #[test]
    fn success_is_the_share_that_is_not_lost() {
        let config = resolve(&["--success", ".75", "--loss-out", ".5", "--seed", "1"]).unwrap().config;
        assert_eq!((config.link_in.to_string(), config.link_out.to_string()), texts("iid:0.25", "iid:0.5"));
        assert_eq!(config.seed, 1);
    }

    fn texts(up: &str, down: &str) -> (String, String) {
        (up.to_owned(), down.to_owned())
    }

    #[test]
    fn a_link_is_what_comes_in_and_goes_out_and_stands_beside_the_short_form_of_the_other_direction() {
        let links = |line: &[&str]| {
            let config = resolve(line).unwrap().config;
            (config.link_in.to_string(), config.link_out.to_string())
        };
        assert_eq!(
            links(&["--link", "iid:.1", "--link-up", "delay:1s"]),
            texts("iid:0.1+delay:1s", "iid:0.1")
        );
        assert_eq!(links(&["--link-up", "list:1", "--loss-out", ".5"]), texts("list:1", "iid:0.5"));
        assert_eq!(links(&["--success", ".5", "--link-down", "delay:1s"]), texts("iid:0.5", "delay:1s"));
        assert_eq!(links(&["--profile", "wifi"]).0, "iid:0.002+delay:0.02s+rate:30mbit");
    }

    #[test]
    fn a_plain_loss_is_logged_as_a_share_and_all_else_as_its_text() {
        let shown = |spec: &str| shown(&spec.parse().unwrap());
        assert_eq!(shown("none"), "0.0 %");
        assert_eq!(shown("iid:.5"), "50.0 %");
        assert_eq!(shown("gilbert:.1,5"), "gilbert:0.1,5");
        assert_eq!(shown("iid:.5+mtu:900"), "iid:0.5+mtu:900");
    }

    #[test]
    fn networks_are_a_list_of_any_length() {
        let nets = |text: &str| resolve(&["--bare-udp", text]).unwrap().config.bare_udp;
        assert_eq!(nets(""), []);
        assert_eq!(nets("10.0.0.0/8, ::1"), ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        assert!(resolve(&["--bare-udp", "10.0.0.0/8,home"]).unwrap_err().to_string().contains("`home`"));
    }

    #[test]
    fn every_number_that_makes_no_sense_is_a_usage_error_that_names_it() {
        let timed = ["--timeout", "--max-timeout", "--idle", "--register-timeout", "--frame-timeout"];
        let wrong = ["0", "-1", "-1e-300", "NaN", "inf", "1e300", "x"];
        let mut lines: Vec<[&str; 2]> = Vec::new();
        lines.extend(timed.iter().flat_map(|option| wrong.map(|text| [*option, text])));
        lines.extend(["-1", "NaN", "1e300"].map(|text| ["--linger", text]));
        for option in ["--success", "--loss-out"] {
            lines.extend(["-0.1", "1.1", "NaN", "-inf", "1e300"].map(|text| [option, text]));
        }
        for option in ["--max-message", "--max-pending", "--max-memory", "--max-datagram"] {
            lines.extend(["-1", "1e300", "NaN", "99999999999G"].map(|text| [option, text]));
        }
        for option in ["--max-connections", "--max-per-host", "--max-pending-messages", "--max-sessions"] {
            lines.extend(["-1", "1e300", "", "-", "+1", "99999999999999999999"].map(|text| [option, text]));
        }
        for line in lines {
            let error = resolve(&line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
            let text = error.to_string();
            assert!(text.contains(&format!("`{}` is not a", line[1])), "{line:?}: {text}");
        }
        for option in ["--max-connections", "--max-pending-messages", "--max-sessions"] {
            let text = resolve(&[option, "0"]).unwrap_err().to_string();
            assert!(
                text.contains(&format!("'{option} <N>': `0` is not enough: it must be at least 1")),
                "{text}"
            );
        }
    }

    #[test]
    fn how_many_may_connect_is_for_the_user_to_say_and_for_the_system_otherwise() {
        let Plan { config, max_connections, .. } =
            resolve(&["--max-connections", "7", "--max-per-host", "0"]).unwrap();
        assert_eq!((max_connections, config.max_per_host), (NonZeroUsize::new(7), 0));
        assert_eq!(resolve(&["--max-sessions", "9"]).unwrap().config.hub.max_sessions, 9);
        for engine in EngineKind::ALL {
            assert_eq!(room_for_connections(NonZeroUsize::new(7), engine), 7);
        }
        let room = room_for_connections(None, EngineKind::Poll);
        assert!(room > 0 && room == open_files::connections_within(open_files::raise_open_files()));
        let by_threads = room_for_connections(NonZeroUsize::new(usize::MAX), EngineKind::Threads);
        assert_eq!(by_threads, open_files::connections_by_threads());
    }

    #[test]
    fn what_becomes_of_slow_readers_is_chosen_by_name() {
        let hub = |line: &[&str]| resolve(line).unwrap().config.hub;
        assert_eq!(hub(&["--slow", "drop-old"]).slow, SlowPolicy::DropOld);
        assert_eq!(hub(&["--slow", "block", "--max-pending-messages", "1"]).max_pending_messages, 1);
        for line in [["--slow", "drop"], ["--slow", ""], ["--max-pending-messages", "0"]] {
            let error = resolve(&line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
            assert!(error.to_string().contains(line[0]), "{error}");
        }
        let error = resolve(&["--slow", "drop"]).unwrap_err().to_string();
        assert!(
            error.contains("`drop` is not a policy; write drop-new, drop-old, disconnect or block"),
            "{error}"
        );
    }

    #[test]
    fn options_that_contradict_each_other_are_usage_errors() {
        let lines: [&[&str]; 9] = [
            &["--success", ".5", "--link", "delay:1s"],
            &["--success", ".5", "--link-up", "iid:.1"],
            &["--success", ".5", "--profile", "3g"],
            &["--loss-out", ".5", "--link-down", "iid:.1"],
            &["--loss-out", "0", "--profile", "3g"],
            &["--timeout", "1s", "--max-timeout", "500ms"],
            &["--max-datagram", "575"],
            &["--max-datagram", "65508"],
            &["-v", "-q"],
        ];
        for line in lines {
            assert_eq!(resolve(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn the_longest_timeout_is_a_second_or_the_first_if_that_is_more() {
        let timeouts = |line: &[&str]| {
            let PushTimeouts { first, longest } = resolve(line).unwrap().config.hub.push_timeouts;
            (first.as_millis(), longest.as_millis())
        };
        assert_eq!(timeouts(&[]), (100, 1_000));
        assert_eq!(timeouts(&["--timeout", "2"]), (2_000, 2_000));
        assert_eq!(timeouts(&["--timeout", "1.5", "--max-timeout", "2"]), (1_500, 2_000));
    }
}
