//! Limits per host: its sessions of every kind, and the rate of all its clients together.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sayagain::config::ServerConfig;
use sayagain::hub::HubConfig;
use sayagain::listener::Listener;
use sayagain::rules::Rules;
use sayagain::service::{ConnId, Remote, Service as _};

use crate::harness::{Conn, ServerHarness, addr, cookie, local, nonce, reg, register, snd};
use crate::support::{ms, secs};

const TOO_MANY_SESSIONS: &str = "too many sessions from your address";
const TOO_MANY: &str = "ERR 0039 too many connections from your addressBYE 0000";

fn at_most(max_per_host: usize) -> ServerHarness {
    ServerHarness::new(ServerConfig { max_per_host, ..ServerConfig::default() })
}

/// A server whose only listener, for streams and datagrams alike, has these rates.
fn limited(rate: &str, rate_per_host: &str) -> ServerHarness {
    let mut listener = Listener::frames("tcp");
    (listener.rate, listener.rate_per_host) = (rate.parse().unwrap(), rate_per_host.parse().unwrap());
    ServerHarness::new(ServerConfig { listeners: vec![listener], ..ServerConfig::default() })
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::from((ip.parse::<IpAddr>().unwrap(), port))
}

fn from(harness: &mut ServerHarness, ip: &str) -> Conn {
    harness.connect_at(0, Remote::Ip(at(ip, 1_000)))
}

/// Registers over datagrams, and returns the answer to the REG with the cookie, without the cookie.
fn try_register(harness: &mut ServerHarness, from: SocketAddr, n: usize) -> String {
    let (name, nonce) = (format!("c{n}"), format!("{n:B>22}"));
    let challenge = harness.datagram(from, reg(1, &name, &format!("?{nonce}"))).concat();
    let cookie = challenge.split(' ').nth(4).unwrap().to_owned();
    let answer = harness.datagram(from, format!("~{cookie} {}", reg(1, &name, &format!("?{nonce}"))));
    answer.concat().replace(&format!("~{cookie} "), "")
}

/// Opens this many sessions over UDP from one host, each from its own port. Returns how many were granted.
fn opened(harness: &mut ServerHarness, ip: &str, tries: std::ops::Range<usize>) -> usize {
    let ports = tries.map(|n| (n, u16::try_from(1_000 + n).unwrap()));
    let answers: Vec<String> = ports.map(|(n, port)| try_register(harness, at(ip, port), n)).collect();
    let refused = format!("@1 ERR 0040 503 {TOO_MANY_SESSIONS}");
    assert!(
        answers.iter().all(|answer| answer.starts_with("@1 ACK 0023 ") || *answer == refused),
        "{answers:?}"
    );
    answers.iter().filter(|answer| answer.contains("ACK")).count()
}

mod sessions {
    use super::*;

    #[test]
    fn one_host_has_at_most_its_limit_of_sessions_over_udp_and_an_end_allows_another() {
        let mut harness = at_most(3);
        assert_eq!(opened(&mut harness, "192.0.2.1", 0..300), 3);
        assert_eq!((harness.server.sessions(), harness.totals().refused_sessions), (3, 297));
        assert!(harness.totals().to_string().contains(", refused sessions 297,"), "{}", harness.totals());
        assert_eq!(opened(&mut harness, "192.0.2.2", 300..301), 1, "another host");
        harness.pass(secs(90));
        assert_eq!(harness.server.sessions(), 0, "they were silent for too long");
        assert_eq!(opened(&mut harness, "192.0.2.1", 400..500), 3);
        harness.pass(secs(200));
        assert!(harness.is_forgotten(), "{:?}", harness.server);
    }

    #[test]
    fn an_ipv6_64_is_one_host_over_udp_and_loopback_is_exempt() {
        let mut harness = at_most(2);
        let opened: Vec<bool> =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1", "::1", "::1", "::1"]
                .iter()
                .enumerate()
                .map(|(n, ip)| {
                    try_register(&mut harness, at(ip, 1_000 + u16::try_from(n).unwrap()), n).contains("ACK")
                })
                .collect();
        assert_eq!(opened, [true, true, false, true, true, true, true]);
        let mut unlimited = at_most(0);
        assert_eq!(super::opened(&mut unlimited, "192.0.2.1", 0..300), 300);
    }

    #[test]
    fn a_lingering_session_counts_until_it_ends_or_is_resumed() {
        let mut harness = at_most(2);
        let conn = from(&mut harness, "192.0.2.1");
        let token =
            harness.say(conn, reg(1, "ada", &format!("?{}", nonce(1)))).split_off("@1 ACK 0023 ".len());
        harness.hang_up(conn);
        assert_eq!(opened(&mut harness, "192.0.2.1", 0..9), 1, "the other one lingers");
        let late = from(&mut harness, "192.0.2.1");
        assert_eq!(harness.heard(late), TOO_MANY);
        harness.hang_up(late);
        // Another host resumes the session, which then counts there.
        let again = from(&mut harness, "192.0.2.2");
        assert_eq!(harness.say(again, reg(2, "ada", &token)), format!("@2 ACK 0023 {token}"));
        assert!({
            let conn = from(&mut harness, "192.0.2.1");
            !harness.is_closed(conn)
        });
        harness.hang_up(again);
        assert_eq!(opened(&mut harness, "192.0.2.2", 9..19), 1);
        harness.pass(secs(30));
        let late = from(&mut harness, "192.0.2.2");
        assert!(!harness.is_closed(late), "it lingers no more");
    }

    #[test]
    fn connections_and_sessions_over_udp_count_together_and_a_session_counts_with_its_connection_once() {
        let mut harness = at_most(3);
        let conns = [from(&mut harness, "192.0.2.1"), from(&mut harness, "192.0.2.1")];
        harness.say(conns[0], "REG 0004 ada");
        assert_eq!(opened(&mut harness, "192.0.2.1", 0..5), 1);
        assert!({
            let conn = from(&mut harness, "192.0.2.1");
            harness.is_closed(conn)
        });
        harness.hang_up(conns[0]);
        assert_eq!(
            opened(&mut harness, "192.0.2.1", 5..9),
            1,
            "an untagged session ends with its connection"
        );
    }

    #[test]
    fn a_session_over_udp_that_moves_counts_at_its_new_host_and_is_never_refused() {
        let mut harness = at_most(1);
        let token = register(&mut harness, addr(1, 1), "ada", &nonce(1));
        register(&mut harness, addr(2, 1), "bob", &nonce(2));
        let challenge = harness.datagram(addr(2, 2), format!("~{token} @2 PNG 0000")).concat();
        let cookie = challenge.rsplit(' ').next().unwrap();
        let moved = harness.datagram(addr(2, 2), format!("~{cookie} {}", reg(3, "ada", &token)));
        assert_eq!(moved, [format!("~{cookie} @3 ACK 0023 {token}")]);
        assert_eq!(opened(&mut harness, "10.0.0.1", 0..3), 1, "there is room where it was");
        assert_eq!(opened(&mut harness, "10.0.0.2", 3..6), 0);
        harness.datagram(addr(2, 2), format!("~{token} @4 BYE 0000"));
        assert_eq!(opened(&mut harness, "10.0.0.2", 6..9), 0, "bob is left");
    }

    #[test]
    fn guests_and_bare_sessions_count_and_get_a_text_when_refused() {
        let bare_udp = vec!["192.0.2.0/24".parse().unwrap()];
        let rules = Rules::parse(b"anonymous = true").unwrap();
        let mut harness =
            ServerHarness::new(ServerConfig { max_per_host: 2, bare_udp, rules, ..ServerConfig::default() });
        let ask = |harness: &mut ServerHarness, port: u16, text: &str| {
            harness.datagram(at("192.0.2.1", port), text).concat()
        };
        assert_eq!(ask(&mut harness, 1, "REG 0004 adaPNG 0000"), "ACK 0000");
        assert_eq!(ask(&mut harness, 2, "SND 0007 ada hiPNG 0000"), "ACK 0000");
        let refused = format!("ERR 0036 {TOO_MANY_SESSIONS}");
        assert_eq!(ask(&mut harness, 3, "SND 0007 ada hiPNG 0000"), refused);
        assert_eq!(ask(&mut harness, 3, "REG 0004 eve"), refused);
        assert_eq!(ask(&mut harness, 2, "BYE 0000"), "");
        assert_eq!(ask(&mut harness, 3, "REG 0004 evePNG 0000"), "ACK 0000");
    }
}

mod this_machine {
    use super::*;

    #[test]
    fn a_flood_from_other_hosts_leaves_connections_and_sessions_for_loopback_and_unix_sockets() {
        let config = ServerConfig { max_connections: 160, max_per_host: 0, ..ServerConfig::default() };
        let mut harness = ServerHarness::new(config);
        let flood = (0..900)
            .filter(|_| {
                let conn = from(&mut harness, "192.0.2.1");
                !harness.is_closed(conn)
            })
            .count();
        assert_eq!(flood, 150, "a sixteenth is kept");
        for n in 0..5 {
            let conn = harness.connect_at(0, Remote::Unix { uid: 0, gid: 0 });
            assert_eq!(harness.say(conn, format!("REG 0003 u{n}PNG 0000")), "ACK 0000");
            let conn = from(&mut harness, "127.0.0.1");
            assert_eq!(harness.say(conn, format!("REG 0003 l{n}PNG 0000")), "ACK 0000");
        }
        let late = from(&mut harness, "127.0.0.1");
        assert_eq!(harness.heard(late), "ERR 0013 Server full!BYE 0000");
    }

    #[test]
    fn at_most_16_refused_connections_at_once_hold_a_descriptor() {
        let config = ServerConfig { max_connections: 4, ..ServerConfig::default() };
        let mut harness = ServerHarness::new(config);
        let conns: Vec<Conn> = (0..100).map(|_| harness.connect()).collect();
        let closed_at_once = |harness: &ServerHarness, conn: Conn| harness.server.is_aborted(ConnId(conn));
        assert_eq!(conns.iter().filter(|conn| closed_at_once(&harness, **conn)).count(), 100 - 3 - 16);
        assert_eq!(harness.totals().refused_connections, 97);
        let mut told =
            conns.into_iter().filter(|conn| harness.is_closed(*conn) && !closed_at_once(&harness, *conn));
        let first = told.next().unwrap();
        assert_eq!((told.count(), harness.heard(first).as_str()), (15, "ERR 0013 Server full!BYE 0000"));
        harness.hang_up(first);
        let late = harness.connect();
        assert!(!closed_at_once(&harness, late));
        assert_eq!(harness.heard(late), "ERR 0013 Server full!BYE 0000");
    }

    #[test]
    fn sessions_beyond_the_share_of_other_hosts_and_beyond_the_limit_are_refused_with_503() {
        let hub = HubConfig { max_sessions: 40, ..HubConfig::default() };
        let mut harness =
            ServerHarness::new(ServerConfig { hub, max_per_host: 0, ..ServerConfig::default() });
        let answers: Vec<String> =
            (0..50).map(|n| try_register(&mut harness, at("192.0.2.1", 1_000 + n), usize::from(n))).collect();
        let refused = "@1 ERR 0017 503 Server full!";
        assert!(answers[..32].iter().all(|answer| answer.contains("ACK")));
        assert!(answers[32..].iter().all(|answer| answer == refused), "{:?}", answers.last());
        let conn = from(&mut harness, "192.0.2.7");
        assert_eq!(harness.say(conn, "REG 0004 eve"), "ERR 0013 Server full!");
        for n in 0..8 {
            assert_eq!(harness.datagram(local(n + 1), format!("REG 0003 l{n}PNG 0000")), ["ACK 0000"]);
        }
        assert_eq!(harness.datagram(local(99), "REG 0003 l9"), ["ERR 0013 Server full!"]);
    }
}

mod rates {
    use super::*;

    #[test]
    fn the_connections_of_a_host_share_its_rate_in_the_order_of_waiting_and_other_hosts_are_not_delayed() {
        let mut harness = limited("none", "5/s");
        let conns: Vec<Conn> = (0..10).map(|_| from(&mut harness, "192.0.2.1")).collect();
        let other = from(&mut harness, "192.0.2.2");
        let mut answered = Vec::new();
        for (n, conn) in conns.iter().enumerate() {
            if !harness.say(*conn, "PNG 0000PNG 0000").is_empty() {
                answered.push(n);
            }
        }
        assert_eq!(answered, [0, 1, 2]);
        assert!(!harness.is_reading(conns[3]) && harness.is_reading(other));
        assert_eq!(harness.say(other, "PNG 0000".repeat(5)), "ACK 0000".repeat(5));
        // 15 are left, one every 200 ms, each connection in turn.
        let mut order = Vec::new();
        for _ in 0..15 {
            harness.pass(ms(200));
            order.extend((0..10).filter(|n| !harness.heard(conns[*n]).is_empty()));
        }
        assert_eq!(order, [2, 3, 4, 5, 6, 7, 8, 9, 3, 4, 5, 6, 7, 8, 9]);
        harness.pass(secs(1));
        assert_eq!(harness.say(conns[0], "PNG 0000".repeat(6)), "ACK 0000".repeat(5));
    }

    #[test]
    fn a_new_connection_or_session_starts_with_the_remaining_tokens_of_its_host() {
        let mut harness = limited("5/s", "10/s");
        let mut answered = 0;
        for _ in 0..20 {
            let conn = from(&mut harness, "192.0.2.1");
            answered += harness.say(conn, "PNG 0000").len() / 8;
        }
        assert_eq!(answered, 10);
        let local: Vec<Conn> = (0..20).map(|_| from(&mut harness, "127.0.0.1")).collect();
        assert!(
            local.iter().all(|conn| harness.say(*conn, "PNG 0000") == "ACK 0000"),
            "this machine is exempt"
        );
    }

    #[test]
    fn sessions_over_udp_share_the_rate_of_their_host_and_get_the_wait_in_a_429() {
        let mut harness = limited("5/s", "6/s");
        register(&mut harness, addr(2, 1), "sink", &nonce(8));
        let tokens: Vec<(SocketAddr, String)> = (1..4_u8)
            .map(|n| {
                (addr(1, n.into()), register(&mut harness, addr(1, n.into()), &format!("c{n}"), &nonce(n)))
            })
            .collect();
        // Each REG with a cookie has cost a token.
        let ask = |harness: &mut ServerHarness, n: usize, id: u64| {
            let (from, token) = &tokens[n];
            let answer = harness.datagram(*from, format!("~{token} {}", snd(id, "sink", "x"))).concat();
            let at = answer.find(&format!("@{id} ")).unwrap();
            answer[at..].to_owned()
        };
        assert_eq!([0, 1, 2].map(|n| ask(&mut harness, n, 2)), ["@2 ACK 0000"; 3]);
        assert_eq!(ask(&mut harness, 0, 3), "@3 ERR 0008 429 167");
        assert_eq!(
            ask(&mut harness, 0, 3),
            "@3 ERR 0008 429 167",
            "its repeat is told the same, for nothing"
        );
        harness.pass(ms(167));
        assert!(ask(&mut harness, 1, 3).starts_with("@3 ACK 0000"));
        assert!(ask(&mut harness, 2, 3).starts_with("@3 ERR 0008 429 1"));
        let other = register(&mut harness, addr(3, 1), "other", &nonce(9));
        let answer = harness.datagram(addr(3, 1), format!("~{other} @2 PNG 0000"));
        assert_eq!(answer, [format!("~{other} @2 ACK 0000")], "another host");
    }

    #[test]
    fn a_thousand_sessions_of_one_host_get_no_more_requests_accepted_than_one() {
        let mut harness = limited("5/s", "5/s");
        let sessions: Vec<(SocketAddr, String)> = (0..40_u16)
            .map(|n| {
                harness.pass(ms(200));
                let (from, name) = (addr(1, 1 + n), format!("c{n}"));
                (from, register(&mut harness, from, &name, &format!("{n:A>22}")))
            })
            .collect();
        harness.pass(secs(2));
        for round in 0..10 {
            for (from, token) in &sessions {
                harness.datagram(*from, format!("~{token} {}", snd(2 + round, "c0", "x")));
            }
            harness.pass(ms(100));
        }
        assert_eq!(harness.totals().hub.messages, 5 + 4, "in 900 ms");
    }

    #[test]
    fn a_reg_with_a_cookie_is_dropped_if_its_host_has_no_tokens_and_its_repeat_is_answered() {
        let mut harness = limited("none", "1/s");
        register(&mut harness, addr(1, 1), "ada", &nonce(1));
        let (from, ask) = (addr(1, 2), reg(1, "bob", &format!("?{}", nonce(2))));
        let cookie = cookie(&mut harness, from, "bob", &nonce(2));
        for _ in 0..9 {
            assert_eq!(harness.datagram(from, format!("~{cookie} {ask}")), [""; 0]);
        }
        assert_eq!(harness.totals().answers_dropped, 9);
        harness.pass(secs(1));
        assert!(harness.datagram(from, format!("~{cookie} {ask}")).concat().contains("@1 ACK 0023"));
    }

    #[test]
    fn requests_from_unproven_addresses_are_free_so_that_they_cannot_spend_the_tokens_of_another_host() {
        let mut harness = limited("none", "2/s");
        for n in 0..100 {
            let forged = addr(1, 9);
            assert_eq!(harness.datagram(forged, "PNG 0000"), ["ACK 0000"]);
            cookie(&mut harness, forged, "eve", &nonce(n));
            let wrong = format!("~{} {}", nonce(n), reg(1, "eve", &format!("?{}", nonce(n))));
            assert!(harness.datagram(forged, wrong).concat().contains("428"));
        }
        let token = register(&mut harness, addr(1, 1), "ada", &nonce(1));
        let answer = harness.datagram(addr(1, 1), format!("~{token} @2 PNG 0000@3 PNG 0000")).concat();
        assert_eq!(answer, format!("~{token} @2 ACK 0000@3 ERR 0008 429 500"));
    }

    #[test]
    fn a_bare_reg_costs_a_token_of_its_host() {
        let mut listener = Listener::frames("udp");
        listener.rate_per_host = "2/s".parse().unwrap();
        let bare_udp = vec!["192.0.2.0/24".parse().unwrap()];
        let mut harness = ServerHarness::new(ServerConfig {
            listeners: vec![listener],
            bare_udp,
            ..ServerConfig::default()
        });
        let answers: Vec<String> =
            (1..5).map(|n| harness.datagram(at("192.0.2.1", n), format!("REG 0003 c{n}")).concat()).collect();
        assert_eq!(answers, ["", "", "ERR 0018 slow down: 500 ms", "ERR 0018 slow down: 500 ms"]);
        assert_eq!(harness.server.sessions(), 2);
    }

    #[test]
    fn a_long_frame_waits_until_the_bucket_of_its_host_is_full_and_leaves_a_debt() {
        let mut harness = limited("none", "1000B/s");
        let (one, two) = (from(&mut harness, "192.0.2.1"), from(&mut harness, "192.0.2.1"));
        harness.say(one, "REG 0004 ada");
        let ping = |length: usize| format!("PNG {length:04} {}", "x".repeat(length - 1));
        assert_eq!(harness.say(one, ping(1_992)), "", "12 bytes are missing");
        assert_eq!(harness.say(two, "PNG 0000"), "");
        harness.pass(ms(12));
        assert!(harness.heard(one).starts_with("ACK 1992"));
        harness.pass(ms(1_007));
        assert_eq!(harness.heard(two), "");
        harness.pass(ms(1));
        assert_eq!(harness.heard(two), "ACK 0000", "2,000 bytes and its own 8");
    }

    #[test]
    fn buckets_are_dropped_when_they_are_full_again() {
        let mut harness = limited("none", "5/s");
        let conns: Vec<Conn> = (1..100_u16).map(|n| from(&mut harness, &format!("10.0.0.{n}"))).collect();
        conns.iter().for_each(|conn| drop(harness.say(*conn, "PNG 0000PNG 0000")));
        conns.into_iter().for_each(|conn| harness.hang_up(conn));
        assert!(!harness.server.is_stateless());
        harness.pass(secs(2));
        assert!(harness.is_forgotten(), "{:?}", harness.server);
    }

    #[test]
    fn a_connection_that_waits_for_its_host_still_has_to_register_in_time() {
        let mut harness = limited("none", "5/s");
        let conn = from(&mut harness, "192.0.2.1");
        harness.put(conn, "LST 0000".repeat(4_000));
        let begun = harness.now;
        harness.pass(Duration::from_secs(60));
        assert!(
            harness.heard(conn).ends_with("ERR 0023 not registered in timeBYE 0000"),
            "{:?}",
            harness.now - begun
        );
    }
}
