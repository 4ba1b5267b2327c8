//! The input side of a loop: accepting, receiving datagrams, and reading from connections.

use std::collections::VecDeque;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use nix::sys::socket::MsgFlags;

use super::loop_handle::{LoopHandle, PollPort, Subject};
use super::worker::Worker;
use crate::net::engine::SOCKET_BUDGET;
use crate::net::engine::connection::{Connection, Mode, Socket};
use crate::net::engine::engine_core::{Input, exceeds_discard_limit};
use crate::net::rt;
use crate::service::{Arrival, ConnId, ListenerId, Service};

/// Most bytes per read, and how many are read before the resulting output is written.
pub(super) const READ_SIZE: usize = 64 << 10;

/// From how many connections is read before the resulting output is written, while the system still has their
/// state in the cache.
const READS: usize = 32;

/// Most bytes that one turn reads.
const READ_PER_TURN: usize = 1 << 20;

/// A connection that a loop reads from.
#[derive(Debug)]
pub(super) struct Reader<S: Service> {
    pub(super) connection: Arc<Connection<PollPort>>,
    intake: S::Conn,
    /// Bytes that were read and discarded.
    discarded: u32,
    /// It is in `ready`.
    is_queued: bool,
    /// The peer has closed: the end follows the readable bytes, and no other event reports it.
    pub(super) is_ending: bool,
    /// Reading has ended.
    has_ended: bool,
}

impl<S: Service> Reader<S> {
    pub(super) const fn new(connection: Arc<Connection<PollPort>>, intake: S::Conn) -> Self {
        Self { connection, intake, discarded: 0, is_queued: false, is_ending: false, has_ended: false }
    }

    /// Queues it for reading.
    pub(super) fn queue(&mut self, place: usize, ready: &mut VecDeque<usize>) {
        if !std::mem::replace(&mut self.is_queued, true) {
            ready.push_back(place);
        }
    }
}

impl<S: Service + 'static> Worker<S> {
    /// Reads once from each ready connection, within the limits of a turn.
    pub(super) fn read(&mut self) {
        let (mut bytes, mut unflushed) = (0, 0);
        for nth in 1..=self.ready.len().min(SOCKET_BUDGET) {
            let Some(place) = self.ready.pop_front() else { return };
            unflushed += self.read_once(place);
            if unflushed >= READ_SIZE || nth % READS == 0 {
                bytes += std::mem::take(&mut unflushed);
                self.flush();
            }
            if bytes >= READ_PER_TURN {
                return;
            }
        }
    }

    /// Returns how many bytes were read.
    fn read_once(&mut self, place: usize) -> usize {
        let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) else { return 0 };
        reader.is_queued = false;
        // A paused connection is queued again when it is resumed.
        if reader.connection.mode() == Mode::Paused {
            return 0;
        }
        let connection = reader.connection.clone();
        // Another loop may not have shut down the socket yet: a read would find nothing, and no event would
        // follow.
        if reader.has_ended || connection.mode() == Mode::Gone {
            self.forget(&connection);
            return 0;
        }
        let (is_first, deadline, pending) = (self.nth == 0, &mut self.deadline, &mut self.pending);
        let is_dirty = &mut self.is_dirty;
        let is_last = self.ready.is_empty();
        let buffer = (&mut self.buffer[..], MsgFlags::MSG_DONTWAIT);
        let input = self.core.read(&reader.connection, &mut reader.intake, buffer, |core, batch| {
            core.with(|shared, now| {
                shared.received(now, &connection, batch, pending);
                if is_last {
                    shared.collect(now, pending);
                }
                if is_first {
                    *deadline = shared.set_alarm();
                }
            });
            *is_dirty |= !is_last;
        });
        self.go_on(place, input)
    }

    /// Handles the result of a read. Returns how many bytes were read.
    fn go_on(&mut self, place: usize, input: Input) -> usize {
        let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) else { return 0 };
        match input {
            Input::Taken { count, full } => {
                if full || reader.is_ending {
                    reader.queue(place, &mut self.ready);
                }
                count
            }
            Input::Discarded { count, full } if !exceeds_discard_limit(&mut reader.discarded, count) => {
                if full || reader.is_ending {
                    reader.queue(place, &mut self.ready);
                }
                count
            }
            Input::Nothing => 0,
            Input::End => self.end_reading(place, false),
            Input::Discarded { .. } | Input::Lost => self.end_reading(place, true),
        }
    }

    fn end_reading(&mut self, place: usize, is_lost: bool) -> usize {
        let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) else { return 0 };
        reader.has_ended = true;
        let connection = reader.connection.clone();
        self.with(|shared, now, pending| shared.read_ended(now, connection.id, is_lost, pending));
        self.is_dirty = true;
        self.forget(&connection);
        0
    }

    /// Receives a batch from each datagram socket that may have some.
    pub(super) fn receive(&mut self) {
        for id in self.datagrams.take_ready() {
            self.receive_at(id);
        }
    }

    fn receive_at(&mut self, id: ListenerId) {
        let core = self.core.clone();
        let received = core.receive(id, |_, datagrams| {
            while self.with(|shared, now, pending| {
                let is_spent = shared.datagrams(now, datagrams);
                shared.collect(now, pending);
                is_spent
            }) {}
        });
        match received {
            Ok(true) => self.datagrams.notice(id),
            Ok(false) => {}
            Err(error) => self.datagrams.fail(id, &error),
        }
    }

    /// Accepts connections, within the limits of a turn.
    pub(super) fn accept(&mut self) {
        let core = self.core.clone();
        let Some(mut acceptor) = self.acceptor.take() else { return };
        if let Ok(listeners) = core.backend.listeners.lock() {
            acceptor.accept(&listeners, |socket, origin| self.open(socket, origin.into()));
        }
        self.acceptor = Some(acceptor);
    }

    pub(super) fn open(&mut self, socket: Socket, arrival: Arrival) {
        let core = self.core.clone();
        let fd = socket.as_raw_fd();
        let loop_handle = |id: ConnId| core.backend.handle_of(id.place());
        let own = self.wakeup.clone();
        let (connection, intake) = self.with(|shared, now, _| {
            shared.open(now, arrival, |id| {
                PollPort::new(socket, loop_handle(id).map_or(&own, LoopHandle::wakeup))
            })
        });
        log::debug!("{arrival}: connection {}", connection.id.0);
        self.is_dirty = true;
        let Some(loop_handle) = loop_handle(connection.id) else { return };
        if connection.port.loop_index() == self.nth {
            self.adopt(connection.clone(), intake);
        } else {
            loop_handle.post(|inbox| inbox.opened.push((connection.clone(), intake)));
        }
        // Only now, so that the first event finds the reader.
        if let Err(error) = loop_handle.register(fd, Subject::Conn(connection.id.place())) {
            if let Some(times) = self.warnings.count(rt::now()) {
                log::warn!("{arrival}: cannot wait for a connection ({times} times): {error}");
            }
            self.with(|shared, now, pending| shared.read_ended(now, connection.id, true, pending));
            // No event would make the loop drop it.
            self.resume(&connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mio::Poll;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::super::Loops;
    use super::super::loop_handle::handles;
    use super::*;
    use crate::config::ServerConfig;
    use crate::net::engine::connection::Write;
    use crate::net::engine::engine_core::EngineCore;
    use crate::net::engine::pending_io::PendingIo;
    use crate::output::Output;
    use crate::server::Server;
    use crate::service::{Origin, Remote};

    /// A single loop that does not run.
    fn worker() -> Worker<Server> {
        let service =
            Server::new(rt::now(), ServerConfig::default(), Box::new(ChaCha20Rng::seed_from_u64(1)));
        let polls = [Poll::new().unwrap()];
        let handles = handles(&polls).unwrap();
        let wakeup = handles[0].wakeup().clone();
        let core =
            Arc::new(EngineCore::new(service, Vec::new(), Loops { handles, listeners: Mutex::default() }));
        let [poll] = polls;
        Worker::new(core, (0, wakeup), poll)
    }

    #[test]
    fn a_connection_ended_by_another_loop_is_dropped_before_it_is_shut_down() {
        let mut worker = worker();
        let (ours, _theirs) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        worker.open(ours, Origin { listener: 0, from: Remote::Unix { uid: 0, gid: 0 } }.into());
        let connection = worker.readers[0].as_ref().unwrap().connection.clone();
        // The other loop has not come to its shutdown yet.
        let mut pending_of_other = PendingIo::default();
        let others = &mut pending_of_other;
        worker.core.with(|shared, now| shared.read_ended(now, connection.id, true, others));
        worker.resume(&connection);
        worker.read();
        assert!(worker.readers[0].is_none());
    }

    #[test]
    fn a_turn_continues_blocked_writes_up_to_its_limit() {
        let mut worker = worker();
        let mut peers = Vec::new();
        for nth in 0..3 {
            let (ours, theirs) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            worker.open(ours, Origin { listener: 0, from: Remote::Unix { uid: 0, gid: 0 } }.into());
            peers.push(theirs);
            let connection = worker.readers[nth].as_ref().unwrap().connection.clone();
            let mut bytes = Output::default();
            bytes.append(vec![b'x'; 8]);
            worker.core.with(|shared, _| shared.park(Write::new(connection, bytes, false)));
        }
        let ids: Vec<_> = worker.readers.iter().flatten().map(|reader| reader.connection.id).collect();
        // These are gone meanwhile.
        worker.writable.extend([ids[0], ids[1]]);
        worker.writable.extend((9..).take(SOCKET_BUDGET - 2).map(|place| ConnId::new(place, 0)));
        worker.writable.push_back(ids[2]);
        worker.unpark();
        assert_eq!((worker.pending.writes.len(), worker.writable.len()), (2, 1));
        worker.pending = PendingIo::default();
        assert_eq!(worker.timeout(), Some(std::time::Duration::ZERO), "it goes on at once");
        worker.unpark();
        assert_eq!((worker.pending.writes.len(), worker.writable.len()), (1, 0));
    }
}
