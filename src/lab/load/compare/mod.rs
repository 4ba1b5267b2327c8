//! Comparison of servers: medians and ratios over the rows of many runs of `lab load`.
//!
//! Machines drift, so only runs of the same round are compared: a ratio is the median over the rounds of the ratios
//! within them.
//!
//! ```text
//! (here)  rows -> cases -> lines: medians, minima and maxima, ratios
//! table   the same as Markdown and as CSV
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

pub(crate) mod table;

/// A measured column of `lab load --csv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Its name in a CSV.
    pub(crate) column: &'static str,
    /// Its title in a Markdown table.
    pub(crate) title: &'static str,
}

const fn measure(column: &'static str, title: &'static str) -> Measure {
    Measure { column, title }
}

/// The compared columns, in the order of the tables.
pub(crate) const MEASURES: [Measure; 15] = [
    RATE,
    measure("p50_us", "p50 µs"),
    measure("p99_us", "p99 µs"),
    measure("p999_us", "p99.9 µs"),
    measure("slowest_s", "slowest s"),
    CPU,
    measure("server_cores", "server cores"),
    measure("generator_cores", "generator cores"),
    measure("peak_memory_bytes", "peak memory B"),
    MEMORY,
    measure("idle_cores", "idle cores"),
    measure("ping_cpu_s_per_million", "CPU s per million pings"),
    measure("repeated", "repeated"),
    LOST,
    measure("failed", "failed"),
];

/// Deliveries per second.
pub(crate) const RATE: Measure = measure("rate", "rate /s");

/// CPU seconds of the server per million deliveries.
pub(crate) const CPU: Measure = measure("server_cpu_s_per_million", "CPU s/M");

/// Memory of each connection or session.
pub(crate) const MEMORY: Measure = measure("memory_per_client_bytes", "memory per client B");

/// Messages that were sent and not received.
pub(crate) const LOST: Measure = measure("lost", "lost");

/// The workload and its parameters: lines of one case are comparable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    /// The workload's name.
    pub(crate) workload: String,
    /// Bytes of a message, where it has a size.
    pub(crate) size: Option<u64>,
    /// Clients, pairs or members.
    pub(crate) clients: u64,
}

/// The distribution of a value over several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub(crate) median: f64,
    /// The minimum.
    pub(crate) min: f64,
    /// The maximum.
    pub(crate) max: f64,
}

impl Spread {
    /// Creates the distribution of these values; `None` if there are none.
    #[must_use]
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let at = |place: usize| values.get(place).copied().unwrap_or(max);
        let median = f64::midpoint(at((values.len() - 1) / 2), at(values.len() / 2));
        Some(Self { median, min, max })
    }
}

/// The results of one server in one case.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// The server: its protocol, and its engine if several were measured.
    pub(crate) server: String,
    /// The number of runs.
    pub(crate) runs: usize,
    /// The measured values, in the order of [`MEASURES`].
    pub(crate) values: Vec<Option<Spread>>,
    /// The subject's rate divided by this server's, within rounds; `None` for the subject itself.
    pub(crate) rate_ratio: Option<Spread>,
    /// The subject's CPU time per delivery divided by this server's.
    pub(crate) cpu_ratio: Option<Spread>,
}

impl Line {
    /// Returns a measured value.
    #[must_use]
    pub(crate) fn value(&self, measure: Measure) -> Option<Spread> {
        let place = MEASURES.iter().position(|one| *one == measure)?;
        self.values.get(place).copied().flatten()
    }
}

/// All cases, each with its servers in the order of their first run.
pub(crate) type Comparison = BTreeMap<Case, Vec<Line>>;

/// Why rows cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// A column is missing.
    #[error("there is no column `{0}`; is this the CSV of `lab load`?")]
    Column(&'static str),
    /// A cell does not fit its column.
    #[error("row {row}: `{}` is not a number for {column}", crate::escape::escape_short(.cell.as_bytes(), 40))]
    Cell {
        /// The row, counted from 1 without the header.
        row: usize,
        /// Its column.
        column: String,
        /// Its text.
        cell: String,
    },
    /// The text is not a CSV.
    #[error("it cannot be read as CSV: {0}")]
    Csv(#[from] csv::Error),
    /// There are no rows.
    #[error("there are no rows")]
    Empty,
    /// No rows belong to the subject.
    #[error("there are no rows of `{}`; --subject is one of {}", shown(.subject), listed(.servers))]
    Subject {
        /// The requested subject.
        subject: String,
        /// The servers in the rows.
        servers: BTreeSet<String>,
    },
}

fn shown(server: &str) -> String {
    crate::escape::escape_short(server.as_bytes(), 40).into_owned()
}

/// Lists names of servers, only the first if there are many.
fn listed(servers: &BTreeSet<String>) -> String {
    const MOST: usize = 20;
    let names: Vec<_> = servers.iter().take(MOST).map(|server| format!("`{}`", shown(server))).collect();
    let more = if servers.len() > MOST { ", .." } else { "" };
    names.join(", ") + more
}

/// One run.
#[derive(Clone, Debug)]
struct Run {
    peer: String,
    /// The peer, and its engine if it is known and others of it were measured.
    server: String,
    round: u64,
    values: Vec<Option<f64>>,
}

/// Reads the rows of many runs and compares all servers with `subject`. The column `round` groups the runs; without
/// it, the first runs of each server in a case form the first round, and so on.
///
/// # Errors
///
/// The text is not rows of `lab load`, or has no row of the subject.
pub(crate) fn compare(rows: impl Read, subject: &str) -> Result<Comparison, CompareError> {
    let mut cases: BTreeMap<Case, Vec<Run>> = BTreeMap::new();
    let mut reader = csv::Reader::from_reader(rows);
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    for (row, record) in reader.records().enumerate() {
        let record = record?;
        let cells = Cells { names: &names, record: &record, row: row + 1 };
        let runs = cases.entry(cells.case()?).or_default();
        let run = cells.run(runs)?;
        runs.push(run);
    }
    if cases.is_empty() {
        return Err(CompareError::Empty);
    }
    shorten(&mut cases);
    let servers: BTreeSet<_> = cases.values().flatten().map(|run| run.server.clone()).collect();
    if !servers.contains(subject) {
        return Err(CompareError::Subject { subject: subject.to_owned(), servers });
    }
    Ok(cases.into_iter().map(|(case, runs)| (case, lines(&runs, subject))).collect())
}

/// Removes the engine from a server's name if only one engine of the peer was measured.
fn shorten(cases: &mut BTreeMap<Case, Vec<Run>>) {
    let mut engines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for run in cases.values().flatten() {
        engines.entry(run.peer.clone()).or_default().insert(run.server.clone());
    }
    for run in cases.values_mut().flatten() {
        if engines.get(&run.peer).is_some_and(|servers| servers.len() == 1) {
            run.server.clone_from(&run.peer);
        }
    }
}

/// A row with the names of its columns.
struct Cells<'a> {
    names: &'a [String],
    record: &'a csv::StringRecord,
    row: usize,
}

impl Cells<'_> {
    /// Returns a cell's text; `None` if the column is missing or the cell is empty.
    fn text(&self, column: &str) -> Option<&str> {
        let place = self.names.iter().position(|name| name == column)?;
        self.record.get(place).filter(|cell| !cell.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, column: &str) -> Result<Option<T>, CompareError> {
        let wrong = |cell: &str| CompareError::Cell {
            row: self.row,
            column: column.to_owned(),
            cell: cell.to_owned(),
        };
        self.text(column).map(|cell| cell.parse().map_err(|_| wrong(cell))).transpose()
    }

    fn case(&self) -> Result<Case, CompareError> {
        let workload = self.text("workload").ok_or(CompareError::Column("workload"))?.to_owned();
        let clients = self.number("clients")?.ok_or(CompareError::Column("clients"))?;
        Ok(Case { workload, size: self.number("size_bytes")?, clients })
    }

    /// Reads a run; `before` are the earlier runs of the same case.
    fn run(&self, before: &[Run]) -> Result<Run, CompareError> {
        let peer = self.text("peer").ok_or(CompareError::Column("peer"))?;
        let server = self.text("engine").map_or_else(|| peer.to_owned(), |engine| format!("{peer} {engine}"));
        let round = match self.number("round")? {
            Some(round) => round,
            None => before.iter().filter(|run| run.server == server).count() as u64,
        };
        let values = MEASURES.iter().map(|measure| {
            let value = self.number::<f64>(measure.column)?;
            Ok(value.filter(|value| value.is_finite()))
        });
        Ok(Run { peer: peer.to_owned(), server, round, values: values.collect::<Result<_, CompareError>>()? })
    }
}

/// Returns a line for each server of a case.
fn lines(runs: &[Run], subject: &str) -> Vec<Line> {
    let mut servers: Vec<&str> = Vec::new();
    for run in runs {
        if !servers.contains(&run.server.as_str()) {
            servers.push(&run.server);
        }
    }
    let of = |server: &str| runs.iter().filter(|run| run.server == server).collect::<Vec<_>>();
    let ours = of(subject);
    servers.into_iter().map(|server| line(server, &of(server), &ours)).collect()
}

fn line(server: &str, runs: &[&Run], ours: &[&Run]) -> Line {
    let all = |place: usize| runs.iter().filter_map(|run| run.value(place)).collect();
    let is_subject = ours.iter().any(|run| run.server == server);
    let ratio = |measure| if is_subject { None } else { ratios(ours, runs, measure) };
    Line {
        server: server.to_owned(),
        runs: runs.len(),
        values: (0..MEASURES.len()).map(|place| Spread::of(all(place))).collect(),
        rate_ratio: ratio(RATE),
        cpu_ratio: ratio(CPU),
    }
}

impl Run {
    fn value(&self, place: usize) -> Option<f64> {
        self.values.get(place).copied().flatten()
    }
}

/// Returns the ratios of `these` to `those` within each common round.
fn ratios(these: &[&Run], those: &[&Run], measure: Measure) -> Option<Spread> {
    let place = MEASURES.iter().position(|one| *one == measure)?;
    let in_round = |run: &&Run| {
        let other = those.iter().find(|other| other.round == run.round)?;
        Some((run.value(place)?, other.value(place).filter(|value| *value > 0.0)?))
    };
    Spread::of(these.iter().filter_map(in_round).map(|(ours, its)| ours / its).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "\
round,workload,peer,engine,clients,size_bytes,rate,lost,server_cpu_s_per_million,p99_us
1,route,sayagain,,16,16,300,0,1,
1,route,nats,,16,16,100,0,4,
2,route,sayagain,,16,16,500,0,2,
2,route,nats,,16,16,100,0,4,
3,route,nats,,16,16,9000,0,,
1,ping,sayagain,tasks,1,,7,0,,55.5
";

    fn case(workload: &str, size: Option<u64>, clients: u64) -> Case {
        Case { workload: workload.to_owned(), size, clients }
    }

    #[test]
    fn runs_are_compared_within_a_round_only() {
        let comparison = compare(ROWS.as_bytes(), "sayagain").unwrap();
        let [ours, nats] = comparison[&case("route", Some(16), 16)].as_slice() else { panic!("two servers") };
        assert_eq!((ours.server.as_str(), ours.runs, nats.runs), ("sayagain", 2, 3));
        assert_eq!(ours.value(RATE), Some(Spread { median: 400.0, min: 300.0, max: 500.0 }));
        assert_eq!(nats.value(RATE).unwrap().median, 100.0);
        assert_eq!(nats.rate_ratio, Some(Spread { median: 4.0, min: 3.0, max: 5.0 }));
        assert_eq!(nats.cpu_ratio, Some(Spread { median: 0.375, min: 0.25, max: 0.5 }));
        assert_eq!((ours.rate_ratio, ours.cpu_ratio), (None, None));
    }

    #[test]
    fn without_a_round_column_the_order_gives_the_rounds() {
        let rows =
            "workload,peer,clients,rate\nudp,sayagain,1,6\nudp,bare,1,2\nudp,bare,1,4\nudp,sayagain,1,4\n";
        let comparison = compare(rows.as_bytes(), "sayagain").unwrap();
        let ratio = comparison[&case("udp", None, 1)][1].rate_ratio;
        assert_eq!(ratio, Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
    }

    #[test]
    fn a_missing_value_is_not_zero() {
        let comparison = compare(ROWS.as_bytes(), "sayagain").unwrap();
        let line = &comparison[&case("ping", None, 1)][0];
        assert_eq!((line.server.as_str(), line.value(CPU)), ("sayagain tasks", None));
        assert_eq!(line.value(measure("p99_us", "p99 µs")).unwrap().max, 55.5);
    }

    #[test]
    fn an_engine_is_named_if_several_were_measured() {
        let servers = |engines: [&str; 2]| {
            let rows = engines.map(|engine| format!("ping,sayagain,{engine},1,7\n")).concat();
            let rows = format!("workload,peer,engine,clients,rate\n{rows}ping,nats,,1,5\n");
            let comparison = compare(rows.as_bytes(), "nats").unwrap();
            comparison[&case("ping", None, 1)].iter().map(|line| line.server.clone()).collect::<Vec<_>>()
        };
        assert_eq!(servers(["poll", "poll"]), ["sayagain", "nats"]);
        assert_eq!(servers(["poll", "tasks"]), ["sayagain poll", "sayagain tasks", "nats"]);
    }

    #[test]
    fn an_unknown_subject_is_refused_with_a_list_of_servers() {
        let refused = compare(ROWS.as_bytes(), "sayagian\u{1b}").unwrap_err().to_string();
        assert_eq!(
            refused,
            r"there are no rows of `sayagian\x1b`; --subject is one of `nats`, `sayagain`, `sayagain tasks`"
        );
        let many = (0..99).map(|place| format!("s{place}")).collect();
        assert!(listed(&many).ends_with("`s26`, .."), "{}", listed(&many));
    }

    #[test]
    fn other_rows_are_refused_in_one_line() {
        let refused = |rows: &str| compare(rows.as_bytes(), "sayagain").unwrap_err().to_string();
        assert_eq!(refused("a,b\n1,2\n"), "there is no column `workload`; is this the CSV of `lab load`?");
        assert_eq!(refused("workload,clients,peer,rate\n"), "there are no rows");
        let rows = "workload,clients,peer,rate\nping,1,bare,5\nping,1,bare,\u{1b}fast\n";
        assert_eq!(refused(rows), r"row 2: `\x1bfast` is not a number for rate");
        assert!(refused("workload,clients\nping\n").starts_with("it cannot be read as CSV"));
    }
}
