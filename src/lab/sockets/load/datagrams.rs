//! Requests and answers in datagrams, one at a time from each socket: `lab load udp`, and the sessions of `lab load idle --udp`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// Readiness that is taken from the system at once.
const EVENTS: usize = 1_024;

/// The longest wait: repeats and interrupts are looked for as often.
const TICK: Duration = Duration::from_millis(20);

/// How often it is looked whether somebody listens, while nothing is said.
const LOOK: Duration = Duration::from_millis(250);

/// The longest datagram that is read whole.
const MAX_DATAGRAM: usize = 65_536;

/// So often the same is sent before it counts as lost.
const MAX_SENDS: u32 = 20;

/// So often the end of a session is sent, and how long after each other: whether the server heard it matters to the next run
/// alone.
const END_SENDS: u32 = 5;
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// How long all sessions together may take to end.
const LEAVING: Duration = Duration::from_secs(20);

/// Who asks, and how long.
#[derive(Clone, Debug)]
pub struct DatagramsPlan {
    /// The clients' names.
    pub names: Vec<String>,
    /// Bytes that a request carries.
    pub size: usize,
    /// When a request is sent again.
    pub timeout: Duration,
    /// When it ends.
    pub end: End,
}

/// Asks, and measures that.
///
/// # Errors
///
/// What stands in the way.
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

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// Bytes that a request carries.
    pub(super) size: usize,
    /// When it ends; a count is shared among the sockets.
    pub(super) end: End,
    /// When it begins.
    pub(super) begun: Instant,
}

/// A session that its server keeps.
#[derive(Debug)]
struct Session {
    /// What stands for it.
    token: Vec<u8>,
    asked: u64,
}

/// A socket, its sessions, and the one whose turn it is.
#[derive(Debug)]
struct Lane {
    socket: UdpSocket,
    sessions: Vec<Session>,
    /// How many turns it has had: so many names are in, or so many requests were made.
    turns: usize,
    /// How many requests it is to make.
    goal: u64,
    /// What is under way, sent so often, first and last at these times.
    said: Vec<u8>,
    sends: u32,
    first: Instant,
    last: Instant,
    /// Whether it is not answered yet.
    is_waiting: bool,
}

/// Sockets, each with one exchange under way at most.
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
    /// When the last answer came.
    pub(super) last: Instant,
}

impl DatagramClients {
    /// So many sockets; nothing is said yet.
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

    /// Lets the next name of a socket say its first; whoever needs no greeting is in at once.
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

    /// Lets the sessions of each socket ask one after the other, again and again.
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

    /// Does nothing for so long, unless the server says goodbye or nobody listens any more. A socket that has no session finds that
    /// out: it sends empty datagrams, which mean nothing, and few; ICMP answers them where nobody listens.
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
                // What the system has no room for is sent the next time.
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends every session, as far as the server answers, where it goes on: a session that is left keeps its name.
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
        // What stands in the way of an end is no news: the run has been told of, and what is left ends with its time.
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

    /// Hands over datagrams, and repeats what is not answered, until nothing is under way. `heard` is told the socket's place and
    /// the length of what is in the buffer, and says whether it was waited for.
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

    /// Reads until something came that was waited for: nothing else is under way then.
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
                    if peer.says_goodbye(self.buffer.get(..n).unwrap_or_default()) {
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

    /// Sends again what has waited for long enough.
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
            // What the system has no room for is lost as on any way, and repeated.
            let _ = lane.socket.send(&lane.said);
        }
    }
}

/// Waits for readiness, at most so long. A signal ends it as well.
fn wait(poll: &mut Poll, events: &mut Events, longest: Duration) -> io::Result<()> {
    match poll.poll(events, Some(longest)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        waited => waited,
    }
}

/// The session whose turn it is.
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

/// Sends the end of a socket's last session, if it has one that needs an end.
fn end_next(lane: &mut Lane, peer: &dyn DatagramPeer) {
    lane.is_waiting = false;
    let said = lane.sessions.last().and_then(|session| peer.goodbye(&session.token, session.asked + 1));
    if let Some(said) = said {
        say(lane, said);
    }
}

/// Sends something that is to be answered.
fn say(lane: &mut Lane, said: Vec<u8>) {
    let now = Instant::now();
    // What the system has no room for is lost as on any way, and repeated.
    let _ = lane.socket.send(&said);
    (lane.said, lane.sends, lane.first, lane.last, lane.is_waiting) = (said, 1, now, now, true);
}

fn open(addr: SocketAddr) -> io::Result<UdpSocket> {
    let own = match addr {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(own)?;
    socket.connect(addr)?;
    Ok(socket)
}
