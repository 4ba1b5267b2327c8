//! Cost of reading and writing one frame, in CPU time: `cargo bench --bench codec`.
//!
//! `head`: the head of a frame in each form. `datagram`: a datagram with one request. `encode`: frames, and the RCV
//! that a SND becomes.

use std::hint::black_box;

use criterion::Throughput;
use sayagain::wire::{Datagram, Frame, Id, RcvHead, Verb, encode_args, encode_rcv, parse_head};

mod cpu;

fn main() {
    let mut criterion = cpu::criterion();
    let mut group = criterion.benchmark_group("head");
    for (name, bytes) in [
        ("short", &b"SND 0021 TEST01 "[..]),
        ("tagged", b"@1234567 SND 0021 TEST01 "),
        ("long", b"SND +007 8760000 TEST01 "),
        ("unfinished", b"SND 00"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| parse_head(black_box(bytes), 16 << 20)));
    }
    group.finish();

    let mut group = criterion.benchmark_group("datagram");
    let datagram = b"~AAAAAAAAAAAAAAAAAAAAAA @17 SND 0021 TEST01 Hello, world!";
    group.bench_function("one", |bencher| {
        bencher.iter(|| Datagram::parse(black_box(datagram), 1_200).map(|datagram| datagram.frames.len()));
    });
    group.finish();

    let mut group = criterion.benchmark_group("encode");
    let mut out = Vec::new();
    for size in [16, 256, 4_096] {
        let body = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("rcv/{size}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_rcv(b"TEST02", black_box(&body), &mut out);
            });
        });
        group.bench_function(format!("rcv_head/{size}"), |bencher| {
            bencher.iter(|| {
                let head = RcvHead::new(b"TEST02", b"#room", black_box(&body), std::mem::take(&mut out));
                out = head.into_bytes();
            });
        });
    }
    group.throughput(Throughput::Elements(1)).bench_function("ack", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_args(Id::new(1_234_567), Verb::Ack, &[], &mut out);
            Frame::new(None, Verb::Png, black_box(b" hi")).encode(&mut out);
        });
    });
    group.finish();
    criterion.final_summary();
}
