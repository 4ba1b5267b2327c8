//! Rooms and bounded queues: delivery to members, and the gaps of slow consumers.

use sayagain::config::ServerConfig;
use sayagain::hub::HubConfig;
use sayagain::hub::push::FRAME_OVERHEAD;

use crate::harness::{ServerHarness, addr, nonce, reg, register};
use crate::support::secs;

/// Untagged members of a room, by name.
fn in_room(harness: &mut ServerHarness, names: &[&str]) -> Vec<u64> {
    let join = |name: &&str| {
        let conn = harness.connect_as(&format!("REG {:04} {name}", name.len() + 1));
        assert_eq!(harness.say(conn, "JON 0003 #r"), "");
        conn
    };
    names.iter().map(join).collect()
}

#[test]
fn a_message_to_a_room_reaches_all_its_other_members_with_the_rooms_name() {
    let mut harness = ServerHarness::open();
    let members = in_room(&mut harness, &["ada", "bob", "cyd"]);
    let outside = harness.connect_as("REG 0004 dan");
    assert_eq!(harness.say(members[0], "SND 0012 #r hi there"), "");
    let heard: Vec<String> = members.iter().chain([&outside]).map(|conn| harness.heard(*conn)).collect();
    assert_eq!(heard, ["", "RCV 0020 ada#r 0002 hi there", "RCV 0020 ada#r 0002 hi there", ""]);
    assert_eq!(harness.say(outside, "SND 0006 #r hi"), "ERR 0014 No such room!", "one has to be in it");
    assert_eq!(harness.say(outside, "LST 0003 #r"), "ACK 0012 ada bob cyd");
    assert_eq!(harness.say(outside, "LST 0003 #q"), "ERR 0014 No such room!");
    assert_eq!(harness.say(members[0], "JON 0003 #R"), "", "the same room in capitals, and one is in it");
    assert_eq!(harness.say(outside, "LST 0003 #r"), "ACK 0012 ada bob cyd");
}

#[test]
fn a_room_exists_while_it_has_members() {
    let mut harness = ServerHarness::open();
    let members = in_room(&mut harness, &["ada", "bob"]);
    assert_eq!(harness.say(members[0], "LEV 0003 #r"), "");
    assert_eq!(harness.say(members[0], "LEV 0003 #r"), "ERR 0014 No such room!");
    assert_eq!(harness.say(members[1], "SND 0005 #r x"), "", "a room without other members is not an error");
    harness.say(members[1], "BYE 0000");
    assert_eq!(harness.say(members[0], "LST 0003 #r"), "ERR 0014 No such room!");
}

#[test]
fn a_member_that_leaves_a_room_still_gets_its_queued_messages() {
    let mut harness = ServerHarness::open();
    let members = in_room(&mut harness, &["ada", "bob"]);
    harness.stall(members[1], true);
    harness.say(members[0], "SND 0006 #r 1!SND 0006 #r 2!");
    harness.say(members[1], "LEV 0003 #r");
    harness.say(members[0], "SND 0006 #r 3!");
    harness.stall(members[1], false);
    assert_eq!(harness.heard(members[1]), "RCV 0014 ada#r 0001 1!RCV 0014 ada#r 0001 2!");
}

#[test]
fn a_session_may_be_in_64_rooms() {
    let mut harness = ServerHarness::open();
    let conn = harness.connect_as("REG 0004 ada");
    for n in 10..74 {
        assert_eq!(harness.say(conn, format!("JON 0004 #{n}")), "");
    }
    assert_eq!(harness.say(conn, "JON 0004 #99"), "ERR 0013 Server full!");
    assert_eq!(harness.say(conn, "LEV 0004 #10JON 0004 #99"), "");
}

#[test]
fn names_that_do_not_fit_a_list_are_counted() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let token = register(&mut harness, a, "ada", &nonce(1));
    for n in 0..100 {
        let conn = harness.connect();
        assert_eq!(harness.say(conn, format!("REG 0028 member-number-with-tail-{n:03}")), "");
    }
    let list = harness.datagram(a, format!("~{token} @2 LST 0000"));
    assert!(list[0].len() <= 1_200 && list[0].len() > 1_100, "{}", list[0].len());
    let names: Vec<&str> = list[0].split(' ').collect();
    let more: usize = names.last().unwrap().strip_prefix('+').unwrap().parse().unwrap();
    let listed = names.iter().filter(|name| name.starts_with("member") || **name == "ada").count();
    assert_eq!(listed + more, 101);
}

fn tight(max_pending: usize) -> ServerHarness {
    let hub = HubConfig { max_pending, ..HubConfig::default() };
    ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() })
}

/// The cost of one queued `RCV 0019 ada#r 0001 message`, in bytes.
const COST: usize = "RCV 0019 ada#r 0001 message".len() + FRAME_OVERHEAD;

#[test]
fn a_full_queue_of_a_member_becomes_a_gap_in_its_place_and_the_sender_gets_no_error() {
    let mut harness = tight(3 * COST);
    let members = in_room(&mut harness, &["ada", "bob"]);
    harness.stall(members[1], true);
    for _ in 0..5 {
        assert_eq!(harness.say(members[0], "SND 0011 #r message"), "");
    }
    harness.stall(members[1], false);
    let message = "RCV 0019 ada#r 0001 message";
    assert_eq!(harness.heard(members[1]), message.repeat(3) + "RCV 0029 * 0004 you missed 2 messages");
    assert_eq!(harness.totals().hub.gaps, 2);
}

#[test]
fn a_full_queue_refuses_a_direct_message_and_an_empty_one_accepts_any() {
    let mut harness = tight(100);
    let (ada, bob) = (harness.connect_as("REG 0004 ada"), harness.connect_as("REG 0004 bob"));
    harness.stall(bob, true);
    let long = "x".repeat(500);
    assert_eq!(harness.say(ada, format!("SND 0505 bob {long}")), "", "an empty queue takes any one message");
    assert_eq!(harness.say(ada, "SND 0006 bob x"), "ERR 0012 Queue full!");
    harness.stall(bob, false);
    assert_eq!(harness.say(ada, "SND 0006 bob x"), "");
    assert!(harness.heard(bob).ends_with(" x"));
    assert_eq!(harness.totals().hub.undelivered, 0);
}

#[test]
fn all_queues_together_stay_under_the_memory_bound() {
    let hub = HubConfig { max_memory: 1_000, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() });
    let (ada, bob, cyd) = (
        harness.connect_as("REG 0004 ada"),
        harness.connect_as("REG 0004 bob"),
        harness.connect_as("REG 0004 cyd"),
    );
    harness.stall(bob, true);
    harness.stall(cyd, true);
    let body = "x".repeat(600);
    assert_eq!(harness.say(ada, format!("SND 0605 bob {body}")), "");
    assert_eq!(harness.say(ada, format!("SND 0605 cyd {body}")), "ERR 0012 Queue full!");
    harness.stall(bob, false);
    assert_eq!(harness.say(ada, format!("SND 0605 cyd {body}")), "");
    harness.hang_up(cyd);
    assert_eq!((harness.totals().pending_bytes, harness.totals().hub.undelivered), (0, 1));
}

#[test]
fn an_unsent_gap_stays_in_its_place_and_keeps_counting_while_the_queue_fills_again() {
    let mut harness = tight(2 * COST);
    let members = in_room(&mut harness, &["ada"]);
    let bob = harness.connect();
    let token = harness.say(bob, reg(1, "bob", &format!("?{}", nonce(1))))["@1 ACK 0023 ".len()..].to_owned();
    harness.say(bob, "@2 JON 0003 #r");
    harness.hang_up(bob);
    let mut room = |count: usize| {
        for _ in 0..count {
            harness.say(members[0], "SND 0011 #r message");
        }
    };
    room(5);
    // Bob resumes, but his socket is full: queued pushes get no number yet.
    let bob = harness.connect();
    let heard = harness.say(bob, reg(3, "bob", &token));
    let message = |id: u64| format!("@{id} RCV 0019 ada#r 0001 message");
    assert_eq!(heard, format!("@3 ACK 0023 {token}{}{}@3 GAP 0002 3", message(1), message(2)));
    // Sent pushes without acknowledgement still fill the queue. The next gap is a new one, as the first has its number,
    // and waits for the first to be acknowledged.
    harness.hang_up(bob);
    let mut room = |count: usize| {
        for _ in 0..count {
            harness.say(members[0], "SND 0011 #r message");
        }
    };
    room(4);
    let bob = harness.connect();
    let heard = harness.say(bob, reg(4, "bob", &token));
    assert_eq!(
        heard,
        format!("@4 ACK 0023 {token}{}{}@3 GAP 0002 3", message(1), message(2)),
        "unacknowledged pushes are sent again"
    );
    assert_eq!(harness.say(bob, "ACK 0004 1-3"), "@4 GAP 0002 4");
    harness.say(bob, "ACK 0002 4");
    harness.say(members[0], "SND 0011 #r message");
    assert_eq!(harness.heard(bob), message(5));
    assert_eq!(harness.totals().hub.gaps, 7);
}

#[test]
fn acknowledgements_of_pushes_that_were_never_sent_are_clipped() {
    let mut harness = ServerHarness::open();
    let ada = harness.connect();
    harness.say(ada, reg(1, "ada", &format!("?{}", nonce(1))));
    for ack in [
        "ACK 0022 1-9999999999999999999".to_owned(),
        "ACK 0004 7-3".to_owned(),
        "ACK 0002 0".to_owned(),
        "ACK 0006 1,2,x".to_owned(),
        "@5 ACK 0002 1".to_owned(),
        "ACK 0000".to_owned(),
    ] {
        assert_eq!(harness.say(ada, &ack), "", "{ack}");
    }
    assert!(!harness.is_closed(ada));
    assert_eq!(harness.say(ada, "@2 SND 0007 ada me"), "@2 ACK 0000@1 RCV 0012 ada 0001 me");
    harness.pass(secs(5));
    assert!(
        harness.totals().pending_bytes > 0,
        "an early acknowledgement acknowledges nothing that comes later"
    );
    harness.say(ada, "ACK 0002 1");
    assert_eq!(harness.totals().pending_bytes, 0);
}

#[test]
fn a_consumer_that_never_acknowledges_has_one_growing_gap_and_not_one_per_message() {
    let mut harness = tight(2 * COST);
    let members = in_room(&mut harness, &["ada"]);
    let bob = harness.connect_as(&reg(1, "bob", &format!("?{}", nonce(1))));
    harness.say(bob, "@2 JON 0003 #r");
    for _ in 0..1_000 {
        harness.say(members[0], "SND 0011 #r message");
    }
    let message = |id: u64| format!("@{id} RCV 0019 ada#r 0001 message");
    assert_eq!(harness.heard(bob), message(1) + &message(2) + "@3 GAP 0002 1");
    // Once there is room again, the next push is sent with the gap before it.
    assert_eq!(harness.say(bob, "ACK 0002 1"), "");
    harness.say(members[0], "SND 0011 #r message");
    assert_eq!(harness.heard(bob), "@4 GAP 0004 997".to_owned() + &message(5));
    assert_eq!(harness.totals().hub.gaps, 998);
}
