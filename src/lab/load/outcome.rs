//! What a workload came to: one row, as text, as JSON and as CSV.

use serde_json::{Map, Value};

use super::latencies::Latencies;
use crate::lab::sweep::row::Cell;

/// What was measured; `None` where it was not.
#[derive(Clone, Debug, Default)]
pub struct LoadOutcome {
    /// The workload's name.
    pub workload: &'static str,
    /// Whose protocol was spoken.
    pub peer: &'static str,
    /// Which engine served, where that is known.
    pub engine: Option<String>,
    /// Pairs, members, clients or connections.
    pub clients: u64,
    /// Bytes in a message or a request.
    pub size: Option<u64>,
    /// Messages, answers or connections that were wanted in a second, where that was said.
    pub wanted_rate: Option<f64>,
    /// From the first byte to the last, in seconds.
    pub seconds: f64,
    /// What was delivered: messages, answers or connections.
    pub count: u64,
    /// What did not come though everybody waited for it.
    pub lost: u64,
    /// Connections that were not made or not registered.
    pub failed: Option<u64>,
    /// Why the first of those that were lost or failed was.
    pub cause: Option<String>,
    /// Requests that were sent again, because no answer came in time.
    pub repeated: Option<u64>,
    /// CPU time that the server took, in seconds.
    pub server_cpu: Option<f64>,
    /// CPU time that this program took, in seconds.
    pub generator_cpu: f64,
    /// How long messages or answers took: from when they were due at a rate, otherwise from when they were sent.
    pub latencies: Latencies,
    /// At a rate, how long they took from when they were sent: without the wait for what was sent before.
    pub acks: Latencies,
    /// The most memory that the server has had resident, in bytes.
    pub peak_memory: Option<u64>,
    /// Memory that the server had resident more for each connection or session, in bytes.
    pub memory_per_client: Option<f64>,
    /// The server's share of a core while nothing happened.
    pub idle_cores: Option<f64>,
    /// CPU time that the server took for each million of pings, in seconds.
    pub ping_cpu_per_million: Option<f64>,
    /// The longest that a connection took, in seconds.
    pub slowest: Option<f64>,
    /// From the first to the last message, one to each of a crowd, in seconds.
    pub message_seconds: Option<f64>,
}

/// A column: its name, and what an outcome has in it.
type Column = (&'static str, fn(&LoadOutcome) -> Cell);

/// All columns, in their order. Those in seconds end with `_s`, in microseconds with `_us`, in bytes with `_bytes`.
const COLUMNS: [Column; 30] = [
    ("workload", |it| it.workload.into()),
    ("peer", |it| it.peer.into()),
    ("engine", |it| it.engine.as_deref().map_or(Cell::Empty, Cell::from)),
    ("clients", |it| it.clients.into()),
    ("size_bytes", |it| whole(it.size)),
    ("wanted_rate", |it| it.wanted_rate.into()),
    ("seconds", |it| Some(it.seconds).filter(|seconds| *seconds > 0.0).into()),
    ("count", |it| it.count.into()),
    ("rate", |it| it.rate().into()),
    ("lost", |it| it.lost.into()),
    ("failed", |it| whole(it.failed)),
    ("repeated", |it| whole(it.repeated)),
    ("p50_us", |it| it.micros(0.5).into()),
    ("p99_us", |it| it.micros(0.99).into()),
    ("p999_us", |it| it.micros(0.999).into()),
    ("max_us", |it| it.micros(1.0).into()),
    ("server_cpu_s", |it| it.server_cpu.into()),
    ("server_cpu_s_per_million", |it| it.server_cpu_per_million().into()),
    ("server_cores", |it| it.server_cpu.and_then(|cpu| ratio(cpu, it.seconds)).into()),
    ("generator_cores", |it| ratio(it.generator_cpu, it.seconds).into()),
    ("peak_memory_bytes", |it| whole(it.peak_memory)),
    ("memory_per_client_bytes", |it| it.memory_per_client.into()),
    ("idle_cores", |it| it.idle_cores.into()),
    ("ping_cpu_s_per_million", |it| it.ping_cpu_per_million.into()),
    ("slowest_s", |it| it.slowest.into()),
    ("message_s", |it| it.message_seconds.into()),
    ("ack_p50_us", |it| micros(&it.acks, 0.5).into()),
    ("ack_p99_us", |it| micros(&it.acks, 0.99).into()),
    ("ack_p999_us", |it| micros(&it.acks, 0.999).into()),
    ("ack_max_us", |it| micros(&it.acks, 1.0).into()),
];

fn micros(latencies: &Latencies, share: f64) -> Option<f64> {
    latencies.quantile(share).map(|seconds| seconds * 1e6)
}

fn whole(count: Option<u64>) -> Cell {
    count.map_or(Cell::Empty, Cell::from)
}

/// `part` of `whole`; `None` of nothing.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

impl LoadOutcome {
    /// Deliveries in a second; `None` if it took no time.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        ratio(self.count as f64, self.seconds)
    }

    /// CPU seconds of the server for a million deliveries.
    #[must_use]
    pub fn server_cpu_per_million(&self) -> Option<f64> {
        ratio(self.server_cpu? * 1e6, self.count as f64)
    }

    /// Shares so many bytes among all that got in; that no page was needed is no measure of one.
    pub fn share_memory(&mut self, grown: Option<u64>) {
        let grown = grown.filter(|grown| *grown > 0);
        self.memory_per_client = grown.and_then(|grown| ratio(grown as f64, self.count as f64));
    }

    fn micros(&self, share: f64) -> Option<f64> {
        micros(&self.latencies, share)
    }

    /// Whether nothing was lost and nobody was turned away.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.failed.unwrap_or(0) == 0
    }

    /// The names of all columns.
    pub fn columns() -> impl Iterator<Item = &'static str> {
        COLUMNS.iter().map(|(name, _)| *name)
    }

    /// A cell for each column.
    #[must_use]
    pub fn cells(&self) -> Vec<Cell> {
        COLUMNS.iter().map(|(_, cell)| cell(self)).collect()
    }

    /// One object, null where nothing was measured.
    #[must_use]
    pub fn json(&self) -> Value {
        let pairs = COLUMNS.iter().map(|(name, cell)| ((*name).to_owned(), cell(self).json()));
        Value::Object(pairs.collect::<Map<_, _>>())
    }

    /// What a column counts, to people.
    fn called(&self, name: &'static str) -> &'static str {
        match (name, self.workload) {
            ("clients", "route") => "pairs",
            ("clients", "fanout") => "members",
            ("ping_cpu_s_per_million", _) => "server_cpu_s_per_million",
            ("p50_us", _) if self.wanted_rate.is_some() => "from_due_p50_us",
            ("p99_us", _) if self.wanted_rate.is_some() => "from_due_p99_us",
            ("p999_us", _) if self.wanted_rate.is_some() => "from_due_p999_us",
            ("max_us", _) if self.wanted_rate.is_some() => "from_due_max_us",
            ("ack_p50_us", _) => "time_to_ack_p50_us",
            ("ack_p99_us", _) => "time_to_ack_p99_us",
            ("ack_p999_us", _) => "time_to_ack_p999_us",
            ("ack_max_us", _) => "time_to_ack_max_us",
            _ => name,
        }
    }

    /// What there are a million of, in a column that is about so many.
    fn counted(&self, name: &'static str) -> &'static str {
        match (name, self.workload) {
            ("ping_cpu_s_per_million", _) | (_, "ping") => "pings",
            (_, "udp") => "requests",
            (_, "burst" | "serial" | "idle") => "connections",
            (_, "idle-udp") => "sessions",
            (_, "spam") => "lines",
            (_, "slow") => "bytes",
            _ => "messages",
        }
    }

    /// A line for each thing that was measured.
    #[must_use]
    pub fn text(&self) -> String {
        let measured = COLUMNS.iter().map(|(name, cell)| (*name, cell(self)));
        let measured = measured.filter(|(_, cell)| *cell != Cell::Empty).map(|(name, cell)| {
            let (label, value) = labelled(self.called(name), &cell);
            let of = if name.ends_with("_per_million") { self.counted(name) } else { "" };
            (format!("{label} {of}").trim_end().to_owned(), value)
        });
        let lines: Vec<_> = measured.collect();
        let width = lines.iter().map(|(label, _)| label.len()).fold(24, usize::max);
        lines.iter().map(|(label, value)| format!("{label:<width$} {value}\n")).collect()
    }
}

/// A header, and a row of CSV for each.
#[must_use]
pub fn rows(outcomes: &[LoadOutcome]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing into memory does not fail.
    let _ = writer.write_record(LoadOutcome::columns());
    for outcome in outcomes {
        let _ = writer.write_record(outcome.cells().iter().map(Cell::text));
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How columns are shown to people whose names end so: what stands there instead, and the value.
type Shown = (&'static str, &'static str, fn(f64) -> String);

/// The first that fits.
const SHOWN: [Shown; 7] = [
    ("_s_per_million", " per million", time),
    ("_us", "", |micros| time(micros * 1e-6)),
    ("_bytes", "", size),
    ("_s", "", time),
    ("seconds", "seconds", time),
    ("rate", "rate", |rate| format!("{} /s", shown(&Cell::Real(rate)))),
    ("idle_cores", "idle cores", |share| format!("{} %", digits(share * 100.0))),
];

/// How a column is shown to people: what it is called there, and its value.
fn labelled(name: &str, cell: &Cell) -> (String, String) {
    let found = SHOWN.iter().find_map(|(end, rest, show)| {
        Some((name.strip_suffix(end)?.to_owned() + rest, show(cell.number()?)))
    });
    let (label, value) = found.unwrap_or_else(|| (name.to_owned(), shown(cell)));
    (label.replace('_', " "), value)
}

/// Seconds, in the unit that leaves least zeros.
fn time(seconds: f64) -> String {
    let (many, unit) = match seconds {
        0.0 | 1.0.. => (1.0, "s"),
        0.001.. => (1e3, "ms"),
        _ => (1e6, "µs"),
    };
    format!("{} {unit}", digits(seconds * many))
}

/// Bytes, in the unit that leaves fewest digits.
fn size(bytes: f64) -> String {
    if bytes < 1_024.0 {
        return format!("{bytes:.0} B");
    }
    let (mut many, mut unit) = (bytes / 1_024.0, "KiB");
    for larger in ["MiB", "GiB"] {
        if many >= 1_024.0 {
            (many, unit) = (many / 1_024.0, larger);
        }
    }
    format!("{} {unit}", digits(many))
}

/// Three digits, or all before the point.
fn digits(number: f64) -> String {
    match number {
        0.0 | 100.0.. => grouped(&format!("{number:.0}")),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Measures to four significant digits, large ones whole.
fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Real(number) if number.abs() >= 1_000.0 => grouped(&format!("{number:.0}")),
        Cell::Real(number) if *number == 0.0 => "0".to_owned(),
        Cell::Real(number) => format!("{number:.*}", decimals(*number)),
        Cell::Whole(number) => grouped(&number.to_string()),
        other => other.text(),
    }
}

/// How many decimals show four digits of a number, nine at most.
fn decimals(number: f64) -> usize {
    let mut scaled = number.abs();
    let mut decimals = 0;
    while scaled < 1_000.0 && decimals < 9 {
        scaled *= 10.0;
        decimals += 1;
    }
    decimals
}

/// Digits with commas between thousands.
pub(crate) fn grouped(digits: &str) -> String {
    let places = (0..digits.len()).rev();
    let with = digits.chars().zip(places).map(|(digit, place)| match place {
        place if place > 0 && place % 3 == 0 && digit != '-' => format!("{digit},"),
        _ => digit.to_string(),
    });
    with.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_as_many_digits_as_they_have_worth() {
        let real = |number: f64| shown(&Cell::Real(number));
        assert_eq!(real(6_496_705.4), "6,496,705");
        assert_eq!(real(0.02549), "0.02549");
        assert_eq!(real(53.52), "53.52");
        assert_eq!(real(0.0), "0");
        assert_eq!(shown(&Cell::Whole(999)), "999");
        assert_eq!(shown(&Cell::Whole(1_000)), "1,000");
    }

    #[test]
    fn sizes_times_and_shares_are_shown_in_units_that_suit_them() {
        let sizes = [16.0, 1_023.4, 1_024.0, 20_000.0, 1_023.0 * 1_024.0, 52_428_800.0, 3e9, 2e12].map(size);
        assert_eq!(
            sizes,
            ["16 B", "1023 B", "1.00 KiB", "19.5 KiB", "1,023 KiB", "50.0 MiB", "2.79 GiB", "1,863 GiB"]
        );
        let times = [0.0, 2.5e-7, 53.52e-6, 0.001, 0.02549, 0.5, 2.0, 12.34, 3_600.0].map(time);
        assert_eq!(
            times,
            ["0 s", "0.25 µs", "53.5 µs", "1.00 ms", "25.5 ms", "500 ms", "2.00 s", "12.3 s", "3,600 s"]
        );
        assert_eq!(labelled("idle_cores", &Cell::Real(0.015)), ("idle cores".into(), "1.50 %".into()));
        assert_eq!(labelled("p99_us", &Cell::Real(1_500.0)), ("p99".into(), "1.50 ms".into()));
        let cpu = labelled("server_cpu_s_per_million", &Cell::Real(0.08));
        assert_eq!(cpu, ("server cpu per million".into(), "80.0 ms".into()));
    }

    #[test]
    fn clients_are_called_in_text_what_they_are() {
        let text = |workload| LoadOutcome { workload, clients: 3, ..LoadOutcome::default() }.text();
        assert!(text("route").contains("pairs                    3\n"), "{}", text("route"));
        assert!(text("fanout").contains("members                  3\n"), "{}", text("fanout"));
        assert!(text("ping").contains("clients                  3\n"), "{}", text("ping"));
    }

    #[test]
    fn processor_time_is_told_with_what_there_are_a_million_of() {
        let idle = LoadOutcome {
            workload: "idle",
            count: 1_000_000,
            server_cpu: Some(4.0),
            ping_cpu_per_million: Some(2.0),
            ..LoadOutcome::default()
        };
        assert!(idle.text().contains("server cpu per million connections 4.00 s\n"), "{}", idle.text());
        assert!(idle.text().contains("server cpu per million pings       2.00 s\n"), "{}", idle.text());
        let sessions = LoadOutcome { workload: "idle-udp", ..idle.clone() }.text();
        assert!(sessions.contains("server cpu per million sessions "), "{sessions}");
        let route = LoadOutcome { workload: "route", ..idle }.text();
        assert!(route.contains("server cpu per million messages "), "{route}");
    }

    #[test]
    fn what_was_not_measured_is_left_out_of_the_text_empty_in_rows_and_null_in_json() {
        let outcome = LoadOutcome {
            workload: "route",
            peer: "sayagain",
            seconds: 2.0,
            count: 10,
            ..LoadOutcome::default()
        };
        let text = outcome.text();
        assert!(text.contains("rate                     5.000 /s\n"), "{text}");
        assert!(!text.contains("p99"), "{text}");
        assert_eq!(outcome.json()["p99_us"], Value::Null);
        assert_eq!(outcome.json()["count"], 10);
        assert_eq!(outcome.cells().len(), LoadOutcome::columns().count());
    }

    #[test]
    fn memory_is_shared_among_those_that_got_in_where_it_has_grown() {
        let shared = |count, grown| {
            let mut outcome = LoadOutcome { clients: 8, count, ..LoadOutcome::default() };
            outcome.share_memory(grown);
            outcome.memory_per_client
        };
        assert_eq!(shared(4, Some(1_024)), Some(256.0));
        assert_eq!((shared(4, Some(0)), shared(0, Some(1_024)), shared(4, None)), (None, None, None));
    }

    #[test]
    fn whoever_was_turned_away_counts_as_much_as_what_was_lost() {
        let whole = LoadOutcome { failed: Some(0), ..LoadOutcome::default() };
        assert!(whole.is_whole() && LoadOutcome::default().is_whole());
        assert!(!LoadOutcome { failed: Some(1), ..LoadOutcome::default() }.is_whole());
        assert!(!LoadOutcome { lost: 1, ..LoadOutcome::default() }.is_whole());
    }
}
