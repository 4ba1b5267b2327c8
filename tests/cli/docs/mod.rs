//! The commands in the pages, run, and their output compared.
//!
//! A block marked `console` is a terminal: `$ ` begins a command, `> ` a line typed into the running program, and `^C` is
//! Ctrl-C; every other line is output. A block marked `sh` is commands alone, which have to succeed. A further mark
//! `runs-on` says that the last program runs until the end of the section; `no-run` that a test cannot run the block, for
//! the reason in tests/data/docs.toml; `file=NAME` that the block is this file. A page has a directory and ports of its own.
//!
//! `UPDATE_DOCS=1` writes what the commands print into the pages.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
#![expect(clippy::print_stderr, reason = "the output names skipped sections")]

mod notes;
mod page;
mod stage;
mod terminal;

use std::path::Path;
use std::time::Duration;

use notes::Notes;
use page::{Block, Step, blocks, with_texts};
use stage::{Stage, Wrong};

/// Programs that are not ours and not in every system.
const TOOLS: [&str; 3] = ["nc", "curl", "python3"];
/// The languages of blocks that are no commands.
const OTHERS: [&str; 6] = ["rust", "toml", "python", "json", "ini", "text"];

/// A tool that the commands of this section need and that is not installed.
fn missing_tool(blocks: &[(usize, &Block)]) -> Option<&'static str> {
    let steps = blocks.iter().filter(|(_, block)| block.is_run()).flat_map(|(_, block)| block.steps());
    let commands: Vec<String> =
        steps.filter_map(|step| if let Step::Command(line) = step { Some(line) } else { None }).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let is_used = |tool: &str| commands.iter().any(|line| line.split_whitespace().any(|word| word == tool));
    TOOLS.into_iter().find(|tool| is_used(tool) && !is_installed(tool))
}

/// Checks that every block is commands or of another language, and that the notes say what does not run.
fn assert_marks(page: &str, text: &str, notes: &Notes, blocks: &[Block]) {
    for block in blocks {
        let is_known = block.is_commands() || OTHERS.contains(&&*block.language);
        assert!(is_known, "{page}: what is the block `{}`?", block.first_line());
    }
    let mut marked: Vec<_> =
        blocks.iter().filter(|block| block.has_mark("no-run")).map(Block::first_line).collect();
    marked.sort_unstable();
    let noted: Vec<_> = notes.no_run.keys().map(String::as_str).collect();
    assert_eq!(marked, noted, "{page}: blocks marked `no-run`, and those in tests/data/docs.toml");
    let all = notes.normal(text);
    for template in &notes.varies {
        let is_used = |line: &String| line.contains(template.as_str());
        assert!(all.out.iter().chain(&all.log).any(is_used), "{page}: nothing is like `{template}`");
    }
    for start in notes.codes.keys() {
        assert!(text.contains(start.as_str()), "{page}: no command is `{start}`");
    }
    for section in notes.attempts.keys() {
        assert!(blocks.iter().any(|block| block.section == *section), "{page}: no section is `{section}`");
    }
}

/// Runs a page, and compares.
fn assert_runs(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (notes, blocks) = (Notes::of(page), blocks(&text));
    let is_update = std::env::var_os("UPDATE_DOCS").is_some();
    if !is_update {
        assert_marks(page, &text, &notes, &blocks);
    }
    let mut stage = Stage::new(page, &notes, is_update.then_some(Duration::from_secs(8)));
    let mut wrong = Vec::new();
    let all: Vec<_> = blocks.iter().enumerate().collect();
    for section in all.chunk_by(|(_, one), (_, other)| one.section == other.section) {
        let name = &section[0].1.section;
        if let Some(tool) = missing_tool(section) {
            assert!(std::env::var_os("CI").is_none(), "{page}, `{name}` needs {tool}");
            eprintln!("skipped: {page}, `{name}`: {tool} is not installed");
            continue;
        }
        let attempts = if is_update { 1 } else { notes.attempts.get(name).copied().unwrap_or(1) };
        let runs = (0..attempts).map(|_| stage.play(section.iter().copied()));
        let mut last = Vec::new();
        for run in runs {
            last = run;
            if last.is_empty() {
                break;
            }
        }
        wrong.extend(last);
    }
    let other_files = stage.other_files(is_update);
    if is_update {
        let is_output = |wrong: &&Wrong| wrong.codes.is_none();
        let texts = wrong.iter().filter(is_output).map(|wrong| (wrong.index, trimmed(&wrong.screen)));
        std::fs::write(&path, with_texts(&text, &texts.collect::<Vec<_>>())).unwrap();
    }
    let shown = |wrong: &Wrong| {
        let Block { section, text, .. } = &blocks[wrong.index];
        let codes = wrong.codes.as_ref();
        let codes = codes.map(|(real, expected)| format!("(exit codes {real:?}, not {expected:?})\n"));
        format!(
            "--- `{section}` shows\n{text}--- and prints\n{}\n{}",
            wrong.screen,
            codes.unwrap_or_default()
        )
    };
    let shown: Vec<String> = wrong.iter().map(shown).collect();
    assert!(shown.is_empty(), "{page}:\n{}", shown.join("\n"));
    assert!(other_files.is_empty(), "{page}: its commands do not write what is in {other_files:?}");
}

/// The lines without white space at their ends.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Times and counts differ from run to run, so the lines are compared without their numbers. A round trip over 0.1 s
/// causes another retry, which may change a line: three attempts.
#[test]
fn the_animated_tour_shows_the_lines_that_the_programs_print() {
    let programs = Path::new(env!("CARGO_BIN_EXE_server")).parent().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/make-tour");
    let check = || std::process::Command::new("python3").arg(&script).arg("--check").arg(programs).output();
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "the tour needs python3");
        eprintln!("skipped: the animated tour: python3 is not installed");
        return;
    }
    let mut failure = String::new();
    let is_shown = (0..3).any(|_| {
        let run = check().unwrap();
        failure = String::from_utf8_lossy(&run.stderr).into_owned();
        run.status.success()
    });
    assert!(is_shown, "{failure}; `docs/make-tour` draws it anew");
}

#[test]
fn the_commands_in_the_readme_print_what_it_shows() {
    assert_runs("README.md");
}

#[test]
fn the_commands_of_the_recipes_print_what_the_page_shows() {
    assert_runs("docs/how-to.md");
}

#[test]
fn the_commands_of_the_tutorial_print_what_it_shows() {
    assert_runs("docs/tutorial.md");
}

#[test]
fn the_commands_for_operators_print_what_the_page_shows() {
    assert_runs("docs/operating.md");
}

#[test]
fn the_commands_in_the_list_of_commands_print_what_it_shows() {
    assert_runs("docs/commands.md");
}

#[test]
fn the_commands_of_the_proxy_print_what_its_page_shows() {
    assert_runs("docs/proxy.md");
}

#[test]
fn the_commands_in_the_page_on_loss_print_what_it_shows() {
    assert_runs("docs/loss.md");
}

#[test]
fn the_commands_that_replace_other_programs_print_what_the_page_shows() {
    assert_runs("docs/migration.md");
}
