//! Streams with connections cut at random and tagged frames dropped: a session outlives its connections, and no message
//! is lost or duplicated.

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::LinkConfig;
use sayagain::reliable::Outcome;
use sayagain::sim::{FilterAction, Sim};

use crate::support::{doubling, losing, messages, ms, outcomes, secs};

/// Ada sends bob `count` messages; about every 40th write, in either direction, cuts a connection.
fn story(seed: u64, count: usize) {
    let link = losing(0.2);
    let server = ServerConfig { link_in: link.clone(), link_out: link, seed, ..ServerConfig::default() };
    let mut sim = Sim::new(Instant::now(), server, LinkConfig::perfect(), LinkConfig::perfect(), seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    sim.set_filter(Box::new(move |_, _, _| {
        if rng.random_range(0..40) == 0 { FilterAction::Cut } else { FilterAction::Pass }
    }));
    let policy = doubling(ms(100), secs(1), 40);
    let ada = sim.add_client(ClientConfig::new(Transport::Stream, Some("ada"), policy.clone()));
    let bob = sim.add_client(ClientConfig::new(Transport::Stream, Some("bob"), policy));
    assert!(
        sim.run_until(secs(60), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()),
        "seed {seed}"
    );
    let tickets: Vec<_> =
        (0..count).map(|n| sim.client(ada).send(b"bob", n.to_string().as_bytes())).collect();
    assert!(sim.run_until_idle(secs(3_600)), "seed {seed}");
    let outcomes = outcomes(&sim.take_events(ada));
    assert!(tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())), "seed {seed}");
    let expected: Vec<String> = (0..count).map(|n| format!("ada> {n}")).collect();
    assert_eq!(messages(&sim.take_events(bob)), expected, "seed {seed}");
    assert_eq!(sim.server().totals().hub.sessions, 2, "seed {seed}: every cut was followed by a resume");
}

#[test]
fn a_thousand_messages_over_connections_that_are_often_cut_arrive_once_and_in_order() {
    story(1, 1_000);
}

#[test]
fn messages_arrive_once_and_in_order_with_any_seed_of_the_cuts() {
    for seed in 2..60 {
        story(seed, 60);
    }
}
