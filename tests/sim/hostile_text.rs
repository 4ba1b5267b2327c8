//! Hostile names and messages, through line listeners and into the log: the output is lines of plain text, each with
//! its true sender.

use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sayagain::service::Remote;

use crate::harness::{Conn, ServerHarness, local};
use crate::lines::{ASKS, ASKS_NOT, config};
use crate::support::{collect_log, stop_log, take_log};

/// Text that a terminal or a line reader would interpret instead of showing.
fn is_dangerous(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Random bytes with much hostile text.
fn nasty(rng: &mut ChaCha8Rng) -> Vec<u8> {
    const PIECES: [&str; 36] = [
        "\x1b[2J",
        "\x1b[1A\x1b[2K",
        "\x1b]0;title\x07",
        "\u{9b}31m",
        "\u{202e}",
        "\u{2066}",
        "\u{2069}",
        "\u{2028}",
        "\u{2029}",
        "\u{85}",
        "\u{feff}",
        "\u{e0041}",
        "\r",
        "\r* ",
        "\0",
        "\x08\x08",
        "\x7f",
        "\t",
        "\\",
        r"\x1b",
        "\\u{",
        "* goodbye",
        "Watcher> ",
        "*private* ",
        "#lobby",
        "> ",
        "<\u{338}",
        "\u{ad}",
        "\u{200b}",
        "a",
        "hello ",
        "山",
        "é",
        "👩\u{200d}🚀",
        "Zoe\u{308}",
        "ﬀ",
    ];
    let mut bytes = Vec::new();
    for _ in 0..rng.random_range(1..6) {
        match rng.random_range(0..5) {
            0 => bytes.push(rng.random()),
            1 => bytes.extend(rng.random::<char>().to_string().bytes()),
            _ => bytes.extend(PIECES.choose(rng).unwrap().bytes()),
        }
    }
    bytes
}

/// Hostile bytes that are one message at a line listener: no line ends, telnet codes or commands.
fn nasty_line(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut line = nasty(rng);
    line.retain(|byte| !matches!(byte, b'\n' | 0xff));
    let mut after_cr = false;
    line.retain(|byte| {
        let ends = after_cr && *byte == 0;
        after_cr = *byte == b'\r' || ends;
        !ends
    });
    if line.first() == Some(&b'/') || line.trim_ascii().is_empty() {
        line.insert(0, b'x');
    }
    line
}

/// Line clients in the lobby, one of them hostile.
struct Room {
    harness: ServerHarness,
    watchers: [Conn; 2],
    frida: Conn,
    eve: Option<(Conn, String)>,
    opened: u16,
    named: u64,
    refused: u64,
    messages: u64,
    logged: u64,
}

impl Room {
    fn new() -> Self {
        let mut harness = ServerHarness::new(config());
        let watchers = [ASKS, ASKS_NOT].map(|listener| harness.connect_at(listener, Remote::Ip(local(9))));
        harness.say(watchers[0], "Watcher\n");
        harness.say(watchers[1], "/nick Watcher2\n/join #other\n");
        let frida = harness.connect_as("REG 0006 fridaJON 0007 #lobbyJON 0007 #other");
        Self { harness, watchers, frida, eve: None, opened: 0, named: 0, refused: 0, messages: 0, logged: 0 }
    }

    /// The output and the log since the last call, checked to be plain text.
    fn shown(&mut self, seed: u64) -> Vec<Vec<String>> {
        for (_, line) in take_log() {
            self.logged += 1;
            assert!(!line.contains(is_dangerous), "seed {seed}: logged {line:?}");
        }
        let eve = self.eve.iter().map(|(conn, _)| *conn);
        let all: Vec<Conn> = self.watchers.iter().copied().chain(eve).collect();
        all.into_iter().map(|conn| lines(seed, self.harness.written_to(conn))).collect()
    }

    /// Connects a client that asks for a random name. Most get one.
    fn open_line(&mut self, rng: &mut ChaCha8Rng, seed: u64) {
        if let Some((conn, _)) = self.eve.take() {
            self.harness.hang_up(conn);
        }
        self.opened = self.opened.wrapping_add(1);
        let conn = self.harness.connect_at(ASKS, Remote::Ip(local(self.opened)));
        self.harness.written_to(conn);
        self.harness.put(conn, [nasty_line(rng), b"\n".to_vec()].concat());
        let answer = String::from_utf8(self.harness.written_to(conn)).unwrap();
        match named(&answer) {
            Some(name) => {
                self.named += 1;
                self.eve = Some((conn, name));
            }
            None => {
                self.refused += 1;
                assert!(
                    answer.starts_with("* ") && answer.ends_with("\nEnter your name: "),
                    "seed {seed}: {answer:?}"
                );
                assert!(!answer.replace('\n', "").contains(is_dangerous), "seed {seed}: {answer:?}");
                self.harness.hang_up(conn);
            }
        }
    }

    /// A message to the lobby, or a private one.
    fn speak(&mut self, rng: &mut ChaCha8Rng, seed: u64) {
        let Some((eve, name)) = self.eve.clone() else { return self.open_line(rng, seed) };
        let line = nasty_line(rng);
        let private = rng.random_ratio(1, 4);
        let said = if private { [b"/pm Watcher2 x", &line[..]].concat() } else { line };
        self.harness.put(eve, [&said[..], b"\n"].concat());
        let shown = self.shown(seed);
        self.messages += 1;
        let from = format!("{name}> ");
        let expected = if private {
            [vec![], vec![format!("*private* {from}")], vec!["*private to Watcher2* ".to_owned()]]
        } else {
            [vec![from.clone()], vec![from.clone()], vec![from]]
        };
        for (lines, beginnings) in shown.iter().zip(expected) {
            let fits = lines.len() == beginnings.len()
                && lines
                    .iter()
                    .zip(&beginnings)
                    .all(|(line, beginning)| line.starts_with(beginning.as_str()));
            assert!(fits, "seed {seed}: {said:?} was shown as {lines:?}");
        }
    }

    /// Any bytes: commands, telnet codes, several lines. Each message must begin with its true sender.
    fn rave(&mut self, rng: &mut ChaCha8Rng, seed: u64) {
        let Some((eve, mut name)) = self.eve.clone() else { return self.open_line(rng, seed) };
        const WORDS: [&[u8]; 11] = [
            b"/nick ",
            b"/me ",
            b"/pm Watcher ",
            b"/join #",
            b"/leave",
            b"/list",
            b"/",
            b"//",
            b"/help",
            b"\xff",
            b"",
        ];
        for _ in 0..3 {
            let line = [WORDS.choose(rng).unwrap(), &nasty_line(rng)[..], b"\n"].concat();
            self.harness.put(eve, &line);
            let shown = self.shown(seed);
            let answers = shown.last().unwrap();
            let room = |line: &str| {
                line.strip_prefix(name.as_str()).is_some_and(|rest| {
                    rest.starts_with("> ") || rest.starts_with('#') && rest.contains("> ")
                })
            };
            let is_true = |line: &String| room(line.strip_prefix("*private* ").unwrap_or(line));
            assert!(
                shown[..2].concat().iter().all(is_true),
                "seed {seed}: {line:?} of {name} was shown as {shown:?}"
            );
            if let Some(new) = answers.iter().find_map(|answer| named(answer)) {
                name = new;
            }
        }
        // The client's room and the state of its telnet parser are unknown now.
        self.open_line(rng, seed);
    }

    /// A message in a frame, line feeds included.
    fn send(&mut self, rng: &mut ChaCha8Rng, seed: u64) {
        let target = *["#lobby", "#other", "Watcher2"].choose(rng).unwrap();
        let beginning = match target {
            "#lobby" => "frida> ",
            "#other" => "frida#other> ",
            _ => "*private* frida> ",
        };
        let body = [nasty(rng), b"\n".to_vec(), nasty(rng)].concat();
        let payload = [b" ", target.as_bytes(), b" ", &body].concat();
        self.harness.put(self.frida, [format!("SND {:04}", payload.len()).as_bytes(), &payload].concat());
        let shown = self.shown(seed);
        assert_eq!(shown[1].len(), 1, "seed {seed}: {body:?} was shown as {shown:?}");
        assert!(shown[1][0].starts_with(beginning), "seed {seed}: {shown:?}");
        self.harness.written_to(self.frida);
    }
}

/// The name that the client got.
fn named(answer: &str) -> Option<String> {
    let rest = answer.strip_prefix("* you are ").filter(|rest| !rest.starts_with("in "))?;
    Some(rest.split(['\n', ' ']).next().unwrap().to_owned())
}

/// The output to a client, checked to be whole lines of plain text.
fn lines(seed: u64, bytes: Vec<u8>) -> Vec<String> {
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "seed {seed}: {text:?}");
    let lines: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
    assert!(lines.iter().all(|line| !line.contains(is_dangerous)), "seed {seed}: {lines:?}");
    lines
}

/// Runs this many names and messages, drawn from seeds from `seed` on.
fn harm(seed: u64, count: u64) {
    collect_log();
    let mut room = Room::new();
    room.shown(seed);
    for seed in seed..seed + count {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        match rng.random_range(0..8) {
            0 => room.open_line(&mut rng, seed),
            1 => room.rave(&mut rng, seed),
            2 => room.send(&mut rng, seed),
            _ => room.speak(&mut rng, seed),
        }
    }
    stop_log();
    let counts = [room.named, room.refused, room.messages, room.logged];
    assert!(counts.iter().all(|n| *n > count / 100), "too little of some of it has happened: {counts:?}");
}

#[test]
fn any_input_is_shown_and_logged_as_plain_lines_of_the_true_sender() {
    harm(1, 20_000);
}

#[test]
#[ignore = "takes about ten seconds: cargo test --test sim a_million_names_and_messages -- --ignored"]
fn a_million_names_and_messages_hold_no_raw_control_byte() {
    harm(1_000_000, 1_000_000);
}
