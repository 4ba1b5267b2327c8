//! The HTTP API of `lab proxy`, with the real program, raw HTTP and real datagrams.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "the upstream has a thread of its own")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::{eventually, uninterrupted};

/// The longest wait for an expected event.
const SOON: Duration = Duration::from_secs(5);

/// A running `lab proxy` with an API.
struct Lab {
    program: Program,
    api: SocketAddr,
}

impl Lab {
    fn start(options: &[&str]) -> Self {
        let args: Vec<&str> = ["proxy", "--api", "127.0.0.1:0"].iter().chain(options).copied().collect();
        let program = Program::start(env!("CARGO_BIN_EXE_lab"), &args);
        let mut api = None;
        eventually("the API's address is printed", || {
            let out = program.out();
            let line = out.lines().find_map(|line| line.strip_prefix("api on http://"));
            api = line.filter(|_| out.ends_with('\n')).map(|addr| addr.parse().unwrap());
            api.is_some()
        });
        Self { program, api: api.unwrap() }
    }

    /// The status and the JSON of the answer to a request.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut socket = TcpStream::connect(self.api).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.api);
        write!(socket, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() })
    }

    /// The JSON of the answer to a request, which must have this status.
    fn expect(&self, status: u16, method: &str, path: &str, body: &Value) -> Value {
        let (got, answer) = self.ask(method, path, body);
        assert_eq!(got, status, "{method} {path}: {answer}");
        answer
    }

    fn end(self) {
        self.program.signal("TERM");
        let ended = self.program.wait();
        assert_eq!(ended.code, 0, "{ended:?}");
    }
}

/// An upstream that echoes datagrams for as long as the test runs.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = uninterrupted(|| socket.recv_from(&mut buffer)) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    addr
}

/// A new client, and so a new flow, of the proxy at `listen`.
fn client(listen: &Value) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(listen.as_str().unwrap().strip_prefix("udp://").unwrap()).unwrap();
    socket
}

fn send(socket: &UdpSocket, sent: &[&str]) {
    for text in sent {
        socket.send(text.as_bytes()).unwrap();
    }
}

/// All echoed datagrams up to `last`.
fn until(socket: &UdpSocket, last: &str) -> Vec<String> {
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut all: Vec<String> = Vec::new();
    let mut buffer = [0; 100];
    while all.last().is_none_or(|got| got != last) {
        let length = uninterrupted(|| socket.recv(&mut buffer))
            .unwrap_or_else(|error| panic!("only {all:?}: {error}"));
        all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    all
}

/// The echoed ones of these datagrams. The last must be echoed, so that the test does not wait for lost ones.
fn returned(socket: &UdpSocket, sent: &[&str]) -> Vec<String> {
    send(socket, sent);
    until(socket, sent.last().unwrap())
}

/// Waits until `count` datagrams of the clients of `dns` are counted as lost.
fn eventually_lost(lab: &Lab, count: u64) {
    eventually("the datagram has met its link", || {
        lab.expect(200, "GET", "/proxies/dns", &Value::Null)["stats"]["up"]["lost"] == count
    });
}

fn dns(to: SocketAddr, toxics: &Value) -> Value {
    json!({"name": "dns", "listen": "udp://127.0.0.1:0", "upstream": to.to_string(), "toxics": toxics})
}

#[test]
fn a_udp_proxy_is_created_with_its_toxic_changed_switched_off_and_deleted() {
    let lab = Lab::start(&[]);
    let loss = json!([{"name": "all", "type": "loss", "stream": "upstream", "attributes": {"rate": 1}}]);
    let made = lab.expect(201, "POST", "/proxies", &dns(echo(), &loss));
    let client = client(&made["listen"]);
    let path = "/proxies/dns/toxics/all";
    let on_and_off = [
        (Value::Null, "PATCH", json!({"toxicity": 0}), 200),
        (json!({"toxicity": 1}), "PATCH", json!({"attributes": {"rate": 0}}), 200),
        (json!({"attributes": {"rate": 1}}), "DELETE", Value::Null, 204),
    ];
    for (count, (on, method, off, status)) in (1..).zip(on_and_off) {
        if !on.is_null() {
            lab.expect(200, "PATCH", path, &on);
        }
        send(&client, &["lost"]);
        eventually_lost(&lab, count);
        lab.expect(status, method, path, &off);
        assert_eq!(returned(&client, &["passes"]), ["passes"], "whatever was lost never comes");
    }
    let stats = &lab.expect(200, "GET", "/proxies/dns", &Value::Null)["stats"];
    assert_eq!(
        (&stats["flows"], &stats["up"]["datagrams"], &stats["down"]["datagrams"]),
        (&json!(1), &json!(6), &json!(3))
    );
    lab.end();
}

#[test]
fn a_toxic_drops_the_first_two_datagrams_of_every_flow_and_no_other() {
    let lab = Lab::start(&[]);
    let drop = json!([{"type": "drop", "stream": "upstream", "attributes": {"list": "1,2"}}]);
    let made = lab.expect(201, "POST", "/proxies", &dns(echo(), &drop));
    for _ in 0..2 {
        assert_eq!(returned(&client(&made["listen"]), &["1", "2", "3", "4"]), ["3", "4"]);
    }
    lab.end();
}

#[test]
fn reset_restores_the_proxies_of_the_command_line() {
    let to = format!("udp://{}", echo());
    let lab = Lab::start(&["--listen", "udp://127.0.0.1:0", "--to", &to, "--link-up", "list:1"]);
    let all = lab.expect(200, "GET", "/proxies", &Value::Null);
    let (name, shown) = all.as_object().unwrap().iter().next().unwrap();
    assert_eq!(shown["link_up"], "list:1");
    let path = format!("/proxies/{name}");
    lab.expect(
        200,
        "POST",
        &format!("{path}/toxics"),
        &json!({"type": "timeout", "attributes": {"timeout": 0}}),
    );
    lab.expect(200, "PATCH", &path, &json!({"enabled": false}));
    lab.expect(204, "POST", "/reset", &Value::Null);
    let after = lab.expect(200, "GET", &path, &Value::Null);
    assert_eq!(after, *shown);
    assert_eq!(returned(&client(&after["listen"]), &["1", "2"]), ["2"]);
    lab.end();
}

#[test]
fn a_tcp_proxy_obeys_the_requests_of_toxiproxys_clients() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = upstream.local_addr().unwrap().to_string();
    let lab = Lab::start(&[]);
    let wanted =
        json!({"name": "web", "listen": "127.0.0.1:0", "upstream": to, "enabled": true, "toxics": null});
    let made = lab.expect(201, "POST", "/proxies", &wanted);
    let listen = made["listen"].as_str().unwrap();
    assert_eq!(made["upstream"], to);
    let mut near = TcpStream::connect(listen).unwrap();
    near.write_all(b"ping").unwrap();
    let (mut far, _) = upstream.accept().unwrap();
    let mut buffer = [0; 4];
    far.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ping");
    lab.expect(200, "POST", "/proxies/web/toxics", &json!({"type": "reset_peer", "stream": "upstream"}));
    near.write_all(b"ping").unwrap();
    near.set_read_timeout(Some(SOON)).unwrap();
    let error = near.read(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    lab.expect(200, "POST", "/proxies/web", &json!({"enabled": false}));
    assert!(TcpStream::connect(listen).is_err());
    lab.expect(200, "POST", "/proxies/web", &json!({"enabled": true}));
    TcpStream::connect(listen).unwrap();
    lab.end();
}

#[test]
fn an_invalid_request_is_refused_with_toxiproxys_texts_and_changes_nothing() {
    let lab = Lab::start(&[]);
    let to = echo();
    lab.expect(201, "POST", "/proxies", &dns(to, &json!([])));
    let before = lab.expect(200, "GET", "/proxies", &Value::Null);
    let taken = json!({"name": "b", "listen": before["dns"]["listen"], "upstream": to.to_string()});
    for (status, method, path, body, why) in [
        (409, "POST", "/proxies", dns(to, &json!([])), "proxy already exists"),
        (404, "GET", "/proxies/nobody", Value::Null, "proxy not found"),
        (404, "DELETE", "/proxies/dns/toxics/nothing", Value::Null, "toxic not found"),
        (400, "POST", "/proxies", json!({"name": "x"}), "missing required field: upstream"),
        (400, "POST", "/proxies/dns/toxics", json!({"type": "slicer"}), "invalid toxic type"),
        (400, "POST", "/proxies", json!({"name": "x", "upstream": "nonsense"}), "nonsense"),
        (500, "POST", "/proxies", taken, "address already in use"),
        (405, "PUT", "/proxies", Value::Null, "PUT is not for /proxies"),
    ] {
        let answer = lab.expect(status, method, path, &body);
        assert!(answer["error"].as_str().unwrap().contains(why), "{path}: {answer}");
        assert_eq!(answer["status"], status);
    }
    assert_eq!(lab.expect(200, "GET", "/proxies", &Value::Null), before);
    lab.end();
}

#[test]
fn an_invalid_populate_creates_nothing() {
    let lab = Lab::start(&[]);
    let good = json!({"name": "good", "upstream": echo().to_string()});
    for bad in [
        json!({"name": "b c", "upstream": "127.0.0.1:1"}),
        json!({"name": "b", "upstream": "127.0.0.1:0"}),
        json!({"name": "b", "listen": "udp://127.0.0.1:0", "upstream": "tcp://127.0.0.1:1"}),
    ] {
        lab.expect(400, "POST", "/populate", &json!([good, bad]));
        assert_eq!(lab.expect(200, "GET", "/proxies", &Value::Null), json!({}), "{bad}");
    }
    lab.end();
}

#[test]
fn a_reset_enables_proxies_and_removes_toxics_where_possible_and_names_the_rest() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = taken.local_addr().unwrap().to_string();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = upstream.local_addr().unwrap().to_string();
    let lab = Lab::start(&[]);
    let toxics = json!([{"type": "latency", "attributes": {"latency": 5}}]);
    for (name, listen) in [("held", held.as_str()), ("off", "127.0.0.1:0")] {
        let off = json!({"name": name, "listen": listen, "upstream": to, "enabled": false, "toxics": toxics});
        lab.expect(201, "POST", "/proxies", &off);
    }
    let answer = lab.expect(500, "POST", "/reset", &Value::Null);
    let why = answer["error"].as_str().unwrap();
    assert!(why.contains("`held` stays off") && why.contains("in use") && !why.contains("`off`"), "{why}");
    let all = lab.expect(200, "GET", "/proxies", &Value::Null);
    assert_eq!((&all["held"]["enabled"], &all["held"]["toxics"]), (&json!(false), &json!([])));
    assert_eq!((&all["off"]["enabled"], &all["off"]["toxics"]), (&json!(true), &json!([])));
    // A freed port might be taken by another test.
    lab.expect(200, "PATCH", "/proxies/held", &json!({"listen": "127.0.0.1:0"}));
    lab.expect(204, "POST", "/reset", &Value::Null);
    drop(taken);
    lab.end();
}

#[test]
fn curl_drives_the_api_if_installed() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let lab = Lab::start(&[]);
    let url = format!("http://{}/proxies", lab.api);
    let body = dns(echo(), &json!([{"type": "latency", "attributes": {"latency": 5}}])).to_string();
    let made = Command::new("curl").args(["-s", "--max-time", "5", &url, "-d", &body]).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(made["effective_down"], "delay:0.005s");
    assert_eq!(returned(&client(&made["listen"]), &["x"]), ["x"]);
    lab.end();
}

#[test]
fn an_unusable_api_address_is_one_line_and_the_right_exit_code() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (api, code, why) in [(addr.as_str(), 1, "already in use"), ("127.0.0.1", 2, "127.0.0.1")] {
        let ended = Program::start(env!("CARGO_BIN_EXE_lab"), &["proxy", "--api", api]).wait();
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.err.contains(why) && ended.out.is_empty(), "{ended:?}");
    }
}
