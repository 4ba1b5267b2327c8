//! Cost of cutting a stream into frames, in CPU time: `cargo bench --bench deframe`.
//!
//! `read/SIZE/PIECE`: messages of SIZE bytes that arrive in pieces of PIECE bytes, as an engine reads them. With 64
//! KiB, nearly all are whole in one piece; long ones are joined once, whatever their length.

use std::hint::black_box;

use criterion::Throughput;
use sayagain::wire::{Deframer, Verb, encode_args};

mod cpu;

fn main() {
    let mut criterion = cpu::criterion();
    let mut group = criterion.benchmark_group("read");
    for (size, count, piece) in [
        (16, 4_096, 64 << 10),
        (16, 4_096, 61),
        (256, 1_024, 64 << 10),
        (4_096, 256, 64 << 10),
        (1 << 20, 4, 64 << 10),
        (8_760_000, 1, 64 << 10),
    ] {
        let mut stream = Vec::new();
        for _ in 0..count {
            encode_args(None, Verb::Snd, &[b"TEST01", &vec![b'x'; size]], &mut stream);
        }
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{size}/{piece}"), |bencher| {
            bencher.iter(|| {
                let (mut deframer, mut frames) = (Deframer::new(16 << 20), 0);
                for mut piece in stream.chunks(piece) {
                    while let Ok(Some(cut)) = deframer.cut(&mut piece) {
                        black_box(&cut);
                        frames += 1;
                    }
                }
                assert_eq!(frames, count);
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
