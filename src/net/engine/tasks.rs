//! The `tasks` engine: one task per connection, listener and UDP socket, on the threads of async-std.
//!
//! One more task keeps time, and each write that would block gets a task of its own. There are as many threads as
//! processors.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_io::Async;
use event_listener::Event;
use futures::future::BoxFuture;
use nix::sys::socket::MsgFlags;

use super::accept::{ACCEPTED_AT_ONCE, StreamListener};
use super::connection::{Connection, Mode, Port, Progress, Socket, Write, Written};
use super::engine_core::{Backend, EngineCore, Input, WorkerGuard, exceeds_discard_limit};
use super::pending_io::{IoResults, PendingIo};
use super::{SOCKET_BUDGET, Sockets};
use crate::net::accept::{AcceptPause, is_of_one_connection};
use crate::net::rt::{self, Guard, Task};
use crate::net::udp::{DatagramListener, ReceivePause, SEND_TIMEOUT};
use crate::service::{Arrival, ListenerId, Service, Transmit};

/// Most bytes per read.
const READ_SIZE: usize = 64 << 10;

/// The least pause of the timer task, so that others get the lock even if much is due.
const MIN_PAUSE: Duration = Duration::from_micros(100);

thread_local! {
    /// One buffer per thread, so that an idle connection holds none.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// State that the tasks share besides the core.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// A deadline is earlier than the one the timer task waits for.
    alarm: Event,
    /// A connection was closed: a descriptor may be free.
    freed: Arc<Event>,
    accepting: Mutex<Vec<Task>>,
    /// Tasks that run until the engine ends.
    lasting: Mutex<Vec<Guard>>,
    /// By listener ordinal; `None` for stream listeners. Empty once the engine has ended.
    listeners: Mutex<Vec<Option<WaitedListener>>>,
}

impl Tasks {
    fn listener(&self, id: ListenerId) -> Option<WaitedListener> {
        self.listeners.lock().ok()?.get(id)?.clone()
    }
}

/// A datagram socket that the runtime waits for.
type WaitedListener = Arc<Async<Arc<DatagramListener>>>;

/// A socket that the runtime waits for.
#[derive(Debug)]
pub(super) struct TaskPort {
    socket: Async<Socket>,
    resumed: Event,
    /// After the socket, so that it is dropped after it.
    _freed: Freed,
}

impl Port for TaskPort {
    fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }
}

/// Tells the accepting tasks that a socket was closed.
#[derive(Debug)]
struct Freed(Arc<Event>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.notify(usize::MAX);
    }
}

type Tasked<S> = Arc<EngineCore<S, Tasks>>;

impl<S: Service + 'static> Backend<S> for Tasks {
    type Port = TaskPort;

    fn wake_timer(&self) {
        self.alarm.notify(1);
    }

    fn hand_over(core: &Tasked<S>, pending: PendingIo<TaskPort>) {
        let task = drive_on(core.clone(), pending);
        spawn(core, task);
    }

    fn adopt(core: &Tasked<S>, socket: Socket, arrival: Arrival) {
        match Async::new(socket) {
            Ok(socket) => open(core, socket, arrival),
            Err(error) => core.refuse(arrival, error),
        }
    }

    fn stop_accepting(core: &Tasked<S>) -> BoxFuture<'_, ()> {
        let accepting = core.backend.accepting.lock();
        let accepting = accepting.map(|mut tasks| std::mem::take(&mut *tasks)).unwrap_or_default();
        Box::pin(async {
            for task in accepting {
                task.cancel().await;
            }
        })
    }

    fn stop(core: &Tasked<S>, pending: PendingIo<TaskPort>) {
        Self::hand_over(core, pending);
        if let Ok(mut lasting) = core.backend.lasting.lock() {
            lasting.clear();
        }
        if let Ok(mut listeners) = core.backend.listeners.lock() {
            listeners.clear();
        }
    }

    fn release(&self) {}
}

/// Starts the tasks.
///
/// # Errors
///
/// Fails if the system cannot wait for another socket.
pub(super) fn start<S: Service + 'static>(sockets: Sockets, service: S) -> io::Result<Tasked<S>> {
    let streams = sockets.streams.into_iter().map(Async::new).collect::<io::Result<Vec<_>>>()?;
    let listeners = sockets.datagrams.iter().cloned().map(|listener| listener.map(wait_for).transpose());
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    let backend = Tasks { listeners: Mutex::new(listeners.clone()), ..Tasks::default() };
    let core = Arc::new(EngineCore::new(service, sockets.datagrams, backend));
    if let Ok(mut lasting) = core.backend.lasting.lock() {
        lasting.push(rt::spawn_guarded(guarded(&core, run_timer(core.clone()))));
        for (id, listener) in listeners.into_iter().enumerate() {
            let receiving = listener.map(|listener| receive(core.clone(), id, listener));
            lasting.extend(receiving.map(|task| rt::spawn_guarded(guarded(&core, task))));
        }
    }
    if let Ok(mut accepting) = core.backend.accepting.lock() {
        accepting.extend(streams.into_iter().map(|listener| spawn(&core, accept(core.clone(), listener))));
    }
    Ok(core)
}

/// Starts a task whose panic is reported.
fn spawn<S: Service + 'static>(core: &Tasked<S>, task: impl Future<Output = ()> + Send + 'static) -> Task {
    rt::spawn(guarded(core, task))
}

/// Wraps a task so that its panic and its end are reported.
fn guarded<S: Service + 'static>(
    core: &Tasked<S>,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let watch = WorkerGuard::new(core);
    async move {
        let _watch = watch;
        task.await;
    }
}

fn wait_for(listener: Arc<DatagramListener>) -> io::Result<WaitedListener> {
    Async::new(listener).map(Arc::new)
}

/// Writes what became sendable, and what becomes sendable meanwhile, for one turn. The rest goes to another
/// task: under load there is always more, and the caller has its own connection or timer to serve.
fn drive<S: Service + 'static>(core: &Tasked<S>, mut pending: PendingIo<TaskPort>) {
    let mut sockets = 0;
    while !pending.is_empty() {
        if sockets >= SOCKET_BUDGET {
            return Tasks::hand_over(core, pending);
        }
        sockets += pending.len();
        write_all(core, &mut pending);
    }
}

/// Writes until nothing is left, turn by turn.
async fn drive_on<S: Service + 'static>(core: Tasked<S>, mut pending: PendingIo<TaskPort>) {
    let mut sockets = 0;
    while !pending.is_empty() {
        if sockets >= SOCKET_BUDGET {
            sockets = 0;
            rt::yield_now().await;
        }
        sockets += pending.len();
        write_all(&core, &mut pending);
    }
}

/// Writes without waiting; a write that would block gets a task. Then takes what became sendable.
fn write_all<S: Service + 'static>(core: &Tasked<S>, pending: &mut PendingIo<TaskPort>) {
    for connection in pending.resumed.drain(..) {
        connection.port.resumed.notify(usize::MAX);
    }
    let mut results = IoResults::default();
    let blocked = core.perform(pending, &mut results);
    for write in blocked.writes {
        spawn(core, write_when_ready(core.clone(), write));
    }
    if !blocked.transmits.is_empty() {
        spawn(core, send_when_ready(core.clone(), blocked.transmits));
    }
    core.collect(pending, |shared, now, pending| shared.apply_results(now, &mut results, pending));
}

/// Writes to a full socket.
async fn write_when_ready<S: Service + 'static>(core: Tasked<S>, mut write: Write<TaskPort>) {
    let written: Written = loop {
        // The next attempt reports an error.
        let _ = poll_fn(|cx| write.connection.port.socket.poll_writable(cx)).await;
        if let Progress::Done(written) = write.advance(MsgFlags::MSG_DONTWAIT) {
            break written;
        }
    };
    let (mut pending, mut results) = (PendingIo::default(), IoResults { written: vec![written], sent: 0 });
    core.collect(&mut pending, |shared, now, pending| shared.apply_results(now, &mut results, pending));
    drive(&core, pending);
}

/// Sends datagrams whose sockets were full, or drops them after [`SEND_TIMEOUT`].
async fn send_when_ready<S: Service + 'static>(core: Tasked<S>, mut transmits: Vec<Transmit>) {
    let sent = transmits.len();
    rt::before(rt::now() + SEND_TIMEOUT, async {
        while let Some(first) = transmits.first() {
            if let Some(listener) = core.backend.listener(first.peer.listener) {
                let _ = listener.writable().await;
            }
            core.send(&mut transmits);
        }
    })
    .await;
    core.drop_all(&transmits);
    let (mut pending, mut results) = (PendingIo::default(), IoResults { written: Vec::new(), sent });
    core.collect(&mut pending, |shared, now, pending| shared.apply_results(now, &mut results, pending));
    drive(&core, pending);
}

/// Handles deadlines, one after the other.
async fn run_timer<S: Service + 'static>(core: Tasked<S>) {
    loop {
        let (earlier, mut pending) = (core.backend.alarm.listen(), PendingIo::default());
        let deadline = core.with(|shared, now| {
            shared.tick(now, &mut pending);
            shared.collect(now, &mut pending);
            shared.set_alarm()
        });
        drive(&core, pending);
        match deadline {
            Some(at) => drop(rt::before(at.max(rt::now() + MIN_PAUSE), earlier).await),
            None => earlier.await,
        }
    }
}

/// Accepts connections for as long as the engine does.
///
/// Without a free descriptor, waits until a connection closes, or for a pause, whichever is shorter.
async fn accept<S: Service + 'static>(core: Tasked<S>, listener: Async<StreamListener>) {
    let (mut pause, mut accepted, mut freed) = (AcceptPause::default(), 0_usize, None);
    loop {
        match listener
            .read_with(StreamListener::accept)
            .await
            .and_then(|(socket, from)| Ok((Async::new(socket)?, from)))
        {
            Ok((socket, origin)) => {
                freed = None;
                pause.over();
                accepted += 1;
                open(&core, socket, origin.into());
                if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
                    rt::yield_now().await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Once more after listening, as a connection may have closed just before.
                let Some(closed) = freed.take() else {
                    freed = Some(core.backend.freed.listen());
                    continue;
                };
                let until = pause.begin(rt::now(), &error);
                rt::before(until, closed).await;
            }
        }
    }
}

fn open<S: Service + 'static>(core: &Tasked<S>, socket: Async<Socket>, arrival: Arrival) {
    let freed = Freed(core.backend.freed.clone());
    let port = TaskPort { socket, resumed: Event::new(), _freed: freed };
    let mut pending = PendingIo::default();
    let (connection, intake) =
        core.collect(&mut pending, |shared, now, _| shared.open(now, arrival, |_| port));
    log::debug!("{arrival}: connection {}", connection.id.0);
    drive(core, pending);
    spawn(core, read(core.clone(), connection, intake));
}

/// Reads from a connection until it ends.
async fn read<S: Service + 'static>(
    core: Tasked<S>,
    connection: Arc<Connection<TaskPort>>,
    mut intake: S::Conn,
) {
    let (mut discarded, mut ready) = (0, false);
    let is_lost = loop {
        if connection.mode() == Mode::Paused {
            Box::pin(resumed(&connection)).await;
        }
        // `poll_readable` serves one reader only, but needs no heap-allocated list of waiters.
        if !ready && poll_fn(|cx| connection.port.socket.poll_readable(cx)).await.is_err() {
            break true;
        }
        ready = match read_some(&core, &connection, &mut intake) {
            Input::Taken { full, .. } => full,
            Input::Discarded { count, full } if !exceeds_discard_limit(&mut discarded, count) => full,
            Input::Nothing => false,
            Input::End => break false,
            Input::Discarded { .. } | Input::Lost => break true,
        };
        if ready {
            rt::yield_now().await;
        }
    };
    let mut pending = PendingIo::default();
    core.collect(&mut pending, |shared, now, pending| {
        shared.read_ended(now, connection.id, is_lost, pending);
    });
    drive(&core, pending);
}

async fn resumed(connection: &Connection<TaskPort>) {
    while connection.mode() == Mode::Paused {
        let resumed = connection.port.resumed.listen();
        if connection.mode() == Mode::Paused {
            resumed.await;
        }
    }
}

fn read_some<S: Service + 'static>(
    core: &Tasked<S>,
    connection: &Arc<Connection<TaskPort>>,
    intake: &mut S::Conn,
) -> Input {
    let mut pending = PendingIo::default();
    let input = BUFFER.with_borrow_mut(|buffer| {
        core.read(connection, intake, (buffer, MsgFlags::MSG_DONTWAIT), |core, batch| {
            core.collect(&mut pending, |shared, now, pending| {
                shared.received(now, connection, batch, pending);
            });
        })
    });
    drive(core, pending);
    input
}

/// Receives from one UDP socket for as long as the engine runs.
async fn receive<S: Service + 'static>(core: Tasked<S>, id: ListenerId, listener: WaitedListener) {
    let mut pause = ReceivePause::default();
    loop {
        let mut pending = PendingIo::default();
        let received = core.receive(id, |core, datagrams| {
            while core.collect(&mut pending, |shared, now, _| shared.datagrams(now, datagrams)) {}
        });
        drive(&core, pending);
        pause.wait(&listener, received).await;
    }
}
