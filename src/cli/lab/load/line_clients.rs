//! `lab load spam` and `lab load slow`: the options of Trio Chat's two clients, which print while they run.

use std::io;
use std::time::Duration;

use super::LabError;
use super::common::Setting;
use crate::cli::lab::output::print;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::sockets::load::line_clients::LineClient;
use crate::lab::sockets::load::target_server::ListenerKind;
use crate::units::{AtLeastOne, ByteSize, PositiveSeconds, Seconds};

/// The options of `spam`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SpamArgs {
    /// Most lines [default: as many as are taken]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    count: Option<AtLeastOne>,

    /// Time limit
    #[arg(long, value_name = "SECS", default_value = "10", allow_hyphen_values = true)]
    seconds: PositiveSeconds,

    /// Bytes in a line, its end included
    #[arg(long, value_name = "SIZE", default_value = "1000", allow_hyphen_values = true)]
    size: ByteSize,

    /// The name of the client
    #[arg(long, default_value = "spam")]
    name: String,

    #[command(flatten)]
    setting: Setting,
}

/// The options of `slow`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SlowArgs {
    /// Duration
    #[arg(long, value_name = "SECS", default_value = "60", allow_hyphen_values = true)]
    seconds: PositiveSeconds,

    /// Bytes of one read
    #[arg(long, value_name = "SIZE", default_value = "2600", allow_hyphen_values = true)]
    bytes: ByteSize,

    /// The pause after it
    #[arg(long, value_name = "SECS", default_value = "1", allow_hyphen_values = true)]
    pause: Seconds,

    /// The name of the client
    #[arg(long, default_value = "slow")]
    name: String,

    #[command(flatten)]
    setting: Setting,
}

/// Longest line of a line listener, and bound on a single read, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Checks a number of bytes: at least `least`, and within the bound.
fn within(flag: &str, size: ByteSize, least: usize) -> Result<usize, LabError> {
    let bytes = Some(size.get()).filter(|bytes| (least..=MAX_BYTES).contains(bytes));
    bytes.ok_or_else(|| LabError::Usage(format!("{flag} must be {least} to {MAX_BYTES} bytes, not {size}")))
}

/// Checks a name: one word, as line listeners accept it.
fn checked(name: &str) -> Result<&str, LabError> {
    let is_word =
        !name.is_empty() && !name.starts_with('/') && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word {
        Ok(name)
    } else {
        Err(LabError::Usage("--name is one word of letters and digits".to_owned()))
    }
}

/// The text was printed during the run.
fn told(_: &LoadOutcome) -> String {
    String::new()
}

impl SpamArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        let (size, name) = (within("--size", self.size, 2)?, checked(&self.name)?);
        let limits =
            (self.count.map_or(u64::MAX, |count| count.get().get() as u64), self.seconds.as_duration());
        let mut outcome = LoadOutcome {
            workload: "spam",
            peer: "lines",
            clients: 1,
            size: Some(size as u64),
            ..LoadOutcome::default()
        };
        let tell = |number: u64, took: Duration| {
            self.tell(&format!("Sent #{number} in {:.3}s\n", took.as_secs_f64()))
        };
        self.setting.measure(ListenerKind::Line, &mut outcome, told, |target, interrupt, outcome| {
            let client = LineClient::enter(target.addr, name, interrupt)?;
            let meter = target.meter();
            outcome.count = client.spam(limits, size, interrupt, &mut |number, took| tell(number, took))?;
            meter.read_now(outcome);
            Ok(())
        })
    }

    fn tell(&self, line: &str) -> io::Result<()> {
        if self.setting.is_text() { print(line).map_err(io::Error::other) } else { Ok(()) }
    }
}

impl SlowArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        let (bytes, name) = (within("--bytes", self.bytes, 1)?, checked(&self.name)?);
        let times = (self.seconds.as_duration(), self.pause.as_duration());
        let mut outcome =
            LoadOutcome { workload: "slow", peer: "lines", clients: 1, ..LoadOutcome::default() };
        self.setting.measure(ListenerKind::Line, &mut outcome, told, |target, interrupt, outcome| {
            let client = LineClient::enter(target.addr, name, interrupt)?;
            let meter = target.meter();
            outcome.count = client.listen_slowly(times, bytes, interrupt, &mut |n| self.tell(n))?;
            meter.read_now(outcome);
            Ok(())
        })
    }

    fn tell(&self, bytes: usize) -> io::Result<()> {
        if !self.setting.is_text() {
            return Ok(());
        }
        print(&format!("Received {bytes} bytes\n")).map_err(io::Error::other)
    }
}
