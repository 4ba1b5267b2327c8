//! Shared helpers of the simulated tests: policies, links, outcomes and messages among events, and the log of a thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Once;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use sayagain::client::Event;
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::{LinkConfig, LossModel};
use sayagain::reliable::{Backoff, Growth, Outcome, Ticket};
use sayagain::sim::{ClientId, Sim};
use sayagain::units::{Factor, Probability};

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn probability(p: f64) -> Probability {
    Probability::new(p).unwrap()
}

/// Doubling from `timeout` up to `max_timeout`, without jitter.
pub(crate) fn doubling(timeout: Duration, max_timeout: Duration, sends: u32) -> Backoff {
    Backoff::new(timeout)
        .with_growth(Growth::Exponential { factor: Factor::TWO })
        .with_max_timeout(max_timeout)
        .with_max_sends(sends)
}

/// A link that drops each datagram with this probability.
pub(crate) fn losing(p: f64) -> LinkConfig {
    LinkConfig { loss: LossModel::from(probability(p)), ..LinkConfig::perfect() }
}

/// A perfect network and a server with the default configuration.
pub(crate) fn quiet() -> Sim {
    with_server(ServerConfig::default())
}

pub(crate) fn with_server(config: ServerConfig) -> Sim {
    Sim::new(Instant::now(), config, LinkConfig::perfect(), LinkConfig::perfect(), 1)
}

/// A client with enough retries for the lossy links of these tests.
pub(crate) fn with_many_retries(transport: Transport, name: &str) -> ClientConfig {
    ClientConfig::new(transport, Some(name), doubling(ms(100), secs(1), 50))
}

/// The messages among events, as `sender> body`.
pub(crate) fn messages(events: &[Event]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let message = |event: &Event| match event {
        Event::Message { sender, body } => Some(format!("{}> {}", text(sender), text(body))),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

/// The outcome of each request among events; a second outcome of one request is a failure.
pub(crate) fn outcomes(events: &[Event]) -> BTreeMap<Ticket, Outcome> {
    let mut outcomes = BTreeMap::new();
    for event in events {
        if let Event::Ended(ended) = event {
            let second = outcomes.insert(ended.ticket, ended.outcome.clone());
            assert!(second.is_none(), "{:?} ended twice", ended.ticket);
        }
    }
    outcomes
}

/// Runs until all requests have ended, and returns the events of `id`.
pub(crate) fn events_when_idle(sim: &mut Sim, id: ClientId) -> Vec<Event> {
    assert!(sim.run_until_idle(secs(3_600)), "not idle after an hour");
    sim.take_events(id)
}

thread_local! {
    static LOGGED: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
}

/// The logger of all tests of this binary: each test collects the lines of its own thread.
struct Collector;

impl Log for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        LOGGED.with_borrow(Option::is_some)
    }

    fn log(&self, record: &Record<'_>) {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(logged) = logged {
                logged.push((record.level(), record.args().to_string()));
            }
        });
    }

    fn flush(&self) {}
}

/// Starts to collect the log of this thread.
pub(crate) fn collect_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    LOGGED.set(Some(Vec::new()));
}

/// The lines logged since the last call of this or of [`collect_log`].
pub(crate) fn take_log() -> Vec<(Level, String)> {
    LOGGED.with_borrow_mut(|logged| logged.as_mut().map(std::mem::take).unwrap_or_default())
}

/// Stops collecting the log.
pub(crate) fn stop_log() {
    LOGGED.set(None);
}
