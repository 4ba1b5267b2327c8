//! The hard cases on streams: the typed protocol, broken input, cuts, resume, patience, goodbyes.

use std::cell::Cell;
use std::rc::Rc;

use sayagain::client::{Closed, Event};
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::hub::HubConfig;
use sayagain::link::Direction;
use sayagain::reliable::{Backoff, Outcome};
use sayagain::service::Service;
use sayagain::sim::FilterAction;

use crate::desk::{Desk, addr, nonce, reg, register, snd};
use crate::support::{doubling, losing, messages, ms, outcomes, patient, quiet, secs, with_server};

#[test]
fn the_protocol_of_asio_chatserver_byte_for_byte() {
    let mut desk = Desk::open();
    let (one, two) = (desk.connect(), desk.connect());
    assert_eq!(desk.say(one, "REG 0007 TEST01"), "");
    assert_eq!(desk.say(two, "REG 0007 TEST02"), "");
    assert_eq!(desk.say(two, "SND 0017 TEST01 Heyyyooo!"), "");
    assert_eq!(desk.heard(one), "RCV 0022 TEST02 0001 Heyyyooo!");
    assert_eq!(desk.say(one, "SND 0029 TEST02 Hey there my friend!!"), "");
    assert_eq!(desk.heard(two), "RCV 0034 TEST01 0004 Hey there my friend!!");
    assert_eq!(desk.say(one, "SND 0013 TEST03 Hello"), "ERR 0016 No such client!");
    assert_eq!(desk.say(one, "BYE 0000"), "");
    assert!(desk.is_closed(one));
    assert_eq!(desk.say(two, "SND 0013 TEST01 Hello"), "ERR 0016 No such client!");
}

#[test]
fn frames_may_be_split_and_joined_anywhere() {
    let script = "REG 0007 TEST02\r\nSND 0017 TEST01 Heyyyooo!SND 0013 TEST01 again\nPNG 0003 hi";
    for at in 0..=script.len() {
        let mut desk = Desk::open();
        let (one, two) = (desk.connect_as("REG 0007 TEST01"), desk.connect());
        let first = desk.say(two, &script[..at]);
        let second = desk.say(two, &script[at..]);
        assert_eq!(first + &second, "ACK 0003 hi", "split at {at}");
        assert_eq!(
            desk.heard(one),
            "RCV 0022 TEST02 0001 Heyyyooo!RCV 0018 TEST02 0001 again",
            "split at {at}"
        );
    }
}

#[test]
fn what_is_wrong_in_a_head_breaks_the_stream_as_soon_as_the_byte_is_there() {
    let broken = [
        ("reg", "verb"),
        ("REG x", "length"),
        ("REG -", "length"),
        ("REG +9", "length"),
        ("@0", "tag"),
        ("@1 @", "verb"),
        ("@12345678901234567890", "tag"),
        ("REG 000 ", "length"),
        ("REG 00\u{0}", "length"),
        ("REG 0005X", "space"),
        ("REG \u{ff11}", "length"),
        ("\u{1b}[2J", "verb"),
        ("REG +005 09999", "length"),
        ("SND +009 999999999", "limit"),
    ];
    for (bytes, part) in broken {
        let mut desk = Desk::open();
        let (conn, other) = (desk.connect(), desk.connect_as("REG 0004 bob"));
        let heard = desk.say(conn, bytes);
        let (error, bye) = heard.split_at(heard.len().saturating_sub(8));
        assert!(error.starts_with("ERR ") && error.contains(part), "{bytes:?}: {heard}");
        assert_eq!(bye, "BYE 0000", "{bytes:?}");
        assert!(desk.is_closed(conn));
        assert_eq!(desk.say(conn, "PNG 0000"), "", "nothing behind it is looked at");
        assert_eq!(desk.say(other, "LST 0000"), "ACK 0004 bob", "nobody else notices");
    }
}

#[test]
fn a_frame_that_asks_for_something_wrong_is_refused_and_the_connection_stays() {
    let mut desk = Desk::open();
    let conn = desk.connect();
    assert_eq!(desk.say(conn, "SND 0013 TEST01 Hello"), "ERR 0016 Register first!");
    assert_eq!(desk.say(conn, "@1 LST 0000"), "@1 ERR 0020 401 Register first!");
    assert_eq!(desk.say(conn, "@2 XYZ 0000"), "@2 ERR 0018 400 Unknown verb!");
    assert_eq!(desk.say(conn, "REG 0004 a#b"), "ERR 0023 Name not allowed here!");
    assert_eq!(desk.say(conn, "REG 0008 \u{1b}[2Jabc"), "ERR 0023 Name not allowed here!");
    assert_eq!(desk.say(conn, b"REG 0003 \xff\xfe"), "ERR 0023 Name not allowed here!");
    assert_eq!(desk.say(conn, "REG 0000"), "ERR 0019 Malformed request!");
    assert_eq!(desk.say(conn, "REG 0004 ada"), "");
    assert_eq!(desk.say(conn, "REG 0004 bob"), "ERR 0020 Already registered!");
    assert_eq!(desk.say(conn, "@9 REG 0004 bob"), "@9 ERR 0024 409 Already registered!");
    assert_eq!(desk.say(conn, "SND 0004 ada"), "ERR 0019 Malformed request!");
    assert_eq!(desk.say(conn, "JON 0006 lobby"), "ERR 0017 Not a room name!");
    assert_eq!(desk.say(conn, "LEV 0007 #lobby"), "ERR 0014 No such room!");
    assert_eq!(desk.say(conn, "PNG 0005 here"), "ACK 0005 here");
    assert!(!desk.is_closed(conn));
}

#[test]
fn a_name_in_use_is_refused_also_in_capitals_and_to_those_who_look_alike() {
    let mut desk = Desk::open();
    desk.connect_as("REG 0006 scope");
    let other = desk.connect();
    assert_eq!(desk.say(other, "REG 0006 SCOPE"), "ERR 0012 Name taken!");
    assert_eq!(desk.say(other, "REG 0011 \u{455}\u{441}\u{43e}\u{440}\u{435}"), "ERR 0012 Name taken!");
    assert_eq!(desk.say(other, "REG 0003 ok"), "");
    assert_eq!(desk.say(other, "SND 0009 SCOPE hi"), "", "found by any case");
}

#[test]
fn bye_then_more_executes_nothing_more() {
    let mut desk = Desk::open();
    let (ada, bob) = (desk.connect_as("REG 0004 ada"), desk.connect_as("REG 0004 bob"));
    assert_eq!(desk.say(ada, "BYE 0000SND 0007 bob hi"), "");
    assert_eq!(desk.heard(bob), "");
    assert!(desk.is_closed(ada));
    assert_eq!(
        desk.say(bob, "@5 BYE 0000"),
        "@5 ACK 0000",
        "an untagged session may end with a tagged request"
    );
    assert_eq!(desk.server.sessions(), 0);
}

#[test]
fn half_a_frame_and_then_the_end_executes_nothing() {
    let mut desk = Desk::open();
    let (ada, bob) = (desk.connect_as("REG 0004 ada"), desk.connect_as("REG 0004 bob"));
    desk.say(ada, "SND 0012 bob hi th");
    desk.hang_up(ada);
    assert_eq!(desk.heard(bob), "");
    assert_eq!(desk.server.sessions(), 1, "an untagged session ends with its connection");
}

#[test]
fn untagged_sessions_get_nothing_over_9999_bytes() {
    let mut desk = Desk::open();
    let (old, new) =
        (desk.connect_as("REG 0004 old"), desk.connect_as(&reg(1, "new", &format!("?{}", nonce(1)))));
    let body = "x".repeat(9_995);
    assert_eq!(desk.say(old, format!("SND +005 10000 new {body}")), "");
    assert!(desk.heard(new).starts_with("@1 RCV +005 10005 old 0001 xxx"));
    assert_eq!(desk.say(new, format!("@2 SND +005 10000 old {body}")), "@2 ERR 0014 413 Too long!");
    for (conn, join) in [(old, "JON 0003 #r"), (new, "@3 JON 0003 #r")] {
        desk.say(conn, join);
    }
    assert_eq!(desk.say(new, format!("@4 SND 9998 #r {}", "y".repeat(9_994))), "@4 ACK 0000");
    assert_eq!(desk.heard(old), "RCV 0028 * 0004 you missed 1 message");
}

#[test]
fn a_tagged_request_in_an_untagged_session_is_answered_and_deduplicated() {
    let mut desk = Desk::open();
    let (ada, bob) = (desk.connect_as("REG 0004 ada"), desk.connect_as("REG 0004 bob"));
    for _ in 0..3 {
        assert_eq!(desk.say(ada, snd(7, "bob", "once")), "@7 ACK 0000");
    }
    assert_eq!(desk.heard(bob), "RCV 0014 ada 0001 once");
    assert_eq!(desk.totals().repeats, 2);
}

/// Three people: ada sends 60 messages to bob, and what `cut_when` says cuts a connection.
fn cut_story(cut_when: impl Fn(Direction, &str) -> bool + 'static, whose: usize) {
    cut_story_of(patient(Transport::Stream, "ada"), cut_when, whose);
}

fn cut_story_of(config: ClientConfig, cut_when: impl Fn(Direction, &str) -> bool + 'static, whose: usize) {
    let mut sim = quiet();
    let ada = sim.add_client(config);
    let bob = sim.add_client(patient(Transport::Stream, "bob"));
    let victim = sim.address_of([ada, bob][whose]);
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    let tickets: Vec<_> = (0..60).map(|n| sim.client(ada).send(b"bob", format!("{n}").as_bytes())).collect();
    let cuts = Rc::new(Cell::new(0));
    let counter = cuts.clone();
    sim.set_filter(Box::new(move |direction, addr, bytes| {
        let hit = addr == victim && counter.get() < 3 && cut_when(direction, &String::from_utf8_lossy(bytes));
        counter.set(counter.get() + usize::from(hit));
        if hit { FilterAction::Cut } else { FilterAction::Pass }
    }));
    assert!(sim.run_until_idle(secs(600)));
    let events = sim.take_events(ada);
    let outcomes = outcomes(&events);
    assert!(tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())), "{outcomes:?}");
    let expected: Vec<String> = (0..60).map(|n| format!("ada> {n}")).collect();
    let at_bob = sim.take_events(bob);
    assert_eq!(messages(&at_bob), expected);
    let resumed =
        |events: &[Event]| events.iter().filter(|e| **e == Event::Registered { resumed: true }).count();
    // A cut may take the answer to a resume with it.
    assert!((1..=cuts.get()).contains(&[resumed(&events), resumed(&at_bob)][whose]), "{} cuts", cuts.get());
    assert_eq!(sim.server().totals().hub.sessions, 2);
}

#[test]
fn a_tcp_cut_before_an_answer_loses_and_doubles_nothing() {
    cut_story(|direction, text| direction == Direction::Up && text.contains("SND") && text.ends_with('7'), 0);
}

#[test]
fn a_tcp_cut_loses_and_doubles_nothing_either_where_a_request_is_sent_once_only() {
    let once = ClientConfig::new(Transport::Stream, Some("ada"), Backoff::new(secs(1)).with_max_sends(1));
    cut_story_of(
        once,
        |direction, text| direction == Direction::Up && text.contains("SND") && text.ends_with('7'),
        0,
    );
}

#[test]
fn who_is_cut_off_at_every_request_gives_up_in_the_end() {
    let mut sim = quiet();
    let once = ClientConfig::new(Transport::Stream, Some("ada"), Backoff::new(secs(1)).with_max_sends(1));
    let ada = sim.add_client(once);
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.set_filter(Box::new(|direction, _, bytes| {
        if direction == Direction::Up && bytes.windows(4).any(|w| w == b"SND ") {
            FilterAction::Cut
        } else {
            FilterAction::Pass
        }
    }));
    let ticket = sim.client(ada).send(b"ada", b"?");
    let events = crate::support::events_when_idle(&mut sim, ada);
    assert_eq!(outcomes(&events)[&ticket], Outcome::Unknown);
    assert!(sim.elapsed() < secs(10));
}

#[test]
fn a_tcp_cut_in_an_answer_loses_and_doubles_nothing() {
    cut_story(
        |direction, text| direction == Direction::Down && text.contains("ACK 0000") && text.contains('5'),
        0,
    );
}

#[test]
fn a_tcp_cut_among_pushes_repeats_just_what_was_not_acknowledged() {
    cut_story(
        |direction, text| direction == Direction::Down && text.contains("RCV") && text.ends_with(['4', '9']),
        1,
    );
}

#[test]
fn a_tcp_cut_before_the_acknowledgement_of_pushes_hands_on_none_of_them_twice() {
    cut_story(|direction, text| direction == Direction::Up && text.starts_with("ACK"), 1);
}

#[test]
fn a_tcp_cut_before_the_answer_to_reg_opens_one_session() {
    let mut sim = quiet();
    let ada = sim.add_client(patient(Transport::Stream, "ada"));
    let mut cuts = 0;
    sim.set_filter(Box::new(move |direction, _, _| {
        cuts += u32::from(direction == Direction::Down);
        if direction == Direction::Down && cuts <= 2 { FilterAction::Cut } else { FilterAction::Pass }
    }));
    assert!(sim.run_until(secs(20), |sim| sim.client(ada).is_ready()));
    assert_eq!(sim.server().totals().hub.sessions, 1);
    let ticket = sim.client(ada).send(b"ada", b"me");
    let events = crate::support::events_when_idle(&mut sim, ada);
    assert_eq!(outcomes(&events)[&ticket], Outcome::Acked(Vec::new()));
    assert_eq!(messages(&events), ["ada> me"]);
}

#[test]
fn a_stream_session_lingers_with_its_name_and_rooms_and_then_ends() {
    let mut desk = Desk::open();
    let ada = desk.connect();
    let token = desk.say(ada, reg(1, "ada", &format!("?{}", nonce(1))))["@1 ACK 0023 ".len()..].to_owned();
    desk.say(ada, "@2 JON 0003 #r");
    let bob = desk.connect_as("REG 0004 bob");
    desk.hang_up(ada);
    desk.pass(secs(29));
    assert_eq!(desk.say(bob, "REG 0004 adaLST 0000"), "ERR 0020 Already registered!ACK 0008 ada bob");
    assert_eq!(desk.say(bob, "SND 0015 ada you there?"), "");
    let again = desk.connect();
    assert_eq!(
        desk.say(again, reg(3, "ada", &token)),
        format!("@3 ACK 0023 {token}@1 RCV 0020 bob 0002 you there?")
    );
    desk.hang_up(again);
    desk.pass(secs(31));
    assert_eq!(desk.say(bob, "LST 0000"), "ACK 0004 bob");
    assert_eq!(desk.totals().hub.undelivered, 1, "what was not acknowledged is counted");
    let late = desk.connect();
    assert_eq!(desk.say(late, reg(4, "ada", &token)), "@4 ERR 0018 401 Session gone!");
}

#[test]
fn who_takes_up_a_session_cuts_off_the_older_connection_which_does_not_come_back() {
    let mut desk = Desk::open();
    let ada = desk.connect();
    let token = desk.say(ada, reg(1, "ada", &format!("?{}", nonce(1))))["@1 ACK 0023 ".len()..].to_owned();
    let thief = desk.connect();
    assert!(desk.say(thief, reg(2, "ada", &token)).starts_with("@2 ACK 0023 "));
    assert_eq!(desk.heard(ada), "ERR 0023 409 taken up elsewhereBYE 0010 elsewhere");
    assert!(desk.is_closed(ada));
    desk.hang_up(ada);
    assert_eq!(desk.say(thief, "@3 LST 0000"), "@3 ACK 0004 ada", "the older connection's end ends nothing");
    // A copy of that REG on a third connection moves nothing.
    let third = desk.connect();
    assert!(desk.say(third, reg(2, "ada", &token)).starts_with("@2 ACK 0023 "));
    assert!(!desk.is_closed(thief));
    assert_eq!(desk.say(third, "@4 LST 0000"), "@4 ERR 0020 401 Register first!");
}

#[test]
fn our_client_ends_when_its_session_is_taken_up_elsewhere() {
    let mut sim = quiet();
    let ada = sim.add_client(patient(Transport::Stream, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    let addr = sim.address_of(ada);
    sim.client(ada).handle_bytes(std::time::Instant::now(), b"ERR 0023 409 taken up elsewhere");
    sim.run_for(secs(60));
    assert_eq!(sim.take_events(ada).last(), Some(&Event::Closed(Closed::TakenUp)));
    assert_eq!(addr, sim.address_of(ada));
}

#[test]
fn a_client_whose_server_has_restarted_reports_what_was_in_flight_as_unknown_and_registers_anew() {
    let mut sim = with_server(ServerConfig { linger: ms(500), ..ServerConfig::default() });
    let ada = sim.add_client(patient(Transport::Stream, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    let ticket = sim.client(ada).send(b"ada", b"?");
    sim.set_filter(Box::new(|direction, _, bytes| {
        if direction == Direction::Up && bytes.ends_with(b"?") {
            FilterAction::Cut
        } else {
            FilterAction::Pass
        }
    }));
    sim.set_reachable(ada, false);
    sim.run_for(secs(2));
    sim.set_filter(Box::new(|_, _, _| FilterAction::Pass));
    sim.set_reachable(ada, true);
    let events = crate::support::events_when_idle(&mut sim, ada);
    assert_eq!(outcomes(&events)[&ticket], Outcome::Unknown);
    assert!(events.contains(&Event::SessionLost));
}

#[test]
fn on_a_stream_only_tagged_requests_and_their_answers_are_lost_and_repeats_make_them_good() {
    let half = losing(0.5);
    let mut sim = with_server(ServerConfig {
        link_in: half.clone(),
        link_out: half,
        seed: 5,
        ..ServerConfig::default()
    });
    let ada = sim.add_client(patient(Transport::Stream, "ada"));
    let bob = sim.add_client(patient(Transport::Stream, "bob"));
    assert!(sim.run_until(secs(600), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    let tickets: Vec<_> = (0..200).map(|n| sim.client(ada).send(b"bob", format!("{n}").as_bytes())).collect();
    assert!(sim.run_until_idle(secs(3_600)));
    let outcomes = outcomes(&sim.take_events(ada));
    assert!(tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())));
    assert_eq!(messages(&sim.take_events(bob)), (0..200).map(|n| format!("ada> {n}")).collect::<Vec<_>>());
    let totals = sim.server().totals();
    let share = totals.loss_in.dropped as f64 / totals.loss_in.seen as f64;
    assert!(totals.loss_in.seen > 300 && (0.4..0.6).contains(&share), "{totals}");
    let mut desk = Desk::new(ServerConfig { link_in: losing(1.0), ..ServerConfig::default() });
    let untagged = desk.connect();
    assert_eq!(
        desk.say(untagged, "PNG 0003 hi"),
        "ACK 0003 hi",
        "untagged frames are never lost on a stream"
    );
    assert_eq!(desk.say(untagged, "@1 PNG 0003 hi"), "");
}

#[test]
fn a_frame_that_is_never_finished_is_cut_off_at_its_deadline_and_so_is_who_never_registers() {
    let mut desk = Desk::open();
    let (slow, silent) = (desk.connect_as("REG 0004 ada"), desk.connect());
    desk.say(slow, "SND 0100 ada");
    for _ in 0..9 {
        desk.pass(secs(1));
        desk.say(slow, "x");
    }
    assert!(!desk.is_closed(slow), "ten seconds for a frame, however slowly it comes");
    desk.pass(secs(1));
    assert_eq!(desk.heard(slow), "ERR 0027 frame not finished in timeBYE 0000");
    desk.pass(secs(49));
    assert!(!desk.is_closed(silent));
    desk.pass(secs(1));
    assert_eq!(desk.heard(silent), "ERR 0023 not registered in timeBYE 0000");
}

#[test]
fn a_large_frame_has_one_second_more_for_every_64_kib_it_announces() {
    let mut desk = Desk::open();
    let conn = desk.connect_as("REG 0004 ada");
    desk.say(conn, "SND +007 1048576 ada ");
    desk.pass(secs(25));
    assert!(!desk.is_closed(conn));
    desk.pass(secs(1));
    assert!(desk.is_closed(conn), "10 s and 16 times 64 KiB");
}

#[test]
fn a_stream_whose_answers_are_not_read_is_not_read_and_its_clock_stands() {
    let mut desk = Desk::open();
    let conn = desk.connect_as("REG 0004 ada");
    desk.stall(conn, true);
    let flood = format!("PNG 9000 {}", "p".repeat(8_999)).repeat(10);
    desk.say(conn, flood + "SND 0099 ada");
    desk.pass(secs(60));
    assert!(!desk.is_closed(conn), "the server itself is not reading");
    desk.stall(conn, false);
    assert_eq!(desk.heard(conn).len(), 90_080);
    desk.pass(secs(11));
    assert!(desk.is_closed(conn));
}

#[test]
fn what_one_batch_asks_for_is_not_answered_further_than_its_peer_reads() {
    let mut desk = Desk::open();
    for n in 0..300 {
        let conn = desk.connect();
        assert_eq!(desk.say(conn, format!("REG 0033 a-name-as-long-as-they-get-in{n:03}")), "");
    }
    let (ada, bob) = (desk.connect_as("REG 0004 ada"), desk.connect_as("REG 0004 bob"));
    desk.stall(ada, true);
    desk.say(ada, "LST 0000".repeat(1_000) + "SND 0006 bob 1" + "BYE 0000" + "SND 0006 bob 2");
    assert_eq!(desk.heard(bob), "", "ten megabytes of answers are ahead of it");
    desk.stall(ada, false);
    // Each name in a list is work: the lists are made in several holds of the lock.
    desk.pass(ms(1));
    assert_eq!(desk.heard(ada).matches("ACK 99").count(), 1_000);
    assert_eq!(desk.heard(bob), "RCV 0011 ada 0001 1", "and then it comes, and nothing behind the goodbye");
    assert!(desk.is_closed(ada));
}

#[test]
fn a_stream_that_breaks_behind_many_requests_gets_their_answers_first() {
    let mut desk = Desk::open();
    let ada = desk.connect_as("REG 0004 ada");
    desk.stall(ada, true);
    desk.say(ada, format!("PNG 9000 {}", "p".repeat(8_999)).repeat(20) + "nonsense");
    desk.pass(secs(100));
    desk.stall(ada, false);
    let heard = desk.heard(ada);
    assert_eq!(heard.matches("ACK 9000").count(), 20);
    assert!(heard.contains("pERR ") && heard.ends_with("BYE 0000"), "{}", &heard[180_000..]);
    assert!(desk.is_closed(ada));
}

#[test]
fn a_shutdown_refuses_new_sessions_and_requests_answers_repeats_and_says_bye_to_everybody() {
    let mut desk = Desk::open();
    let ada = desk.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    let (bob, silent) = (desk.connect_as("REG 0004 bob"), desk.connect());
    desk.say(ada, snd(2, "ada", "to myself"));
    desk.server.shutdown(desk.now);
    assert_eq!(desk.heard(bob), "BYE 0000");
    assert_eq!(desk.heard(silent), "BYE 0000");
    assert!(desk.is_closed(bob) && desk.is_closed(silent));
    assert_eq!(desk.heard(ada), "@2 BYE 0009 draining");
    assert_eq!(desk.say(ada, snd(2, "ada", "to myself")), "@2 ACK 0000", "a repeat is still answered");
    assert_eq!(desk.say(ada, snd(3, "ada", "more")), "@3 ERR 0019 503 Shutting down!");
    let late = desk.connect();
    assert_eq!(desk.heard(late), "BYE 0000");
    assert!(!desk.server.is_finished());
    assert_eq!(desk.say(ada, "ACK 0004 1-2"), "");
    assert!(desk.is_closed(ada), "it has acknowledged the goodbye");
    for conn in [ada, bob, silent, late] {
        desk.hang_up(conn);
    }
    assert!(desk.server.is_finished());
    assert_eq!(desk.totals().hub.undelivered, 0);
}

#[test]
fn a_shutdown_ends_in_time_also_when_somebody_does_not_read() {
    let mut desk = Desk::open();
    let ada = desk.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    let bob = desk.connect_as("REG 0004 bob");
    desk.stall(ada, true);
    desk.say(bob, "SND 0009 ada hello");
    desk.server.shutdown(desk.now);
    desk.pass(secs(9));
    assert!(desk.server.is_finished());
    assert_eq!(desk.totals().hub.undelivered, 1);
}

#[test]
fn a_client_acknowledges_what_it_has_before_it_says_bye_so_that_nothing_counts_as_undelivered() {
    let mut sim = quiet();
    let ada = sim.add_client(patient(Transport::Stream, "ada"));
    let bob = sim.add_client(patient(Transport::Stream, "bob"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    sim.client(ada).send(b"bob", b"hi");
    assert!(sim.run_until(secs(10), |sim| !messages(&sim.take_events(bob)).is_empty()));
    sim.client(bob).close();
    assert!(sim.run_until(secs(10), |sim| sim.client(bob).is_closed()));
    assert_eq!(sim.server().totals().hub.undelivered, 0);
    assert_eq!(sim.server().sessions(), 1);
}

#[test]
fn what_only_servers_say_does_nothing_from_a_client() {
    let mut desk = Desk::open();
    let (silent, ada) = (desk.connect(), desk.connect_as("REG 0004 ada"));
    for frame in
        ["RCV 0012 bob 0001 hi", "GAP 0002 1", "ERR 0004 401", "@1 ACK 0002 1", "@1 ERR 0004 401", "ACK 0000"]
    {
        assert_eq!(desk.say(silent, frame), "", "{frame}");
        assert_eq!(desk.say(ada, frame), "", "{frame}");
    }
    assert_eq!(desk.say(ada, "@1 LST 0000"), "@1 ACK 0004 ada");
    assert!(!desk.is_closed(silent) && !desk.is_closed(ada));
}

#[test]
fn a_target_is_found_by_its_name_and_not_by_what_looks_like_it() {
    let mut desk = Desk::open();
    desk.connect_as("REG 0006 scope");
    let other = desk.connect_as("REG 0003 ok");
    let look_alike = "\u{455}\u{441}\u{43e}\u{440}\u{435}";
    assert_eq!(desk.say(other, format!("SND 0014 {look_alike} hi")), "ERR 0016 No such client!");
}

#[test]
fn a_session_stays_of_its_kind() {
    let mut desk = Desk::open();
    let (a, ada) = (addr(1, 1), desk.connect());
    let stream = desk.say(ada, reg(1, "ada", &format!("?{}", nonce(1))))["@1 ACK 0023 ".len()..].to_owned();
    let answer = desk.datagram(a, reg(2, "ada", &stream));
    let cookie = answer[0].split(' ').nth(4).unwrap().to_owned();
    let resume = format!("~{cookie} {}", reg(2, "ada", &stream));
    assert_eq!(desk.datagram(a, resume), [format!("~{cookie} @2 ERR 0018 401 Session gone!")]);
    assert_eq!(desk.datagram(a, format!("~{stream} @3 BYE 0000")), [""; 0]);
    let datagrams = register(&mut desk, a, "bob", &nonce(2));
    let bob = desk.connect();
    assert_eq!(desk.say(bob, reg(2, "bob", &datagrams)), "@2 ERR 0018 401 Session gone!");
    assert_eq!(desk.say(ada, "@3 LST 0000"), "@3 ACK 0008 ada bob");
}

#[test]
fn the_longest_times_there_are_overflow_nothing() {
    let ten_years = sayagain::units::Seconds::MAX.as_duration();
    let mut config = ServerConfig {
        linger: ten_years,
        idle: ten_years,
        register_timeout: ten_years,
        frame_timeout: ten_years,
        max_message: usize::MAX,
        ..ServerConfig::default()
    };
    config.hub.push_timeouts = sayagain::reliable::PushTimeouts { first: ten_years, longest: ten_years };
    let mut desk = Desk::new(config);
    let a = addr(1, 1);
    let ada = desk.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    let bob = desk.connect_as("REG 0004 bob");
    assert_eq!(desk.say(bob, "SND +019 9999999999999999999 ada x"), "");
    let token = register(&mut desk, a, "cyd", &nonce(2));
    assert_eq!(desk.say(ada, "@2 SND 0007 cyd hi"), "@2 ACK 0000");
    assert_eq!(desk.datagrams_to(a), [format!("~{token} @1 RCV 0012 ada 0001 hi")]);
    desk.hang_up(ada);
    desk.pass(secs(1_000_000));
    assert_eq!(desk.server.sessions(), 3);
    let endless = doubling(ten_years, ten_years, 1_000).with_deadline(Some(ten_years));
    for transport in [Transport::Stream, Transport::Datagram] {
        let mut sim = quiet();
        let mut config = ClientConfig::new(transport, Some("ada"), endless.clone());
        config.keepalive = ten_years;
        let ada = sim.add_client(config);
        assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
        let ticket = sim.client(ada).send(b"ada", b"me");
        assert!(sim.run_until_idle(secs(10)));
        assert_eq!(outcomes(&sim.take_events(ada))[&ticket], Outcome::Acked(Vec::new()));
        let now = sim.now();
        sim.client(ada).abort(now, ten_years);
        assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_closed()));
    }
}

#[test]
fn unfinished_messages_count_against_the_memory_bound_and_who_goes_beyond_it_is_cut_off() {
    let hub = HubConfig { max_memory: 1 << 20, ..HubConfig::default() };
    let mut desk = Desk::new(ServerConfig { hub, ..ServerConfig::default() });
    let begin = format!("SND +006 900000 ada {}", "x".repeat(600_000));
    let [one, two, three] = ["one", "two", "six"].map(|name| desk.connect_as(&format!("REG 0004 {name}")));
    assert_eq!(desk.say(one, &begin), "");
    assert_eq!(
        desk.say(three, format!("SND +006 900000 ada {}", "x".repeat(60_000))),
        "",
        "a short beginning is kept"
    );
    assert_eq!(desk.say(two, &begin), "ERR 0043 no memory for a message of this length nowBYE 0000");
    desk.hang_up(two);
    desk.hang_up(one);
    assert_eq!(desk.say(three, "x".repeat(600_000)), "");
}
