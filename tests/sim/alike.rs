//! Names that look alike, and names that would be parsed as something else: refused wherever they are requested.

use sayagain::config::ServerConfig;
use sayagain::rules::Rules;
use sayagain::service::Remote;

use crate::harness::{Conn, ServerHarness, local, nonce, reg};
use crate::lines::{ASKS, config};

fn reg_as(harness: &mut ServerHarness, name: &str) -> (Conn, String) {
    let conn = harness.connect();
    let answer = harness.say(conn, format!("REG {:04} {name}", name.len() + 1));
    (conn, answer)
}

const TAKEN: &str = "ERR 0012 Name taken!";
const NOT_ALLOWED: &str = "ERR 0023 Name not allowed here!";

#[test]
fn a_capital_i_does_not_bypass_an_l_in_a_name_or_a_rule() {
    for (first, second) in [("Bill", "BiII"), ("BiII", "Bill"), ("bill", "biIl"), ("BILL", "bi11")] {
        let mut harness = ServerHarness::open();
        let (bill, answer) = reg_as(&mut harness, first);
        assert_eq!(answer, "");
        assert_eq!(reg_as(&mut harness, second).1, TAKEN, "{first} {second}");
        harness.say(bill, "BYE 0000");
        assert_eq!(reg_as(&mut harness, second).1, "", "both keys of {first} are free again");
        assert_eq!(reg_as(&mut harness, first).1, TAKEN);
    }
    let rules = Rules::parse(b"[[rule]]\nname = \"Bill\"\nallow = [\"192.0.2.0/24\"]\n").unwrap();
    let mut harness = ServerHarness::new(ServerConfig { rules, ..ServerConfig::default() });
    for name in ["Bill", "BiII", "BILL", "bi1l"] {
        assert_eq!(reg_as(&mut harness, name).1, NOT_ALLOWED, "{name}");
    }
}

#[test]
fn a_rename_frees_both_keys_and_a_name_does_not_clash_with_itself() {
    let mut harness = ServerHarness::new(config());
    let line_client = harness.connect_at(ASKS, Remote::Ip(local(1)));
    harness.say(line_client, "BiII\n");
    assert_eq!(harness.say(line_client, "/nick Bill\n"), "* you are Bill\n");
    assert_eq!(reg_as(&mut harness, "BiII").1, TAKEN);
    let (bob, _) = reg_as(&mut harness, "Bob");
    assert_eq!(harness.say(line_client, "/nick B0b\n"), "* B0b is taken\n");
    assert_eq!(harness.say(line_client, "/nick Ada\n"), "* you are Ada\n");
    assert_eq!(reg_as(&mut harness, "BiII").1, "");
    assert_eq!(harness.say(bob, "LST 0000"), "ACK 0013 Ada Bob BiII");
}

#[test]
fn rooms_that_look_alike_clash_by_either_key_until_the_first_is_empty() {
    let mut harness = ServerHarness::open();
    let (ada, _) = reg_as(&mut harness, "ada");
    let (bob, _) = reg_as(&mut harness, "bob");
    assert_eq!(harness.say(ada, "JON 0006 #Bill"), "");
    assert_eq!(harness.say(bob, "JON 0006 #BiII"), TAKEN);
    assert_eq!(harness.say(bob, "JON 0006 #BILL"), "", "the same room, whatever its case");
    assert_eq!(harness.say(ada, "LEV 0006 #bill") + &harness.say(bob, "LEV 0006 #bill"), "");
    assert_eq!(harness.say(bob, "JON 0006 #BiII"), "");
    assert_eq!(harness.say(ada, "JON 0006 #Bill"), TAKEN);
}

#[test]
fn the_reserved_room_of_a_line_listener_keeps_both_its_keys_when_it_is_empty() {
    let mut harness = ServerHarness::new(config());
    let (ada, _) = reg_as(&mut harness, "ada");
    assert_eq!(harness.say(ada, "JON 0007 #LOBBY") + &harness.say(ada, "LEV 0007 #lobby"), "");
    assert_eq!(harness.say(ada, "JON 0007 #Iobby"), TAKEN);
    assert_eq!(harness.say(ada, "JON 0007 #lobby"), "");
}

#[test]
fn no_name_and_no_room_contains_the_separator_after_a_sender() {
    let mut harness = ServerHarness::new(config());
    let rick = harness.connect_at(ASKS, Remote::Ip(local(1)));
    harness.say(rick, "Rick\n");
    for name in ["Rick>", "Rick\u{ff1e}", ">", "a>b"] {
        assert_eq!(reg_as(&mut harness, name).1, NOT_ALLOWED, "{name}");
    }
    let tagged = harness.connect();
    let answer = harness.say(tagged, reg(1, "Rick>", &format!("?{}", nonce(1))));
    assert_eq!(answer, "@1 ERR 0027 403 Name not allowed here!");
    let (eve, _) = reg_as(&mut harness, "Eve");
    assert_eq!(harness.say(eve, "JON 0010 #dev> yes"), "ERR 0017 Not a room name!");
    assert_eq!(harness.say(eve, "JON 0009 #dev>yes"), "ERR 0017 Not a room name!");
    assert_eq!(harness.say(rick, "/nick Eve>\n"), "* you are Eve-\n");
}
