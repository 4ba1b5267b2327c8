//! The commands `send`, `listen`, `ping` and `list`, and the trait [`ClientCommand`] of all commands.
//!
//! Each is a small state machine over the client's events. The chat, the command without a name, is in
//! `interactive_chat`.

use std::time::{Duration, Instant};

use super::driver::Progress;
use super::request_tracker::{EndedRequest, RequestTracker, counted, shown_time};
use crate::client::Client;
use crate::net::program_input::Line;
use crate::reliable::Outcome;

/// Most requests of a command without an outcome. The client sends them one after the other; the others are queued so
/// that the next one is ready at once.
pub(super) const MAX_OPEN: usize = 64;

/// A command: its requests and its reactions to events, input and time.
pub(super) trait ClientCommand {
    /// Makes the first requests, before the client has connected.
    fn start(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client);

    /// Whether the command has finished.
    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress;

    /// Handles a message from the server.
    fn on_message(&mut self, tracker: &mut RequestTracker<'_>, sender: &[u8], body: &[u8]) {
        tracker.note_unwanted(sender, body);
    }

    /// Handles an opened or resumed session.
    fn on_registered(&mut self, tracker: &mut RequestTracker<'_>, resumed: bool) {
        let _ = (tracker, resumed);
    }

    /// Handles the outcome of a request.
    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ended_request: &EndedRequest) {
        let _ = (tracker, ended_request);
    }

    /// Whether to read the next line of standard input.
    fn wants_line(&self, tracker: &RequestTracker<'_>) -> bool {
        let _ = tracker;
        false
    }

    /// Handles a line of standard input.
    fn on_line(&mut self, tracker: &mut RequestTracker<'_>, client: &mut Client, line: Line) {
        let _ = (tracker, client, line);
    }

    /// The time to call `handle_timeout`; `None` means never.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Handles a timeout. A spurious call is harmless.
    fn handle_timeout(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        let _ = (tracker, now, client);
    }

    /// Whether an end now would leave wanted work undone.
    fn has_shortfall(&self) -> bool {
        false
    }

    /// Prints what is missing, if no outcome of a request says it.
    fn report_shortfall(&self, tracker: &mut RequestTracker<'_>) {
        let _ = tracker;
    }

    /// Whether the command itself has failed: standard input cannot be read.
    fn has_failed(&self) -> bool {
        false
    }
}

/// `send`: one message, or one per line of standard input.
#[derive(Debug)]
pub(super) struct Send {
    target: Vec<u8>,
    text: Option<Vec<u8>>,
    reading: bool,
    failed: bool,
}

impl Send {
    pub(super) fn new(target: Vec<u8>, text: Option<Vec<u8>>) -> Self {
        Self { target, reading: text.is_none(), text, failed: false }
    }
}

impl ClientCommand for Send {
    fn start(&mut self, tracker: &mut RequestTracker<'_>, _now: Instant, client: &mut Client) {
        if self.target.starts_with(b"#") {
            tracker.join_first(client, &self.target);
        }
        if let Some(text) = self.text.take() {
            tracker.send(client, &self.target, &text);
        }
    }

    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress {
        if self.reading || tracker.open() > 0 { Progress::Going } else { Progress::Done }
    }

    fn wants_line(&self, tracker: &RequestTracker<'_>) -> bool {
        self.reading && tracker.open() < MAX_OPEN
    }

    fn on_line(&mut self, tracker: &mut RequestTracker<'_>, client: &mut Client, line: Line) {
        match line {
            Line::Text(text) => tracker.send(client, &self.target, &text),
            Line::TooLong { start, length } => tracker.reject_too_long(&self.target, &start, length),
            Line::Failed(error) => {
                tracker.console.error(&format!("cannot read standard input: {error}"));
                (self.reading, self.failed) = (false, true);
            }
            Line::End => self.reading = false,
        }
    }

    fn has_shortfall(&self) -> bool {
        self.reading
    }

    fn has_failed(&self) -> bool {
        self.failed
    }
}

/// `listen`: prints messages until a count or a time is reached.
#[derive(Debug)]
pub(super) struct Listen {
    count: Option<u64>,
    /// Messages still to print.
    left: Option<u64>,
    wait: Option<Duration>,
    ends_at: Option<Instant>,
    over: bool,
    rooms: Vec<Vec<u8>>,
}

impl Listen {
    pub(super) fn new(count: Option<u64>, wait: Option<Duration>, rooms: Vec<Vec<u8>>) -> Self {
        Self { count, left: count, wait, ends_at: None, over: false, rooms }
    }
}

impl ClientCommand for Listen {
    fn start(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        self.ends_at = self.wait.map(|wait| now + wait);
        self.rooms.iter().for_each(|room| tracker.join(client, room));
    }

    fn progress(&self, _desk: &RequestTracker<'_>) -> Progress {
        match self.left {
            _ if self.over => Progress::Over,
            Some(0) => Progress::Done,
            _ => Progress::Going,
        }
    }

    fn on_registered(&mut self, tracker: &mut RequestTracker<'_>, resumed: bool) {
        tracker.show_registered(resumed);
    }

    fn on_message(&mut self, tracker: &mut RequestTracker<'_>, sender: &[u8], body: &[u8]) {
        if self.left != Some(0) && !self.over {
            self.left = self.left.map(|left| left - 1);
            tracker.show_message(sender, body);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.ends_at.filter(|_| !self.over)
    }

    fn handle_timeout(&mut self, _desk: &mut RequestTracker<'_>, now: Instant, _client: &mut Client) {
        self.over |= self.ends_at.is_some_and(|at| at <= now);
    }

    fn has_shortfall(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }

    fn report_shortfall(&self, tracker: &mut RequestTracker<'_>) {
        if let Some(left) = self.left.filter(|left| *left > 0) {
            let count = self.count.unwrap_or(left);
            let messages = if count == 1 { "message" } else { "messages" };
            tracker.console.note(&format!("expected {count} {messages}, received {}", count - left));
        }
    }
}

/// `ping`: one echo request after the other.
#[derive(Debug)]
pub(super) struct Ping {
    left: Option<u64>,
    interval: Duration,
    next_at: Option<Instant>,
    /// Whether a ping has no outcome yet; the next one waits for it.
    is_waiting: bool,
}

impl Ping {
    pub(super) fn new(count: Option<u64>, interval: Duration) -> Self {
        Self { left: count, interval, next_at: None, is_waiting: false }
    }

    fn ping(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.next_at = (self.left != Some(0)).then(|| now + self.interval);
        self.is_waiting = true;
        tracker.ping(client);
    }
}

impl ClientCommand for Ping {
    fn start(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        self.ping(tracker, now, client);
    }

    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress {
        if self.left == Some(0) && tracker.open() == 0 { Progress::Done } else { Progress::Going }
    }

    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ended_request: &EndedRequest) {
        self.is_waiting = false;
        let (seq, ended) = (ended_request.request.seq, &ended_request.ended);
        let line = match &ended.outcome {
            _ if tracker.style.json => return,
            Outcome::Acked(_) => format!("seq={seq} tries={} time={} ms", ended.sends, shown_time(ended)),
            Outcome::Rejected(code, _) => format!("seq={seq} refused with {code}"),
            Outcome::Unknown => format!("seq={seq} no answer after {}", counted(ended.sends, "try", "tries")),
            Outcome::NeverSent => format!("seq={seq} never sent"),
        };
        tracker.console.print(&line);
    }

    fn has_shortfall(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next_at.filter(|_| !self.is_waiting)
    }

    fn handle_timeout(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.ping(tracker, now, client);
        }
    }
}

/// `list`: the names of all sessions, or of a room.
#[derive(Debug)]
pub(super) struct List {
    room: Option<Vec<u8>>,
}

impl List {
    pub(super) fn new(room: Option<Vec<u8>>) -> Self {
        Self { room }
    }
}

impl ClientCommand for List {
    fn start(&mut self, tracker: &mut RequestTracker<'_>, _now: Instant, client: &mut Client) {
        tracker.list(client, self.room.as_deref());
    }

    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress {
        if tracker.open() == 0 { Progress::Done } else { Progress::Going }
    }

    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ended_request: &EndedRequest) {
        tracker.show_names(ended_request);
    }
}
