//! Random input to servers and clients: no deadline stays armed, and all memory is released.

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use sayagain::client::{Client, Event};
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::hub::HubConfig;
use sayagain::reliable::{Backoff, Outcome};
use sayagain::server::Totals;
use sayagain::service::Service;

use crate::harness::{ServerHarness, addr, local, nonce, reg, register, snd};
use crate::support::{ms, outcomes, secs};

/// Random input of a client, also hostile.
fn frame(rng: &mut ChaCha8Rng, tokens: &[String]) -> String {
    let id = rng.random_range(1..400_u64);
    let name = ["ada", "bob", "cyd", "dan", "#r", "#q"][rng.random_range(0..6)];
    let proof = match rng.random_range(0..3) {
        0 if !tokens.is_empty() => {
            tokens[rng.random_range(tokens.len().saturating_sub(5)..tokens.len())].clone()
        }
        _ => format!("?{}", nonce(rng.random_range(0..9))),
    };
    let tag = if rng.random() { format!("@{id} ") } else { String::new() };
    let up_to = rng.random_range(1..30);
    let ack = format!("{}-{up_to}", rng.random_range(1..=up_to));
    match rng.random_range(0..40) {
        0..6 => reg(id, name, &proof),
        22..25 => format!("REG {:04} {name}", name.len() + 1),
        6..22 => snd(id, name, &"x".repeat(rng.random_range(0..300))),
        25..30 => format!("SND {:04} {name} hi", name.len() + 4),
        30..34 => format!("{tag}JON 0003 #r"),
        34 => format!("{tag}LEV 0003 #r"),
        35 => format!("{tag}LST 0000"),
        36 => format!("{tag}BYE 0000"),
        37..39 => format!("ACK {:04} {ack}", ack.len() + 1),
        _ => "x".to_owned(),
    }
}

fn noise(seed: u64) -> Totals {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let hub = HubConfig { max_pending: 900, max_memory: 3_000, max_sessions: 4, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() });
    let mut tokens = vec![register(&mut harness, addr(1, 1), "eve", &nonce(50))];
    let mut conns = Vec::new();
    for _ in 0..400 {
        if conns.len() < 4 {
            conns.push(harness.connect());
        }
        let conn = conns[rng.random_range(0..conns.len())];
        let text = frame(&mut rng, &tokens);
        let peer = if rng.random() { addr(1, rng.random_range(1..4)) } else { local(rng.random_range(1..3)) };
        let token = tokens[rng.random_range(tokens.len().saturating_sub(5)..tokens.len())].clone();
        let heard = match rng.random_range(0..8) {
            0..3 => harness.say(conn, text),
            3 => harness.datagram(peer, text).concat(),
            4..6 => harness.datagram(peer, format!("~{token} {text}")).concat(),
            6 => {
                harness.pass(ms([1, 100, 100, 1_000, 40_000][rng.random_range(0..5)]));
                String::new()
            }
            _ => {
                harness.stall(conn, rng.random());
                String::new()
            }
        };
        // Tokens and cookies: any word of their length is tried as one.
        let secrets = heard.split([' ', '@', '~']).filter(|word| word.len() >= 22);
        tokens.extend(secrets.filter_map(|word| word.get(..22)).map(str::to_owned));
        if harness.is_closed(conn) || rng.random_range(0..50) == 0 {
            harness.hang_up(conn);
            conns.retain(|other| *other != conn);
        }
        harness.server.timeout(harness.now);
        assert!(
            harness.server.poll_timeout().is_none_or(|at| at > harness.now),
            "seed {seed}: a deadline is left behind"
        );
        assert!(harness.totals().pending_bytes <= 3_000, "seed {seed}");
    }
    for conn in conns {
        harness.hang_up(conn);
    }
    harness.pass(secs(300));
    assert!(harness.server.is_stateless(), "seed {seed}: {:?}", harness.server);
    assert_eq!((harness.totals().pending_bytes, harness.server.poll_timeout()), (0, None), "seed {seed}");
    harness.totals()
}

#[test]
fn any_input_of_peers_leaves_no_deadline_and_releases_all_memory() {
    let (mut messages, mut gaps, mut repeats, mut undelivered) = (0, 0, 0, 0);
    for seed in 0..150 {
        let totals = noise(seed);
        messages += totals.hub.messages;
        gaps += totals.hub.gaps;
        repeats += totals.repeats;
        undelivered += totals.hub.undelivered;
    }
    let heard = [messages, gaps, repeats, undelivered];
    assert!(heard.iter().all(|count| *count > 10), "too little of some of it has happened: {heard:?}");
}

/// Random output of a server, also forged.
fn answer(rng: &mut ChaCha8Rng) -> String {
    let (id, token) = (rng.random_range(1..30_u64), nonce(rng.random_range(0..2)));
    match rng.random_range(0..40) {
        0..12 => format!("@{id} ACK 0023 {token}"),
        12..22 => format!("@{id} ACK 0000"),
        22..24 => format!("@{id} ERR 0004 {}", ["401", "404", "410", "428"][rng.random_range(0..4)]),
        24..26 => format!("@{id} ERR 0050 428 {token} {}", nonce(1)),
        26 => format!("ERR 0027 428 {token}"),
        27 => "ERR 0004 401".to_owned(),
        28 => "ERR 0004 409".to_owned(),
        29 => format!("@{id} BYE 0000"),
        30 => "BYE 0000".to_owned(),
        31 => "x".to_owned(),
        _ => format!("@{id} RCV 0012 bob 0001 hi"),
    }
}

/// A server's answer to a client's output.
fn right_answer(said: &str, is_stream: bool) -> String {
    let (prefix, frame) = said.split_at(said.find('@').unwrap_or(0));
    let (id, rest) = frame.split_once(' ').unwrap_or_default();
    match rest.split_at_checked(3) {
        Some(("REG", args)) if prefix.is_empty() && !is_stream => {
            format!("{id} ERR 0050 428 {} {}", nonce(1), &args[args.len() - 22..])
        }
        Some(("REG", _)) => format!("{prefix}{id} ACK 0023 {}", nonce(1)),
        Some(("PNG", payload)) => format!("{prefix}{id} ACK{payload}"),
        _ => format!("{prefix}{id} ACK 0000"),
    }
}

/// Drains a client's output and keeps the last of it. Afterwards no deadline is due.
fn settle(client: &mut Client, now: Instant, said: &mut String, events: &mut Vec<Event>, seed: u64) {
    while let Some(bytes) = client.poll_transmit(now) {
        *said = String::from_utf8(bytes).unwrap();
    }
    events.extend(std::iter::from_fn(|| client.poll()));
    assert!(client.poll_timeout().is_none_or(|at| at > now), "seed {seed}: a deadline is left behind");
}

fn noise_at_a_client(seed: u64) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let transport = [Transport::Stream, Transport::Datagram][rng.random_range(0..2)];
    let policy =
        Backoff::new(ms(100)).with_max_sends(4).with_deadline([None, Some(ms(250))][rng.random_range(0..2)]);
    let mut config =
        ClientConfig::new(transport, [Some("ada"), None][usize::from(rng.random_ratio(1, 5))], policy);
    config.window = rng.random_range(1..4);
    let mut now = Instant::now();
    let mut client = Client::new(now, config, seed, Box::new(ChaCha20Rng::seed_from_u64(seed)));
    let (mut said, mut events, mut asked) = (String::new(), Vec::new(), Vec::new());
    settle(&mut client, now, &mut said, &mut events, seed);
    for _ in 0..100 {
        let text = answer(&mut rng);
        let right = right_answer(&said, transport == Transport::Stream);
        match rng.random_range(0..20) {
            12.. if transport == Transport::Stream => client.handle_bytes(now, right.as_bytes()),
            12.. => client.handle_datagram(now, right.as_bytes()),
            0..5 if transport == Transport::Stream => client.handle_bytes(now, text.as_bytes()),
            0..2 => client.handle_datagram(now, text.as_bytes()),
            2..5 => {
                client.handle_datagram(now, format!("~{} {text}", nonce(rng.random_range(0..2))).as_bytes())
            }
            5..7 => client.handle_connected(now),
            7 if transport == Transport::Stream => client.handle_disconnected(now),
            8 => asked.push(client.send(b"bob", b"hi")),
            9 => asked.push(client.join(b"#r")),
            10 => now += ms([1, 50, 100, 30_000][rng.random_range(0..4)]),
            _ => asked.push(client.ping()),
        }
        client.handle_timeout(now);
        settle(&mut client, now, &mut said, &mut events, seed);
    }
    client.close();
    for _ in 0..2_000 {
        now = client.poll_timeout().map_or(now, |at| at.max(now));
        client.handle_timeout(now);
        settle(&mut client, now, &mut said, &mut events, seed);
    }
    assert!(client.is_closed(), "seed {seed}: it never ends");
    let outcomes = outcomes(&events);
    assert!(asked.iter().all(|ticket| outcomes.contains_key(ticket)), "seed {seed}: not all has ended");
    let last = events.iter().rposition(|event| !matches!(event, Event::Ended(_)));
    assert!(matches!(events[last.unwrap()], Event::Closed(_)), "seed {seed}: {events:?}");
    outcomes.values().filter(|outcome| matches!(outcome, Outcome::Acked(_))).count()
}

#[test]
fn a_client_with_any_input_ends_and_each_request_has_one_outcome() {
    let acked: usize = (0..300).map(noise_at_a_client).sum();
    assert!(acked > 500, "{acked}");
}
