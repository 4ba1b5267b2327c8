//! The seeds of fuzzing: valid inputs from the docs and from other tests.

const PROTOCOL: &str = include_str!("../../docs/protocol.md");
const LOSS: &str = include_str!("../../docs/loss.md");
const LISTENERS: &str = include_str!("../../docs/listeners.md");
const TABLE: &str = include_str!("../../docs/loss/five-sends.csv");

/// The seeds of a target.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "deframer" => said(&["tcp"]).into_iter().map(|frame| [b"\x03", frame.as_bytes()].concat()).collect(),
        "datagram" => bytes(said(&["udp", "local"])),
        "line_protocol" => lines(),
        "ack_ranges" => bytes(["1", "17-42,44", "1-9999999999999999999", "1,3,5,7-9,20-21"]),
        "link_spec" => bytes(ticked(LOSS).into_iter().filter(|text| text.contains(':'))),
        "listen_url" => bytes(
            ticked(LISTENERS).into_iter().filter(|text| text.contains("://")).chain([
                "line://[::1]:50001?rate=5/s,64KiB/s&room=tea&greet=none&echo=off&flush=200&name=staff"
                    .to_owned(),
                "line+unix:///tmp/a%20b.sock?mode=0660".to_owned(),
            ]),
        ),
        "rules" => {
            bytes(
                blocks(LISTENERS, "toml").into_iter().chain([
                    "[[rule]]\nname = '?*иван'\ndeny = ['unix', 'uid:7', '2001:db8::/32', '10.0.0.1']\n"
                        .to_owned(),
                ]),
            )
        }
        "record" => bytes([record()]),
        "csv_table" => bytes([TABLE.lines().take(3).map(|line| format!("{line}\n")).collect::<String>()]),
        "two_clients" => scripts(),
        _ => Vec::new(),
    }
}

fn bytes<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Vec<Vec<u8>> {
    texts.into_iter().map(|text| text.into().into_bytes()).collect()
}

/// The blocks of a page with this mark.
fn blocks(page: &str, mark: &str) -> Vec<String> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.split_once('\n').filter(|(first, _)| *first == mark))
        .map(|(_, text)| text.to_owned())
        .collect()
}

/// The input and output of the exchanges in docs/protocol.md.
fn said(marks: &[&str]) -> Vec<String> {
    let all = marks.iter().flat_map(|mark| blocks(PROTOCOL, mark)).collect::<Vec<_>>();
    let lines = all.iter().flat_map(|block| block.lines());
    lines
        .filter_map(|line| line.get(3..).filter(|_| line.get(1..3).is_some_and(|mark| mark != ": ")))
        .map(str::to_owned)
        .collect()
}

fn lines() -> Vec<Vec<u8>> {
    let telnet = b"\x07\xff\xfd\x06Ri\xff\xfb\x01ck\r\n\xff\xfa\x18\0x\n\xff\xffy\xff\xf0hello\r\0a\xff\xffb\nc\rd\xff\xf4\n..";
    let typed = said(&["lines"]).into_iter().map(|line| format!("\x05{line}\r\n").into_bytes());
    typed
        .chain([telnet.to_vec(), "\x09/pm Bob 山山山山山山山山山山山山PIN 1234\n/nick Born\n".into()])
        .collect()
}

/// The text in backquotes on a page, without placeholders.
fn ticked(page: &str) -> Vec<String> {
    let ticked = page.split('`').skip(1).step_by(2);
    ticked.filter(|text| !text.contains('\n') && text.len() < 200).map(str::to_owned).collect()
}

fn record() -> String {
    let header = "{\"format\":\"sayagain proxy record\",\"version\":\"0.1.0\",\"command\":[\"lab\"],\"seed\":1,\"link_up\":\"iid:.1\",\"link_down\":\"\"}";
    let note = |fate: &str, more: &str| {
        format!(
            "{{\"t_s\":0.5,\"proxy\":\"p\",\"flow\":0,\"direction\":\"up\",\"index\":3,\"size\":40,\"fate\":\"{fate}\"{more}}}"
        )
    };
    let notes = [
        note("lost", ""),
        note("reset", ""),
        note("passed", ",\"delay_s\":0.01,\"duplicate_delay_s\":0.02,\"corrupted_bit\":7,\"truncated_to\":9"),
    ];
    [&[header.to_owned()][..], &notes, &[String::new()]].concat().join("\n")
}

/// Both kinds of transport; a script for each kind of trouble.
fn scripts() -> Vec<Vec<u8>> {
    let talk = [6, 4, 0, 0, 1, 4, 100, 0, 1, 6, 2];
    let troubles: [&[u8]; 6] = [
        &[],
        &[8, 0b1010_1010, 0, 1, 8, 0xff, 0, 4, 200],
        &[12, 0, 0, 13, 0, 1, 4, 50],
        &[10, 0b100, 0, 1, 14, 0, 0, 15, 0, 1, 4, 90],
        &[16, 1, 14, 0, 0, 6, 70, 16, 0, 0],
        &[
            18, 0, 19, 0, 18, 3, 20, 9, b'B', b'Y', b'E', b' ', b'0', b'0', b'0', b'0', b'\n', 22, 3, b'~',
            b'x', b'y',
        ],
    ];
    let kinds = [0b1000, 0b1011, 0b1001, 0b1111_1100];
    kinds
        .iter()
        .flat_map(|kind| troubles.map(|trouble| [&[*kind][..], &talk, trouble, &talk].concat()))
        .collect()
}
