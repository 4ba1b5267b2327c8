//! MQTT 3.1.1 (<https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/>) at QoS 0, as `mosquitto` speaks it: a published packet
//! reaches its subscribers unchanged.

use crate::lab::load::peer::{Answer, Client, Message, Peer, Role, Step, Target};

/// Packets over a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mqtt;

/// Fixed headers: the type of a packet and its flags (section 2.2).
mod packet {
    pub(super) const CONNECT: u8 = 0x10;
    pub(super) const CONNACK: u8 = 0x20;
    pub(super) const PUBLISH: u8 = 0x30;
    pub(super) const SUBSCRIBE: u8 = 0x82;
    pub(super) const SUBACK: u8 = 0x90;
    pub(super) const PINGREQ: u8 = 0xc0;
    pub(super) const PINGRESP: u8 = 0xd0;
    pub(super) const DISCONNECT: u8 = 0xe0;
}

/// The protocol's name with its length, its level, a clean session, no keepalive (section 3.1.2).
const CONNECT: [u8; 10] = [0, 4, b'M', b'Q', b'T', b'T', 4, 0b10, 0, 0];

/// The identifier of the only packet that has one.
const SUBSCRIPTION: [u8; 2] = [0, 1];

/// Returns the topic of a name or a room.
fn topic(to: Target<'_>) -> String {
    match to {
        Target::Name(name) => format!("to/{name}"),
        Target::Room { name, .. } => format!("room/{name}"),
    }
}

/// Appends a packet made of these parts.
fn packet(header: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.push(header);
    // Seven bits per byte, the lowest first; the eighth bit means that more follow (section 2.2.3).
    let mut rest = parts.iter().map(|part| part.len()).sum::<usize>();
    loop {
        let [low, ..] = (rest & 0x7f).to_le_bytes();
        rest >>= 7;
        out.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Returns the length field before a string (section 1.5.3); names and rooms are short.
fn length(text: &str) -> [u8; 2] {
    u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn step(header: u8, parts: &[&[u8]], answer: &[u8]) -> Step {
    let mut say = Vec::new();
    packet(header, parts, &mut say);
    Step::new(say, answer)
}

impl Peer for Mqtt {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn greeting(&self, client: &Client<'_>) -> Vec<Step> {
        let id = client.name;
        let mut steps =
            vec![step(packet::CONNECT, &[&CONNECT, &length(id), id.as_bytes()], &[packet::CONNACK, 2, 0, 0])];
        if client.role == Role::Receiver {
            let to = client.room.map_or(Target::Name(id), |name| Target::Room { name, receivers: 0 });
            let topic = topic(to);
            let [high, low] = SUBSCRIPTION;
            steps.push(step(
                packet::SUBSCRIBE,
                &[&SUBSCRIPTION, &length(&topic), topic.as_bytes(), &[0]],
                &[packet::SUBACK, 3, high, low, 0],
            ));
        }
        steps
    }

    fn message(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        let topic = topic(message.to);
        packet(packet::PUBLISH, &[&length(&topic), topic.as_bytes(), message.body], out);
    }

    fn delivery(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        self.message(message, out);
    }

    fn ping(&self, out: &mut Vec<u8>) {
        packet(packet::PINGREQ, &[], out);
    }

    fn pong(&self, out: &mut Vec<u8>) {
        packet(packet::PINGRESP, &[], out);
    }

    fn end_session(&self) -> Step {
        Step { say: vec![packet::DISCONNECT, 0], hear: Answer::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVER: Client<'_> = Client { name: "r1", role: Role::Receiver, room: None };

    #[test]
    fn a_receiver_subscribes_once_it_is_connected_and_a_sender_does_not() {
        let connect = Step::new(*b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02r1", *b"\x20\x02\0\0");
        let subscribe = Step::new(*b"\x82\x0a\0\x01\0\x05to/r1\0", *b"\x90\x03\0\x01\0");
        assert_eq!(Mqtt.greeting(&RECEIVER), [connect.clone(), subscribe]);
        assert_eq!(Mqtt.greeting(&Client { role: Role::Asker, ..RECEIVER }), [connect]);
        let steps = Mqtt.greeting(&Client { room: Some("load"), ..RECEIVER });
        assert!(steps[1].say.ends_with(b"\0\x09room/load\0"));
    }

    #[test]
    fn a_message_is_delivered_as_it_was_sent() {
        let message = Message { from: "s1", to: Target::Name("r1"), body: b"abc", number: 7 };
        let (mut sent, mut delivered) = (Vec::new(), Vec::new());
        Mqtt.message(&message, &mut sent);
        Mqtt.delivery(&message, &mut delivered);
        assert_eq!(sent, b"\x30\x0a\0\x05to/r1abc");
        assert_eq!(delivered, sent);
    }

    #[test]
    fn long_packets_have_the_length_bytes_of_the_standard() {
        for (length, bytes) in [
            (127, &[0x7f][..]),
            (128, &[0x80, 1]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
        ] {
            let mut out = Vec::new();
            packet(0, &[&vec![b'x'; length]], &mut out);
            assert_eq!(&out[1..=bytes.len()], bytes);
            assert_eq!(out.len(), 1 + bytes.len() + length);
        }
    }
}
