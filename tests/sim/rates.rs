//! Rate limits: reading from streams is paused, datagrams are refused with 429, and the client retries after the wait.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sayagain::client::{Client, Event};
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::LinkConfig;
use sayagain::listener::Listener;
use sayagain::reliable::{AskedToWait, Backoff, Outcome, Ticket};
use sayagain::sim::Sim;

use crate::harness::{Conn, ServerHarness, addr, cookie, local, nonce, reg, register, snd};
use crate::support::{doubling, messages, ms, outcomes, secs, with_many_retries};

/// A server whose first listener has this rate.
fn limited(rate: &str) -> ServerConfig {
    let mut listener = Listener::frames("tcp");
    listener.rate = rate.parse().unwrap();
    ServerConfig { listeners: vec![listener], ..ServerConfig::default() }
}

fn harness(rate: &str) -> ServerHarness {
    ServerHarness::new(limited(rate))
}

/// Advances the clock in steps of 50 ms, and returns the steps with output.
fn heard_at(harness: &mut ServerHarness, conn: Conn, time: Duration) -> Vec<(u128, String)> {
    let begun = harness.now;
    let mut heard = Vec::new();
    while harness.now < begun + time {
        harness.pass(ms(50));
        let said = harness.heard(conn);
        if !said.is_empty() {
            heard.push(((harness.now - begun).as_millis(), said));
        }
    }
    heard
}

mod streams {
    use super::*;

    #[test]
    fn a_rate_of_five_a_second_allows_five_at_once_and_then_one_every_200_ms() {
        let mut harness = harness("5/s");
        let conn = harness.connect();
        assert_eq!(harness.say(conn, "PNG 0002 1".repeat(8)), "ACK 0002 1".repeat(5));
        let one = "ACK 0002 1".to_owned();
        assert_eq!(heard_at(&mut harness, conn, secs(2)), [200, 400, 600].map(|ms| (ms, one.clone())));
        // Unused tokens are kept for one second at most.
        harness.pass(secs(5));
        assert_eq!(harness.say(conn, "PNG 0002 1".repeat(6)), "ACK 0002 1".repeat(5));
    }

    #[test]
    fn every_frame_costs_a_token_except_acknowledgements() {
        let whatever = [
            "REG 0004 a#b",
            "@1 SND 0007 eve hi",
            "LST 0006 #none",
            "XYZ 0000",
            "RCV 0000",
            "GAP 0002 1",
            "ERR 0004 hey",
            "@4 ACK 0002 1",
        ];
        for frame in whatever {
            let mut harness = harness("5/s");
            let conn = harness.connect();
            harness.say(conn, frame.repeat(4));
            assert_eq!(harness.say(conn, "PNG 0000PNG 0000"), "ACK 0000", "{frame}");
        }
        let mut harness = harness("5/s");
        let conn = harness.connect();
        harness.say(conn, "ACK 0002 1".repeat(100));
        assert_eq!(harness.say(conn, "PNG 0000".repeat(6)), "ACK 0000".repeat(5));
    }

    #[test]
    fn reading_from_a_flooding_client_is_paused_and_others_are_not_delayed() {
        let mut harness = harness("5/s");
        let (eve, ada) = (harness.connect_as("REG 0004 eve"), harness.connect_as("REG 0004 ada"));
        harness.say(eve, "SND 0007 ada hi".repeat(4_000));
        assert!(!harness.is_reading(eve) && harness.is_reading(ada));
        assert_eq!(harness.heard(ada), "RCV 0012 eve 0001 hi".repeat(4));
        assert_eq!(harness.say(ada, "PNG 0000"), "ACK 0000", "at once");
        harness.pass(secs(10));
        assert_eq!(harness.heard(ada), "RCV 0012 eve 0001 hi".repeat(50));
        assert!(!harness.is_reading(eve));
    }

    #[test]
    fn bytes_are_counted_with_their_heads_and_a_long_frame_leaves_a_debt() {
        let mut harness = harness("1000B/s");
        let conn = harness.connect_as("REG 0004 ada");
        let ping = |length: usize| format!("PNG {length:04} {}", "x".repeat(length - 1));
        // 12 bytes of REG, and 988.
        assert_eq!(harness.say(conn, ping(480) + &ping(492) + &ping(2_000)).matches("ACK").count(), 2);
        assert!(!harness.is_reading(conn));
        harness.pass(ms(999));
        assert_eq!(harness.heard(conn), "", "a frame larger than the bucket waits until it is full");
        harness.pass(ms(1));
        assert!(harness.heard(conn).starts_with("ACK 2000"));
        assert_eq!(harness.say(conn, "PNG 0000"), "", "1,008 bytes are owed");
        harness.pass(ms(1_015));
        assert_eq!(harness.heard(conn), "");
        harness.pass(ms(1));
        assert_eq!(harness.heard(conn), "ACK 0000");
    }

    #[test]
    fn the_deadline_of_an_unfinished_frame_stops_while_reading_is_paused() {
        let mut harness = harness("1/s");
        let conn = harness.connect_as("REG 0004 ada");
        harness.say(conn, "PNG 0000".repeat(30) + "SND 0099 ada");
        harness.pass(ms(29_900));
        assert_eq!(harness.heard(conn), "ACK 0000".repeat(29));
        assert!(!harness.is_closed(conn));
        // The thirtieth frame has emptied the bucket for another second.
        harness.pass(ms(11_000));
        assert_eq!(harness.heard(conn), "ACK 0000");
        harness.pass(ms(100));
        assert_eq!(harness.heard(conn), "ERR 0027 frame not finished in timeBYE 0000");
    }

    #[test]
    fn a_connection_that_waits_for_tokens_still_has_to_register_in_time() {
        let mut harness = harness("5/s");
        let conn = harness.connect();
        harness.say(conn, "LST 0000".repeat(8_000));
        harness.pass(secs(60));
        assert!(harness.heard(conn).ends_with("ERR 0023 not registered in timeBYE 0000"));
    }

    #[test]
    fn a_connection_is_busy_until_its_last_frame_is_executed_and_no_longer() {
        let mut harness = harness("2/s");
        let conn = harness.connect();
        assert_eq!(harness.say(conn, "PNG 0000".repeat(3)), "ACK 0000".repeat(2));
        assert!(harness.is_busy(conn));
        harness.pass(ms(500));
        assert_eq!(harness.heard(conn), "ACK 0000");
        assert!(!harness.is_busy(conn) && !harness.is_reading(conn), "it has to wait, but with nothing");
        // A malformed end, or an announced length, is not lost either.
        harness.say(conn, "PNG 0000SND 9999");
        harness.pass(ms(500));
        assert!(
            harness.heard(conn).ends_with("register before you send more than 1024 bytes at onceBYE 0000")
        );
    }

    #[test]
    fn malformed_input_after_a_pause_breaks_the_stream_when_it_is_reached() {
        let mut harness = harness("5/s");
        let conn = harness.connect();
        assert_eq!(harness.say(conn, "PNG 0000".repeat(6) + "nonsense"), "ACK 0000".repeat(5));
        harness.pass(ms(199));
        assert!(!harness.is_closed(conn));
        harness.pass(ms(201));
        assert!(harness.heard(conn).ends_with("BYE 0000") && harness.is_closed(conn));
    }
}

mod datagrams {
    use super::*;

    fn ada(harness: &mut ServerHarness) -> String {
        register(harness, addr(1, 1), "ada", &nonce(1))
    }

    #[test]
    fn a_request_over_the_rate_is_refused_with_the_wait_and_that_is_final_for_its_id() {
        let mut harness = harness("5/s");
        let (a, token) = (addr(1, 1), ada(&mut harness));
        let ask = |harness: &mut ServerHarness, what: &str| -> String {
            let heard = harness.datagram(a, format!("~{token} {what}"));
            heard.concat().replace(&format!("~{token} "), "")
        };
        for id in 2..7 {
            assert!(ask(&mut harness, &snd(id, "ada", "hi")).starts_with(&format!("@{id} ACK 0000")));
        }
        assert_eq!(ask(&mut harness, &snd(7, "ada", "no")), "@7 ERR 0008 429 200");
        harness.pass(Duration::from_micros(50_500));
        assert_eq!(ask(&mut harness, &snd(7, "ada", "no")).trim_start_matches("@1 "), "@7 ERR 0008 429 150");
        harness.pass(ms(500));
        let repeats = harness.totals().repeats;
        assert!(ask(&mut harness, &snd(7, "ada", "no")).contains("@7 ERR 0006 429 1"), "final for its id");
        assert!(ask(&mut harness, &snd(2, "ada", "hi")).contains("@2 ACK 0000"));
        assert_eq!(harness.totals().repeats, repeats + 2);
        assert!(
            ask(&mut harness, &snd(8, "ada", "no")).contains("@8 ACK 0000"),
            "and under a new id it is done"
        );
        assert_eq!(harness.totals().hub.messages, 6);
    }

    #[test]
    fn a_repeat_costs_as_much_as_the_first_send_and_without_a_token_it_is_dropped_not_refused() {
        let mut harness = harness("2/s");
        let (a, token) = (addr(1, 1), ada(&mut harness));
        let ask = |harness: &mut ServerHarness, what: &str| harness.datagram(a, format!("~{token} {what}"));
        let join = "@2 JON 0006 #room";
        let joined = [format!("~{token} @2 ACK 0000")];
        for _ in 0..2 {
            assert_eq!(ask(&mut harness, join), joined);
        }
        for _ in 0..10 {
            assert_eq!(ask(&mut harness, join), [""; 0]);
        }
        assert_eq!(harness.totals().answers_dropped, 10);
        harness.pass(ms(500));
        assert_eq!(ask(&mut harness, join), joined, "it will be answered");
        // A request refused for lack of tokens is refused again, and so is a new request.
        let refused = [format!("~{token} @3 ERR 0008 429 500")];
        assert_eq!(ask(&mut harness, "@3 SND 0007 eve hi"), refused);
        assert_eq!(ask(&mut harness, "@3 SND 0007 eve hi"), refused);
        // 409 and 410 do not depend on tokens.
        assert!(ask(&mut harness, "@2 JON 0005 #hut").concat().contains("@2 ERR 0032 409"));
        assert_eq!(harness.totals().answers_dropped, 10);
    }

    #[test]
    fn pings_lists_junk_and_malformed_datagrams_cost_tokens_too() {
        let junk = [
            "@2 PNG 0000",
            "@2 LST 0000",
            "XYZ 0000",
            "RCV 0000",
            "@9 ACK 0000",
            "nonsense",
            "@2 LEV 0002 #",
        ];
        for junk in junk {
            let mut harness = harness("5/s");
            let (a, token) = (addr(1, 1), ada(&mut harness));
            for _ in 0..5 {
                harness.datagram(a, format!("~{token} {junk}"));
            }
            let heard = harness.datagram(a, format!("~{token} PNG 0000~{token}"));
            assert_eq!(heard, [""; 0], "{junk}: what cannot be read is not answered");
            let heard = harness.datagram(a, format!("~{token} PNG 0000"));
            assert_eq!(heard, [format!("~{token} ERR 0018 slow down: 200 ms")], "{junk}");
        }
    }

    #[test]
    fn acknowledgements_and_byes_are_never_limited_and_other_peers_cannot_spend_a_sessions_tokens() {
        let mut harness = harness("1/s");
        let (a, token) = (addr(1, 1), ada(&mut harness));
        for _ in 0..10 {
            assert_eq!(harness.datagram(a, format!("~{token} ACK 0002 1")), [""; 0]);
            // From another address, and with another session's token.
            harness.datagram(addr(2, 2), format!("~{token} nonsense"));
            harness.datagram(a, "nonsense");
        }
        let heard = harness.datagram(a, format!("~{token} @2 PNG 0000@3 PNG 0000@4 BYE 0000"));
        assert_eq!(heard, [format!("~{token} @2 ACK 0000@3 ERR 0009 429 1000@4 ACK 0000")]);
        assert_eq!(harness.datagram(a, format!("~{token} @4 BYE 0000")), [format!("~{token} ERR 0004 401")]);
    }

    #[test]
    fn a_bare_session_gets_a_text_over_the_rate_and_unregistered_peers_are_not_counted() {
        let mut harness = harness("2/s");
        let (a, b) = (local(1), local(2));
        assert_eq!(
            harness.datagram(a, "REG 0004 ada\nPNG 0000\nPNG 0000\nPNG 0000"),
            ["ACK 0000ACK 0000ERR 0018 slow down: 500 ms"]
        );
        for _ in 0..10 {
            assert_eq!(harness.datagram(b, "PNG 0000"), ["ACK 0000"]);
        }
        assert_eq!(harness.datagram(a, "nonsense"), [""; 0]);
        harness.pass(ms(500));
        assert_eq!(harness.datagram(a, "nonsense"), [""; 0]);
        assert_eq!(harness.datagram(a, "SND 0007 ada hi"), ["ERR 0018 slow down: 500 ms"]);
        assert_eq!(harness.datagram(a, "BYE 0000"), [""; 0]);
        assert_eq!(harness.datagram(a, "LST 0000"), ["ERR 0016 Register first!"]);
    }

    #[test]
    fn a_moved_session_keeps_its_bucket_and_a_reg_costs_a_token() {
        let mut harness = harness("1/s");
        let (a, b, token) = (addr(1, 1), addr(2, 2), ada(&mut harness));
        assert_eq!(harness.datagram(a, format!("~{token} @2 PNG 0000")), [format!("~{token} @2 ACK 0000")]);
        let challenge = harness.datagram(b, format!("~{token} @3 PNG 0000"));
        let cookie = challenge[0].strip_prefix(&format!("~{token} ERR 0027 428 ")).unwrap().to_owned();
        let resume = format!("~{cookie} {}", reg(4, "ada", &token));
        assert_eq!(
            harness.datagram(b, &resume),
            [""; 0],
            "without a token it is dropped: its repeat asks again"
        );
        harness.pass(secs(1));
        assert_eq!(harness.datagram(b, &resume), [format!("~{cookie} @4 ACK 0023 {token}")]);
        assert_eq!(harness.datagram(b, &resume), [""; 0], "a repeat costs as much");
        assert_eq!(harness.totals().answers_dropped, 2);
        let again = |id: u64| format!("~{token} {}@{} PNG 0000", reg(id, "ada", &token), id + 1);
        let heard = harness.datagram(b, again(5));
        assert_eq!(heard, [format!("~{token} @5 ERR 0009 429 1000@6 ERR 0009 429 1000")]);
        harness.pass(secs(1));
        let heard = harness.datagram(b, again(7));
        assert_eq!(heard, [format!("~{token} @7 ACK 0023 {token}@8 ERR 0009 429 1000")]);
        // Another session has another bucket, and requesting a cookie costs no token.
        for _ in 0..5 {
            super::cookie(&mut harness, a, "bob", &nonce(2));
        }
        let bob = register(&mut harness, a, "bob", &nonce(2));
        assert_eq!(harness.datagram(a, format!("~{bob} @2 PNG 0000")), [format!("~{bob} @2 ACK 0000")]);
    }

    #[test]
    fn of_900_regs_of_one_session_only_as_many_as_its_rate_allows_are_granted() {
        let mut harness = harness("5/s");
        let (from, name) = (addr(1, 1), "ada");
        let cookie = cookie(&mut harness, from, name, &nonce(1));
        let opening = format!("~{cookie} {}", reg(1, name, &format!("?{}", nonce(1))));
        let token = harness.datagram(from, &opening).concat().split_off(23 + "~ @1 ACK 0023".len());
        let mut granted = 0;
        for n in 0..300 {
            let [new, same] = [n + 2, 2].map(|id| format!("~{token} {}", reg(id, name, &token)));
            for datagram in [&opening, &new, &same] {
                granted += usize::from(harness.datagram(from, datagram).concat().contains("ACK 0023"));
            }
        }
        assert_eq!(granted, 5);
    }
}

mod client {
    use super::*;

    /// A client at one end of a stream, and the test at the other.
    struct Line {
        now: Instant,
        client: Client,
    }

    impl Line {
        fn new(window: usize, policy: Backoff) -> Self {
            let mut config = ClientConfig::new(Transport::Stream, Some("ada"), policy);
            config.window = window;
            let now = Instant::now();
            let client = Client::new(now, config, 1, Box::new(ChaCha20Rng::seed_from_u64(1)));
            let mut line = Self { now, client };
            line.client.handle_connected(now);
            assert_eq!(line.sent().len(), 1, "REG");
            line.hear(&format!("@1 ACK 0023 {}", nonce(9)));
            line.events();
            line
        }

        /// The output of the client now.
        fn sent(&mut self) -> Vec<String> {
            let sent = std::iter::from_fn(|| self.client.poll_transmit(self.now));
            sent.map(|bytes| String::from_utf8(bytes).unwrap()).collect()
        }

        fn hear(&mut self, text: &str) {
            self.client.handle_bytes(self.now, text.as_bytes());
        }

        fn events(&mut self) -> Vec<Event> {
            std::iter::from_fn(|| self.client.poll()).collect()
        }

        /// Advances to the client's deadline, and returns its output then.
        fn next(&mut self) -> (u128, Vec<String>) {
            let (before, at) = (self.now, self.client.poll_timeout().unwrap());
            self.now = at.max(before);
            self.client.handle_timeout(self.now);
            ((self.now - before).as_millis(), self.sent())
        }

        /// Makes a request, which is sent under this id.
        fn send(&mut self, id: u64, text: &str) -> Ticket {
            let ticket = self.client.send(b"bob", text.as_bytes());
            assert_eq!(self.sent(), [snd(id, "bob", text)]);
            ticket
        }
    }

    fn seldom() -> Backoff {
        Backoff::new(secs(1_000))
    }

    #[test]
    fn a_request_refused_by_429_is_sent_under_a_new_id_after_the_wait_and_only_its_outcome_is_reported() {
        let mut line = Line::new(1, seldom());
        let ticket = line.send(2, "one");
        line.client.send(b"bob", b"two");
        line.hear("@2 ERR 0008 429 120");
        let [Event::SlowDown(asked)] = line.events()[..] else { panic!("no word of it") };
        assert_eq!(asked, AskedToWait { again_at: line.now + ms(120), ..asked });
        assert_eq!((asked.ticket, asked.id.get(), asked.verb.to_string()), (ticket, 2, "SND".to_owned()));
        assert_eq!(line.sent(), [""; 0]);
        line.hear("@2 ERR 0008 429 500");
        assert_eq!(line.events(), [], "a copy of the answer changes nothing");
        assert_eq!(line.next(), (120, vec![snd(3, "bob", "one")]), "before later requests");
        assert!(
            matches!(line.events()[..], [Event::Retry(sent)] if sent.ticket == ticket && sent.sends == 2)
        );
        line.hear("@3 ACK 0000");
        let [Event::Ended(ended)] = &line.events()[..] else { panic!("no end") };
        assert_eq!((ended.ticket, ended.sends, ended.elapsed), (ticket, 2, Some(ms(120))));
        assert_eq!(ended.outcome, Outcome::Acked(Vec::new()));
        assert_eq!(line.sent(), [snd(4, "bob", "two")]);
        assert_eq!((line.client.stats().retries, line.client.stats().repeated_answers), (1, 1));
    }

    #[test]
    fn several_refused_requests_in_flight_keep_their_order_and_others_continue() {
        let mut line = Line::new(4, doubling(ms(300), secs(1), 10));
        for (id, text) in (2..).zip(["a", "b", "c", "d"]) {
            line.send(id, text);
        }
        line.client.send(b"bob", b"e");
        line.hear("@4 ERR 0008 429 400@2 ERR 0008 429 100@5 ACK 0000");
        assert_eq!(line.sent(), [""; 0], "nothing new");
        assert_eq!(line.next(), (300, vec![snd(3, "bob", "b")]), "its repeat");
        let anew = [snd(6, "bob", "a"), snd(7, "bob", "c"), snd(8, "bob", "e")];
        assert_eq!(line.next(), (100, anew.to_vec()), "the longest wait holds for all");
    }

    #[test]
    fn only_a_well_formed_429_is_retried() {
        for wrong in
            ["429", "429 soon", "429 0", "429 -1", "429 +1", "429 01", "429 120 ms", "429 1.5", "503 120"]
        {
            let mut line = Line::new(1, seldom());
            let ticket = line.send(2, "one");
            line.hear(&format!("@2 ERR {:04} {wrong}", wrong.len() + 1));
            let ended = outcomes(&line.events());
            assert!(matches!(ended[&ticket], Outcome::Rejected(429 | 503, _)), "{wrong}: {ended:?}");
            assert!(line.client.is_idle());
        }
    }

    #[test]
    fn a_429_with_a_wait_of_more_than_a_minute_is_a_rejection() {
        let mut line = Line::new(1, seldom());
        for (id, words) in (2..).zip(["60001", "18446744073709551615"]) {
            let ticket = line.send(id, "one");
            line.hear(&format!("@{id} ERR {:04} 429 {words}", words.len() + 5));
            let rejected = Outcome::Rejected(429, words.as_bytes().to_vec());
            assert_eq!(outcomes(&line.events())[&ticket], rejected, "{words}");
        }
        line.send(4, "one");
        line.hear("@4 ERR 0010 429 60000");
        assert_eq!(line.next(), (60_000, vec![snd(5, "bob", "one")]));
    }

    #[test]
    fn repeated_429s_are_retried_for_a_minute_in_all_and_some_hundred_sends_and_are_a_rejection_then() {
        for (wait, sends) in [(1, 100..=111), (100, 100..=111), (20_000, 4..=4)] {
            let mut line = Line::new(1, seldom());
            let (begun, ticket) = (line.now, line.send(2, "one"));
            let mut events = Vec::new();
            let mut id = 2;
            while !line.client.is_idle() {
                let words = format!("429 {wait}");
                line.hear(&format!("@{id} ERR {:04} {words}", words.len() + 1));
                events.extend(line.events());
                if !line.client.is_idle() {
                    assert_eq!(line.next().1, [snd(id + 1, "bob", "one")]);
                }
                id += 1;
            }
            let took = line.now - begun;
            assert!((secs(58)..=secs(60)).contains(&took), "{wait}: {took:?}");
            let Some(Event::Ended(ended)) = events.last() else { panic!("no end") };
            assert_eq!(ended.ticket, ticket);
            assert!(sends.contains(&ended.sends), "{ended:?}");
            assert_eq!(ended.outcome, Outcome::Rejected(429, wait.to_string().into_bytes()));
            let told = events.iter().filter(|event| matches!(event, Event::SlowDown(_))).count();
            assert_eq!(told, ended.sends as usize - 1, "each wait is told");
        }
    }

    #[test]
    fn the_deadline_of_the_policy_counts_from_the_first_send_of_all() {
        let mut line = Line::new(1, seldom().with_deadline(Some(secs(1))));
        let ticket = line.send(2, "one");
        line.hear("@2 ERR 0008 429 400");
        assert_eq!(line.next(), (400, vec![snd(3, "bob", "one")]));
        line.hear("@3 ERR 0008 429 600");
        let rejected = Outcome::Rejected(429, b"600".to_vec());
        assert_eq!(outcomes(&line.events())[&ticket], rejected, "it would come too late");
        let ticket = line.send(4, "two");
        line.hear("@4 ERR 0008 429 400");
        line.next();
        assert_eq!(line.next(), (600, Vec::new()), "and that is the deadline, not a second from then");
        assert_eq!(outcomes(&line.events())[&ticket], Outcome::Unknown, "the second send was not answered");
    }

    #[test]
    fn a_request_delayed_by_another_until_its_deadline_ends_as_rejected() {
        let mut line = Line::new(2, seldom().with_deadline(Some(secs(1))));
        let one = line.send(2, "one");
        line.now += ms(400);
        line.send(3, "two");
        line.hear("@2 ERR 0008 429 500@3 ERR 0008 429 900");
        line.events();
        assert_eq!(line.next(), (600, Vec::new()));
        assert_eq!(outcomes(&line.events())[&one], Outcome::Rejected(429, b"500".to_vec()));
        assert_eq!(line.next(), (300, vec![snd(4, "bob", "two")]));
    }

    #[test]
    fn a_client_that_aborts_during_a_wait_reports_the_rejection_and_sends_bye_at_once() {
        let mut line = Line::new(1, seldom());
        let (ticket, never) = (line.send(2, "one"), line.client.send(b"bob", b"two"));
        line.hear("@2 ERR 0010 429 30000");
        line.client.abort(line.now, secs(1));
        let ended = outcomes(&line.events());
        assert_eq!(ended[&ticket], Outcome::Rejected(429, b"30000".to_vec()));
        assert_eq!(ended[&never], Outcome::NeverSent);
        assert_eq!(line.sent(), ["@3 BYE 0000"]);
    }

    #[test]
    fn a_bye_waits_for_earlier_requests_and_is_itself_retried_after_a_429() {
        let mut line = Line::new(4, seldom());
        line.send(2, "one");
        line.client.close();
        line.hear("@2 ERR 0008 429 100");
        assert_eq!(line.sent(), [""; 0]);
        assert_eq!(line.next(), (100, vec![snd(3, "bob", "one")]));
        line.hear("@3 ACK 0000");
        assert_eq!(line.sent(), ["@4 BYE 0000"]);
        line.hear("@4 ERR 0008 429 100");
        assert_eq!(line.sent(), [""; 0]);
        assert_eq!(line.next(), (100, vec!["@5 BYE 0000".to_owned()]));
        line.hear("@5 ACK 0000");
        assert!(line.client.is_closed());
    }

    /// Sends this many messages through a server with this rate. Returns the number of 429s.
    fn story(rate: &str, window: usize, link: &str, count: usize) -> (usize, Duration) {
        let link: LinkConfig = link.parse().unwrap();
        let mut sim = Sim::new(Instant::now(), limited(rate), link.clone(), link, 7);
        let mut config = with_many_retries(Transport::Datagram, "ada");
        config.window = window;
        let (ada, bob) =
            (sim.add_client(config), sim.add_client(with_many_retries(Transport::Datagram, "bob")));
        assert!(sim.run_until(secs(60), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
        let begun = sim.now();
        let tickets: Vec<Ticket> =
            (0..count).map(|n| sim.client(ada).send(b"bob", n.to_string().as_bytes())).collect();
        assert!(sim.run_until_idle(secs(3_600)));
        let took = sim.now() - begun;
        let events = sim.take_events(ada);
        let ended = outcomes(&events);
        assert!(tickets.iter().all(|ticket| ended[ticket] == Outcome::Acked(Vec::new())), "{ended:?}");
        let mut heard = messages(&sim.take_events(bob));
        if window > 1 {
            heard.sort_by_key(|line| line.trim_start_matches("ada> ").parse::<usize>().unwrap());
        }
        assert_eq!(heard, (0..count).map(|n| format!("ada> {n}")).collect::<Vec<_>>());
        (events.iter().filter(|event| matches!(event, Event::SlowDown(_))).count(), took)
    }

    #[test]
    fn under_a_rate_limit_every_message_arrives_once_in_order_and_at_the_rate() {
        let (slowed, took) = story("10/s", 1, "delay:5ms", 100);
        assert!(slowed >= 80, "{slowed}");
        // 10 at once, the others at 10 a second; the round trip of an answer delays each a little.
        assert!((secs(9)..secs(11)).contains(&took), "{took:?}");
        assert_eq!(story("none", 1, "delay:5ms", 100).0, 0);
    }

    #[test]
    fn under_a_rate_limit_and_loss_every_message_arrives_once_and_with_one_in_flight_in_order() {
        for window in [1, 8] {
            let (slowed, _) = story("3/s,60B/s", window, "iid:.3+delay:20ms,10ms+duplicate:.1", 100);
            assert!(slowed >= 10, "window {window}: {slowed}");
        }
    }
}

/// A client on a stream whose requests come faster than the server's rate, once each.
fn hasty(sim: &mut Sim) -> sayagain::sim::ClientId {
    let mut config = ClientConfig::new(Transport::Stream, Some("ada"), Backoff::new(secs(1_000)));
    config.window = 64;
    let ada = sim.add_client(config);
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    ada
}

#[test]
fn the_simulator_does_not_read_from_a_paused_connection_either() {
    let perfect = LinkConfig::perfect;
    let mut sim = Sim::new(Instant::now(), limited("2/s"), perfect(), perfect(), 1);
    let ada = hasty(&mut sim);
    assert_eq!(sim.unread(ada), 0);
    let tickets: Vec<Ticket> = (0..20).map(|_| sim.client(ada).send(b"ada", b"me")).collect();
    sim.run_for(secs(1));
    let begun = sim.unread(ada);
    assert!(begun > 10 * 19, "{begun} bytes");
    sim.run_for(secs(3));
    assert!((0..begun).contains(&sim.unread(ada)), "{} of {begun} bytes", sim.unread(ada));
    assert!(sim.run_until_idle(secs(60)));
    assert_eq!(sim.unread(ada), 0);
    let ended = outcomes(&sim.take_events(ada));
    assert!(tickets.iter().all(|ticket| ended[ticket] == Outcome::Acked(Vec::new())), "{ended:?}");
}

#[test]
fn input_before_a_client_dropped_its_connection_is_executed_in_the_simulator_as_with_an_engine() {
    let perfect = LinkConfig::perfect;
    let mut sim = Sim::new(Instant::now(), limited("2/s"), perfect(), perfect(), 1);
    let (ada, bob) = (hasty(&mut sim), sim.add_client(with_many_retries(Transport::Stream, "bob")));
    assert!(sim.run_until(secs(10), |sim| sim.client(bob).is_ready()));
    sim.run_for(secs(2));
    for n in 0..10 {
        sim.client(ada).send(b"bob", n.to_string().as_bytes());
    }
    sim.run_for(ms(5));
    let now = sim.now();
    sim.client(ada).abort(now, Duration::ZERO);
    sim.run_for(ms(100));
    assert!(sim.client(ada).is_closed());
    assert!(messages(&sim.take_events(bob)).len() < 4, "at the rate of the server");
    sim.run_for(secs(10));
    assert_eq!(sim.server().totals().hub.messages, 10);
}

#[test]
fn repeats_of_a_request_that_waited_for_a_token_delay_no_other_request() {
    let mut harness = harness("2/s");
    let conn = harness.connect_as(&reg(1, "ada", &format!("?{}", nonce(1))));
    harness.pass(secs(5));
    harness.heard(conn);
    let request = |id| snd(id, "ada", "me");
    // The third waits; its repeats are queued behind it.
    let said: String = [2, 3, 4, 4, 4, 4, 5].map(request).concat();
    harness.put(conn, said);
    harness.pass(ms(1_000));
    let heard = harness.heard(conn);
    assert_eq!(heard.matches("@4 ACK 0000").count(), 4, "{heard}");
    assert!(heard.contains("@5 ACK 0000"), "{heard}");
}

#[test]
fn a_session_that_moves_to_another_listener_has_the_rate_of_that_listener() {
    let [fast, slow] = ["none", "1/s"].map(|rate| {
        let mut listener = Listener::frames("tcp");
        listener.rate = rate.parse().unwrap();
        listener
    });
    let mut harness =
        ServerHarness::new(ServerConfig { listeners: vec![fast, slow], ..ServerConfig::default() });
    let (here, there) = (addr(1, 1), addr(1, 2));
    let token = register(&mut harness, here, "ada", &nonce(1));
    let ping = |id: u64| format!("~{token} @{id} PNG 0000");
    let challenge = harness.datagram_through(1, there, ping(2)).concat();
    let cookie = challenge.rsplit(' ').next().unwrap();
    let resume = format!("~{cookie} {}", reg(3, "ada", &token));
    assert!(harness.datagram_through(1, there, resume).concat().contains("@3 ACK"));
    let answers: Vec<String> =
        (4..10).map(|id| harness.datagram_through(1, there, ping(id)).concat()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.contains("429")).count(), 5, "{answers:?}");
}
