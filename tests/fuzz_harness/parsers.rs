//! Readers of what others wrote.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use sayagain::lab::proxy::record as records;
use sayagain::lab::sweep::table::Table;
use sayagain::link::{Direction, Link, LinkConfig, Payload, split_list};
use sayagain::names::Name;
use sayagain::net::ListenUrl;
use sayagain::rules::Rules;
use sayagain::service::Remote;
use sayagain::wire::{
    Datagram, Deframer, ErrArgs, Found, Frame, Lines, MAX_LINE, RcvArgs, RegArgs, SndArgs, Verb,
    encode_prefix, encode_ranges, parse_gap, parse_ranges, words,
};

/// The longest payload that readers take here.
const MAX_PAYLOAD: usize = 1 << 16;

/// The first byte says in which pieces the rest comes.
fn in_pieces(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes.split_first() {
        Some((size, rest)) => (usize::from(*size).max(1), rest),
        None => (1, bytes),
    }
}

/// The frames of a stream that comes in pieces of `size` bytes, encoded, and what was malformed behind them.
fn frames(bytes: &[u8], size: usize) -> (Vec<u8>, Option<String>) {
    let (mut deframer, mut out) = (Deframer::new(MAX_PAYLOAD), Vec::new());
    for mut piece in bytes.chunks(size) {
        loop {
            match deframer.next(&mut piece) {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= MAX_PAYLOAD);
                    frame.encode(&mut out);
                    read_args(frame.args());
                }
                Ok(None) => break,
                Err(malformed) => return (out, Some(malformed.to_string())),
            }
        }
    }
    (out, None)
}

fn read_args(args: &[u8]) {
    let _ = (RegArgs::parse(args), RcvArgs::parse(args), ErrArgs::parse(args), parse_gap(args));
    assert!(words(args) >= 1);
    if let Some(SndArgs { target, body }) = SndArgs::parse(args) {
        assert_eq!([target, b" ", body].concat(), args);
    }
}

/// A stream of frames: how it is split makes no difference, and what was read reads back.
pub fn deframer(bytes: &[u8]) {
    let (size, stream) = in_pieces(bytes);
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(whole, frames(stream, size));
    let again = frames(&whole.0, 1);
    assert_eq!(again, (whole.0, None));
}

/// A datagram reads back as it was read.
pub fn datagram(bytes: &[u8]) {
    let Ok(datagram) = Datagram::parse(bytes, MAX_PAYLOAD) else { return };
    assert!(!datagram.frames.is_empty());
    let mut out = Vec::new();
    if let Some(token) = datagram.token {
        encode_prefix(token, &mut out);
    }
    for frame in &datagram.frames {
        frame.encode(&mut out);
        read_args(frame.args());
    }
    assert_eq!(Datagram::parse(&out, MAX_PAYLOAD).as_ref(), Ok(&datagram));
}

/// The lines found in a stream, of at most `limit` bytes each, that arrives in pieces of `size` bytes.
fn found(bytes: &[u8], limit: usize, size: usize) -> Vec<Found> {
    let (mut lines, mut all) = (Lines::with_limit(limit), Vec::new());
    for mut piece in bytes.chunks(size) {
        all.extend(std::iter::from_fn(|| lines.next(&mut piece)));
        assert!(piece.is_empty() && lines.unfinished() <= MAX_LINE);
    }
    all.extend(lines.flush());
    all
}

/// A stream of lines: how it is split makes no difference, a piece is never longer than a line, and the rest of a line comes
/// right behind its front.
pub fn line_protocol(bytes: &[u8]) {
    let (size, stream) = in_pieces(bytes);
    let limit = 4 + size % 64;
    let whole = found(stream, limit, stream.len().max(1));
    assert_eq!(whole, found(stream, limit, size));
    let mut is_long = false;
    for found in whole.iter().filter(|found| **found != Found::TimingMark) {
        assert!(found.text().len() <= limit && !found.text().contains(&b'\n'));
        match found {
            Found::Rest(rest) => assert!(is_long && !rest.is_empty()),
            found => is_long = matches!(found, Found::Front(_)),
        }
    }
}

/// The ranges of an ACK are bounded, and encode to what was parsed.
pub fn ack_ranges(bytes: &[u8]) {
    let Some(ranges) = parse_ranges(bytes, 64) else { return };
    assert!(
        (1..=64).contains(&ranges.len()) && ranges.iter().all(|(first, last)| 1 <= *first && first <= last)
    );
    let mut out = Vec::new();
    encode_ranges(&ranges, &mut out);
    assert_eq!(parse_ranges(&out, 64), Some(ranges));
    let mut framed = Vec::new();
    let payload = [b" ", &out[..]].concat();
    Frame::new(None, Verb::Ack, &payload).encode(&mut framed);
    assert_eq!(frames(&framed, 1), (framed, None));
}

#[derive(Clone)]
struct Bytes(Vec<u8>);

impl Payload for Bytes {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// A link spec that is one can be typed as it is shown, and its link brings what it does not lose.
pub fn link_spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = split_list(text);
    let Ok(config) = text.parse::<LinkConfig>() else { return };
    let shown = config.to_string();
    assert_eq!(shown.parse::<LinkConfig>().map(|config| config.to_string()), Ok(shown));
    let start = start();
    let mut link = Link::new(config, 1, Direction::Up);
    for n in 0..30_u32 {
        link.send(
            start + Duration::from_millis(u64::from(n)),
            u64::from(n % 3),
            Bytes(b"x".repeat(40 * (n as usize % 5))),
        );
    }
    let mut came = 0;
    while let Some(at) = link.poll_timeout() {
        while link.recv(at).is_some() {
            came += 1;
        }
        assert!(link.poll_timeout().is_none_or(|next| next > at), "a deadline is left behind");
    }
    assert!(came <= 60);
}

#[expect(clippy::disallowed_methods, reason = "the virtual clock needs an instant to count from")]
fn start() -> Instant {
    Instant::now()
}

/// A listener's URL can be typed as it is shown.
pub fn listen_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<ListenUrl>() {
        Ok(url) => {
            let shown = url.to_string();
            assert_eq!(shown.parse::<ListenUrl>().map(|url| url.to_string()), Ok(shown));
        }
        Err(why) => assert_one_line(&why.to_string()),
    }
}

/// Access rules give each name one verdict, and what is wrong with a file fits a line.
pub fn rules(bytes: &[u8]) {
    let rules = match Rules::parse(bytes) {
        Ok(rules) => rules,
        Err(why) => return assert_one_line(&why.to_string()),
    };
    let places = [
        Remote::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1)),
        Remote::Ip(SocketAddr::from(([10, 1, 2, 3], 1))),
        Remote::Unix { uid: 1_000, gid: 100 },
    ];
    for name in
        ["admin", "ADMIN", "BiII", "cook", "иван", "x"].map(|name| Name::parse(name.as_bytes()).unwrap())
    {
        for place in &places {
            let verdict = rules.verdict(&name, place, Some("tcp"));
            assert_one_line(&verdict.explain(&name, place));
            assert_eq!(verdict.is_denied(), rules.verdict(&name, place, Some("tcp")).is_denied());
        }
    }
}

/// A recording of the proxy that can be read can be replayed, and reads back as it was written.
pub fn record(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(recorded) = records::read(text) else { return };
    let header =
        records::Header { command: Vec::new(), seed: 1, link_up: String::new(), link_down: String::new() };
    let mut lines = vec![header.to_line()];
    for (proxy, notes) in &recorded {
        lines.extend(notes.iter().map(|note| note.to_line(proxy, Duration::ZERO)));
    }
    let written = lines.join("\n") + "\n";
    let again = records::read(&written).unwrap();
    assert_eq!(again.keys().collect::<Vec<_>>(), recorded.keys().collect::<Vec<_>>());
    assert_eq!(
        again.values().map(Vec::len).collect::<Vec<_>>(),
        recorded.values().map(Vec::len).collect::<Vec<_>>()
    );
    for notes in recorded.into_values() {
        let _: records::Replay = notes.into_iter().collect();
    }
}

/// A table has rows, and what is wrong with one fits a line.
pub fn csv_table(bytes: &[u8]) {
    match Table::read(bytes) {
        Ok(table) => assert!(table.row_count() > 0),
        Err(why) => assert_one_line(&why.to_string()),
    }
}

/// A complaint is plain text of one line, and not a long one.
fn assert_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() < 1_000, "{text}");
}
