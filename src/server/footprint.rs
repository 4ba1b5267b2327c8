//! What a peer that does nothing costs in memory: the sizes of what is kept for each, and (by hand) what a process with
//! very many of them holds.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::service::{Intake as _, Remote};
use crate::wire::Token;

#[test]
fn sizes() {
    eprintln!(
        "session {} conn {} intake {} batch {} pushes {} replies {} queue {} bucket {} owner {} key {} flowkey {} path {} origin {} deframer {} verdicts {} linkcfg {} waiting {} patience {} token {}",
        size_of::<Session>(),
        size_of::<StreamConn>(),
        size_of::<StreamIntake>(),
        size_of::<Batch>(),
        size_of::<crate::reliable::Pushes<crate::hub::queue::Push>>(),
        size_of::<crate::reliable::Replies>(),
        size_of::<crate::hub::queue::SendQueue>(),
        size_of::<crate::hub::rate::Bucket>(),
        size_of::<Owner>(),
        size_of::<SessionKey>(),
        size_of::<FlowKey>(),
        size_of::<Path>(),
        size_of::<Origin>(),
        size_of::<crate::wire::Deframer>(),
        size_of::<crate::link::Verdicts>(),
        size_of::<crate::link::LossModel>(),
        size_of::<held::Waiting>(),
        size_of::<patience::Patience>(),
        size_of::<Token>(),
    );
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}

fn server(config: ServerConfig, now: Instant) -> Server {
    Server::new(now, config, Box::new(ChaCha20Rng::seed_from_u64(1)))
}

/// How many, and where from.
fn peer(n: u32) -> Peer {
    let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n / 50_000), 10_000 + (n % 50_000) as u16));
    Peer { door: 0, addr }
}

fn measured(what: &str, count: u32, mut open: impl FnMut(u32)) {
    let (before, mut longest, start) = (resident(), Duration::ZERO, Instant::now());
    for n in 0..count {
        let began = Instant::now();
        open(n);
        longest = longest.max(began.elapsed());
    }
    let grown = resident().saturating_sub(before);
    eprintln!(
        "{count} {what}: {} B each, {:.0} ns each, the longest {longest:?}",
        grown / count as usize,
        start.elapsed().as_nanos() as f64 / f64::from(count),
    );
}

#[test]
#[ignore = "by hand: a million sessions, and what this process holds"]
fn what_a_million_sessions_on_datagrams_hold() {
    let now = Instant::now();
    let idle = Duration::from_secs(3_600);
    let mut server = server(ServerConfig { idle, ..ServerConfig::default() }, now);
    let mut nonce = [b'A'; 22];
    measured("sessions on datagrams", 1_000_000, |n| {
        nonce[..20].copy_from_slice(format!("{n:020}").as_bytes());
        let nonce = std::str::from_utf8(&nonce).unwrap();
        let name = format!("client{n}");
        let reg = format!("@1 REG {:04} {name} ?{nonce}", name.len() + 25);
        server.datagram(now, peer(n), reg.as_bytes());
        let asked = server.poll_transmit(now).unwrap();
        let asked = String::from_utf8(asked.bytes).unwrap();
        let cookie = asked.split(' ').nth(4).unwrap();
        server.datagram(now, peer(n), format!("~{cookie} {reg}").as_bytes());
        assert!(String::from_utf8(server.poll_transmit(now).unwrap().bytes).unwrap().contains("ACK"));
        assert!(server.poll_transmit(now).is_none());
    });
    assert_eq!(server.sessions(), 1_000_000);
}

#[test]
#[ignore = "by hand: what this process holds"]
fn what_registered_connections_hold() {
    let now = Instant::now();
    let config = ServerConfig { max_per_host: 0, max_connections: 20_000, ..ServerConfig::default() };
    let mut server = server(config, now);
    let mut intakes = Vec::with_capacity(19_000);
    let mut out = Output::default();
    measured("registered connections", 19_000, |n| {
        let conn = ConnId::new(n, 0);
        let from = Remote::Ip(peer(n).addr);
        let mut intake = server.opened(now, conn, Origin { door: 0, from });
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
}
