//! Notes on a sweep: caveats for the reader that the rows do not show. Only the texts are here; `lab sweep` prints
//! them.

use std::collections::BTreeMap;

use super::expected::Expected;
use super::point::Point;
use super::run::Experiment;
use super::start::{MAX_PLAYED, wanted};
use crate::link::{Direction, LinkConfig};

/// Bound on the points named in one note.
const NAMED: usize = 3;

/// Returns the notes on an experiment, each a clause. `sends_are_set` is whether a flag or an axis sets the number of
/// sends, instead of the policies.
#[must_use]
pub(crate) fn notes(experiment: &Experiment, sends_are_set: bool) -> Vec<String> {
    let own_sends = if sends_are_set { None } else { different_sends(&experiment.points) };
    let single = listed(experiment, "no interval can be given", |point| {
        (experiment.sessions_at(point) == 1 && experiment.trials > 1 && !point.is_independent()).then(|| {
            "the requests of its one session depend on each other; take more --trials or fewer --session-trials"
                .to_owned()
        })
    });
    let unforgotten = listed(experiment, "the realised loss may miss the requested one", |point| {
        (wanted(point) > MAX_PLAYED).then(|| {
            format!("the loss model remembers more than the {MAX_PLAYED} requests that are played before a session")
        })
    });
    let apart = listed(experiment, "another loss than the requested one is expected", clocked);
    own_sends.into_iter().chain(single).chain(unforgotten).chain(apart).collect()
}

/// Notes that policies with different numbers of sends are compared.
fn different_sends(points: &[Point]) -> Option<String> {
    let sends: BTreeMap<&str, u32> =
        points.iter().map(|point| (point.policy_name, point.policy.max_sends())).collect();
    let first = sends.values().next()?;
    if sends.values().all(|count| count == first) {
        return None;
    }
    let named: Vec<String> = sends.iter().map(|(name, count)| format!("{name} {count}")).collect();
    Some(format!(
        "the policies differ in their most sends ({}); --max-sends gives all the same",
        named.join(", ")
    ))
}

/// Notes the loss of a policy's sends in a blackhole, where it differs from the outage's share of the time.
fn clocked(point: &Point) -> Option<String> {
    let expected = Expected::losses(point);
    let told: Vec<String> =
        [(Direction::Up, &point.up, expected.0), (Direction::Down, &point.down, expected.1)]
            .into_iter()
            .filter_map(|(direction, link, expected)| differing(direction, link, expected))
            .collect();
    (!told.is_empty()).then(|| {
        format!(
            "{}: repeats come at set times after a loss, so they meet the outage more or less often",
            told.join(", ")
        )
    })
}

fn differing(direction: Direction, link: &LinkConfig, expected: Option<f64>) -> Option<String> {
    link.loss.cycle()?;
    let (requested, expected) = (link.loss.rate()?.get(), expected?);
    let way = if direction == Direction::Up { "up" } else { "down" };
    ((requested - expected).abs() > 5e-5).then(|| format!("{expected:.4} {way} instead of {requested:.4}"))
}

/// Returns a note on the points for which `why` returns a text.
fn listed(experiment: &Experiment, what: &str, why: impl Fn(&Point) -> Option<String>) -> Option<String> {
    let found: Vec<(&Point, String)> =
        experiment.points.iter().filter_map(|point| Some((point, why(point)?))).collect();
    let (_, first) = found.first()?;
    let mut names: Vec<String> = found.iter().map(|(point, _)| named(point)).collect();
    names.dedup();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let names = names.join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("{names}{more}: {what}: {first}"))
}

fn named(point: &Point) -> String {
    let Point { policy_name, up, down, .. } = point;
    if up == down {
        format!("{policy_name} over {up}")
    } else {
        format!("{policy_name} over {up} and {down}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::{Backoff, PolicyName};
    use std::time::Duration;

    fn point(policy: &str, link: &str) -> Point {
        let name: PolicyName = policy.parse().unwrap();
        let (up, down) = (link.parse().unwrap(), link.parse().unwrap());
        let (policy_name, policy, size) = (name.as_str(), name.backoff(), 1);
        let point = Point { policy_name, policy, up, down, size, interval: Duration::ZERO };
        Point { interval: point.default_interval(), ..point }
    }

    fn noted(
        points: Vec<Point>,
        trials: u64,
        session_trials: Option<u64>,
        sends_are_set: bool,
    ) -> Vec<String> {
        let experiment =
            Experiment { points, trials, session_trials, longest_session: 1_000, seed: 1, jobs: 1 };
        notes(&experiment, sends_are_set)
    }

    #[test]
    fn policies_with_different_numbers_of_sends_are_named_with_them() {
        let points = || vec![point("expb", "none"), point("coap", "none"), point("rto", "none")];
        assert_eq!(
            noted(points(), 1_000, None, false),
            [
                "the policies differ in their most sends (coap 5, expb 8, rto 7); --max-sends gives all the same"
            ]
        );
        assert_eq!(noted(points(), 1_000, None, true), [""; 0]);
        assert_eq!(noted(vec![point("expb", "none"), point("fixed", "none")], 1_000, None, false), [""; 0]);
    }

    #[test]
    fn one_session_whose_requests_depend_on_each_other_has_no_interval_and_a_note() {
        let told = noted(vec![point("expb", "gilbert:.1,5")], 1_000, Some(1_000), true);
        assert!(told[0].starts_with("expb over gilbert:0.1,5: no interval can be given: "), "{told:?}");
        assert_eq!(noted(vec![point("expb", "gilbert:.1,5")], 1_000, None, true), [""; 0]);
        assert_eq!(noted(vec![point("expb", "iid:.1")], 1_000, Some(1_000), true), [""; 0]);
    }

    #[test]
    fn a_model_with_a_longer_memory_than_is_played_has_a_note() {
        let told = noted(vec![point("expb", "gilbert:.1,10000")], 1_000, None, true);
        assert!(told[0].contains("remembers more than the 8192 requests"), "{told:?}");
    }

    #[test]
    fn the_loss_in_a_blackhole_is_noted_where_it_differs_from_its_share_of_the_time() {
        let policy = Backoff::new(Duration::from_millis(500)).with_max_sends(2);
        let two = Point { policy, ..point("fixed", "blackhole:1,.5") };
        let two = Point { interval: two.default_interval(), down: LinkConfig::perfect(), ..two };
        let told = noted(vec![two.clone()], 1_000, None, true);
        assert!(told[0].contains("0.2500 up instead of 0.3333: "), "{told:?}");
        let once = Point { policy: two.policy.clone().with_max_sends(1), ..two };
        assert_eq!(noted(vec![once], 1_000, None, true), [""; 0]);
    }
}
