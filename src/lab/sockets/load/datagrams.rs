//! Requests over datagrams, one at a time from each socket: `lab load udp`, and the sessions of `lab load idle --udp`.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use super::groups::End;
use super::sockets::refused;
use super::target_server::TargetServer;
use super::{Interrupt, LoadError};
use crate::lab::load::byte_pattern::body;
use crate::lab::load::latencies::Latencies;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::{DatagramPeer, Join};
use crate::net::udp::connected_to;

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
pub struct DatagramsPlan {
    /// The clients' names.
    pub names: Vec<String>,
    /// Bytes that a request carries.
    pub size: usize,
    /// Time after which a request is retransmitted.
    pub timeout: Duration,
    /// The end of the run.
    pub end: End,
}

/// Runs the workload and measures it.
///
/// # Errors
///
/// Whatever makes the run fail.
pub fn run(
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

/// A session that the server keeps.
#[derive(Debug)]
struct Session {
    /// Its token.
    token: Vec<u8>,
    asked: u64,
}

/// A socket and its sessions, which are served in turn.
#[derive(Debug)]
struct Lane {
    socket: UdpSocket,
    sessions: Vec<Session>,
    /// Number of completed exchanges: greeted names, or requests.
    turns: usize,
    /// Number of requests to make.
    goal: u64,
    /// The datagram in flight, the number of its sends, and the times of the first and the last.
    said: Vec<u8>,
    sends: u32,
    first: Instant,
    last: Instant,
    /// Whether an answer is awaited.
    is_waiting: bool,
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
            let mut socket = open(addr).map_err(failed)?;
            poll.registry().register(&mut socket, Token(place), Interest::READABLE)?;
            let (sessions, said) = (Vec::new(), Vec::new());
            lanes.push(Lane {
                socket,
                sessions,
                turns: 0,
                goal: 0,
                said,
                sends: 0,
                first: now,
                last: now,
                is_waiting: false,
            });
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
        for place in 0..sockets {
            self.greet(peer, names, place)?;
        }
        self.drive(peer, &|| interrupt.check(), &mut |clients, place, n| {
            let Some(lane) = clients.lanes.get_mut(place) else { return Ok(false) };
            let Some(name) = names.get(place + lane.turns * sockets) else { return Ok(false) };
            let heard = clients.buffer.get(..n).unwrap_or_default();
            match peer.join(name, Some(heard)) {
                Join::Say(said) if said == lane.said => return Ok(false),
                Join::Say(said) => say(lane, said),
                Join::Ready(token) => {
                    lane.sessions.push(Session { token, asked: 0 });
                    lane.turns += 1;
                    clients.greet(peer, names, place)?;
                }
                Join::Refused(why) => return Err(refused(name, &why)),
            }
            Ok(true)
        })?;
        let joined: usize = self.lanes.iter().map(|lane| lane.sessions.len()).sum();
        if joined < names.len() {
            let error = io::ErrorKind::TimedOut.into();
            return Err(LoadError::Connection { doing: format!("opening session {}", joined + 1), error });
        }
        (self.lost, self.repeated) = (0, 0);
        Ok(())
    }

    /// Sends the greeting of a socket's next name. A name without a greeting is in at once.
    fn greet(&mut self, peer: &dyn DatagramPeer, names: &[String], place: usize) -> Result<(), LoadError> {
        let sockets = self.lanes.len();
        let Some(lane) = self.lanes.get_mut(place) else { return Ok(()) };
        while let Some(name) = names.get(place + lane.turns * sockets) {
            match peer.join(name, None) {
                Join::Say(said) => {
                    say(lane, said);
                    return Ok(());
                }
                Join::Ready(token) => lane.sessions.push(Session { token, asked: 0 }),
                Join::Refused(why) => return Err(refused(name, &why)),
            }
            lane.turns += 1;
        }
        lane.is_waiting = false;
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
            (lane.turns, lane.goal) = (0, asking.end.share(place, sockets));
            next(lane, peer, &self.body);
        }
        self.drive(peer, &|| interrupt.check(), &mut |clients, place, n| {
            let Some(lane) = clients.lanes.get_mut(place) else { return Ok(false) };
            let Some(session) = current(lane) else { return Ok(false) };
            let heard = clients.buffer.get(..n).unwrap_or_default();
            if !lane.is_waiting || !peer.answers(&session.token, session.asked, &clients.body, heard) {
                return Ok(false);
            }
            clients.last = Instant::now();
            clients.answered += 1;
            clients.latencies.record(clients.last.saturating_duration_since(lane.first));
            lane.turns += 1;
            lane.is_waiting = false;
            if !asking.end.is_over(clients.last.saturating_duration_since(asking.begun)) {
                next(lane, peer, &clients.body);
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
        let (socket, mut looked) = (open(self.addr).map_err(failed)?, begun);
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

    /// Ends every session, if the server goes on after the run: a session that is left keeps its name.
    pub(super) fn leave(&mut self, target: &TargetServer, peer: &dyn DatagramPeer) {
        if !target.goes_on() {
            return;
        }
        (self.timeout, self.max_sends) = (END_TIMEOUT, END_SENDS);
        for lane in &mut self.lanes {
            lane.is_waiting = false;
            end_next(lane, peer);
        }
        let ends_at = Instant::now() + LEAVING;
        let check = || if Instant::now() < ends_at { Ok(()) } else { Err(LoadError::Interrupted) };
        // A failure here does not matter: the results are complete, and remaining sessions expire.
        let _ = self.drive(peer, &check, &mut |clients, place, n| {
            let Some(lane) = clients.lanes.get_mut(place) else { return Ok(false) };
            let Some(session) = lane.sessions.last() else { return Ok(false) };
            let heard = clients.buffer.get(..n).unwrap_or_default();
            if !lane.is_waiting || !peer.has_ended(&session.token, session.asked + 1, heard) {
                return Ok(false);
            }
            lane.sessions.pop();
            end_next(lane, peer);
            Ok(true)
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
        while self.lanes.iter().any(|lane| lane.is_waiting) {
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
            match lane.socket.recv(&mut self.buffer) {
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
        let timeout = self.timeout;
        let late = |lane: &&mut Lane| lane.is_waiting && now.saturating_duration_since(lane.last) >= timeout;
        for lane in self.lanes.iter_mut().filter(late) {
            if lane.sends >= self.max_sends {
                lane.is_waiting = false;
                self.lost += 1;
                continue;
            }
            lane.sends += 1;
            lane.last = now;
            self.repeated += 1;
            // A datagram that the system does not accept counts as lost, and is retransmitted.
            let _ = lane.socket.send(&lane.said);
        }
    }
}

/// Waits for readiness, at most so long. A signal ends the wait.
fn wait(poll: &mut Poll, events: &mut Events, longest: Duration) -> io::Result<()> {
    match poll.poll(events, Some(longest)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        waited => waited,
    }
}

/// Returns the session whose turn it is.
fn current(lane: &Lane) -> Option<&Session> {
    lane.sessions.get(lane.turns.checked_rem(lane.sessions.len())?)
}

/// Sends the next request of a socket, if there is one.
fn next(lane: &mut Lane, peer: &dyn DatagramPeer, body: &[u8]) {
    let place = lane.turns.checked_rem(lane.sessions.len()).unwrap_or(0);
    let is_over = lane.turns as u64 >= lane.goal;
    let Some(session) = lane.sessions.get_mut(place).filter(|_| !is_over) else { return };
    session.asked += 1;
    let mut said = std::mem::take(&mut lane.said);
    said.clear();
    peer.request(&session.token, session.asked, body, &mut said);
    say(lane, said);
}

/// Sends the end of a socket's last session, if it needs one.
fn end_next(lane: &mut Lane, peer: &dyn DatagramPeer) {
    lane.is_waiting = false;
    let said = lane.sessions.last().and_then(|session| peer.end_session(&session.token, session.asked + 1));
    if let Some(said) = said {
        say(lane, said);
    }
}

/// Sends a datagram that is to be answered.
fn say(lane: &mut Lane, said: Vec<u8>) {
    let now = Instant::now();
    // A datagram that the system does not accept counts as lost, and is retransmitted.
    let _ = lane.socket.send(&said);
    (lane.said, lane.sends, lane.first, lane.last, lane.is_waiting) = (said, 1, now, now, true);
}

fn open(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = connected_to(addr)?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket))
}
