//! Attempts of a host to connect: those for the engine to make, those under way, and those that failed.

use std::collections::{HashMap, VecDeque};
use std::io;

use crate::listener::Framing;
use crate::service::{Dial, DialId, Target};

/// The attempts to connect.
#[derive(Debug, Default)]
pub(super) struct Dials {
    next: u64,
    /// For the engine.
    requested: VecDeque<Dial>,
    /// The framing of connections that are being opened.
    framings: HashMap<DialId, Framing>,
    /// For the handler.
    failures: VecDeque<(DialId, io::Error)>,
}

impl Dials {
    /// Requests a connection.
    pub(super) fn request(&mut self, to: Target, framing: Framing) -> DialId {
        let id = DialId(self.next);
        self.next += 1;
        self.framings.insert(id, framing);
        self.requested.push_back(Dial { id, to });
        id
    }

    /// Takes the next attempt for the engine to make.
    pub(super) fn poll(&mut self) -> Option<Dial> {
        self.requested.pop_front()
    }

    /// Ends an attempt that succeeded. Returns the framing of its connection.
    pub(super) fn connected(&mut self, id: DialId) -> Option<Framing> {
        self.framings.remove(&id)
    }

    /// Ends an attempt that failed.
    pub(super) fn failed(&mut self, id: DialId, error: io::Error) {
        self.framings.remove(&id);
        self.failures.push_back((id, error));
    }

    /// Whether the handler has to learn of a failure.
    pub(super) fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Takes the next failure for the handler.
    pub(super) fn poll_failure(&mut self) -> Option<(DialId, io::Error)> {
        self.failures.pop_front()
    }
}
