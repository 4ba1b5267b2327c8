//! The sockets of a datagram proxy: a listening socket per address, and per client one to the upstream, so that
//! answers find their client.
//!
//! One lock protects the [`Relay`]. A task that receives a batch handles it and sends the results under that lock, so
//! order is kept. Sending does not wait: datagrams that the system does not accept are dropped, as by a router.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use async_io::Async;
use event_listener::Event;
use socket2::{Domain, Protocol, Socket, Type};

use super::outbox::{Outbox, Through};
use super::recorder::Recorder;
use super::rt::{self, Guard, Task};
use super::{BUFFER, lock};
use crate::lab::proxy::datagram_path::{FlowDatagram, Step};
use crate::lab::proxy::datagrams::Relay;
use crate::lab::proxy::record::Note;
use crate::lab::proxy::totals::Kind;
use crate::link::{Direction, LinkConfig};
use crate::log_limiter::LogLimiter;
use crate::net::batch::{Batch, Binding, COUNT, is_of_a_peer};
use crate::net::udp::ReceivePause;
use crate::service::Peer;

/// Bound on the datagrams of one direction that are sent before other tasks run.
const AT_ONCE: usize = 256;

/// A datagram proxy; it outlives its sockets.
#[derive(Debug)]
pub(super) struct Datagrams {
    name: Arc<str>,
    state: Mutex<RelayState>,
    recorder: Option<Arc<Recorder>>,
    /// Notified when a deadline is earlier than the wakeup of the timer task.
    timer: Event,
}

/// The state behind the lock.
#[derive(Debug)]
struct RelayState {
    relay: Relay<Flow>,
    /// The wakeup of the timer task.
    timer: Option<Instant>,
    notes: Vec<Note>,
    outbox: Outbox,
    unsent: u64,
    complaints: LogLimiter,
}

/// The driver's handle of a client.
#[derive(Debug)]
pub(super) struct Flow {
    socket: Arc<Async<UdpSocket>>,
    /// The task that receives from the socket.
    _task: Guard,
}

/// The listening sockets of a proxy, and its upstream.
#[derive(Debug)]
struct Listeners {
    sockets: Vec<Async<UdpSocket>>,
    /// The binding of each socket.
    bindings: Vec<Binding>,
    upstream: SocketAddr,
}

impl Datagrams {
    /// Creates an idle proxy.
    pub(super) fn new(name: Arc<str>, relay: Relay<Flow>, recorder: Option<Arc<Recorder>>) -> Self {
        let (notes, outbox, complaints) = (Vec::new(), Outbox::default(), LogLimiter::default());
        let state = RelayState { relay, timer: None, notes, outbox, unsent: 0, complaints };
        Self { name, state: Mutex::new(state), recorder, timer: Event::new() }
    }

    /// Starts to relay.
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
        let listeners = Arc::new(Listeners { sockets, bindings, upstream });
        let serve = |listener| rt::spawn(serve_listener(self.clone(), listeners.clone(), listener));
        let mut tasks: Vec<Task> = (0..listeners.sockets.len()).map(serve).collect();
        tasks.push(rt::spawn(keep_time(self.clone(), listeners)));
        Ok(tasks)
    }

    /// Closes all flows.
    pub(super) fn close_all(&self) {
        let flows = self.lock().relay.close_all();
        drop(flows);
    }

    /// Changes the link of one direction.
    pub(super) fn set_config(&self, direction: Direction, config: LinkConfig) {
        self.lock().relay.set_config(rt::now(), direction, config);
        self.timer.notify(1);
    }

    /// Returns the counters so far.
    pub(super) fn totals(&self) -> Kind {
        let state = self.lock();
        state.relay.totals(state.unsent)
    }

    fn lock(&self) -> MutexGuard<'_, RelayState> {
        lock(&self.state)
    }

    /// Runs `act` under the lock, then sends the due datagrams and closes the due sockets.
    fn with<R>(&self, listeners: &Listeners, act: impl FnOnce(&mut RelayState, Instant) -> R) -> R {
        let mut state = self.lock();
        let now = rt::now();
        let result = act(&mut state, now);
        state.drive(now, listeners);
        state.flush(now, listeners);
        if let Some(recorder) = &self.recorder
            && !state.notes.is_empty()
        {
            recorder.add(&self.name, now, state.notes.drain(..));
        }
        state.notes.clear();
        let late = state.needs_earlier_wakeup();
        drop(state);
        if late {
            self.timer.notify(1);
        }
        result
    }

    /// Handles a batch from clients.
    fn take_up(self: &Arc<Self>, listeners: &Arc<Listeners>, listener: usize, batch: &Batch) {
        self.with(listeners, |state, now| {
            for (from, bytes) in batch.datagrams() {
                let peer = from.peer(listener);
                let known = state.relay.find(&peer);
                if let Some(flow) = known.or_else(|| self.open(state, now, listeners, peer)) {
                    state.take(now, listeners, flow, Direction::Up, bytes);
                }
            }
        });
    }

    /// Handles a batch from the upstream for a client.
    fn take_down(&self, listeners: &Listeners, flow: u64, batch: &Batch) {
        self.with(listeners, |state, now| {
            for (_, bytes) in batch.datagrams() {
                state.take(now, listeners, flow, Direction::Down, bytes);
            }
        });
    }

    /// Opens a flow, unless the system has no room for its socket.
    fn open(
        self: &Arc<Self>,
        state: &mut RelayState,
        now: Instant,
        listeners: &Arc<Listeners>,
        peer: Peer,
    ) -> Option<u64> {
        match connect(listeners.upstream) {
            Ok(socket) => {
                let socket = Arc::new(socket);
                let flow = state.relay.next_flow();
                let task = serve_flow(self.clone(), Arc::downgrade(listeners), flow, socket.clone());
                let task = rt::spawn_guarded(task);
                let (_, evicted) = state.relay.open(now, peer, Flow { socket, _task: task });
                drop(evicted);
                log::debug!("{}: {} is flow {flow}", self.name, peer.addr);
                Some(flow)
            }
            Err(error) => {
                state.unsent += 1;
                if is_full(&error) {
                    // As with too many clients, the least recently used flow is evicted. Its socket takes a moment to
                    // close, so this helps the next datagram.
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

impl RelayState {
    fn take(&mut self, now: Instant, listeners: &Listeners, flow: u64, direction: Direction, bytes: &[u8]) {
        let (step, note) = self.relay.handle(now, flow, direction, bytes);
        self.notes.extend(note);
        match step {
            Step::Forward => self.send(now, listeners, direction, flow, bytes),
            // A datagram that arrives at once must not be overtaken by a later one that is forwarded.
            Step::Taken => self.send_arrived(now, listeners, direction),
        }
    }

    /// Sends arrived datagrams and closes idle flows.
    fn drive(&mut self, now: Instant, listeners: &Listeners) {
        self.send_arrived(now, listeners, Direction::Up);
        self.send_arrived(now, listeners, Direction::Down);
        while self.relay.expire(now).is_some() {}
    }

    fn send_arrived(&mut self, now: Instant, listeners: &Listeners, direction: Direction) {
        for _ in 0..AT_ONCE {
            let Some(FlowDatagram { flow, bytes }) = self.relay.poll_transmit(now, direction) else { return };
            self.send(now, listeners, direction, flow, &bytes);
        }
    }

    /// Adds a datagram to the batch; one of a flow that is gone is dropped.
    fn send(&mut self, now: Instant, listeners: &Listeners, direction: Direction, flow: u64, bytes: &[u8]) {
        let Some((peer, kept)) = self.relay.get(flow) else { return };
        let (through, to) = match direction {
            Direction::Up => (Through::Flow(kept.socket.clone()), (listeners.upstream, None)),
            Direction::Down => (Through::Listener(peer.listener), (peer.addr, peer.local)),
        };
        if self.outbox.push(through, to, bytes) {
            self.flush(now, listeners);
        }
    }

    /// Sends the batch. ICMP errors about earlier datagrams are ignored.
    fn flush(&mut self, now: Instant, listeners: &Listeners) {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.send(&listeners.sockets, |item, error| {
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

    /// Whether the timer task sleeps past the next deadline; true once per deadline.
    fn needs_earlier_wakeup(&mut self) -> bool {
        let Some(next) = self.relay.poll_timeout() else { return false };
        let late = self.timer.is_none_or(|timer| next < timer);
        if late {
            self.timer = Some(next);
        }
        late
    }
}

/// Creates a socket to the upstream, connected so that it receives from no other address.
fn connect(upstream: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let socket = Socket::new(Domain::for_address(upstream), Type::DGRAM, Some(Protocol::UDP))?;
    // With a smaller buffer than requested, bursts may be lost.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.connect(&upstream.into())?;
    Async::new(socket.into())
}

/// Receives from clients.
async fn serve_listener(proxy: Arc<Datagrams>, listeners: Arc<Listeners>, listener: usize) {
    let (Some(socket), Some(&binding)) = (listeners.sockets.get(listener), listeners.bindings.get(listener))
    else {
        return;
    };
    let mut pause = ReceivePause::new(&format!("{}: ", proxy.name));
    loop {
        let more = Batch::with(|batch| {
            let count = batch.receive(socket.get_ref(), binding)?;
            proxy.take_up(&listeners, listener, batch);
            Ok(count == COUNT)
        });
        pause.wait(socket, more).await;
    }
}

/// Receives answers for one client. The weak reference lets the listeners close.
async fn serve_flow(
    proxy: Arc<Datagrams>,
    listeners: Weak<Listeners>,
    flow: u64,
    socket: Arc<Async<UdpSocket>>,
) {
    let mut pause = ReceivePause::new(&format!("{}: ", proxy.name));
    loop {
        let Some(open) = listeners.upgrade() else { return };
        let more = Batch::with(|batch| {
            let count = batch.receive(socket.get_ref(), Binding::to(open.upstream))?;
            proxy.take_down(&open, flow, batch);
            Ok(count == COUNT)
        });
        drop(open);
        pause.wait(&socket, more).await;
    }
}

/// Sleeps until each next deadline.
async fn keep_time(proxy: Arc<Datagrams>, listeners: Arc<Listeners>) {
    loop {
        let earlier = proxy.timer.listen();
        proxy.with(&listeners, |_, _| ());
        let deadline = {
            let mut state = proxy.lock();
            state.timer = state.relay.poll_timeout();
            state.timer
        };
        match deadline {
            Some(at) => drop(rt::before(at, earlier).await),
            None => earlier.await,
        }
    }
}
