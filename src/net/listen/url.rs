//! Listener URLs, as they are typed: `line://localhost:50001?room=tea`.
//!
//! Here are their types and how they are printed. Reading one is in `parse`, its parameters in `parameters`; `inet` and
//! `unix` create the sockets.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fluent_uri::pct_enc::{EStr, EString, encoder};

use super::parameters;
use crate::listener::{Framing, Listener, Speaks};

mod parse;

/// The default port of a frame listener.
pub(crate) const FRAME_PORT: u16 = 50_000;

/// The default port of a line listener.
pub(crate) const LINE_PORT: u16 = 50_001;

/// The default permissions of a UNIX socket: its owner and group may connect.
pub(crate) const DEFAULT_PERMISSIONS: u32 = 0o660;

/// One `--listen`: the address of a listener, and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// The sockets to bind.
    #[doc(hidden)]
    pub at: At,
    /// The settings of the listener.
    #[doc(hidden)]
    pub listener: Listener,
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// TCP connections.
    Tcp {
        /// A name or an address, IPv6 without brackets. All of its addresses are listened on.
        host: String,
        /// 0 takes a free port, the same for all addresses.
        port: u16,
        /// Whether other processes may listen there too (SO_REUSEPORT).
        reuse_port: bool,
        /// Whether only IPv6 addresses are listened on. Otherwise `::` means all addresses of both families.
        only_v6: bool,
    },
    /// UDP datagrams.
    Udp {
        /// As for TCP.
        host: String,
        /// As for TCP.
        port: u16,
        /// As for TCP.
        only_v6: bool,
    },
    /// Connections to a UNIX socket.
    Unix {
        /// The socket's absolute path.
        path: PathBuf,
        /// The permissions of the socket's file. A process that may write to it may connect.
        permissions: u32,
    },
}

/// The transport of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// Connections to a UNIX socket.
    Unix,
}

/// Why a text is not a listener URL, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl UrlError {
    pub(in crate::net) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// The schemes, in the order in which help texts name them.
const SCHEMES: [(&str, Carrier, Framing); 9] = [
    ("tcp", Carrier::Tcp, Framing::Frames),
    ("udp", Carrier::Udp, Framing::Frames),
    ("unix", Carrier::Unix, Framing::Frames),
    ("line", Carrier::Tcp, Framing::Lines),
    ("line+unix", Carrier::Unix, Framing::Lines),
    ("msg", Carrier::Tcp, Framing::Messages),
    ("msg+unix", Carrier::Unix, Framing::Messages),
    ("raw", Carrier::Tcp, Framing::Bytes),
    ("raw+unix", Carrier::Unix, Framing::Bytes),
];

/// The forms of a URL, for error messages.
const FORMS: &str = "write tcp://HOST:PORT, udp://HOST:PORT, unix:///PATH, line://HOST:PORT or line+unix:///PATH (other programs than the chat: msg, raw, msg+unix, raw+unix)";

/// The scheme for a transport and a protocol: `tcp`, `udp`, `unix`, `line`, `msg`, `raw`, `line+unix`, ..
#[must_use]
pub(crate) fn scheme(carrier: Carrier, speaks: &Speaks) -> &'static str {
    let framing = speaks.framing();
    let found = SCHEMES.iter().find(|(_, of, cut)| *of == carrier && *cut == framing);
    // Datagrams carry frames only.
    found.map_or("udp", |(scheme, ..)| scheme)
}

/// Writes the URL of a UNIX socket, without parameters.
pub(super) fn write_path(f: &mut fmt::Formatter<'_>, scheme: &str, path: &Path) -> fmt::Result {
    let mut shown = EString::<encoder::Path>::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        shown.encode_str::<encoder::Path>(chunk.valid());
        chunk.invalid().iter().for_each(|byte| shown.push_estr(EStr::encode_byte(*byte)));
    }
    write!(f, "{scheme}://{shown}")
}

impl At {
    /// Its transport.
    #[must_use]
    pub const fn carrier(&self) -> Carrier {
        match self {
            Self::Tcp { .. } => Carrier::Tcp,
            Self::Udp { .. } => Carrier::Udp,
            Self::Unix { .. } => Carrier::Unix,
        }
    }
}

impl ListenUrl {
    /// Its scheme. Access rules call the listener so, unless it has a name of its own.
    #[doc(hidden)]
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        scheme(self.at.carrier(), &self.listener.speaks)
    }
}

/// Prints the URL with the parameters that differ from their defaults. It reads back as the same.
impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match &self.at {
            At::Tcp { host, port, .. } | At::Udp { host, port, .. } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")?;
            }
            At::Tcp { host, port, .. } | At::Udp { host, port, .. } => {
                let mut shown = EString::<encoder::RegName>::new();
                shown.encode_str::<encoder::RegName>(host);
                write!(f, "{scheme}://{shown}:{port}")?;
            }
            At::Unix { path, .. } => write_path(f, scheme, path)?,
        }
        parameters::write(f, self)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::time::Duration;

    use super::*;
    use crate::listener::{Greet, LineListener};
    use crate::names::RoomName;
    use crate::rates::Rate;

    fn parse(text: &str) -> ListenUrl {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn tcp(host: &str, port: u16, reuse_port: bool) -> At {
        At::Tcp { host: host.to_owned(), port, reuse_port, only_v6: false }
    }

    fn lines(text: &str) -> LineListener {
        match parse(text).listener.speaks {
            Speaks::Lines(lines) => lines,
            other => panic!("{text} is for {other:?}"),
        }
    }

    #[test]
    fn a_url_has_an_address_and_a_protocol() {
        let udp = |only_v6| At::Udp { host: "::1".to_owned(), port: 7, only_v6 };
        for (text, at, scheme) in [
            ("tcp://localhost:5", tcp("localhost", 5, false), "tcp"),
            ("tcp://[2001:db8::1]:0?reuse_port=1", tcp("2001:db8::1", 0, true), "tcp"),
            ("TCP://127.0.0.1", tcp("127.0.0.1", 50_000, false), "tcp"),
            ("tcp://h:?reuse_port=0", tcp("h", 50_000, false), "tcp"),
            ("udp://[::1]:7?v6only=0", udp(false), "udp"),
            ("udp://[::1]:7?v6only=1", udp(true), "udp"),
            ("line://:51001", tcp("localhost", 51_001, false), "line"),
            ("line://h", tcp("h", 50_001, false), "line"),
            ("line://h:65535?reuse_port=1&echo=off", tcp("h", 65_535, true), "line"),
        ] {
            let url = parse(text);
            assert_eq!((url.scheme(), &url.at), (scheme, &at), "{text}");
            assert_eq!(url.listener.name, scheme, "{text}");
            assert_eq!(matches!(url.listener.speaks, Speaks::Lines(_)), scheme == "line", "{text}");
        }
    }

    #[test]
    fn a_path_may_hold_any_bytes_and_is_decoded() {
        for (text, path, permissions) in [
            ("unix:///run/chat", &b"/run/chat"[..], 0o660),
            ("unix:///a%20b%2Fc?mode=0600", b"/a b/c", 0o600),
            ("unix:///%ff%FE/\u{447}?mode=777", b"/\xff\xfe/\xd1\x87", 0o777),
            ("line+unix:///a/../b%23%3f?mode=000", b"/a/../b#?", 0),
        ] {
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            assert_eq!(parse(text).at, At::Unix { path, permissions }, "{text}");
        }
    }

    #[test]
    fn the_default_rate_is_unlimited_for_frames_and_five_a_second_for_lines() {
        for (text, rate) in [
            ("tcp://h", "none"),
            ("udp://h?rate=5/s,1KiB/s", "5/s,1024B/s"),
            ("unix:///a?rate=1/s", "1/s"),
            ("line://h", "5/s"),
            ("line+unix:///a?rate=none", "none"),
        ] {
            assert_eq!(parse(text).listener.rate.to_string(), rate, "{text}");
        }
        assert_eq!(parse("line://h?rate=none").listener.rate, Rate::UNLIMITED);
        let per_host = |text: &str| parse(text).listener.rate_per_host.to_string();
        assert_eq!(
            (per_host("line://h?rate_per_host=50/s"), per_host("line://h")),
            ("50/s".to_owned(), "none".to_owned())
        );
    }

    #[test]
    fn a_line_listener_by_default_asks_for_a_name_and_echoes_in_the_lobby() {
        let usual = LineListener {
            room: RoomName::parse(b"#lobby").unwrap(),
            greet: Greet::Name,
            echo: true,
            flush: None,
        };
        for text in [
            "line://h",
            "line://h?room=lobby",
            "line://h?room=%23lobby",
            "line://h?greet=name&echo=on&flush=off",
            "line+unix:///a?flush=0",
        ] {
            assert_eq!(lines(text), usual, "{text}");
        }
        let silent = LineListener { greet: Greet::None, echo: false, ..usual.clone() };
        assert_eq!(lines("line://h?greet=none"), silent);
        assert_eq!(lines("line://h?greet=none&echo=on"), LineListener { echo: true, ..silent });
        assert_eq!(lines("line://h?echo=off"), LineListener { echo: false, ..usual.clone() });
        let flush = Some(Duration::from_millis(250));
        assert_eq!(lines("line://h?flush=250"), LineListener { flush, ..usual });
        assert_eq!(lines("line://h?room=\u{447}\u{430}\u{442}").room.as_str(), "#\u{447}\u{430}\u{442}");
    }

    #[test]
    fn a_name_replaces_the_scheme() {
        assert_eq!(parse("tcp://h?name=front-1.a_B").listener.name, "front-1.a_B");
        assert_eq!(parse("line+unix:///a").listener.name, "line+unix");
    }

    #[test]
    fn a_url_is_printed_without_defaults_and_reads_back_as_the_same() {
        for (text, shown) in [
            ("tcp://localhost", "tcp://localhost:50000"),
            ("TCP://[::1]:5?reuse_port=0&rate=none&name=tcp", "tcp://[::1]:5"),
            ("udp://h:5?rate=5/s,1KiB/s", "udp://h:5?rate=5/s,1024B/s"),
            ("unix:///a%20b%ff%2f%25?mode=660", "unix:///a%20b%FF/%25"),
            ("unix:///%E2%80%AE%1b?mode=660", "unix:///%E2%80%AE%1B"),
            ("line://h?room=%23Tea&name=x&rate=2/s", "line://h:50001?room=Tea&rate=2/s&name=x"),
            ("line://h?greet=none&echo=off&flush=9", "line://h:50001?greet=none&flush=9"),
            ("line+unix:///a?echo=off&mode=0600", "line+unix:///a?mode=0600&echo=off"),
            ("tcp://h:1?v6only=1&reuse_port=1", "tcp://h:1?reuse_port=1&v6only=1"),
            ("udp://[::]:1?v6only=1", "udp://[::]:1?v6only=1"),
            ("udp://h:1?name=x&rate_per_host=1KiB/s,50/s", "udp://h:1?rate_per_host=50/s,1024B/s&name=x"),
            ("line://h:1?rate_per_host=none", "line://h:1"),
        ] {
            let url = parse(text);
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!(parse(shown), url, "{text}");
        }
    }

    /// Texts, and a part of the error for each.
    const WRONG: [(&str, &str); 68] = [
        ("", "has no scheme"),
        ("localhost", "has no scheme"),
        ("localhost:50000", "has no scheme"),
        ("tcp:h:1", "has no scheme"),
        ("unix:/run/a", "has no scheme"),
        ("127.0.0.1:50000", "has no scheme"),
        ("://h:1", "`:` may not stand"),
        ("foo://h:1", "the scheme `foo` is unknown; write tcp://HOST:PORT, udp://"),
        ("http://h:1", "the scheme `http` is unknown"),
        ("line+udp://h", "the scheme `line+udp` is unknown"),
        ("tcp://", "it has no host"),
        ("line://?room=a", "it has no host"),
        ("tcp://a%20b:5", "it has no host"),
        ("tcp://a%ff:5", "it has no host"),
        ("tcp://a%3Ab", "it has no host"),
        ("tcp://a b:5", "` ` may not stand"),
        ("tcp://h:65536", "the port is not from 0 to 65535"),
        ("tcp://h:-1", "the port `-1` is not a number; write one from 0 to 65535"),
        ("tcp://h:5x?rate=5/s", "the port `5x` is not a number"),
        ("tcp://[::1]:http", "the port `http` is not a number"),
        ("tcp://h:5\u{1b}", r"the port `5\x1b` is not a number"),
        ("tcp://::1:5000", "an IPv6 address stands in brackets; write [::1]:5000"),
        ("line://fe80::1:50001?echo=off", "write [fe80::1]:50001"),
        ("tcp://::1", "an IPv6 address stands in brackets; write [::1]:PORT"),
        ("tcp://[::1:5", "may not stand"),
        ("tcp://[foo]:5", "IPv6 address; write [::1]"),
        ("tcp://[v1.a]:5", "IPv6 address; write [::1]"),
        ("tcp://h:5/", "a path means nothing there; write tcp://HOST:PORT"),
        ("udp://h/a", "a path means nothing there; write udp://HOST:PORT"),
        ("tcp://user@h:5", "leave out the part before the @"),
        ("unix://user@/a", "leave out the part before the @"),
        ("tcp://h:5#top", "write %23"),
        ("line://h?room=#lobby", "write %23"),
        ("unix://", "it names no file; write unix:///PATH"),
        ("unix:///", "it names no file"),
        ("unix:///run/", "it names no file"),
        ("unix://run/a", "has no host; write unix:///PATH"),
        ("line+unix://h:5/a", "has no host; write line+unix:///PATH"),
        ("unix:///a%00b", "no path holds a NUL"),
        ("unix:///a%0", "must follow a %"),
        ("unix:///a%zz", "must follow a %"),
        ("unix:///a b", "` ` may not stand"),
        ("unix:///a\u{1b}[2J", r"`\x1b` may not stand"),
        ("tcp://h?\u{202e}", r"the parameter `\u{202e}` is unknown"),
        (
            "tcp://h?mode=0660",
            "the parameter `mode` is unknown; tcp:// has reuse_port, v6only, rate, rate_per_host, name",
        ),
        (
            "udp://h?reuse_port=1",
            "the parameter `reuse_port` is unknown; udp:// has v6only, rate, rate_per_host, name",
        ),
        ("unix:///a?room=b", "the parameter `room` is unknown; unix:// has mode, rate, rate_per_host, name"),
        ("line+unix:///a?reuse_port=1", "has mode, room, greet, echo, flush, rate, rate_per_host, name"),
        ("tcp://h?", "the parameter `` is unknown"),
        ("tcp://h?rate=5/s&", "the parameter `` is unknown"),
        ("tcp://h?%1b=5", r"the parameter `\x1b` is unknown"),
        ("tcp://h?Rate=5/s", "the parameter `Rate` is unknown"),
        ("tcp://h?rate=5/s&rate=5/s", "the parameter `rate` is there twice"),
        ("tcp://h?name=%ff", "a parameter is not UTF-8"),
        ("tcp://h?reuse_port", "reuse_port cannot be ``; write reuse_port=1 or reuse_port=0"),
        ("tcp://h?reuse_port=yes", "reuse_port cannot be `yes`"),
        ("udp://[::]?v6only=on", "v6only cannot be `on`; write v6only=1 or v6only=0"),
        ("tcp://h?rate=fast", "rate: `fast` is not a rate; write 5/s"),
        ("udp://h?rate_per_host=5", "rate_per_host: `5` is not a rate; write 5/s"),
        ("msg://h:1?rate_per_host=5/s", "the parameter `rate_per_host` is unknown"),
        ("tcp://h?name=", "name cannot be ``; write 1 to 32 of"),
        ("tcp://h?name=a%0ab", r"name cannot be `a\x0ab`"),
        ("unix:///a?mode=0888", "mode cannot be `0888`; write octal digits"),
        ("unix:///a?mode=4755", "mode cannot be `4755`"),
        ("line://h?room=a%20b", "room cannot be `a b`; write room=lobby; a name holds white space"),
        ("line://h?greet=ask", "greet cannot be `ask`; write greet=name or greet=none"),
        ("line://h?echo=1", "echo cannot be `1`; write echo=on or echo=off"),
        ("line://h?flush=3600001", "flush cannot be `3600001`; write milliseconds"),
    ];

    #[test]
    fn an_invalid_listener_url_is_refused_in_one_line_that_says_what_to_write() {
        let long = format!("line://h?room={}", "x".repeat(100_000));
        let more = [
            (long.as_str(), "longer than 32"),
            ("line://h?flush=-1", "flush=0 or flush=off for none"),
            ("line://h?flush=", ""),
        ];
        for (text, part) in WRONG.into_iter().chain(more) {
            let error = text.parse::<ListenUrl>().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
            assert!(text.len() < 9 || !error.contains(text), "it is shown before: {error}");
            assert!(error.contains(';') && error.chars().count() < 400, "{error}");
            assert!(!error.contains(char::is_control) && !error.contains('\u{202e}'), "{error:?}");
        }
    }

    /// Parts of URLs, valid and invalid.
    const PARTS: [&str; 42] = [
        "tcp",
        "udp",
        "unix",
        "line",
        "line+unix",
        "://",
        "h",
        "[::1]",
        ":5",
        ":",
        "/",
        "/a",
        "%41",
        "%",
        "%ff",
        "?",
        "&",
        "=",
        "rate",
        "rate_per_host",
        "5/s",
        "name",
        "mode",
        "0600",
        "room",
        "greet",
        "none",
        "echo",
        "on",
        "flush",
        "7",
        "#",
        "@",
        "\u{1b}",
        "\n",
        "\u{447}",
        "\u{202e}",
        " ",
        "\\",
        "reuse_port",
        "v6only",
        "1",
    ];

    #[test]
    fn any_text_is_a_url_that_reads_back_or_an_error_without_control_characters() {
        use rand::{RngExt as _, SeedableRng as _};

        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let mut good = 0;
        for _ in 0..20_000 {
            let scheme = PARTS[rng.random_range(0..5)];
            let rest = (0..rng.random_range(0..9)).map(|_| PARTS[rng.random_range(0..PARTS.len())]);
            let text = format!("{scheme}://{}", rest.collect::<String>());
            match text.parse::<ListenUrl>() {
                Ok(url) => {
                    good += 1;
                    assert_eq!(url.to_string().parse(), Ok(url.clone()), "{text:?}: {url}");
                    assert!(url.to_string().is_ascii(), "{url}");
                }
                Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
            }
        }
        assert!(good > 500, "only {good} are URLs");
    }
}
