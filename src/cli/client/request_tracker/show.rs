//! Printing of events, messages and outcomes: which of them are shown, and on which output.

use std::time::{Duration, Instant};

use serde_json::json;

use super::json::{ended_json, message_json};
use super::text::{failure, rounded};
use super::{EndedRequest, MAX_NEVER_SENT_LINES, MAX_SHOWN, Request, RequestTracker};
use crate::client::Names;
use crate::escape::{escape, escape_short};
use crate::reliable::{AskedToWait, Ended, Outcome, Sent, Ticket};
use crate::wire::Verb;

/// The shortest wait after a 429 that is shown without `-v`: the program does nothing else meanwhile.
const LONG_WAIT: Duration = Duration::from_secs(1);

impl RequestTracker<'_> {
    pub(super) fn show_ended(&mut self, request: &Request, ended: &Ended, since_due: Option<Duration>) {
        if self.style.json {
            self.console.print_json(&ended_json(request, ended, since_due));
        }
        // Without --json, `ping` prints its own lines on standard output.
        if request.verb != Verb::Png || self.style.json {
            self.show_failure(request, ended);
        }
    }

    pub(super) fn show_failure(&mut self, request: &Request, ended: &Ended) {
        if ended.outcome == Outcome::NeverSent && self.run_summary.never_sent > MAX_NEVER_SENT_LINES {
            return;
        }
        if let Some(line) = failure(request, ended) {
            self.console.error(&line);
        }
    }

    /// Prints the number of requests that were never sent and not printed one by one.
    pub(in crate::cli::client) fn show_never_sent(&mut self) {
        if self.run_summary.never_sent > MAX_NEVER_SENT_LINES {
            self.console
                .error(&format!("never sent: {} more", self.run_summary.never_sent - MAX_NEVER_SENT_LINES));
        }
    }

    /// Shows the registered name.
    pub(in crate::cli::client) fn show_registered(&mut self, resumed: bool) {
        match resumed {
            false => self.console.note(&format!("registered as {}", self.name)),
            true if self.style.verbose > 0 => self.console.note("the session is taken up again"),
            true => {}
        }
    }

    /// Shows a message as `sender> text`.
    pub(in crate::cli::client) fn show_message(&mut self, sender: &[u8], body: &[u8]) {
        if self.style.json {
            self.console.print_json(&message_json(sender, body));
        } else {
            self.console.print(&format!("{}> {}", escape(sender), escape(body)));
        }
    }

    /// Shows a message that arrived during a command that does not print messages.
    pub(in crate::cli::client) fn note_unwanted(&mut self, sender: &[u8], body: &[u8]) {
        if self.style.json {
            self.show_message(sender, body);
        } else if self.style.verbose > 0 {
            let (sender, body) = (escape(sender), escape_short(body, MAX_SHOWN));
            self.console.note(&format!("a message came meanwhile: {sender}> {body}"));
        }
    }

    /// Prints the answer to LST: a name per line, and `+n` for the names that did not fit.
    pub(in crate::cli::client) fn show_names(&mut self, ended_request: &EndedRequest) {
        if let (Outcome::Acked(names), false) = (&ended_request.ended.outcome, self.style.json) {
            Names::words(names).for_each(|name| self.console.print(&escape(name)));
        }
    }

    pub(super) fn show_gap(&mut self, count: u64) {
        if self.style.json {
            self.console.print_json(&json!({ "type": "gap", "count": count }));
        }
        let messages = if count == 1 { "message" } else { "messages" };
        let why = "it was not fetched fast enough, or was too long for a datagram";
        self.console.error(&format!("the server dropped {count} {messages} for this client: {why}"));
    }

    pub(super) fn show_retry(&mut self, now: Instant, sent: &Sent) {
        let waiting = sent.due.saturating_duration_since(now);
        if self.style.json {
            self.console.print_json(&json!({
                "type": "retry", "verb": sent.verb.to_string(), "id": sent.id.get(), "seq": self.seq_of(sent.ticket),
                "send": sent.sends, "waiting_s": waiting.as_secs_f64(),
            }));
        }
        if self.style.verbose > 0 {
            let (verb, id, waiting) = (sent.verb, sent.id, rounded(waiting));
            self.console.note(&format!("retry: {verb} @{id}, send {}, waiting {waiting} s", sent.sends));
        }
    }

    pub(super) fn show_slow_down(&mut self, now: Instant, asked: &AskedToWait) {
        let AskedToWait { ticket, id, verb, again_at } = *asked;
        let waiting = again_at.saturating_duration_since(now);
        if self.style.json {
            self.console.print_json(&json!({
                "type": "slow_down", "verb": verb.to_string(), "id": id.get(), "seq": self.seq_of(ticket),
                "waiting_s": waiting.as_secs_f64(),
            }));
        }
        if self.style.verbose > 0 || waiting >= LONG_WAIT {
            self.console.note(&format!("slow down: {verb} @{id}, again in {} s", rounded(waiting)));
        }
    }

    fn seq_of(&self, ticket: Ticket) -> Option<u64> {
        self.open.get(&ticket).map(|request| request.seq).filter(|seq| *seq > 0)
    }
}
