//! The JSON objects for outcomes and messages; [`crate::cli::client`] documents their fields.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::Request;
use super::text::wait_ms;
use crate::client::Names;
use crate::escape::escape;
use crate::reliable::{Ended, Outcome};
use crate::wire::{Verb, split_sender};

pub(super) fn ended_json(request: &Request, ended: &Ended, since_due: Option<Duration>) -> Value {
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

pub(super) fn message_json(sender: &[u8], body: &[u8]) -> Value {
    let (name, room) = split_sender(sender);
    let mut object = json!({ "type": "message", "sender": escape(name), "room": room.map(escape) });
    match std::str::from_utf8(body) {
        Ok(text) => object["text"] = json!(text),
        Err(_) => {
            object["text"] = json!(escape(body));
            object["base64"] = json!(base64::engine::general_purpose::STANDARD.encode(body));
        }
    }
    object
}
