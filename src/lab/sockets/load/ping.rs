//! Pings, one at a time from each client: `lab load ping`. `idle` uses them too.

use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::sockets::{ANSWER_TIMEOUT, enter_nonblocking};
use super::target_server::TargetServer;
use super::timed_poll::{TICK, TimedPoll};
use super::{Interrupt, LoadError};
use crate::lab::load::byte_pattern::BytePattern;
use crate::lab::load::end::End;
use crate::lab::load::group::Wrong;
use crate::lab::load::latencies::Latencies;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::{Client, Peer, Role};
use crate::lab::load::schedule::Schedule;

/// The clients, rate and end of a run.
#[derive(Clone, Debug)]
pub(crate) struct PingPlan {
    /// The clients' names.
    pub(crate) names: Vec<String>,
    /// Pings per second of all clients together; `None` means each follows the answer to the one before.
    pub(crate) rate: Option<f64>,
    /// The end of the run.
    pub(crate) end: End,
}

/// Runs the workload and measures it.
///
/// # Errors
///
/// Whatever makes the run fail, for instance bytes that differ from the expected ones.
pub(crate) fn run(
    target: &TargetServer,
    peer: &dyn Peer,
    plan: &PingPlan,
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
) -> Result<(), LoadError> {
    let mut pings = Pings::enter(target, peer, &plan.names, interrupt)?;
    let meter = target.meter();
    pings.run(plan.rate, plan.end, meter.begun, interrupt)?;
    meter.read_into(outcome, pings.last);
    outcome.count = pings.clients.iter().map(|client| client.answered).sum();
    outcome.acks = std::mem::take(&mut pings.acks);
    (outcome.lost, outcome.latencies) = pings.end();
    Ok(())
}

#[derive(Debug)]
struct Asker {
    stream: TcpStream,
    name: String,
    sent: u64,
    /// Number of pings to send.
    goal: u64,
    answered: u64,
    /// Time at which the unanswered ping was sent, or due.
    since: Option<Instant>,
    /// Time at which it was sent.
    sent_at: Instant,
    /// The expected answers.
    answers: BytePattern,
}

pub(super) struct Pings {
    waiting: TimedPoll,
    clients: Vec<Asker>,
    ping: Vec<u8>,
    /// Times from when pings were due, or sent if there is no rate.
    latencies: Latencies,
    /// With a rate, times from when pings were sent.
    acks: Latencies,
    /// Unanswered pings.
    open: usize,
    /// Time of the last answer.
    last: Instant,
    /// Time of the last write or read.
    alive: Instant,
    buffer: Vec<u8>,
}

impl Pings {
    /// Connects all clients, one after the other.
    pub(super) fn enter(
        target: &TargetServer,
        peer: &dyn Peer,
        names: &[String],
        interrupt: &Interrupt,
    ) -> Result<Self, LoadError> {
        let (waiting, mut clients) = (TimedPoll::new()?, Vec::with_capacity(names.len()));
        let (mut ping, mut pong) = (Vec::new(), Vec::new());
        peer.ping(&mut ping);
        peer.pong(&mut pong);
        // One byte more than a client may receive at once: a full read means unexpected bytes, and none stay in a
        // socket.
        let buffer = vec![0; pong.len() + peer.aside().len() + 1];
        let answers = BytePattern::new(true, 1, Rc::new(move |_, out| out.extend_from_slice(&pong)))
            .with_aside(peer.aside());
        for name in names {
            interrupt.check()?;
            let client = Client { name, role: Role::Asker, room: None };
            let mut stream = enter_nonblocking(target.addr, peer, &client)?;
            waiting.poll.registry().register(&mut stream, Token(clients.len()), Interest::READABLE)?;
            let (name, answers) = (name.clone(), answers.clone());
            let sent_at = Instant::now();
            clients.push(Asker {
                stream,
                name,
                sent: 0,
                goal: 0,
                answered: 0,
                since: None,
                sent_at,
                answers,
            });
        }
        let (latencies, now) = (Latencies::default(), Instant::now());
        let acks = Latencies::default();
        Ok(Self { waiting, clients, ping, latencies, acks, open: 0, last: now, alive: now, buffer })
    }

    /// Pings until the end.
    pub(super) fn run(
        &mut self,
        rate: Option<f64>,
        end: End,
        begun: Instant,
        interrupt: &Interrupt,
    ) -> Result<(), LoadError> {
        let schedule = Schedule::new(begun, rate, self.clients.len());
        let count = self.clients.len();
        for (place, client) in self.clients.iter_mut().enumerate() {
            client.goal = end.share(place, count);
        }
        (self.last, self.alive) = (begun, begun);
        let (mut tokens, mut is_over) = (Vec::new(), false);
        for place in 0..self.clients.len() {
            self.ask(place, &schedule)?;
        }
        loop {
            interrupt.check()?;
            let now = Instant::now();
            if end.is_over(now - begun) && !is_over {
                self.clients.iter_mut().for_each(|client| client.goal = client.sent);
            }
            is_over = is_over || self.clients.iter().all(|client| client.sent >= client.goal);
            if (is_over && self.open == 0) || self.is_stuck(now) {
                return Ok(());
            }
            self.waiting.wait(self.until_due(&schedule, now))?;
            tokens.extend(self.waiting.events.iter().map(|event| event.token().0));
            for place in tokens.drain(..) {
                self.read(place, &schedule)?;
            }
            if schedule.is_open() {
                (0..self.clients.len()).try_for_each(|place| self.ask(place, &schedule))?;
            }
        }
    }

    /// Idles for so long, unless a connection ends.
    pub(super) fn rest(
        &mut self,
        begun: Instant,
        idle: Duration,
        interrupt: &Interrupt,
    ) -> Result<(), LoadError> {
        let schedule = Schedule::new(begun, None, self.clients.len());
        let mut tokens = Vec::new();
        while begun.elapsed() < idle {
            interrupt.check()?;
            self.waiting.wait(idle.saturating_sub(begun.elapsed()))?;
            tokens.extend(self.waiting.events.iter().map(|event| event.token().0));
            for place in tokens.drain(..) {
                self.read(place, &schedule)?;
            }
        }
        Ok(())
    }

    /// Returns the number of unanswered pings, and the times of the others.
    pub(super) fn end(self) -> (u64, Latencies) {
        (self.open as u64, self.latencies)
    }

    /// Whether pings are unanswered and nothing has moved for too long.
    fn is_stuck(&self, now: Instant) -> bool {
        self.open > 0 && now.saturating_duration_since(self.alive) > ANSWER_TIMEOUT
    }

    fn until_due(&self, schedule: &Schedule, now: Instant) -> Duration {
        let free = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, client)| client.since.is_none() && client.sent < client.goal);
        let next = free.filter_map(|(place, client)| schedule.when(place, client.sent + 1)).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).min(TICK))
    }

    /// Sends a client's next ping, if it is due and the previous one is answered.
    fn ask(&mut self, place: usize, schedule: &Schedule) -> Result<(), LoadError> {
        let now = Instant::now();
        let Some(client) = self.clients.get_mut(place) else { return Ok(()) };
        let is_due = client.sent < client.goal.min(schedule.due(place, now));
        if client.since.is_some() || !is_due {
            return Ok(());
        }
        client.sent += 1;
        self.open += 1;
        self.alive = now;
        (client.since, client.sent_at) = (Some(schedule.when(place, client.sent).unwrap_or(now)), now);
        // Few bytes on an idle connection always fit.
        let Err(error) = client.stream.write_all(&self.ping) else { return Ok(()) };
        let broken = LoadError::broken(&client.name, error);
        // The server's last bytes may give the reason.
        self.read(place, schedule).and(Err(broken))
    }

    fn read(&mut self, place: usize, schedule: &Schedule) -> Result<(), LoadError> {
        let Some(client) = self.clients.get_mut(place) else { return Ok(()) };
        let n = match client.stream.read(&mut self.buffer) {
            Ok(0) => return Err(LoadError::broken(&client.name, io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(LoadError::broken(&client.name, error)),
        };
        let heard = self.buffer.get(..n).unwrap_or_default();
        let compared = client.answers.compare(heard);
        compared.map_err(|at| Wrong::new(&client.name, &client.answers, heard, at))?;
        if client.answers.done() > client.sent {
            return Err(Wrong::Unasked(client.name.clone()).into());
        }
        if client.answers.done() == client.answered {
            return Ok(());
        }
        self.last = Instant::now();
        self.alive = self.last;
        self.open -= 1;
        client.answered += 1;
        if let Some(since) = client.since.take() {
            self.latencies.record(self.last.saturating_duration_since(since));
            if schedule.is_open() {
                self.acks.record(self.last.saturating_duration_since(client.sent_at));
            }
        }
        self.ask(place, schedule)
    }
}
