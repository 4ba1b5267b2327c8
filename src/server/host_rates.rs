//! Rate limits per host: one token bucket for all peers of a [`Host`] on a listener that has such a limit.
//!
//! Only buckets that are not full are stored, at most [`MAX_BUCKETS`] of them. The limits per peer are in
//! `rate_limit`.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::hosts::Host;
use super::{Owner, Server};
use crate::rates::{Bucket, Rate};
use crate::service::{ListenerId, Origin};
use crate::units::later;

/// The most buckets at once, about 6 MiB. Further hosts share one bucket per listener.
pub(super) const MAX_BUCKETS: usize = 1 << 16;

/// Interval at which a bucket is checked for being full: each holds one second's worth.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The most buckets that are checked at once.
const MAX_CHECKED: usize = 1_024;

/// The listener and host of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    listener: ListenerId,
    /// `None` for the bucket that hosts share when there are too many.
    host: Option<Host>,
}

/// The buckets that are not full.
#[derive(Debug, Default)]
pub(super) struct HostRates {
    buckets: HashMap<Key, Bucket>,
    /// All of them by the time of their next check, the earliest first.
    queue: VecDeque<(Instant, Key)>,
}

impl HostRates {
    /// Returns how many buckets there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Returns the key of a host's bucket, or of the shared one when there is no room for another.
    fn key(&self, listener: ListenerId, host: Host) -> Key {
        let own = Key { listener, host: Some(host) };
        if self.buckets.len() < MAX_BUCKETS || self.buckets.contains_key(&own) {
            return own;
        }
        Key { listener, host: None }
    }

    /// Returns how long until a message of `bytes` bytes conforms.
    fn wait(&self, now: Instant, listener: ListenerId, host: Host, bytes: usize) -> Duration {
        let bucket = self.buckets.get(&self.key(listener, host));
        // A missing bucket is full, and a full one takes any message.
        bucket.map_or(Duration::ZERO, |bucket| bucket.wait(now, bytes))
    }

    /// Takes the tokens of a message, even if that overdraws the bucket. Returns the time of the bucket's first check
    /// if it is new.
    fn take(
        &mut self,
        now: Instant,
        (listener, rate): (ListenerId, Rate),
        host: Host,
        bytes: usize,
    ) -> Option<Instant> {
        let key = self.key(listener, host);
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.take(now, bytes);
            return None;
        }
        let mut bucket = Bucket::new(rate);
        bucket.take(now, bytes);
        self.buckets.insert(key, bucket);
        let at = later(now, CHECK_INTERVAL);
        self.queue.push_back((at, key));
        Some(at)
    }

    /// Removes full buckets among those whose check is due.
    fn forget(&mut self, now: Instant) {
        for _ in 0..MAX_CHECKED {
            let Some((_, key)) = self.queue.pop_front_if(|(at, _)| *at <= now) else { return };
            if self.buckets.get(&key).is_some_and(|bucket| !bucket.is_full(now)) {
                self.queue.push_back((later(now, CHECK_INTERVAL), key));
            } else {
                self.buckets.remove(&key);
            }
        }
    }

    /// Returns the time of the next check.
    fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }
}

/// The debt of a stream connection to its host's bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HostTokens {
    /// Nothing: its listener has no limit per host, or the peer is on this machine.
    #[default]
    Unlimited,
    /// Each frame takes its tokens when it is executed.
    PerFrame,
    /// The tokens of its next frame are taken; the frame waits until they would have come.
    Reserved,
}

impl Server {
    /// Returns the limit per host for peers of this origin, and their host.
    pub(super) fn host_rate(&self, origin: &Origin) -> Option<(Rate, Host)> {
        let rate = self.listener(origin.listener)?.rate_per_host;
        (rate != Rate::UNLIMITED).then_some(())?;
        Some((rate, Host::of(origin.from)?))
    }

    /// Returns what a new connection of this origin owes its host's bucket.
    pub(super) fn host_tokens(&self, origin: &Origin) -> HostTokens {
        if self.host_rate(origin).is_some() { HostTokens::PerFrame } else { HostTokens::Unlimited }
    }

    /// Returns how long until the bucket of a peer's host has the tokens for a message of `bytes` bytes.
    pub(super) fn host_wait(&self, now: Instant, origin: &Origin, bytes: usize) -> Duration {
        let limited = self.host_rate(origin);
        limited.map_or(Duration::ZERO, |(_, host)| self.host_rates.wait(now, origin.listener, host, bytes))
    }

    /// Takes the tokens of a message from the bucket of a peer's host.
    pub(super) fn take_of_host(&mut self, now: Instant, origin: &Origin, bytes: usize) {
        let Some((rate, host)) = self.host_rate(origin) else { return };
        if let Some(at) = self.host_rates.take(now, (origin.listener, rate), host, bytes) {
            self.timers.advance(Owner::HostRates, at);
        }
    }

    /// Takes the tokens of a message that has to wait for them, so that later messages wait behind it. Returns the
    /// wait; without one, takes nothing.
    pub(super) fn reserve_of_host(
        &mut self,
        now: Instant,
        origin: &Origin,
        bytes: usize,
    ) -> Option<Duration> {
        let wait = Some(self.host_wait(now, origin, bytes)).filter(|wait| !wait.is_zero())?;
        self.take_of_host(now, origin, bytes);
        Some(wait)
    }

    /// Removes buckets that are full again.
    pub(super) fn forget_host_rates(&mut self, now: Instant) {
        self.host_rates.forget(now);
        self.timers.set(Owner::HostRates, self.host_rates.next());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn host(n: u32) -> Host {
        Host::V4(Ipv4Addr::from(n))
    }

    #[test]
    fn hosts_beyond_the_bound_share_one_bucket_and_those_that_have_one_keep_it() {
        let (now, limit, mut rates) = (start(), (0, Rate::messages(2)), HostRates::default());
        let most = u32::try_from(MAX_BUCKETS).unwrap();
        for n in 0..most {
            rates.take(now, limit, host(n), 1);
        }
        for n in most..most + 3 {
            rates.take(now, limit, host(n), 1);
        }
        assert_eq!(rates.len(), MAX_BUCKETS + 1);
        assert!(!rates.wait(now, 0, host(most + 9), 1).is_zero(), "the shared bucket is empty");
        assert!(rates.wait(now, 0, host(7), 1).is_zero(), "its own has one token left");
        rates.take(now, limit, host(7), 1);
        assert!(!rates.wait(now, 0, host(7), 1).is_zero());
        assert_eq!(rates.len(), MAX_BUCKETS + 1);
        let mut at = now;
        while let Some(next) = rates.next() {
            at = next;
            rates.forget(at);
        }
        assert_eq!((rates.len(), rates.queue.len()), (0, 0));
        assert!(at <= now + 3 * CHECK_INTERVAL);
    }

    #[test]
    fn a_bucket_is_forgotten_when_it_is_full_again_and_not_before() {
        let (now, limit, mut rates) = (start(), (3, Rate::messages(2)), HostRates::default());
        let at = |millis| now + Duration::from_millis(millis);
        assert_eq!(rates.take(now, limit, host(1), 1), Some(at(1_000)));
        assert_eq!(rates.take(at(900), limit, host(1), 1), None);
        rates.forget(at(1_000));
        assert_eq!((rates.len(), rates.next()), (1, Some(at(2_000))), "half a second is missing");
        assert_eq!(rates.wait(at(1_000), 4, host(1), 1), Duration::ZERO, "another listener has another");
        rates.forget(at(2_000));
        assert_eq!((rates.len(), rates.next()), (0, None));
    }
}
