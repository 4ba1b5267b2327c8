//! The sockets of a stream proxy: for each client a connection to the upstream, and a [`Pipe`] in each direction,
//! which decides when bytes arrive.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_io::Async;
use futures::StreamExt as _;
use futures::future::{pending, select, try_join};

use super::lock;
use super::recorder::Recorder;
use super::rt::{self, Guard, Task};
use super::tcp::{check, close, connect, prepare, reset};
use crate::lab::proxy::pipe::Pipe;
use crate::lab::proxy::segment_model::SegmentModel;
use crate::lab::proxy::totals::Kind;
use crate::link::{Direction, LinkConfig};
use crate::log_limiter::LogLimiter;
use crate::net::accept::connections;
use crate::units::later;

/// Interval at which an idle connection checks whether its peers are alive and whether the link has changed.
const LOOK: Duration = Duration::from_secs(1);

/// Size of one read, in bytes.
const READ_SIZE: usize = 64 << 10;

thread_local! {
    /// One buffer for all connections that a thread reads from.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// A stream proxy; it outlives its sockets.
#[derive(Debug)]
pub(super) struct Streams {
    name: Arc<str>,
    up: Mutex<SegmentModel>,
    down: Mutex<SegmentModel>,
    conns: Mutex<Conns>,
    recorder: Option<Arc<Recorder>>,
}

/// The connections.
#[derive(Debug)]
struct Conns {
    limit: usize,
    open: BTreeMap<u64, Connection>,
    opened: u64,
    refused: u64,
    failed: u64,
    complaints: LogLimiter,
}

/// A connection that has not ended.
#[derive(Debug)]
struct Connection {
    client: Arc<Async<TcpStream>>,
    /// Set once connected.
    server: Option<Arc<Async<TcpStream>>>,
    /// The task that relays it.
    _task: Guard,
}

impl Drop for Connection {
    /// A reset, so that the peer does not take the cut for the end of the stream. Done here because the task ends
    /// later, or not at all if the program ends.
    fn drop(&mut self) {
        reset(&self.client);
        self.server.iter().for_each(|server| reset(server));
    }
}

/// Why a connection is reset.
#[derive(Debug)]
enum Broken {
    /// The link resets it.
    Reset,
    /// One of its sockets failed.
    Lost(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Streams {
    /// Creates an idle proxy for `limit` connections at once.
    pub(super) fn new(
        name: Arc<str>,
        limit: usize,
        (up, down): (SegmentModel, SegmentModel),
        recorder: Option<Arc<Recorder>>,
    ) -> Self {
        let (open, complaints) = (BTreeMap::new(), LogLimiter::default());
        let conns = Conns { limit: limit.max(1), open, opened: 0, refused: 0, failed: 0, complaints };
        Self { name, up: Mutex::new(up), down: Mutex::new(down), conns: Mutex::new(conns), recorder }
    }

    /// Starts to relay.
    ///
    /// # Errors
    ///
    /// The system has no room to wait for another socket.
    pub(super) fn start(
        self: &Arc<Self>,
        listeners: Vec<TcpListener>,
        upstream: &Arc<[SocketAddr]>,
    ) -> io::Result<Vec<Task>> {
        let listeners = listeners.into_iter().map(Async::new).collect::<io::Result<Vec<_>>>()?;
        let accept = |listener| rt::spawn(accept(self.clone(), listener, upstream.clone()));
        Ok(listeners.into_iter().map(accept).collect())
    }

    /// Resets all connections.
    pub(super) fn close_all(&self) {
        let open = std::mem::take(&mut lock(&self.conns).open);
        drop(open);
    }

    /// Changes the link of one direction.
    pub(super) fn set_config(&self, direction: Direction, config: LinkConfig) {
        self.model(direction).set_config(rt::now(), config);
    }

    /// Returns the counters so far.
    pub(super) fn totals(&self) -> Kind {
        let (up, down) = (self.model(Direction::Up).totals(), self.model(Direction::Down).totals());
        let conns = lock(&self.conns);
        Kind::Streams {
            connections: conns.opened,
            open: conns.open.len(),
            refused: conns.refused,
            failed: conns.failed,
            up,
            down,
        }
    }

    fn model(&self, direction: Direction) -> MutexGuard<'_, SegmentModel> {
        lock(match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        })
    }

    /// Runs `act` on a direction's model, and records its decisions.
    fn decide(&self, direction: Direction, act: impl FnOnce(&mut SegmentModel)) {
        let mut model = self.model(direction);
        act(&mut model);
        if let Some(recorder) = &self.recorder {
            let notes = model.take_notes();
            if !notes.is_empty() {
                recorder.add(&self.name, rt::now(), notes);
            }
        }
    }

    /// Handles a new client connection.
    fn welcome(self: &Arc<Self>, client: Async<TcpStream>, addr: SocketAddr, upstream: &Arc<[SocketAddr]>) {
        let mut conns = lock(&self.conns);
        if conns.open.len() >= conns.limit {
            conns.refused += 1;
            reset(&client);
            return;
        }
        let flow = conns.opened;
        conns.opened += 1;
        log::debug!("{}: {addr} is connection {flow}", self.name);
        // The lock keeps the task from ending before its connection is in the list.
        let client = Arc::new(client);
        let task = rt::spawn_guarded(serve(self.clone(), client.clone(), upstream.clone(), flow));
        conns.open.insert(flow, Connection { client, server: None, _task: task });
    }

    fn complain(&self, upstream: &[SocketAddr], error: &io::Error) {
        let mut conns = lock(&self.conns);
        conns.failed += 1;
        let to = upstream.last().map_or_else(String::new, SocketAddr::to_string);
        if let Some(times) = conns.complaints.count(rt::now()) {
            log::warn!("{}: cannot connect to {to} ({times} connections): {error}", self.name);
        }
    }
}

/// Accepts connections.
async fn accept(proxy: Arc<Streams>, listener: Async<TcpListener>, upstream: Arc<[SocketAddr]>) {
    let mut accepted = pin!(connections(&format!("{}: ", proxy.name), listener));
    while let Some((client, addr)) = accepted.next().await {
        proxy.welcome(client, addr, &upstream);
    }
}

/// Relays a connection to its end.
async fn serve(proxy: Arc<Streams>, client: Arc<Async<TcpStream>>, upstream: Arc<[SocketAddr]>, flow: u64) {
    let server = connect(&upstream).await.map(Arc::new);
    let is_finished = match &server {
        Ok(server) => {
            match lock(&proxy.conns).open.get_mut(&flow) {
                Some(conn) => conn.server = Some(server.clone()),
                // Cut off meanwhile.
                None => return,
            }
            relay(&proxy, &client, server, flow).await
        }
        Err(error) => {
            proxy.complain(&upstream, error);
            false
        }
    };
    let ended = lock(&proxy.conns).open.remove(&flow);
    drop(ended);
    if is_finished {
        close(&client);
        server.iter().for_each(|server| close(server));
    }
}

/// Relays both directions. Returns whether both ended.
async fn relay(proxy: &Streams, client: &Async<TcpStream>, server: &Async<TcpStream>, flow: u64) -> bool {
    for socket in [client, server] {
        if let Err(error) = prepare(socket.get_ref()) {
            log::debug!("{}: connection {flow}: {error}", proxy.name);
        }
    }
    let up = carry(proxy, client, server, flow, Direction::Up);
    let down = carry(proxy, server, client, flow, Direction::Down);
    let carried = try_join(up, down).await;
    if let Err(Broken::Lost(error)) = &carried {
        log::debug!("{}: connection {flow}: {error}", proxy.name);
    }
    carried.is_ok()
}

/// Relays one direction to its end.
async fn carry(
    proxy: &Streams,
    from: &Async<TcpStream>,
    to: &Async<TcpStream>,
    flow: u64,
    direction: Direction,
) -> Result<(), Broken> {
    let mut pipe = Pipe::new(rt::now(), flow);
    loop {
        proxy.decide(direction, |model| pipe.handle_timeout(rt::now(), model));
        let written = write(&mut pipe, to.get_ref())?;
        if written > 0 {
            proxy.model(direction).count_bytes(written);
        }
        if pipe.is_reset() {
            proxy.model(direction).count_reset();
            return Err(Broken::Reset);
        }
        if pipe.is_finished() {
            // Fails only if the peer has closed first.
            let _ = to.get_ref().shutdown(Shutdown::Write);
            return Ok(());
        }
        if read(proxy, &mut pipe, from.get_ref(), direction)? || written > 0 {
            rt::yield_now().await;
        } else {
            wait(&pipe, from, to).await;
            if pipe.room() == 0 {
                // The pipe is full, so no read would detect a dead peer.
                check(from)?;
                check(to)?;
            }
        }
    }
}

/// Writes the ready bytes that fit. Returns their number.
fn write(pipe: &mut Pipe, mut to: &TcpStream) -> io::Result<usize> {
    let mut written = 0;
    while !pipe.ready().is_empty() {
        match to.write(pipe.ready()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                pipe.consume(count);
                written += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Reads available bytes that fit. Returns whether there may be more to do.
fn read(proxy: &Streams, pipe: &mut Pipe, mut from: &TcpStream, direction: Direction) -> io::Result<bool> {
    let room = pipe.room().min(READ_SIZE);
    if room == 0 {
        return Ok(false);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        match from.read(buffer) {
            Ok(0) => pipe.handle_end(),
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                proxy.decide(direction, |model| pipe.handle_bytes(rt::now(), bytes, model));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    })
}

/// Waits until something can be read, written, or sent.
async fn wait(pipe: &Pipe, from: &Async<TcpStream>, to: &Async<TcpStream>) {
    let readable = pin!(when(pipe.room() > 0, from.readable()));
    let writable = pin!(when(!pipe.ready().is_empty(), to.writable()));
    let sockets = select(readable, writable);
    let deadline = pipe.poll_timeout();
    if deadline.is_some() || pipe.room() == 0 {
        let look = later(rt::now(), LOOK);
        rt::before(deadline.map_or(look, |at| at.min(look)), sockets).await;
    } else {
        sockets.await;
    }
}

/// Waits for `ready` if `wanted`, for ever otherwise.
async fn when(wanted: bool, ready: impl Future<Output = io::Result<()>>) {
    if wanted {
        // The next operation on the socket reports the error.
        let _ = ready.await;
    } else {
        pending().await
    }
}
