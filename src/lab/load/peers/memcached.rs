//! memcached's text protocol over UDP (its `doc/protocol.txt`, "UDP protocol"): every request gets the value of the
//! client's own key.

use crate::lab::load::peer::{DatagramPeer, Join};

/// Requests and answers in datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memcached;

/// The value under each key.
const VALUE: &str = "0123456789abcdef";

/// The frame header of a datagram: request id, datagram number, datagram count, reserved.
fn frame(id: u64) -> [u8; 8] {
    let [.., high, low] = id.to_be_bytes();
    [high, low, 0, 0, 0, 1, 0, 0]
}

/// The key of a client: 16 bytes unless its name is longer.
fn key(name: &str) -> String {
    format!("{name:k>16}")
}

impl DatagramPeer for Memcached {
    fn name(&self) -> &'static str {
        "memcached"
    }

    fn join(&self, name: &str, heard: Option<&[u8]>) -> Join {
        match heard.and_then(|heard| heard.strip_prefix(&frame(0))) {
            Some(b"STORED\r\n") => Join::Ready(key(name).into_bytes()),
            Some(error) if error.starts_with(b"SERVER_ERROR") => {
                Join::Refused(crate::escape::escape_short(error, 80).into_owned())
            }
            _ => {
                let set = format!("set {} 0 0 {}\r\n{VALUE}\r\n", key(name), VALUE.len());
                Join::Say([&frame(0)[..], set.as_bytes()].concat())
            }
        }
    }

    fn request(&self, session: &[u8], number: u64, _: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&frame(number));
        for part in [b"get ", session, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }

    fn answers(&self, session: &[u8], number: u64, _: &[u8], datagram: &[u8]) -> bool {
        let value = format!(" 0 {}\r\n{VALUE}\r\nEND\r\n", VALUE.len());
        let expected = [&frame(number)[..], b"VALUE ", session, value.as_bytes()];
        let rest = expected.into_iter().try_fold(datagram, |rest, part| rest.strip_prefix(part));
        rest == Some(b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_stores_its_value_before_it_asks_for_it() {
        let set =
            Join::Say(b"\0\0\0\0\0\x01\0\0set kkkkkkkkkkkkkkc1 0 0 16\r\n0123456789abcdef\r\n".to_vec());
        assert_eq!(Memcached.join("c1", None), set);
        assert_eq!(Memcached.join("c1", Some(b"\0\0\0\0\0\x01\0\0ERROR\r\n")), set);
        let stored = Memcached.join("c1", Some(b"\0\0\0\0\0\x01\0\0STORED\r\n"));
        assert_eq!(stored, Join::Ready(b"kkkkkkkkkkkkkkc1".to_vec()));
        let full = b"\0\0\0\0\0\x01\0\0SERVER_ERROR out of memory\r\n";
        assert!(matches!(Memcached.join("c1", Some(full)), Join::Refused(_)));
    }

    #[test]
    fn only_the_value_under_the_request_s_id_answers_it() {
        let mut out = Vec::new();
        Memcached.request(b"key", 0x1_0203, b"", &mut out);
        assert_eq!(out, b"\x02\x03\0\0\0\x01\0\0get key\r\n");
        let answer = b"\x02\x03\0\0\0\x01\0\0VALUE key 0 16\r\n0123456789abcdef\r\nEND\r\n";
        assert!(Memcached.answers(b"key", 0x1_0203, b"", answer));
        assert!(!Memcached.answers(b"key", 0x1_0204, b"", answer));
        assert!(!Memcached.answers(b"kez", 0x1_0203, b"", answer));
        assert!(!Memcached.answers(b"key", 0x1_0203, b"", b"\x02\x03\0\0\0\x01\0\0END\r\n"));
    }
}
