//! Prints a retry policy for `--explain`: send times, the time of giving up and the probability of an answer.

use std::io::{self, Write};
use std::time::Duration;

use crate::reliable::send_times::{Slot, TimeRange, give_up, mean_give_up, slots, unanswered_sends};
use crate::reliable::{Backoff, Jitter, success};
use crate::units::{Probability, Seconds};

/// The loss probabilities of each direction for which [`explain`] prints the probability of an answer.
const LOSSES: [f64; 3] = [0.1, 0.3, 0.5];

/// A duration as decimal seconds, without trailing zeros: `0.1`, `60`.
pub(crate) fn seconds(length: Duration) -> String {
    let length = Seconds::new(length).unwrap_or(Seconds::MAX);
    length.to_string().trim_end_matches('s').to_owned()
}

/// Prints the send times, the time of giving up, and the probability of an answer.
///
/// # Errors
///
/// Those of `out`.
pub fn explain(policy: &Backoff, out: &mut dyn Write) -> io::Result<()> {
    for (n, Slot { at, .. }) in slots(policy).iter().enumerate() {
        writeln!(out, "send {} at {} s", n + 1, range(at))?;
    }
    writeln!(out, "gives up at {} s{}", range(&give_up(policy)), mean(policy))?;
    let sends = u32::try_from(policy.schedule().count()).unwrap_or(Backoff::MAX_SENDS);
    for loss in LOSSES {
        let rate = Probability::new(loss).unwrap_or(Probability::ONE);
        let chance = percent(success(rate, rate, sends));
        writeln!(out, "answered at {:.0} % loss each way: {chance} %", 100.0 * loss)?;
    }
    notes(policy).iter().try_for_each(|note| writeln!(out, "{note}"))
}

/// A duration in seconds, or its two bounds under jitter.
pub(crate) fn range(span: &TimeRange) -> String {
    match (seconds(span.least), seconds(span.most)) {
        (least, most) if least == most => least,
        (least, most) => format!("{least} to {most}"),
    }
}

/// The mean time of giving up, if it is known and jitter changes it.
fn mean(policy: &Backoff) -> String {
    match mean_give_up(policy).filter(|_| policy.jitter() != Jitter::None) {
        Some(mean) => format!(", {mean:.3} s in the mean"),
        None => String::new(),
    }
}

/// A probability in per cent, never rounded up to 100.
pub(crate) fn percent(chance: f64) -> String {
    match 100.0 * chance {
        p if p < 99.99 => format!("{p:.2}"),
        p if p < 99.9999 => format!("{p:.4}"),
        _ => "over 99.9999".to_owned(),
    }
}

/// Notes on properties that the schedule does not show.
fn notes(policy: &Backoff) -> Vec<String> {
    let jitter = match policy.jitter() {
        Jitter::None => None,
        Jitter::Full => Some("full: each timeout is drawn from 0 to what it would be".to_owned()),
        Jitter::Equal => Some("equal: each timeout is drawn from half of what it would be to all of it".to_owned()),
        Jitter::Decorrelated => Some(
            "decorrelated: each timeout is drawn from the first to three times the one before, in the place of the growth"
                .to_owned(),
        ),
        Jitter::Ratio(ratio) => {
            Some(format!("ratio:{ratio}: each timeout is moved by up to {:.0} % of it", 100.0 * ratio.get()))
        }
        Jitter::Initial(factor) => {
            Some(format!("initial:{factor}: all timeouts are stretched by a factor drawn from 1 to {factor}"))
        }
    };
    let jitter = jitter.map(|note| format!("jitter {note}"));
    let adaptive = policy.adaptive().then(|| {
        let least = seconds(policy.min_rto());
        format!(
            "once a round trip is measured, the first timeout follows from it (RFC 6298), {least} s at least"
        )
    });
    let sends = match unanswered_sends(policy) {
        (fewest, most) if fewest == most => None,
        (fewest, most) => Some(format!(
            "with jitter the deadline leaves time for {fewest} to {most} sends; the chances are those of the sends without jitter"
        )),
    };
    jitter.into_iter().chain(sends).chain(adaptive).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_is_never_shown_as_100_per_cent() {
        assert_eq!(percent(0.25), "25.00");
        assert_eq!(percent(0.99999), "99.9990");
        assert_eq!(percent(1.0), "over 99.9999");
    }
}
