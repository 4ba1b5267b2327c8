//! A server behind simulated links: the effect of `--link` on datagrams and on streams.

use sayagain::client::Client;
use sayagain::config::{ServerConfig, Transport};
use sayagain::link::LinkConfig;
use sayagain::reliable::Outcome;
use sayagain::service::Service;

use crate::harness::{ServerHarness, addr, local, nonce, register};
use crate::support::{messages, ms, outcomes, secs, with_many_retries, with_server};

/// A server with these links, to it and from it.
fn behind(link_in: &str, link_out: &str) -> ServerConfig {
    let link = |spec: &str| -> LinkConfig { spec.parse().unwrap() };
    ServerConfig { link_in: link(link_in), link_out: link(link_out), seed: 4, ..ServerConfig::default() }
}

fn harness_with_links(link_in: &str, link_out: &str) -> ServerHarness {
    ServerHarness::new(behind(link_in, link_out))
}

#[test]
fn datagrams_in_both_directions_are_delayed_and_the_server_reports_the_deadline() {
    let mut harness = harness_with_links("delay:30ms", "delay:20ms");
    let begun = harness.now;
    assert!(harness.datagram(local(1), "PNG 0000").is_empty());
    assert_eq!(harness.server.poll_timeout(), Some(begun + ms(30)));
    harness.pass(ms(30));
    assert_eq!(harness.server.poll_timeout(), Some(begun + ms(50)));
    harness.pass(ms(19));
    assert!(harness.datagrams_to(local(1)).is_empty());
    assert!(!harness.server.is_settled());
    harness.pass(ms(1));
    assert_eq!(harness.datagrams_to(local(1)), ["ACK 0000"]);
    assert!(harness.server.is_settled());
    assert_eq!((harness.totals().datagrams_in, harness.totals().datagrams_out), (1, 1));
}

#[test]
fn a_duplicated_datagram_is_answered_twice_and_an_answer_may_be_duplicated_too() {
    assert_eq!(harness_with_links("duplicate:1", "none").datagram(local(1), "PNG 0000"), ["ACK 0000"; 2]);
    assert_eq!(harness_with_links("none", "duplicate:1").datagram(local(1), "PNG 0000"), ["ACK 0000"; 2]);
}

#[test]
fn a_damaged_datagram_reaches_the_server_damaged_and_so_does_an_answer() {
    let mut harness = harness_with_links("truncate:1", "none");
    for _ in 0..50 {
        // The rest is not a whole frame, or is empty.
        assert!(harness.datagram(local(1), "PNG 0003 hi").is_empty());
    }
    assert!(harness.totals().malformed + harness.totals().stray == 50, "{}", harness.totals());
    let answer = harness_with_links("none", "corrupt:1").datagram(local(1), "PNG 0003 hi");
    let differing = answer[0].bytes().zip(b"ACK 0003 hi".iter()).filter(|(got, sent)| got != *sent).count();
    assert!(answer.len() == 1 && differing >= 1, "{answer:?}");
}

#[test]
fn drops_by_mtu_or_rate_are_counted_apart_from_losses() {
    let mut harness = harness_with_links("mtu:20", "rate:8kbit,30");
    assert!(harness.datagram(local(1), format!("PNG 0020 {}", "x".repeat(19))).is_empty());
    let totals = harness.totals();
    assert_eq!((totals.loss_in.too_large, totals.loss_in.queue_full), (Some(1), None));
    // 8 bytes each, 30 bytes may be queued; one millisecond per byte.
    for _ in 0..5 {
        assert!(harness.datagram(local(1), "PNG 0000").is_empty());
    }
    harness.pass(ms(100));
    assert_eq!(harness.datagrams_to(local(1)), ["ACK 0000"; 3]);
    let totals = harness.totals();
    assert_eq!((totals.loss_out.too_large, totals.loss_out.queue_full), (None, Some(2)));
    assert_eq!((totals.loss_out.seen, totals.loss_out.dropped), (5, 0));
    let line = totals.to_string();
    assert!(line.contains("dropped in 0 of 6 (requested 0.0 %, realised 0.0 %, too large 1), "), "{line}");
    assert!(line.contains("out 0 of 5 (requested 0.0 %, realised 0.0 %, queue full 2), "), "{line}");
}

#[test]
fn a_list_counts_the_datagrams_of_each_flow_and_direction_from_1() {
    let mut harness = harness_with_links("list:1,3-4", "list:2");
    for flow in [1, 2] {
        let answered: Vec<usize> =
            (1..=6).filter(|_| !harness.datagram(local(flow), "PNG 0000").is_empty()).collect();
        // The 2nd, 5th and 6th arrive; the answer to the 5th is the second answer.
        assert_eq!(answered, [2, 6], "flow {flow}");
    }
}

#[test]
fn losses_do_not_depend_on_the_other_impairments_of_a_link() {
    let answered = |link: &str| {
        let mut harness = harness_with_links(link, "none");
        let answered: Vec<bool> = (0..500)
            .map(|n| {
                harness.datagram(local(n % 3), "PNG 0000");
                harness.pass(secs(1));
                !harness.datagrams_to(local(n % 3)).is_empty()
            })
            .collect();
        (answered, harness.totals().loss_in.dropped)
    };
    let answered_by_harness = |link: &str| {
        let mut harness = harness_with_links(link, "none");
        (0..500).map(|n| !harness.datagram(local(n % 3), "PNG 0000").is_empty()).collect::<Vec<_>>()
    };
    let plain = answered_by_harness("gilbert:.3,4");
    let (delayed, dropped) = answered("gilbert:.3,4+delay:20ms,10ms");
    assert_eq!(delayed, plain);
    assert_eq!(dropped, plain.iter().filter(|passed| !**passed).count() as u64);
}

#[test]
fn bursts_delays_copies_cuts_and_a_slow_link_neither_lose_nor_duplicate_a_message() {
    let network = "gilbert:.2,3+delay:pareto,20ms,10ms+duplicate:.1+truncate:.05+rate:1mbit";
    let mut sim = with_server(behind(network, network));
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    let bob = sim.add_client(with_many_retries(Transport::Datagram, "bob"));
    assert!(sim.run_until(secs(600), |sim| [ada, bob].iter().all(|id| Client::is_ready(sim.client(*id)))));
    let tickets: Vec<_> = (0..100).map(|n| sim.client(ada).send(b"bob", format!("{n}").as_bytes())).collect();
    assert!(sim.run_until_idle(secs(3_600)));
    let outcomes = outcomes(&sim.take_events(ada));
    assert!(tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())));
    assert_eq!(messages(&sim.take_events(bob)), (0..100).map(|n| format!("ada> {n}")).collect::<Vec<_>>());
    let totals = sim.server().totals();
    assert!(totals.repeats > 0 && totals.malformed > 0 && totals.loss_out.dropped > 0, "{totals}");
}

#[test]
fn a_shutdown_waits_until_byes_have_left_the_link() {
    let mut harness = harness_with_links("none", "delay:500ms");
    harness.datagram(local(1), "REG 0004 ada");
    let now = harness.now;
    harness.server.shutdown(now);
    harness.pass(ms(499));
    assert!(!harness.server.is_finished());
    harness.pass(ms(1));
    assert_eq!(harness.datagrams_to(local(1)), ["BYE 0000"]);
    assert!(harness.server.is_finished());
}

#[test]
fn on_a_stream_a_link_only_loses() {
    let mut harness = harness_with_links("iid:1+delay:1s+corrupt:1", "delay:1s+truncate:1");
    let conn = harness.connect();
    assert_eq!(harness.say(conn, "PNG 0003 hi"), "ACK 0003 hi");
    assert_eq!(harness.say(conn, "@1 PNG 0003 hi"), "");
    let totals = harness.totals();
    assert_eq!((totals.loss_in.seen, totals.loss_in.dropped), (1, 1));
}

#[test]
fn a_perfect_link_keeps_no_state_for_an_unregistered_peer() {
    for link in ["none", "iid:0", "reset:1", "reorder:off"] {
        let mut harness = harness_with_links(link, link);
        assert_eq!(harness.datagram(addr(1, 1), "PNG 0000"), ["ACK 0000"], "{link}");
        assert!(harness.server.is_stateless(), "{link}");
    }
    let mut harness = harness_with_links("delay:1ms", "none");
    harness.datagram(addr(1, 1), "PNG 0000");
    assert!(!harness.server.is_stateless());
}

#[test]
fn a_registration_passes_a_rate_limited_link() {
    let mut harness = harness_with_links("rate:1gbit", "none");
    harness.datagram(addr(1, 1), "PNG 0000");
    harness.pass(ms(1));
    assert_eq!(harness.datagrams_to(addr(1, 1)), ["ACK 0000"]);
    let mut quick = harness_with_links("iid:.0", "none");
    register(&mut quick, addr(1, 1), "ada", &nonce(1));
    assert_eq!(quick.server.sessions(), 1);
}
