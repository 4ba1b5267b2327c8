//! Toxics in the JSON form of toxiproxy's clients. Their effect on a link is in `effect`.

use serde_json::{Map, Number, Value, json};

use super::error::ApiError;
use super::fields::{Fields, wrong};
use crate::escape::escape_short;
use crate::lab::proxy::limits::MAX_NAME;
use crate::link::Direction;
use crate::units::Probability;

/// Bound on a text attribute, in bytes.
const MAX_TEXT: usize = 2_048;

/// One impairment of one direction of a proxy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Toxic {
    /// Unique among the toxics of its proxy, in both directions.
    pub(super) name: String,
    /// The kind of impairment.
    pub(super) kind: Kind,
    /// The direction that it impairs.
    pub(super) stream: Direction,
    /// The probability that it applies.
    pub(super) toxicity: Probability,
    attributes: Map<String, Value>,
}

/// The kind of a toxic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// toxiproxy's: delay with jitter.
    Latency,
    /// toxiproxy's: a rate limit.
    Bandwidth,
    /// toxiproxy's: a blackhole.
    Timeout,
    /// toxiproxy's: connections are reset.
    ResetPeer,
    /// Ours: random loss of datagrams.
    Loss,
    /// Ours: loss of given datagrams.
    Drop,
    /// Ours: duplication of datagrams.
    Duplicate,
    /// Ours: a flipped bit in a datagram.
    Corrupt,
    /// Ours: the text of any link.
    Link,
}

/// Attributes by name.
type Attributes = &'static [(&'static str, Attribute)];

/// Every kind with its name and its attributes. Number attributes default to 0.
const KINDS: [(Kind, &str, Attributes); 9] = [
    (Kind::Latency, "latency", &[("latency", Attribute::Number), ("jitter", Attribute::Number)]),
    (Kind::Bandwidth, "bandwidth", &[("rate", Attribute::Number)]),
    (Kind::Timeout, "timeout", &[("timeout", Attribute::Number)]),
    (Kind::ResetPeer, "reset_peer", &[("timeout", Attribute::Number)]),
    (Kind::Loss, "loss", &[("rate", Attribute::Number), ("model", Attribute::Text)]),
    (Kind::Drop, "drop", &[("list", Attribute::Text)]),
    (Kind::Duplicate, "duplicate", &[("rate", Attribute::Number)]),
    (Kind::Corrupt, "corrupt", &[("rate", Attribute::Number)]),
    (Kind::Link, "link", &[("spec", Attribute::Text)]),
];

/// toxiproxy's kinds that are not supported, each with the reason.
const ABSENT: [(&str, &str); 3] = [
    (
        "slicer",
        "a proxy of ours does not cut a stream into pieces; `bandwidth` and `latency` spread it out in time",
    ),
    ("limit_data", "a proxy of ours does not count a connection's bytes; `reset_peer` ends connections"),
    (
        "slow_close",
        "a proxy of ours does not delay the end of a stream alone; `latency` delays it with its bytes",
    ),
];

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Number,
    Text,
}

impl Kind {
    /// Returns the kind with that name.
    fn named(name: &str) -> Result<Self, ApiError> {
        if let Some((kind, _, _)) = KINDS.iter().find(|(_, known, _)| *known == name) {
            return Ok(*kind);
        }
        let why = ABSENT.iter().find(|(absent, _)| *absent == name).map(|(_, why)| *why);
        let names: Vec<&str> = KINDS.iter().map(|(_, name, _)| *name).collect();
        let why = why.map_or_else(|| format!("there are {}", names.join(", ")), str::to_owned);
        let name = escape_short(name.as_bytes(), 40);
        Err(ApiError::new(400, format!("invalid toxic type: there is no `{name}` here: {why}")))
    }

    /// Returns its name.
    pub(super) fn name(self) -> &'static str {
        self.entry().0
    }

    fn attributes(self) -> Attributes {
        self.entry().1
    }

    fn entry(self) -> (&'static str, Attributes) {
        let entry = KINDS.iter().find(|(kind, _, _)| *kind == self);
        entry.map_or(("", &[]), |(_, name, attributes)| (name, attributes))
    }
}

impl Toxic {
    /// Creates the toxic that a body describes. The defaults are the stream `downstream`, the toxicity 1 and the name
    /// `<type>_<stream>`.
    ///
    /// # Errors
    ///
    /// 400 for an invalid type, stream, toxicity or attribute.
    pub(super) fn new(mut fields: Fields) -> Result<Self, ApiError> {
        let kind = Kind::named(&fields.text("type")?.ok_or_else(|| ApiError::missing("type"))?)?;
        let stream = fields.text("stream")?.map_or(Ok(Direction::Down), |text| stream(&text))?;
        let name = fields.text("name")?.unwrap_or_else(|| format!("{}_{}", kind.name(), stream_name(stream)));
        let toxicity = toxicity(&mut fields)?.unwrap_or(Probability::ONE);
        let mut toxic = Self { name: checked(name)?, kind, stream, toxicity, attributes: Map::new() };
        for (name, attribute) in kind.attributes() {
            if *attribute == Attribute::Number {
                toxic.attributes.insert((*name).to_owned(), json!(0));
            }
        }
        toxic.merge(fields)?;
        Ok(toxic)
    }

    /// Returns the toxic with the toxicity and the attributes of a body; others stay.
    ///
    /// # Errors
    ///
    /// As [`Toxic::new`], and 400 for another name, type or stream.
    pub(super) fn updated(&self, mut fields: Fields) -> Result<Self, ApiError> {
        let mut toxic = self.clone();
        for (field, own) in
            [("name", self.name.as_str()), ("type", self.kind.name()), ("stream", stream_name(self.stream))]
        {
            if fields.text(field)?.is_some_and(|given| given != own) {
                return Err(ApiError::bad(format_args!(
                    "the {field} of a toxic cannot change; delete it and make another"
                )));
            }
        }
        toxic.toxicity = toxicity(&mut fields)?.unwrap_or(toxic.toxicity);
        toxic.merge(fields)?;
        Ok(toxic)
    }

    /// Sets the attributes in `fields`.
    fn merge(&mut self, mut fields: Fields) -> Result<(), ApiError> {
        for (name, value) in fields.object("attributes")?.unwrap_or_default().rest() {
            let known = self.kind.attributes();
            let Some((_, attribute)) = known.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                let (name, kind) = (escape_short(name.as_bytes(), 40), self.kind.name());
                let known = known.join(", ");
                return Err(ApiError::bad(format_args!("`{kind}` has no attribute `{name}`, only {known}")));
            };
            let value = attribute.read(&name, value)?;
            self.attributes.insert(name, value);
        }
        Ok(())
    }

    /// Returns a number attribute; 0 if it was never set.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.attributes.get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// Returns a text attribute; an empty one counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Returns the JSON form.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind.name(),
            "stream": stream_name(self.stream),
            "toxicity": number(self.toxicity.get()),
            "attributes": self.attributes,
        })
    }
}

impl Attribute {
    /// Converts a value for storage. A text attribute may be a number: `toxiproxy-cli -a list=2` sends one.
    fn read(self, name: &str, value: Value) -> Result<Value, ApiError> {
        match (self, value) {
            (Self::Number, Value::Number(given)) => Ok(Value::Number(given)),
            (Self::Text, Value::Number(given)) => Ok(Value::String(given.to_string())),
            (Self::Text, Value::String(text)) if text.len() <= MAX_TEXT => Ok(Value::String(text)),
            (Self::Number, value) => Err(wrong(name, "a number", &value)),
            (Self::Text, value) => Err(wrong(name, "a text of at most 2048 bytes", &value)),
        }
    }
}

/// Reads the toxicity of a body.
fn toxicity(fields: &mut Fields) -> Result<Option<Probability>, ApiError> {
    let given = fields.number("toxicity")?;
    given.map(Probability::new).transpose().map_err(|error| ApiError::bad(format_args!("toxicity: {error}")))
}

/// Returns the direction with that name.
fn stream(text: &str) -> Result<Direction, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        "upstream" => Ok(Direction::Up),
        "downstream" => Ok(Direction::Down),
        _ => Err(ApiError::new(400, "stream was invalid, can be either upstream or downstream")),
    }
}

/// Returns the name of a direction.
fn stream_name(stream: Direction) -> &'static str {
    match stream {
        Direction::Up => "upstream",
        Direction::Down => "downstream",
    }
}

/// Checks a name.
pub(super) fn checked(name: String) -> Result<String, ApiError> {
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::bad(format_args!(
            "a name has at most {MAX_NAME} characters and no control characters"
        )));
    }
    Ok(name)
}

/// Returns a JSON number, without a fraction if it is whole: 1, not 1.0.
fn number(value: f64) -> Value {
    match value {
        0.0 => json!(0),
        1.0 => json!(1),
        value => Number::from_f64(value).map_or(Value::Null, Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toxic(text: &str) -> Result<Toxic, ApiError> {
        Toxic::new(Fields::parse(text.as_bytes()).unwrap())
    }

    fn refused(text: &str) -> String {
        let error = toxic(text).unwrap_err();
        assert_eq!(error.status, 400);
        error.to_string()
    }

    #[test]
    fn absent_fields_have_toxiproxys_defaults() {
        let made = toxic(r#"{"type":"latency","attributes":{"latency":100}}"#).unwrap();
        let expected = json!({
            "name": "latency_downstream", "type": "latency", "stream": "downstream", "toxicity": 1,
            "attributes": {"latency": 100, "jitter": 0},
        });
        assert_eq!(made.json(), expected);
        // As the Go client sends it: empty, not absent.
        assert_eq!(
            toxic(r#"{"name":"","type":"latency","stream":"","toxicity":1,"attributes":{"latency":100}}"#),
            Ok(made)
        );
    }

    #[test]
    fn field_names_may_be_capitalised_as_the_dotnet_client_sends_them() {
        let made =
            toxic(r#"{"Name":"b","Stream":"upstream","Type":"bandwidth","Attributes":{"Rate":10}}"#).unwrap();
        assert_eq!((made.name.as_str(), made.stream, made.number("rate")), ("b", Direction::Up, 10.0));
    }

    #[test]
    fn an_update_changes_only_the_given_fields() {
        let made = toxic(r#"{"type":"latency","attributes":{"latency":100,"jitter":5}}"#).unwrap();
        let update = |text: &str| made.updated(Fields::parse(text.as_bytes()).unwrap());
        let changed = update(r#"{"attributes":{"jitter":7}}"#).unwrap();
        assert_eq!((changed.number("latency"), changed.number("jitter")), (100.0, 7.0));
        assert_eq!(changed.toxicity, Probability::ONE);
        let changed = update(r#"{"toxicity":0, "stream":"downstream"}"#).unwrap();
        assert_eq!((changed.toxicity, changed.number("jitter")), (Probability::ZERO, 5.0));
        let error = update(r#"{"stream":"upstream"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bad request body: the stream of a toxic cannot change; delete it and make another"
        );
    }

    #[test]
    fn invalid_toxics_are_refused_in_one_sentence() {
        assert_eq!(refused("{}"), "missing required field: type");
        assert!(
            refused(r#"{"type":"slicer"}"#)
                .starts_with("invalid toxic type: there is no `slicer` here: a proxy")
        );
        assert!(
            refused(r#"{"type":"lag\n"}"#)
                .starts_with(r"invalid toxic type: there is no `lag\x0a` here: there are")
        );
        assert_eq!(
            refused(r#"{"type":"latency","attributes":{"lateny":1}}"#),
            "bad request body: `latency` has no attribute `lateny`, only latency, jitter"
        );
        assert_eq!(
            refused(r#"{"type":"latency","attributes":{"latency":"1s"}}"#),
            "bad request body: `latency` must be a number, not \"1s\""
        );
        assert_eq!(
            refused(r#"{"type":"loss","toxicity":1.5}"#),
            "bad request body: toxicity: `1.5` is not a probability: it must not be above 1"
        );
        assert_eq!(
            refused(r#"{"type":"loss","stream":"sideways"}"#),
            "stream was invalid, can be either upstream or downstream"
        );
        assert!(refused(r#"{"type":"loss","name":"a\nb"}"#).contains("control characters"));
    }

    #[test]
    fn a_text_may_be_a_number_as_the_command_line_client_sends_it() {
        assert_eq!(toxic(r#"{"type":"drop","attributes":{"list":2}}"#).unwrap().text("list"), Some("2"));
    }
}
