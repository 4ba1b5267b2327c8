//! The connection of a stream client: when it is wanted, lost, and made again.
//!
//! The driver makes connections; this file asks for them with [`Event::Connect`]. `register` opens the session.

use std::time::{Duration, Instant};

use super::{Client, ClientState, Closed, Event};
use crate::wire::Deframer;

/// The least time between two connections. A lost connection is otherwise made again at once, which would flood a
/// server that drops clients as soon as they have registered.
const RECONNECT_GAP: Duration = Duration::from_millis(100);

impl Client {
    /// Asks for a connection, or gives up if the policy allows no other one.
    pub(super) fn connect(&mut self, now: Instant) {
        let rto = self.requests.rtt().rto();
        let (attempts, failed_at) =
            self.connecting.get_or_insert_with(|| (self.config.policy.start(&mut self.rng), now));
        match attempts.send(now, rto, &mut self.rng) {
            Some(due) => {
                *failed_at = due;
                self.connect_at = Some(now);
                self.state = ClientState::Connecting { due };
                self.events.push_back(Event::Connect);
            }
            None => self.give_up(now),
        }
    }

    /// Handles the new connection that [`Event::Connect`] asked for.
    pub fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.state, ClientState::Connecting { .. }) {
            return;
        }
        self.deframer = Deframer::new(self.config.max_message);
        self.begin(now);
    }

    /// Handles a lost or failed connection.
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.outgoing.clear();
        // Unacknowledged pushes are sent again on the next connection, where nothing may be sent before REG.
        self.acks.reset();
        match self.state {
            ClientState::Closed | ClientState::Offline { .. } => {}
            ClientState::Draining { .. } => self.leave_drained(now),
            ClientState::Registering(_) | ClientState::Ready if self.is_aborting() => {
                self.closed(Closed::Done)
            }
            // The next attempt keeps to the schedule, so that a server that refuses at once is not flooded.
            ClientState::Connecting { due } => self.reconnect_later(now, due),
            ClientState::Registering(_) | ClientState::Ready => match self.connecting {
                // A connection without an answer counts as a failed attempt.
                Some((_, failed_at)) => self.reconnect_later(now, failed_at),
                None => match self.connect_at.map(|at| at + RECONNECT_GAP).filter(|earliest| *earliest > now)
                {
                    Some(retry_at) => self.state = ClientState::Offline { retry_at },
                    None => self.connect(now),
                },
            },
        }
    }

    /// Waits until the failed attempt would have timed out, or gives up at once if no attempt is left.
    fn reconnect_later(&mut self, now: Instant, due: Instant) {
        if self.connecting.as_ref().is_some_and(|(attempts, _)| attempts.has_sends_left()) {
            self.state = ClientState::Offline { retry_at: due.max(now) };
        } else {
            self.give_up(now);
        }
    }

    /// Whether the client was aborted and waits only for the answer to its BYE.
    pub(super) fn is_aborting(&self) -> bool {
        self.abort_at.is_some()
    }
}
