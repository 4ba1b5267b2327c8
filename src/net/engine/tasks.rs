//! The engine of tasks: one for each connection, each listener and each UDP socket, one for the clock, and one for every
//! write that would block, all on as many threads as there are processors (async-std).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_io::Async;
use event_listener::Event;
use futures::future::BoxFuture;
use nix::sys::socket::MsgFlags;

use super::accept::{ACCEPTED_AT_ONCE, Pause, StreamDoor, is_of_one_connection};
use super::commons::{Commons, Input, Mechanism, Watch, is_too_much};
use super::link::{Link, Mode, Port, Progress, Socket, Write, Written};
use super::work::{Outcome, Work};
use super::{Sockets, TURN};
use crate::log_limiter::LogLimiter;
use crate::net::rt::{self, Guard, Task};
use crate::net::udp::{DatagramDoor, PATIENCE, PAUSE};
use crate::service::{Arrival, DoorId, Service, Transmit};

/// What is read at once.
const READ_SIZE: usize = 64 << 10;

/// How long the timer task rests at least, so that others get the lock in between, however much is due.
const BREATH: Duration = Duration::from_micros(100);

thread_local! {
    /// One buffer for all connections that a thread reads from: an idle connection holds none.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// What the tasks share besides the core.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// A deadline is earlier than what the timer task sleeps until.
    alarm: Event,
    /// A connection was closed: there may be room for another.
    freed: Arc<Event>,
    accepting: Mutex<Vec<Task>>,
    /// Those that go on until the engine ends.
    lasting: Mutex<Vec<Guard>>,
    /// By their ordinal among all doors; nothing where connections come in, and none once the engine has ended.
    doors: Mutex<Vec<Option<WaitedDoor>>>,
}

impl Tasks {
    fn door(&self, id: DoorId) -> Option<WaitedDoor> {
        self.doors.lock().ok()?.get(id)?.clone()
    }
}

/// A door for datagrams that the runtime waits for.
type WaitedDoor = Arc<Async<Arc<DatagramDoor>>>;

/// A socket that the runtime waits for.
#[derive(Debug)]
pub(super) struct Waited {
    socket: Async<Socket>,
    resumed: Event,
    /// Behind the socket, so that it is dropped after it.
    _freed: Freed,
}

impl Port for Waited {
    fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }
}

/// Tells who waits for room that a socket has been closed.
#[derive(Debug)]
struct Freed(Arc<Event>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.notify(usize::MAX);
    }
}

type Tasked<S> = Arc<Commons<S, Tasks>>;

impl<S: Service + 'static> Mechanism<S> for Tasks {
    type Port = Waited;

    fn ring(&self) {
        self.alarm.notify(1);
    }

    fn hand_over(core: &Tasked<S>, work: Work<Waited>) {
        let task = drive_on(core.clone(), work);
        spawn(core, task);
    }

    fn adopt(core: &Tasked<S>, socket: Socket, arrival: Arrival) {
        match Async::new(socket) {
            Ok(socket) => welcome(core, socket, arrival),
            Err(error) => core.turn_away(arrival, error),
        }
    }

    fn stop_accepting(core: &Tasked<S>) -> BoxFuture<'_, ()> {
        let accepting = core.mechanism.accepting.lock();
        let accepting = accepting.map(|mut tasks| std::mem::take(&mut *tasks)).unwrap_or_default();
        Box::pin(async {
            for task in accepting {
                task.cancel().await;
            }
        })
    }

    fn stop(core: &Tasked<S>, work: Work<Waited>) {
        Self::hand_over(core, work);
        if let Ok(mut lasting) = core.mechanism.lasting.lock() {
            lasting.clear();
        }
        if let Ok(mut doors) = core.mechanism.doors.lock() {
            doors.clear();
        }
    }

    fn release(&self) {}
}

/// Starts the tasks.
///
/// # Errors
///
/// The system has no room to wait for another socket.
pub(super) fn start<S: Service + 'static>(sockets: Sockets, service: S) -> io::Result<Tasked<S>> {
    let streams = sockets.streams.into_iter().map(Async::new).collect::<io::Result<Vec<_>>>()?;
    let doors = sockets.datagrams.iter().cloned().map(|door| door.map(wait_for).transpose());
    let doors = doors.collect::<io::Result<Vec<_>>>()?;
    let mechanism = Tasks { doors: Mutex::new(doors.clone()), ..Tasks::default() };
    let core = Arc::new(Commons::new(service, sockets.datagrams, mechanism));
    if let Ok(mut lasting) = core.mechanism.lasting.lock() {
        lasting.push(rt::spawn_guarded(watched(&core, keep_time(core.clone()))));
        for (id, door) in doors.into_iter().enumerate() {
            let receiving = door.map(|door| receive(core.clone(), id, door));
            lasting.extend(receiving.map(|task| rt::spawn_guarded(watched(&core, task))));
        }
    }
    if let Ok(mut accepting) = core.mechanism.accepting.lock() {
        accepting.extend(streams.into_iter().map(|door| spawn(&core, accept(core.clone(), door))));
    }
    Ok(core)
}

/// Starts a task whose panic is noticed.
fn spawn<S: Service + 'static>(core: &Tasked<S>, task: impl Future<Output = ()> + Send + 'static) -> Task {
    rt::spawn(watched(core, task))
}

/// A task whose panic is noticed, and its end.
fn watched<S: Service + 'static>(
    core: &Tasked<S>,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let watch = Watch::new(core);
    async move {
        let _watch = watch;
        task.await;
    }
}

fn wait_for(door: Arc<DatagramDoor>) -> io::Result<WaitedDoor> {
    Async::new(door).map(Arc::new)
}

/// Writes what became sendable, and what becomes sendable meanwhile, for one turn. What is left then is for another
/// task: under load there is always more, and this one has its own connection or clock to attend to.
fn drive<S: Service + 'static>(core: &Tasked<S>, mut work: Work<Waited>) {
    let mut sockets = 0;
    while !work.is_empty() {
        if sockets >= TURN {
            return Tasks::hand_over(core, work);
        }
        sockets += work.len();
        write_all(core, &mut work);
    }
}

/// Writes what became sendable until there is nothing left, turn by turn.
async fn drive_on<S: Service + 'static>(core: Tasked<S>, mut work: Work<Waited>) {
    let mut sockets = 0;
    while !work.is_empty() {
        if sockets >= TURN {
            sockets = 0;
            rt::yield_now().await;
        }
        sockets += work.len();
        write_all(&core, &mut work);
    }
}

/// Writes without waiting; what would have to wait gets a task of its own. `work` becomes what became sendable
/// meanwhile.
fn write_all<S: Service + 'static>(core: &Tasked<S>, work: &mut Work<Waited>) {
    for link in work.resumed.drain(..) {
        link.port.resumed.notify(usize::MAX);
    }
    let mut outcome = Outcome::default();
    let blocked = core.perform(work, &mut outcome);
    for write in blocked.writes {
        spawn(core, write_slowly(core.clone(), write));
    }
    if !blocked.transmits.is_empty() {
        spawn(core, send_slowly(core.clone(), blocked.transmits));
    }
    core.collect(work, |shared, now, work| shared.settle(now, &mut outcome, work));
}

/// Writes to a socket that would block.
async fn write_slowly<S: Service + 'static>(core: Tasked<S>, mut write: Write<Waited>) {
    let written: Written = loop {
        // What failed is seen at the next attempt.
        let _ = poll_fn(|cx| write.link.port.socket.poll_writable(cx)).await;
        if let Progress::Done(written) = write.advance(MsgFlags::MSG_DONTWAIT) {
            break written;
        }
    };
    let (mut work, mut outcome) = (Work::default(), Outcome { written: vec![written], sent: 0 });
    core.collect(&mut work, |shared, now, work| shared.settle(now, &mut outcome, work));
    drive(&core, work);
}

/// Sends what sockets had no room for, or drops it if that takes too long.
async fn send_slowly<S: Service + 'static>(core: Tasked<S>, mut transmits: Vec<Transmit>) {
    let sent = transmits.len();
    rt::before(rt::now() + PATIENCE, async {
        while let Some(first) = transmits.first() {
            if let Some(door) = core.mechanism.door(first.peer.door) {
                let _ = door.writable().await;
            }
            core.send(&mut transmits);
        }
    })
    .await;
    core.drop_all(&transmits);
    let (mut work, mut outcome) = (Work::default(), Outcome { written: Vec::new(), sent });
    core.collect(&mut work, |shared, now, work| shared.settle(now, &mut outcome, work));
    drive(&core, work);
}

/// Sleeps until the next deadline, over and over.
async fn keep_time<S: Service + 'static>(core: Tasked<S>) {
    loop {
        let (earlier, mut work) = (core.mechanism.alarm.listen(), Work::default());
        let deadline = core.with(|shared, now| {
            shared.tick(now, &mut work);
            shared.collect(now, &mut work);
            shared.set_alarm()
        });
        drive(&core, work);
        match deadline {
            Some(at) => drop(rt::before(at.max(rt::now() + BREATH), earlier).await),
            None => earlier.await,
        }
    }
}

/// Accepts connections for as long as the server takes any.
///
/// Where there is no room for another, it waits until one of ours is closed, or for a pause, whichever is shorter.
async fn accept<S: Service + 'static>(core: Tasked<S>, door: Async<StreamDoor>) {
    let (mut pause, mut accepted, mut freed) = (Pause::default(), 0_usize, None);
    loop {
        match door
            .read_with(StreamDoor::accept)
            .await
            .and_then(|(socket, from)| Ok((Async::new(socket)?, from)))
        {
            Ok((socket, origin)) => {
                freed = None;
                pause.over();
                accepted += 1;
                welcome(&core, socket, origin.into());
                if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
                    rt::yield_now().await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Once more when it listens, for what was closed before it did.
                let Some(room) = freed.take() else {
                    freed = Some(core.mechanism.freed.listen());
                    continue;
                };
                let until = pause.begin(rt::now(), &error);
                rt::before(until, room).await;
            }
        }
    }
}

fn welcome<S: Service + 'static>(core: &Tasked<S>, socket: Async<Socket>, arrival: Arrival) {
    let freed = Freed(core.mechanism.freed.clone());
    let port = Waited { socket, resumed: Event::new(), _freed: freed };
    let mut work = Work::default();
    let (link, intake) = core.collect(&mut work, |shared, now, _| shared.open(now, arrival, |_| port));
    log::debug!("{arrival}: connection {}", link.id.0);
    drive(core, work);
    spawn(core, read(core.clone(), link, intake));
}

/// Reads from a connection until its end.
async fn read<S: Service + 'static>(core: Tasked<S>, link: Arc<Link<Waited>>, mut intake: S::Conn) {
    let (mut discarded, mut ready) = (0, false);
    let is_lost = loop {
        if link.mode() == Mode::Paused {
            Box::pin(resumed(&link)).await;
        }
        // As the only reader it needs no place in a list of those who wait, which would take up more than it says.
        if !ready && poll_fn(|cx| link.port.socket.poll_readable(cx)).await.is_err() {
            break true;
        }
        ready = match read_some(&core, &link, &mut intake) {
            Input::Taken { full, .. } => full,
            Input::Discarded { count, full } if !is_too_much(&mut discarded, count) => full,
            Input::Nothing => false,
            Input::End => break false,
            Input::Discarded { .. } | Input::Lost => break true,
        };
        if ready {
            rt::yield_now().await;
        }
    };
    let mut work = Work::default();
    core.collect(&mut work, |shared, now, work| shared.read_ended(now, link.id, is_lost, work));
    drive(&core, work);
}

async fn resumed(link: &Link<Waited>) {
    while link.mode() == Mode::Paused {
        let resumed = link.port.resumed.listen();
        if link.mode() == Mode::Paused {
            resumed.await;
        }
    }
}

fn read_some<S: Service + 'static>(
    core: &Tasked<S>,
    link: &Arc<Link<Waited>>,
    intake: &mut S::Conn,
) -> Input {
    let mut work = Work::default();
    let input = BUFFER.with_borrow_mut(|buffer| {
        core.read(link, intake, (buffer, MsgFlags::MSG_DONTWAIT), |core, batch| {
            core.collect(&mut work, |shared, now, work| shared.received(now, link, batch, work));
        })
    });
    drive(core, work);
    input
}

/// Receives at the door of that ordinal for as long as the engine runs.
async fn receive<S: Service + 'static>(core: Tasked<S>, id: DoorId, door: WaitedDoor) {
    let mut complaints = LogLimiter::default();
    loop {
        let mut work = Work::default();
        let received = core.receive(id, |core, datagrams| {
            while core.collect(&mut work, |shared, now, _| shared.datagrams(now, datagrams)) {}
        });
        drive(&core, work);
        match received {
            Ok(true) => rt::yield_now().await,
            Ok(false) => drop(door.readable().await),
            Err(error) => {
                if let Some(times) = complaints.count(rt::now()) {
                    log::warn!("cannot receive datagrams ({times} attempts): {error}");
                }
                rt::sleep(PAUSE).await;
            }
        }
    }
}
