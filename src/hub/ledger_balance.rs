//! Tests that the memory ledger equals what the hub holds, after random sends, writes, acknowledgements, resumes and
//! ends.

use std::collections::{HashMap, HashSet};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::memory::MemoryUse;
use super::push::{Load, Push, Text};
use super::*;
use crate::output::Output;
use crate::reliable::Seen;
use crate::service::{ConnId, Peer, Remote};
use crate::wire::{Id, SHORT_LENGTH_MAX};

const MAX_PENDING: usize = 60_000;
const MAX_MEMORY: usize = 200_000;

/// The address of the last byte of a body: unique, whatever is cut off at the front.
type End = *const u8;

/// A hub, and the output that engines have of it.
struct World {
    rng: ChaCha8Rng,
    now: Instant,
    hub: Hub,
    /// The open sessions, each with the output that its connection's writer has.
    sessions: Vec<(SessionKey, Option<Output>)>,
    /// Output for connections that carry no session any more.
    orphans: Vec<Output>,
    /// Connections and names so far.
    opened: u32,
    /// The queued bodies and their lengths.
    bodies: HashMap<End, usize>,
    /// The newest request ids of sessions.
    ids: HashMap<SessionKey, u64>,
    /// Joins that found no memory.
    refused: usize,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn new(seed: u64, slow: SlowPolicy) -> Self {
        let config =
            HubConfig { max_pending: MAX_PENDING, max_memory: MAX_MEMORY, slow, ..HubConfig::default() };
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Instant::now(),
            hub: Hub::new(config),
            sessions: Vec::new(),
            orphans: Vec::new(),
            opened: 0,
            bodies: HashMap::new(),
            ids: HashMap::new(),
            refused: 0,
        }
    }

    /// Returns a path that no session had before.
    fn new_path(&mut self, on_streams: bool) -> (Path, Origin) {
        self.opened += 1;
        let addr = SocketAddr::from((Ipv4Addr::from(self.opened), 1));
        let datagrams = DatagramPath { peer: Peer::new(0, addr), limit: 9_000, heard: self.now };
        let stream = Path::Stream(Some(ConnId(u64::from(self.opened))));
        let path = if on_streams { stream } else { Path::Datagram(datagrams) };
        (path, Origin { listener: 0, from: Remote::Ip(addr) })
    }

    fn open(&mut self) {
        let (form, on_streams) = [
            (Form::Tagged, true),
            (Form::Tagged, true),
            (Form::Tagged, true),
            (Form::Untagged, true),
            (Form::Lines, true),
            (Form::Tagged, false),
            (Form::Untagged, false),
        ][self.rng.random_range(0..7)];
        let (path, origin) = self.new_path(on_streams);
        let name = Name::parse(format!("n{}", self.opened).as_bytes()).unwrap();
        let token = Token::from_bits(u128::from(self.opened));
        let opening = Opening { name, form, token, nonce: None, path, origin, rate: Rate::UNLIMITED };
        let key = self.hub.open(opening).unwrap();
        // When memory is full it does not join.
        let _ = self.hub.join(key, b"#r");
        self.sessions.push((key, None));
    }

    fn send(&mut self, from: SessionKey, to: SessionKey) {
        let length = [1, 90, 4_095, 4_096, 5_000, SHORT_LENGTH_MAX - 20, 20_000, 50_000, MAX_PENDING + 9]
            [self.rng.random_range(0..9)];
        let body = vec![b'x'; length];
        let target =
            if self.rng.random() { "#r" } else { self.hub.get(to).unwrap().name.as_str() }.to_owned();
        let kept = bytes::Bytes::from(body.clone());
        let body = if self.rng.random() { Body::new(&kept, Some(&kept)) } else { Body::from(&body[..]) };
        let _ = self.hub.send(from, target.as_bytes(), body);
    }

    /// Does one of many things that may happen to a session.
    fn step(&mut self) {
        if self.sessions.len() < 6 {
            return self.open();
        }
        let at = self.rng.random_range(0..self.sessions.len());
        let (key, other) = (self.sessions[at].0, self.sessions[self.rng.random_range(0..6)].0);
        let on_streams = self.hub.get(key).unwrap().is_on_streams();
        match self.rng.random_range(0..100) {
            0..35 => self.send(key, other),
            35..55 if on_streams => self.fill(at),
            55..70 => self.write(at),
            70..80 => {
                let high = self.rng.random_range(1..200);
                self.hub.acknowledge(self.now, key, &[(self.rng.random_range(1..=high), high)]);
            }
            80..84 if on_streams => {
                self.hub.lose_connection(key);
                self.orphans.extend(self.sessions[at].1.take());
            }
            84..88 if self.hub.get(key).unwrap().form == Form::Tagged => {
                let (path, origin) = self.new_path(on_streams);
                self.hub.take_up(self.now, key, path, origin);
                self.orphans.extend(self.sessions[at].1.take());
            }
            88 => {
                // A connection may resume the session that it carries.
                let session = self.hub.get(key).unwrap();
                self.hub.take_up(self.now, key, session.path(), session.origin());
            }
            89 => self.end(at),
            90 => self.hub.say_bye(key, crate::wire::ByeArgs::Draining(None)),
            91..93 => drop(self.orphans.pop()),
            93 => self.ask(key),
            94 => self.change_rooms(key),
            _ => self.pass_time(key),
        }
    }

    /// Fills a connection whose writer has nothing to write, as an engine does.
    fn fill(&mut self, at: usize) {
        let (key, out) = &mut self.sessions[at];
        if out.is_none() && self.hub.get(*key).unwrap().path() != Path::Stream(None) {
            let mut bytes = Output::default();
            self.hub.fill_stream(self.now, *key, &mut bytes, 30_000);
            // Messages before the answer to a line client go to the writer with that answer.
            if self.hub.get(*key).unwrap().form != Form::Lines || self.rng.random() {
                self.hub.give(*key);
                *out = Some(bytes);
            }
        }
    }

    /// Writes a part of the output of a connection, or all.
    fn write(&mut self, at: usize) {
        let (key, out) = &mut self.sessions[at];
        let Some(bytes) = out else { return };
        bytes.advance(self.rng.random_range(0..2 * bytes.len() + 1));
        if bytes.is_empty() {
            *out = None;
            self.hub.written(*key);
        }
    }

    /// Sends requests under ids, as [`Hub::prepare_reply`] allows.
    fn ask(&mut self, key: SessionKey) {
        let newest = self.ids.entry(key).or_default();
        *newest += self.rng.random_range(1..200);
        for _ in 0..self.rng.random_range(1..100) {
            *newest += 1;
            let id = Id::new((*newest - self.rng.random_range(0..100).min(*newest - 1)).max(1)).unwrap();
            let is_new = self.hub.get(key).unwrap().replies().lookup(id, 1) == Seen::New;
            if is_new && self.hub.prepare_reply(key, id) {
                self.hub.remember(key, id, 1, 1);
            }
        }
    }

    fn change_rooms(&mut self, key: SessionKey) {
        let room = format!("#room{}", self.rng.random_range(0..20));
        let changed = match self.rng.random_range(0..3) {
            0 => self.hub.leave(key, room.as_bytes()),
            _ => self.hub.join(key, room.as_bytes()),
        };
        self.refused += usize::from(changed == Err(Refusal::ServerFull));
    }

    fn end(&mut self, at: usize) {
        let (key, out) = self.sessions.swap_remove(at);
        self.orphans.extend(out);
        self.hub.end(key);
    }

    /// Lets time pass, sends datagrams, and carries out the decisions about slow consumers.
    fn pass_time(&mut self, key: SessionKey) {
        self.now += Duration::from_millis(self.rng.random_range(0..300));
        self.hub.next_datagram(self.now, key, &mut Vec::new());
        while self.hub.poll_gap().is_some() {}
        while self.hub.poll_resumable().is_some() {}
        while let Some(key) = self.hub.poll_slow_consumer() {
            if let Some(at) = self.sessions.iter().position(|(other, _)| *other == key) {
                self.end(at);
            }
        }
    }

    /// Compares everything that is held with what is counted.
    fn audit(&mut self, context: &str) {
        let (mut own, mut held) = (0, HashSet::new());
        for (key, out) in &self.sessions {
            let session = self.hub.get(*key).unwrap();
            own += session.load().own();
            if let Some(traffic) = &session.traffic {
                for push in traffic.queue.waiting().chain(traffic.pushes.unacknowledged()) {
                    if let Push::Message { text: Text::Long(text), .. } = push {
                        let end = text.body.as_ptr_range().end;
                        self.bodies.insert(end, text.body.len());
                        held.insert(end);
                    }
                }
                let writing = traffic.writing;
                assert!(out.is_some() || writing == Load::default(), "{context}: no writer has {writing:?}");
                let is_lost = session.path() == Path::Stream(None);
                assert!(
                    !is_lost || traffic.encoded == Load::default(),
                    "{context}: the encoded output has no writer"
                );
            }
            // Gaps and BYEs count as nothing, and are short.
            let (load, left) = (session.load(), out.as_ref().map_or(0, Output::len));
            assert!(left <= load.bytes + 1_000, "{context}: {left} bytes are with the writer of {load:?}");
            // An empty queue takes any one message, but no longer one is sent here.
            let most = MAX_PENDING + 200;
            assert!(load.bytes <= most, "{context}: {load:?}");
        }
        for out in self.sessions.iter().filter_map(|(_, out)| out.as_ref()).chain(&self.orphans) {
            let mut slices = [IoSlice::new(&[]); 64];
            let count = out.slices(&mut slices);
            let ends = slices[..count].iter().map(|slice| slice.as_ptr_range().end);
            held.extend(ends.filter(|end| self.bodies.contains_key(end)));
        }
        self.bodies.retain(|end, _| held.contains(end));
        let undelivered = |(key, _): &(SessionKey, _)| self.hub.get(*key).unwrap().undelivered();
        let waiting: usize = self.sessions.iter().map(undelivered).sum();
        assert_eq!(self.hub.waiting(), waiting, "{context}");
        let ledger = self.hub.ledger();
        let [queues, rooms, windows] =
            [MemoryUse::Queues, MemoryUse::Rooms, MemoryUse::Windows].map(|by| ledger.used(by));
        assert_eq!(queues, own, "{context}");
        assert_eq!(ledger.pending() - queues, self.bodies.values().sum::<usize>(), "{context}");
        assert_eq!(rooms, self.hub.rooms.cost(), "{context}");
        let sessions = self.sessions.iter().map(|(key, _)| self.hub.get(*key).unwrap());
        assert_eq!(windows, sessions.map(|session| session.replies().cost()).sum::<usize>(), "{context}");
        assert!(ledger.total() <= MAX_MEMORY, "{context}: {ledger:?}");
    }
}

#[test]
fn held_memory_is_counted_once_and_the_ledger_is_empty_after_the_last_session() {
    let (mut most, mut shared, mut gaps, mut refused) = (0, 0, 0, 0);
    for seed in 0..60 {
        for slow in [SlowPolicy::DropNew, SlowPolicy::DropOld, SlowPolicy::Disconnect, SlowPolicy::Block] {
            let mut world = World::new(seed, slow);
            for step in 0..400 {
                world.step();
                world.audit(&format!("seed {seed}, {slow}, step {step}"));
                let load = |(key, _): &(SessionKey, _)| world.hub.get(*key).unwrap().load();
                let loads: usize = world.sessions.iter().map(|session| load(session).bytes).sum();
                most = most.max(world.hub.memory());
                shared = shared.max(loads.saturating_sub(world.hub.memory()));
            }
            gaps += world.hub.stats.gaps;
            refused += world.refused;
            while !world.sessions.is_empty() {
                world.end(0);
            }
            assert_eq!(world.hub.ledger().used(MemoryUse::Queues), 0, "seed {seed}, {slow}");
            world.orphans.clear();
            assert_eq!(world.hub.ledger().total(), 0, "seed {seed}, {slow}");
        }
    }
    assert!(most > MAX_MEMORY * 3 / 4 && shared > 100_000 && gaps > 1_000, "{most}, {shared}, {gaps}");
    assert!(refused > 10, "{refused}");
}
