//! Every cause that ends a session or makes it wait: the frames to each side, the counters, the log.
//!
//! Each row of [`TABLE`] is one cause for one kind of peer. The output to the peer is compared byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use log::Level;
use sayagain::config::ServerConfig;
use sayagain::hub::{HubConfig, SlowPolicy};
use sayagain::listener::{Greet, LineListener, Listener};
use sayagain::names::RoomName;
use sayagain::rates::Rate;
use sayagain::rules::Rules;
use sayagain::server::{EndReason, Totals};
use sayagain::service::{CloseReason, Remote};

use crate::harness::{Conn, ServerHarness, addr, cookie, local, nonce, reg, register};
use crate::support::{collect_log, secs, stop_log, take_log};

/// The kind of peer that is registered as ada.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A stream that registered with a tag, as the client does.
    TaggedStream,
    /// A stream that registered without a tag.
    UntaggedStream,
    /// A line client.
    Line,
    /// Datagrams, tagged.
    TaggedUdp,
    /// Datagrams, untagged, from an address that needs no proof.
    BareUdp,
}

use Form::{BareUdp, Line, TaggedStream, TaggedUdp, UntaggedStream};

/// The cause of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    ClientBye,
    RulesDenyIt,
    TakenUpElsewhere,
    SlowConsumer,
    BrokenFrame,
    FrameTimeout,
    ConnectionLost,
    PeerUnreachable,
    Idle,
    Drain,
    DrainBackInFive,
}

/// The answer to another registration under the name: empty if it is granted.
const FREE: &str = "";
const WAITS: &str = "409 Name taken! Its session waits 30 s more for its owner";
const ONLINE: &str = "409 Name taken!";
const DENIED: &str = "403 Name not allowed here!";
const DRAINING: &str = "503 Shutting down!";

struct Row {
    cause: Cause,
    form: Form,
    told: &'static str,
    /// The answer to another registration under the name right after the end.
    name: &'static str,
    /// Why the session ended; `None` if it continues.
    end: Option<EndReason>,
    /// The other totals that count it.
    counted: &'static str,
    /// A debug line of the log; empty if none is expected.
    logged: &'static str,
}

const fn row(
    cause: Cause,
    form: Form,
    told: &'static str,
    name: &'static str,
    end: Option<EndReason>,
    counted: &'static str,
    logged: &'static str,
) -> Row {
    Row { cause, form, told, name, end, counted, logged }
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // cause, peer, output to the peer, the name after it, reason of the end, totals, log line
    row(Cause::ClientBye, TaggedStream, "@9 ACK 0000", FREE, Some(EndReason::Asked), "", "ada: the session ends: the client said BYE"),
    row(Cause::ClientBye, UntaggedStream, "", FREE, Some(EndReason::Asked), "", "ada: the session ends: the client said BYE"),
    row(Cause::ClientBye, Line, "* goodbye\n", FREE, Some(EndReason::Asked), "", "ada: the session ends: the client said BYE"),
    row(Cause::ClientBye, TaggedUdp, "~TOKEN @9 ACK 0000", FREE, Some(EndReason::Asked), "", "ada: the session ends: the client said BYE"),
    row(Cause::ClientBye, BareUdp, "", FREE, Some(EndReason::Asked), "", "ada: the session ends: the client said BYE"),

    row(Cause::RulesDenyIt, TaggedStream, "ERR 0023 Name not allowed here!BYE 0006 ended", DENIED, Some(EndReason::NotAllowed), "", "ada: the session ends: not allowed any more"),
    row(Cause::RulesDenyIt, UntaggedStream, "ERR 0023 Name not allowed here!BYE 0000", DENIED, Some(EndReason::NotAllowed), "", "ada: the session ends: not allowed any more"),
    row(Cause::RulesDenyIt, Line, "* Name not allowed here!\n* goodbye\n", DENIED, Some(EndReason::NotAllowed), "", "ada: the session ends: not allowed any more"),
    row(Cause::RulesDenyIt, TaggedUdp, "~TOKEN ERR 0023 Name not allowed here!BYE 0006 ended", DENIED, Some(EndReason::NotAllowed), "", "ada: the session ends: not allowed any more"),
    row(Cause::RulesDenyIt, BareUdp, "ERR 0023 Name not allowed here!BYE 0000", DENIED, Some(EndReason::NotAllowed), "", "ada: the session ends: not allowed any more"),

    row(Cause::TakenUpElsewhere, TaggedStream, "ERR 0023 409 taken up elsewhereBYE 0010 elsewhere", ONLINE, None, "", "ada: taken up from 10.0.9.9:9"),

    row(Cause::SlowConsumer, TaggedStream, "ERR 0020 you read too slowlyBYE 0006 ended", FREE, Some(EndReason::SlowConsumer), ", slow consumers cut off 1", "ada: the session ends: slow consumer"),
    row(Cause::SlowConsumer, UntaggedStream, "ERR 0020 you read too slowlyBYE 0000", FREE, Some(EndReason::SlowConsumer), ", slow consumers cut off 1", "ada: the session ends: slow consumer"),
    row(Cause::SlowConsumer, Line, "* you read too slowly\n* goodbye\n", FREE, Some(EndReason::SlowConsumer), ", slow consumers cut off 1", "ada: the session ends: slow consumer"),
    row(Cause::SlowConsumer, TaggedUdp, "~TOKEN ERR 0020 you read too slowlyBYE 0006 ended", FREE, Some(EndReason::SlowConsumer), ", slow consumers cut off 1", "ada: the session ends: slow consumer"),

    row(Cause::BrokenFrame, TaggedStream, "ERR 0059 malformed verb: it is 3 upper-case letters, then one spaceBYE 0014 waiting 30000", WAITS, None, ", cut off connections 1", "cut off: malformed verb"),
    row(Cause::BrokenFrame, UntaggedStream, "ERR 0059 malformed verb: it is 3 upper-case letters, then one spaceBYE 0000", FREE, Some(EndReason::CutOff), ", cut off connections 1", "ada: the session ends: connection cut off"),

    row(Cause::FrameTimeout, TaggedStream, "ERR 0027 frame not finished in timeBYE 0014 waiting 30000", WAITS, None, ", cut off connections 1", "cut off: frame not finished in time"),
    row(Cause::FrameTimeout, UntaggedStream, "ERR 0027 frame not finished in timeBYE 0000", FREE, Some(EndReason::CutOff), ", cut off connections 1", "ada: the session ends: connection cut off"),
    row(Cause::FrameTimeout, Line, "* line not finished in time\n* goodbye\n", FREE, Some(EndReason::CutOff), ", cut off connections 1", "ada: the session ends: connection cut off"),

    row(Cause::ConnectionLost, TaggedStream, "", WAITS, None, "", "the connection ends: lost; its session waits"),
    row(Cause::ConnectionLost, UntaggedStream, "", FREE, Some(EndReason::ConnectionLost), "", "ada: the session ends: connection lost"),
    row(Cause::ConnectionLost, Line, "", FREE, Some(EndReason::ConnectionLost), "", "ada: the session ends: connection lost"),

    row(Cause::PeerUnreachable, TaggedStream, "", WAITS, None, ", unreachable peers 1", "cut off: the peer does not answer"),
    row(Cause::PeerUnreachable, UntaggedStream, "", FREE, Some(EndReason::ConnectionLost), ", unreachable peers 1", "cut off: the peer does not answer"),
    row(Cause::PeerUnreachable, Line, "", FREE, Some(EndReason::ConnectionLost), ", unreachable peers 1", "cut off: the peer does not answer"),

    // A tagged client learns it from the 401 to its next request; see below.
    row(Cause::Idle, TaggedUdp, "", FREE, Some(EndReason::Idle), "", "ada: the session ends: idle"),
    row(Cause::Idle, BareUdp, "BYE 0000", FREE, Some(EndReason::Idle), "", "ada: the session ends: idle"),

    row(Cause::Drain, TaggedStream, "@1 BYE 0009 draining", DRAINING, None, "", ""),
    row(Cause::Drain, UntaggedStream, "BYE 0000", DRAINING, Some(EndReason::Draining), "", "ada: the session ends: shutdown"),
    row(Cause::Drain, Line, "* goodbye: the server is shutting down\n", DRAINING, Some(EndReason::Draining), "", "ada: the session ends: shutdown"),
    row(Cause::Drain, TaggedUdp, "~TOKEN @1 BYE 0009 draining", DRAINING, None, "", ""),
    row(Cause::Drain, BareUdp, "BYE 0000", DRAINING, Some(EndReason::Draining), "", "ada: the session ends: shutdown"),
    row(Cause::DrainBackInFive, TaggedStream, "@1 BYE 0014 draining 5000", DRAINING, None, "", ""),
    row(Cause::DrainBackInFive, UntaggedStream, "BYE 0000", DRAINING, Some(EndReason::Draining), "", "ada: the session ends: shutdown"),
    row(Cause::DrainBackInFive, Line, "* goodbye: the server is shutting down, and expects to be back in 5 s\n", DRAINING, Some(EndReason::Draining), "", "ada: the session ends: shutdown"),
    row(Cause::DrainBackInFive, TaggedUdp, "~TOKEN @1 BYE 0014 draining 5000", DRAINING, None, "", ""),
    row(Cause::DrainBackInFive, BareUdp, "BYE 0000", DRAINING, Some(EndReason::Draining), "", "ada: the session ends: shutdown"),
];

/// The log of this thread during `act`.
fn logged_by<R>(act: impl FnOnce() -> R) -> (R, Vec<(Level, String)>) {
    collect_log();
    let result = act();
    let lines = take_log();
    stop_log();
    (result, lines)
}

/// The index of the line listener, after the listener for frames.
const LINES: usize = 1;

fn config(cause: Cause) -> ServerConfig {
    let room = RoomName::parse(b"#lobby").unwrap();
    let listener = LineListener { room, greet: Greet::Name, echo: false, flush: None };
    let lines = Listener { rate: Rate::UNLIMITED, ..Listener::lines("line", listener) };
    let slow = HubConfig { slow: SlowPolicy::Disconnect, max_pending: 4_000, ..HubConfig::default() };
    ServerConfig {
        listeners: vec![Listener::frames("tcp"), lines],
        hub: if cause == Cause::SlowConsumer { slow } else { HubConfig::default() },
        back_in: (cause == Cause::DrainBackInFive).then_some(Duration::from_secs(5)),
        ..ServerConfig::default()
    }
}

/// Ada in the room #lobby, and bob, who sends messages to it.
struct Scene {
    harness: ServerHarness,
    form: Form,
    conn: Conn,
    from: SocketAddr,
    token: String,
    bob: Conn,
}

impl Scene {
    fn open(cause: Cause, form: Form) -> Self {
        let mut harness = ServerHarness::new(config(cause));
        let bob = harness.connect_as("REG 0004 bobJON 0007 #lobby");
        let from = if form == BareUdp { local(7) } else { addr(7, 7) };
        let mut scene = Self { harness, form, conn: 0, from, token: String::new(), bob };
        scene.register();
        scene
    }

    fn register(&mut self) {
        let (harness, from) = (&mut self.harness, self.from);
        match self.form {
            TaggedStream => {
                self.conn = harness.connect_at(0, Remote::Ip(from));
                let granted = harness.say(self.conn, reg(1, "ada", &format!("?{}", nonce(1))));
                self.token = granted.rsplit(' ').next().unwrap().to_owned();
            }
            UntaggedStream => {
                self.conn = harness.connect_at(0, Remote::Ip(from));
                harness.say(self.conn, "REG 0004 ada");
            }
            Line => {
                self.conn = harness.connect_at(LINES, Remote::Ip(from));
                harness.say(self.conn, "ada\n");
            }
            TaggedUdp => self.token = register(harness, from, "ada", &nonce(1)),
            BareUdp => drop(harness.datagram(from, "REG 0004 ada")),
        }
    }

    fn say(&mut self, bytes: &str) {
        match self.form {
            TaggedStream | UntaggedStream | Line => self.harness.put(self.conn, bytes),
            TaggedUdp => self.harness.server_datagram(self.from, format!("~{} {bytes}", self.token)),
            BareUdp => self.harness.server_datagram(self.from, bytes),
        }
    }

    /// The output to Ada since the last call, after the last of Bob's messages.
    fn heard(&mut self) -> String {
        let heard = match self.form {
            TaggedStream | UntaggedStream | Line => self.harness.heard(self.conn),
            TaggedUdp | BareUdp => self.harness.datagrams_to(self.from).concat(),
        };
        let heard = heard.rfind("xxx").map_or(&*heard, |at| &heard[at + 3..]);
        if self.token.is_empty() { heard.to_owned() } else { heard.replace(&self.token, "TOKEN") }
    }

    /// The answer to another registration under Ada's name, without its head.
    fn ask_for_name(&mut self) -> String {
        let (from, nonce) = (addr(9, 9), nonce(9));
        let cookie = cookie(&mut self.harness, from, "ada", &nonce);
        let answer =
            self.harness.datagram(from, format!("~{cookie} {}", reg(1, "ada", &format!("?{nonce}"))));
        let answer = answer.concat();
        answer.split_once(" @1 ERR ").map_or_else(String::new, |(_, error)| error["0000 ".len()..].to_owned())
    }

    /// Brings the cause about.
    fn play(&mut self, cause: Cause) {
        match cause {
            Cause::ClientBye => self.say(match self.form {
                TaggedStream | TaggedUdp => "@9 BYE 0000",
                UntaggedStream | BareUdp => "BYE 0000",
                Line => "/quit\n",
            }),
            Cause::RulesDenyIt => {
                let rules =
                    Rules::parse(b"[[rule]]\nname = 'ada'\ndeny = ['10.0.0.0/8', 'loopback']").unwrap();
                self.harness.server.set_rules(self.harness.now, rules);
            }
            Cause::TakenUpElsewhere => {
                let other = self.harness.connect_at(0, Remote::Ip("10.0.9.9:9".parse().unwrap()));
                let granted = self.harness.say(other, reg(5, "ada", &self.token));
                assert!(granted.starts_with("@5 ACK"), "{granted}");
            }
            Cause::SlowConsumer => self.read_too_slowly(),
            Cause::BrokenFrame => self.say("xyz"),
            Cause::FrameTimeout => {
                self.say(if self.form == Line { "hel" } else { "SND 00" });
                self.harness.pass(secs(if self.form == Line { 60 } else { 10 }));
            }
            Cause::ConnectionLost => self.harness.hang_up(self.conn),
            Cause::PeerUnreachable => self.harness.lose(self.conn, CloseReason::Unreachable),
            Cause::Idle => self.harness.pass(secs(90)),
            Cause::Drain | Cause::DrainBackInFive => self.harness.shut_down(),
        }
    }

    /// Puts Ada into Bob's room without reading his messages.
    fn read_too_slowly(&mut self) {
        match self.form {
            TaggedStream | TaggedUdp => self.say("@2 JON 0007 #lobby"),
            UntaggedStream => self.say("JON 0007 #lobby"),
            Line | BareUdp => {}
        }
        self.heard();
        self.harness.stall(self.conn, true);
        for _ in 0..9 {
            self.harness.say(self.bob, format!("SND 1008 #lobby {}", "x".repeat(1_000)));
        }
        self.harness.stall(self.conn, false);
    }
}

/// The part of the totals that is shown only if not zero, without the reasons of ended sessions.
fn counted(totals: &Totals) -> String {
    let mut totals = totals.clone();
    totals.ends = Totals::default().ends;
    let text = totals.to_string();
    let parts = text.split(", ").filter(|part| {
        ["cut off", "slow consumers cut off", "unreachable"].iter().any(|what| part.starts_with(what))
            || part.starts_with("refused") && !part.ends_with(" 0")
    });
    parts.map(|part| format!(", {part}")).collect()
}

#[test]
fn every_end_of_a_session_is_sent_to_each_side_counted_and_logged() {
    for Row { cause, form, told, name, end, counted: expected, logged } in TABLE {
        let what = format!("{cause:?} of {form:?}");
        let mut scene = Scene::open(*cause, *form);
        let ((heard, is_closed), lines) = logged_by(|| {
            scene.play(*cause);
            let heard = scene.heard();
            (heard, scene.harness.is_closed(scene.conn))
        });
        assert_eq!(heard, *told, "{what}");
        let is_stream = [TaggedStream, UntaggedStream, Line].contains(form);
        let is_gone = [Cause::ConnectionLost, Cause::PeerUnreachable].contains(cause);
        let waits_for_ack = [Cause::Drain, Cause::DrainBackInFive].contains(cause) && *form == TaggedStream;
        assert!(!is_stream || is_closed != (is_gone || waits_for_ack), "{what}: is the connection closed?");
        let totals = scene.harness.totals();
        for reason in EndReason::ALL {
            let ended = u64::from(*end == Some(reason));
            // Bob's session ends with the server too.
            let bobs = u64::from(name == &DRAINING && reason == EndReason::Draining);
            assert_eq!(totals.ends.of(reason), ended + bobs, "{what}: {reason:?}");
        }
        assert_eq!(counted(&totals), *expected, "{what}");
        let found = lines.iter().find(|(_, line)| line.contains(logged));
        assert!(
            logged.is_empty() || found.is_some_and(|(level, _)| *level == Level::Debug),
            "{what}: {lines:?}"
        );
        assert_eq!(scene.ask_for_name(), *name, "{what}: the name");
    }
}

#[test]
fn a_drained_session_ends_with_its_acknowledgement_of_the_bye_or_with_the_drain() {
    for form in [TaggedStream, TaggedUdp] {
        for acknowledges in [true, false] {
            let mut scene = Scene::open(Cause::Drain, form);
            scene.play(Cause::Drain);
            scene.heard();
            if acknowledges {
                scene.say("ACK 0002 1");
            } else {
                scene.harness.pass(secs(8));
            }
            assert_eq!(scene.harness.totals().ends.of(EndReason::Draining), 2, "{form:?}, {acknowledges}");
        }
    }
}

#[test]
fn a_request_after_the_idle_time_or_the_epoch_is_answered_that_the_session_is_gone() {
    let mut scene = Scene::open(Cause::Idle, TaggedUdp);
    scene.play(Cause::Idle);
    scene.say("@2 PNG 0000");
    assert_eq!(scene.heard(), "~TOKEN ERR 0004 401");
    for (form, told) in [(TaggedStream, "@2 ERR 0018 401 Session gone!"), (TaggedUdp, "~TOKEN ERR 0004 401")]
    {
        let old = Scene::open(Cause::Drain, form);
        // Another epoch of the server does not know the session.
        let mut scene = Scene { harness: ServerHarness::new(config(Cause::Drain)), ..old };
        match form {
            TaggedStream => {
                scene.conn = scene.harness.connect();
                scene.say(&reg(2, "ada", &scene.token.clone()));
            }
            _ => scene.say("@2 PNG 0000"),
        }
        assert_eq!(scene.heard(), told);
    }
}

#[test]
fn a_lingering_session_that_is_not_resumed_is_counted_and_its_token_becomes_invalid() {
    let mut scene = Scene::open(Cause::ConnectionLost, TaggedStream);
    scene.play(Cause::ConnectionLost);
    scene.harness.say(scene.bob, "SND 0009 ada hello");
    for (secs_later, told) in [
        (0, "409 Name taken! Its session waits 30 s more for its owner"),
        (10, "409 Name taken! Its session waits 20 s more for its owner"),
        (29, "409 Name taken! Its session waits 1 s more for its owner"),
    ] {
        let mut later = Scene::open(Cause::ConnectionLost, TaggedStream);
        later.play(Cause::ConnectionLost);
        later.harness.pass(secs(secs_later));
        assert_eq!(later.ask_for_name(), told);
        let line = later.harness.connect_at(LINES, Remote::Ip(local(1)));
        let left = 30 - secs_later;
        let answer = later.harness.say(line, "ada\n");
        assert!(
            answer.ends_with(&format!(
                "* ada is taken: its session waits {left} s more for its owner\nEnter your name: "
            )),
            "{answer}"
        );
        let untagged = later.harness.connect();
        let text = format!("Name taken! Its session waits {left} s more for its owner");
        assert_eq!(later.harness.say(untagged, "REG 0004 ada"), format!("ERR {:04} {text}", text.len() + 1));
    }
    let ((), lines) = logged_by(|| scene.harness.pass(secs(30)));
    let lines: Vec<_> = lines.iter().map(|(level, line)| (*level, line.as_str())).collect();
    assert!(
        lines.contains(&(Level::Debug, "10.0.0.7:7: ada: the session ends: not resumed in time")),
        "{lines:?}"
    );
    assert!(lines.contains(&(Level::Warn, "ada is gone, 1 message for it undelivered")), "{lines:?}");
    let totals = scene.harness.totals();
    assert_eq!((totals.ends.of(EndReason::LingerOver), totals.hub.undelivered), (1, 1));
    let late = scene.harness.connect();
    let token = scene.token.clone();
    assert_eq!(scene.harness.say(late, reg(4, "ada", &token)), "@4 ERR 0018 401 Session gone!");
}

#[test]
fn the_wait_for_a_taken_name_over_datagrams_counts_from_the_last_datagram_of_its_owner() {
    let mut scene = Scene::open(Cause::Idle, TaggedUdp);
    scene.harness.pass(secs(60));
    assert_eq!(scene.ask_for_name(), "409 Name taken! Its session waits 30 s more for its owner");
    scene.say("@2 PNG 0000");
    assert_eq!(scene.ask_for_name(), "409 Name taken! Its session waits 90 s more for its owner");
}

#[test]
fn a_refused_connection_is_told_why_and_counted() {
    let mut harness = ServerHarness::new(ServerConfig { max_connections: 2, ..config(Cause::Drain) });
    let (frames, lines) = (harness.connect(), harness.connect_at(LINES, Remote::Ip(addr(7, 7))));
    let (full, logged) = logged_by(|| harness.connect());
    assert_eq!(harness.heard(full), "ERR 0013 Server full!BYE 0000");
    assert!(logged.iter().any(|(level, line)| *level == Level::Warn && line.contains("Server full!")));
    let line_client = harness.connect_at(LINES, Remote::Ip(addr(8, 8)));
    assert_eq!(harness.heard(line_client), "* Server full!\n* goodbye\n");
    harness.heard(lines);
    let ((), logged) = logged_by(|| harness.pass(secs(60)));
    assert_eq!(harness.heard(frames), "ERR 0023 not registered in timeBYE 0000");
    assert_eq!(harness.heard(lines), "\n* no name was given in time\n* goodbye\n");
    assert!(
        logged.iter().any(|(level, line)| *level == Level::Debug && line.ends_with("not registered in time"))
    );
    let totals = harness.totals();
    assert_eq!((totals.refused_connections, totals.cut_off_connections), (2, 2));

    let mut harness = ServerHarness::new(ServerConfig { max_per_host: 1, ..config(Cause::Drain) });
    let from = Remote::Ip(addr(7, 7));
    let (_first, second, line_client) =
        (harness.connect_at(0, from), harness.connect_at(0, from), harness.connect_at(LINES, from));
    assert_eq!(harness.heard(second), "ERR 0039 too many connections from your addressBYE 0000");
    assert_eq!(harness.heard(line_client), "* too many connections from your address\n* goodbye\n");
}
