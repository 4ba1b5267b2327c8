//! Connections or sessions that do nothing: `lab load idle`, what each takes of memory, all of them of the processors, and what their
//! pings take.

use std::time::Duration;

use super::datagrams::{Asking, Crowd};
use super::groups::End;
use super::ping::Pings;
use super::subject::{Meter, Subject};
use super::{Interrupt, LoadError};
use crate::lab::load::outcome::Outcome;
use crate::lab::load::peer::{DatagramPeer, Peer};

/// How often interrupts are looked for.
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
    subject: &Subject,
    peer: &dyn Peer,
    (names, idle): (&[String], Duration),
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), LoadError> {
    let resident = subject.resident();
    let meter = subject.meter();
    let mut pings = Pings::enter(subject, peer, names, interrupt)?;
    meter.read_now(outcome);
    outcome.count = names.len() as u64;
    rest(subject, (resident, idle), interrupt, outcome)?;
    let meter = subject.meter();
    pings.run(None, End::Count(names.len() as u64), meter.begun, interrupt)?;
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
    subject: &Subject,
    peer: &dyn DatagramPeer,
    (names, idle): (&[String], Duration),
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), LoadError> {
    let mut crowd = Crowd::new(subject.addr, SOCKETS.min(names.len()), TIMEOUT)?;
    let resident = subject.resident();
    let meter = subject.meter();
    crowd.join(peer, names, interrupt)?;
    meter.read_now(outcome);
    outcome.count = names.len() as u64;
    rest(subject, (resident, idle), interrupt, outcome)?;
    // A count of as many as there are sessions is one of each: both are dealt out to the sockets alike.
    let (meter, end) = (subject.meter(), End::Count(names.len() as u64));
    crowd.ask(peer, &Asking { size: 0, end, begun: meter.begun }, interrupt)?;
    pinged(&meter, names.len(), outcome);
    (outcome.lost, outcome.repeated) = (crowd.lost, Some(crowd.repeated));
    outcome.latencies = crowd.latencies;
    Ok(())
}

/// Measures memory, and the processor time of doing nothing.
fn rest(
    subject: &Subject,
    (before, idle): (Option<u64>, Duration),
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), LoadError> {
    outcome.share_memory(subject.grown(before));
    let meter = subject.meter();
    while meter.begun.elapsed() < idle {
        interrupt.check()?;
        std::thread::sleep(TICK.min(idle.saturating_sub(meter.begun.elapsed())));
    }
    let seconds = meter.begun.elapsed().as_secs_f64();
    outcome.idle_cores = meter.server_cpu().map(|cpu| cpu / seconds);
    Ok(())
}

/// Writes down what each ping has taken.
fn pinged(meter: &Meter, clients: usize, outcome: &mut Outcome) {
    outcome.ping_cpu_per_million = meter.server_cpu().map(|cpu| cpu * 1e6 / clients.max(1) as f64);
}
