//! The task that owns the socket of a session: passes requests to the state machine of [`crate::client`], and
//! its events back.
//!
//! Waiting requests and events are in `shared`, the socket is in [`drive`](crate::net::drive).

#![expect(clippy::disallowed_types, reason = "drivers own the source of nonces")]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{FutureExt as _, select_biased};
use rand::Rng as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use super::shared::{Ending, QueuedRequest, RequestKind, SessionShared};
use super::{ConnectError, Event};
use crate::client::{self, Client, Closed};
use crate::config::ClientConfig;
use crate::net::drive::{ClientTransport, Driven};
use crate::net::rt;
use crate::reliable::{Ended, Outcome, Ticket};
use crate::service::Target;
use crate::units::later;

/// What to connect to, and how.
#[derive(Debug)]
pub(super) struct ConnectPlan {
    /// The server, as it is shown.
    pub(super) place: String,
    pub(super) server_addr: ServerAddr,
    pub(super) config: ClientConfig,
    /// Of the jitter; drawn if `None`.
    pub(super) seed: Option<u64>,
    pub(super) max_pending: usize,
}

/// The address of the server, and the transport to it.
#[derive(Debug)]
pub(super) enum ServerAddr {
    Stream(Target),
    Datagrams((String, u16)),
}

/// Receives that there is a session, or why there is none.
type Started = oneshot::Sender<Result<(), ConnectError>>;

/// Opens a session and drives it to its end.
pub(super) async fn drive(plan: ConnectPlan, shared: Arc<SessionShared>, started: Started) {
    let transport = match &plan.server_addr {
        ServerAddr::Stream(addr) => Ok(ClientTransport::stream(addr.clone())),
        ServerAddr::Datagrams((host, port)) => {
            let transport = ClientTransport::datagrams(host, *port, plan.config.policy.ack_timeout());
            match select(pin!(transport), pin!(shared.abandoned())).await {
                Either::Left((transport, _)) => transport,
                Either::Right(_) => return,
            }
        }
    };
    match transport {
        Ok(transport) => Driver::new(plan, transport, shared, started).run().await,
        Err(source) => drop(started.send(Err(ConnectError::NoWay { place: plan.place, source }))),
    }
}

struct Driver {
    // Dropped in this order: the socket is closed before the end is reported.
    driven: Driven,
    requests: BTreeMap<Ticket, InFlight>,
    /// Their size, in bytes.
    pending: usize,
    max_pending: usize,
    place: String,
    /// Until there is a session.
    started: Option<Started>,
    is_nameless: bool,
    is_online: bool,
    /// How long an abandoned session has for its BYE, and the end of that time.
    close_timeout: Duration,
    close_by: Option<Instant>,
    end: End,
}

/// A request that was taken and has not ended.
struct InFlight {
    size: usize,
    answer: oneshot::Sender<Outcome>,
}

/// Reports the end of the session, also if the driver panics.
struct End {
    shared: Arc<SessionShared>,
    closed: Option<Closed>,
    closes: Vec<oneshot::Sender<Ending>>,
}

impl Drop for End {
    fn drop(&mut self) {
        let ending = self.shared.finish(self.closed.take().unwrap_or(Closed::GaveUp));
        for close in self.closes.drain(..) {
            let _ = close.send(ending.clone());
        }
    }
}

impl Driver {
    fn new(
        plan: ConnectPlan,
        transport: ClientTransport,
        shared: Arc<SessionShared>,
        started: Started,
    ) -> Self {
        let (close_timeout, is_nameless) = (plan.config.policy.ack_timeout(), plan.config.name.is_none());
        let seed = plan.seed.unwrap_or_else(|| UnwrapErr(SysRng).next_u64());
        let client = Client::new(rt::now(), plan.config, seed, Box::new(UnwrapErr(SysRng)));
        Self {
            driven: Driven::new(client, transport),
            requests: BTreeMap::new(),
            pending: 0,
            max_pending: plan.max_pending,
            place: plan.place,
            started: Some(started),
            is_nameless,
            is_online: false,
            close_timeout,
            close_by: None,
            end: End { shared, closed: None, closes: Vec::new() },
        }
    }

    async fn run(mut self) {
        while self.end.closed.is_none() {
            let now = rt::now();
            self.driven.step(now, self.reads());
            self.close_if_abandoned(now);
            while self.step(now).await {}
            self.driven.write();
            if self.is_nameless && self.driven.client.is_ready() {
                self.registered(false);
            }
            self.end.shared.count(self.driven.client.stats());
            if self.end.closed.is_none() {
                self.wait(now).await;
            }
        }
        self.finish().await;
    }

    /// How many reads are allowed: input beyond the event limit stays with the server. Before there is a
    /// session, nothing but an answer is expected, so reading is not limited.
    fn reads(&self) -> usize {
        if self.driven.client.is_ready() {
            ClientTransport::reads_within(self.end.shared.free())
        } else {
            usize::MAX
        }
    }

    /// Does one piece of what needs no waiting. Returns whether there was one.
    async fn step(&mut self, now: Instant) -> bool {
        if let Some(event) = self.driven.poll() {
            self.handle_event(now, event);
            return true;
        }
        if let Some(asked) = self.end.shared.take(self.pending, self.max_pending) {
            self.ask(asked);
            return true;
        }
        self.driven.transmit(now).await
    }

    async fn wait(&mut self, now: Instant) {
        let deadline = [self.driven.deadline(now), self.close_by].into_iter().flatten().min();
        let is_reading = self.reads() > 0;
        let shared = &self.end.shared;
        select_biased! {
            () = Box::pin(shared.changed()).fuse() => (),
            () = Box::pin(self.driven.ready(is_reading)).fuse() => (),
            () = Box::pin(rt::until(deadline)).fuse() => (),
        }
    }

    async fn finish(mut self) {
        let source = self.driven.finish().await;
        self.end.shared.count(self.driven.client.stats());
        if let (Some(started), Some(closed)) = (self.started.take(), &self.end.closed) {
            let place = std::mem::take(&mut self.place);
            let _ = started.send(Err(match closed.clone() {
                Closed::Refused(code, text) => ConnectError::Refused { place, code, text },
                Closed::ServerBye(words) => ConnectError::Goodbye { place, words },
                Closed::Draining(_) => {
                    ConnectError::Goodbye { place, words: Some("it is shutting down".to_owned()) }
                }
                Closed::Done | Closed::GaveUp | Closed::TakenUp => ConnectError::GaveUp { place, source },
            }));
        }
    }
}

/// Requests.
impl Driver {
    fn ask(&mut self, asked: QueuedRequest) {
        let size = asked.size();
        match asked {
            QueuedRequest::Request(what, answer) => {
                let ticket = self.request(what);
                self.pending += size;
                self.requests.insert(ticket, InFlight { size, answer });
            }
            QueuedRequest::Close(answer) => {
                if self.end.closes.is_empty() {
                    self.driven.client.close();
                }
                self.end.closes.push(answer);
            }
        }
    }

    fn request(&mut self, what: RequestKind) -> Ticket {
        let client = &mut self.driven.client;
        match what {
            RequestKind::Send { target, body } => client.send(&target, &body),
            RequestKind::Join(room) => client.join(&room),
            RequestKind::Leave(room) => client.leave(&room),
            RequestKind::List(room) => client.list(room.as_deref()),
            RequestKind::Ping => client.ping(),
        }
    }

    fn answer(&mut self, ended: Ended) {
        let Some(pending) = self.requests.remove(&ended.ticket) else { return };
        self.pending -= pending.size;
        // The caller may have dropped its future.
        let _ = pending.answer.send(ended.outcome);
    }

    /// Closes the session once all handles are dropped; requests in flight end within the timeout.
    fn close_if_abandoned(&mut self, now: Instant) {
        match self.close_by {
            None if self.end.shared.is_abandoned() => {
                self.close_by = Some(later(now, self.close_timeout));
                self.driven.client.close();
            }
            Some(at) if at <= now => self.driven.client.abort(now, Duration::ZERO),
            _ => {}
        }
    }
}

/// Events.
impl Driver {
    fn handle_event(&mut self, now: Instant, event: client::Event) {
        let event = match event {
            client::Event::Connect | client::Event::Disconnect => return self.offline(),
            client::Event::CheckPath { .. } => return,
            client::Event::Registered { resumed } => return self.registered(resumed),
            client::Event::Ended(ended) => return self.answer(ended),
            client::Event::Closed(why) => return self.end.closed = Some(why),
            client::Event::SessionLost => Event::SessionLost,
            client::Event::Draining { again_at } => {
                Event::Draining { wait: again_at.saturating_duration_since(now) }
            }
            client::Event::NameTaken { again_at } => {
                Event::NameTaken { wait: again_at.saturating_duration_since(now) }
            }
            client::Event::Message { sender, body } => message(sender, body),
            client::Event::Gap(count) => Event::Gap(count),
            client::Event::Retry(sent) => Event::Retry { verb: sent.verb, sends: sent.sends },
            client::Event::SlowDown(asked) => {
                let wait = asked.again_at.saturating_duration_since(now);
                Event::SlowDown { verb: asked.verb, wait }
            }
        };
        // `connect` reports failures before there is a session.
        if self.started.is_none() {
            self.end.shared.push(event);
        }
    }

    fn registered(&mut self, resumed: bool) {
        let was_online = std::mem::replace(&mut self.is_online, true);
        match self.started.take() {
            // The caller may have dropped its future.
            Some(started) => drop(started.send(Ok(()))),
            None if self.is_nameless && was_online => {}
            None => self.end.shared.push(Event::Registered { resumed }),
        }
    }

    fn offline(&mut self) {
        if std::mem::take(&mut self.is_online) {
            self.end.shared.push(Event::Offline);
        }
    }
}

/// `sender` is `name` or `name#room`.
fn message(sender: Vec<u8>, body: Vec<u8>) -> Event {
    let mut sender = String::from_utf8(sender)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    let room = sender.find('#').map(|at| sender.split_off(at));
    Event::Message { sender, room, body }
}
