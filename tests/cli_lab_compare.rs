//! `lab compare`: rows in, tables and plots out.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod support;

use std::fs;
use std::path::Path;

use support::program::{Ended, Program};

const ROWS: &str = "\
round,workload,peer,engine,clients,size_bytes,rate,lost,server_cpu_s_per_million
1,route,sayagain,,1,16,600,0,0.5
1,route,nats,,1,16,200,2,1
1,route,sayagain,,16,16,6000,0,0.25
1,route,nats,,16,16,1000,0,1
";

fn lab(words: &[&str]) -> Ended {
    Program::start(env!("CARGO_BIN_EXE_lab"), words).wait()
}

fn written(directory: &Path) -> String {
    let rows = directory.join("rows.csv");
    fs::write(&rows, ROWS).unwrap();
    rows.to_str().unwrap().to_owned()
}

#[test]
fn tables_are_printed_and_losses_noted() {
    let directory = tempfile::tempdir().unwrap();
    let ended = lab(&["compare", &written(directory.path())]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains("|nats|16|16|1,000|1,000|1,000|1|0|6|6|6|0.2500|1|\n"), "{}", ended.out);
    assert_eq!(ended.err, "note: nats in route, 1 clients: 2 lost\n");
}

#[test]
fn tables_and_plots_are_written_beside_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let rows = written(directory.path());
    let ended = lab(&["compare", &rows, "--out", directory.path().to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let names = ["rows-table.md", "rows-table.csv", "rows-route-16.svg"];
    let said: Vec<_> =
        ended.out.lines().map(|line| Path::new(line).file_name().unwrap().to_owned()).collect();
    assert_eq!(said, names);
    for (name, words) in names.into_iter().zip(["### route", "rate_ratio_max", "route, 16 B"]) {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(text.contains(words), "{name}: {text}");
    }
}

#[test]
fn another_subject_turns_the_ratios_round_and_other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let rows = written(directory.path());
    let ended = lab(&["compare", &rows, "--subject", "nats"]);
    assert!(ended.out.contains("|sayagain|16|1|600|600|600|0.5000|0|0.3333|"), "{}", ended.out);
    fs::write(&rows, "a,b\n1,2\n").unwrap();
    let ended = lab(&["compare", &rows]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.ends_with("there is no column `workload`; is this the CSV of `lab load`?\n"),
        "{}",
        ended.err
    );
}
