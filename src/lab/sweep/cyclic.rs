//! The theory of requests whose losses follow a clock: a blackhole at an evenly distributed phase, independent in each
//! direction.
//!
//! The sends of a policy without randomness are at fixed offsets t_k. At given phases of the two blackholes each send
//! is answered with a known probability, so the means are sums over the sends. They change only at the phases at which
//! a send enters or leaves an outage. So the mean over all phases is a sum over the pieces between these phases,
//! weighted by their lengths. Nothing is sampled; the only error is that of the arithmetic.

use std::time::Duration;

use crate::link::LossModel;

/// Bound on the sends that are integrated over: the work grows with their third power.
const MAX_SENDS: usize = 64;

/// The expected results of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Means {
    /// The probability of an answer.
    pub(super) success: f64,
    /// Sends.
    pub(super) sends: f64,
    /// Sends that arrive.
    pub(super) arrivals: f64,
    /// The probability that one arrives.
    pub(super) executed: f64,
    /// Answers that are lost.
    pub(super) lost_answers: f64,
    /// The sum of time to ack in seconds times its probability, and the same for the square of the time.
    time: f64,
    square: f64,
}

impl Means {
    /// Returns the share of the sends that is lost.
    pub(super) fn loss_up(&self) -> f64 {
        1.0 - self.arrivals / self.sends
    }

    /// Returns the share of the answers that is lost; `None` without answers.
    pub(super) fn loss_down(&self) -> Option<f64> {
        (self.arrivals > 0.0).then(|| self.lost_answers / self.arrivals)
    }

    /// Returns mean and standard deviation of the time to ack in seconds; `None` if no request is acked.
    pub(super) fn time(&self) -> Option<(f64, f64)> {
        let mean = (self.success > 0.0).then(|| self.time / self.success)?;
        Some((mean, (self.square / self.success - mean * mean).max(0.0).sqrt()))
    }

    fn add(&mut self, weight: f64, other: &Self) {
        self.success += weight * other.success;
        self.sends += weight * other.sends;
        self.arrivals += weight * other.arrivals;
        self.executed += weight * other.executed;
        self.lost_answers += weight * other.lost_answers;
        self.time += weight * other.time;
        self.square += weight * other.square;
    }
}

/// Returns the means of a request that is sent at these offsets until it is answered. `None` for models that are
/// neither independent nor a blackhole, and for more than [`MAX_SENDS`].
pub(super) fn means(up: &LossModel, down: &LossModel, offsets: &[Duration]) -> Option<Means> {
    if offsets.len() > MAX_SENDS {
        return None;
    }
    let (ups, downs) = (pieces(up, offsets)?, pieces(down, offsets)?);
    let mut sum = Means::default();
    for (up_share, up) in &ups {
        for (down_share, down) in &downs {
            sum.add(up_share * down_share, &at_phases(up, down, offsets));
        }
    }
    Some(sum)
}

/// Returns ranges of phases with the same fate of every send: each range's share of all phases, and the probability
/// that each send passes.
fn pieces(model: &LossModel, offsets: &[Duration]) -> Option<Vec<(f64, Vec<f64>)>> {
    let (on, off) = match model {
        LossModel::Blackhole { on, off } => (on.as_duration().as_secs_f64(), off.as_duration().as_secs_f64()),
        LossModel::None => return Some(vec![(1.0, vec![1.0; offsets.len()])]),
        LossModel::Bernoulli(p) => return Some(vec![(1.0, vec![p.complement().get(); offsets.len()])]),
        _ => return None,
    };
    let cycle = on + off;
    let offsets: Vec<f64> = offsets.iter().map(|at| at.as_secs_f64()).collect();
    let mut bounds: Vec<f64> =
        offsets.iter().flat_map(|at| [-at, on - at]).map(|at| at.rem_euclid(cycle)).collect();
    bounds.extend([0.0, cycle]);
    bounds.sort_by(f64::total_cmp);
    let piece = |pair: &[f64]| {
        let [from, to] = *pair else { return None };
        let middle = f64::midpoint(from, to);
        let passes = |at: &f64| f64::from(u8::from((middle + at).rem_euclid(cycle) < on));
        (to > from).then(|| ((to - from) / cycle, offsets.iter().map(passes).collect()))
    };
    Some(bounds.windows(2).filter_map(piece).collect())
}

/// Returns the means for given probabilities that each send passes up, and its answer down.
fn at_phases(up: &[f64], down: &[f64], offsets: &[Duration]) -> Means {
    let (mut sum, mut open, mut unheard) = (Means::default(), 1.0, 1.0);
    for ((up, down), at) in up.iter().zip(down).zip(offsets) {
        let (answered, at) = (open * up * down, at.as_secs_f64());
        sum.sends += open;
        sum.arrivals += open * up;
        sum.lost_answers += open * up * (1.0 - down);
        sum.success += answered;
        sum.time += answered * at;
        sum.square += answered * at * at;
        open -= answered;
        unheard *= 1.0 - up;
    }
    sum.executed = 1.0 - unheard;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LinkConfig;
    use crate::reliable::success;
    use crate::reliable::theory;
    use crate::units::Probability;

    fn model(spec: &str) -> LossModel {
        spec.parse::<LinkConfig>().unwrap().loss
    }

    fn offsets(millis: &[u64]) -> Vec<Duration> {
        millis.iter().copied().map(Duration::from_millis).collect()
    }

    fn near(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-12, "{one} {other}");
    }

    #[test]
    fn independent_losses_give_the_theory_of_independent_losses() {
        let means = means(&model("iid:.3"), &model("iid:.2"), &offsets(&[0, 100, 300, 700])).unwrap();
        let [up, down] = [0.3, 0.2].map(|p| Probability::new(p).unwrap());
        near(means.success, success(up, down, 4));
        near(means.sends, theory::sends(up, down, 4));
        near(means.arrivals, theory::executions_without_dedup(up, down, 4));
        near(means.executed, theory::executed(up, 4));
        near(means.loss_up(), 0.3);
        near(means.loss_down().unwrap(), 0.2);
    }

    #[test]
    fn one_send_meets_a_blackhole_in_its_part_of_the_time() {
        let means = means(&model("blackhole:1,.5"), &model("blackhole:3,1"), &offsets(&[0])).unwrap();
        near(means.loss_up(), 1.0 / 3.0);
        near(means.loss_down().unwrap(), 0.25);
        near(means.success, 2.0 / 3.0 * 0.75);
    }

    #[test]
    fn a_repeat_after_the_outage_always_passes_and_one_within_it_never() {
        let hole = model("blackhole:1,.5");
        let after = means(&hole, &LossModel::None, &offsets(&[0, 500])).unwrap();
        // A third of the first sends is lost; the second one always passes.
        near(after.success, 1.0);
        near(after.loss_up(), (1.0 / 3.0) / (4.0 / 3.0));
        near(after.time().unwrap().0, 0.5 / 3.0);
        // After 0.1 s, 4 of 5 lost sends are still within the outage.
        let within = means(&hole, &LossModel::None, &offsets(&[0, 100])).unwrap();
        near(within.success, 1.0 - 0.8 / 3.0);
        near(within.loss_up(), (1.0 / 3.0 + 0.8 / 3.0) / (4.0 / 3.0));
    }

    #[test]
    fn models_without_pieces_have_no_means() {
        assert_eq!(means(&model("gilbert:.1,5"), &LossModel::None, &offsets(&[0])), None);
        assert_eq!(means(&LossModel::None, &model("list:1"), &offsets(&[0])), None);
        assert_eq!(means(&LossModel::None, &LossModel::None, &vec![Duration::ZERO; 65]), None);
        assert_eq!(means(&model("iid:1"), &LossModel::None, &offsets(&[0])).unwrap().time(), None);
    }
}
