//! What peers can make the server keep: it counts against one bound, what is beyond is refused, and who holds much gives way
//! to others.

use std::net::SocketAddr;

use sayagain::config::ServerConfig;
use sayagain::hub::rooms::{MEMBER_COST, ROOM_COST};
use sayagain::hub::{HubConfig, MAX_ROOMS};
use sayagain::service::Remote;

use crate::desk::{Conn, Desk, cookie, nonce, reg, register, snd};
use crate::support::{ms, secs};

const FULL: &str = "ERR 0013 Server full!";
const NO_MEMORY: &str = "ERR 0043 no memory for a message of this length nowBYE 0000";
const EVICTED: &str = "ERR 0049 memory is short, and your message does not go onBYE 0000";

/// What a message of 1 MB for an untagged session is answered with, once all of it has come.
const WHOLE: &str = "ERR 0010 Too long!";

fn bounded(max_memory: usize) -> Desk {
    let hub = HubConfig { max_memory, ..HubConfig::default() };
    Desk::new(ServerConfig { hub, max_per_host: 0, ..ServerConfig::default() })
}

fn from(desk: &mut Desk, ip: [u8; 4]) -> Conn {
    desk.connect_at(0, Remote::Ip(SocketAddr::from((ip, 1_000))))
}

/// Joins rooms of its own until one is refused; returns how many it joined.
fn join_all(desk: &mut Desk, conn: Conn, of: usize) -> usize {
    for n in 0..MAX_ROOMS {
        let room = format!("#room-{of}-{n}");
        let answer = desk.say(conn, format!("JON {:04} {room}", room.len() + 1));
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
    let mut desk = bounded(bound);
    let mut joined = Vec::new();
    for n in 0..200 {
        let conn = desk.connect_as(&format!("REG 0005 n{n:03}"));
        joined.push((conn, join_all(&mut desk, conn, n)));
        assert!(desk.totals().memory <= bound, "{n}");
    }
    let rooms: usize = joined.iter().map(|(_, rooms)| rooms).sum();
    let most = bound / (ROOM_COST + MEMBER_COST);
    assert!(rooms <= most && rooms >= most * 9 / 10, "{rooms} rooms, and {most} is the most");

    // What exists stays, and what is free again may be taken again.
    let ((first, its_rooms), (last, none)) = (joined[0], joined[199]);
    assert_eq!((its_rooms, none), (MAX_ROOMS, 0));
    assert_eq!(desk.say(first, "LST 0011 #room-0-63"), "ACK 0005 n000");
    let memberships =
        (0..10).take_while(|n| desk.say(last, format!("JON 0010 #room-0-{n}")).is_empty()).count();
    assert!(memberships < 10, "a membership takes memory, too: {memberships}");
    assert_eq!(desk.say(last, "@1 JON 0003 #x"), "@1 ERR 0017 503 Server full!");
    desk.hang_up(first);
    assert_eq!(
        desk.say(last, "@1 JON 0003 #x"),
        "@1 ERR 0017 503 Server full!",
        "the answer is final for its id"
    );
    assert_eq!(desk.say(last, "@2 JON 0003 #x"), "@2 ACK 0000");
    joined.iter().skip(1).for_each(|(conn, _)| desk.hang_up(*conn));
    desk.pass(secs(300));
    assert_eq!(desk.totals().memory, 0);
}

#[test]
fn at_the_bound_a_dedup_window_stays_narrow_and_nothing_is_executed_twice() {
    let mut desk = bounded(20_000);
    let filler = desk.connect_as("REG 0005 fill");
    join_all(&mut desk, filler, 0);
    let bob = desk.connect_as("REG 0004 bob");
    let ada = desk.connect();
    desk.say(ada, reg(1, "ada", &format!("?{}", nonce(1))));
    let full = |id: u64| format!("@{id} ERR 0017 503 Server full!");
    let join = |id: u64| format!("@{id} JON 0003 #x");
    for id in 2..200 {
        assert_eq!(desk.say(ada, join(id)), full(id));
    }
    // There is memory again, and the repeats of what was refused are not executed: they are still refused, or nobody knows.
    desk.hang_up(filler);
    let stale = |id: u64| format!("@{id} ERR 0014 410 Stale id!");
    let unknown = (2..200).take_while(|id| desk.say(ada, join(*id)) == stale(*id)).count() as u64;
    assert!((2 + unknown..200).all(|id| desk.say(ada, join(id)) == full(id)));
    assert!([32, 64].contains(&(199 - (2 + unknown))), "{unknown}");
    assert_eq!(desk.say(bob, "LST 0003 #x"), "ERR 0014 No such room!");
    // Now it widens, and forgets nothing more.
    for id in 200..1_200 {
        assert_eq!(desk.say(ada, snd(id, "bob", "x")), format!("@{id} ACK 0000"));
    }
    assert_eq!(desk.heard(bob).matches("RCV").count(), 1_000);
    for id in 200..1_200 {
        assert_eq!(desk.say(ada, snd(id, "bob", "x")), format!("@{id} ACK 0000"));
    }
    assert_eq!(desk.heard(bob), "");
}

#[test]
fn answers_that_are_not_read_count_against_the_memory_bound_and_are_few_when_it_is_short() {
    let bound = 2 << 20;
    let mut desk = bounded(bound);
    let quiet = desk.connect_as("REG 0006 quiet");
    let ping = format!("PNG 9000 {}", "x".repeat(8_999));
    let conns: Vec<Conn> = (0..150).map(|n| desk.connect_as(&format!("REG 0005 n{n:03}"))).collect();
    for conn in &conns {
        desk.clog(*conn);
        // As long as it is read.
        for _ in 0..20 {
            if desk.is_reading(*conn) {
                desk.put(*conn, &ping);
            }
        }
        desk.put(*conn, "PNG 0002 y");
        assert!(desk.totals().memory <= bound, "{}", desk.totals().memory);
    }
    let memory = desk.totals().memory;
    assert!(memory > bound / 4 * 3, "answers take three quarters: {memory}");

    // Who reads is answered, but not at length; messages have the rest.
    assert_eq!(desk.say(quiet, "PNG 0002 y"), "ACK 0002 y");
    assert_eq!(desk.say(quiet, &ping), FULL);
    assert_eq!(desk.say(quiet, "LST 0000").split(' ').next(), Some("ACK"));
    let message = format!("SND 5006 quiet {}", "x".repeat(4_999));
    assert!(desk.say(quiet, message).starts_with("RCV 5011 quiet 0001 xxx"));

    // Whoever reads has all of it, and there is memory for everybody.
    for conn in &conns {
        desk.unclog(*conn);
        assert!(desk.is_reading(*conn));
        let heard = desk.heard(*conn);
        assert!(heard.ends_with("ACK 0002 y"), "{}", heard.len());
    }
    assert_eq!(desk.totals().memory, 0);
    assert!(desk.say(quiet, &ping).starts_with("ACK 9000 xxx"));
}

/// A registered connection from there that has begun a message of 1 MiB and sent so much of it.
fn begin(desk: &mut Desk, ip: [u8; 4], name: &str, sent: usize) -> Conn {
    let conn = from(desk, ip);
    assert_eq!(desk.say(conn, format!("REG {:04} {name}", name.len() + 1)), "");
    desk.put(conn, format!("SND +007 1000000 {name} {}", "x".repeat(sent)));
    conn
}

#[test]
fn messages_that_do_not_go_on_give_their_memory_to_those_that_do() {
    let mut desk = bounded(64 << 20);
    // From as many hosts, as much as may be.
    let holders: Vec<Conn> =
        (0..64).map(|n| begin(&mut desk, [10, 0, 1, n], &format!("h{n}"), 790_000)).collect();
    let (closed, holding) = holders.into_iter().partition(|conn| desk.is_closed(*conn));
    let (closed, holders): (Vec<Conn>, Vec<Conn>) = (closed, holding);
    closed.into_iter().for_each(|conn| desk.hang_up(conn));
    let held = desk.totals().memory;
    assert!(held > 45 << 20 && held <= 48 << 20, "{} hold {held}", holders.len());

    // Who comes at once finds no memory, and after two seconds in which they stood still they give way.
    let hasty = begin(&mut desk, [10, 0, 2, 1], "hasty", 800_000);
    assert_eq!(desk.heard(hasty), NO_MEMORY);
    for n in 0..15 {
        desk.pass(secs(1));
        let name = format!("u{n}");
        let conn = begin(&mut desk, [10, 0, 3, n], &name, 500_000);
        desk.put(conn, "x".repeat(300_000));
        let last = 1_000_000 - 800_000 - name.len() - 2;
        let heard = desk.say(conn, "x".repeat(last));
        assert_eq!(heard, if n > 0 { WHOLE } else { NO_MEMORY }, "after {} s", n + 1);
        assert!(desk.totals().memory <= 64 << 20);
    }
    let evicted: Vec<&Conn> = holders.iter().filter(|conn| desk.is_closed(**conn)).collect();
    assert!(!evicted.is_empty());
    assert_eq!(evicted.len() as u64, desk.totals().evicted);
    let evicted: Vec<Conn> = evicted.into_iter().copied().collect();
    for conn in evicted {
        assert_eq!(desk.heard(conn), EVICTED);
    }
}

#[test]
fn a_host_with_many_unfinished_messages_gives_way_before_others_do() {
    let mut desk = bounded(64 << 20);
    let other = begin(&mut desk, [10, 0, 2, 1], "other", 700_000);
    desk.pass(ms(100));
    let flood: Vec<Conn> =
        (0..100).map(|n| begin(&mut desk, [10, 0, 1, 1], &format!("h{n}"), 790_000)).collect();
    let closed = flood.iter().filter(|conn| desk.is_closed(**conn)).count();
    assert!(closed > 30 && !desk.is_closed(other), "{closed}");
    // One that begins now is not kept waiting for a moment.
    let late = begin(&mut desk, [10, 0, 2, 2], "late", 990_000);
    assert_eq!(desk.say(late, "x".repeat(9_994)), WHOLE);
    desk.pass(ms(1_000));
    assert_eq!(desk.say(other, "x".repeat(299_993)), WHOLE);
    for conn in flood {
        desk.hang_up(conn);
    }
    assert_eq!(desk.totals().memory, 0);
}

#[test]
fn unfinished_messages_leave_a_quarter_of_the_memory_to_queues() {
    let mut desk = bounded(8 << 20);
    let holders: Vec<Conn> =
        (0..20).map(|n| begin(&mut desk, [10, 0, 1, n], &format!("h{n}"), 700_000)).collect();
    assert!(holders.iter().any(|conn| desk.is_closed(*conn)));
    let (ada, bob) = (desk.connect_as("REG 0004 ada"), desk.connect_as("REG 0004 bob"));
    desk.stall(bob, true);
    let mut accepted = 0;
    while desk.say(ada, format!("SND 9005 bob {}", "x".repeat(9_000))).is_empty() {
        accepted += 1;
    }
    assert!(accepted * 9_000 > 2 << 20, "{accepted}");
    assert!(desk.totals().memory <= 8 << 20);
}

#[test]
fn a_host_that_ends_session_after_session_is_refused_and_others_are_not() {
    let hub = HubConfig { max_sessions: 4_096, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..ServerConfig::default() });
    let peer = |host: u8, port: u16| SocketAddr::from(([10, 9, 0, host], port));
    let proof = |n: u32| format!("{n:B>22}");
    let mut opened = 0;
    let refused = loop {
        let (from, proof) = (peer(1, 1_000), proof(opened));
        let cookie = cookie(&mut desk, from, "eve", &proof);
        let answer =
            desk.datagram(from, format!("~{cookie} {}", reg(1, "eve", &format!("?{proof}")))).concat();
        let Some(token) = answer.strip_prefix(&format!("~{cookie} @1 ACK 0023 ")) else { break answer };
        assert_eq!(desk.datagram(from, format!("~{token} @2 BYE 0000")).len(), 1);
        opened += 1;
    };
    assert!(refused.ends_with(" @1 ERR 0017 503 Server full!"), "{refused}");
    assert_eq!(opened, 125, "a 33rd of 4096 in the time that nonces are remembered");
    let others: Vec<String> = (2..200)
        .map(|host| {
            register(&mut desk, peer(host, 1_000), &format!("n{host}"), &proof(9_000 + u32::from(host)))
        })
        .collect();
    assert_eq!(others.len(), 198);

    // What it opened is opened by no late copy, and once that is certain it may open more.
    desk.pass(secs(61));
    register(&mut desk, peer(1, 1_000), "eve", &proof(100_000));
}
