//! Requests over datagrams, one at a time from each socket: `lab load udp`, and the sessions of `lab load idle --udp`.
//! One socket and its exchange are in `lane`.

mod lane;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use self::lane::{Lane, Repeat, connected};
use super::target_server::TargetServer;
use super::timed_poll::wait;
use super::{Interrupt, LoadError};
use crate::lab::load::byte_pattern::body;
use crate::lab::load::end::End;
use crate::lab::load::latencies::Latencies;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::DatagramPeer;

/// Bound on the events of one poll.
const EVENTS: usize = 1_024;

/// The longest wait: retransmissions and interrupts are checked as often.
const TICK: Duration = Duration::from_millis(20);

/// Interval at which an idle run checks that the server still listens.
const LOOK: Duration = Duration::from_millis(250);

/// Largest datagram that is read whole.
const MAX_DATAGRAM: usize = 65_536;

/// Sends of a datagram before it counts as lost.
const MAX_SENDS: u32 = 20;

/// Sends of the end of a session, and the time between them. Whether the server receives it matters only to the next
/// run.
const END_SENDS: u32 = 5;
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// Limit on the time to end all sessions.
const LEAVING: Duration = Duration::from_secs(20);

/// The clients, requests and end of a run.
#[derive(Clone, Debug)]
pub(crate) struct DatagramsPlan {
    /// The clients' names.
    pub(crate) names: Vec<String>,
    /// Bytes that a request carries.
    pub(crate) size: usize,
    /// Time after which a request is retransmitted.
    pub(crate) timeout: Duration,
    /// The end of the run.
    pub(crate) end: End,
}

/// Runs the workload and measures it.
///
/// # Errors
///
/// Whatever makes the run fail.
pub(crate) fn run(
    target: &TargetServer,
    peer: &dyn DatagramPeer,
    plan: &DatagramsPlan,
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
) -> Result<(), LoadError> {
    let mut clients = DatagramClients::new(target.addr, plan.names.len(), plan.timeout)?;
    let done = clients.join(peer, &plan.names, interrupt).and_then(|()| {
        let meter = target.meter();
        clients.ask(peer, &Asking { size: plan.size, end: plan.end, begun: meter.begun }, interrupt)?;
        meter.read_into(outcome, clients.last);
        Ok(())
    });
    outcome.repeated = Some(clients.repeated);
    clients.leave(target, peer);
    done?;
    outcome.count = clients.answered;
    outcome.lost = clients.lost;
    outcome.latencies = clients.latencies;
    Ok(())
}

/// The requests of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// Bytes that a request carries.
    pub(super) size: usize,
    /// The end; a count is shared among the sockets.
    pub(super) end: End,
    /// The beginning.
    pub(super) begun: Instant,
}

/// Sockets, each with at most one exchange in progress.
pub(super) struct DatagramClients {
    addr: SocketAddr,
    poll: Poll,
    lanes: Vec<Lane>,
    timeout: Duration,
    max_sends: u32,
    buffer: Vec<u8>,
    body: Vec<u8>,
    pub(super) latencies: Latencies,
    pub(super) answered: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    /// Time of the last answer.
    pub(super) last: Instant,
}

impl DatagramClients {
    /// Creates so many sockets; nothing is sent yet.
    pub(super) fn new(addr: SocketAddr, sockets: usize, timeout: Duration) -> Result<Self, LoadError> {
        let failed = |error| LoadError::Connection { doing: "opening a UDP socket".to_owned(), error };
        let (poll, now) = (Poll::new()?, Instant::now());
        let mut lanes = Vec::with_capacity(sockets);
        for place in 0..sockets {
            lanes.push(Lane::open(addr, poll.registry(), Token(place)).map_err(failed)?);
        }
        Ok(Self {
            addr,
            poll,
            lanes,
            timeout,
            max_sends: MAX_SENDS,
            buffer: vec![0; MAX_DATAGRAM],
            body: Vec::new(),
            latencies: Latencies::default(),
            answered: 0,
            lost: 0,
            repeated: 0,
            last: now,
        })
    }

    /// Opens a session for each name, shared among the sockets.
    pub(super) fn join(
        &mut self,
        peer: &dyn DatagramPeer,
        names: &[String],
        interrupt: &Interrupt,
    ) -> Result<(), LoadError> {
        let sockets = self.lanes.len();
        // Each socket takes every so many-th name, from its own place on.
        let share = |place: usize| move |turn: usize| names.get(place + turn * sockets);
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            lane.greet(peer, share(place))?;
        }
        self.drive(peer, &|| interrupt.check(), &mut |clients, place, n| {
            let Some(lane) = clients.lanes.get_mut(place) else { return Ok(false) };
            lane.joined(peer, share(place), clients.buffer.get(..n).unwrap_or_default())
        })?;
        let joined: usize = self.lanes.iter().map(Lane::sessions).sum();
        if joined < names.len() {
            let error = io::ErrorKind::TimedOut.into();
            return Err(LoadError::Connection { doing: format!("opening session {}", joined + 1), error });
        }
        (self.lost, self.repeated) = (0, 0);
        Ok(())
    }

    /// Sends requests from the sessions of each socket in turn.
    pub(super) fn ask(
        &mut self,
        peer: &dyn DatagramPeer,
        asking: &Asking,
        interrupt: &Interrupt,
    ) -> Result<(), LoadError> {
        self.last = asking.begun;
        self.body.clear();
        body(1, asking.size, &mut self.body);
        let sockets = self.lanes.len();
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            lane.begin(asking.end.share(place, sockets), peer, &self.body);
        }
        self.drive(peer, &|| interrupt.check(), &mut |clients, place, n| {
            let Some(lane) = clients.lanes.get_mut(place) else { return Ok(false) };
            let heard = clients.buffer.get(..n).unwrap_or_default();
            let Some(sent) = lane.answered(peer, &clients.body, heard) else { return Ok(false) };
            clients.last = Instant::now();
            clients.answered += 1;
            clients.latencies.record(clients.last.saturating_duration_since(sent));
            if !asking.end.is_over(clients.last.saturating_duration_since(asking.begun)) {
                lane.ask(peer, &clients.body);
            }
            Ok(true)
        })
    }

    /// Idles for so long, unless the server sends BYE or no longer listens. A socket without a session detects that by
    /// sending few empty datagrams, which mean nothing: ICMP answers them if nothing listens.
    pub(super) fn rest(
        &mut self,
        peer: &dyn DatagramPeer,
        (begun, idle): (Instant, Duration),
        interrupt: &Interrupt,
    ) -> Result<(), LoadError> {
        let failed = |error| LoadError::Connection { doing: "sending a datagram".to_owned(), error };
        let (socket, mut looked) = (connected(self.addr).map_err(failed)?, begun);
        let mut events = Events::with_capacity(EVENTS);
        while begun.elapsed() < idle {
            interrupt.check()?;
            wait(&mut self.poll, &mut events, TICK.min(idle.saturating_sub(begun.elapsed())))?;
            for event in &events {
                self.read(peer, event.token().0, &mut |_, _, _| Ok(false))?;
            }
            if looked.elapsed() < LOOK {
                continue;
            }
            looked = Instant::now();
            match socket.send(&[]) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(failed(error)),
                // A datagram that the system does not accept is sent the next time.
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends every session, if the server continues after the run: a session that is left keeps its name.
    pub(super) fn leave(&mut self, target: &TargetServer, peer: &dyn DatagramPeer) {
        if !target.goes_on() {
            return;
        }
        (self.timeout, self.max_sends) = (END_TIMEOUT, END_SENDS);
        self.lanes.iter_mut().for_each(|lane| lane.end(peer));
        let ends_at = Instant::now() + LEAVING;
        let check = || if Instant::now() < ends_at { Ok(()) } else { Err(LoadError::Interrupted) };
        // A failure here does not matter: the results are complete, and remaining sessions expire.
        let _ = self.drive(peer, &check, &mut |clients, place, n| {
            let Some(lane) = clients.lanes.get_mut(place) else { return Ok(false) };
            Ok(lane.ended(peer, clients.buffer.get(..n).unwrap_or_default()))
        });
    }

    /// Receives datagrams, and retransmits unanswered ones, until no exchange is in progress. `heard` gets the
    /// socket's index and the length of the datagram in the buffer, and returns whether it was awaited.
    fn drive(
        &mut self,
        peer: &dyn DatagramPeer,
        check: &dyn Fn() -> Result<(), LoadError>,
        heard: &mut dyn FnMut(&mut Self, usize, usize) -> Result<bool, LoadError>,
    ) -> Result<(), LoadError> {
        let (mut events, mut looked) = (Events::with_capacity(EVENTS), Instant::now());
        while self.lanes.iter().any(Lane::is_waiting) {
            check()?;
            wait(&mut self.poll, &mut events, TICK)?;
            for event in &events {
                self.read(peer, event.token().0, heard)?;
            }
            let now = Instant::now();
            if now.saturating_duration_since(looked) >= TICK {
                looked = now;
                self.repeat(now);
            }
        }
        Ok(())
    }

    /// Reads until the awaited datagram arrives: no other is in flight then.
    fn read(
        &mut self,
        peer: &dyn DatagramPeer,
        place: usize,
        heard: &mut dyn FnMut(&mut Self, usize, usize) -> Result<bool, LoadError>,
    ) -> Result<(), LoadError> {
        loop {
            let Some(lane) = self.lanes.get(place) else { return Ok(()) };
            match lane.receive(&mut self.buffer) {
                Ok(n) => {
                    if heard(self, place, n)? {
                        return Ok(());
                    }
                    if peer.is_end_of_session(self.buffer.get(..n).unwrap_or_default()) {
                        return Err(LoadError::Ended);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(LoadError::Connection { doing: "receiving a datagram".to_owned(), error });
                }
            }
        }
    }

    /// Retransmits datagrams whose timeout has passed.
    fn repeat(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            match lane.repeat(now, self.timeout, self.max_sends) {
                Repeat::NotDue => {}
                Repeat::Sent => self.repeated += 1,
                Repeat::GaveUp => self.lost += 1,
            }
        }
    }
}
