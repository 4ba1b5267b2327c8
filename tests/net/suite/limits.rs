//! A process without free descriptors, threads or address space. The server refuses or waits, logs it once a second,
//! serves its connections, and accepts others when resources are free again. (Descriptors: `server` and `listeners`.)

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};

use crate::support::server::{Conn, SOON, ServerProgram as Program, engine, frame};
use crate::support::within;

/// Threads of a server besides those of its connections: engine, runtime, signals, log.
const OWN_THREADS: usize = 24;

fn threads(program: &Program) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    count.trim().parse().unwrap()
}

/// A member of the room `#all` with a receive buffer of 4 KiB.
fn member(addr: SocketAddr, nth: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&addr.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    let hello = frame("REG", &format!("m{nth}")) + &frame("JON", "#all") + "PNG 0000";
    stream.write_all(hello.as_bytes()).unwrap();
    let mut proof = [0; 8];
    stream.read_exact(&mut proof).unwrap();
    assert_eq!(&proof, b"ACK 0000");
    stream
}

#[test]
fn members_that_do_not_read_take_no_extra_threads_and_get_all_queued_messages() {
    const MEMBERS: usize = 100;
    const MESSAGES: usize = 40;
    let program = Program::local(&["--mode", "tcp", "--max-per-host", "0"]);
    let addr = SocketAddr::from(([127, 0, 0, 1], program.port));
    let members: Vec<TcpStream> = (0..MEMBERS).map(|nth| member(addr, nth)).collect();
    let mut sender = program.register("sender");
    sender.send(&frame("JON", "#all"));
    let body = "x".repeat(9_000);
    for _ in 0..MESSAGES {
        sender.send(&frame("SND", &format!("#all {body}")));
    }
    sender.prove();
    let bound = OWN_THREADS + if engine() == "threads" { MEMBERS + 1 } else { 0 };
    assert!(threads(&program) <= bound, "{} threads for {MEMBERS} members", threads(&program));
    let expected = frame("RCV", &format!("sender#all 0001 {body}"));
    for mut member in members {
        let mut read = vec![0; expected.len() * MESSAGES];
        member.read_exact(&mut read).unwrap();
        assert!(read.chunks(expected.len()).all(|message| message == expected.as_bytes()));
    }
    sender.prove();
    program.end();
}

/// Connects many clients. Returns the served ones, at least the first.
fn connect_many(program: &Program, count: usize) -> Vec<TcpStream> {
    let addr = SocketAddr::from(([127, 0, 0, 1], program.port));
    let streams: Vec<TcpStream> = (0..count)
        .filter_map(|_| TcpStream::connect_timeout(&addr, SOON).ok())
        .filter_map(|mut stream| stream.write_all(b"PNG 0000").is_ok().then_some(stream))
        .collect();
    let answered = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = [0; 8];
        (stream.read_exact(&mut answer).is_ok() && &answer == b"ACK 0000").then_some(stream)
    };
    streams.into_iter().filter_map(answered).collect()
}

/// Connects more clients than the process has room for, twice.
fn survives(program: &Program, count: usize) -> usize {
    let mut first = program.register("first");
    let served = connect_many(program, count).len();
    first.prove();
    let addr = SocketAddr::from(([127, 0, 0, 1], program.port));
    within(SOON, "it takes others again", || {
        let mut conn = Conn::to(addr);
        conn.0.write_all(b"PNG 0000").is_ok() && conn.0.read_exact(&mut [0; 8]).is_ok()
    });
    assert!(!connect_many(program, count).is_empty());
    first.prove();
    served
}

/// Whether a command succeeds here.
fn can(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn a_server_at_the_limit_of_threads_serves_its_connections() {
    // The bound is per user, and does not apply to root.
    let as_nobody = |limit: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--clear-groups", "prlimit", limit, env!("CARGO_BIN_EXE_server")]);
        command
    };
    if !can(as_nobody("--nproc=100").arg("--version")) {
        return eprintln!(
            "not tested: no other user may be taken here (setpriv, prlimit), or run the program"
        );
    }
    let mut command = as_nobody("--nproc=40");
    command.args(["--mode", "tcp", "--host", "127.0.0.1:0", "--max-per-host", "0"]);
    let program = Program::spawn(command, Stdio::piped(), 1);
    let served = survives(&program, 60);
    if engine() == "threads" {
        assert!(served < 40, "{served} are served");
        program.wait_for_log("no thread for a connection");
    } else {
        assert_eq!(served, 60);
    }
    program.end();
}

#[test]
fn a_server_with_little_address_space_accepts_as_many_connections_as_fit() {
    if !can(Command::new("prlimit").arg("--version")) {
        return eprintln!("not tested: there is no prlimit (util-linux)");
    }
    let processors = std::thread::available_parallelism().unwrap().get();
    let space = (512 * processors + 128 + 96) << 20;
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={space}")).arg(env!("CARGO_BIN_EXE_server"));
    command.args(["--mode", "tcp", "--host", "127.0.0.1:0", "--max-per-host", "0"]);
    let program = Program::spawn(command, Stdio::piped(), 1);
    let served = survives(&program, 200);
    if engine() == "threads" {
        // 96 MiB are enough for 128 threads, of which an eighth is reserved.
        assert_eq!(served, 112 - 1, "besides the first");
    } else {
        assert_eq!(served, 200);
    }
    program.end();
}
