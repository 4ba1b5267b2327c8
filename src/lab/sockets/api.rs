//! The HTTP listener of the lab's API: access checks, size limits and timeouts. Requests and answers are interpreted
//! in `lab::api`.

use std::convert::Infallible;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use async_io::Async;
use futures::AsyncReadExt as _;
use futures::channel::oneshot;
use futures::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use smol_hyper::rt::{FuturesIo, SmolTimer};
use socket2::SockRef;

use crate::escape::escape_short;
use crate::lab::api::{Answer, Api, ApiError};
use crate::lab::proxy::control::Proxies;
use crate::net::accept::connections;
use crate::net::listen::{Bound, Endpoint, Listen, ListenError};
use crate::net::rt;

/// Bound on a request's body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// Bounds on a request's headers: bytes, and number of headers.
const MAX_HEAD: (usize, usize) = (16 << 10, 64);

/// Bound on the connections at once; more wait until one ends.
const MAX_CONNECTIONS: usize = 64;

/// Limit on the time of a request, from its first byte to its answer, and on the idle time of a connection.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bound on the bytes that are read and discarded behind the last answer of a connection. A close with unread input
/// would cause a reset, which may destroy the answer.
const MAX_DISCARDED: usize = 16 << 20;

/// Bound sockets that listen for HTTP and are not served yet.
#[derive(Debug)]
pub(crate) struct ApiListener {
    bound: Bound,
    /// The host name that `Host` may contain besides `localhost` and addresses.
    host: String,
    timeout: Duration,
}

/// State shared by all connections.
struct Shared {
    api: Api,
    host: String,
    timeout: Duration,
}

impl ApiListener {
    /// Binds every address of the host `host`, TCP only.
    ///
    /// # Errors
    ///
    /// As [`Listen::bind`].
    pub(crate) fn bind(host: &str, port: u16) -> Result<Self, ListenError> {
        let listen = Listen { host: host.to_owned(), port, tcp: true, udp: false };
        Ok(Self { bound: listen.bind()?, host: host.to_owned(), timeout: TIMEOUT })
    }

    /// Returns the addresses that it listens on.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        self.bound.endpoints()
    }

    /// Serves the API in its own task until the program ends.
    pub(crate) fn start(self, proxies: Arc<dyn Proxies>) {
        for open in self.endpoints().iter().filter(|endpoint| !endpoint.addr.ip().is_loopback()) {
            log::warn!(
                "api: {} is reachable from other hosts: its clients can make this machine send to any address",
                open.addr
            );
        }
        rt::spawn(self.serve(proxies));
    }

    /// Serves the API until the future is dropped. A change that has begun is completed even then.
    pub(crate) async fn serve(self, proxies: Arc<dyn Proxies>) {
        let api = Api::new(proxies);
        let shared = Arc::new(Shared { api, host: self.host, timeout: self.timeout });
        let listeners = self.bound.tcp.into_iter().filter_map(watched);
        stream::select_all(listeners.map(|listener| Box::pin(connections("api: ", listener))))
            .for_each_concurrent(MAX_CONNECTIONS, |(socket, _)| converse(&shared, socket))
            .await;
    }
}

/// Registers a listener with the runtime.
fn watched(listener: TcpListener) -> Option<Async<TcpListener>> {
    Async::new(listener).inspect_err(|error| log::error!("api: cannot watch a socket: {error}")).ok()
}

/// Answers the requests of one connection.
async fn converse(shared: &Arc<Shared>, socket: Async<TcpStream>) {
    // Bounds the time for a client that does not read its answers.
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(socket.get_ref()).set_tcp_user_timeout(Some(shared.timeout));
    let service = service_fn(|request| respond(shared, request));
    let served = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(shared.timeout)
        .max_buf_size(MAX_HEAD.0)
        .max_headers(MAX_HEAD.1)
        .half_close(true)
        .serve_connection(FuturesIo::new(&socket), service)
        .await;
    if let Err(error) = served {
        log::debug!("api: {}", escape_short(error.to_string().as_bytes(), 80));
    }
    rt::before(rt::now() + shared.timeout, discard(&socket)).await;
}

/// Shuts down the sending side, and discards input until the peer closes or has sent too much.
async fn discard(mut socket: &Async<TcpStream>) {
    // This fails only if the client has closed first.
    let _ = socket.get_ref().shutdown(Shutdown::Write);
    let (mut discarded, mut buffer) = (0, vec![0; 16 << 10]);
    while discarded < MAX_DISCARDED {
        match socket.read(&mut buffer).await {
            Ok(count) if count > 0 => discarded += count,
            _ => return,
        }
    }
}

/// Answers one request.
async fn respond(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = ask(shared, request).await.unwrap_or_else(|error| Answer::from(&error));
    tell(&method, &path, &answer);
    Ok(response(answer))
}

async fn ask(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Answer, ApiError> {
    let deadline = rt::now() + shared.timeout;
    admit(&shared.host, &request)?;
    let (head, body) = request.into_parts();
    let slow = || Err(ApiError::new(408, format!("the body took more than {:?}", shared.timeout)));
    let body = rt::before(deadline, read(body)).await.unwrap_or_else(slow)?;
    let (sender, receiver) = oneshot::channel();
    let busy = shared.clone();
    // A task of its own: a client that disconnects must not leave a change incomplete.
    rt::spawn(async move {
        let _ = sender.send(busy.api.answer(head.method.as_str(), head.uri.path(), &body).await);
    });
    match rt::before(deadline, receiver).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(_)) => Err(ApiError::new(500, "the request was given up")),
        None => Err(ApiError::new(504, format!("this takes more than {:?}; it goes on", shared.timeout))),
    }
}

/// Reads a whole body.
async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(413, format!("a body has at most {MAX_BODY} bytes")))
        }
        Err(_) => Err(ApiError::new(400, "the body broke off")),
    }
}

/// Refuses requests that a browser sends for a web page. A page of another origin has it in `Origin`. A page whose
/// name was made to resolve to this machine still has that name in `Host`. Addresses cannot be made to resolve.
fn admit<B>(host: &str, request: &Request<B>) -> Result<(), ApiError> {
    if request.headers().contains_key(header::ORIGIN) {
        return Err(ApiError::new(403, "not for browsers: the request has an Origin header"));
    }
    let named = request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let named = named.chain(request.uri().authority().map(|authority| authority.as_str().as_bytes()));
    for name in named {
        if !std::str::from_utf8(name).is_ok_and(|name| is_ours(host, name)) {
            let name = escape_short(name, 80);
            return Err(ApiError::new(403, format!("Host is `{name}`; ask by address, or as localhost")));
        }
    }
    Ok(())
}

/// Whether `name`, with or without a port, is an address, `localhost` or `host`.
fn is_ours(host: &str, name: &str) -> bool {
    let bare = match name.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => name,
    };
    let number = bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(bare);
    number.parse::<IpAddr>().is_ok() || ["localhost", host].iter().any(|own| bare.eq_ignore_ascii_case(own))
}

/// Logs one line for every change, without counters, which would be too long.
fn tell(method: &Method, path: &str, answer: &Answer) {
    if method == Method::GET || answer.status >= 300 {
        return;
    }
    let mut body = answer.body.clone().unwrap_or_default();
    if let Some(proxy) = body.as_object_mut() {
        proxy.remove("stats");
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (path, body) = (escape_short(path.as_bytes(), 80), escape_short(body.as_bytes(), 400));
    log::info!("api: {method} {path}: {} {body}", answer.status);
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let text = answer.body.map_or_else(String::new, |body| format!("{body}\n"));
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if response.status() != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::SocketAddr;

    use super::*;
    use crate::lab::api::tests::Fake;

    /// An API on loopback whose timeout is `timeout` milliseconds.
    fn open(timeout: u64) -> SocketAddr {
        let mut listener = ApiListener::bind("127.0.0.1", 0).unwrap();
        listener.timeout = Duration::from_millis(timeout);
        let addr = listener.endpoints()[0].addr;
        rt::spawn(listener.serve(Arc::new(Fake::default())));
        addr
    }

    fn connect(addr: SocketAddr, text: &str) -> TcpStream {
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        socket
    }

    /// Returns all bytes until the server closes.
    fn rest(mut socket: TcpStream) -> String {
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    /// Returns the answer to one request with these headers and this body.
    fn ask(addr: SocketAddr, request: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let head =
            format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        rest(connect(addr, &format!("{head}{body}")))
    }

    #[test]
    fn addresses_localhost_and_the_configured_name_are_accepted_as_host() {
        let ours = [
            "localhost",
            "LOCALHOST:8474",
            "127.0.0.1",
            "127.0.0.1:8474",
            "[::1]",
            "[::1]:8474",
            "Lab:80",
            "lab",
        ];
        for name in ours {
            assert!(is_ours("lab", name), "{name}");
        }
        let others = [
            "",
            ":80",
            "evil.example",
            "evil.example:1",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "lab:x",
        ];
        for name in others {
            assert!(!is_ours("lab", name), "{name}");
        }
    }

    #[test]
    fn a_request_is_answered_in_json_with_a_status() {
        let addr = open(10_000);
        let made = ask(addr, "POST /proxies", "Host: localhost\r\n", r#"{"name":"a","upstream":"h:1"}"#);
        assert!(made.starts_with("HTTP/1.1 201 Created\r\n"), "{made}");
        assert!(made.contains("content-type: application/json\r\n"), "{made}");
        let gone = ask(addr, "DELETE /proxies/a", "", "");
        assert!(gone.starts_with("HTTP/1.1 204 No Content\r\n") && gone.ends_with("\r\n\r\n"), "{gone}");
        let missing = ask(addr, "GET /proxies/a", "", "");
        assert!(missing.ends_with("{\"error\":\"proxy not found\",\"status\":404}\n"), "{missing}");
    }

    #[test]
    fn requests_that_a_web_page_could_send_are_refused() {
        let addr = open(10_000);
        let body = r#"{"name":"a","upstream":"h:1"}"#;
        for headers in [
            "Origin: http://evil.example\r\n",
            "Origin: null\r\n",
            "Host: evil.example:8474\r\n",
            "Host: \u{e9}\r\n",
        ] {
            let answer = ask(addr, "POST /proxies", headers, body);
            assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{headers}: {answer}");
        }
        let answer = ask(addr, "POST http://evil.example/proxies", "Host: localhost\r\n", body);
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(ask(addr, "GET /proxies", "", "").ends_with("\r\n\r\n{}\n"));
    }

    #[test]
    fn a_body_of_64_kib_is_read_and_one_byte_more_is_not() {
        let addr = open(10_000);
        let padded = |length: usize| format!("{{\"name\":\"a\",\"upstream\":\"h:1\"{:1$}}}", "", length - 29);
        let (fits, exceeds) = (padded(MAX_BODY), padded(MAX_BODY + 1));
        assert_eq!((fits.len(), exceeds.len()), (MAX_BODY, MAX_BODY + 1));
        assert!(ask(addr, "POST /proxies", "", &fits).starts_with("HTTP/1.1 201 "));
        let status = ask(addr, "POST /proxies", "", &exceeds);
        assert!(status.starts_with("HTTP/1.1 413 "), "{status}");
    }

    #[test]
    fn a_client_that_sends_a_too_long_body_before_it_reads_still_gets_the_error() {
        let addr = open(10_000);
        let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
        for chunks in [7, 100, 1_000] {
            let body = chunk.repeat(chunks);
            for (header, body) in [
                ("Transfer-Encoding: chunked".to_owned(), format!("{body}0\r\n\r\n")),
                (format!("Content-Length: {}", body.len()), body),
            ] {
                let request = format!("POST /proxies HTTP/1.1\r\n{header}\r\n\r\n{body}");
                let answer = rest(connect(addr, &request));
                assert!(answer.starts_with("HTTP/1.1 413 "), "{chunks} chunks, {header}: {answer}");
            }
        }
    }

    #[test]
    fn reading_requests_do_not_wait_for_a_slow_change() {
        let addr = open(200);
        let slow = ask(addr, "POST /proxies", "", r#"{"name":"a","upstream":"never:1"}"#);
        assert!(slow.starts_with("HTTP/1.1 504 ") && slow.contains("it goes on"), "{slow}");
        for path in ["/version", "/proxies"] {
            assert!(ask(addr, &format!("GET {path}"), "", "").starts_with("HTTP/1.1 200 "), "{path}");
        }
        let next = ask(addr, "POST /proxies", "", r#"{"name":"b","upstream":"h:1"}"#);
        assert!(next.starts_with("HTTP/1.1 504 "), "another change waits: {next}");
    }

    #[test]
    fn one_connection_serves_many_requests_and_ends_when_it_is_idle() {
        let addr = open(200);
        let three = rest(connect(addr, &"GET /version HTTP/1.1\r\n\r\n".repeat(3)));
        assert_eq!(three.matches("HTTP/1.1 200 OK").count(), 3, "{three}");
    }

    #[test]
    fn a_client_that_is_too_slow_with_head_or_body_is_disconnected() {
        let addr = open(100);
        let silent = connect(addr, "");
        let head = connect(addr, "GET /version HTTP/1.1\r\nX: ");
        let body = connect(addr, "POST /reset HTTP/1.1\r\nContent-Length: 5\r\n\r\n1234");
        assert!(rest(body).starts_with("HTTP/1.1 408 "));
        rest(head);
        assert_eq!(rest(silent), "");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_client_that_never_reads_its_answers_is_disconnected() {
        let mut socket = connect(open(100), "");
        socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let many = "GET /version HTTP/1.1\r\n\r\n".repeat(1_000);
        let error = loop {
            if let Err(error) = socket.write_all(many.as_bytes()) {
                break error.kind();
            }
        };
        assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
    }

    #[test]
    fn connections_beyond_the_bound_wait_until_one_ends() {
        let addr = open(10_000);
        let mut held: Vec<TcpStream> =
            (0..MAX_CONNECTIONS).map(|_| connect(addr, "GET /version HTTP/1.1\r\n\r\n")).collect();
        for socket in &mut held {
            assert_eq!(socket.read(&mut [0; 8]).unwrap(), 8);
        }
        let mut waiting = connect(addr, "GET /version HTTP/1.1\r\nConnection: close\r\n\r\n");
        waiting.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(waiting.read(&mut [0; 1]).is_err(), "it has to wait");
        held.pop();
        waiting.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(rest(waiting).contains("200 OK"));
    }

    #[test]
    fn malformed_requests_do_not_stop_it_and_never_get_200() {
        let addr = open(10_000);
        for text in [
            "\0\0\0\r\n\r\n",
            "GET\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "POST /reset HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(!rest(connect(addr, text)).contains(" 200 "), "{text:?}");
        }
        let head = format!("GET /version HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
        let mut socket = connect(addr, "");
        let _ = socket.write_all(head.as_bytes());
        let mut text = Vec::new();
        let _ = socket.read_to_end(&mut text);
        assert!(!text.starts_with(b"HTTP/1.1 2"));
        assert!(ask(addr, "GET /version", "", "").starts_with("HTTP/1.1 200 OK"));
    }
}
