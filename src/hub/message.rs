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
        // What its payload alone is too long for is not encoded: escaped, it might be four times as long.
        if !receiver.fits(self.payload_len(), self.payload_len()) {
            return None;
        }
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
            (Form::Lines, Some(room)) if receiver.home() != Some(self.fold.get_or_init(|| room.fold())) => {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::hub::rate::Rate;
    use crate::hub::{DatagramPath, Hub, Opening, Path, SessionKey};
    use crate::service::{Origin, Peer, Remote};
    use crate::wire::{SHORT_LENGTH_MAX, Token};

    const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn open(hub: &mut Hub, name: &str, form: Form, path: Path) -> SessionKey {
        let name = Name::parse(name.as_bytes()).unwrap();
        let token = Token::parse(&[b'A'; 22]).unwrap();
        let origin = Origin { door: 0, from: Remote::Ip(ADDR) };
        hub.open(Opening { name, form, token, nonce: None, path, origin, rate: Rate::UNLIMITED }).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn what_is_too_long_for_its_receiver_is_not_even_encoded() {
        let mut hub = Hub::default();
        let heard = std::time::Instant::now();
        let datagrams =
            Path::Datagram(DatagramPath { peer: Peer { door: 0, addr: ADDR }, limit: 1_200, heard });
        let stream = Path::Stream(None);
        for (name, form, path) in [
            ("lines", Form::Lines, stream),
            ("untagged", Form::Untagged, stream),
            ("datagrams", Form::Tagged, datagrams),
        ] {
            let key = open(&mut hub, name, form, path);
            let receiver = hub.get(key).unwrap();
            let body = vec![1; SHORT_LENGTH_MAX];
            let long = Message::new(receiver.name.clone(), None, &body);
            assert_eq!(long.push_for(receiver), None, "{name}");
            assert!(long.frame.get().is_none() && long.line.get().is_none(), "{name}");
            assert!(Message::new(receiver.name.clone(), None, b"hi").push_for(receiver).is_some(), "{name}");
        }
    }
}
