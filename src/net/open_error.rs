//! [`OpenError`]: why a listener or a connection could not be opened. Errors of chat clients are in
//! `client::builder`.

use std::io;

use super::listen::ListenError;
use super::listen::url::UrlError;
use crate::escape::escape_short;

/// Why a core or an engine cannot listen or connect: one sentence. The variants are not part of the public API.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL cannot be used for this.
    #[error("`{url}`: {source}", url = escape_short(.url.as_bytes(), 80))]
    #[doc(hidden)]
    Url {
        /// As it was given.
        url: String,
        /// The error in it.
        source: UrlError,
    },
    /// The URL is of a scheme that the chat does not speak.
    #[error(
        "`{url}`: the chat does not speak this scheme, which is for handlers; take tcp://, udp://, unix:// or line://",
        url = escape_short(.url.as_bytes(), 80)
    )]
    #[doc(hidden)]
    NotOfTheChat {
        /// As it was given.
        url: String,
    },
    /// The system has no randomness for tokens and keys.
    #[error("the system has no randomness: {0}")]
    #[doc(hidden)]
    Randomness(#[source] io::Error),
    /// The socket could not be bound.
    #[error(transparent)]
    #[doc(hidden)]
    Listen(#[from] ListenError),
    /// The system cannot wait for another socket.
    #[error("cannot wait for a socket: {0}; if it lasts, raise the limit of open files (ulimit -n)")]
    #[doc(hidden)]
    Wait(#[from] io::Error),
}
