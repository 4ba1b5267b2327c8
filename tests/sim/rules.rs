//! Access rules: which peers may use which names, the effect of a reload on existing sessions, and guests.

use std::net::SocketAddr;

use sayagain::config::ServerConfig;
use sayagain::listener::Listener;
use sayagain::rules::Rules;
use sayagain::service::{Origin, Remote};

use super::harness::{Conn, ServerHarness, addr, cookie, local, nonce, reg, register, snd};
use super::support::secs;

const LISTENERS: [&str; 5] = ["tcp", "udp", "unix", "line", "lan"];

/// The datagram listener.
const UDP: usize = 1;

const TURNED_OUT: &str = "ERR 0023 Name not allowed here!BYE 0000";

/// The same to a tagged session.
const ENDED: &str = "ERR 0023 Name not allowed here!BYE 0006 ended";

fn rules(text: &str) -> Rules {
    Rules::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn harness(text: &str) -> ServerHarness {
    let listeners = LISTENERS.map(Listener::frames).to_vec();
    ServerHarness::new(ServerConfig { listeners, rules: rules(text), ..ServerConfig::default() })
}

fn ip(listener: usize, ip: &str) -> Origin {
    Origin { listener, from: Remote::Ip(SocketAddr::new(ip.parse().unwrap(), 4_000)) }
}

fn unix(uid: u32, gid: u32) -> Origin {
    Origin { listener: 2, from: Remote::Unix { uid, gid } }
}

/// The origins of the visitors, in the order of the columns of [`TABLE`].
fn visitors() -> [Origin; 13] {
    [
        ip(0, "127.0.0.1"),
        ip(0, "10.1.2.3"),
        ip(0, "::ffff:10.1.2.3"),
        ip(0, "10.0.0.13"),
        ip(0, "2001:db8::7"),
        ip(0, "192.0.2.1"),
        ip(UDP, "127.0.0.1"),
        ip(UDP, "10.1.2.3"),
        unix(1_000, 100),
        unix(0, 0),
        ip(3, "192.0.2.1"),
        ip(3, "10.1.2.3"),
        ip(4, "192.0.2.1"),
    ]
}

/// The requested names, and the row of [`TABLE`] with the answer: a name that looks like `scope` counts as `scope`.
const NAMES: [(&str, usize); 6] =
    [("scope", 0), ("SCOPE", 0), ("ѕсоре", 0), ("scope-2", 1), ("bob", 2), ("carol", 3)];

/// Rules, and for each row of names whether each visitor (`lo 10 map 13 v6 doc | udp: lo 10 | unix: 1000 0 | line: doc
/// 10 | lan: doc`) gets them. Worked out by hand.
const TABLE: [(&str, [&str; 4]); 8] = [
    ("", ["+++++++++++++", "+++++++++++++", "+++++++++++++", "+++++++++++++"]),
    (
        "[[rule]]\nname = 'scope'\nallow = ['loopback']",
        ["+-----+------", "+++++++++++++", "+++++++++++++", "+++++++++++++"],
    ),
    (
        "[[rule]]\nname = 'scope*'\nallow = ['10.0.0.0/8', 'unix']\ndeny = ['10.0.0.13']",
        ["-++----+++-+-", "-++----+++-+-", "+++++++++++++", "+++++++++++++"],
    ),
    (
        "[[rule]]\nname = 'scope*'\nlistener = 'line'",
        ["----------++-", "----------++-", "+++++++++++++", "+++++++++++++"],
    ),
    (
        "[[rule]]\nname = '*'\nallow = ['uid:1000', '2001:db8::/32']\n[[rule]]\nname = 'bob'\nallow = ['192.0.2.1']",
        ["----+---+----", "----+---+----", "----++--+-+-+", "----+---+----"],
    ),
    (
        "[[rule]]\nname = '*'\ndeny = ['10.0.0.0/8']\n[[rule]]\nname = 'scope'\nallow = ['loopback']",
        ["+-----+------", "+---+++-+++-+", "+---+++-+++-+", "+---+++-+++-+"],
    ),
    (
        "[[rule]]\nname = '?ob'\nallow = ['192.0.2.0/24', 'unix']\nlistener = 'lan'\ndeny = ['gid:100']",
        ["+++++++++++++", "+++++++++++++", "------------+", "+++++++++++++"],
    ),
    (
        "[[rule]]\nname = 'sc?pe'\nallow = ['::ffff:10.0.0.0/104']\n[[rule]]\nname = '*l'\ndeny = ['unix']",
        ["-+++---+---+-", "+++++++++++++", "+++++++++++++", "++++++++--+++"],
    ),
];

fn expected(row: &[&str; 4], name: usize, visitor: usize) -> bool {
    row[NAMES[name].1].as_bytes()[visitor] == b'+'
}

/// The connection or address of a visitor.
enum SessionHandle {
    Stream(Conn),
    Datagram(SocketAddr, String),
}

/// Registers a name as the client does. `None` if it was refused with 403.
fn ask(harness: &mut ServerHarness, origin: Origin, name: &str) -> Option<SessionHandle> {
    let nonce = nonce(1);
    let refused = "@1 ERR 0027 403 Name not allowed here!";
    let ask = reg(1, name, &format!("?{nonce}"));
    match origin.from {
        Remote::Ip(from) if origin.listener == UDP => {
            let challenge = harness.datagram_through(UDP, from, &ask).remove(0);
            let cookie = challenge.split(' ').nth(4).unwrap().to_owned();
            let answer = harness.datagram_through(UDP, from, format!("~{cookie} {ask}")).remove(0);
            let answer = answer.strip_prefix(&format!("~{cookie} ")).unwrap().to_owned();
            let token = answer.strip_prefix("@1 ACK 0023 ").map(str::to_owned);
            assert!(token.is_some() || answer == refused, "{answer}");
            token.map(|token| SessionHandle::Datagram(from, token))
        }
        _ => {
            let conn = harness.connect_from(origin);
            let answer = harness.say(conn, &ask);
            let granted = answer.starts_with("@1 ACK 0023 ");
            assert!(granted || answer == refused, "{answer}");
            granted.then_some(SessionHandle::Stream(conn))
        }
    }
}

/// Checks that a session exists, or that it was ended and its client was told.
fn check(harness: &mut ServerHarness, handle: SessionHandle, is_on: bool) {
    match handle {
        SessionHandle::Stream(conn) => {
            let heard = if is_on { harness.say(conn, "@2 PNG 0002 x") } else { harness.heard(conn) };
            assert_eq!(heard, if is_on { "@2 ACK 0002 x" } else { ENDED });
            assert_eq!(harness.is_closed(conn), !is_on);
        }
        SessionHandle::Datagram(from, token) => {
            let heard = harness.datagram_through(UDP, from, format!("~{token} @2 PNG 0002 x"));
            let expected = if is_on { vec!["@2 ACK 0002 x"] } else { vec![ENDED, "ERR 0004 401"] };
            assert_eq!(heard, expected.iter().map(|frames| format!("~{token} {frames}")).collect::<Vec<_>>());
        }
    }
}

#[test]
fn listeners_names_rules_and_reloads_match_the_table() {
    let (mut asked, mut reloaded) = (0, 0);
    for (text, row) in &TABLE {
        for (n, (name, _)) in NAMES.iter().enumerate() {
            for (v, origin) in visitors().into_iter().enumerate() {
                let cell = format!("{name} from {origin:?} under {text}");
                let granted = expected(row, n, v);
                asked += 1;
                assert_eq!(ask(&mut harness(text), origin, name).is_some(), granted, "{cell}");
                for (next, next_row) in TABLE.iter().filter(|_| granted) {
                    let mut harness = harness(text);
                    let handle = ask(&mut harness, origin, name).unwrap();
                    let stays = expected(next_row, n, v);
                    let ended = harness.set_rules(rules(next));
                    assert_eq!(
                        (ended, harness.server.sessions()),
                        (usize::from(!stays), usize::from(stays)),
                        "{cell}, {next}"
                    );
                    check(&mut harness, handle, stays);
                    reloaded += 1;
                }
            }
        }
    }
    assert_eq!(asked, 8 * 6 * 13);
    assert!(reloaded >= 2_000, "{reloaded}");
}

#[test]
fn a_reload_ends_only_sessions_that_are_denied_and_frees_their_names() {
    let mut harness = harness("");
    let [bob, ada] = ["bob", "ada"].map(|name| {
        let conn = harness.connect_from(ip(0, "192.0.2.1"));
        harness.say(conn, format!("REG 0004 {name}JON 0006 #room"));
        conn
    });
    harness.stall(bob, true);
    assert_eq!(harness.say(ada, "SND 0007 bob hi"), "");
    assert_eq!(harness.set_rules(rules("[[rule]]\nname = 'bob'\nallow = ['unix']")), 1);
    assert_eq!(harness.totals().hub.undelivered, 1);
    assert_eq!(harness.say(ada, "LST 0006 #room"), "ACK 0004 ada");
    // The client receives it when it reads again.
    harness.stall(bob, false);
    assert!(harness.heard(bob).ends_with(TURNED_OUT));
    let unix = harness.connect_from(unix(1, 1));
    assert_eq!(harness.say(unix, "REG 0004 bob"), "");
    assert_eq!(harness.say(ada, "SND 0008 bob you"), "");
    assert_eq!(harness.heard(unix), "RCV 0013 ada 0001 you");
}

#[test]
fn a_lingering_session_ends_with_the_reload_that_denies_it() {
    let mut harness = harness("");
    let conn = harness.connect_from(ip(0, "192.0.2.1"));
    let token = harness.say(conn, reg(1, "bob", &format!("?{}", nonce(1)))).split_off("@1 ACK 0023 ".len());
    harness.hang_up(conn);
    assert_eq!(harness.server.sessions(), 1);
    assert_eq!(harness.set_rules(rules("[[rule]]\nname = 'bob'\ndeny = ['192.0.2.1']")), 1);
    let again = harness.connect_from(unix(1, 1));
    assert_eq!(harness.say(again, reg(2, "bob", &token)), "@2 ERR 0018 401 Session gone!");
}

#[test]
fn a_session_ended_by_a_reload_does_not_linger_and_its_connection_leaves_no_state() {
    let mut harness = harness("");
    let conn = harness.connect_from(ip(0, "192.0.2.1"));
    harness.say(conn, reg(1, "bob", &format!("?{}", nonce(1))));
    harness.set_rules(rules("[[rule]]\nname = 'bob'\nallow = ['unix']"));
    // A second reload sends nothing twice.
    assert_eq!(harness.set_rules(rules("[[rule]]\nname = 'bob'\nallow = ['loopback']")), 0);
    assert_eq!(harness.heard(conn), ENDED);
    harness.hang_up(conn);
    harness.pass(secs(60));
    assert!(harness.server.is_stateless());
}

#[test]
fn a_session_is_not_resumed_from_where_its_name_is_denied() {
    let mut harness = harness("[[rule]]\nname = 'bob'\nallow = ['10.0.0.0/8']");
    let home = harness.connect_from(ip(0, "10.1.2.3"));
    let token = harness.say(home, reg(1, "bob", &format!("?{}", nonce(1)))).split_off("@1 ACK 0023 ".len());
    let away = harness.connect_from(ip(0, "192.0.2.1"));
    assert_eq!(harness.say(away, reg(2, "bob", &token)), "@2 ERR 0027 403 Name not allowed here!");
    assert!(!harness.is_closed(away) && !harness.is_closed(home));
    // An answer is final for its id, also under other rules.
    harness.set_rules(Rules::default());
    assert_eq!(harness.say(away, reg(2, "bob", &token)), "@2 ERR 0027 403 Name not allowed here!");
    assert_eq!(harness.say(home, "@3 PNG 0000"), "@3 ACK 0000");
    let other = harness.connect_from(ip(0, "::ffff:10.9.9.9"));
    assert_eq!(harness.say(other, reg(4, "bob", &token)), format!("@4 ACK 0023 {token}"));
    assert_eq!(harness.heard(home), "ERR 0023 409 taken up elsewhereBYE 0010 elsewhere");
}

#[test]
fn a_datagram_session_does_not_move_to_where_its_name_is_denied() {
    let mut harness = harness("[[rule]]\nname = 'bob'\nallow = ['10.0.0.1', '10.0.0.3']");
    let (home, away) = (addr(1, 1), addr(2, 1));
    let token = register(&mut harness, home, "bob", &nonce(1));
    for (to, id, moves) in [(away, 2, false), (addr(3, 1), 3, true)] {
        let ping = harness.datagram(to, format!("~{token} @{id} PNG 0000"));
        let cookie = ping[0].rsplit(' ').next().unwrap().to_owned();
        let answer = harness.datagram(to, format!("~{cookie} {}", reg(id, "bob", &token))).remove(0);
        assert_eq!(answer.contains(" ACK "), moves, "{answer}");
        assert_eq!(
            answer.ends_with(&format!("@{id} ERR 0027 403 Name not allowed here!")),
            !moves,
            "{answer}"
        );
        let at_home = harness.datagram(home, format!("~{token} @9 PNG 0000"));
        assert_eq!(at_home[0] == format!("~{token} @9 ACK 0000"), !moves, "{at_home:?}");
    }
}

#[test]
fn a_reload_closes_connections_that_could_not_register_under_any_name() {
    for (text, left) in [
        ("[[rule]]\nname = '*'\ndeny = ['192.0.2.0/24']", [true, false, false, true, true]),
        ("[[rule]]\nname = '**'\nallow = ['10.0.0.0/8']", [true, false, false, false, false]),
        (
            "[[rule]]\nname = '*'\nallow = ['10.0.0.0/8']\n[[rule]]\nname = 'bob'\nallow = ['192.0.2.1']",
            [true, true, false, false, false],
        ),
        ("[[rule]]\nname = '*'\nlistener = 'lan'", [false, false, false, false, true]),
    ] {
        let mut harness = harness("");
        let from =
            [(0, "10.1.2.3"), (0, "192.0.2.1"), (0, "192.0.2.2"), (0, "198.51.100.1"), (4, "198.51.100.1")];
        let conns = from.map(|(listener, from)| harness.connect_from(ip(listener, from)));
        harness.set_rules(rules(text));
        for (conn, left) in conns.into_iter().zip(left) {
            assert_eq!(harness.heard(conn), if left { "" } else { TURNED_OUT }, "{text}");
            assert_eq!(harness.is_closed(conn), !left);
        }
    }
}

#[test]
fn a_denied_name_in_use_is_refused_by_the_rule_and_not_as_taken() {
    let mut harness = harness("[[rule]]\nname = 'bob'\nallow = ['10.0.0.0/8']");
    let bob = harness.connect_from(ip(0, "10.1.2.3"));
    harness.say(bob, "REG 0004 bob");
    let eve = harness.connect_from(ip(0, "192.0.2.1"));
    assert_eq!(harness.say(eve, "REG 0004 b0b"), "ERR 0023 Name not allowed here!");
    assert!(ask(&mut harness, ip(0, "192.0.2.1"), "bob").is_none());
    assert!(ask(&mut harness, ip(UDP, "192.0.2.1"), "BOB").is_none());
    let carol = harness.connect_from(ip(0, "10.9.9.9"));
    assert_eq!(harness.say(carol, "REG 0004 bob"), "ERR 0012 Name taken!");
}

/// The output to a connection that sends this before REG.
fn unregistered(harness: &mut ServerHarness, from: &str, bytes: &str) -> (Conn, String) {
    let conn = harness.connect_from(ip(0, from));
    let heard = harness.say(conn, bytes);
    (conn, heard)
}

#[test]
fn an_unregistered_client_cannot_send_unless_rules_allow_guests() {
    for text in ["", "anonymous = false"] {
        let mut harness = harness(text);
        let (_, heard) = unregistered(&mut harness, "192.0.2.1", "SND 0007 ada hi@1 SND 0007 ada hi");
        assert_eq!(heard, "ERR 0016 Register first!@1 ERR 0020 401 Register first!");
        assert_eq!(harness.datagram(local(1), "SND 0007 ada hi"), ["ERR 0016 Register first!"]);
        assert_eq!(harness.server.sessions(), 0);
    }
}

#[test]
fn a_client_becomes_a_guest_with_its_first_request_and_gets_its_name() {
    let mut harness = harness("anonymous = true");
    let ada = harness.connect_as("REG 0004 ada");
    let (first, heard) = unregistered(&mut harness, "192.0.2.1", "LST 0000JON 0003 #rSND 0007 ada hi");
    assert_eq!(heard, "ERR 0016 Register first!ERR 0016 Register first!");
    assert_eq!(harness.heard(ada), "RCV 0016 guest-1 0001 hi");
    let (second, heard) = unregistered(&mut harness, "192.0.2.2", &snd(7, "guest-1", "you"));
    assert_eq!(heard, "@7 ACK 0000");
    assert_eq!(harness.heard(first), "RCV 0017 guest-2 0001 you");
    // A repeated request is answered, not executed; a guest may do all that a session may.
    assert_eq!(harness.say(second, snd(7, "guest-1", "you")), "@7 ACK 0000");
    assert_eq!(harness.say(second, "JON 0003 #rLST 0003 #r"), "ACK 0008 guest-2");
    assert_eq!(harness.heard(first), "");
    // A refusal leaves the guest in its session.
    let (_, heard) = unregistered(&mut harness, "192.0.2.3", "SND 0009 nobody x");
    assert_eq!(heard, "ERR 0016 No such client!");
    assert_eq!(harness.say(ada, "LST 0000"), "ACK 0028 ada guest-1 guest-2 guest-3");
}

#[test]
fn guests_get_the_lowest_free_number() {
    let mut harness = harness("anonymous = true");
    let ada = harness.connect_as("REG 0004 ada");
    let two = harness.connect_as("REG 0008 Guest-2");
    let hello = "SND 0007 ada hi";
    let (one, _) = unregistered(&mut harness, "192.0.2.1", hello);
    unregistered(&mut harness, "192.0.2.1", hello);
    assert_eq!(harness.heard(ada), "RCV 0016 guest-1 0001 hiRCV 0016 guest-3 0001 hi");
    harness.hang_up(one);
    unregistered(&mut harness, "192.0.2.1", hello);
    assert_eq!(harness.heard(ada), "RCV 0016 guest-1 0001 hi");
    harness.hang_up(two);
    unregistered(&mut harness, "192.0.2.1", hello);
    unregistered(&mut harness, "192.0.2.1", hello);
    assert_eq!(harness.heard(ada), "RCV 0016 guest-2 0001 hiRCV 0016 guest-4 0001 hi");
}

#[test]
fn registering_guest_names_does_not_block_guests_for_long() {
    let mut harness = harness("anonymous = true");
    for n in 1..=200 {
        let name = format!("guest-{n}");
        harness.connect_as(&format!("REG {:04} {name}", name.len() + 1));
    }
    let conn = harness.connect_from(ip(0, "192.0.2.1"));
    let answers = [(); 4].map(|()| harness.say(conn, "SND 0012 guest-201 x"));
    let full = "ERR 0013 Server full!";
    assert_eq!(answers, [full, full, full, "RCV 0017 guest-201 0001 x"]);
}

#[test]
fn a_guest_that_registers_stops_being_a_guest() {
    let mut harness = harness("anonymous = true\n[[rule]]\nname = 'bob'\nallow = ['unix']");
    let ada = harness.connect_as("REG 0004 ada");
    let (conn, _) = unregistered(&mut harness, "192.0.2.1", "SND 0007 ada hi");
    // After a refusal it remains a guest.
    assert_eq!(
        harness.say(conn, "REG 0004 bobREG 0004 ada"),
        "ERR 0023 Name not allowed here!ERR 0012 Name taken!"
    );
    assert_eq!(harness.say(ada, "LST 0000"), "RCV 0016 guest-1 0001 hiACK 0012 ada guest-1");
    assert!(harness.say(conn, reg(1, "carol", &format!("?{}", nonce(1)))).starts_with("@1 ACK 0023 "));
    assert_eq!(harness.say(ada, "LST 0000"), "ACK 0010 ada carol");
    assert_eq!(harness.say(conn, snd(2, "ada", "me")), "@2 ACK 0000");
    assert_eq!(harness.heard(ada), "RCV 0014 carol 0001 me");
    // Its session lingers like any other.
    harness.hang_up(conn);
    assert_eq!(harness.say(ada, "LST 0000"), "ACK 0010 ada carol");
    // A guest may register under the name it was given.
    let (conn, _) = unregistered(&mut harness, "192.0.2.1", "SND 0007 ada hi");
    assert!(harness.say(conn, reg(1, "guest-1", &format!("?{}", nonce(2)))).starts_with("@1 ACK 0023 "));
    assert_eq!(harness.say(ada, "LST 0000"), "RCV 0016 guest-1 0001 hiACK 0018 ada guest-1 carol");
}

#[test]
fn rules_for_guest_names_apply_to_guests() {
    let text = "anonymous = true\n[[rule]]\nname = 'guest-1'\nallow = ['unix']\n[[rule]]\nname = 'guest-*'\ndeny = ['10.0.0.0/8']";
    let mut harness = harness(text);
    let ada = harness.connect_as("REG 0004 ada");
    let (_, heard) = unregistered(&mut harness, "10.1.2.3", "SND 0007 ada hi");
    assert_eq!(heard, "ERR 0023 Name not allowed here!");
    let (_, heard) = unregistered(&mut harness, "192.0.2.1", "SND 0007 ada hi");
    assert_eq!((heard, harness.heard(ada)), (String::new(), "RCV 0016 guest-2 0001 hi".to_owned()));
    let conn = harness.connect_from(unix(1, 1));
    harness.say(conn, "SND 0007 ada hi");
    assert_eq!(harness.heard(ada), "RCV 0016 guest-1 0001 hi");
}

#[test]
fn a_reload_without_anonymous_ends_guests_only() {
    let mut harness = harness("anonymous = true");
    let ada = harness.connect_as("REG 0004 ada");
    let (conn, _) = unregistered(&mut harness, "192.0.2.1", "SND 0007 ada hi");
    harness.datagram(local(1), "SND 0007 ada hi");
    assert_eq!(harness.set_rules(rules("anonymous = true")), 0);
    assert_eq!(harness.set_rules(Rules::default()), 2);
    assert_eq!((harness.heard(conn).as_str(), harness.is_closed(conn)), (TURNED_OUT, true));
    assert_eq!(harness.datagrams_to(local(1)), [TURNED_OUT]);
    assert_eq!(harness.datagram(local(1), "SND 0007 ada hi"), ["ERR 0016 Register first!"]);
    assert_eq!(harness.say(ada, "LST 0000"), "RCV 0016 guest-1 0001 hiRCV 0016 guest-2 0001 hiACK 0004 ada");
}

#[test]
fn over_bare_datagrams_a_guest_is_an_address_that_needs_no_proof() {
    let mut harness = harness("anonymous = true");
    let ada = harness.connect_as("REG 0004 ada");
    assert_eq!(harness.datagram(local(1), "SND 0007 ada hiLST 0000"), ["ACK 0012 ada guest-1"]);
    assert_eq!(harness.heard(ada), "RCV 0016 guest-1 0001 hi");
    assert_eq!(harness.datagram(local(1), "LST 0000"), ["ACK 0012 ada guest-1"]);
    harness.say(ada, "SND 0012 guest-1 you");
    assert_eq!(harness.datagrams_to(local(1)), ["RCV 0013 ada 0001 you"]);
    // From other addresses, or with a tag (which might be a repeat), there are no guests.
    assert_eq!(harness.datagram(addr(2, 1), "SND 0007 ada hi"), ["ERR 0020 Address not proven!"]);
    assert_eq!(harness.datagram(local(2), snd(1, "ada", "hi")), ["ERR 0004 401"]);
    harness.pass(secs(91));
    assert_eq!(harness.say(ada, "LST 0000"), "ACK 0004 ada");
}

#[test]
fn a_guest_over_datagrams_registers_like_an_unregistered_peer() {
    let mut harness = harness("anonymous = true");
    let ada = harness.connect_as("REG 0004 ada");
    // In one datagram: the guest ends as soon as it has a name.
    assert_eq!(
        harness.datagram(local(1), "SND 0007 ada hiREG 0004 bobSND 0007 ada meLST 0000"),
        ["ACK 0008 ada bob"]
    );
    assert_eq!(harness.heard(ada), "RCV 0016 guest-1 0001 hiRCV 0012 bob 0001 me");
    // After a refusal it stays.
    assert_eq!(
        harness.datagram(local(2), "SND 0007 ada hiREG 0004 bob"),
        ["ERR 0054 Name taken! Its session waits 90 s more for its owner"]
    );
    assert_eq!(harness.datagram(local(2), "LST 0000"), ["ACK 0016 ada guest-1 bob"]);
    // With a tag it has to prove its address.
    let nonce = nonce(1);
    let cookie = cookie(&mut harness, local(2), "carol", &nonce);
    assert_eq!(harness.datagram(local(2), "LST 0000"), ["ACK 0016 ada guest-1 bob"]);
    let answer = harness.datagram(local(2), format!("~{cookie} {}", reg(1, "carol", &format!("?{nonce}"))));
    assert!(answer[0].starts_with(&format!("~{cookie} @1 ACK 0023 ")), "{answer:?}");
    assert_eq!(harness.say(ada, "LST 0000"), "RCV 0016 guest-1 0001 hiACK 0014 ada bob carol");
}

#[test]
fn a_guest_whose_registration_of_its_own_name_is_refused_stays_a_guest() {
    let mut harness = harness("anonymous = true");
    let ada = harness.connect_as("REG 0004 ada");
    let (guest, _) = unregistered(&mut harness, "192.0.2.1", "SND 0007 ada hi");
    harness.heard(ada);
    let refused = harness.say(guest, format!("REG 0032 guest-1 ?{}", nonce(1)));
    assert_eq!(refused, "ERR 0019 Malformed request!");
    assert_eq!(harness.say(ada, "SND 0017 guest-1 still on"), "");
    assert_eq!(harness.heard(guest), "RCV 0018 ada 0002 still on");
}
