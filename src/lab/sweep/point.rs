//! One point of an experiment: everything that a row of results is about.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::link::LinkConfig;
use crate::reliable::{Backoff, Growth};

/// A policy under a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The name that the policy goes by.
    pub policy_name: &'static str,
    /// When requests are sent, and when they are given up.
    pub policy: Backoff,
    /// The network to the server.
    pub up: LinkConfig,
    /// The network from it.
    pub down: LinkConfig,
    /// The length of the message that a request carries, in bytes.
    pub size: usize,
}

impl Point {
    /// The seed of a session at this point: a function of the experiment's seed, of what the point is, and of the
    /// session's ordinal, so that a point gives the same row in whatever experiment it occurs.
    #[must_use]
    pub fn session_seed(&self, seed: u64, session: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(seed, session);
        hasher.write(self.identity().as_bytes());
        hasher.finish()
    }

    /// All that decides what happens, as a text. Changing it changes every result; the name of a policy is not in it.
    fn identity(&self) -> String {
        let Self { policy, up, down, size, .. } = self;
        let growth = match policy.growth() {
            Growth::Fixed => "fixed".to_owned(),
            Growth::Linear => "linear".to_owned(),
            Growth::Exponential { factor } => format!("exponential:{factor}"),
        };
        let nanos =
            [policy.ack_timeout(), policy.max_timeout(), policy.min_rto()].map(|time| time.as_nanos());
        let deadline = policy.deadline().map_or(0, |deadline| deadline.as_nanos());
        let (sends, adaptive, jitter) = (policy.max_sends(), policy.adaptive(), policy.jitter());
        format!(
            "sayagain point v1|{up}|{down}|{size}|{growth}|{jitter}|{nanos:?}|{deadline}|{sends}|{adaptive}"
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
        let point = Point { policy_name: "coap", policy: Preset::Coap.backoff(), up, down, size: 32 };
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
    }
}
