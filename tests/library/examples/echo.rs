//! An echo of bytes.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;

use super::{connect, start, wait_for};

#[test]
fn a_megabyte_comes_back_whole_and_then_the_end() {
    let program = start("echo", &["raw://127.0.0.1:0"]);
    let mut peer = connect(&wait_for(&program, "listening on raw://"));
    let all: Vec<u8> = (0..1_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let (mut back, mut writer) = (Vec::new(), peer.try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&all).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        peer.read_to_end(&mut back).unwrap();
    });
    assert!(back == all, "{} bytes", back.len());
}

#[test]
fn a_peer_gets_no_bytes_of_other_peers() {
    let program = start("echo", &["raw://127.0.0.1:0"]);
    let place = wait_for(&program, "listening on raw://");
    let (mut one, mut other) = (connect(&place), connect(&place));
    one.write_all(b"one").unwrap();
    other.write_all(b"two").unwrap();
    let mut back = [0; 3];
    for (peer, said) in [(&mut one, b"one"), (&mut other, b"two")] {
        peer.read_exact(&mut back).unwrap();
        assert_eq!(&back, said);
    }
}
