//! Splits: however a stream is split, the same frames come out.

use crate::wire::{Deframer, Frame, Id, Malformed, Verb, encode_args, parse_head};

/// The parts of a frame, owned.
type Owned = (Option<u64>, Verb, Vec<u8>);

const LIMIT: usize = 2 << 20;

/// Every complete frame among the examples of the protocol's description, and frames of every other kind.
const EXAMPLES: [&[u8]; 27] = [
    b"REG 0007 TEST01",
    b"SND 0017 TEST01 Heyyyooo!",
    b"RCV 0022 TEST02 0001 Heyyyooo!",
    b"BYE 0000",
    b"ERR 0016 No such client!",
    b"RCV 0030 * 0004 you missed 12 messages",
    b"@7 ACK 0000",
    b"@7 ACK 0006 hello",
    b"@7 ERR 0020 404 No such client!",
    b"ACK 0009 17-42,44",
    b"@1 REG 0031 TEST01 ?abcdefghijklmnopqrstuv",
    b"@1 ERR 0050 428 ABCDEFGHIJKLMNOPQRSTUV abcdefghijklmnopqrstuv",
    b"@1 ACK 0023 ABCDEFGHIJKLMNOPQRSTUV",
    b"@12 REG 0030 TEST01 ABCDEFGHIJKLMNOPQRSTUV",
    b"ERR 0027 428 ABCDEFGHIJKLMNOPQRSTUV",
    b"ERR 0004 401",
    b"ERR 0023 409 taken up elsewhere",
    b"@17 GAP 0003 12",
    b"@9 JON 0006 #room",
    b"@9999999999999999999 LEV 0006 #room",
    b"LST 0000",
    b"@3 LST 0006 #room",
    b"PNG 0000",
    b"PNG 0001 ",
    b"PNG 0009 \r\n \0 \xff~@",
    b"SND 0004 a  ",
    b"XYZ 0002 ?",
];

fn owned(frame: Frame<'_>) -> Owned {
    (frame.id.map(Id::get), frame.verb, frame.payload.to_vec())
}

/// All frames of a stream that arrives in these pieces; the last one has to be complete.
fn deframed(pieces: &[&[u8]]) -> Vec<Owned> {
    let mut deframer = Deframer::new(LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while let Some(frame) = deframer.next(&mut input).unwrap() {
            frames.push(owned(frame));
        }
        assert_eq!(input, b"");
    }
    assert_eq!(deframer.partial(), None);
    frames
}

fn long(payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_args(Id::new(7), Verb::Snd, &[b"TEST01", &vec![b'x'; payload - b" TEST01 ".len()]], &mut bytes);
    bytes
}

#[test]
fn the_examples_are_whole_frames_and_are_encoded_to_the_same_bytes() {
    for example in EXAMPLES {
        let mut input = example;
        let mut written = Vec::new();
        Deframer::new(LIMIT).next(&mut input).unwrap().unwrap().encode(&mut written);
        assert_eq!((written.as_slice(), input), (example, &b""[..]));
    }
}

#[test]
fn every_two_way_split_of_every_kind_of_frame_gives_the_same_frame() {
    for example in EXAMPLES {
        let bytes = example;
        let whole = deframed(&[bytes]);
        assert_eq!(whole.len(), 1);
        for at in 0..=bytes.len() {
            assert_eq!(deframed(&[&bytes[..at], &bytes[at..]]), whole, "{at}");
        }
    }
}

#[test]
fn every_three_way_split_gives_the_same_frame() {
    for example in EXAMPLES {
        let bytes = example;
        let whole = deframed(&[bytes]);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                assert_eq!(deframed(&[&bytes[..first], &bytes[first..second], &bytes[second..]]), whole);
            }
        }
    }
}

#[test]
fn all_frames_in_one_stream_survive_every_split_and_single_bytes() {
    let separators = ["", "\n", "\r\n", "\r\r\n\n"];
    let mut stream = Vec::new();
    for (example, separator) in EXAMPLES.iter().zip(separators.iter().cycle()) {
        stream.extend_from_slice(example);
        stream.extend_from_slice(separator.as_bytes());
    }
    let whole = deframed(&[&stream]);
    assert_eq!(whole.len(), EXAMPLES.len());
    for at in 0..=stream.len() {
        assert_eq!(deframed(&[&stream[..at], &stream[at..]]), whole, "{at}");
    }
    for size in 1..60 {
        assert_eq!(deframed(&stream.chunks(size).collect::<Vec<_>>()), whole, "{size}");
    }
}

#[test]
fn every_prefix_of_a_frame_is_unfinished_and_reports_its_size() {
    for example in EXAMPLES {
        let bytes = example;
        for end in 0..bytes.len() {
            let mut deframer = Deframer::new(LIMIT);
            assert_eq!(deframer.next(&mut &bytes[..end]), Ok(None));
            assert_eq!(deframer.partial().map_or(0, |partial| partial.buffered), end);
        }
    }
}

#[test]
fn long_frames_take_the_long_length_from_ten_thousand_bytes_on() {
    assert!(long(9_999).starts_with(b"@7 SND 9999 TEST01 x"));
    assert!(long(10_000).starts_with(b"@7 SND +005 10000 TEST01 x"));
    assert!(long(1_048_583).starts_with(b"@7 SND +007 1048583 TEST01 x"));
}

#[test]
fn long_frames_survive_every_split_near_their_head_and_samples_beyond() {
    for payload in [9_999, 10_000, 1 << 20] {
        let bytes = long(payload);
        let whole = deframed(&[&bytes]);
        assert_eq!(whole[0].2.len(), payload);
        let near =
            (0..64).chain((64..bytes.len()).step_by(bytes.len() / 101)).chain(bytes.len() - 64..bytes.len());
        for at in near {
            assert_eq!(deframed(&[&bytes[..at], &bytes[at..]]), whole, "{at}");
        }
        assert_eq!(deframed(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }
}

#[test]
fn every_two_way_split_of_the_longest_short_and_the_shortest_long_frame() {
    for payload in [9_999, 10_000] {
        let bytes = long(payload);
        let mut deframer = Deframer::new(payload);
        for at in 1..bytes.len() {
            assert_eq!(deframer.next(&mut &bytes[..at]), Ok(None));
            let mut rest = &bytes[at..];
            assert_eq!(deframer.next(&mut rest).unwrap().unwrap().payload, &bytes[bytes.len() - payload..]);
            assert_eq!(rest, b"");
        }
    }
}

#[test]
fn a_wrong_byte_is_found_as_soon_as_it_arrives_under_any_split() {
    let wrong: [(&[u8], usize, Malformed); 16] = [
        (b"Reg 0000", 2, Malformed::Verb),
        (b" REG", 1, Malformed::Verb),
        (b"REGX", 4, Malformed::Verb),
        (b"REG x", 5, Malformed::Length),
        (b"REG 0005X", 9, Malformed::Space),
        (b"REG 0005\n", 9, Malformed::Space),
        (b"@0", 2, Malformed::Tag),
        (b"@01", 2, Malformed::Tag),
        (b"@ 1", 2, Malformed::Tag),
        (b"@1x", 3, Malformed::Tag),
        (b"@10000000000000000000 ", 21, Malformed::Tag),
        (b"@1 @2 REG", 4, Malformed::Verb),
        (b"REG +004 1234", 8, Malformed::Length),
        (b"REG +020 1", 7, Malformed::Length),
        (b"REG +005 01234", 10, Malformed::Length),
        (b"REG +007 9999999", 16, Malformed::TooLong { length: 9_999_999, limit: LIMIT }),
    ];
    for (bytes, found_at, why) in wrong {
        for end in 0..=bytes.len() {
            let expected = if end < found_at { Ok(()) } else { Err(why) };
            assert_eq!(parse_head(&bytes[..end], LIMIT).map(|_| ()), expected, "{end} of {bytes:?}");
            for at in 0..=end {
                let mut deframer = Deframer::new(LIMIT);
                let first = deframer.next(&mut &bytes[..at]).map(|frame| frame.map(owned));
                let second = deframer.next(&mut &bytes[at..end]).map(|frame| frame.map(owned));
                assert_eq!(first.and(second), expected.map(|()| None), "{at}, {end} of {bytes:?}");
            }
        }
    }
}
