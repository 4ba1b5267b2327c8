//! Floods: registrations from unproven addresses leave no state.

use std::net::SocketAddr;

use sayagain::service::{Peer, Service};

use sayagain::config::ServerConfig;
use sayagain::hub::HubConfig;

use crate::harness::{ServerHarness, addr, cookie, nonce, reg, register};

/// The size of the IPv4 and UDP headers of a datagram, in bytes.
const HEADERS: usize = 28;

#[test]
fn a_million_regs_from_unproven_addresses_leave_no_state_and_get_at_most_one_small_answer_each() {
    let mut harness = ServerHarness::open();
    let (mut answers, mut bytes_in, mut bytes_out) = (0_u32, 0, 0);
    let regs = 1_000_000_u32;
    for n in 0..regs {
        let [_, a, b, c] = n.to_be_bytes();
        let addr = SocketAddr::from(([10, a, b, c], 1 + (n % 60_000) as u16));
        let reg = format!("@1 REG {:04} n{n} ?{}", n.to_string().len() + 26, nonce(1));
        harness.server.datagram(harness.now, Peer::new(0, addr), reg.as_bytes());
        bytes_in += reg.len() + HEADERS;
        let mut own = 0;
        while let Some(transmit) = harness.server.poll_transmit(harness.now) {
            assert_eq!(transmit.peer.addr, addr);
            own += 1;
            bytes_out += transmit.bytes.len() + HEADERS;
        }
        assert!(own <= 1);
        answers += own;
    }
    let totals = harness.totals();
    assert_eq!((answers, totals.hub.sessions, totals.pending_bytes, totals.malformed), (regs, 0, 0, 0));
    assert_eq!(harness.server.sessions(), 0);
    println!("{regs} REGs: {:.2} bytes out per byte in", bytes_out as f64 / bytes_in as f64);
    assert!(bytes_out <= 3 * bytes_in, "{bytes_out} out, {bytes_in} in");
    assert_eq!(harness.server.poll_timeout(), None, "not even a timer");
    assert!(harness.server.is_stateless(), "{:?}", harness.server);
}

#[test]
fn one_proven_address_cannot_open_more_sessions_than_the_limit() {
    let hub = HubConfig { max_sessions: 3, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() });
    let a = addr(1, 1);
    let tokens: Vec<String> =
        (1..=3).map(|n| register(&mut harness, a, &format!("ada-{n}"), &nonce(n))).collect();
    let cookie = cookie(&mut harness, a, "eve", &nonce(4));
    let datagram = format!("~{cookie} {}", reg(1, "eve", &format!("?{}", nonce(4))));
    assert_eq!(harness.datagram(a, &datagram), [format!("~{cookie} @1 ERR 0017 503 Server full!")]);
    let conn = harness.connect();
    assert_eq!(harness.say(conn, "REG 0004 bob"), "ERR 0013 Server full!");
    // Existing sessions are not affected.
    assert_eq!(
        harness.datagram(a, format!("~{} @2 BYE 0000", tokens[0])),
        [format!("~{} @2 ACK 0000", tokens[0])]
    );
    assert_eq!(harness.say(conn, "REG 0004 bob"), "");
}

#[test]
fn one_datagram_is_answered_with_32_at_most_and_dropped_answers_can_be_requested_again() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let token = register(&mut harness, a, "ada", &nonce(1));
    let ping = |id: u64| format!("@{id} PNG 0700 {}", "x".repeat(699));
    let pings: String = (2..82).map(ping).collect();
    let answers = harness.datagram(a, format!("~{token} {pings}"));
    assert_eq!((answers.len(), harness.totals().answers_dropped), (32, 48));
    assert!(answers[31].contains("@33 ACK 0700 "), "the first ones");
    assert_eq!(harness.datagram(a, format!("~{token} {}", ping(81))).len(), 1);
}
