//! `lab ladder` from outside: the same pictures for the same seed, nothing clipped, exit codes.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::path::Path;
use std::process::{Command, Output};

use roxmltree::{Document, Node};

/// The picture in the README, and the flags that draw it.
const README: &str = "--link iid:.5 --timeout .1 --expb --seed 189";
/// The columns of a terminal.
const COLUMNS: usize = 80;

/// All sorts of exchanges: lost, late, doubled, overtaken, damaged, refused by the link, given up, long and short.
const EXCHANGES: [&str; 18] = [
    "",
    README,
    "--link-up list:1,2 --link-down list:1 --timeout .1 --expb",
    "--link list:1-8 --timeout .1 --expb",
    "--link iid:1 --policy coap --seed 5",
    "--link iid:1 --policy rto",
    "--link iid:.5 --policy sip --jitter full --seed 9",
    "--link delay:uniform,150ms,100ms+duplicate:.5 --timeout .1 --expb --seed 3",
    "--link delay:uniform,1.5s,1s+duplicate:1+iid:.4 --timeout .1 --expb --seed 4",
    "--link delay:3s --timeout .1 --max-sends 4",
    "--link corrupt:.5+truncate:.3+iid:.2 --timeout .1 --expb --max-sends 6",
    "--link mtu:50 --timeout .1 --expb --max-sends 3",
    "--link rate:800bit,100 --timeout .1 --expb --max-sends 6",
    "--link profile:satellite --policy fixed --timeout .2 --register",
    "--link iid:1 --policy linear --timeout 1234567 --max-timeout 1e8 --max-sends 100",
    "--link iid:1 --max-sends 100 --timeout 1e-6",
    "--link duplicate:1 --register --timeout .1 --expb --deadline 1",
    "--link blackhole:1s,2s+delay:normal,100ms,40ms+corrupt:.1+truncate:.1+duplicate:.1+rate:1kbit --seed 7 --expb",
];

fn lab(flags: &str) -> Output {
    lab_with(flags, &[])
}

fn lab_with(flags: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.arg("ladder").args(flags.split_whitespace()).args(more);
    command.env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8").output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn svg(flags: &str) -> String {
    text(&lab_with(flags, &["--out", "-"]))
}

fn refused(flags: &str, more: &[&str], code: i32) -> String {
    let output = lab_with(flags, more);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{flags} {more:?}: {error}");
    assert!(output.stdout.is_empty() && error.lines().count() == 1, "{flags} {more:?}: {error}");
    error
}

#[test]
fn a_request_that_is_lost_twice_and_its_answer_once_is_drawn_as_that() {
    let drawn = text(&lab("--link-up list:1,2 --link-down list:1 --timeout .1 --expb --ascii"));
    let expected = "\
alice to bob: \"Can you hear me?\"
policy expb, seed 1, link up list:1-2, down list:1

        client                                    server
    0 s +- SND @2, send 1 -----x lost               |
        |                                           |
  0.1 s | timeout of 0.1 s                          |
        +- SND @2, send 2 -----x lost               |
        |                                           |
        |                                           |
  0.3 s | timeout of 0.2 s, doubled                 |
        +- SND @2, send 3 ------------------------->| executed
        |               lost x------------- ACK @2 -+
        |                                           |
        |                                           |
        |                                           |
  0.7 s | timeout of 0.4 s, doubled                 |
        +- SND @2, send 4 ------------------------->| cached answer
        |<--------------------------------- ACK @2 -+
        | acked                                     |

acked after 0.7 s, 4 sends
executed once, 1 repeat got the cached answer; 3 of 6 datagrams lost
";
    assert_eq!(drawn, expected);
}

#[test]
fn a_datagram_that_takes_time_is_drawn_where_it_is_sent_and_where_it_arrives() {
    let drawn = text(&lab("--link delay:150ms --timeout .1 --max-sends 2 --ascii"));
    let rows: Vec<&str> = drawn
        .lines()
        .skip(4)
        .filter(|row| row.contains(|c| c != '|' && c != ' '))
        .map(str::trim_end)
        .collect();
    let starts = [
        "    0 s +- (1) SND @2, send 1 -----..",
        "  0.1 s | timeout of 0.1 s",
        "        +- (2) SND @2, send 2 -----..",
        " 0.15 s |          .. (1) SND @2, send 1 ---------->| executed",
        "        |               ..------------- (3) ACK @2 -+",
        "  0.2 s | timeout of 0.1 s",
        "        | gives up: outcome unknown",
        " 0.25 s |          .. (2) SND @2, send 2 ---------->| cached answer",
        "        |               ..------------- (4) ACK @2 -+",
        "  0.3 s |<-------------- (3) ACK @2 ..              |",
        "        | too late",
        "  0.4 s |<-------------- (4) ACK @2 ..              |",
        "        | too late",
    ];
    for (row, start) in rows.iter().zip(starts) {
        assert!(row.starts_with(start), "{drawn}");
    }
    assert!(drawn.ends_with("unknown: given up after 0.2 s, 2 sends\nexecuted once, 1 repeat got the cached answer; 0 of 4 datagrams lost\n"), "{drawn}");
}

#[test]
fn the_same_seed_draws_the_same_bytes_and_another_seed_others() {
    for flags in EXCHANGES {
        assert_eq!(text(&lab(flags)), text(&lab(flags)), "{flags}");
        assert_eq!(svg(flags), svg(flags), "{flags}");
    }
    let with_seed = |seed: u32| text(&lab(&format!("--link iid:.5 --timeout .1 --expb --seed {seed}")));
    let after_heading = |drawn: String| drawn.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert_ne!(after_heading(with_seed(2)), after_heading(with_seed(3)));
    assert_eq!(text(&lab("--link iid:.5 --seed 1")), text(&lab("--link iid:.5")), "the default seed is 1");
}

#[test]
fn the_picture_in_the_readme_is_what_its_command_draws() {
    let kept =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ladder.svg")).unwrap();
    assert_eq!(kept, svg(README), "draw it again: lab ladder {README} --out docs/ladder.svg");
    let words = kept.split_once("<desc id=\"words\">").unwrap().1.split_once("</desc>").unwrap().0;
    assert_eq!(words.matches("(lost)").count(), 3, "{words}");
    assert!(words.contains("SND @2, send 2 (lost)") && words.contains("ACK @2 (lost)"), "{words}");
    assert!(words.contains("0.7 s: ACK @2 arrives: acked."), "{words}");
}

#[test]
fn no_line_of_text_is_wider_than_a_terminal() {
    let long = "a long message that does not end ".repeat(9);
    for flags in EXCHANGES {
        for more in [&["--message", &long][..], &["--message", "\u{4e16}\u{754c}"], &["--ascii"]] {
            for line in text(&lab_with(flags, more)).lines() {
                assert!(line.chars().count() <= COLUMNS, "{flags}: {line}");
            }
        }
    }
}

#[test]
fn characters_follow_the_locale_and_a_pipe_has_no_colour() {
    let run = |locale: &str, flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        let output = command.arg("ladder").args(flags).env("LC_ALL", locale).env_remove("NO_COLOR").output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let drawn = run("C.UTF-8", &[]);
    assert!(drawn.contains("├─ SND @2, send 1 ─") && !drawn.contains('\x1b'), "{drawn}");
    assert!(run("C", &[]).is_ascii());
    assert_eq!(run("C.UTF-8", &["--ascii"]), run("C", &[]));
}

/// The rectangle around a text: left, top, right, bottom, as wide as its font can make it.
fn extent(node: Node<'_, '_>) -> (f64, f64, f64, f64) {
    let number = |name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let columns: f64 = node.text().unwrap().chars().map(|c| if c.is_ascii() { 1.0 } else { 2.0 }).sum();
    // DejaVu Sans Mono, the widest of the common ones, has 0.602 em.
    let width = columns * 12.5 * 0.602;
    let left = match node.attribute("text-anchor").unwrap() {
        "start" => number("x"),
        "middle" => number("x") - width / 2.0,
        "end" => number("x") - width,
        other => panic!("{other}"),
    };
    let corners = [
        (left, number("y") - 10.0),
        (left + width, number("y") - 10.0),
        (left, number("y") + 3.0),
        (left + width, number("y") + 3.0),
    ];
    let turned = corners.map(|corner| turn(node.attribute("transform"), corner));
    turned.iter().fold((f64::MAX, f64::MAX, f64::MIN, f64::MIN), |(l, t, r, b), (x, y)| {
        (l.min(*x), t.min(*y), r.max(*x), b.max(*y))
    })
}

/// The image of a point under `translate(x y) rotate(degrees)`.
fn turn(transform: Option<&str>, (x, y): (f64, f64)) -> (f64, f64) {
    let Some(transform) = transform else { return (x, y) };
    let numbers: Vec<f64> = transform.split(['(', ')', ' ']).filter_map(|word| word.parse().ok()).collect();
    let [dx, dy, degrees] = numbers[..] else { panic!("{transform}") };
    let (sin, cos) = degrees.to_radians().sin_cos();
    (dx + x * cos - y * sin, dy + x * sin + y * cos)
}

#[test]
fn every_picture_is_well_formed_and_has_all_its_words_inside() {
    for flags in EXCHANGES {
        for message in ["Can you hear me?", "<&\"']]>\u{1b}[2J\u{7f}\u{fffe}", &"\u{4e16}".repeat(300), ""] {
            let drawn = text(&lab_with(flags, &["--message", message, "--out", "-"]));
            let document = Document::parse(&drawn).unwrap();
            let root = document.root_element();
            let view: Vec<f64> =
                root.attribute("viewBox").unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
            let texts: Vec<_> = root.descendants().filter(|node| node.has_tag_name("text")).collect();
            assert!(texts.len() >= 7, "{flags}");
            for node in texts {
                let (left, top, right, bottom) = extent(node);
                let is_inside = left >= 0.0 && top >= 0.0 && right <= view[2] && bottom <= view[3];
                assert!(is_inside, "{flags}: {:?} at {left} {top} {right} {bottom} of {view:?}", node.text());
            }
            for name in ["title", "desc", "style"] {
                assert!(
                    root.children().any(|node| node.has_tag_name(name) && node.text().is_some()),
                    "{name}"
                );
            }
            assert!(drawn.contains("prefers-color-scheme:dark"));
            assert!(!drawn.contains("href") && !drawn.contains("url("), "nothing from elsewhere");
            assert!(view[2] < 520.0, "{flags}: {} units are too many for a phone", view[2]);
        }
    }
}

#[test]
fn time_runs_downwards_and_arrows_slope_with_their_delay() {
    let drawn = svg("--link delay:uniform,150ms,100ms+duplicate:.5 --timeout .1 --expb --seed 3");
    let document = Document::parse(&drawn).unwrap();
    let number = |node: &Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let is_flight = |node: &Node<'_, '_>| {
        node.attribute("class").is_some_and(|class| class.split(' ').next() == Some("go"))
    };
    let flights: Vec<_> = document.descendants().filter(is_flight).collect();
    assert!(flights.len() >= 4);
    for flight in &flights {
        assert!(number(flight, "y2") >= number(flight, "y1") + 15.9, "{flight:?}");
    }
    assert!(flights.iter().any(|flight| number(flight, "y2") > number(flight, "y1") + 40.0));
    assert!(drawn.contains("go copy"), "a copy is drawn as one");
}

#[test]
fn a_doubled_timeout_is_drawn_twice_as_long() {
    let drawn = svg(README);
    let document = Document::parse(&drawn).unwrap();
    let bars = document.descendants().filter(|node| node.attribute("class") == Some("bar"));
    let length = |node: Node<'_, '_>| {
        let number = |name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
        number("y2") - number("y1")
    };
    let lengths: Vec<f64> = bars.map(length).filter(|length| *length > 0.0).collect();
    let [one, two, four] = lengths[..] else { panic!("{lengths:?}") };
    assert!((two / one - 2.0).abs() < 0.01 && (four / one - 4.0).abs() < 0.02, "{lengths:?}");
}

#[test]
fn the_flags_reach_the_exchange() {
    let has = |flags: &str, part: &str| {
        let drawn = text(&lab(flags));
        assert!(drawn.contains(part), "{flags}: {drawn}");
    };
    has("--register", "ERR @1 428");
    has("--register", "REG @1, cookie");
    has("--link iid:1 --timeout 3", "given up after 3 s, 1 send");
    has("--link iid:1 --timeout .1 --expb --max-sends 2", "given up after 0.3 s, 2 sends");
    has("--link iid:1 --timeout .1 --expb --max-timeout .2", "given up after 1.5 s, 8 sends");
    has("--link iid:1 --timeout .1 --expb --deadline 1", "given up after 1 s, 4 sends");
    has("--link iid:1 --policy dns", "given up after 15 s, 3 sends");
    has("--link iid:1 --policy linear --timeout .1 --max-sends 3", "timeout of 0.2 s, doubled");
    has("--link iid:1 --policy linear --timeout .1 --max-sends 3", "timeout of 0.3 s, x1.50");
    has("--profile wifi --link-up iid:1", "never executed");
    has("--profile satellite --timeout .6", "acked after 0.558 s, 1 send");
    has("--link-up iid:1", "never executed; 1 of 1 datagrams lost");
    has("--link-down iid:1", "executed once; 1 of 2 datagrams lost");
    has("--link iid:1 --link-up none", "executed once; 1 of 2 datagrams lost");
    let with_message = text(&lab_with("", &["--message", "-x \u{1b}[2J"]));
    assert!(with_message.starts_with("alice to bob: \"-x \\x1b[2J\"\n"), "{with_message}");
    let jittered = |seed: u32| {
        let drawn = text(&lab(&format!("--link list:1 --timeout .1 --expb --jitter equal --seed {seed}")));
        drawn.lines().find(|line| line.contains("timeout of")).unwrap().to_owned()
    };
    assert_ne!(jittered(1), jittered(2));
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let dir = std::env::temp_dir().join(format!("sayagain-ladder-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("ladder.svg");
    let out = file.to_str().unwrap();
    let names =
        || std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(text(&lab_with(README, &["--out", out])), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), svg(README));
    text(&lab_with("", &["--out", out]));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), svg(""), "written over");
    assert_eq!(names(), ["ladder.svg"]);
    std::fs::remove_file(&file).unwrap();
    for bad in ["--link iid:2", "--link no:1", "--policy tcp", "--timeout 2 --expb", "--max-sends 101"] {
        refused(bad, &["--out", out], 2);
    }
    std::fs::create_dir(&file).unwrap();
    let error = refused("", &["--out", out], 1);
    assert!(error.starts_with("error: cannot write "), "{error}");
    assert_eq!(names(), ["ladder.svg"], "nothing half-written");
    let elsewhere = dir.join("not-there").join("ladder.svg");
    refused("", &["--out", elsewhere.to_str().unwrap()], 1);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn usage_errors_are_refused_in_one_line() {
    for (flags, sentence) in [
        ("--out ladder.png", "--out writes SVG: let the file's name end with .svg"),
        ("--max-sends 101", "a ladder of more than 100 sends could not be read; lower --max-sends"),
        ("--link iid:1.5", "it must not be above 1"),
        ("--seed x", "invalid digit"),
        ("--explain", "unexpected argument '--explain'"),
        ("--policy coap --expb", "cannot be used with"),
    ] {
        let error = refused(flags, &[], 2);
        assert!(error.contains(sentence), "{flags}: {error}");
    }
    let error = refused("", &["--message", &"x".repeat(1_200)], 2);
    assert!(error.contains("the message is too long for a datagram; shorten --message"), "{error}");
}
