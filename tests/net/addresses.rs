//! Hosts with several addresses. Wildcard and specific listeners, both families, peers that move, and paths that drop
//! all packets, for the server, the client, the library's client and the proxy.
//!
//! Each test runs over 127.0.0.0/8 and ::1. If this process may make network namespaces (`unshare`, and `ip` of
//! iproute2), [`all_address_tests_pass_in_a_network_namespace`] repeats them in one, over addresses that
//! are not loopback addresses. CI must have that.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(clippy::print_stderr, reason = "a test that cannot be played says so")]

use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::executor::block_on;
use sayagain::net::client::Client;
use sayagain::net::{Bound, Listen};
use sayagain::reliable::{Backoff, Outcome};
use socket2::{Domain, Socket, Type};

use crate::support::eventually;
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::server::{Conn, SOON, ServerProgram, frame};

const ENGINES: [&str; 3] = ["poll", "tasks", "threads"];

/// Set for tests that run in a namespace with the addresses of [`INSIDE`].
const IN_NAMESPACE: &str = "SAYAGAIN_IN_NAMESPACE";

/// A host with two addresses of each family, a route that drops packets, and names.
const INSIDE: &str = r#"
set -e
ip link set lo up
ip link add outside type veth peer name nowhere
ip link set outside up
ip link set nowhere up
for address in 10.77.0.1/32 10.77.0.2/32 10.77.1.1/24; do ip addr add "$address" dev outside; done
for address in 2001:db8:77::1/128 2001:db8:77::2/128 2001:db8:78::1/64; do ip addr add "$address" dev outside nodad; done
# At the other end no interface has this address, and no error is sent.
ip neigh replace 2001:db8:78::9 lladdr 02:00:00:00:00:09 dev outside nud permanent
printf '127.0.0.1 localhost\n2001:db8:78::9 both\n10.77.0.1 both\n' > "$HOSTS"
mount --bind "$HOSTS" /etc/hosts
exec "$@"
"#;

/// The addresses of a test run.
struct Host {
    v4: [IpAddr; 2],
    /// `None` on a machine without IPv6.
    v6: Option<IpAddr>,
}

fn is_inside() -> bool {
    std::env::var_os(IN_NAMESPACE).is_some()
}

fn host() -> Host {
    let addr = |text: &str| text.parse::<IpAddr>().unwrap();
    if is_inside() {
        return Host { v4: [addr("10.77.0.1"), addr("10.77.0.2")], v6: Some(addr("2001:db8:77::2")) };
    }
    let has_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
    Host { v4: [addr("127.0.0.1"), addr("127.0.0.2")], v6: has_ipv6.then(|| addr("::1")) }
}

impl Host {
    fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.into_iter().chain(self.v6)
    }

    /// The addresses to send to at a listener of `any`.
    fn of(&self, any: &str) -> Vec<IpAddr> {
        self.all().filter(|ip| any == "[::]" || ip.is_ipv4()).collect()
    }
}

/// A socket that accepts datagrams only from the address that it sends to.
fn udp(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn told(socket: &UdpSocket) -> String {
    let mut buffer = [0; 2_048];
    let count = crate::support::uninterrupted(|| socket.recv(&mut buffer))
        .expect("an answer comes from the address asked");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

fn asked(socket: &UdpSocket, text: &str) -> String {
    socket.send(text.as_bytes()).unwrap();
    told(socket)
}

/// A server at these URLs, which prints this many sockets.
fn server(engine: &str, urls: &[&str], sockets: usize) -> ServerProgram {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.args(urls.iter().flat_map(|url| ["--listen", url]));
    // Bare REGs may open sessions from the addresses of the namespace too.
    command.args(["--engine", engine, "--bare-udp", "127.0.0.0/8,::1,10.0.0.0/8,2001:db8::/32"]);
    ServerProgram::spawn(command, Stdio::piped(), sockets)
}

fn wildcards(host: &Host) -> impl Iterator<Item = (&'static str, usize)> {
    [("0.0.0.0", 1), ("[::]", 2)].into_iter().filter(|(any, _)| *any == "0.0.0.0" || host.v6.is_some())
}

#[test]
fn a_server_at_a_wildcard_address_answers_and_pushes_from_the_address_of_the_request() {
    let host = host();
    for engine in ENGINES {
        for (any, sockets) in wildcards(&host) {
            let program = server(engine, &[&format!("udp://{any}:0")], sockets);
            let clients: Vec<UdpSocket> =
                host.of(any).into_iter().map(|ip| udp(SocketAddr::new(ip, program.port))).collect();
            for (nth, client) in clients.iter().enumerate() {
                assert_eq!(asked(client, "PNG 0000"), "ACK 0000", "{engine} {any}");
                client.send(frame("REG", &format!("user{nth}")).as_bytes()).unwrap();
                assert_eq!(asked(client, &frame("PNG", "in")), frame("ACK", "in"));
            }
            // Pushes without a request, in both directions.
            for (from, sender) in clients.iter().enumerate() {
                for (to, receiver) in clients.iter().enumerate().filter(|(to, _)| *to != from) {
                    sender.send(frame("SND", &format!("user{to} hello")).as_bytes()).unwrap();
                    assert_eq!(
                        told(receiver),
                        frame("RCV", &format!("user{from} 0001 hello")),
                        "{engine} {any}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_session_moves_with_the_clients_address_or_the_servers_address_once_that_is_proven() {
    let host = host();
    let program = server("poll", &["udp://0.0.0.0:0"], 1);
    let at = |ip: IpAddr| SocketAddr::new(ip, program.port);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let here = udp(at(host.v4[0]));
    let reg = format!("@1 {}", frame("REG", "ada ?AAAAAAAAAAAAAAAAAAAAAA"));
    let cookie = words(&asked(&here, &reg))[4].clone();
    let token = words(&asked(&here, &format!("~{cookie} {reg}")))[4].clone();
    assert_eq!(asked(&here, &format!("~{token} @2 PNG 0000")), format!("~{token} @2 ACK 0000"));
    let [first, second] = host.v4;
    // Another port of the client, then another address of the server, then another address of the client.
    for (nth, from, asks) in [(3, first, first), (4, first, second), (5, second, second)] {
        let there = UdpSocket::bind((from, 0)).unwrap();
        there.connect(at(asks)).unwrap();
        there.set_read_timeout(Some(SOON)).unwrap();
        let challenge = words(&asked(&there, &format!("~{token} @9 PNG 0000")));
        assert_eq!(challenge[1..4], ["ERR", "0027", "428"], "{challenge:?}");
        let resume = format!("~{} @{nth} {}", challenge[4], frame("REG", &format!("ada {token}")));
        assert!(asked(&there, &resume).contains(&format!("@{nth} ACK 0023 {token}")));
        assert_eq!(
            asked(&there, &format!("~{token} @{nth}0 PNG 0000")),
            format!("~{token} @{nth}0 ACK 0000")
        );
    }
}

#[test]
fn the_ipv6_wildcard_address_takes_both_families_unless_v6only_is_set_or_ipv4_is_named() {
    let host = host();
    let Some(v6) = host.v6 else { return eprintln!("not tested: this machine has no IPv6") };
    let answers = |ip: IpAddr, port: u16| {
        let tcp = std::net::TcpStream::connect_timeout(&SocketAddr::new(ip, port), SOON).is_ok();
        let socket = udp(SocketAddr::new(ip, port));
        let udp = socket.send(b"PNG 0000").and_then(|_| socket.recv(&mut [0; 64])).is_ok();
        assert_eq!(tcp, udp, "{ip}");
        tcp
    };
    let both = ServerProgram::spawn(short_form("[::]:0"), Stdio::piped(), 4);
    let port = both.port;
    let listening = ["tcp://[::]", "udp://[::]", "tcp://0.0.0.0", "udp://0.0.0.0"]
        .map(|at| format!("listening on {at}:{port}"));
    assert_eq!(both.listening, listening);
    assert!(host.all().all(|ip| answers(ip, port)));
    drop(both);

    let alone = [format!("tcp://[::]:{port}?v6only=1"), format!("udp://[::]:{port}?v6only=1")];
    let alone = server("poll", &alone.each_ref().map(String::as_str), 2);
    assert!(answers(v6, port) && !answers(host.v4[0], port));
    drop(alone);

    let named = |v6_first: bool| {
        let any = ["tcp", "udp"].map(|scheme| format!("{scheme}://[::]:{port}"));
        let one = ["tcp", "udp"].map(|scheme| format!("{scheme}://{}:{port}", host.v4[1]));
        let urls: Vec<String> = if v6_first {
            any.into_iter().chain(one).collect()
        } else {
            one.into_iter().chain(any).collect()
        };
        let program = server("poll", &urls.iter().map(String::as_str).collect::<Vec<_>>(), 4);
        assert_eq!(
            program.listening,
            urls.iter().map(|url| format!("listening on {url}")).collect::<Vec<_>>()
        );
        assert!(answers(v6, port) && answers(host.v4[1], port) && !answers(host.v4[0], port));
    };
    named(true);
    named(false);
}

fn short_form(at: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.args(["--host", at]);
    command
}

/// The silent sockets at the first address of a name. In the namespace, the route drops packets instead.
enum Silent {
    Route,
    Sockets(#[expect(dead_code, reason = "kept open")] (UdpSocket, Socket, Vec<Socket>)),
}

/// A name whose first address drops packets, and a server at its second. `None` on a machine without such a name.
fn half_dead() -> Option<(String, Silent, ServerProgram)> {
    let name = if is_inside() { "both" } else { "localhost" };
    let addrs: Vec<SocketAddr> = (name, 0).to_socket_addrs().ok()?.collect();
    let [first, second, ..] = addrs[..] else {
        assert!(!is_inside(), "{name} has one address: {addrs:?}");
        eprintln!("not tested: {name} has one address");
        return None;
    };
    if is_inside() {
        assert_eq!(first.ip(), "2001:db8:78::9".parse::<IpAddr>().unwrap());
        let program = ServerProgram::spawn(short_form(&second.to_string()), Stdio::piped(), 2);
        return Some((format!("{name}:{}", program.port), Silent::Route, program));
    }
    // The server's free port is nearly always free for the silent sockets too.
    (0..10).find_map(|_| {
        let program = ServerProgram::spawn(short_form(&second.to_string()), Stdio::piped(), 2);
        let silent = silent(SocketAddr::new(first.ip(), program.port))?;
        Some((format!("{name}:{}", program.port), Silent::Sockets(silent), program))
    })
}

/// A UDP socket that is never read, and a listener with a full backlog, which answers no SYN.
fn silent(at: SocketAddr) -> Option<(UdpSocket, Socket, Vec<Socket>)> {
    let udp = UdpSocket::bind(at).ok()?;
    let listener = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    listener.bind(&at.into()).ok()?;
    listener.listen(0).ok()?;
    let fill = |_| {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&at.into());
        socket
    };
    let filling = (0..4).map(fill).collect();
    Some((udp, listener, filling))
}

#[test]
fn a_client_reaches_the_second_address_of_a_host_whose_first_drops_packets() {
    let Some((at, _silent, _server)) = half_dead() else { return };
    // With a single timeout long enough for all addresses, and with shorter timeouts.
    for (mode, timeout, sends) in
        [("tcp", "5", "1"), ("tcp", "0.1", "4"), ("udp", "2", "1"), ("udp", "0.1", "4")]
    {
        let options = ["--mode", mode, "--host", &at, "--timeout", timeout, "--max-sends", sends];
        let args = [&["ping", "-c", "1"][..], &options].concat();
        let ended = Program::start(env!("CARGO_BIN_EXE_client"), &args).wait();
        assert_eq!(ended.code, 0, "{mode}, {timeout} s: {ended:?}");
    }
}

#[test]
fn a_client_of_the_library_reaches_the_second_address_of_a_host_whose_first_drops_packets() {
    let Some((at, _silent, _server)) = half_dead() else { return };
    for mode in ["tcp", "udp"] {
        let policy = Backoff::new(Duration::from_millis(500)).with_max_sends(8);
        let url = format!("{mode}://{at}");
        let name = format!("ada-{mode}");
        block_on(async {
            let (client, _events) = Client::builder(&url).name(&name).policy(policy).connect().await.unwrap();
            assert!(matches!(client.ping().await, Outcome::Acked(_)), "{mode}");
        });
    }
}

#[test]
fn a_proxy_at_a_wildcard_address_answers_from_the_address_of_the_request() {
    let host = host();
    let upstream = server("poll", &[&format!("udp://{}:0", host.v4[1])], 1);
    let to = format!("udp://{}:{}", host.v4[1], upstream.port);
    for (any, sockets) in wildcards(&host) {
        let proxy = Proxy::start(sockets, &["--listen", &format!("udp://{any}:0"), "--to", &to]);
        let port = proxy.addr().port();
        for ip in host.of(any) {
            let client = udp(SocketAddr::new(ip, port));
            for _ in 0..3 {
                assert_eq!(asked(&client, "PNG 0000"), "ACK 0000", "{any} asked at {ip}");
            }
        }
        assert_eq!(proxy.end().code, 0);
    }
}

#[test]
fn a_proxy_reaches_the_second_address_of_an_upstream_whose_first_drops_packets() {
    let Some((at, _silent, _server)) = half_dead() else { return };
    let proxy = Proxy::to(&format!("tcp://{at}"), &[]);
    let mut client = Conn::to(proxy.addr());
    client.send("PNG 0000");
    client.expect("ACK 0000");
}

#[test]
fn a_server_in_the_library_takes_both_families_too() {
    let host = host();
    if host.v6.is_none() {
        return eprintln!("not tested: this machine has no IPv6");
    }
    let bound: Bound = Listen { host: "::".to_owned(), port: 0, tcp: true, udp: false }.bind().unwrap();
    let port = bound.endpoints()[0].addr.port();
    assert!(
        host.all().all(|ip| std::net::TcpStream::connect_timeout(&SocketAddr::new(ip, port), SOON).is_ok())
    );
    assert!(TcpListener::bind((host.v4[0], port)).is_err(), "the port is taken in IPv4 too");
}

#[test]
fn all_address_tests_pass_in_a_network_namespace() {
    if is_inside() {
        return;
    }
    let is_required = std::env::var_os("CI").is_some();
    let can = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let has_all =
        can(Command::new("ip").arg("-V")) && can(Command::new("unshare").args(["-n", "-m", "true"]));
    if !has_all {
        assert!(!is_required, "CI has to have ip (iproute2) and to allow unshare -n -m");
        return eprintln!("not tested: no network namespace can be made here, or there is no ip (iproute2)");
    }
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-n", "-m", "--propagation", "private", "--", "sh", "-c", INSIDE, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["addresses::", "--test-threads", "2"]);
    command.env(IN_NAMESPACE, "1").env("HOSTS", hosts.path());
    let program = Program::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let ended = program.wait_within(Duration::from_secs(120));
    assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
    assert!(!ended.err.contains("not tested"), "{}", ended.err);
    eventually("all of them have run", || ended.out.contains("test result: ok. 9 passed"));
}
