//! A job queue with named workers on a handler: `job_queue msg://127.0.0.1:7000`. A peer named `worker-..` gets one job
//! at a time, and answers with its result. Any other peer sends jobs, and gets the result of each.
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use sayagain::host::{Context, Handler, Settings};
use sayagain::{net::Engine, service::CloseReason, service::ConnId};

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(ConnId, Bytes)>,
    idle: VecDeque<ConnId>,
    at_work: HashMap<ConnId, (ConnId, Bytes)>,
}

impl Queue {
    fn assign(&mut self, cx: &mut Context<'_>) {
        let Some((worker, (_, job))) = self.idle.front().zip(self.waiting.front()) else { return };
        if cx.share(*worker, job).is_ok() {
            self.at_work.extend(self.idle.pop_front().zip(self.waiting.pop_front()));
        }
    }
}

impl Handler for Queue {
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.idle.extend(cx.peer(conn).filter(|peer| peer.expected()).map(|_| conn));
        self.assign(cx);
    }

    fn message(&mut self, cx: &mut Context<'_>, conn: ConnId, message: Bytes) {
        if let Some((client, _)) = self.at_work.remove(&conn) {
            cx.share(client, &message).unwrap_or_else(|_| cx.abort(client)); // It does not read.
            cx.release(client);
            self.idle.push_back(conn);
        } else if cx.peer(conn).is_some_and(|peer| !peer.expected()) {
            cx.hold(conn); // If it closes its side now, it still gets the result.
            self.waiting.push_back((conn, message));
        }
        self.assign(cx);
    }

    fn closed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: CloseReason) {
        self.idle.retain(|worker| *worker != conn);
        let Some(job) = self.at_work.remove(&conn) else { return };
        let name = cx.peer(conn).and_then(|peer| peer.name()).unwrap_or_default();
        println!("{name} is gone ({why}), and its job waits for another worker");
        self.waiting.push_front(job);
        self.assign(cx);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "msg://127.0.0.1:7000".to_owned());
    let engine = Engine::host(&[&url], Settings::default().expect("worker-*")?, Queue::default())?;
    println!("listening on {}", engine.listen_addrs()[0]);
    engine.wait().then_some(()).ok_or_else(|| "a part of it has panicked".into())
}
