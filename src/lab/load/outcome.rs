//! The result of a workload: one row, as text, JSON and CSV. Comparing rows is in `compare`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::latencies::Latencies;
use crate::lab::numbers::grouped;
use crate::lab::sweep::cell::Cell;

/// The measured values; `None` where not measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadOutcome {
    /// The workload's name.
    pub(crate) workload: &'static str,
    /// The protocol's name.
    pub(crate) peer: &'static str,
    /// The server's engine, if known.
    pub(crate) engine: Option<String>,
    /// Pairs, members, clients or connections.
    pub(crate) clients: u64,
    /// Bytes in a message or a request.
    pub(crate) size: Option<u64>,
    /// The requested rate of messages, answers or connections per second, if any.
    pub(crate) wanted_rate: Option<f64>,
    /// Time from the first byte to the last, in seconds.
    pub(crate) seconds: f64,
    /// Deliveries: messages, answers or connections.
    pub(crate) count: u64,
    /// Deliveries that did not arrive in time.
    pub(crate) lost: u64,
    /// Connections that failed, or whose registration failed.
    pub(crate) failed: Option<u64>,
    /// The cause of the first loss or failure.
    pub(crate) cause: Option<String>,
    /// Retransmitted requests.
    pub(crate) repeated: Option<u64>,
    /// CPU time of the server, in seconds.
    pub(crate) server_cpu: Option<f64>,
    /// CPU time of this program, in seconds.
    pub(crate) generator_cpu: f64,
    /// Latencies of messages or answers: from the due time with a rate, otherwise from the send.
    pub(crate) latencies: Latencies,
    /// With a rate, latencies from the send, without the wait for earlier messages.
    pub(crate) acks: Latencies,
    /// Peak resident memory of the server, in bytes.
    pub(crate) peak_memory: Option<u64>,
    /// Growth of the server's resident memory per connection or session, in bytes.
    pub(crate) memory_per_client: Option<f64>,
    /// The server's share of a core while nothing happened.
    pub(crate) idle_cores: Option<f64>,
    /// CPU time of the server per million pings, in seconds.
    pub(crate) ping_cpu_per_million: Option<f64>,
    /// The longest time of a connection, in seconds.
    pub(crate) slowest: Option<f64>,
    /// Time from the first to the last of the messages that a burst sends, one to each connection, in seconds.
    pub(crate) message_seconds: Option<f64>,
}

/// A column: its name, and its value.
type Column = (&'static str, fn(&LoadOutcome) -> Cell<'_>);

/// All columns in order. Names end with the unit: `_s`, `_us`, `_bytes`.
const COLUMNS: [Column; 30] = [
    ("workload", |it| it.workload.into()),
    ("peer", |it| it.peer.into()),
    ("engine", |it| it.engine.as_deref().map_or(Cell::Empty, Cell::from)),
    ("clients", |it| it.clients.into()),
    ("size_bytes", |it| it.size.into()),
    ("wanted_rate", |it| it.wanted_rate.into()),
    ("seconds", |it| Some(it.seconds).filter(|seconds| *seconds > 0.0).into()),
    ("count", |it| it.count.into()),
    ("rate", |it| it.rate().into()),
    ("lost", |it| it.lost.into()),
    ("failed", |it| it.failed.into()),
    ("repeated", |it| it.repeated.into()),
    ("p50_us", |it| it.micros(0.5).into()),
    ("p99_us", |it| it.micros(0.99).into()),
    ("p999_us", |it| it.micros(0.999).into()),
    ("max_us", |it| it.micros(1.0).into()),
    ("server_cpu_s", |it| it.server_cpu.into()),
    ("server_cpu_s_per_million", |it| it.server_cpu_per_million().into()),
    ("server_cores", |it| it.server_cpu.and_then(|cpu| ratio(cpu, it.seconds)).into()),
    ("generator_cores", |it| ratio(it.generator_cpu, it.seconds).into()),
    ("peak_memory_bytes", |it| it.peak_memory.into()),
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

/// Returns `part` / `whole`; `None` if `whole` is 0.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

impl LoadOutcome {
    /// Returns deliveries per second; `None` if it took no time.
    #[must_use]
    pub(crate) fn rate(&self) -> Option<f64> {
        ratio(self.count as f64, self.seconds)
    }

    /// Returns CPU seconds of the server per million deliveries.
    #[must_use]
    pub(crate) fn server_cpu_per_million(&self) -> Option<f64> {
        ratio(self.server_cpu? * 1e6, self.count as f64)
    }

    /// Divides the memory growth among the connections that succeeded. Growth of 0 means that no page was needed, and
    /// is not recorded.
    pub(crate) fn share_memory(&mut self, grown: Option<u64>) {
        let grown = grown.filter(|grown| *grown > 0);
        self.memory_per_client = grown.and_then(|grown| ratio(grown as f64, self.count as f64));
    }

    fn micros(&self, share: f64) -> Option<f64> {
        micros(&self.latencies, share)
    }

    /// Whether nothing was lost and no connection failed.
    #[must_use]
    pub(crate) fn is_whole(&self) -> bool {
        self.lost == 0 && self.failed.unwrap_or(0) == 0
    }

    /// Returns the names of all columns.
    pub(crate) fn columns() -> impl Iterator<Item = &'static str> {
        COLUMNS.iter().map(|(name, _)| *name)
    }

    /// Returns a cell for each column.
    #[must_use]
    pub(crate) fn cells(&self) -> Vec<Cell<'_>> {
        COLUMNS.iter().map(|(_, cell)| cell(self)).collect()
    }

    /// Returns a JSON object, null where not measured.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        let pairs = COLUMNS.iter().map(|(name, cell)| ((*name).to_owned(), cell(self).json()));
        Value::Object(pairs.collect::<Map<_, _>>())
    }

    /// Returns the label of a column in the text.
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

    /// Returns the unit of a per-million column.
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

    /// Returns a line for each measured value.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let measured = COLUMNS.iter().map(|(name, cell)| (*name, cell(self)));
        let measured = measured.filter(|(_, cell)| *cell != Cell::Empty).map(|(name, cell)| {
            let (label, value) = labelled(self.called(name), cell);
            let of = if name.ends_with("_per_million") { self.counted(name) } else { "" };
            (format!("{label} {of}").trim_end().to_owned(), value)
        });
        let lines: Vec<_> = measured.collect();
        let width = lines.iter().map(|(label, _)| label.len()).fold(24, usize::max);
        lines.iter().map(|(label, value)| format!("{label:<width$} {value}\n")).collect()
    }
}

/// Returns CSV: a header, and a row for each outcome.
#[must_use]
pub(crate) fn rows(outcomes: &[LoadOutcome]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing into memory cannot fail.
    let _ = writer.write_record(LoadOutcome::columns());
    for outcome in outcomes {
        let _ = writer.write_record(outcome.cells().into_iter().map(Cell::text).map(Cow::into_owned));
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text form of columns by the end of their names: the end's replacement, and the value's format.
type Shown = (&'static str, &'static str, fn(f64) -> String);

/// The first match applies.
const SHOWN: [Shown; 7] = [
    ("_s_per_million", " per million", time),
    ("_us", "", |micros| time(micros * 1e-6)),
    ("_bytes", "", size),
    ("_s", "", time),
    ("seconds", "seconds", time),
    ("rate", "rate", |rate| format!("{} /s", shown(Cell::Real(rate)))),
    ("idle_cores", "idle cores", |share| format!("{} %", digits(share * 100.0))),
];

/// Returns label and value of a column in the text.
fn labelled(name: &str, cell: Cell<'_>) -> (String, String) {
    let found = SHOWN.iter().find_map(|(end, rest, show)| {
        Some((name.strip_suffix(end)?.to_owned() + rest, show(cell.number()?)))
    });
    let (label, value) = found.unwrap_or_else(|| (name.to_owned(), shown(cell)));
    (label.replace('_', " "), value)
}

/// Formats seconds in the unit with the fewest zeros.
fn time(seconds: f64) -> String {
    let (many, unit) = match seconds {
        0.0 | 1.0.. => (1.0, "s"),
        0.001.. => (1e3, "ms"),
        _ => (1e6, "µs"),
    };
    format!("{} {unit}", digits(seconds * many))
}

/// Formats bytes in the unit with the fewest digits.
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

/// Formats three significant digits, or all digits before the point.
fn digits(number: f64) -> String {
    match number {
        0.0 | 100.0.. => grouped(&format!("{number:.0}")),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Formats four significant digits, and large numbers whole.
fn shown(cell: Cell<'_>) -> String {
    match cell {
        Cell::Real(number) if number.abs() >= 1_000.0 => grouped(&format!("{number:.0}")),
        Cell::Real(0.0) => "0".to_owned(),
        Cell::Real(number) => format!("{number:.*}", decimals(number)),
        Cell::Whole(number) => grouped(&number.to_string()),
        other => other.text().into_owned(),
    }
}

/// Returns the decimals that show four significant digits, nine at most.
fn decimals(number: f64) -> usize {
    let mut scaled = number.abs();
    let mut decimals = 0;
    while scaled < 1_000.0 && decimals < 9 {
        scaled *= 10.0;
        decimals += 1;
    }
    decimals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_significant_digits() {
        let real = |number: f64| shown(Cell::Real(number));
        assert_eq!(real(6_496_705.4), "6,496,705");
        assert_eq!(real(0.02549), "0.02549");
        assert_eq!(real(53.52), "53.52");
        assert_eq!(real(0.0), "0");
        assert_eq!(shown(Cell::Whole(999)), "999");
        assert_eq!(shown(Cell::Whole(1_000)), "1,000");
    }

    #[test]
    fn sizes_times_and_shares_are_shown_in_suitable_units() {
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
        assert_eq!(labelled("idle_cores", Cell::Real(0.015)), ("idle cores".into(), "1.50 %".into()));
        assert_eq!(labelled("p99_us", Cell::Real(1_500.0)), ("p99".into(), "1.50 ms".into()));
        let cpu = labelled("server_cpu_s_per_million", Cell::Real(0.08));
        assert_eq!(cpu, ("server cpu per million".into(), "80.0 ms".into()));
    }

    #[test]
    fn clients_have_a_label_by_workload_in_text() {
        let text = |workload| LoadOutcome { workload, clients: 3, ..LoadOutcome::default() }.text();
        assert!(text("route").contains("pairs                    3\n"), "{}", text("route"));
        assert!(text("fanout").contains("members                  3\n"), "{}", text("fanout"));
        assert!(text("ping").contains("clients                  3\n"), "{}", text("ping"));
    }

    #[test]
    fn cpu_time_per_million_names_its_unit() {
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
    fn unmeasured_values_are_absent_from_text_empty_in_rows_and_null_in_json() {
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
    fn memory_growth_is_divided_among_successful_connections() {
        let shared = |count, grown| {
            let mut outcome = LoadOutcome { clients: 8, count, ..LoadOutcome::default() };
            outcome.share_memory(grown);
            outcome.memory_per_client
        };
        assert_eq!(shared(4, Some(1_024)), Some(256.0));
        assert_eq!((shared(4, Some(0)), shared(0, Some(1_024)), shared(4, None)), (None, None, None));
    }

    #[test]
    fn failed_connections_count_like_lost_messages() {
        let whole = LoadOutcome { failed: Some(0), ..LoadOutcome::default() };
        assert!(whole.is_whole() && LoadOutcome::default().is_whole());
        assert!(!LoadOutcome { failed: Some(1), ..LoadOutcome::default() }.is_whole());
        assert!(!LoadOutcome { lost: 1, ..LoadOutcome::default() }.is_whole());
    }
}
