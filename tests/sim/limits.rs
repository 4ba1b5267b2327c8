//! Limits on connections: their number, the time to register, and the memory of a connection before REG.

use std::net::{IpAddr, SocketAddr};

use sayagain::config::ServerConfig;
use sayagain::service::Remote;

use crate::harness::{Conn, ServerHarness, nonce, reg};
use crate::support::{ms, secs};

const TOO_MANY: &str = "ERR 0039 too many connections from your addressBYE 0000";
const TOO_LONG: &str = "ERR 0054 register before you send more than 1024 bytes at onceBYE 0000";
const NOT_REGISTERED: &str = "ERR 0023 not registered in timeBYE 0000";

fn harness(max_connections: usize, max_per_host: usize) -> ServerHarness {
    ServerHarness::new(ServerConfig { max_connections, max_per_host, ..ServerConfig::default() })
}

fn from(harness: &mut ServerHarness, ip: &str) -> Conn {
    let addr = SocketAddr::from((ip.parse::<IpAddr>().unwrap(), 1_000));
    harness.connect_at(0, Remote::Ip(addr))
}

/// Opens these connections one after the other. Returns how many are accepted.
fn count_accepted(harness: &mut ServerHarness, ips: &[&str]) -> usize {
    let conns: Vec<Conn> = ips.iter().map(|ip| from(harness, ip)).collect();
    conns.into_iter().filter(|conn| !harness.is_closed(*conn)).count()
}

#[test]
fn a_connection_beyond_the_limit_gets_an_error_is_closed_and_counted_and_a_close_frees_a_slot() {
    let mut harness = harness(3, 100);
    let seats = [harness.connect(), harness.connect(), from(&mut harness, "127.0.0.1")];
    let late = harness.connect();
    assert_eq!(harness.heard(late), "ERR 0013 Server full!BYE 0000");
    assert!(harness.is_closed(late));
    assert_eq!(harness.say(late, "REG 0004 eve"), "", "nothing it says is looked at");
    assert_eq!(harness.totals().refused_connections, 1);
    assert!(harness.totals().to_string().ends_with(", refused connections 1"));
    harness.hang_up(late);
    let later = harness.connect();
    assert!(harness.is_closed(later), "a refused connection frees no slot");
    harness.say(seats[0], "BYE 0000");
    harness.hang_up(seats[0]);
    let last = harness.connect();
    assert_eq!(harness.say(last, "REG 0004 ada\nLST 0000"), "ACK 0004 ada");
    assert_eq!(harness.totals().refused_connections, 2);
}

#[test]
fn a_host_is_one_ipv4_address_also_when_mapped_to_ipv6() {
    let mut harness = harness(1_000, 2);
    assert_eq!(
        count_accepted(&mut harness, &["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"]),
        2
    );
    assert_eq!(count_accepted(&mut harness, &["192.0.2.2", "192.0.2.3"]), 2, "its neighbours are others");
    let late = from(&mut harness, "192.0.2.1");
    assert_eq!(harness.heard(late), TOO_MANY);
}

#[test]
fn a_host_is_the_first_half_of_an_ipv6_address() {
    let mut harness = harness(1_000, 2);
    assert_eq!(
        count_accepted(&mut harness, &["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::3"]),
        2
    );
    assert_eq!(count_accepted(&mut harness, &["2001:db8:0:2::1", "2001:db8:0:2::1"]), 2);
}

#[test]
fn loopback_and_unix_sockets_have_no_host_limit_and_0_is_no_limit() {
    let mut few = harness(1_000, 1);
    assert_eq!(
        count_accepted(&mut few, &["127.0.0.1", "127.0.0.1", "127.0.0.2", "::1", "::1", "::ffff:127.0.0.1"]),
        6
    );
    for _ in 0..3 {
        let conn = few.connect_at(0, Remote::Unix { uid: 0, gid: 0 });
        assert!(!few.is_closed(conn));
    }
    let mut many = harness(1_000, 0);
    assert_eq!(count_accepted(&mut many, &["192.0.2.1"; 500]), 500);
}

#[test]
fn a_closed_connection_leaves_no_state_for_its_host() {
    let mut harness = harness(10, 2);
    for host in 0..1_000_u16 {
        let [high, low] = host.to_be_bytes();
        let conn = from(&mut harness, &format!("10.0.{high}.{low}"));
        assert!(!harness.is_closed(conn), "{host}");
        harness.hang_up(conn);
    }
    assert!(harness.server.is_stateless(), "{:?}", harness.server);
}

#[test]
fn before_reg_a_frame_of_more_than_1_kib_is_refused_in_one_piece_or_in_many() {
    let frame = |length: usize| format!("SND {length:04} {}", "x".repeat(length - 1));
    for (bytes, expected) in [(frame(1_024), "ERR 0016 Register first!"), (frame(1_025), TOO_LONG)] {
        for piece in [1, 7, 8, 9, 1_000, bytes.len()] {
            let mut harness = ServerHarness::open();
            let conn = harness.connect();
            let heard: String =
                bytes.as_bytes().chunks(piece).map(|piece| harness.say(conn, piece)).collect();
            assert_eq!(heard, expected, "in pieces of {piece}");
            assert_eq!(harness.is_closed(conn), expected == TOO_LONG);
        }
    }
}

#[test]
fn a_long_frame_is_refused_at_its_head_before_reg_and_accepted_after_reg() {
    let mut harness = ServerHarness::open();
    let (hasty, orderly) = (harness.connect(), harness.connect());
    assert_eq!(harness.say(hasty, "SND +005 9999"), "", "the head is not complete");
    assert_eq!(harness.say(hasty, "9"), TOO_LONG);
    let message = format!("REG 0004 adaSND 5004 ada {}", "x".repeat(4_999));
    let (front, back) = message.split_at(1_500);
    assert_eq!(harness.say(orderly, front), "");
    assert!(harness.say(orderly, back).starts_with("RCV 5009 ada 0001 xxx"));
    let refused = harness.connect();
    assert_eq!(
        harness.say(refused, front),
        "ERR 0012 Name taken!".to_owned() + TOO_LONG,
        "a REG that was refused is none"
    );
}

#[test]
fn frames_that_wait_for_tokens_behind_a_late_reg_are_checked_when_they_are_executed() {
    let mut config = ServerConfig::default();
    let mut listener = sayagain::listener::Listener::frames("tcp");
    listener.rate = "2/s".parse().unwrap();
    config.listeners.push(listener);
    let mut harness = ServerHarness::new(config);
    let message = format!("PNG 0000PNG 0000REG 0004 adaSND 5004 ada {}", "x".repeat(4_999));
    let (front, back) = message.split_at(1_500);
    let conn = harness.connect();
    assert_eq!(harness.say(conn, front), "ACK 0000ACK 0000");
    harness.pass(ms(500));
    assert!(!harness.is_closed(conn), "it has registered");
    harness.pass(ms(500));
    assert!(harness.say(conn, back).starts_with("RCV 5009 ada"));
}

#[test]
fn only_a_ping_extends_the_time_to_register() {
    let mut harness = ServerHarness::open();
    let (failing, pinging, silent) = (harness.connect(), harness.connect(), harness.connect());
    for _ in 0..59 {
        harness.pass(secs(1));
        harness.say(failing, "LST 0000@1 SND 0005 a bcXYZ 0000REG 0004 a#bACK 0002 1");
        assert_eq!(harness.say(pinging, "@1 PNG 0000"), "@1 ACK 0000");
    }
    assert!(!harness.is_closed(failing) && !harness.is_closed(silent));
    harness.pass(secs(1));
    assert!(harness.heard(failing).ends_with(NOT_REGISTERED));
    assert_eq!(harness.heard(silent), NOT_REGISTERED);
    harness.pass(secs(58));
    assert!(!harness.is_closed(pinging));
    harness.pass(secs(1));
    assert_eq!(harness.heard(pinging), NOT_REGISTERED, "60 s after its last ping");
}

#[test]
fn pings_alone_keep_a_connection_for_a_day() {
    let mut harness = ServerHarness::open();
    let conn = harness.connect();
    for _ in 1..24 * 60 * 2 {
        harness.pass(secs(30));
        assert_eq!(harness.say(conn, "PNG 0000"), "ACK 0000");
    }
    harness.pass(secs(30));
    assert_eq!(harness.heard(conn), NOT_REGISTERED);
}

#[test]
fn a_peer_that_sends_one_byte_a_second_is_closed_at_the_deadline_before_and_after_reg() {
    for reg in ["", "REG 0004 ada"] {
        let mut harness = ServerHarness::open();
        let conn = harness.connect_as(reg);
        let mut bytes = format!("SND 0900 {}", "x".repeat(899)).into_bytes().into_iter();
        let mut cut_after = None;
        for second in 0..60 {
            harness.say(conn, [bytes.next().unwrap()]);
            if harness.is_closed(conn) {
                cut_after = Some(second);
                break;
            }
            harness.pass(secs(1));
            if harness.is_closed(conn) {
                cut_after = Some(second + 1);
                break;
            }
        }
        assert_eq!(cut_after, Some(10), "{reg:?}");
        assert_eq!(harness.heard(conn), "ERR 0027 frame not finished in timeBYE 0000");
    }
}

#[test]
fn a_thousand_trickling_connections_are_closed_at_their_deadline_and_active_ones_are_not_delayed() {
    let mut harness = ServerHarness::open();
    let talking: Vec<Conn> = (0..20).map(|n| harness.connect_as(&format!("REG 0007 talk{n:02}"))).collect();
    let slow: Vec<Conn> = (0..1_000).map(|_| harness.connect()).collect();
    for second in 0..10 {
        for conn in &slow {
            assert!(!harness.is_closed(*conn), "after {second} s");
            harness.say(
                *conn,
                if second == 0 { "S" } else { ["N", "D", " ", "0", "9", "0", "0", " ", "x"][second - 1] },
            );
        }
        for conn in &talking {
            assert_eq!(harness.say(*conn, "PNG 0000"), "ACK 0000");
        }
        harness.pass(secs(1));
    }
    assert!(slow.iter().all(|conn| harness.heard(*conn) == "ERR 0027 frame not finished in timeBYE 0000"));
    assert!(talking.iter().all(|conn| !harness.is_closed(*conn)));
}

#[test]
fn a_ping_is_answered_up_to_64_kib_in_a_tagged_session_and_a_longer_one_refused() {
    let mut harness = ServerHarness::open();
    let (plain, tagged) =
        (harness.connect_as("REG 0004 ada"), harness.connect_as(&reg(1, "bob", &format!("?{}", nonce(1)))));
    harness.heard(tagged);
    let ping = |payload: usize| format!("PNG +005 {payload} {}", "x".repeat(payload - 1));
    let [longest, answer] = ["PNG", "ACK"].map(|verb| format!("@2 {}", ping(65_536).replace("PNG", verb)));
    assert!(harness.say(tagged, longest) == answer);
    assert_eq!(harness.say(plain, ping(65_536)), "ERR 0010 Too long!");
    assert_eq!(harness.say(tagged, format!("@3 {}", ping(65_537))), "@3 ERR 0014 413 Too long!");
    assert!(!harness.is_closed(plain) && !harness.is_closed(tagged));
}

#[test]
fn reads_are_small_before_a_whole_reg_and_always_on_a_listener_with_a_rate() {
    let mut free = ServerHarness::open();
    let conn = free.connect();
    let after = |harness: &mut ServerHarness, conn: Conn, said: &str| {
        harness.put(conn, said);
        harness.max_read(conn)
    };
    for said in ["", "PNG 0000", "@1 SND 0005 a bc", "REG 0004 a"] {
        assert_eq!(after(&mut free, conn, said), 4_096, "{said}");
    }
    assert_eq!(after(&mut free, conn, "da"), usize::MAX);
    let mut listener = sayagain::listener::Listener::frames("tcp");
    listener.rate = "5/s".parse().unwrap();
    let mut limited =
        ServerHarness::new(ServerConfig { listeners: vec![listener], ..ServerConfig::default() });
    let conn = limited.connect();
    assert_eq!(after(&mut limited, conn, "REG 0004 ada"), 4_096);
}

#[test]
fn a_connection_without_a_session_that_does_not_read_is_executed_up_to_1_kib_of_answers() {
    let mut harness = ServerHarness::open();
    let conn = harness.connect();
    harness.stall(conn, true);
    harness.put(conn, "PNG 0000".repeat(128));
    assert!(harness.is_reading(conn), "1,024 bytes of answers are queued");
    let message = format!("PNG 1000 {}", "x".repeat(999));
    harness.put(conn, message.repeat(4));
    assert!(!harness.is_reading(conn), "and no answer after the one that is too much");
    harness.stall(conn, false);
    assert_eq!(harness.heard(conn), "ACK 0000".repeat(128) + &message.replace("PNG", "ACK").repeat(4));
    assert!(harness.is_reading(conn));
    harness.say(conn, "REG 0004 ada");
    harness.stall(conn, true);
    harness.put(conn, message.repeat(10));
    assert!(harness.is_reading(conn), "with a session it is more");
}
