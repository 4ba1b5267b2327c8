//! Engines beside each other: what several rounds of the same workloads came to, one line for each engine and workload.

use super::outcome::Outcome;

/// What the rounds of one workload with one engine came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The workload, with how many clients.
    pub workload: String,
    /// The engine.
    pub engine: String,
    /// Deliveries in a second: the median round, the slowest, the fastest.
    pub rate: [f64; 3],
    /// The median round's CPU seconds of the server for a million deliveries.
    pub cpu: Option<f64>,
    /// The median round's latency that a hundredth exceeds, in seconds.
    pub p99: Option<f64>,
    /// The most memory that any round had resident, in bytes.
    pub peak_memory: Option<u64>,
}

/// One line for each workload and engine, in the order in which they came first.
#[must_use]
pub fn lines(outcomes: &[Outcome]) -> Vec<Line> {
    let mut keys: Vec<(String, String)> = Vec::new();
    for key in outcomes.iter().map(key) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut lines: Vec<_> = keys.iter().map(|wanted| line(wanted, outcomes)).collect();
    // All engines of one workload together.
    lines.sort_by_key(|line| keys.iter().position(|(workload, _)| *workload == line.workload));
    lines
}

fn key(outcome: &Outcome) -> (String, String) {
    let workload = format!("{} {}", outcome.workload, outcome.clients);
    (workload, outcome.engine.clone().unwrap_or_default())
}

fn line(wanted: &(String, String), outcomes: &[Outcome]) -> Line {
    let rounds: Vec<&Outcome> = outcomes.iter().filter(|outcome| key(outcome) == *wanted).collect();
    let of = |value: fn(&Outcome) -> Option<f64>| sorted(rounds.iter().filter_map(|round| value(round)));
    let rates = of(Outcome::rate);
    let [slowest, fastest] = [rates.first(), rates.last()].map(|rate| rate.copied().unwrap_or_default());
    let (workload, engine) = wanted.clone();
    Line {
        workload,
        engine,
        rate: [median(&rates).unwrap_or_default(), slowest, fastest],
        cpu: median(&of(Outcome::server_cpu_per_million)),
        p99: median(&of(|round| round.latencies.quantile(0.99))),
        peak_memory: rounds.iter().filter_map(|round| round.peak_memory).max(),
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values, or of both in the middle.
#[must_use]
pub fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The table, for people.
#[must_use]
pub fn table(lines: &[Line]) -> String {
    let head =
        ["workload", "engine", "rate /s", "min", "max", "CPU s/M", "p99 µs", "peak KiB"].map(str::to_owned);
    let rows = lines.iter().map(|line| {
        let [rate, slowest, fastest] = line.rate.map(|rate| format!("{rate:.0}"));
        let optional = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let memory = line.peak_memory.map_or_else(|| "-".to_owned(), |bytes| (bytes >> 10).to_string());
        let p99 = optional(line.p99.map(|seconds| seconds * 1e6), 0);
        [
            line.workload.clone(),
            line.engine.clone(),
            rate,
            slowest,
            fastest,
            optional(line.cpu, 3),
            p99,
            memory,
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width =
        |place: usize| rows.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..8).filter_map(width).collect();
    let padded = |(place, (cell, width)): (usize, (&String, &usize))| {
        if place < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    };
    let shown = |row: &[String; 8]| {
        let cells: Vec<String> = row.iter().zip(&widths).enumerate().map(padded).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(workload: &'static str, engine: &str, count: u64) -> Outcome {
        let (engine, server_cpu) = (Some(engine.to_owned()), Some(1.0));
        Outcome { workload, engine, clients: 4, seconds: 1.0, count, server_cpu, ..Outcome::default() }
    }

    #[test]
    fn the_rounds_of_an_engine_are_one_line_with_their_median_and_workloads_stand_together() {
        let rounds = [
            round("ping", "poll", 100),
            round("ping", "tasks", 10),
            round("route", "poll", 7),
            round("ping", "poll", 300),
            round("ping", "poll", 500),
        ];
        let lines = lines(&rounds);
        let keys: Vec<_> = lines.iter().map(|line| (line.workload.as_str(), line.engine.as_str())).collect();
        assert_eq!(keys, [("ping 4", "poll"), ("ping 4", "tasks"), ("route 4", "poll")]);
        assert_eq!(lines[0].rate, [300.0, 100.0, 500.0]);
        let table = table(&lines);
        assert_eq!(table.lines().count(), 4);
        assert!(table.lines().nth(1).unwrap().starts_with("ping 4    poll        300  100  500"), "{table}");
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0]), Some(1.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }
}
