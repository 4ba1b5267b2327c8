//! The commands without sockets: what they make of events, lines and time.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use super::chat::Chat;
use super::console::Console;
use super::request_tracker::RequestTracker;
use super::resolve::Style;
use super::tasks::{Listen, MAX_OPEN, Ping, Send, Task};
use super::{Running, exit};
use crate::client::{Client, ClientStats, Closed, Event};
use crate::config::{ClientConfig, Transport};
use crate::net::connect::{Command as _, Finish, Line, Progress};
use crate::reliable::{AskedToWait, Backoff, Ended, Outcome, Sent, Ticket};
use crate::wire::{Id, Verb};

/// A client that nobody answers.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn client() -> (Instant, Client) {
    let now = Instant::now();
    let config = ClientConfig::new(Transport::Datagram, Some("me"), Backoff::new(ms(100)));
    (now, Client::new(now, config, 1, Box::new(ChaCha20Rng::seed_from_u64(1))))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs a task and returns what it gave, what it printed, and what it said on standard error.
fn with<T: Task, R>(
    task: T,
    style: Style,
    act: impl FnOnce(&mut Running<'_, T>, Instant, &mut Client) -> R,
) -> (R, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let tracker = RequestTracker::new(Console::new(&mut out, &mut err, style.quiet), style, Some("me"));
    let (now, mut client) = client();
    let mut running = Running { tracker, task };
    running.start(now, &mut client);
    let result = act(&mut running, now, &mut client);
    (result, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The end of the request with this ticket.
fn ended(ticket: u64, verb: Verb, outcome: Outcome) -> Event {
    let sent = outcome != Outcome::NeverSent;
    Event::Ended(Ended {
        ticket: Ticket(ticket),
        verb,
        outcome,
        sends: if sent { 2 } else { 0 },
        elapsed: sent.then_some(ms(214)),
    })
}

fn message(sender: &[u8], body: &[u8]) -> Event {
    Event::Message { sender: sender.to_vec(), body: body.to_vec() }
}

const PLAIN: Style = Style { json: false, verbose: 1, quiet: false };
const JSON: Style = Style { json: true, verbose: 0, quiet: false };

fn finish(closed: Option<Closed>, heard: bool, interrupted: bool) -> Finish {
    Finish { closed, stats: ClientStats::default(), heard, interrupted, trouble: None }
}

/// Names and messages that could do harm, each shown as one line of plain text.
fn show_harm(count: usize) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let pieces = [
        "\x1b[2J", "\u{9b}", "\u{202e}", "\u{2028}", "\r\n", "\n", "\0", "\u{85}", "a", "\\", "山",
        "\u{feff}",
    ];
    let mut harm = || {
        let mut bytes = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            match rng.random_range(0..4) {
                0 => bytes.push(rng.random()),
                1 => bytes.extend(rng.random::<char>().to_string().bytes()),
                _ => bytes.extend(pieces[rng.random_range(0..pieces.len())].bytes()),
            }
        }
        bytes
    };
    for _ in 0..count.div_ceil(100) {
        let (_, out, err) = with(Listen::new(None, None, Vec::new()), PLAIN, |running, now, client| {
            for _ in 0..100 {
                running.on_event(now, client, message(&harm(), &harm()));
            }
        });
        let is_raw = |c: char| {
            c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        };
        assert_eq!(out.split_terminator('\n').count(), 100);
        assert!(out.lines().chain(err.lines()).all(|line| !line.contains(is_raw)), "{out:?} {err:?}");
    }
}

#[test]
fn whatever_a_message_holds_it_is_shown_as_one_line_of_plain_text() {
    show_harm(20_000);
}

#[test]
#[ignore = "takes some seconds: cargo test --lib a_million_messages -- --ignored"]
fn a_million_messages_are_shown_as_a_million_lines_of_plain_text() {
    show_harm(1_000_000);
}

#[test]
fn a_listener_counts_what_it_prints_and_wants_no_more_than_that() {
    let (progress, out, _) = with(Listen::new(Some(2), None, Vec::new()), PLAIN, |running, now, client| {
        let before = running.progress();
        for text in [&b"one"[..], b"\x07two", b"three"] {
            running.on_event(now, client, message(b"al#r", text));
        }
        (before, running.progress(), running.task.is_short())
    });
    assert_eq!(progress, (Progress::Going, Progress::Done, false));
    assert_eq!(out, "al#r> one\nal#r> \\x07two\n");
}

#[test]
fn a_listener_is_over_when_its_time_is_up_and_not_before() {
    let ((), ..) = with(Listen::new(Some(1), Some(ms(50)), Vec::new()), PLAIN, |running, now, client| {
        assert_eq!(running.poll_timeout(), Some(now + ms(50)));
        running.handle_timeout(now + ms(49), client);
        assert_eq!(running.progress(), Progress::Going);
        running.handle_timeout(now + ms(50), client);
        assert_eq!((running.progress(), running.poll_timeout()), (Progress::Over, None));
        assert!(running.task.is_short());
    });
}

#[test]
fn a_ping_waits_for_the_one_before_and_else_for_its_time() {
    let ((), out, err) = with(Ping::new(Some(3), ms(100)), PLAIN, |running, now, client| {
        assert_eq!((running.poll_timeout(), running.tracker.open()), (None, 1));
        running.on_event(now + ms(20), client, ended(1, Verb::Png, Outcome::Acked(Vec::new())));
        assert_eq!(running.poll_timeout(), Some(now + ms(100)));
        running.handle_timeout(now + ms(99), client);
        assert_eq!(running.tracker.open(), 0);
        running.handle_timeout(now + ms(100), client);
        assert_eq!((running.poll_timeout(), running.tracker.open()), (None, 1));
        running.on_event(now + ms(900), client, ended(2, Verb::Png, Outcome::Unknown));
        running.handle_timeout(now + ms(900), client);
        assert_eq!((running.progress(), running.tracker.open()), (Progress::Going, 1));
        running.on_event(now + ms(901), client, ended(3, Verb::Png, Outcome::Rejected(429, Vec::new())));
        assert_eq!(running.progress(), Progress::Done);
    });
    assert_eq!(out, "seq=1 tries=2 time=214.0 ms\nseq=2 no answer after 2 tries\nseq=3 refused with 429\n");
    assert_eq!(err, "");
}

#[test]
fn the_wait_behind_an_outstanding_request_counts_from_when_a_line_was_due() {
    let (line, _, _) = with(Send::new(b"bob".to_vec(), None), PLAIN, |running, now, client| {
        for tenth in 0..10 {
            running.on_line(now + ms(100 * tenth), client, Line::Text(b"x".to_vec()));
        }
        running.on_line(now + ms(1_000), client, Line::End);
        // The server answers the first at once, is away for a second and a half, and then answers each within a millisecond.
        let at = |ticket: u64| if ticket == 1 { now + ms(1) } else { now + ms(1_600 + ticket) };
        for ticket in 1..=10 {
            let quick = Ended {
                ticket: Ticket(ticket),
                verb: Verb::Snd,
                outcome: Outcome::Acked(Vec::new()),
                sends: 1,
                elapsed: Some(ms(1)),
            };
            running.on_event(at(ticket), client, Event::Ended(quick));
        }
        assert_eq!(running.progress(), Progress::Done);
        running.tracker.tally.line(&ClientStats::default(), Transport::Stream)
    });
    assert!(line.contains(" · time to ack min/avg/p95/max = 1.0/1.0/1.0/1.0 ms"), "{line}");
    // The second was due after 0.1 s and answered after 1.602 s.
    assert!(
        line.contains(" · from when due min/avg/p95/max = 1.0/") && line.ends_with("/1502.0 ms"),
        "{line}"
    );
}

#[test]
fn lines_are_read_only_while_few_requests_wait() {
    let ((), _, err) = with(Send::new(b"bob".to_vec(), None), PLAIN, |running, now, client| {
        let mut lines = 0;
        while running.wants_line() {
            running.on_line(now, client, Line::Text(b"x".to_vec()));
            lines += 1;
        }
        assert_eq!(lines, MAX_OPEN);
        running.on_event(now, client, ended(1, Verb::Snd, Outcome::Acked(Vec::new())));
        assert!(running.wants_line());
        running.on_line(now, client, Line::TooLong { start: b"y\n".to_vec(), length: 1 << 40 });
        running.on_line(now, client, Line::End);
        assert!(!running.wants_line());
        assert_eq!(running.progress(), Progress::Going);
        for ticket in 2..=64 {
            running.on_event(now, client, ended(ticket, Verb::Snd, Outcome::NeverSent));
        }
        assert_eq!(running.progress(), Progress::Done);
        running.tracker.show_never_sent();
    });
    let told: Vec<&str> = err.lines().collect();
    let too_long = r"refused: message 65 to bob: `y\x0a`: 413 1099511627776 bytes are too long (not sent; the request is at fault)";
    assert_eq!(told[0], too_long);
    assert_eq!(told[1], "never sent: message 2 to bob: `x` (not done)");
    assert_eq!((told.len(), told[4]), (5, "never sent: 60 more"));
}

#[test]
fn to_be_asked_to_slow_down_is_told_like_a_retry() {
    let event = |running: &mut Running<'_, Chat>, now: Instant, client: &mut Client| {
        running.on_line(now, client, Line::Text(b"bob hi".to_vec()));
        let asked = AskedToWait {
            ticket: Ticket(1),
            id: Id::new(7).unwrap(),
            verb: Verb::Snd,
            again_at: now + ms(120),
        };
        running.on_event(now, client, Event::SlowDown(asked));
    };
    let ((), out, err) = with(Chat::new(), PLAIN, event);
    assert_eq!((out.as_str(), err.as_str()), ("", "slow down: SND @7, again in 0.12 s\n"));
    let ((), out, _) = with(Chat::new(), JSON, event);
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    let told =
        serde_json::json!({ "type": "slow_down", "verb": "SND", "id": 7, "seq": 1, "waiting_s": 0.12 });
    assert_eq!(object, told);
}

#[test]
fn a_wait_of_a_second_and_more_is_told_without_being_asked() {
    let waits = |running: &mut Running<'_, Chat>, now: Instant, client: &mut Client| {
        for wait in [999, 1_000] {
            let id = Id::new(7).unwrap();
            let asked = AskedToWait { ticket: Ticket(1), id, verb: Verb::Snd, again_at: now + ms(wait) };
            running.on_event(now, client, Event::SlowDown(asked));
        }
    };
    let usual = Style { verbose: 0, ..PLAIN };
    assert_eq!(with(Chat::new(), usual, waits).2, "slow down: SND @7, again in 1 s\n");
    assert_eq!(with(Chat::new(), Style { quiet: true, ..usual }, waits).2, "");
}

#[test]
fn a_wait_that_would_take_too_long_is_told_as_such() {
    let events = |running: &mut Running<'_, Chat>, now: Instant, client: &mut Client| {
        for (ticket, words) in (1..).zip(["500", "soon"]) {
            running.on_line(now, client, Line::Text(b"bob hi".to_vec()));
            let outcome = Outcome::Rejected(429, words.as_bytes().to_vec());
            running.on_event(now, client, ended(ticket, Verb::Snd, outcome));
        }
    };
    let ((), out, err) = with(Chat::new(), PLAIN, events);
    let refused = "refused by the server: message";
    let [wait, soon] = [
        "1 to bob: `hi`: slow down, in 500 ms (not done; it came too fast)",
        "2 to bob: `hi`: 429 soon (not done; the request is at fault)",
    ]
    .map(|what| format!("{refused} {what}\n"));
    assert_eq!((out.as_str(), err), ("", wait + &soon));
    let ((), out, _) = with(Chat::new(), JSON, events);
    let waits: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|object| (object["code"].clone(), object["reason"].clone(), object.get("wait_ms").cloned()))
        .collect();
    assert_eq!(waits, [(429.into(), "500".into(), Some(500.into())), (429.into(), "soon".into(), None)]);
}

#[test]
fn retries_and_gaps_are_told_in_a_line_or_an_object() {
    let events = |running: &mut Running<'_, Chat>, now: Instant, client: &mut Client| {
        running.on_line(now, client, Line::Text(b"bob hi".to_vec()));
        let (id, due) = (Id::new(3).unwrap(), now + ms(200));
        let sent = Sent { ticket: Ticket(1), id, verb: Verb::Snd, sends: 2, due };
        running.on_event(now, client, Event::Retry(sent));
        running.on_event(now, client, Event::Gap(1));
    };
    let ((), out, err) = with(Chat::new(), PLAIN, events);
    assert_eq!(out, "");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines[0], "retry: SND @3, send 2, waiting 0.2 s");
    assert!(lines[1].starts_with("the server dropped 1 message for this client: "), "{err}");
    let ((), out, _) = with(Chat::new(), JSON, events);
    let objects: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let retry = serde_json::json!({
        "type": "retry", "verb": "SND", "id": 3, "seq": 1, "send": 2, "waiting_s": 0.2
    });
    assert_eq!(objects, [retry, serde_json::json!({ "type": "gap", "count": 1 })]);
}

#[test]
fn what_the_command_asks_by_itself_is_not_counted() {
    let ((), _, err) =
        with(Send::new(b"#r".to_vec(), Some(b"hi".to_vec())), PLAIN, |running, now, client| {
            running.on_event(
                now,
                client,
                ended(1, Verb::Jon, Outcome::Rejected(503, b"Server full!".to_vec())),
            );
            assert_eq!(running.progress(), Progress::Going);
            running.on_event(now, client, ended(2, Verb::Snd, Outcome::Unknown));
            assert_eq!((running.tracker.tally.sent, running.tracker.tally.rejected), (1, 0));
            assert_eq!(running.progress(), Progress::Done);
        });
    let told: Vec<&str> = err.lines().collect();
    assert_eq!(
        told[0],
        "refused by the server: joining #r: 503 Server full! (not done; the server is at fault)"
    );
    assert!(told[1].starts_with("unknown: message 1 to #r: `hi`: no answer after 2 sends (done once or not"));
}

#[test]
fn the_exit_code_is_that_of_the_worst_that_happened() {
    let code = |outcomes: &[Outcome], transport, finish: &Finish| {
        with(Send::new(b"bob".to_vec(), None), PLAIN, |running, now, client| {
            running.on_event(now, client, Event::Registered { resumed: false });
            for (ticket, outcome) in (1..).zip(outcomes) {
                running.on_line(now, client, Line::Text(Vec::new()));
                running.on_event(now, client, ended(ticket, Verb::Snd, outcome.clone()));
            }
            running.on_line(now, client, Line::End);
            running.code(transport, finish)
        })
        .0
    };
    let (stream, datagram) = (Transport::Stream, Transport::Datagram);
    let (acked, rejected) = (Outcome::Acked(Vec::new()), Outcome::Rejected(404, Vec::new()));
    let refused = || Some(Closed::Refused(409, String::new()));
    let done = finish(Some(Closed::Done), true, false);
    for (outcomes, expected) in [
        (vec![], exit::OK),
        (vec![acked.clone()], exit::OK),
        (vec![acked.clone(), rejected.clone()], exit::FAILED),
        (vec![rejected.clone(), Outcome::Unknown, acked.clone()], exit::GAVE_UP),
        (vec![rejected.clone(), Outcome::NeverSent], exit::GAVE_UP),
    ] {
        assert_eq!(code(&outcomes, stream, &done), expected, "{outcomes:?}");
    }
    let never = [Outcome::NeverSent];
    assert_eq!(code(&never, stream, &finish(refused(), true, false)), exit::FAILED);
    assert_eq!(code(&[Outcome::Unknown], stream, &finish(refused(), true, false)), exit::GAVE_UP);
    assert_eq!(code(&never, stream, &finish(Some(Closed::GaveUp), false, false)), exit::NO_CONNECTION);
    assert_eq!(code(&never, datagram, &finish(Some(Closed::GaveUp), false, false)), exit::GAVE_UP);
    assert_eq!(code(&[], datagram, &finish(None, false, false)), exit::GAVE_UP);
    assert_eq!(code(&[], stream, &finish(Some(Closed::TakenUp), true, false)), exit::OK);
    assert_eq!(code(&never, stream, &finish(Some(Closed::ServerBye(None)), true, false)), exit::GAVE_UP);
    assert_eq!(code(&never, stream, &finish(Some(Closed::Done), false, true)), exit::INTERRUPTED);
}
