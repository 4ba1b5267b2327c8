//! The targets of `fuzz/` under proptest: inputs are drawn at random around the same seeds, without coverage guidance.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fuzz_harness::{TARGETS, Target};
use crate::fuzz_seeds::seeds;

/// Cases per target, a few seconds for all targets. `FUZZ_CASES` sets more; see docs/testing.md.
fn cases(target: &str) -> u32 {
    let usual = if target == "two_clients" { 300 } else { 2_000 };
    std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// A mutated seed, or random bytes.
fn input(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let change =
        (any::<prop::sample::Index>(), 0..4_u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..6));
    let changed = (prop::sample::select(seeds(target)), prop::collection::vec(change, 0..6)).prop_map(
        |(mut bytes, changes)| {
            for (at, kind, byte, more) in changes {
                let at = at.index(bytes.len() + 1);
                match kind {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 => bytes.truncate(at),
                    2 => drop(bytes.splice(at..at, more)),
                    _ => drop(bytes.drain(at..(at + more.len()).min(bytes.len()))),
                }
            }
            bytes
        },
    );
    prop_oneof![3 => changed, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

fn run(name: &'static str, target: Target) {
    for seed in seeds(name) {
        println!("{name}: {seed:?}");
        target(&seed);
    }
    let config = Config { cases: cases(name), failure_persistence: None, ..Config::default() };
    let test = |bytes: Vec<u8>| {
        target(&bytes);
        Ok(())
    };
    if let Err(why) = TestRunner::new(config).run(&input(name), test) {
        panic!("{name}: {why}");
    }
}

#[test]
fn no_input_makes_a_parser_panic_or_fail_to_round_trip() {
    TARGETS.iter().filter(|(name, _)| *name != "two_clients").for_each(|(name, target)| run(name, *target));
}

#[test]
fn no_script_of_two_clients_breaks_a_promise_of_delivery() {
    TARGETS.iter().filter(|(name, _)| *name == "two_clients").for_each(|(name, target)| run(name, *target));
}

#[test]
fn every_target_has_a_program_in_fuzz_and_seeds() {
    for (name, _) in TARGETS {
        let program = format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        assert!(std::fs::read_to_string(&program).is_ok_and(|text| text.contains(name)), "{program}");
        assert!(!seeds(name).is_empty(), "{name}");
    }
}

/// Writes the seeds as files for cargo-fuzz: `SEEDS=fuzz/corpus cargo test --test sim -- --ignored writes_the_seeds`
#[test]
#[ignore = "writes files for cargo-fuzz; docs/testing.md"]
fn writes_the_seeds() {
    let root = std::env::var("SEEDS").unwrap();
    for (name, _) in TARGETS {
        std::fs::create_dir_all(format!("{root}/{name}")).unwrap();
        for (number, seed) in seeds(name).into_iter().enumerate() {
            std::fs::write(format!("{root}/{name}/seed-{number}"), seed).unwrap();
        }
    }
}
