//! Who may connect, how long they may take, and how much they may make the server hold before it knows them.

use std::net::{IpAddr, SocketAddr};

use sayagain::config::ServerConfig;
use sayagain::service::Remote;

use crate::desk::{Conn, Desk, nonce, reg};
use crate::support::{ms, secs};

const TOO_MANY: &str = "ERR 0039 too many connections from your addressBYE 0000";
const TOO_LONG: &str = "ERR 0054 register before you send more than 1024 bytes at onceBYE 0000";
const NOT_REGISTERED: &str = "ERR 0023 not registered in timeBYE 0000";

fn desk(max_connections: usize, max_per_host: usize) -> Desk {
    Desk::new(ServerConfig { max_connections, max_per_host, ..ServerConfig::default() })
}

fn from(desk: &mut Desk, ip: &str) -> Conn {
    let addr = SocketAddr::from((ip.parse::<IpAddr>().unwrap(), 1_000));
    desk.connect_at(0, Remote::Ip(addr))
}

/// How many of these connections, one after the other, are let in.
fn let_in(desk: &mut Desk, ips: &[&str]) -> usize {
    let conns: Vec<Conn> = ips.iter().map(|ip| from(desk, ip)).collect();
    conns.into_iter().filter(|conn| !desk.is_closed(*conn)).count()
}

#[test]
fn one_connection_too_many_is_told_so_closed_and_counted_and_a_seat_is_given_back() {
    let mut desk = desk(3, 100);
    let seats = [desk.connect(), desk.connect(), from(&mut desk, "127.0.0.1")];
    let late = desk.connect();
    assert_eq!(desk.heard(late), "ERR 0013 Server full!BYE 0000");
    assert!(desk.is_closed(late));
    assert_eq!(desk.say(late, "REG 0004 eve"), "", "nothing it says is looked at");
    assert_eq!(desk.totals().refused_connections, 1);
    assert!(desk.totals().to_string().ends_with(", refused connections 1"));
    desk.hang_up(late);
    let later = desk.connect();
    assert!(desk.is_closed(later), "who was refused had no seat to give back");
    desk.say(seats[0], "BYE 0000");
    desk.hang_up(seats[0]);
    let last = desk.connect();
    assert_eq!(desk.say(last, "REG 0004 ada\nLST 0000"), "ACK 0004 ada");
    assert_eq!(desk.totals().refused_connections, 2);
}

#[test]
fn a_host_is_one_ipv4_address_whichever_way_it_comes() {
    let mut desk = desk(1_000, 2);
    assert_eq!(let_in(&mut desk, &["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"]), 2);
    assert_eq!(let_in(&mut desk, &["192.0.2.2", "192.0.2.3"]), 2, "its neighbours are others");
    let late = from(&mut desk, "192.0.2.1");
    assert_eq!(desk.heard(late), TOO_MANY);
}

#[test]
fn a_host_is_the_first_half_of_an_ipv6_address() {
    let mut desk = desk(1_000, 2);
    assert_eq!(let_in(&mut desk, &["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::3"]), 2);
    assert_eq!(let_in(&mut desk, &["2001:db8:0:2::1", "2001:db8:0:2::1"]), 2);
}

#[test]
fn loopback_and_unix_sockets_are_no_host_and_0_is_no_limit() {
    let mut few = desk(1_000, 1);
    assert_eq!(
        let_in(&mut few, &["127.0.0.1", "127.0.0.1", "127.0.0.2", "::1", "::1", "::ffff:127.0.0.1"]),
        6
    );
    for _ in 0..3 {
        let conn = few.connect_at(0, Remote::Unix { uid: 0, gid: 0 });
        assert!(!few.is_closed(conn));
    }
    let mut many = desk(1_000, 0);
    assert_eq!(let_in(&mut many, &["192.0.2.1"; 500]), 500);
}

#[test]
fn who_comes_and_goes_is_not_remembered() {
    let mut desk = desk(10, 2);
    for host in 0..1_000_u16 {
        let [high, low] = host.to_be_bytes();
        let conn = from(&mut desk, &format!("10.0.{high}.{low}"));
        assert!(!desk.is_closed(conn), "{host}");
        desk.hang_up(conn);
    }
    assert!(desk.server.is_stateless(), "{:?}", desk.server);
}

#[test]
fn before_reg_a_frame_of_more_than_1_kib_is_refused_in_one_piece_or_in_many() {
    let frame = |length: usize| format!("SND {length:04} {}", "x".repeat(length - 1));
    for (bytes, expected) in [(frame(1_024), "ERR 0016 Register first!"), (frame(1_025), TOO_LONG)] {
        for piece in [1, 7, 8, 9, 1_000, bytes.len()] {
            let mut desk = Desk::open();
            let conn = desk.connect();
            let heard: String = bytes.as_bytes().chunks(piece).map(|piece| desk.say(conn, piece)).collect();
            assert_eq!(heard, expected, "in pieces of {piece}");
            assert_eq!(desk.is_closed(conn), expected == TOO_LONG);
        }
    }
}

#[test]
fn what_is_announced_before_reg_is_refused_at_once_and_behind_reg_it_is_not() {
    let mut desk = Desk::open();
    let (hasty, orderly) = (desk.connect(), desk.connect());
    assert_eq!(desk.say(hasty, "SND +005 9999"), "", "the head is not complete");
    assert_eq!(desk.say(hasty, "9"), TOO_LONG);
    let message = format!("REG 0004 adaSND 5004 ada {}", "x".repeat(4_999));
    let (front, back) = message.split_at(1_500);
    assert_eq!(desk.say(orderly, front), "");
    assert!(desk.say(orderly, back).starts_with("RCV 5009 ada 0001 xxx"));
    let refused = desk.connect();
    assert_eq!(
        desk.say(refused, front),
        "ERR 0012 Name taken!".to_owned() + TOO_LONG,
        "a REG that was refused is none"
    );
}

#[test]
fn what_comes_behind_the_tokens_of_who_registers_late_is_judged_when_its_turn_has_come() {
    let mut config = ServerConfig::default();
    let mut door = sayagain::door::Door::frames("tcp");
    door.rate = "2/s".parse().unwrap();
    config.doors.push(door);
    let mut desk = Desk::new(config);
    let message = format!("PNG 0000PNG 0000REG 0004 adaSND 5004 ada {}", "x".repeat(4_999));
    let (front, back) = message.split_at(1_500);
    let conn = desk.connect();
    assert_eq!(desk.say(conn, front), "ACK 0000ACK 0000");
    desk.pass(ms(500));
    assert!(!desk.is_closed(conn), "it has registered");
    desk.pass(ms(500));
    assert!(desk.say(conn, back).starts_with("RCV 5009 ada"));
}

#[test]
fn only_a_ping_puts_off_the_time_to_register() {
    let mut desk = Desk::open();
    let (failing, pinging, silent) = (desk.connect(), desk.connect(), desk.connect());
    for _ in 0..59 {
        desk.pass(secs(1));
        desk.say(failing, "LST 0000@1 SND 0005 a bcXYZ 0000REG 0004 a#bACK 0002 1");
        assert_eq!(desk.say(pinging, "@1 PNG 0000"), "@1 ACK 0000");
    }
    assert!(!desk.is_closed(failing) && !desk.is_closed(silent));
    desk.pass(secs(1));
    assert!(desk.heard(failing).ends_with(NOT_REGISTERED));
    assert_eq!(desk.heard(silent), NOT_REGISTERED);
    desk.pass(secs(58));
    assert!(!desk.is_closed(pinging));
    desk.pass(secs(1));
    assert_eq!(desk.heard(pinging), NOT_REGISTERED, "60 s after its last ping");
}

#[test]
fn a_connection_lives_on_pings_alone_for_a_day() {
    let mut desk = Desk::open();
    let conn = desk.connect();
    for _ in 1..24 * 60 * 2 {
        desk.pass(secs(30));
        assert_eq!(desk.say(conn, "PNG 0000"), "ACK 0000");
    }
    desk.pass(secs(30));
    assert_eq!(desk.heard(conn), NOT_REGISTERED);
}

#[test]
fn one_byte_a_second_is_cut_off_at_the_deadline_before_reg_and_after() {
    for reg in ["", "REG 0004 ada"] {
        let mut desk = Desk::open();
        let conn = desk.connect_as(reg);
        let mut bytes = format!("SND 0900 {}", "x".repeat(899)).into_bytes().into_iter();
        let mut cut_after = None;
        for second in 0..60 {
            desk.say(conn, [bytes.next().unwrap()]);
            if desk.is_closed(conn) {
                cut_after = Some(second);
                break;
            }
            desk.pass(secs(1));
            if desk.is_closed(conn) {
                cut_after = Some(second + 1);
                break;
            }
        }
        assert_eq!(cut_after, Some(10), "{reg:?}");
        assert_eq!(desk.heard(conn), "ERR 0027 frame not finished in timeBYE 0000");
    }
}

#[test]
fn a_thousand_who_trickle_are_all_cut_off_at_their_deadline_and_those_who_talk_notice_nothing() {
    let mut desk = Desk::open();
    let talking: Vec<Conn> = (0..20).map(|n| desk.connect_as(&format!("REG 0007 talk{n:02}"))).collect();
    let slow: Vec<Conn> = (0..1_000).map(|_| desk.connect()).collect();
    for second in 0..10 {
        for conn in &slow {
            assert!(!desk.is_closed(*conn), "after {second} s");
            desk.say(
                *conn,
                if second == 0 { "S" } else { ["N", "D", " ", "0", "9", "0", "0", " ", "x"][second - 1] },
            );
        }
        for conn in &talking {
            assert_eq!(desk.say(*conn, "PNG 0000"), "ACK 0000");
        }
        desk.pass(secs(1));
    }
    assert!(slow.iter().all(|conn| desk.heard(*conn) == "ERR 0027 frame not finished in timeBYE 0000"));
    assert!(talking.iter().all(|conn| !desk.is_closed(*conn)));
}

#[test]
fn a_ping_is_answered_up_to_64_kib_in_a_tagged_session_and_a_longer_one_refused() {
    let mut desk = Desk::open();
    let (plain, tagged) =
        (desk.connect_as("REG 0004 ada"), desk.connect_as(&reg(1, "bob", &format!("?{}", nonce(1)))));
    desk.heard(tagged);
    let ping = |payload: usize| format!("PNG +005 {payload} {}", "x".repeat(payload - 1));
    let [longest, answer] = ["PNG", "ACK"].map(|verb| format!("@2 {}", ping(65_536).replace("PNG", verb)));
    assert!(desk.say(tagged, longest) == answer);
    assert_eq!(desk.say(plain, ping(65_536)), "ERR 0010 Too long!");
    assert_eq!(desk.say(tagged, format!("@3 {}", ping(65_537))), "@3 ERR 0014 413 Too long!");
    assert!(!desk.is_closed(plain) && !desk.is_closed(tagged));
}

#[test]
fn little_is_read_at_once_before_a_whole_reg_has_come_and_at_a_door_with_a_rate_always() {
    let mut free = Desk::open();
    let conn = free.connect();
    let after = |desk: &mut Desk, conn: Conn, said: &str| {
        desk.put(conn, said);
        desk.max_read(conn)
    };
    for said in ["", "PNG 0000", "@1 SND 0005 a bc", "REG 0004 a"] {
        assert_eq!(after(&mut free, conn, said), 4_096, "{said}");
    }
    assert_eq!(after(&mut free, conn, "da"), usize::MAX);
    let mut door = sayagain::door::Door::frames("tcp");
    door.rate = "5/s".parse().unwrap();
    let mut limited = Desk::new(ServerConfig { doors: vec![door], ..ServerConfig::default() });
    let conn = limited.connect();
    assert_eq!(after(&mut limited, conn, "REG 0004 ada"), 4_096);
}

#[test]
fn who_has_no_session_and_does_not_read_is_executed_no_further_than_1_kib_of_answers() {
    let mut desk = Desk::open();
    let conn = desk.connect();
    desk.stall(conn, true);
    desk.put(conn, "PNG 0000".repeat(128));
    assert!(desk.is_reading(conn), "1,024 bytes of answers are held");
    let message = format!("PNG 1000 {}", "x".repeat(999));
    desk.put(conn, message.repeat(4));
    assert!(!desk.is_reading(conn), "and no answer after the one that is too much");
    desk.stall(conn, false);
    assert_eq!(desk.heard(conn), "ACK 0000".repeat(128) + &message.replace("PNG", "ACK").repeat(4));
    assert!(desk.is_reading(conn));
    desk.say(conn, "REG 0004 ada");
    desk.stall(conn, true);
    desk.put(conn, message.repeat(10));
    assert!(desk.is_reading(conn), "with a session it is more");
}
