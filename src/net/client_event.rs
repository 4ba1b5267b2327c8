//! Events of the state machine as those of the asynchronous client, so that one program takes both.

use std::time::Instant;

use super::client::Event;
use crate::client;
use crate::sim::split_sender;

impl Event {
    /// Converts an event of a [`client::Client`], such as one of a [`Sim`](crate::sim::Sim), as of `now`. `None` if it
    /// is for a driver (a connection to make, a path to check). Also if it is the [outcome](crate::reliable::Outcome)
    /// of a request, which the asynchronous client returns from its future.
    ///
    /// So the logic of a program on [`Client`](super::Client) is tested in the simulator: see `examples/bot_in_sim.rs`.
    ///
    /// ```
    /// use std::time::Instant;
    /// use sayagain::{client, net::client::Event};
    ///
    /// let event = client::Event::Message { sender: b"ada#lobby".to_vec(), body: b"Hello".to_vec() };
    /// let Some(Event::Message { sender, room, .. }) = Event::from_client(event, Instant::now()) else { panic!() };
    /// assert_eq!((sender.as_str(), room.as_deref()), ("ada", Some("#lobby")));
    /// ```
    #[must_use]
    pub fn from_client(event: client::Event, now: Instant) -> Option<Self> {
        let wait = |at: Instant| at.saturating_duration_since(now);
        Some(match event {
            client::Event::Connect | client::Event::CheckPath { .. } | client::Event::Ended(_) => {
                return None;
            }
            client::Event::Disconnect => Self::Offline,
            client::Event::Registered { resumed } => Self::Registered { resumed },
            client::Event::SessionLost => Self::SessionLost,
            client::Event::Draining { again_at } => Self::Draining { wait: wait(again_at) },
            client::Event::NameTaken { again_at } => Self::NameTaken { wait: wait(again_at) },
            client::Event::Message { sender, body } => {
                let (sender, room) = split_sender(&sender);
                Self::Message { sender: sender.into_owned(), room: room.map(Into::into), body }
            }
            client::Event::Gap(count) => Self::Gap(count),
            client::Event::Retry(sent) => Self::Retry { verb: sent.verb, sends: sent.sends },
            client::Event::SlowDown(asked) => Self::SlowDown { verb: asked.verb, wait: wait(asked.again_at) },
            client::Event::Closed(why) => Self::Closed(why),
        })
    }
}
