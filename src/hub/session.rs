//! A session: a name, a token, rooms, the dedup window, and its pushes, queued or in flight.
//!
//! A session is not a connection: a stream session outlives its connection by the linger time, a datagram session
//! outlives a change of address. The effects of one session on another are in [`super::Hub`]; this file concerns one
//! session only. The queue itself is in [`super::queue`].

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::HubConfig;
use super::push::{Load, Push};
use super::queue::SendQueue;
use crate::lazy_box::{IsEmpty, LazyBox};
use crate::names::{FoldKey, Name};
use crate::output::Output;
use crate::rates::{Bucket, Rate};
use crate::reliable::{Pushes, Replies};
use crate::remote::{PackedOrigin, PackedRemote};
use crate::service::{ConnId, Origin, Peer, Remote};
use crate::wire::{ByeArgs, Id, PREFIX_LEN, SHORT_LENGTH_MAX, Token, encode_prefix};

/// Identifies a session for as long as the hub lives; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub(super) slot: u32,
    /// One more than the number of sessions that had the slot before.
    pub(super) serial: NonZeroU32,
}

impl SessionKey {
    /// Returns its slot among the open sessions.
    pub(crate) fn slot(self) -> u32 {
        self.slot
    }
}

#[cfg(test)]
impl SessionKey {
    /// Makes a key for tests that open no session.
    pub(crate) fn nth(slot: u32) -> Self {
        Self { slot, serial: NonZeroU32::MIN }
    }
}

/// The protocol of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The REG was tagged: numbered, acknowledged pushes.
    Tagged,
    /// The REG was untagged: asio_chatserver's protocol, each push once.
    Untagged,
    /// Lines of text, each push once.
    Lines,
}

/// The transport and peer of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A stream: its connection, or `None` while the session lingers.
    Stream(Option<ConnId>),
    /// Datagrams.
    Datagram(DatagramPath),
}

impl Path {
    /// Packs the address of the peer with the local address that its datagrams leave from.
    fn pack(self, from: Remote) -> PackedRemote {
        match self {
            Self::Datagram(path) => PackedRemote::with_local(from, path.peer.local),
            Self::Stream(_) => from.into(),
        }
    }
}

/// The peer address of a session on datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramPath {
    /// The validated address.
    pub peer: Peer,
    /// The largest datagram that may be sent there, in bytes.
    pub limit: usize,
    /// Time of the last datagram with the session's token.
    pub heard: Instant,
}

/// Number of challenges of a session at one unvalidated address ..
const CHALLENGES: u32 = 10;
/// .. within this time.
const CHALLENGE_PERIOD: Duration = Duration::from_secs(1);

/// The challenges of a session at the last unvalidated address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Challenged {
    at: Peer,
    /// Time at which the first of them was sent.
    since: Instant,
    count: u32,
}

/// The longest tag: `@`, 19 digits and a space. A push is numbered when it is sent, so room is reserved for any
/// number.
const TAG_MAX: usize = 21;
/// The longest head of an untagged frame over datagrams, `RCV 9999`.
pub(super) const SHORT_HEAD: usize = 8;

/// One session. Most sessions are idle: state that few of them have is boxed.
#[derive(Debug)]
pub struct Session {
    /// Its name.
    pub name: Name,
    /// Its protocol.
    pub form: Form,
    /// Whether it gets its own messages back.
    pub echo: bool,
    /// Its token, which a datagram or a resume has to carry.
    pub token: Token,
    /// State of its tagged requests.
    requests: LazyBox<RequestState>,
    /// Its rate limit on datagrams. On a stream the connection has one, and this stays full.
    pub(crate) bucket: LazyBox<Bucket>,
    packed_path: PackedPath,
    from: PackedRemote,
    listener: u32,
    extras: LazyBox<Extras>,
    /// Its pushes, queued or in flight; `None` while there are none.
    pub(super) traffic: Option<Box<Traffic>>,
    /// The serial of its [`SessionKey`].
    pub(super) serial: NonZeroU32,
    pub(super) woken: bool,
    pub(super) bye_state: ByeState,
    /// It is a slow consumer and ends: nothing is queued for it any more.
    pub(super) cut_off: bool,
    /// A sender waits for room in its queue.
    pub(super) awaited: bool,
    /// Its connection is not read while it waits for others, so its acknowledgements do not arrive.
    pub(super) acks_paused: bool,
}

/// A [`Path`] in less memory.
#[derive(Debug)]
enum PackedPath {
    Stream(ConnId),
    /// On streams, without a connection now.
    Lingering,
    Datagram {
        limit: u32,
        heard: Instant,
    },
}

impl From<Path> for PackedPath {
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

/// The queued bytes, beside those that the writer has, from which a session lags.
const LAGGING: usize = 4 << 10;

/// The progress of the server's BYE to a session. Nothing is queued behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByeState {
    /// Not queued or sent.
    NotSent,
    /// The last push in its queue, or sent from there.
    Queued,
    /// Sent without a queue and not acknowledged; its number follows all others.
    SentAlone,
    /// Sent without a queue, and acknowledged if the session is tagged.
    Done,
}

/// State of tagged requests.
#[derive(Debug, Default)]
struct RequestState {
    /// The nonce that opened the session.
    nonce: Option<Token>,
    /// The id of the newest executed REG; 0 for none.
    newest_reg: u64,
    /// The dedup window.
    replies: Replies,
}

impl IsEmpty for RequestState {
    const EMPTY: &'static Self = &Self { nonce: None, newest_reg: 0, replies: Replies::new() };

    fn is_empty(&self) -> bool {
        self.nonce.is_none() && self.newest_reg == 0 && self.replies.is_empty()
    }
}

/// State that most sessions lack.
#[derive(Debug, Default)]
struct Extras {
    /// Its rooms, in the order joined.
    rooms: Vec<FoldKey>,
    /// The room of its line listener, whose messages it gets without the room's name; frame sessions have none.
    listener_room: Option<FoldKey>,
    /// The number of the last push before those in `traffic`.
    numbered: u64,
    /// Challenges since its client sent from an unvalidated address.
    challenged: Option<Challenged>,
}

impl IsEmpty for Extras {
    const EMPTY: &'static Self =
        &Self { rooms: Vec::new(), listener_room: None, numbered: 0, challenged: None };

    fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.listener_room.is_none()
            && self.numbered == 0
            && self.challenged.is_none()
    }
}

/// The pushes of a session, queued or in flight.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) queue: SendQueue,
    pub(super) pushes: Pushes<Push>,
    /// The load of the pushes in flight.
    sent: Load,
    /// The load that is encoded for the connection's writer, of pushes that are not acknowledged, ..
    pub(super) encoded: Load,
    /// .. and the load that the writer was given and has not written, of those and of pushes acknowledged before they
    /// were written. A peer may acknowledge what it has never read.
    pub(super) writing: Load,
    /// The numbers of the pushes that are encoded for the writer and not written yet.
    unwritten: Range<u64>,
    /// Messages dropped since the log last named the session.
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

    /// Numbers a push and marks it as sent at `now`.
    fn send(&mut self, now: Instant, push: Push) -> Option<(Id, &Push)> {
        let load = push.load();
        let sent = self.pushes.send(now, push)?;
        self.sent += load;
        Some(sent)
    }

    /// Records that the push of this number is encoded for the writer.
    fn note_encoded(&mut self, id: Id) {
        let begin = if self.unwritten.is_empty() { id.get() } else { self.unwritten.start.min(id.get()) };
        self.unwritten = begin..self.unwritten.end.max(id.get() + 1);
    }

    /// Removes acknowledged pushes. Returns the bytes of its own that this freed, and how many pushes were examined.
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

    /// Records that the writer has written what it was given. Returns the bytes of its own that this freed.
    pub(super) fn written(&mut self) -> usize {
        self.unwritten = 0..0;
        std::mem::take(&mut self.writing).own()
    }

    /// Drops the load of the writer when it no longer writes for this session. Returns the bytes of its own that this
    /// freed.
    pub(super) fn leave_writer(&mut self) -> usize {
        std::mem::take(&mut self.encoded).own() + self.written()
    }

    /// Whether no push waits to be sent or acknowledged.
    fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.pushes.is_empty()
    }

    fn untold(&self) -> u64 {
        let sent = self.pushes.unacknowledged().filter_map(|push| match push {
            Push::Gap(count) => Some(count),
            Push::Message { .. } | Push::Run { .. } | Push::Bye(_) => None,
        });
        self.queue.gap_messages() + sent.sum::<u64>()
    }

    /// Whether the only queued gap has to wait for the acknowledgement of the gap before it. It keeps counting
    /// meanwhile. Gaps take no room: a peer that acknowledges nothing would otherwise cost one per dropped message.
    fn delays_gap(&self) -> bool {
        self.queue.is_only_a_gap() && matches!(self.pushes.newest(), Some(Push::Gap(_)))
    }
}

impl Session {
    /// Creates a session. `forgetful` is of [`Sabotage`](super::Sabotage).
    pub(super) fn new(opening: super::Opening, forgetful: bool) -> Self {
        let PackedOrigin { listener, .. } = opening.origin.into();
        let from = opening.path.pack(opening.origin.from);
        let replies = if forgetful { Replies::forgetful() } else { Replies::new() };
        Self {
            name: opening.name,
            form: opening.form,
            echo: false,
            token: opening.token,
            requests: RequestState { nonce: opening.nonce, newest_reg: 0, replies }.into(),
            bucket: Bucket::new(opening.rate).into(),
            packed_path: opening.path.into(),
            from,
            listener,
            extras: LazyBox::default(),
            traffic: None,
            serial: NonZeroU32::MIN,
            woken: false,
            bye_state: ByeState::NotSent,
            cut_off: false,
            awaited: false,
            acks_paused: false,
        }
    }

    /// Returns how it is reached.
    pub fn path(&self) -> Path {
        match (&self.packed_path, self.from.unpack()) {
            (PackedPath::Datagram { limit, heard }, Remote::Ip(addr)) => {
                let peer = Peer { listener: self.listener as usize, addr, local: self.from.local() };
                Path::Datagram(DatagramPath { peer, limit: *limit as usize, heard: *heard })
            }
            (PackedPath::Stream(conn), _) => Path::Stream(Some(*conn)),
            // UNIX sockets carry no datagrams.
            (PackedPath::Lingering | PackedPath::Datagram { .. }, _) => Path::Stream(None),
        }
    }

    /// Whether it is on streams.
    pub fn is_on_streams(&self) -> bool {
        !matches!(self.packed_path, PackedPath::Datagram { .. })
    }

    /// Returns where it came from when it registered or was last resumed. Datagrams go there.
    pub fn origin(&self) -> Origin {
        Origin { listener: self.listener as usize, from: self.from.unpack() }
    }

    pub(super) fn set_path(&mut self, path: Path, origin: Origin) {
        let PackedOrigin { listener, .. } = origin.into();
        (self.packed_path, self.from, self.listener) = (path.into(), path.pack(origin.from), listener);
        if self.extras.get().challenged.is_some() {
            self.extras.update(|extras| extras.challenged = None);
        }
    }

    /// Records that its connection is gone.
    pub(super) fn lose_connection(&mut self) {
        if let PackedPath::Stream(_) = self.packed_path {
            self.packed_path = PackedPath::Lingering;
        }
    }

    /// Records a datagram of `size` bytes with its token; at most `most` of them raise the limit.
    pub fn hear(&mut self, now: Instant, size: usize, most: usize) {
        if let PackedPath::Datagram { limit, heard } = &mut self.packed_path {
            *heard = now;
            *limit = (*limit).max(u32::try_from(size.min(most)).unwrap_or(u32::MAX));
        }
    }

    /// Records a datagram that only its client can have sent, though from another address or without its token: the
    /// client lives.
    pub fn hear_from_elsewhere(&mut self, now: Instant) {
        if let PackedPath::Datagram { heard, .. } = &mut self.packed_path {
            *heard = now;
        }
    }

    /// Whether a datagram from `peer`, which is not its validated address, may be challenged: at most 10 times a
    /// second per address. Counts it if so.
    pub fn may_challenge(&mut self, now: Instant, peer: Peer) -> bool {
        let earlier = self.extras.get().challenged;
        let running = earlier.filter(|running| running.at == peer && now < running.since + CHALLENGE_PERIOD);
        let next = match running {
            Some(running) if running.count >= CHALLENGES => return false,
            Some(running) => Challenged { count: running.count + 1, ..running },
            None => Challenged { at: peer, since: now, count: 1 },
        };
        self.extras.update(|extras| extras.challenged = Some(next));
        true
    }

    /// Returns the nonce that opened it.
    pub fn nonce(&self) -> Option<Token> {
        self.requests.get().nonce
    }

    /// Returns the id of the newest executed REG; 0 for none.
    pub fn newest_reg(&self) -> u64 {
        self.requests.get().newest_reg
    }

    /// Records the id of an executed REG.
    pub fn set_newest_reg(&mut self, id: u64) {
        self.requests.update(|requests| requests.newest_reg = id);
    }

    /// Returns its dedup window.
    pub fn replies(&self) -> &Replies {
        &self.requests.get().replies
    }

    /// Returns its dedup window, to be changed; the hub counts the memory.
    pub(super) fn replies_mut(&mut self) -> &mut Replies {
        &mut self.requests.get_or_default().replies
    }

    /// Returns its rooms, in the order joined.
    pub fn rooms(&self) -> &[FoldKey] {
        &self.extras.get().rooms
    }

    /// Changes its rooms.
    pub fn change_rooms(&mut self, change: impl FnOnce(&mut Vec<FoldKey>)) {
        self.extras.update(|extras| change(&mut extras.rooms));
    }

    /// Returns the room of its line listener; frame sessions have none.
    pub fn listener_room(&self) -> Option<&FoldKey> {
        self.extras.get().listener_room.as_ref()
    }

    /// Sets the room of its line listener.
    pub fn set_listener_room(&mut self, room: FoldKey) {
        self.extras.update(|extras| extras.listener_room = Some(room));
    }

    /// Sets its rate limit.
    pub fn set_rate(&mut self, rate: Rate) {
        self.bucket = Bucket::new(rate).into();
    }

    /// Returns its traffic, created if there was none.
    pub(super) fn traffic_mut(&mut self, config: &HubConfig) -> &mut Traffic {
        let numbered = self.extras.get().numbered;
        self.traffic.get_or_insert_with(|| Box::new(Traffic::new(config, numbered)))
    }

    /// Frees its traffic while nothing is queued or in flight. On datagrams the pushes' estimates of the path are
    /// kept.
    pub(super) fn free_idle_traffic(&mut self) {
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
            if numbered != self.extras.get().numbered {
                self.extras.update(|extras| extras.numbered = numbered);
            }
        }
    }

    /// Returns the load against its limits: queued, in flight, or still to be written.
    pub fn load(&self) -> Load {
        self.traffic.as_ref().map_or_else(Load::default, |traffic| traffic.load())
    }

    /// Whether the server's BYE is queued or sent; nothing is queued behind it.
    pub fn has_said_bye(&self) -> bool {
        self.bye_state != ByeState::NotSent
    }

    /// Whether the BYE needs no retransmission: it is acknowledged, or the session is untagged and it was sent.
    pub fn is_parted(&self) -> bool {
        match self.bye_state {
            ByeState::NotSent | ByeState::SentAlone => false,
            ByeState::Queued => self.is_settled(),
            ByeState::Done => true,
        }
    }

    /// Returns the number of the last push.
    fn numbered(&self) -> u64 {
        self.traffic.as_ref().map_or_else(|| self.extras.get().numbered, |traffic| traffic.pushes.numbered())
    }

    /// Returns the messages dropped since [`Hub::poll_gap`](super::Hub::poll_gap) last named it.
    pub fn unlogged(&self) -> u64 {
        self.traffic.as_ref().map_or(0, |traffic| traffic.unlogged)
    }

    /// Whether no push waits to be sent or acknowledged.
    pub fn is_settled(&self) -> bool {
        self.traffic.as_ref().is_none_or(|traffic| traffic.is_settled())
    }

    /// Returns and resets the dropped messages that the log has not named.
    pub(super) fn take_unlogged(&mut self) -> u64 {
        let unlogged = self.traffic.as_mut().map_or(0, |traffic| std::mem::take(&mut traffic.unlogged));
        self.free_idle_traffic();
        unlogged
    }

    /// Returns its queue, if it has traffic.
    pub(super) fn queue_mut(&mut self) -> Option<&mut SendQueue> {
        self.traffic.as_mut().map(|traffic| &mut traffic.queue)
    }

    /// Returns the part of its queue that may still be dropped into a gap.
    pub(super) fn droppable(&self) -> Load {
        self.traffic.as_ref().map_or_else(Load::default, |traffic| traffic.queue.droppable())
    }

    /// Returns the messages that were promised and are not known to have arrived. Untagged pushes that the writer has
    /// are not among them.
    pub fn undelivered(&self) -> usize {
        self.traffic.as_ref().map_or(0, |traffic| traffic.queue.load().messages + traffic.sent.messages)
    }

    /// Returns the dropped messages that it is not known to have been told of.
    pub fn untold(&self) -> u64 {
        self.traffic.as_ref().map_or(0, |traffic| traffic.untold())
    }

    /// Whether it has lagged for a while: a message for many such sessions is better shared than copied for each.
    pub(super) fn lags(&self) -> bool {
        let lags = |traffic: &Traffic| traffic.writing.bytes > 0 && traffic.queue.load().bytes >= LAGGING;
        self.traffic.as_deref().is_some_and(lags)
    }

    /// Whether its connection's writer has pushes that are not written.
    pub(crate) fn is_being_written(&self) -> bool {
        self.traffic.as_deref().is_some_and(|traffic| traffic.writing.bytes > 0)
    }

    /// Whether nothing may be queued for it any more: further messages count as undelivered.
    pub(super) fn is_over(&self) -> bool {
        self.has_said_bye() || self.cut_off
    }

    /// Whether an RCV of `frame_len` bytes with a payload of `payload_len` can ever be sent to this session.
    pub(super) fn fits(&self, frame_len: usize, payload_len: usize) -> bool {
        if self.form != Form::Tagged && payload_len > SHORT_LENGTH_MAX {
            return false;
        }
        let prefix = if self.form == Form::Tagged { PREFIX_LEN + TAG_MAX } else { 0 };
        match self.packed_path {
            PackedPath::Stream(_) | PackedPath::Lingering => true,
            PackedPath::Datagram { limit, .. } => prefix + frame_len <= limit as usize,
        }
    }

    /// Returns the longest payload of an answer to this session.
    pub fn answer_limit(&self) -> usize {
        match self.packed_path {
            PackedPath::Stream(_) | PackedPath::Lingering => SHORT_LENGTH_MAX,
            PackedPath::Datagram { limit, .. } => {
                (limit as usize).saturating_sub(PREFIX_LEN + TAG_MAX + SHORT_HEAD).min(SHORT_LENGTH_MAX)
            }
        }
    }
}

/// Output.
impl Session {
    /// Appends the next push for the connection of this session; `false` when nothing waits.
    pub(super) fn next_on_stream(&mut self, now: Instant, out: &mut Output) -> bool {
        let form = self.form;
        let Some(traffic) = self.traffic.as_deref_mut() else { return false };
        if let Some((id, push)) = traffic.pushes.poll_resend() {
            push.write(form, Some(id), out);
            traffic.note_encoded(id);
            return true;
        }
        if traffic.delays_gap() {
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

    /// Appends the next push to a datagram, which may hold something already. Returns the bytes of the session's own
    /// that this freed. Returns `None` when nothing waits, when the push does not fit into the rest of the datagram,
    /// or when the window is full. A push of any length may have a datagram for itself: it fitted when it was queued.
    pub(super) fn next_in_datagram(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let PackedPath::Datagram { limit, .. } = self.packed_path else { return None };
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

    /// Encodes a datagram with the server's BYE alone, without storing it; the caller retransmits it until it is
    /// acknowledged. Returns `false` on streams, and while anything is queued or in flight.
    pub(super) fn say_bye_alone(&mut self, bye: ByeArgs, out: &mut Vec<u8>) -> bool {
        let is_due = matches!(self.bye_state, ByeState::NotSent | ByeState::SentAlone);
        if self.is_on_streams() || !is_due || !self.is_settled() {
            return false;
        }
        if self.form != Form::Tagged {
            self.bye_state = ByeState::Done;
            Push::Bye(bye).encode(self.form, None, out);
            return true;
        }
        let Some(id) = Id::new(self.numbered().saturating_add(1)) else { return false };
        self.bye_state = ByeState::SentAlone;
        encode_prefix(self.token, out);
        Push::Bye(bye).encode(self.form, Some(id), out);
        true
    }

    /// Records that the client has these pushes; the BYE that was sent alone may be among them.
    pub(super) fn note_bye_acked(&mut self, ranges: &[(u64, u64)]) {
        let id = self.numbered().saturating_add(1);
        if self.bye_state == ByeState::SentAlone
            && ranges.iter().any(|(low, high)| (*low..=*high).contains(&id))
        {
            self.bye_state = ByeState::Done;
        }
    }

    /// Whether [`Session::next_on_stream`] has output.
    pub(super) fn has_stream_output(&self) -> bool {
        self.traffic.as_ref().is_some_and(|traffic| {
            traffic.pushes.has_resend() || !(traffic.queue.is_empty() || traffic.delays_gap())
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
            (Path::Stream(Some(ConnId(1))), Origin { listener: 0, from: Remote::Unix { uid: 0, gid: 0 } });
        hub.open(Opening { name, form, token, nonce: None, path, origin, rate: Rate::UNLIMITED }).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn an_idle_session_holds_no_traffic_and_continues_its_numbers() {
        let (now, mut hub) = (Instant::now(), Hub::default());
        let from = open(&mut hub, "ada", Form::Untagged);
        let [untagged, tagged] = [("bob", Form::Untagged), ("cyd", Form::Tagged)]
            .map(|(name, form)| (name, open(&mut hub, name, form)));
        let holds_nothing = |hub: &Hub, key| hub.get(key).unwrap().traffic.is_none();
        for round in 1..=3 {
            for (name, key) in [untagged, tagged] {
                assert!(holds_nothing(&hub, key));
                hub.send(from, name.as_bytes(), &b"hi"[..]).unwrap();
                let mut out = Output::default();
                hub.fill_stream(now, key, &mut out, 100);
                hub.give(key);
                assert!(!holds_nothing(&hub, key), "it is not written");
                hub.written(key);
                let tag = format!("@{round} RCV");
                let is_tagged = out.to_vec().starts_with(tag.as_bytes());
                assert_eq!((is_tagged, holds_nothing(&hub, key)), (name == "cyd", name == "bob"));
            }
            hub.acknowledge(now, tagged.1, &[(1, round)]);
        }
        assert!(holds_nothing(&hub, tagged.1) && hub.memory() == 0);
    }
}
