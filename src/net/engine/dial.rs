//! Outgoing connections that a service asks for.
//!
//! Each attempt is a task of the runtime, under every engine, so that resolving a name blocks no thread. Its result
//! goes to the engine: an error, or a socket like an accepted one.

use std::io;

use super::connection::{Socket, prepare};
use crate::listener::Framing;
use crate::net::listen::unix;
use crate::net::outgoing;
use crate::service::{Remote, Target};

/// Connects to `to`. The socket is blocking, as accepted ones are: engines say at each read and write whether it may
/// wait.
pub(super) async fn connect(to: Target) -> io::Result<(Socket, Remote)> {
    let (socket, address) = outgoing::in_time(outgoing::connect(&to, 0)).await?;
    socket.set_nonblocking(false)?;
    let remote = match address {
        Some(address) => {
            // Dialled peers are programs, so large writes pay.
            prepare(&socket, Framing::Bytes)?;
            Remote::Ip(address)
        }
        None => unix::peer(&socket)?,
    };
    Ok((socket, remote))
}
