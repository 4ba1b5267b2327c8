//! The notes on the pages in tests/data/docs.toml: what does not run, and what differs from run to run.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The beginning of a line of a log.
const LOGGED: &str = "{n}-{n}-{n}T{n}:{n}:{n}Z ";

/// A text without what differs from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Normal {
    /// The lines of a log.
    pub(super) log: Vec<String>,
    /// All other lines.
    pub(super) out: Vec<String>,
}

/// The notes on a page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Notes {
    /// The ports on the page, each of which is replaced by a free one.
    pub(super) ports: Vec<String>,
    /// Output that differs from run to run: texts in which `{n}` stands for a number.
    pub(super) varies: Vec<String>,
    /// The blocks that do not run, by their first lines, and why.
    pub(super) no_run: BTreeMap<String, String>,
    /// The exit codes of commands with other codes than 0, by the beginning of the command.
    pub(super) codes: BTreeMap<String, i32>,
    /// The sections that may need several runs, because a busy machine can change what they print, and how many.
    pub(super) attempts: BTreeMap<String, usize>,
    /// The files that the commands write, and where they are stored.
    pub(super) stored: BTreeMap<String, String>,
}

impl Notes {
    /// The notes on this page.
    pub(super) fn of(page: &str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/docs.toml");
        let all = std::fs::read_to_string(path).unwrap();
        let mut all: BTreeMap<String, Self> = toml::from_str(&all).unwrap();
        all.remove(page).unwrap_or_default()
    }

    /// The exit code of this command.
    pub(super) fn code(&self, command: &str) -> i32 {
        self.codes.iter().find(|(start, _)| command.starts_with(*start)).map_or(0, |(_, code)| *code)
    }

    /// The text with `{n}` for the numbers that differ from run to run, without white space at the ends of lines. A log
    /// has a thread of its own, so its lines have no order beside the others.
    pub(super) fn normal(&self, text: &str) -> Normal {
        let lines = text.lines().map(|line| {
            let line =
                self.varies.iter().fold(filled(line, LOGGED), |line, template| filled(&line, template));
            line.trim_end().to_owned()
        });
        let mut normal = Normal::default();
        (normal.log, normal.out) = lines.partition(|line| line.starts_with(LOGGED));
        while normal.out.last().is_some_and(String::is_empty) {
            normal.out.pop();
        }
        normal
    }
}

/// The line with the template in place of what it describes.
fn filled(line: &str, template: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(first) = rest.chars().next() {
        let is_within_number = first.is_ascii_digit() && out.ends_with(|last: char| last.is_ascii_digit());
        match described(rest, template) {
            Some(length) if length > 0 && !is_within_number => {
                out += template;
                rest = &rest[length..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// The length of the beginning of the text that the template describes.
fn described(text: &str, template: &str) -> Option<usize> {
    let mut rest = text;
    for (n, part) in template.split("{n}").enumerate() {
        if n > 0 {
            rest = &rest[number_length(rest)?..];
        }
        rest = rest.strip_prefix(part)?;
    }
    Some(text.len() - rest.len())
}

/// The length of the number at the beginning: digits, perhaps with a fraction.
fn number_length(text: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let fraction = text[whole..].strip_prefix('.').map_or(0, digits);
    (whole > 0).then_some(if fraction > 0 { whole + 1 + fraction } else { whole })
}

#[test]
fn a_template_describes_numbers_and_nothing_else() {
    let varies = vec!["avg = {n}/{n} ms".to_owned(), "seed {n}".to_owned()];
    let notes = Notes { varies, ..Notes::default() };
    for (line, normal) in [
        ("3 sent, avg = 0.3/12 ms, seed 7 ", "3 sent, avg = {n}/{n} ms, seed {n}"),
        ("avg = 0.3/x ms", "avg = 0.3/x ms"),
        ("seed", "seed"),
        ("", ""),
    ] {
        assert_eq!(notes.normal(line).out.concat(), normal);
    }
    let logged = notes.normal("1\n2026-11-30T21:11:04.030Z INFO  seed 7\n2");
    assert_eq!(logged.log, ["{n}-{n}-{n}T{n}:{n}:{n}Z INFO  seed {n}"]);
    assert_eq!(logged.out, ["1", "2"]);
}
