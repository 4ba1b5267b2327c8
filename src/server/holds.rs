//! Tests that every request, timer and signal stays within the work budget of one hold of the lock.
//!
//! The server has had very many sessions and rooms and has few left, or has many. The full test runs by hand:
//!
//! ```text
//! cargo test --release --lib holds::a_million -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::hub::{HubConfig, SlowPolicy};
use crate::listener::{Greet, LineListener};
use crate::names::RoomName;
use crate::rates::Rate;
use crate::rules::Rules;
use crate::service::{Decoder as _, Remote};
use crate::work_probe;

/// The number of connections to fill, and of datagrams to send, that an engine takes in one hold.
const TAKEN: usize = 256;

/// The most one step may cost, beside the members of a room and the rules. It is several times the end of a session in
/// [`MAX_ROOMS`](crate::hub::MAX_ROOMS) rooms, or the longest name.
const STEP: u64 = 30_000;

/// The line listener.
const LINES: ListenerId = 1;

/// Returns 32 bases, each with as many marks as a name may have bytes for.
fn combining() -> String {
    "a\u{323}\u{302}\u{301}".repeat(41)
}

/// Returns the longest prefix of it that is a name.
fn longest_name() -> String {
    "a\u{323}\u{302}\u{301}".repeat(15)
}

struct World {
    now: Instant,
    server: Server,
    conns: u32,
    intakes: BTreeMap<ConnId, StreamIntake>,
    /// The last datagram that was sent.
    sent: Vec<u8>,
    /// The longest hold of each kind.
    longest: BTreeMap<&'static str, u64>,
    /// The most one step may cost.
    step: u64,
    /// The number of datagram peers so far.
    peers: u32,
}

fn config() -> ServerConfig {
    let room = RoomName::parse(b"#lines").unwrap();
    let lines = LineListener { room, greet: Greet::Name, echo: true, flush: None };
    let lines = Listener { rate: Rate::UNLIMITED, ..Listener::lines("line", lines) };
    let listeners = vec![Listener::frames("tcp"), lines];
    ServerConfig { listeners, max_connections: 1 << 20, ..ServerConfig::default() }
}

fn frame(verb: &str, payload: &str) -> String {
    let payload = if payload.is_empty() { String::new() } else { format!(" {payload}") };
    format!("{verb} {:04}{payload}", payload.len())
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn new(config: ServerConfig, step: u64) -> Self {
        let now = Instant::now();
        let server = Server::new(now, config, Box::new(ChaCha20Rng::seed_from_u64(1)));
        let (intakes, longest) = (BTreeMap::new(), BTreeMap::new());
        Self { now, server, conns: 0, intakes, sent: Vec::new(), longest, step, peers: 0 }
    }

    /// Runs `act` and the output after it in one hold of the lock, as engines do, and checks the cost.
    fn hold<R>(&mut self, kind: &'static str, act: impl FnOnce(&mut Self) -> R) -> R {
        self.server.begin_hold();
        work_probe::take();
        let result = act(self);
        for _ in 0..TAKEN {
            let Some(conn) = self.server.poll_wake() else { break };
            let mut out = Output::default();
            while self.server.fill(self.now, conn, &mut out).more {}
            self.server.drained(self.now, conn);
        }
        for _ in 0..TAKEN {
            let Some(transmit) = self.server.poll_transmit(self.now) else { break };
            self.sent = transmit.bytes;
        }
        let (units, walked) = (self.server.hold_units(), work_probe::take());
        assert!(units < HOLD_BOUND + self.step, "{kind}: {units} units in one hold");
        assert!(walked <= units + 400, "{kind}: {walked} steps were counted as {units} units");
        let longest = self.longest.entry(kind).or_default();
        *longest = units.max(*longest);
        result
    }

    /// Lets time pass, and runs each deadline in a hold of its own.
    fn pass(&mut self, kind: &'static str, time: Duration) {
        let until = self.now + time;
        self.hold(kind, |_| ());
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let now = self.now;
            self.hold(kind, |world| world.server.timeout(now));
        }
        self.now = until;
        while !(!self.server.streams.has_woken()
            && self.server.outgoing.is_empty()
            && self.server.pushing.is_empty())
        {
            self.hold(kind, |_| ());
        }
    }

    fn connect(&mut self, listener: ListenerId) -> ConnId {
        self.conns += 1;
        let conn = ConnId::new(self.conns, 0);
        let from = Remote::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
        let intake = self.hold("connection", |world| {
            world.server.opened(world.now, conn, Origin { listener, from }.into())
        });
        self.intakes.insert(conn, intake);
        conn
    }

    /// Sends a batch of input and runs what follows from it.
    fn say(&mut self, kind: &'static str, conn: ConnId, bytes: &str) {
        let mut intake = self.intakes.remove(&conn).unwrap();
        self.hold(kind, |world| {
            let batch = intake.received(world.now, bytes.as_bytes());
            world.server.received(world.now, conn, batch);
        });
        self.intakes.insert(conn, intake);
        self.pass(kind, Duration::from_millis(1));
    }

    /// Repeats the input up to one read of 64 KiB.
    fn repeat(&mut self, kind: &'static str, conn: ConnId, bytes: &str) {
        self.say(kind, conn, &bytes.repeat((64 << 10) / bytes.len()));
    }

    /// Sends datagrams of one peer, in as many holds as they take.
    fn datagrams(&mut self, kind: &'static str, peer: Peer, datagrams: &[&str]) {
        let mut left = datagrams.iter().peekable();
        while left.peek().is_some() {
            self.hold(kind, |world| {
                while !world.server.is_spent()
                    && let Some(bytes) = left.next()
                {
                    world.server.datagram(world.now, peer, bytes.as_bytes());
                }
            });
        }
    }

    fn peer(n: u32) -> Peer {
        let [_, high, mid, low] = n.to_be_bytes();
        Peer::new(0, SocketAddr::from(([127, high, mid, low], 9)))
    }

    /// Opens sessions on datagrams, each in a room of its own and in `#all`.
    fn populate(&mut self, count: u32) -> std::ops::Range<u32> {
        let first = self.peers;
        self.peers += count;
        for n in first..self.peers {
            let frames =
                [("REG", format!("name{n}")), ("JON", format!("#room{n}")), ("JON", "#all".to_owned())];
            let datagram: String = frames.iter().map(|(verb, args)| frame(verb, args)).collect();
            self.datagrams("register", Self::peer(n), &[&datagram]);
        }
        first..self.peers
    }

    fn end(&mut self, peers: std::ops::Range<u32>) {
        peers.for_each(|n| self.datagrams("BYE", Self::peer(n), &["BYE 0000"]));
        self.pass("BYE", Duration::from_millis(1));
    }
}

/// Sends every request: on a stream, in datagrams and in lines.
fn ask_everything(world: &mut World) {
    let (name, valid) = (combining(), longest_name());
    let stream = world.connect(0);
    world.say("register", stream, &format!("@1 {}", frame("REG", "eve ?AAAAAAAAAAAAAAAAAAAAAA")));
    let frames = [
        ("PNG", frame("PNG", "")),
        ("LST", frame("LST", "")),
        ("LST of a room", frame("LST", "#all")),
        ("JON and LEV", frame("JON", "#x") + &frame("LEV", "#x")),
        ("JON and LEV", frame("JON", "#all") + &frame("LEV", "#all")),
        ("REG again", frame("REG", "other")),
        ("SND", frame("SND", "name1 hi")),
        ("unknown verb", frame("XYZ", "")),
        ("ACK", frame("ACK", "1-9999999999,5")),
        ("names of combining sequences", frame("SND", &format!("{name} hi"))),
        ("names of combining sequences", frame("JON", &format!("#{name}"))),
        ("names of combining sequences", frame("LEV", &format!("#{name}"))),
        ("names of combining sequences", frame("LST", &format!("#{name}"))),
        ("names of combining sequences", frame("REG", &name)),
        (
            "names of combining sequences",
            frame("JON", &format!("#{valid}")) + &frame("LEV", &format!("#{valid}")),
        ),
        ("names of combining sequences", frame("SND", &format!("{valid} hi"))),
    ];
    for (kind, frame) in &frames {
        world.repeat(kind, stream, frame);
    }
    world.say("JON and LEV", stream, "JON 0005 #all");
    world.say("SND to a room", stream, &frame("SND", "#all hi").repeat(60));
    let many = world.connect(0);
    let rooms: String = (b'a'..=b'z').map(|c| frame("JON", &format!("#{valid}{}", char::from(c)))).collect();
    world.say("names of combining sequences", many, &(frame("REG", &valid) + &rooms + &frame("BYE", "")));
    let unregistered = world.connect(0);
    world.repeat("names of combining sequences", unregistered, &frame("REG", &name));
    let bare = World::peer(u32::MAX >> 8);
    world.datagrams("register", bare, &["REG 0007 datagm"]);
    for (kind, frame) in &frames {
        let datagram = frame.repeat((1_200 / frame.len()).max(1));
        world.datagrams(kind, bare, &[&datagram[..]; 64]);
    }
    let line_client = world.connect(LINES);
    for (kind, line) in [
        ("register", "person\n".to_owned()),
        ("names of combining sequences", format!("/nick {name}\n")),
        ("names of combining sequences", format!("/pm {name} hi\n")),
        ("names of combining sequences", format!("/join #{name}\n/list #{name}\n")),
        ("JON and LEV", "/join #all\n/leave\n".to_owned()),
        ("LST of a room", "/join #all\n/list\n".to_owned()),
    ] {
        if kind == "register" {
            world.say(kind, line_client, &line)
        } else {
            world.repeat(kind, line_client, &line)
        }
    }
}

/// Opens stream sessions whose connections are lost at once, and connections that never register.
fn wait_for_timers(world: &mut World, count: u32) {
    let conns: Vec<ConnId> = (0..count).map(|_| world.connect(0)).collect();
    for (n, conn) in conns.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        let reg = frame("REG", &format!("lingers{n} ?{n:A>22}"));
        world.say("register", *conn, &format!("@1 {reg}"));
    }
    for conn in conns.iter().step_by(2) {
        world.hold("closed", |world| world.server.closed(world.now, *conn, CloseReason::Lost));
    }
    world.pass("linger and registration", Duration::from_secs(45));
    world.pass("idle", Duration::from_secs(100));
}

fn glob_rules(count: usize) -> Rules {
    let rules: String =
        (0..count).map(|n| format!("[[rule]]\nname = \"x{n}*\"\ndeny = [\"0.0.0.0/0\"]\n")).collect();
    Rules::parse((rules + "[[rule]]\nname = \"name*9\"\ndeny = [\"0.0.0.0/0\"]\n").as_bytes()).unwrap()
}

/// Checks a server with `had` ended and `live` open sessions.
fn check(had: u32, live: u32, rules: usize) {
    let step = STEP + u64::from(live) + cost::RULE * rules as u64;
    let mut world = World::new(config(), step);
    let ended = world.populate(had);
    world.end(ended);
    world.populate(live);
    assert_eq!(
        (world.server.hub.stats().sessions, world.server.sessions()),
        (u64::from(had + live), live as usize)
    );
    ask_everything(&mut world);
    assert!(world.server.sessions() > live as usize);
    world.hold("rules", |world| world.server.set_rules(world.now, glob_rules(rules)));
    world.pass("rules", Duration::from_secs(1));
    let denied = (had..had + live).filter(|n| n % 10 == 9).count();
    assert_eq!(world.server.sessions(), live as usize + 3 - denied);
    world.hold("totals", |world| world.server.totals());
    wait_for_timers(&mut world, live / 2);
    assert_eq!(world.server.sessions(), 2, "eve and the line client have connections");
    world.populate(live);
    let lingering = world.connect(0);
    world.say("register", lingering, &format!("@1 {}", frame("REG", "left ?BAAAAAAAAAAAAAAAAAAAAA")));
    world.hold("closed", |world| world.server.closed(world.now, lingering, CloseReason::Lost));
    world.hold("shutdown", |world| world.server.shutdown(world.now));
    world.pass("draining", Duration::from_secs(9));
    assert!(world.server.is_finished() && world.server.sessions() == 0);
    for (kind, units) in &world.longest {
        println!("{kind:30} {units:7} units");
    }
    let longest = world.longest.values().max().copied().unwrap_or_default();
    assert!(world.server.totals().longest_hold >= longest);
}

#[test]
fn every_request_timer_and_signal_stays_within_the_bound_of_a_hold() {
    check(3_000, 0, 100);
    check(100, 1_500, 2_000);
}

#[test]
#[ignore = "a million sessions take about a minute"]
fn a_million_sessions_that_ended_and_a_hundred_thousand_that_live_make_no_hold_longer() {
    check(1_000_000, 0, 1_000);
    check(1_000_000, 100_000, 1_000);
}

#[test]
fn many_slow_consumers_end_in_several_holds() {
    let hub = HubConfig { slow: SlowPolicy::Disconnect, max_pending_messages: 1, ..HubConfig::default() };
    let mut world = World::new(ServerConfig { hub, ..config() }, STEP);
    let members: Vec<ConnId> = (0..3_000).map(|_| world.connect(0)).collect();
    for (n, conn) in members.iter().enumerate() {
        world.say(
            "register",
            *conn,
            &format!("@1 {}{}", frame("REG", &format!("m{n} ?{n:A>22}")), frame("JON", "#r")),
        );
    }
    // No member acknowledges the first message, so there is no room for the second.
    for sessions in [3_000, 3_000] {
        assert_eq!(world.server.sessions(), sessions);
        world.say("SND to a room", members[0], &frame("SND", "#r hi"));
    }
    world.pass("cut off", Duration::from_secs(1));
    assert_eq!((world.server.sessions(), world.server.totals().hub.cut_off), (1, 2_999));
}

#[test]
fn many_senders_that_wait_for_one_member_resume_in_several_holds() {
    let hub = HubConfig { slow: SlowPolicy::Block, max_pending_messages: 1, ..HubConfig::default() };
    let mut world = World::new(ServerConfig { hub, ..config() }, STEP);
    let conns: Vec<ConnId> = (0..6_000).map(|_| world.connect(0)).collect();
    for (n, conn) in conns.iter().enumerate() {
        // The first session acknowledges nothing it is sent; each of the others is in a room with it alone.
        let own = if n == 0 { String::new() } else { frame("JON", &format!("#r{n}")) };
        world.say("register", *conn, &(format!("@1 {}", frame("REG", &format!("m{n} ?{n:A>22}"))) + &own));
    }
    let rooms = (1..60).map(|n| frame("JON", &format!("#r{n}"))).collect::<String>();
    world.say("JON and LEV", conns[0], &rooms);
    for (n, conn) in conns.iter().enumerate().take(60).skip(1) {
        world.say("SND to a room", *conn, &frame("SND", &format!("#r{n} hi")).repeat(2));
    }
    let waiting = world.server.paused_senders.len();
    assert!(waiting > 50, "{waiting} senders wait");
    world.hold("closed", |world| world.server.closed(world.now, conns[0], CloseReason::Lost));
    world.pass("released", Duration::from_secs(1));
    assert_eq!(world.server.paused_senders.len(), 0);
}
