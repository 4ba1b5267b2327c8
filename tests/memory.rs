//! The memory that a server allocates for its peers stays within its limits: every way to make it keep something is
//! played to its bound against the whole server without a socket, and the allocator is asked.
//!
//! ```text
//! cargo test --test memory -- --nocapture    # prints the table
//! ```

#![allow(clippy::disallowed_methods, reason = "the virtual clock needs an instant to count from")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::hub::HubConfig;
use sayagain::link::LinkConfig;
use sayagain::output::Output;
use sayagain::server::{Server, StreamIntake};
use sayagain::service::{CloseReason, ConnId, Decoder as _, Origin, Peer, Remote, Service as _};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MAX_MEMORY: usize = 2 << 20;
const MAX_SESSIONS: usize = 4_096;

/// So many of them are for peers on this machine.
const KEPT: usize = 64;

/// Most memory of a session beside what counts in `max_memory`, as docs/limits.md says.
const PER_SESSION: usize = 2 << 10;

/// The same of a connection, as long as it holds neither input nor answers.
const PER_CONN: usize = 2 << 10;

/// Most memory of its unread answers, ..
const UNREAD: usize = 16 << 10;

/// .. and of input that is not complete: what may always be, and what one read adds to it.
const UNFINISHED: usize = 128 << 10;

/// The fixed memory of a server, at most: caches, tables that have just grown.
const CONSTANT: usize = 512 << 10;

/// Answers to datagrams that are not sent yet.
const ANSWERS: usize = 6 << 20;

/// Most memory of simulated flows.
const FLOWS: usize = 20 << 20;

struct Conn {
    id: ConnId,
    intake: StreamIntake,
    /// The bytes being written, for as long as its peer does not read.
    unread: Option<Output>,
}

/// A server, and what an engine has of it.
struct World {
    name: &'static str,
    before: usize,
    now: Instant,
    server: Server,
    conns: Vec<Conn>,
    /// Whether the system of each peer takes the bytes written to it.
    reads: bool,
    /// The most that was allocated when nothing was being done.
    most: usize,
}

impl World {
    fn new(name: &'static str, config: ServerConfig) -> Self {
        let (before, now) = (ALLOCATOR.current_usage(), Instant::now());
        let server = Server::new(now, config, Box::new(ChaCha20Rng::seed_from_u64(1)));
        Self { name, before, now, server, conns: Vec::with_capacity(3_000), reads: true, most: 0 }
    }

    /// A connection from a host that has ten of them.
    fn connect(&mut self) -> usize {
        let place = self.conns.len();
        let id = ConnId::new(u32::try_from(place).unwrap(), 0);
        let ip = Ipv4Addr::from(0x0a00_0000 + u32::try_from(place / 10).unwrap());
        let origin = Origin { listener: 0, from: Remote::Ip(SocketAddr::from((ip, 1_000))) };
        let intake = self.server.opened(self.now, id, origin.into());
        self.conns.push(Conn { id, intake, unread: None });
        self.settle();
        place
    }

    fn register(&mut self, name: &str) -> usize {
        let conn = self.connect();
        self.say(conn, format!("@1 REG {:04} {name}", name.len() + 1).as_bytes());
        conn
    }

    fn register_untagged(&mut self, name: &str) -> usize {
        let conn = self.connect();
        self.say(conn, format!("REG {:04} {name}", name.len() + 1).as_bytes());
        conn
    }

    fn is_reading(&self, conn: usize) -> bool {
        self.server.is_reading(self.conns[conn].id)
    }

    /// As an engine reads it: so much at once, and only while it may.
    fn say(&mut self, conn: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.is_reading(conn) {
            let most = bytes.len().min(64 << 10).min(self.conns[conn].intake.max_read());
            let (piece, rest) = bytes.split_at(most);
            bytes = rest;
            let Conn { id, intake, .. } = &mut self.conns[conn];
            let batch = intake.received(self.now, piece);
            self.server.received(self.now, *id, batch);
            self.settle();
        }
        let Conn { id, intake, .. } = &mut self.conns[conn];
        if !bytes.is_empty() && self.server.is_closing(*id) {
            intake.abandon();
        }
    }

    /// Runs deferred work, too.
    fn settle(&mut self) {
        self.carry_out();
        while let Some(at) =
            self.server.poll_timeout().filter(|at| *at <= self.now + Duration::from_micros(1))
        {
            self.now = self.now.max(at);
            self.server.timeout(self.now);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        while self.server.poll_transmit(self.now).is_some() {}
        while let Some(id) = self.server.poll_wake() {
            let Some(conn) = self.conns.get_mut(id.place()) else { continue };
            if self.server.is_aborted(id) {
                self.server.closed(self.now, id, CloseReason::Asked);
                // Its intake goes with it.
                conn.intake.abandon();
                continue;
            }
            while conn.unread.is_none() {
                let mut out = Output::default();
                let flow = self.server.fill(self.now, id, &mut out);
                if !out.is_empty() && !self.reads {
                    conn.unread = Some(out);
                    break;
                }
                drop(out);
                self.server.drained(self.now, id);
                if !flow.more {
                    break;
                }
            }
        }
        self.most = self.most.max(ALLOCATOR.current_usage());
    }

    fn datagram(&mut self, from: SocketAddr, bytes: &str) -> String {
        self.server.datagram(self.now, Peer::new(0, from), bytes.as_bytes());
        let mut heard = String::new();
        while let Some(transmit) = self.server.poll_transmit(self.now) {
            heard.push_str(&String::from_utf8_lossy(&transmit.bytes));
        }
        heard
    }

    /// A session on datagrams; its token, or what it was told instead.
    fn register_datagrams(&mut self, host: u32, n: u32, name: &str) -> Result<String, String> {
        let (from, reg) = (peer(host), format!("@1 REG {:04} {name} ?{n:C>22}", name.len() + 25));
        let asked = self.datagram(from, &reg);
        let cookie = asked.split(' ').nth(4).ok_or_else(|| asked.clone())?;
        let granted = self.datagram(from, &format!("~{cookie} {reg}"));
        self.most = self.most.max(ALLOCATOR.current_usage());
        granted.strip_prefix(&format!("~{cookie} @1 ACK 0023 ")).map(str::to_owned).ok_or(granted)
    }

    /// Prints a row of the table, and holds what was allocated against what may be.
    fn check(mut self, items: usize, what: &str, per_conn: usize, constant: usize) {
        self.most = self.most.max(ALLOCATOR.current_usage());
        let allocated = self.most - self.before - self.conns.capacity() * size_of::<Conn>();
        let totals = self.server.totals();
        let (sessions, conns) = (self.server.sessions(), self.conns.len());
        let extra = conns * per_conn;
        let may = MAX_MEMORY + sessions * PER_SESSION + conns * PER_CONN + extra + CONSTANT + constant;
        println!(
            "{:<44} {items:>7} {what:<12} charged {:>9}, allocated {allocated:>9} ({:>6} each), limit {may:>10}",
            self.name,
            totals.memory,
            allocated / items.max(1),
        );
        assert!(totals.memory <= MAX_MEMORY + extra, "{}: {} are charged", self.name, totals.memory);
        assert!(allocated <= may, "{}: {allocated} are allocated, and {may} may be", self.name);
    }
}

fn config() -> ServerConfig {
    let hub = HubConfig { max_memory: MAX_MEMORY, max_sessions: MAX_SESSIONS, ..HubConfig::default() };
    ServerConfig { hub, max_per_host: 0, idle: Duration::from_secs(3_600), ..ServerConfig::default() }
}

fn peer(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 10_000))
}

/// A name that takes much memory: 32 characters of three bytes.
fn long_name(n: u32) -> String {
    format!("{}{n:06}", "가".repeat(26))
}

fn frame(verb: &str, payload: &str) -> String {
    match payload.len() {
        length @ ..=9_999 => format!("{verb} {length:04}{payload}"),
        length => format!("{verb} +{:03} {length}{payload}", length.to_string().len()),
    }
}

fn sessions_on_datagrams() {
    let mut world = World::new("sessions on datagrams, long names", config());
    let opened = (0..5_000).filter(|n| world.register_datagrams(*n, *n, &long_name(*n)).is_ok()).count();
    let most = MAX_SESSIONS - KEPT;
    assert_eq!((opened, world.server.sessions()), (most, most), "max_sessions");
    world.check(opened, "sessions", 0, 0);
}

fn busy_sessions_on_datagrams() {
    let mut world = World::new("the same, each with ids, pushes and a room", config());
    for n in 0..500 {
        let name = long_name(n);
        let token = world.register_datagrams(n, n, &name).unwrap();
        for id in 2..32 {
            world.datagram(peer(n), &format!("~{token} @{id} {}", frame("SND", &format!(" {name} hi"))));
            world.datagram(peer(n), &format!("~{token} {}", frame("ACK", " 1-99")));
        }
        world.datagram(peer(n), &format!("~{token} @32 JON 0003 #r"));
    }
    world.check(500, "sessions", 0, 0);
}

fn dedup_windows() {
    let mut world = World::new("dedup windows", config());
    for n in 0..500 {
        let conn = world.register(&format!("n{n}"));
        for ids in 1..=11 {
            let sends: String = (2..102).map(|id| format!("@{} SND 0004 a b", ids * 100 + id)).collect();
            world.say(conn, sends.as_bytes());
        }
    }
    world.check(500, "sessions", 0, 0);
}

fn rooms() {
    let mut world = World::new("rooms of their own, 64 each", config());
    for n in 0..120 {
        let conn = world.register(&format!("n{n}"));
        let joins: String =
            (0..64).map(|room| frame("JON", &format!(" #가가가가가가가가{n}-{room}"))).collect();
        world.say(conn, joins.as_bytes());
    }
    world.check(120, "sessions", 0, 0);
}

fn memberships() {
    let mut world = World::new("memberships in 64 rooms", config());
    for n in 0..700 {
        let conn = world.register(&format!("n{n}"));
        let joins: String = (0..64).map(|room| frame("JON", &format!(" #room{room}"))).collect();
        world.say(conn, joins.as_bytes());
    }
    world.check(700, "sessions", 0, 0);
}

/// Messages of so many bytes for peers that do not read.
fn queues(name: &'static str, length: usize, receivers: usize, tagged: bool, in_room: bool) {
    let mut world = World::new(name, config());
    let sender = world.register_untagged("sender");
    world.say(sender, b"JON 0003 #r");
    let body = "x".repeat(length);
    world.reads = false;
    for n in 0..receivers {
        let name = format!("r{n}");
        let conn = if tagged { world.register(&name) } else { world.register_untagged(&name) };
        if in_room {
            world.say(conn, b"JON 0003 #r");
        }
    }
    world.reads = true;
    world.conns.iter_mut().for_each(|conn| conn.unread = conn.unread.take().or(Some(Output::default())));
    world.conns[sender].unread = None;
    let mut sent = 0;
    for round in 0..200_000 {
        let target = if in_room { "#r".to_owned() } else { format!("r{}", round % receivers) };
        world.say(sender, frame("SND", &format!(" {target} {body}")).as_bytes());
        if world.server.totals().hub.queued == sent {
            break;
        }
        sent = world.server.totals().hub.queued;
    }
    world.check(usize::try_from(sent).unwrap(), "messages", 0, 0);
}

/// The same where they are sent and not acknowledged.
fn unacknowledged(name: &'static str, length: usize, receivers: usize) {
    let mut world = World::new(name, config());
    let sender = world.register_untagged("sender");
    let body = "x".repeat(length);
    for n in 0..receivers {
        world.register(&format!("r{n}"));
    }
    let mut sent = 0;
    for round in 0..200_000 {
        world.say(sender, frame("SND", &format!(" r{} {body}", round % receivers)).as_bytes());
        if world.server.totals().hub.queued == sent {
            break;
        }
        sent = world.server.totals().hub.queued;
    }
    world.check(usize::try_from(sent).unwrap(), "messages", 0, 0);
}

fn unread_answers() {
    let mut world = World::new("unread answers", config());
    let ping = frame("PNG", &format!(" {}", "x".repeat(59_999)));
    for n in 0..300 {
        let conn = world.register_untagged(&format!("n{n}"));
        world.reads = false;
        for _ in 0..10 {
            world.say(conn, ping.as_bytes());
            world.say(conn, b"LST 0000LST 0000");
        }
        world.reads = true;
    }
    world.check(300, "connections", UNREAD, 0);
}

fn requests_that_wait() {
    let mut world = World::new("requests behind unread answers", config());
    for n in 0..300 {
        let conn = world.register_untagged(&format!("n{n}"));
        world.reads = false;
        for _ in 0..10 {
            world.say(conn, "LST 0000".repeat(8_000).as_bytes());
        }
        world.reads = true;
    }
    world.check(300, "connections", UNREAD + UNFINISHED, 0);
}

/// Beginnings of so many bytes, in pieces of so many.
fn unfinished_frames(name: &'static str, length: usize, piece: usize) {
    let mut world = World::new(name, config());
    let beginning = format!("SND +007 9000000 r {}", "x".repeat(length));
    for n in 0..300 {
        let conn = world.register(&format!("n{n}"));
        beginning.as_bytes().chunks(piece).for_each(|piece| world.say(conn, piece));
        world.now += Duration::from_millis(100);
    }
    world.check(300, "connections", UNFINISHED, 0);
}

fn nonces_of_ended_sessions() {
    let mut world = World::new("sessions that have ended, and nonces", config());
    let mut opened = 0;
    for n in 0..10_000 {
        if let Ok(token) = world.register_datagrams(n / 100, n, &format!("n{n}")) {
            world.datagram(peer(n / 100), &format!("~{token} @2 BYE 0000"));
            opened += 1;
        }
    }
    // They take the place of as many sessions as there may be.
    world.check(opened, "nonces", 0, MAX_SESSIONS * PER_SESSION);
}

fn simulated_flows() {
    let link_in = "iid:.1".parse::<LinkConfig>().unwrap();
    let mut world = World::new("flows of a simulated link", ServerConfig { link_in, ..config() });
    (0..100_000).for_each(|n| drop(world.datagram(peer(n), "PNG 0002 x")));
    world.check(100_000, "addresses", 0, FLOWS);
}

fn guests() {
    let mut config = config();
    config.rules.anonymous = true;
    let mut world = World::new("guests that come and go", config);
    for _ in 0..2_500 {
        let conn = world.connect();
        world.say(conn, b"SND 0009 nobody x");
    }
    let ids: Vec<ConnId> = world.conns.iter().map(|conn| conn.id).collect();
    ids.into_iter().for_each(|id| world.server.closed(world.now, id, CloseReason::Lost));
    world.check(2_500, "guests", 0, 0);
}

fn answers_to_datagrams() {
    let mut world = World::new("answers to datagrams that are never taken", config());
    let ping = frame("PNG", &format!(" {}", "x".repeat(1_100)));
    for n in 0..20_000 {
        world.server.datagram(world.now, Peer::new(0, peer(n)), ping.as_bytes());
    }
    world.check(20_000, "datagrams", 0, ANSWERS);
}

#[test]
fn whatever_peers_do_what_is_allocated_stays_within_the_limits() {
    let before = ALLOCATOR.current_usage();
    sessions_on_datagrams();
    busy_sessions_on_datagrams();
    dedup_windows();
    rooms();
    memberships();
    queues("short messages, queued, numbered", 1, 20, true, false);
    queues("short messages, queued, not numbered", 1, 20, false, false);
    queues("messages of 1,000 bytes, queued", 1_000, 20, true, false);
    queues("messages of 50,000 bytes, queued", 50_000, 20, true, false);
    queues("short messages to a room", 1, 20, true, true);
    queues("messages of 5,000 bytes to a room", 5_000, 20, false, true);
    unacknowledged("short messages, sent and not acknowledged", 1, 20);
    unacknowledged("messages of 1,000 bytes, the same", 1_000, 20);
    unread_answers();
    requests_that_wait();
    unfinished_frames("beginnings of 60,000 bytes", 60_000, 1_000);
    unfinished_frames("beginnings of 800,000 bytes", 800_000, 50_000);
    nonces_of_ended_sessions();
    simulated_flows();
    guests();
    answers_to_datagrams();
    assert!(ALLOCATOR.current_usage() <= before + (64 << 10), "all of it is given back");
}
