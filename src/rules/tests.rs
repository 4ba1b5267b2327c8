//! Tests of the access rules: verdicts, the file format and its errors.

use proptest::prelude::*;

use super::file::MAX_RULES;
use super::*;
use crate::names::Name;

fn rules(text: &str) -> Rules {
    Rules::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn refusal(text: &str) -> String {
    Rules::parse(text.as_bytes()).map(|_| ()).expect_err(text).to_string()
}

fn ip(text: &str) -> Remote {
    Remote::Ip(text.parse().unwrap())
}

fn unix(uid: u32, gid: u32) -> Remote {
    Remote::Unix { uid, gid }
}

/// The verdict as text.
fn asked(rules: &Rules, name: &str, from: Remote, listener: &str) -> String {
    let name = Name::parse(name.as_bytes()).unwrap();
    rules.verdict(&name, &from, Some(listener)).explain(&name, &from)
}

fn is_allowed(rules: &Rules, name: &str, from: Remote) -> bool {
    !rules.verdict(&Name::parse(name.as_bytes()).unwrap(), &from, Some("tcp")).is_denied()
}

#[test]
fn without_a_rule_a_name_is_open() {
    assert_eq!(
        asked(&Rules::default(), "carol", ip("192.0.2.1:1"), "tcp"),
        "open: no rule matches \"carol\""
    );
    let bob = rules("[[rule]]\nname = 'bob'\nallow = ['unix']");
    assert_eq!(asked(&bob, "carol", ip("192.0.2.1:1"), "tcp"), "open: no rule matches \"carol\"");
    assert!(!bob.anonymous && !rules("").anonymous && rules("anonymous = true").anonymous);
}

#[test]
fn a_verdict_names_the_rule_and_its_line_and_the_item_that_gave_it() {
    let rules = rules(
        "anonymous = true\n\n[[rule]]\nname = 'bob'\nallow = ['10.0.0.0/8']\n\n[[rule]]\n\
         name = 'admin*'\nallow = ['loopback', '192.0.2.0/24', 'uid:7']\ndeny = ['10.0.0.13']\nlistener = 'line'\n",
    );
    let admin = "rule 2 (name \"admin*\", line 7)";
    for (name, from, listener, verdict) in [
        (
            "bob",
            ip("10.1.2.3:4"),
            "tcp",
            "allowed: rule 1 (name \"bob\", line 3) allows 10.0.0.0/8".to_owned(),
        ),
        (
            "B0B",
            ip("192.0.2.1:4"),
            "tcp",
            "denied: rule 1 (name \"bob\", line 3) does not allow 192.0.2.1".to_owned(),
        ),
        ("admin", ip("192.0.2.1:4"), "tcp", format!("denied: {admin} is for listener line alone")),
        ("admin", ip("192.0.2.1:4"), "line", format!("allowed: {admin} allows 192.0.2.0/24")),
        ("admin9", ip("10.0.0.13:4"), "tcp", format!("denied: {admin} denies 10.0.0.13")),
        ("Admin", unix(7, 1), "line", format!("allowed: {admin} allows uid:7")),
        ("Admin", unix(8, 1), "line", format!("denied: {admin} does not allow unix uid 8 gid 1")),
        ("Admin", unix(UNKNOWN_ID, UNKNOWN_ID), "line", format!("denied: {admin} does not allow unix")),
    ] {
        assert_eq!(asked(&rules, name, from, listener), verdict);
    }
}

#[test]
fn a_deny_wins_whatever_else_allows_and_opens_nothing_that_another_rule_restricts() {
    let rules = rules(
        "[[rule]]\nname = 'admin'\nallow = ['loopback', '10.0.0.0/8']\n[[rule]]\nname = '*'\ndeny = ['10.0.0.13']",
    );
    assert!(is_allowed(&rules, "admin", ip("10.0.0.12:1")));
    assert!(!is_allowed(&rules, "admin", ip("10.0.0.13:1")));
    assert!(!is_allowed(&rules, "admin", ip("192.0.2.1:1")));
    assert!(is_allowed(&rules, "bob", ip("192.0.2.1:1")));
    assert!(!is_allowed(&rules, "bob", ip("10.0.0.13:1")));
    let verdict = asked(&rules, "bob", ip("192.0.2.1:1"), "tcp");
    assert_eq!(verdict, "allowed: rule 2 (name \"*\", line 4) does not deny 192.0.2.1");
}

#[test]
fn one_of_several_rules_that_restrict_a_name_is_enough() {
    let rules = rules(
        "[[rule]]\nname = 'bob'\nallow = ['loopback']\n[[rule]]\nname = 'b*'\nlistener = 'line'\n\
         [[rule]]\nname = '?ob'\nallow = ['unix']\n",
    );
    assert_eq!(
        asked(&rules, "bob", ip("[::1]:1"), "tcp"),
        "allowed: rule 1 (name \"bob\", line 1) allows loopback"
    );
    let line = asked(&rules, "bob", ip("192.0.2.1:1"), "line");
    assert_eq!(line, "allowed: rule 2 (name \"b*\", line 4) is for listener line");
    assert_eq!(
        asked(&rules, "bob", unix(1, 1), "unix"),
        "allowed: rule 3 (name \"?ob\", line 7) allows unix"
    );
    let denied = asked(&rules, "bob", ip("192.0.2.1:1"), "tcp");
    assert_eq!(denied, "denied: rule 1 (name \"bob\", line 1) does not allow 192.0.2.1");
}

#[test]
fn ipv4_mapped_ipv6_is_ipv4_in_addresses_and_in_networks() {
    let four = rules("[[rule]]\nname = 'a'\nallow = ['10.0.0.0/8']");
    let mapped = rules("[[rule]]\nname = 'a'\nallow = ['::ffff:10.0.0.0/104']");
    for rules in [&four, &mapped] {
        assert!(is_allowed(rules, "a", ip("10.1.2.3:1")));
        assert!(is_allowed(rules, "a", ip("[::ffff:10.1.2.3]:1")));
        assert!(!is_allowed(rules, "a", ip("[::ffff:11.1.2.3]:1")));
    }
    let loopback = rules("[[rule]]\nname = 'a'\nallow = ['loopback']");
    for from in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(is_allowed(&loopback, "a", ip(from)), "{from}");
    }
    let all_six = rules("[[rule]]\nname = 'a'\nallow = ['::/0']");
    assert!(is_allowed(&all_six, "a", ip("[2001:db8::1]:1")));
    assert!(!is_allowed(&all_six, "a", ip("[::ffff:10.1.2.3]:1")));
}

#[test]
fn a_unix_socket_is_in_no_network_and_an_address_is_no_user() {
    let net = rules("[[rule]]\nname = 'a'\nallow = ['0.0.0.0/0', '::/0', 'loopback']");
    assert!(!is_allowed(&net, "a", unix(0, 0)));
    let ids = rules("[[rule]]\nname = 'a'\nallow = ['uid:5', 'gid:6']");
    assert!(is_allowed(&ids, "a", unix(5, 0)) && is_allowed(&ids, "a", unix(0, 6)));
    assert!(!is_allowed(&ids, "a", unix(6, 5)) && !is_allowed(&ids, "a", ip("127.0.0.1:5")));
}

#[test]
fn a_rule_for_a_name_covers_its_look_alikes() {
    for pattern in ["scope", "sco*", "*pe", "s?ope", "ѕсоре"] {
        let rules = rules(&format!("[[rule]]\nname = '{pattern}'\nallow = ['unix']"));
        for name in ["scope", "SCOPE", "ѕсоре", "sc0pe"] {
            assert!(!is_allowed(&rules, name, ip("192.0.2.1:1")), "{pattern} {name}");
        }
    }
}

#[test]
fn an_error_names_its_line() {
    let unknown = "unknown field `alow`, expected one of `name`, `allow`, `deny`, `door`, `listener`";
    for (text, error) in [
        ("\n[[rule]]\nname = 'a'\nalow = ['unix']", &*format!("line 4: {unknown}")),
        ("anon = true", "line 1: unknown field `anon`, expected `anonymous` or `rule`"),
        ("\nanonymous = 'yes'", "line 2: invalid type: string \"yes\", expected a boolean"),
        ("\n\n[[rule]]\nname = 'a'", "line 3: a rule without a condition; write allow, deny or listener"),
        ("[[rule]]\ndeny = ['unix']", "line 1: a rule without a name; write name = \"..\""),
        ("[[rule]]\nname = ''\nlistener = 'tcp'", "line 2: no name can match ``: a name is empty"),
        (
            "[[rule]]\nname = 'a b'\nlistener = 'tcp'",
            "line 2: no name can match `a b`: a name holds white space or a control character",
        ),
        ("[[rule]]\nname = 'a'\nallow = []", "line 3: `allow` is empty; leave it out or name an origin"),
        ("[[rule]]\nname = 'a'\ndeny = []", "line 3: `deny` is empty; leave it out or name an origin"),
        (
            "[[rule]]\nname = 'a'\nlistener = ''",
            "line 3: `listener` is empty; leave it out or name a listener",
        ),
        (
            "[[rule]]\nname = 'a'\nallow = [\n'unix',\n'10.0.0.1/8']",
            "line 5: `10.0.0.1/8` has bits set behind its prefix; write 10.0.0.0/8 or 10.0.0.1",
        ),
        (
            "[[rule]]\nname = 'a'\nallow = ['10.0.0.0/33']",
            "line 3: `10.0.0.0/33` is not a network; write 10.0.0.0/8 or 2001:db8::/32",
        ),
        (
            "[[rule]]\nname = 'a'\nallow = ['uid:x']",
            "line 3: `uid:x` names no user or group; write uid:1000 or gid:100",
        ),
        (
            "[[rule]]\nname = 'a'\nallow = ['gid:4294967295']",
            "line 3: `gid:4294967295` names no user or group; write uid:1000 or gid:100",
        ),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
    let home = refusal("[[rule]]\nname = 'a'\nallow = ['home']");
    assert!(home.starts_with("line 3: `home` is not an origin; write loopback, unix,"), "{home}");
    let escape = refusal("[[rule]]\nname = 'a'\nallow = [\"\\u001b[2J\\n\"]");
    assert!(escape.contains(r"`\x1b[2J\x0a`"), "{escape}");
}

#[test]
fn a_file_is_refused_that_is_too_long_or_too_deep_or_not_text() {
    let long = format!("#{}", "x".repeat(MAX_RULES_FILE));
    assert_eq!(refusal(&long), "line 1: a file of rules has 1 MiB at most");
    assert!(Rules::parse(&long.as_bytes()[..MAX_RULES_FILE]).is_ok());
    let error = Rules::parse(b"\n# \xff").map(|_| ()).expect_err("this is not UTF-8");
    assert_eq!(error.to_string(), "line 2: this is not UTF-8");
    for deep in ["[", "a=[", "a={b=", "a.", "[[a."] {
        assert!(refusal(&deep.repeat(200_000)).starts_with("line 1: "), "{deep}");
    }
}

#[test]
fn the_maximum_number_of_rules_is_read_and_searched_and_no_more() {
    let many =
        |count: usize| (0..count).map(|n| format!("[[rule]]\nname = 'n{n}*'\ndeny = ['unix']\n")).collect();
    let full: String = many(MAX_RULES);
    let rules = rules(&full);
    assert_eq!(rules.len(), MAX_RULES);
    assert!(!is_allowed(&rules, "n9999", unix(0, 0)) && is_allowed(&rules, "m9999", unix(0, 0)));
    let more: String = many(MAX_RULES + 1);
    assert_eq!(refusal(&more), "line 30001: a file has 10000 rules at most");
}

#[test]
fn a_rule_for_an_unknown_listener_is_found() {
    let rules = rules("[[rule]]\nname = 'a'\ndeny = ['unix']\n[[rule]]\nname = 'b'\nlistener = 'line'");
    let listeners = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(rules.check_listeners(&listeners(&["tcp", "line"])), Ok(()));
    let error = rules.check_listeners(&listeners(&["tcp", "udp"])).unwrap_err().to_string();
    assert_eq!(error, "line 4: no listener is called `line`; here are tcp, udp");
}

#[test]
fn a_file_of_version_0_1_still_names_the_listener_of_a_rule() {
    let text = "[[rule]]\nname = 'a'\nlistener = 'line'\n";
    let (now, then) = (rules(text), rules(&text.replace("listener", "door")));
    assert_eq!(then.listeners().collect::<Vec<_>>(), now.listeners().collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn whatever_a_file_holds_is_read_or_refused_in_one_plain_line(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "[[rule]]", "\n", "name", "allow", "deny", "listener", "anonymous", " = ", "'a*'", "\"\\u202e\"", "[", "]",
                "'unix'", "'10.0.0.1/8'", "'::1'", ",", "true", "7", "{", "}", ".", "#", "\u{2028}", "\u{1b}", "'", "\"",
            ]),
            0..24,
        ),
        noise in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let bytes = [parts.concat().into_bytes(), noise].concat();
        if let Err(error) = Rules::parse(&bytes) {
            let line = error.to_string();
            prop_assert_eq!(crate::escape::escape(line.as_bytes()), line.as_str());
        }
    }
}
