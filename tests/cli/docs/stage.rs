//! The run of a page's sections: each terminal in a directory of the page, on ports of its own.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::notes::Notes;
use super::page::{Block, Step};
use super::terminal::{Terminal, waited};

/// The longest run of a command, and the longest wait for output of a program that continues running.
const LIMIT: Duration = Duration::from_secs(120);
/// The exit codes of programs that SIGTERM ends.
const TERMINATED: [i32; 4] = [0, 130, 137, 143];
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/docs/bin");

/// The directory and ports of the sections of a page.
#[derive(Debug)]
pub(super) struct Stage {
    notes: Notes,
    folder: PathBuf,
    /// Ports on the page, and those in their place.
    ports: Vec<(String, String)>,
    env: Vec<(String, String)>,
    opened: usize,
    limit: Duration,
}

/// A block that does not print what the page shows, or has another exit code.
pub(super) struct Wrong {
    /// Its place among the blocks.
    pub(super) index: usize,
    /// The screen: input and output.
    pub(super) screen: String,
    /// The exit codes and those that the notes expect, if they differ.
    pub(super) codes: Option<(Vec<i32>, Vec<i32>)>,
}

/// A block in its terminal.
struct Play<'a> {
    block: &'a Block,
    index: usize,
    terminal: Terminal,
    steps: Vec<Step>,
    /// The number of steps that were done.
    done: usize,
    commands: Vec<String>,
}

impl Stage {
    /// An empty directory and free ports for this page.
    pub(super) fn new(page: &str, notes: &Notes, limit: Option<Duration>) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{}", page.replace('/', "-")));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let ports: Vec<_> = notes.ports.iter().map(|port| (port.clone(), free_port().to_string())).collect();
        let server = Path::new(env!("CARGO_BIN_EXE_server"));
        let mut path = std::ffi::OsString::from(format!("{SCRIPTS}:"));
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut env = vec![
            ("PATH".to_owned(), path.into_string().unwrap()),
            ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
            ("SERVER".to_owned(), server.to_str().unwrap().to_owned()),
            ("CLIENT".to_owned(), env!("CARGO_BIN_EXE_client").to_owned()),
            ("LAB".to_owned(), env!("CARGO_BIN_EXE_lab").to_owned()),
            ("EXAMPLES".to_owned(), server.with_file_name("examples").to_str().unwrap().to_owned()),
        ];
        for (name, port) in [("PORT", "50000"), ("LINE_PORT", "50001")] {
            let own = ports.iter().find(|(shown, _)| shown == port);
            env.extend(own.map(|(_, own)| (name.to_owned(), own.clone())));
        }
        Self { notes: notes.clone(), folder, ports, env, opened: 0, limit: limit.unwrap_or(LIMIT) }
    }

    /// Compares the files that the commands wrote with those that are stored. Returns the names of the others.
    pub(super) fn other_files(&self, is_update: bool) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let is_other = |(written, stored): &(&String, &String)| {
            let (written, stored) = (self.folder.join(written), root.join(stored));
            let is_other = std::fs::read(&written).unwrap_or_default() != std::fs::read(&stored).unwrap();
            if is_other && is_update {
                std::fs::copy(&written, &stored).unwrap();
            }
            is_other
        };
        self.notes.stored.iter().filter(is_other).map(|(_, stored)| stored.clone()).collect()
    }

    fn to_own_ports(&self, text: &str) -> String {
        with_numbers(text, self.ports.iter().map(|(shown, own)| (shown.as_str(), own.as_str())))
    }

    /// The screen with the page's ports.
    fn screen(&self, terminal: &Terminal) -> String {
        with_numbers(&terminal.screen(), self.ports.iter().map(|(shown, own)| (own.as_str(), shown.as_str())))
    }

    /// Runs the blocks of a section. Returns what they print where that is not what the page shows.
    pub(super) fn play<'a>(
        &mut self,
        blocks: impl Iterator<Item = (usize, &'a Block)> + Clone,
    ) -> Vec<Wrong> {
        let (mut open, mut wrong) = (Vec::new(), Vec::new());
        for (_, block) in blocks.clone() {
            if let Some(file) = block.file() {
                std::fs::write(self.folder.join(file), self.to_own_ports(&block.text)).unwrap();
            }
        }
        for (index, block) in blocks.filter(|(_, block)| block.is_run()) {
            let mut play = self.begin(index, block);
            if block.has_mark("runs-on") {
                open.push(play);
            } else {
                wrong.extend(self.finish(&mut play));
            }
        }
        // Input in later terminals can cause output in earlier ones.
        for play in &open {
            self.wait_for(play, play.done);
        }
        while let Some(mut play) = open.pop() {
            wrong.extend(self.finish(&mut play));
        }
        wrong
    }

    /// Types the input of the block; where its last program runs on, up to Ctrl-C.
    fn begin<'a>(&mut self, index: usize, block: &'a Block) -> Play<'a> {
        self.opened += 1;
        let terminal = Terminal::open(&self.folder, &format!("terminal-{}", self.opened), &self.env);
        let steps = block.steps();
        let mut play = Play { block, index, terminal, steps, done: 0, commands: Vec::new() };
        let runs_on = block.has_mark("runs-on");
        let last = play.steps.iter().rposition(|step| !matches!(step, Step::Shown(_) | Step::Interrupt));
        while play.done < play.steps.len() {
            if play.steps[play.done] == Step::Interrupt && runs_on {
                break;
            }
            self.step(&mut play);
        }
        if runs_on && play.block.language == "sh" {
            waited(self.limit, || play.terminal.has_output());
        } else if runs_on && !play.steps.iter().any(|step| matches!(step, Step::Typed(_))) {
            // The first output of a program that runs on says that it is ready.
            let ready = (last.unwrap_or_default() + 2).min(play.done);
            self.wait_for(&play, ready);
        }
        play
    }

    fn step(&self, play: &mut Play<'_>) {
        let step = play.steps[play.done].clone();
        if !matches!(step, Step::Shown(_)) && play.done > 0 {
            if matches!(step, Step::Command(_)) {
                waited(self.limit, || play.terminal.is_done());
            }
            self.wait_for(play, play.done);
        }
        match step {
            Step::Command(command) => {
                play.terminal.command(&self.to_own_ports(&command), &command);
                play.commands.push(command);
            }
            Step::Typed(line) => play.terminal.line(&self.to_own_ports(&line), &line),
            Step::Interrupt => play.terminal.interrupt(),
            Step::Shown(_) => {}
        }
        play.done += 1;
    }

    /// Waits until what these first steps show is on the screen.
    fn wait_for(&self, play: &Play<'_>, steps: usize) {
        if play.block.language == "sh" {
            return;
        }
        let shown = self.notes.normal(&text_of(&play.steps[..steps]));
        waited(self.limit, || {
            let has_ended = play.terminal.is_done() && !play.commands.iter().any(|line| line.ends_with('&'));
            let screen = self.notes.normal(&self.screen(&play.terminal));
            has_ended || (screen.out.starts_with(&shown.out) && screen.log.starts_with(&shown.log))
        });
    }

    /// Waits for the rest of the output, and compares. Closes the terminal.
    fn finish(&self, play: &mut Play<'_>) -> Option<Wrong> {
        while play.done < play.steps.len() {
            self.step(play);
        }
        self.wait_for(play, play.steps.len());
        let runs_on = play.block.has_mark("runs-on") && !play.steps.contains(&Step::Interrupt);
        if !runs_on {
            play.terminal.end_of_input();
            waited(self.limit, || play.terminal.is_done());
        }
        let (index, screen) = (play.index, self.screen(&play.terminal));
        play.terminal.close();
        let mut codes = play.terminal.codes();
        let expected: Vec<_> = play.commands.iter().map(|command| self.notes.code(command)).collect();
        if runs_on && codes.last().is_none_or(|code| TERMINATED.contains(code)) {
            // It ended with its terminal.
            codes.truncate(expected.len() - 1);
            codes.extend(expected.last());
        }
        let is_shown =
            play.block.language == "sh" || self.notes.normal(&screen) == self.notes.normal(&play.block.text);
        let codes = (codes != expected).then_some((codes, expected));
        (!is_shown || codes.is_some()).then_some(Wrong { index, screen, codes })
    }
}

fn text_of(steps: &[Step]) -> String {
    let lines = steps.iter().map(|step| match step {
        Step::Command(command) => format!("$ {command}\n"),
        Step::Typed(line) => format!("> {line}\n"),
        Step::Interrupt => "^C\n".to_owned(),
        Step::Shown(line) => format!("{line}\n"),
    });
    lines.collect()
}

/// The text with some of its numbers replaced.
fn with_numbers<'a>(text: &str, pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let is_digit = |piece: &str| piece.starts_with(|first: char| first.is_ascii_digit());
    let pieces = text.split_inclusive(|letter: char| !letter.is_ascii_digit());
    let replaced = pieces.map(|piece| {
        let number = piece.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let other = pairs.clone().find(|(from, _)| is_digit(piece) && *from == number);
        other.map_or_else(|| piece.to_owned(), |(_, to)| format!("{to}{}", &piece[number.len()..]))
    });
    replaced.collect()
}

/// A port that is free for TCP and UDP, and below the range from which the system assigns ports.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1_000).unwrap() * 10;
    for _ in 0..1_000 {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::SeqCst)) % 10_000;
        let host = ("127.0.0.1", port);
        if TcpListener::bind(host).is_ok() && UdpSocket::bind(host).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
