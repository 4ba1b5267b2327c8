//! The connections of groups: their greetings, their ends, and the bytes that are written besides messages. Messages are
//! in `groups`.

use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::{GroupsPlan, READ};
use crate::lab::load::peer::{Client, Peer, Role};
use crate::lab::sockets::load::sockets::enter_nonblocking;
use crate::lab::sockets::load::target_server::TargetServer;
use crate::lab::sockets::load::{Interrupt, LoadError};

/// Limit on the time to end all sessions, and the interval of the checks.
const LEAVING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(2);

/// A connection of a group.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    pub(super) group: usize,
    /// Its index among the receivers; `None` is the sender.
    pub(super) place: Option<usize>,
    /// Bytes to write besides messages.
    pub(super) said: Vec<u8>,
    pub(super) is_writable: bool,
    pub(super) is_ready: bool,
}

impl Conn {
    /// Writes the pending bytes that fit; the rest follows the next time.
    pub(super) fn say(&mut self) -> io::Result<()> {
        while !self.said.is_empty() {
            match self.stream.write(&self.said) {
                Ok(n) => drop(self.said.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads and discards available bytes. Returns whether there may be more.
    fn is_open(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Connects all clients, one after the other. Those that succeeded are in `conns`, also after an error.
pub(super) fn enter(
    target: &TargetServer,
    peer: &Rc<dyn Peer>,
    plan: &GroupsPlan,
    interrupt: &Interrupt,
    conns: &mut Vec<Conn>,
) -> Result<(), LoadError> {
    for (group, spec) in plan.specs.iter().enumerate() {
        let receivers = spec.receivers.iter().enumerate();
        let receivers = receivers.map(|(place, name)| (name, Role::Receiver, Some(place)));
        for (name, role, place) in [(&spec.sender, Role::Sender, None)].into_iter().chain(receivers) {
            interrupt.check()?;
            let client = Client { name, role, room: spec.room.as_deref() };
            let stream = enter_nonblocking(target.addr, peer.as_ref(), &client)?;
            conns.push(Conn { stream, group, place, said: Vec::new(), is_writable: true, is_ready: false });
        }
    }
    Ok(())
}

/// Ends all sessions that the server would keep, if it continues after the run. Waits, within a bound, until it has
/// closed their connections: a close with unread input may destroy the last bytes sent.
pub(super) fn leave(target: &TargetServer, peer: &dyn Peer, conns: &mut Vec<Conn>) {
    if !target.goes_on() || !peer.keeps_sessions() {
        return;
    }
    for conn in conns.iter_mut() {
        conn.said.extend_from_slice(&peer.end_session().say);
    }
    let (ends_at, mut buffer) = (Instant::now() + LEAVING, vec![0; READ]);
    while !conns.is_empty() && Instant::now() < ends_at {
        conns.retain_mut(|conn| conn.say().is_ok() && conn.is_open(&mut buffer));
        std::thread::sleep(LOOK);
    }
}
