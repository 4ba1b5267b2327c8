//! Parsing of one UDP datagram: the token of its session, and its frames.

use super::{Frame, Malformed, TOKEN_CHARS, Token, parse_head, skip_newlines};

/// Bytes of `~token ` at the front of a datagram.
pub const PREFIX_LEN: usize = "~".len() + TOKEN_CHARS + " ".len();

/// A datagram, parsed as a whole before any of its frames is executed (see [the grammar](super)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The token of its session, or a cookie. `None` for a datagram without one.
    pub token: Option<Token>,
    /// The frames in order, at least one.
    pub frames: Vec<Frame<'a>>,
}

impl<'a> Datagram<'a> {
    /// Parses a datagram whose frames have payloads of at most `max_payload` bytes each.
    ///
    /// CR and LF are skipped before, between and after frames, as on a stream: `nc -u` sends a typed line with its LF.
    ///
    /// # Errors
    ///
    /// Any frame is malformed, the datagram ends within a frame, or it holds none.
    pub fn parse(bytes: &'a [u8], max_payload: usize) -> Result<Self, Malformed> {
        let (token, rest) = split_prefix(bytes)?;
        let mut rest = skip_newlines(rest);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let head = parse_head(rest, max_payload)?.ok_or(Malformed::Incomplete)?;
            let (frame, after) = head.split_frame(rest).ok_or(Malformed::Incomplete)?;
            frames.push(frame);
            rest = skip_newlines(after);
        }
        if frames.is_empty() { Err(Malformed::Empty) } else { Ok(Self { token, frames }) }
    }
}

/// Appends `~token `, the [`PREFIX_LEN`] bytes at the front of every datagram of a session.
pub fn encode_prefix(token: Token, out: &mut Vec<u8>) {
    out.push(b'~');
    out.extend_from_slice(&token.text());
    out.push(b' ');
}

/// The token of a datagram, even if the rest is malformed.
#[must_use]
pub fn prefix_of(bytes: &[u8]) -> Option<Token> {
    split_prefix(bytes).ok()?.0
}

/// Cuts `~token ` off the front, if the datagram begins with `~`.
fn split_prefix(bytes: &[u8]) -> Result<(Option<Token>, &[u8]), Malformed> {
    let Some(rest) = bytes.strip_prefix(b"~") else {
        return Ok((None, bytes));
    };
    let (token, rest) = rest.split_at_checked(TOKEN_CHARS).ok_or(Malformed::Token)?;
    let token = Token::parse(token).ok_or(Malformed::Token)?;
    let rest = rest.strip_prefix(b" ").ok_or(Malformed::Token)?;
    Ok((Some(token), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Verb;

    const TOKEN: &[u8] = b"abcdefghijklmnopqrstuv";

    fn verbs(bytes: &[u8]) -> Result<Vec<Verb>, Malformed> {
        Datagram::parse(bytes, 9_999).map(|datagram| datagram.frames.iter().map(|frame| frame.verb).collect())
    }

    #[test]
    fn a_bare_datagram_has_frames_and_no_token() {
        let datagram = Datagram::parse(b"REG 0007 TEST01SND 0017 TEST01 Heyyyooo!", 9_999).unwrap();
        assert_eq!(datagram.token, None);
        assert_eq!(datagram.frames.len(), 2);
        assert_eq!(datagram.frames[1].args(), b"TEST01 Heyyyooo!");
    }

    #[test]
    fn a_prefix_is_written_in_24_bytes_and_read_back() {
        let token = Token::parse(TOKEN).unwrap();
        let mut bytes = Vec::new();
        encode_prefix(token, &mut bytes);
        assert_eq!(bytes, b"~abcdefghijklmnopqrstuv ");
        assert_eq!(bytes.len(), PREFIX_LEN);
        bytes.extend_from_slice(b"@7 ACK 0000");
        let datagram = Datagram::parse(&bytes, 9_999).unwrap();
        assert_eq!(datagram.token, Some(token));
        assert_eq!(datagram.frames[0].id.map(crate::wire::Id::get), Some(7));
    }

    #[test]
    fn newlines_before_between_and_after_frames_are_skipped() {
        let expected = Ok(vec![Verb::Lst, Verb::Bye]);
        assert_eq!(verbs(b"LST 0000\nBYE 0000\r\n"), expected);
        assert_eq!(verbs(b"\n\r\nLST 0000\r\r\nBYE 0000\n\n\n"), expected);
        assert_eq!(verbs(b"~abcdefghijklmnopqrstuv \nLST 0000BYE 0000"), expected);
    }

    #[test]
    fn one_malformed_frame_spoils_the_whole_datagram() {
        assert_eq!(verbs(b"LST 0000BYE 000x"), Err(Malformed::Length));
        assert_eq!(verbs(b"LST 0000 "), Err(Malformed::Verb));
        assert_eq!(verbs(b"LST 0000garbage"), Err(Malformed::Verb));
        assert_eq!(verbs(b"LST 0000\0"), Err(Malformed::Verb));
        assert_eq!(verbs(b"LST 0004hello"), Err(Malformed::Space));
        assert_eq!(verbs(b"PNG +005 10000"), Err(Malformed::TooLong { length: 10_000, limit: 9_999 }));
    }

    #[test]
    fn a_datagram_cut_anywhere_within_a_frame_is_refused() {
        let whole = b"~abcdefghijklmnopqrstuv @1 REG 0007 TEST01";
        for end in PREFIX_LEN + 1..whole.len() {
            assert_eq!(verbs(&whole[..end]), Err(Malformed::Incomplete), "{end}");
        }
        for end in 1..PREFIX_LEN {
            assert_eq!(verbs(&whole[..end]), Err(Malformed::Token), "{end}");
        }
    }

    #[test]
    fn a_datagram_without_a_frame_is_refused() {
        for empty in
            [&b""[..], b"\n", b"\r\n\r\n", b"~abcdefghijklmnopqrstuv ", b"~abcdefghijklmnopqrstuv \n"]
        {
            assert_eq!(verbs(empty), Err(Malformed::Empty), "{empty:?}");
        }
    }

    #[test]
    fn a_prefix_that_is_no_token_and_a_space_is_refused() {
        for wrong in [
            &b"~ LST 0000"[..],
            b"~abcdefghijklmnopqrstuvLST 0000",
            b"~abcdefghijklmnopqrstuvw LST 0000",
            b"~abcdefghijklmnopqrstu  LST 0000",
            b"~abcdefghijklmnopqrstu= LST 0000",
            b"~abcdefghijklmnopqrstuv\tLST 0000",
        ] {
            assert_eq!(verbs(wrong), Err(Malformed::Token), "{wrong:?}");
        }
        assert_eq!(verbs(b"~abcdefghijklmnopqrstuv ~abcdefghijklmnopqrstuv LST 0000"), Err(Malformed::Verb));
    }
}
