//! CoAP (RFC 7252), as libcoap's `coap-server` speaks it: a confirmable GET of `/time`, answered in its acknowledgement.

use crate::lab::load::peer::DatagramPeer;

/// Requests and answers in datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coap;

/// Version 1, the type, and a token of four bytes (section 3).
const CONFIRMABLE: u8 = 0x44;
const ACKNOWLEDGEMENT: u8 = 0x64;

/// 0.01 (section 12.1.1).
const GET: u8 = 0x01;

/// 2.05 (section 12.1.2).
const CONTENT: u8 = 0x45;

/// Option 11, Uri-Path, of four bytes (section 3.1).
const PATH: &[u8] = b"\xb4time";

/// The header of a message with its token. Message ids repeat after 65,536 requests, tokens after 2^32.
fn header(kind: u8, code: u8, number: u64) -> [u8; 8] {
    let [.., a, b, c, d] = number.to_be_bytes();
    [kind, code, c, d, a, b, c, d]
}

impl DatagramPeer for Coap {
    fn name(&self) -> &'static str {
        "coap"
    }

    fn request(&self, _: &[u8], number: u64, _: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&header(CONFIRMABLE, GET, number));
        out.extend_from_slice(PATH);
    }

    fn answers(&self, _: &[u8], number: u64, _: &[u8], datagram: &[u8]) -> bool {
        // The time itself is not checked.
        datagram.strip_prefix(&header(ACKNOWLEDGEMENT, CONTENT, number)).is_some_and(|rest| !rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_content_under_the_request_s_token_answers_it() {
        let mut out = Vec::new();
        Coap.request(b"", 0x0102_0304, b"", &mut out);
        assert_eq!(out, b"\x44\x01\x03\x04\x01\x02\x03\x04\xb4time");
        let answer = b"\x64\x45\x03\x04\x01\x02\x03\x04\xc0\xffNov 20 10:00:00";
        assert!(Coap.answers(b"", 0x0102_0304, b"", answer));
        assert!(!Coap.answers(b"", 0x0102_0305, b"", answer));
        assert!(!Coap.answers(b"", 0x0102_0304, b"", b"\x64\x84\x03\x04\x01\x02\x03\x04\xff"), "4.04");
        assert!(!Coap.answers(b"", 0x0102_0304, b"", b"\x64\x45\x03\x04"));
    }
}
