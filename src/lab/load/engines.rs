//! Comparison of the engines of our server: the rows of their runs in the tables of `lab compare`, with the best
//! engine marked.

use super::compare::{CompareError, Comparison, MEASURES, MEMORY, RATE, compare, table};
use super::outcome::{LoadOutcome, rows};

/// The compared columns; the rows have more.
const SHOWN: [&str; 7] = [
    "rate",
    "p99_us",
    "server_cpu_s_per_million",
    "peak_memory_bytes",
    "memory_per_client_bytes",
    "idle_cores",
    "ping_cpu_s_per_million",
];

/// The mark of the best engine of a workload.
const BEST: &str = " (best)";

const NOTE: &str = "\
The best of a workload has the highest median rate; of idle ones, it takes the least memory for each. Where the ratios to another lie on
both sides of 1, the difference may be chance.
";

/// Returns a table for each workload. `subject` is the server whose ratios to the others are shown.
///
/// # Errors
///
/// There is no outcome, or none of the subject.
pub(crate) fn markdown(outcomes: &[LoadOutcome], subject: &str) -> Result<String, CompareError> {
    let mut comparison = compare(rows(outcomes).as_bytes(), subject)?;
    mark_best(&mut comparison);
    for line in comparison.values_mut().flatten() {
        for (measure, value) in MEASURES.iter().zip(&mut line.values) {
            value.take_if(|_| !SHOWN.contains(&measure.column));
        }
    }
    Ok(format!("{NOTE}{}", table::markdown(&comparison, subject)))
}

/// Marks the names of the best.
fn mark_best(comparison: &mut Comparison) {
    for (case, lines) in comparison {
        let worth = |line: &super::compare::Line| match case.workload.as_str() {
            "idle" => line.value(MEMORY).map(|memory| -memory.median),
            _ => line.value(RATE).map(|rate| rate.median),
        };
        let best = lines.iter().filter_map(worth).max_by(f64::total_cmp);
        for line in lines.iter_mut().filter(|line| best.is_some() && worth(line) == best) {
            line.server += BEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(workload: &'static str, engine: &str, count: u64, memory: Option<f64>) -> LoadOutcome {
        let (engine, server_cpu) = (Some(engine.to_owned()), Some(1.0));
        let (peer, clients, seconds) = ("sayagain", 4, 1.0);
        let memory_per_client = memory;
        let what =
            LoadOutcome { workload, peer, engine, clients, memory_per_client, ..LoadOutcome::default() };
        LoadOutcome { seconds, count, server_cpu, ..what }
    }

    #[test]
    fn the_rounds_of_an_engine_are_one_line_and_the_best_of_each_workload_is_marked() {
        let rounds = [
            round("ping", "poll", 100, None),
            round("ping", "tasks", 250, None),
            round("idle", "poll", 9, Some(250.0)),
            round("idle", "tasks", 90, Some(1_000.0)),
            round("ping", "poll", 300, None),
            round("ping", "poll", 500, None),
        ];
        let text = markdown(&rounds, "sayagain poll").unwrap();
        let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
        let [idle, ping] = lines("| sayagain poll (best) ")[..] else { panic!("{text}") };
        assert!(idle.contains(" 250.0 ") || idle.contains(" 250 "), "{text}");
        assert!(ping.contains(" 300 |") && ping.contains(" 100 |") && ping.contains(" 500 |"), "{text}");
        assert_eq!(lines("| sayagain tasks  ").len(), 2, "{text}");
        assert!(!text.contains("generator"), "{text}");
    }

    #[test]
    fn without_measurements_no_engine_is_marked() {
        let rounds = [round("idle", "poll", 9, None), round("idle", "tasks", 90, None)];
        let text = markdown(&rounds, "sayagain poll").unwrap();
        assert!(!text.contains(BEST), "{text}");
    }
}
