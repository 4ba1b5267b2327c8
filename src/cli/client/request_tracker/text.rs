//! The sentences for outcomes, waits and reasons. Nothing is printed here.

use std::time::Duration;

use super::Request;
use crate::cli::client::run_summary::millis;
use crate::cli::policy::seconds;
use crate::client::Closed;
use crate::escape::escape;
use crate::reliable::{Ended, Outcome};
use crate::wire::{Verb, parse_wait};

/// A duration in seconds, rounded to milliseconds.
pub(super) fn rounded(time: Duration) -> String {
    let millis = (time + Duration::from_micros(500)).as_millis();
    seconds(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// The error line of an outcome, with the side at fault; `None` for an ack.
pub(super) fn failure(request: &Request, ended: &Ended) -> Option<String> {
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
            counted(ended.sends, "send", "sends")
        )),
        Outcome::NeverSent => Some(format!("never sent: {what} (not done)")),
    }
}

/// The wait that a 429 asks for, in milliseconds.
pub(super) fn wait_ms(code: u16, words: &[u8]) -> Option<u64> {
    let wait = if code == 429 { parse_wait(words) } else { None };
    u64::try_from(wait?.as_millis()).ok()
}

/// A count with its noun: `1 try`, `8 tries`.
pub(in crate::cli::client) fn counted(count: u32, one: &str, many: &str) -> String {
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
        (Verb::Lst, false) => "listing all names".to_owned(),
        (Verb::Png, _) => format!("ping {}", request.seq),
        (verb, _) => verb.to_string(),
    }
}

/// Why the client was closed, unless it closed itself; `server` is `host:port`.
pub(in crate::cli::client) fn reason(closed: &Closed, server: &str) -> Option<String> {
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

/// The time to ack in milliseconds, as `ping` shows it.
pub(in crate::cli::client) fn shown_time(ended: &Ended) -> String {
    millis(ended.elapsed.unwrap_or_default())
}
