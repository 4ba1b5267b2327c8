//! Every kind of frame, split at every byte, through a real socket: the answers are the same, and half a frame ends
//! only its own connection.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::net::{Engine, Listen};
use sayagain::server::Server;

use crate::support::server::engine;

/// One frame of each kind, with its answers before and after REG.
const FRAMES: [(&str, &str, &str); 17] = [
    ("REG 0004 ada", "", "ERR 0020 Already registered!"),
    ("@1 REG 0028 ada ?AAAAAAAAAAAAAAAAAAAAAA", "@1 ACK 0023 ", "@1 ERR 0024 409 Already registered!"),
    (
        "@2 REG 0027 ada AAAAAAAAAAAAAAAAAAAAAA",
        "@2 ERR 0018 401 Session gone!",
        "@2 ERR 0024 409 Already registered!",
    ),
    ("SND 0007 eve hi", "ERR 0016 Register first!", "ERR 0016 No such client!"),
    ("@3 SND 0007 eve hi", "@3 ERR 0020 401 Register first!", "@3 ERR 0020 404 No such client!"),
    ("JON 0003 #r", "ERR 0016 Register first!", ""),
    ("@4 LEV 0003 #q", "@4 ERR 0020 401 Register first!", "@4 ERR 0018 404 No such room!"),
    ("LST 0000", "ERR 0016 Register first!", "ACK 0008 dan bob"),
    ("@12345 LST 0003 #q", "@12345 ERR 0020 401 Register first!", "@12345 ERR 0018 404 No such room!"),
    ("PNG 0000", "ACK 0000", "ACK 0000"),
    (
        "@9999999999999999999 PNG 0003 \r\n",
        "@9999999999999999999 ACK 0003 \r\n",
        "@9999999999999999999 ACK 0003 \r\n",
    ),
    ("ACK 0006 17-42", "", ""),
    ("ERR 0004 401", "", ""),
    ("RCV 0014 eve 0001 mail", "", ""),
    ("GAP 0002 3", "", ""),
    ("XYZ 0000", "ERR 0014 Unknown verb!", "ERR 0014 Unknown verb!"),
    ("@5 BYE 0000", "@5 ACK 0000", "@5 ACK 0000"),
];

fn serve() -> (Engine<Server>, SocketAddr) {
    let listen = Listen { host: "127.0.0.1".to_owned(), port: 0, tcp: true, udp: false };
    let bound = listen.bind().unwrap();
    let addr = bound.endpoints()[0].addr;
    let server = |now| Server::new(now, ServerConfig::default(), Box::new(ChaCha20Rng::seed_from_u64(1)));
    (Engine::start(engine().parse().unwrap(), bound, server).unwrap(), addr)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Writes the pieces one by one, closes this side, and reads all output.
fn exchange(addr: SocketAddr, pieces: &[&[u8]]) -> String {
    let (mut stream, mut pacer) = (connect(addr), connect(addr));
    for piece in pieces {
        stream.write_all(piece).unwrap();
        // A round trip on another connection gives the server time to read this piece separately.
        pacer.write_all(b"PNG 0000").unwrap();
        pacer.read_exact(&mut [0; 8]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    String::from_utf8(heard).unwrap()
}

/// A ping on its own connection, to check that others are still served.
fn assert_alive(addr: SocketAddr) {
    assert_eq!(exchange(addr, &[b"PNG 0003 ok"]), "ACK 0003 ok");
}

#[test]
fn every_split_of_every_kind_of_frame_gets_the_same_answer() {
    let (engine, addr) = serve();
    let mut dan = connect(addr);
    dan.write_all(b"REG 0004 danPNG 0000").unwrap();
    dan.read_exact(&mut [0; 8]).unwrap();
    for (frame, fresh, registered) in FRAMES {
        for at in 0..=frame.len() {
            let (first, second) = frame.as_bytes().split_at(at);
            let heard = exchange(addr, &[first, second, b"@77 BYE 0000"]);
            let rest = if frame.ends_with("BYE 0000") { "" } else { "@77 ACK 0000" };
            assert!(heard.starts_with(fresh) && heard.ends_with(rest), "{frame:?} split at {at}: {heard:?}");
            let heard = exchange(addr, &[b"REG 0004 bob", first, second, b"@77 BYE 0000"]);
            assert_eq!(heard, format!("{registered}{rest}"), "{frame:?} split at {at}, registered");
        }
    }
    assert_alive(addr);
    engine.look(|server| assert_eq!((server.sessions(), server.totals().malformed), (1, 0)));
}

#[test]
fn every_prefix_of_every_kind_of_frame_executes_nothing() {
    let (engine, addr) = serve();
    for (frame, ..) in FRAMES {
        for end in 0..frame.len() {
            assert_eq!(exchange(addr, &[&frame.as_bytes()[..end]]), "", "{frame:?} up to {end}");
        }
    }
    assert_alive(addr);
    engine.look(|server| assert_eq!((server.totals().hub.sessions, server.totals().malformed), (0, 0)));
}

#[test]
fn all_frames_byte_by_byte_get_the_same_answers_as_at_once() {
    let (_engine, addr) = serve();
    let script: String = FRAMES.iter().map(|(frame, ..)| *frame).collect();
    let at_once = exchange(addr, &[script.as_bytes()]);
    let pieces: Vec<&[u8]> = script.as_bytes().chunks(1).collect();
    assert_eq!(exchange(addr, &pieces), at_once);
    assert!(at_once.ends_with("@5 ACK 0000"), "{at_once}");
}
