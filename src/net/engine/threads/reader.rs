//! The thread of one connection: opens it, reads until its end, and writes what its input made sendable.

use std::sync::Arc;
use std::thread;

use nix::sys::socket::MsgFlags;

use super::slots::ThreadSlot;
use super::{Freed, ThreadPort, Threaded, drive};
use crate::net::engine::connection::{Connection, Mode, Socket};
use crate::net::engine::engine_core::{Input, exceeds_discard_limit};
use crate::net::engine::pending_io::PendingIo;
use crate::service::{Arrival, Service};

/// Read buffer of an idle connection, and of one that fills it, in bytes.
const READ_SIZES: (usize, usize) = (1 << 10, 64 << 10);

/// Serves a connection until it ends.
pub(super) fn serve<S: Service + 'static>(
    core: &Threaded<S>,
    socket: Socket,
    arrival: Arrival,
    _slot: &ThreadSlot,
) {
    let freed = Freed(core.backend.slots.clone());
    let port = ThreadPort { socket, reader: thread::current(), _freed: freed };
    let mut pending = PendingIo::default();
    let (connection, intake) =
        core.collect(&mut pending, |shared, now, _| shared.open(now, arrival, |_| port));
    log::debug!("{arrival}: connection {}", connection.id.0);
    drive(core, pending);
    let is_lost = read(core, &connection, intake);
    let mut pending = PendingIo::default();
    core.collect(&mut pending, |shared, now, pending| {
        shared.read_ended(now, connection.id, is_lost, pending);
    });
    drive(core, pending);
}

/// Reads from a connection until it ends. Returns whether it is lost.
fn read<S: Service + 'static>(
    core: &Threaded<S>,
    connection: &Arc<Connection<ThreadPort>>,
    mut intake: S::Conn,
) -> bool {
    let (mut discarded, mut buffer) = (0, vec![0; READ_SIZES.0]);
    loop {
        while connection.mode() == Mode::Paused {
            thread::park();
        }
        let mut pending = PendingIo::default();
        let input = core.read(connection, &mut intake, (&mut buffer, MsgFlags::empty()), |core, batch| {
            core.collect(&mut pending, |shared, now, pending| {
                shared.received(now, connection, batch, pending);
            });
        });
        drive(core, pending);
        match input {
            Input::Taken { count, .. } => fit(&mut buffer, count),
            Input::Discarded { count, .. } if !exceeds_discard_limit(&mut discarded, count) => {}
            Input::Nothing => {}
            Input::End => return false,
            Input::Discarded { .. } | Input::Lost => return true,
        }
    }
}

/// Grows a buffer that was filled, and shrinks one that was not.
fn fit(buffer: &mut Vec<u8>, count: usize) {
    let (small, large) = READ_SIZES;
    let wanted = if count >= small { large } else { small };
    if buffer.len() != wanted {
        *buffer = vec![0; wanted];
    }
}
