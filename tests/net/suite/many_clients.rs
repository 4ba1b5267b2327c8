//! Many misbehaving clients against the server program over loopback: consumers that never read, senders of a byte at a
//! time, more connections than descriptors.
//!
//! Each scenario exists twice. The ordinary run has few clients, and checks counters and the service of others. An
//! ignored test has thousands, and prints the cost:
//! `cargo test --release --test net poll::suite::many_clients -- --ignored --nocapture --test-threads 1`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "many clients take real time, and threads to observe them")]
#![allow(clippy::print_stdout, reason = "measurements are printed")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::server::{Conn, SOON, ServerProgram as Program, frame};
use crate::support::within;

/// The longest run of a scenario with thousands of clients.
const LONG: Duration = Duration::from_secs(240);

/// A connection with a receive buffer of 4 KiB.
fn small_reader(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&addr.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// A percentile of times.
fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

fn shown(times: &mut [Duration]) -> String {
    let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(times, percent).as_secs_f64() * 1e3);
    format!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms of {}", times.len())
}

/// Pings on its own connection until stopped.
struct Pinger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Pinger {
    fn start(program: &Program, name: &str) -> Self {
        let (stop, mut conn) = (Arc::new(AtomicBool::new(false)), program.register(name));
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            while !until.load(Ordering::SeqCst) {
                let start = Instant::now();
                conn.prove();
                times.push(start.elapsed());
                std::thread::sleep(Duration::from_millis(10));
            }
            times
        });
        Self { stop, thread }
    }

    fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// The bytes that the kernel holds for all TCP sockets.
fn kernel_tcp_memory() -> u64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap();
    line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

/// A field of `/proc/PID/status` in bytes.
fn resident(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The processor time that the server has used, in ticks of 10 ms.
fn ticks(program: &Program) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The number after `what` in the totals.
fn total(program: &Program, what: &str) -> u64 {
    program.signal("USR1");
    let line = program.wait_for_log("undelivered ");
    let rest = line.split_once(what).unwrap_or_else(|| panic!("no `{what}` in {line}")).1;
    rest.trim_start().split([',', ' ']).next().unwrap().parse().unwrap()
}

/// The input of one reader: the number of messages, and of missed messages in gaps.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Heard {
    messages: u64,
    missed: u64,
}

/// Reads frames until received and missed messages add up to the sent ones.
fn catch_up(stream: &mut TcpStream, sent: u64) -> Heard {
    let (mut heard, mut head, mut payload) = (Heard::default(), [0; 8], Vec::new());
    while heard.messages + heard.missed < sent {
        stream.read_exact(&mut head).unwrap();
        let length = std::str::from_utf8(&head[4..]).unwrap().parse().unwrap();
        payload.resize(length, 0);
        stream.read_exact(&mut payload).unwrap();
        let text = String::from_utf8_lossy(&payload);
        match text.strip_prefix(" * 0004 you missed ") {
            Some(count) => heard.missed += count.split(' ').next().unwrap().parse::<u64>().unwrap(),
            None => heard.messages += 1,
        }
    }
    heard
}

/// Sends messages of `size` bytes to the room; each begins with the microseconds since `start`.
fn speak(conn: &mut Conn, start: Instant, size: usize) {
    let text = format!("{:012} ", start.elapsed().as_micros());
    conn.send(&frame("SND", &format!("#flood {text}{}", "x".repeat(size - text.len()))));
}

/// A member that reads: the delay and the arrival of each message.
fn healthy_member(program: &Program, start: Instant, count: u64) -> JoinHandle<Vec<(Duration, Duration)>> {
    let mut conn = program.register("healthy");
    conn.send("JON 0007 #flood");
    conn.prove();
    conn.0.set_read_timeout(Some(LONG)).unwrap();
    std::thread::spawn(move || {
        let mut late = Vec::new();
        for _ in 0..count {
            let (mut head, mut payload) = ([0; 8], Vec::new());
            conn.0.read_exact(&mut head).unwrap();
            payload.resize(std::str::from_utf8(&head[4..]).unwrap().parse().unwrap(), 0);
            conn.0.read_exact(&mut payload).unwrap();
            let at = start.elapsed();
            let text = String::from_utf8_lossy(&payload);
            let sent = Duration::from_micros(text.split(' ').nth(3).unwrap().parse().unwrap());
            late.push((at, at.saturating_sub(sent)));
        }
        late
    })
}

/// This many members of a room never read, while messages of 1 kB are sent at a fixed rate.
fn non_readers(readers: usize, messages: u64, pace: Duration) {
    let before = kernel_tcp_memory();
    let program = Program::local(&["--max-pending", "64KiB"]);
    let addr = program.host().parse().unwrap();
    let mut streams: Vec<TcpStream> = (0..readers).map(|_| small_reader(addr)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.write_all(frame("REG", &format!("reader{n}")).as_bytes()).unwrap();
        stream.write_all(b"JON 0007 #floodPNG 0003 in").unwrap();
        let mut answer = [0; 11];
        stream.read_exact(&mut answer).unwrap();
    }
    let start = Instant::now();
    let healthy = healthy_member(&program, start, messages);
    let pinger = Pinger::start(&program, "outside");
    let mut speaker = program.register("speaker");
    speaker.send("JON 0007 #flood");
    speaker.prove();
    let (mut memory, mut kernel, mut stalled_at) = (0, 0, None);
    for n in 0..messages {
        speak(&mut speaker, start, 1_000);
        if n % 10 == 0 {
            memory = memory.max(resident(&program));
            kernel = kernel.max(kernel_tcp_memory());
            println!(
                "{:6.1} s: resident {} MiB, kernel TCP {} MiB",
                start.elapsed().as_secs_f64(),
                resident(&program) >> 20,
                kernel_tcp_memory() >> 20
            );
        }
        if stalled_at.is_none() && n > 60 {
            stalled_at = Some(start.elapsed());
        }
        std::thread::sleep(pace);
    }
    speaker.prove();
    let mut pings = pinger.end();
    let late = healthy.join().unwrap();
    let dropped = total(&program, "dropped for slow consumers");
    let heard: Vec<Heard> = streams.iter_mut().map(|stream| catch_up(stream, messages)).collect();
    let missed: u64 = heard.iter().map(|heard| heard.missed).sum();
    let split = stalled_at.unwrap_or_default();
    let (mut filling, mut after): (Vec<_>, Vec<_>) = late.iter().partition(|(at, _)| *at < split);
    let only =
        |pairs: &mut Vec<(Duration, Duration)>| pairs.iter().map(|(_, late)| *late).collect::<Vec<_>>();
    println!("{readers} readers that never read, {messages} messages of 1 kB, one per {pace:?}");
    println!("dropped {dropped}, told {missed}");
    println!("resident {} MiB, kernel TCP {} MiB ({} before)", memory >> 20, kernel >> 20, before >> 20);
    println!("outside: ping {}", shown(&mut pings));
    println!("healthy member, while buffers fill: {}", shown(&mut only(&mut filling)));
    println!("healthy member, after: {}", shown(&mut only(&mut after)));
    assert!(dropped > 0, "the queues did not fill");
    assert_eq!(missed, dropped);
    let kernel = kernel.saturating_sub(before);
    assert!(memory < 300 << 20 && kernel < 400 << 20, "{memory} and {kernel} bytes");
}

#[test]
fn members_that_never_read_affect_no_others_and_each_is_told_what_it_missed() {
    non_readers(40, 600, Duration::from_millis(1));
}

#[test]
#[ignore = "half a minute, 5,000 connections"]
fn thousands_of_members_that_never_read() {
    non_readers(5_000, 300, Duration::from_millis(100));
}

/// Connections that send a frame a byte at a time, beside active ones.
fn slow_writers(slow: usize, active: usize, limit: Duration, pace: Duration) {
    let limit_shown = format!("{}ms", limit.as_millis());
    let program = Program::local(&["--frame-timeout", &limit_shown]);
    let addr: SocketAddr = program.host().parse().unwrap();
    let run = |time: Duration| {
        let pingers: Vec<Pinger> = (0..active)
            .map(|n| Pinger::start(&program, &format!("active{n}-{}", time.as_millis())))
            .collect();
        std::thread::sleep(time);
        pingers.into_iter().flat_map(Pinger::end).collect::<Vec<Duration>>()
    };
    let mut quiet = run(limit / 2);
    // A connection without a session may hold 1 KiB.
    let text = frame("SND", &"x".repeat(1_000));
    let mut writers: Vec<(TcpStream, Instant, Option<Duration>)> = Vec::new();
    for _ in 0..slow {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nonblocking(true).unwrap();
        writers.push((stream, Instant::now(), None));
    }
    let begun = Instant::now();
    let writing = std::thread::spawn(move || {
        for byte in text.bytes() {
            for (stream, since, cut) in writers.iter_mut().filter(|writer| writer.2.is_none()) {
                let mut words = [0; 200];
                // The server's final frames and the close; a write may find the connection closed already.
                let ended = match stream.read(&mut words) {
                    Ok(_) => true,
                    Err(error) => error.kind() != ErrorKind::WouldBlock,
                };
                if ended || stream.write_all(&[byte]).is_err() {
                    *cut = Some(since.elapsed());
                }
            }
            if writers.iter().all(|writer| writer.2.is_some()) || begun.elapsed() > LONG {
                break;
            }
            std::thread::sleep(pace);
        }
        writers.into_iter().map(|(_, _, cut)| cut).collect::<Vec<_>>()
    });
    let mut beside = run(limit);
    let cuts = writing.join().unwrap();
    let mut cut: Vec<Duration> = cuts.iter().flatten().copied().collect();
    println!("{slow} writers of a byte per {pace:?}, {active} active, a frame has {limit:?}");
    println!("active, alone: {}", shown(&mut quiet));
    println!("active, beside them: {}", shown(&mut beside));
    println!("cut after {}", shown(&mut cut));
    assert_eq!(cut.len(), slow, "every slow one is cut");
    assert!(cut.iter().all(|after| *after >= limit), "no connection is closed before its deadline");
    assert_eq!(beside.is_empty(), active == 0);
}

#[test]
fn senders_of_a_byte_at_a_time_are_closed_at_the_deadline_and_others_are_served() {
    slow_writers(30, 2, Duration::from_millis(300), Duration::from_millis(20));
}

#[test]
#[ignore = "half a minute, 1,000 connections"]
fn a_thousand_senders_of_a_byte_per_second() {
    slow_writers(1_000, 20, Duration::from_secs(10), Duration::from_secs(1));
}

/// Opens more connections than the server has descriptors, and measures the cost of being full for `watch`.
fn too_many(descriptors: usize, connections: usize, watch: Duration) {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={descriptors}")).arg(env!("CARGO_BIN_EXE_server"));
    command.args(["--host", "127.0.0.1:0"]);
    let program = Program::spawn(command, Stdio::piped(), 2);
    let addr: SocketAddr = program.host().parse().unwrap();
    let streams: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let stream = TcpStream::connect_timeout(&addr, SOON).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let told = || streams.iter().filter(|stream| stream.peek(&mut [0; 1]).is_ok()).count();
    within(SOON, "it is full", || told() > 0 || program.has_logged("cannot accept connections"));
    let (before, since) = (ticks(&program), Instant::now());
    std::thread::sleep(watch);
    let used = (ticks(&program) - before) as f64 / since.elapsed().as_secs_f64();
    let refused = told();
    drop(streams);
    let released = Instant::now();
    within(SOON, "it accepts again", || {
        let mut conn = Conn::to(addr);
        conn.send("PNG 0003 hi");
        let mut answer = [0; 11];
        conn.0.read_exact(&mut answer).is_ok_and(|()| &answer == b"ACK 0003 hi")
    });
    println!("{connections} connections on {descriptors} descriptors: {refused} told so");
    if !watch.is_zero() {
        println!("full, it takes {used:.1} % of a core");
    }
    println!("accepting again {:.3} s after their release", released.elapsed().as_secs_f64());
    program.end();
}

#[test]
fn a_server_with_more_connections_than_descriptors_stays_up_and_accepts_again() {
    too_many(64, 150, Duration::ZERO);
}

#[test]
#[ignore = "a few seconds, 1,000 connections"]
fn a_thousand_connections_on_256_descriptors() {
    too_many(256, 1_000, Duration::from_secs(2));
}

/// A line client reads 2,600 bytes at a time, with pauses, while another sends at the listener's full rate.
///
/// The sending has ended once nothing was sent for `quiet`, several times the interval of the rate.
fn slow_person(rate: &str, reads: u32, pause: Duration, quiet: Duration) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    let url = format!("line://127.0.0.1:0?echo=off&rate={rate}");
    command.args(["--listen", &url, "--max-pending", "16KiB"]);
    let program = Program::spawn(command, Stdio::piped(), 1);
    let addr: SocketAddr = program.host().parse().unwrap();
    let mut slow = small_reader(addr);
    slow.write_all(b"SlowBot 0.0.1a\n").unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"you can do\n") {
        let mut byte = [0];
        slow.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
    heard.clear();
    let (stop, mut spammer) = (Arc::new(AtomicBool::new(false)), TcpStream::connect(addr).unwrap());
    spammer.write_all(b"SpamBot 5000\n").unwrap();
    spammer.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let (until, longest) = (stop.clone(), Arc::new(AtomicU64::new(0)));
    let blocked = longest.clone();
    let spamming = std::thread::spawn(move || {
        // A partial line is ignored.
        while !until.load(Ordering::SeqCst) {
            let since = Instant::now();
            let _ = spammer.write(&[b"SPAM ".repeat(500).as_slice(), b"\n"].concat());
            let millis = u64::try_from(since.elapsed().as_millis()).unwrap();
            blocked.fetch_max(millis, Ordering::SeqCst);
        }
    });
    for _ in 0..reads {
        let mut bytes = [0; 2_600];
        let count = slow.read(&mut bytes).unwrap();
        heard.extend_from_slice(&bytes[..count]);
        std::thread::sleep(pause);
    }
    stop.store(true, Ordering::SeqCst);
    spamming.join().unwrap();
    // The sender has disconnected; its input is still executed at its rate.
    let mut said = 0;
    within(LONG, "all is said", || {
        std::thread::sleep(quiet);
        std::mem::replace(&mut said, total(&program, "messages")) == said
    });
    slow.write_all(b"/quit\n").unwrap();
    slow.read_to_end(&mut heard).unwrap();
    let text = String::from_utf8(heard).unwrap();
    let (mut messages, mut missed) = (0, 0);
    for line in text.lines() {
        match line.strip_prefix("* you missed ") {
            Some(count) => missed += count.split(' ').next().unwrap().parse::<u64>().unwrap(),
            None => messages += u64::from(line.starts_with("SpamBot-5000> ")),
        }
    }
    let dropped = total(&program, "dropped for slow consumers");
    println!("{said} said, {messages} heard, told of {missed} missed, {dropped} counted as dropped");
    println!(
        "the spammer was blocked, {} ms at once (it gives up after 100)",
        longest.load(Ordering::SeqCst)
    );
    assert!(dropped > 0, "nothing was dropped");
    assert_eq!((messages + missed, missed), (said, dropped));
}

#[test]
fn a_slow_line_client_in_a_flooded_room_is_told_of_every_missed_message() {
    slow_person("200/s", 5, Duration::from_millis(50), Duration::from_millis(100));
}

#[test]
#[ignore = "half a minute"]
fn a_line_client_that_reads_2600_bytes_every_five_seconds() {
    slow_person("5/s", 6, Duration::from_secs(5), Duration::from_millis(500));
}
