//! Fairness: many requests of one peer are executed in portions, and other peers are served in between.

use sayagain::config::ServerConfig;
use sayagain::hub::HubConfig;
use sayagain::rules::Rules;
use sayagain::service::Service;
use sayagain::sim::Network as _;

use crate::harness::{Conn, ServerHarness, addr, nonce, register, snd};
use crate::support::{ms, secs};

/// The number of silent members of the room.
const MEMBERS: usize = 1_000;

/// The number of messages to the room that use up one work budget.
const QUANTUM: u64 = 33;

/// `SND 0006 #r hi`, this many times.
fn room_messages(messages: u64) -> String {
    (0..messages).map(|_| "SND 0006 #r hi").collect()
}

/// Members of `#r` that do not read, and receive one message only.
fn silent_room() -> ServerHarness {
    let hub = HubConfig { max_pending_messages: 1, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() });
    for n in 0..MEMBERS {
        let name = format!("member-{n}");
        let conn = harness.connect_as(&format!("REG {:04} {name}JON 0003 #r", name.len() + 1));
        harness.clog(conn);
    }
    harness
}

fn talker(harness: &mut ServerHarness, name: &str) -> Conn {
    harness.connect_as(&format!("REG 0004 {name}JON 0003 #r"))
}

/// Runs the deadlines that are due once.
fn run_due(harness: &mut ServerHarness) {
    assert!(harness.advance(harness.now + secs(3_600)), "something is due");
}

#[test]
fn messages_of_one_connection_to_a_large_room_are_executed_in_portions_and_delay_no_others() {
    let mut harness = silent_room();
    let (eve, ada) = (talker(&mut harness, "eve"), talker(&mut harness, "ada"));
    let begun = harness.now;
    harness.put(eve, room_messages(11 * QUANTUM + 1) + "PNG 0000");
    assert_eq!(harness.totals().hub.messages, QUANTUM);
    assert!(harness.is_busy(eve) && !harness.is_reading(eve));
    assert_eq!(harness.say(ada, "PNG 0000").matches("ACK").count(), 1, "at once");
    for quanta in 2..=11 {
        run_due(&mut harness);
        assert_eq!(harness.totals().hub.messages, quanta * QUANTUM);
    }
    assert_eq!(harness.heard(eve), "");
    run_due(&mut harness);
    assert_eq!((harness.heard(eve).as_str(), harness.totals().hub.messages), ("ACK 0000", 11 * QUANTUM + 1));
    assert!(!harness.is_busy(eve) && harness.is_reading(eve));
    assert!(harness.now - begun < ms(1), "it waits for others, not for a clock");
    assert!(
        harness.server.poll_timeout().is_none_or(|at| at > harness.now + ms(1)),
        "nothing is due any more"
    );
}

#[test]
fn many_expensive_connections_are_executed_in_turn() {
    let mut harness = silent_room();
    let talkers: Vec<Conn> =
        ["ada", "bob", "cyd", "dan"].iter().map(|name| talker(&mut harness, name)).collect();
    for conn in &talkers {
        harness.put(*conn, room_messages(10 * QUANTUM) + "PNG 0000");
    }
    let begun = harness.totals().hub.messages;
    assert_eq!(begun, 4 * QUANTUM);
    let (mut done, mut quanta) = (Vec::new(), 0);
    while done.len() < talkers.len() {
        quanta += 1;
        run_due(&mut harness);
        assert!(harness.totals().hub.messages <= begun + quanta * QUANTUM);
        done.extend(
            talkers.iter().filter(|conn| harness.heard(**conn).ends_with("ACK 0000")).map(|_| quanta),
        );
    }
    assert!(done[3] - done[0] <= 4, "{done:?}");
}

#[test]
fn a_half_closed_connection_stays_until_all_its_input_is_executed() {
    let mut harness = silent_room();
    let eve = talker(&mut harness, "eve");
    harness.put(eve, "SND 0006 #r hi".repeat(100));
    harness.half_close(eve);
    assert_eq!(harness.totals().hub.messages, 100);
}

#[test]
fn work_beyond_the_budget_of_one_datagram_is_done_at_its_repeat() {
    let mut harness = silent_room();
    let eve = addr(1, 1);
    let token = register(&mut harness, eve, "eve", &nonce(1));
    harness.datagram(eve, format!("~{token} @2 JON 0003 #r"));
    let messages = |ids: std::ops::Range<u64>| ids.map(|id| snd(id, "#r", "hi")).collect::<String>();
    let done = harness.datagram(eve, format!("~{token} {}", messages(3..103))).concat();
    assert_eq!((done.matches("ACK 0000").count() as u64, harness.totals().hub.messages), (QUANTUM, QUANTUM));
    assert_eq!(harness.totals().answers_dropped, 100 - QUANTUM);
    for repeat in 2..=12 {
        harness.datagram(eve, format!("~{token} {}", messages(3..103)));
        assert_eq!(harness.totals().hub.messages, (repeat * QUANTUM).min(100));
    }
}

#[test]
fn names_are_checked_against_many_rules_in_portions_also_if_taken() {
    let rules: String =
        (0..4_096).map(|n| format!("[[rule]]\nname = \"x{n}*\"\ndeny = [\"0.0.0.0/0\"]\n")).collect();
    let rules: Rules = Rules::parse(rules.as_bytes()).unwrap();
    let mut harness = ServerHarness::new(ServerConfig { rules, ..ServerConfig::default() });
    let ada = harness.connect_as("REG 0004 ada");
    harness.pass(secs(1));
    let eve = harness.connect();
    // Each name uses up a quantum.
    for (request, answer) in
        [("REG 0004 ada", "ERR 0012 Name taken!"), ("REG 0005 x1yz", "ERR 0023 Name not allowed here!")]
    {
        assert_eq!(harness.say(eve, request.repeat(4)), answer);
        for _ in 2..=4 {
            assert_eq!(harness.say(ada, "PNG 0000"), "ACK 0000", "between two quanta of eve");
            run_due(&mut harness);
            assert_eq!(harness.heard(eve), answer);
        }
        harness.pass(ms(1));
        assert_eq!(harness.heard(eve), "");
    }
}

#[test]
fn thousands_of_requests_in_one_read_are_executed_in_quanta_and_delay_no_others() {
    let mut harness = ServerHarness::open();
    let (eve, ada) = (talker(&mut harness, "eve"), talker(&mut harness, "ada"));
    for request in ["LST 0000", "PNG 0000", "JON 0003 #r", "XYZ 0000"] {
        let sent = 4_000;
        let begun = harness.now;
        harness.put(eve, request.repeat(sent) + "PNG 0004 end");
        // A quantum is 1,024 units, and a request costs at least two.
        let answered = harness.heard(eve).matches("ACK").count();
        assert!(answered <= 512, "{request}: {answered} answers at once");
        assert_eq!(harness.say(ada, "PNG 0000"), "ACK 0000", "beside {request}");
        let quanta = (1..).find(|_| {
            run_due(&mut harness);
            harness.heard(eve).contains("end")
        });
        assert!((6..100).contains(&quanta.unwrap_or(0)), "{request}: {quanta:?} quanta");
        assert!(harness.now < begun + ms(1), "quanta follow each other at once");
        assert!(!harness.is_busy(eve) && harness.is_reading(eve));
    }
}
