//! The commands but for chat: small state machines over what the client tells.

use std::time::{Duration, Instant};

use super::request_tracker::{EndedRequest, RequestTracker, shown_time, tries};
use crate::client::Client;
use crate::net::connect::{Line, Progress};
use crate::reliable::Outcome;

/// Most requests of a command that wait for their answers. The client sends them one after the other; more than one
/// waits only so that the next is there when it is needed.
pub(super) const MAX_OPEN: usize = 64;

/// A command over a [`RequestTracker`].
pub(super) trait Task {
    /// The client is there.
    fn start(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client);

    /// Whether it is done.
    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress;

    /// A message came.
    fn on_message(&mut self, tracker: &mut RequestTracker<'_>, sender: &[u8], body: &[u8]) {
        tracker.pass_over(sender, body);
    }

    /// The session is open.
    fn on_registered(&mut self, tracker: &mut RequestTracker<'_>, resumed: bool) {
        let _ = (tracker, resumed);
    }

    /// A request has ended.
    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ending: &EndedRequest) {
        let _ = (tracker, ending);
    }

    /// Whether to read standard input.
    fn wants_line(&self, tracker: &RequestTracker<'_>) -> bool {
        let _ = tracker;
        false
    }

    /// A line of standard input.
    fn on_line(&mut self, tracker: &mut RequestTracker<'_>, client: &mut Client, line: Line) {
        let _ = (tracker, client, line);
    }

    /// When time matters.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// That time has come, or not quite.
    fn handle_timeout(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        let _ = (tracker, now, client);
    }

    /// Whether less was done than was asked for, should it end now.
    fn is_short(&self) -> bool {
        false
    }

    /// Says what is short, where the outcomes do not.
    fn tell_short(&self, tracker: &mut RequestTracker<'_>) {
        let _ = tracker;
    }

    /// Whether something went wrong that is nobody's but this program's: standard input cannot be read.
    fn has_failed(&self) -> bool {
        false
    }
}

/// `send`.
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

impl Task for Send {
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
            Line::TooLong { start, length } => tracker.refuse_long(&self.target, &start, length),
            Line::Failed(error) => {
                tracker.console.complain(&format!("cannot read standard input: {error}"));
                (self.reading, self.failed) = (false, true);
            }
            Line::End => self.reading = false,
        }
    }

    fn is_short(&self) -> bool {
        self.reading
    }

    fn has_failed(&self) -> bool {
        self.failed
    }
}

/// `listen`.
#[derive(Debug)]
pub(super) struct Listen {
    /// Messages that are still wanted.
    left: Option<u64>,
    wait: Option<Duration>,
    ends_at: Option<Instant>,
    over: bool,
    rooms: Vec<Vec<u8>>,
}

impl Listen {
    pub(super) fn new(count: Option<u64>, wait: Option<Duration>, rooms: Vec<Vec<u8>>) -> Self {
        Self { left: count, wait, ends_at: None, over: false, rooms }
    }
}

impl Task for Listen {
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

    fn is_short(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }

    fn tell_short(&self, tracker: &mut RequestTracker<'_>) {
        if let Some(left) = self.left.filter(|left| *left > 0) {
            tracker.console.note(&format!("{left} of the wanted messages did not come"));
        }
    }
}

/// `ping`.
#[derive(Debug)]
pub(super) struct Ping {
    left: Option<u64>,
    interval: Duration,
    next_at: Option<Instant>,
    /// One is under way; the next waits for its end.
    waiting: bool,
}

impl Ping {
    pub(super) fn new(count: Option<u64>, interval: Duration) -> Self {
        Self { left: count, interval, next_at: None, waiting: false }
    }

    fn ping(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.next_at = (self.left != Some(0)).then(|| now + self.interval);
        self.waiting = true;
        tracker.ping(client);
    }
}

impl Task for Ping {
    fn start(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        self.ping(tracker, now, client);
    }

    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress {
        if self.left == Some(0) && tracker.open() == 0 { Progress::Done } else { Progress::Going }
    }

    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ending: &EndedRequest) {
        self.waiting = false;
        let (seq, ended) = (ending.request.seq, &ending.ended);
        let line = match &ended.outcome {
            _ if tracker.style.json => return,
            Outcome::Acked(_) => format!("seq={seq} tries={} time={} ms", ended.sends, shown_time(ended)),
            Outcome::Rejected(code, _) => format!("seq={seq} refused with {code}"),
            Outcome::Unknown => format!("seq={seq} no answer after {}", tries(ended.sends, "try", "tries")),
            Outcome::NeverSent => format!("seq={seq} never sent"),
        };
        tracker.console.print(&line);
    }

    fn is_short(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next_at.filter(|_| !self.waiting)
    }

    fn handle_timeout(&mut self, tracker: &mut RequestTracker<'_>, now: Instant, client: &mut Client) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.ping(tracker, now, client);
        }
    }
}

/// `list`.
#[derive(Debug)]
pub(super) struct List {
    room: Option<Vec<u8>>,
}

impl List {
    pub(super) fn new(room: Option<Vec<u8>>) -> Self {
        Self { room }
    }
}

impl Task for List {
    fn start(&mut self, tracker: &mut RequestTracker<'_>, _now: Instant, client: &mut Client) {
        tracker.list(client, self.room.as_deref());
    }

    fn progress(&self, tracker: &RequestTracker<'_>) -> Progress {
        if tracker.open() == 0 { Progress::Done } else { Progress::Going }
    }

    fn on_ended(&mut self, tracker: &mut RequestTracker<'_>, ending: &EndedRequest) {
        tracker.show_names(ending);
    }
}
