//! The tables of limits in docs/listeners.md and docs/protocol.md, executed. For each row a function reads the stated
//! bound, compares it with the code, and drives the server to it. A row without a function fails the test.

use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use sayagain::cli::server::Args;
use sayagain::config::ServerConfig;
use sayagain::hub::push::FRAME_OVERHEAD;
use sayagain::hub::{HubConfig, MAX_ROOMS, SlowPolicy};
use sayagain::listener::Listener;
use sayagain::names::MAX_NAME_CHARS;
use sayagain::net::ListenUrl;
use sayagain::rates::Rate;
use sayagain::reliable::{MAX_WINDOW, WINDOW};
use sayagain::rules::Rules;
use sayagain::server::HOLD_BOUND;
use sayagain::service::Remote;
use sayagain::wire::{MAX_ID, MAX_LINE, SHORT_LENGTH_MAX};

use crate::harness::{Conn, ServerHarness, addr, local, nonce, reg, register, snd};
use crate::lines::ASKS;
use crate::support::{ms, secs};

const LISTENERS: &str = include_str!("../../docs/listeners.md");
const PROTOCOL: &str = include_str!("../../docs/protocol.md");

/// A row of a table.
struct Row<'a> {
    cells: Vec<&'a str>,
}

impl Row<'_> {
    fn first(&self) -> &str {
        self.cells[0]
    }

    /// The bound in the second cell: its nth number.
    fn bound(&self, nth: usize) -> usize {
        let numbers = numbers(self.cells[1]);
        *numbers.get(nth).unwrap_or_else(|| panic!("no number {nth} in: {}", self.cells[1]))
    }

    /// The same in seconds.
    fn time(&self, nth: usize) -> Duration {
        secs(self.bound(nth) as u64)
    }
}

/// The numbers in a text, in bytes where they have a unit of bytes: `16 MiB`, `65,536`, `16MiB`.
fn numbers(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (digits, after) = rest[at..]
            .split_at(rest[at..].find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(rest.len() - at));
        let number: usize = digits.replace(',', "").parse().unwrap();
        let unit = after.trim_start();
        let factor = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        found.push(
            number * factor.iter().find(|(name, _)| unit.starts_with(name)).map_or(1, |(_, factor)| *factor),
        );
        rest = after;
    }
    found
}

/// The rows of the first table under a heading.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Row<'a>> {
    let (_, section) =
        page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no `## {heading}`"));
    let lines =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &'a str| line.trim_matches('|').split(" | ").map(str::trim).collect();
    lines.skip(2).map(|line| Row { cells: cells(line) }).collect()
}

type Check = fn(&Row<'_>);

fn execute(page: &str, heading: &str, checks: &[(&str, Check)]) {
    let rows = table(page, heading);
    for row in &rows {
        let (_, check) = checks.iter().find(|(first, _)| *first == row.first()).unwrap_or_else(|| {
            panic!("nothing executes the row `{}` under `{heading}`: {:?}", row.first(), row.cells)
        });
        println!("{heading}: {}", row.first());
        check(row);
    }
    for (first, _) in checks {
        assert!(rows.iter().any(|row| row.first() == *first), "the row `{first}` is gone from `{heading}`");
    }
}

#[test]
fn every_limit_of_the_listeners_page_holds() {
    execute(
        LISTENERS,
        "Limits",
        &[
            ("connections", connections),
            ("sessions", sessions_at_once),
            ("of these two, kept for loopback and UNIX sockets", kept_for_this_machine),
            (
                "connections, sessions that linger and sessions over UDP of one IPv4 address or IPv6 /64, all together",
                per_host,
            ),
            ("time to register, or to say a name", time_to_register),
            ("time to finish a frame once begun", time_to_finish),
            ("unfinished input before there is a session", unfinished_before_reg),
            ("names refused at a line listener before there is one", names_refused),
            ("echo of a PNG on a stream", echo),
            ("answers to one datagram", answers_to_one_datagram),
            ("work in one hold of the server's lock", work_in_one_hold),
            ("requests of a connection other than SND, before others are served", quantum),
            ("new access rules, shutdown", rules_in_steps),
            ("memory", memory),
            ("open files", open_files),
        ],
    );
}

#[test]
fn every_limit_of_the_protocol_page_holds() {
    execute(
        PROTOCOL,
        "Limits",
        &[
            ("id", id),
            ("payload of a frame", payload),
            ("payload to an untagged session", payload_to_untagged),
            ("name", name),
            ("sessions at once", sessions_at_once),
            (
                "connections, sessions that linger and sessions over UDP, per IPv4 address or IPv6 /64",
                per_host,
            ),
            ("rooms of a session", rooms_of_a_session),
            ("remembered ids of a session", remembered_ids),
            ("pushes in flight over datagrams", pushes_in_flight),
            ("ranges in one ACK of pushes", ranges_in_one_ack),
            ("queued, being written, or sent and not acknowledged, per session", queued),
            ("unfinished frame before REG", unfinished_before_reg),
            ("line", line),
            ("line before there is a name", line_before_a_name),
            ("names refused before there is one", names_refused),
        ],
    );
}

#[test]
fn every_policy_for_slow_consumers_does_what_its_row_says() {
    execute(
        LISTENERS,
        "Slow consumers",
        &[
            ("`drop-new` (default)", drop_new),
            ("`drop-old`", drop_old),
            ("`disconnect`", disconnect),
            ("`block`", block),
        ],
    );
}

// The servers.

fn harness() -> ServerHarness {
    with(ServerConfig::default())
}

/// Frames at the first listener, lines at the second.
fn with(config: ServerConfig) -> ServerHarness {
    let lines: ListenUrl = "line://localhost?rate=none".parse().unwrap();
    ServerHarness::new(ServerConfig { listeners: vec![Listener::frames("tcp"), lines.listener], ..config })
}

fn with_hub(hub: HubConfig) -> ServerHarness {
    with(ServerConfig { hub, ..ServerConfig::default() })
}

fn line_client(harness: &mut ServerHarness) -> Conn {
    harness.connect_at(ASKS, Remote::Ip(local(50_000)))
}

/// A frame of this verb and these arguments, of any length.
fn frame(verb: &str, args: &str) -> String {
    let length = args.len() + 1;
    if length > 9_999 {
        let digits = length.to_string();
        format!("{verb} +{:03} {digits} {args}", digits.len())
    } else {
        format!("{verb} {length:04} {args}")
    }
}

fn ada(harness: &mut ServerHarness) -> Conn {
    harness.connect_as("REG 0004 ada")
}

fn tagged(harness: &mut ServerHarness, name: &str) -> Conn {
    let conn = harness.connect_as(&reg(1, name, &format!("?{}", nonce(1))));
    harness.heard(conn);
    conn
}

// Limits of the listeners' page.

fn connections(row: &Row<'_>) {
    assert_eq!(
        row.cells[2],
        "told `Server full!`, closed; beyond 16 at once that are being told, closed without a word"
    );
    let mut harness = with(ServerConfig { max_connections: 2, ..ServerConfig::default() });
    let conns = [harness.connect(), harness.connect(), harness.connect()];
    assert_eq!(conns.map(|conn| harness.is_closed(conn)), [false, false, true]);
    assert_eq!(harness.heard(conns[2]), "ERR 0013 Server full!BYE 0000");
}

fn per_host(row: &Row<'_>) {
    let most = row.bound(0);
    assert_eq!(ServerConfig::default().max_per_host, most);
    for same in [["192.0.2.1:1", "192.0.2.1:2"], ["[2001:db8::1]:1", "[2001:db8::2]:1"]] {
        let mut harness = harness();
        let places = same.map(|place| Remote::Ip(place.parse().unwrap()));
        let conns: Vec<Conn> = (0..most).map(|n| harness.connect_at(0, places[n % 2])).collect();
        assert!(conns.iter().all(|conn| !harness.is_closed(*conn)));
        let late = harness.connect_at(0, places[0]);
        assert!(harness.is_closed(late) && harness.heard(late).starts_with("ERR "));
        let exempt = [
            harness.connect_at(0, Remote::Ip(local(1))),
            harness.connect_at(0, Remote::Unix { uid: 0, gid: 0 }),
        ];
        assert!(exempt.iter().all(|conn| !harness.is_closed(*conn)));
    }
}

fn time_to_register(row: &Row<'_>) {
    let limit = row.time(0);
    assert_eq!(ServerConfig::default().register_timeout, limit);
    let mut harness = harness();
    let conns = [harness.connect(), line_client(&mut harness)];
    harness.pass(limit - ms(1));
    assert_eq!(conns.map(|conn| harness.is_closed(conn)), [false; 2]);
    harness.pass(ms(1));
    assert_eq!(conns.map(|conn| harness.is_closed(conn)), [true; 2]);
    assert_eq!(harness.heard(conns[0]), "ERR 0023 not registered in timeBYE 0000");
    assert!(harness.heard(conns[1]).ends_with("* no name was given in time\n* goodbye\n"));
    assert!(row.cells[1].contains("only pings put it off, for a day at most"));
    let pinging = harness.connect();
    for _ in 1..24 * 60 {
        harness.pass(secs(60) - ms(1));
        assert_eq!(harness.say(pinging, "PNG 0000"), "ACK 0000");
    }
    harness.pass(secs(61) + ms(24 * 60));
    assert!(harness.is_closed(pinging));
}

fn time_to_finish(row: &Row<'_>) {
    let (limit, bytes) = (row.time(0), row.bound(1));
    assert_eq!(ServerConfig::default().frame_timeout, limit);
    for length in [900, 3 * bytes] {
        let mut harness = harness();
        let ada = ada(&mut harness);
        let allowance = secs((length / bytes) as u64);
        let frame = frame("SND", &format!("ada {}", "x".repeat(length - 5)));
        harness.say(ada, &frame[..100]);
        harness.pass(limit + allowance - ms(1));
        harness.say(ada, &frame[100..200]);
        assert!(!harness.is_closed(ada), "{length}");
        harness.pass(ms(1));
        assert_eq!(harness.heard(ada), "ERR 0027 frame not finished in timeBYE 0000");
    }
    let mut harness = harness();
    let line_client = line_client(&mut harness);
    harness.say(line_client, "Ada\nunfin");
    harness.pass(6 * limit - ms(1));
    assert!(!harness.is_closed(line_client), "docs/protocol.md: six times as long for a line");
    harness.pass(ms(1));
    assert!(harness.is_closed(line_client));
}

fn unfinished_before_reg(row: &Row<'_>) {
    let most = row.bound(0);
    for (length, is_closed) in [(most, false), (most + 1, true)] {
        let mut harness = harness();
        let conn = harness.connect();
        let heard = harness.say(conn, format!("SND {length:04} x"));
        assert_eq!((harness.is_closed(conn), heard.contains("1024 bytes")), (is_closed, is_closed));
    }
}

fn names_refused(row: &Row<'_>) {
    let mut harness = harness();
    let new = line_client(&mut harness);
    for _ in 1..row.bound(0) {
        harness.say(new, "*\n");
        assert!(!harness.is_closed(new));
    }
    assert!(harness.say(new, "*\n").ends_with("names\n* goodbye\n"));
    assert!(harness.is_closed(new));
}

fn echo(row: &Row<'_>) {
    let most = row.bound(0);
    assert_eq!(row.cells[2], "413");
    let mut harness = harness();
    let ada = tagged(&mut harness, "ada");
    let ping = |payload: usize| frame("PNG", &"x".repeat(payload - 1));
    assert_eq!(
        harness.say(ada, format!("@2 {}", ping(most))),
        format!("@2 {}", ping(most).replace("PNG", "ACK"))
    );
    assert_eq!(harness.say(ada, format!("@3 {}", ping(most + 1))), "@3 ERR 0014 413 Too long!");
}

fn answers_to_one_datagram(row: &Row<'_>) {
    let most = row.bound(0);
    let mut harness = harness();
    let token = register(&mut harness, addr(1, 1), "ada", &nonce(1));
    let pings: String =
        (2..12 + most).map(|id| format!("@{id} {}", frame("PNG", &"x".repeat(1_100)))).collect();
    assert_eq!(harness.datagram(addr(1, 1), format!("~{token} {pings}")).len(), most);
}

fn quantum(row: &Row<'_>) {
    let bound = row.bound(0);
    let mut harness = with(ServerConfig::default());
    let ada = ada(&mut harness);
    // A frame costs two units; the request that reaches the bound is finished.
    let answered = harness.say(ada, "PNG 0000".repeat(bound)).matches("ACK 0000").count();
    assert_eq!(answered, bound / 2);
    assert!(harness.is_busy(ada));
    harness.pass(ms(1));
    assert_eq!(harness.heard(ada).matches("ACK 0000").count(), bound - bound / 2);
}

fn work_in_one_hold(row: &Row<'_>) {
    let (most, members) = (row.bound(0), 1_024);
    assert_eq!(HOLD_BOUND, most as u64);
    let mut harness = with_hub(HubConfig { max_pending_messages: 1, ..HubConfig::default() });
    for n in 0..members {
        let conn = harness.connect_as(&(frame("REG", &format!("member-{n}")) + "JON 0003 #r"));
        harness.clog(conn);
    }
    let eve = harness.connect_as("REG 0004 eveJON 0003 #r");
    let most = most / members;
    harness.put(eve, "SND 0006 #r hi".repeat(most + 1));
    let done = harness.totals().hub.messages;
    assert!((1..=most as u64).contains(&done) && harness.is_busy(eve), "{done} of {most} at most");
    harness.pass(ms(10));
    assert_eq!((harness.totals().hub.messages, harness.is_busy(eve)), (most as u64 + 1, false));
}

fn rules_in_steps(row: &Row<'_>) {
    assert!(row.cells[1].contains("in as many holds as it takes"));
    let (mut harness, sessions) = (harness(), 1_000);
    for n in 0..sessions {
        harness.connect_as(&frame("REG", &format!("name-{n}")));
    }
    let globs: String =
        (0..100).map(|n| format!("[[rule]]\nname = 'x{n}*'\ndeny = ['10.0.0.0/8']\n")).collect();
    let rules = globs + "[[rule]]\nname = 'name*'\nallow = ['192.0.2.0/24']";
    let ended = harness.set_rules(Rules::parse(rules.as_bytes()).unwrap());
    assert!((1..sessions).contains(&ended), "{ended} in the first hold");
    let late = harness.connect();
    assert_eq!(harness.say(late, "REG 0007 name-x"), "ERR 0023 Name not allowed here!");
    harness.pass(ms(10));
    assert_eq!(harness.server.sessions(), 0);
}

fn memory(row: &Row<'_>) {
    assert_eq!(HubConfig::default().max_memory, row.bound(0));
    assert!(row.cells[2].starts_with("503"));
    let mut harness = with_hub(HubConfig { max_memory: 100_000, ..HubConfig::default() });
    let (ada, bob) = (ada(&mut harness), harness.connect_as("REG 0004 bob"));
    harness.stall(bob, true);
    let refused = (0..1_000).map(|_| harness.say(ada, "SND 0007 bob hi")).find(|said| !said.is_empty());
    assert_eq!(refused.as_deref(), Some("ERR 0012 Queue full!"));
    assert!(harness.totals().memory <= 100_000);
}

fn kept_for_this_machine(row: &Row<'_>) {
    let (least, most) = (row.bound(0), row.bound(1));
    let (total, elsewhere) = (row.bound(2), row.bound(3));
    assert!(row.cells[1].starts_with("a sixteenth") && (least..=most).contains(&(total / 16)));
    assert_eq!(total - total / 16, elsewhere);
    let config = ServerConfig { max_connections: total, max_per_host: 0, ..ServerConfig::default() };
    let mut harness = with(config);
    let from = Remote::Ip("192.0.2.1:1".parse().unwrap());
    let conns: Vec<Conn> = (0..elsewhere).map(|_| harness.connect_at(0, from)).collect();
    assert!(conns.iter().all(|conn| !harness.is_closed(*conn)));
    let (late, here) = (harness.connect_at(0, from), harness.connect_at(0, Remote::Ip(local(1))));
    assert!(harness.is_closed(late) && !harness.is_closed(here));
}

/// A row that needs a whole process is tested elsewhere.
fn open_files(row: &Row<'_>) {
    assert!(row.cells[1].contains("sleeps 10 ms to 1 s"));
    let accept = include_str!("../../src/net/accept.rs");
    assert!(
        accept.contains("from_millis(10)") && accept.contains("from_secs(1)"),
        "the times of the back-off"
    );
    let tests = include_str!("../net/suite/listeners.rs");
    assert!(
        tests.contains("fn at_the_limit_of_open_files_the_server_accepts_again_when_a_connection_ends()")
    );
}

// Limits of the protocol's page.

fn id(row: &Row<'_>) {
    assert_eq!((row.cells[1], MAX_ID), ("1 to 10^19-1", 9_999_999_999_999_999_999));
    for (id, is_one) in
        [("0", false), ("1", true), ("9999999999999999999", true), ("10000000000000000000", false)]
    {
        let mut harness = harness();
        let conn = harness.connect();
        let answer = harness.say(conn, format!("@{id} PNG 0000"));
        assert_eq!((answer == format!("@{id} ACK 0000"), harness.is_closed(conn)), (is_one, !is_one), "{id}");
    }
}

fn payload(row: &Row<'_>) {
    assert_eq!(ServerConfig::default().max_message, row.bound(0));
    let mut harness = with(ServerConfig { max_message: 2_000, ..ServerConfig::default() });
    let ada = ada(&mut harness);
    assert!(harness.say(ada, frame("SND", &format!("ada {}", "x".repeat(1_995)))).starts_with("RCV 2005 "));
    assert!(harness.say(ada, "SND 2001 x").ends_with("BYE 0000") && harness.is_closed(ada));
}

fn payload_to_untagged(row: &Row<'_>) {
    let most = row.bound(0);
    assert_eq!(SHORT_LENGTH_MAX, most);
    let mut harness = harness();
    let (ada, bob) = (ada(&mut harness), tagged(&mut harness, "bob"));
    let body = most - " bob 0001 ".len();
    assert_eq!(harness.say(bob, snd(2, "ada", &"x".repeat(body))), "@2 ACK 0000");
    assert!(harness.heard(ada).starts_with(&format!("RCV {most} bob ")));
    let longer = format!("@3 {}", frame("SND", &format!("ada {}", "x".repeat(body + 1))));
    assert_eq!(harness.say(bob, longer), "@3 ERR 0014 413 Too long!");
}

fn name(row: &Row<'_>) {
    let most = row.bound(0);
    assert_eq!(MAX_NAME_CHARS, most);
    for c in ["x", "\u{5c71}"] {
        let mut harness = harness();
        let conn = harness.connect();
        assert_eq!(harness.say(conn, frame("REG", &c.repeat(most + 1))), "ERR 0023 Name not allowed here!");
        assert_eq!(harness.say(conn, frame("REG", &c.repeat(most))), "");
    }
}

fn sessions_at_once(row: &Row<'_>) {
    assert_eq!(HubConfig::default().max_sessions, row.bound(0));
    let mut harness = with_hub(HubConfig { max_sessions: 1, ..HubConfig::default() });
    ada(&mut harness);
    let late = harness.connect();
    assert_eq!(harness.say(late, "REG 0004 bob"), "ERR 0013 Server full!");
}

fn rooms_of_a_session(row: &Row<'_>) {
    let most = row.bound(0);
    assert_eq!(MAX_ROOMS, most);
    let mut harness = harness();
    let ada = ada(&mut harness);
    (0..most).for_each(|n| assert_eq!(harness.say(ada, frame("JON", &format!("#room-{n}"))), ""));
    assert!(harness.say(ada, frame("JON", "#one-more")).starts_with("ERR "));
}

fn remembered_ids(row: &Row<'_>) {
    let count = row.bound(0) as u64;
    assert_eq!(WINDOW, count);
    let mut harness = harness();
    let (bob, ada) = (ada(&mut harness), tagged(&mut harness, "bob"));
    assert_eq!(harness.say(ada, snd(2, "ada", "one")), "@2 ACK 0000");
    assert_eq!(harness.say(ada, snd(1 + count, "ada", "two")), format!("@{} ACK 0000", 1 + count));
    assert_eq!(harness.say(ada, snd(2, "ada", "one")), "@2 ACK 0000", "a repeat within the window");
    assert_eq!(harness.say(ada, snd(2 + count, "ada", "three")), format!("@{} ACK 0000", 2 + count));
    assert_eq!(harness.say(ada, snd(2, "ada", "one")), "@2 ERR 0014 410 Stale id!");
    assert_eq!(harness.heard(bob).matches("RCV ").count(), 3, "and none twice");
}

fn pushes_in_flight(row: &Row<'_>) {
    assert_eq!((MAX_WINDOW, row.bound(0)), (row.bound(0), 32));
    let mut harness = harness();
    let token = register(&mut harness, addr(1, 1), "bob", &nonce(1));
    let ada = ada(&mut harness);
    harness.say(ada, frame("SND", "bob hi").repeat(100));
    let pushes = |datagrams: Vec<String>| datagrams.concat().matches("RCV ").count();
    assert_eq!(pushes(harness.datagrams_to(addr(1, 1))), row.bound(1), "to begin with");
    let mut most = 0;
    for first in 1..100 {
        harness.say(ada, frame("SND", "bob hi").repeat(2));
        let acked = harness.datagram(addr(1, 1), format!("~{token} {}", frame("ACK", &format!("1-{first}"))));
        most = most.max(pushes(acked));
    }
    assert!(most <= row.bound(0), "{most}");
}

fn ranges_in_one_ack(row: &Row<'_>) {
    let most = row.bound(0);
    let mut harness = harness();
    let (ada, bob) = (ada(&mut harness), tagged(&mut harness, "bob"));
    harness.say(ada, "SND 0007 bob hi");
    assert_eq!(harness.heard(bob), "@1 RCV 0012 ada 0001 hi");
    let ack = |count: usize| frame("ACK", &vec!["1"; count].join(","));
    let waiting = harness.totals().pending_bytes;
    harness.say(bob, ack(most + 1));
    assert_eq!(harness.totals().pending_bytes, waiting, "it acknowledges nothing");
    harness.say(bob, ack(most));
    assert!(harness.totals().pending_bytes < waiting);
}

fn queued(row: &Row<'_>) {
    let config = HubConfig::default();
    assert_eq!(
        [config.max_pending, FRAME_OVERHEAD, config.max_pending_messages],
        [0, 1, 2].map(|nth| row.bound(nth))
    );
    let cost = "RCV 0012 ada 0001 hi".len() + FRAME_OVERHEAD;
    for hub in [
        HubConfig { max_pending: 3 * cost, ..HubConfig::default() },
        HubConfig { max_pending_messages: 3, ..HubConfig::default() },
    ] {
        let mut harness = with_hub(hub);
        let (ada, bob) = (ada(&mut harness), harness.connect_as("REG 0004 bob"));
        harness.stall(bob, true);
        assert_eq!(harness.say(ada, "SND 0007 bob hi".repeat(3)), "");
        assert_eq!(harness.say(ada, "SND 0007 bob hi"), "ERR 0012 Queue full!");
    }
}

fn line(row: &Row<'_>) {
    let most = row.bound(0);
    assert_eq!(MAX_LINE, most);
    let mut harness = harness();
    let ada = line_client(&mut harness);
    harness.say(ada, "Ada\n");
    for (length, lines) in [(most, 1), (most + 1, 2)] {
        assert_eq!(harness.say(ada, "x".repeat(length) + "\n").lines().count(), lines);
    }
    assert!(
        harness
            .say(ada, format!("/nick {}\n", "x".repeat(most)))
            .starts_with("* that line is longer than 2500 bytes")
    );
}

fn line_before_a_name(row: &Row<'_>) {
    let most = row.bound(0);
    for (length, is_name) in [(most, true), (most + 1, false)] {
        let mut harness = harness();
        let new = line_client(&mut harness);
        harness.heard(new);
        let answer = harness.say(new, format!("{:>length$}\n", "Ada"));
        assert_eq!(answer.starts_with("* you are Ada "), is_name, "{length}: {answer}");
    }
}

// Slow consumers.

/// Ada sends eight messages to a room in which Bob does not read and has queue space for three. Returns what Bob
/// receives, and the server.
fn overflow(slow: SlowPolicy) -> (ServerHarness, Conn, String) {
    let mut harness = with_hub(HubConfig { slow, max_pending_messages: 3, ..HubConfig::default() });
    let [ada, bob] = ["ada", "bob"].map(|name| harness.connect_as(&(frame("REG", name) + "JON 0003 #r")));
    harness.stall(bob, true);
    for n in 1..=8 {
        harness.say(ada, format!("SND 0005 #r {n}"));
    }
    harness.stall(bob, false);
    let heard = harness.heard(bob);
    (harness, bob, heard)
}

fn from_room(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.map(|n| format!("RCV 0013 ada#r 0001 {n}")).collect()
}

const MISSED: &str = "RCV 0029 * 0004 you missed 5 messages";

fn drop_new(row: &Row<'_>) {
    assert_eq!(HubConfig::default().slow, SlowPolicy::DropNew);
    assert_eq!((row.cells[1], row.cells[2]), ("misses the new message", "are not delayed"));
    assert_eq!(overflow(SlowPolicy::DropNew).2, from_room(1..=3) + MISSED);
}

fn drop_old(_: &Row<'_>) {
    assert_eq!(overflow(SlowPolicy::DropOld).2, MISSED.to_owned() + &from_room(6..=8));
}

fn disconnect(_: &Row<'_>) {
    let (harness, bob, heard) = overflow(SlowPolicy::Disconnect);
    assert!(harness.is_closed(bob) && heard.ends_with("BYE 0000") && heard.contains("too slowly"), "{heard}");
}

fn block(_: &Row<'_>) {
    let (mut harness, _, heard) = overflow(SlowPolicy::Block);
    assert_eq!((heard, harness.totals().hub.gaps), (from_room(1..=8), 0));
    harness.pass(secs(1));
}

// Flags.

/// The default of a flag on a page: the number right after its name, if any.
fn stated(page: &str) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    for (at, _) in page.match_indices("`--") {
        let Some((flag, after)) = page[at + 3..].split_once('`') else { continue };
        let number = after.strip_prefix(", ").or_else(|| after.strip_prefix(" ("));
        let number = number.filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
        all.extend(number.map(|text| (flag.to_owned(), numbers(&text[..text.len().min(20)])[0])));
    }
    all
}

#[test]
fn the_defaults_in_the_docs_are_those_of_the_options() {
    let command = Args::command();
    let mut count = 0;
    for (flag, stated) in [LISTENERS, PROTOCOL].into_iter().flat_map(stated) {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(&flag));
        let Some(arg) = arg else { panic!("the server has no --{flag}") };
        let default: String = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        assert_eq!(numbers(&default).first(), Some(&stated), "--{flag} is {default} by default");
        count += 1;
    }
    assert!(count >= 6, "{count} defaults are stated");
}

#[test]
fn the_defaults_of_the_options_are_those_of_the_library() {
    let plan = Args::try_parse_from(["server"]).unwrap().resolve(1).unwrap();
    let (typed, library) = (plan.config, ServerConfig::default());
    assert_eq!(
        [typed.linger, typed.idle, typed.register_timeout, typed.frame_timeout],
        [library.linger, library.idle, library.register_timeout, library.frame_timeout]
    );
    assert_eq!(
        [typed.max_message, typed.max_datagram, typed.max_per_host],
        [library.max_message, library.max_datagram, library.max_per_host]
    );
    let [typed, library] = [typed.hub, library.hub];
    assert_eq!(
        [typed.max_pending, typed.max_pending_messages, typed.max_memory, typed.max_sessions],
        [library.max_pending, library.max_pending_messages, library.max_memory, library.max_sessions]
    );
    assert_eq!((typed.slow, typed.push_timeouts), (library.slow, library.push_timeouts));
    assert_eq!(
        "line://localhost".parse::<ListenUrl>().unwrap().listener.rate,
        "5/s".parse::<Rate>().unwrap()
    );
}
