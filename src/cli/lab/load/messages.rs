//! `lab load route` and `lab load fanout`: the options of messages from senders to receivers.

use std::rc::Rc;

use super::common::Common;
use super::{LabError, Length, bounded};
use crate::lab::load::group::GroupSpec;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::Peer;
use crate::lab::sockets::load::groups;
use crate::lab::sockets::load::target_server::ListenerKind;
use crate::units::{AtLeastOne, ByteSize};

/// The room of `lab load fanout`.
const ROOM: &str = "load";

/// Bound on the memory of all generated messages, in bytes.
const MAX_AHEAD: usize = 4 << 30;

/// Returns the default window for so many receivers. It is large enough to keep all busy, and small enough not to
/// measure a backlog of seconds.
fn window(receivers: usize) -> usize {
    const EACH: (usize, usize) = (4 << 10, 256 << 10);
    const ALL: usize = 16 << 20;
    let (least, most) = EACH;
    (ALL / receivers.max(1)).clamp(least, most)
}

/// The options of `route`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RouteArgs {
    /// Number of senders, each with a receiver
    #[arg(long, value_name = "P", default_value = "16", allow_hyphen_values = true)]
    pairs: AtLeastOne,
    #[command(flatten)]
    messages: Messages,
}

/// The options of `fanout`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FanoutArgs {
    /// Members of the room besides the sender
    #[arg(long, value_name = "N", default_value = "100", allow_hyphen_values = true)]
    members: AtLeastOne,
    #[command(flatten)]
    messages: Messages,
}

/// The options of both.
#[derive(Clone, Debug, clap::Args)]
struct Messages {
    /// Bytes in a message
    #[arg(long, value_name = "SIZE", default_value = "16", allow_hyphen_values = true)]
    size: ByteSize,

    /// Tagged: each message is answered, numbered and acknowledged, and retransmitted if need be
    #[arg(long)]
    tagged: bool,

    /// Most bytes of one sender in flight, or one message [default: 256KiB, less where there are many receivers]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    window: Option<ByteSize>,

    #[command(flatten)]
    length: Length,
    #[command(flatten)]
    common: Common,
}

impl RouteArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        let pairs = bounded(self.pairs)?;
        let pair = |(sender, receiver)| (sender, vec![receiver]);
        let names = self.messages.common.names()?;
        let specs = names.of('s', pairs).into_iter().zip(names.of('r', pairs)).map(pair).collect();
        self.messages.run("route", pairs, specs, None)
    }
}

impl FanoutArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        let members = bounded(self.members)?;
        let names = self.messages.common.names()?;
        let specs = vec![(names.called("s"), names.of('r', members))];
        self.messages.run("fanout", members, specs, Some(&names.called(ROOM)))
    }
}

impl Messages {
    fn run(
        &self,
        workload: &'static str,
        clients: usize,
        specs: Vec<(String, Vec<String>)>,
        room: Option<&str>,
    ) -> Result<u8, LabError> {
        let peer: Rc<dyn Peer> = self.common.streams(self.tagged)?.into();
        let (size, longest) = (self.size.get(), peer.max_body());
        if size > longest {
            return Err(LabError::Usage(format!(
                "--size {} is more than {longest} bytes, the most that {} takes; with --tagged there may be longer ones",
                self.size,
                peer.name()
            )));
        }
        if size.saturating_mul(specs.len()).saturating_mul(3) > MAX_AHEAD {
            let most = ByteSize::new(MAX_AHEAD / 3 / specs.len().max(1));
            return Err(LabError::Usage(format!(
                "--size {} is too much of so many; at most {most}",
                self.size
            )));
        }
        let window = self.window.map_or_else(|| window(clients), ByteSize::get);
        let spec = |(sender, receivers)| GroupSpec { sender, receivers, room: room.map(str::to_owned), size };
        let specs = specs.into_iter().map(spec).collect();
        let rate = self.length.rate.map(|rate| rate.0);
        let plan = groups::GroupsPlan { specs, window, rate, end: self.length.end() };
        let mut outcome = LoadOutcome {
            workload,
            peer: peer.name(),
            clients: clients as u64,
            size: Some(size as u64),
            wanted_rate: rate,
            ..LoadOutcome::default()
        };
        self.common.measure(ListenerKind::Tcp, &mut outcome, |target, interrupt, outcome| {
            groups::run(target, &peer, &plan, interrupt, outcome)
        })
    }
}
