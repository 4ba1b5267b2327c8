//! Tests of the state under an engine's lock, one call at a time, with sockets outside any engine. Whole engines are
//! tested in the parent module.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::MsgFlags;

use super::{Broadcast, SOON, Verbatim, read};
use crate::net::engine::{Connection, IoResults, PendingIo, Port, Progress, SOCKET_BUDGET, Shared, Socket};
use crate::net::rt;
use crate::service::{Origin, Remote, Service as _};

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
