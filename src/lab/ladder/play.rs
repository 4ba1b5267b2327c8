//! Runs the exchange of a client and a server in the simulator, and observes it. The observations become a ladder in
//! `notes`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Ladder;
use super::notes::{Notes, Seen};
use crate::client::Event;
use crate::config::{ClientConfig, ServerConfig, Transport};
use crate::link::LinkConfig;
use crate::reliable::{Backoff, Ended};
use crate::sim::{ClientId, Sim};
use crate::units::Seconds;

/// Bound on the sends of a request in a drawing.
pub(crate) const MAX_SENDS: u32 = 100;

/// Longer than any exchange: 100 sends with the longest timeout, doubled.
const FOR_EVER: Duration = Seconds::MAX.as_duration().saturating_mul(2 * MAX_SENDS);
/// Longer than a registration over lossless links.
const TO_REGISTER: Duration = Duration::from_secs(60);

/// The receiver of the message.
const RECEIVER: &str = "bob";

/// The exchange to run: alice sends bob a message over datagrams.
///
/// Bob listens over a lossless stream, so all datagrams belong to the one request.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// Alice's retry policy. It must allow at most [`MAX_SENDS`].
    pub(crate) policy: Backoff,
    /// The link to the server.
    pub(crate) up: LinkConfig,
    /// The link from the server.
    pub(crate) down: LinkConfig,
    /// The message.
    pub(crate) message: Vec<u8>,
    /// The seed of the losses and of the jitter.
    pub(crate) seed: u64,
    /// Whether alice's registration is shown too. It uses lossless links, whatever `up` and `down` are.
    pub(crate) register: bool,
}

/// Why an exchange cannot be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlayError {
    /// The policy allows more than [`MAX_SENDS`].
    #[error("a ladder of more than {MAX_SENDS} sends could not be read; lower --max-sends")]
    TooManySends,
    /// The request does not fit a datagram.
    #[error("the message is too long for a datagram; shorten --message")]
    TooLong,
    /// The request did not end: its links delay datagrams too long.
    #[error("the exchange did not end within the time that can be simulated; shorten delays and timeouts")]
    Endless,
}

/// Runs the exchange on a virtual clock that begins at `start`. The same exchange gives the same ladder.
///
/// # Errors
///
/// The exchange cannot be drawn.
pub(crate) fn play(start: Instant, exchange: &Exchange) -> Result<Ladder, PlayError> {
    if exchange.policy.max_sends() > MAX_SENDS {
        return Err(PlayError::TooManySends);
    }
    let (mut sim, alice) = registered(start, exchange)?;
    let addr = sim.address_of(alice);
    let seen = watched(&mut sim, addr);
    if exchange.register {
        register(&mut sim, alice)?;
    }
    sim.set_links(exchange.up.clone(), exchange.down.clone());
    let zero = sim.now();
    sim.client(alice).send(RECEIVER.as_bytes(), &exchange.message);
    let mut watch = Watch::default();
    sim.run_until(FOR_EVER, |sim| watch.look(sim, alice));
    let (at, ended) = watch.ended.ok_or(PlayError::Endless)?;
    if ended.sends == 0 {
        return Err(PlayError::TooLong);
    }
    // Datagrams in flight still arrive.
    sim.run_until_idle(FOR_EVER);
    let mut notes = Notes::new(zero, at, ended, watch.dues);
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    seen.iter().for_each(|seen| notes.take(seen));
    Ok(notes.finish())
}

/// Creates the simulation; alice is registered unless the registration is to be shown.
fn registered(start: Instant, exchange: &Exchange) -> Result<(Sim, ClientId), PlayError> {
    let config = ServerConfig { idle: Seconds::MAX.as_duration(), ..ServerConfig::default() };
    let mut sim = Sim::new(start, config, LinkConfig::perfect(), LinkConfig::perfect(), exchange.seed);
    let generous = Backoff::new(Duration::from_secs(1));
    let bob = sim.add_client(ClientConfig::new(Transport::Stream, Some(RECEIVER), generous));
    register(&mut sim, bob)?;
    let mut config = ClientConfig::new(Transport::Datagram, Some("alice"), exchange.policy.clone());
    config.keepalive = Seconds::MAX.as_duration();
    config.checks_path = false;
    let alice = sim.add_client(config);
    if !exchange.register {
        register(&mut sim, alice)?;
    }
    Ok((sim, alice))
}

fn register(sim: &mut Sim, id: ClientId) -> Result<(), PlayError> {
    let done = sim.run_until(TO_REGISTER, |sim| sim.client(id).is_ready());
    sim.take_events(id);
    if done { Ok(()) } else { Err(PlayError::Endless) }
}

/// Records the datagrams of this address from now on.
fn watched(sim: &mut Sim, addr: SocketAddr) -> Arc<Mutex<Vec<Seen>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&seen);
    sim.set_observer(Box::new(move |at, direction, whose, bytes, sighting| {
        if whose == addr {
            let seen = Seen { at, direction, bytes: bytes.to_vec(), sighting };
            shared.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        }
    }));
    seen
}

/// Observations of the client.
#[derive(Debug, Default)]
struct Watch {
    /// Expiry of the timeout of each send.
    dues: Vec<Instant>,
    ended: Option<(Instant, Ended)>,
}

impl Watch {
    /// Observes the client after a step; returns whether its request has ended.
    fn look(&mut self, sim: &mut Sim, id: ClientId) -> bool {
        if self.dues.is_empty() {
            // No event reports the first send. The client has one request, so this is its only deadline.
            self.dues.extend(sim.client(id).poll_timeout());
        }
        for event in sim.take_events(id) {
            match event {
                Event::Retry(sent) => self.dues.push(sent.due),
                Event::Ended(ended) => self.ended = Some((sim.now(), ended)),
                _ => {}
            }
        }
        self.ended.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::ladder::{Effect, What};
    use crate::link::{Direction, Fate};
    use crate::reliable::{Growth, Outcome};
    use crate::units::Factor;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn exchange(up: &str, down: &str, sends: u32, seed: u64) -> Exchange {
        let doubling = Growth::Exponential { factor: Factor::TWO };
        let policy = Backoff::new(Duration::from_millis(100)).with_growth(doubling).with_max_sends(sends);
        let (up, down) = (up.parse().unwrap(), down.parse().unwrap());
        Exchange { policy, up, down, message: b"Hello".to_vec(), seed, register: false }
    }

    fn effects(ladder: &Ladder) -> Vec<(u128, Effect)> {
        let effect = |step: &crate::lab::ladder::Step| match step.what {
            What::Arrived { effect, .. } => Some((step.at.as_millis(), effect)),
            _ => None,
        };
        ladder.steps.iter().filter_map(effect).collect()
    }

    #[test]
    fn late_answers_and_duplicates_are_marked_as_such() {
        // Sends at 0, 100 and 300 ms; a round trip takes 260 ms, and the second answer is lost.
        let ladder = play(origin(), &exchange("delay:130ms", "delay:130ms+list:2", 5, 1)).unwrap();
        assert_eq!(
            effects(&ladder),
            [(130, Effect::Executed), (230, Effect::Repeated), (260, Effect::Acked)]
        );
        assert_eq!((ladder.end.sends, ladder.end.elapsed.as_millis()), (2, 260));
        let both = play(origin(), &exchange("delay:130ms", "delay:130ms", 5, 1)).unwrap();
        assert_eq!(effects(&both).last(), Some(&(360, Effect::Again)));
        let given_up = play(origin(), &exchange("delay:130ms", "delay:130ms", 1, 1)).unwrap();
        assert_eq!(effects(&given_up), [(130, Effect::Executed), (260, Effect::TooLate)]);
        assert_eq!(given_up.end.outcome, Outcome::Unknown);
    }

    #[test]
    fn a_registration_is_shown_on_request_and_costs_the_request_no_loss() {
        let hidden = exchange("list:1", "none", 5, 1);
        let shown = Exchange { register: true, ..hidden.clone() };
        let (hidden, shown) = (play(origin(), &hidden).unwrap(), play(origin(), &shown).unwrap());
        let labels =
            |ladder: &Ladder| ladder.arrows.iter().map(|arrow| arrow.label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(&shown)[..4], ["REG @1", "ERR @1 428", "REG @1, cookie", "ACK @1"]);
        assert_eq!(labels(&shown)[4..], labels(&hidden));
        assert_eq!(shown.end, hidden.end);
    }

    #[test]
    fn an_exchange_that_cannot_be_drawn_is_refused() {
        assert_eq!(play(origin(), &exchange("none", "none", 101, 1)), Err(PlayError::TooManySends));
        let long = Exchange { message: vec![b'x'; 1_200], ..exchange("none", "none", 1, 1) };
        assert_eq!(play(origin(), &long), Err(PlayError::TooLong));
    }

    /// Every ladder is complete and in order, whatever the links do.
    #[test]
    fn every_datagram_is_drawn_with_its_effects() {
        for seed in 0..300 {
            let link = "iid:.4+delay:uniform,80ms,80ms+duplicate:.2";
            let ladder = play(origin(), &exchange(link, link, 5, seed)).unwrap();
            let count =
                |is_it: &dyn Fn(&What) -> bool| ladder.steps.iter().filter(|step| is_it(&step.what)).count();
            assert!(ladder.steps.is_sorted_by_key(|step| step.at), "{seed}");
            for (index, arrow) in ladder.arrows.iter().enumerate() {
                let expected = match arrow.fate {
                    Fate::Passed(passage) => 1 + usize::from(passage.duplicate.is_some()),
                    _ => 0,
                };
                let arrived = count(&|what| matches!(what, What::Arrived { arrow, .. } if *arrow == index));
                assert_eq!(
                    (arrived, count(&|what| *what == What::Sent(index))),
                    (expected, 1),
                    "{seed}: {arrow:?}"
                );
            }
            let sends = ladder.end.sends as usize;
            assert_eq!(ladder.arrows.iter().filter(|arrow| arrow.direction == Direction::Up).count(), sends);
            let unknown = usize::from(ladder.end.outcome == Outcome::Unknown);
            assert_eq!(count(&|what| matches!(what, What::TimedOut { .. })), sends - 1 + unknown, "{seed}");
            assert_eq!(count(&|what| *what == What::GaveUp), unknown, "{seed}");
            let had =
                |wanted: Effect| effects(&ladder).iter().filter(|(_, effect)| *effect == wanted).count();
            assert_eq!(had(Effect::Acked), 1 - unknown, "{seed}");
            assert!(had(Effect::Executed) <= 1, "{seed}");
            assert_eq!(had(Effect::Damaged) + had(Effect::Taken), 0, "{seed}");
        }
    }
}
