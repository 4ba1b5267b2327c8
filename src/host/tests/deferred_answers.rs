//! Answers that come later, the peer of a closed connection, and callbacks that are not written.

use super::*;

#[test]
fn a_held_connection_gets_its_answers_after_its_peer_has_closed_its_side() {
    let mut net = Net::new(Settings::default());
    net.recorder().on_message = Some(|cx, conn, _| cx.hold(conn));
    let conn = net.knock(LINES);
    net.send(conn, b"one\n");
    net.send(conn, b"two\n");
    net.end(conn);
    let line = |text: &[u8]| Told::Message(0, text.to_vec());
    assert_eq!(net.told(), [Told::Opened(0, None, false), line(b"one"), line(b"two")], "input goes on");
    net.act(|cx| {
        cx.send(conn, b"first").unwrap();
        cx.release(conn);
    });
    assert_eq!((net.told(), net.got(conn)), (vec![Told::Drained(0)], b"first\n".to_vec()));
    net.act(|cx| cx.send(conn, b"second").unwrap());
    assert_eq!((net.told(), net.got(conn)), (vec![Told::Drained(0)], b"second\n".to_vec()));
    net.act(|cx| cx.release(conn));
    assert_eq!(net.told(), [Told::Ended(0), Told::Closed(0, CloseReason::Peer)]);
    assert!(net.fars.is_empty());
}

#[test]
fn a_release_without_a_hold_and_a_hold_of_a_closed_connection_do_nothing() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(LINES);
    net.act(|cx| cx.release(conn));
    net.act(|cx| cx.hold(conn));
    net.act(|cx| cx.release(conn));
    net.told();
    net.end(conn);
    assert_eq!(net.told(), [Told::Ended(0), Told::Closed(0, CloseReason::Peer)]);
    net.act(|cx| cx.hold(conn));
    net.act(|cx| cx.release(conn));
    assert_eq!(net.told(), []);
}

#[test]
fn a_held_connection_is_closed_when_the_handler_closes_it() {
    let mut net = Net::new(Settings::default());
    let conn = net.knock(LINES);
    net.act(|cx| cx.hold(conn));
    net.end(conn);
    net.told();
    net.act(|cx| {
        cx.send(conn, b"no answer").unwrap();
        cx.close(conn);
    });
    assert!(matches!(net.told()[..], [Told::Closed(0, _)]));
    assert!(net.fars.is_empty());
}

/// Keeps what `closed` can see.
#[derive(Default)]
struct Last(Vec<End>);

/// The name of a closed peer, the outcome of a send to it, and the connection of its name.
type End = (Option<String>, Result<(), SendError>, Option<ConnId>);

impl Handler for Last {
    fn closed(&mut self, cx: &mut Context<'_>, conn: ConnId, _why: CloseReason) {
        let name = cx.peer(conn).and_then(|peer| peer.name().map(str::to_owned));
        self.0.push((name, cx.send(conn, b"too late"), cx.find("ada")));
    }
}

#[expect(clippy::disallowed_methods, reason = "any beginning will do")]
fn open<H: Handler>(host: &mut Host<H>, listener: usize) -> (Instant, ConnId) {
    let (now, conn) = (Instant::now(), ConnId::new(0, 0));
    let from = Remote::Ip(([192, 0, 2, 1], 4_000).into());
    drop(host.opened(now, conn, Origin { listener, from }.into()));
    (now, conn)
}

#[test]
fn the_name_of_a_closed_peer_is_known_until_the_handler_was_told() {
    let mut host = Host::new(Settings::default(), listeners(), Last::default());
    let (now, conn) = open(&mut host, MESSAGES);
    host.received(now, conn, &message(b"ada"));
    assert_eq!(host.find("ada"), Some(conn));
    host.closed(now, conn, CloseReason::Lost);
    assert_eq!(host.handler().0, [(Some("ada".to_owned()), Err(SendError::Gone), None)]);
    assert!(host.peer(conn).is_none());
}

/// Has no callback for any input.
struct Deaf;

impl Handler for Deaf {}

#[test]
fn a_connection_whose_callback_is_not_written_is_closed() {
    for (listener, input) in [(BYTES, &b"x"[..]), (LINES, b"line\n"), (FRAMES, b"BYE 0000")] {
        let mut host = Host::new(Settings::default(), listeners(), Deaf);
        let (now, conn) = open(&mut host, listener);
        host.received(now, conn, input);
        assert!(host.is_closing(conn), "listener {listener}");
        assert_eq!(host.memory(), (0, 0), "listener {listener}");
    }
}
