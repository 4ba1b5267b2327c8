//! The streams of the baseline: connections that receive their own bytes or another connection's. One readiness loop,
//! one buffer for all.
//!
//! Bytes are written to their target as soon as they are read. If they do not fit, the rest is kept, and reading from
//! their source is paused until it is written: nothing is dropped. The pairing of connections is in `lab::baseline`.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::lab::baseline::{Pattern, Target, Wiring};
use crate::net::accept::is_of_one_connection;

/// Bound on the bytes of one read.
const READ: usize = 64 << 10;

/// Bound on the events of one wakeup.
const EVENTS: usize = 1_024;

/// The listener's token; connections count up from 0.
const LISTENER: Token = Token(usize::MAX);

/// A connection.
#[derive(Debug)]
struct Conn {
    stream: TcpStream,
    /// Bytes that did not fit into the socket; usually empty.
    unsent: Vec<u8>,
    /// Number of its targets with unsent bytes: reading is paused while it is not 0.
    blocked: usize,
    /// Whether there may be something to read.
    readable: bool,
    /// Whether the peer has closed its side; bytes before that may still be unread.
    ended: bool,
    /// Whether it is queued for reading.
    queued: bool,
    /// Whether it closes after its unsent bytes, because its source is gone.
    ending: bool,
}

/// All connections, and the queue of those to read.
struct Streams {
    conns: Slab<Conn>,
    wiring: Wiring,
    next: VecDeque<usize>,
    buffer: Vec<u8>,
}

/// Serves until the process ends.
///
/// # Errors
///
/// The system cannot wait for readiness.
pub(super) fn serve(pattern: Pattern, listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut streams = Streams {
        conns: Slab::new(),
        wiring: Wiring::new(pattern),
        next: VecDeque::new(),
        buffer: vec![0; READ],
    };
    loop {
        let timeout = (!streams.next.is_empty()).then_some(Duration::ZERO);
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => streams.accept(&poll, &listener),
                Token(key) => streams.happened(key, event),
            }
        }
        streams.turn();
    }
}

impl Streams {
    /// Accepts every waiting connection. A connection that cannot be accepted stays in the backlog.
    fn accept(&mut self, poll: &Poll, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let entry = self.conns.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let is_ready = stream.set_nodelay(true).is_ok()
                        && poll.registry().register(&mut stream, Token(entry.key()), interest).is_ok();
                    if is_ready {
                        let key = entry.key();
                        entry.insert(Conn {
                            stream,
                            unsent: Vec::new(),
                            blocked: 0,
                            readable: false,
                            ended: false,
                            queued: false,
                            ending: false,
                        });
                        if let Some(waiting) = self.wiring.opened(key) {
                            self.queue(waiting);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => return log::warn!("cannot accept a connection: {error}"),
            }
        }
    }

    fn happened(&mut self, key: usize, event: &Event) {
        if event.is_writable() {
            self.flush(key);
        }
        if (event.is_readable() || event.is_read_closed())
            && let Some(conn) = self.conns.get_mut(key)
        {
            conn.readable = true;
            conn.ended |= event.is_read_closed();
            self.queue(key);
        }
    }

    /// Queues a connection for reading, if it can be read.
    fn queue(&mut self, key: usize) {
        if let Some(conn) = self.conns.get_mut(key)
            && conn.readable
            && conn.blocked == 0
            && !std::mem::replace(&mut conn.queued, true)
        {
            self.next.push_back(key);
        }
    }

    /// Reads once from each queued connection, so that none delays the others.
    fn turn(&mut self) {
        for _ in 0..self.next.len() {
            let Some(key) = self.next.pop_front() else { return };
            self.pass(key);
            self.queue(key);
        }
    }

    /// Reads once from a connection, and writes the bytes to their target.
    fn pass(&mut self, key: usize) {
        let target = self.wiring.target(key);
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.queued = false;
        if target == Target::Later || conn.blocked > 0 {
            return;
        }
        match conn.stream.read(&mut self.buffer) {
            Ok(0) => self.close(key),
            Ok(count) => {
                // A short read has emptied the socket; later bytes cause a new event. An end that came with the bytes
                // read causes none.
                conn.readable = count == READ || conn.ended;
                self.deliver(key, target, count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => conn.readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.close(key),
        }
    }

    fn deliver(&mut self, from: usize, target: Target, count: usize) {
        let buffer = std::mem::take(&mut self.buffer);
        let bytes = buffer.get(..count).unwrap_or_default();
        match target {
            Target::One(to) => self.write(from, to, bytes),
            Target::Members => {
                for at in 0..self.wiring.members().len() {
                    if let Some(to) = self.wiring.members().get(at) {
                        self.write(from, *to, bytes);
                    }
                }
            }
            Target::Later | Target::Nowhere => {}
        }
        self.buffer = buffer;
    }

    /// Writes the bytes that fit, and keeps the rest. A lost connection is detected when it is read.
    fn write(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(to) else { return };
        let Ok(rest) = write_some(&mut conn.stream, bytes) else { return };
        if rest.is_empty() {
            return;
        }
        conn.unsent.extend_from_slice(rest);
        if let Some(conn) = self.conns.get_mut(from) {
            conn.blocked += 1;
        }
    }

    /// Writes the kept bytes; once all are written, reading from the source resumes.
    fn flush(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.unsent.is_empty()) else { return };
        let left = write_some(&mut conn.stream, &conn.unsent).map_or(0, <[u8]>::len);
        conn.unsent.drain(..conn.unsent.len() - left);
        match (left, conn.ending) {
            (0, true) => self.close(key),
            (0, false) => self.unblock(key),
            _ => {}
        }
    }

    /// Resumes the source of a target without unsent bytes.
    fn unblock(&mut self, key: usize) {
        let Some(source) = self.wiring.source(key) else { return };
        if let Some(conn) = self.conns.get_mut(source) {
            conn.blocked = conn.blocked.saturating_sub(1);
        }
        self.queue(source);
    }

    /// Closes a connection, and those that it alone feeds.
    fn close(&mut self, key: usize) {
        let Some(conn) = self.conns.try_remove(key) else { return };
        if !conn.unsent.is_empty() && !conn.ending {
            self.unblock(key);
        }
        for left in self.wiring.closed(key) {
            match self.conns.get_mut(left) {
                Some(conn) if !conn.unsent.is_empty() => conn.ending = true,
                _ => drop(self.conns.try_remove(left)),
            }
        }
    }
}

/// Writes until the socket is full. Returns the rest.
///
/// # Errors
///
/// The connection is lost.
fn write_some<'a>(stream: &mut TcpStream, mut bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
