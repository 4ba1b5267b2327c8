//! `lab baseline`: every byte arrives unchanged at its target.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::support::program::Program;
use crate::support::proxy::udp_client;
use crate::support::{STEP_TIMEOUT, eventually};

/// A running server.
struct Baseline {
    program: Program,
    addr: SocketAddr,
}

impl Baseline {
    fn start(pattern: &str) -> Self {
        let program = Program::start(env!("CARGO_BIN_EXE_lab"), &["baseline", pattern]);
        eventually("it listens", || program.out().ends_with('\n'));
        let out = program.out();
        let (said, addr) = out.trim_end().split_once("://").unwrap();
        let scheme = if pattern == "echo-udp" { "udp" } else { "tcp" };
        assert_eq!(said, format!("listening on {scheme}"));
        let addr = addr.parse().unwrap();
        Self { program, addr }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(STEP_TIMEOUT)).unwrap();
        stream
    }

    fn end(self, signal: &str) {
        self.program.signal(signal);
        let ended = self.program.wait();
        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    }
}

/// Returns more bytes than the sockets between hold, without repetition.
fn much() -> Vec<u8> {
    (0..8_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
}

fn expect(mut from: &TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    from.read_exact(&mut got).unwrap();
    assert!(got == bytes, "other bytes came than were sent");
}

/// Sends all bytes while the other end reads them: they do not fit into the sockets between.
fn pass(from: &TcpStream, to: &TcpStream, bytes: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(|| (&mut &*from).write_all(bytes).unwrap());
        expect(to, bytes);
    });
}

#[test]
fn an_echo_returns_every_connection_its_own_bytes() {
    let baseline = Baseline::start("echo");
    let (ada, bob) = (baseline.connect(), baseline.connect());
    (&bob).write_all(b"bob").unwrap();
    pass(&ada, &ada, &much());
    expect(&bob, b"bob");
    baseline.end("TERM");
}

#[test]
fn a_relay_pairs_connections_and_closes_a_pair_after_all_bytes_have_passed() {
    let baseline = Baseline::start("relay");
    let conns: Vec<TcpStream> = (0..4).map(|_| baseline.connect()).collect();
    let [ada, bob, cleo, dan] = conns.as_slice() else { panic!("there are four") };
    (&mut &*cleo).write_all(b"to dan").unwrap();
    pass(ada, bob, &much());
    pass(bob, ada, b"and back");
    expect(dan, b"to dan");
    (&mut &*ada).write_all(b"the last").unwrap();
    ada.shutdown(std::net::Shutdown::Write).unwrap();
    expect(bob, b"the last");
    assert_eq!((&mut &*bob).read(&mut [0]).unwrap(), 0, "bob is left alone and open");
    pass(dan, cleo, b"still here");
    baseline.end("INT");
}

/// Reads up to and including the first byte that is not a dot.
fn skip_dots(mut from: &TcpStream) {
    let mut byte = *b".";
    while byte == *b"." {
        from.read_exact(&mut byte).unwrap();
    }
}

#[test]
fn a_fan_sends_the_bytes_of_the_first_connection_to_all_others_however_slowly_they_read() {
    let baseline = Baseline::start("fan");
    let conns: Vec<TcpStream> = (0..6).map(|_| baseline.connect()).collect();
    let (first, others) = conns.split_first().unwrap();
    eventually("all are members", || {
        (&mut &*first).write_all(b".").unwrap();
        others.iter().all(|other| {
            other.set_nonblocking(true).unwrap();
            let is_there = other.peek(&mut [0]).is_ok();
            other.set_nonblocking(false).unwrap();
            is_there
        })
    });
    (&mut &others[0]).write_all(b"noise").unwrap();
    let bytes = [b"\n".as_slice(), &much()].concat();
    std::thread::scope(|scope| {
        scope.spawn(|| (&mut &*first).write_all(&bytes).unwrap());
        for other in others {
            scope.spawn(|| {
                skip_dots(other);
                expect(other, &bytes[1..]);
            });
        }
    });
    baseline.end("TERM");
}

#[test]
fn datagrams_of_any_size_return_to_their_sender() {
    let baseline = Baseline::start("echo-udp");
    let clients = [udp_client(baseline.addr), udp_client(baseline.addr)];
    let much = much();
    let mut got = vec![0; 65_536];
    for size in [0, 1, 16, 1_200, 65_507] {
        for client in &clients {
            client.send(&much[..size]).unwrap();
        }
        for client in &clients {
            let length = client.recv(&mut got).unwrap();
            assert!(got[..length] == much[..size], "{size} bytes came back as {length}, or as others");
        }
    }
    for number in 0..200_u8 {
        clients[0].send(&[number]).unwrap();
    }
    for number in 0..200_u8 {
        let length = clients[0].recv(&mut got).unwrap();
        assert_eq!(&got[..length], [number]);
    }
    baseline.end("TERM");
}

#[test]
fn errors_are_one_line_and_the_old_name_is_an_alias() {
    let baseline = Baseline::start("echo");
    let refused = |words: &[&str], code: i32, what: &str| {
        let ended = Program::start(env!("CARGO_BIN_EXE_lab"), words).wait();
        assert_eq!(ended.code, code, "{}", ended.err);
        assert!(ended.err.contains(what) && ended.err.lines().count() == 1, "{}", ended.err);
    };
    refused(&["baseline", "tee"], 2, "tee");
    refused(&["bare", "tee"], 2, "tee");
    refused(&["baseline", "echo", "--listen", "nowhere"], 2, "nowhere");
    refused(&["baseline", "echo", "--listen", &baseline.addr.to_string()], 1, "address already in use");
    baseline.end("TERM");
}
