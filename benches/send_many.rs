//! A million messages of 16 bytes to one peer and back: by a handler on an engine, by a core, and by plain
//! sockets that parse nothing. `cargo bench --bench send_many` (`ROUNDS=5`).

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sayagain::host::{Context, Handler, Settings};
use sayagain::net::core::Event;
use sayagain::net::{ConnectUrl, Core, Engine};
use sayagain::service::ConnId;

const COUNT: u64 = 1_000_000;
const SIZE: usize = 16;

/// Messages that carry their number.
fn messages() -> impl Iterator<Item = [u8; SIZE]> + Send {
    (0..COUNT).map(|n| {
        let mut message = [b'x'; SIZE];
        message[..8].copy_from_slice(&n.to_be_bytes());
        message
    })
}

/// Checks that messages arrive as they were sent, in order.
fn check(expected: &mut impl Iterator<Item = [u8; SIZE]>, message: &[u8]) {
    assert_eq!(
        expected.next().as_ref().map(|expected| &expected[..]),
        Some(message),
        "in order, whole, once"
    );
}

/// Sends every message back.
struct Back;

impl Handler for Back {
    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        cx.send(conn, &message).expect("input waits while there is no room");
    }
}

/// Sends all messages as there is room, and counts the replies.
struct There<I, J> {
    sending: I,
    expected: J,
    done: Sender<()>,
    left: u64,
}

impl<I: Iterator<Item = [u8; SIZE]> + Send, J: Iterator<Item = [u8; SIZE]> + Send> Handler for There<I, J> {
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.drained(cx, conn);
    }

    fn drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        cx.send_many(conn, &mut self.sending).expect("it is open");
    }

    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        check(&mut self.expected, &message);
        self.left -= 1;
        if self.left == 0 {
            cx.close(conn);
            self.done.send(()).expect("the receiver waits");
        }
    }
}

/// Bounds that keep the data in flight in the processor's cache.
fn settings() -> Settings {
    Settings::default().max_pending(1 << 20)
}

fn by_service() -> Duration {
    let back = Engine::host(&["msg://127.0.0.1:0"], settings(), Back).expect("a free port");
    let url: ConnectUrl = back.listen_addrs()[0].to_string().parse().expect("where it listens");
    let (done, is_done) = channel();
    let there = There { sending: messages(), expected: messages(), done, left: COUNT };
    let engine = Engine::host(&[], settings(), there).expect("no listener");
    let begun = Instant::now();
    engine.change(|host, now| host.with(now, |_, cx| cx.connect(url.target(), url.framing())));
    is_done.recv().expect("it comes to its end");
    let taken = begun.elapsed();
    engine.change(|host, now| host.with(now, |_, cx| cx.stop()));
    back.change(|host, now| host.with(now, |_, cx| cx.stop()));
    engine.wait();
    back.wait();
    taken
}

fn by_core() -> Duration {
    let mut back = Core::new(settings()).expect("a poll");
    let url = back.listen("msg://127.0.0.1:0").expect("a free port").remove(0).to_string();
    let waker = back.waker();
    let (stop, is_over) = channel::<()>();
    let turning = thread::spawn(move || {
        while is_over.try_recv().is_err() {
            for event in back.poll(None).expect("it waits") {
                let Event::Readable(conn) = event else { continue };
                while let Some(message) = back.recv(conn) {
                    while back.send(conn, &message).is_err() {
                        back.poll(Some(Duration::from_millis(1))).expect("it waits");
                    }
                }
            }
        }
    });
    let mut there = Core::new(settings()).expect("a poll");
    let (mut sending, mut expected, mut left) = (messages(), messages(), COUNT);
    let begun = Instant::now();
    there.connect(&url).expect("it is a URL");
    while left > 0 {
        for event in there.poll(None).expect("it waits") {
            match event {
                Event::Expected(conn) | Event::Drained(conn) => {
                    there.send_many(conn, &mut sending).expect("it is open");
                }
                Event::Readable(conn) => {
                    while let Some(message) = there.recv(conn) {
                        check(&mut expected, &message);
                        left -= 1;
                    }
                }
                _ => {}
            }
        }
    }
    let taken = begun.elapsed();
    stop.send(()).expect("it turns");
    waker.wake();
    turning.join().expect("it ends");
    taken
}

/// The same bytes through plain blocking sockets, 64 KiB at a time.
fn by_plain_sockets() -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a listener");
    let (mut far, _) = listener.accept().expect("a connection");
    let copying = thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = far.read(&mut buffer) {
            far.write_all(&buffer[..count]).expect("an open peer");
        }
    });
    let begun = Instant::now();
    let mut writer = stream.try_clone().expect("a descriptor");
    let writing = thread::spawn(move || {
        let all: Vec<u8> =
            messages().flat_map(|message| [&(SIZE as u64).to_be_bytes()[..], &message].concat()).collect();
        all.chunks(64 << 10).for_each(|chunk| writer.write_all(chunk).expect("an open peer"));
        writer.shutdown(Shutdown::Write).expect("it is open");
    });
    let (mut count, mut buffer) = (0, vec![0; 64 << 10]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        count += read as u64;
    }
    assert_eq!(count, COUNT * (8 + SIZE as u64));
    let taken = begun.elapsed();
    writing.join().expect("it ends");
    copying.join().expect("it ends");
    taken
}

fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let senders =
        [("handler", by_service as fn() -> Duration), ("core", by_core), ("plain sockets", by_plain_sockets)];
    let mut taken: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (times, (_, run)) in taken.iter_mut().zip(&senders) {
            times.push(run().as_secs_f64());
        }
    }
    println!("| API | there and back, per second | min | max |\n|---|--:|--:|--:|");
    for (times, (name, _)) in taken.iter_mut().zip(&senders) {
        times.sort_by(f64::total_cmp);
        let rate = |time: f64| format!("{:.0}", COUNT as f64 / time);
        println!(
            "| {name} | {} | {} | {} |",
            rate(times[times.len() / 2]),
            rate(times[times.len() - 1]),
            rate(times[0])
        );
    }
}
