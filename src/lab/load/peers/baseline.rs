//! No protocol at all, for `lab baseline`: what is sent comes out as it is, at the sender or at whoever is next.

use crate::lab::load::peer::{Client, DatagramPeer, Join, Message, Peer, Role, Step};

/// Bytes over a stream or in datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Baseline;

/// What is asked at a ping: as much as a ping of ours.
const PING: &[u8] = b"PNG 0011 0123456789";

impl Peer for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
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

impl DatagramPeer for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
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
        Baseline.request(b"", 7, b"abc", &mut out);
        assert!(Baseline.answers(b"", 7, b"abc", &out));
        assert!(!Baseline.answers(b"", 8, b"abc", &out) && !Baseline.answers(b"", 7, b"abd", &out));
        assert!(!Baseline.answers(b"", 7, b"abc", &out[..9]));
    }
}
