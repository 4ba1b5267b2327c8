//! Access rules on the command line of the real server: files that are refused, verdicts, SIGHUP, and guests.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::program::{Ended, Program as AnyProgram};
use crate::support::server::{Conn, SOON, ServerProgram, frame, port_of};
use crate::support::{eventually, uninterrupted};

/// A directory with a file of rules in it.
struct RulesFile {
    dir: TempDir,
}

impl RulesFile {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let file = Self { dir: TempDir::new().unwrap() };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rules.toml")
    }

    fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(self.path(), text).unwrap();
    }
}

fn server(args: &[&str]) -> Ended {
    AnyProgram::start(env!("CARGO_BIN_EXE_server"), args).wait()
}

/// Invalid files, and a part of the error for each.
const MALFORMED: &[(&[u8], &str)] = &[
    (b"anonymous", "line 1: key with no value"),
    (b"anonymous = maybe", "line 1: "),
    (b"\nanonymous = 1", "line 2: invalid type: integer `1`, expected a boolean"),
    (b"anonymous = true\nanonymous = true", "line 2: duplicate key"),
    (b"anon = true", "line 1: unknown field `anon`"),
    (b"[rules]\nname = 'a'", "line 1: unknown field `rules`"),
    (b"[rule]\nname = 'a'\nallow = ['unix']", "line 1: invalid type: map, expected a sequence"),
    (b"[[rule]]\nname = 'a'", "line 1: a rule without a condition"),
    (b"[[rule]]", "line 1: a rule without a name"),
    (b"[[rule]]\nallow = ['unix']", "line 1: a rule without a name"),
    (b"[[rule]]\nname = 7\nallow = ['unix']", "line 2: invalid type: integer `7`, expected a string"),
    (b"[[rule]]\nname = 'a'\nallows = ['unix']", "line 3: unknown field `allows`"),
    (b"[[rule]]\nname = 'a'\nallow = 'unix'", "line 3: invalid type: string \"unix\", expected a sequence"),
    (b"[[rule]]\nname = 'a'\nallow = [1]", "line 3: invalid type: integer `1`, expected a string"),
    (b"[[rule]]\nname = 'a'\nallow = []", "line 3: `allow` is empty"),
    (b"[[rule]]\nname = 'a'\ndeny = []", "line 3: `deny` is empty"),
    (b"[[rule]]\nname = ''\nallow = ['unix']", "line 2: no name can match ``"),
    (b"[[rule]]\nname = 'a b'\nallow = ['unix']", "line 2: no name can match `a b`"),
    (b"[[rule]]\nname = '#lobby'\nallow = ['unix']", "line 2: no name can match `#lobby`"),
    (b"[[rule]]\nname = '\xd0\xb0*z'\nallow = ['unix']", "a name mixes scripts"),
    (b"[[rule]]\nname = '?????????????????????????????????'\nallow = ['unix']", "longer than 32 characters"),
    (b"[[rule]]\nname = \"\\u001b[2J*\"\nallow = ['unix']", r"line 2: no name can match `\x1b[2J*`"),
    (b"[[rule]]\nname = 'a'\nallow = ['home']", "line 3: `home` is not an origin"),
    (b"[[rule]]\nname = 'a'\nallow = ['10.0.0.0/33']", "line 3: `10.0.0.0/33` is not a network"),
    (b"[[rule]]\nname = 'a'\nallow = ['10.0.0.256']", "line 3: `10.0.0.256` is not an origin"),
    (
        b"[[rule]]\nname = 'a'\ndeny = ['unix', '10.0.0.1/8']",
        "line 3: `10.0.0.1/8` has bits set behind its prefix; write 10.0.0.0/8 or 10.0.0.1",
    ),
    (b"[[rule]]\nname = 'a'\nallow = ['uid:root']", "line 3: `uid:root` names no user or group"),
    (b"[[rule]]\nname = 'a'\nlistener = ''", "line 3: `listener` is empty"),
    (
        b"[[rule]]\nname = 'a'\nlistener = 'window'",
        "line 1: no listener is called `window`; here are tcp, udp",
    ),
    (b"[[rule]]\nname = 'a'\nallow = ['unix'", "line 3: unclosed array"),
    (b"# \xff", "line 1: this is not UTF-8"),
];

#[test]
fn an_invalid_rules_file_prevents_the_start_with_one_line_that_says_where_and_why() {
    assert!(MALFORMED.len() >= 20);
    for (bytes, why) in MALFORMED {
        let file = RulesFile::new(bytes);
        let Ended { code, out, err } = server(&["--host", "127.0.0.1:0", "--rules", &file.text()]);
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{shown}: {err}");
        assert!(
            err.starts_with(&format!("error: {}: line ", file.text())) && err.contains(why),
            "{shown}: {err}"
        );
        assert!(!err.trim_end().contains(char::is_control), "{err:?}");
    }
}

#[test]
fn a_missing_or_too_large_rules_file_prevents_the_start() {
    let file = RulesFile::new(format!("#{}", "x".repeat(1 << 20)));
    let rule = "[[rule]]\nname = 'a'\nlistener = 'tcp'\n";
    let many = RulesFile::new(rule.repeat(10_001));
    let missing = file.dir.path().join("missing").to_str().unwrap().to_owned();
    let dir = file.dir.path().to_str().unwrap().to_owned();
    for (path, why) in [
        (file.text(), "line 1: a file of rules has 1 MiB at most"),
        (many.text(), "line 30001: a file has 10000 rules at most"),
        (missing, "No such file or directory"),
        (dir, "it is not a regular file"),
    ] {
        for args in [&["--host", "127.0.0.1:0", "--rules", &path][..], &["rules", "check", "--rules", &path]]
        {
            let Ended { code, out, err } = server(args);
            assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{err}");
            assert!(err.contains(&path) && err.contains(why), "{err}");
        }
    }
}

const CHECKED: &str = "\
# Names and origins
anonymous = true
[[rule]]
name = \"bob\"
allow = [\"10.0.0.0/8\", \"gid:100\"]

[[rule]]
name = \"admin*\"
allow = [\"loopback\", \"unix\"]
deny = [\"10.0.0.13\", \"uid:13\"]
listener = \"line\"
";

#[test]
fn rules_check_prints_the_verdict_and_the_deciding_rule() {
    let file = RulesFile::new(CHECKED);
    let (bob, admin) = ("rule 1 (name \"bob\", line 3)", "rule 2 (name \"admin*\", line 7)");
    for (words, verdict, code) in [
        ("bob --from 10.1.2.3", &*format!("allowed: {bob} allows 10.0.0.0/8"), 0),
        ("bob --from 10.1.2.3:80", &*format!("allowed: {bob} allows 10.0.0.0/8"), 0),
        ("bob --from ::ffff:10.1.2.3", &*format!("allowed: {bob} allows 10.0.0.0/8"), 0),
        ("BOB --from ::ffff:192.0.2.1", &*format!("denied: {bob} does not allow 192.0.2.1"), 1),
        ("bob --from unix:uid=1,gid=100", &*format!("allowed: {bob} allows gid:100"), 0),
        ("bob --from unix", &*format!("denied: {bob} does not allow unix"), 1),
        ("admin-2 --from loopback --listener line", &*format!("allowed: {admin} allows loopback"), 0),
        ("admin-2 --from loopback", &*format!("denied: {admin} is for listener line alone"), 1),
        ("adrnin --from 10.0.0.13 --listener line", &*format!("denied: {admin} denies 10.0.0.13"), 1),
        ("admin --from unix:uid=13 --listener line", &*format!("denied: {admin} denies uid:13"), 1),
        ("carol --from ::1", "open: no rule matches \"carol\"", 0),
    ] {
        let path = file.text();
        let mut args = vec!["rules", "check", "--rules", &path];
        args.extend(words.split(' '));
        let ended = server(&args);
        assert_eq!(
            (ended.out, ended.err, ended.code),
            (format!("{verdict}\n"), String::new(), code),
            "{words}"
        );
    }
    let ended = server(&["rules", "check", "--rules", &file.text()]);
    assert_eq!((ended.out, ended.code), (format!("{}: 2 rules\n", file.text()), 0));
    // A named listener is known by its URL, or because a rule names it.
    let listen = ["--listen", "tcp://h?name=lan", "--listen", "line://h"];
    let check = ["rules", "check", "--rules", &file.text(), "carol", "--from", "::1", "--listener", "lan"];
    assert_eq!(server(&[&check[..], &listen].concat()).out, "open: no rule matches \"carol\"\n");
    // The spellings of version 0.1.
    let old = check.map(|word| if word == "--listener" { "--door" } else { word });
    assert_eq!(server(&[&old[..], &listen].concat()).out, "open: no rule matches \"carol\"\n");
    file.write(CHECKED.replace("\"line\"", "\"lan\""));
    assert_eq!(server(&check).out, "open: no rule matches \"carol\"\n");
}

#[test]
fn rules_check_refuses_invalid_arguments() {
    let file = RulesFile::new(CHECKED);
    let (path, lan) = (file.text(), "tcp://h?name=lan");
    for (args, why) in [
        (&["two words", "--from", "unix", "--rules", &path][..], "`two words` is not a name"),
        (&["\u{1b}[2J", "--from", "unix", "--rules", &path], r"`\x1b[2J` is not a name"),
        (&["bob", "--rules", &path], "--from <ADDR>"),
        (&["--from", "unix", "--rules", &path], "<NAME>"),
        (&["bob", "--from", "home", "--rules", &path], "`home` is not an origin"),
        (&["bob", "--from", "unix"], "--rules <FILE>"),
        (
            &["bob", "--from", "unix", "--listener", "nosuchlistener", "--rules", &path],
            "no listener is called `nosuchlistener`; here are line, line+unix, tcp, udp, unix; write --listen URL for others",
        ),
        (
            &[
                "bob",
                "--from",
                "::1",
                "--listener",
                "tcp",
                "--rules",
                &path,
                "--listen",
                "line://h",
                "--listen",
                lan,
            ],
            "no listener is called `tcp`; here are lan, line;",
        ),
        (&["--rules", &path, "--listen", lan], "line 7: no listener is called `line`; here are lan"),
    ] {
        let Ended { code, out, err } = server(&[&["rules", "check"], args].concat());
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{err}");
        assert!(err.contains(why), "{err}");
    }
    assert_eq!(server(&["rules"]).code, 2);
    assert_eq!(server(&["--mode", "tcp", "rules", "check", "--rules", &path]).code, 2);
}

#[test]
fn the_help_of_rules_check_shows_a_valid_file_and_the_usage() {
    let help = server(&["rules", "check", "--help"]).out;
    assert!(help.contains("[--listen <URL>]... [<NAME> --from <ADDR> [--listener <LISTENER>]]"), "{help}");
    let example = help.split("(docs/listeners.md has all its keys):\n").nth(1).unwrap();
    let example: Vec<&str> = example.lines().take_while(|line| !line.is_empty()).collect();
    assert!((4..=8).contains(&example.len()), "{help}");
    let file = RulesFile::new(example.join("\n"));
    for (words, verdict) in [
        ("admin2 --from 10.1.2.3", "allowed: "),
        ("admin2 --from 192.0.2.1", "denied: "),
        ("cook --from 192.0.2.1 --listener line", "allowed: "),
        ("cook --from 10.0.0.13 --listener line", "denied: "),
        ("cook --from 192.0.2.1 --listener tcp", "denied: "),
    ] {
        let path = file.text();
        let mut args = vec!["rules", "check", "--rules", &path];
        args.extend(words.split(' '));
        let ended = server(&args);
        assert!(ended.out.starts_with(verdict), "{words}: {ended:?}");
    }
    let server_help = server(&["--help"]).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(server_help.contains("`server rules check --help` shows such a file"), "{server_help}");
}

#[test]
fn one_rule_is_counted_in_the_singular() {
    let file = RulesFile::new("[[rule]]\nname = 'bob'\nallow = ['loopback']");
    let ended = server(&["rules", "check", "--rules", &file.text()]);
    assert_eq!(ended.out, format!("{}: 1 rule\n", file.text()));
    let server = ServerProgram::local(&["--rules", &file.text()]);
    let bob = server.register("bob");
    file.write("[[rule]]\nname = 'bob'\nallow = ['10.0.0.0/8']");
    server.signal("HUP");
    server.wait_for_log("reloaded 1 rule; 1 session is not allowed any more and has ended");
    drop(bob);
    server.end();
}

const NOT_ALLOWED: &str = "ERR 0023 Name not allowed here!";

#[test]
fn a_name_is_refused_where_a_rule_denies_it_and_the_log_names_the_rule() {
    let file = RulesFile::new("[[rule]]\nname = 'bob'\nallow = ['10.0.0.0/8']");
    let server = ServerProgram::local(&["--rules", &file.text()]);
    let mut conn = server.connect();
    conn.send(&frame("REG", "b0b"));
    conn.expect(NOT_ALLOWED);
    let line = server.wait_for_log("WARN");
    let why = ": b0b refused, denied: rule 1 (name \"bob\", line 1) does not allow 127.0.0.1";
    assert!(line.ends_with(why), "{line}");
    // The connection stays, and may register another name.
    conn.send(&frame("REG", "carol"));
    conn.prove();
    drop(conn);
    server.end();
}

#[test]
fn sighup_reloads_the_rules_and_ends_sessions_that_they_deny() {
    let file = RulesFile::new("[[rule]]\nname = 'bob'\nallow = ['loopback']");
    let server = ServerProgram::local(&["--rules", &file.text()]);
    let (mut bob, mut ada) = (server.register("bob"), server.register("ada"));
    let udp = server.udp();
    assert_eq!(ask(&udp, "REG 0006 carolPNG 0000"), "ACK 0000");
    file.write("[[rule]]\nname = 'bob'\nallow = ['10.0.0.0/8']\n[[rule]]\nname = 'c*'\nlistener = 'tcp'");
    server.signal("HUP");
    server.wait_for_log("reloaded 2 rules; 2 sessions are not allowed any more and have ended");
    bob.expect(&format!("{NOT_ALLOWED}BYE 0000"));
    bob.expect_end();
    // It got BYE, once, before its request.
    assert_eq!(ask(&udp, "LST 0000"), format!("{NOT_ALLOWED}BYE 0000"));
    assert_eq!(ask(&udp, "LST 0000"), "ERR 0016 Register first!");
    let mut again = server.connect();
    again.send(&frame("REG", "bob"));
    again.expect(NOT_ALLOWED);
    ada.send("LST 0000");
    ada.expect("ACK 0004 ada");
    file.write("");
    server.signal("HUP");
    server.wait_for_log("reloaded 0 rules; 0 sessions");
    again.send(&frame("REG", "bob"));
    again.prove();
    drop((ada, again, bob));
    server.end();
}

#[test]
fn a_bad_or_missing_file_at_sighup_leaves_the_rules_as_they_were() {
    let file = RulesFile::new("[[rule]]\nname = 'bob'\nallow = ['10.0.0.0/8']");
    let server = ServerProgram::local(&["--rules", &file.text()]);
    let mut ada = server.register("ada");
    let bad = "[[rule]]\nname = 'ada'\ndeny = ['loopback']\n[[rule]]\nname = 'eve'";
    let listener = "[[rule]]\nname = 'ada'\nlistener = 'line'";
    for (text, why) in [
        (
            Some(bad),
            "line 4: a rule without a condition; write allow, deny or listener; the rules stay as they were",
        ),
        (
            Some(listener),
            "line 1: no listener is called `line`; here are tcp, udp; the rules stay as they were",
        ),
        (None, "No such file or directory (os error 2); the rules stay as they were"),
    ] {
        match text {
            Some(text) => file.write(text),
            None => fs::remove_file(file.path()).unwrap(),
        }
        server.signal("HUP");
        let line = server.wait_for_log("ERROR");
        assert!(line.contains(&file.text()) && line.ends_with(why), "{line}");
        ada.prove();
        let mut conn = server.connect();
        conn.send(&frame("REG", "bob"));
        conn.expect(NOT_ALLOWED);
    }
    drop(ada);
    server.end();
}

#[test]
fn sighup_without_rules_ends_the_server_as_on_a_lost_terminal() {
    let server = ServerProgram::local(&[]);
    let mut ada = server.register("ada");
    server.signal("HUP");
    ada.expect("BYE 0000");
    drop(ada);
    let (code, logged, _) = server.end_within(SOON * 2);
    assert_eq!(code, Some(0), "{logged:?}");
}

/// The answer to a datagram.
fn ask(socket: &std::net::UdpSocket, datagram: &str) -> String {
    socket.send(datagram.as_bytes()).unwrap();
    let mut buffer = [0; 2_000];
    let count = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[test]
fn guests_send_over_tcp_and_over_bare_udp_where_the_rules_allow_it() {
    let file = RulesFile::new("anonymous = true");
    let server = ServerProgram::local(&["--rules", &file.text()]);
    let mut ada = server.register("ada");
    let mut guest = server.connect();
    guest.send(&frame("SND", "ada hi"));
    ada.expect("RCV 0016 guest-1 0001 hi");
    let udp = server.udp();
    assert_eq!(ask(&udp, "SND 0007 ada hiPNG 0000"), "ACK 0000");
    ada.expect("RCV 0016 guest-2 0001 hi");
    ada.send(&frame("SND", "guest-1 you"));
    guest.expect("RCV 0013 ada 0001 you");
    file.write("");
    server.signal("HUP");
    guest.expect(&format!("{NOT_ALLOWED}BYE 0000"));
    guest.expect_end();
    eventually("the guest over UDP is gone", || ask(&udp, "LST 0000") == "ERR 0016 Register first!");
    drop((ada, guest));
    server.end();
}

/// An id of this process, as `id` prints it.
fn id(of: &str) -> String {
    let out = Command::new("id").arg(of).output().unwrap().stdout;
    String::from_utf8(out).unwrap().trim().to_owned()
}

/// The answer to this on a UNIX socket.
fn say_through(socket: &Path, bytes: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(format!("{bytes}BYE 0000").as_bytes()).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}

#[test]
fn rules_name_listeners_by_scheme_or_name_and_users_by_id() {
    let (uid, gid) = (id("-u"), id("-g"));
    let file = RulesFile::new(format!(
        "[[rule]]\nname = 'front'\nlistener = 'front'\n[[rule]]\nname = 'local'\nlistener = 'unix'\n\
         [[rule]]\nname = 'me'\nallow = ['uid:{uid}']\n[[rule]]\nname = 'us'\nallow = ['gid:{gid}']\n\
         [[rule]]\nname = 'other'\nallow = ['loopback', 'uid:{}']\n",
        uid.parse::<u32>().unwrap() + 1
    ));
    let socket = file.dir.path().join("chat");
    let unix = format!("unix://{}", socket.display());
    let listeners = ["--listen", "tcp://127.0.0.1:0?name=front", "--listen", &unix];
    let server = ServerProgram::local(&[&listeners[..], &["--rules", &file.text()]].concat());
    let ports: Vec<u16> =
        server.listening.iter().filter(|line| line.contains("tcp://")).map(|line| port_of(line)).collect();
    assert_eq!(ports.len(), 2, "{:?}", server.listening);
    for (name, allowed) in [
        ("front", [false, true, false]),
        ("local", [false, false, true]),
        ("me", [false, false, true]),
        ("us", [false, false, true]),
        ("other", [true, true, false]),
        ("anybody", [true, true, true]),
    ] {
        let reg = frame("REG", name);
        let over_tcp = |port: u16| {
            let mut conn = Conn::to(SocketAddr::from(([127, 0, 0, 1], port)));
            conn.send(&format!("{reg}BYE 0000"));
            conn.rest()
        };
        let heard = [over_tcp(ports[0]), over_tcp(ports[1]), say_through(&socket, &reg)];
        assert_eq!(heard, allowed.map(|allowed| if allowed { "" } else { NOT_ALLOWED }), "{name}");
    }
    // A reload also ends sessions on the UNIX socket.
    let mut me = UnixStream::connect(&socket).unwrap();
    me.set_read_timeout(Some(SOON)).unwrap();
    me.write_all(format!("{}PNG 0000", frame("REG", "me")).as_bytes()).unwrap();
    me.read_exact(&mut [0; 8]).unwrap();
    file.write("[[rule]]\nname = 'me'\ndeny = ['unix']");
    server.signal("HUP");
    let mut heard = String::new();
    me.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, format!("{NOT_ALLOWED}BYE 0000"));
    drop(me);
    server.end();
}

#[test]
fn the_program_gives_the_verdicts_on_the_page() {
    let page = include_str!("../../../docs/listeners.md");
    let block = |start: &str| page.split(start).nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("names.toml"), block("```toml\n")).unwrap();
    let mut shown = block("$ server rules check --rules names.toml\n").lines();
    assert_eq!(shown.next(), Some("names.toml: 2 rules"));
    let mut asked = 0;
    while let Some(line) = shown.next().and_then(|line| line.strip_prefix("$ server ")) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_server"));
        let output = program.args(line.split(' ')).current_dir(directory.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().next(), shown.next(), "{line}");
        asked += 1;
    }
    assert_eq!(asked, 4);
}
