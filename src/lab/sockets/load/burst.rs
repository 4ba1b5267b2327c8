//! Many connections at once: `lab load burst`. One connection after the other is in `serial`.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::sockets::{ANSWER_TIMEOUT, enter, said_instead};
use super::target_server::TargetServer;
use super::timed_poll::{TICK, wait};
use super::{Interrupt, LoadError};
use crate::lab::load::byte_pattern::body;
use crate::lab::load::latencies::Latencies;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::{Answer, Client, Heard, MAX_ANSWER, Message, Peer, Role, Step, Target};

/// Bound on the events of one poll.
const EVENTS: usize = 1_024;

/// Connects all at once, waits until all are registered, then sends one message to each; measures both.
///
/// # Errors
///
/// Whatever fails for all. A client that is refused is counted; if all are, there is nothing to measure.
pub(crate) fn run(
    target: &TargetServer,
    peer: &dyn Peer,
    (sender, names, size): (&str, &[String], usize),
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
) -> Result<(), LoadError> {
    let who = sender;
    let client = Client { name: who, role: Role::Sender, room: None };
    let mut sender = if peer.routes() { Some(enter(target.addr, peer, &client)?) } else { None };
    let resident = target.resident();
    let meter = target.meter();
    let mut burst = Burst::new(peer.aside(), names.len())?;
    burst.enter(target.addr, peer, names, interrupt)?;
    outcome.count = burst.done;
    outcome.failed = Some(names.len() as u64 - burst.done);
    outcome.cause = burst.cause.take();
    if burst.done == 0 {
        return Ok(());
    }
    meter.read_into(outcome, burst.last);
    outcome.slowest = burst.latencies.quantile(1.0);
    outcome.latencies = std::mem::take(&mut burst.latencies);
    outcome.share_memory(target.grown(resident));
    burst.leave_out_open();
    let begun = Instant::now();
    burst.message(peer, (who, names), size, sender.as_mut(), interrupt)?;
    let took = burst.last.saturating_duration_since(begun).as_secs_f64();
    outcome.message_seconds = (burst.done > 0).then_some(took);
    outcome.lost = outcome.count.saturating_sub(burst.done);
    outcome.cause = outcome.cause.take().or(burst.cause);
    Ok(())
}

/// One connection of the burst.
#[derive(Debug)]
struct Member {
    stream: TcpStream,
    begun: Instant,
    /// The remaining steps, the next one last.
    steps: Vec<Step>,
    is_connected: bool,
    heard: Vec<u8>,
}

impl Member {
    /// Whether steps remain.
    fn is_waited_for(&self) -> bool {
        !self.is_connected || !self.steps.is_empty()
    }
}

struct Burst {
    poll: Poll,
    /// `None` for a connection that failed.
    members: Vec<Option<Member>>,
    /// Connections that completed their steps.
    done: u64,
    /// Connections with remaining steps that have not failed.
    open: usize,
    /// The cause of the first failure.
    cause: Option<String>,
    last: Instant,
    latencies: Latencies,
    buffer: Vec<u8>,
    /// Bytes that the server may send in between.
    aside: &'static [u8],
}

impl Burst {
    fn new(aside: &'static [u8], count: usize) -> io::Result<Self> {
        let (members, latencies) = (Vec::with_capacity(count), Latencies::default());
        Ok(Self {
            poll: Poll::new()?,
            members,
            done: 0,
            open: 0,
            cause: None,
            last: Instant::now(),
            latencies,
            buffer: vec![0; MAX_ANSWER],
            aside,
        })
    }

    fn enter(
        &mut self,
        addr: SocketAddr,
        peer: &dyn Peer,
        names: &[String],
        interrupt: &Interrupt,
    ) -> Result<(), LoadError> {
        for name in names {
            let mut steps = peer.greeting(&Client { name, role: Role::Receiver, room: None });
            steps.reverse();
            let member = self.connect(addr, steps).inspect_err(|error| self.fail(error)).ok();
            self.open += usize::from(member.is_some());
            self.members.push(member);
        }
        self.wait(interrupt)
    }

    fn connect(&self, addr: SocketAddr, steps: Vec<Step>) -> io::Result<Member> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(addr)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.members.len()), interest)?;
        Ok(Member { stream, begun, steps, is_connected: false, heard: Vec::new() })
    }

    fn fail(&mut self, error: &io::Error) {
        self.cause.get_or_insert_with(|| match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::UnexpectedEof => "the server closed the connection without an answer".to_owned(),
            _ => error.to_string(),
        });
    }

    /// Removes connections with remaining steps from the following phase.
    fn leave_out_open(&mut self) {
        for slot in &mut self.members {
            if slot.as_ref().is_some_and(Member::is_waited_for) {
                *slot = None;
            }
        }
        self.open = 0;
    }

    /// Sends a message to each connection, and waits for all of them.
    fn message(
        &mut self,
        peer: &dyn Peer,
        (who, names): (&str, &[String]),
        size: usize,
        sender: Option<&mut std::net::TcpStream>,
        interrupt: &Interrupt,
    ) -> Result<(), LoadError> {
        let (mut all, mut number) = (Vec::new(), 0);
        (self.done, self.last) = (0, Instant::now());
        for (name, member) in names.iter().zip(&mut self.members) {
            let Some(member) = member else { continue };
            number += 1;
            let mut text = Vec::new();
            body(number, size, &mut text);
            let message = Message { from: who, to: Target::Name(name), body: &text, number };
            let (mut say, mut hear) = (Vec::new(), Answer::default());
            peer.delivery(&message, &mut hear.start);
            peer.message(&message, if sender.is_some() { &mut all } else { &mut say });
            // Few bytes on an idle connection always fit.
            let _ = member.stream.write(&say);
            member.steps.push(Step { say: Vec::new(), hear });
            member.begun = self.last;
            self.open += 1;
        }
        let broken = |error| LoadError::Connection { doing: "sending a message to each".to_owned(), error };
        sender.map_or(Ok(()), |sender| sender.write_all(&all)).map_err(broken)?;
        self.wait(interrupt)
    }

    /// Waits until all connections have completed their steps, or nothing has moved for too long.
    fn wait(&mut self, interrupt: &Interrupt) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(EVENTS);
        let mut moved = Instant::now();
        while self.open > 0 && moved.elapsed() < ANSWER_TIMEOUT {
            interrupt.check()?;
            wait(&mut self.poll, &mut events, TICK)?;
            for event in &events {
                self.advance(event.token().0);
                moved = Instant::now();
            }
        }
        if self.open > 0 {
            self.fail(&io::Error::other(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())));
        }
        Ok(())
    }

    /// Advances a connection that can be written or read as far as possible.
    fn advance(&mut self, place: usize) {
        let Some(slot) = self.members.get_mut(place) else { return };
        let Some(member) = slot else { return };
        let is_waited_for = member.is_waited_for();
        match go_on(member, self.aside, &mut self.buffer) {
            Ok(true) if is_waited_for => {
                self.open -= 1;
                self.done += 1;
                self.last = Instant::now();
                self.latencies.record(self.last.saturating_duration_since(member.begun));
            }
            Ok(_) => {}
            Err(error) => {
                self.open -= usize::from(is_waited_for);
                *slot = None;
                self.fail(&error);
            }
        }
    }
}

/// Performs the steps that are possible. Returns whether none remain.
fn go_on(member: &mut Member, aside: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
    if !member.is_connected {
        if let Some(error) = member.stream.take_error()? {
            return Err(error);
        }
        match member.stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            connected => connected?,
        };
        member.stream.set_nodelay(true)?;
        member.is_connected = true;
        speak(member)?;
    }
    loop {
        let Some(step) = member.steps.last() else { return Ok(true) };
        match step.hear.check_beside(aside, &member.heard) {
            Heard::Wrong => return Err(io::Error::other(said_instead(&member.heard))),
            Heard::Complete => {
                member.steps.pop();
                member.heard = Vec::new();
                speak(member)?;
            }
            Heard::Incomplete => match member.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => member.heard.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            },
        }
    }
}

/// Writes the bytes of the next step: few bytes on an idle connection always fit.
fn speak(member: &mut Member) -> io::Result<()> {
    match member.steps.last() {
        Some(step) if !step.say.is_empty() => member.stream.write_all(&step.say),
        _ => Ok(()),
    }
}
