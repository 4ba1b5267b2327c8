//! The share of requests whose outcome is unknown, beside what the theory says: a request with n sends is answered
//! unless each of them, or its answer, is lost.

use std::time::Instant;

use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::LinkConfig;
use sayagain::reliable::{Outcome, success};
use sayagain::sim::Sim;

use crate::support::{doubling, losing, ms, outcomes, probability, secs};

/// Pings of a client that registers nothing, over links that lose this share each way.
fn unknown_share(loss: f64, sends: u32, requests: usize) -> f64 {
    let seed = 1_000 + u64::from(sends);
    let mut sim = Sim::new(Instant::now(), ServerConfig::default(), losing(loss), losing(loss), seed);
    let policy = doubling(ms(100), secs(1), sends);
    let ada = sim.add_client(ClientConfig::new(Transport::Datagram, None, policy));
    for _ in 0..requests {
        sim.client(ada).ping();
    }
    assert!(sim.run_until_idle(secs(10_000_000)));
    let outcomes = outcomes(&sim.take_events(ada));
    assert_eq!(outcomes.len(), requests);
    let unknown = outcomes.values().filter(|outcome| **outcome == Outcome::Unknown).count();
    unknown as f64 / requests as f64
}

#[test]
fn the_share_of_unknown_outcomes_is_what_the_theory_says() {
    for loss in [0.1, 0.3, 0.5] {
        for sends in [1, 5, 8] {
            let requests = 20_000;
            let theory = 1.0 - success(probability(loss), probability(loss), sends);
            let measured = unknown_share(loss, sends, requests);
            let error = (theory * (1.0 - theory) / requests as f64).sqrt();
            println!(
                "loss {loss}, {sends} sends: unknown {measured:.5}, theory {theory:.5}, 1 standard error {error:.5}"
            );
            // A single request more or less is within the error where hardly any is unknown.
            assert!(
                (measured - theory).abs() < 4.0 * error + 1.0 / requests as f64,
                "loss {loss}, {sends} sends"
            );
        }
    }
}

#[test]
fn without_loss_nothing_is_unknown_and_with_nothing_but_loss_everything() {
    assert_eq!(unknown_share(0.0, 1, 1_000), 0.0);
    let mut sim = Sim::new(Instant::now(), ServerConfig::default(), losing(1.0), LinkConfig::perfect(), 1);
    let ada =
        sim.add_client(ClientConfig::new(Transport::Datagram, Some("ada"), doubling(ms(100), secs(1), 8)));
    let ticket = sim.client(ada).send(b"bob", b"hello?");
    assert!(sim.run_until_idle(secs(100)));
    let events = sim.take_events(ada);
    assert_eq!(outcomes(&events)[&ticket], Outcome::NeverSent, "nothing but REG was ever sent");
    assert_eq!(sim.server().totals().datagrams_in, 0);
    assert_eq!(sim.client(ada).stats().transmits, 8);
}
