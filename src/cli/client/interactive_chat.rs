//! The client without a command: a chat in which each line of input is a message or a `/command`.

use std::time::Instant;

use super::commands::{ClientCommand, MAX_OPEN};
use super::driver::Progress;
use super::request_tracker::{EndedRequest, RequestTracker};
use super::resolve::names_room;
use crate::client::Client;
use crate::escape::escape_short;
use crate::net::program_input::Line;
use crate::reliable::Outcome;
use crate::wire::{Verb, split_word};

const HELP: [&str; 6] = [
    "TARGET message   sends a message; TARGET is a name or a #room that you are in",
    "/join #room      joins a room",
    "/leave #room     leaves it",
    "/list [#room]    lists all names, or a room's members",
    "/quit            waits for pending requests, sends BYE and ends; so does the end of input",
    "/help            shows this",
];

/// Most characters shown of a line that is not understood.
const SHOWN: usize = 40;

/// The chat command.
#[derive(Debug)]
pub(super) struct InteractiveChat {
    reading: bool,
    failed: bool,
}

/// A parsed line of input.
#[derive(Debug, PartialEq, Eq)]
enum ChatLine<'a> {
    Nothing,
    Message(&'a [u8], &'a [u8]),
    Join(&'a [u8]),
    Leave(&'a [u8]),
    List(Option<&'a [u8]>),
    Quit,
    Help,
    /// A line that is not understood, and why.
    Invalid(&'static str),
}

impl InteractiveChat {
    pub(super) fn new() -> Self {
        Self { reading: true, failed: false }
    }

    fn handle_line(&mut self, tracker: &mut RequestTracker<'_>, client: &mut Client, line: &[u8]) {
        match parse(line) {
            ChatLine::Nothing => {}
            ChatLine::Message(target, body) => tracker.send(client, target, body),
            ChatLine::Join(room) => tracker.join(client, room),
            ChatLine::Leave(room) => tracker.leave(client, room),
            ChatLine::List(room) => tracker.list(client, room),
            ChatLine::Quit => self.reading = false,
            ChatLine::Help => HELP.iter().for_each(|line| help_line(tracker, line)),
            ChatLine::Invalid(why) => {
                tracker.console.error(&format!("`{}`: {why}", escape_short(line, SHOWN)))
            }
        }
    }
}

/// Prints a line of help, with `--json` on standard error: standard output is JSON alone.
fn help_line(tracker: &mut RequestTracker<'_>, line: &str) {
    if tracker.style.json { tracker.console.error(line) } else { tracker.console.print(line) }
}

fn parse(line: &[u8]) -> ChatLine<'_> {
    if line.trim_ascii().is_empty() {
        return ChatLine::Nothing;
    }
    let (word, rest) = split_word(line);
    let argument = rest.map(<[u8]>::trim_ascii).filter(|rest| !rest.is_empty());
    match (word, argument) {
        (b"/join", Some(room)) => with_room(room, ChatLine::Join),
        (b"/leave", Some(room)) => with_room(room, ChatLine::Leave),
        (b"/list", Some(room)) => with_room(room, |room| ChatLine::List(Some(room))),
        (b"/join" | b"/leave", None) => ChatLine::Invalid("say which #room"),
        (b"/list", None) => ChatLine::List(None),
        (b"/quit", _) => ChatLine::Quit,
        (b"/help", _) => ChatLine::Help,
        ([b'/', ..], _) => ChatLine::Invalid("no such command; /help lists them"),
        (b"", _) => ChatLine::Invalid("a line begins with a name or a #room, not with a space"),
        (target, _) => match rest {
            Some(body) => ChatLine::Message(target, body),
            None => ChatLine::Invalid("write TARGET message; /help lists the commands"),
        },
    }
}

fn with_room<'a>(room: &'a [u8], make: impl FnOnce(&'a [u8]) -> ChatLine<'a>) -> ChatLine<'a> {
    if names_room(room) && !room.contains(&b' ') {
        make(room)
    } else {
        ChatLine::Invalid("a room is # and a name, without spaces")
    }
}

impl ClientCommand for InteractiveChat {
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

    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ended_request: &EndedRequest) {
        let is_acked = matches!(ended_request.ended.outcome, Outcome::Acked(_));
        let room = ended_request.request.target.as_deref().unwrap_or_default();
        match ended_request.request.verb {
            Verb::Lst => tracker.show_names(ended_request),
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
            Line::Text(line) => self.handle_line(tracker, client, &line),
            Line::TooLong { start, length } => match parse(&start) {
                ChatLine::Message(target, body) => tracker.reject_too_long(target, body, length),
                _ => tracker.console.error(&format!("a line of {length} bytes is not a command")),
            },
            Line::Failed(error) => {
                tracker.console.error(&format!("cannot read standard input: {error}"));
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
            (&b""[..], ChatLine::Nothing),
            (b"  \t ", ChatLine::Nothing),
            (b"bob hi  you ", ChatLine::Message(b"bob", b"hi  you ")),
            (b"#r \xff\0", ChatLine::Message(b"#r", b"\xff\0")),
            (b"bob ", ChatLine::Message(b"bob", b"")),
            (b"bob /quit", ChatLine::Message(b"bob", b"/quit")),
            (b"/join #r", ChatLine::Join(b"#r")),
            (b"/join  #r ", ChatLine::Join(b"#r")),
            (b"/leave #r", ChatLine::Leave(b"#r")),
            (b"/list", ChatLine::List(None)),
            (b"/list ", ChatLine::List(None)),
            (b"/list #r", ChatLine::List(Some(b"#r"))),
            (b"/quit", ChatLine::Quit),
            (b"/help me", ChatLine::Help),
        ] {
            assert_eq!(parse(line), said, "{line:?}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_refused() {
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
            assert!(matches!(parse(line.as_bytes()), ChatLine::Invalid(_)), "{line}");
        }
    }
}
