//! The server's BYE over datagrams at a shutdown: sent to every session, a bounded number at once, until acknowledged
//! or the drain ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sayagain::config::ServerConfig;
use sayagain::hub::{HubConfig, Sabotage};
use sayagain::server::{DRAIN_TIME, MAX_BYES};
use sayagain::service::Service as _;

use crate::harness::{ServerHarness, addr, local, nonce, reg, register, snd};
use crate::support::{ms, secs};

/// The first timeout of a push.
const FIRST: Duration = Duration::from_millis(100);

/// The address of the client with this number.
fn at(n: usize) -> SocketAddr {
    let [.., high, mid, low] = n.to_be_bytes();
    SocketAddr::from(([10, high, mid, low], 1_000))
}

/// A server with this many sessions over datagrams, and their tokens by address.
fn registered_peers(count: usize) -> (ServerHarness, BTreeMap<SocketAddr, String>) {
    let mut harness = ServerHarness::open();
    let tokens =
        (0..count).map(|n| (at(n), register(&mut harness, at(n), &format!("c{n}"), &format!("{n:0>22}"))));
    let tokens = tokens.collect();
    (harness, tokens)
}

/// The addresses that got a BYE since the last call. Checks each BYE.
fn told(harness: &mut ServerHarness, tokens: &BTreeMap<SocketAddr, String>) -> Vec<SocketAddr> {
    let sent = harness.sent();
    for (to, bytes) in &sent {
        assert_eq!(String::from_utf8_lossy(bytes), format!("~{} @1 BYE 0009 draining", tokens[to]));
    }
    sent.into_iter().map(|(to, _)| to).collect()
}

fn acknowledge(harness: &mut ServerHarness, tokens: &BTreeMap<SocketAddr, String>, from: SocketAddr) {
    harness.server_datagram(from, format!("~{} ACK 0002 1", tokens[&from]));
}

#[test]
fn a_bounded_number_of_byes_is_unanswered_and_each_answer_releases_another() {
    let (mut harness, tokens) = registered_peers(MAX_BYES + 100);
    harness.shut_down();
    let first = told(&mut harness, &tokens);
    assert_eq!(first.len(), MAX_BYES);
    harness.pass(FIRST - ms(1));
    assert_eq!(told(&mut harness, &tokens), []);
    for from in &first[..40] {
        acknowledge(&mut harness, &tokens, *from);
    }
    let second = told(&mut harness, &tokens);
    assert_eq!(second.len(), 40);
    for from in first[40..].iter().chain(&second) {
        acknowledge(&mut harness, &tokens, *from);
    }
    let third = told(&mut harness, &tokens);
    assert_eq!(third.len(), 60);
    third.iter().for_each(|from| acknowledge(&mut harness, &tokens, *from));
    let all: BTreeSet<SocketAddr> = [first, second, third].concat().into_iter().collect();
    assert!(all.iter().eq(tokens.keys()), "each was told once");
    assert!(harness.is_finished() && told(&mut harness, &tokens).is_empty());
}

#[test]
fn sessions_that_do_not_answer_delay_no_others_and_get_bye_in_rounds_until_the_drain_ends() {
    let (mut harness, tokens) = registered_peers(MAX_BYES + 100);
    harness.shut_down();
    assert_eq!(told(&mut harness, &tokens).len(), MAX_BYES);
    harness.pass(FIRST);
    assert_eq!(told(&mut harness, &tokens).len(), 100, "the first have had their time");
    let begun = harness.now;
    let silent = [at(7), at(70)];
    tokens
        .keys()
        .filter(|from| !silent.contains(from))
        .for_each(|from| acknowledge(&mut harness, &tokens, *from));
    let mut rounds = Vec::new();
    while !harness.is_finished() {
        let step = harness.server.poll_timeout().unwrap().duration_since(harness.now);
        harness.pass(step);
        let again = told(&mut harness, &tokens);
        if !again.is_empty() {
            assert_eq!(again, silent);
            rounds.push((harness.now - begun).as_millis());
        }
    }
    assert_eq!(rounds, [100, 300, 700, 1_500, 2_500, 3_500, 4_500, 5_500, 6_500, 7_500]);
    assert_eq!(harness.now - begun, DRAIN_TIME - FIRST);
    assert!(harness.server.is_stateless());
}

#[test]
fn a_few_slow_answers_do_not_delay_other_byes_for_long() {
    let (mut harness, tokens) = registered_peers(MAX_BYES + 100);
    harness.shut_down();
    let first = told(&mut harness, &tokens);
    let mut since = 0;
    for from in first.iter().take(39) {
        harness.pass(FIRST / 2);
        acknowledge(&mut harness, &tokens, *from);
        since += told(&mut harness, &tokens).len();
    }
    assert_eq!(since, 39, "one for each");
    harness.pass(FIRST / 2);
    assert_eq!(told(&mut harness, &tokens).len(), 100 - 39);
}

#[test]
fn a_bye_is_sent_after_all_queued_pushes_under_the_next_number() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let ada = register(&mut harness, a, "ada", &nonce(1));
    let bob = register(&mut harness, addr(2, 1), "bob", &nonce(2));
    harness.datagram(a, format!("~{ada} {}", snd(2, "ada", "one")));
    harness.datagram(a, format!("~{ada} ACK 0002 1"));
    for n in 2..8 {
        harness.server_datagram(addr(2, 1), format!("~{bob} {}", snd(n, "ada", "more")));
    }
    harness.shut_down();
    let heard = harness.datagrams_to(a).concat();
    assert_eq!((heard.matches("RCV").count(), heard.matches("BYE").count()), (4, 0), "its window is full");
    let heard = harness.datagram(a, format!("~{ada} ACK 0004 2-5")).concat();
    assert!(heard.ends_with("@8 BYE 0009 draining") && heard.matches("RCV").count() == 2, "{heard}");
    assert_eq!(harness.datagrams_to(addr(2, 1)).last(), Some(&format!("~{bob} @1 BYE 0009 draining")));
    harness.server_datagram(addr(2, 1), format!("~{bob} ACK 0002 1"));
    assert!(!harness.is_finished());
    harness.server_datagram(a, format!("~{ada} ACK 0004 6-8"));
    assert!(harness.is_finished() && harness.totals().hub.undelivered == 0);
}

#[test]
fn a_bye_to_a_session_without_unacknowledged_pushes_has_the_next_number() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let ada = register(&mut harness, a, "ada", &nonce(1));
    harness.datagram(a, format!("~{ada} {}", snd(2, "ada", "one")));
    harness.datagram(a, format!("~{ada} ACK 0002 1"));
    harness.shut_down();
    assert_eq!(harness.datagrams_to(a), [format!("~{ada} @2 BYE 0009 draining")]);
    harness.datagram(a, format!("~{ada} ACK 0002 1"));
    assert!(!harness.is_finished(), "that was the message");
    harness.datagram(a, format!("~{ada} ACK 0002 2"));
    assert!(harness.is_finished());
}

#[test]
fn an_acknowledgement_of_a_bye_that_was_not_sent_ends_nothing() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let ada = register(&mut harness, a, "ada", &nonce(1));
    harness.datagram(a, format!("~{ada} ACK 0004 1-9"));
    assert_eq!(harness.server.sessions(), 1);
    harness.shut_down();
    assert_eq!(harness.datagrams_to(a), [format!("~{ada} @1 BYE 0009 draining")]);
    assert!(!harness.is_finished());
}

#[test]
fn a_session_that_moves_during_the_drain_gets_its_bye_at_the_new_address() {
    let mut harness = ServerHarness::open();
    let (a, b) = (addr(1, 1), addr(2, 1));
    let ada = register(&mut harness, a, "ada", &nonce(1));
    harness.shut_down();
    assert_eq!(harness.datagrams_to(a).len(), 1);
    let challenge = harness.datagram(b, format!("~{ada} @2 PNG 0000"));
    let cookie = challenge[0].rsplit(' ').next().unwrap().to_owned();
    harness.datagram(b, format!("~{cookie} {}", reg(3, "ada", &ada)));
    harness.pass(FIRST);
    assert_eq!(
        (harness.datagrams_to(a), harness.datagrams_to(b)),
        (vec![], vec![format!("~{ada} @1 BYE 0009 draining")])
    );
    harness.datagram(b, format!("~{ada} ACK 0002 1"));
    assert!(harness.is_finished());
}

#[test]
fn an_untagged_session_gets_bye_once_and_is_dropped() {
    let mut harness = ServerHarness::open();
    harness.datagram(local(1), "REG 0004 bob");
    harness.shut_down();
    assert_eq!(harness.datagrams_to(local(1)), ["BYE 0000"]);
    assert!(harness.is_finished());
    harness.pass(secs(9));
    assert!(harness.datagrams_to(local(1)).is_empty() && harness.server.is_stateless());
}

#[test]
fn without_retransmissions_a_bye_is_sent_once() {
    let sabotage = Sabotage { no_push_repeat: true, ..Sabotage::default() };
    let hub = HubConfig { sabotage, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() });
    let a = addr(1, 1);
    register(&mut harness, a, "ada", &nonce(1));
    harness.shut_down();
    harness.pass(secs(7));
    assert_eq!(harness.datagrams_to(a).len(), 1);
}
