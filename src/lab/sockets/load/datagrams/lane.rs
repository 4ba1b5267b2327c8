//! A socket for datagrams with its sessions: the one exchange that is in progress, and its retransmissions. The phases
//! of a run, and its results, are in `datagrams`.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use crate::lab::load::peer::{DatagramPeer, Join};
use crate::lab::sockets::load::LoadError;
use crate::lab::sockets::load::sockets::refused;
use crate::net::udp::connected_to;

/// A session that the server keeps.
#[derive(Debug)]
struct Session {
    /// Its token.
    token: Vec<u8>,
    asked: u64,
}

/// The result of [`Lane::repeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// No datagram is in flight, or its timeout has not passed.
    NotDue,
    /// The datagram was sent once more.
    Sent,
    /// The datagram was sent often enough, and counts as lost.
    GaveUp,
}

/// A socket and its sessions, which are served in turn.
#[derive(Debug)]
pub(super) struct Lane {
    socket: UdpSocket,
    sessions: Vec<Session>,
    /// Number of completed exchanges: greeted names, or requests.
    turns: usize,
    /// Number of requests to make.
    goal: u64,
    /// The last datagram, the number of its sends, and the times of the first and the last.
    said: Vec<u8>,
    sends: u32,
    first: Instant,
    last: Instant,
    /// Whether its answer is awaited.
    is_waiting: bool,
}

impl Lane {
    /// Opens a socket to the server.
    pub(super) fn open(addr: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = connected(addr)?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        let now = Instant::now();
        Ok(Self {
            socket,
            sessions: Vec::new(),
            turns: 0,
            goal: 0,
            said: Vec::new(),
            sends: 0,
            first: now,
            last: now,
            is_waiting: false,
        })
    }

    /// Whether an answer is awaited.
    pub(super) const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Returns the number of open sessions.
    pub(super) const fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Receives a datagram.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer)
    }

    /// Sends the greeting of the next name. A name without a greeting is in at once.
    pub(super) fn greet<'a>(
        &mut self,
        peer: &dyn DatagramPeer,
        names: impl Fn(usize) -> Option<&'a String>,
    ) -> Result<(), LoadError> {
        self.is_waiting = false;
        while let Some(name) = names(self.turns) {
            match peer.join(name, None) {
                Join::Say(bytes) => {
                    self.say(bytes);
                    return Ok(());
                }
                Join::Ready(token) => self.opened(token),
                Join::Refused(why) => return Err(refused(name, &why)),
            }
        }
        Ok(())
    }

    /// Reads an answer to a greeting, and goes on to the next name. Returns whether it was awaited.
    pub(super) fn joined<'a>(
        &mut self,
        peer: &dyn DatagramPeer,
        names: impl Fn(usize) -> Option<&'a String>,
        heard: &[u8],
    ) -> Result<bool, LoadError> {
        let Some(name) = names(self.turns) else { return Ok(false) };
        match peer.join(name, Some(heard)) {
            Join::Say(bytes) if bytes == self.said => return Ok(false),
            Join::Say(bytes) => self.say(bytes),
            Join::Ready(token) => {
                self.opened(token);
                self.greet(peer, names)?;
            }
            Join::Refused(why) => return Err(refused(name, &why)),
        }
        Ok(true)
    }

    fn opened(&mut self, token: Vec<u8>) {
        self.sessions.push(Session { token, asked: 0 });
        self.turns += 1;
    }

    /// Begins so many requests with the first one.
    pub(super) fn begin(&mut self, goal: u64, peer: &dyn DatagramPeer, body: &[u8]) {
        (self.turns, self.goal) = (0, goal);
        self.ask(peer, body);
    }

    /// Sends the next request, if there is one.
    pub(super) fn ask(&mut self, peer: &dyn DatagramPeer, body: &[u8]) {
        let place = self.turns.checked_rem(self.sessions.len()).unwrap_or(0);
        let is_over = self.turns as u64 >= self.goal;
        let Some(session) = self.sessions.get_mut(place).filter(|_| !is_over) else { return };
        session.asked += 1;
        let mut bytes = std::mem::take(&mut self.said);
        bytes.clear();
        peer.request(&session.token, session.asked, body, &mut bytes);
        self.say(bytes);
    }

    /// Takes the answer to the request. Returns when the request was sent first; `None` if the datagram is not its
    /// answer.
    pub(super) fn answered(&mut self, peer: &dyn DatagramPeer, body: &[u8], heard: &[u8]) -> Option<Instant> {
        let session = self.sessions.get(self.turns.checked_rem(self.sessions.len())?)?;
        if !self.is_waiting || !peer.answers(&session.token, session.asked, body, heard) {
            return None;
        }
        self.turns += 1;
        self.is_waiting = false;
        Some(self.first)
    }

    /// Sends the end of the last session, if it needs one.
    pub(super) fn end(&mut self, peer: &dyn DatagramPeer) {
        self.is_waiting = false;
        let last = self.sessions.last();
        if let Some(bytes) = last.and_then(|session| peer.end_session(&session.token, session.asked + 1)) {
            self.say(bytes);
        }
    }

    /// Reads an answer to an end, and ends the next session. Returns whether it was awaited.
    pub(super) fn ended(&mut self, peer: &dyn DatagramPeer, heard: &[u8]) -> bool {
        let Some(session) = self.sessions.last().filter(|_| self.is_waiting) else { return false };
        if !peer.has_ended(&session.token, session.asked + 1, heard) {
            return false;
        }
        self.sessions.pop();
        self.end(peer);
        true
    }

    /// Sends a datagram that is to be answered.
    fn say(&mut self, bytes: Vec<u8>) {
        let now = Instant::now();
        // A datagram that the system does not accept counts as lost, and is retransmitted.
        let _ = self.socket.send(&bytes);
        (self.said, self.sends, self.first, self.last, self.is_waiting) = (bytes, 1, now, now, true);
    }

    /// Retransmits the datagram in flight, if its timeout has passed.
    pub(super) fn repeat(&mut self, now: Instant, timeout: Duration, max_sends: u32) -> Repeat {
        if !self.is_waiting || now.saturating_duration_since(self.last) < timeout {
            return Repeat::NotDue;
        }
        if self.sends >= max_sends {
            self.is_waiting = false;
            return Repeat::GaveUp;
        }
        (self.sends, self.last) = (self.sends + 1, now);
        // As in `say`.
        let _ = self.socket.send(&self.said);
        Repeat::Sent
    }
}

/// Opens a socket that sends to an address and receives from it alone.
pub(super) fn connected(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = connected_to(addr)?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket))
}
