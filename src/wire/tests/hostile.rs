//! Hostile input: no bytes make a parser panic, allocate for an announced length, or accept an invalid frame.

use crate::wire::{
    Datagram, Deframer, ErrArgs, Frame, MAX_HEAD, MAX_ID, Malformed, RcvArgs, RegArgs, SndArgs, Verb,
    parse_gap, parse_head, parse_ranges, split_word, words,
};

const LIMIT: usize = 1 << 20;

/// Parses bytes in every way. Only termination matters, not the result.
fn parse_in_every_way(bytes: &[u8]) {
    let whole = parse_head(bytes, LIMIT);
    assert!(bytes.len() < MAX_HEAD || whole != Ok(None), "so many bytes decide");
    let _ = Datagram::parse(bytes, LIMIT);
    let mut deframer = Deframer::new(LIMIT);
    for mut piece in bytes.chunks(3) {
        while let Ok(Some(frame)) = deframer.next(&mut piece) {
            read_args(frame.args());
        }
    }
    read_args(bytes);
}

fn read_args(args: &[u8]) {
    let _ = (split_word(args), words(args), RegArgs::parse(args), SndArgs::parse(args), RcvArgs::parse(args));
    let _ = (ErrArgs::parse(args), parse_gap(args), parse_ranges(args, 64));
}

#[test]
fn no_single_byte_wrong_in_a_head_panics() {
    let heads: [&[u8]; 5] = [
        b"SND 0017 TEST01 Heyyyooo!",
        b"@7 ERR 0020 404 No such client!",
        b"@9999999999999999999 SND +007 1048576 TEST01 Hey",
        b"~abcdefghijklmnopqrstuv @1 REG 0031 TEST01 ?abcdefghijklmnopqrstuv",
        b"RCV +019 1000000000000000000 a 0001 b",
    ];
    for head in heads {
        for at in 0..head.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = head.to_vec();
                bytes[at] = byte;
                parse_in_every_way(&bytes);
            }
        }
    }
}

#[test]
fn only_ascii_digits_are_a_length() {
    for length in [
        "-001",
        "+1  ",
        "+001",
        " 007",
        "0 07",
        "007 ",
        "0x07",
        "1e03",
        "00.7",
        "0_07",
        "00\u{ff11}",
        "\u{ff10}007",
        "\u{663}007",
        "000\0",
        "\t007",
        "",
        "abcd",
    ] {
        let bytes = format!("REG {length} TEST01 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        assert_eq!(parse_head(bytes.as_bytes(), LIMIT), Err(Malformed::Length), "{bytes:?}");
    }
}

#[test]
fn a_long_length_has_five_to_nineteen_digits_as_announced() {
    for length in [
        "+000 ",
        "+001 1",
        "+004 9999",
        "+005 09999",
        "+006 010000",
        "+020 10000000000000000000",
        "+019  1",
        "+5 10000",
        "+05 10000",
        "+0005 10000",
        "+005  10000",
        "+005 1000 ",
        "+005 +1000",
        "+007 100000 ",
        "++05",
        "+-05",
        "+ 05",
        "+00: 1",
        "+00\u{ff15} 10000",
        "+005\t10000",
        "+099 1",
        "+100 1",
        "+999 1",
    ] {
        let bytes = format!("REG {length} x");
        assert_eq!(parse_head(bytes.as_bytes(), LIMIT), Err(Malformed::Length), "{bytes:?}");
    }
}

#[test]
fn every_count_of_digits_from_five_to_nineteen_is_read() {
    for digits in 5..=19 {
        let length = 10_u64.pow(digits - 1);
        let head = parse_head(format!("REG +{digits:03} {length}").as_bytes(), usize::MAX);
        assert_eq!(head.unwrap().unwrap().length as u64, length);
    }
}

#[test]
fn a_length_over_the_limit_is_refused_with_a_limit_error() {
    let over = |bytes: &[u8], limit| match parse_head(bytes, limit) {
        Err(why @ Malformed::TooLong { .. }) => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(over(b"PNG 0006", 5), "length 6 is over the limit of 5");
    assert_eq!(over(b"PNG +005 10000", 9_999), "length 10000 is over the limit of 9999");
    let huge = over(b"PNG +019 9999999999999999999", LIMIT);
    assert_eq!(huge, "length 9999999999999999999 is over the limit of 1048576");
    assert!(parse_head(b"PNG 0005", 5).unwrap().is_some());
}

#[test]
fn the_longest_length_under_no_limit_neither_overflows_nor_allocates() {
    let mut deframer = Deframer::new(usize::MAX);
    let bytes = b"@9999999999999999999 PNG +019 9999999999999999999 hello";
    assert_eq!(parse_head(bytes, usize::MAX).unwrap().unwrap().head_len, MAX_HEAD);
    assert_eq!(deframer.next(&mut &bytes[..]), Ok(None));
    assert_eq!(deframer.next(&mut &b"and more"[..]), Ok(None));
    assert_eq!(deframer.partial().unwrap().buffered, bytes.len() + 8);
    assert_eq!(Datagram::parse(bytes, usize::MAX), Err(Malformed::Incomplete));
}

#[test]
fn an_id_has_at_most_nineteen_digits() {
    let id =
        |text: &str| parse_head(format!("@{text} BYE 0000").as_bytes(), LIMIT).map(|head| head.unwrap().id);
    assert_eq!(id("9999999999999999999").unwrap().unwrap().get(), MAX_ID);
    assert_eq!(id("1000000000000000000").unwrap().unwrap().get(), MAX_ID / 10 + 1);
    for wrong in [
        "10000000000000000000",
        "18446744073709551616",
        "99999999999999999999",
        "0",
        "00",
        "07",
        "",
        "-1",
        "+1",
        "1x",
        "\u{ff11}",
        "1\0",
        "1,2",
        "@1",
        "1\n",
    ] {
        assert_eq!(id(wrong), Err(Malformed::Tag), "{wrong:?}");
    }
}

#[test]
fn two_tags_two_prefixes_or_a_prefix_on_a_stream_are_refused() {
    for wrong in
        [&b"@1 @2 BYE 0000"[..], b"@1  BYE 0000", b"@1 ~", b"~abcdefghijklmnopqrstuv BYE 0000", b"@1 \n"]
    {
        assert_eq!(parse_head(wrong, LIMIT), Err(Malformed::Verb), "{wrong:?}");
    }
}

#[test]
fn floods_without_a_space_are_refused_at_their_first_wrong_byte() {
    for (byte, why) in
        [(b'A', Malformed::Verb), (b'0', Malformed::Verb), (b'@', Malformed::Tag), (0, Malformed::Verb)]
    {
        let flood = [byte; 65_536];
        let mut deframer = Deframer::new(LIMIT);
        assert_eq!(deframer.next(&mut &flood[..]), Err(why));
        assert!(Datagram::parse(&flood, LIMIT).is_err());
        read_args(&flood);
    }
    let mut digits = [b'1'; 65_536];
    digits[0] = b'@';
    assert_eq!(Deframer::new(LIMIT).next(&mut &digits[..]), Err(Malformed::Tag));
}

#[test]
fn a_flood_of_newlines_is_skipped_and_not_kept() {
    let mut deframer = Deframer::new(LIMIT);
    for _ in 0..100 {
        assert_eq!(deframer.next(&mut &[b'\n'; 65_536][..]), Ok(None));
        assert_eq!(deframer.partial(), None);
    }
    let verb = deframer.next(&mut &b"\r\nBYE 0000"[..]).unwrap().map(|frame| frame.verb);
    assert_eq!(verb, Some(Verb::Bye));
}

#[test]
fn newlines_within_a_frame_are_not_skipped() {
    assert_eq!(parse_head(b"BYE\n0000", LIMIT), Err(Malformed::Verb));
    assert_eq!(parse_head(b"BYE \n000", LIMIT), Err(Malformed::Length));
    let mut input = &b"PNG 0003 \r\n\n"[..];
    let payload = Deframer::new(LIMIT).next(&mut input).unwrap().map(|frame| frame.payload.to_vec());
    assert_eq!((payload.as_deref(), input), (Some(&b" \r\n"[..]), &b"\n"[..]));
}

#[test]
fn an_empty_payload_and_a_single_space_are_told_apart() {
    let payload = |mut bytes: &[u8]| Deframer::new(LIMIT).next(&mut bytes).unwrap().unwrap().payload.len();
    assert_eq!(payload(b"PNG 0000"), 0);
    assert_eq!(payload(b"PNG 0001 "), 1);
    assert_eq!(Frame::new(None, Verb::Png, b" ").args(), Frame::new(None, Verb::Png, b"").args());
}

#[test]
fn a_limit_of_zero_still_takes_empty_payloads() {
    let mut deframer = Deframer::new(0);
    assert!(deframer.next(&mut &b"BYE 0000"[..]).unwrap().is_some());
    assert!(deframer.next(&mut &b"PNG 0001"[..]).is_err());
}

#[test]
fn no_error_quotes_its_input() {
    for bytes in ["\u{1b}[31m 0000", "@\u{1b}[31m", "REG \u{1b}[31m", "REG 0005\u{1b}[31m", "~\u{1b}[31m"] {
        let why = Datagram::parse(bytes.as_bytes(), LIMIT).unwrap_err().to_string();
        assert!(why.is_ascii() && !why.contains('\u{1b}') && !why.contains('\n') && why.len() < 120, "{why}");
    }
}
