//! Goodbyes over datagrams when the server ends: everybody is told, so many at once, until it is acknowledged or over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sayagain::config::ServerConfig;
use sayagain::hub::{HubConfig, Sabotage};
use sayagain::server::{DRAIN_TIME, MAX_BYES};
use sayagain::service::Service as _;

use crate::desk::{Desk, addr, local, nonce, reg, register, snd};
use crate::support::{ms, secs};

/// The first timeout of a push.
const FIRST: Duration = Duration::from_millis(100);

/// A client at its own address, told by its number.
fn at(n: usize) -> SocketAddr {
    let [.., high, mid, low] = n.to_be_bytes();
    SocketAddr::from(([10, high, mid, low], 1_000))
}

/// A desk with so many sessions over datagrams, and their tokens by address.
fn crowded(count: usize) -> (Desk, BTreeMap<SocketAddr, String>) {
    let mut desk = Desk::open();
    let tokens =
        (0..count).map(|n| (at(n), register(&mut desk, at(n), &format!("c{n}"), &format!("{n:0>22}"))));
    let tokens = tokens.collect();
    (desk, tokens)
}

/// Who was told goodbye since this was last asked; each of them properly.
fn told(desk: &mut Desk, tokens: &BTreeMap<SocketAddr, String>) -> Vec<SocketAddr> {
    let sent = desk.sent();
    for (to, bytes) in &sent {
        assert_eq!(String::from_utf8_lossy(bytes), format!("~{} @1 BYE 0009 draining", tokens[to]));
    }
    sent.into_iter().map(|(to, _)| to).collect()
}

fn acknowledge(desk: &mut Desk, tokens: &BTreeMap<SocketAddr, String>, from: SocketAddr) {
    desk.server_datagram(from, format!("~{} ACK 0002 1", tokens[&from]));
}

#[test]
fn only_so_many_are_told_goodbye_before_they_answer_and_each_answer_lets_another_be_told() {
    let (mut desk, tokens) = crowded(MAX_BYES + 100);
    desk.shut_down();
    let first = told(&mut desk, &tokens);
    assert_eq!(first.len(), MAX_BYES);
    desk.pass(FIRST - ms(1));
    assert_eq!(told(&mut desk, &tokens), []);
    for from in &first[..40] {
        acknowledge(&mut desk, &tokens, *from);
    }
    let second = told(&mut desk, &tokens);
    assert_eq!(second.len(), 40);
    for from in first[40..].iter().chain(&second) {
        acknowledge(&mut desk, &tokens, *from);
    }
    let third = told(&mut desk, &tokens);
    assert_eq!(third.len(), 60);
    third.iter().for_each(|from| acknowledge(&mut desk, &tokens, *from));
    let all: BTreeSet<SocketAddr> = [first, second, third].concat().into_iter().collect();
    assert!(all.iter().eq(tokens.keys()), "each was told once");
    assert!(desk.is_finished() && told(&mut desk, &tokens).is_empty());
}

#[test]
fn who_does_not_answer_holds_up_nobody_and_is_told_again_in_rounds_until_the_end_of_the_drain() {
    let (mut desk, tokens) = crowded(MAX_BYES + 100);
    desk.shut_down();
    assert_eq!(told(&mut desk, &tokens).len(), MAX_BYES);
    desk.pass(FIRST);
    assert_eq!(told(&mut desk, &tokens).len(), 100, "the first have had their time");
    let begun = desk.now;
    let silent = [at(7), at(70)];
    tokens
        .keys()
        .filter(|from| !silent.contains(from))
        .for_each(|from| acknowledge(&mut desk, &tokens, *from));
    let mut rounds = Vec::new();
    while !desk.is_finished() {
        let step = desk.server.poll_timeout().unwrap().duration_since(desk.now);
        desk.pass(step);
        let again = told(&mut desk, &tokens);
        if !again.is_empty() {
            assert_eq!(again, silent);
            rounds.push((desk.now - begun).as_millis());
        }
    }
    assert_eq!(rounds, [100, 300, 700, 1_500, 2_500, 3_500, 4_500, 5_500, 6_500, 7_500]);
    assert_eq!(desk.now - begun, DRAIN_TIME - FIRST);
    assert!(desk.server.is_stateless());
}

#[test]
fn a_few_who_answer_slowly_hold_up_nobody_for_long() {
    let (mut desk, tokens) = crowded(MAX_BYES + 100);
    desk.shut_down();
    let first = told(&mut desk, &tokens);
    let mut since = 0;
    for from in first.iter().take(39) {
        desk.pass(FIRST / 2);
        acknowledge(&mut desk, &tokens, *from);
        since += told(&mut desk, &tokens).len();
    }
    assert_eq!(since, 39, "one for each");
    desk.pass(FIRST / 2);
    assert_eq!(told(&mut desk, &tokens).len(), 100 - 39);
}

#[test]
fn a_goodbye_goes_out_behind_all_that_is_queued_under_the_next_number() {
    let mut desk = Desk::open();
    let a = addr(1, 1);
    let ada = register(&mut desk, a, "ada", &nonce(1));
    let bob = register(&mut desk, addr(2, 1), "bob", &nonce(2));
    desk.datagram(a, format!("~{ada} {}", snd(2, "ada", "one")));
    desk.datagram(a, format!("~{ada} ACK 0002 1"));
    for n in 2..8 {
        desk.server_datagram(addr(2, 1), format!("~{bob} {}", snd(n, "ada", "more")));
    }
    desk.shut_down();
    let heard = desk.datagrams_to(a).concat();
    assert_eq!((heard.matches("RCV").count(), heard.matches("BYE").count()), (4, 0), "its window is full");
    let heard = desk.datagram(a, format!("~{ada} ACK 0004 2-5")).concat();
    assert!(heard.ends_with("@8 BYE 0009 draining") && heard.matches("RCV").count() == 2, "{heard}");
    assert_eq!(desk.datagrams_to(addr(2, 1)).last(), Some(&format!("~{bob} @1 BYE 0009 draining")));
    desk.server_datagram(addr(2, 1), format!("~{bob} ACK 0002 1"));
    assert!(!desk.is_finished());
    desk.server_datagram(a, format!("~{ada} ACK 0004 6-8"));
    assert!(desk.is_finished() && desk.totals().hub.undelivered == 0);
}

#[test]
fn a_goodbye_to_somebody_who_had_all_that_was_sent_has_the_next_number() {
    let mut desk = Desk::open();
    let a = addr(1, 1);
    let ada = register(&mut desk, a, "ada", &nonce(1));
    desk.datagram(a, format!("~{ada} {}", snd(2, "ada", "one")));
    desk.datagram(a, format!("~{ada} ACK 0002 1"));
    desk.shut_down();
    assert_eq!(desk.datagrams_to(a), [format!("~{ada} @2 BYE 0009 draining")]);
    desk.datagram(a, format!("~{ada} ACK 0002 1"));
    assert!(!desk.is_finished(), "that was the message");
    desk.datagram(a, format!("~{ada} ACK 0002 2"));
    assert!(desk.is_finished());
}

#[test]
fn an_acknowledgement_of_a_goodbye_that_was_not_said_ends_nothing() {
    let mut desk = Desk::open();
    let a = addr(1, 1);
    let ada = register(&mut desk, a, "ada", &nonce(1));
    desk.datagram(a, format!("~{ada} ACK 0004 1-9"));
    assert_eq!(desk.server.sessions(), 1);
    desk.shut_down();
    assert_eq!(desk.datagrams_to(a), [format!("~{ada} @1 BYE 0009 draining")]);
    assert!(!desk.is_finished());
}

#[test]
fn who_moves_while_the_server_ends_is_told_at_its_new_address() {
    let mut desk = Desk::open();
    let (a, b) = (addr(1, 1), addr(2, 1));
    let ada = register(&mut desk, a, "ada", &nonce(1));
    desk.shut_down();
    assert_eq!(desk.datagrams_to(a).len(), 1);
    let challenge = desk.datagram(b, format!("~{ada} @2 PNG 0000"));
    let cookie = challenge[0].rsplit(' ').next().unwrap().to_owned();
    desk.datagram(b, format!("~{cookie} {}", reg(3, "ada", &ada)));
    desk.pass(FIRST);
    assert_eq!(
        (desk.datagrams_to(a), desk.datagrams_to(b)),
        (vec![], vec![format!("~{ada} @1 BYE 0009 draining")])
    );
    desk.datagram(b, format!("~{ada} ACK 0002 1"));
    assert!(desk.is_finished());
}

#[test]
fn who_acknowledges_nothing_is_told_once_and_forgotten() {
    let mut desk = Desk::open();
    desk.datagram(local(1), "REG 0004 bob");
    desk.shut_down();
    assert_eq!(desk.datagrams_to(local(1)), ["BYE 0000"]);
    assert!(desk.is_finished());
    desk.pass(secs(9));
    assert!(desk.datagrams_to(local(1)).is_empty() && desk.server.is_stateless());
}

#[test]
fn without_repeats_a_goodbye_is_said_once() {
    let sabotage = Sabotage { no_push_repeat: true, ..Sabotage::default() };
    let hub = HubConfig { sabotage, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..ServerConfig::default() });
    let a = addr(1, 1);
    register(&mut desk, a, "ada", &nonce(1));
    desk.shut_down();
    desk.pass(secs(7));
    assert_eq!(desk.datagrams_to(a).len(), 1);
}
