//! Cost of a message in the server without sockets, from bytes read to bytes to write.
//!
//! `cargo bench --bench hub [-- route]`; criterion prints the CPU time per message as `thrpt`.
//!
//! - `route/SIZE`: one client sends to another, in pieces of 64 KiB as an engine reads them. `tagged`: to a client that
//!   acknowledges pushes. `apart/SIZE`: one message per piece, as in a chat.
//! - `fanout/N`: 64-byte messages to a room of N others, per delivery.
//! - `ping`: a PNG and its ACK.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Throughput};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sayagain::config::ServerConfig;
use sayagain::output::Output;
use sayagain::server::{Server, StreamIntake};
use sayagain::service::{ConnId, Decoder, Origin, Remote, Service};
use sayagain::wire::{Id, Verb, encode_args};

mod cpu;

use cpu::CpuTime;

/// Most bytes that an engine reads at once.
const READ: usize = 64 << 10;

/// A server and its connections.
struct World {
    now: Instant,
    server: Server,
    conns: Vec<StreamIntake>,
    out: Output,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a clock to begin with")]
    fn new() -> Self {
        let now = Instant::now();
        let server = Server::new(now, ServerConfig::default(), Box::new(StdRng::seed_from_u64(1)));
        Self { now, server, conns: Vec::new(), out: Output::default() }
    }

    /// Adds a connection, which registers as `cN` and then sends `then`.
    fn join(&mut self, tag: Option<Id>, then: &[u8]) -> u32 {
        let place = u32::try_from(self.conns.len()).expect("few connections");
        let from = Remote::Unix { uid: 1, gid: 1 };
        let origin = Origin { listener: 0, from };
        self.conns.push(self.server.opened(self.now, ConnId::new(place, 0), origin.into()));
        let mut bytes = Vec::new();
        encode_args(tag, Verb::Reg, &[format!("c{place}").as_bytes()], &mut bytes);
        bytes.extend_from_slice(then);
        self.turn(place, &bytes);
        place
    }

    /// One turn of an engine: passes input in, and takes what became sendable. Returns its bytes.
    fn turn(&mut self, place: u32, bytes: &[u8]) -> usize {
        self.now += Duration::from_micros(10);
        let intake = self.conns.get_mut(place as usize).expect("a connection");
        let batch = intake.received(self.now, bytes);
        self.server.received(self.now, ConnId::new(place, 0), batch);
        let mut written = self.collect();
        while self.server.poll_timeout().is_some_and(|at| at <= self.now + Duration::from_micros(1)) {
            self.now += Duration::from_micros(1);
            self.server.timeout(self.now);
            written += self.collect();
        }
        written
    }

    fn collect(&mut self) -> usize {
        let mut written = 0;
        while let Some(conn) = self.server.poll_wake() {
            loop {
                let flow = self.server.fill(self.now, conn, &mut self.out);
                let len = black_box(&self.out).len();
                written += len;
                self.out.advance(len);
                self.server.drained(self.now, conn);
                if !flow.more {
                    break;
                }
            }
        }
        written
    }
}

/// As many messages of `size` bytes to `target` as fit into `total` bytes; at least one.
fn block(target: &str, size: usize, total: usize) -> (Vec<u8>, u64) {
    let (mut one, mut count) = (Vec::new(), 1);
    encode_args(None, Verb::Snd, &[target.as_bytes(), &vec![b'x'; size]], &mut one);
    let mut all = one.clone();
    while all.len() + one.len() <= total {
        all.extend_from_slice(&one);
        count += 1;
    }
    (all, count)
}

fn acks(upto: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_args(None, Verb::Ack, &[format!("1-{upto}").as_bytes()], &mut bytes);
    bytes
}

fn route(group: &mut BenchmarkGroup<'_, CpuTime>) {
    for size in [16, 256, 4_096, 65_536] {
        for (name, total) in [("", READ), ("apart/", 1)] {
            let mut world = World::new();
            world.join(None, b"");
            // Untagged receivers get no frame with a length of five digits.
            world.join((size > 9_000).then_some(Id::FIRST), b"");
            let (bytes, count) = block("c1", size, total);
            let mut sent = 0;
            group.throughput(Throughput::Elements(count)).bench_function(
                format!("{name}{size}"),
                |bencher| {
                    bencher.iter(|| {
                        let written = world.turn(0, &bytes);
                        assert!(written as u64 >= count * size as u64, "all of it arrives");
                        sent += count;
                        if size > 9_000 {
                            world.turn(1, &acks(sent));
                        }
                    });
                },
            );
        }
    }
}

fn route_tagged(group: &mut BenchmarkGroup<'_, CpuTime>) {
    let mut world = World::new();
    world.join(None, b"");
    world.join(Some(Id::FIRST), b"");
    let (bytes, count) = block("c1", 16, READ);
    let mut sent = 0;
    group.throughput(Throughput::Elements(count)).bench_function("tagged/16", |bencher| {
        bencher.iter(|| {
            world.turn(0, &bytes);
            sent += count;
            world.turn(1, &acks(sent));
        });
    });
}

fn fanout(group: &mut BenchmarkGroup<'_, CpuTime>) {
    let mut join = Vec::new();
    encode_args(None, Verb::Jon, &[b"#room"], &mut join);
    for members in [1_u64, 10, 100, 1_000, 10_000] {
        let mut world = World::new();
        for _ in 0..=members {
            world.join(None, &join);
        }
        let (bytes, count) = block("#room", 64, if members > 1 { 3_200 } else { READ });
        group.throughput(Throughput::Elements(count * members)).bench_function(
            members.to_string(),
            |bencher| {
                bencher.iter(|| {
                    let written = world.turn(0, &bytes);
                    assert!(written as u64 >= count * members * 64, "all of it arrives");
                });
            },
        );
    }
}

fn ping(group: &mut BenchmarkGroup<'_, CpuTime>) {
    let mut world = World::new();
    world.join(None, b"");
    group.throughput(Throughput::Elements(1)).bench_function("one", |bencher| {
        bencher.iter(|| assert_eq!(world.turn(0, b"PNG 0003 hi"), 11));
    });
}

fn main() {
    let mut criterion = cpu::criterion();
    let mut group = criterion.benchmark_group("route");
    route(&mut group);
    route_tagged(&mut group);
    group.finish();
    for (name, bench) in [("fanout", fanout as fn(&mut BenchmarkGroup<'_, CpuTime>)), ("ping", ping)] {
        let mut group = criterion.benchmark_group(name);
        bench(&mut group);
        group.finish();
    }
    criterion.final_summary();
}
