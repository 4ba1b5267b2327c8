//! The programs in `examples/` do what they show, on loopback. Cargo builds them before these tests; it does not where a
//! test is chosen by `--test`, and then `cargo build --examples` does.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::{TcpStream, UdpSocket};
use std::path::Path;

mod bot;
mod bot_in_sim;
mod echo;
mod http_raw;
mod job_queue;
mod lossy;
mod manager;
mod retry_dns;
mod udp_retries;
use crate::support::program::{Ended, Program};
use crate::support::{STEP_TIMEOUT, eventually};

const MOST_LINES: usize = 60;

fn start(example: &str, args: &[&str]) -> Program {
    let path = Path::new(env!("CARGO_BIN_EXE_server")).with_file_name("examples").join(example);
    assert!(path.is_file(), "{} is not there: run `cargo build --examples` first", path.display());
    Program::start(path.to_str().unwrap(), args)
}

fn run(example: &str, args: &[&str]) -> Ended {
    start(example, args).wait()
}

/// Waits until the program has printed something that begins with these words, and returns the rest of that line.
fn wait_for(program: &Program, words: &str) -> String {
    let mut rest = None;
    eventually(&format!("`{words}` is printed"), || {
        let out = program.out();
        let whole = out.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        rest = whole.filter_map(|line| line.strip_prefix(words)).next().map(str::to_owned);
        rest.is_some()
    });
    rest.unwrap()
}

/// A socket on loopback that waits as long as a test does.
fn socket() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    (socket, addr)
}

/// A connection to `HOST:PORT` that waits as long as a test does.
fn connect(place: &str) -> TcpStream {
    let peer = TcpStream::connect(place).unwrap();
    peer.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    peer
}

#[test]
fn every_example_fits_on_a_screen() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines, more than {MOST_LINES}", path.display());
    }
}
