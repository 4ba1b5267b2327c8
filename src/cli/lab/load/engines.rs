//! `lab load engines`: the engines of our server beside each other, in turn.

use std::rc::Rc;

use super::common::{Common, conclude, interrupt, run};
use super::{LabError, bounded, names};
use crate::cli::exit;
use crate::cli::lab::output::print;
use crate::lab::load::engines::{lines, table};
use crate::lab::load::group::Cast;
use crate::lab::load::outcome::Outcome;
use crate::lab::load::peer::Peer;
use crate::net::EngineKind;
use crate::net::load::groups::{self, End};
use crate::net::load::subject::{Door, Subject};
use crate::net::load::{Interrupt, LoadError, crowd, ping, turns};
use crate::units::{AtLeastOne, PositiveSeconds};

/// Most bytes of one sender that are under way.
const WINDOW: usize = 256 << 10;

/// Bytes in a message.
const SIZE: usize = 16;

/// The options of `engines`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct EnginesArgs {
    /// How often each is measured; the engines take turns
    #[arg(long, value_name = "N", default_value = "3", allow_hyphen_values = true)]
    rounds: AtLeastOne,

    /// How long each measurement is
    #[arg(long, value_name = "SECS", default_value = "1", allow_hyphen_values = true)]
    seconds: PositiveSeconds,

    /// Pairs, members and clients
    #[arg(long, value_name = "N", default_value = "16", allow_hyphen_values = true)]
    clients: AtLeastOne,

    /// Connections in a burst, and one after the other
    #[arg(long, value_name = "N", default_value = "1000", allow_hyphen_values = true)]
    connections: AtLeastOne,

    #[command(flatten)]
    common: Common,
}

/// A workload, as it is compared.
#[derive(Clone, Copy, Debug)]
enum Compared {
    Route,
    Fanout,
    Ping,
    Burst,
    Serial,
}

const WORKLOADS: [Compared; 5] =
    [Compared::Route, Compared::Fanout, Compared::Ping, Compared::Burst, Compared::Serial];

impl EnginesArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        self.common.refuse_host()?;
        bounded(self.clients).and_then(|_| bounded(self.connections))?;
        let (interrupt, mut outcomes) = (interrupt()?, Vec::new());
        for _ in 0..self.rounds.get().get() {
            for workload in WORKLOADS {
                for engine in EngineKind::ALL {
                    let Some(outcome) = self.measure(workload, &engine.to_string(), &interrupt)? else {
                        return Ok(exit::INTERRUPTED);
                    };
                    outcomes.push(outcome);
                }
            }
        }
        if self.common.is_text() {
            print(&table(&lines(&outcomes)))?
        } else {
            self.common.show(&outcomes)?
        }
        conclude(&outcomes)
    }

    fn measure(
        &self,
        workload: Compared,
        engine: &str,
        interrupt: &Interrupt,
    ) -> Result<Option<Outcome>, LabError> {
        let peer: Rc<dyn Peer> = self.common.streams(false)?.into();
        let wanted = self.common.wanted(&["--engine", engine])?;
        let engine = Some(engine.to_owned());
        let mut outcome = Outcome { engine, peer: peer.name(), ..Outcome::default() };
        let done = run(&wanted, Door::Tcp, interrupt, &mut outcome, |subject, interrupt, outcome| {
            self.load(workload, &peer, subject, interrupt, outcome)
        })?;
        done.map(|ending| ending.map(|()| outcome)).transpose()
    }

    fn load(
        &self,
        workload: Compared,
        peer: &Rc<dyn Peer>,
        subject: &Subject,
        interrupt: &Interrupt,
        outcome: &mut Outcome,
    ) -> Result<(), LoadError> {
        let (clients, connections) = (self.clients.get().get(), self.connections.get().get());
        let end = End::After(self.seconds.as_duration());
        let cast = |sender: String, receivers, room: Option<&str>| Cast {
            sender,
            receivers,
            room: room.map(str::to_owned),
            size: SIZE,
        };
        let messages = |casts| groups::Plan { casts, window: WINDOW, rate: None, end };
        (outcome.workload, outcome.clients) = match workload {
            Compared::Route => ("route", clients as u64),
            Compared::Fanout => ("fanout", clients as u64),
            Compared::Ping => ("ping", clients as u64),
            Compared::Burst => ("burst", connections as u64),
            Compared::Serial => ("serial", connections as u64),
        };
        match workload {
            Compared::Route => {
                let pairs = names('s', clients).into_iter().zip(names('r', clients));
                let casts = pairs.map(|(sender, receiver)| cast(sender, vec![receiver], None)).collect();
                groups::run(subject, peer, &messages(casts), interrupt, outcome)
            }
            Compared::Fanout => {
                let casts = vec![cast("s".to_owned(), names('r', clients), Some("load"))];
                groups::run(subject, peer, &messages(casts), interrupt, outcome)
            }
            Compared::Ping => {
                let plan = ping::Plan { names: names('c', clients), rate: None, end };
                ping::run(subject, peer.as_ref(), &plan, interrupt, outcome)
            }
            Compared::Burst => {
                crowd::run(subject, peer.as_ref(), (&names('c', connections), SIZE), interrupt, outcome)
            }
            Compared::Serial => {
                turns::run(subject, peer.as_ref(), &names('c', connections), interrupt, outcome)
            }
        }
    }
}
