//! The chat has no listener of its own through the wall: it is built here from public items alone, on an engine of the
//! crate's, and on one of some forty lines that knows nothing but the numbered contract of `service`.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "a driver owns the clock")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::net::client::Event;
use sayagain::net::{Engine, EngineKind, Listeners, blocking};
use sayagain::output::Output;
use sayagain::reliable::Outcome;
use sayagain::server::Server;
use sayagain::service::{CloseReason, ConnId, Decoder as _, Origin, Remote, Service};

/// Time limit for a step that is to happen at once.
const SOON: Duration = Duration::from_secs(10);

fn chat(now: Instant, listeners: &Listeners) -> Server {
    let config = ServerConfig { listeners: listeners.list(), ..ServerConfig::default() };
    Server::new(now, config, Box::new(ChaCha20Rng::seed_from_u64(1)))
}

fn listeners(urls: &[&str]) -> Listeners {
    let mut listeners = Listeners::default();
    for url in urls {
        listeners.add(&url.parse().unwrap()).unwrap();
    }
    listeners
}

#[test]
fn the_chat_is_one_service_among_others_on_a_public_engine() {
    let bound = listeners(&["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "line://127.0.0.1:0"]);
    let server = chat(Instant::now(), &bound);
    let engine = Engine::start(EngineKind::Poll, bound, |_| server).unwrap();
    let places: Vec<String> = engine.listen_addrs().iter().map(ToString::to_string).collect();
    let client =
        |url: &str, name: &str| blocking::Client::builder(url).name(name).connect_blocking().unwrap();
    let ((ada, _ada_hears), (bob, mut bob_hears)) = (client(&places[0], "ada"), client(&places[1], "bob"));
    assert_eq!(bob.join("#lobby"), Outcome::Acked(Vec::new()));
    let mut person = TcpStream::connect(places[2].trim_start_matches("line://")).unwrap();
    person.write_all(b"rick\n").unwrap();
    until(&mut person, b"you are rick");
    assert_eq!(ada.send("#lobby", "x"), Outcome::Rejected(404, b"No such room!".to_vec()));
    assert_eq!(ada.send("rick", "Hello, Rick!"), Outcome::Acked(Vec::new()));
    until(&mut person, b"Hello, Rick!");
    person.write_all(b"Hello, all!\n").unwrap();
    let heard = std::iter::from_fn(|| bob_hears.next_timeout(SOON)).find_map(|event| match event {
        Event::Message { sender, room, body } => Some((sender, room, body)),
        _ => None,
    });
    assert_eq!(heard, Some(("rick".to_owned(), Some("#lobby".to_owned()), b"Hello, all!".to_vec())));
}

fn until(stream: &mut TcpStream, end: &[u8]) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let (mut heard, mut byte) = (Vec::new(), [0]);
    while !heard.ends_with(end) {
        stream.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
}

/// Drives any service over the connections of one listener: one thread, no readiness, nothing of `net`.
fn drive<S: Service>(listener: &TcpListener, service: &mut S, is_done: impl Fn(&S) -> bool) {
    let mut conns: Vec<(ConnId, TcpStream, S::Conn, bool)> = Vec::new();
    let (begun, mut count) = (Instant::now(), 0);
    while !is_done(service) && begun.elapsed() < SOON {
        if let Ok((stream, addr)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let id = ConnId::new(count, 0);
            count += 1;
            let intake =
                service.opened(Instant::now(), id, Origin { listener: 0, from: Remote::Ip(addr) }.into());
            conns.push((id, stream, intake, true));
        }
        conns.retain_mut(|(id, stream, intake, _)| {
            let mut buffer = [0; 4096];
            let count = match stream.read(&mut buffer) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                _ => {
                    service.closed(Instant::now(), *id, CloseReason::Peer);
                    return false;
                }
            };
            let batch = intake.received(Instant::now(), &buffer[..count]);
            service.received(Instant::now(), *id, batch);
            true
        });
        if service.poll_timeout().is_some_and(|at| at <= Instant::now()) {
            service.timeout(Instant::now());
        }
        while let Some(woken) = service.poll_wake() {
            let Some((id, stream, ..)) = conns.iter_mut().find(|(id, ..)| *id == woken) else { continue };
            let mut has_more = true;
            while has_more {
                let mut out = Output::default();
                has_more = service.fill(Instant::now(), *id, &mut out).more;
                stream.write_all(&out.to_vec()).unwrap();
                service.drained(Instant::now(), *id);
            }
        }
    }
}

#[test]
fn the_chat_runs_on_another_programs_engine_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let talking = std::thread::spawn(move || {
        let mut ada = TcpStream::connect(addr).unwrap();
        ada.write_all(b"REG 0004 adaSND 0012 ada myself!").unwrap();
        until(&mut ada, b"RCV 0017 ada 0001 myself!");
    });
    let mut server = chat(Instant::now(), &Listeners::default());
    drive(&listener, &mut server, |server| {
        server.totals().hub.messages == 1 && server.is_settled() && server.sessions() == 0
    });
    talking.join().unwrap();
}

/// The Rust files of a folder, or the one of that name.
fn sources(name: &str) -> Vec<PathBuf> {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    let Ok(folder) = fs::read_dir(&at) else { return vec![at.with_extension("rs")] };
    folder.flat_map(|entry| sources(entry.unwrap().path().with_extension("").to_str().unwrap())).collect()
}

#[test]
fn state_machines_use_no_sockets() {
    for module in ["server", "hub", "wire", "client", "reliable", "link", "host", "service"] {
        let is_tested = |file: &PathBuf| !file.ends_with("tests.rs") && !file.ends_with("idle_memory.rs");
        for file in sources(module).into_iter().filter(is_tested) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                let knows = ["crate::net", "std::net::Tcp", "std::net::Udp", "std::os", "nix::", "async_std"];
                assert!(!knows.iter().any(|word| line.contains(word)), "{}: {line}", file.display());
            }
        }
    }
}
