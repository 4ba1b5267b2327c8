//! Datagrams that are received together.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;

use crate::net::udp::{LARGEST, is_of_a_peer};

/// Most datagrams of one batch.
const COUNT: usize = 64;

/// Room for a full batch of usual datagrams; of the largest ones, fewer make a batch.
const ROOM: usize = 4 * LARGEST;

thread_local! {
    /// One for all sockets that a thread receives from: an idle flow holds none.
    static BATCH: RefCell<Batch> = RefCell::new(Batch { bytes: vec![0; ROOM], datagrams: Vec::new() });
}

/// Datagrams without gaps in one buffer.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, Range<usize>)>,
}

impl Batch {
    /// Lends this thread's batch; it must not be asked for again meanwhile.
    pub(super) fn with<R>(act: impl FnOnce(&mut Self) -> R) -> R {
        BATCH.with_borrow_mut(act)
    }

    /// Receives what is there, up to a full batch. Returns whether there may be more.
    ///
    /// # Errors
    ///
    /// What the system says, if nothing was received before it said so.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.datagrams.clear();
        let mut end = 0;
        while self.datagrams.len() < COUNT && end + LARGEST <= ROOM {
            match socket.recv_from(self.bytes.get_mut(end..).unwrap_or_default()) {
                Ok((count, addr)) => {
                    self.datagrams.push((addr, end..end + count));
                    end += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if is_of_a_peer(&error) => {}
                // What was received before the error comes first; an error that lasts comes again.
                Err(_) if !self.datagrams.is_empty() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What was received last.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.datagrams.iter().map(|(addr, range)| (*addr, self.bytes.get(range.clone()).unwrap_or_default()))
    }
}
