//! Line listeners: whole conversations, byte for byte, and the errors that can occur in one.

use std::time::Duration;

use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sayagain::config::ServerConfig;
use sayagain::hub::{HubConfig, SlowPolicy};
use sayagain::listener::{Greet, LineListener, Listener};
use sayagain::names::RoomName;
use sayagain::rates::Rate;
use sayagain::rules::Rules;
use sayagain::service::{Remote, Service};

use crate::harness::{Conn, ServerHarness, addr, local, nonce, reg, register, snd};
use crate::support::{ms, secs};

/// The listeners of these tests, after one for frames. As Trio Chat: asks for a name and echoes.
pub(crate) const ASKS: usize = 1;
/// As sock_chat: asks nothing and does not echo.
pub(crate) const ASKS_NOT: usize = 2;
/// Asks for a name; 200 ms of silence end a line.
pub(crate) const FLUSHES: usize = 3;
/// As the first, with the default rate of line listeners.
pub(crate) const METERED: usize = 4;

const PROMPT: &str = "Enter your name: ";
const WELCOME: &str = "Welcome to sayagain! Enter your name: ";

pub(crate) fn config() -> ServerConfig {
    let room = RoomName::parse(b"#lobby").unwrap();
    let asks = LineListener { room, greet: Greet::Name, echo: true, flush: None };
    let asks_not = LineListener { greet: Greet::None, echo: false, ..asks.clone() };
    let flushes = LineListener { flush: Some(ms(200)), ..asks.clone() };
    let unmetered = |listener| Listener { rate: Rate::UNLIMITED, ..Listener::lines("line", listener) };
    let metered = Listener::lines("line", asks.clone());
    let listeners =
        vec![Listener::frames("tcp"), unmetered(asks), unmetered(asks_not), unmetered(flushes), metered];
    ServerConfig { listeners, ..ServerConfig::default() }
}

fn harness() -> ServerHarness {
    ServerHarness::new(config())
}

/// Connects to a listener that asks for a name.
fn open_line(harness: &mut ServerHarness, listener: usize) -> Conn {
    let conn = harness.connect_at(listener, Remote::Ip(local(50_000)));
    assert_eq!(harness.heard(conn), WELCOME);
    conn
}

/// A line client with a name, in the lobby.
fn enter(harness: &mut ServerHarness, listener: usize, name: &str) -> Conn {
    let conn = open_line(harness, listener);
    let welcome = format!("* you are {name} in #lobby; /help lists what else you can do\n");
    assert_eq!(harness.say(conn, format!("{name}\n")), welcome);
    conn
}

/// A frame client in the lobby.
fn frida(harness: &mut ServerHarness) -> Conn {
    let frida = harness.connect();
    assert_eq!(harness.say(frida, "REG 0006 fridaJON 0007 #lobby"), "");
    frida
}

#[test]
fn the_conversation_of_trio_chat_with_its_echo() {
    let mut harness = harness();
    let morty = open_line(&mut harness, ASKS);
    let mut terminal = harness.say(morty, "Morty\n");
    let rick = enter(&mut harness, ASKS, "Rick");
    let [first, second] = ["1", "2"].map(|n| {
        let guard = open_line(&mut harness, ASKS);
        assert_eq!(
            harness.say(guard, format!("Guard #{n}\r\n")),
            format!("* you are Guard--{n} in #lobby; /help lists what else you can do\n")
        );
        guard
    });
    harness.say(rick, "They're just robots, Morty! It's OK to shoot them!\n");
    harness.say(first, "Aah! My leg is shot off!\n");
    harness.say(second, "Glenn's bleeding to death!\n");
    terminal += &harness.heard(morty);
    terminal += &harness.say(morty, "They're not Robots, Rick!\n");
    harness.say(rick, "It's a figure of speech, Morty. They're bureaucrats. I don't respect them.\n");
    terminal += &harness.heard(morty);
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
        harness.heard(first),
        all[2..].concat(),
        "what came before was read as the answer to its own line"
    );
    assert_eq!(harness.heard(second), all[3..].concat());
}

#[test]
fn the_picture_of_sock_chat_without_a_question_and_without_an_echo() {
    let mut harness = harness();
    let [one, two] = [52_344, 52_345].map(|port| harness.connect_at(ASKS_NOT, Remote::Ip(local(port))));
    let six = harness.connect_at(ASKS_NOT, Remote::Ip("[::1]:52344".parse().unwrap()));
    assert_eq!([one, two, six].map(|conn| harness.heard(conn)), ["", "", ""]);
    assert_eq!(harness.say(one, "Hello\n"), "");
    assert_eq!([two, six].map(|conn| harness.heard(conn)), ["127.0.0.1:52344> Hello\n"; 2]);
    assert_eq!(harness.say(six, "Hi\n"), "");
    assert_eq!(harness.heard(one), "[::1]:52344> Hi\n");
    assert_eq!(harness.say(one, "/nick dice\n"), "* you are dice\n");
    assert_eq!(harness.say(one, "Hello\n"), "");
    assert_eq!(harness.heard(two), "[::1]:52344> Hi\ndice> Hello\n");
    assert_eq!(harness.say(two, "/list\n"), "* in #lobby: dice 127.0.0.1:52345 [::1]:52344\n");
    let again = harness.connect_at(ASKS_NOT, Remote::Ip(local(52_344)));
    assert_eq!(harness.say(again, "the name is free again\n"), "");
    assert_eq!(harness.heard(two), "127.0.0.1:52344> the name is free again\n");
}

#[test]
fn a_client_without_an_address_for_a_name_is_the_guest_with_the_lowest_free_number() {
    let mut harness = harness();
    let unix = Remote::Unix { uid: 1_000, gid: 1_000 };
    let long = Remote::Ip("[2001:db8:1111:2222:3333:4444:5555:6666]:52344".parse().unwrap());
    let [one, two, three, four] = [unix, long, Remote::Ip(local(1)), Remote::Ip(local(1))]
        .map(|from| harness.connect_at(ASKS_NOT, from));
    assert_eq!(harness.say(one, "/list\n"), "* in #lobby: guest-1 guest-2 127.0.0.1:1 guest-3\n");
    harness.hang_up(two);
    harness.say(one, "/nick ada\n");
    for (conn, name) in
        [(harness.connect_at(ASKS_NOT, unix), "guest-1"), (harness.connect_at(ASKS_NOT, unix), "guest-2")]
    {
        harness.say(conn, "hi\n");
        assert_eq!(harness.heard(three), format!("{name}> hi\n"));
    }
    assert_eq!(harness.heard(four), "guest-1> hi\nguest-2> hi\n");
}

#[test]
fn frames_datagrams_and_lines_meet_in_one_room() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let frida = frida(&mut harness);
    let token = register(&mut harness, addr(1, 1), "udo", &nonce(1));
    harness.datagram(addr(1, 1), format!("~{token} @2 JON 0007 #lobby"));
    assert_eq!(harness.say(rick, "/list\n"), "* in #lobby: Rick frida udo\n");

    assert_eq!(harness.say(frida, "SND 0016 #lobby hi there"), "");
    assert_eq!(harness.datagram(addr(1, 1), format!("~{token} {}", snd(3, "#lobby", "hear me?"))).len(), 2);
    assert_eq!(
        harness.say(rick, "loud and clear\n"),
        "frida> hi there\nudo> hear me?\nRick> loud and clear\n"
    );
    assert_eq!(
        harness.heard(frida),
        "RCV 0024 udo#lobby 0002 hear me?RCV 0031 Rick#lobby 0003 loud and clear"
    );
    assert_eq!(
        harness.datagrams_to(addr(1, 1)),
        [format!("~{token} @2 RCV 0031 Rick#lobby 0003 loud and clear")]
    );

    assert_eq!(harness.say(frida, "SND 0014 Rick in here?"), "");
    assert_eq!(harness.heard(rick), "*private* frida> in here?\n");
    assert_eq!(harness.say(rick, "/pm FRIDA only you\n"), "*private to frida* only you\n");
    assert_eq!(harness.heard(frida), "RCV 0019 Rick 0002 only you");
    assert_eq!(harness.say(frida, "LST 0007 #lobby"), "ACK 0015 Rick frida udo");
}

#[test]
fn every_command_and_its_answers() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let morty = enter(&mut harness, ASKS, "Morty");
    let help = harness.say(rick, "/help\n");
    assert!(help.lines().count() >= 4 && help.lines().all(|line| line.starts_with("* ")), "{help}");
    for command in ["//", "/me", "/pm", "/list", "/nick", "/join", "/leave", "/quit"] {
        assert!(help.contains(command), "{command}");
    }
    assert!(help.contains("/list #room") && help.lines().count() <= 6, "{help}");
    harness.say(morty, "/join garage\n/join lobby\n");
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
        assert_eq!(harness.say(rick, line), answer, "{line:?}");
    }
    assert!(harness.is_closed(rick));
    assert_eq!(
        harness.heard(morty),
        "Rick> *waves*\nRick> /quit is a word\n*private* Rick> psst\nRick> back\n"
    );
    assert_eq!(harness.say(morty, "/list\n"), "* in #lobby: Morty\n");
}

#[test]
fn an_invalid_name_is_asked_for_again_with_the_reason() {
    let mut harness = harness();
    let rules = Rules::parse(b"[[rule]]\nname = \"admin*\"\nallow = [\"192.0.2.0/24\"]\n").unwrap();
    harness.set_rules(rules);
    enter(&mut harness, ASKS, "Rick");
    let new = open_line(&mut harness, ASKS);
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
        let answer = harness.say(new, line);
        if why.is_empty() {
            assert_eq!(answer, "* you are R1ck in #lobby; /help lists what else you can do\n");
        } else {
            assert_eq!(answer, format!("* {why}\n{PROMPT}"), "{line:?}");
        }
    }
    let new = open_line(&mut harness, ASKS);
    let long = format!("{}\n", "x".repeat(33));
    let very_long = format!("{}\n", "y".repeat(5_000));
    for (line, why) in [
        (long.as_str(), "a name is longer than 32 characters"),
        (&very_long, "a name is longer than 32 characters"),
        ("аdmin\n", "a name mixes scripts"),
        ("Admin\n", "Name not allowed here!"),
    ] {
        assert_eq!(harness.say(new, line), format!("* {why}\n{PROMPT}"), "{line:?}");
    }
    let help = harness.say(new, "/help\n");
    assert!(help.starts_with("* ") && help.ends_with(&format!("\n{PROMPT}")), "{help}");
    assert_eq!(harness.say(new, "/quit\n"), "* goodbye\n");
    assert!(harness.is_closed(new));
    let new = open_line(&mut harness, ASKS);
    assert_eq!(
        harness.say(new, "*Slow Bot#1\u{1b}[2J\u{202e}\n"),
        "* you are -Slow-Bot-1-[2J- in #lobby; /help lists what else you can do\n"
    );
    assert_eq!(harness.say(new, "/nick admin\n"), "* Name not allowed here!\n");
}

#[test]
fn the_name_can_be_given_as_a_command() {
    let mut harness = harness();
    let client = open_line(&mut harness, ASKS);
    let named = "* you are Guard--1 in #lobby; /help lists what else you can do\n";
    assert_eq!(harness.say(client, "/nick Guard #1\n"), named);
    let second = open_line(&mut harness, ASKS);
    assert_eq!(harness.say(second, "Guard #1\n"), format!("* Guard--1 is taken\n{PROMPT}"));
}

/// The request of a browser for a form whose action is a line listener.
fn form_post(target: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost:50001\r\nContent-Type: text/plain\r\n\r\n\
         Rick\r\nlook at this\r\n/nick Morty\r\n/pm Watcher psst\r\n"
    )
}

#[test]
fn a_form_posted_by_a_browser_is_never_sent_to_a_room() {
    let cut = format!("/{}", "x".repeat(2_000));
    let very_long = format!("/{}", "x".repeat(20_000));
    for listener in [ASKS, ASKS_NOT, FLUSHES] {
        for target in ["/", "/a?b=c", cut.as_str(), very_long.as_str()] {
            let mut harness = harness();
            let watcher = enter(&mut harness, ASKS, "Watcher");
            let page = harness.connect_at(listener, Remote::Ip(local(50_000)));
            harness.heard(page);
            let told = "* this is no web server\n* goodbye\n";
            assert_eq!(harness.say(page, form_post(target)), told, "{listener}: {} bytes", target.len());
            assert!(harness.is_closed(page));
            assert_eq!(harness.heard(watcher), "");
            harness.hang_up(page);
            assert_eq!(harness.say(watcher, "/list\n"), "* in #lobby: Watcher\n");
        }
    }
}

#[test]
fn a_web_request_is_closed_at_once_but_messages_may_look_like_one() {
    let mut harness = harness();
    let watcher = enter(&mut harness, ASKS, "Watcher");
    let page = open_line(&mut harness, ASKS);
    harness.say(page, "\nWatcher\n");
    assert_eq!(harness.say(page, form_post("/")), "* this is no web server\n* goodbye\n");
    let page = harness.connect_at(ASKS_NOT, Remote::Ip(local(50_000)));
    assert_eq!(harness.say(page, "\r\n \r\n"), "");
    assert_eq!(harness.say(page, form_post("/")), "* this is no web server\n* goodbye\n");
    let dice = harness.connect_at(ASKS_NOT, Remote::Ip(local(50_001)));
    harness.say(dice, "how does it begin?\nGET / HTTP/1.1\n");
    assert_eq!(harness.say(watcher, "GET / HTTP/1.1\n"), {
        let dice = "127.0.0.1:50001";
        format!("{dice}> how does it begin?\n{dice}> GET / HTTP/1.1\nWatcher> GET / HTTP/1.1\n")
    });
}

#[test]
fn a_private_message_cannot_be_forged_by_a_name() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let page = open_line(&mut harness, ASKS);
    let named = harness.say(page, "*private* Morty>\n");
    assert!(named.starts_with("* you are -private*-Morty- "), "{named}");
    let frames = harness.connect();
    assert_eq!(harness.say(frames, "REG 0014 *private*Mort"), "ERR 0023 Name not allowed here!");
    harness.say(page, "/pm Rick one\ntwo\n");
    assert_eq!(harness.heard(rick), "*private* -private*-Morty-> one\n-private*-Morty-> two\n");
}

#[test]
fn no_client_can_forge_a_line_of_the_server_or_of_another_client() {
    let mut harness = harness();
    let [rick, eve] = ["Rick", "Eve"].map(|name| enter(&mut harness, ASKS, name));
    for line in ["* goodbye", "Rick> it was me", "a\rRick> me", "\x1b[1A\x1b[2KRick> me", "a\u{2028}Rick> me"]
    {
        harness.say(eve, format!("{line}\n"));
        let heard = harness.heard(rick);
        assert!(
            heard.starts_with("Eve> ") && heard.lines().count() == 1 && heard.ends_with('\n'),
            "{heard:?}"
        );
        assert!(
            heard.trim_end_matches('\n').chars().all(|c| !c.is_control() && c != '\u{2028}'),
            "{heard:?}"
        );
    }
    let frida = frida(&mut harness);
    assert_eq!(harness.say(frida, "SND 0027 #lobby one\nRick> it was me"), "");
    assert_eq!(harness.say(frida, "SND 0025 Rick one\nRick> it was me"), "");
    let forged = "one\\x0aRick> it was me";
    assert_eq!(harness.heard(rick), format!("frida> {forged}\n*private* frida> {forged}\n"));
}

#[test]
fn silence_ends_a_line_on_a_listener_with_flush() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let bot = open_line(&mut harness, FLUSHES);
    assert_eq!(harness.say(bot, "SpamBot 5000"), "");
    harness.pass(ms(199));
    assert_eq!(harness.heard(bot), "");
    harness.pass(ms(1));
    assert_eq!(harness.heard(bot), "* you are SpamBot-5000 in #lobby; /help lists what else you can do\n");
    let spam = "SPAM ".repeat(500);
    assert_eq!(harness.say(bot, &spam), "", "the end of 2,500 bytes may still come");
    harness.pass(ms(200));
    assert_eq!(harness.heard(bot), format!("SpamBot-5000> {spam}\n"));
    assert_eq!(harness.heard(rick), format!("SpamBot-5000> {spam}\n"));
    assert_eq!(
        harness.say(bot, spam.repeat(3)),
        format!("SpamBot-5000> {spam}\n").repeat(2),
        "more than that waits for nothing"
    );
    harness.pass(ms(200));
    assert_eq!(harness.heard(bot), format!("SpamBot-5000> {spam}\n"));
    assert_eq!(harness.heard(rick), format!("SpamBot-5000> {spam}\n").repeat(3));

    harness.say(bot, "slow");
    harness.pass(ms(150));
    harness.say(bot, "ly ");
    harness.pass(ms(150));
    assert_eq!(harness.say(bot, "typed"), "", "each letter begins the silence anew");
    for _ in 0..3 {
        harness.pass(ms(50));
        assert_eq!(harness.say(bot, b"\xff\xfb\x01\xff\xf1"), "", "telnet's words are silence");
    }
    harness.pass(ms(50));
    assert_eq!(harness.heard(bot), "SpamBot-5000> slowly typed\n");
    assert_eq!(harness.say(bot, "\r\n"), "", "the late end of that line is none of another");
    assert_eq!(harness.say(bot, "whole\n"), "SpamBot-5000> whole\n");
    harness.pass(secs(1_000));
    assert_eq!(harness.heard(bot), "");
    assert!(!harness.is_closed(bot));
    harness.say(rick, "no end");
    harness.pass(secs(30));
    assert_eq!(harness.heard(bot), "", "on the other listener it is not");
}

#[test]
fn a_long_message_to_the_room_is_split_into_2500_bytes_and_never_inside_a_character() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let long = "x".repeat(2_499) + &"山".repeat(300);
    let heard = harness.say(rick, format!("{long}\n"));
    let parts: Vec<&str> = heard.lines().map(|line| line.strip_prefix("Rick> ").unwrap()).collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2_499, 900]);
    assert_eq!(parts.concat(), long);
    assert_eq!(harness.say(rick, "y".repeat(2_500)), "");
    assert_eq!(harness.say(rick, "\n").len(), 2_507);
}

const TOO_LONG: &str = "* that line is longer than 2500 bytes and was not sent\n";

#[test]
fn a_command_longer_than_a_line_is_refused_whole_and_no_part_of_it_is_sent() {
    let mut harness = harness();
    let [mal, bob] = ["Mal", "Bob"].map(|name| enter(&mut harness, ASKS, name));
    let private = format!("/pm Bob {}PIN 1234", "x".repeat(2_492));
    assert_eq!(harness.say(mal, format!("{private}\n")), TOO_LONG);
    assert_eq!(harness.heard(bob), "");
    assert_eq!(harness.say(mal, &private), TOO_LONG, "before its end comes");
    assert_eq!(harness.say(mal, "x".repeat(9_999)), "", "once");
    assert_eq!(harness.say(mal, "/nick Born\n/list\n"), "* in #lobby: Mal Bob\n");
    assert_eq!(harness.heard(bob), "");
    let longest = format!("/pm Bob {}", "x".repeat(2_492));
    assert_eq!(
        harness.say(mal, format!("{longest}\r\n")),
        longest.replacen("/pm Bob", "*private to Bob*", 1) + "\n"
    );
}

#[test]
fn the_tail_of_a_long_message_is_not_a_command() {
    let mut harness = harness();
    let [mal, bob] = ["Mal", "Bob"].map(|name| enter(&mut harness, ASKS, name));
    for tail in ["/nick Born", "/quit", "/pm Bob psst", "//x", " "] {
        let said = format!("Mal> {}\nMal> {tail}\n", "x".repeat(2_500));
        assert_eq!(harness.say(mal, format!("{}{tail}\n", "x".repeat(2_500))), said);
        assert_eq!(harness.heard(bob), said);
    }
    assert_eq!(harness.say(mal, "/list\n"), "* in #lobby: Mal Bob\n");
}

#[test]
fn text_after_an_overlong_name_is_neither_a_name_nor_a_message() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let new = open_line(&mut harness, ASKS);
    let long = format!("{:1020}Mal who says PIN 1234{:2000}/nick Mal", "", "");
    let told = format!("* a name is longer than 32 characters\n{PROMPT}");
    assert_eq!(harness.say(new, format!("{long}\n")), told);
    assert_eq!(harness.say(new, "Morty\n/list\n").lines().last(), Some("* in #lobby: Rick Morty"));
    assert_eq!(harness.heard(rick), "");
}

#[test]
fn the_rest_of_a_refused_line_costs_tokens_like_any_line() {
    let mut harness = harness();
    let slow = open_line(&mut harness, METERED);
    harness.put(slow, format!("Morty\n/pm Rick {}", "x".repeat(99_992)));
    assert!(!harness.is_reading(slow) && harness.is_busy(slow));
    let began = harness.now;
    while harness.is_busy(slow) {
        harness.pass(ms(200));
    }
    // A token for the name, and one per 2,500 bytes; the bucket held a second's tokens.
    assert!((secs(7)..secs(8)).contains(&(harness.now - began)), "{:?}", harness.now - began);
    assert!(harness.heard(slow).ends_with(TOO_LONG));
}

#[test]
fn after_eight_refused_names_the_connection_is_closed_with_the_reason() {
    let mut harness = harness();
    enter(&mut harness, ASKS, "Rick");
    let new = open_line(&mut harness, ASKS);
    let long = format!("{}\n", "x".repeat(2_000));
    let bad = ["rick\n", &long, "*\n", "/nick Rick\n", "R\u{456}ck\n", &long, "rick\n"];
    for line in bad {
        assert!(harness.say(new, line).ends_with(PROMPT), "{line}");
        assert!(harness.say(new, "\n/help\n/list\n").ends_with(PROMPT), "an invalid name does not count");
    }
    assert_eq!(
        harness.say(new, &long),
        "* a name is longer than 32 characters; that was the last of 8 names\n* goodbye\n"
    );
    assert!(harness.is_closed(new));
    let late = open_line(&mut harness, ASKS);
    bad.iter().for_each(|line| drop(harness.say(late, line)));
    assert!(harness.say(late, "Morty\n").starts_with("* you are Morty "));
    (0..20).for_each(|_| assert_eq!(harness.say(late, "/nick rick\n"), "* rick is taken\n"));
}

#[test]
fn a_client_without_a_name_or_with_an_unfinished_line_is_closed_with_the_reason() {
    let mut harness = harness();
    let silent = open_line(&mut harness, ASKS);
    let slow = enter(&mut harness, ASKS, "slow");
    harness.pass(secs(30));
    assert_eq!(harness.say(silent, "\n"), format!("* a name is empty\n{PROMPT}"));
    harness.say(slow, "a lin");
    harness.pass(secs(29));
    harness.say(slow, "e");
    harness.say(silent, "Ric");
    assert_eq!(harness.heard(silent), "");
    harness.pass(secs(1));
    assert_eq!(
        harness.heard(silent),
        "\n* no name was given in time\n* goodbye\n",
        "answers do not put it off"
    );
    assert!(harness.is_closed(silent) && !harness.is_closed(slow));
    assert_eq!(harness.say(slow, " in time\n"), "slow> a line in time\n");
    harness.say(slow, "another ");
    for _ in 0..59 {
        harness.pass(secs(1));
        assert_eq!(harness.say(slow, "."), "");
    }
    harness.pass(secs(1));
    assert_eq!(harness.heard(slow), "* line not finished in time\n* goodbye\n", "nor do single bytes");
    assert!(harness.is_closed(slow));
    let idle = enter(&mut harness, ASKS, "idle");
    harness.pass(secs(100_000));
    assert!(!harness.is_closed(idle), "a silent client may stay");
}

#[test]
fn lines_are_executed_at_the_rate_of_the_listener_and_a_half_closed_stream_loses_none() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let pipe = open_line(&mut harness, METERED);
    let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
    harness.say(pipe, format!("Morty\n{lines}last"));
    assert!(!harness.is_reading(pipe) && harness.is_busy(pipe));
    assert_eq!(harness.heard(rick).lines().count(), 4, "the name has cost a token, too");
    let (heard, time) = harness.half_close(pipe);
    let own: Vec<&str> = heard.lines().collect();
    let expected: Vec<String> =
        (0..20).map(|n| format!("Morty> line {n}")).chain(["Morty> last".to_owned()]).collect();
    assert_eq!(own, expected[4..], "the first four were heard before");
    assert_eq!(harness.heard(rick).lines().collect::<Vec<_>>(), expected[4..]);
    assert!((secs(3)..secs(4)).contains(&time), "{time:?}");
    assert_eq!(harness.say(rick, "/list\n"), "* in #lobby: Rick\n");
}

#[test]
fn an_unfinished_last_line_counts_at_the_end_of_the_stream() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let pipe = open_line(&mut harness, ASKS);
    harness.say(pipe, "Morty\nhello");
    let (heard, time) = harness.half_close(pipe);
    assert_eq!((heard.as_str(), time), ("Morty> hello\n", Duration::ZERO));
    assert_eq!(harness.heard(rick), "Morty> hello\n");
    let pipe = open_line(&mut harness, ASKS);
    harness.say(pipe, "only a name");
    assert!(harness.half_close(pipe).0.starts_with("* you are only-a-name "));
    let frames = harness.connect_as("REG 0004 adaSND 00");
    assert_eq!(harness.half_close(frames).0, "", "half a frame is none");
    assert_eq!(harness.server.sessions(), 1);
}

#[test]
fn messages_that_arrive_while_a_line_is_typed_do_not_change_the_line() {
    let mut harness = harness();
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut harness, ASKS, name));
    assert_eq!(harness.say(rick, "I was "), "");
    assert_eq!(harness.say(morty, "what were you "), "");
    assert_eq!(harness.say(rick, "going to say\r"), "");
    assert_eq!(harness.say(morty, "doing?\n"), "Morty> what were you doing?\n");
    assert_eq!(harness.say(rick, "\n"), "Morty> what were you doing?\nRick> I was going to say\n");
    assert_eq!(harness.heard(morty), "Rick> I was going to say\n");
}

#[test]
fn answers_arrive_after_earlier_messages() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    assert_eq!(
        harness.say(rick, "one\n/nick Rick2\ntwo\n/list\nthree\n/quit\nfour\n"),
        "Rick> one\n* you are Rick2\nRick2> two\n* in #lobby: Rick2\nRick2> three\n* goodbye\n"
    );
}

#[test]
fn telnet_options_are_ignored_but_a_timing_mark_is_answered() {
    let mut harness = harness();
    let rick = open_line(&mut harness, ASKS);
    let noise = b"\xff\xfb\x18\xff\xfd\x03Ri\xff\xfa\x1f\0\x50\0\x18\xff\xf0ck\r\0";
    assert!(harness.say(rick, noise).starts_with("* you are Rick "));
    assert_eq!(harness.say(rick, b"hel\xff\xfd\x01lo\xff\xf9\r\n"), "Rick> hello\n");
    harness.put(rick, b"\xff\xf4\xff\xfd\x06");
    assert_eq!(harness.written_to(rick), b"\xff\xfc\x06");
    assert_eq!(harness.say(rick, b"a\xff\xffb\n"), "Rick> a\\xffb\n");
    harness.stall(rick, true);
    for _ in 0..100 {
        harness.put(rick, [255, 253, 6].repeat(1_000));
    }
    assert!(!harness.is_reading(rick), "reading is paused while answers are unread");
}

#[test]
fn a_slow_line_client_is_told_how_many_messages_it_missed() {
    let hub = HubConfig { max_pending: 1_000, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..config() });
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut harness, FLUSHES, name));
    harness.stall(morty, true);
    for n in 0..20 {
        harness.say(rick, format!("message {n}\n"));
    }
    harness.stall(morty, false);
    let heard = harness.heard(morty);
    let shown = heard.lines().filter(|line| line.starts_with("Rick> ")).count();
    assert_eq!(heard.lines().last(), Some(format!("* you missed {} messages", 20 - shown).as_str()));
    assert_eq!(harness.totals().hub.gaps, 20 - shown as u64);
}

#[test]
fn every_line_client_gets_the_closing_line_at_a_shutdown() {
    let mut harness = harness();
    let (rick, asked, silent) =
        (enter(&mut harness, ASKS, "Rick"), open_line(&mut harness, ASKS), harness.connect());
    let address = harness.connect_at(ASKS_NOT, Remote::Ip(local(7)));
    harness.say(address, "last words\nand more");
    harness.server.shutdown(harness.now);
    assert_eq!(harness.heard(rick), "127.0.0.1:7> last words\n* goodbye: the server is shutting down\n");
    assert_eq!(harness.heard(asked), "\n* goodbye: the server is shutting down\n");
    assert_eq!(harness.heard(address), "* goodbye: the server is shutting down\n");
    assert_eq!(harness.heard(silent), "BYE 0000");
    assert!([rick, asked, address, silent].iter().all(|conn| harness.is_closed(*conn)));
    let late = harness.connect_at(ASKS, Remote::Ip(local(8)));
    assert_eq!(harness.heard(late), "* goodbye: the server is shutting down\n");
    for conn in [rick, asked, address, silent, late] {
        harness.hang_up(conn);
    }
    assert!(harness.server.is_finished() && harness.server.is_stateless());
}

#[test]
fn a_look_alike_room_cannot_block_the_room_of_a_listener() {
    let mut harness = harness();
    let frames = harness.connect_as("REG 0004 eve");
    assert_eq!(harness.say(frames, "JON 0007 #l0bby"), "ERR 0012 Name taken!");
    let rick = enter(&mut harness, ASKS, "Rick");
    harness.say(rick, "/quit\n");
    assert_eq!(harness.say(frames, "JON 0007 #1obby"), "ERR 0012 Name taken!");
    assert_eq!(harness.say(frames, "JON 0007 #LOBBY"), "");
}

#[test]
fn a_reload_of_rules_ends_line_clients_with_the_reason() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let rules = Rules::parse(b"[[rule]]\nname = \"rick\"\nallow = [\"192.0.2.0/24\"]\n").unwrap();
    harness.set_rules(rules);
    assert_eq!(harness.heard(rick), "* Name not allowed here!\n* goodbye\n");
    assert!(harness.is_closed(rick));
}

#[test]
fn a_list_too_long_for_a_line_counts_the_remaining_names() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    for n in 100..300 {
        enter(&mut harness, FLUSHES, &format!("somebody-with-a-name-{n}"));
    }
    let list = harness.say(rick, "/list\n");
    assert!((2_300..2_450).contains(&list.len()) && list.lines().count() == 1, "{}", list.len());
    let names = list.split(' ').filter(|word| word.starts_with("somebody")).count();
    assert!(list.ends_with(&format!(" +{}\n", 200 - names)), "{list}");
}

#[test]
fn a_tagged_client_gets_messages_of_line_clients_numbered_and_can_send_to_them() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let ada = harness.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    assert!(harness.say(ada, "@2 JON 0007 #lobby").ends_with("@2 ACK 0000"));
    assert_eq!(harness.say(rick, "/me waves\n"), "Rick> *waves*\n");
    assert_eq!(harness.heard(ada), "@1 RCV 0024 Rick#lobby 0001 *waves*");
    assert_eq!(harness.say(ada, snd(3, "rick", "hello you")), "@3 ACK 0000");
    assert_eq!(harness.heard(rick), "*private* ada> hello you\n");
}

/// Random input of a line client, also hostile.
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
    let mut harness = ServerHarness::new(ServerConfig { hub, ..config() });
    let (mut conns, mut closed) = (Vec::new(), 0);
    for _ in 0..400 {
        if conns.len() < 6 {
            let listener = rng.random_range(1..=METERED);
            conns.push(harness.connect_at(listener, Remote::Ip(local(rng.random_range(1..9)))));
        }
        let conn = *conns.choose(&mut rng).unwrap();
        match rng.random_range(0..10) {
            0..6 => harness.put(conn, typed(&mut rng)),
            6..8 => harness.pass(ms(*[1, 100, 200, 1_000, 70_000].choose(&mut rng).unwrap())),
            8 => harness.stall(conn, rng.random()),
            _ if rng.random_ratio(1, 4) => {
                harness.stall(conn, false);
                harness.half_close(conn);
                conns.retain(|other| *other != conn);
            }
            _ => {}
        }
        if harness.is_closed(conn) || rng.random_ratio(1, 60) {
            closed += usize::from(harness.is_closed(conn));
            harness.hang_up(conn);
            conns.retain(|other| *other != conn);
        }
        harness.server.timeout(harness.now);
        assert!(
            harness.server.poll_timeout().is_none_or(|at| at > harness.now),
            "seed {seed}: a deadline is left behind"
        );
        assert!(harness.totals().pending_bytes <= 20_000, "seed {seed}");
    }
    conns.into_iter().for_each(|conn| harness.hang_up(conn));
    harness.pass(secs(300));
    assert!(harness.server.is_stateless(), "seed {seed}: {:?}", harness.server);
    // Pending log lines are written within a second.
    harness.pass(secs(1));
    assert_eq!((harness.totals().pending_bytes, harness.server.poll_timeout()), (0, None), "seed {seed}");
    (harness.totals().hub.messages, harness.totals().hub.gaps, closed)
}

#[test]
fn any_input_of_line_clients_leaves_no_deadline_and_releases_all_memory() {
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
fn a_session_ended_by_the_server_closes_the_line_clients_connection() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    assert_eq!(harness.say(rick, "bye all\n/quit\nmore\n"), "Rick> bye all\n* goodbye\n");
    let again = enter(&mut harness, ASKS, "Rick");
    assert_eq!(
        harness.say(again, "/list\n"),
        "* in #lobby: Rick\n",
        "the name is free before the connection is closed"
    );
    assert_eq!(harness.say(rick, "hello?\n"), "");
}

#[test]
fn a_paused_line_is_kept_and_later_input_is_not_read() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    let fast = open_line(&mut harness, METERED);
    harness.put(fast, "Morty\n1\n2\n3\n4\n");
    assert!(!harness.is_reading(fast), "the bucket is empty");
    harness.put(fast, "5\n6\nunfin");
    harness.pass(ms(199));
    assert_eq!(harness.heard(rick).lines().last(), Some("Morty> 4"));
    harness.pass(ms(1));
    assert_eq!(harness.heard(rick), "Morty> 5\n");
    harness.pass(ms(200));
    assert_eq!(harness.heard(rick), "Morty> 6\n");
    harness.pass(ms(200));
    assert!(harness.is_reading(fast));
    harness.pass(secs(10));
    harness.put(fast, "ished\n");
    assert_eq!(harness.heard(rick), "Morty> unfinished\n");
}

#[test]
fn a_sender_to_a_member_that_does_not_read_is_paused_under_block() {
    let hub = HubConfig { max_pending: 3_000, slow: SlowPolicy::Block, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..config() });
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut harness, ASKS, name));
    harness.stall(morty, true);
    let lines: String = (0..100).map(|n| format!("message {n}\n")).collect();
    harness.put(rick, lines + "/list\n");
    assert!(!harness.is_reading(rick) && harness.is_busy(rick));
    let before = harness.heard(rick).lines().count();
    assert!((2..90).contains(&before), "{before}");
    harness.stall(morty, false);
    let heard = harness.heard(rick);
    assert_eq!(heard.lines().count(), 101 - before);
    assert!(heard.ends_with("Rick> message 99\n* in #lobby: Rick Morty\n"), "{heard}");
    assert_eq!((harness.heard(morty).lines().count(), harness.totals().hub.gaps), (100, 0));
}

#[test]
fn a_slow_line_client_is_closed_with_the_reason_under_disconnect() {
    let hub = HubConfig { max_pending: 1_000, slow: SlowPolicy::Disconnect, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..config() });
    let [rick, morty] = ["Rick", "Morty"].map(|name| enter(&mut harness, ASKS, name));
    harness.stall(morty, true);
    (0..100).for_each(|n| drop(harness.say(rick, format!("message {n}\n"))));
    assert_eq!(harness.say(rick, "/list\n"), "* in #lobby: Rick\n");
    harness.stall(morty, false);
    assert!(harness.heard(morty).ends_with("* you read too slowly\n* goodbye\n"));
}

#[test]
fn answers_keep_their_order_for_a_slow_consumer() {
    let mut harness = harness();
    let rick = enter(&mut harness, ASKS, "Rick");
    harness.stall(rick, true);
    let script: String = (0..3_000).map(|n| format!("{n}\n/me {n}\n/help\n")).collect();
    harness.put(rick, script);
    assert!(!harness.is_reading(rick), "the answers are long");
    harness.stall(rick, false);
    let heard = harness.heard(rick);
    let mut lines = heard.lines();
    for n in 0..3_000 {
        let shown: Vec<&str> = lines.by_ref().take(7).collect();
        assert_eq!(shown[..2], [format!("Rick> {n}"), format!("Rick> *{n}*")]);
        assert!(shown[2..].iter().all(|line| line.starts_with("* ")), "{shown:?}");
    }
    assert_eq!(lines.next(), None);
}
