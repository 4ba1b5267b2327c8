//! A message being delivered to its receivers, and its encoded forms.
//!
//! Tagged receivers share one encoding, made for the first of them. For untagged receivers on streams short messages
//! are written straight into the queues. The receivers are chosen in `requests`.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;

use super::memory::MemoryLedger;
use super::push::{FRAME_OVERHEAD, LongText, Push, Text};
use super::queue::SendQueue;
use super::rooms::Room;
use super::session::{Form, Session};
use crate::escape::escape;
use crate::names::Name;
use crate::wire::RcvHead;

/// The length in bytes from which a body is shared, not copied for each receiver.
const LONG_BODY: usize = 4 << 10;

/// A message from one session.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// Its RCV up to the body.
    head: RcvHead,
    /// The room it is for; `None` for a direct message.
    room: Option<&'a Room>,
    body: Body<'a>,
    frame: OnceCell<Text>,
    line: Encoded,
    /// The line with the room's name, for members of another listener room.
    named_line: Encoded,
}

type Encoded = OnceCell<Arc<[u8]>>;

/// The cost of a message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// The bytes that count against the limits of its receiver.
    pub(super) bytes: usize,
    /// The part of them that is the receiver's own, without a shared body.
    pub(super) own: usize,
    /// The bytes by which it adds to the memory of all queues: with its body, if this receiver is the first to keep
    /// it.
    pub(super) fresh: usize,
}

impl From<&Push> for Cost {
    /// Returns the cost of a push that is encoded already.
    fn from(push: &Push) -> Self {
        let load = push.load();
        Self { bytes: load.bytes, own: load.own(), fresh: load.own() }
    }
}

/// The body of a message.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    bytes: &'a [u8],
    /// The shared buffer whose end it is, if there is one; it can be kept without a copy.
    kept: Option<&'a Bytes>,
}

impl<'a> Body<'a> {
    /// Makes a body that is the end of `kept`, or has no shared buffer.
    pub fn new(bytes: &'a [u8], kept: Option<&'a Bytes>) -> Self {
        let is_end = |kept: &&Bytes| kept.as_ptr_range().end == bytes.as_ptr_range().end;
        Self { bytes, kept: kept.filter(is_end).filter(|kept| kept.len() >= bytes.len()) }
    }

    fn is_long(&self) -> bool {
        self.bytes.len() >= LONG_BODY
    }

    /// Returns the body in shared form.
    fn keep(&self) -> Bytes {
        let kept = self.kept.map(|kept| kept.slice(kept.len() - self.bytes.len()..));
        kept.unwrap_or_else(|| Bytes::copy_from_slice(self.bytes))
    }
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, kept: None }
    }
}

impl<'a> Message<'a> {
    /// Makes a message that is encoded in `buffer`, which [`Message::into_buffer`] gives back.
    pub(super) fn new(sender: &Name, room: Option<&'a Room>, body: Body<'a>, buffer: Vec<u8>) -> Self {
        let (name, in_room) =
            (sender.as_str().as_bytes(), room.map_or("", |room| room.name().as_str()).as_bytes());
        let head = RcvHead::new(name, in_room, body.bytes, buffer);
        let [line, named_line] = [const { OnceCell::new() }; 2];
        Self { head, room, body, frame: OnceCell::new(), line, named_line }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.head.into_bytes()
    }

    /// Returns its cost in the queue of this receiver; `None` if it is too long for it. `are_dropped` says that
    /// messages to rooms may still be dropped into gaps.
    #[inline]
    pub(super) fn cost_for(&self, receiver: &Session, are_dropped: bool) -> Option<Cost> {
        // A message whose payload alone is too long is not encoded: escaped, it might be four times as long.
        if !receiver.fits(self.head.payload_len(), self.head.payload_len()) {
            return None;
        }
        let length = self.line_for(receiver).map_or_else(|| self.head.frame_len(), |line| line.len());
        if !receiver.fits(length, self.head.payload_len()) {
            return None;
        }
        let bytes = length + FRAME_OVERHEAD;
        if !self.body.is_long() {
            return Some(Cost { bytes, own: bytes, fresh: bytes });
        }
        Some(self.long_cost_for(receiver, are_dropped, bytes))
    }

    /// Does the same for a long message, of which `bytes` count against the limits of the receiver.
    fn long_cost_for(&self, receiver: &Session, are_dropped: bool, bytes: usize) -> Cost {
        if receiver.form == Form::Lines || self.joins(receiver, are_dropped) {
            return Cost { bytes, own: bytes, fresh: bytes };
        }
        let own = bytes - self.body.bytes.len();
        Cost { bytes, own, fresh: if self.frame.get().is_none() { bytes } else { own } }
    }

    /// Whether it is joined to the messages in the queue of this receiver.
    fn joins(&self, receiver: &Session, are_dropped: bool) -> bool {
        receiver.form != Form::Tagged
            && receiver.is_on_streams()
            && !(self.room.is_some() && (are_dropped || self.body.is_long() || receiver.lags()))
    }

    /// Puts the message into the queue of `receiver`, as [`Message::cost_for`] counts it. A body that it is the first
    /// to keep is counted in `memory`.
    pub(super) fn put(
        &self,
        receiver: &mut Session,
        config: &super::HubConfig,
        are_dropped: bool,
        memory: &MemoryLedger,
    ) {
        let line = self.line_for(receiver);
        let joins = self.joins(receiver, are_dropped);
        let queue: &mut SendQueue = &mut receiver.traffic_mut(config).queue;
        match line {
            Some(line) if joins => queue.join(|out| out.extend_from_slice(line)),
            None if joins => queue.join(|out| self.write(out)),
            line => {
                let text = line.map_or_else(|| self.frame(memory).clone(), |line| Text::Short(line.clone()));
                queue.push(Push::Message { text, is_direct: self.room.is_none() });
            }
        }
    }

    /// Returns the echo of a direct message for its sender, on a line listener that echoes. No sender was told that it
    /// is kept.
    pub(super) fn echo_to(&self, receiver: &Name) -> Push {
        let (receiver, body) = (escape(receiver.as_str().as_bytes()), escape(self.body.bytes));
        let line = format!("*private to {receiver}* {body}\n");
        Push::Message { text: Text::Short(line.into_bytes().into()), is_direct: false }
    }

    /// Returns the line for a line client.
    fn line_for(&self, receiver: &Session) -> Option<&Arc<[u8]>> {
        if receiver.form != Form::Lines {
            return None;
        }
        Some(match self.room {
            Some(room) if receiver.listener_room() != Some(room.fold()) => {
                self.named_line.get_or_init(|| self.encode_line("", room.name().as_str()))
            }
            Some(_) => self.line.get_or_init(|| self.encode_line("", "")),
            None => self.line.get_or_init(|| self.encode_line("*private* ", "")),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.head.frame_len());
        out.extend_from_slice(self.head.bytes());
        out.extend_from_slice(self.body.bytes);
    }

    fn frame(&self, memory: &MemoryLedger) -> &Text {
        self.frame.get_or_init(|| {
            if self.body.is_long() {
                let body = memory.share(self.body.keep());
                return Text::Long(Arc::new(LongText { head: self.head.bytes().to_vec(), body }));
            }
            let mut frame = Vec::new();
            self.write(&mut frame);
            Text::Short(frame.into())
        })
    }

    fn encode_line(&self, before: &str, room: &str) -> Arc<[u8]> {
        let (sender, room) = (escape(self.head.name()), escape(room.as_bytes()));
        format!("{before}{sender}{room}> {}\n", escape(self.body.bytes)).into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::hub::{DatagramPath, Hub, Opening, Path, SessionKey};
    use crate::rates::Rate;
    use crate::service::{Origin, Peer, Remote};
    use crate::wire::{SHORT_LENGTH_MAX, Token};

    const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn open(hub: &mut Hub, name: &str, form: Form, path: Path) -> SessionKey {
        let name = Name::parse(name.as_bytes()).unwrap();
        let token = Token::parse(&[b'A'; 22]).unwrap();
        let origin = Origin { listener: 0, from: Remote::Ip(ADDR) };
        hub.open(Opening { name, form, token, nonce: None, path, origin, rate: Rate::UNLIMITED }).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn a_message_too_long_for_its_receiver_is_not_encoded() {
        let mut hub = Hub::default();
        let heard = std::time::Instant::now();
        let datagrams = Path::Datagram(DatagramPath { peer: Peer::new(0, ADDR), limit: 1_200, heard });
        let stream = Path::Stream(None);
        for (name, form, path) in [
            ("lines", Form::Lines, stream),
            ("untagged", Form::Untagged, stream),
            ("datagrams", Form::Tagged, datagrams),
        ] {
            let key = open(&mut hub, name, form, path);
            let receiver = hub.get(key).unwrap();
            let body = vec![1; SHORT_LENGTH_MAX];
            let long = Message::new(&receiver.name, None, Body::from(&body[..]), Vec::new());
            assert_eq!(long.cost_for(receiver, false), None, "{name}");
            assert!(long.frame.get().is_none() && long.line.get().is_none(), "{name}");
            let short = Message::new(&receiver.name, None, Body::from(&b"hi"[..]), Vec::new());
            assert!(short.cost_for(receiver, false).is_some(), "{name}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn lagging_members_share_a_message_and_others_get_a_copy() {
        let (mut hub, now) = (Hub::default(), std::time::Instant::now());
        let keys = ["speaker", "one", "two", "quick"].map(|name| {
            let key = open(&mut hub, name, Form::Untagged, Path::Stream(None));
            hub.join(key, b"#r").unwrap();
            key
        });
        let shared = |hub: &Hub, key| {
            let queue = &hub.get(key).unwrap().traffic.as_ref().unwrap().queue;
            let texts = queue.waiting().filter_map(|push| match push {
                Push::Message { text: Text::Short(text), .. } => Some(text.as_ptr()),
                _ => None,
            });
            texts.collect::<Vec<_>>()
        };
        for _ in 0..20 {
            hub.send(keys[0], b"#r", Body::from(&[b'x'; 1_000][..])).unwrap();
            for key in &keys[1..] {
                // The quick member has written; the writers of the others still have the first message.
                let is_quick = *key == keys[3];
                if is_quick || hub.get(*key).unwrap().traffic.as_ref().unwrap().writing.bytes == 0 {
                    hub.fill_stream(now, *key, &mut crate::output::Output::default(), 1 << 20);
                    hub.give(*key);
                }
                if is_quick {
                    hub.written(*key);
                }
            }
        }
        let lagging = [shared(&hub, keys[1]), shared(&hub, keys[2])];
        assert!(lagging[0].len() > 10 && lagging[0] == lagging[1], "{lagging:?}");
        let quick = &hub.get(keys[3]).unwrap().traffic;
        assert!(quick.as_ref().is_none_or(|traffic| traffic.queue.is_empty()));
    }
}
