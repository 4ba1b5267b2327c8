//! `lab proxy` in front of third-party programs. Each test prints that it was skipped if its programs are not installed: `dig`
//! and `dnsmasq`, `iperf3`, libcoap's `coap-client` and `coap-server`, `curl`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::print_stderr, reason = "the output names skipped tests")]
#![expect(clippy::disallowed_methods, reason = "real programs take real time, and their peers need threads")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::program::{Ended, Program};
use crate::support::proxy::Proxy;
use sayagain::link::{Direction, Link, LinkConfig};

/// The longest run of a third-party program.
const LIMIT: Duration = Duration::from_secs(20);

/// The first of these programs that is installed.
fn installed(names: &[&'static str]) -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers of distributions are not on every user's path.
    let dirs: Vec<_> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).collect();
    let found = names.iter().find(|name| dirs.iter().any(|dir| dir.join(name).is_file()));
    if found.is_none() {
        eprintln!("skipped: {} is not installed", names.join(" or "));
    }
    found.copied()
}

fn start(name: &str, args: &[&str]) -> Program {
    let sbin = Path::new("/usr/sbin").join(name);
    Program::start(if sbin.is_file() { sbin.to_str().unwrap() } else { name }, args)
}

fn run(name: &str, args: &[&str]) -> Ended {
    start(name, args).wait_within(LIMIT)
}

/// A port that is free for TCP and UDP just now.
fn free_port() -> u16 {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        if UdpSocket::bind(addr).is_ok() {
            return addr.port();
        }
    }
    panic!("no port is free for both");
}

/// The number of the first `n` datagrams of a flow that a link alone loses.
fn lost(link: &str, seed: u64, flow: u64, n: u64) -> u64 {
    let mut link = Link::new(link.parse::<LinkConfig>().unwrap(), seed, Direction::Up);
    let now = Instant::now();
    (0..n).map(|_| u64::from(!link.send(now, flow, vec![0]).fate.is_passed())).sum()
}

#[test]
fn dig_retries_queries_lost_on_the_link_to_dnsmasq() {
    let (Some(dig), Some(dnsmasq)) = (installed(&["dig"]), installed(&["dnsmasq"])) else { return };
    let port = free_port().to_string();
    let _server = start(
        dnsmasq,
        &[
            "--keep-in-foreground",
            "--port",
            &port,
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--address=/example.test/192.0.2.7",
        ],
    );
    eventually("dnsmasq answers", || {
        run(dig, &["@127.0.0.1", "-p", &port, "example.test", "+short", "+tries=1", "+timeout=1"]).out
            == "192.0.2.7\n"
    });
    // Each try of dig comes from another port: another flow. The first of flow 0 is lost, the first of flow 1 is not.
    let is_wanted = |seed: &u64| lost("iid:.5", *seed, 0, 1) == 1 && lost("iid:.5", *seed, 1, 1) == 0;
    let seed = (1..).find(is_wanted).unwrap().to_string();
    let link = ["--link-up", "iid:.5", "--link-down", "delay:150ms", "--seed", &seed];
    let proxy = Proxy::to(&format!("udp://127.0.0.1:{port}"), &link);
    let proxied = proxy.addr().port().to_string();
    let ended = run(dig, &["@127.0.0.1", "-p", &proxied, "example.test", "+tries=2", "+timeout=1"]);
    assert!(ended.out.contains("192.0.2.7"), "{}", ended.out);
    let time = ended.out.split("Query time: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    // The clock of dig has steps of 4 ms.
    assert!(time.parse::<u64>().unwrap() >= 140, "{}", ended.out);
    let totals = proxy.totals();
    let udp = &totals["proxies"][0];
    assert_eq!(
        (&udp["flows"], &udp["up"]["datagrams"], &udp["up"]["lost"]),
        (&2.into(), &2.into(), &1.into())
    );
}

#[test]
fn iperf3_reports_the_loss_of_the_proxy() {
    let Some(iperf3) = installed(&["iperf3"]) else { return };
    let port = free_port();
    let server = start(
        iperf3,
        &["--server", "--forceflush", "--one-off", "--bind", "127.0.0.1", "--port", &port.to_string()],
    );
    eventually("iperf3 listens", || server.out().contains("Server listening"));
    // Its TCP connection controls, its datagrams carry the load: one port for both. Its first datagram must not be
    // lost.
    let link = ["--link-up", "iid:.1", "--seed", "1", "--match", "size>=1000"];
    let both = free_port();
    let [udp, tcp] =
        ["udp", "tcp"].map(|scheme| [both, port].map(|port| format!("{scheme}://127.0.0.1:{port}")));
    let addresses = ["--listen", &udp[0], "--to", &udp[1], "--listen", &tcp[0], "--to", &tcp[1]];
    let (proxy, both) = (Proxy::start(2, &[&addresses[..], &link[..]].concat()), both.to_string());
    let load = ["--udp", "--bitrate", "8M", "--length", "1000", "--blockcount", "1000"];
    let ended = run(iperf3, &[&["--client", "127.0.0.1", "--port", &both][..], &load].concat());
    // [  5]   0.00-1.00   sec   878 KBytes  7.19 Mbits/sec  0.015 ms  101/1000 (10%)  receiver
    let line =
        ended.out.lines().find(|line| line.ends_with("receiver")).unwrap_or_else(|| panic!("{}", ended.out));
    let fraction =
        |word: &str| word.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (missing, seen): (u64, u64) = line.split_whitespace().find_map(fraction).unwrap();
    let totals = proxy.totals();
    let up = &totals["proxies"][0]["up"];
    // It stops counting at the end message over TCP, which may arrive before the last datagrams.
    assert!((900..=1_000).contains(&seen), "{line}");
    assert_eq!(missing, lost("iid:.1", 1, 0, seen), "{line}");
    assert_eq!((&up["matched"], &up["lost"]), (&1_000.into(), &lost("iid:.1", 1, 0, 1_000).into()));
}

#[test]
fn coap_client_retransmits_requests_lost_on_the_link_to_coap_server() {
    let client =
        installed(&["coap-client-notls", "coap-client", "coap-client-gnutls", "coap-client-openssl"]);
    let server =
        installed(&["coap-server-notls", "coap-server", "coap-server-gnutls", "coap-server-openssl"]);
    let (Some(client), Some(server)) = (client, server) else { return };
    let port = free_port().to_string();
    let _server = start(server, &["-A", "127.0.0.1", "-p", &port]);
    let get = |port: &str| run(client, &["-m", "get", "-B", "15", &format!("coap://127.0.0.1:{port}/")]).out;
    eventually("coap-server answers", || get(&port).contains("libcoap"));
    let proxy = Proxy::to(&format!("udp://127.0.0.1:{port}"), &["--link-up", "list:1"]);
    let start = Instant::now();
    let answer = get(&proxy.addr().port().to_string());
    // RFC 7252 section 4.8: ACK_TIMEOUT is 2 s, times 1 to 1.5.
    let took = start.elapsed();
    assert!(answer.contains("libcoap") && took >= Duration::from_secs(2), "{took:?}: {answer}");
    let totals = proxy.totals();
    let up = &totals["proxies"][0]["up"];
    assert_eq!((&up["datagrams"], &up["lost"]), (&2.into(), &1.into()));
}

#[test]
fn curl_gets_every_byte_over_a_lossy_stream() {
    let Some(curl) = installed(&["curl"]) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("tcp://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let body = vec![b'x'; 200_000];
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
            .unwrap();
        stream.write_all(&body).unwrap();
    });
    let proxy = Proxy::to(&upstream, &["--link-down", "list:3"]);
    let url = format!("http://{}/", proxy.addr());
    let ended = run(curl, &["--silent", "--show-error", "--write-out", "\n%{http_code} %{time_total}", &url]);
    let (body, end) = ended.out.rsplit_once('\n').unwrap();
    let (code, seconds) = end.split_once(' ').unwrap();
    assert_eq!((body.len(), code), (200_000, "200"), "{}", ended.err);
    assert!(seconds.parse::<f64>().unwrap() >= 0.2, "{seconds}");
    server.join().unwrap();
    assert_eq!(proxy.totals()["proxies"][0]["down"]["stalls"], 1);
}
