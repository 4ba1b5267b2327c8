//! Connections or sessions that do nothing: `lab load idle`, what each takes of memory, all of them of the processors, and what their
//! pings take.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::datagrams::{Asking, DatagramClients};
use super::groups::End;
use super::ping::Pings;
use super::target_server::{Meter, TargetServer};
use super::{Interrupt, LoadError};
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::{DatagramPeer, Peer};

/// How long a server that has ended may take to close all its sockets.
const LEAVING: Duration = Duration::from_millis(500);

/// How often it is looked whether it has.
const TICK: Duration = Duration::from_millis(20);

/// When a datagram is sent again.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Sockets for sessions over datagrams: each carries many, one exchange at a time.
const SOCKETS: usize = 256;

/// Connects one after the other, idles for so long, and lets each ping once.
///
/// # Errors
///
/// What stands in the way.
pub fn streams(
    target: &TargetServer,
    peer: &dyn Peer,
    (names, idle): (&[String], Duration),
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
) -> Result<(), LoadError> {
    let resident = target.resident();
    let meter = target.meter();
    let entered = Pings::enter(target, peer, names, interrupt);
    let mut pings = entered.map_err(|error| or_gone_since(target, meter.begun, error))?;
    meter.read_now(outcome);
    outcome.count = names.len() as u64;
    rest(target, resident, outcome, |begun| pings.rest(begun, idle, interrupt))?;
    let meter = target.meter();
    let run = pings.run(None, End::Count(names.len() as u64), meter.begun, interrupt);
    run.map_err(|error| or_gone(target, meter.begun, error))?;
    pinged(&meter, names.len(), outcome);
    (outcome.lost, outcome.latencies) = pings.end();
    Ok(())
}

/// The same with sessions over datagrams.
///
/// # Errors
///
/// What stands in the way.
pub fn datagrams(
    target: &TargetServer,
    peer: &dyn DatagramPeer,
    (names, idle): (&[String], Duration),
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
) -> Result<(), LoadError> {
    let mut clients = DatagramClients::new(target.addr, SOCKETS.min(names.len()), TIMEOUT)?;
    let done = sessions(target, peer, (names, idle), interrupt, (&mut clients, outcome));
    clients.leave(target, peer);
    done
}

fn sessions(
    target: &TargetServer,
    peer: &dyn DatagramPeer,
    (names, idle): (&[String], Duration),
    interrupt: &Interrupt,
    (clients, outcome): (&mut DatagramClients, &mut LoadOutcome),
) -> Result<(), LoadError> {
    let resident = target.resident();
    let meter = target.meter();
    clients.join(peer, names, interrupt)?;
    meter.read_now(outcome);
    outcome.count = names.len() as u64;
    rest(target, resident, outcome, |begun| clients.rest(peer, (begun, idle), interrupt))?;
    // A count of as many as there are sessions is one of each: both are dealt out to the sockets alike.
    let (meter, end) = (target.meter(), End::Count(names.len() as u64));
    let asked = clients.ask(peer, &Asking { size: 0, end, begun: meter.begun }, interrupt);
    asked.map_err(|error| or_gone(target, meter.begun, error))?;
    pinged(&meter, names.len(), outcome);
    (outcome.lost, outcome.repeated) = (clients.lost, Some(clients.repeated));
    outcome.latencies = std::mem::take(&mut clients.latencies);
    Ok(())
}

/// Measures memory, and the processor time of doing nothing.
fn rest(
    target: &TargetServer,
    before: Option<u64>,
    outcome: &mut LoadOutcome,
    idle: impl FnOnce(Instant) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    outcome.share_memory(target.grown(before));
    let meter = target.meter();
    idle(meter.begun).map_err(|error| or_gone(target, meter.begun, error))?;
    let seconds = meter.begun.elapsed().as_secs_f64();
    outcome.idle_cores = meter.server_cpu().map(|cpu| cpu / seconds);
    Ok(())
}

/// The same of connections that are being made: one that was closed was there before, one that was refused may never have been.
fn or_gone_since(target: &TargetServer, begun: Instant, error: LoadError) -> LoadError {
    match &error {
        LoadError::Connection { error: why, .. } if why.kind() == io::ErrorKind::UnexpectedEof => {
            or_gone(target, begun, error)
        }
        _ => error,
    }
}

/// The same error, or that the server is gone, if nobody listens any more: then that is why a connection broke.
fn or_gone(target: &TargetServer, begun: Instant, error: LoadError) -> LoadError {
    let why = match &error {
        LoadError::Connection { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nobody listens there any more"
        }
        LoadError::Connection { .. } if is_deserted(target.addr) => "it closed its connections",
        _ => return error,
    };
    let after = format!("{:.1} s", begun.elapsed().as_secs_f64());
    LoadError::Gone { addr: target.addr, why, after }
}

/// Whether connections are refused there. A program that ends closes some of its sockets before others: it is given a moment.
fn is_deserted(addr: SocketAddr) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < LEAVING {
        match TcpStream::connect_timeout(&addr, LEAVING) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            _ => std::thread::sleep(TICK),
        }
    }
    false
}

/// Writes down what each ping has taken.
fn pinged(meter: &Meter, clients: usize, outcome: &mut LoadOutcome) {
    outcome.ping_cpu_per_million = meter.server_cpu().map(|cpu| cpu * 1e6 / clients.max(1) as f64);
}
