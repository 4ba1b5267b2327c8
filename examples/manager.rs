//! A manager sends jobs, named workers do them: a core with expected peers, turned by hand.
//! `manager msg://127.0.0.1:7000`; who connects as `manager` sends jobs, who connects as `worker-..` gets them one at a time.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::collections::{HashMap, VecDeque};
use std::env;
use std::error::Error;

use bytes::Bytes;
use sayagain::host::Settings;
use sayagain::net::Core;
use sayagain::net::core::Event;
use sayagain::service::ConnId;

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Bytes>,
    idle: VecDeque<ConnId>,
    at_work: HashMap<ConnId, Bytes>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "msg://127.0.0.1:7000".to_owned());
    let settings =
        Settings::default().name("boss")?.expect("manager")?.expect("worker-*")?.only_expected(true);
    let mut core = Core::new(settings)?;
    for place in core.listen(&url)? {
        println!("listening on {place}");
    }
    let mut jobs = Jobs::default();
    loop {
        for event in core.poll(None)? {
            jobs.take(&mut core, event);
        }
        while let (Some(worker), Some(job)) = (jobs.idle.front().copied(), jobs.waiting.front().cloned()) {
            jobs.idle.pop_front();
            if core.share(worker, &job).is_ok() {
                jobs.at_work.extend(jobs.waiting.pop_front().map(|job| (worker, job)));
            }
        }
    }
}

impl Jobs {
    fn take(&mut self, core: &mut Core, event: Event) {
        match event {
            Event::Expected(id) if core.name(id).as_deref() != Some("manager") => self.idle.push_back(id),
            Event::Readable(id) if core.name(id).as_deref() == Some("manager") => {
                self.waiting.extend(std::iter::from_fn(|| core.recv(id)));
            }
            Event::Readable(id) => {
                let (Some(result), Some(_)) = (core.recv(id), self.at_work.remove(&id)) else { return };
                self.idle.push_back(id);
                if let Some(Err(error)) = core.find("manager").map(|manager| core.share(manager, &result)) {
                    eprintln!("a result is lost: {error}");
                }
            }
            // What a worker takes with it, another one does.
            Event::Disconnected(id, _) => self.waiting.extend(self.at_work.remove(&id)),
            _ => {}
        }
    }
}
