//! Places that split or shorten a peer's input, each tested across its boundary: no piece becomes a command, and none
//! goes to another target than the whole.

use proptest::prelude::*;
use proptest::sample::Index;
use sayagain::escape::{escape, escape_short};
use sayagain::names::{MAX_NAME_CHARS, Name};
use sayagain::service::Remote;
use sayagain::wire::MAX_LINE;

use crate::harness::{Conn, ServerHarness, addr, local, nonce, register, snd};
use crate::lines::{ASKS, config};

/// Mal, Bob and Eve at a line listener.
fn lobby() -> (ServerHarness, [Conn; 3]) {
    let mut harness = ServerHarness::new(config());
    let clients = ["Mal", "Bob", "Eve"].map(|name| {
        let conn = harness.connect_at(ASKS, Remote::Ip(local(50_000)));
        harness.say(conn, format!("{name}\n"));
        conn
    });
    clients.iter().for_each(|conn| drop(harness.heard(*conn)));
    (harness, clients)
}

/// Sends a line in pieces that end at `cuts`.
fn send(harness: &mut ServerHarness, conn: Conn, line: &[u8], cuts: &[Index]) {
    let bytes = [line, b"\n"].concat();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        harness.put(conn, &bytes[from..end]);
        from = end;
    }
}

/// A line longer than the limit, with text after the boundary, or just beyond it, that would be a command by itself.
fn long_line() -> impl Strategy<Value = Vec<u8>> {
    let front = prop::sample::select(vec![
        "",
        "/",
        "//",
        " ",
        "/pm Bob ",
        "/pm Bob x",
        "/me ",
        "/nick ",
        "/join #",
        "/quit ",
        " /quit",
        "\u{5c71}",
    ]);
    let fill = prop::sample::select(vec!["x", "\u{5c71}", "\u{1f600}", " ", "/", "\r/", "a b "]);
    let tail = prop::sample::select(vec![
        "PIN 1234",
        "/nick Born",
        "/quit",
        "/pm Eve PIN",
        "//x",
        " /list",
        "\r/nick Born",
        "* goodbye",
    ]);
    let length = prop_oneof![2_490..2_503_usize, 4_985..5_003_usize, 1..9_000_usize];
    (front, fill, length, tail).prop_map(|(front, fill, length, tail)| {
        let filled = fill.repeat(length / fill.len());
        let line = format!("{front}{filled}{tail}").into_bytes();
        [line, vec![b'.'; MAX_LINE]].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_line_that_is_too_long_is_a_message_to_the_room_or_nothing(
        line in long_line(),
        cuts in prop::collection::vec(any::<Index>(), 0..4),
    ) {
        let (mut harness, [mal, bob, eve]) = lobby();
        send(&mut harness, mal, &line, &cuts);
        let told = harness.heard(mal);
        let room = harness.heard(eve);
        prop_assert_eq!(&harness.heard(bob), &room, "no other client receives anything");
        if line.starts_with(b"/") && !line.starts_with(b"//") {
            prop_assert_eq!(told, "* that line is longer than 2500 bytes and was not sent\n");
            prop_assert_eq!(room, "");
        } else {
            prop_assert_eq!(&told, &room, "the echo");
            let pieces: Option<Vec<&str>> = room.lines().map(|line| line.strip_prefix("Mal> ")).collect();
            let whole = line.strip_prefix(b"/").unwrap_or(&line);
            // A piece of only white space is not a message, like such a line.
            let (said, whole) = (pieces.unwrap().concat(), escape(whole).into_owned());
            prop_assert_eq!(said.trim_start(), whole.trim_start());
        }
        prop_assert_eq!(harness.say(mal, "/list\n"), "* in #lobby: Mal Bob Eve\n");
        prop_assert!(!harness.is_closed(mal));
    }

    #[test]
    fn a_line_that_is_too_long_for_a_name_gives_none_and_says_nothing(
        spaces in 0..1_100_usize,
        name in "[A-Z][a-z]{1,9}|/nick Zed|/quit",
        fill in 1_024..3_000_usize,
        tail in prop::sample::select(vec!["Zed", "/nick Zed", "/quit", "PIN 1234"]),
        cuts in prop::collection::vec(any::<Index>(), 0..4),
    ) {
        let (mut harness, [_, bob, _]) = lobby();
        let new = harness.connect_at(ASKS, Remote::Ip(local(50_001)));
        harness.heard(new);
        send(&mut harness, new, format!("{:spaces$}{name} {:fill$}{tail}", "", "").as_bytes(), &cuts);
        let told = "* a name is longer than 32 characters\nEnter your name: ";
        prop_assert_eq!(harness.heard(new), told);
        prop_assert_eq!(harness.heard(bob), "");
        prop_assert!(harness.say(new, "Zoe\n").starts_with("* you are Zoe in #lobby"));
    }

    #[test]
    fn a_name_is_taken_whole_or_not_at_all(chars in 28..40_usize, c in "[a-zа-я山]", extra in "[a-z]{1,3}") {
        let mut harness = ServerHarness::open();
        let (short, long) = (c.repeat(chars.min(MAX_NAME_CHARS)), c.repeat(chars));
        let conn = harness.connect();
        let answer = harness.say(conn, format!("REG {:04} {long}", long.len() + 1));
        prop_assert_eq!(answer.is_empty(), chars <= MAX_NAME_CHARS);
        if chars > MAX_NAME_CHARS {
            harness.say(conn, format!("REG {:04} {short}", short.len() + 1));
        }
        prop_assert_eq!(harness.say(conn, "LST 0000"), format!("ACK {:04} {short}", short.len() + 1));
        // A target whose front is a name is a different target.
        for target in [format!("{short}{extra}"), c.repeat(100)].iter().filter(|target| **target != short) {
            let sent = harness.say(conn, format!("SND {:04} {target} PIN", target.len() + 5));
            prop_assert_eq!(sent, "ERR 0016 No such client!");
        }
    }

    #[test]
    fn the_nearest_name_has_as_many_characters_as_what_was_typed(text in "[a-zA-Z>#*~ \u{1f680}-]{1,40}") {
        let typed = text.trim();
        if let Ok(name) = Name::nearest(text.as_bytes()) {
            prop_assert_eq!(name.as_str().chars().count(), typed.chars().count());
        }
    }

    #[test]
    fn a_shortened_text_is_marked_as_such(bytes in prop::collection::vec(any::<u8>(), 0..200), most in 2..60_usize) {
        let (short, whole) = (escape_short(&bytes, most), escape(&bytes));
        prop_assert!(short.chars().count() <= most);
        match short.strip_suffix("..") {
            Some(front) if short != whole => prop_assert!(whole.starts_with(front)),
            _ => prop_assert_eq!(short, whole),
        }
    }

    #[test]
    fn the_front_of_a_datagram_does_what_is_whole_in_it_or_nothing(at in any::<Index>(), bodies in prop::collection::vec("[ -~]{0,20}", 1..4)) {
        let mut harness = ServerHarness::open();
        let bob = harness.connect_as("REG 0004 bob");
        let token = register(&mut harness, addr(1, 1), "ada", &nonce(1));
        let mut datagram = format!("~{token} ");
        let mut ends = Vec::new();
        for (id, body) in (2..).zip(&bodies) {
            datagram += &snd(id, "bob", body);
            ends.push(datagram.len());
        }
        let at = at.index(datagram.len() + 1);
        harness.datagram(addr(1, 1), &datagram[..at]);
        let whole = ends.iter().position(|end| *end == at).map_or(0, |place| place + 1);
        let heard = harness.heard(bob);
        prop_assert_eq!(heard.matches("RCV ").count() - bodies.iter().take(whole).filter(|body| body.contains("RCV ")).count(), whole);
    }
}
