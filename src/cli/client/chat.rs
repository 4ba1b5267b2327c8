//! The chat: lines are messages and commands.

use std::time::Instant;

use super::request_tracker::{EndedRequest, RequestTracker};
use super::tasks::{MAX_OPEN, Task};
use crate::client::Client;
use crate::escape::escape_short;
use crate::net::connect::{Line, Progress};
use crate::reliable::Outcome;
use crate::wire::{Verb, split_word};

const HELP: [&str; 6] = [
    "TARGET message   sends a message; TARGET is a name or a #room that you are in",
    "/join #room      joins a room",
    "/leave #room     leaves it",
    "/list [#room]    lists everybody, or a room's members",
    "/quit            waits for what is under way, says goodbye and ends; so does the end of input",
    "/help            shows this",
];

/// How much of a line that makes no sense is shown.
const SHOWN: usize = 40;

/// The chat without a command.
#[derive(Debug)]
pub(super) struct Chat {
    reading: bool,
    failed: bool,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Nothing,
    Message(&'a [u8], &'a [u8]),
    Join(&'a [u8]),
    Leave(&'a [u8]),
    List(Option<&'a [u8]>),
    Quit,
    Help,
    /// Nothing that makes sense, and why.
    Wrong(&'static str),
}

impl Chat {
    pub(super) fn new() -> Self {
        Self { reading: true, failed: false }
    }

    fn say(&mut self, tracker: &mut RequestTracker<'_>, client: &mut Client, line: &[u8]) {
        match parse(line) {
            Said::Nothing => {}
            Said::Message(target, body) => tracker.send(client, target, body),
            Said::Join(room) => tracker.join(client, room),
            Said::Leave(room) => tracker.leave(client, room),
            Said::List(room) => tracker.list(client, room),
            Said::Quit => self.reading = false,
            Said::Help => HELP.iter().for_each(|line| help_line(tracker, line)),
            Said::Wrong(why) => tracker.console.complain(&format!("`{}`: {why}", escape_short(line, SHOWN))),
        }
    }
}

/// With `--json`, standard output is for JSON alone.
fn help_line(tracker: &mut RequestTracker<'_>, line: &str) {
    if tracker.style.json { tracker.console.complain(line) } else { tracker.console.print(line) }
}

fn parse(line: &[u8]) -> Said<'_> {
    if line.trim_ascii().is_empty() {
        return Said::Nothing;
    }
    let (word, rest) = split_word(line);
    let argument = rest.map(<[u8]>::trim_ascii).filter(|rest| !rest.is_empty());
    match (word, argument) {
        (b"/join", Some(room)) => with_room(room, Said::Join),
        (b"/leave", Some(room)) => with_room(room, Said::Leave),
        (b"/list", Some(room)) => with_room(room, |room| Said::List(Some(room))),
        (b"/join" | b"/leave", None) => Said::Wrong("say which #room"),
        (b"/list", None) => Said::List(None),
        (b"/quit", _) => Said::Quit,
        (b"/help", _) => Said::Help,
        ([b'/', ..], _) => Said::Wrong("no such command; /help lists them"),
        (b"", _) => Said::Wrong("a line begins with a name or a #room, not with a space"),
        (target, _) => match rest {
            Some(body) => Said::Message(target, body),
            None => Said::Wrong("write TARGET message; /help lists the commands"),
        },
    }
}

fn with_room<'a>(room: &'a [u8], said: impl FnOnce(&'a [u8]) -> Said<'a>) -> Said<'a> {
    match room {
        [b'#', _, ..] if !room.contains(&b' ') => said(room),
        _ => Said::Wrong("a room is # and a name, without spaces"),
    }
}

impl Task for Chat {
    fn start(&mut self, _desk: &mut RequestTracker<'_>, _now: Instant, _client: &mut Client) {}

    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress {
        if self.reading || tracker.open() > 0 { Progress::Going } else { Progress::Done }
    }

    fn on_message(&mut self, tracker: &mut RequestTracker<'_>, sender: &[u8], body: &[u8]) {
        tracker.show_message(sender, body);
    }

    fn on_registered(&mut self, tracker: &mut RequestTracker<'_>, resumed: bool) {
        tracker.show_registered(resumed);
        if !resumed {
            tracker.console.note("write TARGET message; /help lists the commands");
        }
    }

    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ending: &EndedRequest) {
        let is_acked = matches!(ending.ended.outcome, Outcome::Acked(_));
        let room = ending.request.target.as_deref().unwrap_or_default();
        match ending.request.verb {
            Verb::Lst => tracker.show_names(ending),
            Verb::Jon if is_acked => tracker.console.note(&format!("joined {room}")),
            Verb::Lev if is_acked => tracker.console.note(&format!("left {room}")),
            _ => {}
        }
    }

    fn wants_line(&self, tracker: &RequestTracker<'_>) -> bool {
        self.reading && tracker.open() < MAX_OPEN
    }

    fn on_line(&mut self, tracker: &mut RequestTracker<'_>, client: &mut Client, line: Line) {
        match line {
            Line::Text(line) => self.say(tracker, client, &line),
            Line::TooLong { start, length } => match parse(&start) {
                Said::Message(target, body) => tracker.refuse_long(target, body, length),
                _ => tracker.console.complain(&format!("a line of {length} bytes is no command")),
            },
            Line::Failed(error) => {
                tracker.console.complain(&format!("cannot read standard input: {error}"));
                (self.reading, self.failed) = (false, true);
            }
            Line::End => self.reading = false,
        }
    }

    fn has_failed(&self) -> bool {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_unless_it_begins_with_a_slash() {
        for (line, said) in [
            (&b""[..], Said::Nothing),
            (b"  \t ", Said::Nothing),
            (b"bob hi  you ", Said::Message(b"bob", b"hi  you ")),
            (b"#r \xff\0", Said::Message(b"#r", b"\xff\0")),
            (b"bob ", Said::Message(b"bob", b"")),
            (b"bob /quit", Said::Message(b"bob", b"/quit")),
            (b"/join #r", Said::Join(b"#r")),
            (b"/join  #r ", Said::Join(b"#r")),
            (b"/leave #r", Said::Leave(b"#r")),
            (b"/list", Said::List(None)),
            (b"/list ", Said::List(None)),
            (b"/list #r", Said::List(Some(b"#r"))),
            (b"/quit", Said::Quit),
            (b"/help me", Said::Help),
        ] {
            assert_eq!(parse(line), said, "{line:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for line in [
            "bob",
            "/",
            "/x",
            "/join",
            "/leave ",
            "/join r",
            "/join #",
            "/join #a b",
            "/list r",
            " bob hi",
            "/QUIT",
        ] {
            assert!(matches!(parse(line.as_bytes()), Said::Wrong(_)), "{line}");
        }
    }
}
