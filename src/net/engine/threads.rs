//! The engine of threads: one for each connection, which blocks where it reads, one for all listeners, one for each UDP
//! socket, one for the clock, and one for all writes that would block ([`writer`]).
//!
//! How many threads there may be is bounded: a process that has more mappings than the system lets it have is aborted where a
//! thread begins.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, Builder, Thread};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::socket::MsgFlags;

use super::accept::{Acceptor, Room, StreamDoor, wake};
use super::commons::{Commons, Input, Mechanism, Watch, is_too_much};
use super::link::{Link, Mode, Port, Socket};
use super::work::{Outcome, Work};
use super::{Sockets, TURN};
use crate::log_limiter::LogLimiter;
use crate::net::udp::{DatagramDoor, PAUSE};
use crate::net::{open_files, rt};
use crate::service::{Arrival, DoorId, Service};

mod writer;

use writer::Blocked;

/// The stack of a thread, in bytes; of it, memory is what was used at least once.
const STACK: usize = 256 << 10;

/// What an idle connection has room to read, in bytes, and what one has that says much at once.
const READ_SIZES: (usize, usize) = (1 << 10, 64 << 10);

/// How long the thread of the clock rests at least, so that others get the lock in between, however much is due.
const BREATH: Duration = Duration::from_micros(100);

/// How many may have left something for the thread of the clock. It is one, and those who read are many: what they take
/// from the service and leave there has no other bound.
const MOST_LEFT: usize = 64;

/// What the threads share besides the core.
#[derive(Debug)]
pub(super) struct Threads {
    desk: Mutex<Desk>,
    /// Something has come to the desk.
    called: Condvar,
    /// Where connections come in, until they may not any more.
    listeners: Mutex<Vec<StreamDoor>>,
    room: Arc<Room>,
    /// Wakes the thread that accepts.
    waker: Arc<Waker>,
    /// Wake those that receive datagrams.
    wakers: Vec<Waker>,
    blocked: Blocked,
    seats: Arc<Seats>,
    complaints: Mutex<LogLimiter>,
}

/// Threads of connections: how many there are, and how many there may be.
#[derive(Debug)]
struct Seats {
    taken: AtomicUsize,
    limit: usize,
}

/// Counts a thread for as long as it runs.
#[derive(Debug)]
struct Seat(Arc<Seats>);

impl Seat {
    /// Takes one, if one is left.
    fn take(seats: &Arc<Seats>) -> io::Result<Self> {
        let more = |taken: usize| (taken < seats.limit).then_some(taken + 1);
        match seats.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more) {
            Ok(_) => Ok(Self(seats.clone())),
            Err(limit) => Err(io::Error::other(format!("all {limit} are taken"))),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is left for the thread of the clock.
#[derive(Debug, Default)]
struct Desk {
    /// A deadline is earlier than what it sleeps until.
    is_rung: bool,
    /// The engine has ended: nothing more may be left.
    is_over: bool,
    work: Vec<Work<Blocking>>,
}

/// A socket, and the thread that reads from it.
#[derive(Debug)]
pub(super) struct Blocking {
    socket: Socket,
    reader: Thread,
    /// Behind the socket, so that it is dropped after it.
    _freed: Freed,
}

impl Port for Blocking {
    fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// Tells who waits for room that a socket has been closed.
#[derive(Debug)]
struct Freed(Arc<Room>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.freed();
    }
}

type Threaded<S> = Arc<Commons<S, Threads>>;

impl Threads {
    /// Waits until something comes to the desk, or a deadline; not at all, if there is something to do. Nothing if a thread
    /// has panicked there.
    fn wait(&self, deadline: Option<Instant>, is_busy: bool) -> Option<MutexGuard<'_, Desk>> {
        let desk = self.desk.lock().ok()?;
        let is_idle = |desk: &mut Desk| !is_busy && !desk.is_rung && !desk.is_over && desk.work.is_empty();
        let Some(at) = deadline else { return self.called.wait_while(desk, is_idle).ok() };
        let time = at.saturating_duration_since(rt::now()).max(BREATH);
        self.called.wait_timeout_while(desk, time, is_idle).ok().map(|(desk, _)| desk)
    }

    /// There is no thread for a connection, whose end that is.
    fn complain(&self, error: &io::Error) {
        let due = self.complaints.lock().ok().and_then(|mut complaints| complaints.count(rt::now()));
        if let Some(times) = due {
            log::warn!("no thread for a connection ({times} attempts): {error}");
        }
    }

    /// Leaves work for the thread of the clock. Gives it back if that has more than enough, or has ended.
    fn leave(&self, work: Work<Blocking>) -> Option<Work<Blocking>> {
        let Ok(mut desk) = self.desk.lock() else { return Some(work) };
        if desk.is_over || desk.work.len() >= MOST_LEFT {
            return Some(work);
        }
        desk.work.push(work);
        drop(desk);
        self.called.notify_one();
        None
    }

    fn call(&self, put: impl FnOnce(&mut Desk)) {
        if let Ok(mut desk) = self.desk.lock() {
            put(&mut desk);
        }
        self.called.notify_one();
    }
}

impl<S: Service + 'static> Mechanism<S> for Threads {
    type Port = Blocking;

    fn ring(&self) {
        self.call(|desk| desk.is_rung = true);
    }

    fn hand_over(core: &Threaded<S>, work: Work<Blocking>) {
        core.mechanism.call(|desk| desk.work.push(work));
    }

    fn adopt(core: &Threaded<S>, socket: Socket, arrival: Arrival) {
        let spawned = Seat::take(&core.mechanism.seats)
            .and_then(|seat| spawn(core, "read", move |core| serve(core, socket, arrival, &seat)));
        match (spawned, arrival) {
            (Ok(()), _) => {}
            (Err(error), Arrival::Accepted(_)) => core.mechanism.complain(&error),
            (Err(error), Arrival::Dialed(..)) => core.turn_away(arrival, error),
        }
    }

    fn stop_accepting(core: &Threaded<S>) -> BoxFuture<'_, ()> {
        if let Ok(mut listeners) = core.mechanism.listeners.lock() {
            listeners.clear();
        }
        wake(&core.mechanism.waker);
        Box::pin(async {})
    }

    fn stop(core: &Threaded<S>, work: Work<Blocking>) {
        drop(Self::stop_accepting(core));
        core.mechanism.wakers.iter().for_each(wake);
        core.mechanism.blocked.stop();
        core.mechanism.call(|desk| {
            desk.is_over = true;
            desk.work.push(work);
        });
    }

    fn release(&self) {
        self.call(|desk| desk.work.clear());
    }
}

/// Starts the threads.
///
/// # Errors
///
/// The system has no room for them, or to wait for another socket.
pub(super) fn start<S: Service + 'static>(sockets: Sockets, service: S) -> io::Result<Threaded<S>> {
    start_within(open_files::connection_threads(), sockets, service)
}

/// The same with so many threads for connections at most.
pub(super) fn start_within<S: Service + 'static>(
    limit: usize,
    sockets: Sockets,
    service: S,
) -> io::Result<Threaded<S>> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), Token(0))?);
    for door in &sockets.streams {
        wait_for(&poll, door.as_fd().as_raw_fd())?;
    }
    let (mut receivers, mut wakers) = (Vec::new(), Vec::new());
    for (id, door) in sockets.datagrams.iter().enumerate() {
        let Some(door) = door else { continue };
        let (poll, waker) = poll_of(door)?;
        receivers.push((id, poll));
        wakers.push(waker);
    }
    let (blocked, for_room) = Blocked::new()?;
    let mechanism = Threads {
        desk: Mutex::default(),
        called: Condvar::new(),
        listeners: Mutex::new(sockets.streams),
        room: Arc::new(Room::new(waker.clone())),
        waker,
        wakers,
        blocked,
        seats: Arc::new(Seats { taken: AtomicUsize::new(0), limit }),
        complaints: Mutex::default(),
    };
    let core = Arc::new(Commons::new(service, sockets.datagrams, mechanism));
    let started = run(&core, (poll, for_room), receivers);
    core.started(started)
}

/// Starts the threads that go on until the engine ends: the first is that of the clock, which ends what the others begin.
fn run<S: Service + 'static>(
    core: &Threaded<S>,
    (for_connections, for_room): (Poll, Poll),
    receivers: Vec<(DoorId, Poll)>,
) -> io::Result<()> {
    spawn(core, "clock", keep_time)?;
    spawn(core, "write", move |core| writer::write(core, for_room))?;
    spawn(core, "accept", move |core| accept(core, for_connections))?;
    for (id, poll) in receivers {
        spawn(core, "udp", move |core| receive(core, id, poll))?;
    }
    Ok(())
}

/// What waits for a door for datagrams, and how to wake it.
fn poll_of(door: &Arc<DatagramDoor>) -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    wait_for(&poll, door.as_fd().as_raw_fd())?;
    let waker = Waker::new(poll.registry(), Token(0))?;
    Ok((poll, waker))
}

fn wait_for(poll: &Poll, fd: i32) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd), Token(1), Interest::READABLE)
}

/// Starts a thread whose panic is noticed.
fn spawn<S: Service + 'static>(
    core: &Threaded<S>,
    name: &str,
    work: impl FnOnce(&Threaded<S>) + Send + 'static,
) -> io::Result<()> {
    let watch = Watch::new(core);
    let thread = Builder::new().name(name.to_owned()).stack_size(STACK);
    thread.spawn(move || work(watch.core())).map(drop)
}

/// Writes what became sendable, and what becomes sendable meanwhile, for one turn. What is left then is for the thread of
/// the clock, unless that has more than enough: under load there is always more, and this one has its own connection to
/// attend to.
fn drive<S: Service + 'static>(core: &Threaded<S>, mut work: Work<Blocking>) {
    let mut sockets = 0;
    while !work.is_empty() {
        if sockets >= TURN {
            let Some(kept) = core.mechanism.leave(work) else { return };
            work = kept;
        }
        sockets += work.len();
        write_all(core, &mut work);
    }
}

/// Writes without waiting; what would have to wait is left to the thread that does. `work` becomes what became sendable
/// meanwhile.
fn write_all<S: Service + 'static>(core: &Threaded<S>, work: &mut Work<Blocking>) {
    for link in work.resumed.drain(..) {
        link.port.reader.unpark();
    }
    let mut outcome = Outcome::default();
    let blocked = core.perform(work, &mut outcome);
    for write in blocked.writes {
        outcome.written.extend(core.mechanism.blocked.leave(write).err());
    }
    if !blocked.transmits.is_empty() {
        outcome.sent += core.mechanism.blocked.leave_datagrams(blocked.transmits);
    }
    core.collect(work, |shared, now, work| shared.settle(now, &mut outcome, work));
}

/// Waits for the next deadline, over and over, and does what others have left.
fn keep_time<S: Service + 'static>(core: &Threaded<S>) {
    let mut work = Work::default();
    loop {
        let deadline = core.with(|shared, now| {
            shared.tick(now, &mut work);
            shared.collect(now, &mut work);
            shared.set_alarm()
        });
        if !work.is_empty() {
            write_all(core, &mut work);
        }
        let Some(mut desk) = core.mechanism.wait(deadline, !work.is_empty()) else { return };
        desk.is_rung = false;
        for mut more in std::mem::take(&mut desk.work) {
            work.append(&mut more);
        }
        if desk.is_over {
            drop(desk);
            return drive(core, work);
        }
    }
}

/// Accepts connections for as long as the server takes any; each gets a thread.
fn accept<S: Service + 'static>(core: &Threaded<S>, mut poll: Poll) {
    let (mut events, mut acceptor) = (Events::with_capacity(16), Acceptor::new(core.mechanism.room.clone()));
    loop {
        let until = acceptor.deadline().map(|at| at.saturating_duration_since(rt::now()));
        let timeout = if acceptor.is_busy() { Some(Duration::ZERO) } else { until };
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                log::error!("cannot wait for connections: {error}");
                return core.end.fail();
            }
            _ => {}
        }
        if !events.is_empty() {
            acceptor.notice();
        }
        let Ok(listeners) = core.mechanism.listeners.lock() else { return };
        if listeners.is_empty() {
            return;
        }
        acceptor.accept(&listeners, |socket, origin| {
            Threads::adopt(core, socket, origin.into());
        });
    }
}

/// Serves a connection until its end.
fn serve<S: Service + 'static>(core: &Threaded<S>, socket: Socket, arrival: Arrival, _seat: &Seat) {
    let freed = Freed(core.mechanism.room.clone());
    let port = Blocking { socket, reader: thread::current(), _freed: freed };
    let mut work = Work::default();
    let (link, intake) = core.collect(&mut work, |shared, now, _| shared.open(now, arrival, |_| port));
    log::debug!("{arrival}: connection {}", link.id.0);
    drive(core, work);
    let is_lost = read(core, &link, intake);
    let mut work = Work::default();
    core.collect(&mut work, |shared, now, work| shared.read_ended(now, link.id, is_lost, work));
    drive(core, work);
}

/// Reads from a connection until its end. Returns whether it is lost.
fn read<S: Service + 'static>(core: &Threaded<S>, link: &Arc<Link<Blocking>>, mut intake: S::Conn) -> bool {
    let (mut discarded, mut buffer) = (0, vec![0; READ_SIZES.0]);
    loop {
        while link.mode() == Mode::Paused {
            thread::park();
        }
        let mut work = Work::default();
        let input = core.read(link, &mut intake, (&mut buffer, MsgFlags::empty()), |core, batch| {
            core.collect(&mut work, |shared, now, work| shared.received(now, link, batch, work));
        });
        drive(core, work);
        match input {
            Input::Taken { count, .. } => fit(&mut buffer, count),
            Input::Discarded { count, .. } if !is_too_much(&mut discarded, count) => {}
            Input::Nothing => {}
            Input::End => return false,
            Input::Discarded { .. } | Input::Lost => return true,
        }
    }
}

/// Who fills its buffer gets a large one, until it does not need that.
fn fit(buffer: &mut Vec<u8>, count: usize) {
    let (small, large) = READ_SIZES;
    let wanted = if count >= small { large } else { small };
    if buffer.len() != wanted {
        *buffer = vec![0; wanted];
    }
}

/// Receives at a door for datagrams, for as long as the engine runs.
fn receive<S: Service + 'static>(core: &Threaded<S>, id: DoorId, mut poll: Poll) {
    let (mut events, mut complaints) = (Events::with_capacity(1), LogLimiter::default());
    while !core.end.is_over() {
        let mut work = Work::default();
        let received = core.receive(id, |core, datagrams| {
            while core.collect(&mut work, |shared, now, _| shared.datagrams(now, datagrams)) {}
        });
        drive(core, work);
        match received {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = poll.poll(&mut events, None) {
                    log::debug!("waiting for datagrams: {error}");
                }
            }
            Err(error) => {
                if let Some(times) = complaints.count(rt::now()) {
                    log::warn!("cannot receive datagrams ({times} attempts): {error}");
                }
                thread::sleep(PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::config::ServerConfig;
    use crate::door::{Door, Framing};
    use crate::server::Server;

    const SOON: Duration = Duration::from_secs(5);

    /// A connection that is answered, if the server has a thread for it.
    fn served(addr: SocketAddr) -> Option<TcpStream> {
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = [0; 8];
        let asked = socket.write_all(b"PNG 0000").and_then(|()| socket.read_exact(&mut answer));
        match asked {
            Ok(()) => Some(socket),
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "it is told nothing");
                None
            }
        }
    }

    #[test]
    fn connections_beyond_the_threads_that_there_may_be_are_closed_until_there_is_one_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let door = StreamDoor::new(0, listener.into(), None, Framing::Frames).unwrap();
        let sockets = Sockets { streams: vec![door], datagrams: vec![None] };
        let config = ServerConfig { doors: vec![Door::frames("tcp")], ..ServerConfig::default() };
        let service = Server::new(rt::now(), config, Box::new(ChaCha20Rng::seed_from_u64(1)));
        let core = start_within(2, sockets, service).unwrap();
        for _ in 0..3 {
            let both = [served(addr), served(addr)];
            assert!(both.iter().all(Option::is_some), "{both:?}");
            assert!(served(addr).is_none() && served(addr).is_none());
            drop(both);
            let end = rt::now() + SOON;
            let mut again = None;
            while again.is_none() && rt::now() < end {
                again = served(addr);
            }
            assert!(again.is_some(), "no thread has become free");
            drop(again);
            while core.mechanism.seats.taken.load(Ordering::SeqCst) > 0 && rt::now() < end {
                thread::yield_now();
            }
        }
        core.stop();
        assert!(rt::block_on(rt::before(rt::now() + SOON, core.end.left())).is_some());
    }
}
