//! Reading a listener URL, and explaining what is wrong with one. Its parameters are read in `parameters`.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use fluent_uri::component::{Host, IAuthority};
use fluent_uri::pct_enc::{EStr, encoder};
use fluent_uri::{Iri, ParseError, ParseErrorKind};

use super::{At, Carrier, FORMS, FRAME_PORT, LINE_PORT, ListenUrl, SCHEMES, UrlError};
use crate::escape::escape_short;
use crate::listener::Framing;
use crate::net::listen::parameters::Parameters;

impl FromStr for ListenUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        read(text).map_err(UrlError)
    }
}

fn read(text: &str) -> Result<ListenUrl, String> {
    if !text.contains("://") {
        return Err(format!("it has no scheme; {FORMS}"));
    }
    let url = Iri::parse(text).map_err(|error| explain(text, error))?;
    let typed = url.scheme().as_str();
    let known = SCHEMES.iter().find(|(scheme, ..)| scheme.eq_ignore_ascii_case(typed));
    let (scheme, carrier, framing) = *known
        .ok_or_else(|| format!("the scheme `{}` is unknown; {FORMS}", escape_short(typed.as_bytes(), 20)))?;
    if url.fragment().is_some() {
        return Err("a # begins what servers are never told; write %23, or leave it out".to_owned());
    }
    let authority = url.authority().unwrap_or(IAuthority::EMPTY);
    if authority.userinfo().is_some() {
        return Err("the URL of a listener has no user; leave out the part before the @".to_owned());
    }
    let mut parameters = Parameters::read(scheme, carrier, framing, url.query())?;
    let target = (scheme, authority, url.path());
    let at = match carrier {
        Carrier::Tcp => {
            let (host, port) = host_and_port(target, framing)?;
            At::Tcp { host, port, reuse_port: parameters.reuse_port()?, only_v6: parameters.only_v6()? }
        }
        Carrier::Udp => {
            let (host, port) = host_and_port(target, framing)?;
            At::Udp { host, port, only_v6: parameters.only_v6()? }
        }
        Carrier::Unix => At::Unix { path: socket_path(target)?, permissions: parameters.permissions()? },
    };
    Ok(ListenUrl { at, listener: parameters.listener(scheme, framing)? })
}

/// The parts of a URL before its parameters.
type Target<'a> = (&'static str, IAuthority<'a>, &'a EStr<encoder::IPath>);

fn host_and_port((scheme, authority, path): Target<'_>, framing: Framing) -> Result<(String, u16), String> {
    if !path.is_empty() {
        return Err(format!("a path means nothing there; write {scheme}://HOST:PORT"));
    }
    let no_host =
        || format!("it has no host; write {scheme}://localhost:PORT, or {scheme}://[::]:PORT for all");
    let host = match authority.host_parsed() {
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
        // As elsewhere on a command line, an empty host with a port is this machine.
        Host::RegName(name) if name.is_empty() && authority.port().is_some() => "localhost".to_owned(),
        Host::RegName(name) => {
            name.decode().to_string().ok().filter(|name| is_host(name)).ok_or_else(no_host)?.into_owned()
        }
        _ => return Err("what stands in brackets is no IPv6 address; write [::1]".to_owned()),
    };
    let port = authority.port_to_u16().map_err(|_| "the port is not from 0 to 65535; 0 takes a free one")?;
    let usual = match framing {
        Framing::Frames => Some(FRAME_PORT),
        Framing::Lines => Some(LINE_PORT),
        Framing::Messages | Framing::Bytes => None,
    };
    let port = port.or(usual).ok_or_else(|| format!("it names no port; write {scheme}://HOST:PORT"))?;
    Ok((host, port))
}

/// Whether the resolver can be asked for it; a colon would make it an address.
fn is_host(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':')
}

fn socket_path((scheme, authority, path): Target<'_>) -> Result<PathBuf, String> {
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

/// The error in a text that is not a URL, RFC 3986 and RFC 3987.
fn explain(text: &str, error: ParseError) -> String {
    match error.kind() {
        ParseErrorKind::InvalidPctEncodedOctet => {
            "two hexadecimal digits must follow a %; write %25 for the sign itself".to_owned()
        }
        ParseErrorKind::InvalidIpv6Addr => {
            "what stands in brackets is no IPv6 address; write [::1]".to_owned()
        }
        ParseErrorKind::UnexpectedChar => {
            if let Some(why) = explain_authority(text, error.index()) {
                return why;
            }
            let found = text.get(error.index()..).and_then(|rest| rest.chars().next()).unwrap_or(' ');
            let shown = escape_short(found.encode_utf8(&mut [0; 4]).as_bytes(), 10).into_owned();
            format!("`{shown}` may not stand where it does; {FORMS}, and what else is in it as %XX")
        }
    }
}

/// The error in the host and port, if they are the part that does not parse.
fn explain_authority(text: &str, at: usize) -> Option<String> {
    let begin = text.find("://")? + "://".len();
    let rest = text.get(begin..)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = authority.rsplit_once(':')?;
    let shown = |text: &str| escape_short(text.as_bytes(), 40).into_owned();
    if at < begin || at > begin + authority.len() {
        return None;
    }
    if host.contains(':') && !host.starts_with('[') {
        let address = if host.parse::<Ipv6Addr>().is_ok() {
            format!("[{host}]:{port}")
        } else {
            "[::1]:PORT".to_owned()
        };
        return Some(format!("an IPv6 address stands in brackets; write {}", shown(&address)));
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    (!is_number).then(|| format!("the port `{}` is not a number; write one from 0 to 65535", shown(port)))
}
