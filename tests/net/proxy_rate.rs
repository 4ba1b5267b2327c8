//! The rate of `lab proxy` without impairments, and the latency that it adds, compared with no relay, a plain relay and
//! `socat`: `cargo test --release --test net proxy_rate -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "this measures real time, with threads as peers")]

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::program::Program;
use crate::support::proxy::Proxy;

/// Most datagrams under way.
const WINDOW: u64 = 64;

/// The time without any datagram after which those under way count as lost.
const SILENCE: Duration = Duration::from_millis(200);

/// `socat` as a relay for one client, if installed.
fn socat(upstream: SocketAddr) -> Option<(Program, SocketAddr)> {
    Command::new("socat").arg("-V").output().ok()?;
    let addr = local().local_addr().unwrap();
    let listen = format!("UDP4-LISTEN:{},bind=127.0.0.1", addr.port());
    let program = Program::start("socat", &["-d", "-d", &listen, &format!("UDP4:{upstream}")]);
    eventually("socat listens", || program.err().contains("listening on"));
    Some((program, addr))
}

fn client_of(addr: SocketAddr) -> UdpSocket {
    let client = local();
    client.connect(addr).unwrap();
    client
}

fn local() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// A plain relay for one client: a thread for each direction.
fn plain_relay(upstream: SocketAddr) -> SocketAddr {
    let (listener, out) = (Arc::new(local()), Arc::new(local()));
    out.connect(upstream).unwrap();
    let addr = listener.local_addr().unwrap();
    let (client, known) = std::sync::mpsc::channel();
    let (from, to) = (listener.clone(), out.clone());
    std::thread::spawn(move || {
        let (mut buffer, mut last) = (vec![0; 65_536], None);
        loop {
            let (count, addr) = from.recv_from(&mut buffer).unwrap();
            if last.replace(addr) != Some(addr) {
                let _ = client.send(addr);
            }
            let _ = to.send(&buffer[..count]);
        }
    });
    std::thread::spawn(move || {
        let (mut buffer, mut client) = (vec![0; 65_536], known.recv().unwrap());
        while let Ok(count) = out.recv(&mut buffer) {
            client = known.try_iter().last().unwrap_or(client);
            let _ = listener.send_to(&buffer[..count], client);
        }
    });
    addr
}

/// Sends this many datagrams from `client` through a relay to `sink`. Returns how many arrived, and the rate per
/// second.
fn rate(client: &UdpSocket, sink: &UdpSocket, size: usize, count: u64) -> (u64, f64) {
    sink.set_read_timeout(Some(SILENCE)).unwrap();
    let (bytes, mut buffer) = (vec![7; size], vec![0; 65_536]);
    let (mut sent, mut arrived, mut lost) = (0, 0, 0);
    let (start, mut last) = (Instant::now(), Instant::now());
    while arrived + lost < count {
        for _ in 0..(count - sent).min(WINDOW - (sent - arrived - lost)) {
            client.send(&bytes).unwrap();
            sent += 1;
        }
        // Waits for the first, so that the relay gets the processor, and takes the others without waiting.
        sink.set_nonblocking(false).unwrap();
        if sink.recv(&mut buffer).is_err() {
            lost = sent - arrived;
            continue;
        }
        sink.set_nonblocking(true).unwrap();
        arrived += 1 + std::iter::from_fn(|| sink.recv(&mut buffer).ok()).count() as u64;
        last = Instant::now();
    }
    (arrived, arrived as f64 / (last - start).as_secs_f64())
}

/// The median and the 99th percentile of this many round trips, in microseconds.
fn round_trips(client: &UdpSocket, count: usize) -> (f64, f64) {
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 100];
    let mut times: Vec<f64> = (0..count)
        .map(|_| {
            let start = Instant::now();
            client.send(&buffer).unwrap();
            client.recv(&mut buffer).unwrap();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[count / 2], times[count * 99 / 100])
}

/// An upstream that echoes datagrams.
fn echo() -> SocketAddr {
    let socket = local();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2_000];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    });
    addr
}

#[test]
#[ignore = "a measurement: about half a minute, in release mode, on an idle machine"]
fn rate_and_latency_compared_with_no_relay_and_a_plain_relay() {
    let sink = local();
    let addr = sink.local_addr().unwrap();
    let url = format!("udp://{addr}");
    let (proxy, lossy) = (Proxy::to(&url, &[]), Proxy::to(&url, &["--link-up", "iid:.00001", "--seed", "1"]));
    let socat_there = socat(addr);
    let mut relays = vec![("direct", addr), ("plain relay", plain_relay(addr))];
    relays.extend(socat_there.as_ref().map(|(_, addr)| ("socat", *addr)));
    relays.extend([("lab proxy", proxy.addr()), ("lab proxy, iid:.00001", lossy.addr())]);
    for (name, to) in relays {
        let client = client_of(to);
        for size in [100, 1_200] {
            let mut runs: Vec<(u64, f64)> = (0..3).map(|_| rate(&client, &sink, size, 500_000)).collect();
            runs.sort_by(|a, b| a.1.total_cmp(&b.1));
            println!("{name}, {size} bytes: {:.0} datagrams/s, {} of 500000 arrived", runs[1].1, runs[1].0);
        }
    }
    let upstream = echo();
    let (proxy, socat_there) = (Proxy::to(&format!("udp://{upstream}"), &[]), socat(upstream));
    let mut relays = vec![("direct", upstream), ("plain relay", plain_relay(upstream))];
    relays.extend(socat_there.as_ref().map(|(_, addr)| ("socat", *addr)));
    relays.push(("lab proxy", proxy.addr()));
    for (name, to) in relays {
        let (median, high) = round_trips(&client_of(to), 20_000);
        println!("{name}, round trip: median {median:.0} us, 99 % within {high:.0} us");
    }
}
