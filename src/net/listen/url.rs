//! Where a server listens, as it is typed: `line://localhost:50001?room=tea`.
//!
//! Parsed and printed here, and nowhere else; `parameters` reads what stands behind the `?`, `inet` and `unix` make
//! the sockets.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fluent_uri::component::{Host, IAuthority};
use fluent_uri::pct_enc::{EStr, EString, encoder};
use fluent_uri::{Iri, ParseError, ParseErrorKind};

use super::parameters::{self, Parameters};
use crate::door::{Door, Speaks};
use crate::escape::escape_short;

/// The port of a frame door that names none.
pub const FRAME_PORT: u16 = 50_000;

/// The port of a line door that names none.
pub const LINE_PORT: u16 = 50_001;

/// Who may connect to a UNIX socket that does not say: its owner and group.
pub const DEFAULT_PERMISSIONS: u32 = 0o660;

/// One `--listen`: where a door is, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// Which sockets to make.
    pub at: At,
    /// What they are doors to.
    pub door: Door,
}

/// Where a door is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Streams from anywhere.
    Tcp {
        /// A name or an address, IPv6 without brackets; every address that it stands for is listened on.
        host: String,
        /// 0 takes a free one, the same for all addresses.
        port: u16,
        /// Whether other processes may listen there too (SO_REUSEPORT).
        reuse_port: bool,
    },
    /// Datagrams.
    Udp {
        /// As for TCP.
        host: String,
        /// As for TCP.
        port: u16,
    },
    /// Streams from this machine.
    Unix {
        /// The socket's file, from the root.
        path: PathBuf,
        /// The permissions of the socket's file: who may write to it may connect.
        permissions: u32,
    },
}

/// What carries the bytes of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// Connections to a UNIX socket.
    Unix,
}

/// Why a text is no URL to listen on, as one sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

/// The schemes, in the order in which help texts name them.
const SCHEMES: [(&str, Carrier, bool); 5] = [
    ("tcp", Carrier::Tcp, false),
    ("udp", Carrier::Udp, false),
    ("unix", Carrier::Unix, false),
    ("line", Carrier::Tcp, true),
    ("line+unix", Carrier::Unix, true),
];

/// How to write a URL, for who did not.
const FORMS: &str =
    "write tcp://HOST:PORT, udp://HOST:PORT, unix:///PATH, line://HOST:PORT or line+unix:///PATH";

/// The scheme of such a door: `tcp`, `udp`, `unix`, `line` or `line+unix`.
#[must_use]
pub fn scheme(carrier: Carrier, speaks: &Speaks) -> &'static str {
    let is_lines = matches!(speaks, Speaks::Lines(_));
    let found = SCHEMES.iter().find(|(_, of, lines)| *of == carrier && *lines == is_lines);
    // No URL stands for lines in datagrams.
    found.map_or("udp", |(scheme, ..)| scheme)
}

/// The URL of a UNIX socket, without parameters.
pub(super) fn write_path(f: &mut fmt::Formatter<'_>, scheme: &str, path: &Path) -> fmt::Result {
    let mut shown = EString::<encoder::Path>::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        shown.encode_str::<encoder::Path>(chunk.valid());
        chunk.invalid().iter().for_each(|byte| shown.push_estr(EStr::encode_byte(*byte)));
    }
    write!(f, "{scheme}://{shown}")
}

impl At {
    /// What carries its bytes.
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
    /// Its scheme: what access rules call the door unless it has a name of its own.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        scheme(self.at.carrier(), &self.door.speaks)
    }
}

impl FromStr for ListenUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        read(text).map_err(|why| {
            UrlError(format!("`{}` is not to be listened on: {why}", escape_short(text.as_bytes(), 80)))
        })
    }
}

fn read(text: &str) -> Result<ListenUrl, String> {
    if !text.contains("://") {
        return Err(format!("it has no scheme; {FORMS}"));
    }
    let url = Iri::parse(text).map_err(|error| explain(text, error))?;
    let typed = url.scheme().as_str();
    let known = SCHEMES.iter().find(|(scheme, ..)| scheme.eq_ignore_ascii_case(typed));
    let (scheme, carrier, is_lines) = *known
        .ok_or_else(|| format!("the scheme `{}` is unknown; {FORMS}", escape_short(typed.as_bytes(), 20)))?;
    if url.fragment().is_some() {
        return Err("a # begins what servers are never told; write %23, or leave it out".to_owned());
    }
    let authority = url.authority().unwrap_or(IAuthority::EMPTY);
    if authority.userinfo().is_some() {
        return Err("nobody logs in where a server listens; leave out what stands before the @".to_owned());
    }
    let mut parameters = Parameters::read(scheme, carrier, is_lines, url.query())?;
    let place = (scheme, authority, url.path());
    let at = match carrier {
        Carrier::Tcp => {
            let (host, port) = host_and_port(place, is_lines)?;
            At::Tcp { host, port, reuse_port: parameters.reuse_port()? }
        }
        Carrier::Udp => {
            let (host, port) = host_and_port(place, is_lines)?;
            At::Udp { host, port }
        }
        Carrier::Unix => At::Unix { path: socket_path(place)?, permissions: parameters.permissions()? },
    };
    Ok(ListenUrl { at, door: parameters.door(scheme, is_lines)? })
}

/// What a URL says before its parameters.
type Place<'a> = (&'static str, IAuthority<'a>, &'a EStr<encoder::IPath>);

fn host_and_port((scheme, authority, path): Place<'_>, is_lines: bool) -> Result<(String, u16), String> {
    if !path.is_empty() {
        return Err(format!("a path means nothing there; write {scheme}://HOST:PORT"));
    }
    let no_host =
        || format!("it has no host; write {scheme}://localhost:PORT, or {scheme}://[::]:PORT for all");
    let host = match authority.host_parsed() {
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
        Host::RegName(name) => name.decode().to_string().unwrap_or_default().into_owned(),
        _ => return Err("what stands in brackets is no IPv6 address; write [::1]".to_owned()),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
        return Err(no_host());
    }
    let port = authority.port_to_u16().map_err(|_| "its port is not from 0 to 65535; 0 takes a free one")?;
    Ok((host, port.unwrap_or(if is_lines { LINE_PORT } else { FRAME_PORT })))
}

fn socket_path((scheme, authority, path): Place<'_>) -> Result<PathBuf, String> {
    if !authority.as_str().is_empty() {
        return Err(format!("a socket in the file system has no host; write {scheme}:///PATH"));
    }
    let bytes = path.decode().to_bytes().into_owned();
    if bytes.contains(&0) {
        return Err("no path holds a NUL; leave out %00".to_owned());
    }
    if !bytes.starts_with(b"/") || bytes.ends_with(b"/") {
        return Err(format!("it names no file; write {scheme}:///PATH"));
    }
    Ok(OsString::from_vec(bytes).into())
}

/// What is wrong with a text that is no URL at all, RFC 3986 and RFC 3987.
fn explain(text: &str, error: ParseError) -> String {
    match error.kind() {
        ParseErrorKind::InvalidPctEncodedOctet => {
            "two hexadecimal digits must follow a %; write %25 for the sign itself".to_owned()
        }
        ParseErrorKind::InvalidIpv6Addr => {
            "what stands in brackets is no IPv6 address; write [::1]".to_owned()
        }
        ParseErrorKind::UnexpectedChar => {
            let found = text.get(error.index()..).and_then(|rest| rest.chars().next()).unwrap_or(' ');
            let shown = escape_short(found.encode_utf8(&mut [0; 4]).as_bytes(), 10).into_owned();
            format!("`{shown}` may not stand where it does; {FORMS}, and what else is in it as %XX")
        }
    }
}

/// The URL, with the parameters that are not what they are anyway; it reads back as the same.
impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match &self.at {
            At::Tcp { host, port, .. } | At::Udp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")?;
            }
            At::Tcp { host, port, .. } | At::Udp { host, port } => {
                let mut shown = EString::<encoder::RegName>::new();
                shown.encode_str::<encoder::RegName>(host);
                write!(f, "{scheme}://{shown}:{port}")?;
            }
            At::Unix { path, .. } => write_path(f, scheme, path)?,
        }
        parameters::write(f, self)
    }
}
