//! The polling API: a socket core without threads, runtime or callbacks, driven by its owner.
//!
//! A [`Core`] is a [`Host`] on one readiness loop, and stands where an [`Engine`](super::Engine) stands: between
//! sockets and a program of any protocol. It queues what happens, and [`Core::poll`] returns it as [`Event`]s. Input
//! stays in its connection until it is [taken](Core::recv). For callbacks, take an engine; for the chat, a
//! [`Client`](super::Client).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connect_url::ConnectUrl;
use super::engine::SingleLoop;
use super::listen::{ListenAddr, Listeners};
use super::open_error::OpenError;
use super::rt;
use crate::host::{Context, Host, PeerInfo, SendError, Settings};
use crate::listener::Framing;
use crate::service::{ConnId, DialId, Peer, Service as _};
use crate::units::later;

mod events;

use events::EventQueue;
pub use events::{Event, Events};

/// A set of listeners and connections that its owner drives, for peers with and without names.
///
/// ```
/// use std::time::Duration;
/// use sayagain::host::Settings;
/// use sayagain::net::Core;
/// use sayagain::net::core::Event;
///
/// let mut boss = Core::new(Settings::default().name("boss")?.expect("worker-*")?)?;
/// let url = boss.listen("msg://127.0.0.1:0")?.remove(0).to_string();
/// let mut worker = Core::new(Settings::default().name("worker-1")?)?;
/// worker.connect(&url)?;
///
/// let (wait, mut done) = (Some(Duration::from_millis(1)), None);
/// while done.is_none() {
///     for event in boss.poll(wait)? {
///         match event {
///             Event::Expected(id) => boss.send(id, b"6 * 7")?,
///             Event::Readable(id) => done = boss.recv(id),
///             _ => {}
///         }
///     }
///     for event in worker.poll(wait)? {
///         if let Event::Readable(id) = event {
///             assert_eq!(worker.recv(id).as_deref(), Some(&b"6 * 7"[..]));
///             worker.send(id, b"42")?;
///         }
///     }
/// }
/// assert_eq!(done.as_deref(), Some(&b"42"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Connections are made by tasks of the crate's runtime. All else runs inside [`Core::poll`]. Dropping the
/// core closes its sockets at once; [`Core::shutdown`] writes what is queued first.
#[derive(Debug)]
pub struct Core {
    single_loop: SingleLoop<Host<EventQueue>>,
    woken: Arc<AtomicBool>,
}

/// Sockets.
impl Core {
    /// Creates a core without sockets.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot create an epoll or kqueue instance.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let single_loop = SingleLoop::new(Host::new(settings, Vec::new(), EventQueue::default()))?;
        Ok(Self { single_loop, woken: Arc::default() })
    }

    /// Listens at a URL, on every address of its host. Returns the addresses, as port 0 takes a free one.
    ///
    /// The schemes are bytes (`raw://HOST:PORT`, `raw+unix:///PATH`), messages (`msg://`), lines (`line://`), the
    /// chat's frames (`tcp://`, `unix://`) and datagrams (`udp://`). Several processes may share a port:
    /// `?reuse_port=1`.
    ///
    /// # Errors
    ///
    /// Fails if the URL is invalid or cannot be listened on.
    pub fn listen(&mut self, url: &str) -> Result<Vec<ListenAddr>, OpenError> {
        let parsed = url.parse().map_err(|source| OpenError::Url { url: url.to_owned(), source })?;
        let mut listeners = Listeners::default();
        listeners.add(&parsed)?;
        let (places, list) = (listeners.addrs().cloned().collect(), listeners.list());
        self.single_loop.with(|host, _| host.add_all_listeners(list));
        self.single_loop.add_all_listeners(listeners)?;
        Ok(places)
    }

    /// Connects to a URL. The result is [`Event::Expected`] of a connection whose [`PeerInfo::dial`] is the
    /// returned id, or [`Event::Failed`].
    ///
    /// # Errors
    ///
    /// Fails if the URL is invalid.
    pub fn connect(&mut self, url: &str) -> Result<DialId, OpenError> {
        let parsed: ConnectUrl =
            url.parse().map_err(|source| OpenError::Url { url: url.to_owned(), source })?;
        Ok(self.act(|cx| cx.connect(parsed.target(), parsed.framing())))
    }

    /// Sends queued output, and waits for events, at most for `timeout`; `None` waits for ever.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot wait.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<Events> {
        let until = timeout.map(|length| later(rt::now(), length));
        let has_events = self.single_loop.look(|host| host.handler_mut().begin());
        let mut wait = if has_events { Some(Duration::ZERO) } else { timeout };
        loop {
            self.single_loop.step(wait)?;
            let events = self.single_loop.look(|host| host.handler_mut().take());
            let is_over = until.is_some_and(|until| until <= rt::now());
            if !events.is_empty() || is_over || self.woken.swap(false, Ordering::SeqCst) {
                return Ok(events);
            }
            wait = until.map(|until| until.saturating_duration_since(rt::now()));
        }
    }

    /// The time at which [`Core::poll`] is due even if [no socket is ready](Core::as_fd): a deadline, or now if output
    /// or events wait. `None` means never. Ask again after every call that sends, connects or closes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let has_events = self.single_loop.look(|host| !host.handler().events.is_empty());
        if has_events { Some(rt::now()) } else { self.single_loop.deadline() }
    }

    /// Returns a handle that ends [`Core::poll`] early, from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { waker: self.single_loop.waker().clone(), woken: self.woken.clone() }
    }

    /// Stops accepting, closes every connection once its output is written, and waits for that, at most for
    /// `limit`. Returns whether all were closed in time.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot wait.
    pub fn shutdown(mut self, limit: Duration) -> io::Result<bool> {
        let end = later(rt::now(), limit);
        self.single_loop.stop_accepting();
        self.single_loop.with(|host, now| host.shutdown(now));
        while !self.single_loop.is_finished() && rt::now() < end {
            self.single_loop.step(Some(end.saturating_duration_since(rt::now())))?;
        }
        Ok(self.single_loop.is_finished())
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.single_loop.with(|host, now: Instant| host.with(now, |_, cx| act(cx)))
    }
}

/// Connections. The next [`Core::poll`] writes what is sent.
impl Core {
    /// Sends a piece: raw bytes, or one message, line or frame, by the framing of the connection. Copies it.
    ///
    /// # Errors
    ///
    /// Fails if the queue is full ([`Event::Drained`] reports room), the connection is closed, or the framing
    /// cannot carry the piece.
    pub fn send(&mut self, conn: ConnId, piece: &[u8]) -> Result<(), SendError> {
        self.act(|cx| cx.send(conn, piece))
    }

    /// As [`Core::send`] for shared bytes; 1 KiB and more are not copied.
    ///
    /// # Errors
    ///
    /// Fails as [`Core::send`].
    pub fn share(&mut self, conn: ConnId, piece: &Bytes) -> Result<(), SendError> {
        self.act(|cx| cx.share(conn, piece))
    }

    /// Sends pieces while there is room. Returns how many were sent; the next of `pieces` was not taken.
    ///
    /// # Errors
    ///
    /// Fails if the connection is closed, or the framing cannot carry a piece; those after it were not taken.
    pub fn send_many<T: AsRef<[u8]>>(
        &mut self,
        conn: ConnId,
        pieces: &mut dyn Iterator<Item = T>,
    ) -> Result<usize, SendError> {
        self.act(|cx| cx.send_many(conn, pieces))
    }

    /// Sends a datagram from one of this core's UDP listeners. It may be lost.
    ///
    /// # Errors
    ///
    /// Fails if the datagram is too long, or too many wait.
    pub fn send_to(&mut self, peer: Peer, bytes: &[u8]) -> Result<(), SendError> {
        self.act(|cx| cx.send_to(peer, bytes))
    }

    /// Takes the first complete message, line or frame, or all bytes of a raw connection. Short ones that
    /// came together share one buffer: copy what is kept for long.
    pub fn recv(&mut self, conn: ConnId) -> Option<Bytes> {
        self.act(|cx| cx.recv(conn))
    }

    /// Closes a connection once everything is written to it.
    pub fn close(&mut self, conn: ConnId) {
        self.act(|cx| cx.close(conn));
    }

    /// Closes a connection at once, dropping unwritten output.
    pub fn abort(&mut self, conn: ConnId) {
        self.act(|cx| cx.abort(conn));
    }

    /// Changes the framing of a connection.
    pub fn set_framing(&mut self, conn: ConnId, framing: Framing) {
        self.act(|cx| cx.set_framing(conn, framing));
    }

    /// Reads what is known of a connection's peer; `None` if it is gone.
    pub fn peer<R>(&self, conn: ConnId, look: impl FnOnce(PeerInfo<'_>) -> R) -> Option<R> {
        self.single_loop.look(|host| host.peer(conn).map(look))
    }

    /// The name of a connection's peer. A peer that is gone keeps it until the [`Core::poll`] after the one that
    /// returned its [`Event::Disconnected`].
    pub fn name(&self, conn: ConnId) -> Option<String> {
        self.single_loop.look(|host| {
            let known = host.peer(conn).and_then(|peer| peer.name().map(str::to_owned));
            known.or_else(|| host.handler().gone.get(&conn).cloned())
        })
    }

    /// The connection of the peer with this name.
    pub fn find(&self, name: &str) -> Option<ConnId> {
        self.single_loop.look(|host| host.find(name))
    }

    /// Buffered bytes: input that was not taken, and output that was not written.
    pub fn memory(&self) -> (usize, usize) {
        self.single_loop.look(|host| host.memory())
    }

    /// Number of datagrams dropped because earlier ones were not taken.
    pub fn lost_datagrams(&self) -> u64 {
        self.single_loop.look(|host| host.handler().lost)
    }
}

/// The descriptor of the epoll or kqueue instance, to join a loop of the owner's. Once it is readable, or
/// [`Core::poll_timeout`] has come, call [`Core::poll`] with a timeout of zero.
///
/// ```
/// use std::os::fd::{AsFd as _, AsRawFd as _};
/// use std::time::{Duration, Instant};
/// use mio::{Events, Interest, Poll, Token, unix::SourceFd};
/// use sayagain::host::Settings;
/// use sayagain::net::core::{Core, Event};
///
/// let mut core = Core::new(Settings::default())?;
/// let addr = core.listen("line://127.0.0.1:0")?.remove(0).to_string();
/// let _peer = std::net::TcpStream::connect(addr.trim_start_matches("line://"))?;
/// // The program's own loop: here of mio, with the core as one of its sources.
/// let (mut own, mut ready) = (Poll::new()?, Events::with_capacity(8));
/// own.registry().register(&mut SourceFd(&core.as_fd().as_raw_fd()), Token(0), Interest::READABLE)?;
/// let event = loop {
///     own.poll(&mut ready, core.poll_timeout().map(|at| at.saturating_duration_since(Instant::now())))?;
///     if let Some(event) = core.poll(Some(Duration::ZERO))?.next() {
///         break event;
///     }
/// };
/// assert!(matches!(event, Event::Unknown(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl AsFd for Core {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.single_loop.fd()
    }
}

/// Ends [`Core::poll`] early, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    waker: Arc<mio::Waker>,
    woken: Arc<AtomicBool>,
}

impl Waker {
    /// Makes the present or next call of [`Core::poll`] return at once.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        // The only possible error is a full counter, and then the core wakes anyway.
        if let Err(error) = self.waker.wake() {
            log::debug!("cannot wake a core: {error}");
        }
    }
}
