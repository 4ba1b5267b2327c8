//! The datagram echo of the baseline: datagrams go back to their sender, in batches where the system supports them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::net::batch::{Batch, Binding, Outgoing, send};
use crate::service::Peer;

/// A datagram on its way back.
#[derive(Debug)]
struct Echo<'a> {
    peer: Peer,
    bytes: &'a [u8],
}

impl Outgoing for Echo<'_> {
    fn to(&self) -> Option<SocketAddr> {
        Some(self.peer.addr)
    }

    fn local(&self) -> Option<IpAddr> {
        self.peer.local
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

/// Echoes all datagrams; blocks in the receiving call.
///
/// # Errors
///
/// The socket cannot be received from.
pub(super) fn serve(socket: &UdpSocket) -> io::Result<()> {
    let binding = Binding::of(socket)?;
    Batch::with(|batch| {
        loop {
            batch.receive_some(socket, binding)?;
            let echoes: Vec<_> =
                batch.datagrams().map(|(from, bytes)| Echo { peer: from.peer(0), bytes }).collect();
            let mut left = echoes.as_slice();
            // A datagram that cannot be sent counts as lost.
            while let Some(rest) = left.get(send(socket, left, |_, _| ())..)
                && let Some((first, others)) = rest.split_first()
            {
                // The socket is full: this waits until it is not.
                let _ = socket.send_to(first.bytes, first.peer.addr);
                left = others;
            }
        }
    })
}
