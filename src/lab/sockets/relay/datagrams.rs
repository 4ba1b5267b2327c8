//! The sockets of a datagram proxy: one to listen on per address, and one per client towards the upstream, so that answers
//! find back.
//!
//! One lock around the [`Relay`]; whoever has received a batch takes it in, and sends what comes of it, under that lock, so
//! that what is in order stays in order. Sending does not wait: what the system does not take is dropped, as by a router.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use async_io::Async;
use event_listener::Event;
use socket2::{Domain, Protocol, Socket, Type};

use super::BUFFER;
use super::outbox::{Outbox, Through};
use super::recorder::Recorder;
use super::rt::{self, Guard, Task};
use crate::lab::proxy::datagrams::Relay;
use crate::lab::proxy::record::Note;
use crate::lab::proxy::totals::Kind;
use crate::lab::proxy::way::{Parcel, Step};
use crate::link::{Direction, LinkConfig};
use crate::log_limiter::LogLimiter;
use crate::net::batch::{Batch, Binding, COUNT, is_of_a_peer};
use crate::net::udp::PAUSE;
use crate::service::Peer;

/// Most datagrams of one direction that are sent on at once, before others have their turn.
const AT_ONCE: usize = 256;

/// A datagram proxy; it outlives its sockets.
#[derive(Debug)]
pub(super) struct Datagrams {
    name: Arc<str>,
    state: Mutex<State>,
    recorder: Option<Arc<Recorder>>,
    /// A deadline is earlier than what the timer task sleeps until.
    alarm: Event,
}

/// What is under the lock.
#[derive(Debug)]
struct State {
    relay: Relay<Flow>,
    /// What the timer task sleeps until.
    alarm: Option<Instant>,
    notes: Vec<Note>,
    outbox: Outbox,
    unsent: u64,
    complaints: LogLimiter,
}

/// What is kept for a client.
#[derive(Debug)]
pub(super) struct Flow {
    socket: Arc<Async<UdpSocket>>,
    /// Receives from that socket.
    _task: Guard,
}

/// The sockets of a proxy that listens, and where it relays to.
#[derive(Debug)]
struct Doors {
    sockets: Vec<Async<UdpSocket>>,
    /// What each of them is bound to.
    bindings: Vec<Binding>,
    upstream: SocketAddr,
}

impl Datagrams {
    /// Relays nothing yet.
    pub(super) fn new(name: Arc<str>, relay: Relay<Flow>, recorder: Option<Arc<Recorder>>) -> Self {
        let (notes, outbox, complaints) = (Vec::new(), Outbox::default(), LogLimiter::default());
        let state = State { relay, alarm: None, notes, outbox, unsent: 0, complaints };
        Self { name, state: Mutex::new(state), recorder, alarm: Event::new() }
    }

    /// Begins to relay.
    ///
    /// # Errors
    ///
    /// The system has no room to wait for another socket.
    pub(super) fn start(
        self: &Arc<Self>,
        sockets: Vec<UdpSocket>,
        upstream: SocketAddr,
    ) -> io::Result<Vec<Task>> {
        let bindings = sockets.iter().map(Binding::of).collect::<io::Result<_>>()?;
        let sockets = sockets.into_iter().map(Async::new).collect::<io::Result<Vec<_>>>()?;
        let doors = Arc::new(Doors { sockets, bindings, upstream });
        let serve = |door| rt::spawn(serve_door(self.clone(), doors.clone(), door));
        let mut tasks: Vec<Task> = (0..doors.sockets.len()).map(serve).collect();
        tasks.push(rt::spawn(keep_time(self.clone(), doors)));
        Ok(tasks)
    }

    /// Ends all flows.
    pub(super) fn close_all(&self) {
        let flows = self.lock().relay.close_all();
        drop(flows);
    }

    /// Carries on over another link in one direction.
    pub(super) fn set_config(&self, direction: Direction, config: LinkConfig) {
        self.lock().relay.set_config(rt::now(), direction, config);
        self.alarm.notify(1);
    }

    /// What has been done so far.
    pub(super) fn totals(&self) -> Kind {
        let state = self.lock();
        state.relay.totals(state.unsent)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        match self.state.lock() {
            Ok(state) => state,
            Err(_) => panic!("the relay has panicked before: nothing in it can be trusted"),
        }
    }

    /// Does something under the lock, then sends and closes what is due.
    fn with<R>(&self, doors: &Doors, act: impl FnOnce(&mut State, Instant) -> R) -> R {
        let mut state = self.lock();
        let now = rt::now();
        let result = act(&mut state, now);
        state.drive(now, doors);
        state.flush(now, doors);
        if let Some(recorder) = &self.recorder
            && !state.notes.is_empty()
        {
            recorder.add(&self.name, now, state.notes.drain(..));
        }
        state.notes.clear();
        let late = state.needs_alarm();
        drop(state);
        if late {
            self.alarm.notify(1);
        }
        result
    }

    /// A batch came from clients.
    fn take_up(self: &Arc<Self>, doors: &Arc<Doors>, door: usize, batch: &Batch) {
        self.with(doors, |state, now| {
            for (from, bytes) in batch.datagrams() {
                let peer = from.peer(door);
                let known = state.relay.find(&peer);
                if let Some(flow) = known.or_else(|| self.open(state, now, doors, peer)) {
                    state.take(now, doors, flow, Direction::Up, bytes);
                }
            }
        });
    }

    /// A batch came from the upstream for a client.
    fn take_down(&self, doors: &Doors, flow: u64, batch: &Batch) {
        self.with(doors, |state, now| {
            for (_, bytes) in batch.datagrams() {
                state.take(now, doors, flow, Direction::Down, bytes);
            }
        });
    }

    /// Begins a flow, unless the system has no room for its socket.
    fn open(
        self: &Arc<Self>,
        state: &mut State,
        now: Instant,
        doors: &Arc<Doors>,
        peer: Peer,
    ) -> Option<u64> {
        match connect(doors.upstream) {
            Ok(socket) => {
                let socket = Arc::new(socket);
                let flow = state.relay.next_flow();
                let task = serve_flow(self.clone(), Arc::downgrade(doors), flow, socket.clone());
                let task = rt::spawn_guarded(task);
                let (_, evicted) = state.relay.open(now, peer, Flow { socket, _task: task });
                drop(evicted);
                log::debug!("{}: {} is flow {flow}", self.name, peer.addr);
                Some(flow)
            }
            Err(error) => {
                state.unsent += 1;
                if is_full(&error) {
                    // As with too many clients, the oldest makes room: for the next datagram, as closing takes a moment.
                    drop(state.relay.evict());
                }
                if let Some(times) = state.complaints.count(now) {
                    let advice = if is_full(&error) {
                        "; lower --max-flows or raise the limit (ulimit -n)"
                    } else {
                        ""
                    };
                    log::warn!(
                        "{}: no socket for another client ({times} datagrams): {error}{advice}",
                        self.name
                    );
                }
                None
            }
        }
    }
}

/// Whether there are too many open files: in this process (EMFILE) or on this machine (ENFILE).
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

impl State {
    fn take(&mut self, now: Instant, doors: &Doors, flow: u64, direction: Direction, bytes: &[u8]) {
        let (step, note) = self.relay.handle(now, flow, direction, bytes);
        self.notes.extend(note);
        match step {
            Step::Forward => self.send(now, doors, direction, flow, bytes),
            // What arrives at once does so before what comes next is forwarded.
            Step::Taken => self.send_arrived(now, doors, direction),
        }
    }

    /// Sends what has arrived and ends flows that are idle.
    fn drive(&mut self, now: Instant, doors: &Doors) {
        self.send_arrived(now, doors, Direction::Up);
        self.send_arrived(now, doors, Direction::Down);
        while self.relay.expire(now).is_some() {}
    }

    fn send_arrived(&mut self, now: Instant, doors: &Doors, direction: Direction) {
        for _ in 0..AT_ONCE {
            let Some(Parcel { flow, bytes }) = self.relay.poll_transmit(now, direction) else { return };
            self.send(now, doors, direction, flow, &bytes);
        }
    }

    /// Sends a datagram, with others; one of a flow that is gone goes nowhere.
    fn send(&mut self, now: Instant, doors: &Doors, direction: Direction, flow: u64, bytes: &[u8]) {
        let Some((peer, kept)) = self.relay.get(flow) else { return };
        let (through, to) = match direction {
            Direction::Up => (Through::Flow(kept.socket.clone()), (doors.upstream, None)),
            Direction::Down => (Through::Door(peer.door), (peer.addr, peer.local)),
        };
        if self.outbox.push(through, to, bytes) {
            self.flush(now, doors);
        }
    }

    /// Sends what is to be sent. That a peer's system has answered an earlier one is no news.
    fn flush(&mut self, now: Instant, doors: &Doors) {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.send(&doors.sockets, |item, error| {
            self.unsent += 1;
            if !is_of_a_peer(error) {
                self.complain(now, item.to, error);
            }
        });
        self.outbox = outbox;
    }

    fn complain(&mut self, now: Instant, to: SocketAddr, error: &io::Error) {
        if let Some(times) = self.complaints.count(now) {
            log::warn!("{to}: cannot send: {error} ({times} datagrams, {} since the start)", self.unsent);
        }
    }

    /// Whether the timer task sleeps for too long; says so once.
    fn needs_alarm(&mut self) -> bool {
        let Some(next) = self.relay.poll_timeout() else { return false };
        let late = self.alarm.is_none_or(|alarm| next < alarm);
        if late {
            self.alarm = Some(next);
        }
        late
    }
}

/// A socket towards the upstream, which takes datagrams from nobody else.
fn connect(upstream: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let socket = Socket::new(Domain::for_address(upstream), Type::DGRAM, Some(Protocol::UDP))?;
    // With less than asked for, bursts are lost here as they might be anywhere.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.connect(&upstream.into())?;
    Async::new(socket.into())
}

/// Receives from clients.
async fn serve_door(proxy: Arc<Datagrams>, doors: Arc<Doors>, door: usize) {
    let (Some(socket), Some(&binding)) = (doors.sockets.get(door), doors.bindings.get(door)) else { return };
    let mut complaints = LogLimiter::default();
    loop {
        let more = Batch::with(|batch| {
            let count = batch.receive(socket.get_ref(), binding)?;
            proxy.take_up(&doors, door, batch);
            Ok(count == COUNT)
        });
        wait(&proxy.name, socket, more, &mut complaints).await;
    }
}

/// Receives what comes back for one client, until the proxy listens no more: its doors are not kept open from here.
async fn serve_flow(proxy: Arc<Datagrams>, doors: Weak<Doors>, flow: u64, socket: Arc<Async<UdpSocket>>) {
    let mut complaints = LogLimiter::default();
    loop {
        let Some(open) = doors.upgrade() else { return };
        let more = Batch::with(|batch| {
            let count = batch.receive(socket.get_ref(), Binding::to(open.upstream))?;
            proxy.take_down(&open, flow, batch);
            Ok(count == COUNT)
        });
        drop(open);
        wait(&proxy.name, &socket, more, &mut complaints).await;
    }
}

/// Waits until there is something to receive; after an error that no datagram explains, for a moment.
async fn wait(name: &str, socket: &Async<UdpSocket>, more: io::Result<bool>, complaints: &mut LogLimiter) {
    match more {
        Ok(true) => rt::yield_now().await,
        Ok(false) => drop(socket.readable().await),
        Err(error) => {
            if let Some(times) = complaints.count(rt::now()) {
                log::warn!("{name}: cannot receive datagrams ({times} attempts): {error}");
            }
            rt::sleep(PAUSE).await;
        }
    }
}

/// Sleeps until the next deadline, over and over.
async fn keep_time(proxy: Arc<Datagrams>, doors: Arc<Doors>) {
    loop {
        let earlier = proxy.alarm.listen();
        proxy.with(&doors, |_, _| ());
        let deadline = {
            let mut state = proxy.lock();
            state.alarm = state.relay.poll_timeout();
            state.alarm
        };
        match deadline {
            Some(at) => drop(rt::before(at, earlier).await),
            None => earlier.await,
        }
    }
}
