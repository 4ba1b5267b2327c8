//! An echo whose losses are those of a link with the same seed.

use std::time::Instant;

use sayagain::link::{Direction, Link, LinkConfig, LinkStats};

use super::{run, socket, start, wait_for};
use crate::support::STEP_TIMEOUT;

const ASKED: u8 = 100;

/// The datagrams, of so many from one peer, that pass a link alone, sorted, and its counters.
fn through(link: &str, seed: u64) -> (Vec<u8>, LinkStats) {
    let mut link = Link::new(link.parse::<LinkConfig>().unwrap(), seed, Direction::Up);
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now();
    for number in 0..ASKED {
        link.send(now, 0, vec![number]);
    }
    let after_all = now + STEP_TIMEOUT;
    let mut arrived: Vec<u8> = std::iter::from_fn(|| link.recv(after_all)).flatten().collect();
    arrived.sort_unstable();
    (arrived, link.stats())
}

fn expect_echoes(link: &str, seed: u64) {
    let program = start("lossy", &["127.0.0.1:0", link, &seed.to_string()]);
    let greeting = wait_for(&program, "listening on ");
    let (addr, told) = greeting.split_once(", ").unwrap();
    assert_eq!(told, format!("link {}, seed {seed}", link.parse::<LinkConfig>().unwrap()));
    let (client, _) = socket();
    client.connect(addr).unwrap();
    (0..ASKED).for_each(|number| assert_eq!(client.send(&[number]).unwrap(), 1));
    let (expected, stats) = through(link, seed);
    let report = wait_for(&program, "100 datagrams: ");
    assert_eq!(report, format!("{} lost, {} doubled", stats.lost, stats.duplicated));
    let mut byte = [0];
    let mut receive = |_: &u8| (client.recv(&mut byte).unwrap(), byte[0]).1;
    let mut arrived: Vec<u8> = expected.iter().map(&mut receive).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, expected);
}

#[test]
fn the_echoed_datagrams_are_those_that_the_link_passes_for_its_seed() {
    expect_echoes("iid:.3", 7);
}

#[test]
fn copies_and_delays_come_back_too() {
    expect_echoes("gilbert:.2,3+duplicate:.1+delay:10ms,5ms", 8);
}

#[test]
fn unreadable_arguments_are_refused_with_a_sentence() {
    let ended = run("lossy", &["127.0.0.1:0", "iid:2"]);
    assert_eq!(ended.code, 1);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    let ended = run("lossy", &["127.0.0.1:0", "none", "-1"]);
    assert_eq!((ended.code, ended.err.as_str()), (1, "a seed is a whole number below 2^64\n"));
}
