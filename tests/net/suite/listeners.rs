//! Listeners by URL: the server program on sockets of every kind, all into one chat.
//!
//! The conversation on a line listener is tested in `lines`; here only its announcement.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::server::{Conn, SOON, ServerProgram as Program, engine, frame, port_of};

/// Runs the program until it ends by itself.
fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_server")).args(args).output().unwrap()
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// A path for a socket, and its directory, which is removed on drop.
fn path() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat").to_str().unwrap().to_owned();
    (directory, path)
}

fn connect_unix(path: impl AsRef<Path>) -> UnixStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn tcp(program: &Program, nth: usize) -> TcpStream {
    Conn::to(SocketAddr::from(([127, 0, 0, 1], port_of(&program.listening[nth])))).0
}

fn say(socket: &mut impl Write, text: &str) {
    socket.write_all(text.as_bytes()).unwrap();
}

fn expect(socket: &mut impl Read, expected: &str) {
    let mut read = vec![0; expected.len()];
    socket.read_exact(&mut read).unwrap_or_else(|error| panic!("instead of `{expected}`: {error}"));
    assert_eq!(String::from_utf8_lossy(&read), expected);
}

/// Registers a name, and checks that it was granted.
fn register(socket: &mut (impl Read + Write), name: &str) {
    say(socket, &(frame("REG", name) + "PNG 0006 proof"));
    expect(socket, "ACK 0006 proof");
}

#[test]
fn clients_of_all_listeners_are_in_one_chat() {
    let (_directory, path) = path();
    let urls = ["tcp://127.0.0.1:0", &format!("unix://{path}"), "udp://127.0.0.1:0", "tcp://127.0.0.2:0"];
    let program = Program::with_listeners(&urls, &[]);
    let (mut ada, mut bob) = (tcp(&program, 0), connect_unix(&path));
    let mut dee = TcpStream::connect(("127.0.0.2", port_of(&program.listening[3]))).unwrap();
    dee.set_read_timeout(Some(SOON)).unwrap();
    let eve = UdpSocket::bind("127.0.0.1:0").unwrap();
    eve.set_read_timeout(Some(SOON)).unwrap();
    eve.connect(("127.0.0.1", port_of(&program.listening[2]))).unwrap();
    register(&mut ada, "ada");
    register(&mut bob, "bob");
    register(&mut dee, "dee");
    eve.send(b"REG 0004 evePNG 0006 proof").unwrap();
    let mut datagram = [0; 100];
    let count = eve.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..count], b"ACK 0006 proof");
    say(&mut bob, &frame("SND", "ada hello"));
    expect(&mut ada, "RCV 0015 bob 0001 hello");
    eve.send(b"SND 0010 bob hello").unwrap();
    expect(&mut bob, "RCV 0015 eve 0001 hello");
    say(&mut ada, &frame("SND", "eve hello"));
    let count = eve.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..count], b"RCV 0015 ada 0001 hello");
    say(&mut dee, &frame("SND", "bob hello"));
    expect(&mut bob, "RCV 0015 dee 0001 hello");
}

#[test]
fn the_server_prints_its_listeners_and_how_to_connect_to_them() {
    let (_directory, path) = path();
    let urls = [
        "line://127.0.0.1:0?room=tea&flush=50",
        &format!("line+unix://{path}%20l"),
        "udp://0.0.0.0:0?rate=5/s&name=front",
        "tcp://127.0.0.1:0",
        &format!("unix://{path}"),
    ];
    let program = Program::with_listeners(&urls, &[]);
    let port = |nth: usize| port_of(&program.listening[nth]);
    let (line, udp, tcp) = (port(0), port(2), port(3));
    let places = [
        format!("line://127.0.0.1:{line}"),
        format!("line+unix://{path}%20l"),
        format!("udp://0.0.0.0:{udp}"),
        format!("tcp://127.0.0.1:{tcp}"),
        format!("unix://{path}"),
    ];
    assert_eq!(program.listening, places.map(|place| format!("listening on {place}")));
    let hints = [
        format!("line:      nc 127.0.0.1 {line}, or telnet 127.0.0.1 {line}"),
        format!("line+unix: nc -U '{path} l'"),
        format!(
            "udp:       client --mode udp --host 127.0.0.1:{udp}, or frames by hand: nc -u 127.0.0.1 {udp}"
        ),
        format!("tcp:       client --host 127.0.0.1:{tcp}, or frames by hand: nc 127.0.0.1 {tcp}"),
        format!("unix:      nc -U {path}"),
    ];
    assert_eq!(program.hints, hints);
}

#[test]
fn a_name_with_several_addresses_is_one_listener_on_one_port() {
    let program = Program::with_listeners(&["line://localhost:0"], &[]);
    let port = port_of(&program.listening[0]);
    assert!(
        port != 0 && program.listening.iter().all(|line| port_of(line) == port),
        "{:?}",
        program.listening
    );
    assert_eq!(program.hints.len(), 1);
    let has_ipv4 = program.listening.iter().any(|line| line.contains("127.0.0.1"));
    assert!(
        !has_ipv4 || program.hints[0] == format!("line: nc 127.0.0.1 {port}, or telnet 127.0.0.1 {port}")
    );
    assert!(program.listening.iter().all(|line| line.starts_with("listening on line://")));
}

#[test]
fn listeners_on_one_port_in_two_families_are_two_listeners() {
    if !has_ipv6() {
        eprintln!("not tested: this machine has no IPv6");
        return;
    }
    let one = Program::with_listeners(&["line://[::1]:0"], &[]);
    let port = port_of(&one.listening[0]);
    one.end();
    let urls = [format!("line://[::1]:{port}?echo=off"), format!("line://127.0.0.1:{port}")];
    let two = Program::with_listeners(&urls.each_ref().map(String::as_str), &[]);
    let hint = |ip: &str| format!("line: nc {ip} {port}, or telnet {ip} {port}");
    assert_eq!(two.hints, [hint("::1"), hint("127.0.0.1")]);
}

#[test]
fn a_url_may_be_an_ipv6_address() {
    if !has_ipv6() {
        eprintln!("not tested: this machine has no IPv6");
        return;
    }
    let program = Program::with_listeners(&["tcp://[::1]:0", "tcp://[::]:0?name=all"], &[]);
    let port = port_of(&program.listening[0]);
    assert_eq!(program.listening[0], format!("listening on tcp://[::1]:{port}"));
    let all = port_of(&program.listening[1]);
    let both = ["[::]", "0.0.0.0"].map(|host| format!("listening on tcp://{host}:{all}"));
    assert_eq!(program.listening[1..], both);
    for (nth, host) in
        [format!("[::1]:{port}"), format!("[::1]:{all}"), format!("127.0.0.1:{all}")].into_iter().enumerate()
    {
        let addr: SocketAddr = host.parse().unwrap();
        register(&mut Conn::to(addr).0, &format!("a{nth}"));
    }
    assert!(program.hints[1].ends_with(&format!(": nc 127.0.0.1 {all}")));
}

#[test]
fn listeners_by_url_add_to_the_short_form() {
    let (_directory, path) = path();
    let program = Program::local(&["--listen", &format!("unix://{path}"), "--mode", "tcp"]);
    let places = [format!("tcp://127.0.0.1:{}", program.port), format!("unix://{path}")];
    assert_eq!(program.listening, places.map(|place| format!("listening on {place}")));
    let (mut ada, mut bob) = (program.connect().0, connect_unix(&path));
    register(&mut ada, "ada");
    register(&mut bob, "bob");
    say(&mut bob, &frame("SND", "ada hello"));
    expect(&mut ada, "RCV 0015 bob 0001 hello");
}

#[test]
fn several_processes_share_a_port_with_reuse_port_and_each_has_its_own_chat() {
    let first = Program::with_listeners(&["tcp://127.0.0.1:0?reuse_port=1"], &[]);
    let place = format!("tcp://127.0.0.1:{}", first.port);
    let alone = run(&["--listen", &place]);
    assert_eq!(alone.status.code(), Some(1));
    let second = Program::with_listeners(&[&format!("{place}?reuse_port=1")], &[]);
    assert_eq!(second.listening, first.listening);
    // The kernel distributes connections by their ports: each process gets some, and the name is free in both.
    let mut apart = 0;
    for _ in 0..200 {
        let (mut ada, mut other) = (first.connect().0, second.connect().0);
        register(&mut ada, "ada");
        say(&mut other, &(frame("REG", "ada") + "PNG 0006 proofBYE 0000"));
        let mut answer = String::new();
        other.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ACK 0006 proof"), "{answer}");
        apart += usize::from(!answer.contains("ERR"));
        // The name is free once the connection is closed.
        say(&mut ada, "BYE 0000");
        assert_eq!(ada.read_to_end(&mut Vec::new()).unwrap(), 0);
        if apart > 2 {
            return;
        }
    }
    panic!("200 pairs of connections never went to different processes");
}

#[test]
fn a_unix_socket_has_its_permissions_and_is_removed_at_a_clean_shutdown() {
    let (_directory, path) = path();
    let program = Program::with_listeners(&[&format!("unix://{path}?mode=0606")], &[]);
    let file = fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o606);
    let mut ada = connect_unix(&path);
    register(&mut ada, "ada");
    program.signal("TERM");
    // It gets BYE like any client.
    expect(&mut ada, "BYE 0000");
    drop(ada);
    let (code, logged, _) = program.end_within(SOON * 2);
    assert_eq!(code, Some(0), "{logged:?}");
    assert!(fs::symlink_metadata(&path).is_err());
}

#[test]
fn the_unix_socket_of_a_killed_server_is_replaced_and_of_a_live_one_is_not() {
    let (_directory, path) = path();
    let url = format!("unix://{path}");
    let killed = Program::with_listeners(&[&url], &[]);
    drop(killed);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket(), "killed, it could not tidy up");
    let program = Program::with_listeners(&[&url], &[]);
    let other = run(&["--listen", &url]);
    assert_eq!((other.status.code(), other.stdout.len()), (Some(1), 0));
    let expected = format!(
        "error: cannot listen on {url}: address already in use; end the server that is there, or name another path\n"
    );
    assert_eq!(String::from_utf8_lossy(&other.stderr), expected);
    register(&mut connect_unix(&path), "ada");
    program.end();
}

#[test]
fn a_file_that_is_not_a_socket_is_refused_in_one_line_and_unchanged() {
    let (directory, path) = path();
    fs::write(&path, "not yours").unwrap();
    let link = format!("{path}.link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let folder = directory.path().to_str().unwrap();
    for place in [&path, &link, folder] {
        let refused = run(&["--listen", &format!("unix://{place}")]);
        assert_eq!(refused.status.code(), Some(1));
        let expected = format!(
            "error: cannot listen on unix://{place}: the file there is not a socket and was not changed; name another path\n"
        );
        assert_eq!(String::from_utf8_lossy(&refused.stderr), expected);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "not yours");
    assert_eq!(fs::read_link(&link).unwrap().to_str(), Some(path.as_str()));
}

#[test]
fn a_listener_that_cannot_be_opened_leaves_no_other_socket_file() {
    let (_directory, path) = path();
    let taken = UnixListener::bind(format!("{path}.taken")).unwrap();
    let urls = [format!("unix://{path}"), format!("unix://{path}.taken")];
    let refused = run(&["--listen", &urls[0], "--listen", &urls[1]]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    assert!(fs::symlink_metadata(&path).is_err());
    drop(taken);
}

#[test]
fn a_bind_error_is_one_line_that_names_the_url() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let long = format!("unix:///tmp/{}", "x".repeat(200));
    for (url, part) in [
        (
            format!("line://127.0.0.1:{port}?room=tea"),
            format!("line://127.0.0.1:{port}: address already in use"),
        ),
        ("tcp://no-such-host.invalid:5".to_owned(), "cannot find the host `no-such-host.invalid`".to_owned()),
        ("unix:///no/such/directory/chat".to_owned(), "there is no such directory; make it first".to_owned()),
        (long, "the path is too long for a socket; name a shorter one".to_owned()),
    ] {
        let refused = run(&["--listen", &url]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(
            (refused.status.code(), refused.stdout.len(), said.lines().count()),
            (Some(1), 0, 1),
            "{said}"
        );
        assert!(said.contains(&part), "{said}");
    }
}

#[test]
fn an_invalid_url_is_one_plain_line_and_exit_code_2() {
    for (url, part) in [
        ("gopher://h:70", "the scheme `gopher` is unknown; write tcp://HOST:PORT"),
        (
            "tcp://h:5?colour=red",
            "the parameter `colour` is unknown; tcp:// has reuse_port, v6only, rate, rate_per_host, name",
        ),
        ("line://h?echo=on&echo=on", "the parameter `echo` is there twice"),
        ("line://h?rate=often", "`often` is not a rate"),
        ("unix:///a?mode=rw", "mode cannot be `rw`; write octal digits"),
        ("tcp://me@h:5", "leave out the part before the @"),
        ("tcp://h:5#x", "write %23"),
        ("tcp://h:5/x", "a path means nothing there"),
        ("unix://h/x", "has no host"),
        ("localhost:5", "it has no scheme"),
        ("unix:///\u{1b}[2J\u{202e}\u{9b}\n", r"`\x1b` may not stand"),
    ] {
        let refused = run(&["--listen", "tcp://127.0.0.1:0", "--listen", url]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(
            (refused.status.code(), refused.stdout.len(), said.lines().count()),
            (Some(2), 0, 1),
            "{said}"
        );
        assert!(said.contains(part), "{said}");
        let line = said.trim_end_matches('\n');
        assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{said:?}");
    }
}

#[test]
fn at_the_limit_of_open_files_the_server_accepts_again_when_a_connection_ends() {
    let (_directory, path) = path();
    let mut command = Command::new("sh");
    let server = env!("CARGO_BIN_EXE_server");
    command
        .args(["-c", &format!("ulimit -n 40; exec {server} --engine {} --listen unix://{path}", engine())]);
    let program = Program::spawn(command, Stdio::piped(), 1);
    let mut peers: Vec<UnixStream> = (0..60).map(|_| connect_unix(&path)).collect();
    register(&mut peers[0], "ada");
    program.wait_for_log("cannot accept connections");
    // Closed connections make room for waiting ones.
    let mut last = peers.split_off(59);
    drop(peers);
    register(&mut last[0], "bob");
}
