//! The command line of the client: [`args`] as typed, [`resolve`] into a [`ClientPlan`], [`run`].
//!
//! Each command is a small state machine over the client's events (`commands`, `interactive_chat`). It asks through a
//! `RequestTracker`, which tracks each request until its outcome and prints it. `driver` runs both on a client with its
//! socket, standard input and signals; the protocol itself is in [`crate::client`].
//!
//! # JSON
//!
//! With `--json`, each line of standard output is one object, and nothing else is printed there. `type` names the kind
//! of object. Times in `_ms` are milliseconds, in `_s` seconds. Names and reasons are escaped as in [`crate::escape`].
//!
//! | type | fields |
//! |---|---|
//! | `message` | `sender`; `room`: null, or its name with the `#`; `text`; if the message is not UTF-8, `text` is escaped and `base64` has all its bytes |
//! | `acked` | `seq`, `verb`, `target`, `tries`, `time_ms`; an LST also has `names`, and `more`: the count of names that did not fit |
//! | `rejected` | `seq`, `verb`, `target`, `tries` (0: not sent, because too long), `time_ms`, `code`, `reason`; after a 429 `wait_ms`, the wait that it names |
//! | `unknown` | `seq`, `verb`, `target`, `tries`, `time_ms`: executed once or not at all |
//! | `never_sent` | `seq`, `verb`, `target`, `tries` (0), `time_ms` (null) |
//! | `retry` | `verb`, `id`, `seq` (null: not a request of the user), `send`: the number of this send, `waiting_s`: how long its answer is awaited |
//! | `slow_down` | `verb`, `id`, `seq`, `waiting_s`: how long the client waits after a 429 before it sends the request again |
//! | `gap` | `count`: the number of messages for this client that the server dropped |
//!
//! `seq` numbers the user's requests from 1: the line of `send TARGET -`, the number of a ping. `verb` is SND, JON, LEV,
//! LST or PNG, in retries also REG or BYE. `target` is a name, a room or null. `tries` counts the sends. `time_ms` is
//! the time to ack: from the first send to the answer, retries included. A line of standard input also has `due_ms`,
//! from when it was read to the answer, which includes the wait behind earlier requests.

use std::io::{Read, Write};
use std::time::Instant;

use crate::cli::{exit, policy};
use crate::client::{Client, Closed, Event};
use crate::config::Transport;
use crate::net::program_input::Line;

pub mod args;
mod commands;
mod console;
mod driver;
mod interactive_chat;
mod request_tracker;
pub mod resolve;
mod run_summary;
#[cfg(test)]
mod tests;

pub use args::Args;
use commands::ClientCommand;
use console::Console;
use driver::{Finish, Progress, drive};
use request_tracker::RequestTracker;
pub use resolve::ClientPlan;
use resolve::ResolvedCommand;

/// Runs the planned command and returns the exit code. A thread may still be reading `input` afterwards.
pub fn run(plan: &ClientPlan, input: Box<dyn Read + Send>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let console = Console::new(out, err, plan.style.quiet);
    let tracker = RequestTracker::new(console, plan.style, plan.config.name.as_deref());
    if plan.explain {
        return explain(plan, tracker.console);
    }
    match plan.command.clone() {
        ResolvedCommand::Chat => {
            drive(plan, CommandRunner { tracker, command: interactive_chat::InteractiveChat::new() }, input)
        }
        ResolvedCommand::Send { target, text } => {
            drive(plan, CommandRunner { tracker, command: commands::Send::new(target, text) }, input)
        }
        ResolvedCommand::Listen { count, wait, rooms } => {
            drive(plan, CommandRunner { tracker, command: commands::Listen::new(count, wait, rooms) }, input)
        }
        ResolvedCommand::Ping { count, interval } => {
            drive(plan, CommandRunner { tracker, command: commands::Ping::new(count, interval) }, input)
        }
        ResolvedCommand::List { room } => {
            drive(plan, CommandRunner { tracker, command: commands::List::new(room) }, input)
        }
    }
}

fn explain(plan: &ClientPlan, mut console: Console<'_>) -> u8 {
    let mut text = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = policy::explain(&plan.config.policy, &mut text);
    String::from_utf8_lossy(&text).lines().for_each(|line| console.print(line));
    console.flush();
    output_failed(&mut console).unwrap_or(exit::OK)
}

/// The exit code if standard output could not be written, or was closed by its reader.
fn output_failed(console: &mut Console<'_>) -> Option<u8> {
    if let Some(error) = console.failure() {
        console.error(&format!("cannot write to standard output: {error}"));
        return Some(exit::FAILED);
    }
    console.is_closed().then_some(exit::OK)
}

/// A command and its tracker.
struct CommandRunner<'a, T> {
    tracker: RequestTracker<'a>,
    command: T,
}

impl<T: ClientCommand> CommandRunner<'_, T> {
    fn on_event(&mut self, now: Instant, event: Event) {
        let ended_request = self.tracker.on_event(now, &event);
        if let Some(ended_request) = ended_request {
            self.command.on_ended(&mut self.tracker, &ended_request);
        }
        match event {
            Event::Message { sender, body } => self.command.on_message(&mut self.tracker, &sender, &body),
            Event::Registered { resumed } => self.command.on_registered(&mut self.tracker, resumed),
            _ => {}
        }
    }

    fn progress(&self) -> Progress {
        if self.tracker.console.is_broken() { Progress::Done } else { self.command.progress(&self.tracker) }
    }

    fn on_line(&mut self, now: Instant, client: &mut Client, line: Line) {
        self.tracker.set_due(Some(now));
        self.command.on_line(&mut self.tracker, client, line);
        self.tracker.set_due(None);
    }

    /// Prints the result of the run and returns the exit code.
    fn finish(mut self, plan: &ClientPlan, finish: &Finish) -> u8 {
        let transport = plan.config.transport;
        let output_failed = output_failed(&mut self.tracker.console);
        if output_failed.is_none() {
            self.print_close_reason(plan, finish);
            self.tracker.show_never_sent();
            self.command.report_shortfall(&mut self.tracker);
        }
        self.tracker.console.note(&self.tracker.run_summary.line(&finish.stats, transport));
        output_failed.unwrap_or_else(|| self.exit_code(transport, finish))
    }

    fn print_close_reason(&mut self, plan: &ClientPlan, finish: &Finish) {
        let server = &plan.server_name;
        let reason = match &finish.closed {
            Some(closed) => request_tracker::reason(closed, server),
            None => Some(format!("cannot reach {server}")).filter(|_| !finish.interrupted),
        };
        let Some(reason) = reason else { return };
        match &finish.connect_error {
            Some(error) => self.tracker.console.error(&format!("{reason}: {error}")),
            None => self.tracker.console.error(&reason),
        }
    }

    fn exit_code(&self, transport: Transport, finish: &Finish) -> u8 {
        let run_summary = &self.tracker.run_summary;
        let refused = matches!(finish.closed, Some(Closed::Refused(..)));
        let ended = matches!(finish.closed, Some(Closed::ServerBye(_)));
        let drained = matches!(finish.closed, Some(Closed::Draining(_)));
        // Requests not sent because the registration was refused count as refused with it.
        let unfinished =
            run_summary.never_sent > 0 || self.command.has_shortfall() || self.is_unregistered(finish);
        if finish.interrupted {
            exit::INTERRUPTED
        } else if transport == Transport::Stream && !finish.heard {
            exit::NO_CONNECTION
        } else if run_summary.unknown > 0 || drained || (unfinished && !refused) {
            exit::GAVE_UP
        } else if refused || ended || run_summary.rejected > 0 || self.command.has_failed() {
            exit::FAILED
        } else {
            exit::OK
        }
    }

    /// Whether no session was ever opened, or the client gave up on one.
    fn is_unregistered(&self, finish: &Finish) -> bool {
        match finish.closed {
            Some(Closed::GaveUp) | None => true,
            Some(Closed::Done) => !self.tracker.registered && self.tracker.has_name(),
            _ => false,
        }
    }
}
