//! [`Network`]: the loop that moves time, and the output of a [`Server`], without sockets.
//!
//! [`Sim`](super::Sim) and the test server of `tests/sim/harness.rs` run it. They differ in what becomes of the output,
//! which is theirs: a `Sim` has clients and links, cuts streams into pieces and delays them; the test server hands all
//! bytes to the test at once, and can keep a socket full or unread.

use std::time::{Duration, Instant};

use crate::output::Output;
use crate::server::Server;
use crate::service::{ConnId, Flow, Service, Transmit};

/// The surroundings of a server on a virtual clock.
pub trait Network {
    /// The server and the virtual time.
    fn parts(&mut self) -> (&mut Server, Instant);

    /// Sets the virtual time, which never goes back.
    fn set_now(&mut self, now: Instant);

    /// Takes a datagram from the server.
    fn send(&mut self, transmit: Transmit);

    /// Takes a write to a stream connection. Returns whether it is finished at once.
    fn write(&mut self, conn: ConnId, out: Output, flow: Flow) -> bool;

    /// Handles a connection of which the server says that it has output; [`Network::fill`] takes it.
    fn wake(&mut self, conn: ConnId);

    /// Moves the output of everything but the server. Returns whether there was any.
    fn send_others(&mut self) -> bool {
        false
    }

    /// The time of the next event besides the server's deadlines.
    fn next_event(&self) -> Option<Instant> {
        None
    }

    /// Handles what arrives now, before the server's deadlines.
    fn arrive(&mut self) {}

    /// Handles the other deadlines that are due now, after the server's.
    fn time_out_others(&mut self) {}

    /// Takes writes to a connection until the server has no more for it, or one is not finished at once. Returns the
    /// last flow.
    fn fill(&mut self, conn: ConnId) -> Flow {
        loop {
            let mut out = Output::default();
            let (server, now) = self.parts();
            let flow = server.fill(now, conn, &mut out);
            if !self.write(conn, out, flow) {
                return flow;
            }
            let (server, now) = self.parts();
            server.drained(now, conn);
            if !flow.more {
                return flow;
            }
        }
    }

    /// Moves all output, until there is none.
    fn settle(&mut self) {
        loop {
            let mut quiet = !self.send_others();
            while let Some(transmit) = next_datagram(self.parts()) {
                quiet = false;
                self.send(transmit);
            }
            while let Some(conn) = self.parts().0.poll_wake() {
                quiet = false;
                self.wake(conn);
            }
            if quiet {
                return;
            }
        }
    }

    /// Handles everything that is due now, then jumps to the next event.
    ///
    /// Returns whether there was one within `until`.
    fn advance(&mut self, until: Instant) -> bool {
        self.settle();
        let deadline = self.parts().0.poll_timeout();
        let next = [deadline, self.next_event()].into_iter().flatten().min();
        let (_, now) = self.parts();
        let Some(at) = next.filter(|at| *at <= until) else {
            self.set_now(until.max(now));
            return false;
        };
        self.set_now(at.max(now));
        self.arrive();
        let (server, now) = self.parts();
        server.timeout(now);
        self.time_out_others();
        true
    }

    /// Runs for a virtual time.
    fn run(&mut self, time: Duration) {
        let until = self.parts().1 + time;
        while self.advance(until) {}
        self.settle();
    }
}

fn next_datagram((server, now): (&mut Server, Instant)) -> Option<Transmit> {
    server.poll_transmit(now)
}
