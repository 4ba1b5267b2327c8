//! Messages from senders to receivers: `lab load route` (pairs) and `lab load fanout` (a room). The connections are in
//! `conn`, the expected bytes in `lab::load::group`.

mod conn;

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use self::conn::{Conn, enter, leave};
use super::sockets::ANSWER_TIMEOUT;
use super::target_server::{Meter, TargetServer};
use super::timed_poll::{TICK, TimedPoll};
use super::{Interrupt, LoadError};
use crate::lab::load::end::End;
use crate::lab::load::group::{Group, GroupSpec};
use crate::lab::load::latencies::Latencies;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::Peer;
use crate::lab::load::schedule::Schedule;

/// Bytes of one read.
const READ: usize = 128 << 10;

/// Bytes of one write.
const WRITE: usize = 64 << 10;

/// The groups, rate and end of a run.
#[derive(Clone, Debug)]
pub(crate) struct GroupsPlan {
    /// The groups, each with its own connections.
    pub(crate) specs: Vec<GroupSpec>,
    /// Bound on the bytes of one sender in flight.
    pub(crate) window: usize,
    /// Messages per second of all senders together; `None` means as fast as possible.
    pub(crate) rate: Option<f64>,
    /// The end of sending.
    pub(crate) end: End,
}

/// Sends, waits until everything is delivered, and measures that.
///
/// # Errors
///
/// Whatever makes the run fail, for instance bytes that differ from the expected ones.
pub(crate) fn run(
    target: &TargetServer,
    peer: &Rc<dyn Peer>,
    plan: &GroupsPlan,
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
) -> Result<(), LoadError> {
    let mut conns = Vec::new();
    if let Err(error) = enter(target, peer, plan, interrupt, &mut conns) {
        leave(target, peer.as_ref(), &mut conns);
        return Err(error);
    }
    let mut exchange = Exchange::new(peer, plan, conns)?;
    let meter = target.meter();
    let done = exchange.run(plan, &meter, interrupt);
    meter.read_into(outcome, exchange.last);
    leave(target, peer.as_ref(), &mut exchange.conns);
    done?;
    outcome.count = exchange.groups.iter().map(Group::delivered).sum();
    outcome.lost = exchange.groups.iter().map(Group::missing).sum();
    outcome.latencies = exchange.latencies;
    outcome.acks = exchange.acks;
    Ok(())
}

/// All connections of a run, and their progress.
struct Exchange {
    peer: Rc<dyn Peer>,
    waiting: TimedPoll,
    conns: Vec<Conn>,
    groups: Vec<Group>,
    /// The connection of each group's sender.
    senders: Vec<usize>,
    /// Connections that may have something to read.
    ready: VecDeque<usize>,
    /// Number of messages that each sender may send.
    goals: Vec<u64>,
    schedule: Schedule,
    /// With a rate, per sender: a number of messages, and when they were begun.
    written: Vec<VecDeque<(u64, Instant)>>,
    /// Times from when messages were due.
    latencies: Latencies,
    /// Times from when messages were written.
    acks: Latencies,
    /// Time of the last message or reply.
    last: Instant,
    /// Time of the last write or read.
    alive: Instant,
    buffer: Vec<u8>,
}

impl Exchange {
    fn new(peer: &Rc<dyn Peer>, plan: &GroupsPlan, mut conns: Vec<Conn>) -> Result<Self, LoadError> {
        let now = Instant::now();
        let is_sender = |(place, conn): (usize, &Conn)| conn.place.is_none().then_some(place);
        let senders: Vec<usize> = conns.iter().enumerate().filter_map(is_sender).collect();
        let waiting = TimedPoll::new()?;
        for (token, conn) in conns.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            waiting.poll.registry().register(&mut conn.stream, Token(token), interest)?;
        }
        let groups: Vec<_> =
            plan.specs.iter().map(|spec| Group::new(peer, spec.clone(), plan.window)).collect();
        let goals = (0..groups.len()).map(|place| plan.end.share(place, groups.len())).collect();
        let schedule = Schedule::new(now, plan.rate, groups.len());
        let (ready, latencies, buffer) = (VecDeque::new(), Latencies::default(), vec![0; READ]);
        let written = vec![VecDeque::new(); groups.len()];
        Ok(Self {
            peer: peer.clone(),
            waiting,
            conns,
            groups,
            senders,
            ready,
            goals,
            schedule,
            written,
            latencies,
            acks: Latencies::default(),
            last: now,
            alive: now,
            buffer,
        })
    }

    fn run(&mut self, plan: &GroupsPlan, meter: &Meter, interrupt: &Interrupt) -> Result<(), LoadError> {
        self.schedule = Schedule::new(meter.begun, plan.rate, self.groups.len());
        (self.last, self.alive) = (meter.begun, meter.begun);
        let mut is_over = matches!(plan.end, End::Count(_));
        loop {
            interrupt.check()?;
            let now = Instant::now();
            if !is_over && plan.end.is_over(now - meter.begun) {
                is_over = true;
                self.stop();
            }
            let has_more = self.write(now)?;
            if (is_over && self.is_done()) || self.is_stuck(now) {
                return Ok(());
            }
            let is_busy = has_more || !self.ready.is_empty();
            self.wait(if is_busy { Duration::ZERO } else { self.until_due(now) })?;
            self.read()?;
        }
    }

    /// Stops the senders after the messages they have begun.
    fn stop(&mut self) {
        for (goal, group) in self.goals.iter_mut().zip(&self.groups) {
            *goal = group.begun();
        }
    }

    fn is_done(&self) -> bool {
        let mut groups = self.groups.iter().zip(&self.goals);
        groups.all(|(group, goal)| group.sent() >= *goal && group.is_quiet())
    }

    /// Whether messages are in flight and nothing has moved for too long.
    fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.alive) > ANSWER_TIMEOUT && !self.groups.iter().all(Group::is_quiet)
    }

    /// Returns the longest wait for readiness.
    fn until_due(&self, now: Instant) -> Duration {
        let next = |(sender, group): (usize, &Group)| self.schedule.when(sender, group.begun() + 1);
        let next = self.groups.iter().enumerate().filter_map(next).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).min(TICK))
    }

    fn wait(&mut self, longest: Duration) -> Result<(), LoadError> {
        self.waiting.wait(longest)?;
        for event in &self.waiting.events {
            let Some(conn) = self.conns.get_mut(event.token().0) else { continue };
            conn.is_writable |= event.is_writable();
            if event.is_readable() && !conn.is_ready {
                conn.is_ready = true;
                self.ready.push_back(event.token().0);
            }
        }
        Ok(())
    }

    /// Writes the due bytes to each socket that has room, one block each. Returns whether there is more.
    fn write(&mut self, now: Instant) -> Result<bool, LoadError> {
        let mut has_more = false;
        for (sender, group) in self.groups.iter_mut().enumerate() {
            let conn = self.senders.get(sender).and_then(|place| self.conns.get_mut(*place));
            let Some(conn) = conn.filter(|conn| conn.is_writable) else { continue };
            let goal = self.goals.get(sender).copied().unwrap_or_default();
            let slices = group.writable(self.schedule.due(sender, now).min(goal), WRITE);
            if slices.is_empty() {
                continue;
            }
            match conn.stream.write_vectored(&slices) {
                Ok(n) => {
                    group.written(n);
                    self.alive = now;
                    has_more = true;
                    if let Some(written) = self.written.get_mut(sender).filter(|_| self.schedule.is_open()) {
                        note(written, group, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => conn.is_writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => has_more = true,
                Err(error) => {
                    let broken = LoadError::broken(&group.spec().sender, error);
                    return Err(self.said_last(sender).err().unwrap_or(broken));
                }
            }
        }
        Ok(has_more)
    }

    /// Reads the server's last bytes to this sender before it closed: an error if they give the reason.
    fn said_last(&mut self, sender: usize) -> Result<(), LoadError> {
        let Some(token) = self.senders.get(sender).copied() else { return Ok(()) };
        while let Some(conn) = self.conns.get_mut(token) {
            match conn.stream.read(&mut self.buffer) {
                Ok(n @ 1..) => self.heard(token, n)?,
                _ => break,
            }
        }
        Ok(())
    }

    /// Reads once from each ready connection; those that may have more stay ready.
    fn read(&mut self) -> Result<(), LoadError> {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(token) else { continue };
            conn.is_ready = false;
            let has_more = match conn.stream.read(&mut self.buffer) {
                Ok(0) => return Err(self.closed(token)),
                Ok(n) => {
                    self.heard(token, n)?;
                    n == self.buffer.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
                Err(error) => return Err(LoadError::broken(self.name(token), error)),
            };
            // Bytes behind a short read cause a new event.
            if has_more && let Some(conn) = self.conns.get_mut(token) {
                conn.is_ready = true;
                self.ready.push_back(token);
            }
        }
        Ok(())
    }

    /// Compares the bytes read with the expected ones, and replies.
    fn heard(&mut self, token: usize, n: usize) -> Result<(), LoadError> {
        let (Some(conn), bytes) = (self.conns.get_mut(token), self.buffer.get(..n).unwrap_or_default())
        else {
            return Ok(());
        };
        let Some(group) = self.groups.get_mut(conn.group) else { return Ok(()) };
        self.last = Instant::now();
        self.alive = self.last;
        let Some(place) = conn.place else { return Ok(group.replied(bytes)?) };
        let (first, next) = group.heard(place, bytes)?;
        if first == next {
            return Ok(());
        }
        for number in first..next {
            let Some(due) = self.schedule.when(conn.group, number) else { break };
            self.latencies.record(self.last.saturating_duration_since(due));
            let written = self.written.get(conn.group).and_then(|written| {
                written.get(written.partition_point(|(begun, _)| *begun < number)).map(|(_, at)| *at)
            });
            written.iter().for_each(|at| self.acks.record(self.last.saturating_duration_since(*at)));
        }
        self.peer.acknowledgement(first, next - 1, &mut conn.said);
        conn.say().map_err(|error| LoadError::broken(self.name(token), error))
    }

    fn name(&self, token: usize) -> &str {
        let conn = self.conns.get(token);
        let spec = conn.and_then(|conn| Some((conn, self.groups.get(conn.group)?.spec())));
        spec.map_or("", |(conn, spec)| match conn.place {
            Some(place) => spec.receivers.get(place).map_or("", String::as_str),
            None => &spec.sender,
        })
    }

    fn closed(&self, token: usize) -> LoadError {
        LoadError::broken(self.name(token), io::ErrorKind::UnexpectedEof.into())
    }
}

/// Records when messages were begun, and removes those that all receivers have: at most a window remains.
fn note(written: &mut VecDeque<(u64, Instant)>, group: &Group, now: Instant) {
    written.push_back((group.begun(), now));
    let heard_by_all = group.begun().saturating_sub(group.window() + 1);
    while written.front().is_some_and(|(begun, _)| *begun < heard_by_all) {
        written.pop_front();
    }
}
