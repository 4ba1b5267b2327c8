//! The commands without sockets: their output and exit codes for given events, lines and times.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use super::commands::{ClientCommand, Listen, MAX_OPEN, Ping, Send};
use super::console::Console;
use super::driver::{Finish, Progress};
use super::interactive_chat::InteractiveChat;
use super::request_tracker::RequestTracker;
use super::resolve::OutputStyle;
use super::{CommandRunner, exit};
use crate::client::{Client, ClientStats, Closed, Event};
use crate::config::{ClientConfig, Transport};
use crate::net::program_input::Line;
use crate::reliable::{AskedToWait, Backoff, Ended, Outcome, Sent, Ticket};
use crate::wire::{Id, Verb};

/// A client without a server.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn client() -> (Instant, Client) {
    let now = Instant::now();
    let config = ClientConfig::new(Transport::Datagram, Some("me"), Backoff::new(ms(100)));
    (now, Client::new(now, config, 1, Box::new(ChaCha20Rng::seed_from_u64(1))))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs a command. Returns the result of `act`, standard output and standard error.
fn with<T: ClientCommand, R>(
    command: T,
    style: OutputStyle,
    act: impl FnOnce(&mut CommandRunner<'_, T>, Instant, &mut Client) -> R,
) -> (R, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let tracker = RequestTracker::new(Console::new(&mut out, &mut err, style.quiet), style, Some("me"));
    let (now, mut client) = client();
    let mut runner = CommandRunner { tracker, command };
    runner.command.start(&mut runner.tracker, now, &mut client);
    let result = act(&mut runner, now, &mut client);
    (result, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The outcome of the request with this ticket.
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

const PLAIN: OutputStyle = OutputStyle { json: false, verbose: 1, quiet: false };
const JSON: OutputStyle = OutputStyle { json: true, verbose: 0, quiet: false };

fn finish(closed: Option<Closed>, heard: bool, interrupted: bool) -> Finish {
    Finish { closed, stats: ClientStats::default(), heard, interrupted, connect_error: None }
}

/// Shows random names and messages with control characters: each must be one line of plain text.
fn show_hostile_text(count: usize) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let pieces = [
        "\x1b[2J", "\u{9b}", "\u{202e}", "\u{2028}", "\r\n", "\n", "\0", "\u{85}", "a", "\\", "山",
        "\u{feff}",
    ];
    let mut hostile = || {
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
        let (_, out, err) = with(Listen::new(None, None, Vec::new()), PLAIN, |runner, now, _| {
            for _ in 0..100 {
                runner.on_event(now, message(&hostile(), &hostile()));
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
fn any_message_is_shown_as_one_line_of_plain_text() {
    show_hostile_text(20_000);
}

#[test]
#[ignore = "takes some seconds: cargo test --lib a_million_messages -- --ignored"]
fn a_million_messages_are_shown_as_a_million_lines_of_plain_text() {
    show_hostile_text(1_000_000);
}

#[test]
fn listen_prints_the_wanted_number_of_messages_and_no_more() {
    let (progress, out, _) = with(Listen::new(Some(2), None, Vec::new()), PLAIN, |runner, now, _| {
        let before = runner.progress();
        for text in [&b"one"[..], b"\x07two", b"three"] {
            runner.on_event(now, message(b"al#r", text));
        }
        (before, runner.progress(), runner.command.has_shortfall())
    });
    assert_eq!(progress, (Progress::Going, Progress::Done, false));
    assert_eq!(out, "al#r> one\nal#r> \\x07two\n");
}

#[test]
fn listen_ends_at_its_deadline_and_not_before() {
    let ((), ..) = with(Listen::new(Some(1), Some(ms(50)), Vec::new()), PLAIN, |runner, now, client| {
        assert_eq!(runner.command.poll_timeout(), Some(now + ms(50)));
        runner.command.handle_timeout(&mut runner.tracker, now + ms(49), client);
        assert_eq!(runner.progress(), Progress::Going);
        runner.command.handle_timeout(&mut runner.tracker, now + ms(50), client);
        assert_eq!((runner.progress(), runner.command.poll_timeout()), (Progress::Over, None));
        assert!(runner.command.has_shortfall());
    });
}

#[test]
fn a_ping_waits_for_the_answer_to_the_previous_one_and_for_its_interval() {
    let ((), out, err) = with(Ping::new(Some(3), ms(100)), PLAIN, |runner, now, client| {
        assert_eq!((runner.command.poll_timeout(), runner.tracker.open()), (None, 1));
        runner.on_event(now + ms(20), ended(1, Verb::Png, Outcome::Acked(Vec::new())));
        assert_eq!(runner.command.poll_timeout(), Some(now + ms(100)));
        runner.command.handle_timeout(&mut runner.tracker, now + ms(99), client);
        assert_eq!(runner.tracker.open(), 0);
        runner.command.handle_timeout(&mut runner.tracker, now + ms(100), client);
        assert_eq!((runner.command.poll_timeout(), runner.tracker.open()), (None, 1));
        runner.on_event(now + ms(900), ended(2, Verb::Png, Outcome::Unknown));
        runner.command.handle_timeout(&mut runner.tracker, now + ms(900), client);
        assert_eq!((runner.progress(), runner.tracker.open()), (Progress::Going, 1));
        runner.on_event(now + ms(901), ended(3, Verb::Png, Outcome::Rejected(429, Vec::new())));
        assert_eq!(runner.progress(), Progress::Done);
    });
    assert_eq!(out, "seq=1 tries=2 time=214.0 ms\nseq=2 no answer after 2 tries\nseq=3 refused with 429\n");
    assert_eq!(err, "");
}

#[test]
fn the_time_from_when_a_line_was_due_includes_the_wait_behind_outstanding_requests() {
    let (line, _, _) = with(Send::new(b"bob".to_vec(), None), PLAIN, |runner, now, client| {
        for tenth in 0..10 {
            runner.on_line(now + ms(100 * tenth), client, Line::Text(b"x".to_vec()));
        }
        runner.on_line(now + ms(1_000), client, Line::End);
        // The server answers the first at once, pauses for 1.6 s, and then answers one per millisecond.
        let at = |ticket: u64| if ticket == 1 { now + ms(1) } else { now + ms(1_600 + ticket) };
        for ticket in 1..=10 {
            let quick = Ended {
                ticket: Ticket(ticket),
                verb: Verb::Snd,
                outcome: Outcome::Acked(Vec::new()),
                sends: 1,
                elapsed: Some(ms(1)),
            };
            runner.on_event(at(ticket), Event::Ended(quick));
        }
        assert_eq!(runner.progress(), Progress::Done);
        runner.tracker.run_summary.line(&ClientStats::default(), Transport::Stream)
    });
    assert!(line.contains(" · time to ack min/avg/p95/max = 1.0/1.0/1.0/1.0 ms"), "{line}");
    // The second was due after 0.1 s and answered after 1.602 s.
    assert!(
        line.contains(" · from when due min/avg/p95/max = 1.0/") && line.ends_with("/1502.0 ms"),
        "{line}"
    );
}

#[test]
fn lines_are_read_only_while_fewer_than_max_open_requests_are_unanswered() {
    let ((), _, err) = with(Send::new(b"bob".to_vec(), None), PLAIN, |runner, now, client| {
        let mut lines = 0;
        while runner.command.wants_line(&runner.tracker) {
            runner.on_line(now, client, Line::Text(b"x".to_vec()));
            lines += 1;
        }
        assert_eq!(lines, MAX_OPEN);
        runner.on_event(now, ended(1, Verb::Snd, Outcome::Acked(Vec::new())));
        assert!(runner.command.wants_line(&runner.tracker));
        runner.on_line(now, client, Line::TooLong { start: b"y\n".to_vec(), length: 1 << 40 });
        runner.on_line(now, client, Line::End);
        assert!(!runner.command.wants_line(&runner.tracker));
        assert_eq!(runner.progress(), Progress::Going);
        for ticket in 2..=64 {
            runner.on_event(now, ended(ticket, Verb::Snd, Outcome::NeverSent));
        }
        assert_eq!(runner.progress(), Progress::Done);
        runner.tracker.show_never_sent();
    });
    let told: Vec<&str> = err.lines().collect();
    let too_long = r"refused: message 65 to bob: `y\x0a`: 413 1099511627776 bytes are too long (not sent; the request is at fault)";
    assert_eq!(told[0], too_long);
    assert_eq!(told[1], "never sent: message 2 to bob: `x` (not done)");
    assert_eq!((told.len(), told[4]), (5, "never sent: 60 more"));
}

#[test]
fn a_429_is_shown_like_a_retry() {
    let event = |runner: &mut CommandRunner<'_, InteractiveChat>, now: Instant, client: &mut Client| {
        runner.on_line(now, client, Line::Text(b"bob hi".to_vec()));
        let asked = AskedToWait {
            ticket: Ticket(1),
            id: Id::new(7).unwrap(),
            verb: Verb::Snd,
            again_at: now + ms(120),
        };
        runner.on_event(now, Event::SlowDown(asked));
    };
    let ((), out, err) = with(InteractiveChat::new(), PLAIN, event);
    assert_eq!((out.as_str(), err.as_str()), ("", "slow down: SND @7, again in 0.12 s\n"));
    let ((), out, _) = with(InteractiveChat::new(), JSON, event);
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    let told =
        serde_json::json!({ "type": "slow_down", "verb": "SND", "id": 7, "seq": 1, "waiting_s": 0.12 });
    assert_eq!(object, told);
}

#[test]
fn a_429_of_one_second_or_more_is_shown_without_verbose() {
    let waits = |runner: &mut CommandRunner<'_, InteractiveChat>, now: Instant, _client: &mut Client| {
        for wait in [999, 1_000] {
            let id = Id::new(7).unwrap();
            let asked = AskedToWait { ticket: Ticket(1), id, verb: Verb::Snd, again_at: now + ms(wait) };
            runner.on_event(now, Event::SlowDown(asked));
        }
    };
    let usual = OutputStyle { verbose: 0, ..PLAIN };
    assert_eq!(with(InteractiveChat::new(), usual, waits).2, "slow down: SND @7, again in 1 s\n");
    assert_eq!(with(InteractiveChat::new(), OutputStyle { quiet: true, ..usual }, waits).2, "");
}

#[test]
fn a_429_that_ends_a_request_shows_the_wait() {
    let events = |runner: &mut CommandRunner<'_, InteractiveChat>, now: Instant, client: &mut Client| {
        for (ticket, words) in (1..).zip(["500", "soon"]) {
            runner.on_line(now, client, Line::Text(b"bob hi".to_vec()));
            let outcome = Outcome::Rejected(429, words.as_bytes().to_vec());
            runner.on_event(now, ended(ticket, Verb::Snd, outcome));
        }
    };
    let ((), out, err) = with(InteractiveChat::new(), PLAIN, events);
    let refused = "refused by the server: message";
    let [wait, soon] = [
        "1 to bob: `hi`: slow down, in 500 ms (not done; it came too fast)",
        "2 to bob: `hi`: 429 soon (not done; the request is at fault)",
    ]
    .map(|what| format!("{refused} {what}\n"));
    assert_eq!((out.as_str(), err), ("", wait + &soon));
    let ((), out, _) = with(InteractiveChat::new(), JSON, events);
    let waits: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|object| (object["code"].clone(), object["reason"].clone(), object.get("wait_ms").cloned()))
        .collect();
    assert_eq!(waits, [(429.into(), "500".into(), Some(500.into())), (429.into(), "soon".into(), None)]);
}

#[test]
fn retries_and_gaps_are_shown_as_a_line_or_a_json_object() {
    let events = |runner: &mut CommandRunner<'_, InteractiveChat>, now: Instant, client: &mut Client| {
        runner.on_line(now, client, Line::Text(b"bob hi".to_vec()));
        let (id, due) = (Id::new(3).unwrap(), now + ms(200));
        let sent = Sent { ticket: Ticket(1), id, verb: Verb::Snd, sends: 2, due };
        runner.on_event(now, Event::Retry(sent));
        runner.on_event(now, Event::Gap(1));
    };
    let ((), out, err) = with(InteractiveChat::new(), PLAIN, events);
    assert_eq!(out, "");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines[0], "retry: SND @3, send 2, waiting 0.2 s");
    assert!(lines[1].starts_with("the server dropped 1 message for this client: "), "{err}");
    let ((), out, _) = with(InteractiveChat::new(), JSON, events);
    let objects: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let retry = serde_json::json!({
        "type": "retry", "verb": "SND", "id": 3, "seq": 1, "send": 2, "waiting_s": 0.2
    });
    assert_eq!(objects, [retry, serde_json::json!({ "type": "gap", "count": 1 })]);
}

#[test]
fn requests_that_the_command_makes_itself_are_not_counted() {
    let ((), _, err) = with(Send::new(b"#r".to_vec(), Some(b"hi".to_vec())), PLAIN, |runner, now, _| {
        runner.on_event(now, ended(1, Verb::Jon, Outcome::Rejected(503, b"Server full!".to_vec())));
        assert_eq!(runner.progress(), Progress::Going);
        runner.on_event(now, ended(2, Verb::Snd, Outcome::Unknown));
        assert_eq!((runner.tracker.run_summary.sent, runner.tracker.run_summary.rejected), (1, 0));
        assert_eq!(runner.progress(), Progress::Done);
    });
    let told: Vec<&str> = err.lines().collect();
    assert_eq!(
        told[0],
        "refused by the server: joining #r: 503 Server full! (not done; the server is at fault)"
    );
    assert!(told[1].starts_with("unknown: message 1 to #r: `hi`: no answer after 2 sends (done once or not"));
}

#[test]
fn the_exit_code_is_that_of_the_worst_outcome() {
    let code = |outcomes: &[Outcome], transport, finish: &Finish| {
        with(Send::new(b"bob".to_vec(), None), PLAIN, |runner, now, client| {
            runner.on_event(now, Event::Registered { resumed: false });
            for (ticket, outcome) in (1..).zip(outcomes) {
                runner.on_line(now, client, Line::Text(Vec::new()));
                runner.on_event(now, ended(ticket, Verb::Snd, outcome.clone()));
            }
            runner.on_line(now, client, Line::End);
            runner.exit_code(transport, finish)
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
