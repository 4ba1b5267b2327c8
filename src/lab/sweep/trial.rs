//! Trials in virtual time: one session of a real server and a real client, which sends its requests one at a time.
//!
//! A trial is one message to a room without other members. It has an effect that a server without a dedup window would
//! repeat, and no other traffic is counted with it. Registration and join run over a network with the point's delay
//! and no other impairment, so the policy measures true round trips. Then the point's network begins.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::point::Point;
use super::start::starts;
use super::tally::Tally;
use crate::client::Event;
use crate::config::{ClientConfig, ServerConfig, Transport};
use crate::link::{Direction, LinkConfig};
use crate::reliable::{Backoff, Ended, Outcome};
use crate::sim::{ClientId, Sighting, Sim};
use crate::units::{Seconds, later};
use crate::wire::Verb;

/// The room that receives the messages.
const ROOM: &[u8] = b"#lab";

/// Longer than any simulation: no session ends or pings for lack of traffic, however long a policy waits.
pub(super) const EVER: Duration = Seconds::MAX.as_duration();

/// A silence of so many times [`EVER`] is a bug: no timeout and no delay is longer than one.
const LONGEST_SILENCE: u32 = 3;

/// A session that could not be simulated to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a simulated session does not end; this is a bug, please report it with the command line")]
pub(crate) struct Stuck;

/// Runs `trials` requests in one session at `point`, under `seed`.
///
/// # Errors
///
/// The simulation does not end, which is a bug.
pub(crate) fn session(start: Instant, point: &Point, seed: u64, trials: u64) -> Result<Tally, Stuck> {
    let server = ServerConfig { idle: EVER, ..ServerConfig::default() };
    let mut sim = Sim::new(start, server, delaying(&point.up), delaying(&point.down), seed);
    let client = sim.add_client(client_config("lab", &point.policy));
    sim.client(client).join(ROOM);
    until_idle(&mut sim, client)?;
    let ledger = watch(&mut sim, trials);
    let (up, down) = starts(start, point, seed);
    sim.set_links_at((point.up.clone(), up), (point.down.clone(), down));
    let (begun, before) = (sim.elapsed(), sim.client(client).stats());
    ask(&mut sim, client, point, trials)?;
    let events = until_idle(&mut sim, client)?;
    let mut tally = Tally { elapsed: (sim.elapsed() - begun).as_nanos(), ..Tally::default() };
    count_events(events, &mut tally);
    tally.spurious = sim.client(client).stats().repeated_answers - before.repeated_answers;
    let ((up, down), Noted { ledger, bytes }) = (sim.link_stats(), &*ledger.borrow());
    tally.up.count(up, bytes.0);
    tally.down.count(down, bytes.1);
    ledger.count(&mut tally);
    tally.end_session();
    Ok(tally)
}

/// Submits the requests. Without an interval all are submitted at once, and the client sends them one after the other.
/// Otherwise each is submitted when it is due and the one before has ended.
fn ask(sim: &mut Sim, client: ClientId, point: &Point, trials: u64) -> Result<(), Stuck> {
    let body = body(point);
    let mut due = sim.now();
    for _ in 0..trials {
        if !point.interval.is_zero() {
            sim.run_for(due.saturating_duration_since(sim.now()));
            until_answered(sim, client)?;
            due = later(due, point.interval);
        }
        sim.client(client).send(ROOM, &body);
    }
    Ok(())
}

/// Runs until the client waits for no answer, even if datagrams are still in flight.
fn until_answered(sim: &mut Sim, client: ClientId) -> Result<(), Stuck> {
    let is_answered = (0..LONGEST_SILENCE).any(|_| sim.run_until(EVER, |sim| sim.client(client).is_idle()));
    if is_answered { Ok(()) } else { Err(Stuck) }
}

/// The configuration of a client that sends only the requests of a trial.
pub(super) fn client_config(name: &str, policy: &Backoff) -> ClientConfig {
    let config = ClientConfig::new(Transport::Datagram, Some(name), policy.clone());
    ClientConfig { keepalive: EVER, checks_path: false, ..config }
}

/// The message of a trial.
pub(super) fn body(point: &Point) -> Vec<u8> {
    vec![b'x'; point.size]
}

/// Returns a link with the same delay and no other impairment.
pub(super) fn delaying(link: &LinkConfig) -> LinkConfig {
    LinkConfig { delay: link.delay, ..LinkConfig::perfect() }
}

/// Runs until no event is left. Policies may wait for years: the simulation continues as long as there are events.
fn until_idle(sim: &mut Sim, client: ClientId) -> Result<Vec<Event>, Stuck> {
    let (mut events, mut quiet) = (Vec::new(), 0);
    while quiet < LONGEST_SILENCE {
        let is_idle = sim.run_until_idle(EVER);
        let new = sim.take_events(client);
        quiet = if new.is_empty() { quiet + 1 } else { 0 };
        events.extend(new);
        if is_idle {
            return Ok(events);
        }
    }
    Err(Stuck)
}

/// An observer's counts.
#[derive(Debug)]
struct Noted {
    ledger: Ledger,
    /// Up and down.
    bytes: (u64, u64),
}

/// Counts every send, and its effect at the server.
fn watch(sim: &mut Sim, trials: u64) -> Rc<RefCell<Noted>> {
    let noted = Rc::new(RefCell::new(Noted { ledger: Ledger::new(trials), bytes: (0, 0) }));
    let shared = Rc::clone(&noted);
    sim.set_observer(Box::new(move |_, direction, _, bytes, sighting| {
        let noted = &mut *shared.borrow_mut();
        match (sighting, direction) {
            (Sighting::Sent(_), Direction::Up) => noted.bytes.0 += bytes.len() as u64,
            (Sighting::Sent(_), Direction::Down) => noted.bytes.1 += bytes.len() as u64,
            (Sighting::Arrived { executed, repeats }, _) => {
                noted.ledger.note_arrival(bytes, executed, repeats)
            }
        }
    }));
    noted
}

/// Counts the outcomes of the requests.
pub(super) fn count_events(events: Vec<Event>, tally: &mut Tally) {
    for event in events {
        if let Event::Ended(Ended { verb: Verb::Snd, outcome, sends, elapsed, .. }) = event {
            tally.count_outcome(&outcome);
            tally.sends.add(u64::from(sends));
            if let (Outcome::Acked(_), Some(elapsed)) = (outcome, elapsed) {
                tally.times.add(elapsed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LossModel;
    use crate::reliable::{Backoff, Growth, Preset};
    use crate::units::{Factor, Probability};

    fn losing(p: f64) -> LinkConfig {
        LinkConfig { loss: LossModel::from(Probability::new(p).unwrap()), ..LinkConfig::perfect() }
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// A timeout of 0.1 s, doubled, five sends.
    fn point(loss: f64) -> Point {
        let policy = Backoff::new(Duration::from_millis(100))
            .with_growth(Growth::Exponential { factor: Factor::TWO })
            .with_max_sends(5);
        let interval = Duration::ZERO;
        Point { policy_name: "expb", policy, up: losing(loss), down: losing(loss), size: 32, interval }
    }

    fn run(loss: f64, trials: u64) -> Tally {
        session(origin(), &point(loss), 1, trials).unwrap()
    }

    #[test]
    fn without_loss_every_request_is_sent_executed_and_acked_once_at_once() {
        let tally = run(0.0, 100);
        assert_eq!((tally.acked, tally.trials()), (100, 100));
        assert_eq!(tally.sends.mean(), Some(1.0));
        assert_eq!((tally.executions.mean(), tally.arrivals.mean()), (Some(1.0), Some(1.0)));
        assert_eq!((tally.executions_max, tally.times.longest()), (1, Some(0.0)));
        assert_eq!((tally.up.datagrams, tally.down.datagrams), (100, 100));
        assert!(tally.up.bytes > 100 * 32 && tally.down.bytes > 0);
    }

    #[test]
    fn with_loss_of_1_every_request_is_unknown_and_nothing_is_executed() {
        let tally = run(1.0, 100);
        assert_eq!((tally.unknown, tally.trials()), (100, 100));
        assert_eq!((tally.sends.mean(), tally.executions_max), (Some(5.0), 0));
        assert_eq!((tally.up.realised_loss(), tally.down.realised_loss()), (Some(1.0), None));
        assert_eq!(tally.times.longest(), None);
    }

    #[test]
    fn a_late_answer_makes_a_repeat_spurious_and_no_second_execution() {
        let slow: LinkConfig = "delay:80ms".parse().unwrap();
        let tally = session(origin(), &Point { up: slow.clone(), down: slow, ..point(0.0) }, 1, 50).unwrap();
        assert_eq!((tally.acked, tally.executions_max), (50, 1));
        // Sent at 0 and at 0.1 s; answered at 0.16 s and 0.26 s.
        assert_eq!((tally.sends.mean(), tally.arrivals.mean(), tally.spurious), (Some(2.0), Some(2.0), 50));
        assert_eq!(tally.times.longest(), Some(0.16));
    }

    #[test]
    fn a_policy_that_learns_from_round_trips_knows_the_delay_before_the_first_trial() {
        let slow: LinkConfig = "delay:50ms".parse().unwrap();
        let policy = Preset::QuicPto.backoff();
        let tally =
            session(origin(), &Point { policy, up: slow.clone(), down: slow, ..point(0.0) }, 1, 50).unwrap();
        assert_eq!((tally.acked, tally.sends.mean(), tally.spurious), (50, Some(1.0), 0));
    }

    #[test]
    fn a_request_that_is_overtaken_by_a_later_one_is_counted_as_executed_all_the_same() {
        let up: LinkConfig = "delay:500ms,500ms".parse().unwrap();
        for seed in 0..20 {
            let tally = session(origin(), &Point { up: up.clone(), ..point(0.0) }, seed, 5).unwrap();
            assert_eq!((tally.executions.mean(), tally.executions_max), (Some(1.0), 1), "seed {seed}");
            assert_eq!(tally.arrivals.mean(), tally.sends.mean(), "seed {seed}");
        }
    }

    #[test]
    fn a_timeout_may_last_years() {
        let policy = Backoff::new(EVER / 3).with_max_sends(2);
        let tally = session(origin(), &Point { policy, ..point(1.0) }, 1, 5).unwrap();
        assert_eq!((tally.unknown, tally.up.datagrams), (5, 10));
    }

    #[test]
    fn a_session_may_take_longer_than_ten_years() {
        let policy = Backoff::new(Duration::from_secs(90 * 24 * 3_600)).with_max_sends(5);
        let tally = session(origin(), &Point { policy, ..point(1.0) }, 1, 20).unwrap();
        assert_eq!((tally.unknown, tally.up.datagrams), (20, 100));
    }

    #[test]
    fn a_policy_that_waits_for_weeks_needs_no_new_registration() {
        let policy = Backoff::new(Duration::from_secs(30 * 24 * 3_600)).with_max_sends(3);
        let tally = session(origin(), &Point { policy, ..point(1.0) }, 1, 5).unwrap();
        assert_eq!((tally.unknown, tally.up.datagrams), (5, 15));
    }
}
