//! Tests of the engines with a service that sends all input to all connections.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;

use super::engine::{
    Connection, IoResults, PendingIo, Port, Progress, SOCKET_BUDGET, Shared, Socket, prepare,
};
use super::listen::Address;
use super::rt;
use super::{Engine, EngineKind, Listen, Listeners};
use crate::listener::Framing;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Decoder, Flow, Origin, Peer, Remote, Service, Transmit};

const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Broadcast {
    queues: BTreeMap<ConnId, Vec<u8>>,
    origins: Vec<Origin>,
    peers: Vec<Peer>,
    woken: VecDeque<ConnId>,
    closing: bool,
    /// Limit of the bytes that `fill` returns, if it is to be small.
    at_once: Option<usize>,
    /// Counts the live instances.
    _token: Arc<()>,
}

impl Broadcast {
    /// Sends to one connection.
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

impl Service for Broadcast {
    type Conn = Verbatim;

    fn opened(&mut self, _now: Instant, conn: ConnId, arrival: Arrival) -> Verbatim {
        let Arrival::Accepted(origin) = arrival else { panic!("nothing was dialled") };
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

/// A socket of no engine.
#[derive(Debug)]
struct Plain(Socket);

impl Port for Plain {
    fn socket(&self) -> &Socket {
        &self.0
    }
}

type PlainConnection = Arc<Connection<Plain>>;

/// The state under the lock with that many connections, and their peers' ends.
fn shared(count: usize) -> (Shared<Broadcast, Plain>, Vec<PlainConnection>, Vec<TcpStream>) {
    let mut shared = Shared::new(Broadcast::default());
    let (mut connections, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (connection, pending, peer) = connect(&mut shared);
        assert!(perform(&mut shared, pending).is_empty());
        connections.push(connection);
        peers.push(peer);
    }
    (shared, connections, peers)
}

/// A new connection, its pending I/O, and its peer's end.
fn connect(shared: &mut Shared<Broadcast, Plain>) -> (PlainConnection, PendingIo<Plain>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    let (socket, addr) = listener.accept().unwrap();
    let origin = Origin { listener: 0, from: Remote::Ip(addr) };
    let (connection, Verbatim) = shared.open(rt::now(), origin.into(), |_| Plain(socket.into()));
    (connection, collect(shared, |_, _| ()), peer)
}

/// Calls `act`, and takes what became sendable.
fn collect(
    shared: &mut Shared<Broadcast, Plain>,
    act: impl FnOnce(&mut Shared<Broadcast, Plain>, &mut PendingIo<Plain>),
) -> PendingIo<Plain> {
    let mut pending = PendingIo::default();
    act(shared, &mut pending);
    shared.collect(rt::now(), &mut pending);
    pending
}

fn received(
    shared: &mut Shared<Broadcast, Plain>,
    connection: &PlainConnection,
    batch: &[u8],
) -> PendingIo<Plain> {
    collect(shared, |shared, pending| shared.received(rt::now(), connection, batch, pending))
}

fn read_ended(
    shared: &mut Shared<Broadcast, Plain>,
    connection: &PlainConnection,
    is_lost: bool,
) -> PendingIo<Plain> {
    collect(shared, |shared, pending| shared.read_ended(rt::now(), connection.id, is_lost, pending))
}

/// Does the pending I/O, none of which may block, and applies the results.
fn perform(shared: &mut Shared<Broadcast, Plain>, pending: PendingIo<Plain>) -> PendingIo<Plain> {
    let mut results = IoResults::default();
    for mut write in pending.writes {
        match write.advance(MsgFlags::MSG_DONTWAIT) {
            Progress::Done(done) => results.written.push(done),
            Progress::Blocked => panic!("a few bytes have room in any socket"),
        }
    }
    for (connection, how) in pending.shuts {
        connection.shut(how);
    }
    collect(shared, |shared, pending| shared.apply_results(rt::now(), &mut results, pending))
}

fn read(mut peer: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn output_during_a_write_is_queued_and_taken_by_the_writer() {
    let (mut shared, connections, peers) = shared(1);
    let first = received(&mut shared, &connections[0], b"first");
    assert_eq!(first.writes.len(), 1);
    assert!(received(&mut shared, &connections[0], b"second").is_empty());
    assert!(received(&mut shared, &connections[0], b"third").is_empty());
    let second = perform(&mut shared, first);
    assert_eq!(second.writes.len(), 1);
    assert!(perform(&mut shared, second).is_empty());
    assert_eq!(read(&peers[0], 16), b"firstsecondthird");
    assert_eq!(received(&mut shared, &connections[0], b"fourth").writes.len(), 1);
}

#[test]
fn a_turn_writes_to_a_limited_number_of_sockets() {
    let (mut shared, connections, _peers) = shared(SOCKET_BUDGET + 3);
    let pending = received(&mut shared, &connections[0], b"x");
    assert_eq!(pending.writes.len(), SOCKET_BUDGET);
    let pending = perform(&mut shared, pending);
    assert_eq!(pending.writes.len(), 3);
    assert!(perform(&mut shared, pending).is_empty());
}

#[test]
fn connections_that_always_have_more_output_do_not_take_every_turn() {
    let (mut shared, connections, peers) = shared(SOCKET_BUDGET + 1);
    let (quiet, loud) = connections.split_last().unwrap();
    shared.service.at_once = Some(1);
    loud.iter().for_each(|connection| shared.service.say(connection.id, b"123456789"));
    let mut pending = collect(&mut shared, |_, _| ());
    assert_eq!(pending.writes.len(), SOCKET_BUDGET);
    shared.service.say(quiet.id, b"x");
    for _ in 0..2 {
        pending = perform(&mut shared, pending);
        assert!(pending.writes.len() <= SOCKET_BUDGET);
    }
    assert_eq!(read(&peers[SOCKET_BUDGET], 1), b"x");
    while !pending.is_empty() {
        pending = perform(&mut shared, pending);
    }
    for peer in &peers[..SOCKET_BUDGET] {
        assert_eq!(read(peer, 9), b"123456789");
    }
}

#[test]
fn a_turn_closes_a_limited_number_of_overdue_connections() {
    let (mut shared, _links, _peers) = shared(SOCKET_BUDGET + 3);
    shared.service.shutdown(rt::now());
    let mut pending = collect(&mut shared, |_, _| ());
    while !pending.is_empty() {
        pending = perform(&mut shared, pending);
    }
    let late = rt::now() + Duration::from_secs(60);
    for count in [SOCKET_BUDGET, 3] {
        assert!(shared.set_alarm().unwrap() <= late, "it comes again at once");
        let pending = collect(&mut shared, |shared, pending| shared.tick(late, pending));
        assert_eq!(pending.shuts.len(), count);
    }
    assert!(shared.is_finished());
}

#[test]
fn a_closing_connection_is_written_then_shut_down_then_removed() {
    let (mut shared, connections, mut peers) = shared(1);
    let pending = received(&mut shared, &connections[0], b"bye");
    shared.service.shutdown(rt::now());
    let pending = perform(&mut shared, pending);
    assert_eq!((pending.writes.len(), pending.shuts.len()), (0, 1));
    assert!(perform(&mut shared, pending).is_empty());
    let mut output = Vec::new();
    peers[0].read_to_end(&mut output).unwrap();
    assert_eq!(output, b"bye");
    assert!(!shared.is_finished());
    assert!(read_ended(&mut shared, &connections[0], false).is_empty());
    assert!(shared.is_finished());
}

#[test]
fn a_refused_connection_gets_its_message_and_is_closed_at_once() {
    let (mut shared, _, _) = shared(0);
    shared.service.shutdown(rt::now());
    let (connection, pending, mut peer) = connect(&mut shared);
    assert_eq!(pending.writes.len(), 1);
    let pending = perform(&mut shared, pending);
    assert!(shared.is_finished(), "it is forgotten although its peer has not closed its side");
    assert!(perform(&mut shared, pending).is_empty());
    assert_eq!(shared.set_alarm(), None);
    drop(connection);
    let mut output = Vec::new();
    peer.read_to_end(&mut output).unwrap();
    assert_eq!(output, b"full");
}

#[test]
fn a_peer_that_never_closes_its_side_is_waited_for_until_a_deadline() {
    let (mut shared, connections, _peers) = shared(1);
    shared.service.shutdown(rt::now());
    let pending = collect(&mut shared, |_, _| ());
    assert!(perform(&mut shared, pending).is_empty());
    let deadline = shared.set_alarm().unwrap();
    assert!(
        collect(&mut shared, |shared, pending| shared.tick(deadline - Duration::from_millis(1), pending))
            .is_empty()
    );
    assert!(!shared.is_finished());
    let pending = collect(&mut shared, |shared, pending| shared.tick(deadline, pending));
    assert_eq!(pending.shuts.len(), 1);
    assert!(shared.is_finished());
    assert!(read_ended(&mut shared, &connections[0], true).is_empty());
}

#[test]
fn a_peer_that_reads_nothing_is_waited_for_until_a_deadline_also_during_a_write() {
    let (mut shared, connections, _peers) = shared(1);
    let blocked = received(&mut shared, &connections[0], b"never taken");
    assert_eq!(blocked.writes.len(), 1);
    shared.service.shutdown(rt::now());
    assert!(collect(&mut shared, |_, _| ()).is_empty());
    let deadline = shared.set_alarm().unwrap();
    assert!(deadline <= rt::now() + Duration::from_secs(10));
    let pending = collect(&mut shared, |shared, pending| shared.tick(deadline, pending));
    assert_eq!((pending.shuts.len(), shared.is_finished()), (1, true), "the writer that waits is woken");
}

#[test]
fn the_result_of_a_write_to_a_closed_connection_is_ignored() {
    let (mut shared, connections, _peers) = shared(2);
    let pending = received(&mut shared, &connections[0], b"x");
    let lost = read_ended(&mut shared, &connections[1], true);
    assert_eq!(lost.shuts.len(), 1, "its writer has to be woken");
    assert!(perform(&mut shared, lost).is_empty());
    assert!(perform(&mut shared, pending).is_empty());
    assert!(received(&mut shared, &connections[1], b"y").is_empty());
}

fn engine(kind: EngineKind) -> (Engine<Broadcast>, SocketAddr) {
    let listen = Listen { host: "127.0.0.1".to_owned(), port: 0, tcp: true, udp: true };
    let bound = listen.bind().unwrap();
    let addr = bound.endpoints()[0].addr;
    (Engine::start(kind, bound, |_| Broadcast::default()).unwrap(), addr)
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
fn an_engine_after_shutdown_has_closed_its_sockets_and_its_service_can_be_read() {
    for kind in EngineKind::ALL {
        let listen = Listen { host: "127.0.0.1".to_owned(), port: 0, tcp: true, udp: true };
        let (bound, token) = (listen.bind().unwrap(), Arc::new(()));
        let addr = bound.endpoints()[0].addr;
        let service = Broadcast { _token: token.clone(), ..Broadcast::default() };
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
        assert!(gone.is_some(), "{kind}: no thread or task is left");
    }
}

#[test]
fn a_peer_that_reads_nothing_is_closed_at_the_limit_of_a_shutdown() {
    for kind in EngineKind::ALL {
        let (engine, addr) = engine(kind);
        let mut peers = [(); 3].map(|()| TcpStream::connect(addr).unwrap());
        // More than the system buffers for a connection whose peer does not read.
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
fn every_socket_of_any_kind_is_a_listener_with_its_own_ordinal() {
    for kind in EngineKind::ALL {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chat");
        let mut listeners = Listeners::default();
        let urls = [
            "udp://127.0.0.1:0",
            "tcp://127.0.0.1:0",
            &format!("unix://{}", path.display()),
            "udp://127.0.0.1:0",
        ];
        urls.iter().for_each(|url| listeners.add(&url.parse().unwrap()).unwrap());
        let names: Vec<String> = listeners.list().into_iter().map(|listener| listener.name).collect();
        assert_eq!(names, ["udp", "tcp", "unix", "udp"]);
        let addrs: Vec<_> = listeners.addrs().map(|addr| addr.address.clone()).collect();
        let addr = |nth: usize| match &addrs[nth] {
            Address::Ip(addr) => *addr,
            Address::File(path) => panic!("{} has a path", path.display()),
        };
        let engine = Engine::start(kind, listeners, |_| Broadcast::default()).unwrap();
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
        let origins = [Origin { listener: 2, from: Remote::Unix { uid, gid } }, Origin { listener: 1, from }];
        let peers = [3, 0].map(|listener| Peer::new(listener, datagrams.local_addr().unwrap()));
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
fn the_system_buffers_little_for_a_connection_that_it_cannot_send() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let listener = Socket::from(listener);
    prepare(&listener, Framing::Frames).unwrap();
    let _peer = TcpStream::connect(addr).unwrap();
    let (socket, _) = listener.accept().unwrap();
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 << 10);
    // It would close a peer that answers every window probe.
    assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
}

#[test]
fn a_panic_of_the_service_is_reported_at_once() {
    for kind in EngineKind::ALL {
        let (engine, addr) = engine(kind);
        TcpStream::connect(addr).unwrap().write_all(b"panic").unwrap();
        let noticed = rt::block_on(rt::before(rt::now() + SOON, engine.failed()));
        assert!(noticed.is_some());
    }
}

#[test]
fn an_engine_name_reads_back_and_an_unknown_one_is_refused_in_one_line() {
    for kind in EngineKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "select".parse::<EngineKind>().unwrap_err().to_string();
    assert_eq!(error, "`select` is not an engine; write tasks, poll, threads");
}
