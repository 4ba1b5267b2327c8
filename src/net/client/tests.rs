//! Tests of internals: URLs, bounds of the queues, and the state left at the end.

use std::sync::Weak;

use futures::StreamExt as _;
use futures::future::join_all;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::shared::SessionShared;
use super::{Builder, Client, ConnectError, Event};
use crate::config::ServerConfig;
use crate::net::{Engine, EngineKind, Listen, rt};
use crate::reliable::Outcome;
use crate::server::Server;

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

fn server() -> (Engine<Server>, String) {
    let bound = Listen { host: "127.0.0.1".into(), port: 0, tcp: true, udp: true }.bind().unwrap();
    let at = bound.endpoints()[0].addr.to_string();
    let rng = Box::new(ChaCha20Rng::seed_from_u64(1));
    let engine = Engine::start(EngineKind::Poll, bound, |now| Server::new(now, ServerConfig::default(), rng));
    (engine.unwrap(), at)
}

fn why(url: &str, change: impl FnOnce(Builder) -> Builder) -> String {
    rt::block_on(change(Client::builder(url)).connect()).unwrap_err().to_string()
}

#[test]
fn a_url_that_no_client_can_use_is_refused_in_one_line() {
    for (url, said) in [
        ("line://localhost:1", "line:// is not a listener for this client; write tcp://HOST:PORT, udp"),
        ("line+unix:///a", "line+unix:// is not a listener for this client"),
        ("tcp://localhost?reuse_port=1", "what follows the ? is for the server that listens; leave it out"),
        ("unix:///a?", "what follows the ? is for the server"),
        ("udp://localhost:0", "no server listens on port 0; write the port that it has"),
        ("http://localhost", "the scheme `http` is unknown; write tcp://HOST:PORT"),
        ("tcp://localhost:x", "the port `x` is not a number"),
        ("", "it has no host"),
        ("\u{1b}[2J", "`tcp://\\x1b[2J`: "),
    ] {
        let told = why(url, |builder| builder.name("ada"));
        assert!(told.starts_with("cannot connect to `") && told.contains(said), "{url}: {told}");
    }
    for name in ["", "a b", "a\n"] {
        assert!(
            why("localhost", |builder| builder.name(name)).contains("is not a name: it must be one word")
        );
    }
}

#[test]
fn an_unknown_host_is_reported() {
    for scheme in ["udp", "tcp"] {
        let policy = crate::reliable::Backoff::new(TIMEOUT).with_max_sends(1);
        // A label of more than 63 characters is invalid, so no resolver is asked.
        let url = format!("{scheme}://{}", "x".repeat(64));
        let error = rt::block_on(Client::builder(&url).name("ada").policy(policy).connect()).unwrap_err();
        match (scheme, &error) {
            ("udp", ConnectError::Unreachable { .. }) | (_, ConnectError::GaveUp { source: Some(_), .. }) => {
            }
            _ => panic!("{error}"),
        }
    }
}

#[test]
fn unread_events_stay_within_the_bound_and_one_read() {
    let (engine, at) = server();
    for scheme in ["tcp", "udp"] {
        let builder = || Client::builder(format!("{scheme}://{at}"));
        rt::block_on(async {
            let max_unread = 100_000;
            let (_bob, mut events) = builder().name("bob").max_unread(max_unread).connect().await.unwrap();
            let (ada, _) = builder().name("ada").window(32).connect().await.unwrap();
            let mut most = 0;
            for _ in 0..40 {
                let sent = join_all((0..50).map(|_| ada.send("bob", vec![b'x'; 1_000]))).await;
                assert!(sent.iter().all(|outcome| matches!(outcome, Outcome::Acked(_))));
                most = most.max(events.shared().unread());
            }
            let mut heard = 0;
            while heard < 2_000 {
                most = most.max(events.shared().unread());
                heard += usize::from(matches!(events.next().await, Some(Event::Message { .. })));
            }
            assert!((max_unread..max_unread + (512 << 10)).contains(&most), "{scheme}: {most}");
        });
    }
    assert!(rt::block_on(engine.shutdown(TIMEOUT)));
}

#[test]
fn changes_of_a_session_are_merged_into_one_event_while_the_queue_is_full() {
    let told = |events: &[Event]| {
        let shared = SessionShared::new(1);
        shared.push(Event::Gap(1));
        events.iter().for_each(|event| shared.push(event.clone()));
        std::iter::from_fn(|| shared.take_event()).skip(1).collect::<Vec<_>>()
    };
    let registered = |resumed| Event::Registered { resumed };
    let retry = Event::Retry { verb: crate::wire::Verb::Png, sends: 2 };
    assert_eq!(told(&[retry.clone(), Event::Offline, registered(true), retry]), [registered(true)]);
    assert_eq!(told(&[registered(true), Event::Offline]), [Event::Offline]);
    let anew = [Event::Offline, Event::SessionLost, registered(false), Event::Offline];
    assert_eq!(told(&anew), [Event::SessionLost]);
    assert_eq!(told(&[&anew[..], &[registered(true)]].concat()), [registered(false)]);
    assert_eq!(told(&[registered(false), Event::SessionLost, Event::SessionLost]), [Event::SessionLost]);
    assert_eq!(told(&[Event::Offline, Event::Gap(2), Event::Offline]).len(), 3);
}

/// Waits until the driver's task is gone.
async fn gone(shared: Weak<SessionShared>) {
    let end = rt::now() + TIMEOUT;
    while shared.strong_count() > 0 {
        assert!(rt::now() < end, "the driver goes on");
        rt::yield_now().await;
    }
}

#[test]
fn nothing_is_left_of_a_session_whose_handles_are_dropped() {
    let (engine, at) = server();
    for scheme in ["tcp", "udp"] {
        rt::block_on(async {
            for i in 0..100 {
                let builder = Client::builder(format!("{scheme}://{at}")).name("ada");
                let (client, events) = builder.connect().await.unwrap();
                let shared = events.weak();
                match i % 3 {
                    0 => drop(client.close().await),
                    1 => drop(client.ping()),
                    _ => drop(client.ping().await),
                }
                drop((client, events));
                gone(shared).await;
                assert_eq!(engine.look(Server::sessions), 0);
            }
        });
    }
    assert!(rt::block_on(engine.shutdown(TIMEOUT)));
}
