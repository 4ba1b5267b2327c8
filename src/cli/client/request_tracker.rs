//! What every command needs: asks the client, keeps what was asked until it ends, and shows what happens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::console::Console;
use super::resolve::{MAX_PAYLOAD, Style};
use super::tally::{Tally, millis};
use crate::cli::policy::seconds;
use crate::client::{Client, Closed, Event, Names};
use crate::escape::{escape, escape_short};
use crate::reliable::{AskedToWait, Ended, Outcome, Sent, Ticket};
use crate::wire::{Verb, parse_wait};

/// Messages that were never sent are told one by one up to here, then counted.
const NEVER_SENT_TOLD: u64 = 3;

/// A wait that a server asks for is told from here on without `-v`: the program does nothing else meanwhile.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// How much of a message is shown where it is only named, in characters.
const SHOWN: usize = 40;

/// A request as its user knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Its place among the user's requests, from 1; 0 for what the command asks by itself.
    pub(super) seq: u64,
    pub(super) verb: Verb,
    /// The name or room that it is about, escaped.
    pub(super) target: Option<String>,
    /// The beginning of the message, escaped.
    pub(super) text: Option<String>,
    /// When its user had it ready to send, where that is known: a line of standard input.
    due: Option<Instant>,
}

/// A request of the user's that has ended.
#[derive(Debug)]
pub(super) struct EndedRequest {
    pub(super) request: Request,
    pub(super) ended: Ended,
}

/// The tracker between a command, its client and the console.
#[derive(Debug)]
pub(super) struct RequestTracker<'a> {
    pub(super) console: Console<'a>,
    pub(super) style: Style,
    pub(super) tally: Tally,
    /// Whether there was ever a session.
    pub(super) registered: bool,
    /// The name of it.
    name: String,
    open: BTreeMap<Ticket, Request>,
    seq: u64,
    /// When what is asked now is due, where that is known.
    due: Option<Instant>,
}

impl<'a> RequestTracker<'a> {
    pub(super) fn new(console: Console<'a>, style: Style, name: Option<&str>) -> Self {
        let name = escape(name.unwrap_or_default().as_bytes()).into_owned();
        let (tally, open) = (Tally::default(), BTreeMap::new());
        Self { console, style, tally, registered: false, name, open, seq: 0, due: None }
    }

    /// Whether a session is wanted.
    pub(super) fn has_name(&self) -> bool {
        !self.name.is_empty()
    }

    /// What is asked from now on is due at this time; `None` where nobody can say.
    pub(super) fn set_due(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// How many requests have not ended.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
}

/// Asking.
impl RequestTracker<'_> {
    /// Sends a message, unless it is longer than any server takes.
    pub(super) fn send(&mut self, client: &mut Client, target: &[u8], body: &[u8]) {
        let length = target.len() + body.len() + 2;
        if length > MAX_PAYLOAD {
            return self.refuse_long(target, body, body.len() as u64);
        }
        let ticket = client.send(target, body);
        self.opened(ticket, Verb::Snd, Some(target), Some(body));
    }

    /// A message that is too long to be asked for.
    pub(super) fn refuse_long(&mut self, target: &[u8], start: &[u8], length: u64) {
        let request = self.request(Verb::Snd, Some(target), Some(start));
        let why = format!("{length} bytes are too long");
        let ended = Ended {
            ticket: Ticket(0),
            verb: Verb::Snd,
            outcome: Outcome::Rejected(413, why.into_bytes()),
            sends: 0,
            elapsed: None,
        };
        self.tally.count_refused();
        self.show_ended(&request, &ended, None);
    }

    /// Joins a room because the user said so.
    pub(super) fn join(&mut self, client: &mut Client, room: &[u8]) {
        let ticket = client.join(room);
        self.opened(ticket, Verb::Jon, Some(room), None);
    }

    /// Joins a room because the command needs it.
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
            target: target.map(|target| escape_short(target, SHOWN).into_owned()),
            text: text.map(|text| escape_short(text, SHOWN).into_owned()),
            due: self.due,
        }
    }
}

/// Showing.
impl RequestTracker<'_> {
    /// Shows what happened, as far as that is the same for all commands. Returns a request that has ended, unless the
    /// command has asked it by itself.
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
            // Why the client is through is told at the end of the run.
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
        self.tally.count(ended, since_due);
        self.show_ended(&request, ended, since_due);
        Some(EndedRequest { request, ended: ended.clone() })
    }

    fn show_ended(&mut self, request: &Request, ended: &Ended, since_due: Option<Duration>) {
        if self.style.json {
            self.console.print_json(&ended_json(request, ended, since_due));
        }
        // Pings have lines of their own on standard output.
        if request.verb != Verb::Png || self.style.json {
            self.show_failure(request, ended);
        }
    }

    fn show_failure(&mut self, request: &Request, ended: &Ended) {
        if ended.outcome == Outcome::NeverSent && self.tally.never_sent > NEVER_SENT_TOLD {
            return;
        }
        if let Some(line) = failure(request, ended) {
            self.console.complain(&line);
        }
    }

    /// Says how many requests were never sent without having been told of one by one.
    pub(super) fn show_never_sent(&mut self) {
        if self.tally.never_sent > NEVER_SENT_TOLD {
            self.console.complain(&format!("never sent: {} more", self.tally.never_sent - NEVER_SENT_TOLD));
        }
    }

    /// Tells the name that others can write to now.
    pub(super) fn show_registered(&mut self, resumed: bool) {
        match resumed {
            false => self.console.note(&format!("registered as {}", self.name)),
            true if self.style.verbose > 0 => self.console.note("the session is taken up again"),
            true => {}
        }
    }

    /// Shows a message as `sender> text`.
    pub(super) fn show_message(&mut self, sender: &[u8], body: &[u8]) {
        if self.style.json {
            self.console.print_json(&message_json(sender, body));
        } else {
            self.console.print(&format!("{}> {}", escape(sender), escape(body)));
        }
    }

    /// A message that came while nobody wanted any.
    pub(super) fn pass_over(&mut self, sender: &[u8], body: &[u8]) {
        if self.style.json {
            self.show_message(sender, body);
        } else if self.style.verbose > 0 {
            let (sender, body) = (escape(sender), escape_short(body, SHOWN));
            self.console.note(&format!("a message came meanwhile: {sender}> {body}"));
        }
    }

    /// Shows the answer to LST: a name per line, and `+n` for those that did not fit.
    pub(super) fn show_names(&mut self, ending: &EndedRequest) {
        if let (Outcome::Acked(names), false) = (&ending.ended.outcome, self.style.json) {
            words(names).for_each(|name| self.console.print(&escape(name)));
        }
    }

    fn show_gap(&mut self, count: u64) {
        if self.style.json {
            self.console.print_json(&json!({ "type": "gap", "count": count }));
        }
        let messages = if count == 1 { "message" } else { "messages" };
        let why = "it was not fetched fast enough, or was too long for a datagram";
        self.console.complain(&format!("the server dropped {count} {messages} for this client: {why}"));
    }

    fn show_retry(&mut self, now: Instant, sent: &Sent) {
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

    fn show_slow_down(&mut self, now: Instant, asked: &AskedToWait) {
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

/// To the microsecond, which is more than a timer keeps.
fn rounded(time: Duration) -> String {
    let millis = (time + Duration::from_micros(500)).as_millis();
    seconds(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// What went wrong with which request, and whose fault it is; `None` when nothing did.
fn failure(request: &Request, ended: &Ended) -> Option<String> {
    let what = described(request);
    match &ended.outcome {
        Outcome::Acked(_) => None,
        Outcome::Rejected(code, words) if ended.sends == 0 => {
            Some(format!("refused: {what}: {code} {} (not sent; the request is at fault)", escape(words)))
        }
        Outcome::Rejected(code, words) => {
            let (why, fault) = match wait_ms(*code, words) {
                Some(wait) => (format!("slow down, in {wait} ms"), "it came too fast"),
                None if *code < 500 => (format!("{code} {}", escape(words)), "the request is at fault"),
                None => (format!("{code} {}", escape(words)), "the server is at fault"),
            };
            Some(format!("refused by the server: {what}: {why} (not done; {fault})"))
        }
        Outcome::Unknown => Some(format!(
            "unknown: {what}: no answer after {} (done once or not at all)",
            tries(ended.sends, "send", "sends")
        )),
        Outcome::NeverSent => Some(format!("never sent: {what} (not done)")),
    }
}

/// How long a refusal asks to wait, in milliseconds, if it does.
fn wait_ms(code: u16, words: &[u8]) -> Option<u64> {
    let wait = if code == 429 { parse_wait(words) } else { None };
    u64::try_from(wait?.as_millis()).ok()
}

/// `1 try`, `8 tries`.
pub(super) fn tries(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn described(request: &Request) -> String {
    let target = request.target.as_deref().unwrap_or_default();
    match (request.verb, request.target.is_some()) {
        (Verb::Snd, _) => {
            let text = request.text.as_deref().unwrap_or_default();
            format!("message {} to {target}: `{text}`", request.seq)
        }
        (Verb::Jon, _) => format!("joining {target}"),
        (Verb::Lev, _) => format!("leaving {target}"),
        (Verb::Lst, true) => format!("listing {target}"),
        (Verb::Lst, false) => "listing everybody".to_owned(),
        (Verb::Png, _) => format!("ping {}", request.seq),
        (verb, _) => verb.to_string(),
    }
}

fn words(names: &[u8]) -> impl Iterator<Item = &[u8]> {
    names.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

fn ended_json(request: &Request, ended: &Ended, since_due: Option<Duration>) -> Value {
    let in_millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let mut object = json!({
        "type": "acked", "seq": request.seq, "verb": request.verb.to_string(), "target": request.target,
        "tries": ended.sends, "time_ms": ended.elapsed.map(in_millis),
    });
    if let Some(since_due) = since_due {
        object["due_ms"] = json!(in_millis(since_due));
    }
    match &ended.outcome {
        Outcome::Acked(payload) if ended.verb == Verb::Lst => {
            let Names { names, more } = Names::read(payload);
            object["names"] = names.iter().map(|name| escape(name)).collect();
            object["more"] = json!(more);
        }
        Outcome::Acked(_) => {}
        Outcome::Rejected(code, words) => {
            object["type"] = json!("rejected");
            object["code"] = json!(code);
            object["reason"] = json!(escape(words));
            if let Some(wait) = wait_ms(*code, words) {
                object["wait_ms"] = json!(wait);
            }
        }
        Outcome::Unknown => object["type"] = json!("unknown"),
        Outcome::NeverSent => object["type"] = json!("never_sent"),
    }
    object
}

fn message_json(sender: &[u8], body: &[u8]) -> Value {
    let mut parts = sender.splitn(2, |byte| *byte == b'#');
    let name = escape(parts.next().unwrap_or_default());
    let room = parts.next().map(|room| format!("#{}", escape(room)));
    let mut object = json!({ "type": "message", "sender": name, "room": room });
    match std::str::from_utf8(body) {
        Ok(text) => object["text"] = json!(text),
        Err(_) => {
            object["text"] = json!(escape(body));
            object["base64"] = json!(base64::engine::general_purpose::STANDARD.encode(body));
        }
    }
    object
}

/// Why the client is through, where that is not plain; `server` is `host:port`.
pub(super) fn reason(closed: &Closed, server: &str) -> Option<String> {
    match closed {
        Closed::Done => None,
        Closed::Refused(code, words) => Some(format!("{server} refused the registration: {code} {words}")),
        Closed::GaveUp => Some(format!("gave up on {server}; is a server running there?")),
        Closed::ServerBye(None) => Some(format!("{server} ended the session")),
        Closed::ServerBye(Some(words)) => Some(format!("{server} ended the session: {words}")),
        Closed::Draining(None) => Some(format!("{server} is shutting down")),
        Closed::Draining(Some(time)) => {
            Some(format!("{server} is shutting down, and expects to be back in {} s", seconds(*time)))
        }
        Closed::TakenUp => Some("the session was taken up elsewhere".to_owned()),
    }
}

/// The time of an answer, as ping shows it.
pub(super) fn shown_time(ended: &Ended) -> String {
    millis(ended.elapsed.unwrap_or_default())
}
