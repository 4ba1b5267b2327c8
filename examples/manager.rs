//! Job distribution with a polled core and expected peers: `manager msg://127.0.0.1:7000`.
//! A peer named `manager` sends jobs and gets results; a peer named `worker-..` gets one job at a time.
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::collections::{HashMap, VecDeque};
use std::{env, error::Error, iter::from_fn};

use bytes::Bytes;
use sayagain::net::{Core, core::Event};
use sayagain::{host::Settings, service::ConnId};

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Bytes>,
    idle: VecDeque<ConnId>,
    at_work: HashMap<ConnId, Bytes>,
    results: VecDeque<Bytes>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "msg://127.0.0.1:7000".to_owned());
    let settings = Settings::default().name("boss")?.expect("manager")?.expect("worker-*")?;
    let mut core = Core::new(settings.only_expected(true))?;
    core.listen(&url)?.iter().for_each(|place| println!("listening on {place}"));
    let mut jobs = Jobs::default();
    loop {
        core.poll(None)?.for_each(|event| jobs.take(&mut core, event));
        // A job without a free worker stays queued.
        while let (Some(worker), Some(job)) = (jobs.idle.front(), jobs.waiting.front())
            && core.share(*worker, job).is_ok()
        {
            jobs.at_work.extend(jobs.idle.pop_front().zip(jobs.waiting.pop_front()));
        }
        while let (Some(manager), Some(result)) = (core.find("manager"), jobs.results.front())
            && core.share(manager, result).is_ok()
        {
            jobs.results.pop_front();
        }
    }
}

impl Jobs {
    fn take(&mut self, core: &mut Core, event: Event) {
        let manager = core.find("manager");
        match event {
            Event::Expected(id) if manager != Some(id) => self.idle.push_back(id),
            Event::Readable(id) if manager == Some(id) => self.waiting.extend(from_fn(|| core.recv(id))),
            Event::Readable(id) if self.at_work.remove(&id).is_some() => {
                self.results.extend(core.recv(id));
                self.idle.push_back(id);
            }
            Event::Disconnected(id, _) => {
                self.idle.retain(|idle| *idle != id);
                // The job of a disconnected worker is given to another one.
                self.waiting.extend(self.at_work.remove(&id));
            }
            _ => {}
        }
    }
}
