//! `lab sweep` from outside: what it writes and prints, what it refuses, and that the same seed gives the same bytes.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::program::{Ended, Program};

const LAB: &str = env!("CARGO_BIN_EXE_lab");

/// A directory of a test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sweep-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn sweep(words: &[&str]) -> Ended {
    let mut program = Program::start(LAB, &[&["sweep"], words].concat());
    program.close_stdin();
    program.wait()
}

/// Sweeps into a file, which has to succeed; returns its rows by column.
fn rows(name: &str, line: &str) -> Vec<BTreeMap<String, String>> {
    let file = folder(name).join("rows.csv");
    let ended = sweep(&line.split(' ').chain(["--out", file.to_str().unwrap()]).collect::<Vec<_>>());
    assert_eq!(ended.code, 0, "{}", ended.err);
    read(&file)
}

fn read(file: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        header.iter().map(str::to_owned).zip(record.iter().map(str::to_owned)).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} is {:?}", row[column]))
}

#[test]
fn five_sends_at_10_30_and_50_percent_do_what_the_theory_says() {
    let rows = rows("theory", "-L loss .1,.3,.5 --expb --timeout .1 --max-sends 5 --trials 20000 --seed 1");
    let expected = [(0.1, 0.99975, 1.11, 1.0), (0.3, 0.96550, 1.38, 0.998), (0.5, 0.76270, 1.53, 0.969)];
    assert_eq!(rows.len(), 3);
    for (row, (loss, success, arrivals, executed)) in rows.iter().zip(expected) {
        assert_eq!((number(row, "loss_up"), number(row, "loss_down")), (loss, loss));
        let error = (success * (1.0 - success) / 20_000_f64).sqrt();
        assert!((number(row, "success") - success).abs() < 4.0 * error, "{row:?}");
        assert!((number(row, "success_theory") - success).abs() < 1e-5, "{row:?}");
        assert!((number(row, "executions_without_dedup_mean") - arrivals).abs() < 0.03, "{row:?}");
        assert!((number(row, "executions_mean") - executed).abs() < 0.005, "{row:?}");
        assert_eq!(row["executions_max"], "1");
        assert!((number(row, "realised_loss_up") - loss).abs() < 0.02, "{row:?}");
        for z in ["success_z", "sends_z", "ack_z"] {
            assert!(number(row, z).abs() < 4.0, "{z} {row:?}");
        }
        let outcomes = ["acked", "rejected", "unknown"].map(|column| number(row, column));
        assert_eq!(outcomes.iter().sum::<f64>(), 20_000.0);
        assert!(number(row, "success_low") < number(row, "success"));
        assert!(number(row, "success") < number(row, "success_high"));
        assert!(row["ack_cdf_s"].starts_with("0:"), "{row:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_jobs() {
    let folder = folder("jobs");
    let files = ["1", "2", "7"].map(|jobs| {
        let file = folder.join(jobs);
        let line = "-P loss 0 .5 -D .1 -L policy expb,coap,rto --trials 2500 --session-trials 300 --seed 7 --delay normal,20ms,5ms";
        let words = line.split(' ').chain(["--jobs", jobs, "--out", file.to_str().unwrap()]);
        let ended = sweep(&words.collect::<Vec<_>>());
        assert_eq!(ended.code, 0, "{}", ended.err);
        (std::fs::read(&file).unwrap(), ended.out)
    });
    assert_eq!(files[0], files[1]);
    assert_eq!(files[0], files[2]);
    let other = folder.join("other");
    let other_words = ["-P", "loss", "0", ".5", "-D", ".1", "--seed", "8", "--out", other.to_str().unwrap()];
    assert_eq!(sweep(&other_words).code, 0);
    assert_ne!(std::fs::read(&other).unwrap(), files[0].0);
}

#[test]
fn the_command_in_a_row_gives_the_row_again() {
    let first = &rows("again", "--loss .3 --link gilbert:.1,4+delay:20ms --policy coap --trials 500")[0];
    let words = shlex::split(&first["command"]).unwrap();
    assert_eq!(words[..2], ["lab", "sweep"]);
    let again = &rows("again-2", &words[2..].join(" "))[0];
    assert_eq!(first, again);
}

#[test]
fn a_plan_says_what_the_flags_say_and_flags_override_it() {
    let folder = folder("plan");
    let plan = folder.join("plan.toml");
    std::fs::write(
        &plan,
        "trials = 200\nseed = 3\ntimeout = 0.1\nmax_sends = 4\n[scan]\nloss = { from = 0, to = 0.4, step = 0.2 }\n\
         [list]\npolicy = ['expb', 'fixed']\n",
    )
    .unwrap();
    let plan = plan.to_str().unwrap();
    let typed = sweep(
        &"-L policy expb,fixed -P loss 0 .4 -D .2 --trials 200 --seed 3 --timeout .1 --max-sends 4 --json"
            .split(' ')
            .collect::<Vec<_>>(),
    );
    let planned = sweep(&[plan, "--json"]);
    assert_eq!((planned.code, planned.err.as_str()), (0, ""));
    let without_command = |ended: &Ended| -> Vec<serde_json::Value> {
        let row = |line: &str| {
            let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
            row.as_object_mut().unwrap().remove("command");
            row
        };
        ended.out.lines().map(row).collect()
    };
    assert_eq!(without_command(&planned), without_command(&typed));
    let overridden =
        sweep(&[plan, "--json", "--max-sends", "1", "--seed", "9", "--loss", ".5", "-L", "policy", "once"]);
    let rows = without_command(&overridden);
    assert_eq!(rows.len(), 1, "{}", overridden.err);
    assert!(rows.iter().all(|row| row["max_sends"] == 1 && row["seed"] == 9 && row["loss_up"] == 0.5));
}

#[test]
fn an_assertion_that_does_not_hold_is_exit_code_6_and_the_rows_are_there() {
    let file = folder("assert").join("rows.csv");
    let line =
        ["--loss", ".5", "--expb", "--timeout", ".1", "--max-sends", "5", "--out", file.to_str().unwrap()];
    let failed =
        sweep(&[&line[..], &["--assert", "success>=0.99", "--assert", "executions_max<=1"]].concat());
    assert_eq!(failed.code, 6);
    assert!(
        failed.err.starts_with("assertion failed: success>=0.99 does not hold: it is 0.7"),
        "{}",
        failed.err
    );
    assert_eq!(failed.err.lines().count(), 1);
    assert_eq!(read(&file).len(), 1);
    assert_eq!(sweep(&[&line[..], &["--assert", "success>=0.5"]].concat()).code, 0);
    // Not measured is not held: of a list of losses there is no theory.
    assert_eq!(sweep(&["--link", "list:1", "--assert", "success_theory<=1"]).code, 6);
}

#[test]
fn usage_errors_are_one_line_exit_code_2_and_no_file() {
    let folder = folder("refused");
    let file = folder.join("rows.csv");
    let typo = folder.join("typo.toml");
    std::fs::write(&typo, "trails = 5\n").unwrap();
    let typo = typo.to_str().unwrap();
    for (words, sentence) in [
        (vec![typo], "unknown key `trails`"),
        (vec!["missing.toml"], "cannot read the plan missing.toml"),
        (vec!["--link", "weather:.1"], "weather"),
        (vec!["--link", "iid:1.5"], "1.5"),
        (vec!["--loss", "1.5"], "`1.5` is not a probability"),
        (vec!["-L", "loss", ".1,2"], "loss: `2` is not a probability"),
        (vec!["-P", "loss", "0", "1.5", "-D", ".5"], "loss: `1.5` is not a probability"),
        (vec!["-P", "loss", "0", ".5"], "each -P needs a step"),
        (vec!["-P", "weather", "0", "1", "-D", "1"], "`weather` cannot be varied"),
        (vec!["-L", "loss", ".1", "-L", "loss", ".2"], "loss is varied twice"),
        (vec!["--policy", "tcp"], "tcp"),
        (vec!["-L", "policy", "expb,tcp"], "policy: `tcp`"),
        (
            vec!["-L", "policy", "expb", "-L", "timeout", "1,2"],
            "--policy expb begins with a timeout of less than 2s",
        ),
        (vec!["--trials", "0"], "--trials"),
        (vec!["--jobs", "0"], "--jobs"),
        (vec!["--size", "1101"], "--size must be at most 1100"),
        (vec!["--link", "list:1", "--burst", "3"], "--burst makes bursts of an independent loss"),
        (vec!["--assert", "succes>1"], "`succes>1` names no column of numbers"),
        (vec!["--loss", ".1", "-L", "loss", ".1,.2"], "loss is varied, and set by its flag as well"),
        (vec!["--loss", ".1", "--burst", "5+delay:1s"], "invalid"),
        (vec!["--delay", "1s+iid:.5"], "is more than a delay"),
        (vec!["--loss", ".1", "--link-up", "iid:.5"], "the loss is set twice"),
        (vec!["--loss-down", ".1", "--link-down", "none"], "the loss is set twice"),
        (vec!["-P", "loss", "0", ".5", "-D", ".1", "--link", "blackhole:1,1"], "the loss is set twice"),
        (vec!["--burst", "3", "--link", "ge:.1,.2"], "--burst makes bursts of an independent loss"),
        (vec!["-L", "policy", "coap,sip", "--expb"], "policy is varied, and set by its flag as well"),
        (vec!["--assert", "policy>=1"], "names no column of numbers"),
        (vec!["--assert", "success"], "is not an assertion"),
        (vec!["--assert", "success>x"], "not a number"),
        (vec!["--profile", "6g"], "6g"),
        (vec!["--interval", "-1"], "must not be negative"),
        (vec!["-L", "interval", "1,soon"], "interval: `soon`"),
    ] {
        let refused = sweep(&[&words[..], &["--out", file.to_str().unwrap()]].concat());
        assert_eq!(refused.code, 2, "{words:?}: {}", refused.err);
        assert!(refused.err.contains(sentence), "{words:?}: {}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{words:?}: {}", refused.err);
        assert_eq!((refused.out.as_str(), file.exists()), ("", false), "{words:?}");
    }
}

#[test]
fn rows_never_take_the_place_of_their_plan() {
    let plan = folder("own-plan").join("plan.toml");
    std::fs::write(&plan, "trials = 5\n").unwrap();
    let plan = plan.to_str().unwrap();
    let refused = sweep(&[plan, "--out", plan]);
    assert_eq!(
        (refused.code, std::fs::read_to_string(plan).unwrap().as_str()),
        (2, "trials = 5\n"),
        "{}",
        refused.err
    );
}

#[test]
fn a_file_that_cannot_be_written_is_exit_code_1_before_anything_runs() {
    let folder = folder("unwritable");
    for file in [folder.clone(), folder.join("missing/rows.csv")] {
        let failed = sweep(&["--trials", "1000000000", "--out", file.to_str().unwrap()]);
        assert_eq!(failed.code, 1, "{}", failed.err);
        assert!(failed.err.starts_with("error: cannot write "), "{}", failed.err);
        assert_eq!(failed.err.lines().count(), 1);
    }
}

#[test]
fn the_table_says_requested_and_realised_loss_and_json_is_one_object_per_row() {
    let line = ["-L", "loss", "0,.5", "--expb", "--seed", "1", "--trials", "100"];
    let table = sweep(&line);
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], "100 requests per row in virtual time, seed 1");
    assert!(lines[2].contains("0 (0.0000)") && lines[3].contains("0.5 (0."), "{}", table.out);
    let json = sweep(&[&line[..], &["--json"]].concat());
    let rows: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["success"], 1.0);
    assert_eq!(rows[0]["ack_max_s"], 0.0);
    assert_eq!(rows[0]["goodput_bytes_per_s"], serde_json::Value::Null, "no time passed");
}

#[test]
fn over_real_sockets_the_promise_and_the_theory_hold_too() {
    let line = "--loss .3 --expb --timeout .1 --max-sends 5 --trials 384 --session-trials 6 --seed 5 --real";
    let row = &rows("real", line)[0];
    assert_eq!((row["mode"].as_str(), row["trials"].as_str()), ("real", "384"));
    let success = 0.965_50_f64;
    let error = (success * (1.0 - success) / 384.0).sqrt();
    assert!((number(row, "success") - success).abs() < 5.0 * error, "{row:?}");
    assert_eq!(row["executions_max"], "1");
    assert!((number(row, "executions_without_dedup_mean") - 1.38).abs() < 0.2, "{row:?}");
    assert!((number(row, "executions_mean") - 0.998).abs() < 0.01, "{row:?}");
    assert!((number(row, "realised_loss_up") - 0.3).abs() < 0.08, "{row:?}");
}

#[test]
fn datagrams_lost_in_virtual_time_are_lost_over_real_sockets() {
    let line = "--loss .4 --policy fixed --timeout .6 --max-sends 4 --trials 60 --session-trials 1 --seed 11";
    let (virtual_time, real) =
        (&rows("same-virtual", line)[0], &rows("same-real", &format!("{line} --real"))[0]);
    for column in
        ["acked", "unknown", "sends_mean", "executions_mean", "realised_loss_up", "realised_loss_down"]
    {
        assert_eq!(virtual_time[column], real[column], "{column}");
    }
}

#[test]
fn bursts_have_no_simple_theory_and_say_so_with_empty_cells() {
    let rows = rows("bursts", "--loss .2 -L burst 1.5,10 --expb --timeout .1 --trials 3000 --seed 2");
    for row in &rows {
        assert_eq!((row["success_theory"].as_str(), row["sends_z"].as_str()), ("", ""));
        assert!((number(row, "realised_loss_up") - 0.2).abs() < 0.05, "{row:?}");
    }
    assert!(number(&rows[1], "success") < number(&rows[0], "success"), "long bursts outlast the sends");
}

#[test]
fn time_dependent_impairments_hold_over_real_sockets_both_ways() {
    let line = "--link blackhole:.2,.1 --policy once --timeout .15 --trials 600 --seed 4 --real";
    let row = &rows("real-blackhole", line)[0];
    assert_eq!((row["loss_up"].as_str(), row["sessions"].as_str()), ("0.333333333", "600"));
    for (realised, theory) in
        [("realised_loss_up", "loss_up_theory"), ("realised_loss_down", "loss_down_theory")]
    {
        assert!((number(row, theory) - 1.0 / 3.0).abs() < 1e-6, "{row:?}");
        // 400 datagrams at least: a standard error of 0.024.
        assert!((number(row, realised) - 1.0 / 3.0).abs() < 0.072, "{row:?}");
    }
    let slow =
        &rows("real-delay", "--link delay:30ms+rate:80kbit --timeout 5 --trials 20 --seed 4 --real")[0];
    // Each byte takes a tenth of a millisecond, and each way 30 ms more; the machine may add to that.
    let least = 0.06 + number(slow, "bytes_mean") * 1e-4;
    assert!((least..least + 1.0).contains(&number(slow, "ack_p50_s")), "{least}: {slow:?}");
    assert_eq!((slow["acked"].as_str(), slow["queue_full"].as_str()), ("20", "0"));
}

#[test]
fn over_real_sockets_requests_are_due_at_their_interval() {
    let line = "--policy once --timeout 2 --trials 12 --session-trials 6 --interval .05 --seed 1 --real";
    let row = &rows("real-interval", line)[0];
    assert_eq!((row["interval_s"].as_str(), row["acked"].as_str()), ("0.05", "12"));
    // Of two sessions of at least a quarter of a second.
    let rate = number(row, "goodput_bytes_per_s");
    assert!(rate <= 12.0 * 64.0 / 0.5, "{row:?}");
}

#[test]
fn requests_of_one_session_each_meet_the_loss_that_was_asked_for() {
    for row in
        rows("one-each", "--loss .1 -L burst 8,32 --session-trials 1 --trials 2000 --seed 9 --policy fixed")
    {
        for z in ["loss_up_z", "loss_down_z"] {
            assert!(number(&row, z).abs() < 3.0, "{z} {row:?}");
        }
        assert_eq!(row["sessions"], "2000");
    }
}

#[test]
fn notes_say_what_the_rows_do_not_show() {
    let compared = sweep(&["-L", "policy", "expb,coap", "--trials", "10", "--seed", "1"]);
    assert_eq!(
        compared.err,
        "note: the policies differ in their most sends (coap 5, expb 8); --max-sends gives all the same\n"
    );
    let lines: Vec<&str> = compared.out.lines().collect();
    assert!(lines[1].contains("jitter") && lines[3].contains("initial:1.5"), "{}", compared.out);
    let same = sweep(&["-L", "policy", "expb,fixed", "--trials", "10", "--seed", "1"]);
    assert_eq!((same.err.as_str(), same.out.contains("jitter")), ("", false));
    let single = sweep(&["--loss", ".1", "--burst", "8", "--trials", "100", "--session-trials", "100"]);
    assert!(single.err.contains("no interval can be given"), "{}", single.err);
    let hole = sweep(&["--link", "blackhole:1,.5", "--timeout", ".5", "--expb", "--trials", "10"]);
    assert!(hole.err.contains(" up instead of 0.3333"), "{}", hole.err);
    assert!(hole.out.contains("interval s"), "{}", hole.out);
}

#[test]
fn the_floor_of_the_rto_policy_can_be_lowered() {
    let line = "--policy rto --loss .3 --link delay:20ms --trials 200 --seed 1 -L rto_min .1,1";
    let rows = rows("rto-min", line);
    assert_eq!([&rows[0]["rto_min_s"], &rows[1]["rto_min_s"]], ["0.1", "1"]);
    assert!(number(&rows[0], "ack_mean_s") < number(&rows[1], "ack_mean_s") / 2.0, "{rows:?}");
    let beside = sweep(&["-L", "policy", "rto,coap", "--rto-min", ".1", "--trials", "5", "--max-sends", "5"]);
    assert_eq!(beside.code, 0, "{}", beside.err);
    for words in
        [&["--policy", "coap", "--rto-min", ".1"][..], &["-L", "policy", "coap,sip", "--rto-min", ".1"]]
    {
        let refused = sweep(words);
        assert_eq!((refused.code, refused.err.lines().count()), (2, 1), "{}", refused.err);
        assert!(refused.err.contains("measures"), "{}", refused.err);
    }
}

/// Stored rows of sweeps in virtual time, and those that are computed again by themselves: with this loss, or all.
/// `docs/` computes all of what a page stores.
const STORED: [(&str, Option<&str>); 3] = [
    ("docs/loss/five-sends.csv", Some("0.05")),
    ("docs/loss/policies.csv", Some("0.1")),
    ("tests/data/rows.csv", None),
];

/// Computes stored rows again: all, or those with this loss.
fn assert_stored(file: &str, loss: Option<&str>) {
    let stored = read(Path::new(file));
    let command = shlex::split(&stored[0]["command"]).unwrap();
    assert_eq!(command[..2], ["lab", "sweep"], "{file}");
    let mut words = command[2..].to_vec();
    if let Some(loss) = loss {
        // A point gives the same row in whatever sweep it occurs.
        let scan = words.iter().position(|word| word == "-P").unwrap();
        words.splice(scan..scan + 6, ["--loss".to_owned(), loss.to_owned()]);
    }
    let name = format!("stored-{}", Path::new(file).file_stem().unwrap().display());
    let mut again = rows(&name, &words.join(" "));
    let wanted = stored.iter().filter(|row| loss.is_none_or(|loss| row["loss_up"] == loss));
    let wanted: Vec<_> = wanted.collect();
    assert!(!wanted.is_empty() && again.len() == wanted.len(), "{file}");
    for (again, stored) in again.iter_mut().zip(wanted) {
        again.insert("command".to_owned(), stored["command"].clone());
        assert_eq!(again, stored, "{file}: write it anew with its command, and say why in CHANGELOG.md");
    }
}

#[test]
fn stored_rows_are_what_their_commands_give() {
    STORED.iter().for_each(|(file, loss)| assert_stored(file, *loss));
}

/// Real sockets do not repeat a run, so the stored rows are compared with a simulated sweep of the same settings.
#[test]
fn the_stored_rows_of_real_sockets_have_the_settings_and_the_theory_of_a_new_sweep_and_agree_with_it() {
    let stored = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/loss").join("five-sends-real.csv"));
    let settings = "-L loss .1,.3,.5 --expb --timeout .1 --max-sends 5 --trials 2000 --seed 1";
    let new = rows("real-theory", settings);
    assert_eq!(stored.len(), new.len());
    let is_known = |column: &str| {
        column.ends_with("theory")
            || ["policy", "loss_up", "loss_down", "timeout_s", "max_sends", "trials"].contains(&column)
    };
    for (stored, new) in stored.iter().zip(&new) {
        assert_eq!(stored.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
        for (column, value) in stored {
            let z = if column.ends_with("_z") { value.parse().unwrap_or(0.0) } else { 0.0_f64 };
            assert!(z.abs() < 4.0, "{column}: {value} standard errors from the theory");
            assert!(!is_known(column) || *value == new[column], "{column}: {value}, and now {}", new[column]);
        }
    }
}
