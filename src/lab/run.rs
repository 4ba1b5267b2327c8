//! Runs an experiment on several threads: the sessions of all points in order, the tallies of points in order.
//!
//! What comes out does not depend on the number of threads: a session is a function of its point and its seed, tallies
//! add up in any order, and points are handed on in theirs. What is kept is bounded by the points that are under way.

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
