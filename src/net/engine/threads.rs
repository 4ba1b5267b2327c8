//! The `threads` engine: one thread per connection, which blocks in its reads.
//!
//! One more thread each serves all stream listeners, each UDP socket, the timer ([`timer`]) and all writes that would
//! block ([`writer`]). The number of threads is bounded ([`slots`]): a process with too many mappings is aborted when a
//! thread starts.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex};
use std::thread::{self, Builder, Thread};
use std::time::Duration;

use futures::future::BoxFuture;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::accept::{Acceptor, FdSlots, StreamListener, wake};
use super::connection::{Port, Socket};
use super::engine_core::{Backend, EngineCore, WorkerGuard};
use super::pending_io::{IoResults, PendingIo};
use super::{SOCKET_BUDGET, Sockets};
use crate::log_limiter::LogLimiter;
use crate::net::udp::{DatagramListener, PAUSE, ReceivePause};
use crate::net::{open_files, rt};
use crate::service::{Arrival, ListenerId, Service};

mod reader;
mod slots;
mod timer;
mod writer;

use slots::{ThreadSlot, ThreadSlots};
use timer::{TimerQueue, run_timer};
use writer::WriteQueue;

/// The stack of a thread, in bytes; only what was touched occupies memory.
const STACK: usize = 256 << 10;

/// State that the threads share besides the core.
#[derive(Debug)]
pub(super) struct Threads {
    timer_queue: TimerQueue,
    /// Stream listeners; empty once accepting has stopped.
    listeners: Mutex<Vec<StreamListener>>,
    slots: Arc<FdSlots>,
    /// Wakes the accepting thread.
    waker: Arc<Waker>,
    /// Wake the threads that receive datagrams.
    wakers: Vec<Waker>,
    write_queue: WriteQueue,
    thread_slots: Arc<ThreadSlots>,
    warnings: Mutex<LogLimiter>,
}

/// A socket, and the thread that reads from it.
#[derive(Debug)]
pub(super) struct ThreadPort {
    socket: Socket,
    reader: Thread,
    /// After the socket, so that it is dropped after it.
    _freed: Freed,
}

impl Port for ThreadPort {
    fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// Tells the accepting thread that a socket was closed.
#[derive(Debug)]
struct Freed(Arc<FdSlots>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.freed();
    }
}

type Threaded<S> = Arc<EngineCore<S, Threads>>;

impl Threads {
    /// Logs that a connection got no thread and was closed.
    fn warn_no_thread(&self, error: &io::Error) {
        let due = self.warnings.lock().ok().and_then(|mut warnings| warnings.count(rt::now()));
        if let Some(times) = due {
            log::warn!("no thread for a connection ({times} attempts): {error}");
        }
    }
}

impl<S: Service + 'static> Backend<S> for Threads {
    type Port = ThreadPort;

    fn wake_timer(&self) {
        self.timer_queue.wake();
    }

    fn hand_over(core: &Threaded<S>, pending: PendingIo<ThreadPort>) {
        core.backend.timer_queue.push(pending);
    }

    fn adopt(core: &Threaded<S>, socket: Socket, arrival: Arrival) {
        let spawned = ThreadSlot::take(&core.backend.thread_slots)
            .and_then(|slot| spawn(core, "read", move |core| reader::serve(core, socket, arrival, &slot)));
        match (spawned, arrival) {
            (Ok(()), _) => {}
            (Err(error), Arrival::Accepted(_)) => core.backend.warn_no_thread(&error),
            (Err(error), Arrival::Dialed(..)) => core.refuse(arrival, error),
        }
    }

    fn stop_accepting(core: &Threaded<S>) -> BoxFuture<'_, ()> {
        if let Ok(mut listeners) = core.backend.listeners.lock() {
            listeners.clear();
        }
        wake(&core.backend.waker);
        Box::pin(async {})
    }

    fn stop(core: &Threaded<S>, pending: PendingIo<ThreadPort>) {
        drop(Self::stop_accepting(core));
        core.backend.wakers.iter().for_each(wake);
        core.backend.write_queue.stop();
        core.backend.timer_queue.stop(pending);
    }

    fn release(&self) {
        self.timer_queue.clear();
    }
}

/// Starts the threads.
///
/// # Errors
///
/// Fails if the system cannot start them, or wait for another socket.
pub(super) fn start<S: Service + 'static>(sockets: Sockets, service: S) -> io::Result<Threaded<S>> {
    start_within(open_files::connection_threads(), sockets, service)
}

/// As [`start`], with at most `limit` threads for connections.
pub(super) fn start_within<S: Service + 'static>(
    limit: usize,
    sockets: Sockets,
    service: S,
) -> io::Result<Threaded<S>> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), Token(0))?);
    for listener in &sockets.streams {
        wait_for(&poll, listener.as_fd().as_raw_fd())?;
    }
    let (mut receivers, mut wakers) = (Vec::new(), Vec::new());
    for (id, listener) in sockets.datagrams.iter().enumerate() {
        let Some(listener) = listener else { continue };
        let (poll, waker) = poll_of(listener)?;
        receivers.push((id, poll));
        wakers.push(waker);
    }
    let (write_queue, for_writes) = WriteQueue::new()?;
    let backend = Threads {
        timer_queue: TimerQueue::default(),
        listeners: Mutex::new(sockets.streams),
        slots: Arc::new(FdSlots::new(waker.clone())),
        waker,
        wakers,
        write_queue,
        thread_slots: Arc::new(ThreadSlots::new(limit)),
        warnings: Mutex::default(),
    };
    let core = Arc::new(EngineCore::new(service, sockets.datagrams, backend));
    let started = run(&core, (poll, for_writes), receivers);
    core.started(started)
}

/// Starts the threads that run until the engine ends. The timer comes first, as it ends those that started if
/// a later one fails.
fn run<S: Service + 'static>(
    core: &Threaded<S>,
    (for_connections, for_writes): (Poll, Poll),
    receivers: Vec<(ListenerId, Poll)>,
) -> io::Result<()> {
    spawn(core, "clock", run_timer)?;
    spawn(core, "write", move |core| writer::write(core, for_writes))?;
    spawn(core, "accept", move |core| accept(core, for_connections))?;
    for (id, poll) in receivers {
        spawn(core, "udp", move |core| receive(core, id, poll))?;
    }
    Ok(())
}

/// Returns the poll that waits for a datagram socket, and its waker.
fn poll_of(listener: &Arc<DatagramListener>) -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    wait_for(&poll, listener.as_fd().as_raw_fd())?;
    let waker = Waker::new(poll.registry(), Token(0))?;
    Ok((poll, waker))
}

fn wait_for(poll: &Poll, fd: i32) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd), Token(1), Interest::READABLE)
}

/// Starts a thread whose panic is reported.
fn spawn<S: Service + 'static>(
    core: &Threaded<S>,
    name: &str,
    body: impl FnOnce(&Threaded<S>) + Send + 'static,
) -> io::Result<()> {
    let watch = WorkerGuard::new(core);
    let thread = Builder::new().name(name.to_owned()).stack_size(STACK);
    thread.spawn(move || body(watch.core())).map(drop)
}

/// Writes what became sendable, and what becomes sendable meanwhile, for one turn. The rest goes to the timer thread,
/// unless its queue is full. Under load there is always more, and the caller has its own connection to serve.
fn drive<S: Service + 'static>(core: &Threaded<S>, mut pending: PendingIo<ThreadPort>) {
    let mut sockets = 0;
    while !pending.is_empty() {
        if sockets >= SOCKET_BUDGET {
            let Some(kept) = core.backend.timer_queue.try_push(pending) else { return };
            pending = kept;
        }
        sockets += pending.len();
        write_all(core, &mut pending);
    }
}

/// Writes without waiting; writes that would block go to the writer thread. Then takes what became sendable.
fn write_all<S: Service + 'static>(core: &Threaded<S>, pending: &mut PendingIo<ThreadPort>) {
    for connection in pending.resumed.drain(..) {
        connection.port.reader.unpark();
    }
    let mut results = IoResults::default();
    let blocked = core.perform(pending, &mut results);
    for write in blocked.writes {
        results.written.extend(core.backend.write_queue.add(write).err());
    }
    if !blocked.transmits.is_empty() {
        results.sent += core.backend.write_queue.add_datagrams(blocked.transmits);
    }
    core.collect(pending, |shared, now, pending| shared.apply_results(now, &mut results, pending));
}

/// Accepts connections for as long as the engine does; each gets a thread.
fn accept<S: Service + 'static>(core: &Threaded<S>, mut poll: Poll) {
    let (mut events, mut acceptor) = (Events::with_capacity(16), Acceptor::new(core.backend.slots.clone()));
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
        let Ok(listeners) = core.backend.listeners.lock() else { return };
        if listeners.is_empty() {
            return;
        }
        acceptor.accept(&listeners, |socket, origin| {
            Threads::adopt(core, socket, origin.into());
        });
    }
}

/// Receives from one UDP socket for as long as the engine runs.
fn receive<S: Service + 'static>(core: &Threaded<S>, id: ListenerId, mut poll: Poll) {
    let (mut events, mut pause) = (Events::with_capacity(1), ReceivePause::default());
    while !core.end.is_over() {
        let mut pending = PendingIo::default();
        let received = core.receive(id, |core, datagrams| {
            while core.collect(&mut pending, |shared, now, _| shared.datagrams(now, datagrams)) {}
        });
        drive(core, pending);
        match received {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = poll.poll(&mut events, None) {
                    log::debug!("waiting for datagrams: {error}");
                }
            }
            Err(error) => {
                pause.warn(&error);
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
    use crate::listener::{Framing, Listener};
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
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "no answer and no close");
                None
            }
        }
    }

    #[test]
    fn connections_beyond_the_thread_limit_are_closed_until_a_thread_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = StreamListener::new(0, listener.into(), None, Framing::Frames).unwrap();
        let sockets = Sockets { streams: vec![listener], datagrams: vec![None] };
        let config = ServerConfig { listeners: vec![Listener::frames("tcp")], ..ServerConfig::default() };
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
            assert!(again.is_some(), "a thread is free again");
            drop(again);
            while core.backend.thread_slots.taken() > 0 && rt::now() < end {
                thread::yield_now();
            }
        }
        core.stop();
        assert!(rt::block_on(rt::before(rt::now() + SOON, core.end.stopped())).is_some());
    }
}
