//! `lab proxy` under test, as a process: started on free ports, ended with its test.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use super::eventually;
use super::program::{Ended, Program};

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    program: Program,
    /// Its listening addresses, in the order of its options.
    pub(crate) addrs: Vec<SocketAddr>,
}

impl Proxy {
    /// Starts a proxy that relays to this upstream, `udp://..` or `tcp://..`, from a free port.
    pub(crate) fn to(upstream: &str, options: &[&str]) -> Self {
        let scheme = if upstream.starts_with("udp") { "udp" } else { "tcp" };
        let listen = format!("{scheme}://127.0.0.1:0");
        Self::start(1, &[&["--listen", &listen, "--to", upstream], options].concat())
    }

    /// Starts a proxy that prints this many lines before it relays.
    pub(crate) fn start(lines: usize, options: &[&str]) -> Self {
        let words = [&["proxy", "--json"], options].concat();
        let program = Program::start(env!("CARGO_BIN_EXE_lab"), &words);
        eventually("the proxy listens", || program.out().lines().count() >= lines);
        let addrs = program.out().lines().filter_map(address).collect();
        Self { program, addrs }
    }

    /// The first listening address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// A client of the first listening address.
    pub(crate) fn client(&self) -> UdpSocket {
        udp_client(self.addr())
    }

    pub(crate) fn err(&self) -> String {
        self.program.err()
    }

    pub(crate) fn out(&self) -> String {
        self.program.out()
    }

    pub(crate) fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Ends it with SIGTERM. Returns how it ended.
    pub(crate) fn end(self) -> Ended {
        self.program.signal("TERM");
        self.program.wait()
    }

    /// Waits for its end by another cause. Returns how it ended.
    pub(crate) fn wait(self) -> Ended {
        self.program.wait()
    }

    /// Ends it, and checks its success. Returns the totals.
    pub(crate) fn totals(self) -> Value {
        let ended = self.end();
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_str(ended.out.lines().last().unwrap()).unwrap()
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    line.split_once("://")
        .filter(|_| line.starts_with("listening on "))
        .map(|(_, addr)| addr.parse().unwrap())
}

/// A socket connected to this address, with a read timeout.
pub(crate) fn udp_client(addr: SocketAddr) -> UdpSocket {
    let any = if addr.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}
