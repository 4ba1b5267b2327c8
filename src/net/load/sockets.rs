//! Connections that are made and greeted one after the other, before anything is measured.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::LoadError;
use crate::escape::escape_short;
use crate::lab::load::peer::{Client, Heard, Peer, Step};

/// How long a server may take for an answer, or for anything at all, before it counts as stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Connects.
pub(super) fn connect(addr: SocketAddr) -> Result<TcpStream, LoadError> {
    let connected = TcpStream::connect_timeout(&addr, PATIENCE).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    });
    connected.map_err(|error| LoadError::Connection { doing: format!("connecting to {addr}"), error })
}

/// Connects and says what this client has to say, and waits for the answers.
pub(super) fn enter(addr: SocketAddr, peer: &dyn Peer, client: &Client<'_>) -> Result<TcpStream, LoadError> {
    let mut stream = connect(addr)?;
    for step in peer.greeting(client) {
        take(&mut stream, &step, client.name)?;
    }
    Ok(stream)
}

/// The same for a connection that never waits from now on.
pub(super) fn enter_nonblocking(
    addr: SocketAddr,
    peer: &dyn Peer,
    client: &Client<'_>,
) -> Result<mio::net::TcpStream, LoadError> {
    let stream = enter(addr, peer, client)?;
    stream.set_nonblocking(true)?;
    Ok(mio::net::TcpStream::from_std(stream))
}

/// Takes one step.
pub(super) fn take(stream: &mut TcpStream, step: &Step, who: &str) -> Result<(), LoadError> {
    let broken = |error| LoadError::Connection { doing: format!("talking to the server as `{who}`"), error };
    stream.write_all(&step.say).map_err(broken)?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        match step.hear.judge(&heard) {
            Heard::Complete => return Ok(()),
            Heard::Incomplete => {}
            Heard::Wrong => return Err(not_greeted(who, &heard)),
        }
        match stream.read(&mut buffer) {
            Ok(0) if heard.is_empty() => return Err(LoadError::Closed(who.to_owned())),
            Ok(0) => return Err(not_greeted(who, &heard)),
            Ok(n) => heard.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

pub(super) fn not_greeted(who: &str, heard: &[u8]) -> LoadError {
    LoadError::Greeting { who: who.to_owned(), why: said_instead(heard) }
}

/// What it means that a server says this instead of an answer.
pub(super) fn said_instead(heard: &[u8]) -> String {
    format!("the server said `{}`; is it of the kind that --peer names?", escape_short(heard, 80))
}
