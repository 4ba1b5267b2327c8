//! `lab proxy` over real sockets, on loopback.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "a real program takes real time, and its peers need threads")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::program::{Ended, Program, full_pipe};
use crate::support::proxy::{Proxy, udp_client};
use crate::support::{eventually, uninterrupted};
use sayagain::link::{Direction, Link, LinkConfig};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

/// A datagram upstream that does not answer.
fn sink() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// Binds a port that was in use: a program that another test is starting may still have inherited it.
fn bind_again(addr: SocketAddr) -> UdpSocket {
    let mut bound = None;
    eventually("the address is free again", || {
        bound = UdpSocket::bind(addr).ok();
        bound.is_some()
    });
    bound.unwrap()
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    receive_from(socket).0
}

fn receive_from(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (count, from) = uninterrupted(|| socket.recv_from(&mut buffer)).unwrap();
    buffer.truncate(count);
    (buffer, from)
}

/// The datagrams that arrive before the marker of three bytes, which no impairment affects.
fn until_marker(socket: &UdpSocket) -> Vec<u8> {
    let datagrams = std::iter::repeat_with(|| receive(socket));
    datagrams.take_while(|bytes| bytes.len() != 3).map(|bytes| bytes[0]).collect()
}

/// Sends 0 to `n` - 1, each as a datagram of one byte, and a marker.
fn send_numbers(client: &UdpSocket, n: u8) {
    (0..n).for_each(|number| assert_eq!(client.send(&[number]).unwrap(), 1));
    client.send(b"end").unwrap();
}

/// The datagrams of 0 to `n` - 1 that a link alone lets pass.
fn passed(link: &str, seed: u64, flow: u64, n: u8) -> Vec<u8> {
    let config: LinkConfig = link.parse().unwrap();
    let mut link = Link::new(config, seed, Direction::Up);
    let now = Instant::now();
    (0..n).filter(|number| link.send(now, flow, vec![*number]).fate.is_passed()).collect()
}

/// A path in the directory of this test, without a file.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Runs it until it ends by itself.
fn run(options: &[&str]) -> Ended {
    Program::start(env!("CARGO_BIN_EXE_lab"), &[&["proxy"], options].concat()).wait()
}

#[test]
fn datagrams_of_many_clients_pass_in_both_directions_and_sigterm_ends_the_proxy_with_totals() {
    let (upstream, url) = sink();
    let proxy = Proxy::to(&url, &["--seed", "3"]);
    let clients: Vec<UdpSocket> = (0..20).map(|_| proxy.client()).collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(format!("request {n}").as_bytes()).unwrap();
        let (request, from) = receive_from(&upstream);
        assert_eq!(request, format!("request {n}").as_bytes());
        upstream.send_to(&request, from).unwrap();
    }
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(receive(client), format!("request {n}").as_bytes());
    }
    let ended = proxy.end();
    assert_eq!(ended.code, 0);
    assert!(ended.err.contains("seed 3, up none, down none"), "{}", ended.err);
    assert!(ended.err.contains("udp1: 20 flows; up 20 datagrams, lost 0 of 20"), "{}", ended.err);
    let totals: Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
    assert_eq!(totals["proxies"][0]["down"]["datagrams"], 20);
}

#[test]
fn datagrams_of_any_size_pass_whole() {
    let (upstream, url) = sink();
    let proxy = Proxy::to(&url, &[]);
    let client = proxy.client();
    for size in [0, 1, 1_472, 9_000, 65_507] {
        client.send(&vec![7; size]).unwrap();
        assert_eq!(receive(&upstream).len(), size);
    }
    drop(proxy);
}

#[test]
fn each_flow_gets_the_verdicts_of_a_link_alone_with_the_same_seed() {
    for link in ["iid:.3", "gilbert:.3,4", "list:1,2,7-9"] {
        let (upstream, url) = sink();
        let proxy = Proxy::to(&url, &["--link-up", link, "--seed", "11", "--match", "up:size=1"]);
        for flow in 0..3 {
            send_numbers(&proxy.client(), 200);
            assert_eq!(until_marker(&upstream), passed(link, 11, flow, 200), "{link}, flow {flow}");
        }
        let totals = proxy.totals();
        let up = &totals["proxies"][0]["up"];
        assert_eq!((&up["datagrams"], &up["matched"]), (&603.into(), &600.into()));
        assert!(up["lost"].as_u64().unwrap() > 0);
    }
}

#[test]
fn datagrams_that_match_no_rule_pass_unchanged() {
    let (upstream, url) = sink();
    let rules =
        ["--match", "size>=4", "--match", "first=\"no\"", "--link-up", "iid:1", "--link-down", "iid:1"];
    let proxy = Proxy::to(&url, &rules);
    let client = proxy.client();
    for (request, arrives) in [("no", true), ("nope", false), ("yes!", true), ("no!!", false)] {
        client.send(request.as_bytes()).unwrap();
        client.send(b"end").unwrap();
        let (first, from) = receive_from(&upstream);
        assert_eq!(first == request.as_bytes(), arrives, "{request}");
        if arrives {
            assert_eq!(receive(&upstream), b"end");
        }
        upstream.send_to(request.as_bytes(), from).unwrap();
        upstream.send_to(b"end", from).unwrap();
        assert_eq!(receive(&client) == request.as_bytes(), arrives, "{request}");
        if arrives {
            assert_eq!(receive(&client), b"end");
        }
    }
}

#[test]
fn a_replay_gives_each_datagram_its_recorded_verdict() {
    let file = scratch("record.jsonl");
    let name = file.to_str().unwrap();
    let (upstream, url) = sink();
    let record = ["--link-up", "iid:.4+corrupt:.3+truncate:.2", "--seed", "5", "--match", "up:size=2"];
    let proxy = Proxy::to(&url, &[&record[..], &["--record", name]].concat());
    let exchange = |proxy: &Proxy| {
        let client = proxy.client();
        (0..100_u8).for_each(|number| assert_eq!(client.send(&[number, 255 - number]).unwrap(), 2));
        client.send(b"end").unwrap();
        let datagrams = std::iter::repeat_with(|| receive(&upstream));
        datagrams.take_while(|bytes| bytes != b"end").collect::<Vec<_>>()
    };
    let recorded = exchange(&proxy);
    let totals = proxy.totals();
    assert_eq!(totals["record"]["written"], 100);
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["seed"]), (101, &5.into()));
    let lost = lines.iter().filter(|line| line["fate"] == "lost").count();
    assert_eq!(Value::from(lost), totals["proxies"][0]["up"]["lost"]);
    let proxy = Proxy::to(&url, &["--replay", name, "--match", "up:size=2"]);
    assert_eq!(exchange(&proxy), recorded);
    assert_eq!(proxy.totals()["proxies"][0]["up"]["lost"], lost);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn an_idle_flow_is_dropped_and_the_oldest_is_replaced_at_the_limit() {
    let (upstream, url) = sink();
    let proxy = Proxy::to(&url, &["--max-flows", "2", "--idle", "30"]);
    let clients = [proxy.client(), proxy.client(), proxy.client()];
    let mut ports = Vec::new();
    for client in &clients {
        client.send(b"hello").unwrap();
        ports.push(receive_from(&upstream).1);
    }
    // The third has replaced the first; the second still exists.
    clients[1].send(b"again").unwrap();
    assert_eq!(receive_from(&upstream).1, ports[1]);
    let totals = proxy.totals();
    assert_eq!((&totals["proxies"][0]["flows"], &totals["proxies"][0]["evicted"]), (&3.into(), &1.into()));
    let proxy = Proxy::to(&url, &["--idle", ".001"]);
    let client = proxy.client();
    client.send(b"hello").unwrap();
    let (_, first) = receive_from(&upstream);
    eventually("the flow is another", || {
        client.send(b"hello").unwrap();
        receive_from(&upstream).1 != first
    });
}

#[test]
fn a_datagram_delayed_for_longer_than_the_idle_time_of_its_flow_arrives() {
    let (upstream, url) = sink();
    let proxy = Proxy::to(&url, &["--link-up", "delay:200ms", "--idle", ".02"]);
    let client = proxy.client();
    client.send(b"late").unwrap();
    assert_eq!(receive(&upstream), b"late");
    assert_eq!(proxy.totals()["proxies"][0]["gone"], 0);
}

#[test]
fn an_upstream_that_refuses_datagrams_is_not_logged_and_may_start_later() {
    let (upstream, url) = sink();
    let addr = upstream.local_addr().unwrap();
    drop(upstream);
    let proxy = Proxy::to(&url, &[]);
    let client = proxy.client();
    (0..10).for_each(|_| assert_eq!(client.send(b"anybody?").unwrap(), 8));
    let upstream = bind_again(addr);
    upstream.set_read_timeout(Some(SOON)).unwrap();
    client.send(b"there?").unwrap();
    let mut got = std::iter::repeat_with(|| receive(&upstream));
    assert!(got.any(|bytes| bytes == b"there?"));
    assert!(!proxy.err().contains("WARN"), "{}", proxy.err());
}

/// An upstream for one stream: reads to its end, sends the given answer, and returns its input.
fn server(answer: &'static [u8]) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        stream.write_all(answer).unwrap();
        read
    });
    (url, thread)
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn pattern(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

#[test]
fn a_stream_passes_whole_and_each_end_closes_its_own_half() {
    let (url, thread) = server(b"and this back");
    let proxy = Proxy::to(&url, &[]);
    let mut client = connect(&proxy);
    let bytes = pattern(3_000_000);
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"and this back");
    assert!(thread.join().unwrap() == bytes);
    let totals = proxy.totals();
    let tcp = &totals["proxies"][0];
    assert_eq!((&tcp["name"], &tcp["connections"], &tcp["open"]), (&"tcp1".into(), &1.into(), &0.into()));
    assert_eq!((&tcp["up"]["bytes"], &tcp["down"]["bytes"]), (&3_000_000.into(), &13.into()));
}

#[test]
fn a_stream_over_a_lossy_link_stalls_and_loses_nothing() {
    let (url, thread) = server(b"");
    // A seed that loses one of the first eight transmissions, so that the stream stalls shortly.
    let seed = (1..).find(|seed| passed("iid:.3", *seed, 0, 8).len() == 7).unwrap().to_string();
    let proxy = Proxy::to(&url, &["--link-up", "iid:.3", "--seed", &seed]);
    let mut client = connect(&proxy);
    let (bytes, start) = (pattern(12_000), Instant::now());
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(thread.join().unwrap() == bytes);
    let took = start.elapsed();
    let totals = proxy.totals();
    let stalls = totals["proxies"][0]["up"]["stalls"].as_u64().unwrap();
    assert!(stalls > 0 && took >= Duration::from_millis(200), "{stalls} {took:?}");
}

#[test]
fn a_stream_is_reset_with_its_probability_and_ineffective_impairments_are_reported() {
    let (url, _) = server(b"");
    let proxy = Proxy::to(&url, &["--link-up", "reset:1+corrupt:1+mtu:9", "--match", "size>1"]);
    let mut client = connect(&proxy);
    client.write_all(b"hello").unwrap();
    let error = client.read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let ended = proxy.end();
    assert!(ended.err.contains("corrupt, mtu, --match has no effect on tcp://"), "{}", ended.err);
    assert!(ended.err.contains("1 resets"), "{}", ended.err);
}

#[test]
fn a_client_whose_upstream_cannot_be_reached_is_reset() {
    // Bound to reserve the port, but not listening.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let url = format!("tcp://{}", silent.local_addr().unwrap().as_socket().unwrap());
    let proxy = Proxy::to(&url, &[]);
    let mut client = connect(&proxy);
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    eventually("it says so", || proxy.err().contains("tcp1: cannot connect to 127.0.0.1"));
    assert_eq!(proxy.totals()["proxies"][0]["failed"], 1);
}

#[test]
fn a_receiver_that_does_not_read_blocks_the_sender_and_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(&format!("tcp://{}", listener.local_addr().unwrap()), &[]);
    let mut client = connect(&proxy);
    let (mut upstream, _) = listener.accept().unwrap();
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (chunk, mut sent) = (vec![9; 1 << 16], 0_usize);
    while let Ok(count) = client.write(&chunk) {
        sent += count;
        assert!(sent < 64 << 20, "nothing stops it");
    }
    drop(client);
    upstream.set_read_timeout(Some(SOON)).unwrap();
    let mut read = Vec::new();
    upstream.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), sent);
}

/// A connection through the proxy whose client has read the beginning of the answer.
fn half_answered(proxy: &Proxy, listener: &TcpListener) -> [TcpStream; 2] {
    let mut client = connect(proxy);
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.set_read_timeout(Some(SOON)).unwrap();
    upstream.write_all(b"half").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    [client, upstream]
}

#[test]
fn a_reset_stream_does_not_end_like_a_closed_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let options = ["--api", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0", "--to", &url];
    let proxy = Proxy::start(2, &options);
    let out = proxy.out();
    let api = out.lines().find_map(|line| line.strip_prefix("api on http://")).unwrap();
    let is_reset = |ends: [TcpStream; 2]| {
        ends.map(|mut end| end.read(&mut [0; 9]).unwrap_err().kind()) == [ErrorKind::ConnectionReset; 2]
    };
    let ends = half_answered(&proxy, &listener);
    assert_eq!(ask(api, "PATCH", "/proxies/tcp1", r#"{"enabled": false}"#).0, 200);
    assert!(is_reset(ends));
    assert_eq!(ask(api, "PATCH", "/proxies/tcp1", r#"{"enabled": true}"#).0, 200);
    let ends = half_answered(&proxy, &listener);
    assert_eq!(proxy.end().code, 0);
    assert!(is_reset(ends));
}

#[test]
fn a_client_that_disconnects_from_a_stalled_stream_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let proxy = Proxy::to(&url, &["--link-up", "iid:1"]);
    let mut client = connect(&proxy);
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.set_read_timeout(Some(SOON)).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    while client.write(&[9; 1 << 16]).is_ok() {}
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(upstream.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_rate_limits_a_stream() {
    let (url, thread) = server(b"");
    let proxy = Proxy::to(&url, &["--link", "rate:8mbit"]);
    let (mut client, start) = (connect(&proxy), Instant::now());
    client.write_all(&pattern(300_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(thread.join().unwrap().len(), 300_000);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(298), "{took:?}");
}

#[test]
fn tcp_and_udp_pass_together_and_over_ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let upstream = UdpSocket::bind("[::1]:0").unwrap();
    upstream.set_read_timeout(Some(SOON)).unwrap();
    let udp = format!("udp://{}", upstream.local_addr().unwrap());
    let (tcp, thread) = server(b"stream");
    let options = ["--listen", "udp://[::1]:0", "--to", &udp, "--listen", "tcp://[::1]:0", "--to", &tcp];
    let proxy = Proxy::start(2, &options);
    let client = udp_client(proxy.addrs[0]);
    client.send(b"ping").unwrap();
    let (ping, from) = receive_from(&upstream);
    upstream.send_to(&ping, from).unwrap();
    assert_eq!(receive(&client), b"ping");
    let mut stream = TcpStream::connect(proxy.addrs[1]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!((answer.as_str(), thread.join().unwrap().len()), ("stream", 0));
}

#[test]
fn sigusr1_logs_the_totals_and_sigint_ends_it() {
    let (_upstream, url) = sink();
    let proxy = Proxy::to(&url, &["-q"]);
    proxy.signal("USR1");
    eventually("the totals are logged", || proxy.err().contains("udp1: 0 flows; up 0 datagrams"));
    proxy.signal("INT");
    let ended = proxy.wait();
    assert_eq!(ended.code, 0);
    assert!(!ended.err.contains("seed"), "{}", ended.err);
}

#[test]
fn a_port_in_use_is_one_line_and_leaves_no_files() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = format!("udp://{}", taken.local_addr().unwrap());
    let file = scratch("port.jsonl");
    let (free, to) = ("udp://127.0.0.1:0", "udp://127.0.0.1:9");
    let ended = run(&[
        "--listen",
        free,
        "--to",
        to,
        "--listen",
        &listen,
        "--to",
        to,
        "--record",
        file.to_str().unwrap(),
    ]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    let expected =
        format!("error: cannot listen on {listen}: address already in use; is another server running?\n");
    assert_eq!(ended.err, expected);
    assert!(!file.exists());
}

#[test]
fn an_invalid_option_is_a_usage_error_in_one_line_and_creates_no_files() {
    let file = scratch("usage.jsonl");
    let record = file.to_str().unwrap();
    let pair = ["--listen", "udp://:0", "--to", "udp://127.0.0.1:9", "--record", record];
    let lines: [&[&str]; 12] = [
        &["--listen", "udp://:0"],
        &["--listen", "udp://:0", "--to", "tcp://:9"],
        &["--listen", "udp://:0", "--listen", "udp://:0", "--to", "udp://:9"],
        &["--listen", "http://:0", "--to", "udp://:9"],
        &["--listen", "udp://:0", "--to", "udp://:0"],
        &["--link", "bernoulli:.1"],
        &["--link-up", "iid:1.5"],
        &["--match", "size~3"],
        &["--max-flows", "0"],
        &["--idle", "0"],
        &["--replay", "x", "--link", "iid:.1"],
        &["--replay", "x", "--api", "127.0.0.1:0"],
    ];
    for line in lines {
        let words = if line[0] == "--listen" {
            [line, &["--record", record]].concat()
        } else {
            [&pair[..], line].concat()
        };
        let ended = run(&words);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{line:?}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{line:?}: {}", ended.err);
        assert!(!file.exists(), "{line:?}");
    }
}

#[test]
fn a_record_is_not_overwritten_by_its_own_replay() {
    let file = scratch("both.jsonl");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "precious").unwrap();
    let pair = ["--listen", "udp://127.0.0.1:0", "--to", "udp://127.0.0.1:9"];
    let ended = run(&[&pair[..], &["--replay", name, "--record", name]].concat());
    assert_eq!((ended.code, ended.err.lines().count()), (2, 1), "{}", ended.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_proxy_does_not_relay_to_itself() {
    // Free a moment ago, and rarely taken since.
    let own = format!("udp://{}", sink().0.local_addr().unwrap());
    let ended = run(&["--listen", &own, "--to", &own]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{}", ended.err);
    assert!(ended.err.contains("to itself") && ended.err.lines().count() == 1, "{}", ended.err);
}

#[test]
fn an_unread_pipe_is_refused_as_a_record_and_blocks_nothing() {
    let pipe = scratch("pipe");
    let name = pipe.to_str().unwrap();
    assert!(Command::new("mkfifo").arg(name).status().unwrap().success());
    let pair = ["--listen", "udp://127.0.0.1:0", "--to", "udp://127.0.0.1:9"];
    let ended = run(&[&pair[..], &["--record", name]].concat());
    assert_eq!((ended.code, ended.err.lines().count()), (1, 1), "{}", ended.err);
    assert!(ended.err.contains("it is a pipe or a socket; name a file"), "{}", ended.err);
    std::fs::remove_file(pipe).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_second_signal_ends_the_proxy_at_once_even_with_a_stuck_record() {
    let (upstream, url) = sink();
    // A terminal whose other end is not read accepts a few kilobytes.
    let proxy = Proxy::to(&url, &["--record", "/dev/ptmx"]);
    let client = proxy.client();
    for _ in 0..2_000 {
        client.send(b"x").unwrap();
        receive(&upstream);
    }
    proxy.signal("TERM");
    eventually("it is at its end", || proxy.err().contains("udp1: 1 flows"));
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code, 130);
}

#[test]
#[cfg(target_os = "linux")]
fn totals_that_cannot_be_printed_are_a_failure() {
    let (_upstream, url) = sink();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["proxy", "--json", "--listen", "udp://127.0.0.1:0", "--to", &url]);
    let program = Program::spawn(command.stdout(full).stderr(Stdio::piped()));
    eventually("it relays", || program.err().contains("cannot print: "));
    program.signal("TERM");
    let ended = program.wait();
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.closing_line().contains("cannot print the totals: "), "{}", ended.err);
}

#[test]
fn existing_files_are_refused_in_one_line() {
    let file = scratch("foreign.jsonl");
    std::fs::write(&file, "policy,loss_up\n").unwrap();
    let foreign = file.to_str().unwrap();
    let pair = ["--listen", "udp://127.0.0.1:0", "--to", "udp://127.0.0.1:9"];
    for (option, path, why) in [
        ("--replay", foreign, "it is not a record of `lab proxy --record`"),
        ("--replay", "/no/such/file", "No such file"),
        ("--record", "/no/such/directory/file", "No such file"),
    ] {
        let ended = run(&[&pair[..], &[option, path]].concat());
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{option} {path}");
        assert!(ended.err.lines().count() == 1 && ended.err.contains(why), "{}", ended.err);
    }
    std::fs::remove_file(file).unwrap();
}

/// Asks the API; returns the status and the body.
fn ask(api: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(api).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn the_api_creates_changes_and_ends_proxies_at_run_time() {
    let (upstream, url) = sink();
    let proxy = Proxy::start(1, &["--api", "127.0.0.1:0"]);
    let api = proxy.out().trim_start_matches("api on http://").trim().to_owned();
    let wanted = format!(r#"{{"name": "dns", "listen": "udp://127.0.0.1:0", "upstream": "{url}"}}"#);
    let (status, body) = ask(&api, "POST", "/proxies", &wanted);
    assert_eq!(status, 201, "{body}");
    let made: Value = serde_json::from_str(&body).unwrap();
    let listen = made["listen"].as_str().unwrap().to_owned();
    let client = udp_client(listen.trim_start_matches("udp://").parse().unwrap());
    client.send(b"one").unwrap();
    let (_, port) = receive_from(&upstream);
    assert_eq!(ask(&api, "POST", "/proxies", &wanted).0, 409);
    // Other links keep the flow.
    let toxic = r#"{"name": "lose", "type": "loss", "stream": "upstream", "attributes": {"rate": 1}}"#;
    assert_eq!(ask(&api, "POST", "/proxies/dns/toxics", toxic).0, 200);
    client.send(b"lost").unwrap();
    eventually("it is lost", || {
        proxy.signal("USR1");
        proxy.err().contains("lost 1 of 2")
    });
    assert_eq!(ask(&api, "DELETE", "/proxies/dns/toxics/lose", "").0, 204);
    client.send(b"three").unwrap();
    assert_eq!(receive_from(&upstream), (b"three".to_vec(), port));
    // After switching off and on, the port is the same, and the client is a new flow.
    assert_eq!(ask(&api, "POST", "/proxies/dns", r#"{"enabled": false}"#).0, 200);
    let addr = listen.trim_start_matches("udp://").parse().unwrap();
    let again = bind_again(addr);
    assert_eq!(ask(&api, "POST", "/proxies/dns", r#"{"enabled": true}"#).0, 500);
    drop(again);
    eventually("it listens again", || {
        let (status, body) = ask(&api, "POST", "/proxies/dns", r#"{"enabled": true}"#);
        status == 200 && body.contains(&listen)
    });
    client.send(b"four").unwrap();
    let (four, other_port) = receive_from(&upstream);
    assert_eq!(four, b"four");
    assert_ne!(other_port, port);
    // Another upstream, the same socket.
    let (other, url) = sink();
    assert_eq!(ask(&api, "POST", "/proxies/dns", &format!(r#"{{"upstream": "{url}"}}"#)).0, 200);
    client.send(b"five").unwrap();
    assert_eq!(receive(&other), b"five");
    assert_eq!(ask(&api, "DELETE", "/proxies/dns", "").0, 204);
    assert_eq!(ask(&api, "DELETE", "/proxies/dns", "").0, 404);
    bind_again(addr);
    assert_eq!(proxy.end().code, 0);
}

#[test]
fn an_unread_log_blocks_neither_the_relays_nor_their_end() {
    let (sink, upstream) = sink();
    let (reader, stderr) = full_pipe();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["proxy", "--listen", "udp://127.0.0.1:0", "--to", &upstream, "-vv"]);
    let program = Program::spawn(command.stdout(Stdio::piped()).stderr(stderr));
    eventually("the proxy listens", || program.out().ends_with('\n'));
    let addr = program.out().trim_end().rsplit_once("://").unwrap().1.parse().unwrap();
    let client = udp_client(addr);
    for n in 0..20 {
        program.signal("USR1");
        client.send(&[n]).unwrap();
        assert_eq!(receive(&sink), [n]);
    }
    program.signal("TERM");
    assert_eq!(program.wait_within(SOON).code, 0);
    drop(reader);
}
