//! From the server's options to a [`ServerPlan`]: defaults filled in, contradictions refused.
//!
//! Nothing is opened here but the file of access rules.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::{Args, ListenPlan};
use crate::cli::rules;
use crate::config::ServerConfig;
use crate::hub::HubConfig;
use crate::link::{LinkConfig, LossModel};
use crate::net::{self, EngineKind};
use crate::reliable::PushTimeouts;
use crate::units::{AtLeastOne, PositiveSeconds, Probability, Seconds};

/// The bounds of `--max-datagram` in bytes: the size that every IPv4 host accepts, and the most that an IPv4 datagram
/// holds.
const MAX_DATAGRAM: (usize, usize) = (576, 65_507);

/// The resolved command line.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// The listeners to open.
    pub listen: ListenPlan,
    /// The configuration of the chat.
    pub config: ServerConfig,
    /// The file of access rules, for reloading.
    pub rules: Option<PathBuf>,
    /// Most connections; `None`: as many as the system allows.
    pub max_connections: Option<NonZeroUsize>,
    /// The engine that waits for sockets.
    pub engine: EngineKind,
    /// The number of readiness loops, for an engine that has them.
    pub loops: NonZeroUsize,
}

impl Args {
    /// Checks the options and fills in defaults; `drawn` is the seed if none was given.
    ///
    /// # Errors
    ///
    /// Options that contradict each other, as clap reports them: exit code 2.
    pub fn resolve(self, drawn: u64) -> Result<ServerPlan, clap::Error> {
        let (link_in, link_out) = self.links()?;
        let first = self.timeout.as_duration();
        let default_longest = PushTimeouts::default().longest.max(first);
        let longest = self.max_timeout.map_or(default_longest, PositiveSeconds::as_duration);
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
        let listen = self.listen.resolve().map_err(usage)?;
        let read = |path: &PathBuf| rules::load_for(path, &listener_names(&listen)).map_err(usage);
        let rules = self.rules.as_ref().map(read).transpose()?.unwrap_or_default();
        let defaults = ServerConfig::default();
        let config = ServerConfig {
            hub,
            listeners: Vec::new(),
            link_in,
            link_out,
            seed: self.seed.unwrap_or(drawn),
            linger: self.linger.as_duration(),
            idle: self.idle.as_duration(),
            max_message: self.max_message.get(),
            max_datagram,
            max_connections: defaults.max_connections,
            max_per_host: self.max_per_host.get(),
            register_timeout: self.register_timeout.as_duration(),
            frame_timeout: self.frame_timeout.as_duration(),
            back_in: self.back_in.map(Seconds::as_duration),
            bare_udp: self.bare_udp.0,
            rules,
        };
        Ok(ServerPlan {
            listen,
            config,
            rules: self.rules,
            max_connections: self.max_connections.map(AtLeastOne::get),
            engine: self.engine,
            loops: self.loops.map_or_else(net::usual_loops, AtLeastOne::get),
        })
    }

    /// The simulated links to the server and from it. The short forms apply where no other option names that direction.
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

/// The names of the server's listeners, as access rules use them.
pub(super) fn listener_names(listen: &ListenPlan) -> Vec<String> {
    let pair = listen.pair.as_ref().into_iter();
    let pair = pair.flat_map(|pair| [(pair.tcp, "tcp"), (pair.udp, "udp")]);
    let short = pair.filter(|(is_open, _)| *is_open).map(|(_, name)| name.to_owned());
    let mut names: Vec<String> =
        short.chain(listen.urls.iter().map(|url| url.listener.name.clone())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn usage(message: String) -> clap::Error {
    Args::command().error(ErrorKind::ValueValidation, message)
}
