//! Rows of results: the cells that a point and its tally put into each column. Files are written elsewhere.

use serde_json::{Map, Number, Value};

use super::column::Column;
use super::expected::{Expected, Time};
use super::point::Point;
use super::ratio::Ratio;
use super::stats::{proportion_z, wilson};
use super::tally::{Tally, Traffic};
use crate::link::{LinkConfig, LossModel};
use crate::reliable::{Backoff, Jitter};

/// A cell, measured or empty.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A word.
    Text(String),
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
    /// Not measured, or no theory.
    Empty,
}

impl Cell {
    /// Returns the text of the cell in a CSV.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Empty => String::new(),
        }
    }

    /// Returns the number in the cell, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            Self::Text(_) | Self::Empty => None,
        }
    }

    /// Returns the cell as JSON: null if it is empty.
    #[must_use]
    pub fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Whole(number) => Value::from(*number),
            Self::Real(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Self::Empty => Value::Null,
        }
    }
}

impl From<Option<f64>> for Cell {
    /// Rounds to nine significant digits: further digits are rounding errors that would differ between machines.
    fn from(number: Option<f64>) -> Self {
        let rounded = |x: f64| format!("{x:.8e}").parse().unwrap_or(x);
        number.map_or(Self::Empty, |x| Self::Real(rounded(x)))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The random generator, and the version of the rules by which it is used. In virtual time the same command gives the
/// same rows under the same name; a change of any row increments the version.
pub const GENERATOR: &str = "chacha8/1";

/// The mode of simulated time and links, of [`Origin::mode`].
pub const VIRTUAL: &str = "virtual";
/// The mode of real sockets and the real clock.
pub const REAL: &str = "real";

/// The origin of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The command line that reproduces them.
    pub command: String,
    /// [`VIRTUAL`] or [`REAL`]: the clock and the network.
    pub mode: &'static str,
    /// The seed of the whole experiment.
    pub seed: u64,
}

/// One row: a cell per column of [`Column::ALL`].
#[derive(Clone, Debug, PartialEq)]
pub struct Row(Vec<Cell>);

impl Row {
    /// Creates the row of `point` from its tally.
    #[must_use]
    pub fn new(origin: &Origin, point: &Point, tally: &Tally) -> Self {
        let mut cells = about(origin, point);
        cells.extend(outcomes(point, tally));
        cells.extend(costs(point, tally));
        cells.extend(times(point, tally, origin.mode == VIRTUAL));
        Self(cells)
    }

    /// Returns the cells, in the order of [`Column::ALL`].
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.0
    }

    /// Returns the cell of a column; `None` if there is no such column.
    #[must_use]
    pub fn cell(&self, column: &str) -> Option<&Cell> {
        self.0.get(Column::ALL.iter().position(|known| known.name() == column)?)
    }

    /// Returns a JSON object, null where nothing was measured.
    #[must_use]
    pub fn json(&self) -> Value {
        let pairs = Column::ALL.iter().zip(&self.0);
        let pairs = pairs.map(|(column, cell)| (column.name().to_owned(), cell.json()));
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

fn about(origin: &Origin, point: &Point) -> Vec<Cell> {
    let Point { policy_name, policy, up, down, size, interval } = point;
    let longest = Some(policy.max_timeout()).filter(|longest| *longest < Backoff::UNCAPPED);
    let jitter =
        if policy.jitter() == Jitter::None { "none".to_owned() } else { policy.jitter().to_string() };
    vec![
        env!("CARGO_PKG_VERSION").into(),
        GENERATOR.into(),
        origin.command.as_str().into(),
        origin.mode.into(),
        origin.seed.into(),
        (*policy_name).into(),
        requested(up),
        requested(down),
        up.to_string().as_str().into(),
        down.to_string().as_str().into(),
        up.loss.mean_burst().into(),
        down.loss.mean_burst().into(),
        Some(policy.ack_timeout().as_secs_f64()).into(),
        u64::from(policy.max_sends()).into(),
        longest.map(|longest| longest.as_secs_f64()).into(),
        policy.deadline().map(|deadline| deadline.as_secs_f64()).into(),
        jitter.as_str().into(),
        policy.adaptive().then(|| policy.min_rto().as_secs_f64()).into(),
        (*size as u64).into(),
        Some(interval.as_secs_f64()).into(),
    ]
}

/// The requested loss, if the model has a rate.
fn requested(link: &LinkConfig) -> Cell {
    link.loss.rate().map(|rate| rate.get()).into()
}

fn outcomes(point: &Point, tally: &Tally) -> [Cell; 18] {
    let trials = tally.trials();
    let (low, high) = interval(point, tally).unzip();
    let expected = Expected::at(point).map(|expected| expected.success);
    let [up_theory, up_z, down_theory, down_z] = losses(point, tally);
    [
        tally.up.realised_loss().into(),
        tally.down.realised_loss().into(),
        up_theory,
        up_z,
        down_theory,
        down_z,
        (tally.up.too_large + tally.down.too_large).into(),
        (tally.up.queue_full + tally.down.queue_full).into(),
        trials.into(),
        tally.sessions.success.sessions().into(),
        tally.acked.into(),
        tally.rejected.into(),
        tally.unknown.into(),
        per(tally.acked, trials),
        low.into(),
        high.into(),
        expected.into(),
        expected.and_then(|expected| success_z(point, tally, expected)).into(),
    ]
}

/// Returns the 95 % interval of the success: Wilson's, or that of the sessions if their requests are dependent.
fn interval(point: &Point, tally: &Tally) -> Option<(f64, f64)> {
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

/// The expected loss of each direction, and the difference from it in standard errors.
fn losses(point: &Point, tally: &Tally) -> [Cell; 4] {
    let (up, down) = Expected::losses(point);
    let z = |expected: Option<f64>, model: &LossModel, traffic: &Traffic, sessions: &Ratio| {
        let expected = expected.filter(|_| traffic.datagrams > 0)?;
        match model {
            LossModel::None | LossModel::Bernoulli(_) => {
                proportion_z(traffic.lost, traffic.datagrams, expected)
            }
            _ => sessions.z(expected),
        }
    };
    [
        up.into(),
        z(up, &point.up.loss, &tally.up, &tally.sessions.loss_up).into(),
        down.into(),
        z(down, &point.down.loss, &tally.down, &tally.sessions.loss_down).into(),
    ]
}

fn costs(point: &Point, tally: &Tally) -> [Cell; 8] {
    let expected = Expected::at(point);
    let sends = expected.map(|expected| expected.sends);
    [
        tally.sends.mean().into(),
        sends.into(),
        sends.and_then(|sends| sends_z(point, tally, sends)).into(),
        tally.executions.mean().into(),
        expected.map(|expected| expected.executions).into(),
        tally.executions_max.into(),
        tally.arrivals.mean().into(),
        expected.map(|expected| expected.executions_without_dedup).into(),
    ]
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

/// Real sockets add a round trip that the theory does not know.
fn times(point: &Point, tally: &Tally, is_virtual: bool) -> [Cell; 12] {
    let (times, trials) = (&tally.times, tally.trials());
    let expected = Expected::at(point).and_then(|expected| expected.time).filter(|_| is_virtual);
    let seconds = tally.elapsed as f64 / 1e9;
    let delivered = tally.acked as f64 * point.size as f64;
    let (datagrams, bytes) = (tally.up.datagrams + tally.down.datagrams, tally.up.bytes + tally.down.bytes);
    [
        times.mean().into(),
        expected.map(|time| time.mean).into(),
        expected.and_then(|time| time_z(point, tally, time)).into(),
        times.quantile(0.5).into(),
        times.quantile(0.9).into(),
        times.quantile(0.99).into(),
        times.longest().into(),
        cdf(tally),
        (seconds > 0.0).then(|| delivered / seconds).into(),
        per(tally.spurious, trials),
        per(datagrams, trials),
        per(bytes, trials),
    ]
}

fn per(count: u64, trials: u64) -> Cell {
    (trials > 0).then(|| count as f64 / trials as f64).into()
}

/// `seconds:share;seconds:share;..`
fn cdf(tally: &Tally) -> Cell {
    let step = |(seconds, share): (f64, f64)| format!("{seconds}:{}", Cell::from(Some(share)).text());
    let steps: Vec<String> = tally.times.cdf(tally.trials()).into_iter().map(step).collect();
    if steps.is_empty() { Cell::Empty } else { Cell::Text(steps.join(";")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::Outcome;
    use std::time::Duration;

    fn row(tally: &Tally, link: &str) -> Row {
        let policy = Backoff::new(Duration::from_millis(100));
        let (up, down) = (link.parse().unwrap(), LinkConfig::perfect());
        let interval = Duration::ZERO;
        let point = Point { policy_name: "fixed", policy, up, down, size: 8, interval };
        Row::new(&Origin { command: "lab sweep".to_owned(), mode: "virtual", seed: 7 }, &point, tally)
    }

    #[test]
    fn there_is_a_cell_for_each_column_and_columns_have_names_of_their_own() {
        assert_eq!(row(&Tally::default(), "none").cells().len(), Column::ALL.len());
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
            assert_eq!(nothing.cell(column), Some(&Cell::Empty), "{column}");
        }
        assert_eq!(nothing.cell("loss_up"), Some(&Cell::Empty), "a list has no rate");
        assert_eq!(nothing.cell("link_up").unwrap().text(), "list:1,3");
        assert_eq!(nothing.cell("trials"), Some(&Cell::Whole(0)));
        assert_eq!(nothing.cell("no such column"), None);
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
        let text = |column: &str| row.cell(column).unwrap().text();
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
