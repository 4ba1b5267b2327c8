//! Statistical tests: every loss model over a million datagrams, compared with its formula.
//!
//! The standard errors are those of dependent observations. For observations f(X) of a stationary chain X, the variance
//! of their mean over n is, to first order, V(f) / n with V(f) = cov_0 + 2 (cov_1 + cov_2 + ..), the autocovariances of
//! f(X). X is (lost before?, state, lost?), so that both observations are functions of it:
//!
//! - The rate is the mean of L = "lost", so its variance is V(L) / n.
//!
//! - The mean burst is the quotient of the means of L and of S = "lost, and the one before was not" (a run begins). By
//!   the delta method its variance is V(L - B S) / (n s^2), with B the true quotient and s the true mean of S.
//!
//! Independent losses are the chain of one state, where V(L) is p (1 - p).

use std::time::Instant;

use super::*;

/// The stationary shares, the transitions and the losses of a model, written from its definition.
struct ObservationChain {
    shares: Vec<f64>,
    next: Vec<Vec<f64>>,
    loss: Vec<f64>,
}

/// One value of X: lost before, state, lost.
type X = (bool, usize, bool);

impl ObservationChain {
    fn xs(&self) -> Vec<X> {
        let states = 0..self.loss.len();
        states
            .flat_map(|s| [(false, s, false), (false, s, true), (true, s, false), (true, s, true)])
            .collect()
    }

    fn chance(&self, state: usize, lost: bool) -> f64 {
        if lost { self.loss[state] } else { 1.0 - self.loss[state] }
    }

    fn share(&self, (before, state, lost): X) -> f64 {
        let from =
            (0..self.loss.len()).map(|s| self.shares[s] * self.chance(s, before) * self.next[s][state]);
        from.sum::<f64>() * self.chance(state, lost)
    }

    fn step(&self, (_, from, lost): X, (before, to, then): X) -> f64 {
        if before == lost { self.next[from][to] * self.chance(to, then) } else { 0.0 }
    }

    fn mean(&self, f: impl Fn(X) -> f64) -> f64 {
        self.xs().into_iter().map(|x| self.share(x) * f(x)).sum()
    }

    /// V(f).
    fn variance(&self, f: impl Fn(X) -> f64) -> f64 {
        let (xs, mean) = (self.xs(), self.mean(&f));
        let shares: Vec<f64> = xs.iter().map(|x| self.share(*x)).collect();
        let steps: Vec<Vec<f64>> =
            xs.iter().map(|x| xs.iter().map(|y| self.step(*x, *y)).collect()).collect();
        let centred: Vec<f64> = xs.iter().map(|x| f(*x) - mean).collect();
        let mut later = centred.clone();
        let mut sum = 0.0;
        for lag in 0..1_000_000 {
            let covariance: f64 = (0..xs.len()).map(|i| shares[i] * centred[i] * later[i]).sum();
            sum += if lag == 0 { covariance } else { 2.0 * covariance };
            if later.iter().all(|value| value.abs() < 1e-12) {
                break;
            }
            later = steps
                .iter()
                .map(|row| row.iter().zip(&later).map(|(step, value)| step * value).sum())
                .collect();
        }
        sum
    }
}

fn is_lost((_, _, lost): X) -> f64 {
    f64::from(u8::from(lost))
}

fn begins_a_run((before, _, lost): X) -> f64 {
    f64::from(u8::from(lost && !before))
}

fn independent(p: f64) -> ObservationChain {
    ObservationChain { shares: vec![1.0], next: vec![vec![1.0]], loss: vec![p] }
}

/// Good and bad, in the notation of the literature: p, r, 1 - k, 1 - h.
fn two(p: f64, r: f64, good: f64, bad: f64) -> ObservationChain {
    ObservationChain {
        shares: vec![r / (p + r), p / (p + r)],
        next: vec![vec![1.0 - p, p], vec![r, 1.0 - r]],
        loss: vec![good, bad],
    }
}

/// tc-netem's states in their order; the shares by iteration instead of by formula.
fn four([p13, p31, p32, p23, p14]: [f64; 5]) -> ObservationChain {
    let next = vec![
        vec![1.0 - p13 - p14, 0.0, p13, p14],
        vec![0.0, 1.0 - p23, p23, 0.0],
        vec![p31, p32, 1.0 - p31 - p32, 0.0],
        vec![1.0, 0.0, 0.0, 0.0],
    ];
    let mut shares = vec![1.0, 0.0, 0.0, 0.0];
    for _ in 0..10_000 {
        shares = (0..4).map(|to| (0..4).map(|from| shares[from] * next[from][to]).sum()).collect();
    }
    ObservationChain { shares, next, loss: vec![0.0, 0.0, 1.0, 1.0] }
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn origin() -> Instant {
    Instant::now()
}

fn model(spec: &str) -> LossModel {
    spec.parse::<LinkConfig>().unwrap().loss
}

/// Losses and runs of losses among `n` datagrams of four flows.
fn measure(model: LossModel, seed: u64, n: u64) -> (f64, f64) {
    let (mut verdicts, now) = (Verdicts::new(model, seed, Direction::Up), origin());
    let mut before = [false; 4];
    let mut runs = 0;
    for index in 0..n / 4 {
        for (flow, before) in (0..).zip(&mut before) {
            let lost = verdicts.lost(now, flow, index);
            runs += u64::from(lost && !*before);
            *before = lost;
        }
    }
    (verdicts.lost_count() as f64, runs as f64)
}

/// Asserts that formulas, chain and a million datagrams agree.
fn assert_agrees(spec: &str, chain: &ObservationChain) {
    let (rate, starts) = (chain.mean(is_lost), chain.mean(begins_a_run));
    let (burst, formulas) = (rate / starts, model(spec));
    assert!(
        (formulas.rate().unwrap().get() - rate).abs() < 1e-9 * rate,
        "{spec}: {:?}, {rate}",
        formulas.rate()
    );
    assert!((formulas.mean_burst().unwrap() - burst).abs() < 1e-9 * burst, "{spec}: {burst}");
    let n = 1e6;
    let (lost, runs) = measure(formulas, 20_240_607, 1_000_000);
    let error = (chain.variance(is_lost) / n).sqrt();
    assert!((lost / n - rate).abs() < 3.0 * error, "{spec}: rate {} instead of {rate} +- {error}", lost / n);
    // If every run has the same length, the only error is that of the arithmetic.
    let variance = chain.variance(|x| is_lost(x) - burst * begins_a_run(x)).max(1e-20);
    let (measured, error) = (lost / runs, (variance / n).sqrt() / starts);
    assert!((measured - burst).abs() < 3.0 * error, "{spec}: burst {measured} instead of {burst} +- {error}");
}

#[test]
fn the_standard_errors_are_those_that_textbooks_give_where_they_give_them() {
    let near = |one: f64, other: f64| assert!((one - other).abs() < 1e-9 * other, "{one} {other}");
    near(independent(0.3).variance(is_lost), 0.3 * 0.7);
    // Two states, all lost in the bad one: p (1 - p) (1 + lambda) / (1 - lambda) with lambda = 1 - p - r.
    let (p, r) = (0.02, 0.2);
    let (share, lambda) = (p / (p + r), 1.0 - p - r);
    let chain = two(p, r, 0.0, 1.0);
    near(chain.variance(is_lost), share * (1.0 - share) * (1.0 + lambda) / (1.0 - lambda));
    // Its runs are independent and geometric: the variance of a run's length is (1 - r) / r^2, per run.
    let starts = chain.mean(begins_a_run);
    let variance = chain.variance(|x| is_lost(x) - begins_a_run(x) / r);
    near(variance / (starts * starts), (1.0 - r) / (r * r) / starts);
}

#[test]
fn independent_losses_have_the_rate_and_bursts_of_their_formula() {
    for p in [0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 0.999] {
        assert_agrees(&format!("iid:{p}"), &independent(p));
    }
}

#[test]
fn gilbert_losses_have_exactly_the_requested_rate_and_burst() {
    for (rate, burst) in
        [(0.01, 1.0), (0.01, 10.0), (0.1, 5.0), (0.3, 2.0), (0.5, 1.5), (0.5, 50.0), (0.9, 20.0)]
    {
        let spec = format!("gilbert:{rate},{burst}");
        assert_agrees(&spec, &two(rate / (1.0 - rate) / burst, 1.0 / burst, 0.0, 1.0));
        assert_eq!(model(&spec).rate().unwrap().get(), rate);
        assert_eq!(model(&spec).mean_burst(), Some(burst));
    }
}

#[test]
fn gilbert_elliott_losses_have_the_rate_and_bursts_of_their_formula() {
    assert_agrees("ge:.05", &two(0.05, 0.95, 0.0, 1.0));
    assert_agrees("ge:.05,.4", &two(0.05, 0.4, 0.0, 1.0));
    assert_agrees("ge:.02,.1,.3", &two(0.02, 0.1, 0.0, 0.7));
    assert_agrees("ge:.02,.1,.3,.99", &two(0.02, 0.1, 0.01, 0.7));
    assert_agrees("ge:.3,.001,.9,.5", &two(0.3, 0.001, 0.5, 0.1));
}

#[test]
fn four_state_losses_have_the_rate_and_bursts_of_their_formula() {
    assert_agrees("state4:.05", &four([0.05, 0.95, 0.0, 1.0, 0.0]));
    assert_agrees("state4:.02,.3", &four([0.02, 0.3, 0.0, 1.0, 0.0]));
    assert_agrees("state4:.01,.1,.2", &four([0.01, 0.1, 0.2, 1.0, 0.0]));
    assert_agrees("state4:.02,.1,.2,.4,.03", &four([0.02, 0.1, 0.2, 0.4, 0.03]));
}

#[test]
fn at_0_none_is_lost_and_at_1_and_just_under_1_all_are() {
    let none = ["none", "iid:0", "gilbert:0,5", "ge:0", "ge:.5,.5,1,1", "state4:0", "blackhole:1,0"];
    for spec in none {
        assert_eq!(measure(model(spec), 1, 100_000), (0.0, 0.0), "{spec}");
        assert_eq!(model(spec).rate(), Some(Probability::ZERO), "{spec}");
        assert_eq!(model(spec).mean_burst(), None, "{spec}");
    }
    for spec in ["iid:1", "gilbert:1,5", "ge:1,0", "ge:.5,.5,0,0", "state4:1,0", "blackhole:0,1"] {
        assert_eq!(measure(model(spec), 1, 100_000), (100_000.0, 4.0), "{spec}");
        assert_eq!(model(spec).rate(), Some(Probability::ONE), "{spec}");
        assert_eq!(model(spec).mean_burst(), None, "{spec}");
    }
    // 1 - 2^-53, and 2^-53 on the other side: one in 9 * 10^15 would pass.
    let (under, over) = (1.0 - f64::EPSILON / 2.0, f64::EPSILON / 2.0);
    let two_to_53 = (1_u64 << 53) as f64;
    for (spec, burst) in [
        (format!("iid:{under}"), two_to_53),
        (format!("gilbert:{under},{two_to_53}"), two_to_53),
        (format!("ge:{under},{over}"), two_to_53),
        (format!("ge:.5,.5,{over},{over}"), two_to_53),
        (format!("state4:{under}"), two_to_53),
    ] {
        assert_eq!(measure(model(&spec), 1, 100_000), (100_000.0, 4.0), "{spec}");
        assert!(model(&spec).rate().unwrap() < Probability::ONE, "{spec}");
        let formula = model(&spec).mean_burst().unwrap();
        assert!((formula - burst).abs() <= 1e-9 * burst, "{spec}: {formula}");
    }
}

#[test]
fn a_chain_that_alternates_keeps_its_exact_rate() {
    let (lost, runs) = measure(model("gilbert:.5,1"), 3, 1_000_000);
    assert_eq!(lost, 500_000.0);
    assert!((499_998.0..=500_002.0).contains(&runs));
}

#[test]
fn a_list_loses_exactly_its_datagrams_of_each_flow() {
    let (mut verdicts, now) = (Verdicts::new(model("list:1,3,5-8"), 1, Direction::Up), origin());
    for flow in 0..3 {
        let lost: Vec<u64> = (1..=20).filter(|ordinal| verdicts.lost(now, flow, ordinal - 1)).collect();
        assert_eq!(lost, [1, 3, 5, 6, 7, 8]);
    }
    assert_eq!((verdicts.model().rate(), verdicts.model().mean_burst()), (None, None));
}

#[test]
fn a_blackhole_drops_its_share_of_the_time_counted_from_the_first_datagram() {
    let (mut verdicts, start) = (Verdicts::new(model("blackhole:2,1"), 1, Direction::Up), origin());
    let begun = start + Duration::from_secs(77);
    let mut lost = Vec::new();
    for millis in 0..9_000 {
        if verdicts.lost(begun + Duration::from_millis(millis), millis % 3, 0) {
            lost.push(millis);
        }
    }
    assert!(lost.iter().copied().eq((2_000..3_000).chain(5_000..6_000).chain(8_000..9_000)));
    assert_eq!(verdicts.realised_loss(), Some(1.0 / 3.0));
    assert_eq!(verdicts.model().rate().unwrap().get(), 1.0 / 3.0);
    assert!(!verdicts.lost(start, 0, 0), "time before the first counts as its instant");
}

#[test]
fn neither_query_order_nor_a_cold_cache_changes_a_verdict() {
    let now = origin();
    for spec in ["iid:.3", "gilbert:.3,4", "gilbert:.5,1", "ge:.02,.1,.3,.9", "state4:.02,.1,.2,.4,.03"] {
        let fresh = || Verdicts::new(model(spec), 9, Direction::Down);
        let places: Vec<(u64, u64)> =
            (0..20).flat_map(|flow| (0..200).map(move |index| (flow, index))).collect();
        let judge = |places: &[(u64, u64)]| {
            let mut verdicts = fresh();
            let mut lost: Vec<_> =
                places.iter().copied().filter(|(f, i)| verdicts.lost(now, *f, *i)).collect();
            lost.sort_unstable();
            lost
        };
        let in_order = judge(&places);
        let mut shuffled = places.clone();
        shuffled.sort_unstable_by_key(|(flow, index)| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15), *flow));
        assert_eq!(judge(&shuffled), in_order, "{spec}");
        shuffled.reverse();
        assert_eq!(judge(&shuffled), in_order, "{spec}");
        let cold: Vec<_> = places.iter().copied().filter(|(f, i)| fresh().lost(now, *f, *i)).collect();
        assert_eq!(cold, in_order, "{spec}");
    }
}

#[test]
fn the_cache_of_states_is_bounded_and_forgetting_changes_no_verdict() {
    let (mut verdicts, now) = (Verdicts::new(model("gilbert:.3,4"), 9, Direction::Up), origin());
    let mut fresh = verdicts.sibling();
    let first: Vec<bool> = (0..10).map(|index| verdicts.lost(now, 0, index)).collect();
    for flow in 1..=MAX_FLOWS as u64 {
        verdicts.lost(now, flow, 0);
    }
    assert_eq!(first, (0..10).map(|index| fresh.lost(now, 0, index)).collect::<Vec<_>>());
    assert_eq!(verdicts.lost(now, 0, 10), fresh.lost(now, 0, 10));
    assert_eq!(verdicts.states_kept(), MAX_FLOWS);
}

#[test]
fn seeds_directions_and_flows_are_lost_independently() {
    let pattern = |seed, direction, flow| -> Vec<bool> {
        let mut verdicts = Verdicts::new(model("iid:.5"), seed, direction);
        (0..10_000).map(|index| verdicts.lost(origin(), flow, index)).collect()
    };
    let base = pattern(1, Direction::Up, 0);
    for other in [pattern(2, Direction::Up, 0), pattern(1, Direction::Down, 0), pattern(1, Direction::Up, 1)]
    {
        let agreeing = base.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!((4_850..=5_150).contains(&agreeing), "{agreeing} of 10000 agree");
    }
}

#[test]
fn a_lower_rate_loses_a_subset_of_what_a_higher_one_loses() {
    let mut low = Verdicts::new(model("iid:.1"), 3, Direction::Up);
    let mut high = Verdicts::new(model("iid:.2"), 3, Direction::Up);
    let now = origin();
    assert!((0..10_000).all(|index| !low.lost(now, 0, index) | high.lost(now, 0, index)));
}

#[test]
fn a_rate_of_0_is_no_model_at_all_and_one_that_was_never_measured_is_missing() {
    assert_eq!(LossModel::from(Probability::ZERO), LossModel::None);
    assert_eq!(LossModel::from(Probability::ONE), model("iid:1"));
    let mut verdicts = Verdicts::new(LossModel::None, 1, Direction::Up);
    assert_eq!(verdicts.realised_loss(), None);
    assert!(!verdicts.lost(origin(), 0, 0));
    assert_eq!(verdicts.realised_loss(), Some(0.0));
}
