//! One point of an experiment: the policy, network and message of one row of results, and the seeds of its sessions.

use std::hash::Hasher as _;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::link::{LinkConfig, LossModel};
use crate::reliable::send_times::give_up;
use crate::reliable::{Backoff, Growth};

/// Number of sessions of a point where the error is estimated from the differences between sessions.
const SESSIONS: u64 = 100;

/// Phase of a blackhole's cycle between two successive requests: the golden section. No multiple of it comes near a
/// whole number, so a session's requests sample the whole cycle evenly.
const STEP: f64 = 0.618_033_988_749_894_8;

/// A policy and a network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// The policy's name.
    pub(crate) policy_name: &'static str,
    /// The times at which requests are sent and given up.
    pub(crate) policy: Backoff,
    /// The link to the server.
    pub(crate) up: LinkConfig,
    /// The link from the server.
    pub(crate) down: LinkConfig,
    /// The length of the message that a request carries, in bytes.
    pub(crate) size: usize,
    /// The time from the due time of one request of a session to that of the next. 0 means that each follows the end of
    /// the one before.
    pub(crate) interval: Duration,
}

impl Point {
    /// Returns the interval where none is set: 0, unless a link has a blackhole. Then it is longer than any request
    /// takes under this policy, and successive requests sample the whole cycle.
    #[must_use]
    pub(crate) fn default_interval(&self) -> Duration {
        let cycles = [&self.up.loss, &self.down.loss].map(LossModel::cycle);
        let Some(cycle) = cycles.into_iter().flatten().max().map(|cycle| cycle.as_secs_f64()) else {
            return Duration::ZERO;
        };
        let whole = (self.longest().as_secs_f64() / cycle - STEP).ceil().max(0.0);
        Duration::try_from_secs_f64((whole + STEP) * cycle).unwrap_or(Backoff::UNCAPPED)
    }

    /// Returns the longest time that a request can take, with the mean delay of its last answer.
    pub(super) fn longest(&self) -> Duration {
        let delay = |link: &LinkConfig| link.delay.mean().as_duration();
        let round_trip = delay(&self.up).saturating_add(delay(&self.down));
        give_up(&self.policy).most.saturating_add(round_trip)
    }

    /// Whether the requests of a session are independent: losses are, no queue fills, and no measured timeout decides
    /// the number of sends.
    #[must_use]
    pub(crate) fn is_independent(&self) -> bool {
        let is_memoryless = |link: &LinkConfig| {
            link.rate.is_none() && matches!(link.loss, LossModel::None | LossModel::Bernoulli(_))
        };
        let is_learning = self.policy.adaptive() && self.policy.deadline().is_some();
        is_memoryless(&self.up) && is_memoryless(&self.down) && !is_learning
    }

    /// Whether the losses of a link depend on the clock.
    #[must_use]
    pub(crate) fn has_cycle(&self) -> bool {
        [&self.up, &self.down].into_iter().any(|link| link.loss.cycle().is_some())
    }

    /// Returns the number of requests per session where it is not set. It is `most` if requests are independent;
    /// otherwise it gives 100 sessions, within 1 and `most`.
    #[must_use]
    pub(crate) fn default_session_trials(&self, trials: u64, most: u64) -> u64 {
        if self.is_independent() { most } else { (trials / SESSIONS).clamp(1, most.max(1)) }
    }

    /// Returns the seed of a session at this point: a function of the experiment's seed, the point's definition and
    /// the session's ordinal. So a point gives the same row in every experiment.
    #[must_use]
    pub(crate) fn session_seed(&self, seed: u64, session: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(seed, session);
        hasher.write(self.identity().as_bytes());
        hasher.finish()
    }

    /// Everything that decides the results, as a text. Changing the text changes every result. It does not contain the
    /// policy's name.
    fn identity(&self) -> String {
        let Self { policy, up, down, size, interval, .. } = self;
        let growth = match policy.growth() {
            Growth::Fixed => "fixed".to_owned(),
            Growth::Linear => "linear".to_owned(),
            Growth::Exponential { factor } => format!("exponential:{factor}"),
        };
        let nanos =
            [policy.ack_timeout(), policy.max_timeout(), policy.min_rto()].map(|time| time.as_nanos());
        let deadline = policy.deadline().map_or(0, |deadline| deadline.as_nanos());
        let (sends, adaptive, jitter) = (policy.max_sends(), policy.adaptive(), policy.jitter());
        let every =
            if interval.is_zero() { String::new() } else { format!("|every:{}", interval.as_nanos()) };
        format!(
            "sayagain point v1|{up}|{down}|{size}|{growth}|{jitter}|{nanos:?}|{deadline}|{sends}|{adaptive}{every}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::Preset;

    #[test]
    fn the_seeds_are_pinned_so_that_results_stay_as_they_are() {
        let (up, down) = ("iid:.5".parse().unwrap(), "gilbert:.1,5+delay:50ms".parse().unwrap());
        let interval = Duration::ZERO;
        let point =
            Point { policy_name: "coap", policy: Preset::Coap.backoff(), up, down, size: 32, interval };
        let identity = "sayagain point v1|iid:0.5|gilbert:0.1,5+delay:0.05s|32|exponential:2|initial:1.5|\
                        [2000000000, 315360000000000000, 1000000000]|0|5|false";
        assert_eq!(point.identity(), identity);
        assert_eq!(point.session_seed(1, 0), 6_066_827_229_819_715_857);
        assert_eq!(
            Point { policy_name: "mine", ..point.clone() }.session_seed(1, 0),
            point.session_seed(1, 0)
        );
        assert_ne!(point.session_seed(1, 0), point.session_seed(1, 1));
        assert_ne!(point.session_seed(1, 0), point.session_seed(2, 0));
        let paced = Point { interval: Duration::from_secs(1), ..point.clone() };
        assert_ne!(point.session_seed(1, 0), paced.session_seed(1, 0));
    }

    fn point(up: &str, down: &str, policy: Backoff) -> Point {
        let (up, down) = (up.parse().unwrap(), down.parse().unwrap());
        Point { policy_name: "", policy, up, down, size: 1, interval: Duration::ZERO }
    }

    #[test]
    fn by_default_requests_are_spread_over_time_where_losses_depend_on_it_and_nowhere_else() {
        let policy = Backoff::new(Duration::from_millis(500)).with_max_sends(5);
        for link in ["none", "iid:.1+delay:1s", "gilbert:.1,5", "rate:8kbit", "list:1", "blackhole:1,0"] {
            let point = point(link, link, policy.clone());
            assert_eq!((point.default_interval(), point.has_cycle()), (Duration::ZERO, false), "{link}");
        }
        // The policy gives up after 2.5 s, of which 1.5 s is the cycle: one whole cycle and its golden section are
        // 2.43 s.
        let interval = point("blackhole:1,.5", "none", policy.clone()).default_interval();
        assert!((interval.as_secs_f64() - 1.5 * (2.0 + STEP)).abs() < 1e-8, "{interval:?}");
        // The longer of two cycles.
        let interval = point("blackhole:1,.5", "blackhole:10,10+delay:1s", policy).default_interval();
        assert!((interval.as_secs_f64() - 20.0 * STEP).abs() < 1e-8, "{interval:?}");
    }

    #[test]
    fn sessions_are_many_where_only_they_are_independent() {
        let once = || Backoff::new(Duration::from_secs(1));
        for link in ["none", "iid:.1", "iid:.1+delay:20ms,10ms+duplicate:.1"] {
            assert_eq!(point(link, link, once()).default_session_trials(1_000_000, 1_000), 1_000, "{link}");
        }
        for link in ["gilbert:.1,5", "list:1", "rate:1mbit", "blackhole:1,1"] {
            let sessions = |trials| point(link, "none", once()).default_session_trials(trials, 1_000);
            assert_eq!([1, 50, 1_000, 20_000, 1_000_000].map(sessions), [1, 1, 10, 200, 1_000], "{link}");
        }
        let learning = Preset::Rto.backoff();
        assert!(point("iid:.1", "none", learning.clone()).is_independent());
        let bounded = learning.with_deadline(Some(Duration::from_secs(9)));
        assert!(!point("iid:.1", "none", bounded).is_independent());
    }
}
