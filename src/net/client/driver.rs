//! The task that owns the socket of a session: passes requests to the state machine of [`crate::client`], and
//! its events back.
//!
//! Waiting requests and events are in `shared`, the socket is in [`drive`](crate::net::drive).

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::future::{Either, select};

use super::shared::{Ending, QueuedRequest, RequestKind, SessionShared};
use super::{ConnectError, Event};
use crate::client::{self, Client, Closed};
use crate::config::ClientConfig;
use crate::net::ServerAddr;
use crate::net::drive::{Application, Driven};
use crate::reliable::{Ended, Outcome, Ticket};
use crate::units::later;

/// The server address and the settings of the connection.
#[derive(Debug)]
pub(super) struct ConnectPlan {
    pub(super) server: ServerAddr,
    /// The server, as errors show it.
    pub(super) server_name: String,
    pub(super) config: ClientConfig,
    /// Of the jitter; drawn if `None`.
    pub(super) seed: Option<u64>,
    pub(super) max_pending: usize,
}

/// Receives that there is a session, or why there is none.
type Started = oneshot::Sender<Result<(), ConnectError>>;

/// Opens a session and drives it to its end.
pub(super) async fn drive(plan: ConnectPlan, shared: Arc<SessionShared>, started: Started) {
    let mut driver = Driver::new(&plan, shared.clone(), started);
    let opening = Driven::open(&plan.server, plan.config, plan.seed);
    let opened = match select(pin!(opening), pin!(shared.abandoned())).await {
        Either::Left((opened, _)) => opened,
        Either::Right(_) => return,
    };
    match opened {
        Ok(mut driven) => {
            let (closed, source) = driven.run(&mut driver).await;
            driver.end.shared.count(driven.stats());
            // The socket is closed before the end is reported.
            drop(driven);
            driver.report(&closed, source, plan.server_name);
            driver.end.closed = Some(closed);
        }
        Err(source) => driver.fail(ConnectError::Unreachable { server: plan.server_name, source }),
    }
}

struct Driver {
    requests: BTreeMap<Ticket, InFlight>,
    /// Their size, in bytes.
    pending: usize,
    max_pending: usize,
    /// Until there is a session.
    started: Option<Started>,
    is_nameless: bool,
    is_online: bool,
    /// Time limit of an abandoned session for its BYE, and the end of that time.
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
    fn new(plan: &ConnectPlan, shared: Arc<SessionShared>, started: Started) -> Self {
        Self {
            requests: BTreeMap::new(),
            pending: 0,
            max_pending: plan.max_pending,
            started: Some(started),
            is_nameless: plan.config.name.is_none(),
            is_online: false,
            close_timeout: plan.config.policy.ack_timeout(),
            close_by: None,
            end: End { shared, closed: None, closes: Vec::new() },
        }
    }

    /// Reports why there is no session, if there never was one.
    fn report(&mut self, closed: &Closed, source: Option<io::Error>, server: String) {
        self.fail(match closed.clone() {
            Closed::Refused(code, text) => ConnectError::Refused { server, code, text },
            Closed::ServerBye(reason) => ConnectError::Bye { server, reason },
            Closed::Draining(_) => {
                ConnectError::Bye { server, reason: Some("it is shutting down".to_owned()) }
            }
            Closed::Done | Closed::GaveUp | Closed::TakenUp => ConnectError::GaveUp { server, source },
        });
    }

    fn fail(&mut self, error: ConnectError) {
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(error));
        }
    }
}

impl Application for Driver {
    /// Closes the session once all handles are dropped; requests in flight end within the timeout.
    fn handle_wakeup(&mut self, now: Instant, client: &mut Client) {
        match self.close_by {
            None if self.end.shared.is_abandoned() => {
                self.close_by = Some(later(now, self.close_timeout));
                client.close();
            }
            Some(at) if at <= now => client.abort(now, Duration::ZERO),
            _ => {}
        }
    }

    fn on_event(&mut self, now: Instant, _client: &mut Client, event: client::Event) {
        let event = match event {
            client::Event::Connect | client::Event::Disconnect => return self.offline(),
            client::Event::Closed(_) => return,
            client::Event::Registered { resumed } => return self.registered(resumed),
            client::Event::Ended(ended) => return self.answer(ended),
            event => event,
        };
        let Some(event) = Event::from_client(event, now) else { return };
        // `connect` reports failures before there is a session.
        if self.started.is_none() {
            self.end.shared.push(event);
        }
    }

    fn ask(&mut self, _now: Instant, client: &mut Client) -> bool {
        let queued = self.end.shared.take(self.pending, self.max_pending);
        let is_any = queued.is_some();
        queued.into_iter().for_each(|queued| self.take(client, queued));
        is_any
    }

    fn flush(&mut self, client: &Client) {
        if self.is_nameless && client.is_ready() {
            self.registered(false);
        }
        self.end.shared.count(client.stats());
    }

    /// Input beyond the event limit stays with the server. Before there is a session, nothing but an answer is
    /// expected, so reading is not limited.
    fn free(&self, client: &Client) -> usize {
        if client.is_ready() { self.end.shared.free() } else { usize::MAX }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.close_by
    }

    fn changed(&mut self) -> impl Future<Output = ()> {
        self.end.shared.changed()
    }
}

/// Requests.
impl Driver {
    fn take(&mut self, client: &mut Client, queued: QueuedRequest) {
        let size = queued.size();
        match queued {
            QueuedRequest::Request(what, answer) => {
                let ticket = request(client, what);
                self.pending += size;
                self.requests.insert(ticket, InFlight { size, answer });
            }
            QueuedRequest::Close(answer) => {
                if self.end.closes.is_empty() {
                    client.close();
                }
                self.end.closes.push(answer);
            }
        }
    }

    fn answer(&mut self, ended: Ended) {
        let Some(pending) = self.requests.remove(&ended.ticket) else { return };
        self.pending -= pending.size;
        // The caller may have dropped its future.
        let _ = pending.answer.send(ended.outcome);
    }
}

/// Events.
impl Driver {
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

fn request(client: &mut Client, what: RequestKind) -> Ticket {
    match what {
        RequestKind::Send { target, body } => client.send(&target, &body),
        RequestKind::Join(room) => client.join(&room),
        RequestKind::Leave(room) => client.leave(&room),
        RequestKind::List(room) => client.list(room.as_deref()),
        RequestKind::Ping => client.ping(),
    }
}
