//! Doors for people: whole conversations, byte for byte, and everything that can go wrong in one.

use std::time::Duration;

use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sayagain::config::ServerConfig;
use sayagain::door::{Door, Greet, LineDoor};
use sayagain::hub::{HubConfig, SlowPolicy};
use sayagain::names::RoomName;
use sayagain::rates::Rate;
use sayagain::rules::Rules;
use sayagain::service::{Remote, Service};

use crate::desk::{Conn, Desk, addr, local, nonce, reg, register, snd};
use crate::support::{ms, secs};

/// The doors of these tests, behind one for frames. As Trio Chat: asks for a name and echoes.
pub(crate) const ASKS: usize = 1;
/// As sock_chat: asks nothing and does not echo.
pub(crate) const ASKS_NOT: usize = 2;
/// Asks, and takes 200 ms of silence for the end of a line.
pub(crate) const FLUSHES: usize = 3;
/// As the first, with the rate that doors for people have.
pub(crate) const METERED: usize = 4;

const PROMPT: &str = "Enter your name: ";
const WELCOME: &str = "Welcome to sayagain! Enter your name: ";

pub(crate) fn config() -> ServerConfig {
    let room = RoomName::parse(b"#lobby").unwrap();
    let asks = LineDoor { room, greet: Greet::Name, echo: true, flush: None };
    let asks_not = LineDoor { greet: Greet::None, echo: false, ..asks.clone() };
    let flushes = LineDoor { flush: Some(ms(200)), ..asks.clone() };
    let unmetered = |door| Door { rate: Rate::UNLIMITED, ..Door::lines("line", door) };
    let metered = Door::lines("line", asks.clone());
    let doors = vec![Door::frames("tcp"), unmetered(asks), unmetered(asks_not), unmetered(flushes), metered];
    ServerConfig { doors, ..ServerConfig::default() }
}

fn desk() -> Desk {
    Desk::new(config())
}

/// Somebody new at a door who asks for a name.
fn knock(desk: &mut Desk, door: usize) -> Conn {
    let conn = desk.connect_at(door, Remote::Ip(local(50_000)));
    assert_eq!(desk.heard(conn), WELCOME);
    conn
}

/// Somebody with a name, in the lobby.
fn enter(desk: &mut Desk, door: usize, name: &str) -> Conn {
    let conn = knock(desk, door);
    let welcome = format!("* you are {name} in #lobby; /help lists what else you can do\n");
    assert_eq!(desk.say(conn, format!("{name}\n")), welcome);
    conn
}

/// A frame client in the lobby.
fn frida(desk: &mut Desk) -> Conn {
    let frida = desk.connect();
    assert_eq!(desk.say(frida, "REG 0006 fridaJON 0007 #lobby"), "");
    frida
}

#[test]
fn the_conversation_of_trio_chat_with_its_echo() {
    let mut desk = desk();
    let morty = knock(&mut desk, ASKS);
    let mut terminal = desk.say(morty, "Morty\n");
    let rick = enter(&mut desk, ASKS, "Rick");
    let [first, second] = ["1", "2"].map(|n| {
        let guard = knock(&mut desk, ASKS);
        assert_eq!(
            desk.say(guard, format!("Guard #{n}\r\n")),
            format!("* you are Guard--{n} in #lobby; /help lists what else you can do\n")
        );
        guard
    });
    desk.say(rick, "They're just robots, Morty! It's OK to shoot them!\n");
    desk.say(first, "Aah! My leg is shot off!\n");
    desk.say(second, "Glenn's bleeding to death!\n");
    terminal += &desk.heard(morty);
    terminal += &desk.say(morty, "They're not Robots, Rick!\n");
    desk.say(rick, "It's a figure of speech, Morty. They're bureaucrats. I don't respect them.\n");
    terminal += &desk.heard(morty);
    assert_eq!(
        terminal,
        "* you are Morty in #lobby; /help lists what else you can do\n\
         Rick> They're just robots, Morty! It's OK to shoot them!\n\
         Guard--1> Aah! My leg is shot off!\n\
         Guard--2> Glenn's bleeding to death!\n\
         Morty> They're not Robots, Rick!\n\
         Rick> It's a figure of speech, Morty. They're bureaucrats. I don't respect them.\n"
    );
    let all: Vec<&str> = terminal.split_inclusive('\n').skip(1).collect();
    assert_eq!(
        desk.heard(first),
        all[2..].concat(),
        "what came before was read as the answer to its own line"
    );
    assert_eq!(desk.heard(second), all[3..].concat());
}

#[test]
fn the_picture_of_sock_chat_without_a_question_and_without_an_echo() {
    let mut desk = desk();
    let [one, two] = [52_344, 52_345].map(|port| desk.connect_at(ASKS_NOT, Remote::Ip(local(port))));
    let six = desk.connect_at(ASKS_NOT, Remote::Ip("[::1]:52344".parse().unwrap()));
    assert_eq!([one, two, six].map(|conn| desk.heard(conn)), ["", "", ""]);
    assert_eq!(desk.say(one, "Hello\n"), "");
    assert_eq!([two, six].map(|conn| desk.heard(conn)), ["127.0.0.1:52344> Hello\n"; 2]);
    assert_eq!(desk.say(six, "Hi\n"), "");
    assert_eq!(desk.heard(one), "[::1]:52344> Hi\n");
    assert_eq!(desk.say(one, "/nick dice\n"), "* you are dice\n");
    assert_eq!(desk.say(one, "Hello\n"), "");
    assert_eq!(desk.heard(two), "[::1]:52344> Hi\ndice> Hello\n");
    assert_eq!(desk.say(two, "/list\n"), "* in #lobby: dice 127.0.0.1:52345 [::1]:52344\n");
    let again = desk.connect_at(ASKS_NOT, Remote::Ip(local(52_344)));
    assert_eq!(desk.say(again, "the name is free again\n"), "");
    assert_eq!(desk.heard(two), "127.0.0.1:52344> the name is free again\n");
}

#[test]
fn who_has_no_address_that_is_a_name_is_the_guest_of_the_lowest_free_number() {
    let mut desk = desk();
    let unix = Remote::Unix { uid: 1_000, gid: 1_000 };
    let long = Remote::Ip("[2001:db8:1111:2222:3333:4444:5555:6666]:52344".parse().unwrap());
    let [one, two, three, four] =
        [unix, long, Remote::Ip(local(1)), Remote::Ip(local(1))].map(|from| desk.connect_at(ASKS_NOT, from));
    assert_eq!(desk.say(one, "/list\n"), "* in #lobby: guest-1 guest-2 127.0.0.1:1 guest-3\n");
    desk.hang_up(two);
    desk.say(one, "/nick ada\n");
    for (conn, name) in
        [(desk.connect_at(ASKS_NOT, unix), "guest-1"), (desk.connect_at(ASKS_NOT, unix), "guest-2")]
    {
        desk.say(conn, "hi\n");
        assert_eq!(desk.heard(three), format!("{name}> hi\n"));
    }
    assert_eq!(desk.heard(four), "guest-1> hi\nguest-2> hi\n");
}

#[test]
fn frames_datagrams_and_lines_meet_in_one_room() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let frida = frida(&mut desk);
    let token = register(&mut desk, addr(1, 1), "udo", &nonce(1));
    desk.datagram(addr(1, 1), format!("~{token} @2 JON 0007 #lobby"));
    assert_eq!(desk.say(rick, "/list\n"), "* in #lobby: Rick frida udo\n");

    assert_eq!(desk.say(frida, "SND 0016 #lobby hi there"), "");
    assert_eq!(desk.datagram(addr(1, 1), format!("~{token} {}", snd(3, "#lobby", "hear me?"))).len(), 2);
    assert_eq!(desk.say(rick, "loud and clear\n"), "frida> hi there\nudo> hear me?\nRick> loud and clear\n");
    assert_eq!(desk.heard(frida), "RCV 0024 udo#lobby 0002 hear me?RCV 0031 Rick#lobby 0003 loud and clear");
    assert_eq!(
        desk.datagrams_to(addr(1, 1)),
        [format!("~{token} @2 RCV 0031 Rick#lobby 0003 loud and clear")]
    );

    assert_eq!(desk.say(frida, "SND 0014 Rick in here?"), "");
    assert_eq!(desk.heard(rick), "*private* frida> in here?\n");
    assert_eq!(desk.say(rick, "/pm FRIDA only you\n"), "*private to frida* only you\n");
    assert_eq!(desk.heard(frida), "RCV 0019 Rick 0002 only you");
    assert_eq!(desk.say(frida, "LST 0007 #lobby"), "ACK 0015 Rick frida udo");
}

#[test]
fn every_command_and_its_answers() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let morty = enter(&mut desk, ASKS, "Morty");
    let help = desk.say(rick, "/help\n");
    assert!(help.lines().count() >= 4 && help.lines().all(|line| line.starts_with("* ")), "{help}");
    for command in ["//", "/me", "/pm", "/list", "/nick", "/join", "/leave", "/quit"] {
        assert!(help.contains(command), "{command}");
    }
    assert!(help.contains("/list #room") && help.lines().count() <= 6, "{help}");
    desk.say(morty, "/join garage\n/join lobby\n");
    let script = [
        ("\n", ""),
        ("  \r\n", ""),
        ("/me waves\n", "Rick> *waves*\n"),
        ("//quit is a word\n", "Rick> /quit is a word\n"),
        ("/pm morty psst\n", "*private to Morty* psst\n"),
        ("/pm nobody psst\n", "* No such client!\n"),
        ("/pm #lobby psst\n", "* No such client!\n"),
        ("/pm Morty\n", "* write /pm NAME text\n"),
        ("/list #dev\n", "* No such room!\n"),
        ("/list lobby\n", "* in #lobby: Rick Morty\n"),
        ("/list #GARAGE\n", "* you are not in #garage\n"),
        ("/list garage\n", "* you are not in #garage\n"),
        ("/list #\n", "* No such room!\n"),
        ("/join two words\n", "* Not a room name!\n"),
        ("/join #\n", "* Not a room name!\n"),
        ("/join dev\n", "* you are in #dev; /leave goes back\n"),
        ("/join #dev\n", "* you are in #dev; /leave goes back\n"),
        ("alone here\n", "Rick#dev> alone here\n"),
        ("/list\n", "* in #dev: Rick\n"),
        ("/list #LOBBY\n", "* in #lobby: Rick Morty\n"),
        ("/join #lobby\n", "* you are in #lobby; /leave goes back\n"),
        ("back\n", "Rick> back\n"),
        ("/leave\n", "* you are in #dev\n"),
        ("/leave\n", "* you are in no room; /join #room\n"),
        ("/leave\n", "* you are in no room; /join #room\n"),
        ("anybody?\n", "* you are in no room; /join #room\n"),
        ("/list\n", "* you are in no room; /join #room\n"),
        ("/join #Lobby\n", "* you are in #lobby\n"),
        ("/nick Rick Sanchez\n", "* you are Rick-Sanchez\n"),
        ("/nick RICK-sanchez\n", "* you are RICK-sanchez\n"),
        ("/nick morty\n", "* morty is taken\n"),
        ("/nick M0RTY\n", "* M0RTY is taken\n"),
        ("/nick *\n", "* a name needs letters or digits\n"),
        ("/nick \n", "* write /nick NEW\n"),
        ("/foo bar\n", "* no such command: /foo; /help lists them\n"),
        ("/\x1b[2J\n", "* no such command: /\\x1b[2J; /help lists them\n"),
        ("/quit\n", "* goodbye\n"),
    ];
    for (line, answer) in script {
        assert_eq!(desk.say(rick, line), answer, "{line:?}");
    }
    assert!(desk.is_closed(rick));
    assert_eq!(desk.heard(morty), "Rick> *waves*\nRick> /quit is a word\n*private* Rick> psst\nRick> back\n");
    assert_eq!(desk.say(morty, "/list\n"), "* in #lobby: Morty\n");
}

#[test]
fn what_is_no_good_name_is_asked_for_again_in_plain_words() {
    let mut desk = desk();
    let rules = Rules::parse(b"[[rule]]\nname = \"admin*\"\nallow = [\"192.0.2.0/24\"]\n").unwrap();
    desk.set_rules(rules);
    enter(&mut desk, ASKS, "Rick");
    let new = knock(&mut desk, ASKS);
    for (line, why) in [
        ("\n", "a name is empty"),
        (" \t \r\n", "a name is empty"),
        ("rick\n", "rick is taken"),
        ("/nick RICK\n", "RICK is taken"),
        ("/nick\n", "first a name, then commands"),
        ("/join #dev\n", "first a name, then commands"),
        (" /list\n", "first a name, then commands"),
        ("/me\n", "first a name, then commands"),
        ("//Rick\n", "first a name, then commands"),
        ("/\n", "first a name, then commands"),
        ("*\n", "a name needs letters or digits"),
        ("\u{1f680}\n", "a name needs letters or digits"),
        ("R1ck\n", ""),
    ] {
        let answer = desk.say(new, line);
        if why.is_empty() {
            assert_eq!(answer, "* you are R1ck in #lobby; /help lists what else you can do\n");
        } else {
            assert_eq!(answer, format!("* {why}\n{PROMPT}"), "{line:?}");
        }
    }
    let new = knock(&mut desk, ASKS);
    let long = format!("{}\n", "x".repeat(33));
    let very_long = format!("{}\n", "y".repeat(5_000));
    for (line, why) in [
        (long.as_str(), "a name is longer than 32 characters"),
        (&very_long, "a name is longer than 32 characters"),
        ("аdmin\n", "a name mixes scripts"),
        ("Admin\n", "Name not allowed here!"),
    ] {
        assert_eq!(desk.say(new, line), format!("* {why}\n{PROMPT}"), "{line:?}");
    }
    let help = desk.say(new, "/help\n");
    assert!(help.starts_with("* ") && help.ends_with(&format!("\n{PROMPT}")), "{help}");
    assert_eq!(desk.say(new, "/quit\n"), "* goodbye\n");
    assert!(desk.is_closed(new));
    let new = knock(&mut desk, ASKS);
    assert_eq!(
        desk.say(new, "*Slow Bot#1\u{1b}[2J\u{202e}\n"),
        "* you are -Slow-Bot-1-[2J- in #lobby; /help lists what else you can do\n"
    );
    assert_eq!(desk.say(new, "/nick admin\n"), "* Name not allowed here!\n");
}

#[test]
fn the_name_can_be_given_as_a_command() {
    let mut desk = desk();
    let person = knock(&mut desk, ASKS);
    let named = "* you are Guard--1 in #lobby; /help lists what else you can do\n";
    assert_eq!(desk.say(person, "/nick Guard #1\n"), named);
    let second = knock(&mut desk, ASKS);
    assert_eq!(desk.say(second, "Guard #1\n"), format!("* Guard--1 is taken\n{PROMPT}"));
}

/// What a browser sends for a form on a page that is meant for somebody's line door.
fn form_post(target: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost:50001\r\nContent-Type: text/plain\r\n\r\n\
         Rick\r\nlook at this\r\n/nick Morty\r\n/pm Watcher psst\r\n"
    )
}

#[test]
fn what_a_web_page_makes_a_browser_send_is_never_said_in_a_room() {
    let cut = format!("/{}", "x".repeat(2_000));
    let very_long = format!("/{}", "x".repeat(20_000));
    for door in [ASKS, ASKS_NOT, FLUSHES] {
        for target in ["/", "/a?b=c", cut.as_str(), very_long.as_str()] {
            let mut desk = desk();
            let watcher = enter(&mut desk, ASKS, "Watcher");
            let page = desk.connect_at(door, Remote::Ip(local(50_000)));
            desk.heard(page);
            let told = "* this is no web server\n* goodbye\n";
            assert_eq!(desk.say(page, form_post(target)), told, "{door}: {} bytes", target.len());
            assert!(desk.is_closed(page));
            assert_eq!(desk.heard(watcher), "");
            desk.hang_up(page);
            assert_eq!(desk.say(watcher, "/list\n"), "* in #lobby: Watcher\n");
        }
    }
}

#[test]
fn a_page_gets_no_second_try_but_people_may_talk_about_the_web() {
    let mut desk = desk();
    let watcher = enter(&mut desk, ASKS, "Watcher");
    let page = knock(&mut desk, ASKS);
    desk.say(page, "\nWatcher\n");
    assert_eq!(desk.say(page, form_post("/")), "* this is no web server\n* goodbye\n");
    let page = desk.connect_at(ASKS_NOT, Remote::Ip(local(50_000)));
    assert_eq!(desk.say(page, "\r\n \r\n"), "");
    assert_eq!(desk.say(page, form_post("/")), "* this is no web server\n* goodbye\n");
    let dice = desk.connect_at(ASKS_NOT, Remote::Ip(local(50_001)));
    desk.say(dice, "how does it begin?\nGET / HTTP/1.1\n");
    assert_eq!(desk.say(watcher, "GET / HTTP/1.1\n"), {
        let dice = "127.0.0.1:50001";
        format!("{dice}> how does it begin?\n{dice}> GET / HTTP/1.1\nWatcher> GET / HTTP/1.1\n")
    });
}

#[test]
fn a_private_message_cannot_be_forged_by_a_name() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let page = knock(&mut desk, ASKS);
    let named = desk.say(page, "*private* Morty>\n");
    assert!(named.starts_with("* you are -private*-Morty- "), "{named}");
    let frames = desk.connect();
    assert_eq!(desk.say(frames, "REG 0014 *private*Mort"), "ERR 0023 Name not allowed here!");
    desk.say(page, "/pm Rick one\ntwo\n");
    assert_eq!(desk.heard(rick), "*private* -private*-Morty-> one\n-private*-Morty-> two\n");
}

#[test]
fn nobody_can_speak_as_the_server_or_as_somebody_else() {
    let mut desk = desk();
    let [rick, eve] = ["Rick", "Eve"].map(|name| enter(&mut desk, ASKS, name));
    for line in ["* goodbye", "Rick> it was me", "a\rRick> me", "\x1b[1A\x1b[2KRick> me", "a\u{2028}Rick> me"]
    {
        desk.say(eve, format!("{line}\n"));
        let heard = desk.heard(rick);
        assert!(
            heard.starts_with("Eve> ") && heard.lines().count() == 1 && heard.ends_with('\n'),
            "{heard:?}"
        );
        assert!(
            heard.trim_end_matches('\n').chars().all(|c| !c.is_control() && c != '\u{2028}'),
            "{heard:?}"
        );
    }
    let frida = frida(&mut desk);
    assert_eq!(desk.say(frida, "SND 0027 #lobby one\nRick> it was me"), "");
    assert_eq!(desk.say(frida, "SND 0025 Rick one\nRick> it was me"), "");
    let forged = "one\\x0aRick> it was me";
    assert_eq!(desk.heard(rick), format!("frida> {forged}\n*private* frida> {forged}\n"));
}

#[test]
fn silence_ends_a_line_where_that_is_asked_for() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let bot = knock(&mut desk, FLUSHES);
    assert_eq!(desk.say(bot, "SpamBot 5000"), "");
    desk.pass(ms(199));
    assert_eq!(desk.heard(bot), "");
    desk.pass(ms(1));
    assert_eq!(desk.heard(bot), "* you are SpamBot-5000 in #lobby; /help lists what else you can do\n");
    let spam = "SPAM ".repeat(500);
    assert_eq!(desk.say(bot, &spam), "", "the end of 2,500 bytes may still come");
    desk.pass(ms(200));
    assert_eq!(desk.heard(bot), format!("SpamBot-5000> {spam}\n"));
    assert_eq!(desk.heard(rick), format!("SpamBot-5000> {spam}\n"));
    assert_eq!(
        desk.say(bot, spam.repeat(3)),
        format!("SpamBot-5000> {spam}\n").repeat(2),
        "more than that waits for nothing"
    );
    desk.pass(ms(200));
    assert_eq!(desk.heard(bot), format!("SpamBot-5000> {spam}\n"));
    assert_eq!(desk.heard(rick), format!("SpamBot-5000> {spam}\n").repeat(3));

    desk.say(bot, "slow");
    desk.pass(ms(150));
    desk.say(bot, "ly ");
    desk.pass(ms(150));
    assert_eq!(desk.say(bot, "typed"), "", "each letter begins the silence anew");
    for _ in 0..3 {
        desk.pass(ms(50));
        assert_eq!(desk.say(bot, b"\xff\xfb\x01\xff\xf1"), "", "telnet's words are silence");
    }
    desk.pass(ms(50));
    assert_eq!(desk.heard(bot), "SpamBot-5000> slowly typed\n");
    assert_eq!(desk.say(bot, "\r\n"), "", "the late end of that line is none of another");
    assert_eq!(desk.say(bot, "whole\n"), "SpamBot-5000> whole\n");
    desk.pass(secs(1_000));
    assert_eq!(desk.heard(bot), "");
    assert!(!desk.is_closed(bot));
    desk.say(rick, "no end");
    desk.pass(secs(30));
    assert_eq!(desk.heard(bot), "", "at the other door it is not");
}

#[test]
fn a_long_message_to_the_room_comes_in_pieces_of_2500_bytes_and_no_character_is_parted() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let long = "x".repeat(2_499) + &"山".repeat(300);
    let heard = desk.say(rick, format!("{long}\n"));
    let parts: Vec<&str> = heard.lines().map(|line| line.strip_prefix("Rick> ").unwrap()).collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2_499, 900]);
    assert_eq!(parts.concat(), long);
    assert_eq!(desk.say(rick, "y".repeat(2_500)), "");
    assert_eq!(desk.say(rick, "\n").len(), 2_507);
}

const TOO_LONG: &str = "* that line is longer than 2500 bytes and was not sent\n";

#[test]
fn a_command_that_is_longer_than_a_line_is_refused_whole_and_nothing_of_it_is_said() {
    let mut desk = desk();
    let [mal, bob] = ["Mal", "Bob"].map(|name| enter(&mut desk, ASKS, name));
    let private = format!("/pm Bob {}PIN 1234", "x".repeat(2_492));
    assert_eq!(desk.say(mal, format!("{private}\n")), TOO_LONG);
    assert_eq!(desk.heard(bob), "");
    assert_eq!(desk.say(mal, &private), TOO_LONG, "before its end comes");
    assert_eq!(desk.say(mal, "x".repeat(9_999)), "", "once");
    assert_eq!(desk.say(mal, "/nick Born\n/list\n"), "* in #lobby: Mal Bob\n");
    assert_eq!(desk.heard(bob), "");
    let longest = format!("/pm Bob {}", "x".repeat(2_492));
    assert_eq!(
        desk.say(mal, format!("{longest}\r\n")),
        longest.replacen("/pm Bob", "*private to Bob*", 1) + "\n"
    );
}

#[test]
fn the_tail_of_a_long_message_is_no_command() {
    let mut desk = desk();
    let [mal, bob] = ["Mal", "Bob"].map(|name| enter(&mut desk, ASKS, name));
    for tail in ["/nick Born", "/quit", "/pm Bob psst", "//x", " "] {
        let said = format!("Mal> {}\nMal> {tail}\n", "x".repeat(2_500));
        assert_eq!(desk.say(mal, format!("{}{tail}\n", "x".repeat(2_500))), said);
        assert_eq!(desk.heard(bob), said);
    }
    assert_eq!(desk.say(mal, "/list\n"), "* in #lobby: Mal Bob\n");
}

#[test]
fn what_comes_behind_an_overlong_name_is_neither_a_name_nor_said() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let new = knock(&mut desk, ASKS);
    let long = format!("{:1020}Mal who says PIN 1234{:2000}/nick Mal", "", "");
    let told = format!("* a name is longer than 32 characters\n{PROMPT}");
    assert_eq!(desk.say(new, format!("{long}\n")), told);
    assert_eq!(desk.say(new, "Morty\n/list\n").lines().last(), Some("* in #lobby: Rick Morty"));
    assert_eq!(desk.heard(rick), "");
}

#[test]
fn the_rest_of_a_refused_line_costs_what_any_line_costs() {
    let mut desk = desk();
    let slow = knock(&mut desk, METERED);
    desk.put(slow, format!("Morty\n/pm Rick {}", "x".repeat(99_992)));
    assert!(!desk.is_reading(slow) && desk.is_busy(slow));
    let began = desk.now;
    while desk.is_busy(slow) {
        desk.pass(ms(200));
    }
    // One token for the name, and one for each 2,500 bytes, of which a second's worth was there.
    assert!((secs(7)..secs(8)).contains(&(desk.now - began)), "{:?}", desk.now - began);
    assert!(desk.heard(slow).ends_with(TOO_LONG));
}

#[test]
fn after_eight_names_that_cannot_be_had_the_line_is_closed_with_a_word() {
    let mut desk = desk();
    enter(&mut desk, ASKS, "Rick");
    let new = knock(&mut desk, ASKS);
    let long = format!("{}\n", "x".repeat(2_000));
    let bad = ["rick\n", &long, "*\n", "/nick Rick\n", "R\u{456}ck\n", &long, "rick\n"];
    for line in bad {
        assert!(desk.say(new, line).ends_with(PROMPT), "{line}");
        assert!(desk.say(new, "\n/help\n/list\n").ends_with(PROMPT), "what is no name does not count");
    }
    assert_eq!(
        desk.say(new, &long),
        "* a name is longer than 32 characters; that was the last of 8 names\n* goodbye\n"
    );
    assert!(desk.is_closed(new));
    let late = knock(&mut desk, ASKS);
    bad.iter().for_each(|line| drop(desk.say(late, line)));
    assert!(desk.say(late, "Morty\n").starts_with("* you are Morty "));
    (0..20).for_each(|_| assert_eq!(desk.say(late, "/nick rick\n"), "* rick is taken\n"));
}

#[test]
fn whoever_gives_no_name_or_does_not_finish_a_line_is_told_so_and_cut_off() {
    let mut desk = desk();
    let silent = knock(&mut desk, ASKS);
    let slow = enter(&mut desk, ASKS, "slow");
    desk.pass(secs(30));
    assert_eq!(desk.say(silent, "\n"), format!("* a name is empty\n{PROMPT}"));
    desk.say(slow, "a lin");
    desk.pass(secs(29));
    desk.say(slow, "e");
    desk.say(silent, "Ric");
    assert_eq!(desk.heard(silent), "");
    desk.pass(secs(1));
    assert_eq!(desk.heard(silent), "\n* no name was given in time\n* goodbye\n", "answers do not put it off");
    assert!(desk.is_closed(silent) && !desk.is_closed(slow));
    assert_eq!(desk.say(slow, " in time\n"), "slow> a line in time\n");
    desk.say(slow, "another ");
    for _ in 0..59 {
        desk.pass(secs(1));
        assert_eq!(desk.say(slow, "."), "");
    }
    desk.pass(secs(1));
    assert_eq!(desk.heard(slow), "* line not finished in time\n* goodbye\n", "nor do single bytes");
    assert!(desk.is_closed(slow));
    let idle = enter(&mut desk, ASKS, "idle");
    desk.pass(secs(100_000));
    assert!(!desk.is_closed(idle), "who says nothing may stay");
}

#[test]
fn lines_come_at_the_rate_of_the_door_and_a_half_closed_stream_loses_none() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let pipe = knock(&mut desk, METERED);
    let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
    desk.say(pipe, format!("Morty\n{lines}last"));
    assert!(!desk.is_reading(pipe) && desk.is_busy(pipe));
    assert_eq!(desk.heard(rick).lines().count(), 4, "the name has cost a token, too");
    let (heard, time) = desk.half_close(pipe);
    let own: Vec<&str> = heard.lines().collect();
    let expected: Vec<String> =
        (0..20).map(|n| format!("Morty> line {n}")).chain(["Morty> last".to_owned()]).collect();
    assert_eq!(own, expected[4..], "the first four were heard before");
    assert_eq!(desk.heard(rick).lines().collect::<Vec<_>>(), expected[4..]);
    assert!((secs(3)..secs(4)).contains(&time), "{time:?}");
    assert_eq!(desk.say(rick, "/list\n"), "* in #lobby: Rick\n");
}

#[test]
fn an_unfinished_last_line_counts_at_the_end_of_the_stream() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let pipe = knock(&mut desk, ASKS);
    desk.say(pipe, "Morty\nhello");
    let (heard, time) = desk.half_close(pipe);
    assert_eq!((heard.as_str(), time), ("Morty> hello\n", Duration::ZERO));
    assert_eq!(desk.heard(rick), "Morty> hello\n");
    let pipe = knock(&mut desk, ASKS);
    desk.say(pipe, "only a name");
    assert!(desk.half_close(pipe).0.starts_with("* you are only-a-name "));
    let frames = desk.connect_as("REG 0004 adaSND 00");
    assert_eq!(desk.half_close(frames).0, "", "half a frame is none");
    assert_eq!(desk.server.sessions(), 1);
}

#[test]
fn what_others_say_while_a_line_is_being_typed_does_not_change_the_line() {
    let mut desk = desk();
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut desk, ASKS, name));
    assert_eq!(desk.say(rick, "I was "), "");
    assert_eq!(desk.say(morty, "what were you "), "");
    assert_eq!(desk.say(rick, "going to say\r"), "");
    assert_eq!(desk.say(morty, "doing?\n"), "Morty> what were you doing?\n");
    assert_eq!(desk.say(rick, "\n"), "Morty> what were you doing?\nRick> I was going to say\n");
    assert_eq!(desk.heard(morty), "Rick> I was going to say\n");
}

#[test]
fn answers_come_behind_what_was_said_before_them() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    assert_eq!(
        desk.say(rick, "one\n/nick Rick2\ntwo\n/list\nthree\n/quit\nfour\n"),
        "Rick> one\n* you are Rick2\nRick2> two\n* in #lobby: Rick2\nRick2> three\n* goodbye\n"
    );
}

#[test]
fn telnet_negotiates_with_nobody_but_gets_the_answer_that_it_waits_for() {
    let mut desk = desk();
    let rick = knock(&mut desk, ASKS);
    let noise = b"\xff\xfb\x18\xff\xfd\x03Ri\xff\xfa\x1f\0\x50\0\x18\xff\xf0ck\r\0";
    assert!(desk.say(rick, noise).starts_with("* you are Rick "));
    assert_eq!(desk.say(rick, b"hel\xff\xfd\x01lo\xff\xf9\r\n"), "Rick> hello\n");
    desk.put(rick, b"\xff\xf4\xff\xfd\x06");
    assert_eq!(desk.written_to(rick), b"\xff\xfc\x06");
    assert_eq!(desk.say(rick, b"a\xff\xffb\n"), "Rick> a\\xffb\n");
    desk.stall(rick, true);
    for _ in 0..100 {
        desk.put(rick, [255, 253, 6].repeat(1_000));
    }
    assert!(!desk.is_reading(rick), "who asks and does not read is not read");
}

#[test]
fn a_person_who_reads_too_slowly_is_told_how_much_they_missed() {
    let hub = HubConfig { max_pending: 1_000, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..config() });
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut desk, FLUSHES, name));
    desk.stall(morty, true);
    for n in 0..20 {
        desk.say(rick, format!("message {n}\n"));
    }
    desk.stall(morty, false);
    let heard = desk.heard(morty);
    let shown = heard.lines().filter(|line| line.starts_with("Rick> ")).count();
    assert_eq!(heard.lines().last(), Some(format!("* you missed {} messages", 20 - shown).as_str()));
    assert_eq!(desk.totals().hub.gaps, 20 - shown as u64);
}

#[test]
fn everybody_is_told_goodbye_when_the_server_ends() {
    let mut desk = desk();
    let (rick, asked, silent) = (enter(&mut desk, ASKS, "Rick"), knock(&mut desk, ASKS), desk.connect());
    let address = desk.connect_at(ASKS_NOT, Remote::Ip(local(7)));
    desk.say(address, "last words\nand more");
    desk.server.shutdown(desk.now);
    assert_eq!(desk.heard(rick), "127.0.0.1:7> last words\n* goodbye: the server is shutting down\n");
    assert_eq!(desk.heard(asked), "\n* goodbye: the server is shutting down\n");
    assert_eq!(desk.heard(address), "* goodbye: the server is shutting down\n");
    assert_eq!(desk.heard(silent), "BYE 0000");
    assert!([rick, asked, address, silent].iter().all(|conn| desk.is_closed(*conn)));
    let late = desk.connect_at(ASKS, Remote::Ip(local(8)));
    assert_eq!(desk.heard(late), "* goodbye: the server is shutting down\n");
    for conn in [rick, asked, address, silent, late] {
        desk.hang_up(conn);
    }
    assert!(desk.server.is_finished() && desk.server.is_stateless());
}

#[test]
fn the_room_of_a_door_cannot_be_kept_from_it_by_one_that_looks_like_it() {
    let mut desk = desk();
    let frames = desk.connect_as("REG 0004 eve");
    assert_eq!(desk.say(frames, "JON 0007 #l0bby"), "ERR 0012 Name taken!");
    let rick = enter(&mut desk, ASKS, "Rick");
    desk.say(rick, "/quit\n");
    assert_eq!(desk.say(frames, "JON 0007 #1obby"), "ERR 0012 Name taken!");
    assert_eq!(desk.say(frames, "JON 0007 #LOBBY"), "");
}

#[test]
fn rules_that_change_turn_people_out_in_words() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let rules = Rules::parse(b"[[rule]]\nname = \"rick\"\nallow = [\"192.0.2.0/24\"]\n").unwrap();
    desk.set_rules(rules);
    assert_eq!(desk.heard(rick), "* Name not allowed here!\n* goodbye\n");
    assert!(desk.is_closed(rick));
}

#[test]
fn a_list_that_is_too_long_for_a_line_counts_the_others() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    for n in 100..300 {
        enter(&mut desk, FLUSHES, &format!("somebody-with-a-name-{n}"));
    }
    let list = desk.say(rick, "/list\n");
    assert!((2_300..2_450).contains(&list.len()) && list.lines().count() == 1, "{}", list.len());
    let names = list.split(' ').filter(|word| word.starts_with("somebody")).count();
    assert!(list.ends_with(&format!(" +{}\n", 200 - names)), "{list}");
}

#[test]
fn a_tagged_client_gets_what_people_say_numbered_and_can_write_to_them() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let ada = desk.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    assert!(desk.say(ada, "@2 JON 0007 #lobby").ends_with("@2 ACK 0000"));
    assert_eq!(desk.say(rick, "/me waves\n"), "Rick> *waves*\n");
    assert_eq!(desk.heard(ada), "@1 RCV 0024 Rick#lobby 0001 *waves*");
    assert_eq!(desk.say(ada, snd(3, "rick", "hello you")), "@3 ACK 0000");
    assert_eq!(desk.heard(rick), "*private* ada> hello you\n");
}

/// Something that a person might type, or a program that pretends to be one.
fn typed(rng: &mut ChaCha8Rng) -> Vec<u8> {
    const PIECES: [&[u8]; 24] = [
        b"Rick\n",
        b"Morty\r\n",
        b"Beth\r\0",
        b"hello ",
        b"\n",
        b"\r",
        b"/list\n",
        b"/quit\n",
        b"/join #dev\n",
        b"/leave\n",
        b"/nick Summer\n",
        b"/pm Rick hi\n",
        b"/me waves\n",
        b"/help\n",
        b"\xff\xfd\x06",
        b"\xff\xfa",
        b"\xff\xf0",
        b"\xff",
        b"\x1b[2J",
        b"//",
        b"/",
        b"\xe5\xb1",
        b"one\ntwo\nthree\n",
        b"a line\n",
    ];
    let mut bytes: Vec<u8> =
        (0..rng.random_range(1..4)).flat_map(|_| *PIECES.choose(rng).unwrap()).copied().collect();
    if rng.random_ratio(1, 20) {
        bytes.extend(vec![b'x'; 3_000]);
    }
    bytes
}

fn noise(seed: u64) -> (u64, u64, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let hub = HubConfig { max_pending: 2_000, max_memory: 20_000, max_sessions: 5, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..config() });
    let (mut conns, mut closed) = (Vec::new(), 0);
    for _ in 0..400 {
        if conns.len() < 6 {
            let door = rng.random_range(1..=METERED);
            conns.push(desk.connect_at(door, Remote::Ip(local(rng.random_range(1..9)))));
        }
        let conn = *conns.choose(&mut rng).unwrap();
        match rng.random_range(0..10) {
            0..6 => desk.put(conn, typed(&mut rng)),
            6..8 => desk.pass(ms(*[1, 100, 200, 1_000, 70_000].choose(&mut rng).unwrap())),
            8 => desk.stall(conn, rng.random()),
            _ if rng.random_ratio(1, 4) => {
                desk.stall(conn, false);
                desk.half_close(conn);
                conns.retain(|other| *other != conn);
            }
            _ => {}
        }
        if desk.is_closed(conn) || rng.random_ratio(1, 60) {
            closed += usize::from(desk.is_closed(conn));
            desk.hang_up(conn);
            conns.retain(|other| *other != conn);
        }
        desk.server.timeout(desk.now);
        assert!(
            desk.server.poll_timeout().is_none_or(|at| at > desk.now),
            "seed {seed}: a deadline is left behind"
        );
        assert!(desk.totals().pending_bytes <= 20_000, "seed {seed}");
    }
    conns.into_iter().for_each(|conn| desk.hang_up(conn));
    desk.pass(secs(300));
    assert!(desk.server.is_stateless(), "seed {seed}: {:?}", desk.server);
    // What is left to be said in the log is said within a second.
    desk.pass(secs(1));
    assert_eq!((desk.totals().pending_bytes, desk.server.poll_timeout()), (0, None), "seed {seed}");
    (desk.totals().hub.messages, desk.totals().hub.gaps, closed)
}

#[test]
fn whatever_people_do_no_deadline_is_left_behind_and_what_they_took_is_given_back() {
    let (mut messages, mut gaps, mut closed) = (0, 0, 0);
    for seed in 0..150 {
        let counts = noise(seed);
        messages += counts.0;
        gaps += counts.1;
        closed += counts.2;
    }
    assert!(messages > 1_000 && gaps > 10 && closed > 100, "{messages} {gaps} {closed}");
}

#[test]
fn a_session_that_ends_from_within_takes_a_persons_connection_with_it() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    assert_eq!(desk.say(rick, "bye all\n/quit\nmore\n"), "Rick> bye all\n* goodbye\n");
    let again = enter(&mut desk, ASKS, "Rick");
    assert_eq!(
        desk.say(again, "/list\n"),
        "* in #lobby: Rick\n",
        "the name is free before the connection is closed"
    );
    assert_eq!(desk.say(rick, "hello?\n"), "");
}

#[test]
fn a_line_that_is_held_is_kept_and_what_comes_behind_it_is_not_read() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    let fast = knock(&mut desk, METERED);
    desk.put(fast, "Morty\n1\n2\n3\n4\n");
    assert!(!desk.is_reading(fast), "the bucket is empty");
    desk.put(fast, "5\n6\nunfin");
    desk.pass(ms(199));
    assert_eq!(desk.heard(rick).lines().last(), Some("Morty> 4"));
    desk.pass(ms(1));
    assert_eq!(desk.heard(rick), "Morty> 5\n");
    desk.pass(ms(200));
    assert_eq!(desk.heard(rick), "Morty> 6\n");
    desk.pass(ms(200));
    assert!(desk.is_reading(fast));
    desk.pass(secs(10));
    desk.put(fast, "ished\n");
    assert_eq!(desk.heard(rick), "Morty> unfinished\n");
}

#[test]
fn who_speaks_to_somebody_who_does_not_read_waits_if_that_is_the_policy() {
    let hub = HubConfig { max_pending: 3_000, slow: SlowPolicy::Block, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..config() });
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut desk, ASKS, name));
    desk.stall(morty, true);
    let lines: String = (0..100).map(|n| format!("message {n}\n")).collect();
    desk.put(rick, lines + "/list\n");
    assert!(!desk.is_reading(rick) && desk.is_busy(rick));
    let before = desk.heard(rick).lines().count();
    assert!((2..90).contains(&before), "{before}");
    desk.stall(morty, false);
    let heard = desk.heard(rick);
    assert_eq!(heard.lines().count(), 101 - before);
    assert!(heard.ends_with("Rick> message 99\n* in #lobby: Rick Morty\n"), "{heard}");
    assert_eq!((desk.heard(morty).lines().count(), desk.totals().hub.gaps), (100, 0));
}

#[test]
fn who_reads_too_slowly_is_cut_off_in_words_if_that_is_the_policy() {
    let hub = HubConfig { max_pending: 1_000, slow: SlowPolicy::Disconnect, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..config() });
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut desk, ASKS, name));
    desk.stall(morty, true);
    (0..100).for_each(|n| drop(desk.say(rick, format!("message {n}\n"))));
    assert_eq!(desk.say(rick, "/list\n"), "* in #lobby: Rick\n");
    desk.stall(morty, false);
    assert!(desk.heard(morty).ends_with("* you read too slowly\n* goodbye\n"));
}

#[test]
fn answers_keep_their_place_when_the_reader_is_slow() {
    let mut desk = desk();
    let rick = enter(&mut desk, ASKS, "Rick");
    desk.stall(rick, true);
    let script: String = (0..3_000).map(|n| format!("{n}\n/me {n}\n/help\n")).collect();
    desk.put(rick, script);
    assert!(!desk.is_reading(rick), "the answers are long");
    desk.stall(rick, false);
    let heard = desk.heard(rick);
    let mut lines = heard.lines();
    for n in 0..3_000 {
        let shown: Vec<&str> = lines.by_ref().take(7).collect();
        assert_eq!(shown[..2], [format!("Rick> {n}"), format!("Rick> *{n}*")]);
        assert!(shown[2..].iter().all(|line| line.starts_with("* ")), "{shown:?}");
    }
    assert_eq!(lines.next(), None);
}
