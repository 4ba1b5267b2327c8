//! Members of rooms that read too slowly: what becomes of a message that finds no room in their queues.
//!
//! A direct message is kept or refused, whatever the policy; what is here concerns rooms alone. Which connection a held
//! sender has, and how it goes on, is the server's affair.

use std::fmt;
use std::str::FromStr;

use super::name::FoldKey;
use super::queue::FRAME_OVERHEAD;
use super::{Form, Hub, Session, SessionKey};
use crate::escape::escape_short;
use crate::wire::MAX_HEAD;

/// What happens when a message to a room finds no room in a member's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The member misses it.
    #[default]
    DropNew,
    /// The member misses the oldest messages to rooms that are queued and not sent, as many as it takes.
    DropOld,
    /// The member's session ends.
    Disconnect,
    /// Its sender waits: nothing more is read from it until there is room. The one policy under which a member that does
    /// not read delays others.
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

/// Block.
impl Hub {
    /// Under [`SlowPolicy::Block`], whether a body of `length` bytes for the room `target` has to wait, because a member
    /// has no room for it now. What would be refused, and what goes to no room, never waits.
    pub fn must_wait(&self, from: SessionKey, target: &[u8], length: usize) -> bool {
        if self.config.slow != SlowPolicy::Block || target.first() != Some(&b'#') {
            return false;
        }
        let Some(room) = FoldKey::with(target, |key| self.rooms.get(key)).flatten() else { return false };
        if !room.members().contains(&from) {
            return false;
        }
        let others = room.members().iter().filter(|member| **member != from);
        others.filter_map(|member| self.get(*member)).any(|member| !self.takes(member, length))
    }

    fn takes(&self, member: &Session, length: usize) -> bool {
        let (held, cost) = (member.cost(), most_cost(member.form, length));
        held == 0 || held + cost <= self.config.max_pending || member.said_bye
    }
}

/// Two names of 32 characters, and what stands between them and a message.
const SENDER_MAX: usize = 2 * 32 * 4 + 8;

/// The most that a message with a body of `length` bytes may cost in a queue.
fn most_cost(form: Form, length: usize) -> usize {
    let body = match form {
        Form::Tagged | Form::Untagged => length,
        // A byte that is shown escaped takes four.
        Form::Lines => 4 * length,
    };
    FRAME_OVERHEAD + MAX_HEAD + SENDER_MAX + body
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
