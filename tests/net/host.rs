//! Programs with other protocols than the chat, over sockets: handlers on each engine, and cores polled by the test.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "peers are threads, and real sockets take real time")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sayagain::host::{Context, Handler, Host, SendError, Settings};
use sayagain::listener::Framing;
use sayagain::net::core::Event;
use sayagain::net::{ConnectUrl, Core, Engine, EngineKind, Listeners};
use sayagain::service::{CloseReason, ConnId, DialId, Peer};

/// The longest wait for an event that should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A callback of a handler, as reported to its test.
#[derive(Debug, PartialEq)]
enum Told {
    Opened(ConnId, Option<DialId>),
    Message(Vec<u8>),
    Closed(ConnId, CloseReason),
    Failed(DialId),
}

/// Reports every callback to its test and echoes messages; raw bytes are echoed only on request.
struct Teller {
    to: Sender<Told>,
    echoes: bool,
}

impl Teller {
    fn new(echoes: bool) -> (Self, Receiver<Told>) {
        let (to, from) = mpsc::channel();
        (Self { to, echoes }, from)
    }

    fn tell(&self, told: Told) {
        self.to.send(told).expect("the test listens");
    }
}

impl Handler for Teller {
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.tell(Told::Opened(conn, cx.peer(conn).and_then(|peer| peer.dial())));
    }

    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        if self.echoes {
            cx.send(conn, bytes).expect("it waits while there is no room");
        }
        bytes.len()
    }

    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        self.tell(Told::Message(message.to_vec()));
        if self.echoes {
            cx.share(conn, &message).expect("it waits while there is no room");
        }
    }

    fn datagram(&mut self, cx: &mut Context<'_>, peer: Peer, bytes: &[u8]) {
        cx.send_to(peer, bytes).expect("there is room");
    }

    fn closed(&mut self, _cx: &mut Context<'_>, conn: ConnId, why: CloseReason) {
        self.tell(Told::Closed(conn, why));
    }

    fn failed(&mut self, _cx: &mut Context<'_>, dial: DialId, _error: &std::io::Error) {
        self.tell(Told::Failed(dial));
    }
}

/// A handler on an engine of this kind, and the address of its only listener.
fn start<H: Handler + 'static>(
    kind: EngineKind,
    url: &str,
    settings: Settings,
    handler: H,
) -> (Engine<Host<H>>, String) {
    let mut listeners = Listeners::default();
    listeners.add(&url.parse().unwrap()).unwrap();
    let list = listeners.list();
    let engine = Engine::start(kind, listeners, |_| Host::new(settings, list, handler)).unwrap();
    let place = engine.listen_addrs()[0].to_string();
    (engine, place)
}

fn connect(place: &str) -> TcpStream {
    let peer = TcpStream::connect(place.split_once("://").unwrap().1).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    peer
}

fn stop<H: Handler + 'static>(engine: &Engine<Host<H>>) {
    engine.change(|host, now| host.with(now, |_, cx| cx.stop()));
    assert!(engine.wait());
}

#[test]
fn messages_are_echoed_whole_under_each_engine() {
    for kind in EngineKind::ALL {
        let (teller, _told) = Teller::new(true);
        let (engine, place) = start(kind, "raw://127.0.0.1:0", Settings::default(), teller);
        let mut peer = connect(&place);
        let all: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut writer = peer.try_clone().unwrap();
        let sent = all.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        peer.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == all, "{kind}: {} bytes", back.len());
        stop(&engine);
    }
}

#[test]
fn handlers_connect_to_each_other_under_each_engine() {
    for kind in EngineKind::ALL {
        let (teller, boss_told) = Teller::new(true);
        let settings = Settings::default().name("boss").unwrap();
        let (boss, place) = start(kind, "msg://127.0.0.1:0", settings, teller);
        let (teller, told) = Teller::new(false);
        let (worker, _) = start(kind, "msg://127.0.0.1:0", Settings::default(), teller);
        let url: ConnectUrl = place.parse().unwrap();
        let dial = worker.change(|host, now| host.with(now, |_, cx| cx.connect(url.target(), url.framing())));
        let Told::Opened(conn, Some(of)) = told.recv_timeout(SOON).unwrap() else {
            panic!("{kind}: no connection")
        };
        assert_eq!(of, dial);
        let long = vec![b'x'; 5_000_000];
        for body in [&b"short"[..], &long, b""] {
            worker.change(|host, now| host.with(now, |_, cx| cx.send(conn, body))).unwrap();
            assert!(told.recv_timeout(SOON).unwrap() == Told::Message(body.to_vec()), "{kind}");
        }
        stop(&boss);
        assert_eq!(told.recv_timeout(SOON).unwrap(), Told::Closed(conn, CloseReason::Peer), "{kind}");
        let last = boss_told.try_iter().last();
        assert!(matches!(last, Some(Told::Closed(_, CloseReason::Asked))), "{kind}: {last:?}");
        let url: ConnectUrl = place.parse().unwrap();
        let dial = worker.change(|host, now| host.with(now, |_, cx| cx.connect(url.target(), url.framing())));
        assert_eq!(told.recv_timeout(SOON).unwrap(), Told::Failed(dial), "{kind}: no listener there");
        stop(&worker);
    }
}

#[test]
fn the_close_of_a_connection_reports_which_side_caused_it() {
    for kind in EngineKind::ALL {
        let (teller, told) = Teller::new(true);
        let (engine, place) = start(kind, "raw://127.0.0.1:0", Settings::default(), teller);
        let open = || {
            let peer = connect(&place);
            let Told::Opened(conn, None) = told.recv_timeout(SOON).unwrap() else { panic!("{kind}") };
            (peer, conn)
        };
        let end = |conn, why| assert_eq!(told.recv_timeout(SOON).unwrap(), Told::Closed(conn, why), "{kind}");
        let (peer, conn) = open();
        peer.shutdown(Shutdown::Write).unwrap();
        end(conn, CloseReason::Peer);
        let (mut peer, conn) = open();
        engine.change(|host, now| host.with(now, |_, cx| cx.abort(conn)));
        end(conn, CloseReason::Asked);
        assert!(matches!(peer.read(&mut [0; 9]), Ok(0) | Err(_)));
        let (peer, conn) = open();
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        end(conn, CloseReason::Lost);
        stop(&engine);
    }
}

/// Panics at the first byte.
struct Faulty;

impl Handler for Faulty {
    fn received(&mut self, _cx: &mut Context<'_>, _conn: ConnId, _bytes: &[u8]) -> usize {
        panic!("a bug in the program");
    }
}

#[test]
fn a_wait_for_an_engine_whose_handler_panics_returns_an_error() {
    for kind in EngineKind::ALL {
        let (engine, place) = start(kind, "raw://127.0.0.1:0", Settings::default(), Faulty);
        connect(&place).write_all(b"x").unwrap();
        assert!(!engine.wait(), "{kind}");
    }
}

/// A handler that reads nothing until the test allows it.
#[derive(Default)]
struct Lazy {
    reads: bool,
    /// The number of message bytes read, by connection.
    read: BTreeMap<ConnId, usize>,
    closed: Vec<CloseReason>,
}

impl Handler for Lazy {
    fn readable(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        while self.reads
            && let Some(message) = cx.recv(conn)
        {
            assert!(message.iter().all(|byte| *byte == message[0]));
            *self.read.entry(conn).or_default() += message.len();
        }
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _conn: ConnId, why: CloseReason) {
        self.closed.push(why);
    }
}

/// This many peers send a message of this size each to a handler that does not read. Memory stays within the bound, and
/// once the handler reads, all messages arrive.
fn peers_that_never_read(kind: EngineKind, peers: usize, size: usize, bound: usize) {
    let settings = Settings::default().max_memory_in(bound).max_message(size);
    let (engine, place) = start(kind, "msg://127.0.0.1:0", settings, Lazy::default());
    let mut sending = Vec::new();
    for nth in 0..peers {
        let mut peer = connect(&place);
        sending.push(thread::spawn(move || {
            peer.write_all(&0_u64.to_be_bytes()).unwrap();
            peer.write_all(&(size as u64).to_be_bytes()).unwrap();
            peer.write_all(&vec![u8::try_from(nth % 251).unwrap(); size]).unwrap();
            // Until the peer closes.
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).map(|_| answer)
        }));
    }
    let held = || engine.change(|host, now| host.with(now, |_, cx| cx.memory().0));
    let (begun, mut most) = (Instant::now(), 0);
    // Memory fills up to the bound, and stays there for a good part of a second.
    let mut still_since = Instant::now();
    while still_since.elapsed() < Duration::from_millis(300) {
        let now = held();
        if now > most {
            (most, still_since) = (now, Instant::now());
        }
        assert!(begun.elapsed() < SOON * 3);
        thread::yield_now();
    }
    // A read that has begun may exceed the bound: under threads, one on each connection.
    let begun_reads = if kind == EngineKind::Threads { peers * (64 << 10) } else { 64 << 10 };
    let allowed = bound + size + peers * 512 + begun_reads;
    assert!((bound..=allowed).contains(&most), "{kind}: {most} held, {bound} allowed");
    engine.change(|host, now| {
        host.with(now, |lazy, cx| {
            lazy.reads = true;
            cx.conns().collect::<Vec<_>>().into_iter().for_each(|conn| cx.resume(conn));
        });
    });
    while engine.look(|host| host.handler().read.len()) < peers {
        most = most.max(held());
        assert!(begun.elapsed() < SOON * 6, "{} of {peers}", engine.look(|host| host.handler().read.len()));
        thread::yield_now();
    }
    assert!(most <= allowed, "{kind}: {most} held");
    engine.look(|host| {
        assert!(host.handler().read.values().all(|bytes| *bytes == size));
        assert_eq!(host.handler().closed, [], "{kind}: no peer was dropped");
    });
    stop(&engine);
    for peer in sending {
        assert_eq!(peer.join().unwrap().unwrap(), [0, 0, 0, 0, 0, 0, 0, 1, b'+'], "its welcome, and no more");
    }
}

#[test]
fn senders_to_a_handler_that_does_not_read_are_blocked_and_lose_nothing() {
    for kind in EngineKind::ALL {
        peers_that_never_read(kind, 20, 1_000_000, 4_000_000);
    }
}

/// 1.75 GB over loopback: `cargo test --release --test net host:: -- --ignored --nocapture`.
#[test]
#[ignore = "takes a gigabyte or two and some seconds"]
fn two_hundred_peers_send_8_76_mb_each_to_a_handler_that_does_not_read() {
    for kind in EngineKind::ALL {
        let begun = Instant::now();
        peers_that_never_read(kind, 200, 8_760_000, 64 << 20);
        println!("{kind}: {:.1} s", begun.elapsed().as_secs_f64());
    }
}

/// Sends as many messages as there is room for, and counts the echoes.
struct There {
    left: std::ops::Range<u32>,
    back: u32,
}

impl Handler for There {
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.drained(cx, conn);
    }

    fn drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let mut messages = (&mut self.left).map(|n| [n.to_be_bytes(); 50].concat());
        cx.send_many(conn, &mut messages).expect("it is open");
    }

    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        assert_eq!(&message[..], [self.back.to_be_bytes(); 50].concat(), "in order, whole, once");
        self.back += 1;
        if self.back == 100_000 {
            cx.close(conn);
            cx.stop();
        }
    }
}

#[test]
fn many_messages_sent_at_once_are_echoed_although_neither_side_has_room_for_them() {
    for kind in EngineKind::ALL {
        let settings = || Settings::default().max_pending(1 << 20);
        let (teller, _told) = Teller::new(true);
        let (back, place) = start(kind, "msg://127.0.0.1:0", settings(), teller);
        let there = There { left: 0..100_000, back: 0 };
        let (engine, _) = start(kind, "msg://127.0.0.1:0", settings(), there);
        let url: ConnectUrl = place.parse().unwrap();
        engine.change(|host, now| host.with(now, |_, cx| cx.connect(url.target(), url.framing())));
        assert!(engine.wait(), "{kind}");
        stop(&back);
    }
}

/// Polls cores until a condition holds.
fn turn<R>(cores: &mut [Core], mut look: impl FnMut(usize, &mut Core, Event) -> Option<R>) -> R {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        for (nth, core) in cores.iter_mut().enumerate() {
            for event in core.poll(Some(Duration::from_millis(1))).unwrap() {
                if let Some(found) = look(nth, core, event) {
                    return found;
                }
            }
        }
    }
    panic!("it did not happen");
}

fn core(settings: Settings) -> Core {
    Core::new(settings).unwrap()
}

#[test]
fn a_core_listens_and_connects_at_once_and_distinguishes_expected_from_unknown_peers() {
    let mut relay = core(Settings::default().name("relay").unwrap().expect("worker-*").unwrap());
    let mut boss = core(Settings::default().name("boss").unwrap());
    let up = boss.listen("msg://127.0.0.1:0").unwrap()[0].to_string();
    let down = relay.listen("msg://127.0.0.1:0").unwrap()[0].to_string();
    let called = relay.connect(&up).unwrap();
    let mut worker = core(Settings::default().name("worker-1").unwrap());
    worker.connect(&down).unwrap();
    let mut unnamed = core(Settings::default());
    unnamed.connect(&down).unwrap();
    let mut cores = [relay, boss, worker, unnamed];
    let mut seen = BTreeMap::new();
    turn(&mut cores, |nth, core, event| {
        let (kind, conn) = match event {
            Event::Expected(conn) => ("expected", conn),
            Event::Unknown(conn) => ("unknown", conn),
            other => panic!("{other:?}"),
        };
        let dial = core.peer(conn, |peer| peer.dial()).unwrap();
        seen.insert((nth, kind, core.name(conn)), dial);
        (seen.len() == 6).then_some(())
    });
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(seen[&(0, "expected", name("boss"))], Some(called));
    assert_eq!(seen[&(0, "expected", name("worker-1"))], None);
    assert_eq!(seen[&(0, "unknown", None)], None);
    assert_eq!(seen[&(1, "unknown", name("relay"))], None, "the boss expects no peer");
    assert!(
        seen.contains_key(&(2, "expected", name("relay")))
            && seen.contains_key(&(3, "expected", name("relay")))
    );
}

#[test]
fn a_refused_name_is_reported_to_the_connecting_side_only() {
    let mut boss = core(Settings::default().expect("worker-*").unwrap().only_expected(true));
    let url = boss.listen("msg://127.0.0.1:0").unwrap()[0].to_string();
    let mut unexpected = core(Settings::default().name("unexpected").unwrap());
    let dial = unexpected.connect(&url).unwrap();
    let (failed, why) = turn(&mut [boss, unexpected], |nth, _, event| match event {
        Event::Failed(dial, why) if nth == 1 => Some((dial, why)),
        other => panic!("{nth}: {other:?}"),
    });
    assert_eq!((failed, why.kind()), (dial, std::io::ErrorKind::PermissionDenied));
    assert_eq!(why.to_string(), "refused: no peer of this name is expected");
}

#[test]
fn messages_before_the_end_of_a_connection_are_received_before_it() {
    let mut reader = core(Settings::default());
    let url = reader.listen("line://127.0.0.1:0").unwrap()[0].to_string();
    let mut peer = connect(&url);
    peer.write_all(b"one\ntwo\n").unwrap();
    drop(peer);
    let (mut lines, mut cores) = (Vec::new(), [reader]);
    let why = turn(&mut cores, |_, core, event| match event {
        Event::Readable(conn) => {
            lines.extend(std::iter::from_fn(|| core.recv(conn)));
            None
        }
        Event::Disconnected(_, why) => Some(why),
        _ => None,
    });
    assert_eq!(
        (lines, why),
        (vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")], CloseReason::Peer)
    );
}

#[test]
fn cores_listen_on_datagrams_unix_sockets_and_shared_ports_too() {
    let mut server = core(Settings::default());
    let udp = server.listen("udp://127.0.0.1:0").unwrap()[0].to_string();
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("raw+unix://{}/s", folder.path().display());
    server.listen(&unix).unwrap();
    let shared = server.listen("raw://127.0.0.1:0?reuse_port=1").unwrap()[0].to_string();
    core(Settings::default()).listen(&format!("{shared}?reuse_port=1")).unwrap();

    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"ping", udp.trim_start_matches("udp://")).unwrap();
    let mut client = core(Settings::default());
    client.connect(&unix).unwrap();
    let mut cores = [server, client];
    let (mut heard, mut conn) = (false, None);
    turn(&mut cores, |nth, core, event| {
        match event {
            Event::Datagram(peer, bytes) => {
                assert_eq!(&bytes[..], b"ping");
                core.send_to(peer, b"pong").unwrap();
                heard = true;
            }
            Event::Expected(id) if nth == 1 => conn = Some(id),
            Event::Unknown(_) if nth == 0 => {}
            other => panic!("{nth}: {other:?}"),
        }
        (heard && conn.is_some()).then_some(())
    });
    cores[0].poll(Some(Duration::ZERO)).unwrap();
    let mut buffer = [0; 9];
    socket.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(socket.recv(&mut buffer).unwrap(), 4);
    cores[1].send(conn.unwrap(), b"over a file").unwrap();
    let bytes = turn(&mut cores, |nth, core, event| match event {
        Event::Readable(id) if nth == 0 => core.recv(id),
        _ => None,
    });
    assert_eq!(&bytes[..], b"over a file");
}

#[test]
fn a_core_is_woken_by_other_threads_and_its_end_sends_queued_messages() {
    let mut one = core(Settings::default());
    let waker = one.waker();
    let waking = thread::spawn(move || waker.wake());
    assert!(one.poll(None).unwrap().is_empty());
    waking.join().unwrap();
    let url = one.listen("raw://127.0.0.1:0").unwrap()[0].to_string();
    let mut peer = connect(&url);
    let mut cores = [one];
    let conn =
        turn(&mut cores, |_, _, event| if let Event::Unknown(conn) = event { Some(conn) } else { None });
    let [mut one] = cores;
    let long = vec![b'x'; 6_000_000];
    one.send(conn, &long).unwrap();
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    assert!(one.shutdown(SOON).unwrap());
    assert!(reading.join().unwrap() == long);
}

#[test]
fn a_connection_switches_from_lines_to_bytes() {
    let mut one = core(Settings::default());
    let url = one.listen("line://127.0.0.1:0").unwrap()[0].to_string();
    let mut peer = connect(&url);
    peer.write_all(b"give me bytes\n\0\n\0").unwrap();
    let mut cores = [one];
    let (conn, line) = turn(&mut cores, |_, core, event| match event {
        Event::Readable(conn) => Some((conn, core.recv(conn))),
        _ => None,
    });
    assert_eq!(line.as_deref(), Some(&b"give me bytes"[..]));
    cores[0].set_framing(conn, Framing::Bytes);
    assert_eq!(cores[0].recv(conn).as_deref(), Some(&b"\0\n\0"[..]));
    assert_eq!(cores[0].send(ConnId::new(9, 9), b"x"), Err(SendError::Gone));
}

#[test]
fn an_invalid_url_is_refused_in_one_sentence() {
    let mut one = core(Settings::default());
    for (result, expected) in [
        (
            one.listen("foo://h:1").map(drop),
            "`foo://h:1`: the scheme `foo` is unknown; write tcp://HOST:PORT",
        ),
        (one.listen("msg://h").map(drop), "`msg://h`: it names no port; write msg://HOST:PORT"),
        (
            one.connect("udp://h:1").map(drop),
            "`udp://h:1`: datagrams have no connections; take tcp://, msg:// or",
        ),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}
