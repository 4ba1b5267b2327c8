//! What the handles of a session and its driver share: requests that wait, events that wait, and the end.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::channel::oneshot;
use futures::task::AtomicWaker;

use super::Event;
use crate::client::{ClientStats, Closed};
use crate::reliable::Outcome;

/// What a request or an event takes beside its words and bodies, in bytes.
const OVERHEAD: usize = 128;

/// The key of nothing.
pub(super) const NOTHING: u64 = 0;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why it is through.
    pub closed: Closed,
    /// What was counted.
    pub stats: Stats,
}

/// What a client and its events have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What was sent and what came.
    pub client: ClientStats,
    /// Messages that came when [`Events`](super::Events) had been dropped, or that it left behind.
    pub discarded: u64,
}

/// What is asked of a session.
#[derive(Debug)]
pub(super) enum Asked {
    /// Something that has an outcome.
    Request(What, oneshot::Sender<Outcome>),
    /// The end.
    Close(oneshot::Sender<Ending>),
}

/// What a request asks.
#[derive(Debug)]
pub(super) enum What {
    Send { target: Vec<u8>, body: Vec<u8> },
    Join(Vec<u8>),
    Leave(Vec<u8>),
    List(Option<Vec<u8>>),
    Ping,
}

impl What {
    /// What it takes until it has ended.
    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Send { target, body } => target.len() + body.len(),
                Self::Join(room) | Self::Leave(room) | Self::List(Some(room)) => room.len(),
                Self::List(None) | Self::Ping => 0,
            }
    }
}

impl Asked {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Request(what, _) => what.size(),
            Self::Close(_) => 0,
        }
    }

    /// The session ended before it was taken. Nobody may be listening.
    fn end(self, ending: &Ending) {
        match self {
            Self::Request(_, answer) => drop(answer.send(Outcome::NeverSent)),
            Self::Close(answer) => drop(answer.send(ending.clone())),
        }
    }
}

/// A session, as its handles and its driver see it.
#[derive(Debug)]
pub(super) struct Shared {
    max_unread: usize,
    state: Mutex<State>,
    driver: AtomicWaker,
    listener: AtomicWaker,
}

#[derive(Debug)]
struct State {
    /// Requests that were not taken yet, in the order in which they were first polled.
    waiting: BTreeMap<u64, Asked>,
    next_key: u64,
    unread: VecDeque<Event>,
    unread_bytes: usize,
    has_clients: bool,
    has_events: bool,
    /// Something is new to the driver.
    news: bool,
    stats: Stats,
    ending: Option<Ending>,
}

impl Shared {
    pub(super) fn new(max_unread: usize) -> Self {
        let state = State {
            waiting: BTreeMap::new(),
            next_key: NOTHING + 1,
            unread: VecDeque::new(),
            unread_bytes: 0,
            has_clients: true,
            has_events: true,
            news: false,
            stats: Stats::default(),
            ending: None,
        };
        let (driver, listener) = (AtomicWaker::new(), AtomicWaker::new());
        Self { max_unread, state: Mutex::new(state), driver, listener }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the driver looks at, and wakes it.
    fn tell<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.lock();
            state.news = true;
            change(&mut state)
        };
        self.driver.wake();
        result
    }

    pub(super) fn stats(&self) -> Stats {
        self.lock().stats
    }
}

/// For handles.
impl Shared {
    /// Queues what is asked. Returns the key by which it can be withdrawn.
    pub(super) fn ask(&self, asked: Asked) -> u64 {
        let mut state = self.lock();
        if let Some(ending) = state.ending.clone() {
            drop(state);
            asked.end(&ending);
            return NOTHING;
        }
        let key = state.next_key;
        state.next_key += 1;
        state.waiting.insert(key, asked);
        state.news = true;
        drop(state);
        self.driver.wake();
        key
    }

    /// Takes back what was not taken yet.
    pub(super) fn withdraw(&self, key: u64) {
        let withdrawn = self.lock().waiting.remove(&key);
        // A body is given back outside the lock.
        drop(withdrawn);
    }

    pub(super) fn no_clients(&self) {
        self.tell(|state| state.has_clients = false);
    }

    /// Nobody listens any more.
    pub(super) fn no_events(&self) {
        let left = self.tell(|state| {
            state.has_events = false;
            state.unread_bytes = 0;
            let left = std::mem::take(&mut state.unread);
            state.stats.discarded += left.iter().filter(|event| event.is_message()).count() as u64;
            left
        });
        drop(left);
    }

    /// The next event, at once; `None` after the last.
    pub(super) fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        // Before looking: what comes after that wakes.
        self.listener.register(cx.waker());
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
            state.news |= has_room_again;
            (event, has_room_again)
        };
        if has_room_again {
            self.driver.wake();
        }
        Some(event)
    }

    /// Whether no event is there, and none will come.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.ending.is_some() && state.unread.is_empty()
    }
}

/// For the driver.
impl Shared {
    /// The next request, if there is room for it beside those that take so many bytes already. One always has room.
    pub(super) fn take(&self, pending: usize, max_pending: usize) -> Option<Asked> {
        let mut state = self.lock();
        let first = state.waiting.first_entry()?;
        let has_room = pending == 0 || pending.saturating_add(first.get().size()) <= max_pending;
        has_room.then(|| first.remove())
    }

    /// Waits until a handle has changed something.
    pub(super) async fn news(&self) {
        poll_fn(|cx| {
            self.driver.register(cx.waker());
            if std::mem::take(&mut self.lock().news) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until nobody is left who could ask or listen.
    pub(super) async fn abandoned(&self) {
        while !self.is_abandoned() {
            self.news().await;
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        let state = self.lock();
        !state.has_clients && !state.has_events
    }

    /// How many bytes of events there is room for; without an end if nobody listens.
    pub(super) fn free(&self) -> usize {
        let state = self.lock();
        if state.has_events { self.max_unread.saturating_sub(state.unread_bytes) } else { usize::MAX }
    }

    /// Hands an event to whoever listens.
    pub(super) fn push(&self, event: Event) {
        self.lock().push(event, self.max_unread);
        self.listener.wake();
    }

    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        self.lock().unread_bytes
    }

    pub(super) fn count(&self, client: ClientStats) {
        self.lock().stats.client = client;
    }

    /// The session has ended: what was not taken was never sent. Returns how it ended, as everybody is told.
    pub(super) fn finish(&self, closed: Closed) -> Ending {
        let (ending, waiting) = {
            let mut state = self.lock();
            let ending = Ending { closed: closed.clone(), stats: state.stats };
            state.push(Event::Closed(closed), usize::MAX);
            state.ending = Some(ending.clone());
            (ending, std::mem::take(&mut state.waiting))
        };
        self.listener.wake();
        waiting.into_values().for_each(|asked| asked.end(&ending));
        ending
    }
}

impl State {
    fn push(&mut self, event: Event, max_unread: usize) {
        if !self.has_events {
            self.stats.discarded += u64::from(event.is_message());
            return;
        }
        // What comes without being read, while nobody takes anything, is bounded as well.
        if self.unread_bytes >= max_unread
            && let Some(last) = self.unread.back_mut()
            && event.is_told_in_brief(last)
        {
            return;
        }
        self.unread_bytes += event.size();
        self.unread.push_back(event);
    }
}

impl Event {
    /// What it takes while nobody has taken it.
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

    /// Whether it can be left out behind `last`, which then says the same of the session.
    fn is_told_in_brief(&self, last: &mut Self) -> bool {
        match (self, &mut *last) {
            (Self::Retry { .. } | Self::SlowDown { .. } | Self::NameTaken { .. }, _) => return true,
            // That there is a new session is not to be forgotten.
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
