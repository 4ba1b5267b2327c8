//! A session: a name, a token, rooms, the dedup window, and what is on its way to it.
//!
//! A session is not a connection: a stream session outlives its connection by the linger time, a datagram session
//! outlives a change of address. What one session may do to another is in the hub; this file knows only one.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::HubConfig;
use super::queue::{Load, Push, SendQueue};
use crate::lazy_box::{IsEmpty, LazyBox};
use crate::names::{FoldKey, Name};
use crate::output::Output;
use crate::rates::{Bucket, Rate};
use crate::reliable::{Pushes, Replies};
use crate::remote::{PackedOrigin, PackedRemote};
use crate::service::{ConnId, Origin, Peer, Remote};
use crate::wire::{ByeArgs, Id, PREFIX_LEN, SHORT_LENGTH_MAX, Token, encode_prefix};

/// Names a session for as long as the hub lives; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub(super) slot: u32,
    /// How many had the slot before it, and one.
    pub(super) serial: NonZeroU32,
}

impl SessionKey {
    /// Where the session is among those that live.
    pub(crate) fn slot(self) -> u32 {
        self.slot
    }
}

#[cfg(test)]
impl SessionKey {
    /// A key for tests that open no session.
    pub(crate) fn nth(slot: u32) -> Self {
        Self { slot, serial: NonZeroU32::MIN }
    }
}

/// How a session is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its REG was tagged: numbered, acknowledged pushes.
    Tagged,
    /// Its REG was not: asio_chatserver's protocol, each push once.
    Untagged,
    /// In lines of text, each push once.
    Lines,
}

/// The way to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A stream: its connection, or none while the session lingers.
    Stream(Option<ConnId>),
    /// Datagrams.
    Datagram(DatagramPath),
}

impl Path {
    /// Where a session came from, with the address of ours that its datagrams leave from.
    fn pack(self, from: Remote) -> PackedRemote {
        match self {
            Self::Datagram(path) => PackedRemote::with_local(from, path.peer.local),
            Self::Stream(_) => from.into(),
        }
    }
}

/// The way to a session over datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramPath {
    /// The proven address.
    pub peer: Peer,
    /// The largest datagram that may be sent there, in bytes.
    pub limit: usize,
    /// When the last datagram with the session's token came.
    pub heard: Instant,
}

/// How often a session is challenged at one address that is not its own ..
const CHALLENGES: u32 = 10;
/// .. within this time.
const CHALLENGE_PERIOD: Duration = Duration::from_secs(1);

/// The challenges of a session at the last address that was not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Challenged {
    at: Peer,
    /// When the first of them was sent.
    since: Instant,
    count: u32,
}

/// The longest tag: `@`, 19 digits and a space. A push is numbered when it is sent, so room is kept for any number.
const TAG_MAX: usize = 21;
/// The longest head of an untagged frame over datagrams, `RCV 9999`.
pub(super) const SHORT_HEAD: usize = 8;

/// One session. Most of very many sit and wait: what only some have is kept elsewhere.
#[derive(Debug)]
pub struct Session {
    /// The name it is found by.
    pub name: Name,
    /// How it is spoken to.
    pub form: Form,
    /// Whether it is shown what it says itself.
    pub echo: bool,
    /// What proves that a datagram or a resume is of this session.
    pub token: Token,
    /// Tagged requests of it.
    asked: LazyBox<Asked>,
    /// How much it may say. On a stream it is the connection that has one, and this stays full.
    pub(crate) bucket: LazyBox<Bucket>,
    way: Way,
    from: PackedRemote,
    door: u32,
    more: LazyBox<More>,
    /// What is on its way to it; none while there is nothing.
    pub(super) traffic: Option<Box<Traffic>>,
    /// Of its [`SessionKey`].
    pub(super) serial: NonZeroU32,
    pub(super) woken: bool,
    pub(super) goodbye: Goodbye,
    /// It read too slowly, and ends: nothing is queued for it any more.
    pub(super) cut_off: bool,
    /// A sender waits until it has room.
    pub(super) awaited: bool,
    /// Its connection is not read while it waits for others, so its acknowledgements do not arrive.
    pub(super) deaf: bool,
}

/// Where a session is.
#[derive(Debug)]
enum Way {
    Stream(ConnId),
    /// On streams, and on none now.
    Lingering,
    Datagram {
        limit: u32,
        heard: Instant,
    },
}

impl From<Path> for Way {
    fn from(path: Path) -> Self {
        match path {
            Path::Stream(Some(conn)) => Self::Stream(conn),
            Path::Stream(None) => Self::Lingering,
            Path::Datagram(DatagramPath { limit, heard, .. }) => {
                Self::Datagram { limit: u32::try_from(limit).unwrap_or(u32::MAX), heard }
            }
        }
    }
}

/// How many bytes wait behind those that a writer has, for somebody who lags.
const LAGGING: usize = 4 << 10;

/// How far the server's BYE to a session is: nothing comes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// Not said.
    Unsaid,
    /// The last in its queue, or of what came from there.
    Queued,
    /// Said without a queue, and not acknowledged: its number is the one behind all others.
    Alone,
    /// Said without a queue, and acknowledged if anybody does that.
    Heard,
}

/// What came under an id.
#[derive(Debug, Default)]
struct Asked {
    /// The nonce that opened the session.
    nonce: Option<Token>,
    /// The id of the newest REG that was executed; 0 for none.
    newest_reg: u64,
    /// Which requests were executed.
    replies: Replies,
}

impl IsEmpty for Asked {
    const EMPTY: &'static Self = &Self { nonce: None, newest_reg: 0, replies: Replies::new() };

    fn is_empty(&self) -> bool {
        self.nonce.is_none() && self.newest_reg == 0 && self.replies.is_empty()
    }
}

/// What many sessions do without.
#[derive(Debug, Default)]
struct More {
    /// The rooms it is in, in the order joined.
    rooms: Vec<FoldKey>,
    /// The room of its door, whose messages are shown to it without the room's name; frames have none.
    home: Option<FoldKey>,
    /// The pushes that were numbered before what is on its way now.
    numbered: u64,
    /// That its client has sent from another address, and has not proven it.
    challenged: Option<Challenged>,
}

impl IsEmpty for More {
    const EMPTY: &'static Self = &Self { rooms: Vec::new(), home: None, numbered: 0, challenged: None };

    fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.home.is_none() && self.numbered == 0 && self.challenged.is_none()
    }
}

/// What is on its way to a session.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) queue: SendQueue,
    pub(super) pushes: Pushes<Push>,
    /// What these are counted as.
    sent: Load,
    /// What was encoded for the connection's writer, of pushes that nobody acknowledges, ..
    pub(super) encoded: Load,
    /// .. and what the writer was given and has not written yet, of those and of what is acknowledged nevertheless: a peer
    /// may acknowledge what it has never read.
    pub(super) writing: Load,
    /// The numbers of the pushes that are encoded for the writer and that it has not written yet.
    unwritten: Range<u64>,
    /// Messages that it missed and nobody has asked for yet, for the log.
    pub(super) unlogged: u64,
}

impl Traffic {
    fn new(config: &HubConfig, numbered: u64) -> Self {
        let pushes = Pushes::new(config.push_timeouts).behind(numbered);
        Self {
            queue: SendQueue::default(),
            pushes: if config.sabotage.no_push_repeat { pushes.never_repeat() } else { pushes },
            sent: Load::default(),
            encoded: Load::default(),
            writing: Load::default(),
            unwritten: 0..0,
            unlogged: 0,
        }
    }

    fn load(&self) -> Load {
        let mut load = self.queue.load();
        load += self.encoded;
        load += self.writing;
        load += self.sent;
        load
    }

    /// Numbers a push and takes it as sent at `now`.
    fn send(&mut self, now: Instant, push: Push) -> Option<(Id, &Push)> {
        let load = push.load();
        let sent = self.pushes.send(now, push)?;
        self.sent += load;
        Some(sent)
    }

    /// The push of this number is encoded for the writer.
    fn note_encoded(&mut self, id: Id) {
        let begin = if self.unwritten.is_empty() { id.get() } else { self.unwritten.start.min(id.get()) };
        self.unwritten = begin..self.unwritten.end.max(id.get() + 1);
    }

    /// Pushes are acknowledged. Returns the bytes of the session's own that this freed, and how many pushes were looked at.
    pub(super) fn acknowledge(&mut self, now: Instant, ranges: &[(u64, u64)]) -> (usize, usize) {
        let Self { pushes, sent, writing, unwritten, .. } = self;
        let mut freed = 0;
        let passed = pushes.acknowledge(now, ranges, |id, push| {
            let load = push.load();
            *sent -= load;
            if unwritten.contains(&id) {
                *writing += load;
            } else {
                freed += load.own();
            }
        });
        (freed, passed)
    }

    /// The writer has written what it was given. Returns the bytes of the session's own that this freed.
    pub(super) fn written(&mut self) -> usize {
        self.unwritten = 0..0;
        std::mem::take(&mut self.writing).own()
    }

    /// What the writer has is not for this session any more. Returns the bytes of the session's own that this freed.
    pub(super) fn leave_writer(&mut self) -> usize {
        std::mem::take(&mut self.encoded).own() + self.written()
    }

    /// Whether nothing waits to be sent or to be acknowledged.
    fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.pushes.is_empty()
    }

    fn untold(&self) -> u64 {
        let sent = self.pushes.unacknowledged().filter_map(|push| match push {
            Push::Gap(count) => Some(count),
            Push::Message { .. } | Push::Run { .. } | Push::Bye(_) => None,
        });
        self.queue.missed() + sent.sum::<u64>()
    }

    /// A gap behind a gap that is not acknowledged waits and goes on counting until that is, or a message follows. Gaps
    /// take no room: of a peer that acknowledges nothing, there would be one to keep for every message it misses.
    fn holds_gap_back(&self) -> bool {
        self.queue.is_only_a_gap() && matches!(self.pushes.newest(), Some(Push::Gap(_)))
    }
}

impl Session {
    /// A session that was just opened. `forgetful` is of [`Sabotage`](super::Sabotage).
    pub(super) fn new(opening: super::Opening, forgetful: bool) -> Self {
        let PackedOrigin { door, .. } = opening.origin.into();
        let from = opening.path.pack(opening.origin.from);
        let replies = if forgetful { Replies::forgetful() } else { Replies::new() };
        Self {
            name: opening.name,
            form: opening.form,
            echo: false,
            token: opening.token,
            asked: Asked { nonce: opening.nonce, newest_reg: 0, replies }.into(),
            bucket: Bucket::new(opening.rate).into(),
            way: opening.path.into(),
            from,
            door,
            more: LazyBox::default(),
            traffic: None,
            serial: NonZeroU32::MIN,
            woken: false,
            goodbye: Goodbye::Unsaid,
            cut_off: false,
            awaited: false,
            deaf: false,
        }
    }

    /// Where it is.
    pub fn path(&self) -> Path {
        match (&self.way, self.from.unpack()) {
            (Way::Datagram { limit, heard }, Remote::Ip(addr)) => {
                let peer = Peer { door: self.door as usize, addr, local: self.from.local() };
                Path::Datagram(DatagramPath { peer, limit: *limit as usize, heard: *heard })
            }
            (Way::Stream(conn), _) => Path::Stream(Some(*conn)),
            // Nobody sends datagrams from a UNIX socket.
            (Way::Lingering | Way::Datagram { .. }, _) => Path::Stream(None),
        }
    }

    /// Whether it is on streams.
    pub fn is_on_streams(&self) -> bool {
        !matches!(self.way, Way::Datagram { .. })
    }

    /// Where it came from, when it registered or was last taken up. Datagrams go there, too.
    pub fn origin(&self) -> Origin {
        Origin { door: self.door as usize, from: self.from.unpack() }
    }

    pub(super) fn set_way(&mut self, path: Path, origin: Origin) {
        let PackedOrigin { door, .. } = origin.into();
        (self.way, self.from, self.door) = (path.into(), path.pack(origin.from), door);
        if self.more.get().challenged.is_some() {
            self.more.update(|more| more.challenged = None);
        }
    }

    /// Its connection is gone.
    pub(super) fn lose_connection(&mut self) {
        if let Way::Stream(_) = self.way {
            self.way = Way::Lingering;
        }
    }

    /// A datagram with its token came, of so many bytes; no more than `most` of them count.
    pub fn hear(&mut self, now: Instant, size: usize, most: usize) {
        if let Way::Datagram { limit, heard } = &mut self.way {
            *heard = now;
            *limit = (*limit).max(u32::try_from(size.min(most)).unwrap_or(u32::MAX));
        }
    }

    /// A datagram came that only its client can have sent, though not from its own address, or not with its token: the client
    /// lives.
    pub fn hear_from_elsewhere(&mut self, now: Instant) {
        if let Way::Datagram { heard, .. } = &mut self.way {
            *heard = now;
        }
    }

    /// Whether a datagram from `peer`, which is not its proven address, may be challenged: 10 times a second at most while
    /// it comes from the same address. Counts it if so.
    pub fn may_challenge(&mut self, now: Instant, peer: Peer) -> bool {
        let earlier = self.more.get().challenged;
        let running = earlier.filter(|running| running.at == peer && now < running.since + CHALLENGE_PERIOD);
        let next = match running {
            Some(running) if running.count >= CHALLENGES => return false,
            Some(running) => Challenged { count: running.count + 1, ..running },
            None => Challenged { at: peer, since: now, count: 1 },
        };
        self.more.update(|more| more.challenged = Some(next));
        true
    }

    /// The nonce that opened it.
    pub fn nonce(&self) -> Option<Token> {
        self.asked.get().nonce
    }

    /// The id of the newest REG that was executed; 0 for none.
    pub fn newest_reg(&self) -> u64 {
        self.asked.get().newest_reg
    }

    /// A REG of this id was executed.
    pub fn set_newest_reg(&mut self, id: u64) {
        self.asked.update(|asked| asked.newest_reg = id);
    }

    /// Which requests were executed.
    pub fn replies(&self) -> &Replies {
        &self.asked.get().replies
    }

    /// The same, to change: what that takes is for the hub to count.
    pub(super) fn replies_mut(&mut self) -> &mut Replies {
        &mut self.asked.get_or_default().replies
    }

    /// The rooms it is in, in the order joined.
    pub fn rooms(&self) -> &[FoldKey] {
        &self.more.get().rooms
    }

    /// Changes these.
    pub fn change_rooms(&mut self, change: impl FnOnce(&mut Vec<FoldKey>)) {
        self.more.update(|more| change(&mut more.rooms));
    }

    /// The room of its door; frames have none.
    pub fn home(&self) -> Option<&FoldKey> {
        self.more.get().home.as_ref()
    }

    /// Gives it one.
    pub fn set_home(&mut self, room: FoldKey) {
        self.more.update(|more| more.home = Some(room));
    }

    /// How much it may say from now on.
    pub fn set_rate(&mut self, rate: Rate) {
        self.bucket = Bucket::new(rate).into();
    }

    /// What is on its way to it, made if there was nothing.
    pub(super) fn traffic_mut(&mut self, config: &HubConfig) -> &mut Traffic {
        let numbered = self.more.get().numbered;
        self.traffic.get_or_insert_with(|| Box::new(Traffic::new(config, numbered)))
    }

    /// Gives back what it does not need while nothing is on its way. On datagrams what its pushes have shown of the path
    /// is worth keeping.
    pub(super) fn rest(&mut self) {
        let is_on_streams = self.is_on_streams();
        let Some(traffic) = &mut self.traffic else { return };
        let knows_path = !is_on_streams && traffic.pushes.numbered() > 0;
        let is_over = traffic.is_settled() && traffic.load() == Load::default() && traffic.unlogged == 0;
        if is_over && knows_path {
            traffic.queue.give_back();
            traffic.pushes.give_back();
        } else if is_over {
            let numbered = traffic.pushes.numbered();
            self.traffic = None;
            if numbered != self.more.get().numbered {
                self.more.update(|more| more.numbered = numbered);
            }
        }
    }

    /// What is counted against its bounds: what is queued, sent and not acknowledged, or still to be written.
    pub fn load(&self) -> Load {
        self.traffic.as_ref().map_or_else(Load::default, |traffic| traffic.load())
    }

    /// Whether the server's goodbye is queued or sent: nothing comes behind it.
    pub fn has_said_bye(&self) -> bool {
        self.goodbye != Goodbye::Unsaid
    }

    /// Whether it was told goodbye, and need not be told again.
    pub fn is_parted(&self) -> bool {
        match self.goodbye {
            Goodbye::Unsaid | Goodbye::Alone => false,
            Goodbye::Queued => self.is_settled(),
            Goodbye::Heard => true,
        }
    }

    /// The pushes that were numbered.
    fn numbered(&self) -> u64 {
        self.traffic.as_ref().map_or_else(|| self.more.get().numbered, |traffic| traffic.pushes.numbered())
    }

    /// The messages that it missed since [`Hub::poll_missed`](super::Hub::poll_missed) last named it.
    pub fn unlogged(&self) -> u64 {
        self.traffic.as_ref().map_or(0, |traffic| traffic.unlogged)
    }

    /// Whether nothing waits to be sent or to be acknowledged.
    pub fn is_settled(&self) -> bool {
        self.traffic.as_ref().is_none_or(|traffic| traffic.is_settled())
    }

    /// Takes note of these.
    pub(super) fn take_unlogged(&mut self) -> u64 {
        let unlogged = self.traffic.as_mut().map_or(0, |traffic| std::mem::take(&mut traffic.unlogged));
        self.rest();
        unlogged
    }

    /// What waits to be sent, if anything is on its way.
    pub(super) fn queue_mut(&mut self) -> Option<&mut SendQueue> {
        self.traffic.as_mut().map(|traffic| &mut traffic.queue)
    }

    /// What of that may become part of a gap.
    pub(super) fn droppable(&self) -> Load {
        self.traffic.as_ref().map_or_else(Load::default, |traffic| traffic.queue.droppable())
    }

    /// The messages that were promised and are not known to have arrived. What a connection's writer was given once and
    /// for all is not among them.
    pub fn undelivered(&self) -> usize {
        self.traffic.as_ref().map_or(0, |traffic| traffic.queue.load().messages + traffic.sent.messages)
    }

    /// The missed messages that it is not known to have been told of.
    pub fn untold(&self) -> u64 {
        self.traffic.as_ref().map_or(0, |traffic| traffic.untold())
    }

    /// Whether it has been behind for a while: what waits for many of those is better shared than copied for each.
    pub(super) fn lags(&self) -> bool {
        let lags = |traffic: &Traffic| traffic.writing.bytes > 0 && traffic.queue.load().bytes >= LAGGING;
        self.traffic.as_deref().is_some_and(lags)
    }

    /// Whether its connection's writer has pushes that are not written.
    pub(crate) fn is_being_written(&self) -> bool {
        self.traffic.as_deref().is_some_and(|traffic| traffic.writing.bytes > 0)
    }

    /// Whether nothing may be queued for it any more: what comes now is what a session that ends leaves behind.
    pub(super) fn is_over(&self) -> bool {
        self.has_said_bye() || self.cut_off
    }

    /// Whether an RCV of `frame_len` bytes with a payload of `payload_len` can ever be sent to this session.
    pub(super) fn fits(&self, frame_len: usize, payload_len: usize) -> bool {
        if self.form != Form::Tagged && payload_len > SHORT_LENGTH_MAX {
            return false;
        }
        let prefix = if self.form == Form::Tagged { PREFIX_LEN + TAG_MAX } else { 0 };
        match self.way {
            Way::Stream(_) | Way::Lingering => true,
            Way::Datagram { limit, .. } => prefix + frame_len <= limit as usize,
        }
    }

    /// How long a single answer's payload may be on the way to this session.
    pub fn answer_limit(&self) -> usize {
        match self.way {
            Way::Stream(_) | Way::Lingering => SHORT_LENGTH_MAX,
            Way::Datagram { limit, .. } => {
                (limit as usize).saturating_sub(PREFIX_LEN + TAG_MAX + SHORT_HEAD).min(SHORT_LENGTH_MAX)
            }
        }
    }
}

/// What goes out next.
impl Session {
    /// Appends the next push for the connection that carries this session; `false` when nothing waits.
    pub(super) fn next_on_stream(&mut self, now: Instant, out: &mut Output) -> bool {
        let form = self.form;
        let Some(traffic) = self.traffic.as_deref_mut() else { return false };
        if let Some((id, push)) = traffic.pushes.poll_resend() {
            push.write(form, Some(id), out);
            traffic.note_encoded(id);
            return true;
        }
        if traffic.holds_gap_back() {
            return false;
        }
        let Some(push) = traffic.queue.pop() else { return false };
        if form == Form::Tagged {
            let Some((id, push)) = traffic.send(now, push) else { return false };
            push.write(form, Some(id), out);
            traffic.note_encoded(id);
            return true;
        }
        let load = push.load();
        if let Push::Run { bytes, .. } = push {
            out.append(bytes);
        } else {
            push.write(form, None, out);
        }
        traffic.encoded += load;
        true
    }

    /// Appends the next push to a datagram, which may hold something already, and returns the bytes of its
    /// own that this freed; `None` when nothing waits, when it does not fit into what the datagram has left, or when the window is
    /// full. Whatever its length, a push may have a datagram for itself: it was queued when it fitted.
    pub(super) fn next_in_datagram(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let Way::Datagram { limit, .. } = self.way else { return None };
        let traffic = self.traffic.as_deref()?;
        let is_tagged = self.form == Form::Tagged;
        let repeat = traffic.pushes.next_repeat(now);
        let push = match repeat {
            Some(push) => push,
            None if is_tagged && !traffic.pushes.has_room() => return None,
            None => traffic.queue.first()?,
        };
        let start = out.len();
        if start > 0 && start + TAG_MAX + push.max_len() > limit as usize {
            return None;
        }
        let is_repeat = repeat.is_some();
        if start == 0 && is_tagged {
            encode_prefix(self.token, out);
        }
        let freed = if is_repeat { self.repeat(now, out) } else { self.send_queued(now, out) };
        if freed.is_none() {
            out.truncate(start);
        }
        freed
    }

    fn repeat(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let form = self.form;
        let (id, push) = self.traffic.as_deref_mut()?.pushes.poll_repeat(now)?;
        push.encode(form, Some(id), out);
        Some(0)
    }

    fn send_queued(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let form = self.form;
        let traffic = self.traffic.as_deref_mut()?;
        let push = traffic.queue.pop()?;
        if form != Form::Tagged {
            push.encode(form, None, out);
            return Some(push.load().own());
        }
        let (id, push) = traffic.send(now, push)?;
        push.encode(form, Some(id), out);
        Some(0)
    }

    /// Makes a datagram of the server's goodbye and nothing else, over and over until it is acknowledged: so nothing of it
    /// is kept. Returns whether it did; on streams, and while anything is queued or unacknowledged, it does not.
    pub(super) fn say_bye_alone(&mut self, bye: ByeArgs, out: &mut Vec<u8>) -> bool {
        let is_due = matches!(self.goodbye, Goodbye::Unsaid | Goodbye::Alone);
        if self.is_on_streams() || !is_due || !self.is_settled() {
            return false;
        }
        if self.form != Form::Tagged {
            self.goodbye = Goodbye::Heard;
            Push::Bye(bye).encode(self.form, None, out);
            return true;
        }
        let Some(id) = Id::new(self.numbered().saturating_add(1)) else { return false };
        self.goodbye = Goodbye::Alone;
        encode_prefix(self.token, out);
        Push::Bye(bye).encode(self.form, Some(id), out);
        true
    }

    /// The client has these pushes: is the goodbye that was said alone among them?
    pub(super) fn hear_of_bye(&mut self, ranges: &[(u64, u64)]) {
        let id = self.numbered().saturating_add(1);
        if self.goodbye == Goodbye::Alone && ranges.iter().any(|(low, high)| (*low..=*high).contains(&id)) {
            self.goodbye = Goodbye::Heard;
        }
    }

    /// Whether [`Session::next_on_stream`] has something to say.
    pub(super) fn has_stream_output(&self) -> bool {
        self.traffic.as_ref().is_some_and(|traffic| {
            traffic.pushes.has_resend() || !(traffic.queue.is_empty() || traffic.holds_gap_back())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hub, Opening};
    use super::*;
    use crate::output::Output;

    fn open(hub: &mut Hub, name: &str, form: Form) -> SessionKey {
        let (name, token) = (Name::parse(name.as_bytes()).unwrap(), Token::from_bits(1));
        let (path, origin) =
            (Path::Stream(Some(ConnId(1))), Origin { door: 0, from: Remote::Unix { uid: 0, gid: 0 } });
        hub.open(Opening { name, form, token, nonce: None, path, origin, rate: Rate::UNLIMITED }).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn who_has_nothing_on_its_way_keeps_nothing_for_it_and_its_numbers_go_on() {
        let (now, mut hub) = (Instant::now(), Hub::default());
        let from = open(&mut hub, "ada", Form::Untagged);
        let [untagged, tagged] = [("bob", Form::Untagged), ("cyd", Form::Tagged)]
            .map(|(name, form)| (name, open(&mut hub, name, form)));
        let is_at_rest = |hub: &Hub, key| hub.get(key).unwrap().traffic.is_none();
        for round in 1..=3 {
            for (name, key) in [untagged, tagged] {
                assert!(is_at_rest(&hub, key));
                hub.send(from, name.as_bytes(), &b"hi"[..]).unwrap();
                let mut out = Output::default();
                hub.fill_stream(now, key, &mut out, 100);
                hub.give(key);
                assert!(!is_at_rest(&hub, key), "it is not written");
                hub.written(key);
                let tag = format!("@{round} RCV");
                let is_tagged = out.to_vec().starts_with(tag.as_bytes());
                assert_eq!((is_tagged, is_at_rest(&hub, key)), (name == "cyd", name == "bob"));
            }
            hub.acknowledge(now, tagged.1, &[(1, round)]);
        }
        assert!(is_at_rest(&hub, tagged.1) && hub.memory() == 0);
    }
}
