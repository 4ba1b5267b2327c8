//! Lets a client and a server have the exchange, and watches.

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

/// The most sends of a request that are drawn.
pub const MAX_SENDS: u32 = 100;

/// Longer than anything that is played: 100 sends with the longest timeout there is, and as long again.
const FOR_EVER: Duration = Seconds::MAX.as_duration().saturating_mul(2 * MAX_SENDS);
/// Longer than it takes to register over links that lose nothing.
const TO_REGISTER: Duration = Duration::from_secs(60);

/// Who hears the message.
const RECEIVER: &str = "bob";

/// What is played: alice, over datagrams, sends bob a message.
///
/// Bob listens over a stream, which loses nothing, so that all datagrams are those of the one request.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// When alice repeats the request and when she gives it up. Its sends must be at most [`MAX_SENDS`].
    pub policy: Backoff,
    /// The link to the server.
    pub up: LinkConfig,
    /// The link from the server.
    pub down: LinkConfig,
    /// What alice says.
    pub message: Vec<u8>,
    /// The seed of the losses and of the jitter.
    pub seed: u64,
    /// Whether alice's registration is shown as well. It goes over links that lose nothing, whatever `up` and `down` are.
    pub register: bool,
}

/// Why an exchange cannot be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// The policy allows more than [`MAX_SENDS`].
    #[error("a ladder of more than {MAX_SENDS} sends could not be read; lower --max-sends")]
    TooManySends,
    /// The request does not fit a datagram.
    #[error("the message is too long for a datagram; shorten --message")]
    TooLong,
    /// The request did not end: its links keep datagrams for longer than anybody waits.
    #[error("the exchange did not end within the time that can be simulated; shorten delays and timeouts")]
    Endless,
}

/// Has the exchange, on a virtual clock that begins at `start`; nothing waits. The same exchange gives the same ladder.
///
/// # Errors
///
/// What cannot be drawn.
pub fn play(start: Instant, exchange: &Exchange) -> Result<Ladder, PlayError> {
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
    // What is still under way arrives, however late.
    sim.run_until_idle(FOR_EVER);
    let mut notes = Notes::new(zero, at, ended, watch.dues);
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    seen.iter().for_each(|seen| notes.take(seen));
    Ok(notes.finish())
}

/// Everybody, registered unless that is to be seen.
fn registered(start: Instant, exchange: &Exchange) -> Result<(Sim, ClientId), PlayError> {
    let config = ServerConfig { idle: Seconds::MAX.as_duration(), ..ServerConfig::default() };
    let mut sim = Sim::new(start, config, LinkConfig::perfect(), LinkConfig::perfect(), exchange.seed);
    let patient = Backoff::new(Duration::from_secs(1));
    let bob = sim.add_client(ClientConfig::new(Transport::Stream, Some(RECEIVER), patient));
    register(&mut sim, bob)?;
    let mut config = ClientConfig::new(Transport::Datagram, Some("alice"), exchange.policy.clone());
    config.keepalive = Seconds::MAX.as_duration();
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

/// Notes from now on what is sent from and to this address.
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

/// What the client tells.
#[derive(Debug, Default)]
struct Watch {
    /// When each send counts as failed.
    dues: Vec<Instant>,
    ended: Option<(Instant, Ended)>,
}

impl Watch {
    /// Looks at the client after each step; returns whether its request has ended.
    fn look(&mut self, sim: &mut Sim, id: ClientId) -> bool {
        if self.dues.is_empty() {
            // Of the first send no event tells, and a client that asks one thing has no other deadline.
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
