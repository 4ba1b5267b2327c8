//! Whole scenarios with the real programs: a server with simulated loss, and clients over TCP and UDP.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::program::{Ended, Program};
use crate::support::server::{SOON, ServerProgram, frame, port_of};
use crate::support::{STEP_TIMEOUT, eventually};
use sayagain::net::EngineKind;
use serde_json::Value;

const CLIENT: &str = env!("CARGO_BIN_EXE_client");
const SERVER: &str = env!("CARGO_BIN_EXE_server");
const MODES: [&str; 2] = ["tcp", "udp"];
/// Options that quickly recover from loss with probability 0.5 in each direction.
const PERSISTENT: &str = "--timeout .02 --expb --max-timeout .05 --max-sends 100";
/// The longest run of the scenario with 200 messages.
const STORY: Duration = Duration::from_secs(60);

/// A server with these options.
fn server(options: &str) -> ServerProgram {
    ServerProgram::local(&options.split_whitespace().collect::<Vec<_>>())
}

/// A client command for the server at `host`.
fn client_at(host: &str, mode: &str, args: &str) -> Program {
    let words = ["--mode", mode, "--host", host];
    Program::start(CLIENT, &words.into_iter().chain(args.split_whitespace()).collect::<Vec<_>>())
}

/// A started client.
fn begin(server: &ServerProgram, mode: &str, args: &str) -> Program {
    client_at(&server.host(), mode, args)
}

/// A registered client.
fn begin_registered(server: &ServerProgram, mode: &str, args: &str) -> Program {
    let client = begin(server, mode, args);
    eventually("it is registered", || client.err().contains("registered as"));
    client
}

/// Runs a client until it ends, without input.
fn run(server: &ServerProgram, mode: &str, args: &str) -> Ended {
    let mut client = begin(server, mode, args);
    client.close_stdin();
    client.wait()
}

/// Waits until the client has printed exactly this.
fn shows(client: &Program, lines: &[&str]) {
    let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
    eventually(&format!("{expected:?} is shown"), || client.out().len() >= expected.len());
    assert_eq!(client.out(), expected);
}

/// Writes these lines to the client.
fn say(client: &mut Program, lines: &[&str]) {
    lines.iter().for_each(|line| client.write(format!("{line}\n").as_bytes()));
}

/// Numbered lines.
fn numbered(numbers: std::ops::RangeInclusive<u64>, before: &str) -> String {
    numbers.map(|n| format!("{before}{n}\n")).collect()
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The number before `what`.
fn count(line: &str, what: &str) -> u64 {
    let before = line.split(what).next().unwrap_or_default().trim_end();
    let digits = before.rsplit(' ').next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no count of `{what}` in `{line}`"))
}

/// The number after `what` in a line of totals.
fn total(totals: &str, what: &str) -> u64 {
    let behind = totals.split(&format!("{what} ")).nth(1).unwrap_or_default();
    let digits = behind.split([' ', ',']).next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no total of `{what}` in `{totals}`"))
}

/// The losses in a line of totals: `dropped in 6 of 12 (requested 50.0 %, realised 50.0 %), out 5 of 9 (..)`.
fn dropped_of(totals: &str, direction: &str) -> (u64, u64) {
    let losses = totals.split("dropped ").nth(1).unwrap();
    let part = losses.split(&format!("{direction} ")).nth(1).unwrap();
    assert!(part.split(')').next().unwrap().contains(" (requested "), "{totals}");
    (total(losses, direction), total(part, "of"))
}

/// Whether `hits` of `all` is within four standard errors of this rate.
fn assert_share(hits: u64, all: u64, rate: f64, what: &str) {
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    let (hits, all) = (hits as f64, all as f64);
    let (expected, error) = (all * rate, (all * rate * (1.0 - rate)).sqrt());
    assert!((hits - expected).abs() <= 4.0 * error, "{what}: {hits} of {all} at {rate}, expected {expected}");
}

/// The scenario of three terminals.
struct Story {
    /// Mode and engine.
    what: String,
    server: ServerProgram,
    listener: Program,
    sender: Program,
    deadline: Instant,
}

impl Story {
    const MESSAGES: u64 = 200;

    #[expect(clippy::disallowed_methods, reason = "a deadline needs the clock")]
    fn begin(mode: &str, engine: EngineKind) -> Self {
        let (deadline, what) = (Instant::now() + STORY, format!("{mode}, {engine}"));
        let losses = "--success .5 --loss-out .5 --timeout .02 --max-timeout .1 --seed 8";
        let server = server(&format!("{losses} --engine {engine}"));
        let n = Self::MESSAGES;
        let listener = begin_registered(&server, mode, &format!("{PERSISTENT} --name bob listen -n {n}"));
        let mut sender = begin(&server, mode, &format!("{PERSISTENT} --name alice send bob -"));
        sender.write(numbered(1..=n, "line ").as_bytes());
        sender.close_stdin();
        Self { what, server, listener, sender, deadline }
    }

    #[expect(clippy::disallowed_methods, reason = "a deadline needs the clock")]
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn end(self) {
        let left = self.left();
        let Self { what, server, listener, sender, .. } = self;
        // The receiving client is the last to end.
        let heard = listener.wait_within(left);
        let sent = sender.wait();
        assert_eq!((sent.code, sent.out.as_str()), (0, ""), "{what}: {sent:?}");
        let line = sent.closing_line();
        assert!(line.starts_with("200 sent, 200 acked, 0 unknown, "), "{what}: {line}");
        // One of four sends is answered, on average.
        assert!(count(line, " retries") > 400, "{what}: {line}");
        assert_eq!(heard.out, numbered(1..=Self::MESSAGES, "alice> line "), "{what}");
        assert_eq!(heard.code, 0, "{what}: {heard:?}");
        Self::check_totals(&what, &server.end());
    }

    fn check_totals(what: &str, totals: &str) {
        for direction in ["in", "out"] {
            let (dropped, seen) = dropped_of(totals, direction);
            assert!(
                totals.contains(&format!("{direction} {dropped} of {seen} (requested 50.0 %, realised "))
            );
            // As many datagrams as messages, and as many again for the lost ones.
            assert!(seen > 3 * Self::MESSAGES / 2, "{what}: {totals}");
            assert_share(dropped, seen, 0.5, &format!("{what}, {direction}"));
        }
        assert!(total(totals, "duplicate requests") > 50, "{what}: {totals}");
        assert_eq!(total(totals, "messages"), Self::MESSAGES, "{what}: {totals}");
        assert_eq!(total(totals, "undelivered"), 0, "{what}: {totals}");
    }
}

// All in parallel, and first by name: the test is long and mostly waits.
#[test]
fn three_terminals_exchange_every_message_once_and_in_order_over_tcp_and_udp() {
    let stories = EngineKind::ALL.map(|engine| MODES.map(|mode| Story::begin(mode, engine)));
    stories.into_iter().flatten().for_each(Story::end);
}

/// The outcome of each ping.
fn fates(ended: &Ended) -> Vec<(u64, String, u64)> {
    let objects = objects(&ended.out);
    let number = |object: &Value, field: &str| object[field].as_u64().unwrap();
    let kind = |object: &Value| object["type"].as_str().unwrap().to_owned();
    let ends = objects.iter().filter(|object| object["type"] != "retry");
    ends.map(|object| (number(object, "seq"), kind(object), number(object, "tries"))).collect()
}

/// Pings with this many sends each, over links that drop with probability 0.3 in each direction.
struct Pings {
    what: String,
    sends: i32,
    /// Kept alive until the end.
    _server: ServerProgram,
    clients: Vec<Program>,
}

impl Pings {
    const CLIENTS: u64 = 8;
    const EACH: u64 = 50;

    fn begin(mode: &str, sends: i32) -> Self {
        let server = server("--success .7 --loss-out .3 --seed 11");
        // Long enough that late answers are rare on a busy machine.
        let timeout = "--timeout .15 --expb --max-timeout .15";
        let args = format!("{timeout} --max-sends {sends} --json ping -i .001 -c {}", Self::EACH);
        let clients = (0..Self::CLIENTS).map(|_| begin(&server, mode, &args)).collect();
        Self { what: format!("{mode}, {sends} sends"), sends, _server: server, clients }
    }

    fn end(self) {
        let fates: Vec<_> = self.clients.into_iter().flat_map(|client| fates(&client.wait())).collect();
        let all = Self::CLIENTS * Self::EACH;
        assert_eq!(fates.len() as u64, all, "{}", self.what);
        let unknown = fates.iter().filter(|(_, kind, _)| kind == "unknown");
        let sends = u64::try_from(self.sends).unwrap();
        assert!(unknown.clone().all(|(.., tries)| *tries == sends), "{}", self.what);
        let rate = (1.0 - (1.0 - 0.3_f64).powi(2)).powi(self.sends);
        assert_share(unknown.count() as u64, all, rate, &self.what);
    }
}

#[test]
fn the_share_of_unknown_outcomes_is_the_probability_that_every_send_or_its_answer_is_lost() {
    let all = MODES.map(|mode| [1, 3].map(|sends| Pings::begin(mode, sends)));
    all.into_iter().flatten().for_each(Pings::end);
}

#[test]
fn the_same_seed_gives_the_same_losses_on_any_ports() {
    // A late answer would be a difference; 250 ms is long on loopback.
    let args = "--timeout .25 --max-timeout .25 --max-sends 3 --json ping -i .001 -c 20";
    let begin_with = |mode, seed| {
        let server = server(&format!("--success .7 --loss-out .3 --seed {seed}"));
        let client = begin(&server, mode, args);
        (server, client)
    };
    let begun = MODES.map(|mode| [3, 3, 4].map(|seed| begin_with(mode, seed)));
    for (mode, runs) in MODES.into_iter().zip(begun) {
        let ports: BTreeSet<u16> = runs.iter().map(|(server, _)| server.port).collect();
        assert_eq!(ports.len(), 3);
        let [one, same, other] = runs.map(|(_server, client)| fates(&client.wait()));
        assert_eq!(one.len(), 20, "{mode}");
        assert!(one.iter().any(|(.., tries)| *tries > 1), "{mode}: {one:?}");
        assert_eq!(one, same, "{mode}");
        assert_ne!(one, other, "{mode}");
    }
}

#[test]
fn raw_sockets_and_udp_clients_exchange_messages_on_one_server() {
    let server = server("");
    let (mut raw, mut typist) = (server.register("raw"), server.register("typist"));
    let listener = begin_registered(&server, "udp", "--name ear listen -n 5 --join #lobby");
    eventually("ear is in the lobby", || run(&server, "udp", "list #lobby").out == "ear\n");
    // From a raw socket to a client, from a client to a raw socket, and between raw sockets.
    raw.send(&frame("SND", "ear hi from  raw"));
    shows(&listener, &["raw> hi from  raw"]);
    let sent = run(&server, "udp", "--name mouth send raw hello there");
    assert_eq!(sent.code, 0, "{sent:?}");
    raw.expect(&frame("RCV", "mouth 0002 hello there"));
    raw.send(&frame("SND", "typist x"));
    typist.expect(&frame("RCV", "raw 0001 x"));
    // In a room.
    raw.send(&frame("JON", "#lobby"));
    raw.prove();
    let sent = run(&server, "udp", "--name mouth send #lobby good day");
    assert_eq!(sent.code, 0, "{sent:?}");
    raw.expect(&frame("RCV", "mouth#lobby 0002 good day"));
    raw.send(&frame("SND", "#lobby bye"));
    let expected = ["raw> hi from  raw", "mouth#lobby> good day", "raw#lobby> bye"];
    shows(&listener, &expected);
    // A raw UDP socket, which is answered in the same datagrams.
    let datagrams = server.udp();
    datagrams.send(frame("REG", "dgram").as_bytes()).unwrap();
    datagrams.send((frame("SND", "ear psst") + &frame("SND", "raw y")).as_bytes()).unwrap();
    raw.expect(&frame("RCV", "dgram 0001 y"));
    shows(&listener, &[&expected[..], &["dgram> psst"]].concat());
    raw.send("BYE 0000");
    raw.expect_end();
    typist.send(&frame("SND", "raw x"));
    typist.expect(&frame("ERR", "No such client!"));
    typist.send(&frame("SND", "ear the last"));
    let heard = listener.wait();
    assert_eq!(heard.code, 0, "{heard:?}");
    assert!(heard.out.ends_with("\ntypist> the last\n"), "{heard:?}");
    typist.prove();
}

#[test]
fn two_chats_over_tcp_and_udp_send_join_leave_list_and_quit() {
    let server = server("");
    let mut alice = begin_registered(&server, "tcp", "--name alice");
    let mut bob = begin_registered(&server, "udp", "--name bob");
    say(&mut alice, &["bob hello  you"]);
    shows(&bob, &["alice> hello  you"]);
    say(&mut bob, &["alice hi", "/join #den", "/list #den"]);
    shows(&alice, &["bob> hi"]);
    shows(&bob, &["alice> hello  you", "bob"]);
    say(&mut alice, &["/join #den", "#den anybody?"]);
    shows(&bob, &["alice> hello  you", "bob", "alice#den> anybody?"]);
    say(&mut bob, &["#den me"]);
    shows(&alice, &["bob> hi", "bob#den> me"]);
    say(&mut bob, &["/list"]);
    shows(&bob, &["alice> hello  you", "bob", "alice#den> anybody?", "alice", "bob"]);
    // A client that has left gets no more messages of the room.
    say(&mut alice, &["/leave #den", "bob gone"]);
    shows(&bob, &["alice> hello  you", "bob", "alice#den> anybody?", "alice", "bob", "alice> gone"]);
    say(&mut bob, &["#den alone", "alice still there?"]);
    shows(&alice, &["bob> hi", "bob#den> me", "bob> still there?"]);
    say(&mut alice, &["/quit", "bob never sent"]);
    let ended = alice.wait();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.closing_line().starts_with("5 sent, 5 acked, 0 unknown, "), "{ended:?}");
    bob.close_stdin();
    let ended = bob.wait();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.ends_with("alice> gone\n"), "{ended:?}");
    let totals = server.end();
    assert_eq!(total(&totals, "sessions"), 2, "{totals}");
}

#[test]
fn explain_prints_the_schedule_of_every_policy_without_a_server() {
    // Standard input stays open and unread.
    let explain = |args: &str| client_at("127.0.0.1:1", "udp", args).wait();
    for preset in ["coap", "sip", "sip-invite", "dns", "rto", "quic-pto", "dtls"] {
        let ended = explain(&format!("--policy {preset} --explain"));
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{preset}: {ended:?}");
        assert!(ended.out.starts_with("send 1 at 0 s\nsend 2 at "), "{preset}: {ended:?}");
        assert_eq!(ended.out.matches("gives up at ").count(), 1, "{preset}: {ended:?}");
        for loss in [10, 30, 50] {
            assert!(ended.out.contains(&format!("answered at {loss} % loss each way: ")), "{ended:?}");
        }
    }
    let ended = explain("--timeout .1 --expb --explain");
    let sends = "0 0.1 0.3 0.7 1.5 3.1 6.3 12.7".split(' ').enumerate();
    let sends: String = sends.map(|(n, time)| format!("send {} at {time} s\n", n + 1)).collect();
    assert!(ended.out.starts_with(&format!("{sends}gives up at 25.5 s\n")), "{ended:?}");
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}

/// A server whose standard output and error are one pipe that is closed after its first line: `2>&1 | head -1`.
fn server_without_reader() -> (Program, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(SERVER);
    command.args(["--host", "127.0.0.1:0", "-v"]).stdout(writer.try_clone().unwrap()).stderr(writer);
    let program = Program::spawn(&mut command);
    // The command keeps the pipe's writing end open.
    drop(command);
    let mut line = String::new();
    BufReader::with_capacity(1, reader).read_line(&mut line).unwrap();
    (program, format!("127.0.0.1:{}", port_of(&line)))
}

/// Pings this server over both transports, makes it log, pings it again, and ends it.
fn goes_on_serving(program: Program, host: &str) {
    for _ in 0..3 {
        for mode in MODES {
            let mut ping = client_at(host, mode, "--timeout .2 --expb ping -c 2 -i .001");
            ping.close_stdin();
            let ended = ping.wait();
            assert_eq!(ended.code, 0, "{mode}: {ended:?}");
        }
        program.signal("USR1");
    }
    program.signal("TERM");
    let ended = program.wait_within(SOON * 2);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_server_survives_the_close_of_its_output_and_log() {
    let (program, host) = server_without_reader();
    goes_on_serving(program, &host);
}

#[test]
fn a_server_survives_the_close_of_its_log_alone() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(SERVER);
    command.args(["--host", "127.0.0.1:0", "-v"]).stdout(std::process::Stdio::piped()).stderr(writer);
    let program = Program::spawn(&mut command);
    drop((command, reader));
    eventually("it listens", || program.out().matches("listening on ").count() == 2);
    let host = format!("127.0.0.1:{}", port_of(program.out().lines().next().unwrap()));
    goes_on_serving(program, &host);
}

/// The requests with this outcome, by number.
fn seqs(objects: &[Value], kind: &str) -> Vec<u64> {
    let of_kind = objects.iter().filter(|object| object["type"] == kind);
    of_kind.map(|object| object["seq"].as_u64().unwrap()).collect()
}

#[test]
fn a_killed_and_restarted_server_leaves_every_message_with_one_outcome() {
    const POLICY: &str = "--timeout .02 --expb --max-timeout .05 --max-sends 400";
    // Some loss slows the run, so that the kill is in the middle.
    let loss = ["--success", ".8", "--seed", "5"];
    let server = ServerProgram::local(&loss);
    let host = server.host();
    let listener = begin_registered(&server, "tcp", &format!("{POLICY} --name bob listen"));
    let mut sender = begin(&server, "tcp", &format!("{POLICY} --name alice --json send bob -"));
    sender.write(numbered(1..=200, "line ").as_bytes());
    let acked = || sender.out().matches("\"acked\"").count();
    eventually("a third is sent", || acked() >= 100);
    // The server is killed.
    drop(server);
    assert!(acked() < 200, "all were sent before the server could be killed");
    let _server = ServerProgram::at(&host, &loss);
    eventually("bob is back", || listener.err().matches("registered as bob").count() == 2);
    sender.write(numbered(201..=300, "line ").as_bytes());
    sender.close_stdin();
    let sent = sender.wait_within(STEP_TIMEOUT * 2);
    let ends = objects(&sent.out);
    let [acked, rejected, unknown, never_sent] =
        ["acked", "rejected", "unknown", "never_sent"].map(|kind| seqs(&ends, kind));
    let mut all = [&acked[..], &rejected, &unknown, &never_sent].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=300).collect::<Vec<u64>>(), "{sent:?}");
    assert_eq!(never_sent, [0; 0], "{sent:?}");
    assert!(unknown.len() <= 1, "more than was under way: {unknown:?}");
    let refused: BTreeMap<u64, &Value> = ends
        .iter()
        .filter(|object| object["type"] == "rejected")
        .map(|object| (object["seq"].as_u64().unwrap(), &object["code"]))
        .collect();
    assert!(refused.values().all(|code| **code == 404), "{refused:?}");
    assert!(acked.ends_with(&(201..=300).collect::<Vec<u64>>()), "{sent:?}");
    let expected = if !unknown.is_empty() { 3 } else { i32::from(!rejected.is_empty()) };
    assert_eq!(sent.code, expected, "{sent:?}");
    // Every message arrived at most once and in order; no rejected one; and all that were sent after bob was back.
    eventually("the last line is heard", || listener.out().ends_with("alice> line 300\n"));
    listener.signal("INT");
    let heard = listener.wait();
    assert_eq!(heard.code, 130, "{heard:?}");
    let number = |line: &str| line.strip_prefix("alice> line ").unwrap().parse().unwrap();
    let numbers: Vec<u64> = heard.out.lines().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(numbers.iter().all(|n| !refused.contains_key(n)), "{numbers:?} {refused:?}");
    assert!(numbers.ends_with(&(201..=300).collect::<Vec<u64>>()), "{numbers:?}");
}

#[test]
fn over_udp_with_total_loss_only_registrations_are_sent_and_the_client_ends_with_3() {
    let server = server("--success 0 --seed 1");
    let policy = "--timeout .02 --expb --max-timeout .02 --max-sends 7";
    let sent = run(&server, "udp", &format!("{policy} --json -v send bob hi"));
    assert_eq!(sent.code, 3, "{sent:?}");
    assert_eq!(
        sent.closing_line(),
        "0 sent, 0 acked, 0 unknown, 1 never sent, 7 datagrams, 6 retries, 0 repeated answers"
    );
    let said = objects(&sent.out);
    assert_eq!(seqs(&said, "never_sent"), [1], "{sent:?}");
    let retries: Vec<_> = said.iter().filter(|object| object["type"] == "retry").collect();
    assert_eq!(retries.len(), 6, "{sent:?}");
    assert!(retries.iter().all(|retry| retry["verb"] == "REG"), "{sent:?}");
    let totals = server.end();
    let nothing = "sessions 0, messages 0, datagrams in 7, out 0, dropped in 7 of 7 (requested 100.0 %, realised 100.0 %)";
    assert!(totals.contains(nothing), "{totals}");
}

#[test]
fn over_udp_without_an_answer_only_registrations_are_sent() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let host = socket.local_addr().unwrap().to_string();
    for command in ["send bob hi", "listen -n 1", "list"] {
        let mut client = client_at(&host, "udp", &format!("--timeout .02 --expb --max-sends 3 {command}"));
        client.close_stdin();
        let ended = client.wait();
        assert_eq!(ended.code, 3, "{command}: {ended:?}");
        let mut datagrams = Vec::new();
        let mut buffer = [0; 2_000];
        while let Ok(n) = socket.recv(&mut buffer) {
            datagrams.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        assert_eq!(datagrams.len(), 3, "{command}: {datagrams:?}");
        assert!(datagrams[0].starts_with("@1 REG 0"), "{command}: {datagrams:?}");
        assert!(datagrams.iter().all(|datagram| *datagram == datagrams[0]), "{command}: {datagrams:?}");
    }
}

#[test]
fn over_tcp_with_total_loss_in_either_direction_the_client_ends_with_4() {
    for loss in ["--success 0", "--loss-out 1"] {
        let server = server(&format!("{loss} --seed 1"));
        let policy = "--timeout .02 --expb --max-timeout .02 --max-sends 5";
        for command in ["send bob hi", "listen -n 1", "list", "ping -c 2 -i .001"] {
            let ended = run(&server, "tcp", &format!("{policy} {command}"));
            assert_eq!(ended.code, 4, "{loss}, {command}: {ended:?}");
        }
        let totals = server.end();
        let (dropped, seen) = dropped_of(&totals, if loss == "--success 0" { "in" } else { "out" });
        assert_eq!(dropped, seen, "{totals}");
        // Five sends of each registration and of each ping.
        assert!(seen >= 5 * 5, "{totals}");
        assert_eq!(total(&totals, "messages"), 0, "{totals}");
    }
}
