//! An HTTP server: answers, refusals, and when it closes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use super::{connect, start, wait_for};
use crate::support::program::Program;

const OK: &str = "HTTP/1.1 200 OK";

/// The program, and where it listens.
fn serve() -> (Program, String) {
    let program = start("http_raw", &["127.0.0.1:0"]);
    let place = wait_for(&program, "listening on raw://");
    (program, place)
}

fn get(size: usize) -> String {
    format!("GET /{size} HTTP/1.1\r\nHost: here\r\n\r\n")
}

/// The head of the next answer: its first line, and its headers.
fn head(peer: &mut BufReader<TcpStream>) -> (String, Vec<String>) {
    let mut lines = peer.lines().map(|line| line.unwrap()).take_while(|line| !line.is_empty());
    (lines.next().expect("there is an answer"), lines.collect())
}

/// Takes an answer that is to have a body of so many bytes, and exactly these.
fn expect(peer: &mut BufReader<TcpStream>, size: usize) {
    let (status, headers) = head(peer);
    assert_eq!(status, OK);
    assert!(headers.contains(&format!("Content-Length: {size}")), "{headers:?}");
    let mut body = vec![0; size];
    peer.read_exact(&mut body).unwrap();
    assert!(body.iter().all(|byte| *byte == b'x'));
}

/// Takes an answer without a body, behind which the connection ends.
fn expect_last(mut peer: BufReader<TcpStream>, status: &str) {
    let (found, headers) = head(&mut peer);
    assert_eq!(found, format!("HTTP/1.1 {status}"));
    for header in ["Content-Length: 0", "Connection: close"] {
        assert!(headers.iter().any(|found| found == header), "{status}: {headers:?}");
    }
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the end");
}

#[test]
fn as_many_bytes_come_as_the_path_says_over_one_connection() {
    let (_program, place) = serve();
    let mut peer = BufReader::new(connect(&place));
    for size in [100, 0, 8_760_000, 1] {
        peer.get_mut().write_all(get(size).as_bytes()).unwrap();
        expect(&mut peer, size);
    }
}

#[test]
fn ten_requests_in_one_write_are_answered_in_order() {
    let (_program, place) = serve();
    let mut peer = BufReader::new(connect(&place));
    for sizes in [[1, 2, 3, 4, 5, 6, 7, 8, 9, 0], [100_000; 10]] {
        let all: String = sizes.into_iter().map(get).collect();
        peer.get_mut().write_all(all.as_bytes()).unwrap();
        sizes.into_iter().for_each(|size| expect(&mut peer, size));
    }
}

#[test]
fn a_request_is_answered_wherever_it_is_split() {
    let (_program, place) = serve();
    let mut peer = BufReader::new(connect(&place));
    let request = get(7);
    for at in 1..request.len() {
        let (begin, end) = request.split_at(at);
        // The answer to one that is whole shows that the beginning behind it has been read.
        peer.get_mut().write_all([&get(3), begin].concat().as_bytes()).unwrap();
        expect(&mut peer, 3);
        peer.get_mut().write_all(end.as_bytes()).unwrap();
        expect(&mut peer, 7);
    }
}

#[test]
fn unsupported_requests_are_refused_and_the_connection_closed() {
    let (_program, place) = serve();
    let (lines, fields) = (["X: y\r\n"; 100].concat(), "y".repeat(16 << 10));
    for (request, status) in [
        ("HEAD /1 HTTP/1.1\r\n\r\n", "501 Not Implemented"),
        ("POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "501 Not Implemented"),
        ("GET /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "413 Content Too Large"),
        ("GET /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "413 Content Too Large"),
        ("GET /x HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET 1 HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /-1 HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /67108865 HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /99999999999999999999 HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("\u{1}garbage\r\n\r\n", "400 Bad Request"),
        ("GET /1 SMTP\r\n\r\n", "400 Bad Request"),
        (&format!("GET /1 HTTP/1.1\r\n{lines}\r\n"), "431 Request Header Fields Too Large"),
        (&format!("GET /1 HTTP/1.1\r\nX: {fields}"), "431 Request Header Fields Too Large"),
    ] {
        let mut peer = BufReader::new(connect(&place));
        peer.get_mut().write_all(request.as_bytes()).unwrap();
        expect_last(peer, status);
    }
}

#[test]
fn a_client_that_asks_for_it_is_closed_after_the_answer() {
    let (_program, place) = serve();
    for how in ["close", "Close"] {
        let mut peer = BufReader::new(connect(&place));
        let last = format!("GET /5 HTTP/1.1\r\nConnection: {how}\r\n\r\n");
        peer.get_mut().write_all([get(3), last, get(4)].concat().as_bytes()).unwrap();
        [3, 5].into_iter().for_each(|size| expect(&mut peer, size));
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the end");
    }
}
