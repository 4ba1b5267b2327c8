//! A queue of jobs: the receivers of jobs and results, and the handling of both when a peer is gone.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use super::{connect, start, wait_for};
use crate::support::program::Program;

/// The program, and its `HOST:PORT`.
fn queue() -> (Program, String) {
    let program = start("job_queue", &["msg://127.0.0.1:0"]);
    let place = wait_for(&program, "listening on msg://");
    (program, place)
}

/// A peer that speaks in messages, each behind its length in 8 bytes.
struct Peer(TcpStream);

impl Peer {
    /// Connects under a name, or without one.
    fn join(place: &str, name: &str) -> Self {
        let mut peer = Self(connect(place));
        peer.say(name);
        assert_eq!(peer.next(), "+", "it is let in by a queue without a name");
        peer
    }

    fn say(&mut self, text: &str) {
        let length = (text.len() as u64).to_be_bytes();
        self.0.write_all(&[&length, text.as_bytes()].concat()).unwrap();
    }

    fn next(&mut self) -> String {
        let mut length = [0; 8];
        self.0.read_exact(&mut length).unwrap();
        let mut text = vec![0; usize::try_from(u64::from_be_bytes(length)).unwrap()];
        self.0.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }
}

#[test]
fn each_client_gets_the_results_of_its_own_jobs() {
    let (_program, place) = queue();
    let (mut ada, mut bob) = (Peer::join(&place, "ada"), Peer::join(&place, ""));
    let mut worker = Peer::join(&place, "worker-1");
    for n in 0..10 {
        ada.say(&format!("ada {n}"));
        assert_eq!(worker.next(), format!("ada {n}"));
        bob.say(&format!("bob {n}"));
        worker.say(&format!("done for ada {n}"));
        assert_eq!(worker.next(), format!("bob {n}"), "one job at a time");
        worker.say(&format!("done for bob {n}"));
        assert_eq!(ada.next(), format!("done for ada {n}"));
        assert_eq!(bob.next(), format!("done for bob {n}"));
    }
}

#[test]
fn a_client_that_has_closed_its_side_still_gets_its_results_and_then_the_end() {
    let (_program, place) = queue();
    let mut client = Peer::join(&place, "");
    client.say("dig");
    client.say("fill");
    client.0.shutdown(Shutdown::Write).unwrap();
    let mut worker = Peer::join(&place, "worker-1");
    assert_eq!(worker.next(), "dig");
    worker.say("dug");
    assert_eq!(client.next(), "dug");
    assert_eq!(worker.next(), "fill");
    worker.say("filled");
    assert_eq!(client.next(), "filled");
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_job_of_a_worker_that_is_gone_is_done_by_another_and_its_name_is_reported() {
    let (program, place) = queue();
    let mut client = Peer::join(&place, "ada");
    let mut first = Peer::join(&place, "worker-1");
    client.say("dig");
    assert_eq!(first.next(), "dig");
    drop(first);
    assert_eq!(
        wait_for(&program, "worker-1 is gone ("),
        "closed by the peer), and its job waits for another worker"
    );
    let mut second = Peer::join(&place, "worker-2");
    assert_eq!(second.next(), "dig");
    second.say("dug");
    assert_eq!(client.next(), "dug");
}
