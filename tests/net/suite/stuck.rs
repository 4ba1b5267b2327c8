//! Nothing outside blocks the server: an unread log or output, a full disk, a peer that does not read. It continues to
//! serve, and ends on a signal.
//!
//! A slow name server is not tested: names are resolved before the server starts to serve.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "a pipe is read by a thread, and a real program takes real time"
)]

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::eventually;
use crate::support::program::{Program, full_pipe};
use crate::support::server::{SOON, engine, frame};

/// The longest shutdown of a server. 10 s for all BYEs, 2 s for its threads, 1 s for the queued log, and some margin
/// for a machine under load.
const END: Duration = Duration::from_secs(18);

/// A running server with unusual output files, reached through a UNIX socket.
struct Server {
    program: Program,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(stdout: Stdio, stderr: Stdio) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("chat");
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.arg("--listen").arg(format!("unix://{}", socket.display())).arg("-vv");
        command.args(["--engine", engine()]);
        let program = Program::spawn(command.stdout(stdout).stderr(stderr));
        eventually("the server listens", || UnixStream::connect(&socket).is_ok());
        Self { program, socket, _directory: directory }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Checks that a new client is accepted and answered.
    fn serves(&self, name: &str) {
        let mut conn = self.connect();
        conn.write_all(format!("{}{}", frame("REG", name), frame("SND", &format!("{name} hi"))).as_bytes())
            .unwrap();
        let expected = frame("RCV", &format!("{name} 0001 hi"));
        let mut heard = vec![0; expected.len()];
        conn.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }

    /// Opens and closes many connections: each is some lines in the log.
    fn serves_many(&self) {
        (0..300).for_each(|n| self.serves(&format!("n{n}")));
    }

    fn ends(self) {
        self.program.signal("TERM");
        assert_eq!(self.program.wait_within(END).code, 0);
    }
}

fn full_disk() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn an_unread_log_blocks_neither_the_server_nor_its_end() {
    let (reader, stderr) = full_pipe();
    let server = Server::start(Stdio::null(), stderr);
    server.serves_many();
    server.program.signal("USR1");
    server.serves("last");
    server.ends();
    drop(reader);
}

#[test]
fn a_log_that_is_read_again_has_all_queued_lines() {
    let (mut reader, stderr) = full_pipe();
    let server = Server::start(Stdio::null(), stderr);
    server.serves_many();
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text).unwrap()
    });
    server.serves("last");
    server.ends();
    let text = read.join().unwrap();
    for n in 0..300 {
        assert!(text.contains(&format!("n{n}: a session begins")), "n{n} is missing");
    }
    let last = text.trim_end().lines().last().unwrap();
    assert!(last.contains("sessions 301, messages 301,"), "{last}");
}

#[test]
fn unread_output_blocks_neither_the_server_nor_its_end() {
    let (reader, stdout) = full_pipe();
    let server = Server::start(stdout, Stdio::piped());
    eventually("it is logged", || {
        server.program.err().contains("cannot print where it listens: nothing reads standard output")
    });
    server.serves("ada");
    server.ends();
    drop(reader);
}

#[test]
fn a_full_disk_for_log_and_output_blocks_neither_the_server_nor_its_end() {
    let server = Server::start(full_disk(), full_disk());
    server.serves_many();
    server.program.signal("USR1");
    server.serves("last");
    server.ends();
}

#[test]
fn a_peer_on_a_unix_socket_that_does_not_read_delays_no_others() {
    let server = Server::start(Stdio::null(), Stdio::null());
    let (mut deaf, mut loud) = (server.connect(), server.connect());
    deaf.write_all(frame("REG", "deaf").as_bytes()).unwrap();
    // More is queued for the silent peer than any socket buffers; in the end messages are refused, and the refusals are
    // not read either.
    loud.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    loud.write_all(frame("REG", "loud").as_bytes()).unwrap();
    let message = frame("SND", &format!("deaf {}", "x".repeat(9_000)));
    for _ in 0..3_000 {
        match loud.write_all(message.as_bytes()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    server.serves("ada");
    drop(loud);
    server.ends();
    drop(deaf);
}
