//! The query parameters of a listener URL: which ones a scheme has, how they are read and printed.
//!
//! The URL before the `?` is in `url`.

use std::fmt;
use std::time::Duration;

use fluent_uri::pct_enc::encoder::{self, IQuery};
use fluent_uri::pct_enc::{EStr, EString, Encoder, Table};

use super::url::{At, Carrier, DEFAULT_PERMISSIONS, ListenUrl};
use crate::escape::escape_short;
use crate::listener::{Framing, Greet, LineListener, Listener, Speaks};
use crate::names::{RoomName, with_hash};
use crate::rates::Rate;

/// The room of a line listener that names none, without its `#`.
const DEFAULT_ROOM: &str = "lobby";

/// The longest `name`, in characters.
const MAX_NAME: usize = 32;

/// The longest `flush`, in milliseconds: an hour.
const MAX_FLUSH: u64 = 3_600_000;

/// Parameters of line listeners alone.
const LINE_PARAMETERS: [&str; 4] = ["room", "greet", "echo", "flush"];

/// The parameters of one URL that were not taken yet.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads them all. Fails on duplicates, and on parameters that the scheme does not have.
    pub(super) fn read(
        scheme: &str,
        carrier: Carrier,
        framing: Framing,
        query: Option<&EStr<IQuery>>,
    ) -> Result<Self, String> {
        let known = known(carrier, framing);
        let mut found: Vec<(String, String)> = Vec::new();
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            let (key, value) = part.split_once('=').unwrap_or((part, EStr::EMPTY));
            let (key, value) = (text(key)?, text(value)?);
            let shown = escape_short(key.as_bytes(), 20).into_owned();
            if !known.contains(&key.as_str()) {
                return Err(format!(
                    "the parameter `{shown}` is unknown; {scheme}:// has {}",
                    known.join(", ")
                ));
            }
            if found.iter().any(|(other, _)| *other == key) {
                return Err(format!("the parameter `{shown}` is there twice; leave one out"));
            }
            found.push((key, value));
        }
        Ok(Self(found))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == key)?;
        Some(self.0.swap_remove(at).1)
    }

    /// The value of a parameter that has two choices, or the default.
    fn choose<T: Copy>(&mut self, key: &str, choices: [(&str, T); 2], default: T) -> Result<T, String> {
        let Some(value) = self.take(key) else { return Ok(default) };
        let chosen = choices.iter().find(|(word, _)| *word == value);
        let [(one, _), (other, _)] = choices;
        chosen
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| wrong(key, &value, &format!("{key}={one} or {key}={other}")))
    }

    pub(super) fn reuse_port(&mut self) -> Result<bool, String> {
        self.choose("reuse_port", [("1", true), ("0", false)], false)
    }

    pub(super) fn only_v6(&mut self) -> Result<bool, String> {
        self.choose("v6only", [("1", true), ("0", false)], false)
    }

    pub(super) fn permissions(&mut self) -> Result<u32, String> {
        let Some(value) = self.take("mode") else { return Ok(DEFAULT_PERMISSIONS) };
        let is_octal =
            (3..=4).contains(&value.len()) && value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let bits = u32::from_str_radix(&value, 8).ok().filter(|bits| is_octal && *bits <= 0o777);
        bits.ok_or_else(|| wrong("mode", &value, "octal digits, mode=0600 to mode=0777"))
    }

    /// The listener's settings, from the remaining parameters.
    pub(super) fn listener(mut self, scheme: &str, framing: Framing) -> Result<Listener, String> {
        let name = self.name()?.unwrap_or_else(|| scheme.to_owned());
        let (rate, rate_per_host) = (self.rate("rate")?, self.rate("rate_per_host")?);
        let mut listener = match framing {
            Framing::Lines => Listener::lines(&name, self.line_listener()?),
            Framing::Frames => Listener::frames(&name),
            Framing::Messages => Listener::messages(&name),
            Framing::Bytes => Listener::bytes(&name),
        };
        listener.rate = rate.unwrap_or(listener.rate);
        listener.rate_per_host = rate_per_host.unwrap_or(listener.rate_per_host);
        Ok(listener)
    }

    fn name(&mut self) -> Result<Option<String>, String> {
        let Some(value) = self.take("name") else { return Ok(None) };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        if (1..=MAX_NAME).contains(&value.len()) && value.chars().all(is_name) {
            return Ok(Some(value));
        }
        Err(wrong("name", &value, &format!("1 to {MAX_NAME} of a-z, A-Z, 0-9 and + - . _")))
    }

    fn rate(&mut self, key: &str) -> Result<Option<Rate>, String> {
        self.take(key).map(|value| value.parse().map_err(|why| format!("{key}: {why}"))).transpose()
    }

    fn line_listener(&mut self) -> Result<LineListener, String> {
        let greet = self.choose("greet", [("name", Greet::Name), ("none", Greet::None)], Greet::Name)?;
        let echo = self.choose("echo", [("on", true), ("off", false)], default_echo(greet))?;
        Ok(LineListener { room: self.room()?, greet, echo, flush: self.flush()? })
    }

    fn room(&mut self) -> Result<RoomName, String> {
        let value = self.take("room").unwrap_or_else(|| DEFAULT_ROOM.to_owned());
        let room = RoomName::parse(&with_hash(value.as_bytes()));
        room.map_err(|why| wrong("room", &value, &format!("room={DEFAULT_ROOM}; {why}")))
    }

    fn flush(&mut self) -> Result<Option<Duration>, String> {
        let Some(value) = self.take("flush").filter(|value| value != "off") else { return Ok(None) };
        let digits = Some(&value).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|value| value.parse().ok()).filter(|length| *length <= MAX_FLUSH);
        let length: u64 = length.ok_or_else(|| {
            wrong(
                "flush",
                &value,
                &format!("milliseconds, flush={MAX_FLUSH} at most; flush=0 or flush=off for none"),
            )
        })?;
        Ok((length > 0).then(|| Duration::from_millis(length)))
    }
}

/// The parameters of a scheme.
fn known(carrier: Carrier, framing: Framing) -> Vec<&'static str> {
    let own = match carrier {
        Carrier::Tcp => &["reuse_port", "v6only"][..],
        Carrier::Udp => &["v6only"],
        Carrier::Unix => &["mode"],
    };
    let lines = LINE_PARAMETERS.into_iter().filter(|_| framing == Framing::Lines);
    // Rate limits belong to the chat; other programs have back-pressure of their own.
    let is_chat = matches!(framing, Framing::Frames | Framing::Lines);
    let rates = ["rate", "rate_per_host"].into_iter().filter(|_| is_chat);
    own.iter().copied().chain(lines).chain(rates).chain(["name"]).collect()
}

/// Without a name prompt there is no echo either, as in sock_chat.
const fn default_echo(greet: Greet) -> bool {
    matches!(greet, Greet::Name)
}

fn text(encoded: &EStr<IQuery>) -> Result<String, String> {
    let not_text = |_| "a parameter is not UTF-8; only paths may be anything else".to_owned();
    encoded.decode().to_string().map(std::borrow::Cow::into_owned).map_err(not_text)
}

fn wrong(key: &str, value: &str, right: &str) -> String {
    format!("{key} cannot be `{}`; write {right}", escape_short(value.as_bytes(), 40))
}

/// The characters that need no encoding in a parameter's value.
struct Value;

impl Encoder for Value {
    const TABLE: &'static Table = &encoder::Query::TABLE.sub(&Table::new(b"&=+"));
}

/// Writes the parameters that differ from their defaults.
pub(super) fn write(f: &mut fmt::Formatter<'_>, url: &ListenUrl) -> fmt::Result {
    let mut parameters = address_parameters(&url.at);
    let usual_rate = match &url.listener.speaks {
        Speaks::Frames | Speaks::Messages | Speaks::Bytes => Rate::UNLIMITED,
        Speaks::Lines(lines) => {
            parameters.extend(line_parameters(lines));
            Listener::lines("", lines.clone()).rate
        }
    };
    if url.listener.rate != usual_rate {
        parameters.push(("rate", url.listener.rate.to_string()));
    }
    if url.listener.rate_per_host != Rate::UNLIMITED {
        parameters.push(("rate_per_host", url.listener.rate_per_host.to_string()));
    }
    if url.listener.name != url.scheme() {
        parameters.push(("name", url.listener.name.clone()));
    }
    for (nth, (key, value)) in parameters.into_iter().enumerate() {
        let mut shown = EString::<encoder::Query>::new();
        shown.encode_str::<Value>(&value);
        write!(f, "{}{key}={shown}", if nth == 0 { '?' } else { '&' })?;
    }
    Ok(())
}

fn address_parameters(at: &At) -> Vec<(&'static str, String)> {
    let set = |key, is_set: bool| is_set.then(|| (key, "1".to_owned()));
    match at {
        At::Tcp { reuse_port, only_v6, .. } => {
            set("reuse_port", *reuse_port).into_iter().chain(set("v6only", *only_v6)).collect()
        }
        At::Udp { only_v6, .. } => set("v6only", *only_v6).into_iter().collect(),
        At::Unix { permissions, .. } if *permissions != DEFAULT_PERMISSIONS => {
            vec![("mode", format!("{permissions:04o}"))]
        }
        At::Unix { .. } => Vec::new(),
    }
}

fn line_parameters(lines: &LineListener) -> impl Iterator<Item = (&'static str, String)> {
    let room = lines.room.without_hash();
    let room = (room != DEFAULT_ROOM).then(|| ("room", room.to_owned()));
    let greet = (lines.greet == Greet::None).then(|| ("greet", "none".to_owned()));
    let echo = if lines.echo { "on" } else { "off" };
    let echo = (lines.echo != default_echo(lines.greet)).then(|| ("echo", echo.to_owned()));
    let flush = lines.flush.map(|length| ("flush", length.as_millis().to_string()));
    [room, greet, echo, flush].into_iter().flatten()
}
