//! The command line of the client: [`args`] as typed, [`resolve`] into a [`Plan`], [`run`].
//!
//! A command is a small state machine over the client's events: it asks through a `RequestTracker`, which keeps what was asked
//! until it ends and shows what happens. [`crate::net::connect`] drives both.
//!
//! # JSON
//!
//! With `--json`, each line of standard output is one object, and nothing else is printed there. Its `type` says what
//! it is; times in `_ms` are milliseconds, in `_s` seconds; names and reasons are escaped as in [`crate::escape`].
//!
//! | type | fields |
//! |---|---|
//! | `message` | `sender`; `room`: null, or its name with the `#`; `text`; only where the message is not UTF-8: `base64`, all its bytes, and `text` is escaped |
//! | `acked` | `seq`, `verb`, `target`, `tries`, `time_ms`; the answer to LST also `names` and `more`, how many names did not fit |
//! | `rejected` | `seq`, `verb`, `target`, `tries` (0: not sent, it was too long), `time_ms`, `code`, `reason` |
//! | `unknown` | `seq`, `verb`, `target`, `tries`, `time_ms`: done once or not at all |
//! | `never_sent` | `seq`, `verb`, `target`, `tries` (0), `time_ms` (null) |
//! | `retry` | `verb`, `id`, `seq` (null: not a request of the user's), `send`: which send this is, `waiting_s`: for how long its answer is awaited |
//! | `gap` | `count`: so many messages for this client were dropped by the server |
//!
//! `seq` is the place of a request among all that the user made, from 1: the line of `send TARGET -`, the number of a
//! ping. `verb` is SND, JON, LEV, LST or PNG (retries: REG and BYE too), `target` the name or room that it is about,
//! or null. `tries` counts the sends, `time_ms` runs from the first of them to the answer: the time to ack, repeats included.
//! Of a line of standard input there is `due_ms` as well, from when it was read: it holds the wait behind earlier requests.

use std::io::{Read, Write};
use std::time::Instant;

use crate::cli::{HostPort, exit, policy};
use crate::client::{Client, Closed, Event};
use crate::config::Transport;
use crate::net::connect::{self, Command, Finish, Line, Progress};

pub mod args;
mod chat;
mod console;
mod request_tracker;
pub mod resolve;
mod tally;
mod tasks;
#[cfg(test)]
mod tests;

pub use args::Args;
use console::Console;
use request_tracker::RequestTracker;
pub use resolve::Plan;
use tasks::Task;

/// Does what the plan says; returns the exit code. `input` may still be being read afterwards.
pub fn run(plan: &Plan, input: Box<dyn Read + Send>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let console = Console::new(out, err, plan.style.quiet);
    let tracker = RequestTracker::new(console, plan.style, plan.connect.client.name.as_deref());
    if plan.explain {
        return explain(plan, tracker.console);
    }
    match plan.task.clone() {
        resolve::Task::Chat => drive(plan, tracker, chat::Chat::new(), input),
        resolve::Task::Send { target, text } => drive(plan, tracker, tasks::Send::new(target, text), input),
        resolve::Task::Listen { count, wait, rooms } => {
            drive(plan, tracker, tasks::Listen::new(count, wait, rooms), input)
        }
        resolve::Task::Ping { count, interval } => {
            drive(plan, tracker, tasks::Ping::new(count, interval), input)
        }
        resolve::Task::List { room } => drive(plan, tracker, tasks::List::new(room), input),
    }
}

fn explain(plan: &Plan, mut console: Console<'_>) -> u8 {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = policy::explain(&plan.connect.client.policy, &mut text);
    String::from_utf8_lossy(&text).lines().for_each(|line| console.print(line));
    console.flush();
    output_failed(&mut console).unwrap_or(exit::OK)
}

/// The exit code, if standard output could not be written.
fn output_failed(console: &mut Console<'_>) -> Option<u8> {
    if let Some(error) = console.failure() {
        console.complain(&format!("cannot write to standard output: {error}"));
        return Some(exit::FAILED);
    }
    console.is_closed().then_some(exit::OK)
}

fn drive(plan: &Plan, tracker: RequestTracker<'_>, task: impl Task, input: Box<dyn Read + Send>) -> u8 {
    let mut running = Running { tracker, task };
    match connect::run(&plan.connect, &mut running, input) {
        Ok(finish) => running.finish(plan, &finish),
        Err(error) => {
            running.tracker.console.complain(&format!("cannot begin: {error}"));
            exit::FAILED
        }
    }
}

/// A task at its tracker, as the driver sees it.
struct Running<'a, T> {
    tracker: RequestTracker<'a>,
    task: T,
}

impl<T: Task> Command for Running<'_, T> {
    fn start(&mut self, now: Instant, client: &mut Client) {
        self.task.start(&mut self.tracker, now, client);
    }

    fn on_event(&mut self, now: Instant, _client: &mut Client, event: Event) {
        let ending = self.tracker.on_event(now, &event);
        if let Some(ending) = ending {
            self.task.on_ended(&mut self.tracker, &ending);
        }
        match event {
            Event::Message { sender, body } => self.task.on_message(&mut self.tracker, &sender, &body),
            Event::Registered { resumed } => self.task.on_registered(&mut self.tracker, resumed),
            _ => {}
        }
    }

    fn progress(&self) -> Progress {
        if self.tracker.console.is_broken() { Progress::Done } else { self.task.progress(&self.tracker) }
    }

    fn wants_line(&self) -> bool {
        self.task.wants_line(&self.tracker)
    }

    fn on_line(&mut self, now: Instant, client: &mut Client, line: Line) {
        self.tracker.set_due(Some(now));
        self.task.on_line(&mut self.tracker, client, line);
        self.tracker.set_due(None);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.task.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant, client: &mut Client) {
        self.task.handle_timeout(&mut self.tracker, now, client);
    }

    fn flush(&mut self) {
        self.tracker.console.flush();
    }
}

impl<T: Task> Running<'_, T> {
    /// Says how it went and makes an exit code of it.
    fn finish(mut self, plan: &Plan, finish: &Finish) -> u8 {
        let transport = plan.connect.client.transport;
        let output_failed = output_failed(&mut self.tracker.console);
        if output_failed.is_none() {
            self.tell_why(plan, finish);
            self.tracker.show_never_sent();
            self.task.tell_short(&mut self.tracker);
        }
        self.tracker.console.note(&self.tracker.tally.line(&finish.stats, transport));
        output_failed.unwrap_or_else(|| self.code(transport, finish))
    }

    fn tell_why(&mut self, plan: &Plan, finish: &Finish) {
        let server = HostPort { host: plan.connect.host.clone(), port: plan.connect.port }.to_string();
        let reason = match &finish.closed {
            Some(closed) => request_tracker::reason(closed, &server),
            None => Some(format!("cannot reach {server}")).filter(|_| !finish.interrupted),
        };
        let Some(reason) = reason else { return };
        match &finish.trouble {
            Some(trouble) => self.tracker.console.complain(&format!("{reason}: {trouble}")),
            None => self.tracker.console.complain(&reason),
        }
    }

    fn code(&self, transport: Transport, finish: &Finish) -> u8 {
        let tally = &self.tracker.tally;
        let refused = matches!(finish.closed, Some(Closed::Refused(..)));
        let ended = matches!(finish.closed, Some(Closed::ServerBye(_)));
        let drained = matches!(finish.closed, Some(Closed::Draining(_)));
        // What was not sent because the registration was refused was refused with it.
        let unfinished = tally.never_sent > 0 || self.task.is_short() || self.is_unregistered(finish);
        if finish.interrupted {
            exit::INTERRUPTED
        } else if transport == Transport::Stream && !finish.heard {
            exit::NO_CONNECTION
        } else if tally.unknown > 0 || drained || (unfinished && !refused) {
            exit::GAVE_UP
        } else if refused || ended || tally.rejected > 0 || self.task.has_failed() {
            exit::FAILED
        } else {
            exit::OK
        }
    }

    /// Whether there never was a session, or one was lost and not found again.
    fn is_unregistered(&self, finish: &Finish) -> bool {
        match finish.closed {
            Some(Closed::GaveUp) | None => true,
            Some(Closed::Done) => !self.tracker.registered && self.tracker.has_name(),
            _ => false,
        }
    }
}
