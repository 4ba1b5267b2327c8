//! The library's client ([`sayagain::net::Client`]), asynchronous and blocking, over loopback and UNIX sockets.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use crate::support::{TestServer, eventually};
use futures::executor::block_on;
use futures::future::{join, join_all};
use futures::{StreamExt as _, poll};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::client::{Closed, Names};
use sayagain::config::ServerConfig;
use sayagain::net::client::{Builder, Client, ConnectError, Ending, Event, Events, Request};
use sayagain::net::{Engine, EngineKind, Listeners, blocking};
use sayagain::reliable::{Backoff, Outcome};
use sayagain::server::Server;
use sayagain::wire::Verb;

const MODES: [&str; 2] = ["tcp", "udp"];

fn server() -> TestServer {
    TestServer::start(ServerConfig::default())
}

/// A policy that does not retransmit on a link without loss.
fn calm() -> Backoff {
    Backoff::new(Duration::from_secs(2)).with_max_sends(15)
}

/// A policy that quickly recovers from any loss of these tests.
fn persistent() -> Backoff {
    Backoff::new(Duration::from_millis(5)).with_max_sends(300)
}

/// A policy with one send.
fn hasty() -> Backoff {
    Backoff::new(Duration::from_millis(100)).with_max_sends(1)
}

/// A policy that waits for as long as a test may take.
fn single_send() -> Backoff {
    Backoff::new(crate::support::STEP_TIMEOUT).with_max_sends(1)
}

fn at(server: &TestServer, mode: &str) -> Builder {
    Client::builder(format!("{mode}://{}", server.addr)).policy(calm()).seed(1)
}

/// A client for links that drop with probability 0.5, or for a server that is away for a while.
fn through(server: &TestServer, mode: &str) -> Builder {
    at(server, mode).policy(persistent())
}

fn ok() -> Outcome {
    Outcome::Acked(Vec::new())
}

fn message(sender: &str, room: Option<&str>, body: &str) -> Event {
    Event::Message { sender: sender.into(), room: room.map(Into::into), body: body.into() }
}

/// The next event that is not a retry. Panics after a timeout.
async fn next(events: &mut Events) -> Event {
    loop {
        match events.next().await {
            Some(Event::Retry { .. } | Event::SlowDown { .. }) => {}
            Some(event) => return event,
            None => panic!("the events are over"),
        }
    }
}

/// The last event. If the answer to BYE was lost, the client sends it again and finds its session gone.
async fn last(events: Events) -> Event {
    events.collect::<Vec<_>>().await.pop().unwrap()
}

fn names(outcome: Outcome) -> Vec<String> {
    let Outcome::Acked(payload) = outcome else { panic!("{outcome:?}") };
    let mut names: Vec<String> =
        Names::read(&payload).names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect();
    names.sort();
    names
}

async fn converse(alice: Builder, bob: Builder) {
    let (alice, to_alice) = alice.name("alice").connect().await.unwrap();
    let (bob, mut to_bob) = bob.name("bob").connect().await.unwrap();
    assert_eq!((alice.join("#tea").await, bob.join("#tea").await), (ok(), ok()));
    for i in 0..10 {
        assert_eq!(alice.send("bob", format!("direct {i}")).await, ok());
        assert_eq!(alice.send("#tea", format!("to all {i}")).await, ok());
    }
    for i in 0..10 {
        assert_eq!(next(&mut to_bob).await, message("alice", None, &format!("direct {i}")));
        assert_eq!(next(&mut to_bob).await, message("alice", Some("#tea"), &format!("to all {i}")));
    }
    assert_eq!(names(bob.list(None).await), ["alice", "bob"]);
    assert_eq!(bob.leave("#tea").await, ok());
    assert_eq!(names(alice.list(Some("#tea")).await), ["alice"]);
    assert!(matches!(alice.ping().await, Outcome::Acked(_)));
    let Ending { closed, stats } = bob.close().await;
    assert_eq!((closed, stats.discarded), (Closed::Done, 0));
    assert_eq!(last(to_bob).await, Event::Closed(Closed::Done));
    assert!(matches!(alice.send("bob", "gone?").await, Outcome::Rejected(404, _)));
    assert_eq!(alice.close().await.closed, Closed::Done);
    assert_eq!(last(to_alice).await, Event::Closed(Closed::Done));
}

#[test]
fn with_loss_of_50_percent_every_message_arrives_once_and_in_order() {
    for mode in MODES {
        let server = TestServer::lossy(0.5, 3);
        block_on(converse(through(&server, mode), through(&server, mode)));
        assert_eq!(server.report().sessions, 0);
    }
}

#[test]
fn a_client_connects_over_a_unix_socket() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("unix://{}/chat", place.path().display());
    let mut listeners = Listeners::default();
    listeners.add(&url.parse().unwrap()).unwrap();
    let rng = Box::new(ChaCha20Rng::seed_from_u64(1));
    let engine =
        Engine::start(EngineKind::Poll, listeners, |now| Server::new(now, ServerConfig::default(), rng))
            .unwrap();
    let builder = || Client::builder(&url);
    block_on(converse(builder(), builder()));
    assert!(block_on(engine.shutdown(crate::support::STEP_TIMEOUT)));
    let gone = block_on(builder().policy(hasty()).name("late").connect()).unwrap_err();
    assert!(matches!(gone, ConnectError::GaveUp { source: Some(_), .. }), "{gone}");
}

#[test]
fn tasks_of_another_runtime_and_plain_threads_use_clones_of_one_client() {
    let server = server();
    let (bob, mut to_bob) = block_on(at(&server, "tcp").name("bob").window(16).connect()).unwrap();
    let tasks = (0..8).map(|i| {
        let bob = bob.clone();
        async_std::task::spawn(async move { bob.send("bob", format!("{i}")).await })
    });
    let tasks: Vec<_> = tasks.collect();
    assert!(async_std::task::block_on(join_all(tasks)).iter().all(|outcome| *outcome == ok()));
    let plain = blocking::Client::from(bob.clone());
    std::thread::scope(|threads| {
        for i in 8..16 {
            let plain = plain.clone();
            threads.spawn(move || assert_eq!(plain.send("bob", format!("{i}")), ok()));
        }
    });
    let mut heard = Vec::new();
    while heard.len() < 16 {
        let Event::Message { body, .. } = async_std::task::block_on(next(&mut to_bob)) else { panic!() };
        heard.push(String::from_utf8(body).unwrap().parse::<u32>().unwrap());
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..16).collect::<Vec<_>>());
}

/// Checked by the compiler.
#[test]
fn clients_futures_and_events_are_send() {
    fn handles<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    fn goes<T: Send + Unpin + std::fmt::Debug + 'static>() {}
    fn futures(_: impl Future + Send + 'static) {}
    handles::<Client>();
    handles::<blocking::Client>();
    goes::<Events>();
    goes::<blocking::Events>();
    goes::<Request>();
    futures(Client::builder("x").connect());
}

// Outcomes.

#[test]
fn a_request_that_fits_no_frame_is_rejected_without_being_sent() {
    let server = server();
    for mode in MODES {
        block_on(async {
            let (client, _events) = at(&server, mode).name(mode).max_message(2_000).connect().await.unwrap();
            let before = server.report().totals.hub.messages;
            for (code, request) in [
                (400, client.send("", "x")),
                (400, client.send("a b", "x")),
                (400, client.join("#a\n")),
                (400, client.list(Some(""))),
                (413, client.send("bob", [b'x'; 1_996])),
            ] {
                let outcome = request.await;
                assert!(matches!(outcome, Outcome::Rejected(found, _) if found == code), "{outcome:?}");
            }
            // Over UDP the size of a datagram is the limit.
            let outcome = client.send(mode, [b'x'; 1_995]).await;
            assert_eq!(
                outcome,
                if mode == "tcp" { ok() } else { Outcome::Rejected(413, b"Too long!".into()) }
            );
            let messages = server.report().totals.hub.messages;
            assert_eq!(messages - before, u64::from(mode == "tcp"));
        });
    }
}

#[test]
fn an_unanswered_request_is_unknown_and_a_request_after_bye_was_never_sent() {
    let silent = Silent::start();
    block_on(async {
        let (client, _events) = silent.builder().policy(hasty()).connect().await.unwrap();
        assert_eq!(client.send("bob", "anybody?").await, Outcome::Unknown);
        let (ending, late) = join(client.close(), client.send("bob", "too late")).await;
        assert_eq!((ending.closed, late), (Closed::Done, Outcome::NeverSent));
        assert_eq!(client.ping().await, Outcome::NeverSent);
        assert_eq!(client.close().await, client.close().await);
    });
}

#[test]
fn close_waits_for_earlier_requests() {
    let server = TestServer::lossy(0.5, 5);
    for mode in MODES {
        block_on(async {
            let (client, events) = through(&server, mode).name("ada").connect().await.unwrap();
            let asked = join_all((0..10).map(|i| client.send("ada", format!("{i}"))));
            let (outcomes, ending, again) = futures::join!(asked, client.close(), client.close());
            assert_eq!(outcomes, vec![ok(); 10]);
            assert_eq!((ending.closed, again.closed), (Closed::Done, Closed::Done));
            assert!(ending.stats.client.retries > 0);
            assert_eq!(last(events).await, Event::Closed(Closed::Done));
        });
        assert_eq!(server.report().sessions, 0);
    }
}

// Dropped futures.

#[test]
fn a_request_dropped_before_it_was_queued_is_not_sent() {
    let silent = Silent::start();
    block_on(async {
        let (client, _events) =
            silent.builder().policy(single_send()).max_pending(1).connect().await.unwrap();
        drop(client.send("bob", "never polled"));
        // One always has room, the others wait for it.
        let mut first = pin!(client.send("bob", "first"));
        assert!(poll!(&mut first).is_pending());
        silent.wait_for("first");
        {
            let mut second = pin!(client.send("bob", "second"));
            assert!(poll!(&mut second).is_pending());
        }
        let mut third = pin!(client.send("bob", "third"));
        let mut fourth = pin!(client.send("bob", "fourth"));
        assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
        silent.say(b"@2 ACK 0000");
        assert_eq!(first.await, ok());
        silent.wait_for("third");
        assert!(!silent.heard().contains("fourth"));
        silent.say(b"@3 ACK 0000");
        assert_eq!(third.await, ok());
        silent.wait_for("fourth");
        assert!(!silent.heard().contains("second") && !silent.heard().contains("never"));
    });
}

#[test]
fn a_request_dropped_after_it_was_queued_continues() {
    for mode in MODES {
        let server = TestServer::lossy(0.5, 11);
        block_on(async {
            let (client, mut events) = through(&server, mode).name("ada").connect().await.unwrap();
            {
                let mut request = pin!(client.send("ada", "goes on"));
                assert!(poll!(&mut request).is_pending());
                // Requests are executed in order, so this one has ended once the next one has.
                assert!(matches!(client.ping().await, Outcome::Acked(_)));
            }
            assert_eq!(next(&mut events).await, message("ada", None, "goes on"));
        });
    }
}

#[test]
fn a_dropped_connect_leaves_no_session() {
    for mode in MODES {
        let server = server();
        let silent = Silent::start();
        block_on(async {
            let mut connecting = Box::pin(at(&server, mode).name("ada").connect());
            assert!(poll!(&mut connecting).is_pending());
            drop(connecting);
            // A session may have been opened before the drop; it then ends with BYE.
            let (ada, _events) = loop {
                match at(&server, mode).name("ada").connect().await {
                    Ok(handles) => break handles,
                    Err(ConnectError::Refused { code: 409, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            ada.close().await;
            // This one gets no answer.
            let mut connecting = Box::pin(silent.mute().policy(hasty()).connect());
            assert!(poll!(&mut connecting).is_pending());
            drop(connecting);
        });
        server.wait_until("no session is left", |report| report.sessions == 0);
        silent.wait_for_the_end();
    }
}

// Events that are not taken.

#[test]
fn a_client_that_does_not_take_its_events_loses_none() {
    for mode in MODES {
        let server = server();
        block_on(async {
            let (ada, _) = at(&server, mode).name("ada").window(64).connect().await.unwrap();
            let (_bob, mut to_bob) = at(&server, mode).name("bob").max_unread(1).connect().await.unwrap();
            let sent = join_all((0..300).map(|i| ada.send("bob", format!("{i:01000}"))));
            assert!(sent.await.iter().all(|outcome| *outcome == ok()));
            // With more than one in flight, datagrams may overtake each other.
            let mut heard = Vec::new();
            while heard.len() < 300 {
                let Event::Message { body, .. } = next(&mut to_bob).await else { panic!("no message") };
                heard.push(String::from_utf8(body).unwrap().parse::<u32>().unwrap());
            }
            if mode == "udp" {
                heard.sort_unstable();
            }
            assert_eq!(heard, (0..300).collect::<Vec<_>>());
        });
    }
}

#[test]
fn while_events_are_full_requests_wait_and_may_be_unknown() {
    for mode in MODES {
        let server = server();
        block_on(async {
            let builder = at(&server, mode).policy(hasty()).name("ada").max_unread(1);
            let (ada, mut events) = builder.connect().await.unwrap();
            assert_eq!(ada.send("ada", "first").await, ok());
            // After the message has arrived.
            while ada.ping().await != Outcome::Unknown {}
            assert_eq!(events.next().await, Some(message("ada", None, "first")));
            while ada.ping().await == Outcome::Unknown {}
            assert_eq!(events.try_next(), None);
        });
    }
}

#[test]
fn messages_without_an_events_handle_are_acknowledged_counted_and_dropped() {
    for mode in MODES {
        let server = server();
        let (ada, events) = block_on(at(&server, mode).name("ada").max_unread(100).connect()).unwrap();
        assert_eq!(block_on(ada.send("ada", "left behind")), ok());
        drop(events);
        for i in 0..5 {
            assert_eq!(block_on(ada.send("ada", format!("{i:0200}"))), ok());
        }
        eventually("all are counted", || ada.stats().discarded == 6);
        let ending = block_on(ada.close());
        assert_eq!((ending.closed, ending.stats.discarded), (Closed::Done, 6));
        assert_eq!(server.report().totals.hub.undelivered, 0);
    }
}

// Dropped handles.

#[test]
fn without_clients_and_events_the_session_ends_with_bye_and_with_either_it_continues() {
    for mode in MODES {
        let server = server();
        block_on(async {
            let (ada, to_ada) = at(&server, mode).name("ada").connect().await.unwrap();
            let (bob, mut to_bob) = at(&server, mode).name("bob").connect().await.unwrap();
            let other = bob.clone();
            drop((bob, other));
            assert_eq!(ada.send("bob", "still there?").await, ok());
            assert_eq!(next(&mut to_bob).await, message("ada", None, "still there?"));
            drop(to_ada);
            assert_eq!(ada.send("ada", "and me?").await, ok());
            drop(to_bob);
            server.wait_until("bob is gone", |report| report.sessions == 1);
            // Earlier requests are finished first. On a busy machine the answer may have come already.
            let polled = poll!(&mut pin!(ada.join("#tea")));
            assert!(polled.is_pending() || polled == Poll::Ready(ok()), "{polled:?}");
            drop(ada);
        });
        server.wait_until("ada is gone", |report| report.sessions == 0);
    }
}

#[test]
fn a_request_keeps_the_session_open_as_its_client_does() {
    let server = server();
    let request = {
        let (ada, _events) = block_on(at(&server, "tcp").name("ada").connect()).unwrap();
        ada.ping()
    };
    assert!(matches!(block_on(request), Outcome::Acked(_)));
    server.wait_until("ada is gone", |report| report.sessions == 0);
}

#[test]
fn an_unanswered_bye_takes_one_timeout() {
    let silent = Silent::start();
    drop(block_on(silent.builder().policy(hasty().with_max_sends(500)).connect()).unwrap());
    silent.wait_for("BYE");
    silent.wait_for_the_end();
}

// Failures.

#[test]
fn a_taken_name_is_refused() {
    let server = server();
    for mode in MODES {
        let (_ada, _events) = block_on(at(&server, mode).name(format!("ada-{mode}")).connect()).unwrap();
        let once = at(&server, mode).policy(calm().with_max_sends(1));
        let error = block_on(once.name(format!("ADA-{mode}")).connect()).unwrap_err();
        assert!(matches!(error, ConnectError::Refused { code: 409, .. }), "{error}");
        // Over datagrams it is unknown whether the owner is still alive.
        let waits = if mode == "udp" { " Its session waits " } else { "; choose another" };
        let told = format!("{mode}://{} refuses the name: 409 Name taken!{waits}", server.addr);
        assert!(error.to_string().starts_with(&told), "{error}");
    }
}

#[test]
fn without_a_server_the_policy_gives_up() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error =
        block_on(Client::builder(closed.to_string()).name("a").policy(hasty()).connect()).unwrap_err();
    assert!(matches!(error, ConnectError::GaveUp { source: Some(_), .. }), "{error}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let error = block_on(Client::builder(&url).name("a").policy(hasty()).connect()).unwrap_err();
    assert_eq!(error.to_string(), format!("no answer from {url}; is a server running there?"));
}

#[test]
fn a_client_without_a_name_can_only_ping() {
    let server = server();
    for mode in MODES {
        let (unnamed, _events) = block_on(at(&server, mode).connect()).unwrap();
        assert!(matches!(block_on(unnamed.ping()), Outcome::Acked(_)));
        assert_eq!(block_on(unnamed.close()).closed, Closed::Done);
        assert_eq!(server.report().totals.hub.sessions, 0);
    }
}

#[test]
fn a_cut_connection_is_made_again_and_the_session_resumed() {
    let server = server();
    block_on(async {
        let (ada, mut events) = at(&server, "tcp").name("ada").connect().await.unwrap();
        server.cut();
        assert_eq!(events.next().await, Some(Event::Offline));
        assert_eq!(events.next().await, Some(Event::Registered { resumed: true }));
        assert_eq!(ada.send("ada", "as if nothing had happened").await, ok());
    });
}

/// A NAT between one client and the server. It changes its port on request, and still accepts datagrams at its earlier
/// ports.
struct Nat {
    addr: SocketAddr,
    change: Sender<()>,
}

#[expect(clippy::disallowed_methods, reason = "a network that the test plays itself")]
impl Nat {
    fn to(server: SocketAddr) -> Self {
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let addr = inside.local_addr().unwrap();
        let (change, changed) = channel();
        std::thread::spawn(move || {
            let (mut buffer, mut outside) = ([0; 2_048], None);
            while let Ok((n, client)) = inside.recv_from(&mut buffer) {
                if changed.try_recv().is_ok() {
                    outside = None;
                }
                let outside = outside.get_or_insert_with(|| outward(server, Arc::clone(&inside), client));
                outside.send(&buffer[..n]).unwrap();
            }
        });
        Self { addr, change }
    }
}

/// A port of the NAT towards the server.
#[expect(clippy::disallowed_methods, reason = "a network that the test plays itself")]
fn outward(server: SocketAddr, inside: Arc<UdpSocket>, client: SocketAddr) -> Arc<UdpSocket> {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.connect(server).unwrap();
    let inward = Arc::clone(&socket);
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok(n) = inward.recv(&mut buffer) {
            inside.send_to(&buffer[..n], client).unwrap();
        }
    });
    socket
}

#[test]
fn a_client_behind_a_nat_that_changes_its_port_is_moved_although_it_only_acknowledges() {
    let server = server();
    let nat = Nat::to(server.addr);
    block_on(async {
        let bob = Client::builder(format!("udp://{}", nat.addr)).policy(calm()).name("bob");
        let (_bob, mut events) = bob.connect().await.unwrap();
        let (ada, _) = at(&server, "udp").name("ada").connect().await.unwrap();
        for round in 0..3 {
            nat.change.send(()).unwrap();
            assert_eq!(ada.send("bob", format!("{round}")).await, ok());
            // The message may arrive before or after the answer that ends the move.
            let heard = [events.next().await, events.next().await];
            let moved = Some(Event::Registered { resumed: true });
            let said = Some(message("ada", None, &round.to_string()));
            assert!(heard == [said.clone(), moved.clone()] || heard == [moved, said], "{heard:?}");
        }
    });
    assert_eq!(server.report().totals.hub.sessions, 2);
}

#[test]
fn a_client_of_a_restarted_server_opens_a_new_session_with_the_same_rooms() {
    for mode in MODES {
        let server = server();
        let (addr, config) = (server.addr, ServerConfig { seed: 2, ..ServerConfig::default() });
        block_on(async {
            let (ada, mut events) = through(&server, mode).name("ada").connect().await.unwrap();
            assert_eq!(ada.join("#tea").await, ok());
            drop(server);
            let mut lost = ada.send("nobody", "lost?");
            assert!(poll!(&mut lost).is_pending());
            if mode == "tcp" {
                assert_eq!(next(&mut events).await, Event::Offline);
            } else {
                // Sent at least once, so in flight.
                while !matches!(events.next().await, Some(Event::Retry { verb: Verb::Snd, .. })) {}
            }
            let _server = TestServer::at(addr, config);
            assert_eq!(next(&mut events).await, Event::SessionLost);
            assert_eq!(next(&mut events).await, Event::Registered { resumed: false });
            let outcome = lost.await;
            match mode {
                // The server that could have answered has ended.
                "udp" => assert_eq!(outcome, Outcome::Unknown),
                // It was written to a closed connection, or not sent.
                _ => assert!(matches!(outcome, Outcome::Unknown | Outcome::Rejected(404, _)), "{outcome:?}"),
            }
            assert_eq!(names(ada.list(Some("#tea")).await), ["ada"]);
        });
    }
}

#[test]
fn a_server_that_does_not_return_ends_the_session_and_every_request() {
    for mode in MODES {
        let server = server();
        block_on(async {
            let (ada, events) = at(&server, mode).policy(hasty()).name("ada").connect().await.unwrap();
            drop(server);
            let asked = ada.send("ada", "hello?").await;
            assert!(matches!(asked, Outcome::Unknown | Outcome::NeverSent), "{asked:?}");
            if mode == "udp" {
                // Over datagrams no error reports the loss; only a client that sends BYE gives up.
                assert_eq!(ada.close().await.closed, Closed::Done);
            }
            let last = last(events).await;
            assert!(matches!(last, Event::Closed(_)), "{last:?}");
            assert_eq!(ada.ping().await, Outcome::NeverSent);
        });
    }
}

#[test]
fn the_shutdown_of_a_server_is_the_last_event_of_a_client_that_does_not_reconnect() {
    for mode in MODES {
        let server = server();
        let once = at(&server, mode).policy(calm().with_max_sends(1));
        let (ada, mut events) = block_on(once.name("ada").connect()).unwrap();
        server.shutdown();
        let last = block_on(next(&mut events));
        assert!(matches!(last, Event::Closed(Closed::Draining(None))), "{last:?}");
        assert_eq!(block_on(events.next()), None);
        assert!(matches!(block_on(ada.close()).closed, Closed::Draining(None)));

        // With a policy of more than one send the client reconnects.
        let server = self::server();
        let (ada, mut events) = block_on(at(&server, mode).name("ada").connect()).unwrap();
        server.shutdown();
        let next = block_on(next(&mut events));
        assert!(matches!(next, Event::Draining { .. }), "{next:?}");
        drop((ada, events));
    }
}

// The blocking client.

#[test]
fn a_program_without_an_executor_iterates_over_its_events() {
    let server = server();
    for mode in MODES {
        let (ada, mut events) = at(&server, mode).name("ada").connect_blocking().unwrap();
        assert_eq!(events.next_timeout(Duration::from_millis(1)), None);
        assert_eq!(events.try_next(), None);
        assert_eq!((ada.join("#tea"), ada.send("ada", "one"), ada.send("ada", "two")), (ok(), ok(), ok()));
        assert_eq!(names(ada.list(Some("#tea"))), ["ada"]);
        assert_eq!(events.next(), Some(message("ada", None, "one")));
        assert_eq!(events.next_timeout(crate::support::STEP_TIMEOUT), Some(message("ada", None, "two")));
        assert!(matches!((ada.ping(), ada.leave("#tea")), (Outcome::Acked(_), Outcome::Acked(_))));
        assert_eq!(ada.close().closed, Closed::Done);
        assert_eq!(ada.stats().discarded, 0);
        assert_eq!(events.by_ref().collect::<Vec<_>>(), [Event::Closed(Closed::Done)]);
        assert_eq!((events.next(), events.next_timeout(crate::support::STEP_TIMEOUT)), (None, None));
    }
    server.wait_until("no session is left", |report| report.sessions == 0);
}

/// A server that accepts one connection, answers only REG, and sends the frames that the test gives.
struct Silent {
    listener: TcpListener,
    /// The channel for the connection, after the thread has answered REG.
    answered: OnceCell<Receiver<TcpStream>>,
    stream: OnceCell<TcpStream>,
    heard: RefCell<Vec<u8>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (answered, stream) = (OnceCell::new(), OnceCell::new());
        Self { listener, answered, stream, heard: RefCell::default() }
    }

    /// A server that does not answer REG either.
    fn mute(&self) -> Builder {
        Client::builder(self.listener.local_addr().unwrap().to_string()).name("ada")
    }

    /// Answers REG on a thread, because this thread waits for the answer.
    fn builder(&self) -> Builder {
        let listener = self.listener.try_clone().unwrap();
        let (to, from) = channel();
        #[expect(clippy::disallowed_methods, reason = "a server of its own needs a thread of its own")]
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut reg = [0; 256];
            assert!(stream.read(&mut reg).unwrap() > 0);
            stream.write_all(b"@1 ACK 0023 0123456789abcdefghijkl").unwrap();
            to.send(stream).unwrap();
        });
        self.answered.set(from).unwrap();
        self.mute()
    }

    fn stream(&self) -> &TcpStream {
        self.stream.get_or_init(|| match self.answered.get() {
            Some(from) => from.recv().unwrap(),
            None => self.listener.accept().unwrap().0,
        })
    }

    fn say(&self, bytes: &[u8]) {
        self.stream().write_all(bytes).unwrap();
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.borrow().clone()).unwrap()
    }

    /// Reads once. Returns whether the stream has ended.
    fn read(&self) -> bool {
        let mut buffer = [0; 4_096];
        let n = self.stream().read(&mut buffer).unwrap_or(0);
        self.heard.borrow_mut().extend_from_slice(&buffer[..n]);
        n == 0
    }

    fn wait_for(&self, what: &str) {
        while !self.heard().contains(what) {
            assert!(!self.read(), "closed before {what}: {}", self.heard());
        }
    }

    fn wait_for_the_end(&self) {
        while !self.read() {}
    }
}
