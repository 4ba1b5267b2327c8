//! Framing: finds the first piece in a stream, and writes a piece to a stream.

use bytes::Bytes;

use crate::listener::Framing;
use crate::output::Output;
use crate::wire::parse_head;

/// Bytes of the length prefix of a message.
pub(super) const LENGTH: usize = 8;

/// The result of a search for the first piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// No whole piece. The next search may skip the first `seen` bytes.
    Unfinished {
        /// Bytes searched.
        seen: usize,
    },
    /// A whole piece.
    Whole(Span),
    /// Invalid input, or a piece over the limit.
    Broken,
}

/// The position of a piece: its bytes, and the bytes of framing before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) before: usize,
    pub(super) len: usize,
    pub(super) after: usize,
}

/// Searches for the first piece, from byte `seen` on.
pub(super) fn front(framing: Framing, bytes: &[u8], seen: usize, max: usize) -> Front {
    match framing {
        Framing::Bytes if bytes.is_empty() => Front::Unfinished { seen: 0 },
        Framing::Bytes => Front::Whole(Span { before: 0, len: bytes.len(), after: 0 }),
        Framing::Messages => message(bytes, max),
        Framing::Lines => line(bytes, seen, max),
        Framing::Frames => frame(bytes, max),
    }
}

fn message(bytes: &[u8], max: usize) -> Front {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Front::Unfinished { seen: 0 };
    };
    match usize::try_from(u64::from_be_bytes(*length)) {
        Ok(len) if len > max => Front::Broken,
        Ok(len) if len > rest.len() => Front::Unfinished { seen: 0 },
        Ok(len) => Front::Whole(Span { before: LENGTH, len, after: 0 }),
        Err(_) => Front::Broken,
    }
}

fn line(bytes: &[u8], seen: usize, max: usize) -> Front {
    let end = bytes.get(seen..).and_then(|new| new.iter().position(|byte| *byte == b'\n'));
    match end.map(|end| end + seen) {
        None if bytes.len() > max => Front::Broken,
        None => Front::Unfinished { seen: bytes.len() },
        Some(end) => {
            let cr = usize::from(bytes.get(..end).is_some_and(|line| line.ends_with(b"\r")));
            if end - cr > max {
                Front::Broken
            } else {
                Front::Whole(Span { before: 0, len: end - cr, after: cr + 1 })
            }
        }
    }
}

fn frame(bytes: &[u8], max: usize) -> Front {
    let before = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = bytes.get(before..).unwrap_or_default();
    match parse_head(rest, max) {
        Err(_) => Front::Broken,
        Ok(Some(head)) if head.frame_len() <= rest.len() => {
            Front::Whole(Span { before, len: head.frame_len(), after: 0 })
        }
        Ok(_) => Front::Unfinished { seen: 0 },
    }
}

/// Whether a piece can be sent under a framing and arrives as the same piece.
pub(super) fn is_piece(framing: Framing, piece: &[u8]) -> bool {
    match framing {
        Framing::Bytes | Framing::Messages => true,
        Framing::Lines => !piece.contains(&b'\n') && !piece.ends_with(b"\r"),
        Framing::Frames => {
            front(framing, piece, 0, usize::MAX)
                == Front::Whole(Span { before: 0, len: piece.len(), after: 0 })
        }
    }
}

/// Bytes that a framing adds to each piece.
pub(super) const fn overhead(framing: Framing) -> usize {
    match framing {
        Framing::Bytes | Framing::Frames => 0,
        Framing::Messages => LENGTH,
        Framing::Lines => 1,
    }
}

/// Appends a piece, copied.
pub(super) fn put(framing: Framing, piece: &[u8], out: &mut Output) {
    let tail = out.tail();
    before(framing, piece.len(), tail);
    tail.extend_from_slice(piece);
    after(framing, tail);
}

/// Appends a piece that may be shared.
pub(super) fn share(framing: Framing, piece: &Bytes, out: &mut Output) {
    before(framing, piece.len(), out.tail());
    out.share(piece);
    after(framing, out.tail());
}

fn before(framing: Framing, len: usize, tail: &mut Vec<u8>) {
    if framing == Framing::Messages {
        tail.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

fn after(framing: Framing, tail: &mut Vec<u8>) {
    if framing == Framing::Lines {
        tail.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts a stream that arrives in chunks of `at_once` bytes. Returns its pieces, and whether it broke.
    fn cut(framing: Framing, stream: &[u8], at_once: usize, max: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut held, mut seen, mut pieces) = (Vec::new(), 0, Vec::new());
        for part in stream.chunks(at_once) {
            held.extend_from_slice(part);
            loop {
                match front(framing, &held, seen, max) {
                    Front::Unfinished { seen: looked } => {
                        seen = looked;
                        break;
                    }
                    Front::Whole(Span { before, len, after }) => {
                        let piece: Vec<u8> =
                            held.drain(..before + len + after).skip(before).take(len).collect();
                        pieces.push(piece);
                        seen = 0;
                    }
                    Front::Broken => return (pieces, true),
                }
            }
        }
        (pieces, false)
    }

    #[test]
    fn pieces_are_read_back_however_the_stream_is_split() {
        for (framing, pieces) in [
            (Framing::Messages, vec![&b""[..], b"one", b"\n\0", b""]),
            (Framing::Lines, vec![b"", b"one", b"a\rb", b"\r\rx"]),
            (Framing::Frames, vec![b"BYE 0000", b"@7 SND 0006 a b c", b"PNG 0002 x"]),
        ] {
            let mut out = Output::default();
            for piece in &pieces {
                assert!(is_piece(framing, piece), "{framing:?} {piece:?}");
                put(framing, piece, &mut out);
            }
            for at_once in 1..=out.len() {
                assert_eq!(
                    cut(framing, &out.to_vec(), at_once, 20),
                    (pieces.iter().map(|p| p.to_vec()).collect(), false)
                );
            }
        }
    }

    #[test]
    fn a_piece_that_does_not_fit_the_framing_is_refused() {
        for piece in [&b"a\nb"[..], b"a\r", b"\n"] {
            assert!(!is_piece(Framing::Lines, piece));
        }
        for piece in [&b""[..], b"BYE 000", b"BYE 0000\n", b"\nBYE 0000", b"BYE 0000BYE 0000", b"bye 0000"] {
            assert!(!is_piece(Framing::Frames, piece), "{piece:?}");
        }
    }

    #[test]
    fn an_oversized_length_is_refused_as_soon_as_it_arrives() {
        let long = |len: u64| cut(Framing::Messages, &len.to_be_bytes(), 8, 100);
        assert_eq!(long(101), (vec![], true));
        assert_eq!(long(u64::MAX), (vec![], true));
        assert_eq!(long(1 << 63), (vec![], true));
        assert_eq!(long(100), (vec![], false));
        assert_eq!(cut(Framing::Lines, &[b'x'; 101], 101, 100), (vec![], true));
        assert_eq!(cut(Framing::Lines, &[&[b'x'; 101][..], b"\n"].concat(), 102, 100), (vec![], true));
        assert_eq!(cut(Framing::Frames, b"SND 0101", 8, 100), (vec![], true));
    }
}
