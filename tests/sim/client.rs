//! The client state machine when connections and sessions open and end, without sockets.

use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::client::{Client, Closed, Event};
use sayagain::config::{ClientConfig, Transport};
use sayagain::reliable::{Backoff, Outcome};
use sayagain::wire::Verb;

use crate::support::ms;

const TIMEOUT: Duration = Duration::from_millis(100);

fn client(name: Option<&str>) -> (Instant, Client) {
    client_with_window(name, 1)
}

fn client_with_window(name: Option<&str>, window: usize) -> (Instant, Client) {
    let now = Instant::now();
    let mut config = ClientConfig::new(Transport::Stream, name, Backoff::new(TIMEOUT).with_max_sends(4));
    config.window = window;
    (now, Client::new(now, config, 1, Box::new(ChaCha20Rng::seed_from_u64(1))))
}

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll()).collect()
}

fn sent(now: Instant, client: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| client.poll_transmit(now)).map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

/// Connects and answers the REG.
fn register(now: Instant, client: &mut Client, answer: &str) {
    client.handle_connected(now);
    let reg = sent(now, client).remove(0);
    let (id, rest) = reg.split_once(' ').unwrap();
    assert!(rest.starts_with("REG "), "{reg}");
    client.handle_bytes(now, format!("{id} {answer}").as_bytes());
}

const GRANTED: &str = "ACK 0023 abcdefghijklmnopqrstuv";

#[test]
fn a_server_that_closes_every_connection_is_retried_on_the_schedule() {
    for name in [None, Some("alice")] {
        let (start, mut client) = client(name);
        if name.is_none() {
            client.ping();
        }
        let (mut now, mut attempts) = (start, Vec::new());
        'run: loop {
            while let Some(event) = client.poll() {
                match event {
                    Event::Connect => {
                        attempts.push((now - start).as_millis());
                        client.handle_connected(now);
                        sent(now, &mut client);
                        client.handle_disconnected(now);
                    }
                    Event::Closed(why) => {
                        assert_eq!(why, Closed::GaveUp);
                        break 'run;
                    }
                    _ => {}
                }
            }
            now = client.poll_timeout().unwrap().max(now);
            client.handle_timeout(now);
        }
        assert_eq!(attempts, [0, 100, 200, 300], "{name:?}");
    }
}

#[test]
fn a_lost_connection_that_was_useful_is_made_again_at_once() {
    let (now, mut client) = client(Some("alice"));
    register(now, &mut client, GRANTED);
    events(&mut client);
    client.handle_disconnected(now + Duration::from_secs(1));
    assert_eq!(events(&mut client), [Event::Connect]);
    // At most ten times a second.
    client.handle_connected(now + Duration::from_secs(1));
    let resume = sent(now + Duration::from_secs(1), &mut client).remove(0);
    assert!(resume.starts_with("@2 REG 0029 alice "), "{resume}");
    client.handle_bytes(now + Duration::from_secs(1), format!("@2 {GRANTED}").as_bytes());
    events(&mut client);
    client.handle_disconnected(now + Duration::from_secs(1));
    assert_eq!(events(&mut client), []);
    assert_eq!(client.poll_timeout(), Some(now + Duration::from_millis(1_100)));
}

#[test]
fn a_new_session_rejoins_rooms_before_it_sends_queued_requests() {
    let (now, mut client) = client(Some("alice"));
    client.join(b"#a");
    client.join(b"#b");
    register(now, &mut client, GRANTED);
    for _ in 0..2 {
        let jon = sent(now, &mut client).remove(0);
        let id = jon.split(' ').next().unwrap().to_owned();
        client.handle_bytes(now, format!("{id} ACK 0000").as_bytes());
    }
    let now = now + Duration::from_secs(1);
    client.handle_disconnected(now);
    client.send(b"#a", b"hi");
    register(now, &mut client, "ERR 0004 401");
    assert!(events(&mut client).contains(&Event::SessionLost));
    let reg = sent(now, &mut client).remove(0);
    client.handle_bytes(now, format!("{} {GRANTED}", reg.split(' ').next().unwrap()).as_bytes());
    let mut frames = Vec::new();
    while let Some(frame) = sent(now, &mut client).pop() {
        let (id, rest) = frame.split_once(' ').unwrap();
        client.handle_bytes(now, format!("{id} ACK 0000").as_bytes());
        frames.push(rest.to_owned());
    }
    assert_eq!(frames, ["JON 0003 #a", "JON 0003 #b", "SND 0006 #a hi"]);
}

/// The outcomes of requests among events, in order.
fn ends(events: &[Event]) -> Vec<(Verb, Outcome)> {
    let end = |event: &Event| match event {
        Event::Ended(ended) => Some((ended.verb, ended.outcome.clone())),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

#[test]
fn a_bye_waits_for_all_answers_and_is_the_last_request_with_any_window() {
    let (now, mut client) = client_with_window(Some("alice"), 8);
    register(now, &mut client, GRANTED);
    events(&mut client);
    client.send(b"bob", b"1");
    client.send(b"bob", b"2");
    client.close();
    client.send(b"bob", b"3");
    assert_eq!(sent(now, &mut client), ["@2 SND 0006 bob 1", "@3 SND 0006 bob 2"]);
    client.handle_bytes(now, b"@3 ACK 0000");
    assert_eq!(sent(now, &mut client), [""; 0]);
    client.handle_bytes(now, b"@2 ACK 0000");
    assert_eq!(sent(now, &mut client), ["@4 BYE 0000"]);
    client.handle_bytes(now, b"@4 ACK 0000");
    let events = events(&mut client);
    let acked = (Verb::Snd, Outcome::Acked(Vec::new()));
    assert_eq!(ends(&events), [acked.clone(), acked, (Verb::Snd, Outcome::NeverSent)]);
    assert_eq!(events.last(), Some(&Event::Closed(Closed::Done)));
}

#[test]
fn a_client_without_a_name_ends_once_every_ping_has_ended() {
    let (now, mut client) = client_with_window(None, 8);
    client.handle_connected(now);
    client.ping();
    client.ping();
    let pings = sent(now, &mut client);
    client.close();
    assert!(!client.is_closed());
    client.handle_bytes(now, pings[0].replace("PNG", "ACK").as_bytes());
    let mut now = now;
    while !client.is_closed() {
        now = client.poll_timeout().unwrap().max(now);
        client.handle_timeout(now);
        sent(now, &mut client);
    }
    let events = events(&mut client);
    let outcomes: Vec<Outcome> = ends(&events).into_iter().map(|(_, outcome)| outcome).collect();
    assert!(matches!(outcomes[..], [Outcome::Acked(_), Outcome::Unknown]), "{outcomes:?}");
    assert_eq!(events.last(), Some(&Event::Closed(Closed::Done)));
}

#[test]
fn a_message_that_arrives_together_with_the_end_is_delivered_before_it() {
    for end in
        ["ERR 0027 frame not finished in timeBYE 0000", "ERR 0023 409 taken up elsewhere", "@2 BYE 0000"]
    {
        let (now, mut client) = client(Some("alice"));
        register(now, &mut client, GRANTED);
        events(&mut client);
        client.handle_bytes(now, format!("@1 RCV 0012 bob 0001 hi{end}").as_bytes());
        let events = events(&mut client);
        assert!(
            matches!(&events[..], [Event::Message { body, .. }, Event::Closed(_)] if body == b"hi"),
            "{events:?}"
        );
    }
}

#[test]
fn nothing_is_sent_before_reg_on_a_new_connection_not_even_a_due_acknowledgement() {
    let (now, mut client) = client(Some("alice"));
    register(now, &mut client, GRANTED);
    client.handle_bytes(now, b"@1 RCV 0012 bob 0001 hi");
    client.handle_disconnected(now);
    assert_eq!(client.poll_timeout(), Some(now + TIMEOUT), "the next attempt to connect");
    let now = now + Duration::from_secs(1);
    client.handle_timeout(now);
    client.handle_connected(now);
    let frames = sent(now, &mut client);
    assert!(matches!(&frames[..], [reg] if reg.contains(" REG ")), "{frames:?}");
}

#[test]
fn rejoins_do_not_pile_up_when_a_server_loses_sessions_repeatedly() {
    let (now, mut client) = client(Some("alice"));
    register(now, &mut client, GRANTED);
    client.join(b"#a");
    let jon = sent(now, &mut client).remove(0);
    client.handle_bytes(now, format!("{} ACK 0000", jon.split(' ').next().unwrap()).as_bytes());
    let mut now = now;
    for _ in 0..10 {
        now += Duration::from_secs(1);
        client.handle_disconnected(now);
        register(now, &mut client, "ERR 0004 401");
        let reg = sent(now, &mut client).remove(0);
        client.handle_bytes(now, format!("{} {GRANTED}", reg.split(' ').next().unwrap()).as_bytes());
    }
    let mut frames = Vec::new();
    while let Some(frame) = sent(now, &mut client).pop() {
        let (id, rest) = frame.split_once(' ').unwrap();
        client.handle_bytes(now, format!("{id} ACK 0000").as_bytes());
        frames.push(rest.to_owned());
    }
    assert_eq!(frames, ["JON 0003 #a"]);
}

#[test]
fn pushes_are_acknowledged_after_32_pushes_or_16_kib_or_100_ms() {
    let (now, mut client) = client(Some("alice"));
    register(now, &mut client, GRANTED);
    let mut push = |now: Instant, id: u64, body: &str| {
        client.handle_bytes(now, format!("@{id} RCV {:04} bob 0001 {body}", body.len() + 10).as_bytes());
        (sent(now, &mut client), client.poll_timeout())
    };
    for id in 1..32 {
        assert_eq!(push(now, id, "hi"), (vec![], Some(now + ms(100))));
    }
    assert_eq!(push(now, 32, "hi"), (vec!["ACK 0005 1-32".to_owned()], None));
    assert_eq!(push(now, 33, &"x".repeat(9_000)).0, [""; 0]);
    assert_eq!(push(now, 34, &"x".repeat(9_000)).0, ["ACK 0005 1-34"]);
    assert_eq!(push(now, 35, "hi").0, [""; 0]);
    assert_eq!(push(now + ms(50), 36, "hi"), (vec![], Some(now + ms(100))), "the first of them counts");
    client.handle_timeout(now + ms(100));
    assert_eq!(sent(now + ms(100), &mut client), ["ACK 0005 1-36"]);
}

/// A datagram client and its first REG, which it has sent.
fn registering(policy: Backoff) -> (Instant, Client, String) {
    let now = Instant::now();
    let config = ClientConfig::new(Transport::Datagram, Some("alice"), policy);
    let mut client = Client::new(now, config, 1, Box::new(ChaCha20Rng::seed_from_u64(1)));
    let bare = sent(now, &mut client).remove(0);
    (now, client, bare)
}

/// The 428 to this REG, with a cookie as prefix if given.
fn challenge(bare: &str, behind: Option<u8>, cookie: u8) -> String {
    let (head, nonce) = bare.split_once(" ?").unwrap();
    let (id, _) = head.split_once(' ').unwrap();
    let prefix = behind.map_or_else(String::new, |cookie| format!("~{cookie:A>22} "));
    format!("{prefix}{id} ERR 0050 428 {cookie:A>22} {nonce}")
}

#[test]
fn a_new_cookie_is_sent_back_at_once_but_at_most_once_a_second() {
    let (start, mut client, bare) = registering(Backoff::new(TIMEOUT * 25).with_max_sends(3));
    client.handle_datagram(start, challenge(&bare, None, 1).as_bytes());
    assert_eq!(sent(start, &mut client), [format!("~{:A>22} {bare}", 1)]);
    client.handle_datagram(start, challenge(&bare, None, 1).as_bytes());
    assert_eq!(sent(start, &mut client), [""; 0], "a copy of it");
    for n in 2..9 {
        client.handle_datagram(start, challenge(&bare, Some(n - 1), n).as_bytes());
        assert_eq!(sent(start, &mut client), [""; 0]);
    }
    // The next send is due after a second, and counts as a send of the policy.
    assert_eq!(client.poll_timeout(), Some(start + ms(1_000)));
    let now = start + ms(1_000);
    client.handle_timeout(now);
    assert_eq!(sent(now, &mut client), [format!("~{:A>22} {bare}", 8)]);
    // A 428 without the client's nonce is ignored.
    let strange = challenge(&bare.replace('?', "?x"), Some(8), 9);
    client.handle_datagram(now, strange.as_bytes());
    let mut now = now + ms(2_500);
    client.handle_timeout(now);
    assert_eq!(sent(now, &mut client), [format!("~{:A>22} {bare}", 8)]);
    client.handle_datagram(now, challenge(&bare, Some(8), 9).as_bytes());
    assert_eq!(sent(now, &mut client), [""; 0], "no send is left");
    now += ms(2_500);
    client.handle_timeout(now);
    assert_eq!(events(&mut client).last(), Some(&Event::Closed(Closed::GaveUp)));
}

#[test]
fn an_expired_cookie_restarts_the_schedule_16_times_at_most() {
    let sends = 3;
    let (mut now, mut client, bare) = registering(Backoff::new(TIMEOUT * 400).with_max_sends(sends));
    client.handle_datagram(now, challenge(&bare, None, 1).as_bytes());
    let mut regs = 1 + sent(now, &mut client).len();
    // Each cookie has expired at its second send, which is answered with a new cookie.
    let mut cookie = 1;
    while !client.is_closed() {
        now = client.poll_timeout().unwrap().max(now);
        client.handle_timeout(now);
        let again = sent(now, &mut client).len();
        if again > 0 {
            client.handle_datagram(now, challenge(&bare, Some(cookie), cookie + 1).as_bytes());
            cookie += 1;
        }
        regs += again + sent(now, &mut client).len();
    }
    // The first send, two for each of 17 cookies, and a last one, on schedule, with a cookie beyond the limit.
    assert_eq!(regs, 1 + 2 * 17 + 1);
    assert_eq!(events(&mut client).last(), Some(&Event::Closed(Closed::GaveUp)));
}

#[test]
fn a_registration_whose_session_ended_before_an_answer_restarts_at_once() {
    let (start, mut client, bare) = registering(Backoff::new(TIMEOUT * 1_000).with_max_sends(2));
    client.handle_datagram(start, challenge(&bare, None, 1).as_bytes());
    assert_eq!(sent(start, &mut client).len(), 1);
    let now = start + TIMEOUT * 1_000;
    client.handle_timeout(now);
    assert_eq!(sent(now, &mut client).len(), 1, "the last send of the policy");
    client.handle_datagram(now, format!("~{:A>22} @1 ERR 0018 401 Session gone!", 1).as_bytes());
    let again = sent(now, &mut client);
    assert!(again[0].starts_with("@2 REG 0030 alice ?") && !again[0].ends_with(&bare[18..]), "{again:?}");
}

#[test]
fn a_server_that_answers_every_request_with_428_gets_at_most_8_sends_beyond_the_policy() {
    let (mut now, mut client, bare) = registering(Backoff::new(TIMEOUT).with_max_sends(5));
    let token = "abcdefghijklmnopqrstuv";
    client.handle_datagram(now, challenge(&bare, None, 1).as_bytes());
    let ticket = client.send(b"bob", b"hi");
    let (mut sends, mut cookie) = (0, 1);
    while client.poll_timeout().is_some() && !client.is_idle() {
        for datagram in sent(now, &mut client) {
            if let Some((_, reg)) = datagram.split_once(" @").filter(|_| datagram.contains(" REG ")) {
                let id = reg.split(' ').next().unwrap();
                let granted = format!("~{cookie:A>22} @{id} {GRANTED}");
                client.handle_datagram(now, granted.as_bytes());
            } else if datagram.contains(" SND ") {
                sends += 1;
                cookie = cookie % 9 + 1;
                client.handle_datagram(now, format!("~{token} ERR 0027 428 {cookie:A>22}").as_bytes());
            }
        }
        now = client.poll_timeout().unwrap().max(now);
        client.handle_timeout(now);
    }
    let outcome = ends(&events(&mut client)).pop();
    assert_eq!((sends, outcome), (13, Some((Verb::Snd, Outcome::Unknown))), "{ticket:?}");
}

#[test]
fn a_429_to_reg_is_retried_under_a_new_id_for_a_minute_in_all() {
    let (mut now, mut client, bare) = registering(Backoff::new(TIMEOUT).with_max_sends(1));
    client.handle_datagram(now, challenge(&bare, None, 1).as_bytes());
    assert_eq!(sent(now, &mut client).len(), 1);
    let mut told = 0;
    for id in 1.. {
        client.handle_datagram(now, format!("~{:A>22} @{id} ERR 0010 429 25000", 1).as_bytes());
        let events = events(&mut client);
        if let Some(Event::Closed(why)) = events.last() {
            assert_eq!(*why, Closed::Refused(429, "25000".to_owned()));
            break;
        }
        assert!(matches!(events[..], [Event::SlowDown(asked)] if asked.verb == Verb::Reg), "{events:?}");
        told += 1;
        assert_eq!(sent(now, &mut client), [""; 0]);
        now += ms(25_000);
        client.handle_timeout(now);
        let reg = bare.replacen("@1", &format!("@{}", id + 1), 1);
        assert_eq!(sent(now, &mut client), [format!("~{:A>22} {reg}", 1)]);
    }
    assert_eq!(told, 2, "a third would be more than a minute");
}

#[test]
fn a_read_with_more_pushes_than_the_inbox_holds_delivers_all_of_them() {
    let (now, mut client) = client(Some("alice"));
    register(now, &mut client, GRANTED);
    events(&mut client);
    let pushes: String = (1..=1_000).map(|id| format!("@{id} RCV 0012 bob 0001 hi")).collect();
    client.handle_bytes(now, pushes.as_bytes());
    let messages = events(&mut client).iter().filter(|event| matches!(event, Event::Message { .. })).count();
    assert_eq!(messages, 1_000);
}
