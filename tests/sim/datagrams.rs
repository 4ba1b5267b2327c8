//! Hard cases over datagrams: registrations that are lost, duplicated or late, moves, spoofing, and requests to ended
//! sessions.

use sayagain::client::{Closed, Event};
use sayagain::config::{ServerConfig, Transport};
use sayagain::link::Direction;
use sayagain::reliable::Outcome;
use sayagain::sim::{ClientId, FilterAction, Sim};

use crate::harness::{ServerHarness, addr, cookie, local, nonce, reg, register, snd};
use crate::support::{messages, ms, outcomes, quiet, secs, with_many_retries};

#[test]
fn a_lost_reg_is_retransmitted_until_it_is_answered_and_opens_one_session() {
    let mut sim = quiet();
    let mut dropped = 0;
    sim.set_filter(Box::new(move |_, _, bytes| {
        let is_reg = bytes.windows(4).any(|w| w == b"REG ") || bytes.windows(4).any(|w| w == b"ACK ");
        dropped += u32::from(is_reg);
        // Drops the first two challenges, and the first two answers that open the session.
        if is_reg && dropped <= 4 { FilterAction::Drop } else { FilterAction::Pass }
    }));
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    assert!(sim.run_until(secs(60), |sim| sim.client(ada).is_ready()));
    assert_eq!(sim.server().totals().hub.sessions, 1);
}

#[test]
fn a_duplicate_reg_gets_the_same_token_and_resets_nothing() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let cookie = cookie(&mut harness, a, "ada", &nonce(1));
    let datagram = format!("~{cookie} {}", reg(1, "ada", &format!("?{}", nonce(1))));
    let first = harness.datagram(a, &datagram);
    let token = first[0][first[0].len() - 22..].to_owned();
    assert_eq!(harness.datagram(a, format!("~{token} @2 JON 0003 #r")), [format!("~{token} @2 ACK 0000")]);
    assert_eq!(harness.datagram(a, &datagram), first, "the copy");
    assert_eq!(
        harness.datagram(a, format!("~{token} @3 LST 0003 #r")),
        [format!("~{token} @3 ACK 0004 ada")]
    );
    assert_eq!(harness.totals().hub.sessions, 1);
}

#[test]
fn a_late_copy_of_reg_after_bye_opens_no_session() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let cookie = cookie(&mut harness, a, "ada", &nonce(1));
    let datagram = format!("~{cookie} {}", reg(1, "ada", &format!("?{}", nonce(1))));
    let first = harness.datagram(a, &datagram);
    let token = first[0][first[0].len() - 22..].to_owned();
    assert_eq!(harness.datagram(a, format!("~{token} @2 BYE 0000")), [format!("~{token} @2 ACK 0000")]);
    assert_eq!(harness.datagram(a, &datagram), [format!("~{cookie} @1 ERR 0018 401 Session gone!")]);
    assert_eq!(harness.server.sessions(), 0, "the copy of an old REG must not take the name again");
    // When the nonce is forgotten, all its cookies have expired.
    harness.pass(secs(61));
    let answer = harness.datagram(a, &datagram);
    assert!(answer[0].contains("ERR 0050 428 "), "{answer:?}");
    assert_eq!(harness.server.sessions(), 0);
    // The name itself is free at once, for another nonce.
    register(&mut harness, addr(2, 1), "ada", &nonce(2));
}

#[test]
fn a_cookie_is_valid_in_its_slot_and_the_next_for_its_address_name_and_nonce_only() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let good = cookie(&mut harness, a, "ada", &nonce(1));
    let behind =
        |cookie: &str, name: &str, n: u8| format!("~{cookie} {}", reg(1, name, &format!("?{}", nonce(n))));
    for (from, name, n) in [(addr(1, 2), "ada", 1), (addr(2, 1), "ada", 1), (a, "eve", 1), (a, "ada", 2)] {
        let answer = harness.datagram(from, behind(&good, name, n));
        assert!(answer[0].starts_with(&format!("~{good} @1 ERR 0050 428 ")), "{answer:?}");
    }
    assert_eq!(harness.server.sessions(), 0);
    harness.pass(secs(59));
    assert!(harness.datagram(a, behind(&good, "ada", 1))[0].contains(" ACK 0023 "));
    harness.pass(secs(2));
    assert!(harness.datagram(a, behind(&good, "bob", 1))[0].contains(" 428 "));
}

#[test]
fn a_client_whose_port_changes_during_a_request_keeps_its_session() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    let bob = sim.add_client(with_many_retries(Transport::Datagram, "bob"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    let tickets: Vec<_> = (0..10).map(|n| sim.client(ada).send(b"bob", format!("{n}").as_bytes())).collect();
    sim.set_filter(Box::new(|direction, _, bytes| {
        // The answer to the third message is lost with the old port.
        if direction == Direction::Down && bytes.ends_with(b"@4 ACK 0000") {
            FilterAction::Drop
        } else {
            FilterAction::Pass
        }
    }));
    sim.run_for(ms(50));
    sim.move_client(ada);
    sim.set_filter(Box::new(|_, _, _| FilterAction::Pass));
    assert!(sim.run_until_idle(secs(60)));
    let outcomes = outcomes(&sim.take_events(ada));
    assert!(tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())), "{outcomes:?}");
    let expected: Vec<String> = (0..10).map(|n| format!("ada> {n}")).collect();
    assert_eq!(messages(&sim.take_events(bob)), expected);
    assert_eq!(sim.server().totals().hub.sessions, 2);
    // In the other direction, pushes go to the new address after the client's first datagram from it.
    sim.client(bob).send(b"ada", b"still there?");
    assert!(sim.run_until_idle(secs(60)));
    assert_eq!(messages(&sim.take_events(ada)), ["bob> still there?"]);
}

#[test]
fn a_known_token_from_another_address_executes_nothing_not_even_a_ping() {
    let mut harness = ServerHarness::open();
    let (home, away) = (addr(1, 1), addr(1, 2));
    let token = register(&mut harness, home, "ada", &nonce(1));
    for frame in ["@2 PNG 0000", "@2 JON 0003 #r", "@2 BYE 0000"] {
        let answer = harness.datagram(away, format!("~{token} {frame}"));
        assert!(answer[0].starts_with(&format!("~{token} ERR 0027 428 ")), "{answer:?}");
        assert_eq!(answer.len(), 1);
    }
    let answer = harness.datagram(away, format!("~{token} ACK 0002 1@2 BYE 0000"));
    assert!(answer.len() == 1 && answer[0].starts_with(&format!("~{token} ERR 0027 428 ")), "{answer:?}");
    assert_eq!(
        harness.datagram(home, format!("~{token} @2 LST 0000")),
        [format!("~{token} @2 ACK 0004 ada")]
    );
}

/// The cookie that a known token gets from another address.
fn cookie_to_move(harness: &mut ServerHarness, away: std::net::SocketAddr, token: &str) -> String {
    let answer = harness.datagram(away, format!("~{token} @9 PNG 0000"));
    answer[0].strip_prefix(&format!("~{token} ERR 0027 428 ")).unwrap().to_owned()
}

#[test]
fn a_duplicate_resume_moves_a_session_once_and_a_late_one_does_not_move_it() {
    let mut harness = ServerHarness::open();
    let (home, away) = (addr(1, 1), addr(1, 2));
    let token = register(&mut harness, home, "ada", &nonce(1));
    let to_away = cookie_to_move(&mut harness, away, &token);
    let resume = format!("~{to_away} {}", reg(2, "ada", &token));
    let granted = [format!("~{to_away} @2 ACK 0023 {token}")];
    assert_eq!(harness.datagram(away, &resume), granted);
    assert_eq!(harness.datagram(away, &resume), granted, "doubled");
    // The client moves back before a late copy of that REG arrives.
    let to_home = cookie_to_move(&mut harness, home, &token);
    let back = format!("~{to_home} {}", reg(3, "ada", &token));
    assert_eq!(harness.datagram(home, back), [format!("~{to_home} @3 ACK 0023 {token}")]);
    assert_eq!(harness.datagram(away, &resume), granted, "late: answered only");
    assert_eq!(harness.datagram(home, format!("~{token} @4 PNG 0000")), [format!("~{token} @4 ACK 0000")]);
}

#[test]
fn a_lost_resume_is_retransmitted_until_the_session_has_moved() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.move_client(ada);
    let mut regs = 0;
    sim.set_filter(Box::new(move |direction, _, bytes| {
        let is_reg = direction == Direction::Up && bytes.windows(4).any(|w| w == b"REG ");
        regs += u32::from(is_reg);
        if is_reg && regs <= 3 { FilterAction::Drop } else { FilterAction::Pass }
    }));
    let ticket = sim.client(ada).send(b"ada", b"me");
    assert!(sim.run_until_idle(secs(60)));
    let events = sim.take_events(ada);
    assert_eq!(outcomes(&events)[&ticket], Outcome::Acked(Vec::new()));
    assert!(events.contains(&Event::Registered { resumed: true }));
    assert_eq!(messages(&events), ["ada> me"]);
}

#[test]
fn a_host_without_the_token_can_neither_acknowledge_nor_end_nor_feed_a_client() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.set_filter(Box::new(|_, _, _| FilterAction::Drop));
    let ticket = sim.client(ada).send(b"ada", b"hello");
    sim.run_for(ms(50));
    let wrong = nonce(9);
    for frame in [
        "@2 ACK 0000",
        "@2 ERR 0020 404 No such client!",
        "BYE 0000",
        "@1 BYE 0000",
        "ERR 0004 401",
        "RCV 0014 eve 0001 mail",
        "@1 RCV 0014 eve 0001 mail",
        "ERR 0023 409 taken up elsewhere",
    ] {
        sim.inject_to_client(ada, frame.as_bytes());
        sim.inject_to_client(ada, format!("~{wrong} {frame}").as_bytes());
    }
    sim.run_for(ms(10));
    let events = sim.take_events(ada);
    assert!(outcomes(&events).is_empty() && messages(&events).is_empty(), "{events:?}");
    assert!(!sim.client(ada).is_closed());
    assert_eq!(sim.client(ada).stats().stray, 16);
    sim.set_filter(Box::new(|_, _, _| FilterAction::Pass));
    assert_eq!(
        outcomes(&crate::support::events_when_idle(&mut sim, ada))[&ticket],
        Outcome::Acked(Vec::new())
    );
}

#[test]
fn a_host_without_the_token_can_neither_acknowledge_nor_end_a_session_at_the_server() {
    let mut harness = ServerHarness::open();
    let (a, b) = (addr(1, 1), addr(2, 1));
    let ada = register(&mut harness, a, "ada", &nonce(1));
    let bob = register(&mut harness, b, "bob", &nonce(2));
    assert_eq!(
        harness.datagram(a, format!("~{ada} {}", snd(2, "bob", "hi"))),
        [format!("~{ada} @2 ACK 0000")]
    );
    let push = [format!("~{bob} @1 RCV 0012 ada 0001 hi")];
    assert_eq!(harness.datagrams_to(b), push);
    // From the right address, but without the token or with another token.
    let wrong = nonce(9);
    assert_eq!(harness.datagram(b, "ACK 0002 1"), [""; 0]);
    assert_eq!(harness.datagram(b, format!("~{wrong} ACK 0002 1")), [""; 0]);
    assert_eq!(harness.datagram(b, "BYE 0000"), ["ERR 0016 Register first!"]);
    assert_eq!(harness.datagram(b, format!("~{wrong} @3 BYE 0000")), [format!("~{wrong} ERR 0004 401")]);
    harness.pass(ms(100));
    assert_eq!(harness.datagrams_to(b), push, "still unacknowledged, so repeated");
    assert_eq!(harness.datagram(b, format!("~{bob} ACK 0002 1")), [""; 0]);
    harness.pass(secs(10));
    assert_eq!(harness.datagrams_to(b), [""; 0]);
    assert_eq!(harness.server.sessions(), 2);
}

#[test]
fn a_401_is_accepted_for_the_present_token_only_and_then_a_new_session_is_opened() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.client(ada).join(b"#r");
    assert!(sim.run_until_idle(secs(10)));
    // The path is down for longer than the idle time of a session.
    sim.set_filter(Box::new(|_, _, _| FilterAction::Drop));
    sim.run_for(secs(89));
    let lost = sim.client(ada).send(b"ada", b"into the dark");
    sim.run_for(secs(2));
    sim.set_filter(Box::new(|_, _, _| FilterAction::Pass));
    assert!(sim.run_until_idle(secs(120)));
    let events = sim.take_events(ada);
    assert_eq!(outcomes(&events)[&lost], Outcome::Unknown, "a request of an ended session is unknown");
    assert!(events.contains(&Event::SessionLost));
    assert_eq!(sim.server().totals().hub.sessions, 2);
    let found = sim.client(ada).send(b"#r", b"in the room again");
    assert_eq!(
        outcomes(&crate::support::events_when_idle(&mut sim, ada))[&found],
        Outcome::Acked(Vec::new())
    );
}

/// A client that has received a message.
fn with_a_reader() -> (Sim, ClientId) {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.client(ada).send(b"ada", b"me");
    assert!(sim.run_until_idle(secs(10)));
    sim.take_events(ada);
    (sim, ada)
}

#[test]
fn a_bye_with_an_acknowledgement_ends_with_its_repeat_when_its_answer_is_lost() {
    let (mut sim, ada) = with_a_reader();
    let mut answers = 0;
    sim.set_filter(Box::new(move |direction, _, _| {
        answers += u32::from(direction == Direction::Down);
        if direction == Direction::Down && answers == 1 { FilterAction::Drop } else { FilterAction::Pass }
    }));
    let begun = sim.now();
    sim.client(ada).close();
    assert!(sim.run_until(secs(60), |sim| sim.client(ada).is_closed()));
    assert_eq!(sim.now() - begun, ms(100), "the first timeout");
    assert_eq!(sim.take_events(ada).last(), Some(&Event::Closed(Closed::Done)));
    assert_eq!((sim.server().sessions(), sim.server().totals().stray), (0, 1));
}

#[test]
fn a_bye_with_an_acknowledgement_from_another_port_moves_the_session_and_ends_it() {
    let (mut sim, ada) = with_a_reader();
    sim.move_client(ada);
    let begun = sim.now();
    sim.client(ada).close();
    assert!(sim.run_until(secs(60), |sim| sim.client(ada).is_closed()));
    assert!(sim.now() - begun < ms(200), "{:?}", sim.now() - begun);
    assert_eq!(sim.server().sessions(), 0);
}

#[test]
fn one_request_with_an_unknown_token_is_answered_once_and_other_frames_are_stray() {
    let mut harness = ServerHarness::open();
    let (a, token) = (addr(1, 1), nonce(9));
    let gone = [format!("~{token} ERR 0004 401")];
    for frames in ["@7 BYE 0000", "ACK 0002 1@7 BYE 0000", "ACK 0002 1@7 PNG 0000@8 LST 0000@9 BYE 0000"] {
        assert_eq!(harness.datagram(a, format!("~{token} {frames}")), gone, "{frames}");
    }
    let strays = harness.totals().stray;
    let reg = format!("ACK 0002 1{}", reg(1, "ada", &format!("?{}", nonce(1))));
    let frames = ["ACK 0002 1", "ACK 0002 1ACK 0002 2", "ERR 0004 401", "@1 RCV 0012 bob 0001 hi", &reg];
    for frames in frames {
        assert_eq!(harness.datagram(a, format!("~{token} {frames}")), [""; 0], "{frames}");
    }
    assert_eq!(harness.totals().stray - strays, frames.len() as u64);
    assert_eq!(harness.server.sessions(), 0);
}

#[test]
fn an_answer_of_an_earlier_session_is_ignored() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    let old = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = old.clone();
    sim.set_filter(Box::new(move |direction, _, bytes| {
        if direction == Direction::Down && bytes.ends_with(b"ACK 0000") {
            seen.borrow_mut().push(bytes.to_vec());
        }
        FilterAction::Pass
    }));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.client(ada).join(b"#r");
    assert!(sim.run_until_idle(secs(10)));
    sim.set_filter(Box::new(|_, _, _| FilterAction::Drop));
    sim.run_for(secs(120));
    sim.set_filter(Box::new(|_, _, _| FilterAction::Pass));
    sim.client(ada).ping();
    assert!(sim.run_until_idle(secs(60)));
    sim.take_events(ada);
    sim.set_filter(Box::new(|_, _, _| FilterAction::Drop));
    let ticket = sim.client(ada).send(b"ada", b"new");
    sim.run_for(ms(10));
    for answer in old.borrow().iter() {
        sim.inject_to_client(ada, answer);
    }
    assert!(!old.borrow().is_empty());
    assert!(!outcomes(&sim.take_events(ada)).contains_key(&ticket));
}

#[test]
fn a_stale_id_and_a_reused_id_are_refused() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let token = register(&mut harness, a, "ada", &nonce(1));
    register(&mut harness, addr(2, 1), "bob", &nonce(2));
    let mut say = |frame: String| harness.datagram(a, format!("~{token} {frame}")).concat();
    assert_eq!(say(snd(2_000, "bob", "x")), format!("~{token} @2000 ACK 0000"));
    assert_eq!(say(snd(977, "bob", "x")), format!("~{token} @977 ACK 0000"), "never seen, and in the window");
    assert_eq!(say(snd(976, "bob", "x")), format!("~{token} @976 ERR 0014 410 Stale id!"));
    assert_eq!(
        say(snd(2_000, "bob", "y")),
        format!("~{token} @2000 ERR 0032 409 Id used for something else!")
    );
    assert_eq!(
        say(snd(2_000, "bob", "x")),
        format!("~{token} @2000 ACK 0000"),
        "the repeat is answered as before"
    );
    assert_eq!(harness.totals().hub.messages, 2);
}

#[test]
fn a_refusal_is_cached_like_an_ack() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let token = register(&mut harness, a, "ada", &nonce(1));
    let refused = [format!("~{token} @2 ERR 0020 404 No such client!")];
    assert_eq!(harness.datagram(a, format!("~{token} {}", snd(2, "bob", "hi"))), refused);
    register(&mut harness, addr(2, 1), "bob", &nonce(2));
    assert_eq!(harness.datagram(a, format!("~{token} {}", snd(2, "bob", "hi"))), refused, "final for its id");
    assert_eq!(
        harness.datagram(a, format!("~{token} {}", snd(3, "bob", "hi"))),
        [format!("~{token} @3 ACK 0000")]
    );
}

#[test]
fn two_programs_with_one_token_never_execute_one_request_twice() {
    let mut harness = ServerHarness::open();
    let (one, two) = (addr(1, 1), addr(1, 2));
    let token = register(&mut harness, one, "ada", &nonce(1));
    let frame = format!("~{token} {}", snd(5, "ada", "once"));
    let with_push = [format!("~{token} @5 ACK 0000@1 RCV 0014 ada 0001 once")];
    assert_eq!(harness.datagram(one, &frame), with_push);
    let to_two = cookie_to_move(&mut harness, two, &token);
    harness.datagram(two, format!("~{to_two} {}", reg(6, "ada", &token)));
    assert_eq!(harness.datagram(two, &frame), [format!("~{token} @5 ACK 0000")]);
    assert_eq!(harness.totals().hub.messages, 1);
    let other = format!("~{token} {}", snd(5, "ada", "different"));
    assert!(harness.datagram(two, other)[0].contains("409"));
}

#[test]
fn a_bare_reg_is_enough_on_loopback_and_refused_elsewhere() {
    let mut harness = ServerHarness::open();
    assert_eq!(harness.datagram(local(1), "REG 0007 TEST01"), [""; 0]);
    assert_eq!(harness.datagram(local(2), "REG 0007 TEST02\n"), [""; 0]);
    assert_eq!(harness.datagram(local(2), "SND 0017 TEST01 Heyyyooo!\n"), [""; 0]);
    assert_eq!(harness.datagrams_to(local(1)), ["RCV 0022 TEST02 0001 Heyyyooo!"]);
    assert_eq!(harness.datagram(local(2), "SND 0013 NOBODY Hello"), ["ERR 0016 No such client!"]);
    assert_eq!(harness.datagram(local(2), "BYE 0000"), [""; 0]);
    assert_eq!(harness.datagram(local(1), "LST 0000"), ["ACK 0007 TEST01"]);
    assert_eq!(harness.datagram(addr(9, 9), "REG 0007 TEST09"), ["ERR 0020 Address not proven!"]);
    assert_eq!(harness.server.sessions(), 1);
}

#[test]
fn without_the_need_of_proof_every_frame_from_reg_to_bye_is_executed_and_otherwise_the_first_only() {
    let mut harness = ServerHarness::open();
    // Without a session only the first frame counts, from any address.
    for from in [local(1), addr(1, 1)] {
        assert_eq!(harness.datagram(from, "PNG 0002 1REG 0004 adaPNG 0002 2"), ["ACK 0002 1"]);
    }
    assert_eq!(harness.server.sessions(), 0);
    assert_eq!(harness.datagram(local(1), "REG 0004 adaPNG 0002 1PNG 0002 2"), ["ACK 0002 1ACK 0002 2"]);
    let heard = harness.datagram(local(1), "PNG 0002 3\nLST 0000\nBYE 0000\nPNG 0002 4");
    assert_eq!(heard, ["ACK 0002 3ACK 0004 ada"], "nothing behind a BYE");
    assert_eq!(harness.server.sessions(), 0);
    assert_eq!(harness.datagram(local(1), "LST 0000PNG 0002 5"), ["ERR 0016 Register first!"]);
    // An address that has to be proven opens no session in this way.
    assert_eq!(harness.datagram(addr(1, 1), "REG 0004 adaPNG 0002 1"), ["ERR 0020 Address not proven!"]);
}

#[test]
fn an_untagged_session_is_sent_nothing_over_9_999_bytes_not_even_the_answer_to_a_ping() {
    let mut harness = ServerHarness::new(ServerConfig { max_datagram: 65_000, ..ServerConfig::default() });
    let ping = |length: usize| {
        let text = "x".repeat(length - 1);
        if length < 10_000 { format!("PNG {length:04} {text}") } else { format!("PNG +005 {length} {text}") }
    };
    let untagged = harness.connect_as("REG 0004 ada");
    let tagged = harness.connect_as("@1 REG 0004 bob");
    harness.heard(tagged);
    assert!(harness.say(untagged, ping(9_999)) == ping(9_999).replace("PNG", "ACK"));
    assert_eq!(harness.say(untagged, ping(10_000)), "ERR 0010 Too long!");
    assert_eq!(harness.say(untagged, format!("@2 {}", ping(10_000))), "@2 ERR 0014 413 Too long!");
    assert!(
        harness.say(tagged, format!("@2 {}", ping(10_000)))
            == format!("@2 {}", ping(10_000).replace("PNG", "ACK"))
    );
    // Over datagrams, with a session and without one.
    for from in [local(1), local(2)] {
        assert!(harness.datagram(from, ping(9_999)) == [ping(9_999).replace("PNG", "ACK")]);
        assert_eq!(harness.datagram(from, ping(10_000)), ["ERR 0010 Too long!"]);
        harness.datagram(from, "REG 0004 cyd");
    }
}

#[test]
fn a_malformed_datagram_is_counted_and_dropped_whole() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let token = register(&mut harness, a, "ada", &nonce(1));
    for bad in [
        format!("~{token} {}x", snd(2, "ada", "hi")),
        format!("~{token} @2 @3 PNG 0000"),
        format!("~{token}"),
        "~short PNG 0000".to_owned(),
        "PNG 0099 short".to_owned(),
        String::new(),
    ] {
        assert_eq!(harness.datagram(a, bad), [""; 0]);
    }
    assert_eq!((harness.totals().malformed, harness.totals().hub.messages), (6, 0));
}

#[test]
fn unproven_addresses_get_one_frame_of_at_most_3_times_their_input_and_only_for_requests() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    assert_eq!(harness.datagram(a, "@1 PNG 0003 hi@2 PNG 0003 hi"), ["@1 ACK 0003 hi"]);
    assert_eq!(harness.datagram(a, "PNG 0000"), ["ACK 0000"]);
    assert_eq!(harness.datagram(a, "@7 SND 0007 bob x"), [""; 0], "a length that never arrives");
    assert_eq!(harness.datagram(a, snd(7, "bob", "x")), ["ERR 0004 401"], "untagged: no answer to its id");
    for silent in ["ACK 0000", "ERR 0004 401", "RCV 0014 eve 0001 mail", "GAP 0002 1", "XYZ 0000"] {
        assert_eq!(harness.datagram(a, silent), [""; 0], "{silent}");
        assert_eq!(harness.datagram(a, format!("~{} {silent}", nonce(3))), [""; 0], "{silent}");
    }
}

#[test]
fn a_silent_session_ends_after_its_idle_time_and_pings_keep_it_alive() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.run_for(secs(600));
    assert_eq!(sim.server().sessions(), 1, "kept by pings");
    assert!(sim.server().totals().datagrams_in < 40, "about one every 25 s");
    let mut harness = ServerHarness::open();
    register(&mut harness, addr(1, 1), "ada", &nonce(1));
    harness.pass(secs(89));
    assert_eq!(harness.server.sessions(), 1);
    harness.pass(secs(2));
    assert_eq!(harness.server.sessions(), 0);
}

#[test]
fn a_message_that_does_not_fit_a_datagram_is_refused_and_in_a_room_becomes_a_gap() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let ada = register(&mut harness, a, "ada", &nonce(1));
    harness.datagram(a, format!("~{ada} @2 JON 0003 #r"));
    let tcp = harness.connect_as("REG 0004 bob");
    harness.say(tcp, "JON 0003 #r");
    let long = "x".repeat(1_300);
    assert_eq!(harness.say(tcp, format!("SND 1305 ada {long}")), "ERR 0010 Too long!");
    assert_eq!(harness.say(tcp, format!("SND 1304 #r {long}")), "");
    assert_eq!(harness.datagrams_to(a), [format!("~{ada} @1 GAP 0002 1")]);
}

#[test]
fn a_peer_that_sends_larger_datagrams_gets_larger_ones_up_to_the_limit() {
    let mut harness = ServerHarness::new(ServerConfig { max_datagram: 2_000, ..ServerConfig::default() });
    let a = addr(1, 1);
    let ada = register(&mut harness, a, "ada", &nonce(1));
    let text = "x".repeat(1_500);
    let tcp = harness.connect_as("REG 0004 bob");
    assert_eq!(harness.say(tcp, format!("SND 1505 ada {text}")), "ERR 0010 Too long!");
    let padding = "p".repeat(1_900);
    assert_eq!(harness.datagram(a, format!("~{ada} @2 PNG 1901 {padding}")).len(), 1);
    assert_eq!(harness.say(tcp, format!("SND 1505 ada {text}")), "");
    assert_eq!(harness.datagrams_to(a).len(), 1);
}

#[test]
fn the_bye_of_a_shutdown_is_retransmitted_over_datagrams_until_it_is_acknowledged() {
    use sayagain::service::Service;
    let mut sim = quiet();
    let mut config = with_many_retries(Transport::Datagram, "ada");
    config.policy = config.policy.with_max_sends(1);
    let ada = sim.add_client(config);
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    let mut byes = 0;
    sim.set_filter(Box::new(move |direction, _, bytes| {
        let is_bye = direction == Direction::Down && bytes.ends_with(b"@1 BYE 0009 draining");
        byes += u32::from(is_bye);
        if is_bye && byes <= 2 { FilterAction::Drop } else { FilterAction::Pass }
    }));
    let now = sim.now();
    sim.server().shutdown(now);
    sim.run_for(secs(5));
    assert_eq!(sim.take_events(ada).last(), Some(&Event::Closed(Closed::Draining(None))));
    assert!(sim.server().is_finished());
    assert_eq!(sim.server().totals().hub.sessions, 1);
}

#[test]
fn a_limit_below_the_smallest_list_refuses_only_the_list() {
    let mut harness = ServerHarness::new(ServerConfig { max_datagram: 52, ..ServerConfig::default() });
    let a = addr(1, 1);
    let token = register(&mut harness, a, "ada", &nonce(1));
    assert_eq!(harness.datagram(a, format!("~{token} @2 LST 0000")), [format!("~{token} @2 ACK 0003 +1")]);
}

#[test]
fn requests_after_a_bye_are_unknown_rather_than_refused() {
    let mut harness = ServerHarness::open();
    let a = addr(1, 1);
    let token = register(&mut harness, a, "ada", &nonce(1));
    let snd = snd(2, "ada", "hi");
    harness.datagram(a, format!("~{token} {snd}"));
    assert_eq!(harness.datagram(a, format!("~{token} @3 BYE 0000{snd}")), [format!("~{token} @3 ACK 0000")]);
    assert_eq!(harness.datagram(a, format!("~{token} {snd}")), [format!("~{token} ERR 0004 401")]);
}

#[test]
fn a_bye_carries_the_acknowledgement_of_all_pushes_so_that_none_counts_as_undelivered() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    let bob = sim.add_client(with_many_retries(Transport::Datagram, "bob"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    sim.set_filter(Box::new(|direction, _, bytes| {
        let is_plain_ack = direction == Direction::Up
            && bytes.windows(5).any(|w| w == b" ACK ")
            && !bytes.ends_with(b"BYE 0000");
        if is_plain_ack { FilterAction::Drop } else { FilterAction::Pass }
    }));
    sim.client(ada).send(b"bob", b"hi");
    assert!(sim.run_until(secs(10), |sim| !messages(&sim.take_events(bob)).is_empty()));
    sim.client(bob).close();
    assert!(sim.run_until(secs(10), |sim| sim.client(bob).is_closed()));
    assert_eq!(sim.server().totals().hub.undelivered, 0);
}

#[test]
fn no_datagram_is_larger_than_the_limit_not_even_an_echo_to_an_unregistered_peer() {
    let mut harness = ServerHarness::open();
    let (a, padding) = (addr(1, 1), "p".repeat(1_300));
    assert_eq!(harness.datagram(a, format!("@1 PNG 1301 {padding}")), ["@1 ERR 0014 413 Too long!"]);
    assert_eq!(harness.datagram(a, format!("PNG 1301 {padding}")), ["ERR 0010 Too long!"]);
    let mut wide = ServerHarness::new(ServerConfig { max_datagram: 2_000, ..ServerConfig::default() });
    assert_eq!(wide.datagram(a, format!("PNG 1301 {padding}")), [format!("ACK 1301 {padding}")]);
}

#[test]
fn a_moved_session_takes_the_datagram_size_of_its_new_address_and_queued_datagrams_stay_as_they_are() {
    let mut harness = ServerHarness::new(ServerConfig { max_datagram: 2_000, ..ServerConfig::default() });
    let (home, away) = (addr(1, 1), addr(1, 2));
    let token = register(&mut harness, home, "ada", &nonce(1));
    harness.datagram(home, format!("~{token} @2 PNG 1901 {}", "p".repeat(1_900)));
    let bob = harness.connect_as("REG 0004 bob");
    let large = format!("SND 1505 ada {}", "x".repeat(1_500));
    assert_eq!(harness.say(bob, &large), "");
    assert!(harness.datagrams_to(home)[0].len() > 1_500);
    let cookie = cookie_to_move(&mut harness, away, &token);
    let heard = harness.datagram(away, format!("~{cookie} {}", reg(3, "ada", &token)));
    assert!(heard.iter().any(|datagram| datagram.len() > 1_500), "promised before the move");
    assert_eq!(harness.say(bob, &large), "ERR 0010 Too long!", "not promised any more");
}
