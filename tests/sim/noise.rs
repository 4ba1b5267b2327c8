//! Whatever peers say, in whatever order: no deadline is left behind, and what they took is given back.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sayagain::config::ServerConfig;
use sayagain::hub::HubConfig;
use sayagain::server::Totals;
use sayagain::service::Service;

use crate::desk::{Desk, addr, local, nonce, reg, register, snd};
use crate::support::{ms, secs};

/// Something that a client might say, or somebody who wants to do harm.
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
    let mut desk = Desk::new(ServerConfig { hub, ..ServerConfig::default() });
    let mut tokens = vec![register(&mut desk, addr(1, 1), "eve", &nonce(50))];
    let mut conns = Vec::new();
    for _ in 0..400 {
        if conns.len() < 4 {
            conns.push(desk.connect());
        }
        let conn = conns[rng.random_range(0..conns.len())];
        let text = frame(&mut rng, &tokens);
        let peer = if rng.random() { addr(1, rng.random_range(1..4)) } else { local(rng.random_range(1..3)) };
        let token = tokens[rng.random_range(tokens.len().saturating_sub(5)..tokens.len())].clone();
        let heard = match rng.random_range(0..8) {
            0..3 => desk.say(conn, text),
            3 => desk.datagram(peer, text).concat(),
            4..6 => desk.datagram(peer, format!("~{token} {text}")).concat(),
            6 => {
                desk.pass(ms([1, 100, 100, 1_000, 40_000][rng.random_range(0..5)]));
                String::new()
            }
            _ => {
                desk.stall(conn, rng.random());
                String::new()
            }
        };
        // Tokens and cookies: whatever has their length is tried as one.
        let secrets = heard.split([' ', '@', '~']).filter(|word| word.len() >= 22);
        tokens.extend(secrets.filter_map(|word| word.get(..22)).map(str::to_owned));
        if desk.is_closed(conn) || rng.random_range(0..50) == 0 {
            desk.hang_up(conn);
            conns.retain(|other| *other != conn);
        }
        desk.server.timeout(desk.now);
        assert!(
            desk.server.poll_timeout().is_none_or(|at| at > desk.now),
            "seed {seed}: a deadline is left behind"
        );
        assert!(desk.totals().pending_bytes <= 3_000, "seed {seed}");
    }
    for conn in conns {
        desk.hang_up(conn);
    }
    desk.pass(secs(300));
    assert!(desk.server.is_stateless(), "seed {seed}: {:?}", desk.server);
    assert_eq!((desk.totals().pending_bytes, desk.server.poll_timeout()), (0, None), "seed {seed}");
    desk.totals()
}

#[test]
fn whatever_peers_say_no_deadline_is_left_behind_and_what_they_took_is_given_back() {
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
