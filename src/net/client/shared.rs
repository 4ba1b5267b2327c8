//! State shared by the handles of a session and its driver: queued requests, queued events, and the end.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::channel::oneshot;
use futures::task::AtomicWaker;

use super::Event;
use crate::client::{ClientStats, Closed};
use crate::reliable::Outcome;

/// The fixed size of a request or an event, in bytes, besides its words and bodies.
const OVERHEAD: usize = 128;

/// The key of nothing.
pub(super) const NOTHING: u64 = 0;

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The reason.
    pub closed: Closed,
    /// The counters.
    pub stats: Stats,
}

/// The counters of a client and its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The counters of the client.
    pub client: ClientStats,
    /// Messages that came after [`Events`](super::Events) was dropped, or were in it.
    pub discarded: u64,
}

/// A request or a close, with the sender of its result.
#[derive(Debug)]
pub(super) enum QueuedRequest {
    /// A request.
    Request(RequestKind, oneshot::Sender<Outcome>),
    /// A close.
    Close(oneshot::Sender<Ending>),
}

/// The kind of a request.
#[derive(Debug)]
pub(super) enum RequestKind {
    Send { target: Vec<u8>, body: Vec<u8> },
    Join(Vec<u8>),
    Leave(Vec<u8>),
    List(Option<Vec<u8>>),
    Ping,
}

impl RequestKind {
    /// Its size until it has ended, in bytes.
    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Send { target, body } => target.len() + body.len(),
                Self::Join(room) | Self::Leave(room) | Self::List(Some(room)) => room.len(),
                Self::List(None) | Self::Ping => 0,
            }
    }
}

impl QueuedRequest {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Request(what, _) => what.size(),
            Self::Close(_) => 0,
        }
    }

    /// Reports that the session ended before it was taken. The receiver may be gone.
    fn end(self, ending: &Ending) {
        match self {
            Self::Request(_, answer) => drop(answer.send(Outcome::NeverSent)),
            Self::Close(answer) => drop(answer.send(ending.clone())),
        }
    }
}

/// A session, as its handles and its driver see it.
#[derive(Debug)]
pub(super) struct SessionShared {
    max_unread: usize,
    state: Mutex<SessionState>,
    driver_waker: AtomicWaker,
    events_waker: AtomicWaker,
}

#[derive(Debug)]
struct SessionState {
    /// Requests that were not taken yet, in the order in which they were first polled.
    waiting: BTreeMap<u64, QueuedRequest>,
    next_key: u64,
    unread: VecDeque<Event>,
    unread_bytes: usize,
    has_clients: bool,
    has_events: bool,
    /// The driver has something new to look at.
    has_changes: bool,
    stats: Stats,
    ending: Option<Ending>,
}

impl SessionShared {
    pub(super) fn new(max_unread: usize) -> Self {
        let state = SessionState {
            waiting: BTreeMap::new(),
            next_key: NOTHING + 1,
            unread: VecDeque::new(),
            unread_bytes: 0,
            has_clients: true,
            has_events: true,
            has_changes: false,
            stats: Stats::default(),
            ending: None,
        };
        let (driver_waker, events_waker) = (AtomicWaker::new(), AtomicWaker::new());
        Self { max_unread, state: Mutex::new(state), driver_waker, events_waker }
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        // No step under the lock can leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the driver.
    fn update<T>(&self, change: impl FnOnce(&mut SessionState) -> T) -> T {
        let result = {
            let mut state = self.lock();
            state.has_changes = true;
            change(&mut state)
        };
        self.driver_waker.wake();
        result
    }

    pub(super) fn stats(&self) -> Stats {
        self.lock().stats
    }
}

/// For handles.
impl SessionShared {
    /// Queues a request. Returns the key to withdraw it.
    pub(super) fn ask(&self, asked: QueuedRequest) -> u64 {
        let mut state = self.lock();
        if let Some(ending) = state.ending.clone() {
            drop(state);
            asked.end(&ending);
            return NOTHING;
        }
        let key = state.next_key;
        state.next_key += 1;
        state.waiting.insert(key, asked);
        state.has_changes = true;
        drop(state);
        self.driver_waker.wake();
        key
    }

    /// Withdraws a request that was not taken yet.
    pub(super) fn withdraw(&self, key: u64) {
        let withdrawn = self.lock().waiting.remove(&key);
        // A body is freed outside the lock.
        drop(withdrawn);
    }

    pub(super) fn drop_clients(&self) {
        self.update(|state| state.has_clients = false);
    }

    /// Drops the queued events; later ones are discarded.
    pub(super) fn drop_events(&self) {
        let left = self.update(|state| {
            state.has_events = false;
            state.unread_bytes = 0;
            let left = std::mem::take(&mut state.unread);
            state.stats.discarded += left.iter().filter(|event| event.is_message()).count() as u64;
            left
        });
        drop(left);
    }

    /// Polls the next event; `None` after the last.
    pub(super) fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        // Before looking, so that a later event wakes the task.
        self.events_waker.register(cx.waker());
        match self.take_event() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.is_over() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    pub(super) fn take_event(&self) -> Option<Event> {
        let (event, has_room_again) = {
            let mut state = self.lock();
            let was_full = state.unread_bytes >= self.max_unread;
            let event = state.unread.pop_front()?;
            state.unread_bytes -= event.size();
            let has_room_again = was_full && state.unread_bytes < self.max_unread;
            state.has_changes |= has_room_again;
            (event, has_room_again)
        };
        if has_room_again {
            self.driver_waker.wake();
        }
        Some(event)
    }

    /// Whether there is no event, and none will come.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.ending.is_some() && state.unread.is_empty()
    }
}

/// For the driver.
impl SessionShared {
    /// Takes the next request, if it fits besides `pending` bytes. A single one always fits.
    pub(super) fn take(&self, pending: usize, max_pending: usize) -> Option<QueuedRequest> {
        let mut state = self.lock();
        let first = state.waiting.first_entry()?;
        let has_room = pending == 0 || pending.saturating_add(first.get().size()) <= max_pending;
        has_room.then(|| first.remove())
    }

    /// Waits until a handle has changed something.
    pub(super) async fn changed(&self) {
        poll_fn(|cx| {
            self.driver_waker.register(cx.waker());
            if std::mem::take(&mut self.lock().has_changes) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until all handles and the events are dropped.
    pub(super) async fn abandoned(&self) {
        while !self.is_abandoned() {
            self.changed().await;
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        let state = self.lock();
        !state.has_clients && !state.has_events
    }

    /// Bytes of events that still fit; `usize::MAX` if they are discarded.
    pub(super) fn free(&self) -> usize {
        let state = self.lock();
        if state.has_events { self.max_unread.saturating_sub(state.unread_bytes) } else { usize::MAX }
    }

    /// Queues an event.
    pub(super) fn push(&self, event: Event) {
        self.lock().push(event, self.max_unread);
        self.events_waker.wake();
    }

    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        self.lock().unread_bytes
    }

    pub(super) fn count(&self, client: ClientStats) {
        self.lock().stats.client = client;
    }

    /// Ends the session: requests that were not taken were never sent. Returns how it ended.
    pub(super) fn finish(&self, closed: Closed) -> Ending {
        let (ending, waiting) = {
            let mut state = self.lock();
            let ending = Ending { closed: closed.clone(), stats: state.stats };
            state.push(Event::Closed(closed), usize::MAX);
            state.ending = Some(ending.clone());
            (ending, std::mem::take(&mut state.waiting))
        };
        self.events_waker.wake();
        waiting.into_values().for_each(|asked| asked.end(&ending));
        ending
    }
}

impl SessionState {
    fn push(&mut self, event: Event, max_unread: usize) {
        if !self.has_events {
            self.stats.discarded += u64::from(event.is_message());
            return;
        }
        // Events that need no read are bounded as well.
        if self.unread_bytes >= max_unread
            && let Some(last) = self.unread.back_mut()
            && event.merges_into(last)
        {
            return;
        }
        self.unread_bytes += event.size();
        self.unread.push_back(event);
    }
}

impl Event {
    /// Its size in the queue, in bytes.
    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Message { sender, room, body } => {
                    sender.len() + room.as_ref().map_or(0, String::len) + body.len()
                }
                _ => 0,
            }
    }

    fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. })
    }

    /// Whether it can be left out after `last`, which is changed to say the same.
    fn merges_into(&self, last: &mut Self) -> bool {
        match (self, &mut *last) {
            (Self::Retry { .. } | Self::SlowDown { .. } | Self::NameTaken { .. }, _) => return true,
            // A new session must not be missed.
            (Self::Offline, Self::Registered { resumed: false }) => *last = Self::SessionLost,
            (Self::Offline, Self::SessionLost) => {}
            (Self::Registered { .. }, Self::SessionLost) => *last = Self::Registered { resumed: false },
            (
                Self::Offline | Self::SessionLost | Self::Registered { .. },
                Self::Offline | Self::Registered { .. },
            ) => {
                *last = self.clone();
            }
            (Self::SessionLost, Self::SessionLost) => {}
            _ => return false,
        }
        true
    }
}
