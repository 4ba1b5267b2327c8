//! What a body says, field by field, with a sentence for what is not as it should be.

use serde_json::{Map, Value};

use super::error::ApiError;
use crate::escape::escape_short;

/// A JSON object being read. Names of fields are compared without regard to case, as Go's decoder does, which some of
/// toxiproxy's clients rely on; `null` counts as absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// The object that `body` is.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        Self::of(json(body)?)
    }

    /// The object that `value` is.
    pub(super) fn of(value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => {
                Ok(Self(map.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()))
            }
            other => Err(ApiError::bad(format_args!("{} is not an object", shown(&other)))),
        }
    }

    /// Takes a text out; an empty one counts as absent.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    /// Takes a truth value out.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// Takes a number out.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| wrong(name, "a number", &value))
    }

    /// Takes an object out.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        self.take(name).map(Self::of).transpose()
    }

    /// Takes a list out.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(wrong(name, "a list", &other)),
        }
    }

    /// Everything that was not taken.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter().filter(|(_, value)| !value.is_null())
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }
}

/// What `body` holds.
pub(super) fn json(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(ApiError::bad)
}

/// The refusal of `value` where `wanted` belongs.
pub(super) fn wrong(name: &str, wanted: &str, value: &Value) -> ApiError {
    ApiError::bad(format_args!("`{name}` must be {wanted}, not {}", shown(value)))
}

/// A value in few characters.
fn shown(value: &Value) -> String {
    escape_short(value.to_string().as_bytes(), 40).into_owned()
}
