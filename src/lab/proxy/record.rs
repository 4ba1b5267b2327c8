//! The record of every decision: one JSON object per line, written and read back. `docs/proxy.md` shows the format;
//! files are opened elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::escape::escape_short;
use crate::link::{Decision, Direction, Fate, Passage, Place, Script};
use crate::units::Seconds;

/// The identification in a record's first line.
pub const FORMAT: &str = "sayagain proxy record";

/// A decision about one datagram or segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its direction.
    pub direction: Direction,
    /// Its size in bytes.
    pub size: usize,
    /// Its flow and index.
    pub place: Place,
    /// Its fate.
    pub outcome: RecordedFate,
}

/// The recorded fate of a datagram, or of a segment of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedFate {
    /// The fate of a datagram.
    Fate(Fate),
    /// The connection is reset.
    Reset,
}

/// The first line of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The command line, in words.
    pub command: Vec<String>,
    /// The seed of all random draws.
    pub seed: u64,
    /// The link from clients to the upstream, in its text form.
    pub link_up: String,
    /// The link from the upstream to clients.
    pub link_down: String,
}

impl Header {
    /// Returns the first line of the record, without its line end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let header = json!({
            "format": FORMAT, "version": env!("CARGO_PKG_VERSION"), "command": self.command, "seed": self.seed,
            "link_up": self.link_up, "link_down": self.link_down,
        });
        header.to_string()
    }
}

impl Note {
    /// Returns the line of a decision for `proxy`, `after` the start, without its line end.
    #[must_use]
    pub fn to_line(&self, proxy: &str, after: Duration) -> String {
        let mut line = Map::new();
        line.insert("t_s".to_owned(), json!(after.as_secs_f64()));
        line.insert("proxy".to_owned(), json!(proxy));
        line.insert("flow".to_owned(), json!(self.place.flow));
        line.insert("direction".to_owned(), json!(direction_word(self.direction)));
        line.insert("index".to_owned(), json!(self.place.index));
        line.insert("size".to_owned(), json!(self.size));
        line.insert("fate".to_owned(), json!(fate_word(&self.outcome)));
        if let RecordedFate::Fate(Fate::Passed(passage)) = &self.outcome {
            add_passage(&mut line, passage);
        }
        Value::Object(line).to_string()
    }
}

fn add_passage(line: &mut Map<String, Value>, passage: &Passage) {
    line.insert("delay_s".to_owned(), json!(passage.delay.as_secs_f64()));
    if let Some(duplicate) = passage.duplicate {
        line.insert("duplicate_delay_s".to_owned(), json!(duplicate.as_secs_f64()));
    }
    if let Some(bit) = passage.corrupted {
        line.insert("corrupted_bit".to_owned(), json!(bit));
    }
    if let Some(size) = passage.truncated {
        line.insert("truncated_to".to_owned(), json!(size));
    }
}

const fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    }
}

const fn fate_word(outcome: &RecordedFate) -> &'static str {
    match outcome {
        RecordedFate::Fate(Fate::Lost) => "lost",
        RecordedFate::Fate(Fate::TooLarge) => "too_large",
        RecordedFate::Fate(Fate::QueueFull) => "queue_full",
        RecordedFate::Fate(Fate::Passed(_)) => "passed",
        RecordedFate::Reset => "reset",
    }
}

/// Why a file is not a record, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The first line is not that of a record.
    #[error("it is not a record of `lab proxy --record`")]
    NotOurs,
    /// A line is invalid.
    #[error("line {line} is not a decision: {why}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// The reason.
        why: String,
    },
}

/// The recorded decisions of one proxy, in the form in which they are replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The fates of datagrams and segments.
    pub(crate) script: Script,
    /// The segments at which connections are reset.
    pub resets: BTreeSet<(Direction, Place)>,
}

/// The recorded decisions, by proxy.
pub type Recorded = BTreeMap<String, Vec<Note>>;

impl FromIterator<Note> for Replay {
    fn from_iter<I: IntoIterator<Item = Note>>(notes: I) -> Self {
        let (mut decisions, mut resets) = (Vec::new(), BTreeSet::new());
        for Note { direction, place, outcome, .. } in notes {
            match outcome {
                RecordedFate::Fate(fate) => decisions.push((direction, Decision { place, fate })),
                RecordedFate::Reset => {
                    resets.insert((direction, place));
                }
            }
        }
        Self { script: decisions.into_iter().collect(), resets }
    }
}

/// Reads a record. An incomplete last line is ignored.
///
/// # Errors
///
/// The text is not a record.
pub fn read(text: &str) -> Result<Recorded, RecordError> {
    let mut lines = text.lines().enumerate();
    let header = lines.next().and_then(|(_, line)| serde_json::from_str::<Value>(line).ok());
    let is_ours = |header: &Value| header.get("format").and_then(Value::as_str) == Some(FORMAT);
    header.filter(is_ours).ok_or(RecordError::NotOurs)?;
    let mut recorded = Recorded::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let (proxy, note) = match decision(line) {
            Ok(decided) => decided,
            Err(_) if !text.ends_with('\n') && number + 1 == text.lines().count() => break,
            Err(why) => return Err(RecordError::Line { line: number + 1, why }),
        };
        recorded.entry(proxy).or_default().push(note);
    }
    Ok(recorded)
}

/// Reads one line of a record.
fn decision(line: &str) -> Result<(String, Note), String> {
    let value: Value = serde_json::from_str(line).map_err(|_| "it is not JSON".to_owned())?;
    let fields = Fields(&value);
    let direction = match fields.text("direction")? {
        "up" => Direction::Up,
        "down" => Direction::Down,
        other => return Err(unknown("direction", other)),
    };
    let place = Place { flow: fields.number("flow")?, index: fields.number("index")? };
    let outcome = match fields.text("fate")? {
        "lost" => RecordedFate::Fate(Fate::Lost),
        "too_large" => RecordedFate::Fate(Fate::TooLarge),
        "queue_full" => RecordedFate::Fate(Fate::QueueFull),
        "passed" => RecordedFate::Fate(Fate::Passed(passage(&fields)?)),
        "reset" => RecordedFate::Reset,
        other => return Err(unknown("fate", other)),
    };
    let size = fields.size("size")?.ok_or("its `size` is missing")?;
    Ok((fields.text("proxy")?.to_owned(), Note { direction, size, place, outcome }))
}

fn passage(fields: &Fields<'_>) -> Result<Passage, String> {
    Ok(Passage {
        delay: fields.seconds("delay_s")?.unwrap_or_default(),
        duplicate: fields.seconds("duplicate_delay_s")?,
        corrupted: fields.get("corrupted_bit").map(|_| fields.number("corrupted_bit")).transpose()?,
        truncated: fields.size("truncated_to")?,
    })
}

fn unknown(key: &str, word: &str) -> String {
    format!("its `{key}` is `{}`", escape_short(word.as_bytes(), 40))
}

/// The fields of a line.
struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key)
    }

    fn text(&self, key: &str) -> Result<&'a str, String> {
        self.get(key).and_then(Value::as_str).ok_or_else(|| format!("its `{key}` is missing or no text"))
    }

    fn number(&self, key: &str) -> Result<u64, String> {
        self.get(key)
            .and_then(Value::as_u64)
            .ok_or_else(|| format!("its `{key}` is missing or no whole number"))
    }

    fn size(&self, key: &str) -> Result<Option<usize>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| format!("its `{key}` is not a size"))
    }

    fn seconds(&self, key: &str) -> Result<Option<Duration>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let length = value.as_f64().and_then(|length| Duration::try_from_secs_f64(length).ok());
        let bounded = length.filter(|length| Seconds::new(*length).is_ok());
        bounded.map(Some).ok_or_else(|| format!("its `{key}` is not a length of time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let link = || "iid:0.1".to_owned();
        Header { command: vec!["lab".to_owned()], seed: u64::MAX, link_up: link(), link_down: link() }
    }

    fn note(index: u64, outcome: RecordedFate) -> Note {
        Note { direction: Direction::Down, size: 52, place: Place { flow: 1, index }, outcome }
    }

    #[test]
    fn a_record_is_read_back_as_written() {
        let passage = Passage {
            delay: Duration::from_nanos(123_456_789),
            duplicate: Some(Duration::from_millis(7)),
            corrupted: Some(3),
            truncated: Some(11),
        };
        let fates = [Fate::Lost, Fate::TooLarge, Fate::QueueFull, Fate::Passed(passage)];
        let outcomes = fates.map(RecordedFate::Fate).into_iter().chain([RecordedFate::Reset]);
        let notes: Vec<Note> = (0..).zip(outcomes).map(|(index, outcome)| note(index, outcome)).collect();
        let mut lines = vec![header().to_line()];
        lines.extend(notes.iter().map(|note| note.to_line("udp1", Duration::from_millis(12))));
        let recorded = read(&lines.join("\n")).unwrap();
        assert_eq!(recorded.get("udp1"), Some(&notes));
        // The last line is incomplete.
        let recorded = read(&format!("{}\n{}", lines[..2].join("\n"), &lines[2][..20])).unwrap();
        assert_eq!(recorded.get("udp1").map(Vec::as_slice), Some(&notes[..1]));
        assert!(lines[1].contains(r#""fate":"lost""#) && !lines[1].contains("delay_s"), "{}", lines[1]);
    }

    #[test]
    fn a_file_that_is_no_record_is_refused_in_one_line() {
        for text in ["", "\n", "{}", "[]", "policy,loss_up\n", "{\"format\":\"other\"}", "\u{0}\u{1}"] {
            assert_eq!(read(text), Err(RecordError::NotOurs), "{text:?}");
        }
        let good =
            note(0, RecordedFate::Fate(Fate::Passed(Passage::default()))).to_line("udp1", Duration::ZERO);
        let spoilt = [
            "x".to_owned(),
            "{}".to_owned(),
            good.replace("passed", "\\u001bfine"),
            good.replace("down", "left"),
            good.replace("\"index\":0", "\"index\":-1"),
            good.replace("\"delay_s\":0.0", "\"delay_s\":1e300"),
            good.replace("\"size\":52", "\"size\":\"52\""),
        ];
        for line in spoilt {
            let error = read(&format!("{}\n{good}\n{line}\n", header().to_line())).unwrap_err().to_string();
            assert!(
                error.starts_with("line 3 is not a decision: ") && !error.contains('\x1b'),
                "{line}: {error}"
            );
        }
    }
}
