//! Rows of results: what a point and its tally put into each column. The columns are in `column`; files are written
//! elsewhere.

use std::time::Duration;

use serde_json::{Map, Value};

use super::cell::Share;
use super::column::{Column, Row};
use super::expected::{Expected, Time};
use super::point::Point;
use super::ratio::Ratio;
use super::stats::{proportion_z, wilson};
use super::tally::{Tally, Traffic};
use crate::link::{LinkConfig, LossModel};
use crate::reliable::{Backoff, Jitter};

/// The random generator, and the version of the rules by which it is used. In virtual time the same command gives the
/// same rows under the same name; a change of any row increments the version.
pub(crate) const GENERATOR: &str = "chacha8/1";

/// The mode of simulated time and links, of [`Origin::mode`].
pub(crate) const VIRTUAL: &str = "virtual";
/// The mode of real sockets and the real clock.
pub(crate) const REAL: &str = "real";

/// The origin of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The command line that reproduces them.
    pub(crate) command: String,
    /// [`VIRTUAL`] or [`REAL`]: the clock and the network.
    pub(crate) mode: &'static str,
    /// The seed of the whole experiment.
    pub(crate) seed: u64,
}

impl Row {
    /// Creates the row of `point` from its tally.
    #[must_use]
    pub(crate) fn new(origin: &Origin, point: &Point, tally: &Tally) -> Self {
        let trials = tally.trials();
        let expected = Expected::at(point);
        let success_theory = expected.map(|expected| expected.success);
        let sends_theory = expected.map(|expected| expected.sends);
        // Real sockets add a round trip that the theory does not know.
        let ack_theory = expected.and_then(|expected| expected.time).filter(|_| origin.mode == VIRTUAL);
        let (success_low, success_high) = success_interval(point, tally).unzip();
        let (loss_up_theory, loss_down_theory) = Expected::losses(point);
        Self {
            realised_loss_up: tally.up.realised_loss().into(),
            realised_loss_down: tally.down.realised_loss().into(),
            loss_up_theory: loss_up_theory.into(),
            loss_up_z: loss_z(loss_up_theory, &point.up.loss, &tally.up, &tally.sessions.loss_up).into(),
            loss_down_theory: loss_down_theory.into(),
            loss_down_z: loss_z(loss_down_theory, &point.down.loss, &tally.down, &tally.sessions.loss_down)
                .into(),
            too_large: (tally.up.too_large + tally.down.too_large).into(),
            queue_full: (tally.up.queue_full + tally.down.queue_full).into(),
            trials: trials.into(),
            sessions: tally.sessions.success.sessions().into(),
            acked: tally.acked.into(),
            rejected: tally.rejected.into(),
            unknown: tally.unknown.into(),
            success: per(tally.acked, trials).into(),
            success_low: success_low.into(),
            success_high: success_high.into(),
            success_theory: success_theory.into(),
            success_z: success_theory.and_then(|expected| success_z(point, tally, expected)).into(),
            sends_mean: tally.sends.mean().into(),
            sends_theory: sends_theory.into(),
            sends_z: sends_theory.and_then(|expected| sends_z(point, tally, expected)).into(),
            executions_mean: tally.executions.mean().into(),
            executions_theory: expected.map(|expected| expected.executions).into(),
            executions_max: tally.executions_max.into(),
            executions_without_dedup_mean: tally.arrivals.mean().into(),
            executions_without_dedup_theory: expected
                .map(|expected| expected.executions_without_dedup)
                .into(),
            ack_mean_s: tally.times.mean().into(),
            ack_theory_s: ack_theory.map(|time| time.mean).into(),
            ack_z: ack_theory.and_then(|time| time_z(point, tally, time)).into(),
            ack_p50_s: tally.times.quantile(0.5).into(),
            ack_p90_s: tally.times.quantile(0.9).into(),
            ack_p99_s: tally.times.quantile(0.99).into(),
            ack_max_s: tally.times.longest().into(),
            ack_cdf_s: tally.times.cdf(trials).into_iter().collect(),
            goodput_bytes_per_s: goodput(point, tally).into(),
            spurious_mean: per(tally.spurious, trials).into(),
            datagrams_mean: per(tally.up.datagrams + tally.down.datagrams, trials).into(),
            bytes_mean: per(tally.up.bytes + tally.down.bytes, trials).into(),
            ..Self::of_settings(origin, point)
        }
    }

    /// Creates a row with the columns that say what was measured, and how; the results are empty.
    fn of_settings(origin: &Origin, point: &Point) -> Self {
        let Point { policy_name, policy, up, down, size, interval } = point;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generator: GENERATOR.to_owned(),
            command: origin.command.clone(),
            mode: origin.mode.to_owned(),
            seed: origin.seed.into(),
            policy: (*policy_name).to_owned(),
            loss_up: requested(up),
            loss_down: requested(down),
            link_up: up.to_string(),
            link_down: down.to_string(),
            burst_up: up.loss.mean_burst().into(),
            burst_down: down.loss.mean_burst().into(),
            timeout_s: Some(policy.ack_timeout().as_secs_f64()).into(),
            max_sends: u64::from(policy.max_sends()).into(),
            max_timeout_s: longest_timeout(policy).map(|longest| longest.as_secs_f64()).into(),
            deadline_s: policy.deadline().map(|deadline| deadline.as_secs_f64()).into(),
            jitter: jitter(policy),
            rto_min_s: policy.adaptive().then(|| policy.min_rto().as_secs_f64()).into(),
            size_bytes: (*size as u64).into(),
            interval_s: Some(interval.as_secs_f64()).into(),
            ..Self::default()
        }
    }

    /// Returns a JSON object, null where nothing was measured.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        let pairs = Column::ALL.iter().map(|column| (column.name().to_owned(), self.cell(*column).json()));
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

/// Returns the requested loss, if the model has a rate.
fn requested(link: &LinkConfig) -> Share {
    link.loss.rate().map(|rate| rate.get()).into()
}

fn longest_timeout(policy: &Backoff) -> Option<Duration> {
    Some(policy.max_timeout()).filter(|longest| *longest < Backoff::UNCAPPED)
}

fn jitter(policy: &Backoff) -> String {
    match policy.jitter() {
        Jitter::None => "none".to_owned(),
        jitter => jitter.to_string(),
    }
}

/// Returns the 95 % interval of the success: Wilson's, or that of the sessions if their requests are dependent.
fn success_interval(point: &Point, tally: &Tally) -> Option<(f64, f64)> {
    if point.is_independent() {
        wilson(tally.acked, tally.trials())
    } else {
        tally.sessions.success.interval()
    }
}

fn success_z(point: &Point, tally: &Tally, expected: f64) -> Option<f64> {
    let of_trials = proportion_z(tally.acked, tally.trials(), expected);
    // With too few expected failures for a z value, the sessions give none either.
    if point.is_independent() {
        of_trials
    } else {
        of_trials.and_then(|_| tally.sessions.success.z(expected))
    }
}

/// Returns the difference of the realised loss of one direction to the expected one, in standard errors.
fn loss_z(expected: Option<f64>, model: &LossModel, traffic: &Traffic, sessions: &Ratio) -> Option<f64> {
    let expected = expected.filter(|_| traffic.datagrams > 0)?;
    match model {
        LossModel::None | LossModel::Bernoulli(_) => proportion_z(traffic.lost, traffic.datagrams, expected),
        _ => sessions.z(expected),
    }
}

fn sends_z(point: &Point, tally: &Tally, expected: f64) -> Option<f64> {
    if point.is_independent() { tally.sends.z(expected) } else { tally.sessions.sends.z(expected) }
}

fn time_z(point: &Point, tally: &Tally, expected: Time) -> Option<f64> {
    if point.is_independent() {
        tally.times.z(expected.mean, expected.deviation)
    } else {
        tally.sessions.times.z(expected.mean * 1e9)
    }
}

/// Returns the bytes of acked messages per second of the sessions' time.
fn goodput(point: &Point, tally: &Tally) -> Option<f64> {
    let seconds = tally.elapsed as f64 / 1e9;
    (seconds > 0.0).then(|| tally.acked as f64 * point.size as f64 / seconds)
}

fn per(count: u64, trials: u64) -> Option<f64> {
    (trials > 0).then(|| count as f64 / trials as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::sweep::cell::{Cell, Count};
    use crate::reliable::Outcome;

    fn row(tally: &Tally, link: &str) -> Row {
        let policy = Backoff::new(Duration::from_millis(100));
        let (up, down) = (link.parse().unwrap(), LinkConfig::perfect());
        let interval = Duration::ZERO;
        let point = Point { policy_name: "fixed", policy, up, down, size: 8, interval };
        Row::new(&Origin { command: "lab sweep".to_owned(), mode: "virtual", seed: 7 }, &point, tally)
    }

    #[test]
    fn columns_have_names_of_their_own() {
        let mut names: Vec<&str> = Column::ALL.iter().map(|column| column.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Column::ALL.len());
    }

    #[test]
    fn unmeasured_values_are_empty_and_not_0() {
        let nothing = row(&Tally::default(), "list:1,3");
        for column in
            ["success", "sends_mean", "ack_p50_s", "ack_cdf_s", "goodput_bytes_per_s", "realised_loss_up"]
        {
            assert_eq!(nothing.cell(Column::named(column).unwrap()), Cell::Empty, "{column}");
        }
        assert_eq!(nothing.loss_up, Share(None), "a list has no rate");
        assert_eq!(nothing.link_up, "list:1,3");
        assert_eq!(nothing.trials, Count(Some(0)));
        assert_eq!(Column::named("no such column"), None);
    }

    #[test]
    fn a_cell_stands_under_its_name() {
        let mut tally = Tally { elapsed: 2_000_000_000, spurious: 1, ..Tally::default() };
        for millis in [100, 300] {
            tally.count_outcome(&Outcome::Acked(Vec::new()));
            tally.sends.add(2);
            tally.times.add(Duration::from_millis(millis));
            tally.count_server(1, 2);
        }
        tally.up.bytes = 40;
        let row = row(&tally, "iid:.5");
        let text = |column: &str| row.text(Column::named(column).unwrap());
        for (column, expected) in [
            ("seed", "7"),
            ("policy", "fixed"),
            ("loss_up", "0.5"),
            ("loss_down", "0"),
            ("timeout_s", "0.1"),
            ("size_bytes", "8"),
            ("acked", "2"),
            ("success", "1"),
            ("sends_mean", "2"),
            ("executions_mean", "1"),
            ("executions_max", "1"),
            ("executions_without_dedup_mean", "2"),
            ("ack_mean_s", "0.2"),
            ("ack_max_s", "0.3"),
            ("ack_cdf_s", "0.1:0.5;0.3:1"),
            ("goodput_bytes_per_s", "8"),
            ("spurious_mean", "0.5"),
            ("bytes_mean", "20"),
        ] {
            assert_eq!(text(column), expected, "{column}");
        }
        assert_eq!(row.json()["acked"], 2);
    }
}
