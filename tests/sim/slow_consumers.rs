//! Slow consumers in rooms: the effect of each policy, the counters and gaps, and which senders are paused.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::hub::push::FRAME_OVERHEAD;
use sayagain::hub::rooms::{MEMBER_COST, ROOM_COST};
use sayagain::hub::{HubConfig, SlowPolicy};
use sayagain::listener::Listener;
use sayagain::rates::Rate;
use sayagain::service::Remote;
use sayagain::wire::{Datagram, Deframer, Frame, Verb, parse_gap};

use crate::harness::{Conn, ServerHarness, addr, local, nonce, reg, register, snd};
use crate::lines::{ASKS, config};
use crate::support::{ms, secs};

/// The cost of one queued `RCV 0014 ada#r 0001 NN`, in bytes.
const COST: usize = "RCV 0014 ada#r 0001 NN".len() + FRAME_OVERHEAD;

/// An upper bound for the cost of most messages of these tests, in bytes.
const ROOMY: usize = 1_000;

/// The memory that this many rooms with names of one letter, and this many members, count for.
const fn rooms(rooms: usize, members: usize) -> usize {
    rooms * (ROOM_COST + 3 * "#r".len()) + members * MEMBER_COST
}

fn harness(slow: SlowPolicy, max_pending: usize) -> ServerHarness {
    with_hub(HubConfig { slow, max_pending, ..HubConfig::default() })
}

fn with_hub(hub: HubConfig) -> ServerHarness {
    ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() })
}

/// An untagged member of a room.
fn untagged(harness: &mut ServerHarness, name: &str, room: &str) -> Conn {
    let conn = harness.connect_as(&format!("REG {:04} {name}", name.len() + 1));
    assert_eq!(harness.say(conn, jon(room)), "");
    conn
}

/// A tagged member of a room.
fn tagged(harness: &mut ServerHarness, name: &str, room: &str, n: u8) -> Conn {
    let conn = harness.connect_as(&reg(1, name, &format!("?{}", nonce(n))));
    assert_eq!(harness.say(conn, format!("@2 {}", jon(room))), "@2 ACK 0000");
    harness.heard(conn);
    conn
}

fn jon(room: &str) -> String {
    format!("JON {:04} {room}", room.len() + 1)
}

/// An untagged SND.
fn send(target: &str, text: &str) -> String {
    format!("SND {:04} {target} {text}", target.len() + text.len() + 2)
}

fn to_room(harness: &mut ServerHarness, from: Conn, numbers: std::ops::RangeInclusive<u32>) {
    for n in numbers {
        assert_eq!(harness.say(from, send("#r", &format!("{n:02}"))), "");
    }
}

fn from_room(number: u32) -> String {
    format!("RCV 0014 ada#r 0001 {number:02}")
}

fn missed(count: u64) -> String {
    let text = if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
    format!("RCV {:04} * 0004 you missed {text}", text.len() + 19)
}

#[test]
fn drop_old_drops_the_oldest_until_the_new_message_fits_and_puts_a_gap_in_their_place() {
    let mut harness = harness(SlowPolicy::DropOld, 3 * COST);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    harness.stall(bob, true);
    to_room(&mut harness, ada, 1..=5);
    harness.stall(bob, false);
    assert_eq!(harness.heard(bob), missed(2) + &from_room(3) + &from_room(4) + &from_room(5));
    assert_eq!(harness.totals().hub.gaps, 2);
    // A long message replaces several; one that could not fit even then is dropped alone.
    harness.stall(bob, true);
    to_room(&mut harness, ada, 1..=3);
    let long = "x".repeat(COST + 2);
    harness.say(ada, send("#r", &long));
    harness.stall(bob, false);
    let frame = format!("RCV {:04} ada#r 0001 {long}", long.len() + 12);
    assert_eq!(harness.heard(bob), missed(2) + &from_room(3) + &frame);
    harness.stall(bob, true);
    harness.say(ada, send("bob", "dddd") + &send("#r", "01") + &send("#r", &"x".repeat(3 * COST)));
    harness.stall(bob, false);
    assert_eq!(harness.heard(bob), "RCV 0014 ada 0001 dddd".to_owned() + &from_room(1) + &missed(1));
}

#[test]
fn drop_old_never_drops_a_direct_message_or_a_numbered_push() {
    let mut harness = harness(SlowPolicy::DropOld, 3 * COST);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    let direct = "RCV 0014 ada 0001 dddd";
    harness.stall(bob, true);
    to_room(&mut harness, ada, 1..=1);
    assert_eq!(harness.say(ada, send("bob", "dddd")), "");
    to_room(&mut harness, ada, 2..=3);
    assert_eq!(
        harness.say(ada, send("bob", "dddd")),
        "ERR 0012 Queue full!",
        "a direct message is kept or refused"
    );
    to_room(&mut harness, ada, 4..=4);
    harness.stall(bob, false);
    assert_eq!(harness.heard(bob), missed(1) + direct + &missed(1) + &from_room(3) + &from_room(4));
    // Only direct messages are queued: the new message becomes the gap after them.
    harness.stall(bob, true);
    for _ in 0..3 {
        assert_eq!(harness.say(ada, send("bob", "dddd")), "");
    }
    to_room(&mut harness, ada, 5..=6);
    harness.stall(bob, false);
    assert_eq!(harness.heard(bob), direct.repeat(3) + &missed(2));
    // Sent pushes of a tagged session have numbers, so the queued ones after them are dropped.
    let cyd = tagged(&mut harness, "cyd", "#r", 1);
    to_room(&mut harness, ada, 1..=2);
    harness.stall(cyd, true);
    to_room(&mut harness, ada, 3..=5);
    harness.stall(cyd, false);
    let number = |id, n| format!("@{id} {}", from_room(n));
    assert_eq!(harness.heard(cyd), number(1, 1) + &number(2, 2) + "@3 GAP 0002 2" + &number(4, 5));
}

#[test]
fn disconnect_ends_the_session_of_a_slow_consumer_and_sends_the_reason() {
    let mut harness = harness(SlowPolicy::Disconnect, 3 * COST);
    let ada = untagged(&mut harness, "ada", "#r");
    for is_tagged in [false, true] {
        let member = if is_tagged {
            tagged(&mut harness, "bob", "#r", 1)
        } else {
            untagged(&mut harness, "bob", "#r")
        };
        let before = harness.totals().hub;
        harness.clog(member);
        to_room(&mut harness, ada, 1..=3);
        assert!(!harness.is_closed(member));
        to_room(&mut harness, ada, 4..=4);
        assert!(harness.is_closed(member), "closed although a write waits");
        let names = harness.say(ada, "LST 0003 #r");
        assert_eq!(names, "ACK 0004 ada", "gone at once, and it does not linger");
        let after = harness.totals();
        assert_eq!((after.hub.cut_off - before.cut_off, after.hub.gaps, after.pending_bytes), (1, 0, 0));
        harness.unclog(member);
        let heard = harness.heard(member);
        let bye = if is_tagged { "BYE 0006 ended" } else { "BYE 0000" };
        assert!(heard.ends_with(&format!("ERR 0020 you read too slowly{bye}")), "{heard}");
        harness.hang_up(member);
    }
    // The untagged session was sent one message, which is final; the tagged one never acknowledged it.
    assert_eq!(harness.totals().hub.undelivered, (2 + 1) + (3 + 1));
    assert!(harness.totals().to_string().contains(", slow consumers cut off 2, "));
}

#[test]
fn disconnect_ends_a_session_over_datagrams_whose_next_request_gets_a_401() {
    let mut harness = harness(SlowPolicy::Disconnect, 3 * COST);
    let ada = untagged(&mut harness, "ada", "#r");
    let a = addr(1, 1);
    let token = register(&mut harness, a, "bob", &nonce(1));
    assert_eq!(harness.datagram(a, format!("~{token} @2 JON 0003 #r")), [format!("~{token} @2 ACK 0000")]);
    to_room(&mut harness, ada, 1..=4);
    let heard = harness.datagrams_to(a);
    let end = format!("~{token} ERR 0020 you read too slowlyBYE 0006 ended");
    assert_eq!(
        (heard.len(), heard.contains(&end)),
        (3 + 1, true),
        "all that had room, and why it ends: {heard:?}"
    );
    assert_eq!(harness.datagram(a, format!("~{token} @3 PNG 0000")), [format!("~{token} ERR 0004 401")]);
    assert_eq!((harness.totals().hub.cut_off, harness.totals().hub.undelivered), (1, 4));
}

#[test]
fn disconnect_spares_a_session_within_its_share_of_memory_that_others_fill() {
    let hub = HubConfig {
        slow: SlowPolicy::Disconnect,
        max_memory: 8 * COST + rooms(2, 3),
        ..HubConfig::default()
    };
    let mut harness = with_hub(hub);
    let (ada, bob, cyd) = (
        untagged(&mut harness, "ada", "#r"),
        untagged(&mut harness, "bob", "#q"),
        untagged(&mut harness, "cyd", "#r"),
    );
    for conn in [bob, cyd] {
        harness.stall(conn, true);
    }
    for _ in 0..7 {
        assert_eq!(harness.say(ada, send("bob", "1234")), "");
    }
    to_room(&mut harness, ada, 1..=2);
    harness.stall(cyd, false);
    assert_eq!(harness.heard(cyd), from_room(1) + &missed(1), "it is not the slow consumer");
    assert_eq!(harness.totals().hub.cut_off, 0);
}

#[test]
fn queues_are_bounded_in_messages_as_well() {
    let hub = HubConfig { max_pending_messages: 2, ..HubConfig::default() };
    let mut harness = with_hub(hub);
    let (ada, bob, cyd) = (
        untagged(&mut harness, "ada", "#r"),
        untagged(&mut harness, "bob", "#r"),
        tagged(&mut harness, "cyd", "#r", 1),
    );
    harness.stall(bob, true);
    to_room(&mut harness, ada, 1..=4);
    assert_eq!(harness.say(ada, send("bob", "hi")), "ERR 0012 Queue full!");
    harness.stall(bob, false);
    assert_eq!(harness.heard(bob), from_room(1) + &from_room(2) + &missed(2));
    let number = |id, n| format!("@{id} {}", from_room(n));
    assert_eq!(harness.heard(cyd), number(1, 1) + &number(2, 2) + "@3 GAP 0002 1", "unacknowledged counts");
    assert_eq!(harness.say(cyd, "ACK 0004 1-3"), "@4 GAP 0002 1");
    to_room(&mut harness, ada, 5..=5);
    assert_eq!(harness.heard(cyd), number(5, 5));
}

#[test]
fn output_counts_until_it_is_written() {
    let mut harness = harness(SlowPolicy::DropNew, 3 * COST);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    harness.clog(bob);
    to_room(&mut harness, ada, 1..=5);
    assert_eq!((harness.totals().pending_bytes, harness.totals().hub.gaps), (3 * COST, 2));
    harness.trickle(bob);
    assert_eq!(harness.totals().pending_bytes, 2 * COST, "the first is written, the others are being so");
    to_room(&mut harness, ada, 6..=7);
    harness.unclog(bob);
    assert_eq!(
        harness.heard(bob),
        from_room(1) + &from_room(2) + &from_room(3) + &missed(2) + &from_room(6) + &missed(1)
    );
    assert_eq!(harness.totals().pending_bytes, 0);
    // A connection that is reset during a write leaves nothing that counts.
    harness.clog(bob);
    to_room(&mut harness, ada, 8..=8);
    harness.hang_up(bob);
    assert_eq!(harness.totals().pending_bytes, 0);
}

#[test]
fn acknowledging_unread_pushes_gains_no_queue_space() {
    let mut harness = harness(SlowPolicy::DropNew, 3 * COST);
    let ada = untagged(&mut harness, "ada", "#r");
    let (bob, token) = {
        let conn = harness.connect();
        let answer = harness.say(conn, reg(1, "bob", &format!("?{}", nonce(1))));
        (conn, answer["@1 ACK 0023 ".len()..].to_owned())
    };
    harness.say(bob, format!("@2 {}", jon("#r")));
    harness.clog(bob);
    let pending = |harness: &ServerHarness| (harness.totals().pending_bytes, harness.totals().hub.gaps);
    for n in 1..=20 {
        to_room(&mut harness, ada, n..=n);
        harness.put(bob, "ACK 0007 1-1000");
    }
    assert_eq!(pending(&harness), (3 * COST, 17), "the first is with the writer, whatever he says");
    assert_eq!(harness.say(ada, send("bob", "direct")), "ERR 0012 Queue full!");
    harness.trickle(bob);
    assert_eq!(pending(&harness), (2 * COST, 17), "it is written, and the others are with the writer");
    harness.put(bob, "ACK 0007 1-1000");
    assert_eq!(pending(&harness).0, 2 * COST);
    harness.trickle(bob);
    assert_eq!(pending(&harness).0, 0);
    assert_eq!(
        harness.heard(bob),
        format!("@1 {}@2 {}@3 {}@4 GAP 0003 17", from_room(1), from_room(2), from_room(3))
    );
    // The output of an old connection does not count for the session once another connection carries it,
    to_room(&mut harness, ada, 21..=21);
    harness.put(bob, "ACK 0007 1-1000");
    assert_eq!(pending(&harness).0, COST);
    let other = harness.connect_as(&reg(3, "bob", &token));
    assert_eq!((pending(&harness).0, harness.heard(other)), (0, String::new()));
    // or none does.
    harness.clog(other);
    to_room(&mut harness, ada, 22..=22);
    harness.put(other, "ACK 0007 1-1000");
    assert_eq!(pending(&harness).0, COST);
    harness.hang_up(other);
    assert_eq!((pending(&harness), harness.server.sessions()), ((0, 17), 2));
}

/// One member: its connection, its received messages, and the messages sent to it.
struct Member {
    name: String,
    kind: MemberKind,
    /// Received pushes, by number.
    seen: BTreeSet<u64>,
    heard: Vec<Heard>,
    sent: Vec<Sent>,
    is_gone: bool,
}

enum MemberKind {
    Untagged(Conn),
    Tagged(Conn),
    Datagrams(SocketAddr, String),
    Bare(SocketAddr),
}

#[derive(Debug, PartialEq)]
enum Heard {
    Message(String),
    Gap(u64),
}

struct Sent {
    body: String,
    is_direct: bool,
}

/// The members of `#r`, a sender that reads all its output, and a seeded order of reads.
struct SlowRoom {
    harness: ServerHarness,
    rng: ChaCha20Rng,
    ada: Conn,
    members: Vec<Member>,
    next: u32,
}

impl SlowRoom {
    fn new(slow: SlowPolicy, seed: u64) -> Self {
        let hub = HubConfig { slow, max_pending: 8 * COST, max_pending_messages: 7, ..HubConfig::default() };
        let mut harness = with_hub(hub);
        let ada = untagged(&mut harness, "ada", "#r");
        let mut members = Vec::new();
        for n in 1..=2 {
            let named = |prefix: &str, kind| Member {
                name: format!("{prefix}-{n}"),
                kind,
                seen: BTreeSet::new(),
                heard: Vec::new(),
                sent: Vec::new(),
                is_gone: false,
            };
            let plain = untagged(&mut harness, &format!("plain-{n}"), "#r");
            harness.clog(plain);
            members.push(named("plain", MemberKind::Untagged(plain)));
            let stream = tagged(&mut harness, &format!("stream-{n}"), "#r", n);
            harness.clog(stream);
            members.push(named("stream", MemberKind::Tagged(stream)));
            let at = addr(n, 1);
            let token = register(&mut harness, at, &format!("datagrams-{n}"), &nonce(n + 10));
            harness.datagram(at, format!("~{token} @2 JON 0003 #r"));
            members.push(named("datagrams", MemberKind::Datagrams(at, token)));
            let at = local(u16::from(n));
            harness.datagram(at, format!("REG 0007 bare-{n}JON 0003 #r"));
            members.push(named("bare", MemberKind::Bare(at)));
        }
        Self { harness, rng: ChaCha20Rng::seed_from_u64(seed), ada, members, next: 10_000 }
    }

    /// Runs a random step.
    fn step(&mut self) {
        let whose = self.rng.random_range(0..self.members.len());
        match self.rng.random_range(0..10) {
            0..=5 => self.say_to_room(),
            6 => self.say_to(whose),
            7 | 8 => self.read(whose),
            _ => self.harness.pass(ms(self.rng.random_range(0..200))),
        }
    }

    fn body(&mut self) -> String {
        self.next += 1;
        let tail = if self.rng.random_bool(0.1) { self.rng.random_range(0..3 * COST) } else { 0 };
        format!("{}{}", self.next, "x".repeat(tail))
    }

    fn say_to_room(&mut self) {
        let body = self.body();
        assert_eq!(self.harness.say(self.ada, send("#r", &body)), "");
        for member in &mut self.members {
            member.sent.push(Sent { body: body.clone(), is_direct: false });
        }
    }

    fn say_to(&mut self, whose: usize) {
        let body = self.body();
        let answer = self.harness.say(self.ada, send(&self.members[whose].name, &body));
        if answer.is_empty() {
            self.members[whose].sent.push(Sent { body, is_direct: true });
        } else {
            assert_eq!(answer, "ERR 0012 Queue full!");
        }
    }

    /// A member reads its socket, and acknowledges.
    fn read(&mut self, whose: usize) {
        let Member { kind, seen, heard, is_gone, .. } = &mut self.members[whose];
        if *is_gone {
            return;
        }
        match kind {
            MemberKind::Untagged(conn) | MemberKind::Tagged(conn) => {
                self.harness.trickle(*conn);
                let bytes = self.harness.heard(*conn);
                let (mut bytes, mut deframer) = (bytes.as_bytes(), Deframer::new(1 << 20));
                let mut acks = Vec::new();
                while let Some(frame) = deframer.next(&mut bytes).unwrap() {
                    acks.extend(hear(&frame, seen, heard));
                }
                for ack in acks {
                    self.harness.say(*conn, &ack);
                }
            }
            MemberKind::Datagrams(at, token) => {
                for datagram in self.harness.datagrams_to(*at) {
                    for frame in Datagram::parse(datagram.as_bytes(), 1 << 20).unwrap().frames {
                        if let Some(ack) = hear(&frame, seen, heard) {
                            self.harness.server_datagram(*at, format!("~{token} {ack}"));
                        }
                    }
                }
            }
            MemberKind::Bare(at) => {
                for datagram in self.harness.datagrams_to(*at) {
                    for frame in Datagram::parse(datagram.as_bytes(), 1 << 20).unwrap().frames {
                        hear(&frame, seen, heard);
                    }
                }
            }
        }
    }

    /// All members read until nothing more arrives.
    fn read_all(&mut self) {
        for _ in 0..200 {
            for whose in 0..self.members.len() {
                self.read(whose);
            }
            self.harness.pass(ms(100));
        }
        assert_eq!(self.harness.totals().pending_bytes, 0);
    }
}

/// Records a push at its first arrival. Returns its acknowledgement.
fn hear(frame: &Frame<'_>, seen: &mut BTreeSet<u64>, heard: &mut Vec<Heard>) -> Option<String> {
    let is_new = frame.id.is_none_or(|id| seen.insert(id.get()));
    let text = String::from_utf8(frame.args().to_vec()).unwrap();
    let pushed = match frame.verb {
        Verb::Gap => Heard::Gap(parse_gap(frame.args()).unwrap()),
        Verb::Rcv => match text.strip_prefix("* 0004 you missed ") {
            Some(gap) => Heard::Gap(gap.split_once(' ').unwrap().0.parse().unwrap()),
            None => Heard::Message(text.splitn(3, ' ').nth(2).unwrap().to_owned()),
        },
        _ => return None,
    };
    if is_new {
        // Over datagrams pushes may be repeated but, without loss, not reordered.
        heard.push(pushed);
    }
    let id = frame.id?.get().to_string();
    Some(format!("ACK {:04} {id}", id.len() + 1))
}

/// Checks that received messages, with gaps in their place, equal the sent ones. Returns the sum of the gaps.
fn check(member: &Member) -> u64 {
    let (mut sent, mut missed) = (member.sent.iter(), 0);
    for heard in &member.heard {
        match heard {
            Heard::Message(body) => {
                assert_eq!(sent.next().map(|sent| &sent.body), Some(body), "{}", member.name)
            }
            Heard::Gap(count) => {
                missed += count;
                let gap: Vec<&Sent> = sent.by_ref().take(usize::try_from(*count).unwrap()).collect();
                assert_eq!(gap.len() as u64, *count, "{}: more missed than sent", member.name);
                assert!(
                    gap.iter().all(|sent| !sent.is_direct),
                    "{}: a direct message was dropped",
                    member.name
                );
            }
        }
    }
    assert_eq!(sent.count(), 0, "{}: neither heard nor missed", member.name);
    missed
}

#[test]
fn received_messages_and_gaps_equal_the_sent_messages_under_both_drop_policies() {
    for slow in [SlowPolicy::DropNew, SlowPolicy::DropOld] {
        let mut dropped = 0;
        for seed in 0..40 {
            println!("{slow}, seed {seed}");
            let mut slow_room = SlowRoom::new(slow, seed);
            for _ in 0..400 {
                slow_room.step();
                assert!(slow_room.harness.totals().pending_bytes <= 8 * 8 * COST);
            }
            slow_room.read_all();
            let told: u64 = slow_room.members.iter().map(check).sum();
            let counted = slow_room.harness.totals().hub;
            assert_eq!(
                (told, counted.untold, counted.undelivered),
                (counted.gaps, 0, 0),
                "{slow}, seed {seed}"
            );
            dropped += counted.gaps;
        }
        assert!(dropped > 1_000, "{dropped}: the members must be slow consumers");
    }
}

#[test]
fn dropped_messages_equal_reported_gaps_plus_unreported_gaps_of_ended_sessions() {
    for slow in [SlowPolicy::DropNew, SlowPolicy::DropOld] {
        let mut untold = 0;
        for seed in 0..40 {
            let mut slow_room = SlowRoom::new(slow, seed);
            for _ in 0..400 {
                slow_room.step();
            }
            // Two disconnect without BYE, one of them with a session that lingers and ends.
            for whose in [0, 1] {
                let (MemberKind::Untagged(conn) | MemberKind::Tagged(conn)) = slow_room.members[whose].kind
                else {
                    unreachable!()
                };
                slow_room.read(whose);
                slow_room.harness.hang_up(conn);
                if whose == 0 {
                    // Gaps given to its connection count as reported.
                    slow_room.read(whose);
                }
                slow_room.members[whose].is_gone = true;
            }
            slow_room.harness.pass(secs(31));
            slow_room.read_all();
            let gaps = slow_room.members.iter().flat_map(|member| &member.heard).map(|heard| match heard {
                Heard::Gap(count) => *count,
                Heard::Message(_) => 0,
            });
            let (told, counted) = (gaps.sum::<u64>(), slow_room.harness.totals().hub);
            assert_eq!(told + counted.untold, counted.gaps, "{slow}, seed {seed}");
            untold += counted.untold;
        }
        assert!(untold > 0, "some session must end with unreported gaps");
    }
}

#[test]
fn a_flood_stays_within_all_bounds_and_a_queue_of_direct_messages_takes_no_time() {
    let hub = HubConfig {
        slow: SlowPolicy::DropOld,
        max_pending_messages: 20_000,
        max_memory: 10 << 20,
        ..HubConfig::default()
    };
    let mut harness = with_hub(hub);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    harness.stall(bob, true);
    for _ in 0..19_900 {
        harness.say(ada, send("bob", "direct"));
    }
    for _ in 0..200_000 {
        harness.say(ada, send("#r", "flood"));
        assert!(harness.totals().pending_bytes <= 10 << 20);
    }
    assert_eq!(harness.server.totals().waiting, 20_000);
    harness.stall(bob, false);
    let heard = harness.heard(bob);
    assert!(heard.ends_with(&(missed(199_900) + &"RCV 0017 ada#r 0001 flood".repeat(100))));
    assert_eq!(heard.matches("direct").count(), 19_900);
    assert_eq!((harness.totals().hub.gaps, harness.totals().pending_bytes), (199_900, 0));
}

/// Ada and bob in `#r` under `block`; bob's socket is full, and his queue holds one message.
fn blocked() -> (ServerHarness, Conn, Conn) {
    let mut harness = harness(SlowPolicy::Block, 1);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    harness.clog(bob);
    assert_eq!(harness.say(ada, send("#r", "01")), "");
    assert!(harness.is_reading(ada));
    (harness, ada, bob)
}

#[test]
fn block_pauses_a_sender_and_its_later_input_until_the_member_has_room() {
    let (mut harness, ada, bob) = blocked();
    let cyd = untagged(&mut harness, "cyd", "#q");
    assert_eq!(harness.say(ada, send("#r", "02") + &send("#r", "03") + "PNG 0003 hi"), "");
    assert!(!harness.is_reading(ada));
    assert_eq!(harness.say(cyd, send("ada", "direct") + "PNG 0000"), "ACK 0000", "others are not delayed");
    assert_eq!(harness.heard(ada), "RCV 0016 cyd 0001 direct", "nor is output to a paused sender");
    harness.pass(secs(3_600));
    assert!(!harness.is_reading(ada) && !harness.is_closed(ada), "no clock runs for it");
    harness.trickle(bob);
    assert_eq!((harness.heard(bob), harness.is_reading(ada)), (from_room(1), false));
    harness.trickle(bob);
    assert_eq!((harness.heard(bob), harness.is_reading(ada)), (from_room(2), true));
    assert_eq!(harness.heard(ada), "ACK 0003 hi");
    harness.unclog(bob);
    assert_eq!(harness.heard(bob), from_room(3));
    assert_eq!((harness.totals().hub.gaps, harness.totals().pending_bytes), (0, 0));
}

#[test]
fn a_partial_frame_of_a_paused_sender_gets_its_full_time_once_reading_resumes() {
    let (mut harness, ada, bob) = blocked();
    harness.say(ada, send("#r", "02") + "SND 0006 #r");
    harness.pass(secs(60));
    harness.unclog(bob);
    assert!(harness.is_reading(ada));
    harness.pass(secs(9));
    assert!(!harness.is_closed(ada));
    harness.pass(secs(2));
    assert!(harness.is_closed(ada), "{}", harness.heard(ada));
}

#[test]
fn paused_senders_resume_when_the_member_leaves_disconnects_or_is_closed() {
    let leave = |harness: &mut ServerHarness, bob| assert_eq!(harness.say(bob, "LEV 0003 #r"), "");
    let close = |harness: &mut ServerHarness, bob| harness.hang_up(bob);
    let bye = |harness: &mut ServerHarness, bob| assert_eq!(harness.say(bob, "BYE 0000"), "");
    let cut = |harness: &mut ServerHarness, bob| {
        harness.say(bob, "SND 0009 #r");
        harness.pass(secs(11));
        assert!(harness.is_closed(bob));
        harness.hang_up(bob);
    };
    for (what, end) in [
        ("leaves", &leave as &dyn Fn(&mut ServerHarness, Conn)),
        ("hangs up", &close),
        ("says bye", &bye),
        ("is cut off", &cut),
    ] {
        let (mut harness, ada, bob) = blocked();
        let dan = untagged(&mut harness, "dan", "#r");
        for sender in [ada, dan] {
            assert_eq!(harness.say(sender, send("#r", "02") + "PNG 0000"), "");
            assert!(!harness.is_reading(sender), "{what}");
        }
        end(&mut harness, bob);
        for sender in [ada, dan] {
            assert!(harness.is_reading(sender), "{what}");
            assert!(harness.heard(sender).contains("ACK 0000"), "{what}");
        }
    }
}

#[test]
fn a_sender_paused_by_a_member_in_another_room_stays_paused_when_it_leaves_one() {
    let mut harness = harness(SlowPolicy::Block, 1);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    let cyd = untagged(&mut harness, "cyd", "#q");
    harness.say(bob, "JON 0003 #q");
    harness.clog(bob);
    to_room(&mut harness, ada, 1..=1);
    harness.say(cyd, send("#q", "q1") + "PNG 0000");
    harness.say(ada, send("#r", "02") + "PNG 0000");
    harness.say(bob, "LEV 0003 #r");
    assert_eq!((harness.is_reading(cyd), harness.is_reading(ada)), (false, true));
    assert_eq!(harness.heard(ada), "ACK 0000");
    harness.unclog(bob);
    assert_eq!(
        (harness.is_reading(cyd), harness.heard(bob)),
        (true, from_room(1) + "RCV 0014 cyd#q 0001 q1")
    );
}

#[test]
fn two_senders_paused_by_one_member_take_turns() {
    let (mut harness, ada, bob) = blocked();
    let dan = untagged(&mut harness, "dan", "#r");
    for n in 0..20 {
        harness.say(ada, send("#r", &format!("a{n}")));
        harness.say(dan, send("#r", &format!("d{n}")));
    }
    let mut heard = String::new();
    for _ in 0..100 {
        harness.trickle(bob);
        heard += &harness.heard(bob);
    }
    let order: Vec<&str> = heard.split("#r 0001 ").skip(1).map(|part| &part[..1]).collect();
    assert_eq!(order.join(""), "0".to_owned() + &"ad".repeat(20));
}

#[test]
fn a_long_message_is_not_starved_by_short_ones() {
    let mut harness = harness(SlowPolicy::Block, 10 * ROOMY);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    let dan = untagged(&mut harness, "dan", "#r");
    harness.clog(bob);
    for _ in 0..5 {
        assert_eq!(harness.say(ada, send("#r", &"x".repeat(ROOMY))), "");
    }
    assert_eq!(harness.say(ada, send("#r", &"long".repeat(2 * ROOMY))), "");
    assert!(!harness.is_reading(ada));
    let mut before = 0;
    while !harness.is_reading(ada) {
        assert!(before < 10, "it is never resumed");
        if harness.is_reading(dan) {
            harness.say(dan, send("#r", "short"));
            before += 1;
        }
        harness.trickle(bob);
    }
    harness.unclog(bob);
    let heard = harness.heard(bob);
    assert!(heard.contains("long") && !heard.contains("missed"));
}

#[test]
fn the_next_paused_sender_resumes_when_the_first_disconnects() {
    let mut harness = harness(SlowPolicy::Block, 10 * ROOMY);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    let (dan, eve) = (untagged(&mut harness, "dan", "#r"), untagged(&mut harness, "eve", "#r"));
    harness.clog(bob);
    harness.say(ada, send("#r", "01"));
    harness.say(ada, send("#r", &"long".repeat(2_450)));
    assert_eq!(harness.say(dan, send("#r", "02") + "PNG 0000"), "RCV 0014 ada#r 0001 01");
    assert!(
        !harness.is_reading(ada) && !harness.is_reading(dan),
        "there is room, but an earlier sender is resumed first"
    );
    harness.hang_up(ada);
    assert_eq!(harness.heard(dan), "ACK 0000");
    assert_eq!(harness.say(eve, send("#r", "03") + "PNG 0000").matches("ACK").count(), 1);
}

#[test]
fn two_members_that_pause_each_other_resume_once_both_read_again() {
    let mut harness = harness(SlowPolicy::Block, 1);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    for conn in [ada, bob] {
        harness.clog(conn);
    }
    for n in 1..=5 {
        harness.say(ada, send("#r", &format!("a{n}")));
        harness.say(bob, send("#r", &format!("b{n}")));
    }
    assert!(!harness.is_reading(ada) && !harness.is_reading(bob));
    for conn in [ada, bob] {
        harness.unclog(conn);
    }
    assert!(harness.is_reading(ada) && harness.is_reading(bob));
    for (conn, letter) in [(ada, "b"), (bob, "a")] {
        let heard = harness.heard(conn);
        let found: Vec<bool> = (1..=5).map(|n| heard.contains(&format!("0001 {letter}{n}"))).collect();
        assert_eq!((found, heard.contains("missed")), (vec![true; 5], false), "{heard}");
    }
}

#[test]
fn acknowledgements_of_a_paused_sender_are_read_so_that_two_members_do_not_deadlock() {
    let mut harness = harness(SlowPolicy::Block, 1);
    let (ada, bob) = (tagged(&mut harness, "ada", "#r", 1), tagged(&mut harness, "bob", "#r", 2));
    let said = [harness.say(ada, snd(3, "#r", "a1")), harness.say(bob, snd(3, "#r", "b1"))];
    assert!(said[0].ends_with("@3 ACK 0000") && said[1].ends_with("@3 ACK 0000"), "{said:?}");
    assert_eq!(harness.say(ada, snd(4, "#r", "a2")), "@1 RCV 0014 bob#r 0001 b1");
    assert_eq!(harness.say(bob, snd(4, "#r", "b2")), "", "each waits for the other");
    assert!(harness.is_reading(ada), "for its acknowledgements alone");
    assert_eq!(harness.say(ada, "PNG 0000"), "");
    assert_eq!(harness.say(ada, "ACK 0002 1"), "@2 RCV 0014 bob#r 0001 b2");
    assert_eq!(harness.heard(bob), "@4 ACK 0000");
    assert_eq!(harness.say(bob, "ACK 0002 1"), "@2 RCV 0014 ada#r 0001 a2");
    assert_eq!(harness.heard(ada), "@4 ACK 0000ACK 0000");
}

#[test]
fn no_sender_waits_for_a_member_whose_acknowledgements_are_behind_too_much_input() {
    let mut harness = harness(SlowPolicy::Block, 1);
    let (ada, bob) = (tagged(&mut harness, "ada", "#r", 1), tagged(&mut harness, "bob", "#r", 2));
    harness.say(ada, snd(3, "#r", "a1"));
    harness.say(bob, snd(3, "#r", "b1"));
    harness.say(bob, snd(4, "#r", "b2"));
    harness.heard(bob);
    let mut id = 4;
    while harness.is_reading(ada) {
        harness.say(ada, snd(id, "#r", &"x".repeat(1_000)));
        id += 1;
        assert!(id < 200, "64 KiB are enough");
    }
    assert_eq!(harness.heard(bob), "@4 ACK 0000", "it is dropped for ada instead");
    assert_eq!(harness.totals().hub.gaps, 1);
    // Bob's acknowledgements are read, so ada continues at their pace.
    let (mut acknowledged, mut heard) = (0, String::new());
    while acknowledged < id - 3 {
        acknowledged += 1;
        let ack = acknowledged.to_string();
        heard += &harness.say(bob, format!("ACK {:04} {ack}", ack.len() + 1));
    }
    assert!(harness.is_reading(ada));
    assert_eq!(heard.matches("RCV").count() as u64, id - 4);
    assert_eq!(harness.totals().hub.gaps, 1);
}

#[test]
fn over_datagrams_a_sender_that_would_be_paused_is_refused() {
    let (mut harness, _, bob) = blocked();
    let a = addr(1, 1);
    let token = register(&mut harness, a, "eve", &nonce(1));
    harness.datagram(a, format!("~{token} @2 JON 0003 #r"));
    let refused = harness.datagram(a, format!("~{token} {}", snd(3, "#r", "x")));
    assert_eq!(refused, [format!("~{token} @3 ERR 0008 429 100")]);
    harness.unclog(bob);
    assert_eq!(
        harness.datagram(a, format!("~{token} {}", snd(4, "#r", "x"))),
        [format!("~{token} @4 ACK 0000")]
    );
}

#[test]
fn repeats_and_refused_requests_are_answered_without_a_pause() {
    let mut harness = harness(SlowPolicy::Block, 1);
    let (ada, bob) = (tagged(&mut harness, "ada", "#r", 1), untagged(&mut harness, "bob", "#r"));
    harness.clog(bob);
    assert_eq!(harness.say(ada, snd(3, "#r", "01")), "@3 ACK 0000");
    assert_eq!(harness.say(ada, snd(3, "#r", "01")), "@3 ACK 0000");
    assert_eq!(harness.say(ada, snd(4, "#q", "01")), "@4 ERR 0018 404 No such room!");
    assert_eq!(
        harness.say(ada, snd(5, "bob", "01")),
        "@5 ERR 0016 503 Queue full!",
        "a direct message never waits"
    );
    assert!(harness.is_reading(ada));
}

/// Ada with frames and bob with lines, in `#lobby`.
fn at_a_line_listener(slow: SlowPolicy) -> (ServerHarness, Conn, Conn) {
    let max_pending = 3 * ("ada> 01\n".len() + FRAME_OVERHEAD);
    let hub = HubConfig { slow, max_pending, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..config() });
    let ada = untagged(&mut harness, "ada", "#lobby");
    let bob = harness.connect_at(ASKS, Remote::Ip(local(50_000)));
    harness.say(bob, "bob\n");
    (harness, ada, bob)
}

#[test]
fn slow_line_clients_get_lines_about_missed_messages_and_their_disconnection() {
    for (slow, told) in [
        (SlowPolicy::DropNew, "ada> 01\nada> 02\nada> 03\n* you missed 2 messages\n"),
        (SlowPolicy::DropOld, "* you missed 2 messages\nada> 03\nada> 04\nada> 05\n"),
        (SlowPolicy::Disconnect, "* you read too slowly\n* goodbye\n"),
    ] {
        let (mut harness, ada, bob) = at_a_line_listener(slow);
        harness.stall(bob, true);
        for n in 1..=5 {
            assert_eq!(harness.say(ada, send("#lobby", &format!("{n:02}"))), "");
        }
        harness.stall(bob, false);
        assert_eq!(harness.heard(bob), told, "{slow}");
        assert_eq!(harness.is_closed(bob), slow == SlowPolicy::Disconnect);
    }
}

#[test]
fn line_clients_are_paused_and_pause_others_like_all_clients() {
    let (mut harness, ada, bob) = at_a_line_listener(SlowPolicy::Block);
    harness.clog(bob);
    for n in 1..=9 {
        harness.say(ada, send("#lobby", &format!("{n:02}")));
    }
    assert!(!harness.is_reading(ada), "paused by a line client");
    harness.unclog(bob);
    assert!(harness.is_reading(ada));
    assert_eq!(harness.heard(bob), (1..=9).map(|n| format!("ada> {n:02}\n")).collect::<String>());
    harness.clog(ada);
    let mut echo = String::new();
    for n in 1..=9 {
        echo += &harness.say(bob, format!("{n:02}\n"));
    }
    assert!(!harness.is_reading(bob), "a paused line client");
    harness.unclog(ada);
    assert!(harness.is_reading(bob));
    echo += &harness.heard(bob);
    assert_eq!(echo, (1..=9).map(|n| format!("bob> {n:02}\n")).collect::<String>());
    let heard = harness.heard(ada);
    assert!((1..=9).all(|n| heard.contains(&format!("bob#lobby 0001 {n:02}"))), "{heard}");
}

#[test]
fn no_sender_waits_for_a_member_that_cannot_be_sent_the_message() {
    let (mut harness, ada, bob) = blocked();
    harness.say(ada, send("#r", &"x".repeat(9_990)));
    assert!(harness.is_reading(ada), "an untagged session gets nothing over 9999 bytes");
    harness.unclog(bob);
    assert_eq!(harness.heard(bob), from_room(1) + &missed(1));
}

#[test]
fn no_sender_waits_for_the_memory_of_all_queues_and_the_message_is_dropped() {
    let hub =
        HubConfig { slow: SlowPolicy::Block, max_memory: 3 * ROOMY + rooms(2, 3), ..HubConfig::default() };
    let mut harness = with_hub(hub);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), untagged(&mut harness, "bob", "#r"));
    let cyd = untagged(&mut harness, "cyd", "#q");
    harness.clog(cyd);
    assert_eq!(harness.say(ada, send("cyd", &"x".repeat(3 * ROOMY - 200))), "");
    assert_eq!(harness.say(ada, send("#r", &"x".repeat(200)) + "PNG 0000"), "ACK 0000");
    assert_eq!((harness.is_reading(ada), harness.heard(bob)), (true, missed(1)));
    harness.unclog(cyd);
    assert_eq!(harness.say(ada, send("#r", "01")), "");
    assert_eq!((harness.heard(bob), harness.totals().hub.gaps), (from_room(1), 1));
}

#[test]
fn no_sender_waits_for_a_lingering_member_which_gets_a_gap_when_it_resumes() {
    let mut harness = harness(SlowPolicy::Block, 1);
    let (ada, bob) = (untagged(&mut harness, "ada", "#r"), harness.connect());
    let token = harness.say(bob, reg(1, "bob", &format!("?{}", nonce(1))))[12..].to_owned();
    harness.say(bob, format!("@2 {}", jon("#r")));
    to_room(&mut harness, ada, 1..=1);
    harness.say(ada, send("#r", "02") + "PNG 0000");
    assert!(!harness.is_reading(ada), "bob has not acknowledged");
    harness.hang_up(bob);
    assert_eq!((harness.heard(ada).as_str(), harness.is_reading(ada)), ("ACK 0000", true));
    to_room(&mut harness, ada, 3..=4);
    assert!(harness.is_reading(ada));
    let back = harness.connect();
    let heard = harness.say(back, reg(3, "bob", &token));
    assert!(heard.contains(&from_room(1)) && heard.contains("GAP 0002 3"), "{heard}");
    harness.say(ada, send("#r", "05"));
    assert!(!harness.is_reading(ada), "now it is waited for again");
}

#[test]
fn a_shutdown_resumes_paused_senders_and_sends_them_bye() {
    let (mut harness, ada, bob) = blocked();
    harness.say(ada, send("#r", "02"));
    harness.shut_down();
    assert_eq!(harness.heard(ada), "ERR 0015 Shutting down!BYE 0000");
    harness.unclog(bob);
    assert_eq!(harness.heard(bob), from_room(1) + "BYE 0000");
    for conn in [ada, bob] {
        assert!(harness.is_closed(conn));
        harness.hang_up(conn);
    }
    assert!(harness.is_finished());
}

#[test]
fn a_paused_sender_that_disconnects_leaves_no_state() {
    let (mut harness, ada, bob) = blocked();
    harness.say(ada, send("#r", "02"));
    harness.hang_up(ada);
    harness.unclog(bob);
    assert_eq!(harness.heard(bob), from_room(1));
    harness.hang_up(bob);
    harness.pass(secs(2));
    assert!(harness.is_forgotten());
}

#[test]
fn acknowledgements_before_the_pause_of_their_connection_are_read_too() {
    for behind_a_rate in [false, true] {
        let mut listener = Listener::frames("tcp");
        if behind_a_rate {
            listener.rate = Rate::messages(4);
        }
        let hub = HubConfig { slow: SlowPolicy::Block, max_pending: 1, ..HubConfig::default() };
        let mut harness =
            ServerHarness::new(ServerConfig { hub, listeners: vec![listener], ..ServerConfig::default() });
        let (ada, bob) = (tagged(&mut harness, "ada", "#r", 1), tagged(&mut harness, "bob", "#r", 2));
        let both = [(ada, "a"), (bob, "b")];
        for (conn, letter) in both {
            harness.put(conn, snd(3, "#r", &format!("{letter}1")));
        }
        // Each sends more and acknowledges in one piece, before either is paused.
        for (conn, letter) in both {
            harness.put(conn, snd(4, "#r", &format!("{letter}2")) + "ACK 0002 1");
        }
        for (conn, _) in both {
            harness.put(conn, "PNG 0000");
        }
        harness.pass(secs(5));
        for (conn, _) in both {
            let heard = harness.heard(conn);
            assert!(heard.contains("@4 ACK 0000") && heard.contains("0001"), "{behind_a_rate}: {heard}");
        }
    }
}

#[test]
fn long_messages_of_paused_senders_count_as_memory() {
    let hub =
        HubConfig { slow: SlowPolicy::Block, max_pending: 1, max_memory: 1 << 20, ..HubConfig::default() };
    let mut harness = with_hub(hub);
    let bob = tagged(&mut harness, "bob", "#r", 1);
    harness.clog(bob);
    let senders: Vec<Conn> = (0..8).map(|n| untagged(&mut harness, &format!("sender{n}"), "#r")).collect();
    harness.say(senders[0], send("#r", "01"));
    let long = send("#r", "0").replace("SND 0005", "SND +006 300003") + &"x".repeat(299_998);
    senders[1..].iter().for_each(|conn| harness.put(*conn, &long));
    let cut = senders.iter().filter(|conn| harness.is_closed(**conn)).count();
    assert!((4..=5).contains(&cut), "{cut}");
}
