//! A small HTTP/1.1 server on raw bytes: keep-alive, pipelining, and as many bytes as the path says.
//! `http_raw 127.0.0.1:8080`, then `curl http://127.0.0.1:8080/100`.

#![expect(clippy::print_stdout, reason = "a program prints")]

use std::env;
use std::error::Error;

use bytes::Bytes;
use httparse::{EMPTY_HEADER, Header, Request, Status};
use sayagain::host::{Context, Handler, Settings};
use sayagain::net::Engine;
use sayagain::service::ConnId;

/// The longest body, and the longest head of a request, in bytes.
const MAX_BODY: usize = 64 << 20;
const MAX_HEAD: usize = 16 << 10;

/// All bodies are the beginning of this one: nothing is copied for an answer.
struct Http(Bytes);

impl Handler for Http {
    /// Answers the first request, and returns its length: it is called again for the next.
    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        let mut headers = [EMPTY_HEADER; 64];
        let mut request = Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if bytes.len() < MAX_HEAD => return 0,
            _ => return refuse(cx, conn, "400 Bad Request", bytes),
        };
        let says = |key, what: fn(&[u8]) -> bool| {
            request.headers.iter().any(|Header { name, value }| name.eq_ignore_ascii_case(key) && what(value))
        };
        if says("content-length", |value| value != b"0") || says("transfer-encoding", |_| true) {
            return refuse(cx, conn, "413 Content Too Large", bytes);
        }
        let size = request.path.and_then(|path| path.strip_prefix('/')?.parse::<usize>().ok());
        let (Some("GET"), Some(size @ ..=MAX_BODY)) = (request.method, size) else {
            return refuse(cx, conn, "404 Not Found", bytes);
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        let sent = cx.send(conn, head.as_bytes()).and_then(|()| cx.share(conn, &self.0.slice(..size)));
        if sent.is_err() || says("connection", |value| value.eq_ignore_ascii_case(b"close")) {
            cx.close(conn);
        }
        length
    }
}

fn refuse(cx: &mut Context<'_>, conn: ConnId, status: &str, all: &[u8]) -> usize {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = cx.send(conn, head.as_bytes());
    cx.close(conn);
    all.len()
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let settings = Settings::default().max_pending(2 * MAX_BODY).max_memory_out(usize::MAX);
    let http = Http(Bytes::from(vec![b'x'; MAX_BODY]));
    let engine = Engine::host(&[&format!("raw://{address}")], settings, http)?;
    engine.places().iter().for_each(|place| println!("listening on {place}"));
    engine.wait();
    Ok(())
}
