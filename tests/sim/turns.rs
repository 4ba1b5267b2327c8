//! Who asks for much at once: it is done in turns, and others have theirs in between.

use sayagain::config::ServerConfig;
use sayagain::hub::HubConfig;
use sayagain::rules::Rules;
use sayagain::service::Service;

use crate::desk::{Conn, Desk, addr, nonce, register, snd};
use crate::support::{ms, secs};

/// How many members the room has beside those who talk.
const CROWD: usize = 1_000;

/// As many messages to the crowd are enough for one turn.
const A_TURN: u64 = 33;

/// `SND 0006 #r hi`, so many times.
fn his(messages: u64) -> String {
    (0..messages).map(|_| "SND 0006 #r hi").collect()
}

/// A crowd in `#r` that does not read, and misses all but one message.
fn crowd() -> Desk {
    let hub = HubConfig { max_pending_messages: 1, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..ServerConfig::default() });
    for n in 0..CROWD {
        let name = format!("member-{n}");
        let conn = desk.connect_as(&format!("REG {:04} {name}JON 0003 #r", name.len() + 1));
        desk.clog(conn);
    }
    desk
}

fn talker(desk: &mut Desk, name: &str) -> Conn {
    desk.connect_as(&format!("REG 0004 {name}JON 0003 #r"))
}

/// Lets what is due happen once.
fn turn(desk: &mut Desk) {
    let at = desk.server.poll_timeout().expect("something is due");
    desk.now = desk.now.max(at);
    desk.server.timeout(desk.now);
}

#[test]
fn what_one_connection_says_to_a_large_room_is_done_in_turns_without_the_others_waiting() {
    let mut desk = crowd();
    let (eve, ada) = (talker(&mut desk, "eve"), talker(&mut desk, "ada"));
    let begun = desk.now;
    desk.put(eve, his(11 * A_TURN + 1) + "PNG 0000");
    assert_eq!(desk.totals().hub.messages, A_TURN);
    assert!(desk.is_busy(eve) && !desk.is_reading(eve));
    assert_eq!(desk.say(ada, "PNG 0000").matches("ACK").count(), 1, "at once");
    for turns in 2..=11 {
        turn(&mut desk);
        assert_eq!(desk.totals().hub.messages, turns * A_TURN);
    }
    assert_eq!(desk.heard(eve), "");
    turn(&mut desk);
    assert_eq!((desk.heard(eve).as_str(), desk.totals().hub.messages), ("ACK 0000", 11 * A_TURN + 1));
    assert!(!desk.is_busy(eve) && desk.is_reading(eve));
    assert!(desk.now - begun < ms(1), "it waits for others, not for a clock");
    assert!(desk.server.poll_timeout().is_none_or(|at| at > desk.now + ms(1)), "nothing is due any more");
}

#[test]
fn many_who_ask_for_much_have_their_turns_one_after_the_other() {
    let mut desk = crowd();
    let talkers: Vec<Conn> =
        ["ada", "bob", "cyd", "dan"].iter().map(|name| talker(&mut desk, name)).collect();
    for conn in &talkers {
        desk.put(*conn, his(10 * A_TURN) + "PNG 0000");
    }
    let begun = desk.totals().hub.messages;
    assert_eq!(begun, 4 * A_TURN);
    let (mut done, mut turns) = (Vec::new(), 0);
    while done.len() < talkers.len() {
        turns += 1;
        turn(&mut desk);
        assert!(desk.totals().hub.messages <= begun + turns * A_TURN);
        done.extend(talkers.iter().filter(|conn| desk.heard(**conn).ends_with("ACK 0000")).map(|_| turns));
    }
    assert!(done[3] - done[0] <= 4, "{done:?}");
}

#[test]
fn who_closes_its_side_is_kept_until_all_that_it_said_had_its_turn() {
    let mut desk = crowd();
    let eve = talker(&mut desk, "eve");
    desk.put(eve, "SND 0006 #r hi".repeat(100));
    desk.half_close(eve);
    assert_eq!(desk.totals().hub.messages, 100);
}

#[test]
fn what_is_too_much_work_for_one_datagram_is_done_when_it_is_repeated() {
    let mut desk = crowd();
    let eve = addr(1, 1);
    let token = register(&mut desk, eve, "eve", &nonce(1));
    desk.datagram(eve, format!("~{token} @2 JON 0003 #r"));
    let messages = |ids: std::ops::Range<u64>| ids.map(|id| snd(id, "#r", "hi")).collect::<String>();
    let done = desk.datagram(eve, format!("~{token} {}", messages(3..103))).concat();
    assert_eq!((done.matches("ACK 0000").count() as u64, desk.totals().hub.messages), (A_TURN, A_TURN));
    assert_eq!(desk.totals().answers_dropped, 100 - A_TURN);
    for repeat in 2..=12 {
        desk.datagram(eve, format!("~{token} {}", messages(3..103)));
        assert_eq!(desk.totals().hub.messages, (repeat * A_TURN).min(100));
    }
}

#[test]
fn names_are_tried_against_many_rules_in_turns_also_if_they_are_taken() {
    let rules: String =
        (0..4_096).map(|n| format!("[[rule]]\nname = \"x{n}*\"\ndeny = [\"0.0.0.0/0\"]\n")).collect();
    let rules: Rules = Rules::parse(rules.as_bytes()).unwrap();
    let mut desk = Desk::new(ServerConfig { rules, ..ServerConfig::default() });
    let ada = desk.connect_as("REG 0004 ada");
    desk.pass(secs(1));
    let eve = desk.connect();
    assert_eq!(desk.say(eve, "REG 0004 ada".repeat(4)), "ERR 0012 Name taken!".repeat(2));
    turn(&mut desk);
    assert_eq!(desk.heard(eve), "ERR 0012 Name taken!".repeat(2));
    assert_eq!(desk.say(eve, "REG 0005 x1yz".repeat(6)), "ERR 0023 Name not allowed here!".repeat(2));
    turn(&mut desk);
    assert_eq!(desk.heard(eve), "ERR 0023 Name not allowed here!".repeat(2));
    assert_eq!(desk.say(ada, "PNG 0000"), "ACK 0000");
    desk.pass(ms(1));
    assert_eq!(desk.heard(eve), "ERR 0023 Name not allowed here!".repeat(2));
}
