//! The polling way: a socket core without a thread, a runtime or callbacks, turned by its owner.
//!
//! A [`Core`] is a [`Host`] on one readiness loop. What happens is noted down, and [`Core::poll`] gives it out as
//! [`Event`]s; what came in on a connection stays there until it is [taken](Core::recv).

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connect_url::ConnectUrl;
use super::engine::SingleLoop;
use super::listen::{Doors, ListenAddr};
use super::open_error::OpenError;
use super::rt;
use crate::door::Framing;
use crate::host::{Context, Handler, Host, PeerInfo, SendError, Settings};
use crate::service::{CloseReason, ConnId, DialId, Peer, Service as _};
use crate::units::later;

/// Most bytes of datagrams that wait to be taken; what is more is lost, as in the system's buffers.
const MOST_DATAGRAMS: usize = 1 << 20;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A peer is there that is expected: one whose name a rule has, or one that we have called.
    Expected(ConnId),
    /// A peer is there that nobody expects: one of another name, or without one.
    Unknown(ConnId),
    /// Something has come that can be [taken](Core::recv). Until more has come it is not said again.
    Readable(ConnId),
    /// All that was sent to a peer is written: its queue is empty again.
    Drained(ConnId),
    /// A peer is gone. What it had sent and nobody has taken is gone with it, unless it has closed in peace: then this comes
    /// behind that, if some of it is taken at least every minute, for ten minutes at most.
    Disconnected(ConnId, CloseReason),
    /// A datagram came in.
    Datagram(Peer, Bytes),
    /// A connection that was asked for could not be made, or was refused there.
    Failed(DialId, io::Error),
}

/// What happened since the last call of [`Core::poll`], in order.
#[derive(Debug)]
pub struct Events(VecDeque<Event>);

impl Events {
    /// Whether nothing happened: the time was over, or somebody has [woken](Waker) the core.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

/// What happened and was not given out yet.
#[derive(Debug, Default)]
struct Mailbox {
    events: VecDeque<Event>,
    /// Whose `Readable` is among these.
    readable: BTreeSet<ConnId>,
    /// Bytes of datagrams among them, and how many datagrams were lost for want of room.
    datagrams: usize,
    lost: u64,
}

impl Mailbox {
    fn take(&mut self) -> Events {
        self.readable.clear();
        self.datagrams = 0;
        Events(std::mem::take(&mut self.events))
    }
}

impl Handler for Mailbox {
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let expected = cx.peer(conn).is_some_and(|peer| peer.expected());
        self.events.push_back(if expected { Event::Expected(conn) } else { Event::Unknown(conn) });
    }

    fn readable(&mut self, _cx: &mut Context<'_>, conn: ConnId) {
        if self.readable.insert(conn) {
            self.events.push_back(Event::Readable(conn));
        }
    }

    fn drained(&mut self, _cx: &mut Context<'_>, conn: ConnId) {
        self.events.push_back(Event::Drained(conn));
    }

    fn closed(&mut self, _cx: &mut Context<'_>, conn: ConnId, why: CloseReason) {
        self.events.push_back(Event::Disconnected(conn, why));
    }

    fn datagram(&mut self, _cx: &mut Context<'_>, peer: Peer, bytes: &[u8]) {
        if self.datagrams + bytes.len() > MOST_DATAGRAMS {
            self.lost += 1;
            return;
        }
        self.datagrams += bytes.len();
        self.events.push_back(Event::Datagram(peer, Bytes::copy_from_slice(bytes)));
    }

    fn failed(&mut self, _cx: &mut Context<'_>, dial: DialId, error: &io::Error) {
        self.events.push_back(Event::Failed(dial, io::Error::new(error.kind(), error.to_string())));
    }
}

/// Sockets in, pieces out: any number of listeners and connections, in and out, of peers with and without names.
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
/// A connection is made by tasks of the crate's own; nothing else of it runs outside of [`Core::poll`]. Dropped, it closes all
/// its sockets at once; [`Core::shutdown`] lets everybody have what is still to be written.
#[derive(Debug)]
pub struct Core {
    single_loop: SingleLoop<Host<Mailbox>>,
    woken: Arc<AtomicBool>,
}

/// Sockets.
impl Core {
    /// A core without any.
    ///
    /// # Errors
    ///
    /// The system has no room for an instance of epoll or kqueue.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let single_loop = SingleLoop::new(Host::new(settings, Vec::new(), Mailbox::default()))?;
        Ok(Self { single_loop, woken: Arc::default() })
    }

    /// Listens at a URL, on every address of its host: bytes (`raw://HOST:PORT`, `raw+unix:///PATH`), messages (`msg://`),
    /// lines (`line://`), the chat's frames (`tcp://`, `unix://`), datagrams (`udp://`). Returns where, as port 0 takes a
    /// free one. Several processes may share a port: `?reuse_port=1`.
    ///
    /// # Errors
    ///
    /// It is no such URL, or cannot be listened at.
    pub fn listen(&mut self, url: &str) -> Result<Vec<ListenAddr>, OpenError> {
        let parsed = url.parse().map_err(|source| OpenError::Url { url: url.to_owned(), source })?;
        let mut doors = Doors::default();
        doors.add(&parsed)?;
        let (places, list) = (doors.places().cloned().collect(), doors.list());
        self.single_loop.with(|host, _| host.add_doors(list));
        self.single_loop.add_doors(doors)?;
        Ok(places)
    }

    /// Connects to whom listens at a URL. What comes of it is [`Event::Expected`] of a connection whose
    /// [`PeerInfo::dial`] is this one, or [`Event::Failed`].
    ///
    /// # Errors
    ///
    /// It is no URL that can be connected to.
    pub fn connect(&mut self, url: &str) -> Result<DialId, OpenError> {
        let parsed: ConnectUrl =
            url.parse().map_err(|source| OpenError::Url { url: url.to_owned(), source })?;
        Ok(self.act(|cx| cx.connect(parsed.target(), parsed.framing())))
    }

    /// Sends what is to be sent, and waits until something has happened: for so long at most, or for ever.
    ///
    /// # Errors
    ///
    /// The system cannot wait.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<Events> {
        let until = timeout.map(|length| later(rt::now(), length));
        let has_events = self.single_loop.with(|host, _| !host.handler().events.is_empty());
        let mut wait = if has_events { Some(Duration::ZERO) } else { timeout };
        loop {
            self.single_loop.step(wait)?;
            let events = self.single_loop.with(|host, now| host.with(now, |mailbox, _| mailbox.take()));
            let is_over = until.is_some_and(|until| until <= rt::now());
            if !events.is_empty() || is_over || self.woken.swap(false, Ordering::SeqCst) {
                return Ok(events);
            }
            wait = until.map(|until| until.saturating_duration_since(rt::now()));
        }
    }

    /// Ends [`Core::poll`] early from other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { waker: self.single_loop.waker().clone(), woken: self.woken.clone() }
    }

    /// Lets nobody in any more, closes every connection once everything is written to it, and waits for that: for so long
    /// at most. Returns whether it was enough.
    ///
    /// # Errors
    ///
    /// The system cannot wait.
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

/// Connections. What is sent is written at the next [`Core::poll`].
impl Core {
    /// Sends a piece: bytes as they are, or a message, line or frame, as the connection is cut. It is copied.
    ///
    /// # Errors
    ///
    /// There is no room for it ([`Event::Drained`] says when there is), the connection is closed, or it would come out as
    /// something else.
    pub fn send(&mut self, conn: ConnId, piece: &[u8]) -> Result<(), SendError> {
        self.act(|cx| cx.send(conn, piece))
    }

    /// The same for bytes that others may hold, too: long ones (1 KiB and more) are not copied.
    ///
    /// # Errors
    ///
    /// As [`Core::send`].
    pub fn share(&mut self, conn: ConnId, piece: &Bytes) -> Result<(), SendError> {
        self.act(|cx| cx.share(conn, piece))
    }

    /// Sends pieces while there is room for another, and returns how many those were: the next of `pieces` was not taken.
    ///
    /// # Errors
    ///
    /// The connection is closed; or a piece would come out as something else, and those behind it were not taken.
    pub fn send_many<T: AsRef<[u8]>>(
        &mut self,
        conn: ConnId,
        pieces: &mut dyn Iterator<Item = T>,
    ) -> Result<usize, SendError> {
        self.act(|cx| cx.send_many(conn, pieces))
    }

    /// Sends a datagram from one of our doors for those. It may be lost, here as anywhere.
    ///
    /// # Errors
    ///
    /// It is too long, or too many wait.
    pub fn send_to(&mut self, peer: Peer, bytes: &[u8]) -> Result<(), SendError> {
        self.act(|cx| cx.send_to(peer, bytes))
    }

    /// Takes the first whole message, line or frame that is there, or all bytes that are not cut. Short ones that came
    /// together share one buffer: to keep one for long, copy it.
    pub fn recv(&mut self, conn: ConnId) -> Option<Bytes> {
        self.act(|cx| cx.recv(conn))
    }

    /// Closes a connection once everything is written to it.
    pub fn close(&mut self, conn: ConnId) {
        self.act(|cx| cx.close(conn));
    }

    /// Closes a connection now, and drops what was to be written.
    pub fn abort(&mut self, conn: ConnId) {
        self.act(|cx| cx.abort(conn));
    }

    /// Cuts a connection in another way from now on.
    pub fn set_framing(&mut self, conn: ConnId, framing: Framing) {
        self.act(|cx| cx.set_framing(conn, framing));
    }

    /// Looks at the other end of a connection, and what is known of it; `None` if it is gone.
    pub fn peer<R>(&mut self, conn: ConnId, look: impl FnOnce(PeerInfo<'_>) -> R) -> Option<R> {
        self.single_loop.with(|host, now| host.look(now, |cx| cx.peer(conn).map(look)))
    }

    /// The name of a connection's peer.
    pub fn name(&mut self, conn: ConnId) -> Option<String> {
        self.peer(conn, |peer| peer.name().map(str::to_owned)).flatten()
    }

    /// The connection of the peer that has this name.
    pub fn find(&mut self, name: &str) -> Option<ConnId> {
        self.single_loop.with(|host, now| host.look(now, |cx| cx.find(name)))
    }

    /// How much is held, in bytes: of what was read and is not taken, and of what waits to be written.
    pub fn memory(&mut self) -> (usize, usize) {
        self.single_loop.with(|host, now| host.look(now, |cx| cx.memory()))
    }

    /// How many datagrams were lost because nobody took those before them.
    pub fn lost_datagrams(&mut self) -> u64 {
        self.single_loop.with(|host, _| host.handler().lost)
    }
}

/// Ends [`Core::poll`] early, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    waker: Arc<mio::Waker>,
    woken: Arc<AtomicBool>,
}

impl Waker {
    /// The present or next call of [`Core::poll`] returns at once, with whatever has happened.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        // What may go wrong is a full counter: then it is going to wake anyway.
        if let Err(error) = self.waker.wake() {
            log::debug!("cannot wake a core: {error}");
        }
    }
}
