//! Idle connections or sessions: `lab load idle`. Measures the memory of each, the CPU time of all, and the cost of
//! their pings.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::datagrams::{Asking, DatagramClients};
use super::ping::Pings;
use super::target_server::{Meter, TargetServer};
use super::{Interrupt, LoadError};
use crate::lab::load::end::End;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::{DatagramPeer, Peer};

/// Limit on the time in which a server that has ended closes all its sockets.
const LEAVING: Duration = Duration::from_millis(500);

/// Interval of the checks for that.
const TICK: Duration = Duration::from_millis(20);

/// Time after which a datagram is retransmitted.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Sockets for sessions over datagrams: each carries many, one exchange at a time.
const SOCKETS: usize = 256;

/// Connects one client after the other, idles for so long, and lets each ping once.
///
/// # Errors
///
/// Whatever makes the run fail.
pub(crate) fn streams(
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
/// Whatever makes the run fail.
pub(crate) fn datagrams(
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
    // Sockets get the same shares of the count as of the sessions, so each session pings once.
    let (meter, end) = (target.meter(), End::Count(names.len() as u64));
    let asked = clients.ask(peer, &Asking { size: 0, end, begun: meter.begun }, interrupt);
    asked.map_err(|error| or_gone(target, meter.begun, error))?;
    pinged(&meter, names.len(), outcome);
    (outcome.lost, outcome.repeated) = (clients.lost, Some(clients.repeated));
    outcome.latencies = std::mem::take(&mut clients.latencies);
    Ok(())
}

/// Measures memory, and CPU time while idle.
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

/// As [`or_gone`], while connecting: a closed connection shows that the server was there, a refused one does not.
fn or_gone_since(target: &TargetServer, begun: Instant, error: LoadError) -> LoadError {
    match &error {
        LoadError::Connection { error: why, .. } if why.kind() == io::ErrorKind::UnexpectedEof => {
            or_gone(target, begun, error)
        }
        _ => error,
    }
}

/// Returns `error`, or that the server is gone if nothing listens any more, which explains a broken connection.
fn or_gone(target: &TargetServer, begun: Instant, error: LoadError) -> LoadError {
    let why = match &error {
        LoadError::Connection { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there any more"
        }
        LoadError::Connection { .. } if is_deserted(target.addr) => "it closed its connections",
        _ => return error,
    };
    let after = format!("{:.1} s", begun.elapsed().as_secs_f64());
    LoadError::Gone { addr: target.addr, why, after }
}

/// Whether connections are refused. A program that ends may close some sockets before others, so it gets a moment.
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

/// Records the cost of each ping.
fn pinged(meter: &Meter, clients: usize, outcome: &mut LoadOutcome) {
    outcome.ping_cpu_per_million = meter.server_cpu().map(|cpu| cpu * 1e6 / clients.max(1) as f64);
}
