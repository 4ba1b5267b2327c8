//! The server program over real sockets, on loopback.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "a real program takes real time, and its pipes need readers")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::server::{Conn, SOON, ServerProgram as Program, engine, frame};
use crate::support::uninterrupted;

fn receive(socket: &UdpSocket) -> String {
    let mut buffer = [0; 2_000];
    let count = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// Runs the program until it ends by itself.
fn run(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_server")).args(options).output().unwrap()
}

#[test]
fn asio_chatservers_protocol_is_spoken_byte_for_byte_over_tcp() {
    let program = Program::local(&[]);
    let (mut one, mut two) = (program.connect(), program.connect());
    one.send("REG 0007 TEST01");
    one.prove();
    two.send("REG 0007 TEST02SND 0017 TEST01 Heyyyooo!");
    one.expect("RCV 0022 TEST02 0001 Heyyyooo!");
    two.send("SND 0017 TEST09 Heyyyooo!");
    two.expect("ERR 0016 No such client!");
    one.send("SND 0020 TEST02 to be or not");
    two.expect("RCV 0025 TEST01 0004 to be or not");
    two.send("BYE 0000");
    two.expect_end();
    one.send("SND 0017 TEST02 Heyyyooo!");
    one.expect("ERR 0016 No such client!");
}

#[test]
fn asio_chatservers_protocol_is_spoken_over_udp() {
    let program = Program::local(&[]);
    let (one, two) = (program.udp(), program.udp());
    one.send(b"REG 0007 TEST01PNG 0003 hi").unwrap();
    assert_eq!(receive(&one), "ACK 0003 hi");
    two.send(b"REG 0007 TEST02").unwrap();
    two.send(b"SND 0017 TEST01 Heyyyooo!").unwrap();
    assert_eq!(receive(&one), "RCV 0022 TEST02 0001 Heyyyooo!");
    two.send(b"SND 0017 TEST09 Heyyyooo!").unwrap();
    assert_eq!(receive(&two), "ERR 0016 No such client!");
}

#[test]
fn a_stream_and_a_datagram_client_talk_to_each_other() {
    let program = Program::local(&[]);
    let mut stream = program.register("stream");
    let datagrams = program.udp();
    datagrams.send(b"REG 0006 dgramSND 0009 stream x").unwrap();
    stream.expect("RCV 0013 dgram 0001 x");
    stream.send("SND 0008 dgram y");
    assert_eq!(receive(&datagrams), "RCV 0014 stream 0001 y");
}

#[test]
fn frames_may_be_split_and_joined_anywhere() {
    let program = Program::local(&[]);
    let text = "REG 0007 TEST01\r\nLST 0000\n@1 PNG 0003 hiSND 0004 x yPNG 0006 \r\nhi!BYE 0000";
    let expected = "ACK 0007 TEST01@1 ACK 0003 hiERR 0016 No such client!ACK 0006 \r\nhi!";
    for size in 1..=text.len() {
        let mut conn = program.connect();
        for piece in text.as_bytes().chunks(size) {
            conn.0.write_all(piece).unwrap();
        }
        assert_eq!(conn.rest(), expected, "{size} bytes at a time");
    }
}

#[test]
fn a_broken_stream_with_unread_input_gets_its_error_and_bye_without_a_reset() {
    let program = Program::local(&[]);
    let mut conn = program.connect();
    conn.send("REG 0007 TEST01reg 0007 TEST01");
    let garbage = vec![b'x'; 4 << 20];
    conn.0.write_all(&garbage).unwrap();
    let last_words = conn.rest();
    assert!(last_words.starts_with("ERR 0"), "{last_words}");
    assert!(last_words.ends_with("BYE 0000"), "{last_words}");
    // A client that keeps sending is reset in the end.
    let cut_off = Instant::now() + SOON;
    while conn.0.write_all(b"x").is_ok() {
        assert!(Instant::now() < cut_off, "the connection was never closed");
    }
}

#[test]
fn a_bye_ends_a_connection_and_input_after_it_is_ignored() {
    let program = Program::local(&[]);
    for behind in ["PNG 0000", "reg 0007 TEST01", "BYE 0000", "S"] {
        let mut conn = program.connect();
        conn.send(&format!("BYE 0000{behind}"));
        conn.expect_end();
    }
}

#[test]
fn a_half_closed_client_still_gets_all_answers() {
    let program = Program::local(&[]);
    let mut conn = program.connect();
    // Far more than the kernel buffers while nothing is read.
    let count = 1_500;
    let body = "x".repeat(9_000);
    let messages = frame("SND", &format!("TEST01 {body}")).repeat(count);
    conn.send(&format!("{}{}{messages}", frame("REG", "TEST01"), frame("SND", "nobody Hey you")));
    conn.0.shutdown(Shutdown::Write).unwrap();
    let answers = conn.rest();
    assert!(answers.starts_with("ERR 0016 No such client!"), "{}", &answers[..100]);
    assert_eq!(answers.matches(&body).count(), count);
}

#[test]
fn messages_of_many_senders_at_once_all_arrive_and_each_senders_in_order() {
    const SENDERS: usize = 8;
    const MESSAGES: usize = 2_000;
    let program = Program::local(&[]);
    let mut receiver = program.register("receiver");
    let mut received = vec![0; SENDERS];
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let mut conn = program.register(&format!("s{sender}"));
            scope.spawn(move || {
                for n in 0..MESSAGES {
                    conn.send(&frame("SND", &format!("receiver {n:04}")));
                }
                conn.prove();
            });
        }
        for _ in 0..SENDERS * MESSAGES {
            let mut message = vec![0; "RCV 0013 s0 0001 0000".len()];
            receiver.0.read_exact(&mut message).unwrap();
            let text = String::from_utf8(message).unwrap();
            let sender: usize = text[10..11].parse().unwrap();
            assert_eq!(text, format!("RCV 0013 s{sender} 0001 {:04}", received[sender]));
            received[sender] += 1;
        }
    });
    assert_eq!(received, [MESSAGES; SENDERS]);
}

#[test]
fn a_client_that_does_not_read_delays_no_others_and_its_senders_are_told() {
    let program = Program::local(&["--max-pending", "1MiB"]);
    let _deaf = program.register("deaf");
    let (mut loud, mut one, mut two) =
        (program.register("loud"), program.register("one"), program.register("two"));
    let message = frame("SND", &format!("deaf {}", "x".repeat(9_000)));
    let mut answers = Vec::new();
    loud.0.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + SOON * 4;
    while answers.is_empty() {
        assert!(Instant::now() < deadline, "the queue never filled up");
        loud.0.set_nonblocking(false).unwrap();
        loud.0.write_all(message.as_bytes()).unwrap();
        loud.0.set_nonblocking(true).unwrap();
        match loud.0.read_to_end(&mut answers) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(answers.starts_with(b"ERR 0012 Queue full!"));
    one.send("SND 0006 two a");
    two.expect("RCV 0011 one 0001 a");
    two.send("SND 0006 one b");
    one.expect("RCV 0011 two 0001 b");
}

#[test]
fn reading_from_a_client_with_unread_answers_is_paused_until_it_reads() {
    let program = Program::local(&[]);
    let mut conn = program.register("ada");
    conn.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let ping = frame("PNG", &"x".repeat(9_000));
    let mut sent = 0;
    // The kernel's buffers on both sides are far smaller.
    while sent < 256 << 20 {
        match conn.0.write(&ping.as_bytes()[sent % ping.len()..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 256 << 20, "the server takes whatever comes");
    let mut answers = vec![0; sent / ping.len() * ping.len()];
    conn.0.read_exact(&mut answers).unwrap();
    assert!(answers.chunks(ping.len()).all(|answer| answer.starts_with(b"ACK 9001 xxx")));
}

#[test]
fn every_member_of_a_large_room_gets_every_message() {
    let program = Program::local(&[]);
    let mut speaker = program.register("speaker");
    speaker.send(&frame("JON", "#r"));
    let join = |n| {
        let mut conn = program.register(&format!("member{n}"));
        conn.send(&frame("JON", "#r"));
        conn.prove();
        conn
    };
    let mut members: Vec<Conn> = (0..400).map(join).collect();
    for _ in 0..10 {
        speaker.send(&frame("SND", "#r hello"));
    }
    for member in &mut members {
        member.expect(&frame("RCV", "speaker#r 0001 hello").repeat(10));
    }
}

#[test]
fn sigusr1_prints_one_line_of_totals() {
    let program = Program::local(&[]);
    let mut conn = program.register("TEST01");
    conn.send("SND 0009 TEST01 x");
    conn.expect("RCV 0014 TEST01 0001 x");
    program.signal("USR1");
    let line = program.wait_for_log("sessions 1, messages 1,");
    assert!(line.contains(" INFO "), "{line}");
    conn.prove();
}

#[test]
fn sigterm_sends_bye_to_all_and_ends_with_totals_and_exit_code_0() {
    let program = Program::local(&[]);
    let (mut registered, mut unregistered, datagrams) =
        (program.register("TEST01"), program.connect(), program.udp());
    datagrams.send(b"REG 0004 dgmPNG 0000").unwrap();
    assert_eq!(receive(&datagrams), "ACK 0000");
    unregistered.prove();
    registered.send("SND 0009 TEST01 x");
    registered.expect("RCV 0014 TEST01 0001 x");
    program.signal("TERM");
    program.wait_for_log("shutting down");
    registered.expect("BYE 0000");
    registered.expect_end();
    unregistered.expect("BYE 0000");
    unregistered.expect_end();
    assert_eq!(receive(&datagrams), "BYE 0000");
    let refused = TcpStream::connect(("127.0.0.1", program.port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop((registered, unregistered));
    let (code, logged, printed) = program.end_within(SOON);
    assert_eq!(code, Some(0));
    assert!(logged.iter().any(|line| line.contains("sessions 2, messages 1,")), "{logged:?}");
    assert_eq!(printed, Vec::<String>::new());
}

/// A session that does not read and has more queued than any socket buffers.
fn deaf(program: &Program) -> Conn {
    let mut conn = program.register("deaf");
    let message = frame("SND", &format!("deaf {}", "x".repeat(9_000)));
    for _ in 0..1_500 {
        conn.0.write_all(message.as_bytes()).unwrap();
    }
    conn
}

#[test]
fn a_client_that_does_not_read_delays_the_shutdown_by_ten_seconds_at_most() {
    let program = Program::local(&[]);
    let _deaf = deaf(&program);
    program.signal("INT");
    let (code, logged, _) = program.end_within(Duration::from_secs(10) + SOON / 5);
    assert_eq!(code, Some(0));
    assert!(logged.iter().any(|line| line.contains("sessions 1, ")), "{logged:?}");
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let program = Program::local(&[]);
    let _deaf = deaf(&program);
    program.signal("TERM");
    program.wait_for_log("shutting down");
    program.signal("TERM");
    let (code, ..) = program.end_within(SOON);
    assert_eq!(code, Some(130));
}

#[test]
fn tcp_and_udp_share_a_port_and_only_the_listeners_are_printed() {
    let program = Program::local(&["-v"]);
    let port = program.port;
    let expected = ["tcp", "udp"].map(|scheme| format!("listening on {scheme}://127.0.0.1:{port}"));
    assert_eq!(program.listening, expected);
    program.register("TEST01").send("nonsense");
    program.signal("TERM");
    let (code, _, printed) = program.end_within(SOON);
    assert_eq!((code, printed), (Some(0), Vec::new()));
}

#[test]
fn the_mode_chooses_tcp_udp_or_both_in_any_letter_case() {
    let program = Program::local(&["--mode", "UDP"]);
    assert_eq!(program.listening, [format!("listening on udp://127.0.0.1:{}", program.port)]);
    assert!(TcpStream::connect(("127.0.0.1", program.port)).is_err());
    let socket = program.udp();
    socket.send(b"PNG 0000").unwrap();
    assert_eq!(receive(&socket), "ACK 0000");
    let program = Program::local(&["--mode", "Tcp"]);
    assert_eq!(program.listening, [format!("listening on tcp://127.0.0.1:{}", program.port)]);
    program.connect().prove();
}

#[test]
fn ipv6_is_served_like_ipv4() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("not tested: this machine has no IPv6");
        return;
    }
    let program = Program::start("[::1]", &[]);
    assert_eq!(program.listening[0], format!("listening on tcp://[::1]:{}", program.port));
    let addr: SocketAddr = format!("[::1]:{}", program.port).parse().unwrap();
    Conn::to(addr).prove();
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    socket.connect(addr).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.send(b"REG 0002 aPNG 0000").unwrap();
    assert_eq!(receive(&socket), "ACK 0000");
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = taken.local_addr().unwrap().to_string();
    let output = run(&["--host", &host]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let expected =
        format!("error: cannot listen on tcp://{host}: address already in use; is another server running?\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
}

#[test]
fn an_unknown_host_is_one_line_and_exit_code_1() {
    for host in ["192.0.2.1:0", "no-such-host.invalid:0"] {
        let output = run(&["--host", host]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{host}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{host}");
    }
}

#[test]
fn a_usage_error_is_exit_code_2_and_nothing_on_standard_output() {
    let wrong: [&[&str]; 8] = [
        &["--timeout", "-1"],
        &["--timeout", "NaN"],
        &["--idle", "1e300"],
        &["--success", "1.5"],
        &["--timeout", "2", "--max-timeout", "1"],
        &["--mode", "quic"],
        &["--host", "localhost"],
        &["--what"],
    ];
    for options in wrong {
        let output = run(options);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{options:?}");
    }
    let output = run(&["--timeout", "-1"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("`-1` is not a duration: it must not be negative"), "{message}");
}

#[test]
fn help_shows_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("Exit codes:") && help.contains("[default: 16MiB]"), "{help}");
}

#[test]
fn the_server_runs_with_unread_output() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.args(["--host", &format!("127.0.0.1:{port}")]);
    let mut program = Program::spawn(command, writer.into(), 0);
    program.port = port;
    program.connect().prove();
    program.signal("TERM");
    assert_eq!(program.end_within(SOON).0, Some(0));
}

#[test]
fn losses_are_counted_and_shown_beside_the_requested_rate() {
    let program = Program::local(&["--success", "0", "--seed", "1"]);
    let socket = program.udp();
    for _ in 0..5 {
        socket.send(b"PNG 0000").unwrap();
    }
    let mut conn = program.connect();
    // Untagged requests are not repeated, so a stream does not drop them.
    conn.send("@1 PNG 0000PNG 0000");
    conn.expect("ACK 0000");
    let deadline = Instant::now() + SOON;
    loop {
        program.signal("USR1");
        let line = program.wait_for_log("dropped in ");
        if line.contains("dropped in 6 of 6 (requested 100.0 %, realised 100.0 %)") {
            break;
        }
        assert!(Instant::now() < deadline, "{line}");
    }
}

#[test]
fn a_server_without_free_descriptors_keeps_serving_and_accepts_more_when_some_are_free() {
    let mut command = Command::new("sh");
    let server = env!("CARGO_BIN_EXE_server");
    command.args(["-c", &format!("ulimit -n 32; exec {server} --engine {} --host 127.0.0.1:0", engine())]);
    let program = Program::spawn(command, Stdio::piped(), 2);
    let mut first = program.register("first");
    let connections: Vec<Conn> = (0..40).map(|_| program.connect()).collect();
    program.wait_for_log("cannot accept connections");
    first.prove();
    drop(connections);
    program.connect().prove();
    first.prove();
}
