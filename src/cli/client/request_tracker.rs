//! The part that all commands share: asks the client for requests, tracks each until its outcome, and shows both.
//!
//! [`RequestTracker`] is the state. `show` prints events and outcomes; `text` and `json` format them. The requests of
//! each command, and its end, are in `commands` and `interactive_chat`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::console::Console;
use super::resolve::{MAX_PAYLOAD, OutputStyle};
use super::run_summary::RunSummary;
use crate::client::{Client, Event};
use crate::escape::{escape, escape_short};
use crate::reliable::{Ended, Outcome, Ticket};
use crate::wire::Verb;

mod json;
mod show;
mod text;

use text::rounded;
pub(super) use text::{counted, reason, shown_time};

/// Most requests that were never sent to print one by one; the others are counted.
const MAX_NEVER_SENT_LINES: u64 = 3;

/// Most characters shown of a message in an outcome or a note.
const MAX_SHOWN: usize = 40;

/// A request, as its outcome is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The number of this request among the user's, from 1; 0 for one that the command makes itself.
    pub(super) seq: u64,
    pub(super) verb: Verb,
    /// The name or room that it concerns, escaped.
    pub(super) target: Option<String>,
    /// The beginning of the message, escaped.
    pub(super) text: Option<String>,
    /// Time at which a line of standard input was read; `None` for other requests.
    due: Option<Instant>,
}

/// A request of the user with its outcome.
#[derive(Debug)]
pub(super) struct EndedRequest {
    pub(super) request: Request,
    pub(super) ended: Ended,
}

/// The open requests of a command, with the console that shows their outcomes.
#[derive(Debug)]
pub(super) struct RequestTracker<'a> {
    pub(super) console: Console<'a>,
    pub(super) style: OutputStyle,
    pub(super) run_summary: RunSummary,
    /// Whether a session was ever opened.
    pub(super) registered: bool,
    /// The session's name, escaped; empty if none is wanted.
    name: String,
    open: BTreeMap<Ticket, Request>,
    seq: u64,
    /// The due time of requests made now, if known.
    due: Option<Instant>,
}

impl<'a> RequestTracker<'a> {
    pub(super) fn new(console: Console<'a>, style: OutputStyle, name: Option<&str>) -> Self {
        let name = escape(name.unwrap_or_default().as_bytes()).into_owned();
        let (run_summary, open) = (RunSummary::default(), BTreeMap::new());
        Self { console, style, run_summary, registered: false, name, open, seq: 0, due: None }
    }

    /// Whether a session is wanted.
    pub(super) fn has_name(&self) -> bool {
        !self.name.is_empty()
    }

    /// Sets the due time of the requests that follow; `None` if unknown.
    pub(super) fn set_due(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// The number of requests without an outcome.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
}

/// Requests.
impl RequestTracker<'_> {
    /// Sends a message, unless it is longer than a server accepts by default.
    pub(super) fn send(&mut self, client: &mut Client, target: &[u8], body: &[u8]) {
        let length = target.len() + body.len() + 2;
        if length > MAX_PAYLOAD {
            return self.reject_too_long(target, body, body.len() as u64);
        }
        let ticket = client.send(target, body);
        self.opened(ticket, Verb::Snd, Some(target), Some(body));
    }

    /// Shows a message that is too long to send as rejected.
    pub(super) fn reject_too_long(&mut self, target: &[u8], start: &[u8], length: u64) {
        let request = self.request(Verb::Snd, Some(target), Some(start));
        let why = format!("{length} bytes are too long");
        let ended = Ended {
            ticket: Ticket(0),
            verb: Verb::Snd,
            outcome: Outcome::Rejected(413, why.into_bytes()),
            sends: 0,
            elapsed: None,
        };
        self.run_summary.count_too_long();
        self.show_ended(&request, &ended, None);
    }

    /// Joins a room for the user.
    pub(super) fn join(&mut self, client: &mut Client, room: &[u8]) {
        let ticket = client.join(room);
        self.opened(ticket, Verb::Jon, Some(room), None);
    }

    /// Joins a room for the command itself: only a failure is shown.
    pub(super) fn join_first(&mut self, client: &mut Client, room: &[u8]) {
        let ticket = client.join(room);
        let target = Some(escape(room).into_owned());
        self.open.insert(ticket, Request { seq: 0, verb: Verb::Jon, target, text: None, due: None });
    }

    pub(super) fn leave(&mut self, client: &mut Client, room: &[u8]) {
        let ticket = client.leave(room);
        self.opened(ticket, Verb::Lev, Some(room), None);
    }

    pub(super) fn list(&mut self, client: &mut Client, room: Option<&[u8]>) {
        let ticket = client.list(room);
        self.opened(ticket, Verb::Lst, room, None);
    }

    pub(super) fn ping(&mut self, client: &mut Client) {
        let ticket = client.ping();
        self.opened(ticket, Verb::Png, None, None);
    }

    fn opened(&mut self, ticket: Ticket, verb: Verb, target: Option<&[u8]>, text: Option<&[u8]>) {
        let request = self.request(verb, target, text);
        self.open.insert(ticket, request);
    }

    fn request(&mut self, verb: Verb, target: Option<&[u8]>, text: Option<&[u8]>) -> Request {
        self.seq += 1;
        Request {
            seq: self.seq,
            verb,
            target: target.map(|target| escape_short(target, MAX_SHOWN).into_owned()),
            text: text.map(|text| escape_short(text, MAX_SHOWN).into_owned()),
            due: self.due,
        }
    }
}

/// Events and outcomes.
impl RequestTracker<'_> {
    /// Shows an event, as far as all commands show it alike. Returns a request of the user that has ended.
    pub(super) fn on_event(&mut self, now: Instant, event: &Event) -> Option<EndedRequest> {
        match event {
            Event::Registered { .. } => self.registered = true,
            Event::SessionLost => self.console.note("the server has lost the session; opening a new one"),
            Event::Draining { again_at } => {
                let wait = rounded(again_at.saturating_duration_since(now));
                self.console.note(&format!("the server is shutting down; coming back in {wait} s"));
            }
            Event::NameTaken { again_at } => {
                let wait = rounded(again_at.saturating_duration_since(now));
                let name = &self.name;
                self.console.note(&format!(
                    "the name {name} is taken, and its session waits for its owner; trying again in {wait} s"
                ));
            }
            Event::Gap(count) => self.show_gap(*count),
            Event::Retry(sent) => self.show_retry(now, sent),
            Event::SlowDown(asked) => self.show_slow_down(now, asked),
            Event::Ended(ended) => return self.ended(now, ended),
            // `print_close_reason` shows the reason of a close at the end of the run.
            Event::Connect
            | Event::Disconnect
            | Event::CheckPath { .. }
            | Event::Message { .. }
            | Event::Closed(_) => {}
        }
        None
    }

    fn ended(&mut self, now: Instant, ended: &Ended) -> Option<EndedRequest> {
        let request = self.open.remove(&ended.ticket)?;
        if request.seq == 0 {
            if ended.outcome != Outcome::NeverSent {
                self.show_failure(&request, ended);
            }
            return None;
        }
        let since_due = request.due.map(|due| now.saturating_duration_since(due));
        self.run_summary.count(ended, since_due);
        self.show_ended(&request, ended, since_due);
        Some(EndedRequest { request, ended: ended.clone() })
    }
}
