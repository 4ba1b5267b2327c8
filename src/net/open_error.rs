//! Why there is no door, or no connection: a URL that is none, a socket that is not to be had.

use std::io;

use super::listen::ListenError;
use super::listen::url::UrlError;
use crate::escape::escape_short;

/// Why a core or an engine cannot listen, or connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL is none that can be used for this.
    #[error("`{url}`: {source}", url = escape_short(.url.as_bytes(), 80))]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// There is no socket there.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system has no room to wait for another socket.
    #[error("cannot wait for a socket: {0}; if it lasts, raise the limit of open files (ulimit -n)")]
    Wait(#[from] io::Error),
}
