//! Cost of a deadline among 1,000 and 1,000,000 others, in CPU time: `cargo bench --bench timers`.
//!
//! `later`: a deadline is postponed, as for an active session. `set`: one is set and cleared. `due`: the earliest is
//! taken and set anew.

use std::time::{Duration, Instant};

use sayagain::timers::Timers;

mod cpu;

/// A deadline for each owner, within a second.
fn filled(now: Instant, owners: u32) -> Timers<u32> {
    let mut timers = Timers::default();
    for owner in 0..owners {
        timers.set(owner, Some(now + spread(owner)));
    }
    timers
}

/// Within a second, in no order.
fn spread(owner: u32) -> Duration {
    Duration::from_nanos((u64::from(owner.wrapping_mul(2_654_435_761)) * 1_000_000_000) >> 32)
}

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn main() {
    let now = Instant::now();
    let mut criterion = cpu::criterion();
    for owners in [1_000_u32, 1_000_000] {
        let mut group = criterion.benchmark_group(owners.to_string());
        let mut timers = filled(now, owners);
        let (mut owner, mut moved) = (0_u32, Duration::from_secs(1));
        group.bench_function("later", |bencher| {
            bencher.iter(|| {
                owner = owner.wrapping_add(7_919) % owners;
                moved += Duration::from_nanos(1);
                timers.set(owner, Some(now + moved));
            });
        });
        group.bench_function("set", |bencher| {
            bencher.iter(|| {
                owner = owner.wrapping_add(7_919) % owners;
                timers.set(owners + owner, Some(now + spread(owner)));
                timers.set(owners + owner, None);
            });
        });
        let mut timers = filled(now, owners);
        let mut end = now + Duration::from_secs(1);
        group.bench_function("due", |bencher| {
            bencher.iter(|| {
                end += Duration::from_micros(1);
                let owner = timers.pop_due(end).expect("the earliest is due");
                timers.set(owner, Some(end));
            });
        });
        group.finish();
    }
    criterion.final_summary();
}
