//! One connection after the other: `lab load serial`. Many at once are in `burst`.

use std::io;
use std::net::Shutdown;
use std::time::Instant;

use super::sockets::{connect, take};
use super::target_server::TargetServer;
use super::{Interrupt, LoadError};
use crate::lab::load::latencies::Latencies;
use crate::lab::load::outcome::LoadOutcome;
use crate::lab::load::peer::{Client, Peer, Role};
use crate::lab::numbers::grouped;

/// For each name: connects, registers, ends the session, closes.
///
/// # Errors
///
/// The failure of the first client, or that the server is gone. Other clients that are refused are counted.
pub(crate) fn run(
    target: &TargetServer,
    peer: &dyn Peer,
    names: &[String],
    interrupt: &Interrupt,
    outcome: &mut LoadOutcome,
) -> Result<(), LoadError> {
    let (mut latencies, mut failed) = (Latencies::default(), 0);
    let meter = target.meter();
    let mut last = meter.begun;
    for name in names {
        interrupt.check()?;
        match turn(target, peer, name) {
            Ok(()) => {
                let now = Instant::now();
                latencies.record(now - last);
                last = now;
                outcome.count += 1;
            }
            Err(error) if outcome.count == 0 => return Err(error),
            Err(error) => {
                if let Some(gone) = gone(target, &error, outcome.count) {
                    return Err(gone);
                }
                failed += 1;
                outcome.cause.get_or_insert_with(|| error.to_string());
            }
        }
    }
    meter.read_into(outcome, last);
    outcome.failed = Some(failed);
    outcome.latencies = latencies;
    Ok(())
}

/// Returns that the server is gone, if `error` means it: then no other client succeeds either.
fn gone(target: &TargetServer, error: &LoadError, done: u64) -> Option<LoadError> {
    let why = match error {
        LoadError::Closed(_) => "connection closed without an answer",
        LoadError::Connection { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
            "connection refused"
        }
        _ => return None,
    };
    Some(LoadError::Gone { addr: target.addr, why, after: grouped(&done.to_string()) })
}

fn turn(target: &TargetServer, peer: &dyn Peer, name: &str) -> Result<(), LoadError> {
    let mut stream = connect(target.addr)?;
    for step in peer.greeting(&Client { name, role: Role::Asker, room: None }) {
        take(&mut stream, &step, name)?;
    }
    take(&mut stream, &peer.end_session(), name)?;
    // Fails if the server has closed first.
    let _ = stream.shutdown(Shutdown::Both);
    Ok(())
}
