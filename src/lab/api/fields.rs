//! The fields of a JSON body: typed access, with an error sentence for each wrong value.

use serde_json::{Map, Value};

use super::error::ApiError;
use crate::escape::escape_short;

/// A JSON object being read. Field names are case-insensitive, as in Go's decoder, which some of toxiproxy's clients
/// rely on; `null` counts as absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Parses `body` as an object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        Self::of(json(body)?)
    }

    /// Reads `value` as an object.
    pub(super) fn of(value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => {
                Ok(Self(map.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()))
            }
            other => Err(ApiError::bad(format_args!("{} is not an object", shown(&other)))),
        }
    }

    /// Takes a text; an empty one counts as absent.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    /// Takes a boolean.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// Takes a number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| wrong(name, "a number", &value))
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        self.take(name).map(Self::of).transpose()
    }

    /// Takes a list.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(wrong(name, "a list", &other)),
        }
    }

    /// Returns the fields that were not taken.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter().filter(|(_, value)| !value.is_null())
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }
}

/// Parses `body`.
pub(super) fn json(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(ApiError::bad)
}

/// The error that `value` is not `wanted`.
pub(super) fn wrong(name: &str, wanted: &str, value: &Value) -> ApiError {
    ApiError::bad(format_args!("`{name}` must be {wanted}, not {}", shown(value)))
}

/// Returns a short form of a value.
fn shown(value: &Value) -> String {
    escape_short(value.to_string().as_bytes(), 40).into_owned()
}
