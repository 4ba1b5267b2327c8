//! Jobs and workers: the assignment of jobs, and the job of a worker that vanishes.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use sayagain::host::Settings;
use sayagain::net::Core;
use sayagain::net::core::Event;
use sayagain::service::ConnId;

use super::{start, wait_for};
use crate::support::STEP_TIMEOUT;
use crate::support::program::Program;

/// The program, and its URL.
fn boss() -> (Program, String) {
    let program = start("manager", &["msg://127.0.0.1:0"]);
    let url = wait_for(&program, "listening on ");
    (program, url)
}

/// The result of connecting to the boss under this name.
fn call(url: &str, settings: Settings) -> (Core, Event) {
    let mut core = Core::new(settings).unwrap();
    core.connect(url).unwrap();
    let event = core.poll(Some(STEP_TIMEOUT)).unwrap().next().expect("something comes of it");
    (core, event)
}

/// A peer that the boss expects.
struct Member {
    core: Core,
    boss: ConnId,
}

impl Member {
    fn join(url: &str, name: &str) -> Self {
        match call(url, Settings::default().name(name).unwrap()) {
            (core, Event::Expected(boss)) => Self { core, boss },
            (_, other) => panic!("{name}: {other:?}"),
        }
    }

    fn say(&mut self, text: &str) {
        self.core.send(self.boss, text.as_bytes()).unwrap();
        self.poll(Duration::ZERO);
    }

    /// Writes what is to be written, and reads what comes in that time.
    fn poll(&mut self, time: Duration) -> bool {
        self.core.poll(Some(time)).unwrap().count() > 0
    }

    fn heard(&mut self) -> Option<String> {
        self.core.recv(self.boss).map(|piece| String::from_utf8(piece.to_vec()).unwrap())
    }

    /// Waits for the next piece.
    fn next(&mut self) -> String {
        loop {
            if let Some(piece) = self.heard() {
                return piece;
            }
            assert!(self.poll(STEP_TIMEOUT), "no piece came in time");
        }
    }
}

#[test]
fn every_result_comes_back_to_the_manager_once_and_both_workers_have_a_part() {
    let (_program, url) = boss();
    let mut workers = ["worker-1", "worker-2"].map(|name| Member::join(&url, name));
    let mut manager = Member::join(&url, "manager");
    let (mut results, mut parts) = (Vec::new(), [0; 2]);
    (0..100).for_each(|job| manager.say(&format!("{job}")));
    while results.len() < 100 {
        for (worker, part) in workers.iter_mut().zip(&mut parts) {
            worker.poll(Duration::from_millis(1));
            if let Some(job) = worker.heard() {
                assert_eq!(worker.heard(), None, "one job at a time");
                worker.say(&format!("done {job}"));
                *part += 1;
            }
        }
        manager.poll(Duration::from_millis(1));
        results.extend(std::iter::from_fn(|| manager.heard()));
    }
    let expected: BTreeSet<String> = (0..100).map(|job| format!("done {job}")).collect();
    assert_eq!(results.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(parts.iter().all(|part| *part > 0) && parts.iter().sum::<u32>() == 100, "{parts:?}");
    assert!(manager.heard().is_none());
}

#[test]
fn the_job_of_a_worker_that_vanishes_is_done_by_another() {
    let (_program, url) = boss();
    let mut manager = Member::join(&url, "manager");
    let mut first = Member::join(&url, "worker-1");
    manager.say("dig");
    assert_eq!(first.next(), "dig");
    drop(first);
    let mut second = Member::join(&url, "worker-2");
    assert_eq!(second.next(), "dig");
    second.say("dug");
    assert_eq!(manager.next(), "dug");
    manager.say("fill");
    assert_eq!(second.next(), "fill");
}

#[test]
fn jobs_wait_for_the_first_worker_and_results_for_the_manager_to_come_back() {
    let (_program, url) = boss();
    let mut manager = Member::join(&url, "manager");
    manager.say("dig");
    assert!(manager.core.shutdown(STEP_TIMEOUT).unwrap());
    let mut worker = Member::join(&url, "worker-1");
    assert_eq!(worker.next(), "dig");
    worker.say("dug");
    assert_eq!(Member::join(&url, "manager").next(), "dug");
}

#[test]
fn an_unexpected_peer_is_refused() {
    let (_program, url) = boss();
    for settings in [Settings::default().name("eve").unwrap(), Settings::default()] {
        match call(&url, settings) {
            (_, Event::Failed(_, error)) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
            (_, other) => panic!("{other:?}"),
        }
    }
}
