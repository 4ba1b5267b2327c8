//! No protocol at all, for `lab bare`: what is sent comes out as it is, at the sender or at whoever is next.

use crate::lab::load::peer::{Client, DatagramPeer, Join, Message, Peer, Role, Step};

/// Bytes over a stream or in datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

/// What is asked at a ping: as much as a ping of ours.
const PING: &[u8] = b"PNG 0011 0123456789";

impl Peer for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn greeting(&self, client: &Client<'_>) -> Vec<Step> {
        // Who is accepted is known from an echo; a relay or a fan would give it to somebody else.
        match client.role {
            Role::Asker => vec![Step::new(PING, PING)],
            Role::Sender | Role::Receiver => Vec::new(),
        }
    }

    fn message(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(message.body);
    }

    fn delivery(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(message.body);
    }

    fn routes(&self) -> bool {
        false
    }

    fn ping(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PING);
    }

    fn pong(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PING);
    }

    fn goodbye(&self) -> Step {
        // As many exchanges as others need, for what is compared is the rest.
        Step::new("bye", "bye")
    }
}

impl DatagramPeer for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn join(&self, _: &str, _: Option<&[u8]>) -> Join {
        Join::Ready(Vec::new())
    }

    fn request(&self, _: &[u8], number: u64, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(body);
    }

    fn answers(&self, _: &[u8], number: u64, body: &[u8], datagram: &[u8]) -> bool {
        datagram.strip_prefix(&number.to_be_bytes()) == Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_s_own_bytes_answer_it() {
        let mut out = Vec::new();
        Bare.request(b"", 7, b"abc", &mut out);
        assert!(Bare.answers(b"", 7, b"abc", &out));
        assert!(!Bare.answers(b"", 8, b"abc", &out) && !Bare.answers(b"", 7, b"abd", &out));
        assert!(!Bare.answers(b"", 7, b"abc", &out[..9]));
    }
}
