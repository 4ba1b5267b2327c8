//! The run of `lab proxy`: from binding to the signal that ends it, with counters shown meanwhile.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, select};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag::register_conditional_shutdown;

use super::proxies::{Prepared, ProxySettings, Relays};
use super::rt;
use crate::exit;
use crate::lab::proxy::control::{ControlError, NewProxy};
use crate::lab::proxy::totals::ProxyTotals;
use crate::net::signals::Signals;

/// Interval of the live counters.
const INTERVAL: Duration = Duration::from_secs(1);

/// Binds the sockets of all proxies, or of none.
///
/// # Errors
///
/// The error of the first proxy that cannot be bound.
pub(crate) fn prepare(wanted: Vec<NewProxy>) -> Result<Vec<Prepared>, ControlError> {
    rt::block_on(async {
        let mut prepared = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            prepared.push(Prepared::bind(wanted).await?);
        }
        Ok(prepared)
    })
}

/// Starts to relay.
///
/// # Errors
///
/// The system has no room to wait for another socket.
pub(crate) fn begin(settings: ProxySettings, prepared: Vec<Prepared>) -> Result<Arc<Relays>, ControlError> {
    let relays = Relays::new(settings);
    for prepared in prepared {
        relays.start(prepared)?;
    }
    Ok(Arc::new(relays))
}

/// Waits for SIGINT or SIGTERM, then stops all proxies. A second such signal ends the program with exit code 130.
/// `report` is called at each SIGUSR1 and at the end, `show` once a second.
pub(crate) fn run(
    relays: &Relays,
    signals: Signals,
    report: impl Fn(&[ProxyTotals]),
    show: Option<impl Fn(&[ProxyTotals])>,
) {
    let mut signals = signals.0;
    rt::block_on(async {
        loop {
            let tick = async {
                match &show {
                    Some(_) => rt::sleep(INTERVAL).await,
                    None => std::future::pending().await,
                }
            };
            match select(signals.next(), pin!(tick)).await {
                Either::Left((Some(SIGUSR1), _)) => report(&relays.totals()),
                Either::Left(_) => break,
                Either::Right(_) => {
                    if let Some(show) = &show {
                        show(&relays.totals());
                    }
                }
            }
        }
        if let Err(error) = end_at_once_if_asked_again() {
            log::warn!("cannot handle a second signal: {error}");
        }
        relays.stop_all().await;
    });
    report(&relays.totals());
}

/// Makes a further SIGINT or SIGTERM end the program.
fn end_at_once_if_asked_again() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        register_conditional_shutdown(signal, i32::from(exit::INTERRUPTED), Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}
