//! The programs in `examples/` do what they show, on loopback. Cargo builds them before these tests; it does not where a
//! test is chosen by `--test`, and then `cargo build --examples` does.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Instant;

mod support;

use sayagain::link::{Direction, Link, LinkConfig, LinkStats};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, ResourceRecord};
use support::program::{Ended, Program};
use support::{PATIENCE, eventually};

const MOST_LINES: usize = 60;

fn start(example: &str, args: &[&str]) -> Program {
    let path = Path::new(env!("CARGO_BIN_EXE_server")).with_file_name("examples").join(example);
    assert!(path.is_file(), "{} is not there: run `cargo build --examples` first", path.display());
    Program::start(path.to_str().unwrap(), args)
}

fn run(example: &str, args: &[&str]) -> Ended {
    start(example, args).wait()
}

/// Waits until the program has printed something that begins with these words, and returns the rest of that line.
fn wait_for(program: &Program, words: &str) -> String {
    let mut rest = None;
    eventually(&format!("`{words}` is printed"), || {
        let out = program.out();
        let whole = out.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        rest = whole.filter_map(|line| line.strip_prefix(words)).next().map(str::to_owned);
        rest.is_some()
    });
    rest.unwrap()
}

/// A socket on loopback that waits as long as a test does.
fn socket() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    (socket, addr)
}

#[test]
fn every_example_fits_on_a_screen() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines, more than {MOST_LINES}", path.display());
    }
}

mod retry_dns {
    use super::*;

    /// The next query, and who has sent it.
    fn receive(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 1_500];
        let (length, client) = server.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), client)
    }

    /// The answer to a query for one name: these addresses.
    fn reply(query: &[u8], addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut packet = Packet::parse(query).unwrap().into_reply();
        let name = packet.questions[0].qname.clone();
        packet.answers.extend(addresses.iter().map(|address| {
            let data = RData::A(Ipv4Addr::from(*address).into());
            ResourceRecord::new(name.clone(), CLASS::IN, 60, data)
        }));
        packet.build_bytes_vec_compressed().unwrap()
    }

    #[test]
    fn a_query_is_repeated_until_it_is_answered() {
        let (server, addr) = socket();
        let program = start("retry_dns", &[&addr, "chat.example", "sip", "20ms"]);
        let (first, second) = (receive(&server), receive(&server));
        assert_eq!(first, second, "a repeat has the same bytes and comes from the same port");
        let (query, client) = receive(&server);
        server.send_to(b"no DNS", client).unwrap();
        server.send_to(&query, client).unwrap();
        let answer = reply(&query, &[[192, 0, 2, 1], [192, 0, 2, 2]]);
        server.send_to(&answer, client).unwrap();
        let ended = program.wait();
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
        let sends = ended.out.lines().filter(|line| line.starts_with("send ")).count();
        let expected = format!("192.0.2.1\n192.0.2.2\n2 addresses of chat.example with {sends} sends\n");
        assert!(sends >= 3 && ended.out.ends_with(&expected), "{}", ended.out);
    }

    #[test]
    fn it_gives_up_with_a_sentence_when_the_policy_allows_no_further_send() {
        let (_silent, addr) = socket();
        let ended = run("retry_dns", &[&addr, "chat.example", "dns", "5ms"]);
        let sentence = format!("{addr} answered none of 3 sends: is it the right one?\n");
        assert_eq!((ended.code, ended.err), (1, sentence));
    }

    #[test]
    fn an_unknown_policy_is_refused_with_the_ones_there_are() {
        let ended = run("retry_dns", &["127.0.0.1:53", "chat.example", "hope"]);
        let sentence = "`hope` is not a retry policy: it must be once, expb, fixed, linear, coap, sip, sip-invite, dns, \
                        rto, quic-pto or dtls\n";
        assert_eq!((ended.code, ended.err.as_str()), (1, sentence));
    }
}

mod lossy {
    use super::*;

    const ASKED: u8 = 100;

    /// What a link alone lets through of so many datagrams from one peer, sorted, and its counters.
    fn through(link: &str, seed: u64) -> (Vec<u8>, LinkStats) {
        let mut link = Link::new(link.parse::<LinkConfig>().unwrap(), seed, Direction::Up);
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        for number in 0..ASKED {
            link.send(now, 0, vec![number]);
        }
        let after_all = now + PATIENCE;
        let mut arrived: Vec<u8> = std::iter::from_fn(|| link.recv(after_all)).flatten().collect();
        arrived.sort_unstable();
        (arrived, link.stats())
    }

    fn expect_echoes(link: &str, seed: u64) {
        let program = start("lossy", &["127.0.0.1:0", link, &seed.to_string()]);
        let greeting = wait_for(&program, "listening on ");
        let (addr, told) = greeting.split_once(", ").unwrap();
        assert_eq!(told, format!("link {}, seed {seed}", link.parse::<LinkConfig>().unwrap()));
        let (client, _) = socket();
        client.connect(addr).unwrap();
        (0..ASKED).for_each(|number| assert_eq!(client.send(&[number]).unwrap(), 1));
        let (expected, stats) = through(link, seed);
        let report = wait_for(&program, "100 datagrams: ");
        assert_eq!(report, format!("{} lost, {} doubled", stats.lost, stats.duplicated));
        let mut byte = [0];
        let mut receive = |_: &u8| (client.recv(&mut byte).unwrap(), byte[0]).1;
        let mut arrived: Vec<u8> = expected.iter().map(&mut receive).collect();
        arrived.sort_unstable();
        assert_eq!(arrived, expected);
    }

    #[test]
    fn what_comes_back_is_what_the_link_says_for_its_seed() {
        expect_echoes("iid:.3", 7);
    }

    #[test]
    fn copies_and_delays_come_back_too() {
        expect_echoes("gilbert:.2,3+duplicate:.1+delay:10ms,5ms", 8);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_a_sentence() {
        let ended = run("lossy", &["127.0.0.1:0", "iid:2"]);
        assert_eq!(ended.code, 1);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        let ended = run("lossy", &["127.0.0.1:0", "none", "-1"]);
        assert_eq!((ended.code, ended.err.as_str()), (1, "a seed is a whole number below 2^64\n"));
    }
}
