//! `lab load engines`: runs the engines of our server in turn, and compares them. The table is that of `lab compare`.

use std::rc::Rc;
use std::time::Duration;

use super::common::{Setting, conclude, interrupt, run};
use super::{LabError, Names, bounded};
use crate::cli::exit;
use crate::lab::load::end::End;
use crate::lab::load::engines::markdown;
use crate::lab::load::group::GroupSpec;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::Peer;
use crate::lab::load::peers::PeerKind;
use crate::lab::load::peers::sayagain::{Datagrams, Streams};
use crate::lab::sockets::load::groups;
use crate::lab::sockets::load::target_server::{ListenerKind, TargetServer};
use crate::lab::sockets::load::{Interrupt, LoadError, burst, datagrams, idle, ping, serial};
use crate::net::EngineKind;
use crate::net::open_files::{connections_within, raise_open_files};
use crate::units::{AtLeastOne, PositiveSeconds};

/// Bound on the bytes of one sender in flight.
const WINDOW: usize = 256 << 10;

/// Bytes in a message.
const SIZE: usize = 16;

/// Time after which a request over UDP is retransmitted.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The default number of connections, if the limit of open files permits.
const CONNECTIONS: usize = 1_000;

/// The options of `engines`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct EnginesArgs {
    /// Runs of each engine; the engines alternate
    #[arg(long, value_name = "N", default_value = "3", allow_hyphen_values = true)]
    rounds: AtLeastOne,

    /// Duration of each measurement
    #[arg(long, value_name = "SECS", default_value = "1", allow_hyphen_values = true)]
    seconds: PositiveSeconds,

    /// Pairs, members and clients
    #[arg(long, value_name = "N", default_value = "16", allow_hyphen_values = true)]
    clients: AtLeastOne,

    /// Connections in a burst, one after the other, and idle [default: 1000, or what the limit of open files has room for]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    connections: Option<AtLeastOne>,

    #[command(flatten)]
    setting: Setting,
}

/// A workload of the comparison.
#[derive(Clone, Copy, Debug)]
enum Compared {
    Route,
    Fanout,
    Ping,
    Udp,
    Burst,
    Serial,
    Idle,
}

const WORKLOADS: [Compared; 7] = [
    Compared::Route,
    Compared::Fanout,
    Compared::Ping,
    Compared::Udp,
    Compared::Burst,
    Compared::Serial,
    Compared::Idle,
];

impl Compared {
    fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Fanout => "fanout",
            Self::Ping => "ping",
            Self::Udp => "udp",
            Self::Burst => "burst",
            Self::Serial => "serial",
            Self::Idle => "idle",
        }
    }

    /// Returns the bytes in a message or a request, if there are any.
    fn size(self) -> Option<u64> {
        matches!(self, Self::Route | Self::Fanout | Self::Udp | Self::Burst).then_some(SIZE as u64)
    }
}

impl EnginesArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        self.setting.refuse_host()?;
        bounded(self.clients)?;
        self.connections.map(bounded).transpose()?;
        let (interrupt, mut outcomes) = (interrupt()?, Vec::new());
        for _ in 0..self.rounds.get().get() {
            for workload in WORKLOADS {
                for engine in EngineKind::ALL {
                    let Some(outcome) = self.measure(workload, engine, &interrupt)? else {
                        return Ok(exit::INTERRUPTED);
                    };
                    outcomes.push(outcome);
                }
            }
        }
        let subject = format!("{} {}", PeerKind::Sayagain.name(), EngineKind::default());
        let text = markdown(&outcomes, &subject).map_err(|error| LabError::Failed(error.to_string()))?;
        self.setting.show(&outcomes, &outcomes.iter().map(LoadOutcome::json).collect(), text)?;
        conclude(&outcomes)
    }

    /// Returns the number of clients or connections.
    fn count(&self, workload: Compared) -> usize {
        let usual = || connections_within(raise_open_files()).clamp(1, CONNECTIONS);
        match workload {
            Compared::Burst | Compared::Serial | Compared::Idle => {
                self.connections.map_or_else(usual, |count| count.get().get())
            }
            _ => self.clients.get().get(),
        }
    }

    fn measure(
        &self,
        workload: Compared,
        engine: EngineKind,
        interrupt: &Interrupt,
    ) -> Result<Option<LoadOutcome>, LabError> {
        let wanted = self.setting.wanted(&["--engine", engine.name()])?;
        let count = self.count(workload);
        let (clients, size) = (count as u64, workload.size());
        let peer = PeerKind::Sayagain.name();
        let mut outcome =
            LoadOutcome { workload: workload.name(), peer, clients, size, ..LoadOutcome::default() };
        let listener = if matches!(workload, Compared::Udp) { ListenerKind::Udp } else { ListenerKind::Tcp };
        let done = run(&wanted, listener, interrupt, &mut outcome, |target, interrupt, outcome| {
            self.load((workload, count), target, interrupt, outcome)
        })?;
        done.map(|ending| ending.map(|()| outcome)).transpose()
    }

    fn load(
        &self,
        (workload, count): (Compared, usize),
        target: &TargetServer,
        interrupt: &Interrupt,
        outcome: &mut LoadOutcome,
    ) -> Result<(), LoadError> {
        let (peer, length) = (Streams { tagged: false }, self.seconds.as_duration());
        let (end, names) = (End::After(length), |kind| Names::default().of(kind, count));
        let messages = |specs: Vec<GroupSpec>, outcome: &mut LoadOutcome| {
            let plan = groups::GroupsPlan { specs, window: WINDOW, rate: None, end };
            let peer: Rc<dyn Peer> = Rc::new(peer);
            groups::run(target, &peer, &plan, interrupt, outcome)
        };
        match workload {
            Compared::Route => {
                let pairs = names('s').into_iter().zip(names('r'));
                let spec = |(sender, receiver)| GroupSpec {
                    sender,
                    receivers: vec![receiver],
                    room: None,
                    size: SIZE,
                };
                messages(pairs.map(spec).collect(), outcome)
            }
            Compared::Fanout => {
                let (sender, room) = ("s".to_owned(), Some("load".to_owned()));
                messages(vec![GroupSpec { sender, receivers: names('r'), room, size: SIZE }], outcome)
            }
            Compared::Ping => ping::run(
                target,
                &peer,
                &ping::PingPlan { names: names('c'), rate: None, end },
                interrupt,
                outcome,
            ),
            Compared::Udp => {
                let plan = datagrams::DatagramsPlan { names: names('c'), size: SIZE, timeout: TIMEOUT, end };
                datagrams::run(target, &Datagrams, &plan, interrupt, outcome)
            }
            Compared::Burst => burst::run(target, &peer, ("sender", &names('c'), SIZE), interrupt, outcome),
            Compared::Serial => serial::run(target, &peer, &names('c'), interrupt, outcome),
            Compared::Idle => idle::streams(target, &peer, (&names('c'), length), interrupt, outcome),
        }
    }
}
