//! The exchanges in docs/protocol.md, replayed against the server.
//!
//! A block marked `tcp`, `udp` or `local` is one exchange with a fresh server. `A>` is input of A, `A<` all output to A
//! until then, `A: cut` cuts A's connection; a line in parentheses is an event. In a block marked `lines` all clients
//! but F are at a line listener, and each `<` is one line. Output that the page does not show fails the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use sayagain::config::ServerConfig;
use sayagain::listener::Listener;
use sayagain::net::ListenUrl;
use sayagain::service::Remote;

use crate::harness::{Conn, ServerHarness, addr, local};

const PAGE: &str = include_str!("../../docs/protocol.md");

/// The clients of one exchange.
struct Stage {
    harness: ServerHarness,
    listener: String,
    conns: BTreeMap<char, Conn>,
}

impl Stage {
    fn addr(&self, who: char) -> SocketAddr {
        let port = 1_000 + u16::from(u8::try_from(who).unwrap() - b'A');
        if self.listener == "local" { local(port) } else { addr(1, port) }
    }

    fn is_at_line_listener(&self, who: char) -> bool {
        self.listener == "lines" && who != 'F'
    }

    fn conn(&mut self, who: char) -> Conn {
        let (listener, from) = (usize::from(self.is_at_line_listener(who)), Remote::Ip(self.addr(who)));
        *self.conns.entry(who).or_insert_with(|| self.harness.connect_at(listener, from))
    }

    fn is_stream(&self) -> bool {
        ["tcp", "lines"].contains(&&*self.listener)
    }

    fn send(&mut self, who: char, bytes: &str) -> String {
        if self.is_stream() {
            let conn = self.conn(who);
            let end = if self.is_at_line_listener(who) { "\n" } else { "" };
            self.harness.say(conn, format!("{bytes}{end}"))
        } else {
            let addr = self.addr(who);
            self.harness.datagram(addr, bytes).concat()
        }
    }

    fn hear(&mut self, who: char) -> String {
        if self.is_stream() {
            let conn = self.conn(who);
            self.harness.heard(conn)
        } else {
            let addr = self.addr(who);
            self.harness.datagrams_to(addr).concat()
        }
    }

    fn cut(&mut self, who: char) {
        if let Some(conn) = self.conns.remove(&who) {
            self.harness.hang_up(conn);
        }
    }
}

/// The server of the page: frames at its first listener, lines at its second.
fn open() -> ServerHarness {
    let lines: ListenUrl = "line://localhost?rate=none".parse().unwrap();
    let back_in = Some(Duration::from_secs(5));
    ServerHarness::new(ServerConfig {
        listeners: vec![Listener::frames("tcp"), lines.listener],
        back_in,
        ..ServerConfig::default()
    })
}

/// Takes the first line off the output; a prompt has no line end.
fn first_line(heard: &mut String) -> String {
    let end = heard.find('\n').map_or(heard.len(), |end| end + 1);
    heard.drain(..end).collect::<String>().trim_end().to_owned()
}

fn replay(listener: &str, lines: &[&str]) -> Vec<String> {
    let mut stage = Stage { harness: open(), listener: listener.to_owned(), conns: BTreeMap::new() };
    let mut heard: BTreeMap<char, String> = BTreeMap::new();
    let mut seen = Vec::new();
    for line in lines {
        if line.starts_with('(') {
            match *line {
                "(10 s pass)" => stage.harness.pass(Duration::from_secs(10)),
                "(the server shuts down)" => stage.harness.shut_down(),
                _ => panic!("nothing that a test can do: {line}"),
            }
            seen.push((*line).to_owned());
            continue;
        }
        let who = line.chars().next().unwrap();
        match &line[1..] {
            rest if rest.starts_with("> ") => {
                let answer = stage.send(who, &rest[2..]);
                heard.entry(who).or_default().push_str(&answer);
                seen.push((*line).to_owned());
            }
            rest if rest.starts_with("< ") => {
                let more = stage.hear(who);
                let all = heard.entry(who).or_default();
                all.push_str(&more);
                let shown =
                    if stage.is_at_line_listener(who) { first_line(all) } else { std::mem::take(all) };
                seen.push(format!("{who}< {shown}"));
            }
            ": cut" => {
                stage.cut(who);
                seen.push((*line).to_owned());
            }
            _ => panic!("not a line of an exchange: {line}"),
        }
    }
    for who in ['A', 'B', 'C', 'F']
        .into_iter()
        .filter(|who| !stage.is_stream() || stage.conns.contains_key(who))
        .collect::<Vec<_>>()
    {
        let rest = heard.remove(&who).unwrap_or_default() + &stage.hear(who);
        if !rest.is_empty() {
            seen.push(format!("{who}< {rest}   (not shown)"));
        }
    }
    seen
}

#[test]
fn the_server_replays_every_exchange_on_the_page() {
    let mut exchanges = 0;
    for block in PAGE.split("\n```").skip(1).step_by(2) {
        let (listener, text) = block.split_once('\n').unwrap();
        if !["tcp", "udp", "local", "lines"].contains(&listener) {
            continue;
        }
        exchanges += 1;
        let lines: Vec<&str> = text.lines().collect();
        let seen = replay(listener, &lines);
        assert_eq!(seen, lines, "\nexchange {exchanges} is really:\n{}\n", seen.join("\n"));
    }
    assert_eq!(exchanges, 13);
}
