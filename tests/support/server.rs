//! The program `server` under test, as a process: started on a free port, ended with its test.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use sayagain::net::EngineKind;

use super::eventually;
use super::program::{Ended, Program};

/// The longest wait for an event that should happen at once; generous, for machines under load.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// The engine of the servers under test: the first part of the test's name, which is the name of its thread, or the
/// default.
pub(crate) fn engine() -> &'static str {
    let engines = EngineKind::ALL.map(EngineKind::name);
    let wanted = engine_of_test();
    engines
        .into_iter()
        .find(|name| Some(*name) == wanted.as_deref())
        .unwrap_or_else(|| EngineKind::default().name())
}

fn engine_of_test() -> Option<String> {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_else(|| panic!("the thread of a test starts its servers"));
    Some(name.split_once("::")?.0.to_owned())
}

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProgram {
    program: Program,
    pub(crate) port: u16,
    pub(crate) listening: Vec<String>,
    /// The printed commands that connect to each listener.
    pub(crate) hints: Vec<String>,
    /// Length of the examined part of the log, in bytes.
    read: Cell<usize>,
}

impl ServerProgram {
    /// Starts the program with these options on a free port of `host`, and waits until it listens.
    pub(crate) fn start(host: &str, options: &[&str]) -> Self {
        Self::at(&format!("{host}:0"), options)
    }

    /// Starts it on IPv4 loopback.
    pub(crate) fn local(options: &[&str]) -> Self {
        Self::start("127.0.0.1", options)
    }

    /// Starts it on this address and port.
    pub(crate) fn at(host: &str, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args(["--host", host]).args(options);
        let sockets = if options.contains(&"--mode") { 1 } else { 2 };
        Self::spawn(command, Stdio::piped(), sockets)
    }

    /// Starts it with these listeners, of one socket each.
    pub(crate) fn with_listeners(urls: &[&str], options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args(urls.iter().flat_map(|url| ["--listen", url])).args(options);
        Self::spawn(command, Stdio::piped(), urls.len())
    }

    /// Starts a command that will print this many lines on `stdout`. The engine, if not named, is appended as the last
    /// argument, which a shell has to pass on.
    pub(crate) fn spawn(mut command: Command, stdout: Stdio, sockets: usize) -> Self {
        if !command.get_args().any(|arg| arg == "--engine") {
            command.args(["--engine", engine()]);
            // Two loops test the handing over between loops; other tests have the default number.
            if engine_of_test().as_deref() == Some("poll") {
                command.args(["--loops", "2"]);
            }
        }
        let program = Program::spawn(command.stdout(stdout).stderr(Stdio::piped()));
        let read = Cell::new(0);
        let mut server = Self { program, port: 0, listening: Vec::new(), hints: Vec::new(), read };
        // The losses are logged after all listeners are printed.
        server.wait_for_log("simulated loss");
        // It prints all lines in one write.
        eventually("the server prints where it listens", || lines(&server.program.out()).len() >= sockets);
        let is_place = |line: &String| line.starts_with("listening on ");
        (server.listening, server.hints) = lines(&server.program.out()).into_iter().partition(is_place);
        server.port = server.listening.first().map(|line| port_of(line)).unwrap_or_default();
        server
    }

    /// Its address for clients.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits for the next line of the log with `part` in it.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        let mut found = None;
        eventually(&format!("`{part}` is logged"), || {
            let log = self.program.err();
            for line in log[self.read.get()..].split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                self.read.set(self.read.get() + line.len());
                if line.contains(part) {
                    found = Some(line.trim_end().to_owned());
                    return true;
                }
            }
            false
        });
        found.unwrap_or_default()
    }

    pub(crate) fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Whether any line of the log has `part` in it.
    pub(crate) fn has_logged(&self, part: &str) -> bool {
        self.program.err().contains(part)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// Waits for its end. Returns the exit code and the rest of its log and output.
    pub(crate) fn end_within(self, limit: Duration) -> (Option<i32>, Vec<String>, Vec<String>) {
        let Ended { code, out, err } = self.program.wait_within(limit);
        (
            Some(code),
            lines(&err[self.read.get()..]),
            lines(&out).split_off(self.listening.len() + self.hints.len()),
        )
    }

    /// Ends it with SIGTERM, which must be quick. Returns its totals.
    pub(crate) fn end(self) -> String {
        self.signal("TERM");
        let (code, logged, _) = self.end_within(SOON * 2);
        assert_eq!(code, Some(0), "{logged:?}");
        logged.into_iter().rfind(|line| line.contains(" undelivered")).expect("no totals were logged")
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::to(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), self.port))
    }

    /// A registered connection; the registration is checked.
    pub(crate) fn register(&self, name: &str) -> Conn {
        let mut conn = self.connect();
        conn.send(&frame("REG", name));
        conn.prove();
        conn
    }

    pub(crate) fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// The port of `listening on tcp://127.0.0.1:50000`; 0 where there is none.
pub(crate) fn port_of(line: &str) -> u16 {
    line.trim_end().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
}

/// A connection to the program; reads fail after [`SOON`].
#[derive(Debug)]
pub(crate) struct Conn(pub(crate) TcpStream);

impl Conn {
    pub(crate) fn to(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&addr, SOON).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Reads as many bytes as `expected` has, and compares.
    pub(crate) fn expect(&mut self, expected: &str) {
        let mut read = vec![0; expected.len()];
        self.0.read_exact(&mut read).unwrap_or_else(|error| panic!("instead of `{expected}`: {error}"));
        assert_eq!(String::from_utf8_lossy(&read), expected);
    }

    /// Reads to the end of the line, which is not part of it.
    pub(crate) fn line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        line.pop();
        String::from_utf8(line).unwrap()
    }

    /// Reads to the end of the stream; a reset is a failure.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.rest(), "");
    }

    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// Sends a ping and waits for its answer, so that all earlier input is executed.
    pub(crate) fn prove(&mut self) {
        self.send("PNG 0006 proof");
        self.expect("ACK 0006 proof");
    }
}

/// `VERB length payload`, the payload's leading space put before `args`.
pub(crate) fn frame(verb: &str, args: &str) -> String {
    format!("{verb} {:04} {args}", args.len() + 1)
}
