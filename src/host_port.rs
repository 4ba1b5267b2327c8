//! Parsing of `HOST:PORT`.

use std::fmt;
use std::str::FromStr;

/// `HOST:PORT`, checked as far as possible without name resolution. An IPv6 address is in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// For a server, 0 selects a free port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = crate::escape::escape_short(text.as_bytes(), 80);
        let no_port = || format!("`{shown}` has no port from 0 to 65535; write HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            _ if host.contains(['[', ']', ':']) => {
                return Err(format!(
                    "`{shown}` is ambiguous; write an IPv6 address in brackets: [::1]:50000"
                ));
            }
            _ => host,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{shown}` has no host; write HOST:PORT"));
        }
        let digits = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = digits.and_then(|port| port.parse().ok()).ok_or_else(no_port)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_needs_a_port_and_an_ipv6_address_its_brackets() {
        let good = [
            ("localhost:50000", "localhost", 50000),
            ("[::1]:0", "::1", 0),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
        ];
        for (text, host, port) in good {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), text);
        }
        let bad = [
            "localhost",
            "::1:50000",
            "[::1]",
            "[foo]:1",
            ":50000",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:",
            "a b:1",
            "a:1 ",
            "a:\u{663}",
        ];
        for text in bad {
            let error = text.parse::<HostPort>().unwrap_err();
            assert!(error.starts_with('`') && !error.contains('\n'), "{error}");
        }
    }
}
