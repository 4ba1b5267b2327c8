//! URLs to connect to, as they are typed: [`ServerAddr`] for clients of the chat, [`ConnectUrl`] for other programs.
//! For listeners see `listen::url`.

use std::fmt;
use std::str::FromStr;

use super::listen::ListenUrl;
use super::listen::url::{At, Carrier, UrlError};
use crate::config::Transport;
use crate::listener::Framing;
use crate::service::Target;

/// The URLs of a [`ServerAddr`].
const CLIENT_FORMS: &str = "write tcp://HOST:PORT, udp://HOST:PORT or unix:///PATH";

/// The address of a chat server, and the transport to it: `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:///PATH`.
/// `HOST:PORT` alone is TCP; the default port is 50000.
///
/// ```
/// use sayagain::config::Transport;
/// use sayagain::net::ServerAddr;
///
/// let server: ServerAddr = "udp://localhost".parse()?;
/// assert_eq!(server, ServerAddr::Datagrams { host: "localhost".into(), port: 50_000 });
/// assert_eq!("unix:///run/chat".parse::<ServerAddr>()?.transport(), Transport::Stream);
/// # Ok::<(), sayagain::net::UrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddr {
    /// A stream, over TCP or a UNIX socket.
    Stream(Target),
    /// UDP datagrams.
    Datagrams {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl ServerAddr {
    /// The transport of a client.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self {
            Self::Stream(_) => Transport::Stream,
            Self::Datagrams { .. } => Transport::Datagram,
        }
    }
}

impl FromStr for ServerAddr {
    type Err = UrlError;

    /// # Errors
    ///
    /// Fails as [`ListenUrl`] does, and for other schemes, port 0, and parameters.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let parsed = if text.contains("://") { parsed(text)? } else { parsed(&format!("tcp://{text}"))? };
        let scheme = parsed.scheme();
        if !["tcp", "udp", "unix"].contains(&scheme) {
            let why = format!("{scheme}:// is not a listener for this client; {CLIENT_FORMS}");
            return Err(UrlError::new(&why));
        }
        Ok(match parsed.at {
            At::Tcp { host, port, .. } => Self::Stream(Target::Tcp { host, port }),
            At::Udp { host, port, .. } => Self::Datagrams { host, port },
            At::Unix { path, .. } => Self::Stream(Target::Unix { path }),
        })
    }
}

/// Reads the URL of a listener as an address to connect to: without parameters and port 0.
fn parsed(text: &str) -> Result<ListenUrl, UrlError> {
    if text.contains('?') {
        return Err(UrlError::new("what follows the ? is for the server that listens; leave it out"));
    }
    let parsed: ListenUrl = text.parse()?;
    if let At::Tcp { port: 0, .. } | At::Udp { port: 0, .. } = parsed.at {
        return Err(UrlError::new("no server listens on port 0; write the port that it has"));
    }
    Ok(parsed)
}

/// The address of a stream server, and the framing of its connections. It has the schemes of [`ListenUrl`]
/// except `udp`, and no parameters.
///
/// ```
/// use sayagain::listener::Framing;
/// use sayagain::net::ConnectUrl;
///
/// let url: ConnectUrl = "msg://localhost:7000".parse()?;
/// assert_eq!(url.framing(), Framing::Messages);
/// assert!("udp://localhost:7000".parse::<ConnectUrl>().is_err());
/// # Ok::<(), sayagain::net::UrlError>(())
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
        self.0.listener.speaks.framing()
    }
}

impl FromStr for ConnectUrl {
    type Err = UrlError;

    /// # Errors
    ///
    /// Fails as [`ListenUrl`] does, and for `udp`, port 0, and parameters.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let parsed = parsed(text)?;
        if parsed.at.carrier() == Carrier::Udp {
            return Err(UrlError::new("datagrams have no connections; take tcp://, msg:// or raw://"));
        }
        Ok(Self(parsed))
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
    fn the_address_of_a_chat_server_has_its_transport_and_tcp_without_a_scheme() {
        let tcp = |host: &str, port| ServerAddr::Stream(Target::Tcp { host: host.to_owned(), port });
        for (text, server) in [
            ("localhost", tcp("localhost", 50_000)),
            ("[::1]:7", tcp("::1", 7)),
            ("TCP://h:7", tcp("h", 7)),
            ("udp://h:7", ServerAddr::Datagrams { host: "h".to_owned(), port: 7 }),
            ("unix:///run/a%20b", ServerAddr::Stream(Target::Unix { path: "/run/a b".into() })),
        ] {
            assert_eq!(text.parse::<ServerAddr>().unwrap(), server, "{text}");
        }
        for text in ["", "h:0", "udp://h:0", "unix:///a?mode=600", "unix:a", "line://h:7", "msg+unix:///a"] {
            assert!(text.parse::<ServerAddr>().is_err(), "{text}");
        }
    }

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
