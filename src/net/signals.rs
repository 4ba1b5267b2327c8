//! What the terminal and the service manager ask for: an end, a line of totals, or new rules.

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

/// How long all goodbyes together may take.
const GOODBYES: Duration = Duration::from_secs(10);

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Asked to, and everybody was told.
    Drained,
    /// Asked to, and not everybody listened in time.
    Late,
    /// Asked to twice.
    Interrupted,
    /// A panic: a bug, and what was printed before says where.
    Failed,
}

/// Signals that are waited for from now on, instead of doing what they do by themselves.
pub struct Signals(pub(crate) Stream);

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// SIGHUP, SIGINT, SIGTERM and SIGUSR1. SIGPIPE is ignored by every Rust program.
    ///
    /// # Errors
    ///
    /// The system has no room for the pipe that they come through.
    pub fn new() -> io::Result<Self> {
        Stream::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]).map(Self)
    }
}

/// Serves until SIGINT or SIGTERM, and says goodbye to everybody; a second one ends that at once. `report` is called at
/// each SIGUSR1 and once everything is over, `reload` at each SIGHUP; without one, SIGHUP ends it as SIGTERM does, for its
/// terminal is gone.
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
        if !until_asked(&engine, &mut signals, &asked).await {
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

/// Returns whether the end was asked for; otherwise the engine has failed. All else that is asked for is done.
async fn until_asked<S: Service + 'static>(
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

/// Says goodbye to everybody; asked again meanwhile, it ends at once.
async fn drain<S: Service + 'static>(
    engine: &Engine<S>,
    signals: &mut Stream,
    asked: &impl Fn(i32) -> bool,
) -> Ended {
    let asked_again = until_asked(engine, signals, asked);
    match select(pin!(engine.shutdown(GOODBYES)), pin!(asked_again)).await {
        Either::Left((true, _)) => Ended::Drained,
        Either::Left((false, _)) => Ended::Late,
        Either::Right((true, _)) => Ended::Interrupted,
        Either::Right((false, _)) => Ended::Failed,
    }
}
