//! The server program under test: started on a free port, asked, signalled, and ended with the test.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything may take that ought to happen at once; generous, for machines under load.
pub(crate) const SOON: Duration = Duration::from_secs(5);

pub(crate) struct Program {
    child: Child,
    pub(crate) port: u16,
    pub(crate) listening: Vec<String>,
    output: Receiver<String>,
    log: Receiver<String>,
}

impl Program {
    /// Starts the program with these options on a free port of `host`, and waits until it listens.
    pub(crate) fn start(host: &str, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args(["--host", &format!("{host}:0")]).args(options);
        let sockets = if options.contains(&"--mode") { 1 } else { 2 };
        Self::spawn(command, Stdio::piped(), sockets)
    }

    /// Starts it on IPv4 loopback.
    pub(crate) fn local(options: &[&str]) -> Self {
        Self::start("127.0.0.1", options)
    }

    /// Starts a command that will print so many lines on `stdout`.
    pub(crate) fn spawn(mut command: Command, stdout: Stdio, sockets: usize) -> Self {
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().map(lines_of).unwrap_or_else(|| channel().1);
        let log = lines_of(child.stderr.take().unwrap());
        let mut program = Self { child, port: 0, listening: Vec::new(), output, log };
        // The losses are logged after all that it listens on is printed.
        program.wait_for_log("simulated loss");
        let line = |_| program.output.recv_timeout(SOON).unwrap();
        program.listening = (0..sockets).map(line).collect();
        let port = |line: &String| line.rsplit_once(':').map(|(_, port)| port.parse().unwrap());
        program.port = program.listening.first().and_then(port).unwrap_or_default();
        program
    }

    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("no `{part}` was logged"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end. Returns the exit code and what else it has logged and printed.
    pub(crate) fn end_within(mut self, limit: Duration) -> (Option<i32>, Vec<String>, Vec<String>) {
        let deadline = Instant::now() + limit;
        let mut logged = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => logged.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("still running after {limit:?}: {logged:?}"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status: ExitStatus = self.child.wait().unwrap();
        (status.code(), logged, self.output.iter().collect())
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::to(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), self.port))
    }

    /// A connection that has registered, and has proof of it.
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

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A connection to the program; reads fail after [`SOON`].
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

    /// Reads to the end of the stream; a reset is a failure.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.rest(), "");
    }

    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// Asks something that is answered, so that everything sent before has been executed.
    pub(crate) fn prove(&mut self) {
        self.send("PNG 0006 proof");
        self.expect("ACK 0006 proof");
    }
}

/// `VERB length payload`, the payload's leading space put before `args`.
pub(crate) fn frame(verb: &str, args: &str) -> String {
    format!("{verb} {:04} {args}", args.len() + 1)
}
