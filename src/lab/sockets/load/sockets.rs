//! Connections that are made and greeted one after the other, before a measurement, and the errors of greetings.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::LoadError;
use crate::escape::escape_short;
use crate::lab::load::peer::{Client, Heard, Peer, Step};

/// Time without progress after which a server counts as stuck.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to one address, blocking: the runtime of `net::outgoing` would add its wake-ups to the measured times.
pub(super) fn connect(addr: SocketAddr) -> Result<TcpStream, LoadError> {
    let connected = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(stream)
    });
    connected.map_err(|error| LoadError::Connection { doing: format!("connecting to {addr}"), error })
}

/// Connects, and performs the greeting of this client.
pub(super) fn enter(addr: SocketAddr, peer: &dyn Peer, client: &Client<'_>) -> Result<TcpStream, LoadError> {
    let mut stream = connect(addr)?;
    for step in peer.greeting(client) {
        take(&mut stream, &step, client.name)?;
    }
    Ok(stream)
}

/// The same, for a connection that is nonblocking from then on.
pub(super) fn enter_nonblocking(
    addr: SocketAddr,
    peer: &dyn Peer,
    client: &Client<'_>,
) -> Result<mio::net::TcpStream, LoadError> {
    let stream = enter(addr, peer, client)?;
    stream.set_nonblocking(true)?;
    Ok(mio::net::TcpStream::from_std(stream))
}

/// Performs one step of a greeting.
pub(super) fn take(stream: &mut TcpStream, step: &Step, who: &str) -> Result<(), LoadError> {
    let broken = |error| LoadError::Connection { doing: format!("talking to the server as `{who}`"), error };
    stream.write_all(&step.say).map_err(broken)?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        match step.hear.check(&heard) {
            Heard::Complete => return Ok(()),
            Heard::Incomplete => {}
            Heard::Wrong => return Err(not_greeted(who, &heard)),
        }
        match stream.read(&mut buffer) {
            Ok(0) if heard.is_empty() => return Err(LoadError::Closed(who.to_owned())),
            Ok(0) => return Err(not_greeted(who, &heard)),
            Ok(n) => heard.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(unanswered(who, &heard)),
            Err(error) => return Err(broken(error)),
        }
    }
}

pub(super) fn not_greeted(who: &str, heard: &[u8]) -> LoadError {
    LoadError::Greeting { who: who.to_owned(), why: said_instead(heard) }
}

/// The error that the server refused a client with these words.
pub(super) fn refused(who: &str, words: &str) -> LoadError {
    LoadError::Greeting { who: who.to_owned(), why: refusal(words) }
}

/// Explains an error of our server, and says what to do.
fn refusal(words: &str) -> String {
    let advice = match words.split(' ').next() {
        Some("409") => {
            "; a run that was killed may have left it, until the server's --linger or --idle is over"
        }
        Some("403") => "; its access rules do not let it in",
        Some("429" | "503") => "; it takes no more now, try again later",
        _ => "",
    };
    format!("the server refused it: {words}{advice}")
}

/// Returns the first ERR of our server in the bytes: `409 Name taken!`.
fn error_words(heard: &[u8]) -> Option<String> {
    let at = heard.windows(4).position(|window| window == b"ERR ")?;
    let rest = heard.get(at + 4..)?;
    let length = std::str::from_utf8(rest.get(..4)?).ok()?.parse::<usize>().ok()?;
    let args = rest.get(4..).unwrap_or_default();
    let args = args.get(..length).unwrap_or(args).strip_prefix(b" ")?;
    let is_code = args.len() >= 3 && args.iter().take(3).all(u8::is_ascii_digit);
    is_code.then(|| escape_short(args, 80).into_owned())
}

/// Whether an error is a timeout.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Explains bytes that came instead of an answer.
pub(super) fn said_instead(heard: &[u8]) -> String {
    let says = |words: &[u8]| heard.windows(words.len()).any(|window| window == words);
    if says(b"ERR ") && says(b" Server full!") {
        "the server is full: raise its --max-connections, or the limit of open files".to_owned()
    } else if heard.starts_with(b"BYE 0000") {
        "the server sent BYE".to_owned()
    } else if let Some(words) = error_words(heard) {
        refusal(&words)
    } else {
        format!("the server said `{}`; is it of the kind that --peer names?", escape_short(heard, 80))
    }
}

/// The error that the server has sent no more than this in time.
fn unanswered(who: &str, heard: &[u8]) -> LoadError {
    let said = match escape_short(heard, 80) {
        said if said.is_empty() => "no answer".to_owned(),
        said => format!("the server said `{said}` and no more"),
    };
    let why = format!("{said} within {} s; is it of the kind that --peer names?", ANSWER_TIMEOUT.as_secs());
    LoadError::Greeting { who: who.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_answer_is_explained_with_what_to_do() {
        let full = said_instead(b"ERR 0013 Server full!BYE 0000");
        assert!(full.starts_with("the server is full: raise its --max-connections"), "{full}");
        assert_eq!(said_instead(b"BYE 0000"), "the server sent BYE");
        assert_eq!(
            said_instead(b"@1 ERR 0016 409 Name taken!ACK 0006 ready"),
            "the server refused it: 409 Name taken!; a run that was killed may have left it, until the server's --linger or --idle is over"
        );
        assert_eq!(said_instead(b"@1 ERR 0010 400 what?"), "the server refused it: 400 what?");
        let other = said_instead(b"-ERR\r\n");
        assert_eq!(other, r"the server said `-ERR\x0d\x0a`; is it of the kind that --peer names?");
    }

    #[test]
    fn a_missing_or_incomplete_answer_is_reported_with_the_bytes_received() {
        let silent = unanswered("c1", b"").to_string();
        assert!(
            silent.starts_with("the handshake of `c1` failed: no answer within 10 s; is it of the kind"),
            "{silent}"
        );
        let short = unanswered("c1", b"INFO").to_string();
        assert!(short.contains("the server said `INFO` and no more within 10 s; "), "{short}");
    }
}
