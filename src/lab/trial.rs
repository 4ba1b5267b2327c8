//! Trials in virtual time: one session with a real server and a real client, and its requests, one after the other.
//!
//! A trial is one message to a room in which nobody else is: it has an effect, which a server that forgets would repeat,
//! and nobody else's traffic is counted with it. The session is registered, and the room joined, over a perfect network;
//! then the network of the point begins.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::point::Point;
use super::tally::Tally;
use crate::client::Event;
use crate::config::{ClientConfig, ServerConfig, Transport};
use crate::link::{Direction, LinkConfig};
use crate::reliable::{Ended, Outcome};
use crate::sim::{ClientId, Sighting, Sim};
use crate::units::Seconds;
use crate::wire::{Datagram, Verb};

/// The room that messages go to.
const ROOM: &[u8] = b"#lab";

/// Longer than anything that is simulated: sessions neither end nor ping for want of traffic, whatever a policy waits.
const EVER: Duration = Seconds::MAX.as_duration();

/// A session that could not be simulated to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a simulated session does not come to its end; this is a bug, please report it with the seed")]
pub struct Stuck;

/// What reached the server of each request, and what was sent.
#[derive(Debug, Default)]
struct Ledger {
    /// The id of the first request.
    first: u64,
    /// Executions and arrivals of each, by id.
    requests: Vec<(u64, u64)>,
    bytes_up: u64,
    bytes_down: u64,
}

/// Runs `trials` requests in one session at `point`, under `seed`.
///
/// # Errors
///
/// The simulation does not end, which would be a bug.
pub fn session(start: Instant, point: &Point, seed: u64, trials: u64) -> Result<Tally, Stuck> {
    let server = ServerConfig { idle: EVER, linger: EVER, ..ServerConfig::default() };
    let mut sim = Sim::new(start, server, LinkConfig::perfect(), LinkConfig::perfect(), seed);
    let config = ClientConfig {
        keepalive: EVER,
        ..ClientConfig::new(Transport::Datagram, Some("lab"), point.policy.clone())
    };
    let client = sim.add_client(config);
    sim.client(client).join(ROOM);
    until_idle(&mut sim)?;
    sim.take_events(client);
    let ledger = watch(&mut sim, trials);
    sim.set_links(point.up.clone(), point.down.clone());
    let (begun, before) = (sim.elapsed(), sim.client(client).stats());
    let body = vec![b'x'; point.size];
    for _ in 0..trials {
        sim.client(client).send(ROOM, &body);
    }
    until_idle(&mut sim)?;
    let mut tally = Tally::default();
    count_client(&mut sim, client, &mut tally);
    tally.spurious = sim.client(client).stats().repeated_answers - before.repeated_answers;
    tally.elapsed = (sim.elapsed() - begun).as_nanos();
    let (up, down) = sim.link_stats();
    tally.up.count(up);
    tally.down.count(down);
    count_ledger(&ledger.borrow(), &mut tally);
    Ok(tally)
}

fn until_idle(sim: &mut Sim) -> Result<(), Stuck> {
    if sim.run_until_idle(EVER) { Ok(()) } else { Err(Stuck) }
}

/// Notes everything that is sent, and what it does at the server.
fn watch(sim: &mut Sim, trials: u64) -> Rc<RefCell<Ledger>> {
    let requests = vec![(0, 0); usize::try_from(trials).unwrap_or(0)];
    let ledger = Rc::new(RefCell::new(Ledger { requests, ..Ledger::default() }));
    let shared = Rc::clone(&ledger);
    sim.set_observer(Box::new(move |_, direction, _, bytes, sighting| {
        shared.borrow_mut().note(direction, bytes, sighting);
    }));
    ledger
}

impl Ledger {
    fn note(&mut self, direction: Direction, bytes: &[u8], sighting: Sighting) {
        match sighting {
            Sighting::Sent(_) if direction == Direction::Up => self.bytes_up += bytes.len() as u64,
            Sighting::Sent(_) => self.bytes_down += bytes.len() as u64,
            Sighting::Arrived { executed, repeats } if executed + repeats > 0 => {
                self.note_arrival(bytes, executed, repeats);
            }
            Sighting::Arrived { .. } => {}
        }
    }

    /// Something arrived at the server that it executed, or would have without its window.
    fn note_arrival(&mut self, bytes: &[u8], executed: u64, repeats: u64) {
        let Ok(datagram) = Datagram::parse(bytes, usize::MAX) else { return };
        let message = datagram.frames.iter().find(|frame| frame.verb == Verb::Snd);
        let Some(id) = message.and_then(|frame| frame.id) else { return };
        if self.first == 0 {
            self.first = id.get();
        }
        let nth = id.get().checked_sub(self.first).and_then(|nth| usize::try_from(nth).ok());
        if let Some(request) = nth.and_then(|nth| self.requests.get_mut(nth)) {
            request.0 += executed;
            request.1 += executed + repeats;
        }
    }
}

fn count_client(sim: &mut Sim, client: ClientId, tally: &mut Tally) {
    for event in sim.take_events(client) {
        if let Event::Ended(Ended { verb: Verb::Snd, outcome, sends, elapsed, .. }) = event {
            tally.count_outcome(&outcome);
            tally.sends.add(u64::from(sends));
            if let (Outcome::Acked(_), Some(elapsed)) = (outcome, elapsed) {
                tally.times.add(elapsed);
            }
        }
    }
}

fn count_ledger(ledger: &Ledger, tally: &mut Tally) {
    for (executed, arrived) in &ledger.requests {
        tally.count_server(*executed, *arrived);
    }
    tally.up.bytes += ledger.bytes_up;
    tally.down.bytes += ledger.bytes_down;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LossModel;
    use crate::reliable::{Backoff, Growth};
    use crate::units::{Factor, Probability};

    fn losing(p: f64) -> LinkConfig {
        LinkConfig { loss: LossModel::from(Probability::new(p).unwrap()), ..LinkConfig::perfect() }
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn run(p: f64, trials: u64) -> Tally {
        let policy = Backoff::new(Duration::from_millis(100))
            .with_growth(Growth::Exponential { factor: Factor::TWO })
            .with_max_sends(5);
        let point = Point { policy_name: "expb", policy, up: losing(p), down: losing(p), size: 32 };
        session(Instant::now(), &point, 1, trials).unwrap()
    }

    #[test]
    #[ignore]
    fn speed() {
        let started = Instant::now();
        let mut tally = Tally::default();
        for _ in 0..200 {
            tally.merge(&run(0.5, 1000));
        }
        println!("{:?} {tally:?}", started.elapsed());
    }

    #[test]
    fn without_loss_every_request_is_sent_executed_and_acked_once_at_once() {
        let tally = run(0.0, 100);
        assert_eq!((tally.acked, tally.trials()), (100, 100));
        assert_eq!(tally.sends.mean(), Some(1.0));
        assert_eq!((tally.executions.mean(), tally.arrivals.mean()), (Some(1.0), Some(1.0)));
        assert_eq!((tally.executions_max, tally.times.longest()), (1, Some(0.0)));
        assert_eq!((tally.up.datagrams, tally.down.datagrams), (100, 100));
    }
}
