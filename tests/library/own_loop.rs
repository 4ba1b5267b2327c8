//! A core in a loop of its owner's, and an engine from outside: what each tells, and how it ends.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "the owner of a loop owns the clock")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sayagain::config::ServerConfig;
use sayagain::host::{Context, Handler, Host, Settings};
use sayagain::net::core::{Core, Event};
use sayagain::net::{Engine, EngineHandle};
use sayagain::service::ConnId;

use crate::support::{STEP_TIMEOUT, eventually};

/// The next event, however many polls it takes.
fn next(core: &mut Core) -> Event {
    let by = Instant::now() + STEP_TIMEOUT;
    loop {
        if let Some(event) = core.poll(Some(Duration::from_millis(1))).unwrap().next() {
            return event;
        }
        assert!(Instant::now() < by, "nothing happens");
    }
}

/// Two cores that are connected, and the connections' ids: the listener, and the one called ada.
fn pair() -> ((Core, ConnId), (Core, ConnId)) {
    let mut boss = Core::new(Settings::default()).unwrap();
    let url = boss.listen("msg://127.0.0.1:0").unwrap()[0].to_string();
    let mut ada = Core::new(Settings::default().name("ada").unwrap()).unwrap();
    ada.connect(&url).unwrap();
    let (mut at_boss, mut at_ada) = (None, None);
    while at_boss.is_none() || at_ada.is_none() {
        for event in boss.poll(Some(Duration::from_millis(1))).unwrap() {
            let Event::Unknown(conn) = event else { panic!("{event:?}") };
            at_boss = Some(conn);
        }
        for event in ada.poll(Some(Duration::from_millis(1))).unwrap() {
            let Event::Expected(conn) = event else { panic!("{event:?}") };
            at_ada = Some(conn);
        }
    }
    ((boss, at_boss.unwrap()), (ada, at_ada.unwrap()))
}

/// Whether the core has nothing to do now; checks of idle peers are due later.
fn is_at_rest(core: &mut Core) -> bool {
    core.poll(Some(Duration::ZERO)).unwrap();
    core.poll_timeout().is_none_or(|at| at > Instant::now())
}

#[test]
fn a_core_at_rest_is_not_due_and_one_with_output_is() {
    let ((mut boss, to_ada), _ada) = pair();
    eventually("it is at rest", || is_at_rest(&mut boss));
    boss.send(to_ada, b"job").unwrap();
    assert!(boss.poll_timeout().is_some_and(|at| at <= Instant::now()));
    eventually("it is written", || is_at_rest(&mut boss));
}

#[test]
fn the_name_of_a_peer_that_is_gone_is_known_until_the_poll_after_its_event() {
    let ((mut boss, at_boss), ada) = pair();
    assert_eq!((boss.name(at_boss).as_deref(), boss.find("ada")), (Some("ada"), Some(at_boss)));
    drop(ada);
    let event = next(&mut boss);
    assert!(matches!(event, Event::Disconnected(conn, _) if conn == at_boss), "{event:?}");
    assert_eq!((boss.name(at_boss).as_deref(), boss.find("ada")), (Some("ada"), None));
    boss.poll(Some(Duration::ZERO)).unwrap();
    assert_eq!(boss.name(at_boss), None);
}

/// Answers each line at once.
struct Echo;

impl Handler for Echo {
    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        cx.share(conn, &message).unwrap();
    }
}

fn echo_at(url: &str) -> TcpStream {
    let mut peer = TcpStream::connect(url.trim_start_matches("line://")).unwrap();
    peer.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    peer.write_all(b"again\n").unwrap();
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"again\n");
    peer
}

#[test]
fn an_engine_that_is_dropped_serves_until_its_handler_stops_and_a_handle_then_reaches_nothing() {
    let engine = Engine::host(&["line://127.0.0.1:0"], Settings::default(), Echo).unwrap();
    let (url, handle) = (engine.listen_addrs()[0].to_string(), engine.handle());
    drop(engine);
    let mut peer = echo_at(&url);
    assert_eq!(handle.with(|_, cx| cx.conns().count()), Some(1));
    assert_eq!(handle.with(|_, cx| cx.stop()), Some(()));
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_shutdown_without_an_executor_closes_all_connections() {
    let engine = Engine::host(&["line://127.0.0.1:0"], Settings::default(), Echo).unwrap();
    let (url, handle) = (engine.listen_addrs()[0].to_string(), engine.handle());
    let mut peer = echo_at(&url);
    assert_eq!(engine.with(|_, cx| cx.conns().count()), 1);
    let ending = thread::spawn(move || engine.shutdown_blocking(STEP_TIMEOUT));
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    drop(peer);
    assert!(ending.join().unwrap());
    assert_eq!(handle.with(|_, cx| cx.conns().count()), None, "the engine has ended");
}

#[test]
fn a_handle_waits_for_its_engine_and_is_told_if_it_does_not_start() {
    let ask = |told: mpsc::Sender<Option<usize>>| {
        move |handle: EngineHandle<Host<Echo>>| {
            thread::spawn(move || told.send(handle.with(|_, cx| cx.conns().count())));
            Echo
        }
    };
    let (told, results) = mpsc::channel();
    let engine = Engine::host_with(&["line://127.0.0.1:0"], Settings::default(), ask(told.clone())).unwrap();
    assert_eq!(results.recv_timeout(STEP_TIMEOUT), Ok(Some(0)));
    let taken = engine.listen_addrs()[0].to_string();
    assert!(Engine::host_with(&[&taken], Settings::default(), ask(told)).is_err());
    assert!(results.recv_timeout(STEP_TIMEOUT).is_err(), "no handler was made, and its sender is dropped");
    assert!(engine.shutdown_blocking(STEP_TIMEOUT));
}

#[test]
fn the_chat_refuses_a_listener_that_it_does_not_speak() {
    for scheme in ["raw", "msg"] {
        let url = format!("{scheme}://127.0.0.1:0");
        let refused = Engine::chat(&[&url], ServerConfig::default()).unwrap_err().to_string();
        let sentence = "the chat does not speak this scheme, which is for handlers; take tcp://, udp://, unix:// or line://";
        assert_eq!(refused, format!("`{url}`: {sentence}"));
    }
}
