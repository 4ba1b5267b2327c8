//! A small HTTP/1.1 server on raw bytes, pipelined: `http_raw 127.0.0.1:8080`, then `curl http://127.0.0.1:8080/100`.
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::{env, error::Error};

use bytes::Bytes;
use httparse::{EMPTY_HEADER, Error::TooManyHeaders, Request, Status};
use sayagain::{host, net::Engine, service::ConnId};

/// The longest body, and the longest head of a request, in bytes.
const MAX_BODY: usize = 64 << 20;
const MAX_HEAD: usize = 16 << 10;

/// All bodies are a prefix of this one, so an answer copies nothing.
struct Http(Bytes);

impl host::Handler for Http {
    /// Answers the first request and returns its length; the engine calls again for the next one.
    fn received(&mut self, cx: &mut host::Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        let mut headers = [EMPTY_HEADER; 64];
        let mut request = Request::new(&mut headers);
        let (length, (status, size)) = match request.parse(bytes) {
            Ok(Status::Complete(length)) => (length, answer(&request)),
            Ok(Status::Partial) if bytes.len() < MAX_HEAD => return 0,
            Ok(_) | Err(TooManyHeaders) => (bytes.len(), ("431 Request Header Fields Too Large", 0)),
            Err(_) => (bytes.len(), ("400 Bad Request", 0)),
        };
        let is_last = status != "200 OK" || header(&request, "connection").eq_ignore_ascii_case(b"close");
        let next = if is_last { "close" } else { "keep-alive" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: {next}\r\n\r\n");
        let sent = cx.send(conn, head.as_bytes()).and_then(|()| cx.share(conn, &self.0.slice(..size)));
        if is_last || sent.is_err() {
            cx.close(conn);
        }
        length
    }
}

fn answer(request: &Request<'_, '_>) -> (&'static str, usize) {
    let size = request.path.and_then(|path| path.strip_prefix('/')?.parse().ok());
    let body = ["content-length", "transfer-encoding"].map(|key| header(request, key));
    match (request.method, body, size) {
        (Some("GET"), [b"" | b"0", b""], Some(size @ ..=MAX_BODY)) => ("200 OK", size),
        (Some("GET"), [b"" | b"0", b""], _) => ("404 Not Found", 0),
        (Some("GET"), ..) => ("413 Content Too Large", 0),
        _ => ("501 Not Implemented", 0),
    }
}

fn header<'a>(request: &Request<'_, 'a>, key: &str) -> &'a [u8] {
    request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(key)).map_or(b"", |field| field.value)
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = format!("raw://{}", env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8080"));
    let settings = host::Settings::default().max_pending(2 * MAX_BODY).max_memory_out(usize::MAX);
    let engine = Engine::host(&[&url], settings, Http(Bytes::from(vec![b'x'; MAX_BODY])))?;
    engine.listen_addrs().iter().for_each(|addr| println!("listening on {addr}"));
    engine.wait().then_some(()).ok_or_else(|| "a part of it has panicked".into())
}
