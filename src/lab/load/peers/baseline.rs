//! The absence of a protocol, for `lab baseline`: bytes arrive unchanged, at the sender or at another connection.

use crate::lab::load::peer::{Client, DatagramPeer, Message, Peer, Role, Step};

/// Bytes over a stream or in datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline;

/// The body of a ping: as long as a ping of our protocol.
const PING: &[u8] = b"PNG 0011 0123456789";

impl Peer for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
    }

    fn greeting(&self, client: &Client<'_>) -> Vec<Step> {
        // An echo shows that the connection is accepted; a relay or a fan would send it to another connection.
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

    fn end_session(&self) -> Step {
        // As many exchanges as with other peers, so that their cost is comparable.
        Step::new("bye", "bye")
    }
}

impl DatagramPeer for Baseline {
    fn name(&self) -> &'static str {
        "baseline"
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
