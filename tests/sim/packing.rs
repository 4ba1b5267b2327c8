//! Packing: requests, answers, pushes and acknowledgements to one peer share datagrams, and no promise depends on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::client::{Client, Event};
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::reliable::{Backoff, Outcome};
use sayagain::service::{Peer, Service as _};
use sayagain::sim::Sim;

use crate::harness::{ServerHarness, addr, local, nonce, register, snd};
use crate::support::{losing, messages, ms, outcomes, secs, with_many_retries};

/// Hands in a datagram without polling for output, as if it arrived right after another.
fn behind_another(harness: &mut ServerHarness, from: SocketAddr, text: &str) {
    let now = harness.now;
    harness.server.datagram(now, Peer::new(0, from), text.as_bytes());
}

#[test]
fn pushes_to_one_session_share_datagrams_up_to_its_limit_and_window() {
    let mut harness = ServerHarness::open();
    let (a, b) = (addr(1, 1), addr(2, 1));
    let (ada, bob) =
        (register(&mut harness, a, "ada", &nonce(1)), register(&mut harness, b, "bob", &nonce(2)));
    let body = "x".repeat(400);
    for id in 2..=6 {
        behind_another(&mut harness, a, &format!("~{ada} {}", snd(id, "bob", &body)));
    }
    let rcv = |id: u64| format!("@{id} RCV 0410 ada 0001 {body}");
    assert_eq!(
        harness.datagrams_to(b),
        [format!("~{bob} {}{}", rcv(1), rcv(2)), format!("~{bob} {}{}", rcv(3), rcv(4))],
        "two fit into 1,200 bytes, and four into the window"
    );
    // Retransmissions share datagrams too; an acknowledgement makes room for queued pushes.
    harness.server_datagram(b, format!("~{bob} ACK 0002 1"));
    assert_eq!(harness.datagrams_to(b), [format!("~{bob} {}", rcv(5))]);
    harness.pass(ms(100));
    let again = harness.datagrams_to(b);
    assert_eq!(again.first(), Some(&format!("~{bob} {}{}", rcv(2), rcv(3))), "{again:?}");
}

#[test]
fn messages_to_a_bare_session_share_datagrams_too() {
    let mut harness = ServerHarness::open();
    let (a, b) = (local(1), local(2));
    harness.datagram(a, "REG 0004 ada");
    harness.datagram(b, "REG 0004 bob");
    behind_another(&mut harness, a, "SND 0008 bob one");
    behind_another(&mut harness, a, "SND 0008 bob two");
    assert_eq!(harness.datagrams_to(b), ["RCV 0013 ada 0001 oneRCV 0013 ada 0001 two"]);
}

#[test]
fn answers_to_datagrams_that_arrived_together_share_one_with_pushes() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let ada = register(&mut harness, a, "ada", &nonce(1));
    behind_another(&mut harness, a, &format!("~{ada} {}", snd(2, "ada", "me")));
    behind_another(&mut harness, a, &format!("~{ada} @3 PNG 0000"));
    assert_eq!(
        harness.datagrams_to(a),
        [format!("~{ada} @2 ACK 0000@3 ACK 0000@1 RCV 0012 ada 0001 me")],
        "one datagram"
    );
}

#[test]
fn answers_to_different_peers_share_no_datagram_and_none_is_longer_than_the_limit() {
    let mut harness = ServerHarness::open();
    let (a, b) = (addr(1, 1), addr(2, 1));
    let (ada, bob) =
        (register(&mut harness, a, "ada", &nonce(1)), register(&mut harness, b, "bob", &nonce(2)));
    let ping = |id: u64| format!("@{id} PNG 0501 {}", "x".repeat(500));
    for id in 2..5 {
        behind_another(&mut harness, a, &format!("~{ada} {}", ping(id)));
        behind_another(&mut harness, b, &format!("~{bob} {}", ping(id)));
        behind_another(&mut harness, b, &format!("~{bob} {}", ping(id + 10)));
        behind_another(&mut harness, b, &format!("~{bob} {}", ping(id + 20)));
    }
    let pong = |id: u64| ping(id).replace("PNG", "ACK");
    let to_ada = harness.datagrams_to(a);
    assert_eq!(to_ada, [2, 3, 4].map(|id| format!("~{ada} {}", pong(id))));
    let to_bob = harness.datagrams_to(b);
    assert!(to_bob.iter().all(|datagram| datagram.len() <= 1_200), "{to_bob:?}");
    let two_and_one =
        |id| [format!("~{bob} {}{}", pong(id), pong(id + 10)), format!("~{bob} {}", pong(id + 20))];
    assert_eq!(to_bob, [2, 3, 4].map(two_and_one).concat());
}

#[test]
fn every_message_arrives_once_when_datagrams_of_many_frames_are_lost() {
    for seed in 1..=20 {
        let mut sim = Sim::new(Instant::now(), ServerConfig::default(), losing(0.3), losing(0.3), seed);
        let config = |name| ClientConfig { window: 64, ..with_many_retries(Transport::Datagram, name) };
        let (ada, bob) = (sim.add_client(config("ada")), sim.add_client(config("bob")));
        assert!(sim.run_until(secs(100), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
        let mut asked = BTreeMap::new();
        for n in 0..200 {
            asked.insert(sim.client(ada).send(b"bob", format!("a{n}").as_bytes()), n);
            sim.client(bob).send(b"ada", format!("b{n}").as_bytes());
        }
        assert!(sim.run_until_idle(secs(3_600)), "seed {seed}");
        let (to_ada, to_bob) = (sim.take_events(ada), sim.take_events(bob));
        assert!(
            outcomes(&to_ada).values().all(|outcome| *outcome == Outcome::Acked(Vec::new())),
            "seed {seed}"
        );
        for (heard, sender) in [(messages(&to_ada), "bob> b"), (messages(&to_bob), "ada> a")] {
            let numbers = heard.iter().map(|text| text.strip_prefix(sender).unwrap().parse::<u32>().unwrap());
            let mut numbers: Vec<u32> = numbers.collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "seed {seed}");
        }
        let totals = sim.server().totals();
        assert_eq!(totals.hub.messages, 400, "seed {seed}");
        assert!(totals.datagrams_in < 400, "seed {seed}: {} datagrams were shared", totals.datagrams_in);
    }
}

const TOKEN: &str = "abcdefghijklmnopqrstuv";

fn client(name: Option<&str>) -> (Instant, Client) {
    let now = Instant::now();
    let policy = Backoff::new(ms(100)).with_max_sends(4);
    let config = ClientConfig { window: 32, ..ClientConfig::new(Transport::Datagram, name, policy) };
    (now, Client::new(now, config, 1, Box::new(ChaCha20Rng::seed_from_u64(1))))
}

fn sent(now: Instant, client: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| client.poll_transmit(now)).map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

/// A client that has proven its address and has a session.
fn registered() -> (Instant, Client) {
    let (now, mut client) = client(Some("ada"));
    let nonce = sent(now, &mut client).remove(0);
    let nonce = nonce.strip_prefix("@1 REG 0028 ada ?").unwrap();
    client.handle_datagram(now, format!("@1 ERR 0050 428 {TOKEN} {nonce}").as_bytes());
    assert!(sent(now, &mut client).remove(0).starts_with(&format!("~{TOKEN} @1 REG ")));
    client.handle_datagram(now, format!("~{TOKEN} @1 ACK 0023 {TOKEN}").as_bytes());
    assert!(client.is_ready());
    (now, client)
}

#[test]
fn requests_due_together_share_a_datagram_and_so_do_their_retransmissions() {
    let (now, mut client) = registered();
    client.send(b"bob", b"one");
    client.join(b"#r");
    client.list(None);
    let all = format!("~{TOKEN} @2 SND 0008 bob one@3 JON 0003 #r@4 LST 0000");
    assert_eq!(sent(now, &mut client), std::slice::from_ref(&all));
    assert_eq!(client.stats().transmits, 3, "two for REG");
    client.handle_datagram(now, format!("~{TOKEN} @3 ACK 0000").as_bytes());
    client.handle_timeout(now + ms(1_000));
    assert_eq!(
        sent(now + ms(1_000), &mut client),
        [format!("~{TOKEN} @2 SND 0008 bob one@4 LST 0000")],
        "an answered request is not retransmitted"
    );
    let retries = std::iter::from_fn(|| client.poll()).filter(|event| matches!(event, Event::Retry(_)));
    assert_eq!(retries.count(), 2, "each is told; the REG behind its cookie was another");
}

#[test]
fn no_datagram_of_requests_exceeds_the_limit_and_none_is_delayed_for_another() {
    let (now, mut client) = registered();
    for n in 0..20 {
        client.send(b"bob", format!("{n:300}").as_bytes());
    }
    let datagrams = sent(now, &mut client);
    assert!(datagrams.iter().all(|datagram| datagram.len() <= 1_200));
    assert_eq!(
        datagrams.iter().map(|datagram| datagram.matches(" SND ").count()).collect::<Vec<_>>(),
        [3, 3, 3, 3, 3, 3, 2]
    );
}

#[test]
fn an_acknowledgement_shares_its_datagram_with_requests_and_replaces_earlier_ones() {
    let (now, mut client) = registered();
    client
        .handle_datagram(now, format!("~{TOKEN} @1 RCV 0012 bob 0001 hi@2 RCV 0012 bob 0001 ho").as_bytes());
    client.handle_datagram(now, format!("~{TOKEN} @4 GAP 0002 1").as_bytes());
    client.send(b"bob", b"one");
    assert_eq!(sent(now, &mut client), [format!("~{TOKEN} ACK 0006 1-2,4@2 SND 0008 bob one")]);
}

#[test]
fn an_acknowledgement_of_an_ended_session_shares_its_datagram_with_no_request() {
    let (now, mut client) = registered();
    client.handle_datagram(now, format!("~{TOKEN} @1 RCV 0012 bob 0001 hi").as_bytes());
    client.handle_datagram(now, format!("~{TOKEN} ERR 0004 401").as_bytes());
    client.send(b"bob", b"one");
    let datagrams = sent(now, &mut client);
    assert!(datagrams.iter().all(|datagram| !datagram.contains("SND")), "{datagrams:?}");
}

#[test]
fn requests_without_a_token_share_no_datagram_because_only_the_first_would_be_executed() {
    let (now, mut client) = client(None);
    for _ in 0..3 {
        client.ping();
    }
    let pings = sent(now, &mut client);
    assert_eq!(pings.len(), 3);
    assert!(pings.iter().all(|ping| ping.matches("PNG").count() == 1), "{pings:?}");
}
