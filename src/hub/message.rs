//! A message on its way to its receivers: encoded once for each kind of them, when the first of a kind is met, and
//! shared by all.

use std::cell::OnceCell;
use std::sync::Arc;

use super::name::{FoldKey, Name, RoomName};
use super::queue::Push;
use super::session::{Form, Session};
use crate::escape::escape;
use crate::wire::encode_rcv;

/// A message from one session.
#[derive(Debug)]
pub(super) struct Message<'a> {
    sender: Name,
    /// The room it is for; `None` for a direct one.
    room: Option<RoomName>,
    /// The key of the room, once somebody asks whether it is their own.
    fold: OnceCell<FoldKey>,
    body: &'a [u8],
    frame: Encoded,
    line: Encoded,
    /// With the room's name, for those whose own room it is not.
    named_line: Encoded,
}

type Encoded = OnceCell<Arc<Vec<u8>>>;

impl<'a> Message<'a> {
    pub(super) fn new(sender: Name, room: Option<RoomName>, body: &'a [u8]) -> Self {
        let [frame, line, named_line] = [const { OnceCell::new() }; 3];
        Self { sender, room, fold: OnceCell::new(), body, frame, line, named_line }
    }

    /// What this receiver gets; `None` if it is too long for it.
    pub(super) fn push_for(&self, receiver: &Session) -> Option<Push> {
        let bytes = self.encoded_for(receiver);
        let push = || Push::Message { bytes: bytes.clone(), is_direct: self.room.is_none() };
        receiver.fits(bytes.len(), self.payload_len()).then(push)
    }

    /// What its sender is shown of a direct one at a door that echoes. Nobody was told that this is kept.
    pub(super) fn echo_to(&self, receiver: &Name) -> Push {
        let (receiver, body) = (escape(receiver.as_str().as_bytes()), escape(self.body));
        let line = format!("*private to {receiver}* {body}\n");
        Push::Message { bytes: Arc::new(line.into_bytes()), is_direct: false }
    }

    fn encoded_for(&self, receiver: &Session) -> &Arc<Vec<u8>> {
        match (receiver.form, &self.room) {
            (Form::Tagged | Form::Untagged, _) => self.frame.get_or_init(|| self.encode_frame()),
            (Form::Lines, Some(room))
                if receiver.home.as_ref() != Some(self.fold.get_or_init(|| room.fold())) =>
            {
                self.named_line.get_or_init(|| self.encode_line("", room.as_str()))
            }
            (Form::Lines, Some(_)) => self.line.get_or_init(|| self.encode_line("", "")),
            (Form::Lines, None) => self.line.get_or_init(|| self.encode_line("*private* ", "")),
        }
    }

    fn encode_frame(&self) -> Arc<Vec<u8>> {
        let sender = format!("{}{}", self.sender, self.room.as_ref().map_or("", RoomName::as_str));
        let mut frame = Vec::with_capacity(sender.len() + self.body.len() + 32);
        encode_rcv(sender.as_bytes(), self.body, &mut frame);
        Arc::new(frame)
    }

    fn encode_line(&self, before: &str, room: &str) -> Arc<Vec<u8>> {
        let (sender, room) = (escape(self.sender.as_str().as_bytes()), escape(room.as_bytes()));
        Arc::new(format!("{before}{sender}{room}> {}\n", escape(self.body)).into_bytes())
    }

    /// The bytes in the payload of its RCV: ` sender 0001 body`.
    fn payload_len(&self) -> usize {
        let room = self.room.as_ref().map_or(0, |room| room.as_str().len());
        self.sender.as_str().len() + room + self.body.len() + 7
    }
}
