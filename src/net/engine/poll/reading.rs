//! What comes in to a loop: connections, datagrams, and what is said on connections.

use std::collections::VecDeque;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use nix::sys::socket::MsgFlags;

use super::loop_handle::{LoopHandle, Polled, Subject};
use super::worker::Worker;
use crate::net::engine::TURN;
use crate::net::engine::connection::{Connection, Mode, Socket};
use crate::net::engine::engine_core::{Input, is_too_much};
use crate::net::rt;
use crate::service::{Arrival, ConnId, DoorId, Service};

/// What is read at once, and after how much of it what it made sendable is written.
pub(super) const READ_SIZE: usize = 64 << 10;

/// From how many connections is read before what that made sendable is written: while the system still has at hand what it
/// knows of them.
const READS: usize = 32;

/// How much one wake-up reads.
const READ_PER_TURN: usize = 1 << 20;

/// A connection that a loop reads from.
#[derive(Debug)]
pub(super) struct Reader<S: Service> {
    pub(super) link: Arc<Connection<Polled>>,
    intake: S::Conn,
    /// Bytes that were read for nobody.
    discarded: u32,
    /// It is among those that may have something.
    is_queued: bool,
    /// Its end is behind what can be read, and nothing else will say so.
    pub(super) is_ending: bool,
    /// Nothing more is read from it.
    has_ended: bool,
}

impl<S: Service> Reader<S> {
    pub(super) const fn new(link: Arc<Connection<Polled>>, intake: S::Conn) -> Self {
        Self { link, intake, discarded: 0, is_queued: false, is_ending: false, has_ended: false }
    }

    /// It may have something.
    pub(super) fn queue(&mut self, place: usize, ready: &mut VecDeque<usize>) {
        if !std::mem::replace(&mut self.is_queued, true) {
            ready.push_back(place);
        }
    }
}

impl<S: Service + 'static> Worker<S> {
    /// Reads from those that may have something, once each, and not more than a turn may.
    pub(super) fn read(&mut self) {
        let (mut bytes, mut unflushed) = (0, 0);
        for nth in 1..=self.ready.len().min(TURN) {
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
        // A paused one comes again when it is resumed.
        if reader.link.mode() == Mode::Paused {
            return 0;
        }
        let link = reader.link.clone();
        // One that is gone may not have been shut down yet by who says so: an attempt to read would find nothing, and nobody
        // would come back for it.
        if reader.has_ended || link.mode() == Mode::Gone {
            self.forget(&link);
            return 0;
        }
        let (is_first, deadline, work) = (self.nth == 0, &mut self.deadline, &mut self.work);
        let is_dirty = &mut self.is_dirty;
        let is_last = self.ready.is_empty();
        let buffer = (&mut self.buffer[..], MsgFlags::MSG_DONTWAIT);
        let input = self.core.read(&reader.link, &mut reader.intake, buffer, |core, batch| {
            core.with(|shared, now| {
                shared.received(now, &link, batch, work);
                if is_last {
                    shared.collect(now, work);
                }
                if is_first {
                    *deadline = shared.set_alarm();
                }
            });
            *is_dirty |= !is_last;
        });
        self.go_on(place, input)
    }

    /// What follows from what was read.
    fn go_on(&mut self, place: usize, input: Input) -> usize {
        let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) else { return 0 };
        match input {
            Input::Taken { count, full } => {
                if full || reader.is_ending {
                    reader.queue(place, &mut self.ready);
                }
                count
            }
            Input::Discarded { count, full } if !is_too_much(&mut reader.discarded, count) => {
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
        let link = reader.link.clone();
        self.with(|shared, now, work| shared.read_ended(now, link.id, is_lost, work));
        self.is_dirty = true;
        self.forget(&link);
        0
    }

    /// Receives from the doors for datagrams that may have some, a batch each.
    pub(super) fn receive(&mut self) {
        for id in self.datagrams.take_ready() {
            self.receive_at(id);
        }
    }

    fn receive_at(&mut self, id: DoorId) {
        let core = self.core.clone();
        let received = core.receive(id, |_, datagrams| {
            while self.with(|shared, now, work| {
                let is_spent = shared.datagrams(now, datagrams);
                shared.collect(now, work);
                is_spent
            }) {}
        });
        match received {
            Ok(true) => self.datagrams.notice(id),
            Ok(false) => {}
            Err(error) => self.datagrams.fail(id, &error),
        }
    }

    /// Accepts connections, as many as a turn may.
    pub(super) fn accept(&mut self) {
        let core = self.core.clone();
        let Some(mut acceptor) = self.acceptor.take() else { return };
        if let Ok(listeners) = core.backend.listeners.lock() {
            acceptor.accept(&listeners, |socket, origin| self.welcome(socket, origin.into()));
        }
        self.acceptor = Some(acceptor);
    }

    pub(super) fn welcome(&mut self, socket: Socket, arrival: Arrival) {
        let core = self.core.clone();
        let fd = socket.as_raw_fd();
        let loop_handle = |id: ConnId| core.backend.handle_of(id.place());
        let own = self.wakeup.clone();
        let (link, intake) = self.with(|shared, now, _| {
            shared.open(now, arrival, |id| {
                Polled::new(socket, loop_handle(id).map_or(&own, LoopHandle::wakeup))
            })
        });
        log::debug!("{arrival}: connection {}", link.id.0);
        self.is_dirty = true;
        let Some(loop_handle) = loop_handle(link.id) else { return };
        if link.port.loop_handle() == self.nth {
            self.adopt(link.clone(), intake);
        } else {
            loop_handle.leave(|inbox| inbox.opened.push((link.clone(), intake)));
        }
        // Only now, so that whoever is told finds it.
        if let Err(error) = loop_handle.register(fd, Subject::Conn(link.id.place())) {
            if let Some(times) = self.complaints.count(rt::now()) {
                log::warn!("{arrival}: cannot wait for a connection ({times} times): {error}");
            }
            self.with(|shared, now, work| shared.read_ended(now, link.id, true, work));
            // Nothing else would have its loop let go of it.
            self.resume(&link);
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

    /// A loop that is alone and does not run.
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
    fn a_connection_that_another_loop_has_ended_is_let_go_of_before_it_is_shut_down() {
        let mut worker = worker();
        let (ours, _theirs) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        worker.welcome(ours, Origin { door: 0, from: Remote::Unix { uid: 0, gid: 0 } }.into());
        let link = worker.readers[0].as_ref().unwrap().link.clone();
        // What is to be shut down is with the other loop, which has not come to it.
        let mut work_of_the_other = PendingIo::default();
        let others = &mut work_of_the_other;
        worker.core.with(|shared, now| shared.read_ended(now, link.id, true, others));
        worker.resume(&link);
        worker.read();
        assert!(worker.readers[0].is_none());
    }

    #[test]
    fn one_turn_goes_on_with_so_many_writes_that_waited_and_the_next_with_the_rest() {
        let mut worker = worker();
        let mut peers = Vec::new();
        for nth in 0..3 {
            let (ours, theirs) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            worker.welcome(ours, Origin { door: 0, from: Remote::Unix { uid: 0, gid: 0 } }.into());
            peers.push(theirs);
            let link = worker.readers[nth].as_ref().unwrap().link.clone();
            let mut bytes = Output::default();
            bytes.append(vec![b'x'; 8]);
            worker.core.with(|shared, _| shared.park(Write::new(link, bytes, false)));
        }
        let ids: Vec<_> = worker.readers.iter().flatten().map(|reader| reader.link.id).collect();
        // The others are gone meanwhile.
        worker.roomy.extend([ids[0], ids[1]]);
        worker.roomy.extend((9..).take(TURN - 2).map(|place| ConnId::new(place, 0)));
        worker.roomy.push_back(ids[2]);
        worker.unpark();
        assert_eq!((worker.work.writes.len(), worker.roomy.len()), (2, 1));
        worker.work = PendingIo::default();
        assert_eq!(worker.timeout(), Some(std::time::Duration::ZERO), "it goes on at once");
        worker.unpark();
        assert_eq!((worker.work.writes.len(), worker.roomy.len()), (1, 0));
    }
}
