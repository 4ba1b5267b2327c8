//! Runs an experiment on several threads: the sessions of all points in order, and hands on the tallies in the order
//! of the points.
//!
//! The result does not depend on the number of threads. A session is a function of its point and its seed, tallies add
//! up in any order, and points are handed on in theirs. Memory does not grow with the trials: there is one tally for
//! each point that is in progress or waits for an earlier one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use super::point::Point;
use super::tally::Tally;

/// Runs so many requests in one session at a point, under a seed.
pub(crate) type Session<'a> = &'a (dyn Fn(&Point, u64, u64) -> Result<Tally, String> + Sync);

/// The definition of a run.
#[derive(Clone, Debug)]
pub(crate) struct Experiment {
    /// The points, in the order in which their tallies come.
    pub(crate) points: Vec<Point>,
    /// Requests per point, at least 1.
    pub(crate) trials: u64,
    /// Requests per session, at least 1; the last session of a point may have fewer. `None` means the default of each
    /// point.
    pub(crate) session_trials: Option<u64>,
    /// Bound on the requests per session where none are set, at least 1.
    pub(crate) longest_session: u64,
    /// The seed of everything random.
    pub(crate) seed: u64,
    /// Number of threads, at least 1.
    pub(crate) jobs: usize,
}

/// One finished session: the point's index and the result.
type Finished = (usize, Result<Tally, String>);

impl Experiment {
    /// Returns the number of sessions of all points.
    #[must_use]
    pub(crate) fn sessions(&self) -> u64 {
        self.points.iter().fold(0, |sum: u64, point| sum.saturating_add(self.sessions_at(point)))
    }

    /// Returns the number of requests per session at this point.
    #[must_use]
    pub(crate) fn session_trials_at(&self, point: &Point) -> u64 {
        let natural = || point.default_session_trials(self.trials, self.longest_session);
        self.session_trials.unwrap_or_else(natural).max(1)
    }

    /// Returns the number of sessions at this point.
    #[must_use]
    pub(crate) fn sessions_at(&self, point: &Point) -> u64 {
        self.trials.div_ceil(self.session_trials_at(point))
    }

    /// Returns the ordinal of the first session of each point.
    fn firsts(&self) -> Vec<u64> {
        let first = |next: &mut u64, point: &Point| {
            let first = *next;
            *next = next.saturating_add(self.sessions_at(point));
            Some(first)
        };
        self.points.iter().scan(0, first).collect()
    }

    /// Runs everything. `progress` is called after each session with the number of finished ones; `each` is called
    /// with each point and its tally, in order.
    ///
    /// # Errors
    ///
    /// The first error of a session or of `each`; no further session begins then.
    pub(crate) fn run(
        &self,
        session: Session<'_>,
        progress: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(&Point, &Tally) -> Result<(), String>,
    ) -> Result<(), String> {
        let (next, firsts) = (AtomicU64::new(0), self.firsts());
        let (sender, receiver) = mpsc::sync_channel(2 * self.jobs);
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (sender, next, firsts) = (sender.clone(), &next, firsts.as_slice());
                scope.spawn(move || self.work(session, (next, firsts), &sender));
            }
            drop(sender);
            // If this ends early the receiver is dropped, and with it every worker's next send fails.
            self.collect(receiver, progress, each)
        })
    }

    /// Runs one session after the other until none is left or the receiver is gone.
    fn work(
        &self,
        session: Session<'_>,
        (next, firsts): (&AtomicU64, &[u64]),
        sender: &mpsc::SyncSender<Finished>,
    ) {
        loop {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            let at = firsts.partition_point(|first| *first <= unit).saturating_sub(1);
            let (Some(point), Some(first)) = (self.points.get(at), firsts.get(at)) else { return };
            let (each, ordinal) = (self.session_trials_at(point), unit - first);
            if ordinal >= self.sessions_at(point) {
                return;
            }
            let trials = each.min(self.trials - ordinal * each);
            let tally = session(point, point.session_seed(self.seed, ordinal), trials);
            if sender.send((at, tally)).is_err() {
                return;
            }
        }
    }

    fn collect(
        &self,
        finished: mpsc::Receiver<Finished>,
        progress: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(&Point, &Tally) -> Result<(), String>,
    ) -> Result<(), String> {
        let (mut open, mut through): (BTreeMap<usize, (u64, Tally)>, usize) = (BTreeMap::new(), 0);
        for (count, (at, tally)) in (1..).zip(finished) {
            let (sessions, sum) = open.entry(at).or_default();
            *sessions += 1;
            sum.merge(&tally?);
            progress(count);
            while let (Some(point), Some((sessions, sum))) = (self.points.get(through), open.get(&through)) {
                if *sessions < self.sessions_at(point) {
                    break;
                }
                each(point, sum)?;
                open.remove(&through);
                through += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LinkConfig;
    use crate::reliable::{Backoff, Outcome};
    use std::time::Duration;

    fn experiment(points: usize, trials: u64, session_trials: u64, jobs: usize) -> Experiment {
        let point = |size| Point {
            policy_name: "once",
            policy: Backoff::new(Duration::from_secs(1)),
            up: LinkConfig::perfect(),
            down: LinkConfig::perfect(),
            size,
            interval: Duration::ZERO,
        };
        let (points, session_trials) = ((0..points).map(point).collect(), Some(session_trials));
        Experiment { points, trials, session_trials, longest_session: 1_000, seed: 1, jobs }
    }

    /// All trials are acked. The bytes are a hash of the seeds, so that a missing or repeated session is detected.
    fn pretend(point: &Point, seed: u64, trials: u64) -> Result<Tally, String> {
        let mut tally = Tally::default();
        (0..trials).for_each(|_| tally.count_outcome(&Outcome::Acked(Vec::new())));
        tally.up.bytes = (seed ^ point.size as u64) >> 16;
        Ok(tally)
    }

    fn run(experiment: &Experiment, session: Session<'_>) -> Result<Vec<(usize, Tally)>, String> {
        let (mut rows, mut last) = (Vec::new(), 0);
        experiment.run(session, &mut |through| last = through, &mut |point, tally| {
            rows.push((point.size, tally.clone()));
            Ok(())
        })?;
        assert_eq!(last, experiment.sessions());
        Ok(rows)
    }

    #[test]
    fn every_point_comes_once_in_order_with_all_its_trials_on_any_number_of_threads() {
        let alone = run(&experiment(20, 1_050, 100, 1), &pretend).unwrap();
        assert!(alone.iter().map(|(point, _)| *point).eq(0..20));
        assert!(alone.iter().all(|(_, tally)| tally.trials() == 1_050));
        for jobs in [2, 5, 32] {
            assert_eq!(run(&experiment(20, 1_050, 100, jobs), &pretend).unwrap(), alone);
        }
    }

    #[test]
    fn points_may_have_sessions_of_different_lengths() {
        let mut mixed = experiment(4, 1_050, 1, 3);
        mixed.session_trials = None;
        for (point, link) in mixed.points.iter_mut().zip(["none", "gilbert:.1,5", "iid:.1", "list:1"]) {
            point.up = link.parse().unwrap();
        }
        let lengths: Vec<_> = mixed.points.iter().map(|point| mixed.session_trials_at(point)).collect();
        assert_eq!((lengths, mixed.sessions()), (vec![1_000, 10, 1_000, 10], 2 + 105 + 2 + 105));
        let rows = run(&mixed, &pretend).unwrap();
        assert!(rows.iter().all(|(_, tally)| tally.trials() == 1_050));
        for (point, row) in mixed.points.iter().zip(&rows) {
            let alone = Experiment { points: vec![point.clone()], ..mixed.clone() };
            assert_eq!(run(&alone, &pretend).unwrap()[0], *row, "{point:?}");
        }
    }

    #[test]
    fn a_failed_session_ends_the_run_with_its_reason() {
        let fail = |point: &Point, seed: u64, trials: u64| match point.size {
            7 => Err("no socket".to_owned()),
            _ => pretend(point, seed, trials),
        };
        assert_eq!(run(&experiment(1_000, 10, 1, 3), &fail), Err("no socket".to_owned()));
    }

    #[test]
    fn a_row_that_cannot_be_written_ends_the_run() {
        let mut seen = 0;
        let result = experiment(1_000, 10, 1, 3).run(&pretend, &mut |_| {}, &mut |_, _| {
            seen += 1;
            if seen == 3 { Err("disk full".to_owned()) } else { Ok(()) }
        });
        assert_eq!((result, seen), (Err("disk full".to_owned()), 3));
    }
}
