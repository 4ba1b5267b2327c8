//! Hard cases on streams: the typed protocol, broken input, cuts, resume, deadlines, BYE.

use std::cell::Cell;
use std::rc::Rc;

use sayagain::client::{Closed, Event};
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::hub::HubConfig;
use sayagain::link::Direction;
use sayagain::reliable::{Backoff, Outcome};
use sayagain::service::Service;
use sayagain::sim::FilterAction;

use crate::harness::{ServerHarness, addr, nonce, reg, register, snd};
use crate::support::{doubling, losing, messages, ms, outcomes, quiet, secs, with_many_retries, with_server};

#[test]
fn the_protocol_of_asio_chatserver_byte_for_byte() {
    let mut harness = ServerHarness::open();
    let (one, two) = (harness.connect(), harness.connect());
    assert_eq!(harness.say(one, "REG 0007 TEST01"), "");
    assert_eq!(harness.say(two, "REG 0007 TEST02"), "");
    assert_eq!(harness.say(two, "SND 0017 TEST01 Heyyyooo!"), "");
    assert_eq!(harness.heard(one), "RCV 0022 TEST02 0001 Heyyyooo!");
    assert_eq!(harness.say(one, "SND 0029 TEST02 Hey there my friend!!"), "");
    assert_eq!(harness.heard(two), "RCV 0034 TEST01 0004 Hey there my friend!!");
    assert_eq!(harness.say(one, "SND 0013 TEST03 Hello"), "ERR 0016 No such client!");
    assert_eq!(harness.say(one, "BYE 0000"), "");
    assert!(harness.is_closed(one));
    assert_eq!(harness.say(two, "SND 0013 TEST01 Hello"), "ERR 0016 No such client!");
}

#[test]
fn frames_may_be_split_and_joined_anywhere() {
    let script = "REG 0007 TEST02\r\nSND 0017 TEST01 Heyyyooo!SND 0013 TEST01 again\nPNG 0003 hi";
    for at in 0..=script.len() {
        let mut harness = ServerHarness::open();
        let (one, two) = (harness.connect_as("REG 0007 TEST01"), harness.connect());
        let first = harness.say(two, &script[..at]);
        let second = harness.say(two, &script[at..]);
        assert_eq!(first + &second, "ACK 0003 hi", "split at {at}");
        assert_eq!(
            harness.heard(one),
            "RCV 0022 TEST02 0001 Heyyyooo!RCV 0018 TEST02 0001 again",
            "split at {at}"
        );
    }
}

#[test]
fn a_malformed_head_breaks_the_stream_at_the_wrong_byte() {
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
        let mut harness = ServerHarness::open();
        let (conn, other) = (harness.connect(), harness.connect_as("REG 0004 bob"));
        let heard = harness.say(conn, bytes);
        let (error, bye) = heard.split_at(heard.len().saturating_sub(8));
        assert!(error.starts_with("ERR ") && error.contains(part), "{bytes:?}: {heard}");
        assert_eq!(bye, "BYE 0000", "{bytes:?}");
        assert!(harness.is_closed(conn));
        assert_eq!(harness.say(conn, "PNG 0000"), "", "nothing behind it is looked at");
        assert_eq!(harness.say(other, "LST 0000"), "ACK 0004 bob", "other clients are not affected");
    }
}

#[test]
fn an_invalid_request_is_refused_and_the_connection_stays() {
    let mut harness = ServerHarness::open();
    let conn = harness.connect();
    assert_eq!(harness.say(conn, "SND 0013 TEST01 Hello"), "ERR 0016 Register first!");
    assert_eq!(harness.say(conn, "@1 LST 0000"), "@1 ERR 0020 401 Register first!");
    assert_eq!(harness.say(conn, "@2 XYZ 0000"), "@2 ERR 0018 400 Unknown verb!");
    assert_eq!(harness.say(conn, "REG 0004 a#b"), "ERR 0023 Name not allowed here!");
    assert_eq!(harness.say(conn, "REG 0008 \u{1b}[2Jabc"), "ERR 0023 Name not allowed here!");
    assert_eq!(harness.say(conn, b"REG 0003 \xff\xfe"), "ERR 0023 Name not allowed here!");
    assert_eq!(harness.say(conn, "REG 0000"), "ERR 0019 Malformed request!");
    assert_eq!(harness.say(conn, "REG 0004 ada"), "");
    assert_eq!(harness.say(conn, "REG 0004 bob"), "ERR 0020 Already registered!");
    assert_eq!(harness.say(conn, "@9 REG 0004 bob"), "@9 ERR 0024 409 Already registered!");
    assert_eq!(harness.say(conn, "SND 0004 ada"), "ERR 0019 Malformed request!");
    assert_eq!(harness.say(conn, "JON 0006 lobby"), "ERR 0017 Not a room name!");
    assert_eq!(harness.say(conn, "LEV 0007 #lobby"), "ERR 0014 No such room!");
    assert_eq!(harness.say(conn, "PNG 0005 here"), "ACK 0005 here");
    assert!(!harness.is_closed(conn));
}

#[test]
fn a_name_in_use_is_refused_also_in_capitals_and_to_look_alikes() {
    let mut harness = ServerHarness::open();
    harness.connect_as("REG 0006 scope");
    let other = harness.connect();
    assert_eq!(harness.say(other, "REG 0006 SCOPE"), "ERR 0012 Name taken!");
    assert_eq!(harness.say(other, "REG 0011 \u{455}\u{441}\u{43e}\u{440}\u{435}"), "ERR 0012 Name taken!");
    assert_eq!(harness.say(other, "REG 0003 ok"), "");
    assert_eq!(harness.say(other, "SND 0009 SCOPE hi"), "", "found by any case");
}

#[test]
fn bye_then_more_executes_nothing_more() {
    let mut harness = ServerHarness::open();
    let (ada, bob) = (harness.connect_as("REG 0004 ada"), harness.connect_as("REG 0004 bob"));
    assert_eq!(harness.say(ada, "BYE 0000SND 0007 bob hi"), "");
    assert_eq!(harness.heard(bob), "");
    assert!(harness.is_closed(ada));
    assert_eq!(
        harness.say(bob, "@5 BYE 0000"),
        "@5 ACK 0000",
        "an untagged session may end with a tagged request"
    );
    assert_eq!(harness.server.sessions(), 0);
}

#[test]
fn half_a_frame_and_then_the_end_executes_nothing() {
    let mut harness = ServerHarness::open();
    let (ada, bob) = (harness.connect_as("REG 0004 ada"), harness.connect_as("REG 0004 bob"));
    harness.say(ada, "SND 0012 bob hi th");
    harness.hang_up(ada);
    assert_eq!(harness.heard(bob), "");
    assert_eq!(harness.server.sessions(), 1, "an untagged session ends with its connection");
}

#[test]
fn untagged_sessions_get_nothing_over_9999_bytes() {
    let mut harness = ServerHarness::open();
    let (old, new) =
        (harness.connect_as("REG 0004 old"), harness.connect_as(&reg(1, "new", &format!("?{}", nonce(1)))));
    let body = "x".repeat(9_995);
    assert_eq!(harness.say(old, format!("SND +005 10000 new {body}")), "");
    assert!(harness.heard(new).starts_with("@1 RCV +005 10005 old 0001 xxx"));
    assert_eq!(harness.say(new, format!("@2 SND +005 10000 old {body}")), "@2 ERR 0014 413 Too long!");
    for (conn, join) in [(old, "JON 0003 #r"), (new, "@3 JON 0003 #r")] {
        harness.say(conn, join);
    }
    assert_eq!(harness.say(new, format!("@4 SND 9998 #r {}", "y".repeat(9_994))), "@4 ACK 0000");
    assert_eq!(harness.heard(old), "RCV 0028 * 0004 you missed 1 message");
}

#[test]
fn a_tagged_request_in_an_untagged_session_is_answered_and_deduplicated() {
    let mut harness = ServerHarness::open();
    let (ada, bob) = (harness.connect_as("REG 0004 ada"), harness.connect_as("REG 0004 bob"));
    for _ in 0..3 {
        assert_eq!(harness.say(ada, snd(7, "bob", "once")), "@7 ACK 0000");
    }
    assert_eq!(harness.heard(bob), "RCV 0014 ada 0001 once");
    assert_eq!(harness.totals().repeats, 2);
}

/// Three clients: ada sends 60 messages to bob, and `cut_when` decides which write cuts a connection.
fn cut_story(cut_when: impl Fn(Direction, &str) -> bool + 'static, whose: usize) {
    cut_story_of(with_many_retries(Transport::Stream, "ada"), cut_when, whose);
}

fn cut_story_of(config: ClientConfig, cut_when: impl Fn(Direction, &str) -> bool + 'static, whose: usize) {
    let mut sim = quiet();
    let ada = sim.add_client(config);
    let bob = sim.add_client(with_many_retries(Transport::Stream, "bob"));
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
    // A cut may lose the answer to a resume.
    assert!((1..=cuts.get()).contains(&[resumed(&events), resumed(&at_bob)][whose]), "{} cuts", cuts.get());
    assert_eq!(sim.server().totals().hub.sessions, 2);
}

#[test]
fn a_tcp_cut_before_an_answer_neither_loses_nor_duplicates_a_request() {
    cut_story(|direction, text| direction == Direction::Up && text.contains("SND") && text.ends_with('7'), 0);
}

#[test]
fn a_tcp_cut_neither_loses_nor_duplicates_a_request_with_a_policy_of_one_send() {
    let once = ClientConfig::new(Transport::Stream, Some("ada"), Backoff::new(secs(1)).with_max_sends(1));
    cut_story_of(
        once,
        |direction, text| direction == Direction::Up && text.contains("SND") && text.ends_with('7'),
        0,
    );
}

#[test]
fn a_client_that_is_cut_off_at_every_request_gives_up() {
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
fn a_tcp_cut_within_an_answer_neither_loses_nor_duplicates_a_request() {
    cut_story(
        |direction, text| direction == Direction::Down && text.contains("ACK 0000") && text.contains('5'),
        0,
    );
}

#[test]
fn a_tcp_cut_among_pushes_repeats_only_unacknowledged_ones() {
    cut_story(
        |direction, text| direction == Direction::Down && text.contains("RCV") && text.ends_with(['4', '9']),
        1,
    );
}

#[test]
fn a_tcp_cut_before_the_acknowledgement_of_pushes_delivers_none_of_them_twice() {
    cut_story(|direction, text| direction == Direction::Up && text.starts_with("ACK"), 1);
}

#[test]
fn a_tcp_cut_before_the_answer_to_reg_opens_one_session() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Stream, "ada"));
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
    let mut harness = ServerHarness::open();
    let ada = harness.connect();
    let token = harness.say(ada, reg(1, "ada", &format!("?{}", nonce(1))))["@1 ACK 0023 ".len()..].to_owned();
    harness.say(ada, "@2 JON 0003 #r");
    let bob = harness.connect_as("REG 0004 bob");
    harness.hang_up(ada);
    harness.pass(secs(29));
    assert_eq!(harness.say(bob, "REG 0004 adaLST 0000"), "ERR 0020 Already registered!ACK 0008 ada bob");
    assert_eq!(harness.say(bob, "SND 0015 ada you there?"), "");
    let again = harness.connect();
    assert_eq!(
        harness.say(again, reg(3, "ada", &token)),
        format!("@3 ACK 0023 {token}@1 RCV 0020 bob 0002 you there?")
    );
    harness.hang_up(again);
    harness.pass(secs(31));
    assert_eq!(harness.say(bob, "LST 0000"), "ACK 0004 bob");
    assert_eq!(harness.totals().hub.undelivered, 1, "unacknowledged pushes are counted");
    let late = harness.connect();
    assert_eq!(harness.say(late, reg(4, "ada", &token)), "@4 ERR 0018 401 Session gone!");
}

#[test]
fn a_resume_closes_the_older_connection_which_does_not_reconnect() {
    let mut harness = ServerHarness::open();
    let ada = harness.connect();
    let token = harness.say(ada, reg(1, "ada", &format!("?{}", nonce(1))))["@1 ACK 0023 ".len()..].to_owned();
    let thief = harness.connect();
    assert!(harness.say(thief, reg(2, "ada", &token)).starts_with("@2 ACK 0023 "));
    assert_eq!(harness.heard(ada), "ERR 0023 409 taken up elsewhereBYE 0010 elsewhere");
    assert!(harness.is_closed(ada));
    harness.hang_up(ada);
    assert_eq!(
        harness.say(thief, "@3 LST 0000"),
        "@3 ACK 0004 ada",
        "the older connection's end ends nothing"
    );
    // A copy of that REG on a third connection does not move the session.
    let third = harness.connect();
    assert!(harness.say(third, reg(2, "ada", &token)).starts_with("@2 ACK 0023 "));
    assert!(!harness.is_closed(thief));
    assert_eq!(harness.say(third, "@4 LST 0000"), "@4 ERR 0020 401 Register first!");
}

#[test]
fn the_client_ends_when_its_session_is_resumed_elsewhere() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Stream, "ada"));
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
    let ada = sim.add_client(with_many_retries(Transport::Stream, "ada"));
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
fn on_a_stream_only_tagged_requests_and_their_answers_are_lost_and_retries_recover_them() {
    let half = losing(0.5);
    let mut sim = with_server(ServerConfig {
        link_in: half.clone(),
        link_out: half,
        seed: 5,
        ..ServerConfig::default()
    });
    let ada = sim.add_client(with_many_retries(Transport::Stream, "ada"));
    let bob = sim.add_client(with_many_retries(Transport::Stream, "bob"));
    assert!(sim.run_until(secs(600), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    let tickets: Vec<_> = (0..200).map(|n| sim.client(ada).send(b"bob", format!("{n}").as_bytes())).collect();
    assert!(sim.run_until_idle(secs(3_600)));
    let outcomes = outcomes(&sim.take_events(ada));
    assert!(tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())));
    assert_eq!(messages(&sim.take_events(bob)), (0..200).map(|n| format!("ada> {n}")).collect::<Vec<_>>());
    let totals = sim.server().totals();
    let share = totals.loss_in.dropped as f64 / totals.loss_in.seen as f64;
    assert!(totals.loss_in.seen > 300 && (0.4..0.6).contains(&share), "{totals}");
    let mut harness = ServerHarness::new(ServerConfig { link_in: losing(1.0), ..ServerConfig::default() });
    let untagged = harness.connect();
    assert_eq!(
        harness.say(untagged, "PNG 0003 hi"),
        "ACK 0003 hi",
        "untagged frames are never lost on a stream"
    );
    assert_eq!(harness.say(untagged, "@1 PNG 0003 hi"), "");
}

#[test]
fn an_unfinished_frame_and_an_unregistered_connection_are_closed_at_their_deadlines() {
    let mut harness = ServerHarness::open();
    let (slow, silent) = (harness.connect_as("REG 0004 ada"), harness.connect());
    harness.say(slow, "SND 0100 ada");
    for _ in 0..9 {
        harness.pass(secs(1));
        harness.say(slow, "x");
    }
    assert!(!harness.is_closed(slow), "ten seconds for a frame, however slowly it comes");
    harness.pass(secs(1));
    assert_eq!(harness.heard(slow), "ERR 0027 frame not finished in timeBYE 0000");
    harness.pass(secs(49));
    assert!(!harness.is_closed(silent));
    harness.pass(secs(1));
    assert_eq!(harness.heard(silent), "ERR 0023 not registered in timeBYE 0000");
}

#[test]
fn a_large_frame_has_one_more_second_per_64_kib() {
    let mut harness = ServerHarness::open();
    let conn = harness.connect_as("REG 0004 ada");
    harness.say(conn, "SND +007 1048576 ada ");
    harness.pass(secs(25));
    assert!(!harness.is_closed(conn));
    harness.pass(secs(1));
    assert!(harness.is_closed(conn), "10 s and 16 times 64 KiB");
}

#[test]
fn reading_from_a_stream_with_unread_answers_is_paused_and_its_deadline_stops() {
    let mut harness = ServerHarness::open();
    let conn = harness.connect_as("REG 0004 ada");
    harness.stall(conn, true);
    let flood = format!("PNG 9000 {}", "p".repeat(8_999)).repeat(10);
    harness.say(conn, flood + "SND 0099 ada");
    harness.pass(secs(60));
    assert!(!harness.is_closed(conn), "the server itself is not reading");
    harness.stall(conn, false);
    assert_eq!(harness.heard(conn).len(), 90_080);
    harness.pass(secs(11));
    assert!(harness.is_closed(conn));
}

#[test]
fn the_requests_of_one_batch_are_answered_only_as_far_as_the_peer_reads() {
    let mut harness = ServerHarness::open();
    for n in 0..300 {
        let conn = harness.connect();
        assert_eq!(harness.say(conn, format!("REG 0033 a-name-as-long-as-they-get-in{n:03}")), "");
    }
    let (ada, bob) = (harness.connect_as("REG 0004 ada"), harness.connect_as("REG 0004 bob"));
    harness.stall(ada, true);
    harness.say(ada, "LST 0000".repeat(1_000) + "SND 0006 bob 1" + "BYE 0000" + "SND 0006 bob 2");
    assert_eq!(harness.heard(bob), "", "ten megabytes of answers are ahead of it");
    harness.stall(ada, false);
    // Each name in a list counts as work: the lists are made in several work budgets.
    harness.pass(ms(1));
    assert_eq!(harness.heard(ada).matches("ACK 99").count(), 1_000);
    assert_eq!(harness.heard(bob), "RCV 0011 ada 0001 1", "and then it arrives, and nothing after BYE");
    assert!(harness.is_closed(ada));
}

#[test]
fn a_stream_that_breaks_after_many_requests_gets_their_answers_first() {
    let mut harness = ServerHarness::open();
    let ada = harness.connect_as("REG 0004 ada");
    harness.stall(ada, true);
    harness.say(ada, format!("PNG 9000 {}", "p".repeat(8_999)).repeat(20) + "nonsense");
    harness.pass(secs(100));
    harness.stall(ada, false);
    let heard = harness.heard(ada);
    assert_eq!(heard.matches("ACK 9000").count(), 20);
    assert!(heard.contains("pERR ") && heard.ends_with("BYE 0000"), "{}", &heard[180_000..]);
    assert!(harness.is_closed(ada));
}

#[test]
fn a_shutdown_refuses_new_sessions_and_requests_answers_repeats_and_sends_bye_to_all() {
    let mut harness = ServerHarness::open();
    let ada = harness.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    let (bob, silent) = (harness.connect_as("REG 0004 bob"), harness.connect());
    harness.say(ada, snd(2, "ada", "to myself"));
    harness.server.shutdown(harness.now);
    assert_eq!(harness.heard(bob), "BYE 0000");
    assert_eq!(harness.heard(silent), "BYE 0000");
    assert!(harness.is_closed(bob) && harness.is_closed(silent));
    assert_eq!(harness.heard(ada), "@2 BYE 0009 draining");
    assert_eq!(harness.say(ada, snd(2, "ada", "to myself")), "@2 ACK 0000", "a repeat is still answered");
    assert_eq!(harness.say(ada, snd(3, "ada", "more")), "@3 ERR 0019 503 Shutting down!");
    let late = harness.connect();
    assert_eq!(harness.heard(late), "BYE 0000");
    assert!(!harness.server.is_finished());
    assert_eq!(harness.say(ada, "ACK 0004 1-2"), "");
    assert!(harness.is_closed(ada), "it has acknowledged the BYE");
    for conn in [ada, bob, silent, late] {
        harness.hang_up(conn);
    }
    assert!(harness.server.is_finished());
    assert_eq!(harness.totals().hub.undelivered, 0);
}

#[test]
fn a_shutdown_ends_in_time_also_when_a_client_does_not_read() {
    let mut harness = ServerHarness::open();
    let ada = harness.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    let bob = harness.connect_as("REG 0004 bob");
    harness.stall(ada, true);
    harness.say(bob, "SND 0009 ada hello");
    harness.server.shutdown(harness.now);
    harness.pass(secs(9));
    assert!(harness.server.is_finished());
    assert_eq!(harness.totals().hub.undelivered, 1);
}

#[test]
fn a_client_acknowledges_all_pushes_before_its_bye_so_that_none_counts_as_undelivered() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Stream, "ada"));
    let bob = sim.add_client(with_many_retries(Transport::Stream, "bob"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    sim.client(ada).send(b"bob", b"hi");
    assert!(sim.run_until(secs(10), |sim| !messages(&sim.take_events(bob)).is_empty()));
    sim.client(bob).close();
    assert!(sim.run_until(secs(10), |sim| sim.client(bob).is_closed()));
    assert_eq!(sim.server().totals().hub.undelivered, 0);
    assert_eq!(sim.server().sessions(), 1);
}

#[test]
fn verbs_of_the_server_are_ignored_from_a_client() {
    let mut harness = ServerHarness::open();
    let (silent, ada) = (harness.connect(), harness.connect_as("REG 0004 ada"));
    for frame in
        ["RCV 0012 bob 0001 hi", "GAP 0002 1", "ERR 0004 401", "@1 ACK 0002 1", "@1 ERR 0004 401", "ACK 0000"]
    {
        assert_eq!(harness.say(silent, frame), "", "{frame}");
        assert_eq!(harness.say(ada, frame), "", "{frame}");
    }
    assert_eq!(harness.say(ada, "@1 LST 0000"), "@1 ACK 0004 ada");
    assert!(!harness.is_closed(silent) && !harness.is_closed(ada));
}

#[test]
fn a_target_is_found_by_its_name_and_not_by_a_look_alike() {
    let mut harness = ServerHarness::open();
    harness.connect_as("REG 0006 scope");
    let other = harness.connect_as("REG 0003 ok");
    let look_alike = "\u{455}\u{441}\u{43e}\u{440}\u{435}";
    assert_eq!(harness.say(other, format!("SND 0014 {look_alike} hi")), "ERR 0016 No such client!");
}

#[test]
fn a_session_keeps_its_kind_of_transport() {
    let mut harness = ServerHarness::open();
    let (a, ada) = (addr(1, 1), harness.connect());
    let stream =
        harness.say(ada, reg(1, "ada", &format!("?{}", nonce(1))))["@1 ACK 0023 ".len()..].to_owned();
    let answer = harness.datagram(a, reg(2, "ada", &stream));
    let cookie = answer[0].split(' ').nth(4).unwrap().to_owned();
    let resume = format!("~{cookie} {}", reg(2, "ada", &stream));
    assert_eq!(harness.datagram(a, resume), [format!("~{cookie} @2 ERR 0018 401 Session gone!")]);
    assert_eq!(harness.datagram(a, format!("~{stream} @3 BYE 0000")), [""; 0]);
    let datagrams = register(&mut harness, a, "bob", &nonce(2));
    let bob = harness.connect();
    assert_eq!(harness.say(bob, reg(2, "bob", &datagrams)), "@2 ERR 0018 401 Session gone!");
    assert_eq!(harness.say(ada, "@3 LST 0000"), "@3 ACK 0008 ada bob");
}

#[test]
fn the_longest_allowed_times_do_not_overflow() {
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
    let mut harness = ServerHarness::new(config);
    let a = addr(1, 1);
    let ada = harness.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    let bob = harness.connect_as("REG 0004 bob");
    assert_eq!(harness.say(bob, "SND +019 9999999999999999999 ada x"), "");
    let token = register(&mut harness, a, "cyd", &nonce(2));
    assert_eq!(harness.say(ada, "@2 SND 0007 cyd hi"), "@2 ACK 0000");
    assert_eq!(harness.datagrams_to(a), [format!("~{token} @1 RCV 0012 ada 0001 hi")]);
    harness.hang_up(ada);
    harness.pass(secs(1_000_000));
    assert_eq!(harness.server.sessions(), 3);
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
fn unfinished_messages_count_against_the_memory_bound_and_a_connection_beyond_it_is_closed() {
    let hub = HubConfig { max_memory: 1 << 20, ..HubConfig::default() };
    let mut harness = ServerHarness::new(ServerConfig { hub, ..ServerConfig::default() });
    let begin = format!("SND +006 900000 ada {}", "x".repeat(600_000));
    let [one, two, three] = ["one", "two", "six"].map(|name| harness.connect_as(&format!("REG 0004 {name}")));
    assert_eq!(harness.say(one, &begin), "");
    assert_eq!(
        harness.say(three, format!("SND +006 900000 ada {}", "x".repeat(60_000))),
        "",
        "a short beginning is kept"
    );
    assert_eq!(harness.say(two, &begin), "ERR 0043 no memory for a message of this length nowBYE 0000");
    harness.hang_up(two);
    harness.hang_up(one);
    assert_eq!(harness.say(three, "x".repeat(600_000)), "");
}
