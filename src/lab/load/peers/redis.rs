//! The protocol of Redis, version 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), as
//! `redis-server` speaks it: published messages, answered with the number of receivers.

use crate::lab::load::peer::{Client, Message, Peer, Role, Step, Target};

/// Requests and answers over a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redis;

/// Returns the channel of a name or a room.
fn channel(to: Target<'_>) -> String {
    match to {
        Target::Name(name) => format!("to:{name}"),
        Target::Room { name, .. } => format!("room:{name}"),
    }
}

/// Returns the number of receivers of a message.
fn receivers(to: Target<'_>) -> usize {
    match to {
        Target::Name(_) => 1,
        Target::Room { receivers, .. } => receivers,
    }
}

/// Appends an array of strings.
fn array(parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn request(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    array(parts, &mut out);
    out
}

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn greeting(&self, client: &Client<'_>) -> Vec<Step> {
        if client.role != Role::Receiver {
            return vec![Step::new(request(&[b"PING"]), "+PONG\r\n")];
        }
        let to = client.room.map_or(Target::Name(client.name), |name| Target::Room { name, receivers: 0 });
        let channel = channel(to);
        let answer = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n", channel.len());
        vec![Step::new(request(&[b"SUBSCRIBE", channel.as_bytes()]), answer)]
    }

    fn message(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        array(&[b"PUBLISH", channel(message.to).as_bytes(), message.body], out);
    }

    fn delivery(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        array(&[b"message", channel(message.to).as_bytes(), message.body], out);
    }

    fn reply(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(":{}\r\n", receivers(message.to)).as_bytes());
    }

    fn ping(&self, out: &mut Vec<u8>) {
        array(&[b"PING"], out);
    }

    fn pong(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"+PONG\r\n");
    }

    fn end_session(&self) -> Step {
        Step::new(request(&[b"QUIT"]), "+OK\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVER: Client<'_> = Client { name: "r1", role: Role::Receiver, room: None };

    #[test]
    fn a_receiver_subscribes_to_its_name_or_its_room_and_a_sender_only_pings() {
        let steps = Redis.greeting(&RECEIVER);
        let (say, hear) =
            ("*2\r\n$9\r\nSUBSCRIBE\r\n$5\r\nto:r1\r\n", "*3\r\n$9\r\nsubscribe\r\n$5\r\nto:r1\r\n:1\r\n");
        assert_eq!(steps, [Step::new(say, hear)]);
        let steps = Redis.greeting(&Client { room: Some("load"), ..RECEIVER });
        assert!(steps[0].say.ends_with(b"$9\r\nroom:load\r\n"));
        let steps = Redis.greeting(&Client { role: Role::Sender, ..RECEIVER });
        assert_eq!(steps, [Step::new("*1\r\n$4\r\nPING\r\n", "+PONG\r\n")]);
    }

    #[test]
    fn messages_and_their_answers_are_known_to_the_last_byte() {
        let message =
            Message { from: "s1", to: Target::Room { name: "load", receivers: 3 }, body: b"abc", number: 7 };
        let mut said = [const { Vec::new() }; 3];
        let [sent, delivered, reply] = &mut said;
        Redis.message(&message, sent);
        Redis.delivery(&message, delivered);
        Redis.reply(&message, reply);
        Redis.reply(&Message { to: Target::Name("r1"), ..message }, reply);
        assert_eq!(
            said.map(|said| String::from_utf8(said).unwrap()),
            [
                "*3\r\n$7\r\nPUBLISH\r\n$9\r\nroom:load\r\n$3\r\nabc\r\n",
                "*3\r\n$7\r\nmessage\r\n$9\r\nroom:load\r\n$3\r\nabc\r\n",
                ":3\r\n:1\r\n"
            ]
        );
    }
}
