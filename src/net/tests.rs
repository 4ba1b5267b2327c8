//! The engine with a service that knows no chat: what anybody sends goes to everybody.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Async;
use event_listener::EventListener;
use futures::FutureExt as _;

use super::engine::TURN;
use super::listen::Address;
use super::rt;
use super::shared::{Outcome, Shared, Work};
use super::stream::{Link, Progress, prepare};
use super::{Doors, Engine, Listen};
use crate::output::Output;
use crate::service::{ConnId, Flow, Intake, Origin, Peer, Remote, Service, Transmit};

const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Everybody {
    queues: BTreeMap<ConnId, Vec<u8>>,
    origins: Vec<Origin>,
    peers: Vec<Peer>,
    woken: VecDeque<ConnId>,
    closing: bool,
}

#[derive(Debug)]
struct Verbatim;

impl Intake for Verbatim {
    type Batch<'a> = &'a [u8];

    fn received<'a>(&'a mut self, _now: Instant, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }
}

impl Service for Everybody {
    type Conn = Verbatim;

    fn opened(&mut self, _now: Instant, conn: ConnId, origin: Origin) -> Verbatim {
        self.origins.push(origin);
        self.queues.insert(conn, if self.closing { b"full".to_vec() } else { Vec::new() });
        self.woken.push_back(conn);
        Verbatim
    }

    fn received(&mut self, _now: Instant, _conn: ConnId, batch: &[u8]) {
        assert_ne!(batch, b"panic", "as asked");
        for (conn, queue) in &mut self.queues {
            queue.extend_from_slice(batch);
            self.woken.push_back(*conn);
        }
    }

    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        self.peers.push(peer);
        self.received(now, ConnId(0), bytes);
    }

    fn drained(&mut self, _now: Instant, _conn: ConnId) {}

    fn closed(&mut self, _now: Instant, conn: ConnId) {
        assert!(self.queues.remove(&conn).is_some(), "closed twice");
    }

    fn timeout(&mut self, _now: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_wake(&mut self) -> Option<ConnId> {
        self.woken.pop_front()
    }

    fn fill(&mut self, _now: Instant, conn: ConnId, out: &mut Output) -> Flow {
        out.append(self.queues.get_mut(&conn).expect("named again after it was closed"));
        Flow { more: false, reading: !self.closing, closing: self.closing, busy: false }
    }

    fn is_reading(&self, _conn: ConnId) -> bool {
        !self.closing
    }

    fn is_closing(&self, _conn: ConnId) -> bool {
        self.closing
    }

    fn poll_transmit(&mut self, _now: Instant) -> Option<Transmit> {
        None
    }

    fn shutdown(&mut self, _now: Instant) {
        self.closing = true;
        self.woken.extend(self.queues.keys());
    }

    fn is_finished(&self) -> bool {
        self.closing && self.queues.is_empty()
    }
}

/// The state behind the lock with so many connections, and the peers' ends of those.
fn shared(connections: usize) -> (Shared<Everybody>, Vec<Arc<Link>>, Vec<TcpStream>) {
    let mut shared = Shared::new(Everybody::default());
    let (mut links, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..connections {
        let (link, work, peer) = connect(&mut shared);
        assert!(perform(&mut shared, work).is_empty());
        links.push(link);
        peers.push(peer);
    }
    (shared, links, peers)
}

/// A new connection, what is to be done for it, and its peer's end.
fn connect(shared: &mut Shared<Everybody>) -> (Arc<Link>, Work, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    let (socket, addr) = listener.accept().unwrap();
    let (socket, from) = (Async::new(socket.into()).unwrap(), Remote::Ip(addr));
    let (link, _, work) = shared.open(rt::now(), socket, Origin { door: 0, from });
    (link, work, peer)
}

/// Does the writing, none of which may block, and reports it.
fn perform(shared: &mut Shared<Everybody>, work: Work) -> Work {
    let mut written = Vec::new();
    for mut write in work.writes {
        match write.advance() {
            Progress::Done(done) => written.push(done),
            Progress::Blocked => panic!("a few bytes have room in any socket"),
        }
    }
    for (link, how) in work.shuts {
        link.shut(how);
    }
    shared.settle(rt::now(), Outcome { written, sent: 0 })
}

fn read(mut peer: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn who_finds_a_connection_being_written_to_only_queues_and_the_writer_looks_again() {
    let (mut shared, links, peers) = shared(1);
    let first = shared.received(rt::now(), &links[0], b"first");
    assert_eq!(first.writes.len(), 1);
    assert!(shared.received(rt::now(), &links[0], b"second").is_empty());
    assert!(shared.received(rt::now(), &links[0], b"third").is_empty());
    let second = perform(&mut shared, first);
    assert_eq!(second.writes.len(), 1);
    assert!(perform(&mut shared, second).is_empty());
    assert_eq!(read(&peers[0], 16), b"firstsecondthird");
    assert_eq!(shared.received(rt::now(), &links[0], b"fourth").writes.len(), 1);
}

#[test]
fn one_turn_writes_to_so_many_sockets_and_the_next_goes_on() {
    let (mut shared, links, _peers) = shared(TURN + 3);
    let work = shared.received(rt::now(), &links[0], b"x");
    assert_eq!(work.writes.len(), TURN);
    let work = perform(&mut shared, work);
    assert_eq!(work.writes.len(), 3);
    assert!(perform(&mut shared, work).is_empty());
}

#[test]
fn a_connection_that_is_to_be_closed_is_first_written_then_shut_then_forgotten() {
    let (mut shared, links, mut peers) = shared(1);
    let work = shared.received(rt::now(), &links[0], b"goodbye");
    shared.service.shutdown(rt::now());
    let work = perform(&mut shared, work);
    assert_eq!((work.writes.len(), work.shuts.len()), (0, 1));
    assert!(perform(&mut shared, work).is_empty());
    let mut last_words = Vec::new();
    peers[0].read_to_end(&mut last_words).unwrap();
    assert_eq!(last_words, b"goodbye");
    assert!(!shared.is_finished());
    assert!(shared.read_ended(rt::now(), links[0].id, false).is_empty());
    assert!(shared.is_finished());
}

#[test]
fn a_connection_that_is_refused_gets_its_words_and_is_closed_at_once() {
    let (mut shared, _, _) = shared(0);
    shared.service.shutdown(rt::now());
    let (link, work, mut peer) = connect(&mut shared);
    assert_eq!(work.writes.len(), 1);
    let work = perform(&mut shared, work);
    assert!(shared.is_finished(), "it is forgotten although its peer has not closed its side");
    assert!(perform(&mut shared, work).is_empty());
    assert_eq!(shared.set_alarm(), None);
    drop(link);
    let mut last_words = Vec::new();
    peer.read_to_end(&mut last_words).unwrap();
    assert_eq!(last_words, b"full");
}

#[test]
fn a_peer_that_never_closes_its_side_is_waited_for_until_a_deadline() {
    let (mut shared, links, _peers) = shared(1);
    shared.service.shutdown(rt::now());
    let work = shared.collect(rt::now());
    assert!(perform(&mut shared, work).is_empty());
    let deadline = shared.set_alarm().unwrap();
    assert!(shared.tick(deadline - Duration::from_millis(1)).is_empty());
    assert!(!shared.is_finished());
    let work = shared.tick(deadline);
    assert_eq!(work.shuts.len(), 1);
    assert!(shared.is_finished());
    assert!(shared.read_ended(deadline, links[0].id, true).is_empty());
}

#[test]
fn a_peer_that_takes_nothing_is_waited_for_until_a_deadline_also_when_it_is_being_written_to() {
    let (mut shared, links, _peers) = shared(1);
    let blocked = shared.received(rt::now(), &links[0], b"never taken");
    assert_eq!(blocked.writes.len(), 1);
    shared.service.shutdown(rt::now());
    assert!(shared.collect(rt::now()).is_empty());
    let deadline = shared.set_alarm().unwrap();
    assert!(deadline <= rt::now() + Duration::from_secs(10));
    let work = shared.tick(deadline);
    assert_eq!((work.shuts.len(), shared.is_finished()), (1, true), "the writer that waits is woken");
}

#[test]
fn what_is_written_too_late_for_a_connection_that_is_gone_harms_nobody() {
    let (mut shared, links, _peers) = shared(2);
    let work = shared.received(rt::now(), &links[0], b"x");
    let lost = shared.read_ended(rt::now(), links[1].id, true);
    assert_eq!(lost.shuts.len(), 1, "its writer has to be woken");
    assert!(perform(&mut shared, lost).is_empty());
    assert!(perform(&mut shared, work).is_empty());
    assert!(shared.received(rt::now(), &links[1], b"y").is_empty());
}

fn engine() -> (Engine<Everybody>, SocketAddr) {
    let listen = Listen { host: "127.0.0.1".to_owned(), port: 0, tcp: true, udp: true };
    let bound = listen.bind().unwrap();
    let addr = bound.endpoints()[0].addr;
    (Engine::start(bound, |_| Everybody::default()).unwrap(), addr)
}

#[test]
fn an_engine_serves_until_it_is_shut_down() {
    let (engine, addr) = engine();
    let mut peer = TcpStream::connect(addr).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    peer.write_all(b"hello").unwrap();
    assert_eq!(read(&peer, 5), b"hello");
    assert_eq!(engine.look(|service| service.queues.len()), 1);
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    assert!(rt::block_on(engine.shutdown(SOON)));
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn every_socket_is_a_door_of_its_own_whatever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat");
    let mut doors = Doors::default();
    let urls = [
        "udp://127.0.0.1:0",
        "tcp://127.0.0.1:0",
        &format!("unix://{}", path.display()),
        "udp://127.0.0.1:0",
    ];
    urls.iter().for_each(|url| doors.add(&url.parse().unwrap()).unwrap());
    let names: Vec<String> = doors.list().into_iter().map(|door| door.name).collect();
    assert_eq!(names, ["udp", "tcp", "unix", "udp"]);
    let addrs: Vec<_> = doors.places().map(|place| place.address.clone()).collect();
    let addr = |nth: usize| match &addrs[nth] {
        Address::Ip(addr) => *addr,
        Address::File(path) => panic!("{} has a path", path.display()),
    };
    let engine = Engine::start(doors, |_| Everybody::default()).unwrap();
    let mut local = UnixStream::connect(&path).unwrap();
    local.set_read_timeout(Some(SOON)).unwrap();
    local.write_all(b"one").unwrap();
    local.read_exact(&mut [0; 3]).unwrap();
    let remote = TcpStream::connect(addr(1)).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    for nth in [3, 0] {
        datagrams.send_to(b"two", addr(nth)).unwrap();
        local.read_exact(&mut [0; 3]).unwrap();
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let from = Remote::Ip(remote.local_addr().unwrap());
    let origins = [Origin { door: 2, from: Remote::Unix { uid, gid } }, Origin { door: 1, from }];
    let peers = [3, 0].map(|door| Peer { door, addr: datagrams.local_addr().unwrap() });
    rt::block_on(rt::before(rt::now() + SOON, async {
        while engine.look(|service| service.origins.len()) < 2 {
            rt::yield_now().await;
        }
    }));
    engine.look(|service| assert_eq!((&service.origins[..], &service.peers[..]), (&origins[..], &peers[..])));
    drop((local, remote));
    assert!(rt::block_on(engine.shutdown(SOON)));
    assert!(!path.exists());
}

#[test]
fn who_waits_for_room_is_told_once_a_socket_has_been_closed_and_not_before() {
    let (mut shared, mut links, mut peers) = shared(1);
    let mut freed = shared.freed().listen();
    let work = shared.read_ended(rt::now(), links[0].id, true);
    assert!(perform(&mut shared, work).is_empty());
    let is_told = |freed: &mut EventListener| freed.now_or_never().is_some();
    assert!(!is_told(&mut freed), "its reader still has it");
    links.clear();
    assert!(is_told(&mut freed));
    assert_eq!(peers[0].read(&mut [0]).unwrap(), 0);
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn the_system_takes_little_of_a_connection_that_it_cannot_send() {
    let (_, addr) = engine();
    let peer = TcpStream::connect(addr).unwrap();
    let socket = socket2::Socket::from(peer);
    prepare(&socket).unwrap();
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 << 10);
}

#[test]
fn a_panic_of_the_service_is_noticed_at_once() {
    let (engine, addr) = engine();
    TcpStream::connect(addr).unwrap().write_all(b"panic").unwrap();
    let noticed = rt::block_on(rt::before(rt::now() + SOON, engine.failed()));
    assert!(noticed.is_some());
}
