//! The protocol of NATS (<https://docs.nats.io/reference/reference-protocols/nats-protocol>), as its clients speak it to
//! `nats-server`: subjects, `verbose` off.

use crate::lab::load::peer::{Answer, Client, Message, Peer, Role, Step, Target};

/// Lines over a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nats;

/// The client's options: success is silent.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"rust\",\
                       \"version\":\"1\",\"protocol\":1}\r\n";

/// The subscription of a client; it has only one.
const SID: u8 = b'1';

/// Returns the subject of a name or a room.
fn subject(to: Target<'_>) -> String {
    match to {
        Target::Name(name) => format!("to.{name}"),
        Target::Room { name, .. } => format!("room.{name}"),
    }
}

/// Returns the subject that a receiver subscribes to.
fn heard(client: &Client<'_>) -> String {
    subject(client.room.map_or(Target::Name(client.name), |name| Target::Room { name, receivers: 0 }))
}

fn payload(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

impl Peer for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn greeting(&self, client: &Client<'_>) -> Vec<Step> {
        let subscription = match client.role {
            Role::Receiver => format!("SUB {} {}\r\n", heard(client), char::from(SID)),
            Role::Sender | Role::Asker => String::new(),
        };
        // The server sends its INFO first, which has variable content.
        let hear = Answer { start: b"INFO {".to_vec(), end: b"}\x20\r\nPONG\r\n".to_vec() };
        vec![Step { say: format!("{CONNECT}{subscription}PING\r\n").into_bytes(), hear }]
    }

    fn message(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB {} ", subject(message.to)).as_bytes());
        payload(message.body, out);
    }

    fn delivery(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("MSG {} {} ", subject(message.to), char::from(SID)).as_bytes());
        payload(message.body, out);
    }

    fn ping(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn pong(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PONG\r\n");
    }

    fn aside(&self) -> &'static [u8] {
        // The server pings two seconds after the connection, to measure the RTT, and then every two minutes. It closes
        // after the third unanswered ping.
        b"PING\r\n"
    }

    fn end_session(&self) -> Step {
        // There is no request for it: clients wait until everything has arrived, and close.
        Step::new("PING\r\n", "PONG\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::peer::Heard;

    const RECEIVER: Client<'_> = Client { name: "r1", role: Role::Receiver, room: None };

    fn greeted(client: &Client<'_>) -> Step {
        let [step] = <[Step; 1]>::try_from(Nats.greeting(client)).unwrap();
        step
    }

    #[test]
    fn a_receiver_subscribes_to_its_name_or_its_room_and_a_sender_to_nothing() {
        let said = |client: &Client<'_>| {
            String::from_utf8(greeted(client).say).unwrap().strip_prefix(CONNECT).unwrap().to_owned()
        };
        assert_eq!(said(&RECEIVER), "SUB to.r1 1\r\nPING\r\n");
        assert_eq!(said(&Client { room: Some("load"), ..RECEIVER }), "SUB room.load 1\r\nPING\r\n");
        assert_eq!(said(&Client { role: Role::Sender, ..RECEIVER }), "PING\r\n");
    }

    #[test]
    fn the_greeting_ends_with_the_pong_behind_the_info() {
        let hear = greeted(&RECEIVER).hear;
        assert_eq!(hear.check(b"INFO {\"max_payload\":1048576} \r\n"), Heard::Incomplete);
        assert_eq!(hear.check(b"INFO {\"max_payload\":1048576} \r\nPONG\r\n"), Heard::Complete);
        assert_eq!(hear.check(b"-ERR 'Unknown'\r\n"), Heard::Wrong);
    }

    #[test]
    fn messages_are_known_to_the_last_byte() {
        let to = [Target::Name("r1"), Target::Room { name: "load", receivers: 3 }];
        let said = to.map(|to| {
            let message = Message { from: "s1", to, body: b"abc", number: 7 };
            let (mut out, mut delivered) = (Vec::new(), Vec::new());
            Nats.message(&message, &mut out);
            Nats.delivery(&message, &mut delivered);
            (String::from_utf8(out).unwrap(), String::from_utf8(delivered).unwrap())
        });
        let [(named, heard), (in_room, heard_there)] = said;
        assert_eq!((named.as_str(), heard.as_str()), ("PUB to.r1 3\r\nabc\r\n", "MSG to.r1 1 3\r\nabc\r\n"));
        assert_eq!(
            (in_room.as_str(), heard_there.as_str()),
            ("PUB room.load 3\r\nabc\r\n", "MSG room.load 1 3\r\nabc\r\n")
        );
    }
}
