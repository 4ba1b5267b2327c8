//! The share of unknown outcomes, and of registrations that give up, compared with theory. A request with n sends is
//! answered unless each send, or its answer, is lost. A registration over UDP is two requests.

use std::ops::Range;
use std::time::{Duration, Instant};

use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::LinkConfig;
use sayagain::reliable::{Backoff, Outcome, success};
use sayagain::sim::Sim;

use crate::support::{doubling, losing, ms, outcomes, probability, secs};

/// Pings of a client without a name, over links with this loss in each direction.
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
fn the_share_of_unknown_outcomes_matches_theory() {
    for loss in [0.1, 0.3, 0.5] {
        for sends in [1, 5, 8] {
            let requests = 20_000;
            let theory = 1.0 - success(probability(loss), probability(loss), sends);
            let measured = unknown_share(loss, sends, requests);
            let error = (theory * (1.0 - theory) / requests as f64).sqrt();
            println!(
                "loss {loss}, {sends} sends: unknown {measured:.5}, theory {theory:.5}, 1 standard error {error:.5}"
            );
            // Where unknown outcomes are rare, one request more or less is within the error.
            assert!(
                (measured - theory).abs() < 4.0 * error + 1.0 / requests as f64,
                "loss {loss}, {sends} sends"
            );
        }
    }
}

#[test]
fn without_loss_no_outcome_is_unknown_and_with_total_loss_every_one() {
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

/// The share of this many registrations that give up, over links with this loss in each direction.
fn failed_share(loss: f64, policy: &Backoff, seeds: Range<u64>) -> f64 {
    let link: LinkConfig = format!("iid:{loss}+delay:20ms").parse().unwrap();
    let fails = |seed: &u64| {
        let mut sim = Sim::new(Instant::now(), ServerConfig::default(), link.clone(), link.clone(), *seed);
        let ada = sim.add_client(ClientConfig::new(Transport::Datagram, Some("ada"), policy.clone()));
        assert!(
            sim.run_until(secs(10_000_000), |sim| sim.client(ada).is_ready() || sim.client(ada).is_closed())
        );
        sim.client(ada).is_closed()
    };
    let count = seeds.end - seeds.start;
    seeds.filter(fails).count() as f64 / count as f64
}

/// A registration over UDP: REG is sent until a cookie answers it, and then with the cookie until it is granted.
struct Registration {
    /// The send times of REG, from the first send.
    schedule: Vec<Duration>,
    /// The probability that a send is answered.
    answered: f64,
}

impl Registration {
    /// The probability that a stage that begins at `now` fails. A send answered with another cookie leads to another
    /// stage, whose probability counts.
    fn stage(&self, now: Duration, depth: u32, leads_on: impl Fn(Duration) -> bool) -> f64 {
        let lost = |sends: usize| (1.0 - self.answered).powi(i32::try_from(sends).unwrap());
        let renewed = self.schedule.iter().enumerate().filter(|(_, at)| leads_on(now + **at));
        let renewed = renewed.map(|(n, at)| lost(n) * self.answered * self.granting(now + *at, depth + 1));
        lost(self.schedule.len()) + renewed.sum::<f64>()
    }

    /// The stage with a cookie, which is valid in its 30 s slot of the server's clock and in the next.
    fn granting(&self, made: Duration, depth: u32) -> f64 {
        let slot = |at: Duration| (at.as_millis() + 20) / 30_000;
        self.stage(made, depth, |at| depth < 4 && slot(at) > slot(made) + 1)
    }

    fn fails(&self) -> f64 {
        self.stage(Duration::ZERO, 0, |_| true)
    }

    /// The same, if cookies did not expire.
    fn fails_in_two_stages(&self) -> f64 {
        1.0 - (1.0 - self.stage(Duration::ZERO, 0, |_| false)).powi(2)
    }
}

fn compare_registrations(loss: f64, policy: &Backoff, seeds: Range<u64>) {
    let success = success(probability(loss), probability(loss), 1);
    let registration = Registration { schedule: policy.schedule().collect(), answered: success };
    let (theory, two_stages) = (registration.fails(), registration.fails_in_two_stages());
    let measured = failed_share(loss, policy, seeds.clone());
    let seeds = seeds.end - seeds.start;
    let error = (theory * (1.0 - theory) / seeds as f64).sqrt();
    println!(
        "loss {loss}, {} sends from {:?}: of {seeds} registrations {:.1} gave up, theory {:.1}, in two stages {:.1}, \
         1 standard error {:.1}",
        policy.max_sends(),
        policy.ack_timeout(),
        measured * seeds as f64,
        theory * seeds as f64,
        two_stages * seeds as f64,
        error * seeds as f64,
    );
    assert!(
        (measured - theory).abs() < 3.0 * error + 1.0 / seeds as f64,
        "loss {loss}: {measured}, {theory}"
    );
    // Expiry of cookies hardly matters where the first timeouts are short.
    assert!(policy.ack_timeout() > secs(1) || (measured - two_stages).abs() < 4.0 * error, "{two_stages}");
}

#[test]
fn the_share_of_registrations_that_give_up_matches_theory() {
    let longest = secs(3_600);
    // Each has its own seeds: equal seeds lose the same datagrams.
    for (n, (loss, policy)) in (0..).zip([
        (0.5, doubling(ms(200), longest, 12)),
        (0.3, doubling(ms(100), longest, 5)),
        (0.3, doubling(secs(20), longest, 5)),
        (0.3, doubling(secs(45), secs(45), 6)),
        (0.5, doubling(secs(1), longest, 8)),
        (0.1, doubling(secs(100), longest, 2)),
    ]) {
        compare_registrations(loss, &policy, 2_000 * n..2_000 * (n + 1));
    }
}

#[test]
#[ignore = "takes some seconds; see docs/testing.md"]
fn the_share_of_20_000_registrations_that_give_up_matches_theory() {
    for (longest, seeds) in [(60, 0..20_000), (3_600, 20_000..40_000)] {
        compare_registrations(0.3, &doubling(ms(200), secs(longest), 12), seeds);
    }
    for (n, loss) in (2..).zip([0.3, 0.4, 0.5]) {
        compare_registrations(loss, &doubling(secs(1), secs(3_600), 8), 20_000 * n..20_000 * (n + 1));
    }
}
