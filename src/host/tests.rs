//! Tests of a host without sockets: an in-memory engine around a scripted handler.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::handshake::MAX_HANDSHAKE;
use super::*;
use crate::listener::Listener;
use crate::net::listen::ListenUrl;
use crate::output::Output;
use crate::service::{Arrival, Decoder as _, Dial, Origin, Remote, Service as _, Target};

#[cfg(test)]
mod deferred_answers;

/// An event that the handler was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Opened(u64, Option<String>, bool),
    Bytes(u64, Vec<u8>),
    Message(u64, Vec<u8>),
    Drained(u64),
    Ended(u64),
    Closed(u64, CloseReason),
    Failed(u64, String),
}

/// A handler that records all events, and acts as the test scripted it.
#[derive(Default)]
struct Recorder {
    told: Vec<Told>,
    /// The number of bytes that it uses at once.
    uses: Option<usize>,
    /// Whether it leaves messages unfetched.
    fetches: bool,
    on_message: Option<fn(&mut Context<'_>, ConnId, &[u8])>,
    on_bytes: Option<fn(&mut Context<'_>, ConnId)>,
    timeout: Option<Instant>,
}

impl Handler for Recorder {
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let peer = cx.peer(conn).unwrap();
        self.told.push(Told::Opened(conn.0, peer.name().map(str::to_owned), peer.expected()));
    }

    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        self.told.push(Told::Bytes(conn.0, bytes.to_vec()));
        if let Some(act) = self.on_bytes {
            act(cx, conn);
        }
        self.uses.unwrap_or(bytes.len()).min(bytes.len())
    }

    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        self.told.push(Told::Message(conn.0, message.to_vec()));
        if let Some(act) = self.on_message {
            act(cx, conn, &message);
        }
    }

    fn readable(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        if !self.fetches {
            Pushed(self).readable(cx, conn);
        }
    }

    fn drained(&mut self, _cx: &mut Context<'_>, conn: ConnId) {
        self.told.push(Told::Drained(conn.0));
    }

    fn ended(&mut self, _cx: &mut Context<'_>, conn: ConnId) {
        self.told.push(Told::Ended(conn.0));
    }

    fn closed(&mut self, _cx: &mut Context<'_>, conn: ConnId, why: CloseReason) {
        self.told.push(Told::Closed(conn.0, why));
    }

    fn failed(&mut self, _cx: &mut Context<'_>, dial: DialId, error: &io::Error) {
        self.told.push(Told::Failed(dial.0, error.to_string()));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }
}

/// The default implementation of `readable`.
struct Pushed<'a>(&'a mut Recorder);

impl Handler for Pushed<'_> {
    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        self.0.received(cx, conn, bytes)
    }

    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        self.0.message(cx, conn, message);
    }
}

/// The other end of a connection.
struct Far {
    decoder: HostDecoder,
    /// Bytes that it has sent and the host has not read.
    unread: Vec<u8>,
    has_ended: bool,
    /// The end of its side was read.
    is_over: bool,
    /// Bytes that it has received.
    got: Vec<u8>,
    /// It takes no output for now.
    is_stuck: bool,
    /// Bytes that are being written to it.
    writing: Option<Output>,
    reading: bool,
}

/// An in-memory engine.
struct Net {
    host: Host<Recorder>,
    now: Instant,
    fars: BTreeMap<ConnId, Far>,
    next: u32,
    /// The maximum of held input.
    most_held: usize,
}

const FRAMES: usize = 0;
const MESSAGES: usize = 1;
const LINES: usize = 2;
const BYTES: usize = 3;

fn listeners() -> Vec<Listener> {
    let urls = ["tcp://h:1", "msg://h:1", "line://h:1", "raw://h:1"];
    urls.map(|url| url.parse::<ListenUrl>().unwrap().listener).to_vec()
}

impl Net {
    #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
    fn new(settings: Settings) -> Self {
        let host = Host::new(settings, listeners(), Recorder::default());
        Self { host, now: Instant::now(), fars: BTreeMap::new(), next: 0, most_held: 0 }
    }

    fn recorder(&mut self) -> &mut Recorder {
        self.host.handler_mut()
    }

    fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.recorder().told)
    }

    /// A peer connects to a listener.
    fn knock(&mut self, listener: usize) -> ConnId {
        self.arrive(Origin { listener, from: Remote::Ip(([192, 0, 2, 1], 4_000).into()) }.into())
    }

    fn arrive(&mut self, arrival: Arrival) -> ConnId {
        let conn = ConnId::new(self.next, 0);
        self.next += 1;
        let decoder = self.host.opened(self.now, conn, arrival);
        let far = Far {
            decoder,
            unread: Vec::new(),
            has_ended: false,
            is_over: false,
            got: Vec::new(),
            is_stuck: false,
            writing: None,
            reading: true,
        };
        self.fars.insert(conn, far);
        self.run();
        conn
    }

    /// A peer connects to a listener for messages, and sends its name.
    fn come_as(&mut self, name: &str) -> ConnId {
        let conn = self.knock(MESSAGES);
        self.send(conn, &message(name.as_bytes()));
        conn
    }

    /// The peer sends.
    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.fars.get_mut(&conn).unwrap().unread.extend_from_slice(bytes);
        self.run();
    }

    fn end(&mut self, conn: ConnId) {
        self.fars.get_mut(&conn).unwrap().has_ended = true;
        self.run();
    }

    fn got(&mut self, conn: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.fars.get_mut(&conn).unwrap().got)
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let result = self.host.with(self.now, |_, cx| act(cx));
        self.run();
        result
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.run();
    }

    fn memory(&mut self) -> (usize, usize) {
        self.host.memory()
    }

    /// Does what an engine does, until there is nothing left.
    fn run(&mut self) {
        for _ in 0..100_000 {
            let mut is_busy = false;
            while let Some(conn) = self.host.poll_wake() {
                self.claim(conn);
                is_busy = true;
            }
            if self.host.poll_timeout().is_some_and(|at| at <= self.now) {
                self.host.timeout(self.now);
                is_busy = true;
            }
            for conn in self.fars.keys().copied().collect::<Vec<_>>() {
                is_busy |= self.step(conn);
                self.most_held = self.most_held.max(self.memory().0);
            }
            if !is_busy {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn claim(&mut self, conn: ConnId) {
        if self.host.is_aborted(conn) {
            self.fars.remove(&conn);
            return self.host.closed(self.now, conn, CloseReason::Asked);
        }
        let Some(far) = self.fars.get_mut(&conn) else { return };
        if far.writing.is_some() {
            far.reading = self.host.is_reading(conn);
            return;
        }
        let mut out = Output::default();
        let flow = self.host.fill(self.now, conn, &mut out);
        far.reading = flow.reading;
        if !out.is_empty() {
            far.writing = Some(out);
        } else if flow.closing || far.is_over && !flow.busy {
            self.fars.remove(&conn);
            self.host.closed(
                self.now,
                conn,
                if flow.closing { CloseReason::Asked } else { CloseReason::Peer },
            );
        }
    }

    /// Writes or reads once.
    fn step(&mut self, conn: ConnId) -> bool {
        let Some(far) = self.fars.get_mut(&conn) else { return false };
        if !far.is_stuck
            && let Some(out) = far.writing.take()
        {
            far.got.extend_from_slice(&out.to_vec());
            self.host.drained(self.now, conn);
            self.claim(conn);
            return true;
        }
        if !far.reading {
            return false;
        }
        if far.unread.is_empty() {
            let has_ended = far.has_ended && !far.is_over;
            if has_ended {
                far.is_over = true;
                self.host.ended(self.now, conn);
                self.claim(conn);
            }
            return has_ended;
        }
        let most = far.unread.len().min(64 << 10).min(far.decoder.max_read());
        let bytes: Vec<u8> = far.unread.drain(..most).collect();
        let batch = far.decoder.received(self.now, &bytes);
        self.host.received(self.now, conn, batch);
        far.reading = self.host.is_reading(conn);
        true
    }
}

fn message(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_be_bytes()[..], bytes].concat()
}

#[test]
fn unused_bytes_come_again_in_front_of_the_next_input() {
    let mut net = Net::new(Settings::default());
    net.recorder().uses = Some(2);
    let conn = net.knock(BYTES);
    net.send(conn, b"abcde");
    let bytes = |text: &[u8]| Told::Bytes(0, text.to_vec());
    assert_eq!(net.told(), [Told::Opened(0, None, false), bytes(b"abcde"), bytes(b"cde"), bytes(b"e")]);
    net.recorder().uses = Some(0);
    net.send(conn, b"xy");
    net.send(conn, b"z");
    assert_eq!(net.told(), [bytes(b"xy"), bytes(b"xyz")]);
    assert_eq!(net.memory(), (3, 0));
    net.recorder().uses = None;
    net.act(|cx| cx.resume(ConnId(0)));
    assert_eq!(net.told(), [bytes(b"xyz")]);
    assert_eq!(net.memory(), (0, 0));
}

#[test]
fn each_listener_has_its_framing() {
    let mut net = Net::new(Settings::default());
    for (listener, stream, pieces) in [
        (FRAMES, &b"BYE 0000\r\nPNG 0002 x"[..], vec![&b"BYE 0000"[..], b"PNG 0002 x"]),
        (LINES, b"one\r\n\ntwo\nthr", vec![b"one", b"", b"two"]),
    ] {
        let conn = net.knock(listener);
        net.told();
        for byte in stream {
            net.send(conn, &[*byte]);
        }
        let told: Vec<Told> = pieces.iter().map(|piece| Told::Message(conn.0, piece.to_vec())).collect();
        assert_eq!(net.told(), told);
    }
}

#[test]
fn a_name_is_expected_open_or_refused() {
    let settings = Settings::default().name("boss").unwrap().expect("manager").unwrap();
    let settings = settings.expect("worker-*").unwrap();
    let mut net = Net::new(settings.expect_from("local", &["loopback".parse().unwrap()]).unwrap());
    for (name, expected) in [("manager", true), ("worker-7", true), ("unexpected", false)] {
        let conn = net.come_as(name);
        assert_eq!(net.told(), [Told::Opened(conn.0, Some(name.to_owned()), expected)]);
        assert_eq!(net.got(conn), message(b"+boss"));
        assert_eq!(net.host.find(&name.to_uppercase()), Some(conn));
    }
    let conn = net.come_as("");
    assert_eq!(net.told(), [Told::Opened(conn.0, None, false)]);
    for (name, why) in [
        ("Manager", &b"-the name is taken"[..]),
        ("local", b"-this name may not be used from there"),
        ("a b", b"-a name holds white space or a control character"),
    ] {
        let conn = net.knock(MESSAGES);
        net.fars.get_mut(&conn).unwrap().is_stuck = true;
        net.send(conn, &message(name.as_bytes()));
        assert_eq!(net.fars[&conn].writing.as_ref().unwrap().to_vec(), message(why));
        net.fars.get_mut(&conn).unwrap().is_stuck = false;
        net.run();
        assert!(!net.fars.contains_key(&conn));
        assert_eq!(net.told(), []);
    }
}

#[test]
fn a_name_is_free_again_once_its_peer_is_gone() {
    let mut net = Net::new(Settings::default());
    let first = net.come_as("worker");
    net.end(first);
    let second = net.come_as("worker");
    let told = net.told();
    assert!(told.contains(&Told::Closed(first.0, CloseReason::Peer)));
    assert!(told.contains(&Told::Opened(second.0, Some("worker".to_owned()), false)));
}

#[test]
fn only_expected_peers_are_accepted_if_so_configured() {
    let mut net = Net::new(Settings::default().expect("worker-*").unwrap().only_expected(true));
    for name in ["", "unexpected"] {
        let conn = net.come_as(name);
        assert!(!net.fars.contains_key(&conn), "{name}");
    }
    assert_eq!(net.told(), []);
    let conn = net.come_as("worker-1");
    assert_eq!(net.told(), [Told::Opened(conn.0, Some("worker-1".to_owned()), true)]);
}

#[test]
fn a_late_or_too_long_handshake_closes_the_connection() {
    let mut net = Net::new(Settings::default());
    let (slow, long) = (net.knock(MESSAGES), net.knock(MESSAGES));
    net.send(slow, b"\0\0\0");
    net.send(long, &(MAX_HANDSHAKE as u64 + 1).to_be_bytes());
    assert!(!net.fars.contains_key(&long));
    net.pass(9);
    assert!(net.fars.contains_key(&slow));
    net.pass(1);
    assert!(!net.fars.contains_key(&slow));
    assert_eq!((net.told(), net.memory()), (vec![], (0, 0)));
}

/// Opens a connection.
fn call(net: &mut Net, framing: Framing) -> Dial {
    let to = Target::Tcp { host: "h".to_owned(), port: 1 };
    net.act(|cx| cx.connect(to.clone(), framing));
    let dial = net.host.poll_dial().unwrap();
    assert_eq!(dial.to, to);
    dial
}

#[test]
fn an_outgoing_connection_exchanges_names() {
    let mut net = Net::new(Settings::default().name("worker-1").unwrap());
    let dial = call(&mut net, Framing::Messages);
    let conn = net.arrive(Arrival::Dialed(dial.id, Remote::Unix { uid: 1, gid: 1 }));
    assert_eq!((net.got(conn), net.told()), (message(b"worker-1"), vec![]));
    net.send(conn, &[message(b"+boss"), message(b"job")].concat());
    let told = [Told::Opened(conn.0, Some("boss".to_owned()), true), Told::Message(conn.0, b"job".to_vec())];
    assert_eq!(net.told(), told);
    assert_eq!(net.host.peer(conn).unwrap().dial(), Some(dial.id));
}

#[test]
fn a_failed_attempt_is_reported_once_with_its_reason() {
    let mut net = Net::new(Settings::default());
    let dial = call(&mut net, Framing::Bytes);
    net.host.dial_failed(net.now, dial.id, &io::ErrorKind::ConnectionRefused.into());
    assert_eq!(net.told(), [Told::Failed(0, "connection refused".to_owned())]);
    for (answer, why) in [
        (message(b"-not \x1byou"), "refused: not \\x1byou"),
        (vec![], "no welcome: the peer took too long"),
        (message(b"?"), "no welcome: the peer broke the framing or a limit"),
    ] {
        let dial = call(&mut net, Framing::Messages);
        let conn = net.arrive(Arrival::Dialed(dial.id, Remote::Unix { uid: 1, gid: 1 }));
        net.send(conn, &answer);
        net.pass(10);
        assert_eq!(net.told(), [Told::Failed(dial.id.0, why.to_owned())]);
        assert!(!net.fars.contains_key(&conn));
    }
}

#[test]
fn a_change_of_framing_takes_effect_at_the_next_byte() {
    let mut net = Net::new(Settings::default());
    net.recorder().on_message = Some(|cx, conn, line| {
        if line == b"raw" {
            cx.set_framing(conn, Framing::Bytes);
        }
    });
    let conn = net.knock(LINES);
    net.told();
    net.send(conn, b"one\nraw\nx\ny");
    let told = [&b"one"[..], b"raw"].map(|line| Told::Message(0, line.to_vec()));
    assert_eq!(net.told(), [&told[..], &[Told::Bytes(0, b"x\ny".to_vec())]].concat());
    net.act(|cx| cx.set_framing(conn, Framing::Messages));
    net.act(|cx| cx.send(conn, b"hi").unwrap());
    net.send(conn, &message(b"m"));
    assert_eq!(net.told(), [Told::Drained(0), Told::Message(0, b"m".to_vec())]);
    assert_eq!(net.got(conn), message(b"hi"));
}

#[test]
fn a_paused_connection_is_not_read_and_resumes_where_it_was() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(LINES);
    net.act(|cx| cx.pause(conn));
    net.send(conn, &[b'x'; 300_000]);
    assert_eq!(net.fars[&conn].unread.len(), 300_000, "nothing is read");
    net.told();
    net.send(conn, b"\nlast\n");
    net.act(|cx| cx.resume(conn));
    assert_eq!(net.told().len(), 2);
}

#[test]
fn input_waits_while_its_answers_do() {
    let mut net = Net::new(Settings::default());
    net.recorder().on_message = Some(|cx, conn, _| cx.send(conn, &[b'x'; 50_000]).unwrap());
    let conn = net.knock(LINES);
    net.fars.get_mut(&conn).unwrap().is_stuck = true;
    net.told();
    net.send(conn, &b"a\n".repeat(50_000));
    assert_eq!(net.told().len(), 2, "more than 64 KiB wait then");
    assert!(net.fars[&conn].unread.len() < 100_000 && net.memory().0 <= 65_536);
    net.fars.get_mut(&conn).unwrap().is_stuck = false;
    net.run();
    let told = net.told();
    assert_eq!(told.iter().filter(|told| matches!(told, Told::Message(..))).count(), 49_998);
    assert_eq!((net.got(conn).len(), net.memory()), (50_000 * 50_001, (0, 0)));
}

#[test]
fn a_piece_without_room_stays_with_its_sender() {
    let mut net = Net::new(Settings::default().max_pending(1_000).max_memory_out(1_500));
    let (one, other) = (net.knock(BYTES), net.knock(BYTES));
    for conn in [one, other] {
        net.fars.get_mut(&conn).unwrap().is_stuck = true;
    }
    assert_eq!(net.act(|cx| cx.send(one, &[0; 600])), Ok(()));
    assert_eq!(net.act(|cx| cx.send(one, &[0; 401])), Err(SendError::Full));
    assert_eq!(net.act(|cx| cx.send(one, &[0; 400])), Ok(()));
    assert_eq!(net.act(|cx| cx.send(other, &[0; 501])), Err(SendError::Full), "of all");
    assert_eq!(net.act(|cx| cx.send(other, &[0; 500])), Ok(()));
    for conn in [one, other] {
        net.fars.get_mut(&conn).unwrap().is_stuck = false;
    }
    net.run();
    assert_eq!(net.act(|cx| cx.send(one, &[0; 5_000])), Ok(()), "an empty queue takes any one message");
    assert_eq!((net.got(one).len(), net.got(other).len()), (6_000, 500));
}

#[test]
fn nothing_is_read_while_answers_fill_the_memory_of_all() {
    let mut net = Net::new(Settings::default().max_memory_out(1_000));
    net.recorder().on_message = Some(|cx, conn, line| cx.send(conn, &[line[0]; 400]).unwrap());
    let conns = [net.knock(LINES), net.knock(LINES), net.knock(LINES)];
    for conn in conns {
        net.fars.get_mut(&conn).unwrap().is_stuck = true;
    }
    net.told();
    for conn in conns {
        net.send(conn, b"x\n");
    }
    assert_eq!((net.told().len(), net.memory().1), (2, 802), "the third would be answered, too");
    net.fars.get_mut(&conns[0]).unwrap().is_stuck = false;
    net.run();
    assert!(net.told().contains(&Told::Message(conns[2].0, b"x".to_vec())));
}

#[test]
fn unsolicited_output_pauses_no_input() {
    let mut net = Net::new(Settings::default().max_memory_out(1 << 20).max_pending(1 << 20));
    let conn = net.knock(LINES);
    net.fars.get_mut(&conn).unwrap().is_stuck = true;
    net.act(|cx| cx.send(conn, &[b'x'; 1 << 20]).unwrap());
    net.told();
    net.send(conn, &b"a\n".repeat(50_000));
    assert_eq!(net.told().len(), 50_000);
}

#[test]
fn send_many_consumes_only_the_queued_pieces() {
    let mut net = Net::new(Settings::default().max_pending(100));
    let conn = net.come_as("");
    net.got(conn);
    let mut pieces = (0..40_u32).map(|n| n.to_be_bytes());
    let (mut sent, mut turns) = (0, 0);
    while sent < 40 {
        sent += net.act(|cx| cx.send_many(conn, &mut pieces)).unwrap();
        turns += 1;
    }
    assert_eq!(turns, 5, "nine of twelve bytes pass a hundred");
    let got: Vec<u8> = (0..40_u32).flat_map(|n| message(&n.to_be_bytes())).collect();
    assert_eq!(net.got(conn), got);
    net.end(conn);
    assert_eq!(net.act(|cx| cx.send_many(conn, &mut pieces)), Err(SendError::Gone));
    assert_eq!(net.act(|cx| cx.send(conn, b"")), Err(SendError::Gone));
}

#[test]
fn the_end_is_reported_after_all_input_and_the_close_follows_all_output() {
    let mut net = Net::new(Settings::default());
    net.recorder().on_message = Some(|cx, conn, line| cx.send(conn, &line.repeat(100_000)).unwrap());
    let conn = net.knock(LINES);
    net.fars.get_mut(&conn).unwrap().is_stuck = true;
    net.send(conn, b"a\nb\nc\n");
    net.end(conn);
    assert!(!net.told().contains(&Told::Ended(0)), "the others wait for room");
    net.fars.get_mut(&conn).unwrap().is_stuck = false;
    net.run();
    let told = net.told();
    let message = Told::Message(0, b"c".to_vec());
    let last = [message, Told::Drained(0), Told::Ended(0), Told::Closed(0, CloseReason::Peer)];
    assert_eq!(told[told.len() - 4..], last);
    assert_eq!(net.memory(), (0, 0));
}

#[test]
fn recv_returns_the_same_pieces_and_the_end_follows_the_last() {
    let mut net = Net::new(Settings::default());
    net.recorder().fetches = true;
    let (lines, bytes) = (net.knock(LINES), net.knock(BYTES));
    net.send(lines, b"one\ntwo\nx");
    net.send(bytes, b"abc");
    net.end(lines);
    assert_eq!(net.told().len(), 2, "that they are there");
    assert_eq!(net.act(|cx| cx.recv(bytes)).as_deref(), Some(&b"abc"[..]));
    assert_eq!(net.act(|cx| cx.recv(bytes)), None);
    assert_eq!(net.act(|cx| cx.recv(lines)).as_deref(), Some(&b"one"[..]));
    assert_eq!(net.told(), []);
    assert_eq!(net.act(|cx| cx.recv(lines)).as_deref(), Some(&b"two"[..]));
    assert_eq!(net.told(), [Told::Ended(0), Told::Closed(0, CloseReason::Peer)]);
    assert_eq!(net.memory(), (0, 0));
}

#[test]
fn broken_framing_closes_its_connection_and_no_other() {
    let mut net = Net::new(Settings::default().max_message(10));
    let (bad, good) = (net.come_as(""), net.come_as(""));
    net.told();
    net.send(bad, &[message(b"ok"), message(b"elevenbytes")].concat());
    let told = [Told::Message(bad.0, b"ok".to_vec()), Told::Closed(bad.0, CloseReason::Broken)];
    assert_eq!(net.told(), told);
    net.send(good, &message(b"ten bytes."));
    assert_eq!(net.told().len(), 1);
}

#[test]
fn many_busy_peers_stay_within_the_limit_and_all_is_delivered() {
    const PEERS: usize = 50;
    const SIZE: usize = 1 << 20;
    let (bound, longest) = (4 << 20, SIZE + 100);
    let mut net = Net::new(Settings::default().max_memory_in(bound).max_message(longest));
    net.recorder().fetches = true;
    let conns: Vec<ConnId> = (0..PEERS).map(|_| net.come_as("")).collect();
    for (nth, conn) in conns.iter().enumerate() {
        let body = vec![u8::try_from(nth).unwrap(); SIZE];
        net.fars.get_mut(conn).unwrap().unread.extend_from_slice(&message(&body));
    }
    // Each sends a bit in turn, so that all pieces are unfinished when the memory is full.
    net.run();
    net.told();
    let mut fetched = Vec::new();
    for _ in 0..10_000 {
        for conn in &conns {
            if let Some(body) = net.act(|cx| cx.recv(*conn)) {
                assert!(body.len() == SIZE && body.iter().all(|byte| *byte == body[0]));
                fetched.push(body[0]);
            }
        }
        if fetched.len() == PEERS {
            break;
        }
    }
    fetched.sort_unstable();
    assert_eq!(fetched, (0..50).collect::<Vec<u8>>());
    assert!(net.most_held <= bound + longest + 512 * PEERS, "{}", net.most_held);
    assert!(net.most_held >= bound);
    assert_eq!((net.memory(), net.told()), ((0, 0), vec![]), "no peer was dropped");
}

#[test]
fn a_handler_that_uses_nothing_fills_the_limit_and_no_more() {
    let (bound, longest) = (1 << 20, 100_000);
    let mut net = Net::new(Settings::default().max_memory_in(bound).max_message(longest));
    net.recorder().uses = Some(0);
    let conns: Vec<ConnId> = (0..40).map(|_| net.knock(BYTES)).collect();
    for conn in &conns {
        net.fars.get_mut(conn).unwrap().unread.extend_from_slice(&[b'x'; 200_000]);
    }
    net.run();
    assert!(net.most_held <= bound + longest + 512 * 40 + (64 << 10), "{}", net.most_held);
    net.recorder().told.clear();
    net.recorder().uses = None;
    for conn in &conns {
        net.act(|cx| cx.resume(*conn));
    }
    let used: usize =
        net.told().iter().map(|told| if let Told::Bytes(_, bytes) = told { bytes.len() } else { 0 }).sum();
    assert_eq!((used, net.memory()), (40 * 200_000, (0, 0)));
}

#[test]
fn a_peer_that_blocks_all_others_at_the_limit_is_disconnected() {
    let mut net = Net::new(Settings::default().max_memory_in(100_000));
    let (slow, other) = (net.come_as(""), net.come_as(""));
    net.told();
    // The first fills the memory with the beginning of a message and stops sending.
    net.send(slow, &message(&[b'x'; 200_000])[..150_000]);
    net.send(other, &message(&[b'y'; 1_000]));
    assert_eq!(net.told(), []);
    net.pass(10);
    let closed = Told::Closed(slow.0, CloseReason::TimedOut);
    assert_eq!(net.told(), [closed, Told::Message(other.0, vec![b'y'; 1_000])]);
}

#[test]
fn a_peer_that_is_silent_between_messages_is_kept_at_the_limit() {
    let mut net = Net::new(Settings::default().max_memory_in(100_000));
    let conns = [(); 5].map(|()| net.come_as(""));
    net.told();
    // All are unfinished when the memory is full, and each finishes in turn and stops sending.
    for (nth, conn) in conns.iter().enumerate() {
        let body = message(&vec![b'x'; 60_000]);
        let begun = if nth == 4 { 0 } else { 30_000 };
        net.send(*conn, &body[..begun]);
    }
    assert_eq!(net.told(), []);
    for conn in &conns[..4] {
        net.send(*conn, &message(&vec![b'x'; 60_000])[30_000..]);
    }
    let messages = conns[..4].iter().map(|conn| Told::Message(conn.0, vec![b'x'; 60_000]));
    let mut told = net.told();
    told.sort_by_key(|told| if let Told::Message(conn, _) = told { *conn } else { u64::MAX });
    assert_eq!(told, messages.collect::<Vec<_>>());
    net.pass(100);
    assert_eq!((net.told(), net.memory()), (vec![], (0, 0)));
}

#[test]
fn a_stop_delivers_all_pending_output() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(BYTES);
    net.fars.get_mut(&conn).unwrap().is_stuck = true;
    net.act(|cx| cx.send(conn, b"final bytes").unwrap());
    net.host.shutdown(net.now);
    net.run();
    let late = net.knock(BYTES);
    assert!(!net.fars.contains_key(&late) && !net.host.is_finished());
    net.fars.get_mut(&conn).unwrap().is_stuck = false;
    let far = net.fars.get_mut(&conn).unwrap().writing.as_ref().unwrap().to_vec();
    net.run();
    assert_eq!(far, b"final bytes");
    assert!(net.host.is_finished());
}

#[test]
fn a_connection_that_is_dropped_at_once_leaves_nothing() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(LINES);
    net.act(|cx| cx.pause(conn));
    net.send(conn, b"unread\n");
    net.fars.get_mut(&conn).unwrap().is_stuck = true;
    net.act(|cx| cx.send(conn, b"unwritten").unwrap());
    net.act(|cx| cx.abort(conn));
    assert_eq!(net.told(), [Told::Opened(0, None, false), Told::Closed(0, CloseReason::Asked)]);
    assert_eq!(net.memory(), (0, 0));
}

#[test]
fn one_message_longer_than_the_limit_is_received_without_other_events() {
    let mut net = Net::new(Settings::default().max_memory_in(100_000));
    let conn = net.come_as("");
    net.told();
    net.send(conn, &message(&vec![b'x'; 300_000]));
    assert_eq!(net.told(), [Told::Message(conn.0, vec![b'x'; 300_000])]);
}

#[test]
fn a_connection_paused_at_the_limit_is_read_again_below_it() {
    let mut net = Net::new(Settings::default().max_memory_in(100_000));
    let [silent, big, other] = [(); 3].map(|()| net.come_as(""));
    net.told();
    net.send(silent, &message(&vec![b'x'; 200_000])[..80_000]);
    let body = message(&vec![b'y'; 60_000]);
    net.send(big, &body[..30_000]);
    net.send(other, &message(b"one"));
    // Four fifths are full then, and stay so.
    net.send(big, &body[30_000..]);
    net.send(other, &message(b"two"));
    let told = net.told();
    assert!(told.contains(&Told::Message(other.0, b"two".to_vec())), "{}", told.len());
}

#[test]
fn input_that_waits_for_room_for_answers_gets_its_turn_although_input_is_near_its_limit() {
    let settings = Settings::default().max_memory_in(10_000).max_memory_out(1_000);
    let mut net = Net::new(settings);
    net.recorder().on_message = Some(|cx, conn, line| cx.send(conn, &line.repeat(10)).unwrap());
    let (silent, asking, stuck) = (net.knock(LINES), net.knock(LINES), net.knock(LINES));
    net.send(silent, &[b'x'; 8_000]);
    net.fars.get_mut(&stuck).unwrap().is_stuck = true;
    net.send(stuck, &[&[b'x'; 90][..], b"\n"].concat());
    net.told();
    // It was paused when the output filled up: no connection is read, and no wakeup is pending.
    net.act(|cx| cx.pause(asking));
    net.act(|cx| cx.resume(asking));
    net.send(asking, b"a\n");
    assert_eq!(net.told(), []);
    net.fars.get_mut(&stuck).unwrap().is_stuck = false;
    net.run();
    assert!(net.told().contains(&Told::Message(asking.0, b"a".to_vec())));
}

#[test]
fn a_send_without_room_because_of_others_is_followed_by_drained() {
    let mut net = Net::new(Settings::default().max_memory_out(1_000));
    let (full, other) = (net.knock(BYTES), net.knock(BYTES));
    net.fars.get_mut(&full).unwrap().is_stuck = true;
    net.act(|cx| cx.send(full, &[0; 900]).unwrap());
    assert_eq!(net.act(|cx| cx.send(other, &[0; 200])), Err(SendError::Full));
    net.told();
    net.fars.get_mut(&full).unwrap().is_stuck = false;
    net.run();
    let mut told = net.told();
    told.sort_by_key(|told| if let Told::Drained(conn) = told { *conn } else { u64::MAX });
    assert_eq!(told, [Told::Drained(full.0), Told::Drained(other.0)]);
}

#[test]
fn send_many_respects_the_limit_of_all_output() {
    let mut net = Net::new(Settings::default().max_memory_out(1_000));
    let conn = net.knock(BYTES);
    net.fars.get_mut(&conn).unwrap().is_stuck = true;
    assert_eq!(net.act(|cx| cx.send_many(conn, &mut std::iter::repeat_n([0; 100], 50))), Ok(10));
    let mut net = Net::new(Settings::default().max_pending(0));
    let conn = net.knock(BYTES);
    assert_eq!(net.act(|cx| cx.send_many(conn, &mut std::iter::repeat_n([0; 100], 50))), Ok(1));
}

#[test]
fn a_stuck_connection_is_read_again_after_a_change_of_framing() {
    let mut net = Net::new(Settings::default());
    net.recorder().fetches = true;
    let conn = net.knock(BYTES);
    let body = message(&vec![0; 400_000]);
    net.send(conn, &body);
    assert!(!net.fars[&conn].unread.is_empty(), "input is not read that far ahead");
    net.act(|cx| cx.set_framing(conn, Framing::Messages));
    assert_eq!(net.act(|cx| cx.recv(conn)).map(|body| body.len()), Some(400_000));
}

#[test]
fn a_peer_has_not_timed_out_while_the_handler_does_not_read() {
    let mut net = Net::new(Settings::default().max_memory_in(100_000));
    net.recorder().fetches = true;
    let (filler, conn, other) = (net.come_as(""), net.come_as(""), net.come_as(""));
    net.send(filler, &message(&vec![b'x'; 150_000])[..90_000]);
    let body = message(&vec![b'y'; 40_000]);
    net.send(conn, &body[..30_000]);
    net.send(other, &message(&vec![b'z'; 1_000])[..600]);
    net.told();
    net.send(conn, &body[30_000..]);
    net.pass(100);
    assert_eq!(net.told(), [], "no peer is dropped");
    assert_eq!(net.act(|cx| cx.recv(conn)).map(|body| body.len()), Some(40_000));
}

#[test]
fn a_handshake_is_read_although_the_memory_is_full() {
    let mut net = Net::new(Settings::default().max_memory_in(1_000).max_memory_out(1_000));
    net.recorder().fetches = true;
    let (line, bytes) = (net.knock(LINES), net.knock(BYTES));
    net.send(line, &[&[b'x'; 1_500][..], b"\n"].concat());
    net.fars.get_mut(&bytes).unwrap().is_stuck = true;
    net.act(|cx| cx.send(bytes, &[0; 1_000]).unwrap());
    net.told();
    let conn = net.come_as("worker");
    assert_eq!(net.told(), [Told::Opened(conn.0, Some("worker".to_owned()), false)]);
}

#[test]
fn line_ends_between_frames_are_not_kept() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(FRAMES);
    net.told();
    net.send(conn, &[b'\n'; 100_000]);
    assert_eq!(net.memory(), (0, 0));
    net.send(conn, b"\r\nBYE 0000\r\n");
    assert_eq!((net.told(), net.memory()), (vec![Told::Message(0, b"BYE 0000".to_vec())], (0, 0)));
}

#[test]
fn a_closing_connection_has_a_limited_time_for_each_write() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(BYTES);
    net.fars.get_mut(&conn).unwrap().is_stuck = true;
    net.host.with(net.now, |_, cx| {
        cx.send(conn, &[0; 2_000_000]).unwrap();
        cx.close(conn);
    });
    assert!(!net.host.is_closing(conn), "nothing was given to be written");
    assert_eq!(net.host.poll_wake(), Some(conn));
    net.claim(conn);
    assert_eq!(net.host.poll_wake(), Some(conn), "a driver that writes is told");
    assert!(net.host.is_closing(conn));
}

#[test]
fn input_left_while_paused_comes_after_resume_and_the_end_follows_it() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(BYTES);
    net.recorder().uses = Some(0);
    net.recorder().on_bytes = Some(|cx, conn| cx.pause(conn));
    net.send(conn, b"abc");
    net.end(conn);
    let bytes = Told::Bytes(0, b"abc".to_vec());
    assert_eq!(net.told(), [Told::Opened(0, None, false), bytes.clone()]);
    (net.recorder().uses, net.recorder().on_bytes) = (None, None);
    net.act(|cx| cx.resume(conn));
    assert_eq!(net.told(), [bytes, Told::Ended(0), Told::Closed(0, CloseReason::Peer)]);
}

#[test]
fn limits_of_zero_and_unlimited_times_still_work() {
    let settings = Settings::default().max_pending(0).max_memory_in(0).max_memory_out(0).pause_above(0);
    let settings =
        settings.handshake_timeout(Duration::MAX).progress_timeout(Duration::MAX).max_message(usize::MAX);
    let mut net = Net::new(settings);
    net.recorder().on_message = Some(|cx, conn, message| cx.send(conn, message).unwrap());
    let conn = net.come_as("");
    net.got(conn);
    for _ in 0..3 {
        net.send(conn, &message(b"again"));
        assert_eq!(net.got(conn), message(b"again"));
    }
    assert_eq!(net.memory(), (0, 0));
}

#[test]
fn an_attempt_that_succeeds_after_shutdown_has_failed() {
    let mut net = Net::new(Settings::default());
    let dial = call(&mut net, Framing::Bytes);
    net.host.shutdown(net.now);
    net.arrive(Arrival::Dialed(dial.id, Remote::Unix { uid: 1, gid: 1 }));
    assert_eq!(net.told(), [Told::Failed(dial.id.0, "we are ending".to_owned())]);
    assert!(net.host.is_finished());
}

/// Random operations in any order: nothing panics, bounds hold, and in the end nothing is held.
#[test]
fn random_operations_keep_the_memory_accounts_balanced() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let settings = Settings::default().max_message(2_000).max_memory_in(8_000).max_memory_out(9_000);
        let mut net = Net::new(settings.max_pending(4_000).pause_above(1_000));
        net.recorder().on_message = Some(|cx, conn, message| {
            let _ = cx.send(conn, &message.repeat(3));
        });
        for _ in 0..400 {
            let conn = ConnId::new(rng.random_range(0..=net.next), 0);
            let bytes: Vec<u8> =
                (0..rng.random_range(0..900)).map(|_| rng.random_range(b'\n'..b'\r')).collect();
            let framing = [Framing::Bytes, Framing::Lines, Framing::Messages, Framing::Frames];
            match rng.random_range(0..14) {
                0 | 1 => drop(net.knock(rng.random_range(0..5))),
                2..=5 if net.fars.contains_key(&conn) => net.send(conn, &bytes),
                6 if net.fars.contains_key(&conn) => net.send(conn, &message(&bytes)),
                7 => net.act(|cx| cx.pause(conn)),
                8 => net.act(|cx| cx.resume(conn)),
                9 => {
                    let _ = net.act(|cx| cx.send(conn, &bytes));
                }
                10 if rng.random_bool(0.2) && net.fars.contains_key(&conn) => net.end(conn),
                11 if rng.random_bool(0.2) => net.act(|cx| cx.abort(conn)),
                12 => net.act(|cx| cx.set_framing(conn, framing[rng.random_range(0..4)])),
                13 => {
                    if let Some(far) = net.fars.get_mut(&conn) {
                        far.is_stuck = !far.is_stuck;
                    }
                    net.recorder().uses = Some(rng.random_range(0..800));
                    net.recorder().fetches = rng.random_bool(0.3);
                    net.pass(rng.random_range(0..3));
                }
                _ => drop(net.act(|cx| cx.recv(conn))),
            }
            let (held, pending) = net.memory();
            assert!(held <= 8_000 + 2_000 + 512 * net.fars.len() + (64 << 10), "seed {seed}: {held}");
            assert!(pending <= 9_000 + 3 * 2_000, "seed {seed}: {pending}");
        }
        net.fars.values_mut().for_each(|far| far.is_stuck = false);
        (net.recorder().uses, net.recorder().fetches, net.recorder().on_message) = (None, false, None);
        net.act(|cx| cx.conns().collect::<Vec<_>>().into_iter().for_each(|conn| cx.resume(conn)));
        // Silent connections in the middle of a message are closed one by one, if they block others.
        (0..50).for_each(|_| net.pass(20));
        let stalled = net.fars.iter().find(|(_, far)| !far.unread.is_empty());
        assert!(stalled.is_none(), "seed {seed}: {:?} is not read", stalled.map(|(conn, _)| conn));
        net.host.shutdown(net.now);
        net.run();
        assert!(net.host.is_finished() && net.memory() == (0, 0), "seed {seed}: {:?}", net.memory());
        let told = net.told();
        let opened = told.iter().filter(|told| matches!(told, Told::Opened(..))).count();
        let closed = told.iter().filter(|told| matches!(told, Told::Closed(..))).count();
        assert_eq!(opened, closed, "seed {seed}");
    }
}
