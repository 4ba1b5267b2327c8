//! The longest hold of the server's lock by kind of work, with 1,000,000 ended and 100,000 live sessions and rooms.
//!
//! `cargo bench --bench hold` (`ENDED=1000000 LIVE=100000`). CPU time of the thread, in microseconds. A hold is what an
//! engine does under the lock at once: a batch of 64 KiB, 64 datagrams or due deadlines; then the output of 256
//! connections, and 256 datagrams.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::output::Output;
use sayagain::rules::Rules;
use sayagain::server::{HOLD_BOUND, Server, StreamIntake};
use sayagain::service::{CloseReason, ConnId, Decoder as _, Origin, Peer, Remote, Service as _};

/// Most connections written to, and most datagrams sent, per hold.
const TAKEN: usize = 256;

/// Holds from this length on are printed as they happen.
const SHOWN_FROM: Duration = Duration::from_millis(8);

/// The longest hold of a kind, and the most work units of one.
#[derive(Clone, Copy, Debug, Default)]
struct Longest {
    time: Duration,
    units: u64,
    holds: u64,
}

struct World {
    now: Instant,
    server: Server,
    intakes: BTreeMap<ConnId, StreamIntake>,
    longest: BTreeMap<&'static str, Longest>,
    conns: u32,
    /// Datagrams sent by the last hold.
    sent: usize,
}

fn cpu_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
}

fn frame(verb: &str, payload: &str) -> String {
    if payload.is_empty() {
        format!("{verb} 0000")
    } else {
        format!("{verb} {:04} {payload}", payload.len() + 1)
    }
}

fn peer(n: u32) -> Peer {
    let [_, high, mid, low] = n.to_be_bytes();
    Peer::new(0, SocketAddr::from(([127, high, mid, low], 9)))
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let config = ServerConfig { max_connections: 1 << 20, ..ServerConfig::default() };
        let server = Server::new(now, config, Box::new(ChaCha20Rng::seed_from_u64(1)));
        Self { now, server, intakes: BTreeMap::new(), longest: BTreeMap::new(), conns: 0, sent: 0 }
    }

    fn hold<R>(&mut self, kind: &'static str, act: impl FnOnce(&mut Self) -> R) -> R {
        let start = cpu_time();
        self.server.begin_hold();
        let result = act(self);
        let mut outputs = Vec::new();
        while outputs.len() < TAKEN
            && let Some(conn) = self.server.poll_wake()
        {
            let mut out = Output::default();
            self.server.fill(self.now, conn, &mut out);
            outputs.push((conn, out));
        }
        let sent: Vec<_> = (0..TAKEN).map_while(|_| self.server.poll_transmit(self.now)).collect();
        let time = cpu_time() - start;
        if time > SHOWN_FROM {
            println!(
                "{kind}: {} us, hold {}",
                time.as_micros(),
                self.longest.get(kind).map_or(0, |l| l.holds)
            );
        }
        let longest = self.longest.entry(kind).or_default();
        longest.time = longest.time.max(time);
        longest.units = longest.units.max(self.server.hold_units());
        longest.holds += 1;
        self.sent = sent.len();
        // Output is freed outside the lock.
        drop(sent);
        for (conn, out) in outputs {
            drop(out);
            self.server.drained(self.now, conn);
        }
        result
    }

    fn pass(&mut self, kind: &'static str, time: Duration) {
        let until = self.now + time;
        self.hold(kind, |_| ());
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.hold(kind, |world| world.server.timeout(world.now));
        }
        self.now = until;
        while self.sent > 0 {
            self.hold(kind, |_| ());
        }
    }

    fn connect(&mut self) -> ConnId {
        self.conns += 1;
        let conn = ConnId::new(self.conns, 0);
        let origin = Origin { listener: 0, from: Remote::Ip(SocketAddr::from(([127, 0, 0, 1], 9))) };
        let intake = self.hold("connection", |world| world.server.opened(world.now, conn, origin.into()));
        self.intakes.insert(conn, intake);
        conn
    }

    fn say(&mut self, kind: &'static str, conn: ConnId, bytes: &str) {
        let Some(mut intake) = self.intakes.remove(&conn) else { return };
        self.hold(kind, |world| {
            let batch = intake.received(world.now, bytes.as_bytes());
            world.server.received(world.now, conn, batch);
        });
        self.intakes.insert(conn, intake);
        self.pass(kind, Duration::from_millis(1));
    }

    /// Repeats one input: 64 KiB on a stream, then 64 datagrams.
    fn repeat(&mut self, kind: &'static str, conn: ConnId, bytes: &str) {
        self.say(kind, conn, &bytes.repeat((64 << 10) / bytes.len()));
        let datagram = bytes.repeat((1_200 / bytes.len()).max(1));
        let mut left = (0..64).peekable();
        while left.peek().is_some() {
            self.hold(kind, |world| {
                while !world.server.is_spent() && left.next().is_some() {
                    world.server.datagram(world.now, peer(u32::MAX >> 8), datagram.as_bytes());
                }
            });
        }
    }

    fn populate(&mut self, peers: std::ops::Range<u32>) {
        for n in peers {
            let frames = frame("REG", &format!("name{n}"))
                + &frame("JON", &format!("#room{n}"))
                + &frame("JON", "#all");
            self.hold("REG and JON", |world| world.server.datagram(world.now, peer(n), frames.as_bytes()));
        }
    }
}

fn requests(world: &mut World) {
    let name = "a\u{323}\u{302}\u{301}".repeat(41);
    let stream = world.connect();
    world.say("REG and JON", stream, "@1 REG 0028 eve ?AAAAAAAAAAAAAAAAAAAAAAJON 0005 #all");
    world.hold("REG and JON", |world| {
        world.server.datagram(world.now, peer(u32::MAX >> 8), b"REG 0007 datagm")
    });
    for (kind, frame) in [
        ("PNG", frame("PNG", "")),
        ("LST", frame("LST", "")),
        ("LST of a room", frame("LST", "#all")),
        ("JON and LEV", frame("JON", "#x") + &frame("LEV", "#x")),
        ("JON and LEV", frame("JON", "#all") + &frame("LEV", "#all")),
        ("REG again", frame("REG", "other")),
        ("SND", frame("SND", "name1 hi")),
        ("SND to alternating targets", frame("SND", "name1 hi") + &frame("SND", "eve hi")),
        ("unknown verb", frame("XYZ", "")),
        ("ACK", frame("ACK", "1-9999999999,5")),
        ("names of combining sequences", frame("SND", &format!("{name} hi"))),
        ("names of combining sequences", frame("JON", &format!("#{name}"))),
        ("names of combining sequences", frame("LST", &format!("#{name}"))),
    ] {
        world.repeat(kind, stream, &frame);
    }
    world.say("REG and JON", stream, "JON 0005 #all");
    world.say("SND to a room", stream, &frame("SND", "#all hi").repeat(40));
    let unregistered = world.connect();
    world.say("names of combining sequences", unregistered, &frame("REG", &name).repeat(200));
}

fn globs(count: usize) -> Rules {
    let rules: String =
        (0..count).map(|n| format!("[[rule]]\nname = \"x{n}*\"\ndeny = [\"0.0.0.0/0\"]\n")).collect();
    Rules::parse(rules.as_bytes()).expect("these are rules")
}

fn rules_and_timers(world: &mut World, live: u32) {
    world.hold("totals", |world| world.server.totals());
    world.hold("reload of no rules", |world| world.server.set_rules(world.now, Rules::default()));
    world.pass("reload of no rules", Duration::from_millis(10));
    // All of them would take minutes, and the first hundred holds are like the others.
    let rules = globs(10_000);
    world.hold("reload of 10,000 globs", |world| world.server.set_rules(world.now, rules));
    for _ in 0..100 {
        world.now += Duration::from_micros(1);
        world.hold("reload of 10,000 globs", |world| world.server.timeout(world.now));
    }
    world.server.set_rules(world.now, Rules::default());
    world.pass("reload of no rules", Duration::from_millis(10));
    let conns: Vec<ConnId> = (0..live / 10).map(|_| world.connect()).collect();
    for (n, conn) in conns.iter().enumerate().step_by(2) {
        world.say("REG and JON", *conn, &format!("@1 {}", frame("REG", &format!("lingers{n} ?{n:A>22}"))));
    }
    for conn in conns.iter().step_by(2) {
        world.hold("closed", |world| world.server.closed(world.now, *conn, CloseReason::Lost));
    }
    world.pass("linger and registration are over", Duration::from_secs(65));
    world.pass("idle sessions end", Duration::from_secs(60));
}

fn main() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (ended, live): (u32, u32) = (number("ENDED", 1_000_000), number("LIVE", 100_000));
    let mut world = World::new();
    world.populate(0..ended);
    for n in 0..ended {
        world.hold("BYE", |world| world.server.datagram(world.now, peer(n), b"BYE 0000"));
    }
    requests(&mut world);
    world.populate(ended..ended + live);
    requests(&mut world);
    rules_and_timers(&mut world, live);
    world.populate(ended..ended + live);
    world.hold("shutdown", |world| world.server.shutdown(world.now));
    world.pass("draining", Duration::from_secs(9));
    println!("{:34} {:>12} {:>10} {:>10}", "", "longest, us", "units", "holds");
    for (kind, Longest { time, units, holds }) in &world.longest {
        println!("{kind:34} {:12} {units:10} {holds:10}", time.as_micros());
    }
    println!("a hold stops at {HOLD_BOUND} units; what was being done then is done whole");
}
