//! The server's bounds and times: each is set on the command line of the real program and observed by a peer.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "a real program takes real time")]

use std::io::Read as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::program::Program as AnyProgram;
use crate::support::server::{Conn, SOON, ServerProgram as Program};
use crate::support::{eventually, uninterrupted};

/// The answer to a datagram; `None` if there is none.
fn ask(socket: &UdpSocket, datagram: &str) -> String {
    socket.send(datagram.as_bytes()).unwrap();
    let mut buffer = [0; 9_000];
    let count = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// Whether a name is taken, by a registration of it.
fn is_taken(program: &Program, name: &str) -> bool {
    let mut conn = program.connect();
    conn.send(&format!("REG {:04} {name}BYE 0000", name.len() + 1));
    match conn.rest().as_str() {
        "" => false,
        "ERR 0012 Name taken!" => true,
        waits
            if waits.starts_with("ERR 005")
                && waits.contains(" Name taken! Its session waits ")
                && waits.ends_with(" s more for its owner") =>
        {
            true
        }
        other => panic!("{other}"),
    }
}

#[test]
fn linger_limits_how_long_a_session_outlives_its_connection() {
    for (linger, outlives) in [("0", false), ("60", true)] {
        let program = Program::local(&["--linger", linger]);
        let mut ada = program.connect();
        ada.send("@1 REG 0028 ada ?AAAAAAAAAAAAAAAAAAAAAA");
        ada.expect("@1 ACK 0023 ");
        drop(ada);
        if outlives {
            assert!(is_taken(&program, "ada"));
        } else {
            eventually("the name is free", || !is_taken(&program, "ada"));
        }
        program.end();
    }
}

#[test]
fn idle_limits_how_long_a_session_lives_after_its_last_datagram() {
    let program = Program::local(&["--idle", ".2"]);
    let socket = program.udp();
    assert_eq!(ask(&socket, "REG 0004 ada\nLST 0000"), "ACK 0004 ada");
    eventually("the name is free", || !is_taken(&program, "ada"));
    // An untagged session gets BYE once.
    assert_eq!(ask(&socket, "LST 0000"), "BYE 0000");
    assert_eq!(ask(&socket, "LST 0000"), "ERR 0016 Register first!");
    program.end();
}

#[test]
fn register_timeout_and_frame_timeout_close_slower_connections() {
    let program = Program::local(&["--register-timeout", ".2", "--frame-timeout", ".3"]);
    let begun = Instant::now();
    assert_eq!(program.connect().rest(), "ERR 0023 not registered in timeBYE 0000");
    assert!(begun.elapsed() < SOON);
    let mut slow = program.register("ada");
    slow.send("SND 0100 ada");
    assert_eq!(slow.rest(), "ERR 0027 frame not finished in timeBYE 0000");
    program.end();
}

#[test]
fn max_connections_limits_simultaneous_connections() {
    let program = Program::local(&["--max-connections", "2", "--max-per-host", "1"]);
    let (ada, mut bob) = (program.register("ada"), program.register("bob"));
    assert_eq!(program.connect().rest(), "ERR 0013 Server full!BYE 0000");
    program.wait_for_log("refused a connection from 127.0.0.1:");
    bob.send("PNG 0000");
    bob.expect("ACK 0000");
    drop(ada);
    eventually("there is room again", || !is_full(&program));
    drop(bob);
    assert!(program.end().contains("refused connections "));
}

/// Whether a new connection is refused because the server is full.
fn is_full(program: &Program) -> bool {
    let mut conn = program.connect();
    conn.send("BYE 0000");
    // A refused connection is closed with unread input, so a reset follows the text.
    let mut words = Vec::new();
    let _ = conn.0.read_to_end(&mut words);
    String::from_utf8_lossy(&words).contains("Server full!")
}

#[test]
fn the_raised_limit_of_open_files_is_the_default_bound_of_connections() {
    let command = |options: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -S -n 64 && ulimit -H -n 256 && exec "$0" "$@""#]);
        command.args([env!("CARGO_BIN_EXE_server"), "--host", "127.0.0.1:0"]).args(options);
        command
    };
    let usual = Program::spawn(command(&[]), Stdio::piped(), 2);
    let mut conns: Vec<_> = (0..224).map(|_| usual.connect()).collect();
    // Under the engine of threads, connections that were accepted in turn may open in another order.
    conns.iter_mut().for_each(Conn::prove);
    assert_eq!(usual.connect().rest(), "ERR 0013 Server full!BYE 0000");
    drop(conns);
    usual.end();
    let mut greedy = command(&["--max-connections", "1000"]);
    let greedy = AnyProgram::spawn(greedy.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let warning = "--max-connections 1000: the limit of open files is 256 (ulimit -n), enough for 224";
    eventually("it listens", || greedy.out().contains("listening on udp://"));
    eventually("it warns", || greedy.err().contains(warning));
    greedy.signal("TERM");
    assert_eq!(greedy.wait().code, 0);
}

#[test]
fn max_message_limits_the_payload_of_a_frame() {
    let program = Program::local(&["--max-message", "100"]);
    let mut conn = program.connect();
    conn.send(&format!("PNG 0100 {}", "p".repeat(99)));
    conn.expect(&format!("ACK 0100 {}", "p".repeat(99)));
    conn.send("PNG 0101");
    assert_eq!(conn.rest(), "ERR 0036 length 101 is over the limit of 100BYE 0000");
    program.end();
}

#[test]
fn max_pending_and_max_memory_bound_pending_messages() {
    for options in [["--max-pending", "500"], ["--max-memory", "500"]] {
        let program = Program::local(&options);
        let mut ada = program.connect();
        // A tagged session that never acknowledges keeps all its pushes.
        ada.send("@1 REG 0028 ada ?AAAAAAAAAAAAAAAAAAAAAA");
        ada.expect("@1 ACK 0023 ");
        let mut bob = program.register("bob");
        let text = "x".repeat(200);
        bob.send(&format!("SND 0205 ada {text}SND 0205 ada {text}PNG 0000"));
        bob.expect("ERR 0012 Queue full!ACK 0000");
        // Under block, a member that never acknowledges would pause the sender.
        drop(ada);
        program.end();
    }
}

#[test]
fn max_datagram_limits_sent_datagrams() {
    let ping = format!("PNG 1301 {}", "p".repeat(1_300));
    let usual = Program::local(&[]);
    assert_eq!(ask(&usual.udp(), &ping), "ERR 0010 Too long!");
    let wide = Program::local(&["--max-datagram", "2000"]);
    assert_eq!(ask(&wide.udp(), &ping), ping.replace("PNG", "ACK"));
    usual.end();
    wide.end();
}

#[test]
fn bare_udp_names_the_networks_where_a_bare_reg_is_enough() {
    for (networks, answer) in [
        ("", "ERR 0020 Address not proven!"),
        ("10.0.0.0/8,::1", "ERR 0020 Address not proven!"),
        ("10.0.0.0/8,127.0.0.1", "ACK 0004 ada"),
    ] {
        let program = Program::local(&["--bare-udp", networks]);
        assert_eq!(ask(&program.udp(), "REG 0004 ada\nLST 0000"), answer, "{networks:?}");
        program.end();
    }
}

#[test]
fn verbose_logs_each_session() {
    let verbose = Program::local(&["-v"]);
    drop(verbose.register("ada"));
    verbose.wait_for_log("ada: a session begins");
    verbose.wait_for_log("ada: the session ends");
    verbose.end();
}

#[test]
fn quiet_leaves_only_the_totals() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.args(["--host", "127.0.0.1:0", "-q"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = AnyProgram::spawn(&mut command);
    eventually("it listens", || program.out().contains("listening on udp://"));
    program.signal("TERM");
    let ended = program.wait();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(ended.err.contains("sessions 0, messages 0, "), "{ended:?}");
}

#[test]
fn link_impairs_both_directions() {
    let program = Program::local(&["--link", "delay:60ms", "--seed", "1"]);
    let begun = Instant::now();
    assert_eq!(ask(&program.udp(), "PNG 0000"), "ACK 0000");
    assert!(begun.elapsed() >= Duration::from_millis(120), "{:?}", begun.elapsed());
    // Streams are not delayed, which is logged.
    program.connect().prove();
    program.end();
}

#[test]
fn link_up_and_link_down_replace_parts_of_link_in_one_direction() {
    let options = ["--link", "iid:1", "--link-up", "list:1", "--link-down", "list:2+mtu:20", "--seed", "9"];
    let program = Program::local(&options);
    let socket = program.udp();
    socket.send(b"PNG 0000").unwrap();
    assert_eq!(ask(&socket, "PNG 0002 2"), "ACK 0002 2", "the first is lost on its way up");
    socket.send(b"PNG 0002 3").unwrap();
    socket.send(format!("PNG 0030 {}", "x".repeat(29)).as_bytes()).unwrap();
    assert_eq!(ask(&socket, "PNG 0002 5"), "ACK 0002 5", "lost, and too large, on their way down");
    let totals = program.end();
    assert!(totals.contains("dropped in 1 of 5 (requested list:1, realised 20.0 %), "), "{totals}");
    assert!(totals.contains("out 1 of 4 (requested list:2, realised 25.0 %, too large 1), "), "{totals}");
}

#[test]
fn the_simulated_links_are_logged_at_the_start() {
    for (options, line) in [
        (vec!["--success", ".5", "--loss-out", ".25"], "simulated loss: 50.0 % in, 25.0 % out, seed 3"),
        (vec!["--link", "gilbert:.1,5"], "simulated loss: gilbert:0.1,5 in, gilbert:0.1,5 out, seed 3"),
        (
            vec!["--profile", "3g", "--link-down", "none"],
            "simulated loss: iid:0.015+delay:0.125s+rate:750kbit in, 0.0 % out, seed 3",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args(["--host", "127.0.0.1:0", "--seed", "3"]).args(&options);
        let program = AnyProgram::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        eventually("it says what it simulates", || program.err().contains(line));
        let warns = "over streams only loss is simulated";
        let more_than_loss = options.contains(&"--profile");
        eventually("it listens", || program.out().contains("listening on udp://"));
        program.signal("TERM");
        let ended = program.wait();
        assert_eq!((ended.code, ended.err.contains(warns)), (0, more_than_loss), "{ended:?}");
    }
}

#[test]
fn an_invalid_link_is_one_line_and_exit_code_2() {
    for (options, part) in [
        (vec!["--link", "bernoulli:.1"], "`bernoulli` is not part of a link; loss models are iid, gilbert, "),
        (vec!["--link-up", "iid:1.5"], "iid: `1.5` is not a probability: it must not be above 1"),
        (vec!["--link-down", "delay:-1"], "delay: `-1` is not a duration: it must not be negative"),
        (vec!["--link", "gilbert:.9,2"], "the least burst is 9"),
        (vec!["--profile", "5g"], "`5g` is not a profile; there are 3g, edge, wifi, dsl, satellite"),
        (vec!["--success", ".5", "--link", "iid:.1"], "'--success <P>' cannot be used with"),
        (vec!["--loss-out", ".5", "--profile", "3g"], "'--loss-out <P>' cannot be used with"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args(["--host", "127.0.0.1:0"]).args(&options);
        let ended = AnyProgram::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).wait();
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
        assert!(ended.err.contains(part) && ended.err.lines().count() == 1, "{options:?}: {ended:?}");
    }
}
