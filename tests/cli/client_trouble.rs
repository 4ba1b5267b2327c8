//! The program `client` under failures: loss, lost connections, signals, servers and readers that disappear.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::program::{Ended, Program};
use crate::support::server::ServerProgram;
use crate::support::{TestServer, eventually};
use base64::Engine as _;
use sayagain::config::ServerConfig;
use serde_json::Value;

const CLIENT: &str = env!("CARGO_BIN_EXE_client");
const MODES: [&str; 2] = ["tcp", "udp"];
/// Options that quickly recover from loss with probability 0.5 in each direction.
const PERSISTENT: &str = "--timeout .02 --expb --max-timeout .05 --max-sends 100";

fn server() -> TestServer {
    TestServer::start(ServerConfig::default())
}

fn words<'a>(host: &'a str, mode: &'a str, args: &'a str) -> Vec<&'a str> {
    ["--mode", mode, "--host", host].into_iter().chain(args.split(' ')).collect()
}

fn begin(server: &TestServer, mode: &str, args: &str) -> Program {
    Program::start(CLIENT, &words(&server.addr.to_string(), mode, args))
}

fn run(server: &TestServer, mode: &str, args: &str, input: &[u8]) -> Ended {
    let mut program = begin(server, mode, args);
    program.write(input);
    program.close_stdin();
    program.wait()
}

/// A registered client that runs `listen`.
fn listen(server: &TestServer, mode: &str, args: &str) -> Program {
    let listener = begin(server, mode, args);
    eventually("the listener is registered", || listener.err().contains("registered as"));
    listener
}

fn objects(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_type<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["type"] == kind).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn help_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_not() {
    use std::fs::File;
    use std::process::{Command, Stdio};
    let server = env!("CARGO_BIN_EXE_server");
    let lab = env!("CARGO_BIN_EXE_lab");
    for (program, words) in [
        (CLIENT, &["-h"][..]),
        (CLIENT, &["--version"]),
        (CLIENT, &["send", "--help"]),
        (server, &["--help"]),
        (server, &["-V"]),
        (server, &["rules", "check", "--help"]),
        (lab, &["--help"]),
        (lab, &["sweep", "-h"]),
        (lab, &["--version"]),
    ] {
        let with = |stdout: Stdio| {
            let ended = Command::new(program).args(words).stdout(stdout).output().unwrap();
            (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
        };
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, err) = with(full.into());
        assert_eq!(code, Some(1), "{words:?}");
        assert!(
            err.starts_with("error: cannot write to standard output: ") && err.lines().count() == 1,
            "{err}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(with(writer.into()), (Some(0), String::new()), "{words:?}");
    }
}

/// A number of the closing line, by the word after it.
fn count(ended: &Ended, what: &str) -> u64 {
    let part = ended.closing_line().split([',', '·']).find(|part| part.contains(what)).unwrap();
    part.trim().split(' ').next().unwrap().parse().unwrap()
}

/// Sends messages over links that drop with probability 0.5 in each direction.
fn every_message_arrives_once_and_in_order(mode: &str) {
    let server = TestServer::lossy(0.5, 7);
    let n = 30;
    let listener = listen(&server, mode, &format!("{PERSISTENT} --name bob listen -n {n}"));
    let lines: String = (1..=n).map(|i| format!("message {i}\n")).collect();
    let sent = run(&server, mode, &format!("{PERSISTENT} --name alice -v send bob -"), lines.as_bytes());
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.closing_line().starts_with("30 sent, 30 acked, 0 unknown, "), "{sent:?}");
    let retries = sent.err.lines().filter(|line| line.starts_with("retry: ")).count();
    assert!(retries > 30, "{mode}: {retries}");
    assert_eq!(count(&sent, "retries"), u64::try_from(retries).unwrap());
    let heard = listener.wait();
    assert_eq!(heard.code, 0, "{heard:?}");
    let expected: String = (1..=n).map(|i| format!("alice> message {i}\n")).collect();
    assert_eq!(heard.out, expected);
}

#[test]
fn with_loss_of_50_percent_every_message_arrives_once_and_in_order_over_tcp() {
    every_message_arrives_once_and_in_order("tcp");
}

#[test]
fn with_loss_of_50_percent_every_message_arrives_once_and_in_order_over_udp() {
    every_message_arrives_once_and_in_order("udp");
}

#[test]
fn an_unanswered_request_is_unknown_and_ends_with_3() {
    for mode in MODES {
        // A server that registers and then drops everything: it is gone, its port stays bound.
        let server = server();
        let host = server.addr.to_string();
        let mut sender =
            Program::start(CLIENT, &words(&host, mode, "--timeout .05 --name bob --json send bob -"));
        sender.write(b"one\n");
        eventually("the first is acked", || sender.out().contains("\"acked\""));
        drop(server);
        sender.write(b"two\n");
        let unknown = || sender.out().contains("\"unknown\"") || sender.out().contains("\"never_sent\"");
        eventually("the second is not", unknown);
        sender.close_stdin();
        let ended = sender.wait();
        assert_eq!(ended.code, 3, "{ended:?}");
        let objects = objects(&ended);
        assert_eq!(of_type(&objects, "acked").len(), 1, "{ended:?}");
        assert_eq!(count(&ended, "unknown") + u64::from(ended.closing_line().contains("1 never sent")), 1);
    }
}

#[test]
fn with_json_every_event_is_an_object_and_nothing_else_is_printed() {
    for mode in MODES {
        let server = TestServer::lossy(0.3, 3);
        let bob = listen(&server, mode, &format!("{PERSISTENT} --name bob --json listen -n 3 --join #r"));
        let chat = b"bob hi \"you\"\nbob a\xff\x1b\n/join #r\n#r room\nnobody hi\n/list\n/help\n/leave #r\n";
        let ended = run(&server, mode, &format!("{PERSISTENT} --name alice --json"), chat);
        assert_eq!(ended.code, 1, "{ended:?}");
        let said = objects(&ended);
        assert!(!of_type(&said, "retry").is_empty());
        let acked = of_type(&said, "acked");
        let verbs: Vec<&str> = acked.iter().map(|object| object["verb"].as_str().unwrap()).collect();
        assert_eq!(verbs, ["SND", "SND", "JON", "SND", "LST", "LEV"]);
        assert!(acked.iter().all(|object| object["tries"].as_u64() > Some(0) && object["time_ms"].is_f64()));
        assert_eq!(acked[0]["target"], "bob");
        assert_eq!(acked[4]["seq"], 6);
        // Bob may have ended: he wanted three messages.
        let names = acked[4]["names"].as_array().unwrap();
        assert!(names.contains(&"alice".into()) && acked[4]["more"] == 0, "{ended:?}");
        let rejected = of_type(&said, "rejected");
        assert_eq!(rejected.len(), 1);
        assert_eq!(
            (&rejected[0]["code"], &rejected[0]["target"]),
            (&Value::from(404), &Value::from("nobody"))
        );
        let heard = bob.wait();
        assert_eq!(heard.code, 0, "{heard:?}");
        let heard = objects(&heard);
        let messages = of_type(&heard, "message");
        let bare =
            |object: &Value| (object["sender"].clone(), object["room"].clone(), object["text"].clone());
        assert_eq!(bare(messages[0]), ("alice".into(), Value::Null, "hi \"you\"".into()));
        assert_eq!(bare(messages[1]), ("alice".into(), Value::Null, "a\\xff\\x1b".into()));
        let base64 = messages[1]["base64"].as_str().unwrap();
        assert_eq!(base64::engine::general_purpose::STANDARD.decode(base64).unwrap(), b"a\xff\x1b");
        assert_eq!(bare(messages[2]), ("alice".into(), "#r".into(), "room".into()));
    }
}

#[test]
fn with_json_answered_pings_are_objects_too() {
    let server = TestServer::lossy(0.5, 5);
    for mode in MODES {
        let ended = run(&server, mode, &format!("{PERSISTENT} --json ping -c 4 -i .001"), b"");
        let objects = objects(&ended);
        let pongs = of_type(&objects, "acked");
        assert_eq!((ended.code, pongs.len()), (0, 4), "{ended:?}");
        for (n, pong) in (1..).zip(pongs) {
            assert_eq!((pong["seq"].as_u64(), &pong["verb"]), (Some(n), &Value::from("PNG")));
            assert!(pong["tries"].as_u64() >= Some(1) && pong["time_ms"].as_f64() > Some(0.0));
        }
    }
}

#[test]
fn quiet_leaves_only_errors_on_standard_error() {
    let server = server();
    let fine = run(&server, "tcp", "--name bob -q send bob hi", b"");
    assert_eq!((fine.code, fine.err.as_str()), (0, ""));
    let refused = run(&server, "tcp", "-q send nobody hi", b"");
    assert_eq!((refused.code, refused.err.lines().count()), (1, 1), "{refused:?}");
}

#[test]
fn a_closed_output_pipe_ends_listen_with_bye_and_success() {
    for mode in MODES {
        let server = server();
        let host = server.addr.to_string();
        let mut listener = Program::start_unread(CLIENT, &words(&host, mode, "--name bob listen"));
        eventually("the listener is registered", || listener.err().contains("registered as"));
        let before = listener.err();
        listener.close_stdout();
        assert_eq!(run(&server, mode, "send bob hi", b"").code, 0);
        let ended = listener.wait();
        let closing = ended.err.strip_prefix(&before).unwrap_or_default();
        assert!(
            closing.starts_with("0 sent, 0 acked, 0 unknown, ") && closing.lines().count() == 1,
            "{ended:?}"
        );
        assert_eq!(ended.code, 0);
        server.wait_until("all sessions ended with BYE", |report| report.sessions == 0);
    }
    let mut explain = Program::start_unread(CLIENT, &["--max-sends", "1000000", "--explain"]);
    explain.close_stdout();
    let ended = explain.wait();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}

#[test]
fn a_signal_ends_the_client_with_130_after_bye() {
    for mode in MODES {
        let server = server();
        for (signal, args) in
            [("INT", "--name bob listen"), ("TERM", "--name bob"), ("INT", "--name bob listen -n 1")]
        {
            let listener = listen(&server, mode, args);
            listener.signal(signal);
            let ended = listener.wait();
            assert_eq!(ended.code, 130, "{ended:?}");
            assert!(ended.closing_line().starts_with("0 sent, 0 acked, 0 unknown, "), "{ended:?}");
            server.wait_until("its session ended with BYE", |report| report.sessions == 0);
        }
        let ping = begin(&server, mode, "ping -i 20");
        eventually("a ping is answered", || ping.out().contains("seq=1 "));
        ping.signal("INT");
        assert_eq!(ping.wait().code, 130);
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_answer_to_bye() {
    let server = server();
    let addr = server.addr;
    let listener = listen(&server, "udp", "--timeout 1000 --name bob listen");
    drop(server);
    let grave = UdpSocket::bind(addr).unwrap();
    listener.signal("INT");
    let mut datagram = [0; 100];
    let n = grave.recv(&mut datagram).unwrap();
    assert!(String::from_utf8_lossy(&datagram[..n]).contains(" BYE 0000"));
    listener.signal("INT");
    assert_eq!(listener.wait().code, 130);
}

#[test]
fn an_interrupted_client_waits_one_timeout_for_the_answer_to_its_bye() {
    let server = server();
    let listener = listen(&server, "udp", "--timeout .2 --name bob listen");
    drop(server);
    listener.signal("INT");
    assert_eq!(listener.wait().code, 130);
}

#[test]
fn a_lost_connection_is_made_again_and_no_message_is_lost_or_duplicated() {
    let server = server();
    let listener = listen(&server, "tcp", "-v --name bob listen -n 40");
    let mut sender = begin(&server, "tcp", &format!("{PERSISTENT} --name alice send bob -"));
    for i in 0..20 {
        sender.write(format!("{i}\n").as_bytes());
        if i % 5 == 0 {
            eventually("messages arrive", || listener.out().lines().count() >= i);
            server.cut();
        }
        sender.write(format!("{i} again\n").as_bytes());
    }
    sender.close_stdin();
    let sent = sender.wait();
    assert!(sent.code == 0 && sent.closing_line().starts_with("40 sent, 40 acked, 0 unknown"), "{sent:?}");
    let heard = listener.wait();
    let expected: String = (0..20).map(|i| format!("alice> {i}\nalice> {i} again\n")).collect();
    assert_eq!((heard.code, heard.out), (0, expected), "{}", heard.err);
    assert!(heard.err.contains("the session is taken up again"), "{}", heard.err);
}

#[test]
fn a_shutdown_ends_a_client_without_a_retry_policy_with_the_reason_and_a_failure() {
    for mode in MODES {
        for args in ["listen", "listen -n 1", "--name bob"] {
            let server = server();
            let listener = listen(&server, mode, args);
            server.shutdown();
            let ended = listener.wait();
            assert_eq!(ended.code, 3, "{mode} {args}: {ended:?}");
            assert!(ended.err.contains(" is shutting down\n"), "{ended:?}");
        }
    }
}

#[test]
fn clients_with_a_retry_policy_continue_after_a_restart_with_their_rooms_and_input() {
    for mode in MODES {
        for back_in in [&["--back-in", "1"][..], &[]] {
            let server = ServerProgram::local(back_in);
            let host = server.host();
            let policy = "--timeout .2 --expb --max-timeout .5 --max-sends 100";
            let client = |args: &str| {
                let args = format!("{policy} {args}");
                Program::start(CLIENT, &words(&host, mode, &args))
            };
            let listener = client("--name bob listen --join #r");
            eventually("bob is in the room", || {
                let list = Program::start(CLIENT, &words(&host, "tcp", "list #r")).wait();
                list.out == "bob\n"
            });
            let mut sender = client("--name alice -v send #r -");
            sender.write(b"one\n");
            eventually("the first message arrives", || listener.out().contains("alice#r> one\n"));
            server.end();
            // Read while no server runs.
            sender.write(b"two\nthree\n");
            let _again = ServerProgram::at(&host, &[]);
            eventually("both are in the room again", || {
                let list = Program::start(CLIENT, &words(&host, "tcp", "list #r")).wait();
                ["alice", "bob"].iter().all(|name| list.out.lines().any(|line| line == *name))
            });
            assert!(listener.err().contains("the server is shutting down; coming back in "));
            sender.write(b"four\n");
            sender.close_stdin();
            eventually("the last message arrives", || listener.out().contains("alice#r> four\n"));
            let sent = sender.wait();
            assert_eq!(sent.code, 0, "{mode} {back_in:?}: {sent:?}");
            assert!(sent.closing_line().starts_with("4 sent, 4 acked, 0 unknown"), "{sent:?}");
        }
    }
}

#[test]
fn a_client_does_not_take_back_a_session_resumed_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let client = Program::start(CLIENT, &words(&host, "tcp", "listen"));
    let (mut stream, _) = listener.accept().unwrap();
    let mut reg = [0; 64];
    assert!(stream.read(&mut reg).unwrap() > 0);
    stream.write_all(b"@1 ACK 0023 abcdefghijklmnopqrstuvERR 0023 409 taken up elsewhere").unwrap();
    let ended = client.wait();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("the session was taken up elsewhere"), "{ended:?}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn a_server_that_accepts_and_never_answers_counts_as_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let args = format!("--timeout .05 --host {} send bob hi", listener.local_addr().unwrap());
    let ended = Program::start(CLIENT, &args.split(' ').collect::<Vec<_>>()).wait();
    assert_eq!(ended.code, 4, "{ended:?}");
}

#[test]
fn garbage_from_a_server_is_never_printed_raw() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let args = format!("--timeout .05 --host {} send bob hi", listener.local_addr().unwrap());
    let client = Program::start(CLIENT, &args.split(' ').collect::<Vec<_>>());
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"HTTP/1.1 400 \x1b[2J\r\n\r\n").unwrap();
    let ended = client.wait();
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(!ended.err.contains('\x1b'), "{ended:?}");
}

/// The next request of a client, without its tag.
fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = [0; 256];
    let n = stream.read(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
    let (id, rest) = text.split_once(' ').unwrap();
    (id.to_owned(), rest.to_owned())
}

#[test]
fn a_wait_after_429_is_reported_and_an_unlimited_one_is_a_rejection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let args = "--timeout .5 --expb --max-sends 4 send bob -";
    let mut client = Program::start(CLIENT, &words(&host, "tcp", args));
    client.write(b"one\ntwo\n");
    client.close_stdin();
    let (mut stream, _) = listener.accept().unwrap();
    for (verb, answer) in [
        ("REG", "ACK 0023 abcdefghijklmnopqrstuv"),
        ("SND", "ERR 0025 429 18446744073709551615"),
        ("SND", "ERR 0009 429 1000"),
        ("SND", "ACK 0000"),
        ("BYE", "ACK 0000"),
    ] {
        let (id, rest) = request(&mut stream);
        assert!(rest.starts_with(verb), "{rest}");
        stream.write_all(format!("{id} {answer}").as_bytes()).unwrap();
    }
    let ended = client.wait();
    assert_eq!(ended.code, 1, "{ended:?}");
    let refused = "refused by the server: message 1 to bob: `one`: slow down, in 18446744073709551615 ms";
    assert!(ended.err.contains(refused), "{ended:?}");
    assert!(ended.err.contains("slow down: SND @3, again in 1 s\n"), "{ended:?}");
}

#[test]
fn a_large_input_is_not_read_far_ahead_of_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let mut sender = Program::start(CLIENT, &words(&host, "tcp", "--timeout 1000 send bob -"));
    let (mut stream, _) = listener.accept().unwrap();
    assert!(stream.read(&mut [0; 64]).unwrap() > 0);
    stream.write_all(b"@1 ACK 0023 abcdefghijklmnopqrstuv").unwrap();
    let taken = sender.write_until_stuck(&[b'\n'; 1_000]);
    // The buffers of the pipe and of one read, beyond about a thousand lines.
    assert!(taken <= 4 * 65_536 + 2_000, "{taken}");
    sender.signal("TERM");
    eventually("its session ends with BYE", || {
        let mut bytes = [0; 4_096];
        let n = stream.read(&mut bytes).unwrap();
        n == 0 || String::from_utf8_lossy(&bytes[..n]).contains("BYE")
    });
    drop(stream);
    assert_eq!(sender.wait().code, 130);
}

#[test]
fn a_bye_of_the_server_before_the_end_of_input_is_a_failure() {
    for mode in MODES {
        let server = server();
        let mut sender = begin(&server, mode, "--name alice send alice -");
        sender.write(b"one\n");
        server.wait_until("the message came", |report| report.totals.hub.messages == 1);
        // Standard input is still open: the sender reads on.
        server.shutdown();
        let ended = sender.wait();
        assert_eq!(ended.code, 3, "{mode}: {ended:?}");
    }
}

#[test]
fn fewer_pings_than_requested_are_a_failure() {
    let server = server();
    let pinger = begin(&server, "tcp", "ping -c 100000 -i .01");
    eventually("a ping came back", || pinger.out().contains("seq=2"));
    server.shutdown();
    assert_eq!(pinger.wait().code, 3);
}
