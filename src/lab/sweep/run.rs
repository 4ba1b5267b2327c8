//! Runs an experiment on several threads: the sessions of all points in order, the tallies of points in order.
//!
//! What comes out does not depend on the number of threads: a session is a function of its point and its seed, tallies
//! add up in any order, and points are handed on in theirs. What is kept does not grow with the trials: a tally for each point
//! that is under way, or waits for one before it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use super::point::Point;
use super::tally::Tally;

/// Runs so many requests in one session at a point, under a seed.
pub type Session<'a> = &'a (dyn Fn(&Point, u64, u64) -> Result<Tally, String> + Sync);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The points, in the order in which their tallies come.
    pub points: Vec<Point>,
    /// Requests per point, at least 1.
    pub trials: u64,
    /// Requests per session, at least 1; the last session of a point may have fewer.
    pub session_trials: u64,
    /// What everything random follows from.
    pub seed: u64,
    /// How many threads, at least 1.
    pub jobs: usize,
}

/// One finished session: which point, and what came of it.
type Finished = (usize, Result<Tally, String>);

impl Experiment {
    /// How many sessions there are in all.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions_per_point().saturating_mul(self.points.len() as u64)
    }

    fn sessions_per_point(&self) -> u64 {
        self.trials.div_ceil(self.session_trials)
    }

    /// Runs everything; `progress` is called after each session with the number of those that are through, `each` with each point and its
    /// tally, in the order of the points.
    ///
    /// # Errors
    ///
    /// The first error of a session or of `each`; nothing more is begun then.
    pub fn run(
        &self,
        session: Session<'_>,
        progress: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(&Point, &Tally) -> Result<(), String>,
    ) -> Result<(), String> {
        let next = AtomicU64::new(0);
        let (sender, receiver) = mpsc::sync_channel(2 * self.jobs);
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || self.work(session, next, &sender));
            }
            drop(sender);
            // If this ends early the receiver is dropped, and with it every worker's next send fails.
            self.collect(receiver, progress, each)
        })
    }

    /// Takes one session after the other until none is left or nobody listens.
    fn work(&self, session: Session<'_>, next: &AtomicU64, sender: &mpsc::SyncSender<Finished>) {
        loop {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            let (at, ordinal) = (unit / self.sessions_per_point(), unit % self.sessions_per_point());
            let Some((at, point)) = usize::try_from(at).ok().and_then(|at| Some((at, self.points.get(at)?)))
            else {
                return;
            };
            let trials = self.session_trials.min(self.trials - ordinal * self.session_trials);
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
            while let Some((_, sum)) =
                open.get(&through).filter(|(sessions, _)| *sessions == self.sessions_per_point())
            {
                if let Some(point) = self.points.get(through) {
                    each(point, sum)?;
                }
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
        };
        Experiment { points: (0..points).map(point).collect(), trials, session_trials, seed: 1, jobs }
    }

    /// All trials acked; the bytes are a hash of the seeds, so that a session that is missing or twice would be noticed.
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
