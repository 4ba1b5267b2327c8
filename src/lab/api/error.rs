//! Errors of the API in toxiproxy's form: `{"error": "proxy not found", "status": 404}`.

use serde_json::{Value, json};

use super::Answer;

/// An error: an HTTP status and one sentence. Nothing was changed, unless the sentence says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    /// The HTTP status, 400 to 599.
    pub(super) status: u16,
    message: String,
}

impl ApiError {
    /// Creates an error with `status`.
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request is invalid (400).
    pub(super) fn bad(message: impl std::fmt::Display) -> Self {
        Self::new(400, format!("bad request body: {message}"))
    }

    /// The body lacks a field (400).
    pub(super) fn missing(field: &str) -> Self {
        Self::new(400, format!("missing required field: {field}"))
    }

    /// The proxy does not exist (404).
    pub(super) fn no_proxy() -> Self {
        Self::new(404, "proxy not found")
    }

    /// The toxic does not exist (404).
    pub(super) fn no_toxic() -> Self {
        Self::new(404, "toxic not found")
    }

    /// The answer to a list of proxies of which only those in `done` were created.
    pub(super) fn with_proxies(&self, done: Vec<Value>) -> Answer {
        let body = json!({ "error": self.message, "status": self.status, "proxies": done });
        Answer { status: self.status, body: Some(body) }
    }

    /// Returns the body.
    pub(super) fn json(&self) -> Value {
        json!({ "error": self.message, "status": self.status })
    }
}
