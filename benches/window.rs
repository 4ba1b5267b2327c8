//! Cost of the dedup window, and of keeping pushes until they are acknowledged: `cargo bench --bench window`. CPU time.
//!
//! `replies`: the dedup window of a session, for a new and for a duplicate request. `pushes`: numbering and
//! acknowledging, in order as our client does, and with every second one missing.

use std::hint::black_box;
use std::time::Instant;

use criterion::Throughput;
use sayagain::reliable::{PushTimeouts, Pushes, Replies};
use sayagain::wire::Id;

mod cpu;

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn main() {
    let now = Instant::now();
    let mut criterion = cpu::criterion();
    let mut group = criterion.benchmark_group("replies");
    let mut window = Replies::new();
    let mut next = 0;
    group.bench_function("new", |bencher| {
        bencher.iter(|| {
            next += 1;
            let id = Id::new(next).expect("within 19 digits");
            black_box(window.lookup(id, 7));
            window.record(id, 7, 255);
        });
    });
    let newest = Id::new(next.max(1)).expect("within 19 digits");
    window.record(newest, 7, 255);
    group.bench_function("repeat", |bencher| bencher.iter(|| window.lookup(black_box(newest), 7)));
    group.finish();

    let mut group = criterion.benchmark_group("pushes");
    group.throughput(Throughput::Elements(32));
    let mut pushes = Pushes::new(PushTimeouts::default());
    let mut first = 1;
    group.bench_function("in order", |bencher| {
        bencher.iter(|| {
            for n in 0..32 {
                pushes.send(now, n);
            }
            pushes.acknowledge(now, &[(first, first + 31)], |_, _| {});
            first += 32;
        });
    });
    assert!(pushes.is_empty(), "all are acknowledged");
    group.bench_function("every second", |bencher| {
        bencher.iter(|| {
            let mut pushes = Pushes::new(PushTimeouts::default());
            for n in 0..32 {
                pushes.send(now, n);
            }
            let ranges: [(u64, u64); 16] = std::array::from_fn(|n| (2 * n as u64 + 1, 2 * n as u64 + 1));
            pushes.acknowledge(now, &ranges, |_, _| {});
            pushes.len()
        });
    });
    group.finish();
    criterion.final_summary();
}
