//! One point of an experiment: everything that a row of results is about.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::link::LinkConfig;
use crate::reliable::Backoff;

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
        hasher.write(format!("{self:?}").as_bytes());
        hasher.finish()
    }
}
