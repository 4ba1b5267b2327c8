//! A small HTTP/1.1 server on raw bytes: keep-alive, pipelining, and as many bytes as the path says.
//! `http_raw 127.0.0.1:8080`, then `curl http://127.0.0.1:8080/100`.

use std::env;
use std::error::Error;

use bytes::Bytes;
use sayagain::host::{Context, Handler, Settings};
use sayagain::net::Engine;
use sayagain::service::ConnId;

/// The longest body, and the longest head of a request, in bytes.
const MAX_BODY: usize = 64 << 20;
const MAX_HEAD: usize = 16 << 10;

struct Http {
    /// All bodies are the beginning of this: nothing is copied for an answer.
    body: Bytes,
}

impl Handler for Http {
    /// Answers the first request, and returns its length: it is called again for the next.
    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(parsed) = request.parse(bytes) else { return refuse(cx, conn, "400 Bad Request", bytes.len()) };
        let httparse::Status::Complete(length) = parsed else { return 0 };
        let has_body = |header: &httparse::Header<'_>| {
            header.name.eq_ignore_ascii_case("content-length") && header.value != b"0"
                || header.name.eq_ignore_ascii_case("transfer-encoding")
        };
        if request.headers.iter().any(has_body) || request.method != Some("GET") {
            return refuse(cx, conn, "501 Not Implemented", bytes.len());
        }
        let size = request.path.and_then(|path| path.strip_prefix("/")?.parse::<usize>().ok());
        let Some(size) = size.filter(|size| *size <= MAX_BODY) else {
            return refuse(cx, conn, "404 Not Found", bytes.len());
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        let sent = cx.send(conn, head.as_bytes()).and_then(|()| cx.share(conn, &self.body.slice(..size)));
        let keeps_alive = |header: &httparse::Header<'_>| header.value.eq_ignore_ascii_case(b"close");
        if sent.is_err() || request.headers.iter().any(keeps_alive) {
            cx.close(conn);
        }
        length
    }
}

fn refuse(cx: &mut Context<'_>, conn: ConnId, status: &str, all: usize) -> usize {
    let _ = cx.send(conn, format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
    cx.close(conn);
    all
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let settings = Settings::default().max_message(MAX_HEAD).max_pending(2 * MAX_BODY).max_memory_out(usize::MAX);
    let http = Http { body: Bytes::from(vec![b'x'; MAX_BODY]) };
    let engine = Engine::host(&[&format!("raw://{address}")], settings, http)?;
    println!("listening on {}", engine.places()[0]);
    engine.wait();
    Ok(())
}
