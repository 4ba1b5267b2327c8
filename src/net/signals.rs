//! Signals for a server program: serve until SIGINT or SIGTERM, report on SIGUSR1, reload on SIGHUP.
//!
//! [`serve`] runs an [`Engine`] that was started before, and drains it at the end. Clients handle signals in
//! [`program_input`](super::program_input).
//!
//! ```no_run
//! use sayagain::host::{Handler, Host, Settings};
//! use sayagain::net::{Engine, Signals, serve};
//!
//! struct Quiet;
//! impl Handler for Quiet {}
//!
//! let signals = Signals::new()?;
//! let engine = Engine::host(&["raw://127.0.0.1:7000"], Settings::default(), Quiet)?;
//! let ended = serve(engine, signals, |_| println!("totals"), None::<fn(&Engine<Host<Quiet>>)>);
//! println!("{ended:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, select};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_async_std::Signals as Stream;

use super::engine::Engine;
use super::rt;
use crate::service::Service;

/// Time limit of the shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The end of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Shut down on request; every session got its BYE.
    Drained,
    /// Shut down on request; some sessions did not take their BYE in time.
    Late,
    /// Ended at once by a second request.
    Interrupted,
    /// A panic: a bug. The output before shows where.
    Failed,
}

/// The signals that [`serve`] handles, caught from now on.
pub struct Signals(pub(crate) Stream);

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// Catches SIGHUP, SIGINT, SIGTERM and SIGUSR1. Every Rust program ignores SIGPIPE.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot create the pipe that they come through.
    pub fn new() -> io::Result<Self> {
        Stream::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]).map(Self)
    }
}

/// Serves until SIGINT or SIGTERM, then shuts down; a second one ends that at once.
///
/// `report` is called at each SIGUSR1 and at the end, `reload` at each SIGHUP. Without `reload`, SIGHUP acts as
/// SIGTERM: the terminal is gone.
pub fn serve<S: Service + 'static>(
    engine: Engine<S>,
    signals: Signals,
    report: impl Fn(&S),
    reload: Option<impl Fn(&Engine<S>)>,
) -> Ended {
    let asked = |signal| {
        match (signal, &reload) {
            (SIGHUP, Some(reload)) => reload(&engine),
            (SIGHUP, None) => return false,
            _ => engine.look(&report),
        }
        true
    };
    rt::block_on(async {
        let mut signals = signals.0;
        if !until_end_requested(&engine, &mut signals, &asked).await {
            return Ended::Failed;
        }
        log::info!("shutting down");
        let ended = drain(&engine, &mut signals, &asked).await;
        if ended != Ended::Failed {
            engine.look(&report);
        }
        ended
    })
}

/// Handles signals until one asks for the end. Returns false if the engine has failed instead.
async fn until_end_requested<S: Service + 'static>(
    engine: &Engine<S>,
    signals: &mut Stream,
    asked: &impl Fn(i32) -> bool,
) -> bool {
    let mut failed = pin!(engine.failed());
    loop {
        match select(signals.next(), &mut failed).await {
            Either::Left((Some(signal @ (SIGHUP | SIGUSR1)), _)) if asked(signal) => {}
            Either::Left(_) => return true,
            Either::Right(_) => return false,
        }
    }
}

/// Shuts the engine down. A second request ends that at once.
async fn drain<S: Service + 'static>(
    engine: &Engine<S>,
    signals: &mut Stream,
    asked: &impl Fn(i32) -> bool,
) -> Ended {
    let requested_again = until_end_requested(engine, signals, asked);
    match select(pin!(engine.shutdown(SHUTDOWN_TIMEOUT)), pin!(requested_again)).await {
        Either::Left((true, _)) => Ended::Drained,
        Either::Left((false, _)) => Ended::Late,
        Either::Right((true, _)) => Ended::Interrupted,
        Either::Right((false, _)) => Ended::Failed,
    }
}
