//! `lab load` from outside: each workload for a moment, with nothing lost, and the shape of what it prints. Times are not checked
//! here.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::support::eventually;
use crate::support::program::{Ended, Program};
use crate::support::server::ServerProgram;
use serde_json::Value;

fn lab(words: &str) -> Ended {
    let words: Vec<&str> = ["load"].into_iter().chain(words.split_whitespace()).collect();
    Program::start(env!("CARGO_BIN_EXE_lab"), &words).wait()
}

/// The output of a successful workload.
fn outcome(words: &str) -> Value {
    let ended = lab(&format!("{words} --json"));
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{words}: {}", ended.out);
    let outcome: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(outcome["lost"], 0, "{words}: {outcome}");
    outcome
}

fn whole(outcome: &Value, column: &str) -> u64 {
    outcome[column].as_u64().unwrap_or_else(|| panic!("{column} is not a count in {outcome}"))
}

#[test]
fn all_messages_of_pairs_are_delivered_untagged_and_tagged() {
    for kind in ["", "--tagged", "--tagged --size 20000 --window 50000", "--rate 20000"] {
        let outcome = outcome(&format!("route --pairs 3 --count 3000 {kind}"));
        assert_eq!((whole(&outcome, "count"), whole(&outcome, "clients")), (3_000, 3), "{kind}");
        assert_eq!(outcome["workload"], "route");
        assert_eq!(outcome["p99_us"].is_number(), kind == "--rate 20000", "{kind}");
    }
}

#[test]
fn messages_in_flight_at_the_end_are_delivered_too() {
    let outcome = outcome("route --pairs 4 --seconds .1");
    assert!(whole(&outcome, "count") > 0);
    assert!(outcome["seconds"].as_f64().unwrap() >= 0.1, "{outcome}");
}

#[test]
fn every_member_of_a_room_hears_every_message() {
    for kind in ["", "--tagged", "--size 0"] {
        let outcome = outcome(&format!("fanout --members 20 --count 500 {kind}"));
        assert_eq!(whole(&outcome, "count"), 500 * 20, "{kind}");
    }
}

#[test]
fn every_ping_is_answered_and_timed() {
    let outcome = outcome("ping --clients 5 --count 500");
    assert_eq!((whole(&outcome, "count"), outcome["peer"].as_str()), (500, Some("sayagain")));
    for column in ["p50_us", "p99_us", "p999_us", "max_us", "rate", "generator_cores"] {
        assert!(outcome[column].as_f64().unwrap() > 0.0, "{column} of {outcome}");
    }
}

#[test]
fn every_request_over_udp_is_answered_even_where_datagrams_are_lost() {
    assert_eq!(whole(&outcome("udp --clients 8 --count 800"), "count"), 800);
    let words = [
        "udp",
        "--clients",
        "8",
        "--count",
        "80",
        "--timeout",
        ".01",
        "--json",
        "--server-options",
        "--success .7 --seed 1",
    ];
    let ended = Program::start(env!("CARGO_BIN_EXE_lab"), &[&["load"], &words[..]].concat()).wait();
    let outcome: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, whole(&outcome, "count"), whole(&outcome, "lost")), (0, 80, 0), "{}", ended.err);
    assert!(whole(&outcome, "repeated") > 0, "{outcome}");
}

#[test]
fn clients_connect_at_once_one_after_the_other_and_to_idle() {
    let burst = outcome("burst 100");
    assert_eq!((whole(&burst, "count"), whole(&burst, "failed")), (100, 0));
    assert!(burst["message_s"].is_number(), "{burst}");
    let serial = outcome("serial 100");
    assert_eq!((whole(&serial, "count"), whole(&serial, "failed")), (100, 0));
    for kind in ["", "--udp"] {
        let idle = outcome(&format!("idle 300 --seconds .05 {kind}"));
        assert_eq!(whole(&idle, "count"), 300);
        assert!(idle["idle_cores"].is_number() == cfg!(target_os = "linux"), "{idle}");
    }
}

#[test]
fn spam_and_slow_print_what_trio_chats_clients_print() {
    let server = ServerProgram::with_listeners(&["line://127.0.0.1:0"], &[]);
    let host = format!("--host {}", server.host());
    let slow = Program::start(
        env!("CARGO_BIN_EXE_lab"),
        &["load", "slow", "--host", &server.host(), "--seconds", "20", "--bytes", "26", "--pause", "0"],
    );
    eventually("the slow client is registered", || is_listed(&server));
    let spam = lab(&format!("spam --count 4 --size 40 {host}"));
    assert_eq!(spam.code, 0, "{}", spam.err);
    let lines: Vec<&str> = spam.out.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, number) in lines.iter().zip(1..) {
        let seconds =
            line.strip_prefix(&format!("Sent #{number} in ")).and_then(|rest| rest.strip_suffix('s'));
        assert!(seconds.is_some_and(|seconds| seconds.parse::<f64>().is_ok()), "{line}");
    }
    eventually("a part of it is received", || slow.out().contains("Received 26 bytes\n"));
    slow.signal("INT");
    assert_eq!(slow.wait().code, 130);
}

/// Whether `slow` is in the room.
fn is_listed(server: &ServerProgram) -> bool {
    let mut watcher = crate::support::server::Conn::to(server.host().parse().unwrap());
    watcher.send("watcher\n/list\n/quit\n");
    watcher.rest().contains("slow")
}

#[test]
fn a_row_of_csv_has_a_cell_for_each_column_and_the_text_a_line_for_each_that_was_measured() {
    let ended = lab("ping --clients 2 --count 10 --csv");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let rows: Vec<Vec<&str>> = ended.out.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 2, "{}", ended.out);
    assert_eq!((rows[0].len(), rows[0][0], rows[1][0]), (rows[1].len(), "workload", "ping"));
    let text = lab("ping --clients 2 --count 10").out;
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["workload", "ping"], "{text}");
    assert!(lines.contains(&vec!["count", "10"]) && !text.contains("repeated"), "{text}");
    assert!(lines.contains(&vec!["engine", "poll"]), "{text}");
}

/// The value of a column in the only row of a CSV.
fn cell(csv: &str, column: &str) -> String {
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let place = rows[0].iter().position(|name| *name == column).unwrap();
    rows[1][place].to_owned()
}

#[test]
fn rows_name_the_engine_of_a_server_that_was_started() {
    let words = ["load", "ping", "--clients", "1", "--count", "1", "--csv"];
    for (options, engine) in [(&[][..], "poll"), (&["--server-options", "--engine 'tasks'"][..], "tasks")] {
        let ended = Program::start(env!("CARGO_BIN_EXE_lab"), &[&words[..], options].concat()).wait();
        assert_eq!(cell(&ended.out, "engine"), engine, "{}", ended.err);
    }
    let server = ServerProgram::local(&[]);
    let ended = lab(&format!("ping --clients 1 --count 1 --csv --host {}", server.host()));
    assert_eq!(cell(&ended.out, "engine"), "", "{}", ended.err);
}

#[test]
fn a_count_that_does_not_come_out_even_is_kept_to_the_last_one() {
    for words in ["route --pairs 3", "route --pairs 7 --tagged", "ping --clients 8", "udp --clients 3"] {
        for count in [1, 10] {
            assert_eq!(whole(&outcome(&format!("{words} --count {count}")), "count"), count, "{words}");
        }
    }
}

const ENGINES: &str = "engines --rounds 1 --seconds .02 --clients 2 --connections 50";

const WORKLOADS: [&str; 7] = ["route", "fanout", "ping", "udp", "burst", "serial", "idle"];

#[test]
fn engines_stand_beside_each_other_in_a_table_for_each_workload_with_the_best_marked() {
    let ended = lab(ENGINES);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    for workload in WORKLOADS {
        let table = ended.out.split("### ").find_map(|table| table.strip_prefix(&format!("{workload}\n")));
        let table = table.unwrap_or_else(|| panic!("{workload}: {}", ended.out));
        let servers: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| sayagain ")).collect();
        assert_eq!(servers.len(), 3, "{table}");
        for (line, engine) in servers.iter().zip(["tasks", "poll", "threads"]) {
            assert!(line.starts_with(engine), "{table}");
        }
        if workload != "idle" || cfg!(target_os = "linux") {
            assert_eq!(table.matches(" (best) ").count(), 1, "{table}");
        }
    }
}

#[test]
fn engines_are_one_json_document_with_a_row_for_each_run() {
    let ended = lab(&format!("{ENGINES} --json"));
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let runs: Vec<Value> = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(runs.len(), WORKLOADS.len() * 3);
    assert!(runs.iter().all(|run| run["engine"].is_string() && run["lost"] == 0), "{}", ended.out);
    if cfg!(target_os = "linux") {
        let idle = runs.iter().filter(|run| run["memory_per_client_bytes"].is_number());
        assert!(idle.filter(|run| run["workload"] == "idle").count() > 0, "{}", ended.out);
    }
}

/// Whether a client is registered that is called so, up to the mark of three characters that its run put behind.
fn is_registered(server: &ServerProgram, name: &str) -> bool {
    let mut watcher = server.register("watcher");
    watcher.send("LST 0000BYE 0000");
    let listed = watcher.rest();
    let mut words = listed.split(|c: char| !c.is_alphanumeric());
    words.any(|word| word.len() == name.len() + 3 && word.starts_with(name))
}

/// The number of registered clients besides the one that asks.
fn registered(server: &ServerProgram) -> usize {
    let mut watcher = server.register("watcher");
    watcher.send("LST 0000BYE 0000");
    let listed = watcher.rest();
    let names = listed.split_once("ACK ").unwrap().1.split("BYE ").next().unwrap();
    names.split_whitespace().skip(1).filter(|name| *name != "watcher").count()
}

/// Every workload that a server of frames can be loaded with.
const WORKLOADS_OF_FRAMES: [&str; 10] = [
    "route --pairs 2 --count 100",
    "route --pairs 2 --count 100 --tagged",
    "fanout --members 3 --count 50",
    "fanout --members 3 --count 50 --tagged",
    "ping --clients 2 --count 20",
    "udp --clients 3 --count 30",
    "burst 5",
    "serial 5",
    "idle 4 --seconds .02",
    "idle 4 --seconds .02 --udp",
];

#[test]
fn any_run_can_follow_any_other_against_one_server_and_leaves_no_session_behind() {
    let server = ServerProgram::local(&[]);
    for _ in 0..2 {
        for words in WORKLOADS_OF_FRAMES {
            outcome(&format!("{words} --host {}", server.host()));
            eventually("all are gone", || registered(&server) == 0);
        }
    }
}

#[test]
fn people_can_follow_each_other_too() {
    let server = ServerProgram::with_listeners(&["line://127.0.0.1:0"], &[]);
    for _ in 0..2 {
        for words in ["spam --count 3", "slow --seconds .05"] {
            let ended = lab(&format!("{words} --host {}", server.host()));
            assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{words}");
        }
    }
}

#[test]
fn an_interrupted_run_ends_its_sessions_at_a_server_that_goes_on() {
    let server = ServerProgram::local(&[]);
    for (kind, last) in
        [("route --pairs 2 --tagged", "r2"), ("udp --clients 2", "c2"), ("idle 2 --udp", "c2")]
    {
        let words = format!("load {kind} --seconds 1000 --host {}", server.host());
        let load = Program::start(env!("CARGO_BIN_EXE_lab"), &words.split_whitespace().collect::<Vec<_>>());
        eventually("the last is in", || is_registered(&server, last));
        load.signal("INT");
        let ended = load.wait();
        assert_eq!((ended.code, ended.out.as_str()), (130, ""), "{kind}: {}", ended.err);
        eventually("all are gone", || registered(&server) == 0);
    }
}

#[test]
fn at_a_rate_the_time_to_ack_stands_beside_the_time_since_each_was_due() {
    for words in ["ping --clients 2 --rate 2000 --count 200", "route --pairs 2 --rate 2000 --count 200"] {
        let outcome = outcome(words);
        for quantile in ["p50_us", "p99_us", "max_us"] {
            let time =
                |column: &str| outcome[column].as_f64().unwrap_or_else(|| panic!("{column} of {outcome}"));
            let (due, ack) = (time(quantile), time(&format!("ack_{quantile}")));
            assert!(ack > 0.0 && ack <= due * 1.002, "{words}, {quantile}: {ack} after {due}");
        }
        let text = lab(words).out;
        assert!(text.contains("from due p99") && text.contains("time to ack p99"), "{text}");
    }
    assert!(outcome("ping --clients 2 --count 10")["ack_p50_us"].is_null());
}

#[test]
fn idlers_notice_at_once_that_the_server_is_gone() {
    for (kind, why) in [("", "it closed its connections"), ("--udp", "nothing listens there any more")] {
        let server = ServerProgram::local(&[]);
        let host = server.host();
        let words = format!("load idle 5 --seconds 1000 --host {host} {kind}");
        let words: Vec<&str> = words.split_whitespace().collect();
        let idle = Program::start(env!("CARGO_BIN_EXE_lab"), &words);
        eventually("the last is in", || is_registered(&server, "c5"));
        server.signal("KILL");
        let ended = idle.wait();
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{kind}: {}", ended.err);
        assert!(
            ended.err.starts_with(&format!("error: the server at {host} is gone: {why} after ")),
            "{}",
            ended.err
        );
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
}

#[test]
fn a_bye_from_the_server_is_reported_as_such() {
    for (words, last) in [
        ("ping --clients 2", "c2"),
        ("ping --clients 2 --rate 20", "c2"),
        ("route --pairs 2", "r2"),
        ("route --pairs 2 --tagged", "r2"),
        ("fanout --members 2", "r2"),
        ("idle 2", "c2"),
        ("idle 2 --udp", "c2"),
        ("udp --clients 2", "c2"),
    ] {
        let server = ServerProgram::local(&[]);
        let words = format!("load {words} --seconds 1000 --host {}", server.host());
        let words: Vec<&str> = words.split_whitespace().collect();
        let load = Program::start(env!("CARGO_BIN_EXE_lab"), &words);
        eventually("the last is in", || is_registered(&server, last));
        server.signal("TERM");
        let ended = load.wait();
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{words:?}: {}", ended.err);
        assert!(
            ended.err.starts_with("error: the server ended ")
                && ended.err.ends_with(": it is shutting down, or its log says why\n"),
            "{words:?}: {}",
            ended.err
        );
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
}

#[test]
fn a_running_server_is_loaded_and_measured_and_goes_on() {
    let server = ServerProgram::local(&[]);
    let running = format!("--host {} --pid {}", server.host(), server.id());
    assert_eq!(whole(&outcome(&format!("route --pairs 2 --count 100 {running}")), "count"), 100);
    assert_eq!(
        outcome(&format!("ping --count 10 {running}"))["server_cpu_s"].is_number(),
        cfg!(target_os = "linux")
    );
    server.register("still").prove();
    server.end();
}

#[test]
fn a_server_that_drops_messages_is_reported_with_the_received_bytes_and_code_1() {
    let server = ServerProgram::local(&["--max-pending-messages", "1", "--slow", "drop-new"]);
    let ended = lab(&format!("fanout --members 50 --count 20000 --host {}", server.host()));
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(ended.err.starts_with("error: `r"), "{}", ended.err);
    assert!(ended.err.contains("you missed") && ended.err.contains("` instead of `"), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}

#[test]
fn a_failed_operation_is_one_line_and_code_1() {
    let refused = lab("ping --count 1 --host 127.0.0.1:1");
    assert_eq!(refused.code, 1);
    assert!(refused.err.starts_with("error: connecting to 127.0.0.1:1 failed: "), "{}", refused.err);
    let options = lab("ping --count 1 --server-options --no-such");
    assert_eq!(options.code, 1);
    assert!(options.err.starts_with("error: the server does not serve: "), "{}", options.err);
    assert!(options.err.contains("--no-such"), "{}", options.err);
    let missing = lab("ping --count 1 --server /no/such/server");
    assert_eq!(missing.code, 1);
    assert!(missing.err.starts_with("error: cannot start the server: "), "{}", missing.err);
    let process = lab("ping --count 1 --host 127.0.0.1:1 --pid 2147483647");
    assert_eq!(process.code, 1);
    assert!(process.err.starts_with("error: there is no process 2147483647; "), "{}", process.err);
    assert_eq!(process.err.lines().count(), 1, "{}", process.err);
    let server = ServerProgram::local(&[]);
    let other_kind = lab(&format!("route --count 1 --peer redis --host {}", server.host()));
    assert_eq!(other_kind.code, 1);
    assert!(
        other_kind.err.contains("the handshake of `") && other_kind.err.contains("--peer"),
        "{}",
        other_kind.err
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a server that goes is played by a thread")]
fn connections_one_after_the_other_end_with_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let mut ping = [0; 19];
        stream.read_exact(&mut ping).unwrap();
        stream.write_all(&ping).unwrap();
        let mut bye = [0; 3];
        stream.read_exact(&mut bye).unwrap();
        stream.write_all(&bye).unwrap();
    });
    let ended = lab(&format!("serial 1000000 --peer baseline --host {host}"));
    server.join().unwrap();
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert_eq!(ended.err, format!("error: the server at {host} is gone: connection refused after 1\n"));
}

#[test]
fn if_all_connections_are_refused_nothing_is_measured_and_the_first_cause_is_reported() {
    let refused = lab("burst 3 --peer baseline --host 127.0.0.1:1 --json");
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert_eq!(refused.err, "error: 0 lost and 3 turned away: connection refused\n");
    let outcome: Value = serde_json::from_str(&refused.out).unwrap();
    for column in ["seconds", "rate", "server_cores", "memory_per_client_bytes", "message_s", "slowest_s"] {
        assert!(outcome[column].is_null(), "{column} of {outcome}");
    }
    let server = ServerProgram::local(&["--max-connections", "1"]);
    let full = lab(&format!("burst 3 --host {}", server.host()));
    assert_eq!(full.code, 1, "{}", full.out);
    assert!(full.err.starts_with("error: 0 lost and 3 turned away: the server "), "{}", full.err);
    assert!(full.err.contains("full"), "{}", full.err);
}

#[test]
fn usage_errors_are_refused_with_code_2_before_anything_is_started() {
    for (words, part) in [
        ("route --pairs 0", "not enough"),
        ("route --rate 0", "`0` is not a rate"),
        ("route --rate NaN", "`NaN` is not a rate"),
        ("route --rate 1e300", "`1e300` is not a rate"),
        ("route --count 1 --seconds 1", "cannot be used"),
        ("route --pairs 1000000 --tagged --size 1GiB", "too much"),
        ("route --size 10000", "--tagged"),
        ("route --peer irc", "`irc` is not a protocol"),
        ("route --peer nats", "needs --host"),
        ("route --tagged --peer nats --host 127.0.0.1:1", "--tagged"),
        ("ping --seconds 0", "more than zero"),
        ("ping --pid 1", "--host"),
        ("ping --json --csv", "cannot be used"),
        ("udp --size 2000", "does not fit"),
        ("udp --peer redis --host 127.0.0.1:1", "not spoken over datagrams"),
        ("burst", "<N>"),
        ("burst 10 --size 1MiB", "too much"),
        ("slow --bytes 0", "--bytes"),
        ("spam --name /quit", "--name"),
        ("spam --peer nats", "'--peer'"),
        ("slow --peer sayagain", "'--peer'"),
        ("engines --host 127.0.0.1:1", "--host"),
        ("ping --server-options '", "left open"),
    ] {
        let ended = lab(words);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{words}: {}", ended.err);
        assert!(ended.err.contains(part) && ended.err.lines().count() == 1, "{words}: {}", ended.err);
    }
}

#[test]
fn an_interrupted_run_takes_its_server_with_it() {
    let running = Program::start(env!("CARGO_BIN_EXE_lab"), &["load", "ping", "--seconds", "100"]);
    let children = format!("/proc/{0}/task/{0}/children", running.id());
    let server = || std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
    if !std::path::Path::new(&children).exists() {
        return; // Nothing tells of children here.
    }
    eventually("a server is started", || !server().is_empty());
    let server = server();
    running.signal("INT");
    let ended = running.wait();
    assert_eq!((ended.code, ended.out.as_str()), (130, ""), "{}", ended.err);
    assert!(!std::path::Path::new(&format!("/proc/{server}")).exists(), "the server goes on");
}
