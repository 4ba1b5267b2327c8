//! Serving a [`ServerPlan`]: binds the listeners, prints them, starts the engine and waits for its end.

#![expect(clippy::disallowed_types, reason = "programs own the system's randomness")]

use std::io;

use rand::rngs::SysRng;
use rand::{SeedableRng as _, TryRng as _};
use rand_chacha::ChaCha20Rng;

use super::resolve::listener_names;
use super::{ServerPlan, connection_limit, listeners};
use crate::cli::logging::print_unless_stuck;
use crate::cli::{TOTALS, exit, rules};
use crate::config::ServerConfig;
use crate::link::{LinkConfig, LossModel};
use crate::net::{self, Ended, Engine, ListenError, Listeners, Signals};
use crate::server::Server;
use crate::units::Probability;

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The engine cannot wait for sockets and signals.
    #[error("cannot wait for sockets and signals: {0}; raise the limit of open files (ulimit -n)")]
    Wait(#[from] io::Error),
    /// The system has no randomness for tokens and keys.
    #[error("the system has no randomness: {0}")]
    Randomness(#[from] rand::rngs::SysError),
    /// A thread of the server has panicked.
    #[error("the server has a bug and stopped; please report the panic above")]
    Panicked,
}

/// Draws a seed from the system's randomness.
///
/// # Errors
///
/// The system has none.
pub fn draw_seed() -> Result<u64, ServeError> {
    Ok(SysRng.try_next_u64()?)
}

/// Serves until a signal ends the server. Returns the exit code.
///
/// # Errors
///
/// The server could not start, or a bug ended it: exit code 1.
pub fn run(plan: ServerPlan) -> Result<u8, ServeError> {
    let ServerPlan { listen, mut config, rules, max_connections, engine, loops } = plan;
    config.max_connections = connection_limit::allowed_connections(max_connections, engine);
    let listener_names = listener_names(&listen);
    let secrets = ChaCha20Rng::try_from_rng(&mut SysRng)?;
    let listeners = listen.bind()?;
    config.listeners = listeners.list();
    let signals = Signals::new()?;
    announce(&listeners);
    log_losses(&config, listeners.has_streams());
    let engine =
        Engine::start_with(engine, loops, listeners, |now| Server::new(now, config, Box::new(secrets)))?;
    let report = |server: &Server| log::info!(target: TOTALS, "{}", server.totals());
    let reload =
        rules.map(|path| move |engine: &Engine<Server>| rules::reload(&path, &listener_names, engine));
    match net::serve(engine, signals, report, reload) {
        Ended::Drained | Ended::Late => Ok(exit::OK),
        Ended::Interrupted => Ok(exit::INTERRUPTED),
        Ended::Failed => Err(ServeError::Panicked),
    }
}

/// Prints the listeners on standard output, which need not be read.
fn announce(listeners: &Listeners) {
    if let Err(error) = print_unless_stuck(listeners::announcement(listeners)) {
        log::warn!("cannot print where it listens: {error}");
    }
}

fn log_losses(config: &ServerConfig, has_streams: bool) {
    let (link_in, link_out) = (shown(&config.link_in), shown(&config.link_out));
    log::info!("simulated loss: {link_in} in, {link_out} out, seed {}", config.seed);
    if has_streams && !(config.link_in.only_loses() && config.link_out.only_loses()) {
        log::info!("over streams only loss is simulated, of tagged requests and the answers to them");
    }
}

/// A link for the log: a plain loss in per cent, any other link as typed.
pub(super) fn shown(link: &LinkConfig) -> String {
    match &link.loss {
        loss @ (LossModel::None | LossModel::Bernoulli(_)) if link.only_loses() => {
            let rate = loss.rate().map_or(0.0, Probability::get);
            format!("{:.1} %", rate * 100.0)
        }
        _ => link.to_string(),
    }
}
