//! The engine with a service that knows no chat: what anybody sends goes to everybody.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;

use super::engine::{Link, Outcome, Port, Progress, Shared, Socket, TURN, Work, prepare};
use super::listen::Address;
use super::rt;
use super::{Doors, Engine, EngineKind, Listen};
use crate::door::Framing;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Decoder, Flow, Origin, Peer, Remote, Service, Transmit};

const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Everybody {
    queues: BTreeMap<ConnId, Vec<u8>>,
    origins: Vec<Origin>,
    peers: Vec<Peer>,
    woken: VecDeque<ConnId>,
    closing: bool,
    /// How much `fill` gives at most, where it is to be little.
    at_once: Option<usize>,
    /// Says how many there are of it.
    _token: Arc<()>,
}

impl Everybody {
    /// Says something to one alone.
    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        self.queues.get_mut(&conn).expect("it is there").extend_from_slice(bytes);
        self.woken.push_back(conn);
    }
}

#[derive(Debug)]
struct Verbatim;

impl Decoder for Verbatim {
    type Batch<'a> = &'a [u8];

    fn received<'a>(&'a mut self, _now: Instant, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }
}

impl Service for Everybody {
    type Conn = Verbatim;

    fn opened(&mut self, _now: Instant, conn: ConnId, arrival: Arrival) -> Verbatim {
        let Arrival::Accepted(origin) = arrival else { panic!("nobody was dialed") };
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

    fn closed(&mut self, _now: Instant, conn: ConnId, _why: CloseReason) {
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
        let queue = self.queues.get_mut(&conn).expect("named again after it was closed");
        let rest = queue.split_off(self.at_once.unwrap_or(queue.len()).min(queue.len()));
        out.append(std::mem::replace(queue, rest));
        Flow { more: !queue.is_empty(), reading: !self.closing, closing: self.closing, busy: false }
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

/// A socket that nobody waits for.
#[derive(Debug)]
struct Plain(Socket);

impl Port for Plain {
    fn socket(&self) -> &Socket {
        &self.0
    }
}

type PlainLink = Arc<Link<Plain>>;

/// The state behind the lock with so many connections, and the peers' ends of those.
fn shared(connections: usize) -> (Shared<Everybody, Plain>, Vec<PlainLink>, Vec<TcpStream>) {
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
fn connect(shared: &mut Shared<Everybody, Plain>) -> (PlainLink, Work<Plain>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    let (socket, addr) = listener.accept().unwrap();
    let origin = Origin { door: 0, from: Remote::Ip(addr) };
    let (link, Verbatim) = shared.open(rt::now(), origin.into(), |_| Plain(socket.into()));
    (link, collect(shared, |_, _| ()), peer)
}

/// Does something, and takes what became sendable.
fn collect(
    shared: &mut Shared<Everybody, Plain>,
    act: impl FnOnce(&mut Shared<Everybody, Plain>, &mut Work<Plain>),
) -> Work<Plain> {
    let mut work = Work::default();
    act(shared, &mut work);
    shared.collect(rt::now(), &mut work);
    work
}

fn received(shared: &mut Shared<Everybody, Plain>, link: &PlainLink, batch: &[u8]) -> Work<Plain> {
    collect(shared, |shared, work| shared.received(rt::now(), link, batch, work))
}

fn read_ended(shared: &mut Shared<Everybody, Plain>, link: &PlainLink, is_lost: bool) -> Work<Plain> {
    collect(shared, |shared, work| shared.read_ended(rt::now(), link.id, is_lost, work))
}

/// Does the writing, none of which may block, and reports it.
fn perform(shared: &mut Shared<Everybody, Plain>, work: Work<Plain>) -> Work<Plain> {
    let mut outcome = Outcome::default();
    for mut write in work.writes {
        match write.advance(MsgFlags::MSG_DONTWAIT) {
            Progress::Done(done) => outcome.written.push(done),
            Progress::Blocked => panic!("a few bytes have room in any socket"),
        }
    }
    for (link, how) in work.shuts {
        link.shut(how);
    }
    collect(shared, |shared, work| shared.settle(rt::now(), &mut outcome, work))
}

fn read(mut peer: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn who_finds_a_connection_being_written_to_only_queues_and_the_writer_looks_again() {
    let (mut shared, links, peers) = shared(1);
    let first = received(&mut shared, &links[0], b"first");
    assert_eq!(first.writes.len(), 1);
    assert!(received(&mut shared, &links[0], b"second").is_empty());
    assert!(received(&mut shared, &links[0], b"third").is_empty());
    let second = perform(&mut shared, first);
    assert_eq!(second.writes.len(), 1);
    assert!(perform(&mut shared, second).is_empty());
    assert_eq!(read(&peers[0], 16), b"firstsecondthird");
    assert_eq!(received(&mut shared, &links[0], b"fourth").writes.len(), 1);
}

#[test]
fn one_turn_writes_to_so_many_sockets_and_the_next_goes_on() {
    let (mut shared, links, _peers) = shared(TURN + 3);
    let work = received(&mut shared, &links[0], b"x");
    assert_eq!(work.writes.len(), TURN);
    let work = perform(&mut shared, work);
    assert_eq!(work.writes.len(), 3);
    assert!(perform(&mut shared, work).is_empty());
}

#[test]
fn those_who_always_have_more_do_not_take_all_the_turns() {
    let (mut shared, links, peers) = shared(TURN + 1);
    let (quiet, loud) = links.split_last().unwrap();
    shared.service.at_once = Some(1);
    loud.iter().for_each(|link| shared.service.say(link.id, b"123456789"));
    let mut work = collect(&mut shared, |_, _| ());
    assert_eq!(work.writes.len(), TURN);
    shared.service.say(quiet.id, b"x");
    for _ in 0..2 {
        work = perform(&mut shared, work);
        assert!(work.writes.len() <= TURN);
    }
    assert_eq!(read(&peers[TURN], 1), b"x");
    while !work.is_empty() {
        work = perform(&mut shared, work);
    }
    for peer in &peers[..TURN] {
        assert_eq!(read(peer, 9), b"123456789");
    }
}

#[test]
fn one_turn_gives_up_so_many_connections_and_the_next_goes_on() {
    let (mut shared, _links, _peers) = shared(TURN + 3);
    shared.service.shutdown(rt::now());
    let mut work = collect(&mut shared, |_, _| ());
    while !work.is_empty() {
        work = perform(&mut shared, work);
    }
    let late = rt::now() + Duration::from_secs(60);
    for count in [TURN, 3] {
        assert!(shared.set_alarm().unwrap() <= late, "it comes again at once");
        let work = collect(&mut shared, |shared, work| shared.tick(late, work));
        assert_eq!(work.shuts.len(), count);
    }
    assert!(shared.is_finished());
}

#[test]
fn a_connection_that_is_to_be_closed_is_first_written_then_shut_then_forgotten() {
    let (mut shared, links, mut peers) = shared(1);
    let work = received(&mut shared, &links[0], b"goodbye");
    shared.service.shutdown(rt::now());
    let work = perform(&mut shared, work);
    assert_eq!((work.writes.len(), work.shuts.len()), (0, 1));
    assert!(perform(&mut shared, work).is_empty());
    let mut last_words = Vec::new();
    peers[0].read_to_end(&mut last_words).unwrap();
    assert_eq!(last_words, b"goodbye");
    assert!(!shared.is_finished());
    assert!(read_ended(&mut shared, &links[0], false).is_empty());
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
    let work = collect(&mut shared, |_, _| ());
    assert!(perform(&mut shared, work).is_empty());
    let deadline = shared.set_alarm().unwrap();
    assert!(
        collect(&mut shared, |shared, work| shared.tick(deadline - Duration::from_millis(1), work))
            .is_empty()
    );
    assert!(!shared.is_finished());
    let work = collect(&mut shared, |shared, work| shared.tick(deadline, work));
    assert_eq!(work.shuts.len(), 1);
    assert!(shared.is_finished());
    assert!(read_ended(&mut shared, &links[0], true).is_empty());
}

#[test]
fn a_peer_that_takes_nothing_is_waited_for_until_a_deadline_also_when_it_is_being_written_to() {
    let (mut shared, links, _peers) = shared(1);
    let blocked = received(&mut shared, &links[0], b"never taken");
    assert_eq!(blocked.writes.len(), 1);
    shared.service.shutdown(rt::now());
    assert!(collect(&mut shared, |_, _| ()).is_empty());
    let deadline = shared.set_alarm().unwrap();
    assert!(deadline <= rt::now() + Duration::from_secs(10));
    let work = collect(&mut shared, |shared, work| shared.tick(deadline, work));
    assert_eq!((work.shuts.len(), shared.is_finished()), (1, true), "the writer that waits is woken");
}

#[test]
fn what_is_written_too_late_for_a_connection_that_is_gone_harms_nobody() {
    let (mut shared, links, _peers) = shared(2);
    let work = received(&mut shared, &links[0], b"x");
    let lost = read_ended(&mut shared, &links[1], true);
    assert_eq!(lost.shuts.len(), 1, "its writer has to be woken");
    assert!(perform(&mut shared, lost).is_empty());
    assert!(perform(&mut shared, work).is_empty());
    assert!(received(&mut shared, &links[1], b"y").is_empty());
}

fn engine(kind: EngineKind) -> (Engine<Everybody>, SocketAddr) {
    let listen = Listen { host: "127.0.0.1".to_owned(), port: 0, tcp: true, udp: true };
    let bound = listen.bind().unwrap();
    let addr = bound.endpoints()[0].addr;
    (Engine::start(kind, bound, |_| Everybody::default()).unwrap(), addr)
}

#[test]
fn an_engine_serves_until_it_is_shut_down() {
    for kind in EngineKind::ALL {
        let (engine, addr) = engine(kind);
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
}

#[test]
fn an_engine_that_was_shut_down_has_let_go_of_its_sockets_and_can_still_be_looked_at() {
    for kind in EngineKind::ALL {
        let listen = Listen { host: "127.0.0.1".to_owned(), port: 0, tcp: true, udp: true };
        let (bound, token) = (listen.bind().unwrap(), Arc::new(()));
        let addr = bound.endpoints()[0].addr;
        let service = Everybody { _token: token.clone(), ..Everybody::default() };
        let engine = Engine::start(kind, bound, |_| service).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", addr).unwrap();
        assert!(rt::block_on(engine.shutdown(SOON)));
        let _udp = UdpSocket::bind(addr).unwrap();
        let _tcp = TcpListener::bind(addr).unwrap();
        assert!(engine.look(Service::is_finished), "{kind}");
        engine.change(|service, _| service.woken.clear());
        assert!(rt::block_on(engine.shutdown(SOON)), "{kind} has ended already");
        drop(engine);
        let gone = rt::block_on(rt::before(rt::now() + SOON, async {
            while Arc::strong_count(&token) > 1 {
                rt::yield_now().await;
            }
        }));
        assert!(gone.is_some(), "{kind}: nobody works for it any more");
    }
}

#[test]
fn who_takes_nothing_until_the_limit_of_a_shutdown_is_given_up() {
    for kind in EngineKind::ALL {
        let (engine, addr) = engine(kind);
        let mut peers = [(); 3].map(|()| TcpStream::connect(addr).unwrap());
        // More than the system takes of a connection whose peer does not read.
        peers[0].write_all(&vec![b'x'; 1 << 20]).unwrap();
        rt::block_on(rt::before(rt::now() + SOON, async {
            while engine.look(|service| service.queues.len()) < peers.len() {
                rt::yield_now().await;
            }
        }));
        engine.change(|service, _| {
            let conns: Vec<ConnId> = service.queues.keys().copied().collect();
            conns.into_iter().for_each(|conn| service.say(conn, &vec![b'y'; 16 << 20]));
        });
        assert!(!rt::block_on(engine.shutdown(Duration::from_millis(50))), "{kind}");
        let _udp = UdpSocket::bind(addr).unwrap();
        let _tcp = TcpListener::bind(addr).unwrap();
        assert_eq!(engine.look(|service| service.queues.len()), 0, "{kind}: all are closed");
        for peer in &mut peers {
            peer.set_read_timeout(Some(SOON)).unwrap();
            let mut rest = Vec::new();
            let end = peer.read_to_end(&mut rest);
            let is_late =
                |kind| matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
            assert!(!end.is_err_and(|error| is_late(error.kind())), "{kind} has closed its end");
        }
    }
}

#[test]
fn every_socket_is_a_door_of_its_own_whatever_it_is() {
    for kind in EngineKind::ALL {
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
        let engine = Engine::start(kind, doors, |_| Everybody::default()).unwrap();
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
        let peers = [3, 0].map(|door| Peer::new(door, datagrams.local_addr().unwrap()));
        rt::block_on(rt::before(rt::now() + SOON, async {
            while engine.look(|service| service.origins.len()) < 2 {
                rt::yield_now().await;
            }
        }));
        engine.look(|service| {
            assert_eq!((&service.origins[..], &service.peers[..]), (&origins[..], &peers[..]))
        });
        drop((local, remote));
        assert!(rt::block_on(engine.shutdown(SOON)));
        assert!(!path.exists());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_system_takes_little_of_a_connection_that_it_cannot_send() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let listener = Socket::from(listener);
    prepare(&listener, Framing::Frames).unwrap();
    let _peer = TcpStream::connect(addr).unwrap();
    let (socket, _) = listener.accept().unwrap();
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 << 10);
    // It would cut off a peer that answers every window probe.
    assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
}

#[test]
fn a_panic_of_the_service_is_noticed_at_once() {
    for kind in EngineKind::ALL {
        let (engine, addr) = engine(kind);
        TcpStream::connect(addr).unwrap().write_all(b"panic").unwrap();
        let noticed = rt::block_on(rt::before(rt::now() + SOON, engine.failed()));
        assert!(noticed.is_some());
    }
}

#[test]
fn an_engine_is_printed_as_it_is_typed_and_another_is_refused_in_one_line() {
    for kind in EngineKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "select".parse::<EngineKind>().unwrap_err().to_string();
    assert_eq!(error, "`select` is no engine; write tasks, poll, threads");
}
