//! The program `client`: commands, exit codes and output. Failures are in `client_trouble`.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::net::UdpSocket;
use std::os::unix::net::UnixListener;

use crate::support::program::{Ended, Program};
use crate::support::server::ServerProgram;
use crate::support::{TestServer, eventually};
use sayagain::config::ServerConfig;

const CLIENT: &str = env!("CARGO_BIN_EXE_client");
const MODES: [&str; 2] = ["tcp", "udp"];

fn server() -> TestServer {
    TestServer::start(ServerConfig::default())
}

/// A started client of this server.
fn begin(server: &TestServer, mode: &str, args: &str) -> Program {
    let host = server.addr.to_string();
    let words: Vec<&str> = ["--mode", mode, "--host", &host].into_iter().chain(args.split(' ')).collect();
    Program::start(CLIENT, &words)
}

/// Runs a client of this server with this input until it ends.
fn run(server: &TestServer, mode: &str, args: &str, input: &[u8]) -> Ended {
    let mut program = begin(server, mode, args);
    program.write(input);
    program.close_stdin();
    program.wait()
}

/// A client without a server.
fn alone(args: &str) -> Ended {
    let mut program = Program::start(CLIENT, &args.split(' ').collect::<Vec<_>>());
    program.close_stdin();
    program.wait()
}

/// A registered client that runs `listen`.
fn listen(server: &TestServer, mode: &str, args: &str) -> Program {
    let before = server.report().sessions;
    let listener = begin(server, mode, &format!("{args} -v"));
    server.wait_until("the listener is registered", |report| report.sessions > before);
    eventually("the listener knows it", || listener.err().contains("registered as"));
    listener
}

/// An address without a server.
fn unused_address() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

#[test]
fn a_usage_error_is_reported_before_anything_is_sent() {
    let server = server();
    for (args, sentence) in [
        ("--timeout -1 ping -c 1", "must not be negative"),
        ("--timeout 0 ping -c 1", "must be more than zero"),
        ("--timeout nan ping -c 1", "not a number"),
        ("--timeout inf ping -c 1", "must not be longer"),
        ("--timeout 2 --expb ping -c 1", "less than 2s"),
        ("--host localhost:65536 ping -c 1", "no port from 0 to 65535"),
        ("--mode sctp list", "tcp, udp"),
        ("--policy coap --expb list", "cannot be used with"),
        ("listen --join room", "not a room"),
        ("send bob", "TEXT"),
    ] {
        let ended = alone(args);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{args}: {ended:?}");
        assert!(ended.err.contains(sentence), "{args}: {}", ended.err);
    }
    assert_eq!(server.report().totals.datagrams_in, 0);
}

#[test]
fn the_help_lists_the_exit_codes() {
    let ended = alone("--help");
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    for code in ["  0 ", "  1 ", "  2 ", "  3 ", "  4 ", "  130 "] {
        assert!(ended.out.contains(&format!("\n{code}")), "{code}: {}", ended.out);
    }
}

#[test]
fn explain_prints_the_schedule_and_sends_nothing() {
    let ended = alone("--timeout .1 --expb --explain");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let times = ["0", "0.1", "0.3", "0.7", "1.5", "3.1", "6.3", "12.7"];
    for (n, time) in times.iter().enumerate() {
        assert_eq!(lines[n], format!("send {} at {time} s", n + 1));
    }
    assert_eq!(lines[8], "gives up at 25.5 s");
    assert_eq!(lines[9..].len(), 3);
}

#[test]
fn every_command_ends_without_a_server() {
    for command in ["send bob hi", "listen", "list", "ping -c 1", "--name bob"] {
        let args = format!("--timeout .02 --expb --max-sends 3 --host {}", unused_address());
        let tcp = alone(&format!("{args} {command}"));
        assert_eq!((tcp.code, tcp.out.contains("time=")), (4, false), "{command}: {tcp:?}");
        assert!(tcp.err.contains("refused"), "{command}: {tcp:?}");
        let udp = alone(&format!("{args} --mode udp {command}"));
        assert_eq!(udp.code, 3, "{command}: {udp:?}");
        assert!(udp.closing_line().contains("3 datagrams, 2 retries"), "{command}: {udp:?}");
    }
    let never = alone(&format!("--timeout .02 --mode udp --host {} send bob hi", unused_address()));
    assert!(never.err.contains("never sent: message 1 to bob: `hi`"), "{never:?}");
    assert_eq!(
        never.closing_line(),
        "0 sent, 0 acked, 0 unknown, 1 never sent, 1 datagram, 0 retries, 0 repeated answers"
    );
}

#[test]
fn an_unknown_host_is_reported() {
    assert_eq!(alone("--timeout .05 --host no.such.host.invalid:1 ping -c 1").code, 4);
    let udp = alone("--timeout .05 --mode udp --host no.such.host.invalid:1 send bob hi");
    assert_eq!(udp.code, 3);
    assert!(udp.err.starts_with("cannot reach no.such.host.invalid:1: "), "{udp:?}");
}

#[test]
fn the_url_of_any_frame_listener_names_the_server_unix_sockets_included() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}/chat", directory.path().display());
    let server = ServerProgram::with_listeners(&["tcp://127.0.0.1:0", &socket, "udp://127.0.0.1:0"], &[]);
    let words = ["--host", &socket, "--name", "bob", "-v", "listen", "-n", "3"];
    let listener = Program::start(CLIENT, &words);
    eventually("the listener is registered", || listener.err().contains("registered as"));
    let urls: Vec<&str> =
        server.listening.iter().filter_map(|line| line.strip_prefix("listening on ")).collect();
    for url in &urls {
        let sent = alone(&format!("--host {url} --name alice send bob by {url}"));
        assert_eq!(sent.code, 0, "{url}: {sent:?}");
    }
    let heard = listener.wait();
    let expected: String = urls.iter().map(|url| format!("alice> by {url}\n")).collect();
    assert_eq!((heard.code, heard.out, urls.len()), (0, expected, 3));
    let udp = urls.iter().find(|url| url.starts_with("udp://")).unwrap();
    let contradiction = alone(&format!("--host {udp} --mode tcp list"));
    assert_eq!(contradiction.code, 2, "{contradiction:?}");
    assert!(contradiction.err.contains("names the transport; leave --mode out"), "{contradiction:?}");
}

#[test]
fn a_unix_socket_that_is_missing_or_stale_is_reported_in_one_line_and_ends_with_4() {
    let directory = tempfile::tempdir().unwrap();
    let stale = directory.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let missing = directory.path().join("missing");
    for (path, why) in [(missing, "No such file or directory"), (stale, "Connection refused")] {
        let url = format!("unix://{}", path.display());
        let ended = alone(&format!("-q --timeout .05 --host {url} listen -n 1"));
        assert_eq!((ended.code, ended.out.as_str()), (4, ""), "{ended:?}");
        let told = format!("gave up on {url}; is a server running there?: {why}");
        assert!(ended.err.starts_with(&told) && ended.err.lines().count() == 1, "{ended:?}");
    }
}

#[test]
fn a_message_is_shown_as_sender_and_text_with_control_characters_escaped() {
    for mode in MODES {
        let server = server();
        let listener = listen(&server, mode, "--name bob listen -n 3");
        let sent = run(&server, mode, "--name alice send bob hi  you", b"");
        assert_eq!((sent.code, sent.out.as_str()), (0, ""), "{sent:?}");
        assert!(sent.closing_line().starts_with("1 sent, 1 acked, 0 unknown, "), "{sent:?}");
        assert!(sent.closing_line().contains(" · time to ack min/avg/p95/max = "), "{sent:?}");
        let piped = run(&server, mode, "--name alice send bob -", b"\x1b[2J\0\xff\r\nlast");
        assert_eq!(piped.code, 0, "{piped:?}");
        let heard = listener.wait();
        assert_eq!(heard.code, 0, "{heard:?}");
        assert_eq!(heard.out, "alice> hi  you\nalice> \\x1b[2J\\x00\\xff\nalice> last\n");
        server.wait_until("all sessions ended with BYE", |report| report.sessions == 0);
    }
}

#[test]
fn send_joins_a_room_before_it_sends_to_it() {
    for mode in MODES {
        let server = server();
        let listener = listen(&server, mode, "--name bob listen -n 1 --join #a --join #b");
        eventually("bob is in the room", || {
            run(&server, mode, "list #b", b"").out.lines().any(|name| name == "bob")
        });
        let sent = run(&server, mode, "--name alice send #b hi", b"");
        assert!(sent.code == 0 && sent.closing_line().starts_with("1 sent, 1 acked"), "{sent:?}");
        let heard = listener.wait();
        assert_eq!((heard.code, heard.out.as_str()), (0, "alice#b> hi\n"), "{heard:?}");
        assert!(heard.closing_line().starts_with("2 sent, 2 acked"), "{heard:?}");
    }
}

#[test]
fn a_rejected_request_is_reported_and_ends_with_1() {
    for mode in MODES {
        let server = server();
        let sent = run(&server, mode, "send nobody hi there", b"");
        assert_eq!(sent.code, 1);
        let line = "refused by the server: message 1 to nobody: `hi there`: 404 No such client! (not done; the request is at fault)";
        assert_eq!(sent.err.lines().next(), Some(line));
        assert!(sent.closing_line().starts_with("1 sent, 0 acked, 0 unknown, 1 rejected, "), "{sent:?}");
        assert_eq!(run(&server, mode, "list #nowhere", b"").code, 1);
        let _bob = listen(&server, mode, "--name bob listen");
        for command in ["--name BOB send bob hi", "--name bob listen -n 1", "--name bob"] {
            let taken = run(&server, mode, command, b"");
            assert_eq!(taken.code, 1, "{taken:?}");
            assert!(taken.err.contains("refused the registration: 409 Name taken!"), "{taken:?}");
        }
    }
}

#[test]
fn a_message_that_fits_no_datagram_or_no_server_is_refused() {
    let server = server();
    let long = run(&server, "udp", "send bob -", &[b'x'; 5_000]);
    assert_eq!(long.code, 1);
    assert!(long.err.starts_with("refused: message 1 to bob: `xxx"), "{long:?}");
    assert!(long.closing_line().starts_with("0 sent, 0 acked, 0 unknown, 1 rejected, "), "{long:?}");
    let mut lines = vec![b'x'; (16 << 20) + 1];
    lines.extend(b"\nshort\n");
    let tcp = run(&server, "tcp", "--name bob send bob -", &lines);
    assert_eq!(tcp.code, 1);
    assert!(
        tcp.err.contains("413 16777217 bytes are too long (not sent; the request is at fault)"),
        "{tcp:?}"
    );
    assert!(tcp.closing_line().starts_with("1 sent, 1 acked, 0 unknown, 1 rejected, "), "{tcp:?}");
}

#[test]
fn listen_ends_at_its_deadline_and_reports_missing_messages() {
    for mode in MODES {
        let server = server();
        assert_eq!(run(&server, mode, "listen -W .05", b"").code, 0);
        assert_eq!(run(&server, mode, "listen -W .05 -n 1", b"").code, 3);
        server.wait_until("their sessions ended with BYE", |report| report.sessions == 0);
    }
    // Without a server the time is over before the policy gives up.
    let args = format!("--timeout 20 --host {} listen -W .05", unused_address());
    assert_eq!(alone(&args).code, 4);
    assert_eq!(alone(&format!("--mode udp {args}")).code, 3);
}

#[test]
fn pings_are_numbered_and_timed_and_register_nothing() {
    for mode in MODES {
        let server = server();
        let ping = run(&server, mode, "ping -c 3 -i .01", b"");
        assert_eq!(ping.code, 0, "{ping:?}");
        assert_eq!(ping.out.lines().count(), 3);
        for (n, line) in ping.out.lines().enumerate() {
            let time = line.strip_prefix(&format!("seq={} tries=1 time=", n + 1)).unwrap();
            assert!(time.strip_suffix(" ms").unwrap().parse::<f64>().unwrap() < 1e4, "{line}");
        }
        assert_eq!(server.report().totals.hub.sessions, 0);
    }
    let udp = alone(&format!(
        "--mode UDP --timeout .01 --max-sends 2 --host {} ping -c 2 -i .01",
        unused_address()
    ));
    assert_eq!(
        (udp.code, udp.out.as_str()),
        (3, "seq=1 no answer after 2 tries\nseq=2 no answer after 2 tries\n")
    );
}

#[test]
fn a_udp_client_may_start_before_its_server() {
    let host = unused_address();
    let args =
        ["--mode", "udp", "--timeout", ".05", "--max-sends", "400", "--host", &host, "-v", "--name", "bob"];
    let client = Program::start(CLIENT, &[&args[..], &["send", "bob", "hi"]].concat());
    eventually("it has tried in vain", || client.err().contains("retry: REG @1, send 3, waiting 0.05 s"));
    let _server = TestServer::at(host.parse().unwrap(), ServerConfig::default());
    let ended = client.wait();
    assert!(ended.code == 0 && ended.closing_line().starts_with("1 sent, 1 acked"), "{ended:?}");
}

#[test]
fn names_are_listed_one_per_line() {
    for mode in MODES {
        let server = server();
        let _bob = listen(&server, mode, "--name bob listen");
        let list = run(&server, mode, "--name alice list", b"");
        let mut names: Vec<&str> = list.out.lines().collect();
        names.sort_unstable();
        assert_eq!((list.code, names), (0, vec!["alice", "bob"]), "{list:?}");
    }
}

#[test]
fn the_chat_sends_lines_executes_commands_and_ends_with_its_input() {
    for mode in MODES {
        let server = server();
        assert_eq!(run(&server, mode, "--name bob", b"").code, 0);
        assert_eq!(run(&server, mode, "--name bob", b"/quit\nalice never sent\n").code, 0);
        let listener = listen(&server, mode, "--name alice listen -n 2 --join #r");
        let chat = run(&server, mode, "--name bob -q", b"/join #r\r\n\n#r hi all\nalice hi you");
        assert_eq!((chat.code, chat.out.as_str(), chat.err.as_str()), (0, "", ""), "{chat:?}");
        assert_eq!(listener.wait().out, "bob#r> hi all\nbob> hi you\n");
        let chat = run(&server, mode, "--name bob -q", b"/help\n/shout\nalice\n/join r\nnobody hi\n/list");
        assert_eq!(chat.code, 1, "{chat:?}");
        assert!(chat.out.starts_with("TARGET message ") && chat.out.ends_with("\nbob\n"), "{chat:?}");
        let told: Vec<&str> = chat.err.lines().collect();
        assert!(told[0].starts_with("`/shout`: no such command"), "{chat:?}");
        assert!(told[1].starts_with("`alice`: write TARGET message"), "{chat:?}");
        assert!(told[2].starts_with("`/join r`: a room is #"), "{chat:?}");
        assert!(told[3].contains("404 No such client!"), "{chat:?}");
        server.wait_until("all sessions ended with BYE", |report| report.sessions == 0);
    }
}

#[test]
fn a_chat_prints_messages_while_it_waits_for_input() {
    for mode in MODES {
        let server = server();
        let mut chat = listen(&server, mode, "--name bob");
        assert_eq!(run(&server, mode, "--name alice send bob psst", b"").code, 0);
        eventually("the message is shown", || chat.out() == "alice> psst\n");
        chat.write(b"bob me");
        chat.close_stdin();
        assert_eq!(chat.wait().code, 0);
    }
}

#[test]
fn a_deadline_ends_a_request_even_with_sends_left() {
    let flags = "--timeout .02 --expb --max-sends 100 --deadline .1 --mode udp";
    let ended = alone(&format!("{flags} --host {} ping -c 1", unused_address()));
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(
        ended.out, "seq=1 no answer after 3 tries\n",
        "at 0, 0.02 and 0.06 s; the next would be at 0.14"
    );
}

#[test]
fn jitter_moves_each_timeout_within_its_bounds_and_a_seed_reproduces_it() {
    let waits = |jitter: &str, seed: u64| -> Vec<f64> {
        let flags = "--timeout .04 --expb --max-timeout .04 --max-sends 6 --mode udp --json";
        let ended =
            alone(&format!("{flags} --jitter {jitter} --seed {seed} --host {} ping -c 1", unused_address()));
        assert_eq!(ended.code, 3, "{ended:?}");
        let objects = ended.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        objects
            .filter(|object| object["type"] == "retry")
            .map(|retry| retry["waiting_s"].as_f64().unwrap())
            .collect()
    };
    for (jitter, least, most) in
        [("none", 0.04, 0.04), ("equal", 0.02, 0.04), ("full", 0.001, 0.04), ("ratio:.5", 0.02, 0.04)]
    {
        let waits = waits(jitter, 1);
        assert_eq!(waits.len(), 5, "{jitter}");
        // A wait is printed a moment after its start.
        assert!(waits.iter().all(|wait| (least - 0.01..=most).contains(wait)), "{jitter}: {waits:?}");
    }
    let (one, again, other) = (waits("equal", 1), waits("equal", 1), waits("equal", 2));
    let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(differ(&one, &again) < differ(&one, &other), "{one:?} {again:?} {other:?}");
}
