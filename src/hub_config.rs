//! The limits of a hub: [`HubConfig`], which `config` and `hub` hand on. They are enforced in [`hub`](crate::hub).

use std::fmt;
use std::str::FromStr;

use crate::escape::escape_short;
use crate::reliable::PushTimeouts;

/// The limits of a hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The most bytes queued, given to a connection and not written, or sent and not acknowledged, for one session. An
    /// empty queue takes any one message.
    pub max_pending: usize,
    /// The most messages in those states; at least 1. Default 65,536.
    pub max_pending_messages: usize,
    /// The policy for a message to a room when a member's queue is full. Default [`SlowPolicy::DropNew`].
    pub slow: SlowPolicy,
    /// The most bytes that all sessions and connections together make the server keep. Default 1 GiB.
    ///
    /// Queues count, each message with [`FRAME_OVERHEAD`](crate::hub::push::FRAME_OVERHEAD). A body of 4 KiB or more
    /// in several queues counts once here, but once per queue in `max_pending`. Counted too are rooms and memberships
    /// ([`ROOM_COST`](crate::hub::rooms::ROOM_COST), [`MEMBER_COST`](crate::hub::rooms::MEMBER_COST)), dedup windows
    /// beyond their least width, unread answers on streams, and unfinished frames and lines.
    ///
    /// At the limit a request that needs more is refused (503). A dedup window stays narrow. Reading from a connection
    /// with unread answers is paused. Connections with long unfinished frames are closed: those that have stalled, or
    /// whose host holds most.
    ///
    /// Not counted: the fixed cost of every session and connection, which `max_sessions` and
    /// [`max_connections`](crate::config::ServerConfig::max_connections) bound.
    pub max_memory: usize,
    /// The most sessions at once; further ones are refused (503). Default 1,048,576. Each costs at most 2 KiB beside
    /// what counts in `max_memory`, and 300 bytes while idle. A session on datagrams needs no connection:
    /// `ServerConfig::max_per_host` bounds those of one host.
    pub max_sessions: usize,
    /// Retransmission of pushes over datagrams.
    #[doc(hidden)]
    pub push_timeouts: PushTimeouts,
    /// Parts that are switched off to prove that the tests notice.
    #[doc(hidden)]
    pub sabotage: Sabotage,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            max_pending: 16 << 20,
            max_pending_messages: 1 << 16,
            slow: SlowPolicy::default(),
            max_memory: 1 << 30,
            max_sessions: 1 << 20,
            push_timeouts: PushTimeouts::default(),
            sabotage: Sabotage::default(),
        }
    }
}

/// Parts of the delivery promise that a test of the tests switches off, one at a time.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// The dedup window remembers nothing.
    pub no_dedup: bool,
    /// Pushes are sent once only.
    pub no_push_repeat: bool,
}

/// The policy for a message to a room when a member's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The member does not get it; it becomes part of a gap.
    #[default]
    DropNew,
    /// The oldest queued messages to rooms are dropped into a gap until it fits.
    DropOld,
    /// The member's session ends.
    Disconnect,
    /// The sender is paused: its connection is not read until there is room. Only under this policy does a slow
    /// consumer delay others.
    Block,
}

impl SlowPolicy {
    const ALL: [(Self, &str); 4] = [
        (Self::DropNew, "drop-new"),
        (Self::DropOld, "drop-old"),
        (Self::Disconnect, "disconnect"),
        (Self::Block, "block"),
    ];
}

impl fmt::Display for SlowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(policy, _)| policy == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for SlowPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(policy, _)| *policy);
        found.ok_or_else(|| {
            let shown = escape_short(text.as_bytes(), 40);
            format!("`{shown}` is not a policy; write drop-new, drop-old, disconnect or block")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        for (policy, name) in SlowPolicy::ALL {
            assert_eq!((policy.to_string(), name.parse()), (name.to_owned(), Ok(policy)));
        }
        let error = "drop\x1b".parse::<SlowPolicy>().unwrap_err();
        assert_eq!(error, r"`drop\x1b` is not a policy; write drop-new, drop-old, disconnect or block");
    }
}
