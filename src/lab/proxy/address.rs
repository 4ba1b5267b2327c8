//! Addresses of proxies and upstreams in their text form, `udp://HOST:PORT`. Names are resolved elsewhere.

use std::fmt;
use std::str::FromStr;

use crate::escape::escape_short;
use crate::host_port::HostPort;
use crate::net::listen::Scheme;

/// The host that an empty one means: reachable from this machine only.
const LOOPBACK: &str = "localhost";

/// A protocol, a host and a port. An empty host is loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The protocol.
    pub(crate) scheme: Scheme,
    /// The host and the port.
    pub(crate) at: HostPort,
}

/// Why a text is not an address, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AddressError(String);

impl Address {
    /// Reads `SCHEME://HOST:PORT`, or `HOST:PORT` with the scheme `otherwise`.
    ///
    /// # Errors
    ///
    /// Another scheme than `udp` and `tcp`, or no port.
    pub(crate) fn parse_or(text: &str, otherwise: Scheme) -> Result<Self, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("udp", rest)) => (Scheme::Udp, rest),
            Some(("tcp", rest)) => (Scheme::Tcp, rest),
            Some(_) => return Err(Self::unknown_scheme(text)),
            None => (otherwise, text),
        };
        let named = if rest.starts_with(':') { format!("{LOOPBACK}{rest}") } else { rest.to_owned() };
        Ok(Self { scheme, at: named.parse().map_err(AddressError)? })
    }

    fn unknown_scheme(text: &str) -> AddressError {
        let shown = escape_short(text.as_bytes(), 80);
        AddressError(format!("`{shown}` is neither udp://HOST:PORT nor tcp://HOST:PORT"))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads an address that includes its scheme.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains("://") { Self::parse_or(text, Scheme::Tcp) } else { Err(Self::unknown_scheme(text)) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port_and_an_empty_host_is_loopback() {
        for (text, shown) in [
            ("udp://127.0.0.1:53", "udp://127.0.0.1:53"),
            ("tcp://[::1]:0", "tcp://[::1]:0"),
            ("udp://:6000", "udp://localhost:6000"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        assert_eq!(Address::parse_or("a:1", Scheme::Tcp).unwrap().to_string(), "tcp://a:1");
    }

    #[test]
    fn an_invalid_address_is_refused_in_one_line() {
        for text in ["", "127.0.0.1:53", "http://a:1", "UDP://a:1", "udp://a", "udp://::1:5", "udp://a:65536"]
        {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.starts_with('`') && error.lines().count() == 1, "{text}: {error}");
        }
        assert!(!"\x1b://a:1".parse::<Address>().unwrap_err().to_string().contains('\x1b'));
    }
}
