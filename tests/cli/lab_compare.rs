//! `lab compare`: rows in, tables and plots out.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::fs;
use std::path::Path;

use crate::support::program::{Ended, Program};

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

/// Whether a line of a table begins so, however wide its columns are.
fn has_row(text: &str, cells: &str) -> bool {
    text.lines().any(|line| line.replace(' ', "").starts_with(cells))
}

#[test]
fn tables_are_printed_and_losses_noted() {
    let directory = tempfile::tempdir().unwrap();
    let ended = lab(&["compare", &written(directory.path())]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(has_row(&ended.out, "|nats|16|16|1,000|1,000|1,000|1|0|6|6|6|0.2500|1|"), "{}", ended.out);
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
fn a_directory_is_made_where_it_is_missing_and_told_of_where_it_cannot_be() {
    let directory = tempfile::tempdir().unwrap();
    let rows = written(directory.path());
    let out = directory.path().join("a").join("b");
    let ended = lab(&["compare", &rows, "--out", out.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(out.join("rows-table.md").is_file());
    let ended = lab(&["compare", &rows, "--out", &format!("{rows}/b")]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    let last = ended.err.lines().last().unwrap();
    assert!(last.starts_with("error: cannot make the directory "), "{}", ended.err);
}

#[test]
fn a_subject_that_is_none_of_the_servers_is_refused_with_their_names_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let rows = written(directory.path());
    let out = directory.path().join("out");
    let ended = lab(&["compare", &rows, "--subject", "redis", "--out", out.to_str().unwrap()]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""));
    let said = "there are no rows of `redis`; --subject is one of `nats`, `sayagain`; try --help\n";
    assert!(ended.err.ends_with(said) && ended.err.lines().count() == 1, "{}", ended.err);
    assert!(!out.exists());
}

#[test]
fn another_subject_turns_the_ratios_round_and_other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let rows = written(directory.path());
    let ended = lab(&["compare", &rows, "--subject", "nats"]);
    assert!(has_row(&ended.out, "|sayagain|16|1|600|600|600|0.5000|0|0.3333|"), "{}", ended.out);
    fs::write(&rows, "a,b\n1,2\n").unwrap();
    let ended = lab(&["compare", &rows]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.ends_with("there is no column `workload`; is this the CSV of `lab load`?\n"),
        "{}",
        ended.err
    );
}
