//! `--max-memory`: everything that peers make the server keep counts against one bound, requests beyond it are refused, and
//! large holders give way to others.

use std::net::SocketAddr;

use sayagain::config::ServerConfig;
use sayagain::hub::rooms::{MEMBER_COST, ROOM_COST};
use sayagain::hub::{HubConfig, MAX_ROOMS};
use sayagain::service::Remote;

use crate::harness::{Conn, ServerHarness, cookie, nonce, reg, register, snd};
use crate::support::{ms, secs};

const FULL: &str = "ERR 0013 Server full!";
const NO_MEMORY: &str = "ERR 0043 no memory for a message of this length nowBYE 0000";
const EVICTED: &str = "ERR 0049 memory is short, and your message does not go onBYE 0000";

/// The answer to a message of 1 MB for an untagged session.
const WHOLE: &str = "ERR 0010 Too long!";

fn bounded(max_memory: usize) -> ServerHarness {
    let hub = HubConfig { max_memory, ..HubConfig::default() };
    ServerHarness::new(ServerConfig { hub, max_per_host: 0, ..ServerConfig::default() })
}

fn from(harness: &mut ServerHarness, ip: [u8; 4]) -> Conn {
    harness.connect_at(0, Remote::Ip(SocketAddr::from((ip, 1_000))))
}

/// Joins new rooms until one is refused. Returns how many it joined.
fn join_all(harness: &mut ServerHarness, conn: Conn, of: usize) -> usize {
    for n in 0..MAX_ROOMS {
        let room = format!("#room-{of}-{n}");
        let answer = harness.say(conn, format!("JON {:04} {room}", room.len() + 1));
        if !answer.is_empty() {
            assert_eq!(answer, FULL);
            return n;
        }
    }
    MAX_ROOMS
}

#[test]
fn rooms_and_memberships_count_against_the_memory_bound_and_a_join_beyond_it_is_refused() {
    let bound = 1 << 20;
    let mut harness = bounded(bound);
    let mut joined = Vec::new();
    for n in 0..200 {
        let conn = harness.connect_as(&format!("REG 0005 n{n:03}"));
        joined.push((conn, join_all(&mut harness, conn, n)));
        assert!(harness.totals().memory <= bound, "{n}");
    }
    let rooms: usize = joined.iter().map(|(_, rooms)| rooms).sum();
    let most = bound / (ROOM_COST + MEMBER_COST);
    assert!(rooms <= most && rooms >= most * 9 / 10, "{rooms} rooms, and {most} is the most");

    // Existing rooms stay, and freed memory can be used again.
    let ((first, its_rooms), (last, none)) = (joined[0], joined[199]);
    assert_eq!((its_rooms, none), (MAX_ROOMS, 0));
    assert_eq!(harness.say(first, "LST 0011 #room-0-63"), "ACK 0005 n000");
    let memberships =
        (0..10).take_while(|n| harness.say(last, format!("JON 0010 #room-0-{n}")).is_empty()).count();
    assert!(memberships < 10, "a membership takes memory, too: {memberships}");
    assert_eq!(harness.say(last, "@1 JON 0003 #x"), "@1 ERR 0017 503 Server full!");
    harness.hang_up(first);
    assert_eq!(
        harness.say(last, "@1 JON 0003 #x"),
        "@1 ERR 0017 503 Server full!",
        "the answer is final for its id"
    );
    assert_eq!(harness.say(last, "@2 JON 0003 #x"), "@2 ACK 0000");
    joined.iter().skip(1).for_each(|(conn, _)| harness.hang_up(*conn));
    harness.pass(secs(300));
    assert_eq!(harness.totals().memory, 0);
}

#[test]
fn at_the_memory_limit_a_dedup_window_stays_narrow_and_nothing_is_executed_twice() {
    let mut harness = bounded(20_000);
    let filler = harness.connect_as("REG 0005 fill");
    join_all(&mut harness, filler, 0);
    let bob = harness.connect_as("REG 0004 bob");
    let ada = harness.connect();
    harness.say(ada, reg(1, "ada", &format!("?{}", nonce(1))));
    let full = |id: u64| format!("@{id} ERR 0017 503 Server full!");
    let join = |id: u64| format!("@{id} JON 0003 #x");
    for id in 2..200 {
        assert_eq!(harness.say(ada, join(id)), full(id));
    }
    // With memory free again, repeats of refused requests are not executed: they stay refused, or are unknown.
    harness.hang_up(filler);
    let stale = |id: u64| format!("@{id} ERR 0014 410 Stale id!");
    let unknown = (2..200).take_while(|id| harness.say(ada, join(*id)) == stale(*id)).count() as u64;
    assert!((2 + unknown..200).all(|id| harness.say(ada, join(id)) == full(id)));
    assert!([32, 64].contains(&(199 - (2 + unknown))), "{unknown}");
    assert_eq!(harness.say(bob, "LST 0003 #x"), "ERR 0014 No such room!");
    // Now the window widens, and drops no more ids.
    for id in 200..1_200 {
        assert_eq!(harness.say(ada, snd(id, "bob", "x")), format!("@{id} ACK 0000"));
    }
    assert_eq!(harness.heard(bob).matches("RCV").count(), 1_000);
    for id in 200..1_200 {
        assert_eq!(harness.say(ada, snd(id, "bob", "x")), format!("@{id} ACK 0000"));
    }
    assert_eq!(harness.heard(bob), "");
}

#[test]
fn unread_answers_count_against_the_memory_bound_and_are_few_when_memory_is_short() {
    let bound = 2 << 20;
    let mut harness = bounded(bound);
    let quiet = harness.connect_as("REG 0006 quiet");
    let ping = format!("PNG 9000 {}", "x".repeat(8_999));
    let conns: Vec<Conn> = (0..150).map(|n| harness.connect_as(&format!("REG 0005 n{n:03}"))).collect();
    for conn in &conns {
        harness.clog(*conn);
        // As long as it reads.
        for _ in 0..20 {
            if harness.is_reading(*conn) {
                harness.put(*conn, &ping);
            }
        }
        harness.put(*conn, "PNG 0002 y");
        assert!(harness.totals().memory <= bound, "{}", harness.totals().memory);
    }
    let memory = harness.totals().memory;
    assert!(memory > bound / 4 * 3, "answers take three quarters: {memory}");

    // A connection that reads gets short answers; messages have the rest of the memory.
    assert_eq!(harness.say(quiet, "PNG 0002 y"), "ACK 0002 y");
    assert_eq!(harness.say(quiet, &ping), FULL);
    assert_eq!(harness.say(quiet, "LST 0000").split(' ').next(), Some("ACK"));
    let message = format!("SND 5006 quiet {}", "x".repeat(4_999));
    assert!(harness.say(quiet, message).starts_with("RCV 5011 quiet 0001 xxx"));

    // After all answers are read, there is memory for all.
    for conn in &conns {
        harness.unclog(*conn);
        assert!(harness.is_reading(*conn));
        let heard = harness.heard(*conn);
        assert!(heard.ends_with("ACK 0002 y"), "{}", heard.len());
    }
    assert_eq!(harness.totals().memory, 0);
    assert!(harness.say(quiet, &ping).starts_with("ACK 9000 xxx"));
}

/// A registered connection from this origin that has sent this many bytes of a message of 1 MiB.
fn begin(harness: &mut ServerHarness, ip: [u8; 4], name: &str, sent: usize) -> Conn {
    let conn = from(harness, ip);
    assert_eq!(harness.say(conn, format!("REG {:04} {name}", name.len() + 1)), "");
    harness.put(conn, format!("SND +007 1000000 {name} {}", "x".repeat(sent)));
    conn
}

#[test]
fn stalled_messages_give_their_memory_to_messages_that_make_progress() {
    let mut harness = bounded(64 << 20);
    // From several hosts, up to the bound.
    let holders: Vec<Conn> =
        (0..64).map(|n| begin(&mut harness, [10, 0, 1, n], &format!("h{n}"), 790_000)).collect();
    let (closed, holding) = holders.into_iter().partition(|conn| harness.is_closed(*conn));
    let (closed, holders): (Vec<Conn>, Vec<Conn>) = (closed, holding);
    closed.into_iter().for_each(|conn| harness.hang_up(conn));
    let held = harness.totals().memory;
    assert!(held > 45 << 20 && held <= 48 << 20, "{} hold {held}", holders.len());

    // A new message finds no memory; after two seconds without progress the others give way.
    let hasty = begin(&mut harness, [10, 0, 2, 1], "hasty", 800_000);
    assert_eq!(harness.heard(hasty), NO_MEMORY);
    for n in 0..15 {
        harness.pass(secs(1));
        let name = format!("u{n}");
        let conn = begin(&mut harness, [10, 0, 3, n], &name, 500_000);
        harness.put(conn, "x".repeat(300_000));
        let last = 1_000_000 - 800_000 - name.len() - 2;
        let heard = harness.say(conn, "x".repeat(last));
        assert_eq!(heard, if n > 0 { WHOLE } else { NO_MEMORY }, "after {} s", n + 1);
        assert!(harness.totals().memory <= 64 << 20);
    }
    let evicted: Vec<&Conn> = holders.iter().filter(|conn| harness.is_closed(**conn)).collect();
    assert!(!evicted.is_empty());
    assert_eq!(evicted.len() as u64, harness.totals().evicted);
    let evicted: Vec<Conn> = evicted.into_iter().copied().collect();
    for conn in evicted {
        assert_eq!(harness.heard(conn), EVICTED);
    }
}

#[test]
fn a_host_with_many_unfinished_messages_gives_way_first() {
    let mut harness = bounded(64 << 20);
    let other = begin(&mut harness, [10, 0, 2, 1], "other", 700_000);
    harness.pass(ms(100));
    let flood: Vec<Conn> =
        (0..100).map(|n| begin(&mut harness, [10, 0, 1, 1], &format!("h{n}"), 790_000)).collect();
    let closed = flood.iter().filter(|conn| harness.is_closed(**conn)).count();
    assert!(closed > 30 && !harness.is_closed(other), "{closed}");
    // A message that begins now does not wait.
    let late = begin(&mut harness, [10, 0, 2, 2], "late", 990_000);
    assert_eq!(harness.say(late, "x".repeat(9_994)), WHOLE);
    harness.pass(ms(1_000));
    assert_eq!(harness.say(other, "x".repeat(299_993)), WHOLE);
    for conn in flood {
        harness.hang_up(conn);
    }
    assert_eq!(harness.totals().memory, 0);
}

#[test]
fn unfinished_messages_leave_a_quarter_of_the_memory_to_queues() {
    let mut harness = bounded(8 << 20);
    let holders: Vec<Conn> =
        (0..20).map(|n| begin(&mut harness, [10, 0, 1, n], &format!("h{n}"), 700_000)).collect();
    assert!(holders.iter().any(|conn| harness.is_closed(*conn)));
    let (ada, bob) = (harness.connect_as("REG 0004 ada"), harness.connect_as("REG 0004 bob"));
    harness.stall(bob, true);
    let mut accepted = 0;
    while harness.say(ada, format!("SND 9005 bob {}", "x".repeat(9_000))).is_empty() {
        accepted += 1;
    }
    assert!(accepted * 9_000 > 2 << 20, "{accepted}");
    assert!(harness.totals().memory <= 8 << 20);
}

#[test]
fn a_host_that_opens_and_ends_many_sessions_is_refused_and_others_are_not() {
    let hub = HubConfig { max_sessions: 4_096, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() });
    let peer = |host: u8, port: u16| SocketAddr::from(([10, 9, 0, host], port));
    let proof = |n: u32| format!("{n:B>22}");
    let mut opened = 0;
    let refused = loop {
        let (from, proof) = (peer(1, 1_000), proof(opened));
        let cookie = cookie(&mut harness, from, "eve", &proof);
        let answer =
            harness.datagram(from, format!("~{cookie} {}", reg(1, "eve", &format!("?{proof}")))).concat();
        let Some(token) = answer.strip_prefix(&format!("~{cookie} @1 ACK 0023 ")) else { break answer };
        assert_eq!(harness.datagram(from, format!("~{token} @2 BYE 0000")).len(), 1);
        opened += 1;
    };
    assert!(refused.ends_with(" @1 ERR 0017 503 Server full!"), "{refused}");
    assert_eq!(opened, 125, "a 33rd of 4096 in the time that nonces are remembered");
    let others: Vec<String> = (2..200)
        .map(|host| {
            register(&mut harness, peer(host, 1_000), &format!("n{host}"), &proof(9_000 + u32::from(host)))
        })
        .collect();
    assert_eq!(others.len(), 198);

    // No late copy reopens its sessions, and once their nonces are forgotten it may open more.
    harness.pass(secs(61));
    register(&mut harness, peer(1, 1_000), "eve", &proof(100_000));
}
