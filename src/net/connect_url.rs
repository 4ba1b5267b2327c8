//! URLs to connect to, as they are typed: `msg://localhost:7000`, `raw+unix:///run/jobs`. For listeners see
//! `listen::url`.

use std::fmt;
use std::str::FromStr;

use super::listen::ListenUrl;
use super::listen::url::{At, Carrier, UrlError};
use crate::door::Framing;
use crate::service::Target;

/// The address of a stream server, and the framing of its connections. It has the schemes of [`ListenUrl`]
/// except `udp`, and no parameters.
///
/// ```
/// use sayagain::door::Framing;
/// use sayagain::net::ConnectUrl;
///
/// let url: ConnectUrl = "msg://localhost:7000".parse()?;
/// assert_eq!(url.framing(), Framing::Messages);
/// assert!("udp://localhost:7000".parse::<ConnectUrl>().is_err());
/// # Ok::<(), sayagain::net::listen::url::UrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectUrl(ListenUrl);

impl ConnectUrl {
    /// The address to connect to.
    #[must_use]
    pub fn target(&self) -> Target {
        match &self.0.at {
            At::Tcp { host, port, .. } | At::Udp { host, port, .. } => {
                Target::Tcp { host: host.clone(), port: *port }
            }
            At::Unix { path, .. } => Target::Unix { path: path.clone() },
        }
    }

    /// The framing of a connection.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.0.door.speaks.framing()
    }
}

impl FromStr for ConnectUrl {
    type Err = UrlError;

    /// # Errors
    ///
    /// Fails as [`ListenUrl`] does, and for `udp`, port 0, and parameters.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let parsed: ListenUrl = text.parse()?;
        let wrong = match &parsed.at {
            at if at.carrier() == Carrier::Udp => {
                "datagrams have no connections; take tcp://, msg:// or raw://"
            }
            At::Tcp { port: 0, .. } => "nobody listens on port 0; write the port that the other side has",
            _ if text.contains('?') => "what stands behind a ? is for listeners; leave it out",
            _ => return Ok(Self(parsed)),
        };
        Err(UrlError::new(wrong))
    }
}

impl fmt::Display for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_to_connect_to_has_an_address_a_framing_and_no_parameters() {
        let url: ConnectUrl = "raw://[::1]:7".parse().unwrap();
        assert_eq!(url.target(), Target::Tcp { host: "::1".to_owned(), port: 7 });
        assert_eq!((url.framing(), url.to_string()), (Framing::Bytes, "raw://[::1]:7".to_owned()));
        let url: ConnectUrl = "msg+unix:///run/x".parse().unwrap();
        assert_eq!(url.target(), Target::Unix { path: "/run/x".into() });
        for text in
            ["udp://h:7", "msg://h:0", "msg://h", "tcp://h:7?reuse_port=1", "x://h:7", "unix:///x?mode=600"]
        {
            assert!(text.parse::<ConnectUrl>().is_err(), "{text}");
        }
    }
}
