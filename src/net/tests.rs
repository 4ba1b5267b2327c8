//! Tests of the engines with a service that sends all input to all connections. `turns` tests their state without one.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::{Socket, prepare};
use super::listen::Address;
use super::rt;
use super::{Engine, EngineKind, Listen, Listeners};
use crate::listener::Framing;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Decoder, Flow, Origin, Peer, Remote, Service, Transmit};

mod turns;

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

fn read(mut peer: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).unwrap();
    bytes
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
