//! `lab load burst`, `serial` and `idle`: the options of workloads with many connections.

use super::common::Common;
use super::{LabError, bounded};
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::sockets::load::target_server::ListenerKind;
use crate::lab::sockets::load::{burst, idle, serial};
use crate::units::{AtLeastOne, ByteSize, Seconds};

/// Bound on the message to each connection, in bytes: it is written at once.
const MAX_SIZE: usize = 4 << 10;

/// The options of `burst`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BurstArgs {
    /// Number of connections
    #[arg(value_name = "N", allow_hyphen_values = true)]
    connections: AtLeastOne,

    /// Bytes in the message to each
    #[arg(long, value_name = "SIZE", default_value = "16", allow_hyphen_values = true)]
    size: ByteSize,

    #[command(flatten)]
    common: Common,
}

/// The options of `serial`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SerialArgs {
    /// Number of connections
    #[arg(value_name = "N", allow_hyphen_values = true)]
    connections: AtLeastOne,

    #[command(flatten)]
    common: Common,
}

/// The options of `idle`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct IdleArgs {
    /// Number of connections, or of sessions with --udp
    #[arg(value_name = "N", allow_hyphen_values = true)]
    connections: AtLeastOne,

    /// Sessions over UDP, on 256 sockets; they need a server with a long --idle: --server-options '--idle 1h'
    #[arg(long)]
    udp: bool,

    /// Idle time
    #[arg(long, value_name = "SECS", default_value = "3", allow_hyphen_values = true)]
    seconds: Seconds,

    #[command(flatten)]
    common: Common,
}

impl BurstArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        let peer = self.common.streams(false)?;
        let (count, size) = (bounded(self.connections)?, self.size.get());
        if size > MAX_SIZE {
            return Err(LabError::Usage(format!("--size {} is too much; at most {MAX_SIZE}", self.size)));
        }
        let own = self.common.names()?;
        let (sender, names) = (own.called("sender"), own.of('c', count));
        let mut outcome = LoadOutcome {
            workload: "burst",
            peer: peer.name(),
            clients: count as u64,
            size: Some(size as u64),
            ..LoadOutcome::default()
        };
        self.common.measure(ListenerKind::Tcp, &mut outcome, |target, interrupt, outcome| {
            burst::run(target, peer.as_ref(), (&sender, &names, size), interrupt, outcome)
        })
    }
}

impl SerialArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        let peer = self.common.streams(false)?;
        let names = self.common.names()?.of('c', bounded(self.connections)?);
        let (workload, clients) = ("serial", names.len() as u64);
        let mut outcome = LoadOutcome { workload, peer: peer.name(), clients, ..LoadOutcome::default() };
        self.common.measure(ListenerKind::Tcp, &mut outcome, |target, interrupt, outcome| {
            serial::run(target, peer.as_ref(), &names, interrupt, outcome)
        })
    }
}

impl IdleArgs {
    pub(super) fn run(&self) -> Result<u8, LabError> {
        let names = self.common.names()?.of('c', bounded(self.connections)?);
        if self.udp { self.sessions(&names) } else { self.connections(&names) }
    }

    fn connections(&self, names: &[String]) -> Result<u8, LabError> {
        let peer = self.common.streams(false)?;
        let mut outcome = self.outcome("idle", peer.name());
        self.common.measure(ListenerKind::Tcp, &mut outcome, |target, interrupt, outcome| {
            idle::streams(target, peer.as_ref(), (names, self.seconds.as_duration()), interrupt, outcome)
        })
    }

    fn sessions(&self, names: &[String]) -> Result<u8, LabError> {
        let peer = self.common.datagrams()?;
        let mut outcome = self.outcome("idle-udp", peer.name());
        self.common.measure(ListenerKind::Udp, &mut outcome, |target, interrupt, outcome| {
            idle::datagrams(target, peer.as_ref(), (names, self.seconds.as_duration()), interrupt, outcome)
        })
    }

    fn outcome(&self, workload: &'static str, peer: &'static str) -> LoadOutcome {
        LoadOutcome { workload, peer, clients: self.connections.get().get() as u64, ..LoadOutcome::default() }
    }
}
