//! Round trips: encoded frames, datagrams and ranges are parsed back unchanged.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::wire::{
    Datagram, Deframer, Frame, Id, MAX_ID, RcvArgs, Token, Verb, encode_args, encode_prefix, encode_ranges,
    encode_rcv, encode_tag, parse_head, parse_ranges, words,
};

const LIMIT: usize = 1 << 20;

/// The same cases in every run.
fn same_every_time() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() }
}

fn ids() -> impl Strategy<Value = Option<Id>> {
    prop_oneof![
        Just(None),
        Just(Id::new(MAX_ID)),
        (1..1_000_u64).prop_map(Id::new),
        (1..=MAX_ID).prop_map(Id::new)
    ]
}

fn verbs() -> impl Strategy<Value = Verb> {
    prop_oneof![
        Just(Verb::Reg),
        Just(Verb::Snd),
        Just(Verb::Err),
        "[A-Z]{3}".prop_map(|text| Verb::from_bytes(text.as_bytes().try_into().unwrap()).unwrap()),
    ]
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// The parts of a frame: its id, its verb and, unless its payload is empty, the text after the space.
fn parts() -> impl Strategy<Value = (Option<Id>, Verb, Option<Vec<u8>>)> {
    (ids(), verbs(), prop::option::of(prop_oneof![9 => bytes(60), 1 => bytes(20_000)]))
}

fn encode((id, verb, args): &(Option<Id>, Verb, Option<Vec<u8>>), out: &mut Vec<u8>) {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    encode_args(*id, *verb, &args, out);
}

/// Whether a frame has these parts.
fn is_made_of(frame: &Frame<'_>, (id, verb, args): &(Option<Id>, Verb, Option<Vec<u8>>)) -> bool {
    let payload = args.as_ref().map_or(Vec::new(), |args| [b" ", args.as_slice()].concat());
    *frame == Frame::new(*id, *verb, &payload)
}

proptest! {
    #![proptest_config(same_every_time())]

    #[test]
    fn frames_survive_a_round_trip(parts in parts()) {
        let mut encoded = Vec::new();
        encode(&parts, &mut encoded);
        let head = parse_head(&encoded, LIMIT).unwrap().unwrap();
        prop_assert_eq!(head.frame_len(), encoded.len());
        let mut input = encoded.as_slice();
        let mut deframer = Deframer::new(LIMIT);
        let frame = deframer.next(&mut input).unwrap().unwrap();
        prop_assert!(is_made_of(&frame, &parts));
        let mut again = Vec::new();
        frame.encode(&mut again);
        prop_assert_eq!(frame.encoded_len(), again.len());
        prop_assert_eq!(&again, &encoded);
    }

    #[test]
    fn streams_survive_a_round_trip_under_any_split(
        all in prop::collection::vec(parts(), 1..6),
        sizes in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let mut stream = Vec::new();
        all.iter().for_each(|parts| encode(parts, &mut stream));
        let mut deframer = Deframer::new(LIMIT);
        let mut read = 0;
        let mut rest = stream.as_slice();
        for size in sizes.iter().cycle() {
            let (mut piece, after) = rest.split_at((*size).min(rest.len()));
            while let Some(frame) = deframer.next(&mut piece).unwrap() {
                prop_assert!(is_made_of(&frame, &all[read]));
                read += 1;
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(read, all.len());
    }

    #[test]
    fn datagrams_survive_a_round_trip(
        bits in prop::option::of(any::<u128>()),
        all in prop::collection::vec(parts(), 1..6),
    ) {
        let token = bits.map(Token::from_bits);
        let mut encoded = Vec::new();
        token.into_iter().for_each(|token| encode_prefix(token, &mut encoded));
        all.iter().for_each(|parts| encode(parts, &mut encoded));
        let datagram = Datagram::parse(&encoded, LIMIT).unwrap();
        prop_assert_eq!(datagram.token.and_then(Token::to_bits), bits);
        prop_assert_eq!(datagram.frames.len(), all.len());
        prop_assert!(datagram.frames.iter().zip(&all).all(|(frame, parts)| is_made_of(frame, parts)));
    }

    #[test]
    fn ranges_survive_a_round_trip(ends in prop::collection::vec((1..=MAX_ID, 1..=MAX_ID), 1..50)) {
        let ranges: Vec<_> = ends.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        let mut text = Vec::new();
        encode_ranges(&ranges, &mut text);
        prop_assert_eq!(parse_ranges(&text, ranges.len() - 1), None);
        prop_assert_eq!(parse_ranges(&text, ranges.len()), Some(ranges));
    }

    #[test]
    fn messages_survive_a_round_trip(id in 1..=MAX_ID, sender in "[a-z#]{1,40}", body in bytes(300)) {
        let mut encoded = Vec::new();
        encode_tag(Id::new(id).unwrap(), &mut encoded);
        encode_rcv(sender.as_bytes(), &body, &mut encoded);
        let datagram = Datagram::parse(&encoded, LIMIT).unwrap();
        prop_assert_eq!(datagram.frames[0].id.map(Id::get), Some(id));
        let args = RcvArgs { sender: sender.as_bytes(), words: words(&body), body: &body };
        prop_assert_eq!(RcvArgs::parse(datagram.frames[0].args()), Some(args));
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(noise in bytes(200)) {
        let _ = Datagram::parse(&noise, LIMIT);
        let mut input = noise.as_slice();
        let mut deframer = Deframer::new(LIMIT);
        while let Ok(Some(_)) = deframer.next(&mut input) {}
    }
}
