//! Tests the memory cost of idle peers: the state per peer stays within a size limit.
//!
//! By hand, the memory of a process with very many idle peers, and the longest pause of one operation:
//!
//! ```text
//! cargo test --release --lib idle_memory::the_memory -- --ignored --nocapture --test-threads 1
//! ```

use std::fs::read_to_string;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::time::ClockId;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::service::{Decoder as _, Remote};

/// These sizes multiply by up to a million peers: change a limit only on purpose.
#[test]
fn the_state_of_each_peer_stays_small() {
    for (what, size, most) in [
        ("a session", size_of::<Session>(), 128),
        ("its key", size_of::<Option<SessionKey>>(), 8),
        ("whose deadline it is", size_of::<Owner>(), 12),
        ("a connection", size_of::<Option<(ConnId, StreamConn)>>(), 168),
        ("its intake", size_of::<StreamIntake>(), 120),
    ] {
        eprintln!("{what} takes {size} bytes");
        assert!(size <= most, "{what} takes {size} bytes, and was to take {most} at most");
    }
}

/// Returns the resident memory of this process that belongs to no file, in bytes.
fn resident() -> usize {
    let status = read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

/// Returns the processor time of this thread: wall time would include other processes.
fn cpu_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}

fn measure(what: &str, count: u32, mut open: impl FnMut(u32)) {
    let (before, start) = (resident(), cpu_time());
    let (mut longest, mut last) = (Duration::ZERO, start);
    for n in 0..count {
        open(n);
        let at = cpu_time();
        longest = longest.max(at - last);
        last = at;
    }
    let (each, grown) = ((last - start) / count, resident() - before);
    eprintln!(
        "{count} {what}: {} B each, opened in {each:?}, the longest in {longest:?}",
        grown / count as usize
    );
}

fn server(config: ServerConfig, now: Instant) -> Server {
    Server::new(now, config, Box::new(ChaCha20Rng::seed_from_u64(1)))
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn nth_peer(n: u32) -> Peer {
    let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n / 50_000), 10_000 + (n % 50_000) as u16));
    Peer::new(0, addr)
}

/// Opens a tagged session with a token and a nonce.
fn register(server: &mut Server, now: Instant, n: u32) {
    let (name, nonce) = (format!("client{n}"), format!("{n:022}"));
    let reg = format!("@1 REG {:04} {name} ?{nonce}", name.len() + 25);
    server.datagram(now, nth_peer(n), reg.as_bytes());
    let asked = String::from_utf8(server.poll_transmit(now).unwrap().bytes).unwrap();
    let cookie = asked.split(' ').nth(4).unwrap();
    server.datagram(now, nth_peer(n), format!("~{cookie} {reg}").as_bytes());
    let granted = String::from_utf8(server.poll_transmit(now).unwrap().bytes).unwrap();
    assert!(granted.contains("@1 ACK"), "{granted}");
    assert_eq!(server.poll_transmit(now), None);
}

#[test]
#[ignore = "takes some seconds, and is for its output: cargo test --lib idle_memory::the_memory -- --ignored --nocapture"]
fn the_memory_of_a_million_sessions_on_datagrams() {
    let now = start();
    let idle = Duration::from_secs(3_600);
    let mut server = server(ServerConfig { idle, max_per_host: 0, ..ServerConfig::default() }, now);
    measure("sessions on datagrams", 1_000_000, |n| register(&mut server, now, n));
    assert_eq!((server.sessions(), server.poll_timeout()), (1_000_000, Some(now + idle)));

    server.timeout(now + idle);
    while server.poll_timeout().is_some_and(|at| at <= now + idle) {
        server.timeout(now + idle);
    }
    assert_eq!(server.sessions(), 0);
}

#[test]
#[ignore = "for its output: cargo test --lib idle_memory::the_memory -- --ignored --nocapture"]
fn the_memory_of_registered_connections() {
    let now = start();
    let config = ServerConfig { max_per_host: 0, max_connections: 20_000, ..ServerConfig::default() };
    let mut server = server(config, now);
    let (mut intakes, mut out) = (Vec::with_capacity(19_000), Output::default());
    measure("registered connections", 19_000, |n| {
        let conn = ConnId::new(n, 0);
        let mut intake =
            server.opened(now, conn, Origin { listener: 0, from: Remote::Ip(nth_peer(n).addr) }.into());
        let name = format!("client{n}");
        let reg = format!("REG {:04} {name}", name.len() + 1);
        let batch = intake.received(now, reg.as_bytes());
        server.received(now, conn, batch);
        while let Some(conn) = server.poll_wake() {
            server.fill(now, conn, &mut out);
            server.drained(now, conn);
        }
        intakes.push(intake);
    });
    assert_eq!(server.sessions(), 19_000);
    assert_eq!(server.poll_timeout(), None, "idle connections have no deadline");
}
