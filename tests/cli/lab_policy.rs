//! `lab policy` from outside: what it shows of a policy is what the client explains, and more; exit codes.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::process::{Command, Output};

use serde_json::Value;

const NAMES: [&str; 11] =
    ["once", "expb", "fixed", "linear", "coap", "sip", "sip-invite", "dns", "rto", "quic-pto", "dtls"];

fn lab(flags: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.arg("policy").args(flags.split_whitespace()).output().unwrap()
}

fn text(flags: &str) -> String {
    let output = lab(flags);
    assert!(output.status.success(), "{flags}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

fn json(flags: &str) -> Value {
    serde_json::from_str(&text(&format!("{flags} --json"))).unwrap()
}

fn explained(flags: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    let output = command.arg("--explain").args(flags.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{flags}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_shows_what_the_client_explains_line_by_line_and_more() {
    for flags in [
        "",
        "--timeout .1 --expb",
        "--policy coap",
        "--policy rto",
        "--policy sip --max-sends 3 --jitter full",
    ] {
        let (shown, explained) = (text(&format!("show {flags}")), explained(flags));
        let (head, rest) = shown.split_once('\n').unwrap();
        assert!(rest.starts_with(&explained) && rest.len() > explained.len(), "{flags}: {shown}");
        assert!(head.contains(": "), "{head}");
    }
}

#[test]
fn a_name_is_the_same_as_its_flag() {
    for name in NAMES {
        assert_eq!(text(&format!("show {name}")), text(&format!("show --policy {name}")), "{name}");
        assert_eq!(json(&format!("show {name}"))["policy"], name);
    }
    assert_eq!(text("show expb --timeout .1"), text("show --expb --timeout .1"));
    assert_eq!(text("show"), text("show once"));
    assert_eq!(json("show --max-sends 5")["policy"], "fixed");
}

#[test]
fn coap_is_shown_with_the_numbers_of_its_rfc() {
    let shown = text("show coap --size 10");
    for part in [
        "coap: RFC 7252 sections 4.2 and 4.8, a confirmable message\n",
        "    5                  30 to 45                  32 to 48\n",
        "at worst 5 sends, all answered, no answer heard: 10 datagrams, 425 bytes, given up at 93 s\n",
        "with a message of 10 bytes a send is 50 and an answer 35, and IPv4 and UDP add 28 to each\n",
        "         50 %        76.27        96.88   3.05         1.53    206           8.307\n",
    ] {
        assert!(shown.contains(part), "{part}{shown}");
    }
    let coap = json("show coap --size 10");
    assert_eq!(
        (coap["worst"]["give_up_s"].as_f64(), coap["worst"]["bytes"].as_u64()),
        (Some(93.0), Some(425))
    );
    assert_eq!(coap["sends"].as_array().unwrap().len(), 5);
    assert_eq!(coap["sends"][4]["at"]["most_s"], 45.0);
    let half = coap["at_loss"].as_array().unwrap().iter().find(|at| at["loss_each_way"] == 0.5).unwrap();
    // (1 - (3/4)^5) and its sums, by hand: 781/1024, 781/256, 781/512.
    assert_eq!(half["success"], 781.0 / 1024.0);
    assert!((half["sends_mean"].as_f64().unwrap() - 781.0 / 256.0).abs() < 1e-12);
    assert!((half["executions_without_dedup_mean"].as_f64().unwrap() - 781.0 / 512.0).abs() < 1e-12);
}

#[test]
fn effects_outside_the_schedule_are_named() {
    assert!(text("show rto").contains("all of this before a round trip is measured"));
    assert!(text("show coap").contains("jitter initial:1.5: all timeouts are stretched"));
    let deadline = text("show expb --timeout .1 --deadline 1 --jitter full");
    assert!(deadline.contains("the deadline cuts what is waited at its end"), "{deadline}");
    assert!(deadline.contains("the means are those of the sends without jitter"), "{deadline}");
    let times = json("show expb --timeout .1 --deadline 1 --jitter full");
    assert!(times["at_loss"].as_array().unwrap().iter().all(|at| at["ack_mean_s"].is_null()));
    assert!(deadline.lines().any(|line| line.ends_with("              -")), "{deadline}");
}

#[test]
fn policies_are_compared_one_row_each() {
    let table = text("compare");
    let rows: Vec<&str> = table.lines().skip(2).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(rows[..NAMES.len()], NAMES, "{table}");
    let two = text("compare dns expb --timeout .1 --max-sends 4 --size 10");
    let rows: Vec<Vec<&str>> =
        two.lines().skip(2).take(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..6], ["dns", "4", "0.1", "0.3", "0.4", "340"]);
    assert_eq!(rows[1][..6], ["expb", "4", "0.1", "0.7", "1.5", "340"]);
    assert_eq!(rows[1].len(), 15, "{two}");
    assert!(table.lines().all(|line| line == line.trim_end()), "{table}");
}

#[test]
fn the_json_of_a_comparison_says_what_show_says() {
    let all = json("compare");
    assert_eq!(all.as_array().unwrap().len(), NAMES.len());
    for row in all.as_array().unwrap() {
        let shown = json(&format!("show {}", row["policy"].as_str().unwrap()));
        assert_eq!(row["worst"], shown["worst"]);
        for at in row["at_loss"].as_array().unwrap() {
            assert!(shown["at_loss"].as_array().unwrap().contains(at), "{row}");
        }
    }
}

#[test]
fn usage_errors_are_refused_in_one_line() {
    for (flags, sentence) in [
        ("show tcp", "`tcp` is not a retry policy: it must be once, expb, fixed, linear, coap,"),
        ("compare coap tcp", "`tcp` is not a retry policy"),
        ("show coap --policy sip", "cannot be used with"),
        ("show coap --expb", "cannot be used with"),
        ("show expb --timeout 2", "begins with a timeout of less than 2s"),
        ("show --expb --timeout 2", "--expb begins with a timeout of less than 2s"),
        ("show sip --timeout 5", "the first timeout of 5 s is above the longest of 4 s"),
        ("compare expb sip --timeout 5", "expb: "),
        ("compare --policy coap", "compare takes the names of policies as they are"),
        ("show --size 1161", "a message of 1161 bytes does not fit a datagram; lower --size"),
        ("show --size -1", "is not a number of bytes"),
        ("show --jitter some", "is not a jitter"),
        ("", "requires a subcommand"),
    ] {
        let output = lab(flags);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags}: {error}");
        assert!(
            output.stdout.is_empty() && error.lines().count() == 1 && error.contains(sentence),
            "{flags}: {error}"
        );
    }
}
